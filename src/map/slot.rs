//! A slot: where claims in the active segment are granted. Slots live as long
//! as the log and serve one segment after the other.
//!
//! # Why a claim may use the map
//!
//! A claimer adds to `tail` first and reads everything else afterwards. If what
//! it added to was not `CLOSED`, its claim belongs to the life that the slot is
//! in, and the slot stays in it until this claim is done: `is_spent` is true
//! only when every granted claim of the life is published (the caller has walked
//! to the end) and every other one has been counted off in `refused`, which is
//! the last thing that a refused claimer does. If it was `CLOSED`, the claimer
//! reads nothing. So a granted claim *pins* its map, without a count.
//!
//! # Where a life ends
//!
//! Claims are contiguous, so the granted ones are a prefix. They end at the
//! segment's `limit`, or below the ready mark if that could not be moved on
//! (then it is *frozen*), or where the slot was closed. Of the claims that are
//! not granted exactly one begins at or below such an end and reaches beyond it:
//! it notes the end as its very next step. If there is none, who closes does.

use std::fmt;

use super::{Claim, Map};
use crate::format::{ORDINAL_MASK, RESERVE};
use crate::scan::Place;
use crate::sync::{Arc, AtomicPtr, AtomicU32, AtomicU64, Mutex, Ordering, lock};
use crate::tail::{ADDED_BLINDLY, CLOSED, Tail, WAITER};

/// Nothing noted: above every tail.
const NONE: u64 = u64::MAX;

#[repr(align(128))] // the tail has a cache line pair of its own: all writers add to it
struct Alone<T>(T);

/// See the module.
pub(crate) struct Slot {
    tail: Alone<AtomicU64>,
    /// Claims end at or below this offset: the segment's size less the reserve.
    limit: u64,
    map: AtomicPtr<Map>,
    /// Keeps what `map` points to until the next life begins.
    held: Mutex<Option<Arc<Map>>>,
    base: AtomicU64,
    seed: AtomicU32,
    /// Claims end at least the reserve below this offset: up to it, the pages are
    /// present and zero. Moves under the slot's preparing lock.
    ready: AtomicU64,
    /// The tail when it was closed, or `NONE`.
    closing: AtomicU64,
    /// The end of the granted claims as a tail, or `NONE`; only ever lowered.
    end: AtomicU64,
    /// Claims that were not granted and whose claimers are done with the slot.
    refused: AtomicU32,
}

/// What came of trying to claim.
pub(crate) enum Attempt<'s> {
    /// The bytes are the caller's; `wake`: someone sleeps until they are published.
    Granted { claim: Claim<'s>, wake: bool },
    /// The claim lies beyond the ready mark: the caller takes the preparing lock,
    /// and moves the mark (then [`Slot::recheck`]) or freezes it
    /// (then [`Slot::refuse`]).
    Pending(Pending),
    /// Nothing was written, nothing counts, and the slot is closed. The caller does
    /// not try again before another one is active.
    Refused,
}

/// A claim whose grant hangs on the ready mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    start: Place,
    end: u64,
    count: u32,
    wake: bool,
}

impl Pending {
    /// Whether someone sleeps until it is published.
    pub(crate) fn wakes(&self) -> bool {
        self.wake
    }

    /// Where the ready mark must be for this claim to be granted.
    pub(crate) fn needs_ready(&self) -> u64 {
        self.end + RESERVE
    }
}

impl Slot {
    /// A slot for segments whose claims end at `limit`; closed until its first
    /// [`reset`](Self::reset).
    pub(crate) fn new(limit: u64) -> Self {
        Slot {
            tail: Alone(AtomicU64::new(CLOSED)),
            limit,
            map: AtomicPtr::new(std::ptr::null_mut()),
            held: Mutex::new(None),
            base: AtomicU64::new(0),
            seed: AtomicU32::new(0),
            ready: AtomicU64::new(RESERVE), // an empty life that is spent
            closing: AtomicU64::new(0),
            end: AtomicU64::new(0),
            refused: AtomicU32::new(0),
        }
    }

