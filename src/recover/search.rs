//! The search for intact frames where no walk leads: behind a torn place, or in a
//! file without a begin.
//!
//! A function of bytes alone. Each 8-byte place is looked at once, for the work of a few bytes:
//! a check says itself under which epoch it is right, if under any. So what old payloads say,
//! which are full of numbers that look like headers of frames, is refuted without being read.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ranges::{Ranges, step_began_with};
use crate::format::{self, ALIGN, FRAME_HEADER, FrameHeader, Kind, Reason, State};
use crate::scan::{Found, Frame, Life, Place};

/// The epochs that a frame may be of: those `named` by states, and for each nibble the smallest
/// that has it, all of them not below `least`, the one in force where the search begins. Frames
/// of an older epoch prove nothing behind a newer one's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epochs<'e> {
    pub(crate) named: &'e BTreeSet<u32>,
    pub(crate) least: u32,
}

impl Epochs<'_> {
    fn contains(&self, epoch: u32) -> bool {
        let above = epoch.checked_sub(self.least);
        above.is_some_and(|above| above < 16 || self.named.contains(&epoch))
    }
}

/// An intact frame that was searched for.
#[derive(Debug)]
pub(crate) struct Hit<'a> {
    pub(crate) place: Place,
    /// The epoch in force right before it.
    pub(crate) epoch: u32,
    pub(crate) frame: Frame<'a>,
}

/// A search over one file.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    life: Life,
    /// All of the file.
    bytes: &'a [u8],
    /// Made when it is first needed.
    ranges: Option<Ranges<'a>>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(life: Life, bytes: &'a [u8]) -> Self {
        Search { life, bytes, ranges: None }
    }

    /// The first intact frame at or behind `from`, where claims are counted
    /// from, that proves more than `above` to have been durable.
    pub(crate) fn proof(&mut self, from: Place, above: u64, epochs: Epochs<'_>) -> Option<Hit<'a>> {
        self.next(from, from.offset, Some(above), epochs)
    }

    /// The first intact frame at or behind `start`, if up to `from` the claims are counted. Later
    /// searches start behind earlier ones.
    pub(crate) fn frame(&mut self, from: Place, start: u64, epochs: Epochs<'_>) -> Option<Hit<'a>> {
        self.next(from, start, None, epochs)
    }

    fn next(
        &mut self,
        from: Place,
        start: u64,
        above: Option<u64>,
        epochs: Epochs<'_>,
    ) -> Option<Hit<'a>> {
        let start = start.min(self.bytes.len() as u64);
        places(self.bytes, start).find_map(|offset| {
            let candidate = self.candidate(offset, from, above, epochs)?;
            let epoch = candidate.is_of(self.epoch_of(offset, &candidate.header), epochs)?;
            match self.life.read(&self.bytes[offset as usize..], offset, epoch) {
                Found::Frame(frame) => {
                    let place = Place { offset, ordinal: candidate.header.tag.ordinal() };
                    Some(Hit { place, epoch, frame })
                }
                _ => None,
            }
        })
    }

    /// The one epoch under which a frame's check is right; it goes on to the end of the file at
    /// most.
    fn epoch_of(&mut self, offset: u64, header: &FrameHeader) -> u32 {
        let payload_len = match format::kind(header.word) {
            Some(Kind::Abandoned) => 0, // it is not checksummed
            _ => format::payload_len(header.word),
        };
        let at = offset as usize;
        let ranges = self.ranges.get_or_insert_with(|| Ranges::new(self.bytes, at));
        let from_tag = at + format::TAG..at + FRAME_HEADER + payload_len;
        let behind_lsn = ranges.began_with(!header.check, from_tag);
        let seed = step_began_with(behind_lsn, self.life.base + offset) ^ header.word;
        step_began_with(seed, self.life.salt)
    }

    /// What may be a frame at `offset`, if anything may; nothing is checksummed.
    fn candidate(
        &self,
        offset: u64,
        from: Place,
        above: Option<u64>,
        epochs: Epochs<'_>,
    ) -> Option<Candidate> {
        let bytes = &self.bytes[offset as usize..];
        if bytes.len() < FRAME_HEADER {
            return None;
        }
        let header = FrameHeader::decode(bytes);
        let kind = format::kind(header.word)?;
        let payload_len = format::payload_len(header.word);
        let padding =
            bytes.get(FRAME_HEADER + payload_len..format::frame_size(payload_len) as usize)?;
        if padding.iter().any(|&byte| byte != 0) {
            return None;
        }
        if !possible_ordinals(from, offset).contains(&u64::from(header.tag.ordinal())) {
            return None;
        }
        let lsn = self.life.base + offset;
        let mut proof = header.tag.durable(lsn).unwrap_or(0);
        let mut state = None;
        if kind == Kind::State {
            let said = State::decode(&bytes[FRAME_HEADER..FRAME_HEADER + payload_len])?;
            if said.epoch < epochs.least || format::nibble(said.epoch) != header.tag.nibble() {
                return None;
            }
            proof = proof.max(said.durable.0.min(lsn));
            state = Some(said);
        }
        (above.is_none_or(|above| proof > above)).then_some(Candidate { header, state })
    }
}

