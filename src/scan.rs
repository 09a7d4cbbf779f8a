//! The one meaning of an intact frame, and the walk from one to the next.
//!
//! Functions of bytes alone: no files, no maps, no atomics. `docs/format.md`
//! says the same in words.

use crate::error::Damage;
use crate::format::{self, FRAME_HEADER, FrameHeader, Kind, Lanes, Reason, Seal, State, Tag};

/// The record at the beginning of `bytes`, its header and its payload, if all but its check, its
/// kind and its number is as it should be in `epoch`.
#[inline]
pub(crate) fn record(bytes: &[u8], epoch: u32) -> Option<(FrameHeader, &[u8])> {
    let header = FrameHeader::decode(bytes.get(..FRAME_HEADER)?);
    let payload_len = format::payload_len(header.word);
    let size = format::frame_size(payload_len) as usize;
    let (payload, padding) = bytes.get(FRAME_HEADER..size)?.split_at(payload_len);
    let is_sound =
        header.tag.nibble() == format::nibble(epoch) && padding.iter().all(|&byte| byte == 0);
    is_sound.then_some((header, payload))
}

/// One life of one file: what ties a frame to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// The LSN of the file's first byte.
    pub(crate) base: u64,
    pub(crate) salt: u64,
}

/// A frame that was found intact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
    pub(crate) payload: &'a [u8],
    pub(crate) content: Content,
}

/// What the payload of a frame that is no record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// A record's, or an abandoned claim's: nothing that the log reads.
    Opaque,
    Seal(Seal),
    State(State),
}

impl Frame<'_> {
    /// The bytes it takes in its segment.
    pub(crate) fn size(&self) -> u64 {
        format::frame_size(self.payload.len())
    }

    /// The highest LSN below which this frame, at `lsn`, proves everything to
    /// have been durable.
    pub(crate) fn proves(&self, lsn: u64) -> u64 {
        let mark = self.tag.durable(lsn).unwrap_or(0);
        match self.content {
            Content::State(state) => mark.max(state.durable.0),
            _ => mark,
        }
    }
}

/// What the bytes at a place are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    Frame(Frame<'a>),
    /// Nothing was written here: the word is 0.
    Unwritten,
    Unreadable(Damage),
}

impl Life {
    /// What stands at `offset`. `bytes` begin there and reach to the end of the
    /// file, or of the frame; `epoch` is the one in force.
    pub(crate) fn read<'a>(&self, bytes: &'a [u8], offset: u64, epoch: u32) -> Found<'a> {
        use Found::Unreadable;
        if bytes.len() < FRAME_HEADER {
            return if bytes.iter().all(|&b| b == 0) {
                Found::Unwritten
            } else {
                Unreadable(Damage::Length)
            };
        }
        let header = FrameHeader::decode(bytes);
        if header.word == 0 {
            return Found::Unwritten;
        }
        let Some(kind) = format::kind(header.word) else {
            return Unreadable(Damage::Kind);
        };
        let payload_len = format::payload_len(header.word);
        let size = format::frame_size(payload_len);
        if size > bytes.len() as u64 {
            return Unreadable(Damage::Length);
        }
        let (payload, padding) = bytes[FRAME_HEADER..size as usize].split_at(payload_len);
        if padding.iter().any(|&b| b != 0) {
            return Unreadable(Damage::Padding);
        }
        let content = match kind {
            Kind::Seal => Seal::decode(payload).map(Content::Seal),
            Kind::State => State::decode(payload).map(Content::State),
            _ => Some(Content::Opaque),
        };
        let Some(content) = content else {
            return Unreadable(Damage::State);
        };
        let epoch = match content {
            Content::State(state) if state.seed_epoch() == 0 => 0,
            _ => epoch,
        };
        let hashed = if kind == Kind::Abandoned { &[] } else { payload };
        let seed = format::seed(self.salt, epoch);
        if format::check(seed, header.word, self.base + offset, header.tag, hashed) != header.check
        {
            return Unreadable(Damage::Check);
        }
        Found::Frame(Frame { kind, tag: header.tag, payload, content })
    }
}

/// Where a walk stands in its segment: an offset, and the claims before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) ordinal: u32,
}

/// Where every walk over a segment begins.
pub(crate) const START: Place = Place { offset: format::FIRST_FRAME, ordinal: 0 };

/// Why a walk went no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Unwritten,
    Unreadable(Damage),
    /// A seal: nothing follows in this file.
    Sealed(Seal),
}

/// The highest LSN that records which were walked over prove durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Proofs {
    pub(crate) all: u64,
    /// Those of whole batches alone.
    pub(crate) at_boundary: u64,
}

/// A walk over the frames of one segment, from a place to the next, as every
/// reader goes: ordinals agree, epochs only grow, batches are whole.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    life: Life,
    epoch: u32,
    /// What checks start from in that epoch.
    seed: u32,
    at: Place,
    /// The end of the last whole batch: the walk's result if it stops here.
    boundary: Place,
    in_batch: bool,
}

