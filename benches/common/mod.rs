//! What the benches need: a log in real files that goes away, and the check of what it
//! holds.
#![allow(dead_code, unreachable_pub)] // every bench uses a part of it

#[path = "../../tests/common/mod.rs"]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mapwal::{Lsn, Options, Wal};
use tests::TempDir;

const SEGMENT: u64 = 16 << 20;

/// What is kept of a log that is appended to: with its spares, about 100 MiB of disk.
const KEPT: u64 = 2 * SEGMENT;

/// A log below the temporary directory, and how many records were appended to it.
pub struct BenchLog {
    pub wal: Wal, // closed before the directory goes
    appended: AtomicU64,
    /// The tail when it was last waited.
    rested_at: AtomicU64,
    directory: TempDir,
}

impl BenchLog {
    pub fn new() -> Self {
        let directory = TempDir::new();
        let wal = options().open(&directory).unwrap();
        BenchLog { wal, appended: AtomicU64::new(0), rested_at: AtomicU64::new(0), directory }
    }

    /// A log of `count` records, durable, and where they are.
    pub fn filled(count: usize, record: &[u8]) -> (Self, Vec<Lsn>) {
        let log = Self::new();
        let lsns = (0..count).map(|_| log.wal.append(record).unwrap()).collect();
        log.count(count as u64);
        log.wal.sync().unwrap();
        (log, lsns)
    }

    /// Notes that so many records were appended.
    pub fn count(&self, records: u64) {
        self.appended.fetch_add(records, Ordering::Relaxed); // read when the threads have ended
    }

    /// Before an append, and not timed: gives up what earlier samples left, once it is too
    /// much, and lets the background thread prepare for the next one, as it can where
    /// appends come less densely.
    pub fn make_room(&self) {
        let next = self.wal.next_lsn();
        // Relaxed: a number that tells the first call of a sample from the others
        if self.rested_at.swap(next.as_u64(), Ordering::Relaxed) == next.as_u64() {
            return;
        }
        if next.as_u64() - self.wal.head_lsn().as_u64() > KEPT {
            self.wal.truncate_before(next).unwrap();
        }
        self.rest();
    }

    /// Until the background thread makes no more files, and has worked ahead of the tail: it
    /// looks every millisecond.
    fn rest(&self) {
        let files = || {
            let stats = self.wal.stats();
            (stats.made, stats.recycled)
        };
        loop {
            let before = files();
            thread::sleep(Duration::from_millis(20));
            if files() == before {
                return;
            }
        }
    }

    /// The log's last record is `record`, and has the number of all that were appended;
    /// every one that was not given up is intact.
    pub fn check(self, record: &[u8]) {
        let reader = self.wal.reader();
        let last = reader.backwards().next().expect("a record is left").unwrap();
        assert_eq!((last.sequence(), last.data()), (self.appended.into_inner(), record));
        for kept in reader.iter() {
            assert_eq!(kept.unwrap().data(), record);
        }
    }

    /// Closes the log, and returns its directory.
    pub fn close(self) -> TempDir {
        self.wal.close().unwrap();
        self.directory
    }
}

/// How all logs here are opened.
pub fn options() -> Options {
    Options::new().segment_size(SEGMENT)
}

pub fn record(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}