/// The 8-byte places from `start` on where a frame may begin: at a word that is not 0.
fn places(bytes: &[u8], start: u64) -> impl Iterator<Item = u64> {
    const LINES: usize = 8 * ALIGN as usize;
    let lines = bytes[start as usize..].chunks(LINES).enumerate();
    // nearly all there is to see in a file's unwritten part
    let written = lines.filter(|(_, line)| line.iter().fold(0, |any, byte| any | byte) != 0);
    written.flat_map(move |(i, line)| {
        let at = start + (i * LINES) as u64;
        let words = line.chunks_exact(ALIGN as usize).enumerate();
        words.filter(|(_, word)| word[..4] != [0; 4]).map(move |(i, _)| at + i as u64 * ALIGN)
    })
}

/// How many claims there may be before a frame at `offset`: at least as many as
/// where the search began, and no more than fit.
fn possible_ordinals(from: Place, offset: u64) -> Range<u64> {
    let least = u64::from(from.ordinal);
    least..least + (offset - from.offset) / FRAME_HEADER as u64 + 1
}

struct Candidate {
    header: FrameHeader,
    state: Option<State>,
}

impl Candidate {
    /// The epoch in force right before it, if its check is right under `epoch` and that may be:
    /// a state says itself under which.
    fn is_of(&self, epoch: u32, epochs: Epochs<'_>) -> Option<u32> {
        let Some(state) = self.state else {
            let fits = format::nibble(epoch) == self.header.tag.nibble();
            return (fits && epochs.contains(epoch)).then_some(epoch);
        };
        if epoch != state.seed_epoch() {
            return None;
        }
        match state.reason {
            Reason::Begin(_) => Some(0),
            Reason::Open => state.epoch.checked_sub(1),
            Reason::Head | Reason::Close => Some(state.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FIRST_FRAME, Tag, encode_frame, seed};
    use crate::lsn::Lsn;
    use crate::sys::counted;

    const LIFE: Life = Life { base: 3 << 16, salt: 0x5a17 };
    const LEN: usize = 64 << 10;
    const FROM: Place = Place { offset: FIRST_FRAME, ordinal: 0 };

    /// A frame for `offset` that says that all before it was durable.
    fn frame(offset: u64, ordinal: u32, epoch: u32, salt: u64, payload: &[u8]) -> Vec<u8> {
        let lsn = LIFE.base + offset;
        let tag = Tag::new(ordinal, epoch, lsn, lsn);
        encode_frame(Kind::Record, seed(salt, epoch), lsn, tag, payload)
    }

    fn file_with(frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        for (at, frame) in frames {
            bytes[*at as usize..][..frame.len()].copy_from_slice(frame);
        }
        bytes
    }

    /// Where a proof of more than `above` bytes of the file is, and the bytes
    /// that were checksummed.
    fn proof(bytes: &[u8], above: u64, epochs: Epochs<'_>) -> (Option<u64>, u64) {
        let mut search = Search::new(LIFE, bytes);
        let find = || search.proof(FROM, LIFE.base + above, epochs);
        let (hit, checksummed) = counted::during(find);
        (hit.map(|hit| hit.place.offset), checksummed)
    }

    /// Epochs from `least` on, of which none is named.
    fn unnamed(least: u32) -> Epochs<'static> {
        Epochs { named: const { &BTreeSet::new() }, least }
    }

    #[test]
    fn a_frame_that_proves_the_place_is_found_wherever_it_is() {
        let epochs = unnamed(5);
        for at in [4096, 4104, 30_000, LEN as u64 - 24] {
            let bytes = file_with(&[(at, frame(at, 0, 5, LIFE.salt, b"proof"))]);
            assert_eq!(proof(&bytes, 4000, epochs).0, Some(at));
            assert_eq!(proof(&bytes, at, epochs), (None, 0), "no proof: nothing is checksummed");
        }
    }

    #[test]
    fn a_frame_counts_only_where_its_number_is_possible() {
        let epochs = unnamed(5);
        for (ordinal, possible) in [(0, true), (56, true), (57, false), (1 << 27, false)] {
            let at = 5000; // 904 bytes behind: at most 56 claims before
            let bytes = file_with(&[(at, frame(at, ordinal, 5, LIFE.salt, b"proof"))]);
            assert_eq!(proof(&bytes, 4000, epochs).0.is_some(), possible, "{ordinal}");
        }
    }

    #[test]
    fn frames_are_tried_under_every_epoch_that_may_be() {
        let at = 5000;
        let found = |epoch, epochs| {
            proof(&file_with(&[(at, frame(at, 0, epoch, LIFE.salt, b"x"))]), 4000, epochs).0
        };
        for epoch in 20..36 {
            assert_eq!(found(epoch, unnamed(20)), Some(at));
        }
        assert_eq!(found(36, unnamed(20)), None);
        let named = &BTreeSet::from([7, 36, 99]);
        assert_eq!(found(36, Epochs { named, least: 20 }), Some(at));
        assert_eq!(
            found(7, Epochs { named, least: 20 }),
            None,
            "an older epoch proves nothing here"
        );
        assert_eq!(found(u32::MAX, unnamed(u32::MAX - 3)), Some(at));
    }

    #[test]
    fn a_state_proves_what_it_says_under_its_own_epoch() {
        let at = 5000;
        let lsn = LIFE.base + at;
        for reason in [Reason::Open, Reason::Head, Reason::Close] {
            let state = State { reason, epoch: 77, head: Lsn(0), durable: Lsn(lsn), time_ns: 0 };
            let tag = Tag::new(0, 77, lsn, 0);
            let seed = seed(LIFE.salt, state.seed_epoch());
            let bytes = encode_frame(Kind::State, seed, lsn, tag, &state.encode());
            let bytes = file_with(&[(at, bytes)]);
            assert_eq!(proof(&bytes, at - 8, unnamed(3)).0, Some(at));
            assert_eq!(proof(&bytes, at, unnamed(3)).0, None);
            assert_eq!(proof(&bytes, at - 8, unnamed(78)), (None, 0));
        }
    }

    #[test]
    fn a_state_proves_nothing_of_itself_whatever_it_says() {
        let at = 5000;
        let lsn = LIFE.base + at;
        for durable in [lsn, lsn + 1, u64::MAX] {
            let (reason, durable) = (Reason::Head, Lsn(durable));
            let state = State { reason, epoch: 77, head: Lsn(0), durable, time_ns: 0 };
            let tag = Tag::new(0, 77, lsn, 0);
            let bytes = encode_frame(Kind::State, seed(LIFE.salt, 77), lsn, tag, &state.encode());
            let bytes = file_with(&[(at, bytes)]);
            assert_eq!(proof(&bytes, at - 8, unnamed(77)).0, Some(at));
            assert_eq!(proof(&bytes, at, unnamed(77)).0, None, "{durable:?}");
        }
    }

    #[test]
    fn another_lifes_frames_prove_nothing() {
        // as in a recycled file, or a record that holds a copy of a log
        let stale: Vec<_> = (FIRST_FRAME..LEN as u64 - 128)
            .step_by(96)
            .map(|at| (at, frame(at, 0, 5, !LIFE.salt, &[0x10; 80])))
            .collect();
        let (found, checksummed) = proof(&file_with(&stale), 4000, unnamed(5));
        assert_eq!(found, None);
        assert!(checksummed > LEN as u64 / 2, "each was looked at");
    }
}
