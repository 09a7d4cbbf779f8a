//! A claim: bytes of a segment that one writer owns until it publishes them.

use std::ops::Range;
use std::ptr;

use super::Map;
use crate::format::{FRAME_HEADER, HEADER_TAIL, HeaderTail};
use crate::sys;

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
        let is_inside = self.start <= at && at <= self.end && len as u64 <= self.end - at;
        assert!(is_inside, "{len} bytes at {at} leave their claim");
        at..at + len as u64
    }

    /// Copies all of a frame into the claim but its word, at offset `at` of the segment. A
    /// payload that is there already is left alone by an empty one.
    #[inline]
    pub(crate) fn fill_frame(&mut self, at: u64, header_tail: &HeaderTail, payload: &[u8]) {
        let part = self.part(at, FRAME_HEADER + payload.len());
        #[cfg(loom)]
        self.map.model.write(&(part.start + HEADER_TAIL..part.end));
        // SAFETY: bounded: `part` lies in the claim, and every claim in its map; header and
        // payload are as long together. claimed: no one else touches these bytes until they
        // are published.
        unsafe {
            let frame = self.map.base.add(part.start as usize);
            let tail = frame.add(HEADER_TAIL as usize);
            ptr::copy_nonoverlapping(header_tail.as_ptr(), tail, header_tail.len());
            sys::copy(payload.as_ptr(), frame.add(FRAME_HEADER), payload.len());
            sys::prefetch_to_write_behind(frame, FRAME_HEADER + payload.len());
        }
    }

    /// `len` bytes of the claim, at offset `at` of the segment, to build in place.
    pub(crate) fn bytes_mut(&mut self, at: u64, len: usize) -> &mut [u8] {
        let part = self.part(at, len);
        #[cfg(loom)]
        self.map.model.write(&part);
        // SAFETY: bounded and claimed: as in `fill_frame`; the borrow of the claim keeps
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
