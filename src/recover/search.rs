//! The search for intact frames where no walk leads: behind a torn place, or in a
//! file without a begin.
//!
//! A function of bytes alone. Its work is counted, not timed: each 8-byte place is
//! looked at once, and at most four times the file's size is checksummed.

use std::ops::Range;

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
}

impl<'a> Search<'a> {
    pub(crate) fn new(life: Life, bytes: &'a [u8]) -> Self {
        Search { life, bytes, left: (bytes.len() as u64).saturating_mul(BUDGET) }
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

    fn next(&mut self, from: Place, above: Option<u64>, epochs: &Epochs) -> Outcome<'a> {
        let bytes = self.bytes;
        let start = from.offset.min(bytes.len() as u64);
        for (i, word) in bytes[start as usize..].chunks_exact(ALIGN as usize).enumerate() {
            // nearly all there is to see in a file's unwritten part
            if word[..4] == [0; 4] {
                continue;
            }
            let offset = start + i as u64 * ALIGN;
            let Some(candidate) = self.candidate(offset, from, above, epochs) else { continue };
            let rest = &bytes[offset as usize..];
            let size = format::frame_size(format::payload_len(candidate.header.word));
            for epoch in candidate.epochs.iter().copied() {
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
        if format::frame_size(payload_len) > bytes.len() as u64 {
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
