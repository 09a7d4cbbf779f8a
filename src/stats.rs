//! What the log has done, counted. Relaxed throughout: numbers for people.

use crate::sync::{AtomicU64, Ordering};

/// What the log has done since it was opened, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Appends that came to the end of what was made ready ahead of them, and made more
    /// ready themselves: 64 KiB each time, in some microseconds.
    pub overtaken: u64,
    /// Times that the log went on to another segment, the first of a new log included.
    pub rolls: u64,
    /// Ranges flushed.
    pub flushes: u64,
    /// Spare segments made of new files.
    pub made: u64,
    /// Spare segments made of retired ones.
    pub recycled: u64,
    /// Bytes of all the log's files.
    pub size: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) overtaken: AtomicU64,
    pub(crate) rolls: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) made: AtomicU64,
}

impl Counters {
    /// As they are now, of a log whose files have `size` bytes.
    pub(crate) fn stats(&self, size: u64) -> Stats {
        // Relaxed: pairs with nothing, each is a number by itself
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            overtaken: number(&self.overtaken),
            rolls: number(&self.rolls),
            flushes: number(&self.flushes),
            made: number(&self.made),
            recycled: number(&self.recycled),
            size,
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed); // as in `stats`
}