    /// Begins a new life: claims go to `map` from `place` on. The slot is spent,
    /// the caller has walked to the end of its last life, and nobody else writes
    /// `map` behind `place`.
    pub(crate) fn reset(&self, map: &Arc<Map>, base: u64, seed: u32, ready: u64, place: Place) {
        assert!(self.is_spent(), "a slot begins a new life when the last is spent");
        *lock(&self.held) = Some(map.clone());
        // Relaxed: the Release store of the tail below makes them visible to all
        // whose claim it grants.
        self.map.store(Arc::as_ptr(map).cast_mut(), Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
        self.seed.store(seed, Ordering::Relaxed);
        self.ready.store(ready, Ordering::Relaxed);
        // as above, the swap of the tail is their pair
        self.closing.store(NONE, Ordering::Relaxed);
        self.end.store(NONE, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `attempt`. A store would do: whatever a late
        // claimer adds to the closed tail comes before it; but loom knows that of a swap
        // alone.
        self.tail.0.swap(Tail::at(place).0, Ordering::Release);
    }

    /// Begins a life that grants nothing and ends at `place`; as [`reset`](Self::reset),
    /// but the tail stays closed, so that no late claimer reads anything.
    pub(crate) fn reset_ended(&self, place: Place) {
        assert!(self.is_spent(), "a slot begins a new life when the last is spent");
        *lock(&self.held) = None;
        let place = Tail::at(place).0;
        // Relaxed, all: read by holders of the chain lock alone, as the caller is one.
        // The mark is beyond any end: there is nothing that it could stop.
        self.ready.store(u64::MAX, Ordering::Relaxed);
        self.closing.store(place, Ordering::Relaxed);
        self.end.store(place, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
    }

    /// Claims `size` bytes for `count` records: one atomic addition.
    #[inline]
    pub(crate) fn attempt(&self, size: u64, count: u32) -> Attempt<'_> {
        if size > ADDED_BLINDLY {
            return self.attempt_looking(size, count, true);
        }
        // Acquire pairs with the Release in `reset`: to add to a life is to see its
        // map, base, seed and mark.
        let before = Tail(self.tail.0.fetch_add(Tail::step(size, count), Ordering::Acquire));
        self.granted_after(before, size, count)
    }

    /// Like [`attempt`](Self::attempt), but looks before it adds. A claim that does
    /// not fit closes the slot if `ends` says so, and leaves it alone otherwise.
    pub(crate) fn attempt_looking(&self, size: u64, count: u32, ends: bool) -> Attempt<'_> {
        let mut fits = false;
        // Acquire, both: as in `attempt`.
        let before = self.tail.0.fetch_update(Ordering::Acquire, Ordering::Acquire, |now| {
            let now = Tail(now);
            fits = !now.is_closed() && now.place().offset + size <= self.limit;
            if fits {
                Some(now.0 + Tail::step(size, count))
            } else {
                (ends && !now.is_closed()).then_some(now.0 | CLOSED)
            }
        });
        match before {
            Ok(before) if fits => self.granted_after(Tail(before), size, count),
            Ok(before) => {
                self.note_closing(Tail(before));
                Attempt::Refused
            }
            Err(_) => Attempt::Refused,
        }
    }

    /// What became of a claim that was added to the tail when it was `before`.
    #[inline]
    fn granted_after(&self, before: Tail, size: u64, count: u32) -> Attempt<'_> {
        if before.is_closed() {
            return Attempt::Refused;
        }
        let start = before.place();
        let pending = Pending { start, end: start.offset + size, count, wake: before.has_waiter() };
        if pending.end > self.limit {
            self.refuse_beyond(pending, self.limit);
            return Attempt::Refused;
        }
        match self.recheck(pending) {
            Some(claim) => Attempt::Granted { claim, wake: pending.wake },
            None => Attempt::Pending(pending),
        }
    }