impl Walk {
    /// A walk from a place that is a batch boundary, with the epoch in force
    /// there. At a segment's first frame that is 0: its begin says which.
    pub(crate) fn new(life: Life, at: Place, epoch: u32) -> Self {
        let seed = format::seed(life.salt, epoch);
        Walk { life, epoch, seed, at, boundary: at, in_batch: false }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where the next frame is looked for.
    pub(crate) fn at(&self) -> Place {
        self.at
    }

    /// The end of the last whole batch.
    pub(crate) fn boundary(&self) -> Place {
        self.boundary
    }

    /// Walks on over records that are as they should be, which is nearly all of a log, as
    /// far as they lie in `bytes`, which begin at [`at`](Self::at), and not beyond a
    /// boundary at `until`. What is no such record is left to [`step`](Self::step).
    pub(crate) fn over_records(&mut self, bytes: &[u8], until: u64) -> Proofs {
        let from = self.at.offset;
        let mut proofs = Proofs::default();
        while self.over_several(&bytes[(self.at.offset - from) as usize..], until, &mut proofs) {}
        proofs
    }

    /// Walks over as many records at the beginning of `bytes` as are checked at once, or over
    /// those that come before what is none; whether there are any, and all of them are intact.
    #[inline]
    fn over_several(&mut self, bytes: &[u8], until: u64, proofs: &mut Proofs) -> bool {
        let (mut behind, mut proofs_behind) = (self.clone(), *proofs);
        let mut records = Lanes::new();
        while records.takes_more() && behind.boundary.offset < until {
            let rest = &bytes[records.size() as usize..];
            let Some((header, payload)) = behind.record_in(rest) else { break };
            records.push(self.seed, self.life.base + behind.at.offset, header, payload);
            behind.pass(header, &mut proofs_behind);
        }
        let is_over = records.size() > 0 && records.is_intact();
        if is_over {
            (*self, *proofs) = (behind, proofs_behind);
        }
        is_over
    }

    /// The record at the beginning of `bytes`, if all but its check is as it should be here.
    #[inline]
    fn record_in<'a>(&self, bytes: &'a [u8]) -> Option<(FrameHeader, &'a [u8])> {
        let (header, payload) = record(bytes, self.epoch)?;
        let is_next = match format::kind(header.word)? {
            Kind::More => true,
            Kind::Last => self.in_batch,
            Kind::Record => !self.in_batch,
            _ => false,
        };
        let is_sound = is_next
            && self.at.offset != format::FIRST_FRAME
            && header.tag.ordinal() == self.at.ordinal;
        is_sound.then_some((header, payload))
    }

    /// Stands behind the record with this header, and takes in what it proves.
    #[inline]
    fn pass(&mut self, header: FrameHeader, proofs: &mut Proofs) {
        let lsn = self.life.base + self.at.offset;
        let size = format::frame_size(format::payload_len(header.word));
        proofs.all = proofs.all.max(header.tag.durable(lsn).unwrap_or(0));
        self.in_batch = format::kind(header.word) == Some(Kind::More);
        self.at = Place { offset: self.at.offset + size, ordinal: self.at.ordinal + 1 };
        if !self.in_batch {
            self.boundary = self.at;
            proofs.at_boundary = proofs.all;
        }
    }

    /// The next frame; `bytes` begin at [`at`](Self::at) and reach to the end of
    /// the file. The walk stands behind it afterwards.
    pub(crate) fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Frame<'a>, Stop> {
        let frame = match self.life.read(bytes, self.at.offset, self.epoch) {
            Found::Frame(frame) => frame,
            // a batch's first word is stored last: inside one, nothing is missing
            Found::Unwritten if self.in_batch => return Err(Stop::Unreadable(Damage::Batch)),
            Found::Unwritten => return Err(Stop::Unwritten),
            Found::Unreadable(damage) => return Err(Stop::Unreadable(damage)),
        };
        if let Some(damage) = self.objection(&frame) {
            return Err(Stop::Unreadable(damage));
        }
        if let Content::State(State { epoch, .. }) = frame.content {
            self.epoch = epoch;
            self.seed = format::seed(self.life.salt, epoch);
        }
        self.in_batch = frame.kind == Kind::More;
        self.at.offset += frame.size();
        self.at.ordinal += frame.kind.counts() as u32;
        if !self.in_batch {
            self.boundary = self.at;
        }
        match frame.content {
            Content::Seal(seal) => Err(Stop::Sealed(seal)),
            _ => Ok(frame),
        }
    }

    /// Why an intact frame may not stand here, if it may not.
    fn objection(&self, frame: &Frame<'_>) -> Option<Damage> {
        let first = self.at.offset == format::FIRST_FRAME;
        let (epoch, allowed) = match frame.content {
            Content::State(state) => match state.reason {
                Reason::Begin(_) => (state.epoch, first),
                Reason::Open => (state.epoch, !first && state.epoch > self.epoch),
                Reason::Head => (state.epoch, !first && state.epoch == self.epoch),
                Reason::Close => (
                    state.epoch,
                    !first
                        && state.epoch == self.epoch
                        && state.durable.0 == self.life.base + self.at.offset,
                ),
            },
            Content::Seal(_) | Content::Opaque => (self.epoch, !first),
        };
        let continues = matches!(frame.kind, Kind::More | Kind::Last);
        if !allowed {
            Some(Damage::State)
        } else if frame.tag.nibble() != format::nibble(epoch) {
            Some(Damage::Epoch)
        } else if frame.tag.ordinal() != self.at.ordinal {
            Some(Damage::Ordinal)
        } else if self.in_batch && !continues || !self.in_batch && frame.kind == Kind::Last {
            Some(Damage::Batch)
        } else {
            None
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "scan/tests.rs"] // the models take this file in from elsewhere
mod tests;
