//! The search for intact frames where no walk leads: behind a torn place, or in a
//! file without a begin.
//!
//! A function of bytes alone. Its work is counted, not timed: each 8-byte place is
//! looked at once, and at most four times the file's size is checksummed. Old payloads are
//! full of numbers that say they are long frames: those are refuted without being read.

use std::ops::Range;

use super::ranges::{self, Ranges};
use crate::format::{self, ALIGN, FRAME_HEADER, FrameHeader, Kind, Reason, State};
use crate::scan::{Found, Frame, Life, Place};

/// How often the file's size may be checksummed.
const BUDGET: u64 = 4;

/// The epochs that a frame may be of, by what it carries of its epoch.
#[derive(Debug)]
pub(crate) struct Epochs {
    least: u32,
    by_nibble: [Vec<u32>; 16],
}

impl Epochs {
    /// The epochs `named` by states, and for each nibble the smallest that has
    /// it: all of them not below `least`, the one in force where the search
    /// begins. Frames of an older epoch prove nothing behind a newer one's start.
    pub(crate) fn new(named: impl IntoIterator<Item = u32>, least: u32) -> Self {
        let mut by_nibble: [Vec<u32>; 16] = Default::default();
        let smallest = (0..16).filter_map(|more| least.checked_add(more));
        for epoch in named.into_iter().filter(|&epoch| epoch >= least).chain(smallest) {
            by_nibble[format::nibble(epoch) as usize].push(epoch);
        }
        for epochs in &mut by_nibble {
            epochs.sort_unstable();
            epochs.dedup();
        }
        Epochs { least, by_nibble }
    }
}

