//! A place in a file that somebody may be writing, and a copy of what stands there.

use crate::error::{Error, Result};
use crate::format::{self, FRAME_HEADER, Kind};
use crate::lsn::Lsn;
use crate::recover::files::{File, First};
use crate::scan::{Content, START, Stop, Walk};
use crate::storage::Region;

/// Bytes that are copied at a time, but for a frame that is longer.
const STEP: u64 = 64 << 10;

/// What is read next, or why there is nothing; or that it cannot be known.
pub(super) type Attempt<T> = Result<std::result::Result<T, Stop>>;

/// A place in a file that is open.
#[derive(Debug)]
pub(super) struct At {
    pub(super) file: File,
    pub(super) first: First,
    region: Box<dyn Region>,
    /// Stands before the next frame.
    pub(super) walk: Walk,
    /// All batches before this offset are known to be whole.
    whole_to: u64,
    /// Where the log goes on elsewhere, as far as that is known.
    pub(super) until: u64,
}

impl At {
    /// The begin of a file, which is to be read to the offset `until`.
    pub(super) fn begin(file: File, first: First, region: Box<dyn Region>, until: u64) -> Self {
        let walk = Walk::new(file.life(), START, 0);
        At { file, first, region, walk, whole_to: 0, until }
    }

    /// Where the next frame is looked for.
    pub(super) fn lsn(&self) -> Lsn {
        Lsn(self.file.lsn(self.walk.at().offset))
    }

    /// Whether this file goes on where `before` ends at `end`. Files that follow each other have
    /// growing indexes: there is an end to it.
    pub(super) fn follows(&self, before: &At, end: u64) -> bool {
        let (begin, before) = (self.first.begin, before.file.header);
        before.index < self.file.header.index
            && (begin.predecessor_index, begin.predecessor_salt, begin.predecessor_end)
                == (before.index, before.salt, end)
    }

    /// The next frame, which the walk then stands behind: what it is, and how long its payload
    /// is.
    pub(super) fn frame(&mut self, copied: &mut Copied) -> Attempt<(Kind, Content, usize)> {
        if let Err(stop) = self.peek(copied)? {
            return Ok(Err(stop));
        }
        let mut walk = self.walk.clone();
        let frame = match walk.step(copied.frame(self, self.walk.at().offset, false)?) {
            Ok(frame) => (frame.kind, frame.content, frame.payload.len()),
            Err(stop) => return Ok(Err(stop)),
        };
        self.walk = walk;
        Ok(Ok(frame))
    }

    /// Whether there is a frame; of a batch, all of it.
    pub(super) fn peek(&mut self, copied: &mut Copied) -> Attempt<()> {
        if self.walk.at().offset >= self.until {
            return Ok(Err(Stop::Unwritten));
        }
        let mut ahead = self.walk.clone();
        loop {
            let mut stepped = ahead.clone();
            let at = ahead.at().offset;
            let mut step = stepped.step(copied.frame(self, at, false)?).map(|frame| frame.kind);
            if let Err(Stop::Unwritten | Stop::Unreadable(_)) = step {
                // of the copy: there may be more by now
                stepped = ahead.clone();
                step = stepped.step(copied.frame(self, at, true)?).map(|frame| frame.kind);
            }
            let kind = match step {
                Ok(kind) => kind,
                Err(stop) => return Ok(Err(stop)),
            };
            ahead = stepped;
            if kind != Kind::More || ahead.at().offset <= self.whole_to {
                break;
            }
        }
        self.whole_to = self.whole_to.max(ahead.at().offset);
        Ok(Ok(()))
    }
}

/// Bytes of a file that were copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    bytes: Vec<u8>,
    /// Of which file, and from which offset.
    of: (u64, u64),
    from: u64,
    /// Where the payload of the last frame begins that was asked for.
    behind_header: usize,
}

impl Copied {
    /// The frame at `offset`, with whatever stands behind it; copied just now if `anew`.
    fn frame(&mut self, at: &At, offset: u64, anew: bool) -> Result<&[u8]> {
        let life = (at.file.header.index, at.file.header.salt);
        let left = at.file.len().saturating_sub(offset);
        if anew || self.of != life || !self.holds(offset, left.min(FRAME_HEADER as u64)) {
            self.fill(at, offset, left.min(STEP))?;
            self.of = life;
        }
        let payload_len = self
            .from(offset)
            .first_chunk()
            .map_or(0, |&word| format::payload_len(u32::from_le_bytes(word)));
        let size = format::frame_size(payload_len).min(left);
        if !self.holds(offset, size) {
            self.fill(at, offset, size.max(STEP).min(left))?;
        }
        self.behind_header = (offset - self.from) as usize + FRAME_HEADER;
        Ok(self.from(offset))
    }

    /// The payload of the frame that was asked for last.
    pub(super) fn payload(&self, len: usize) -> &[u8] {
        &self.bytes[self.behind_header..][..len]
    }

    fn holds(&self, offset: u64, len: u64) -> bool {
        offset >= self.from && offset + len <= self.from + self.bytes.len() as u64
    }

    fn from(&self, offset: u64) -> &[u8] {
        &self.bytes[(offset - self.from) as usize..]
    }

    fn fill(&mut self, at: &At, offset: u64, len: u64) -> Result<()> {
        // which holds nothing, if it cannot be read
        let mut bytes = std::mem::take(&mut self.bytes);
        self.from = offset;
        bytes.resize(len as usize, 0);
        at.region.copy(offset, &mut bytes).map_err(|e| Error::io("read", &at.file.path, e))?;
        self.bytes = bytes;
        Ok(())
    }
}
