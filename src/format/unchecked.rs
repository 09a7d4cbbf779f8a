//! Checks that were not computed yet: of one frame, or of several at once.

use super::{FrameHeader, check};
use crate::sys;

/// A frame whose check was not computed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchecked<'a> {
    pub(crate) lsn: u64,
    pub(crate) header: FrameHeader,
    pub(crate) payload: &'a [u8],
}

/// So many frames are [checked at once](are_intact), if they are short: one that is long takes long
/// enough by itself.
pub(crate) const AT_ONCE: usize = sys::FRAMES;
const LONGEST_AT_ONCE: usize = 4096;

impl Unchecked<'_> {
    /// Whether its check is what it says.
    #[inline]
    pub(crate) fn is_intact(&self, seed: u32) -> bool {
        let FrameHeader { word, check: said, tag } = self.header;
        check(seed, word, self.lsn, tag, self.payload) == said
    }

    /// Whether it is worth while to check it along with others.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.payload.len() <= LONGEST_AT_ONCE
    }
}

/// Whether the checks of all of them are what they say.
pub(crate) fn are_intact(seed: u32, frames: [Unchecked<'_>; AT_ONCE]) -> bool {
    let hashed = frames.map(|Unchecked { lsn, header, payload }| sys::Hashed {
        state: seed ^ header.word,
        words: [lsn, header.tag.0],
        payload,
    });
    sys::crc32c_frames(hashed) == frames.map(|frame| frame.header.check)
}