/// What a search came to.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    Frame(Hit<'a>),
    Nothing,
    /// The budget ended before the bytes did.
    Undecided,
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
    /// Bytes that may still be checksummed.
    left: u64,
    /// Made when it is first needed.
    ranges: Option<Ranges<'a>>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(life: Life, bytes: &'a [u8]) -> Self {
        Search { life, bytes, left: (bytes.len() as u64).saturating_mul(BUDGET), ranges: None }
    }

    /// The first intact frame at or behind `from`, where claims are counted
    /// from, that proves more than `above` to have been durable.
    pub(crate) fn proof(&mut self, from: Place, above: u64, epochs: &Epochs) -> Outcome<'a> {
        self.next(from, Some(above), epochs)
    }

    /// The first intact frame at or behind `from`.
    pub(crate) fn frame(&mut self, from: Place, epochs: &Epochs) -> Outcome<'a> {
        self.next(from, None, epochs)
    }

    /// Counts what a walk checksummed that stopped at `offset` as if the search had: in a file
    /// of short frames, each before what looks like a long one, every stop could else cost as
    /// much as all of the file.
    pub(crate) fn count_stop(&mut self, offset: u64) {
        let written = self.bytes.get(offset as usize..).and_then(|bytes| bytes.first_chunk());
        let word = u32::from_le_bytes(*written.unwrap_or(&[0; 4]));
        let size = format::frame_size(format::payload_len(word));
        if offset + size <= self.bytes.len() as u64 {
            self.left = self.left.saturating_sub(size);
        }
    }

    fn next(&mut self, from: Place, above: Option<u64>, epochs: &Epochs) -> Outcome<'a> {
        let bytes = self.bytes;
        let start = from.offset.min(bytes.len() as u64);
        for offset in places(bytes, start) {
            let Some(candidate) = self.candidate(offset, from, above, epochs) else { continue };
            let rest = &bytes[offset as usize..];
            let size = match format::kind(candidate.header.word) {
                Some(Kind::Abandoned) => FRAME_HEADER as u64, // all that is checksummed of it
                _ => format::frame_size(format::payload_len(candidate.header.word)),
            };
            for epoch in candidate.epochs.iter().copied() {
                match self.may_be_intact(offset, &candidate.header, epoch) {
                    Some(true) => {}
                    Some(false) => continue,
                    None => return Outcome::Undecided,
                }
                if size > self.left {
                    return Outcome::Undecided;
                }
                self.left -= size;
                if let Found::Frame(frame) = self.life.read(rest, offset, epoch) {
                    let place = Place { offset, ordinal: candidate.header.tag.ordinal() };
                    return Outcome::Frame(Hit { place, epoch, frame });
                }
            }
        }
        Outcome::Nothing
    }

    /// Whether the check of what may be a long frame says that it is one, at the cost of a
    /// short one; of a short one it says nothing. `None`: the budget has ended.
    fn may_be_intact(&mut self, offset: u64, header: &FrameHeader, epoch: u32) -> Option<bool> {
        let payload_len = format::payload_len(header.word);
        if payload_len as u64 <= ranges::SHORT || format::kind(header.word) == Some(Kind::Abandoned)
        {
            return Some(true);
        }
        if self.ranges.is_none() {
            // nothing before is asked for later, or was loaded
            self.left = self.left.checked_sub(self.bytes.len() as u64 - offset)?;
            self.ranges = Some(Ranges::new(self.bytes, offset as usize));
        }
        let ranges = self.ranges.as_ref().expect("just seen to");
        let payload_at = offset as usize + FRAME_HEADER;
        let looked_at = FRAME_HEADER as u64 + ranges.looked_at(payload_at, payload_len);
        self.left = self.left.checked_sub(looked_at)?;
        let (seed, lsn) = (format::seed(self.life.salt, epoch), self.life.base + offset);
        #[cfg(test)]
        crate::sys::counted::add(FRAME_HEADER);
        let check = format::check_of_header(seed, header.word, lsn, header.tag);
        Some(ranges.append(check, payload_at, payload_len) == header.check)
    }

    /// What may be a frame at `offset`, if anything may; nothing is checksummed.
    fn candidate<'e>(
        &self,
        offset: u64,
        from: Place,
        above: Option<u64>,
        epochs: &'e Epochs,
    ) -> Option<Candidate<'e>> {
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
        let mut tried = Tried::Known(&epochs.by_nibble[header.tag.nibble() as usize]);
        if kind == Kind::State {
            let state = State::decode(&bytes[FRAME_HEADER..FRAME_HEADER + payload_len])?;
            if state.epoch < epochs.least || format::nibble(state.epoch) != header.tag.nibble() {
                return None;
            }
            proof = proof.max(state.durable.0.min(lsn));
            tried = Tried::Named(match state.reason {
                Reason::Begin(_) => 0,
                Reason::Open => state.epoch.checked_sub(1)?,
                Reason::Head | Reason::Close => state.epoch,
            });
        }
        (above.is_none_or(|above| proof > above)).then_some(Candidate { header, epochs: tried })
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

struct Candidate<'e> {
    header: FrameHeader,
    epochs: Tried<'e>,
}

/// The epochs to try for a candidate: a state names its own.
enum Tried<'e> {
    Known(&'e [u32]),
    Named(u32),
}

