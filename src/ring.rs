//! The ring of slots, and the ready mark of each: which segment takes claims, and
//! how far its pages are present and zero.

use std::io;
use std::ops::Range;

use crate::format::RESERVE;
use crate::map::{Attempt, Claim, Pending, Slot};
use crate::scan::Place;
use crate::segment::Segment;
use crate::storage::Region;
use crate::sync::{Arc, AtomicU64, Backoff, Mutex, Ordering, lock};

/// Segments that may be in use at once by claimers; a power of two.
#[cfg(not(loom))]
const SEATS: usize = 8;
#[cfg(loom)]
const SEATS: usize = 2;

/// What the ready mark moves by when an append has overtaken it: enough that it
/// happens rarely, little enough to be waited for.
const STEP: u64 = 64 << 10;

/// The granularity of pages, for rounding; larger pages are made of these.
const PAGE: u64 = 4096;

/// What is worked ahead by at a time, in bytes.
const PIECE: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    seats: [Seat; SEATS],
    /// Counts rolls; the active seat is this modulo the seats.
    active: AtomicU64,
}

/// A slot, and what prepares its segment.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) slot: Slot,
    preparing: Mutex<Option<Preparing>>,
}

/// The segment of a seat, as the preparing lock protects it.
#[derive(Debug)]
pub(crate) struct Preparing {
    pub(crate) segment: Arc<Segment>,
    pub(crate) region: Arc<dyn Region>,
    /// Below, what no claim has had is zero. Behind may lie what an earlier life of the
    /// file left, or a torn tail.
    zero_to: u64,
    /// The mark could not be moved, and never is again.
    frozen: bool,
}

impl Preparing {
    pub(crate) fn new(segment: Arc<Segment>, region: Arc<dyn Region>, zero_to: u64) -> Self {
        Preparing { segment, region, zero_to, frozen: false }
    }

    /// Moves the mark to `target`, or to the end of the segment if that comes first.
    fn advance(&mut self, slot: &Slot, target: u64) -> io::Result<()> {
        let (from, to) = (self.segment.ready(), target.min(self.segment.len()));
        if to <= from {
            return Ok(());
        }
        make_ready(&*self.region, from..to, self.zero_to)?;
        self.zero_to = self.zero_to.max(to);
        self.segment.set_ready(to);
        // that of a segment that takes no claims is above all there is
        slot.set_ready(to.max(slot.ready()));
        Ok(())
    }
}

/// Makes the pages of `range` present for a store, and zero, which they are below
/// `zero_to`. Nobody else uses these bytes.
pub(crate) fn make_ready(region: &dyn Region, range: Range<u64>, zero_to: u64) -> io::Result<()> {
    region.populate(range.clone())?;
    let stale = range.start.max(zero_to)..range.end;
    if !stale.is_empty() {
        region.map().zero(stale);
    }
    Ok(())
}

/// Where the mark of a segment stands at first whose next frame is at `offset`: as far
/// on as appends come before the background thread has woken up.
pub(crate) fn first_ready(offset: u64, len: u64) -> u64 {
    (offset + RESERVE + STEP).next_multiple_of(PAGE).min(len)
}

impl Ring {
    /// A ring for segments whose claims end at `limit`.
    pub(crate) fn new(limit: u64) -> Self {
        let seat = |_| Seat { slot: Slot::new(limit), preparing: Mutex::new(None) };
        Ring { seats: std::array::from_fn(seat), active: AtomicU64::new(0) }
    }

    /// Counts the rolls: changes whenever another segment takes claims.
    #[inline]
    pub(crate) fn active(&self) -> u64 {
        // Acquire pairs with the Release in `activate`: who sees the number sees the slot's tail
        // open, and is not refused by what it was before. (Loom's additions always come to the
        // newest value, so that no model misses this.)
        self.active.load(Ordering::Acquire)
    }

    /// The seat that is, was, or will be the `number`th.
    #[inline]
    pub(crate) fn seat(&self, number: u64) -> &Seat {
        &self.seats[number as usize % SEATS]
    }

