//! Places in the log: one number for segment and offset.
//!
//! Pure arithmetic: no files, no maps, no atomics.

use std::fmt;

/// A place in the log, in bytes: segment index × segment size + offset in the
/// segment.
///
/// LSNs grow in the order of the log and, while it is open, are never used twice, not even
/// after [`truncate_after`](crate::Wal::truncate_after). What a crash took away, which was
/// not durable, may be written anew at the same place: store an LSN only once it is durable.
///
/// They are not dense: a record's LSN plus its length is not the next record's LSN. Every
/// record's LSN is a multiple of 8. For dense numbers use a record's
/// [`sequence`](crate::Record::sequence).
///
/// An `Lsn` may be stored by the caller, as a checkpoint for example:
/// [`as_u64`](Lsn::as_u64) and [`from_u64`](Lsn::from_u64) convert.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub(crate) u64);

impl Lsn {
    /// No place: below every record. Reading from there begins at the head.
    pub const NONE: Lsn = Lsn(0);

    /// The place with this number. Whether there is a record is found out by
    /// asking the log.
    pub const fn from_u64(number: u64) -> Self {
        Lsn(number)
    }

    /// The number of this place.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({:#x})", self.0)
    }
}

/// The segment size of a log, a power of two: turns segment indexes into LSNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentSize {
    shift: u32,
}

impl SegmentSize {
    pub(crate) const MIN: u64 = 64 << 10;
    pub(crate) const MAX: u64 = if usize::BITS < 64 { 1 << 30 } else { 4 << 30 };
    pub(crate) const DEFAULT: u64 = 64 << 20;

    /// The size of `bytes`, if that is a power of two in range.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let fits = bytes.is_power_of_two() && (Self::MIN..=Self::MAX).contains(&bytes);
        fits.then(|| SegmentSize { shift: bytes.trailing_zeros() })
    }

    pub(crate) fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// The highest index for which every LSN in the segment is a `u64`.
    pub(crate) fn max_index(self) -> u64 {
        (u64::MAX >> self.shift) - 1
    }

    /// The LSN of offset 0 of the segment `index`, which is at most
    /// [`max_index`](Self::max_index).
    pub(crate) fn base(self, index: u64) -> u64 {
        debug_assert!(index <= self.max_index());
        index << self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_is_found_by_a_shift() {
        let size = SegmentSize::new(1 << 20).unwrap();
        assert_eq!(size.base(3), 3 << 20);
        assert!(size.base(size.max_index()).checked_add(size.bytes()).is_some());
    }

    #[test]
    fn only_powers_of_two_in_range_are_segment_sizes() {
        for bytes in [0, 1, 4096, 65_535, 65_537, 3 << 20, SegmentSize::MAX << 1] {
            assert_eq!(SegmentSize::new(bytes), None, "{bytes}");
        }
        for bytes in [SegmentSize::MIN, SegmentSize::DEFAULT, SegmentSize::MAX] {
            assert_eq!(SegmentSize::new(bytes).unwrap().bytes(), bytes);
        }
    }
}
