//! Files for what is too large for a segment: each holds one record or batch.
//!
//! Such a file is made while its append waits, with the spare behind it, since indexes
//! only grow along the chain. Both are put into the chain in one critical section; the
//! file is filled behind it, while others append on.

use crate::chain::{Chain, Spare};
use crate::error::Result;
use crate::format::{self, RESERVE, Seal};
use crate::log::{HELD_BACK, Log};
use crate::lsn::{Lsn, SegmentSize};
use crate::map::{Claim, Map};
use crate::roll::{FIRST_CLAIM, Predecessor};
use crate::scan::{Life, Place};
use crate::segment::{Segment, Stamp};
use crate::sync::{Arc, Backoff, MutexGuard, lock};

/// The largest claim that a log ever has room for, in a file of its own if need be.
pub(crate) fn largest_claim(size: SegmentSize, max_log_size: u64) -> u64 {
    // a little less than 2^28 of the smallest frames, which are counted in 28 bits
    const MOST: u64 = if usize::BITS < 64 { 1 << 30 } else { (4 << 30) - 4096 };
    // besides such a file, there is one before it, one behind, and one that is held back
    let slots = (max_log_size / size.bytes()).saturating_sub(3).max(1);
    MOST.min(slots.saturating_mul(size.bytes()) - FIRST_CLAIM - RESERVE)
}

impl Log {
    /// Appends what no segment takes, up to the largest claim.
    pub(crate) fn append_large(
        &self,
        size: u64,
        records: u32,
        put: impl FnOnce(Claim<'_>, Stamp) -> Lsn,
    ) -> Result<Lsn> {
        self.check_outside_closure()?;
        self.check_alive()?;
        let making = lock(&self.making);
        let (large, next) = self.make_large(size, &making)?;
        let indexes = [large.index, next.index];
        let region = large.region.clone();
        let chained = self.chain_large(large, next, region.map(), size, records);
        let claim = chained.inspect_err(|_| self.remove_quietly(&indexes))?;
        drop(making);
        Ok(put(claim, self.stamp()))
    }

    /// Makes a file for a claim of `size` bytes, and a spare behind it.
    fn make_large(&self, size: u64, making: &MutexGuard<'_, ()>) -> Result<(Spare, Spare)> {
        self.tidy(making)?;
        // 2^16 and one at most: the largest claim in the smallest segments
        let slots = (FIRST_CLAIM + size + RESERVE).div_ceil(self.size.bytes()) as u32;
        let indexes = self.take_room(slots, making)?;
        let make = || {
            let large = self.new_file(indexes[0], slots)?;
            let next = self.new_file(indexes[1], 1)?;
            self.make_first_pages_ready(&next)?;
            Ok((large, next))
        };
        make().inspect_err(|_| self.remove_quietly(&indexes))
    }

    /// Sees to room for a file of so many slots and a spare, and takes their indexes.
    fn take_room(&self, slots: u32, making: &MutexGuard<'_, ()>) -> Result<[u64; 2]> {
        let needed = (u64::from(slots) + 1).saturating_mul(self.size.bytes());
        if self.check_size(&lock(&self.chain), needed).is_err() {
            // spares below the file follow nothing soon
            self.remove_spares(HELD_BACK, making)?;
        }
        let chain = &mut *lock(&self.chain);
        self.check_size(chain, needed)?;
        Ok([self.take_index(chain, slots)?, self.take_index(chain, 1)?])
    }

    /// Puts a large file and a spare behind it into the chain, and claims the file.
    fn chain_large<'m>(
        &self,
        large: Spare,
        next: Spare,
        map: &'m Map,
        size: u64,
        records: u32,
    ) -> Result<Claim<'m>> {
        let _guard = self.guard_against_panic();
        let mut backoff = Backoff::default();
        let mut chain = loop {
            let chain = lock(&self.chain);
            self.check_alive()?;
            if self.ring.next_is_free() {
                break chain;
            }
            drop(chain);
            backoff.wait();
        };
        let chain = &mut *chain;
        let active = chain.active().clone();
        let end = self.end_active(chain);
        let seal = Seal { next_index: large.index, next_salt: large.salt };
        let end = self.seal(&active, end, seal, self.epoch)?;
        let segment = self.begin_segment(chain, large, Predecessor::at(&active, end));
        segment.set_ready(segment.len());

        let behind = Place { offset: FIRST_CLAIM + size, ordinal: records };
        let Life { base, salt } = segment.id.life;
        let seed = format::seed(salt, self.epoch);
        let claim = map.claim(FIRST_CLAIM..behind.offset, 0, base, seed);
        let seal = Seal { next_index: next.index, next_salt: next.salt };
        let end = self.seal(&segment, behind, seal, self.epoch)?;
        // the spare that is held back from records is among those that are made anew
        let for_records = !chain.spares.is_empty();
        self.retire_spares(chain);
        self.begin_with(chain, next, Predecessor::at(&segment, end), for_records);
        Ok(claim)
    }

    /// Spares below the last segment can follow nothing: they are made anew.
    fn retire_spares(&self, chain: &mut Chain) {
        for spare in std::mem::take(&mut chain.spares) {
            let id = self.identity(spare.index, spare.slots, spare.salt, 0);
            let len = spare.region.map().len();
            chain.dead.push(Arc::new(Segment::new(id, spare.region, len)));
        }
    }
}
