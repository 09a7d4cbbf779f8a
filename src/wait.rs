//! Sleeping until the next record: what a live tail waits on.

use std::time::Duration;

use crate::map::Slot;
use crate::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, lock};

/// Those who sleep until something is published, or becomes durable.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    lock: Mutex<()>,
    woken: Condvar,
    /// How many of them wait for the durable mark.
    for_durable: AtomicUsize,
}

impl Waiters {
    /// The lock under which a sleeper looks for the last time and falls asleep.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.lock)
    }

    /// Sleeps until woken, or for `at_most`.
    pub(crate) fn sleep(&self, guard: MutexGuard<'_, ()>, at_most: Duration) {
        drop(self.woken.wait_timeout(guard, at_most));
    }

    /// Sleeps until the durable mark moves, or for `at_most`, unless `moved` says
    /// that it has.
    pub(crate) fn sleep_for_durable(&self, at_most: Duration, moved: impl Fn() -> bool) {
        let guard = self.lock();
        // SeqCst pairs with the one in `durable_moved`: either that sees this
        // sleeper, or this one sees the mark that was moved before.
        self.for_durable.fetch_add(1, Ordering::SeqCst);
        if !moved() {
            self.sleep(guard, at_most);
        }
        self.for_durable.fetch_sub(1, Ordering::SeqCst); // as above
    }

    /// A frame was published by an append that saw a sleeper's call in `slot`.
    #[cold]
    pub(crate) fn published(&self, slot: &Slot) {
        let _guard = self.lock();
        slot.called();
        self.woken.notify_all();
    }

    /// The durable mark has moved.
    pub(crate) fn durable_moved(&self) {
        // SeqCst: see `sleep_for_durable`. As a read-modify-write it also orders the
        // move of the mark before it.
        if self.for_durable.fetch_add(0, Ordering::SeqCst) > 0 {
            self.wake_all();
        }
    }

    /// Something else is to be looked at: a roll, a cut, a failure, the end.
    pub(crate) fn wake_all(&self) {
        let _guard = self.lock();
        self.woken.notify_all();
    }
}