    pub(crate) fn active_seat(&self) -> &Seat {
        self.seat(self.active())
    }

    /// Lets claims go to the segment in the next seat, which is free; under the
    /// chain lock. They begin at `place`.
    pub(crate) fn activate(&self, next: Preparing, seed: u32, place: Place) {
        let number = self.active() + 1;
        let seat = self.seat(number);
        let ready = next.segment.ready();
        seat.begin(next, seed, ready, place);
        // Release pairs with the Acquire in `active`. Who comes to it early finds it complete, too.
        self.active.store(number, Ordering::Release);
    }

    /// Puts a segment into the next seat that takes no claims and ends at `place`.
    pub(crate) fn activate_ended(&self, next: Preparing, place: Place) {
        let number = self.active() + 1;
        let seat = self.seat(number);
        *lock(&seat.preparing) = Some(next);
        seat.slot.reset_ended(place);
        // Release: as in `activate`.
        self.active.store(number, Ordering::Release);
    }

    /// Whether the next seat can be used again.
    pub(crate) fn next_is_free(&self) -> bool {
        self.seat(self.active() + 1).is_free()
    }

    /// Lets go of what spent seats hold of `segment`.
    pub(crate) fn release(&self, segment: &Arc<Segment>) {
        for seat in &self.seats {
            let mut preparing = lock(&seat.preparing);
            if preparing.as_ref().is_some_and(|p| Arc::ptr_eq(&p.segment, segment))
                && seat.is_spent(preparing.as_ref())
            {
                seat.slot.release();
                *preparing = None;
            }
        }
    }

    /// Whether claims in `segment` may still be unpublished.
    pub(crate) fn uses(&self, segment: &Arc<Segment>) -> bool {
        self.seats.iter().any(|seat| {
            lock(&seat.preparing).as_ref().is_some_and(|p| Arc::ptr_eq(&p.segment, segment))
        })
    }

    /// Works ahead of the tail: moves the active mark on until it is `window` bytes
    /// ahead, a piece at a time. Errors are left to the append that needs the room.
    pub(crate) fn work_ahead(&self, window: u64) {
        let seat = self.active_seat();
        while let Some(Ahead { index, region, piece }) = seat.ahead(window) {
            // outside the lock, which appends may wait for: a fault a page
            region.rearm(piece.clone());
            if !seat.move_ahead(index, piece.end) {
                return;
            }
        }
    }
}

/// What is to be made ready next.
struct Ahead {
    /// The segment's.
    index: u64,
    region: Arc<dyn Region>,
    piece: Range<u64>,
}

/// What came of asking a seat for a claim.
pub(crate) enum Asked<'s> {
    /// The bytes are the caller's. `wake`: someone sleeps until they are published;
    /// `overtook`: the ready mark was not far enough.
    Granted {
        claim: Claim<'s>,
        wake: bool,
        overtook: bool,
    },
    Refused,
}

impl Seat {
    fn begin(&self, next: Preparing, seed: u32, ready: u64, place: Place) {
        let (map, base) = (next.region.map().clone(), next.segment.id.life.base);
        *lock(&self.preparing) = Some(next);
        self.slot.reset(&map, base, seed, ready, place);
    }

    /// The next piece of what is less than `window` bytes ahead of the tail.
    fn ahead(&self, window: u64) -> Option<Ahead> {
        let preparing = lock(&self.preparing);
        let preparing = preparing.as_ref().filter(|p| !p.frozen)?;
        let (tail, ready) = (self.slot.tail(), self.slot.ready());
        let target = (tail.place().offset + window).min(preparing.segment.len());
        (!tail.is_closed() && ready < target).then(|| Ahead {
            index: preparing.segment.id.index,
            region: preparing.region.clone(),
            piece: ready..target.min(ready + PIECE),
        })
    }

