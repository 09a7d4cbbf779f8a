//! What a walk over a segment remembers, so that nobody has to walk there again.

use crate::scan::{Place, START};

/// Every so many bytes a place is remembered, for seeking by number and for
/// reading backwards.
const BLOCK: u64 = 64 << 10;

/// How far the frames of a segment have been walked, and past what.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    /// A batch boundary.
    at: Place,
    /// Its last frame is a seal: nothing follows.
    sealed: bool,
    /// The first batch boundary of every block, ascending.
    blocks: Vec<Place>,
    /// Where an epoch begins, and which, ascending.
    epochs: Vec<(u64, u32)>,
}

impl Trail {
    pub(crate) fn new() -> Self {
        Trail { at: START, sealed: false, blocks: vec![START], epochs: Vec::new() }
    }

    pub(crate) fn at(&self) -> Place {
        self.at
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The offset at which the next block begins.
    pub(crate) fn next_block(&self) -> u64 {
        (self.at.offset / BLOCK + 1) * BLOCK
    }

    /// Goes on to a batch boundary, which must not be behind the first one of the next block.
    pub(crate) fn move_to(&mut self, at: Place) {
        if at.offset >= self.next_block() {
            self.blocks.push(at);
        }
        self.at = at;
    }

    /// An epoch begins with the frame at `offset`.
    pub(crate) fn begin_epoch(&mut self, offset: u64, epoch: u32) {
        self.epochs.push((offset, epoch));
    }

    /// Came behind a seal.
    pub(crate) fn seal(&mut self) {
        self.sealed = true;
    }

    /// The same walk as if it had ended at `end`, which it came by.
    pub(crate) fn until(mut self, end: Place) -> Self {
        self.sealed &= end == self.at;
        self.at = end;
        self.blocks.retain(|place| place.offset <= end.offset);
        self.epochs.retain(|&(offset, _)| offset < end.offset);
        self
    }

    /// The last remembered place before `offset`, or the first one.
    pub(crate) fn place_before(&self, offset: u64) -> Place {
        self.last(|place| place.offset < offset)
    }

    /// The last remembered place at or before `offset`, or the first one.
    pub(crate) fn place_up_to(&self, offset: u64) -> Place {
        self.last(|place| place.offset <= offset)
    }

    /// The last remembered place that has at most `ordinal` claims before it.
    pub(crate) fn place_of(&self, ordinal: u32) -> Place {
        self.last(|place| place.ordinal <= ordinal)
    }

    fn last(&self, is_before: impl Fn(&Place) -> bool) -> Place {
        let after = self.blocks.partition_point(is_before);
        self.blocks[after.saturating_sub(1)]
    }

    /// The epoch in force at `offset`; 0 at the first frame.
    pub(crate) fn epoch_at(&self, offset: u64) -> u32 {
        let after = self.epochs.partition_point(|&(from, _)| from < offset);
        after.checked_sub(1).map_or(0, |i| self.epochs[i].1)
    }

    pub(crate) fn epochs(&self) -> impl Iterator<Item = u32> {
        self.epochs.iter().map(|&(_, epoch)| epoch)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::format::FIRST_FRAME;

    fn place(offset: u64, ordinal: u32) -> Place {
        Place { offset, ordinal }
    }

    #[test]
    fn the_first_place_of_each_block_is_remembered() {
        let mut trail = Trail::new();
        let places =
            [place(BLOCK - 8, 1), place(BLOCK, 2), place(BLOCK + 8, 3), place(5 * BLOCK, 9)];
        places.into_iter().for_each(|place| trail.move_to(place));
        assert_eq!(trail.place_up_to(BLOCK - 1), START);
        assert_eq!(trail.place_up_to(BLOCK), places[1]);
        assert_eq!(trail.place_before(BLOCK), START);
        assert_eq!(trail.place_before(u64::MAX), places[3]);
        assert_eq!(trail.place_of(1), START);
        assert_eq!(trail.place_of(8), places[1]);
        assert_eq!((trail.at(), trail.next_block()), (places[3], 6 * BLOCK));
    }

    #[test]
    fn cut_short_it_knows_nothing_of_what_was_behind() {
        let mut trail = Trail::new();
        trail.begin_epoch(FIRST_FRAME, 1);
        trail.move_to(place(BLOCK, 1));
        trail.begin_epoch(BLOCK, 2);
        trail.move_to(place(2 * BLOCK, 1));
        trail.seal();
        let same = trail.clone().until(trail.at());
        assert!(same.is_sealed());
        let shorter = trail.until(place(BLOCK, 1));
        assert!(!shorter.is_sealed());
        assert_eq!(shorter.place_up_to(u64::MAX), place(BLOCK, 1));
        assert_eq!(shorter.epochs().collect::<Vec<_>>(), [1]);
        assert_eq!((shorter.epoch_at(FIRST_FRAME), shorter.epoch_at(BLOCK)), (0, 1));
    }
}
