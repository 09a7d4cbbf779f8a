//! What the checksum of any range of a file began with, for the work of a few bytes: what may be
//! a frame in a file's older bytes says itself how long it is, and says it often.
//!
//! CRC is linear, and each of its steps can be taken back. The state behind a range is that
//! behind all bytes up to its end, with the difference made by what it began with: moved over as
//! many zeros as the range has bytes. As in zlib's `crc32_combine`, by Mark Adler, but backwards.

use std::ops::Range;
use std::sync::LazyLock;

use crate::format::{FRAME_HEADER, MAX_RECORD};
use crate::sys;

/// Bytes between two places whose state is kept: for a quarter of the file's size in memory, and
/// so few that every place of a file may look like a frame.
const BLOCK: usize = 2 * size_of::<u64>();

/// The raw states of a checksum that begins with 0, up to each block of some bytes.
#[derive(Debug)]
pub(super) struct Ranges<'a> {
    /// Of the file.
    start: usize,
    bytes: &'a [u8],
    up_to_block: Vec<u32>,
}

impl<'a> Ranges<'a> {
    /// Looks once at all of `bytes` from `start` on.
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        let bytes = &bytes[start..];
        let mut up_to_block = Vec::with_capacity(bytes.len() / BLOCK + 1);
        let mut state = 0;
        up_to_block.push(state);
        for block in bytes.chunks_exact(BLOCK) {
            state = behind(state, block);
            up_to_block.push(state);
        }
        Ranges { start, bytes, up_to_block }
    }

    /// The raw state that a checksum over `range` of the file begins with, if it ends with `end`.
    pub(super) fn began_with(&self, end: u32, range: Range<usize>) -> u32 {
        let (from, to) = (range.start - self.start, range.end - self.start);
        self.up_to(from) ^ back_over_zeros(end ^ self.up_to(to), range.len())
    }

    fn up_to(&self, end: usize) -> u32 {
        let block = end / BLOCK;
        behind(self.up_to_block[block], &self.bytes[block * BLOCK..end])
    }
}

/// What [`sys::crc32c_step`] over `word` began with, if it ends with `end`.
pub(super) fn step_began_with(end: u32, word: u64) -> u32 {
    back_over_zeros(end ^ sys::crc32c_step(0, word), size_of::<u64>())
}

/// The raw state behind these bytes, which are a block at most.
fn behind(state: u32, bytes: &[u8]) -> u32 {
    #[cfg(test)]
    sys::counted::add(bytes.len());
    let (words, rest) = bytes.split_at(bytes.len() & !(size_of::<u64>() - 1));
    let word_of = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("a chunk of a word"));
    let words = words.chunks_exact(size_of::<u64>()).map(word_of);
    let state = words.fold(state, sys::crc32c_step);
    if rest.is_empty() { state } else { !crc32c::crc32c_append(!state, rest) }
}

/// A linear map of 32 bits: what it makes of each byte of them.
type Linear = [[u32; 256]; 4];

/// The powers of two in the length of a frame.
const POWERS: usize = (FRAME_HEADER + MAX_RECORD).ilog2() as usize + 1;

/// What takes a state back over 1, 2, 4 ... zero bytes.
static BACK: LazyLock<[Linear; POWERS]> = LazyLock::new(|| {
    let mut back = [[[0; 256]; 4]; POWERS];
    back[0] = linear(back_over_a_zero);
    for power in 1..back.len() {
        let half = back[power - 1];
        back[power] = linear(|state| image(&half, image(&half, state)));
    }
    back
});

fn back_over_a_zero(state: u32) -> u32 {
    (0..8).fold(state, |state, _| match state >> 31 {
        0 => state << 1,
        _ => (state ^ sys::CRC32C_POLYNOMIAL) << 1 | 1,
    })
}

fn linear(map: impl Fn(u32) -> u32) -> Linear {
    std::array::from_fn(|i| std::array::from_fn(|byte| map((byte as u32) << (8 * i))))
}

fn image(map: &Linear, state: u32) -> u32 {
    map.iter().zip(state.to_le_bytes()).fold(0, |sum, (of_byte, byte)| sum ^ of_byte[byte as usize])
}

fn back_over_zeros(state: u32, len: usize) -> u32 {
    let powers = BACK.iter().enumerate().filter(|&(power, _)| len >> power & 1 == 1);
    powers.fold(state, |state, (_, map)| image(map, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checksum_began_with_what_it_did() {
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i * i / 7) as u8).collect();
        let ranges = Ranges::new(&bytes, 96);
        for at in (96..=3000).step_by(61) {
            for len in (0..=3000 - at).step_by(37) {
                let range = at..at + len;
                let end = !crc32c::crc32c_append(!0x1234_5678, &bytes[range.clone()]);
                assert_eq!(ranges.began_with(end, range), 0x1234_5678, "{len} bytes at {at}");
            }
        }
        assert_eq!(step_began_with(sys::crc32c_step(0x1234_5678, 99), 99), 0x1234_5678);
    }
}