    /// Moves the mark of the segment `index` to `target`; `false` if that is not to be.
    fn move_ahead(&self, index: u64, target: u64) -> bool {
        let mut preparing = lock(&self.preparing);
        let Some(preparing) = preparing.as_mut().filter(|p| !p.frozen) else { return false };
        // a new life of this seat meanwhile is as welcome
        preparing.segment.id.index != index
            || !self.slot.tail().is_closed()
                && preparing.advance(&self.slot, target.next_multiple_of(PAGE)).is_ok()
    }

    /// Claims `size` bytes for `count` records.
    pub(crate) fn ask(&self, size: u64, count: u32) -> Asked<'_> {
        self.resolve(self.slot.attempt(size, count))
    }

    /// Like [`ask`](Self::ask), for a claim that may not end the segment.
    pub(crate) fn ask_politely(&self, size: u64, count: u32) -> Asked<'_> {
        self.resolve(self.slot.attempt_looking(size, count, false))
    }

    /// Sees to a claim that was tried for.
    pub(crate) fn resolve<'s>(&'s self, attempt: Attempt<'s>) -> Asked<'s> {
        match attempt {
            Attempt::Granted { claim, wake } => Asked::Granted { claim, wake, overtook: false },
            Attempt::Pending(pending) => self.move_mark(pending),
            Attempt::Refused => Asked::Refused,
        }
    }

    /// An append overtook the mark: looks again under the lock, does the work itself
    /// if it must, or freezes the mark.
    #[cold]
    fn move_mark(&self, pending: Pending) -> Asked<'_> {
        let mut preparing = lock(&self.preparing);
        if self.slot.recheck(pending).is_none() {
            let preparing = preparing.as_mut().expect("a pending claim keeps its seat in use");
            if !preparing.frozen {
                let target = pending.needs_ready();
                preparing.frozen =
                    preparing.advance(&self.slot, target.next_multiple_of(STEP)).is_err();
            }
        }
        match self.slot.recheck(pending) {
            Some(claim) => Asked::Granted { claim, wake: pending.wakes(), overtook: true },
            None => {
                self.slot.refuse(pending);
                Asked::Refused
            }
        }
    }

    /// Closes the seat and returns where its granted claims end; under the chain
    /// lock, which keeps the seat in its life. Waits for a claimer between two of
    /// its steps at the most.
    pub(crate) fn end(&self) -> Place {
        self.slot.close();
        let mut backoff = Backoff::default();
        let closed_at = loop {
            match self.slot.closed_at() {
                Some(place) => break place,
                None => backoff.wait(),
            }
        };
        if let Some(preparing) = lock(&self.preparing).as_mut() {
            if !preparing.frozen {
                let target = self.slot.ready_to_close_at(closed_at);
                preparing.frozen =
                    preparing.advance(&self.slot, target.next_multiple_of(PAGE)).is_err();
            }
            self.slot.note_end(closed_at);
        }
        loop {
            match self.slot.settled_end() {
                Some(end) => return end,
                None => backoff.wait(),
            }
        }
    }

    /// Moves the mark of the last segment, whose claims have ended, to `target` for a
    /// frame behind them; under the chain lock. `false`: it cannot be moved.
    pub(crate) fn extend(&self, target: u64) -> bool {
        let mut preparing = lock(&self.preparing);
        let Some(preparing) = preparing.as_mut() else { return false };
        target <= preparing.segment.ready()
            || !preparing.frozen
                && preparing.advance(&self.slot, target.next_multiple_of(PAGE)).is_ok()
    }

    fn is_free(&self) -> bool {
        self.is_spent(lock(&self.preparing).as_ref())
    }

    /// Whether every claim of this life is done and published.
    fn is_spent(&self, preparing: Option<&Preparing>) -> bool {
        let Some(preparing) = preparing else { return true };
        self.slot.is_spent()
            && self.slot.settled_end().is_some_and(|end| {
                let map = preparing.region.map();
                preparing.segment.is_published(map, end.offset).unwrap_or(false)
            })
    }
}
