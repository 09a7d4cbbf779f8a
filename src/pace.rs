//! How fast a log grows, and what follows from it for what is prepared ahead.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How far ahead of the tail the background thread works, at the least and at the
/// most, in bytes.
pub(crate) const WINDOW: RangeInclusive<u64> = (128 << 10)..=(16 << 20);

/// How long a log is open before it is taken for one that will be written, if it is empty
/// and if it is not: who opens one only to look has closed it by then, and who reads it
/// first needs the memory's bandwidth.
const EMPTY_STAYS_OPEN: Duration = Duration::from_millis(5);
const STAYS_OPEN: Duration = Duration::from_millis(50);

/// How long after opening the mappings that recovery made are kept.
const READS_ON_OPENING: Duration = Duration::from_secs(1);

/// Bytes a second from which on a log fills its files too fast for their zeros to be
/// flushed first: the device would have to take everything twice.
const HURRY: u64 = 32 << 20;

/// Bytes a second from which on pages are only made just ahead of the tail: to have all of
/// a file present would keep those waiting who need the file.
const RACE: u64 = 256 << 20;

/// How fast the log grows.
#[derive(Debug)]
pub(crate) struct Pace {
    opened: Instant,
    stays_open: Duration,
    /// Where the tail was then, as an LSN.
    first: u64,
    /// Where it was last seen.
    tail: u64,
    /// When the present second began, and where the tail was.
    second: (Instant, u64),
    /// Bytes, in the second before.
    last_second: u64,
}

impl Pace {
    pub(crate) fn new(tail: u64, is_empty: bool) -> Self {
        let now = Instant::now();
        let stays_open = if is_empty { EMPTY_STAYS_OPEN } else { STAYS_OPEN };
        Pace { opened: now, stays_open, first: tail, tail, second: (now, tail), last_second: 0 }
    }

    /// Takes in where the tail is now, and says how far ahead of it to work: by what comes
    /// in four looks, since some come late, and in as many seconds. What is made ready much
    /// earlier is written back and protected again before it is used. `None`: the log may
    /// have been opened only to be looked at.
    pub(crate) fn window(&mut self, tail: u64, now: Instant) -> Option<u64> {
        let gained = tail.saturating_sub(self.tail);
        self.tail = tail;
        let second = now.duration_since(self.second.0);
        if second >= Duration::from_secs(1) {
            let bytes = tail.saturating_sub(self.second.1) as f64;
            self.last_second = (bytes / second.as_secs_f64()) as u64;
            self.second = (now, tail);
        }
        if tail == self.first {
            let stays = now.duration_since(self.opened) >= self.stays_open;
            return stays.then_some(*WINDOW.end()); // a burst may come
        }
        Some((4 * gained.max(self.rate())).clamp(*WINDOW.start(), *WINDOW.end()))
    }

    /// Whether the log has been open for some time.
    pub(crate) fn is_past_opening(&self) -> bool {
        self.opened.elapsed() >= READS_ON_OPENING
    }

    /// Bytes a second.
    fn rate(&self) -> u64 {
        self.last_second.max(self.tail.saturating_sub(self.second.1))
    }

    /// Whether files are filled too fast for their zeros to be flushed first.
    pub(crate) fn hurries(&self) -> bool {
        self.rate() >= HURRY
    }

    /// Whether they are filled too fast to be made present first.
    pub(crate) fn races(&self) -> bool {
        self.rate() >= RACE
    }
}