impl Tried<'_> {
    fn iter(&self) -> std::slice::Iter<'_, u32> {
        match self {
            Tried::Known(epochs) => epochs.iter(),
            Tried::Named(epoch) => std::slice::from_ref(epoch).iter(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FIRST_FRAME, Tag, encode_frame, seed};
    use crate::lsn::Lsn;

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
    fn proof(bytes: &[u8], above: u64, epochs: &Epochs) -> (Option<u64>, u64) {
        let mut search = Search::new(LIFE, bytes);
        let before = search.left;
        let found = match search.proof(FROM, LIFE.base + above, epochs) {
            Outcome::Frame(hit) => Some(hit.place.offset),
            Outcome::Nothing => None,
            Outcome::Undecided => panic!("undecided"),
        };
        (found, before - search.left)
    }

    #[test]
    fn a_frame_that_proves_the_place_is_found_wherever_it_is() {
        let epochs = Epochs::new([], 5);
        for at in [4096, 4104, 30_000, LEN as u64 - 24] {
            let bytes = file_with(&[(at, frame(at, 0, 5, LIFE.salt, b"proof"))]);
            assert_eq!(proof(&bytes, 4000, &epochs).0, Some(at));
            assert_eq!(proof(&bytes, at, &epochs), (None, 0), "no proof: nothing is checksummed");
        }
    }

    #[test]
    fn a_frame_counts_only_where_its_number_is_possible() {
        let epochs = Epochs::new([], 5);
        for (ordinal, possible) in [(0, true), (56, true), (57, false), (1 << 27, false)] {
            let at = 5000; // 904 bytes behind: at most 56 claims before
            let bytes = file_with(&[(at, frame(at, ordinal, 5, LIFE.salt, b"proof"))]);
            assert_eq!(proof(&bytes, 4000, &epochs).0.is_some(), possible, "{ordinal}");
        }
    }

    #[test]
    fn frames_are_tried_under_every_epoch_that_may_be() {
        let at = 5000;
        let found = |epoch, epochs: &Epochs| {
            proof(&file_with(&[(at, frame(at, 0, epoch, LIFE.salt, b"x"))]), 4000, epochs).0
        };
        for epoch in 20..36 {
            assert_eq!(found(epoch, &Epochs::new([], 20)), Some(at));
        }
        assert_eq!(found(36, &Epochs::new([], 20)), None);
        assert_eq!(found(36, &Epochs::new([36, 7, 99], 20)), Some(at));
        assert_eq!(found(7, &Epochs::new([7], 20)), None, "an older epoch proves nothing here");
        Epochs::new([u32::MAX], u32::MAX - 3);
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
            assert_eq!(proof(&bytes, at - 8, &Epochs::new([], 3)).0, Some(at));
            assert_eq!(proof(&bytes, at, &Epochs::new([], 3)).0, None);
            assert_eq!(proof(&bytes, at - 8, &Epochs::new([], 78)), (None, 0));
        }
    }

    #[test]
    fn payloads_full_of_plausible_frames_prove_nothing() {
        // another life's frames, as a record that holds a copy of a log
        let epochs = Epochs::new([], 5);
        let stale: Vec<_> = (FIRST_FRAME..LEN as u64 - 128)
            .step_by(96)
            .map(|at| (at, frame(at, 0, 5, !LIFE.salt, &[0x10; 80])))
            .collect();
        let (found, checksummed) = proof(&file_with(&stale), 4000, &epochs);
        assert_eq!(found, None);
        assert!(checksummed <= LEN as u64 && checksummed > LEN as u64 / 2);
    }

    #[test]
    fn numbers_at_the_beginning_of_old_payloads_are_no_long_frames() {
        // 8 bytes behind a frame, its ordinal is a word, whose kind is the epoch's nibble.
        // Then come its mark, and the payload's first number.
        let (len, salt) = (4 << 20, !LIFE.salt);
        for epoch in 1..=16 {
            let mut bytes = vec![0; len];
            for (i, at) in (FIRST_FRAME..len as u64 - 48).step_by(48).enumerate() {
                let numbers = [i as u64, 7, 7];
                let payload: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                let frame = frame(at, i as u32, epoch, salt, &payload);
                bytes[at as usize..][..frame.len()].copy_from_slice(&frame);
            }
            let mut search = Search::new(LIFE, &bytes);
            let outcome = search.proof(FROM, LIFE.base + 4000, &Epochs::new([], epoch));
            assert!(matches!(outcome, Outcome::Nothing), "epoch {epoch}: {outcome:?}");
        }
    }

    #[test]
    fn too_much_to_checksum_is_undecided() {
        // every 16 bytes a frame whose mark proves all before, too short to be refuted by
        // its range
        let mut bytes = vec![0; LEN];
        for at in (FIRST_FRAME as usize..LEN).step_by(FRAME_HEADER) {
            let word = format::word(Kind::Record, (LEN - at - FRAME_HEADER).min(496));
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let mut search = Search::new(LIFE, &bytes);
        let outcome = search.proof(FROM, LIFE.base + 4000, &Epochs::new([], 16));
        assert!(matches!(outcome, Outcome::Undecided));
        // an intact one further on cannot be looked for any more
        assert!(search.left < LEN as u64);
    }
}
