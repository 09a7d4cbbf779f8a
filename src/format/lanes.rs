//! Checks that were not computed yet, of frames that lie one behind the other.

use super::{FrameHeader, frame_size};
use crate::sys;

/// Frames one behind the other that are checked side by side, a lane each: in little more time
/// than one of them takes, if they are short.
///
/// It is filled in place, field by field: a processor that copies in wide pieces what it just
/// stored word by word waits until the stores are done.
#[derive(Debug)]
pub(crate) struct Lanes<'a> {
    frames: [Unchecked<'a>; sys::FRAMES],
    count: usize,
    size: u64,
    all_short: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unchecked<'a> {
    hashed: sys::Hashed<'a>,
    said: u32,
}

impl<'a> Lanes<'a> {
    /// What is longer takes long enough by itself.
    const SHORT: usize = 4096;

    #[inline]
    pub(crate) fn new() -> Self {
        let hashed = sys::Hashed { state: 0, words: [0, 0], payload: &[] };
        let frames = [Unchecked { hashed, said: 0 }; sys::FRAMES];
        Lanes { frames, count: 0, size: 0, all_short: true }
    }

    /// The bytes that its frames take in their segment.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether one more is worth while.
    #[inline]
    pub(crate) fn takes_more(&self) -> bool {
        self.all_short && self.count < self.frames.len()
    }

    /// Adds the frame at `lsn`, which lies behind those that it has, and for which it has room.
    #[inline]
    pub(crate) fn push(&mut self, seed: u32, lsn: u64, header: FrameHeader, payload: &'a [u8]) {
        let FrameHeader { word, check, tag } = header;
        self.frames[self.count] = Unchecked {
            hashed: sys::Hashed { state: seed ^ word, words: [lsn, tag.0], payload },
            said: check,
        };
        self.count += 1;
        self.size += frame_size(payload.len());
        self.all_short &= payload.len() <= Self::SHORT;
    }

    /// Whether the checks of all of them are what they say. Meanwhile the processor fetches
    /// what is some way behind them, for those who read in order.
    #[inline]
    pub(crate) fn is_intact(&self) -> bool {
        let first = self.frames[0].hashed.payload.as_ptr();
        sys::prefetch_behind(first, self.count, self.size as usize);
        if self.all_short && self.count == self.frames.len() {
            let sums = sys::crc32c_frames(self.frames.each_ref().map(|frame| &frame.hashed));
            return self.frames.iter().zip(sums).all(|(frame, sum)| frame.said == sum);
        }
        self.frames[..self.count].iter().all(|&Unchecked { hashed, said }| {
            sys::crc32c_frame(hashed.state, hashed.words, hashed.payload) == said
        })
    }
}