    /// The claim, if the ready mark is far enough by now.
    #[inline]
    pub(crate) fn recheck(&self, pending: Pending) -> Option<Claim<'_>> {
        // Acquire pairs with the Release in `set_ready`: below the mark, the bytes
        // are present and zero.
        if pending.needs_ready() > self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: pinned: the claim is granted, so the slot stays in this life, and
        // its map is held, until the claim is published (see the module).
        // Relaxed: the Acquire of `attempt` saw the `reset` of this life.
        let map = unsafe { &*self.map.load(Ordering::Relaxed) };
        let Pending { start, end, .. } = pending;
        // Relaxed, both: as above.
        let (base, seed) = (self.base.load(Ordering::Relaxed), self.seed.load(Ordering::Relaxed));
        Some(Claim::new(map, start.offset..end, start.ordinal, base, seed))
    }

    /// Gives a pending claim up, under the preparing lock and with the mark frozen.
    pub(crate) fn refuse(&self, pending: Pending) {
        // Relaxed: the mark moves under the lock that the caller holds.
        let mark = self.ready.load(Ordering::Relaxed);
        self.refuse_beyond(pending, mark - RESERVE);
    }

    fn refuse_beyond(&self, pending: Pending, end: u64) {
        self.close(); // before the claim is counted off: this life cannot end yet
        if pending.start.offset <= end {
            // Release pairs with the Acquire in `settled_end`. The lowest counts: a
            // claim may cross the limit behind one that crosses a frozen mark.
            self.end.fetch_min(Tail::at(pending.start).0, Ordering::Release);
        }
        // Release pairs with the Acquire in `is_spent`: the last use of this life.
        self.refused.fetch_add(pending.count, Ordering::Release);
    }

    /// Ends the life: nothing is granted that is claimed from now on. May be
    /// called by anyone, any number of times.
    pub(crate) fn close(&self) {
        // Acquire pairs with the Release in `reset`, so that `closing` is this life's.
        let before = Tail(self.tail.0.fetch_or(CLOSED, Ordering::Acquire));
        if !before.is_closed() {
            self.note_closing(before);
        }
    }

    fn note_closing(&self, before: Tail) {
        // Release pairs with the Acquire in `closed_at`.
        self.closing.store(before.bare(), Ordering::Release);
    }

    /// Where the tail was when the slot was closed; `None` for the moment between
    /// the two steps of closing, and before.
    pub(crate) fn closed_at(&self) -> Option<Place> {
        // Acquire pairs with the Release in `note_closing`.
        let closing = self.closing.load(Ordering::Acquire);
        (closing != NONE).then(|| Tail(closing).place())
    }

    /// The offset that the ready mark must reach for all claims that fit to be
    /// granted, once the slot is closed at `place`.
    pub(crate) fn ready_to_close_at(&self, place: Place) -> u64 {
        place.offset.min(self.limit) + RESERVE
    }

    /// Notes the end if no claim crosses it; under the preparing lock, with the
    /// slot closed at `place` and the mark moved as far as it goes.
    pub(crate) fn note_end(&self, place: Place) {
        if self.ready_to_close_at(place) == place.offset + RESERVE
            && place.offset + RESERVE <= self.ready()
        {
            // Release pairs with the Acquire in `settled_end`.
            self.end.fetch_min(Tail::at(place).0, Ordering::Release);
        }
    }

    /// The end of the granted claims, once the slot is closed, the mark is moved as
    /// far as it goes, and the claim that crosses the end has noted it.
    pub(crate) fn settled_end(&self) -> Option<Place> {
        // Acquire pairs with the Release of those who note it.
        let end = Tail(self.end.load(Ordering::Acquire)).place();
        (end.offset + RESERVE <= self.ready()).then_some(end)
    }

    /// Lets the map of a spent life go; the caller has walked to its end.
    pub(crate) fn release(&self) {
        assert!(self.is_spent(), "only a spent slot lets its map go");
        *lock(&self.held) = None;
    }

    /// Whether all claims of this life are done, given that those below its settled
    /// end are published.
    pub(crate) fn is_spent(&self) -> bool {
        let (Some(closing), Some(end)) = (self.closed_at(), self.settled_end()) else {
            return false;
        };
        // Acquire pairs with the Release in `refuse_beyond`.
        let refused = self.refused.load(Ordering::Acquire);
        closing.ordinal.wrapping_sub(end.ordinal).wrapping_sub(refused) & ORDINAL_MASK == 0
    }

    /// How far the pages are present and zero.
    pub(crate) fn ready(&self) -> u64 {
        // Acquire pairs with the Release in `set_ready`.
        self.ready.load(Ordering::Acquire)
    }

    /// Moves the ready mark; under the preparing lock.
    pub(crate) fn set_ready(&self, ready: u64) {
        // Release pairs with the Acquire in `recheck`: below the mark, the bytes are
        // present and zero.
        self.ready.store(ready, Ordering::Release);
    }

    /// Claims end at or below this offset.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The tail as it is now.
    pub(crate) fn tail(&self) -> Tail {
        // Acquire: as in `attempt`.
        Tail(self.tail.0.load(Ordering::Acquire))
    }

    /// Asks the next claimer to wake the caller, who holds the waiters' lock.
    /// Returns the tail at that moment: if it is not the caller's own place, there
    /// are claims in flight that have not seen this.
    pub(crate) fn call_me(&self) -> Tail {
        // Relaxed: only the bit crosses; the lock orders the rest.
        Tail(self.tail.0.fetch_or(WAITER, Ordering::Relaxed))
    }

    /// Takes back [`call_me`](Self::call_me); under the waiters' lock.
    pub(crate) fn called(&self) {
        // Relaxed: as above.
        self.tail.0.fetch_and(!WAITER, Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("tail", &self.tail()).field("ready", &self.ready()).finish()
    }
}
