//! The atomics and locks that cross threads: `std`'s, or under loom its models.

use std::time::{Duration, Instant};

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, TryLockError,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(loom)]
pub(crate) use std::sync::Arc; // loom's makes no `Arc<dyn Region>`

/// Locks, whatever a panicking holder left: every critical section of this
/// crate leaves its data consistent at each step, and a panic inside becomes
/// the log's sticky error.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The same if nobody holds it.
#[cfg(not(loom))]
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(not(loom))]
pub(crate) use std::thread::yield_now;

#[cfg(loom)]
pub(crate) use loom::thread::yield_now;

/// Whether so much time has passed; a model knows none.
pub(crate) fn has_passed(since: Instant, time: Duration) -> bool {
    cfg!(loom) || since.elapsed() > time
}

/// Whether this thread unwinds.
#[cfg(not(loom))]
pub(crate) fn panicking() -> bool {
    std::thread::panicking()
}

/// As above: all threads of a model are one to `std`, so a model says it itself.
#[cfg(loom)]
pub(crate) fn panicking() -> bool {
    PANICKING.with(|panicking| panicking.get())
}

#[cfg(loom)]
loom::thread_local! {
    pub(crate) static PANICKING: std::cell::Cell<bool> = std::cell::Cell::new(false);
}

/// How a thread waits for one that is about to finish: spins, then yields,
/// then sleeps for ever longer, at most a millisecond at a time.
#[derive(Default)]
pub(crate) struct Backoff {
    round: u32,
}

impl Backoff {
    #[cfg(not(loom))]
    pub(crate) fn wait(&mut self) {
        match self.round {
            0..=5 => (0..1 << self.round).for_each(|_| std::hint::spin_loop()),
            6..=15 => std::thread::yield_now(),
            slow => {
                let us = 10u64 << (slow - 16).min(7);
                std::thread::sleep(std::time::Duration::from_micros(us.min(1000)));
            }
        }
        self.round = self.round.saturating_add(1);
    }

    #[cfg(loom)]
    pub(crate) fn wait(&mut self) {
        self.round += 1;
        loom::thread::yield_now();
    }
}
