//! The checksum of any range of a file, for little more than a block of it: what may be
//! a frame in a file's older bytes says itself how long it is, and says it often.
//!
//! CRC is linear: the checksum of a range is that of all up to its end, less that of all
//! before it, shifted by the range's length. As in zlib's `crc32_combine`, by Mark Adler.

/// Bytes between two places whose checksum from the start is kept: so few that every second place
/// of a file may look like a frame before a search of it has used up what it may checksum, for an
/// eighth of the file's size in memory.
const BLOCK: usize = 32;

/// A range that is not longer is checksummed as soon.
pub(super) const SHORT: u64 = 512;

/// The checksums of everything up to each block of some bytes.
#[derive(Debug)]
pub(super) struct Ranges<'a> {
    /// Of the file.
    start: usize,
    bytes: &'a [u8],
    up_to_block: Vec<u32>,
    shifts: Shifts,
}

impl<'a> Ranges<'a> {
    /// Looks once at all of `bytes` from `start` on.
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        let bytes = &bytes[start..];
        let mut up_to_block = vec![0];
        for block in bytes.chunks_exact(BLOCK) {
            let before = up_to_block.last().expect("it begins with one");
            up_to_block.push(append(*before, block));
        }
        Ranges { start, bytes, up_to_block, shifts: Shifts::new() }
    }

    /// What `crc32c_append` says of `len` bytes from `at` on.
    pub(super) fn append(&self, crc: u32, at: usize, len: usize) -> u32 {
        let at = at - self.start;
        let before = self.up_to(at);
        self.shifts.shift(crc ^ before, len) ^ self.up_to(at + len)
    }

    /// The bytes that [`append`](Self::append) looks at for that.
    pub(super) fn looked_at(&self, at: usize, len: usize) -> u64 {
        let at = at - self.start;
        (at % BLOCK + (at + len) % BLOCK) as u64
    }

    fn up_to(&self, end: usize) -> u32 {
        let block = end / BLOCK;
        append(self.up_to_block[block], &self.bytes[block * BLOCK..end])
    }
}

/// The checksum of what comes behind `crc`, over these bytes.
fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(test)]
    crate::sys::counted::add(bytes.len());
    crc32c::crc32c_append(crc, bytes)
}

/// A linear map of 32 bits: what it makes of each.
type Matrix = [u32; 32];

/// What so many zero bytes do to a checksum, by powers of two.
#[derive(Debug)]
struct Shifts([Matrix; usize::BITS as usize]);

impl Shifts {
    fn new() -> Self {
        let zero_byte =
            |i: usize| crc32c::crc32c_append(!(1u32 << i), &[0]) ^ crc32c::crc32c_append(!0, &[0]);
        let mut shifts = [std::array::from_fn(zero_byte); usize::BITS as usize];
        for power in 1..shifts.len() {
            let half = shifts[power - 1];
            shifts[power] = half.map(|bits| times(&half, bits));
        }
        Shifts(shifts)
    }

    fn shift(&self, crc: u32, len: usize) -> u32 {
        let powers = self.0.iter().enumerate().filter(|&(power, _)| len >> power & 1 == 1);
        powers.fold(crc, |crc, (_, matrix)| times(matrix, crc))
    }
}

fn times(matrix: &Matrix, bits: u32) -> u32 {
    matrix
        .iter()
        .enumerate()
        .fold(0, |sum, (i, column)| sum ^ (column & 0u32.wrapping_sub(bits >> i & 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_the_checksum_of_its_bytes() {
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i * i / 7) as u8).collect();
        let ranges = Ranges::new(&bytes, 100);
        for at in (100..=3000).step_by(61) {
            for len in (0..=3000 - at).step_by(37) {
                let expected = crc32c::crc32c_append(0x1234_5678, &bytes[at..at + len]);
                assert_eq!(ranges.append(0x1234_5678, at, len), expected, "{len} bytes at {at}");
            }
        }
    }
}
