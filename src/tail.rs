//! The tail of a segment as one atomic word: claims so far, offset, two flags.
//!
//! Pure arithmetic on the word; who may do what with it is in `map::Slot`.

use crate::scan::Place;

const OFFSET_BITS: u32 = 36;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// Offsets are multiples of 8, which leaves the low bits free.
const FLAGS: u64 = 7;

/// No claim is granted any more.
pub(crate) const CLOSED: u64 = 1;
/// Someone sleeps until the next record is published.
pub(crate) const WAITER: u64 = 2;

/// Claims up to this size are made by adding, whether they fit or not. Larger
/// ones look first, so that the 36 bits of the offset never wrap: a segment has
/// at most 32 bits, and no thread adds to a full one twice.
pub(crate) const ADDED_BLINDLY: u64 = 64 << 10;

/// A value of the tail word. As a number it grows with every claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tail(pub(crate) u64);

impl Tail {
    pub(crate) fn at(place: Place) -> Self {
        Tail((place.ordinal as u64) << OFFSET_BITS | place.offset)
    }

    /// What a claim adds.
    pub(crate) fn step(size: u64, count: u32) -> u64 {
        (count as u64) << OFFSET_BITS | size
    }

    pub(crate) fn place(self) -> Place {
        Place { offset: self.0 & OFFSET_MASK & !FLAGS, ordinal: (self.0 >> OFFSET_BITS) as u32 }
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) fn has_waiter(self) -> bool {
        self.0 & WAITER != 0
    }

    /// The same place without flags.
    pub(crate) fn bare(self) -> u64 {
        self.0 & !FLAGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_addition_moves_count_and_offset() {
        let before = Tail(Tail::at(Place { offset: 4176, ordinal: 7 }).0 | WAITER);
        let after = Tail(before.0 + Tail::step(272, 3));
        assert_eq!(after.place(), Place { offset: 4448, ordinal: 10 });
        assert!(after.has_waiter() && !after.is_closed());
    }

    #[test]
    fn a_closed_tail_stays_closed_whatever_is_added() {
        let mut tail = Tail(CLOSED);
        for _ in 0..3 {
            tail = Tail(tail.0.wrapping_add(Tail::step(OFFSET_MASK & !FLAGS, u32::MAX >> 4)));
            assert!(tail.is_closed() && !tail.has_waiter());
        }
    }

    #[test]
    fn the_largest_segment_full_of_empty_records_fits() {
        let place = Place { offset: 4 << 30, ordinal: (1 << 28) - 1 };
        assert_eq!(Tail::at(place).place(), place);
    }
}
