//! A claim: bytes of a segment that one writer owns until it publishes them.

use std::ops::Range;
use std::ptr;

use super::Map;

/// Bytes that nobody else touches until they are published, and the number of
/// claims before them in their segment. As long as it is not published, its
/// segment is not given up.
#[derive(Debug)]
pub(crate) struct Claim<'m> {
    map: &'m Map,
    start: u64,
    end: u64,
    ordinal: u32,
    base: u64,
    seed: u32,
}

impl<'m> Claim<'m> {
    #[inline]
    pub(super) fn new(map: &'m Map, range: Range<u64>, ordinal: u32, base: u64, seed: u32) -> Self {
        assert!(range.start < range.end && range.end <= map.len(), "a claim lies in its map");
        Claim { map, start: range.start, end: range.end, ordinal, base, seed }
    }

    /// The offset of its first byte in the segment.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The claims in its segment before it.
    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// The LSN of the segment's first byte.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// What the checks of frames in it start from.
    pub(crate) fn seed(&self) -> u32 {
        self.seed
    }

    /// The part of `len` bytes that is `at` bytes from the segment's start.
    #[inline]
    fn part(&self, at: u64, len: usize) -> Range<u64> {
        let end = at + len as u64;
        assert!(self.start <= at && end <= self.end, "{at}..{end} leaves its claim");
        #[cfg(loom)]
        self.map.model.write(&(at..end));
        at..end
    }

    /// Copies `bytes` into the claim, at offset `at` of the segment.
    #[inline]
    pub(crate) fn fill(&mut self, at: u64, bytes: &[u8]) {
        let part = self.part(at, bytes.len());
        // SAFETY: bounded: `part` lies in the claim, and every claim in its map.
        // claimed: no one else touches these bytes until they are published.
        unsafe {
            ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.map.base.add(part.start as usize),
                bytes.len(),
            );
        }
    }

    /// `len` bytes of the claim, at offset `at` of the segment, to build in place.
    pub(crate) fn bytes_mut(&mut self, at: u64, len: usize) -> &mut [u8] {
        let part = self.part(at, len);
        // SAFETY: bounded and claimed: as in `fill`; the borrow of the claim keeps
        // it from being used otherwise meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.map.base.add(part.start as usize), len) }
    }

    /// Stores the word of a frame inside the claim, which is not its first: it
    /// is published with the first.
    #[inline]
    pub(crate) fn store_word(&mut self, at: u64, word: u32) {
        assert!(self.start < at && at < self.end, "{at} is no inner frame of this claim");
        self.map.publish(at, word);
    }

    /// Stores the word of the first frame, when all other bytes are there: this
    /// publishes the claim, and its map may be gone afterwards.
    #[inline]
    pub(crate) fn publish(self, word: u32) {
        self.map.publish(self.start, word);
    }
}
