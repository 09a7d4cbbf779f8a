//! Every log gives back what it was given: each thread's records, whole and in the
//! thread's order. So does every floor, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::log::{Log, Shape};
use crate::logs::seglog::Seglog;

/// Small, so that every log rolls.
const SHAPE: Shape = Shape { segment: 1 << 20, record: 64 * 1024 };
/// What the tests write to a floor fits in one: it has no other. Records fit in a block.
const FLOOR: Shape = Shape { segment: 16 << 20, record: 2048 };

/// Fewer, for logs that flush every append.
const FEW: u64 = 200;
const MANY: u64 = 10_000;

macro_rules! logs {
    ($($name:ident: $log:ty, $appends:expr;)*) => {$(
        mod $name {
            use super::*;

            gives_back!($log, SHAPE, $appends);

            #[test]
            fn a_log_opened_again_goes_on() {
                goes_on::<$log>();
            }

            #[test]
            fn the_end_outlives_a_truncation() {
                truncation_keeps_the_end::<$log>($appends);
            }
        }
    )*};
}

macro_rules! floors {
    ($($name:ident: $floor:ty, $appends:expr;)*) => {$(
        mod $name {
            use super::*;

            gives_back!($floor, FLOOR, $appends);
        }
    )*};
}

macro_rules! gives_back {
    ($log:ty, $shape:expr, $appends:expr) => {
        #[test]
        fn one_thread_reads_back_its_appends() {
            one_thread_reads_back::<$log>($shape, $appends);
        }

        #[test]
        fn four_threads_read_back_their_appends() {
            threads_read_back::<$log>($shape, 4, $appends, |log, record| log.append(record));
        }

        #[test]
        fn eight_threads_read_back_their_commits() {
            threads_read_back::<$log>($shape, 8, FEW, |log, record| log.commit(record));
        }

        #[test]
        fn commits_and_appends_mix() {
            threads_read_back::<$log>($shape, 4, FEW, |log, record| match record[0] % 3 {
                0 => log.commit(record),
                1 => log.append(record),
                _ => {
                    log.append(record);
                    log.sync();
                }
            });
        }
    };
}

logs! {
    mapwal: crate::logs::mapwal::Mapwal, MANY;
    mapwal_fast_crc: crate::logs::mapwal::MapwalFastCrc, MANY;
    wal_db: crate::logs::wal_db::WalDb, MANY;
    wal_db_segmented: crate::logs::wal_db::WalDbSegmented, MANY;
    walogs: crate::logs::walogs::Walogs, FEW;
    okaywal: crate::logs::okaywal::Okaywal, MANY;
    seglog: crate::logs::seglog::Seglog, MANY;
    walrus: crate::logs::walrus::Walrus, MANY;
    walrus_sync_each: crate::logs::walrus::WalrusSyncEach, FEW;
    raft_engine: crate::logs::raft_engine::RaftEngine, MANY;
}

floors! {
    copy: crate::logs::floors::Copy, MANY;
    copy_fetching: crate::logs::floors::CopyFetching, MANY;
    device: crate::logs::floors::Device, MANY;
    device_direct: crate::logs::floors::DeviceDirect, FEW;
}

#[test]
fn a_full_segment_of_seglog_is_committed_once() {
    const LEN: usize = (1 << 16) - 8 - 17 - 16; // behind head and marker no other marker fits
    let dir = Dir::new();
    let shape = Shape { segment: 1 << 16, record: LEN };
    let log = Seglog::open(&dir.0, shape);
    let records = [vec![1; LEN], vec![2; LEN]];
    records.iter().for_each(|record| log.commit(record));
    log.close();
    let mut found = Vec::new();
    Seglog::replay(&dir.0, shape, &mut |record| found.push(record.to_vec()));
    assert_eq!(found, records);
}

#[test]
fn seglog_gives_up_the_files_before_its_last_record() {
    let dir = Dir::new();
    let mut from = 0;
    for reopened in 1..=2 {
        let log = Seglog::open(&dir.0, SHAPE);
        for number in from..from + MANY {
            log.append(&record(SHAPE, 0, number)); // nobody commits: the full files wait for it
        }
        from += MANY;
        assert!(fs::read_dir(&dir.0).unwrap().count() > 5);
        assert!(log.truncate());
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
        log.close();
        let left = &read_back::<Seglog>(&dir.0, SHAPE, 1)[0];
        assert!(left.start > from - MANY, "after {reopened}: {left:?}");
        assert_eq!(left.end, from);
    }
}

fn one_thread_reads_back<L: Log>(shape: Shape, appends: u64) {
    let dir = Dir::new();
    let mut log = L::open(&dir.0, shape);
    for number in 0..appends {
        log.append_alone(&record(shape, 0, number));
    }
    log.sync();
    log.close();
    assert_eq!(read_back::<L>(&dir.0, shape, 1)[0], 0..appends);
    assert_eq!(read_back::<L>(&dir.0, shape, 1)[0], 0..appends, "a second time");
}

fn threads_read_back<L: Log>(shape: Shape, threads: u64, appends: u64, append: fn(&L, &[u8])) {
    let dir = Dir::new();
    let log = L::open(&dir.0, shape);
    thread::scope(|scope| {
        for thread in 0..threads {
            let log = &log;
            scope.spawn(move || {
                for number in 0..appends {
                    append(log, &record(shape, thread, number));
                }
            });
        }
    });
    log.sync();
    log.close();
    let all = vec![0..appends; threads as usize];
    assert_eq!(read_back::<L>(&dir.0, shape, threads), all);
}

fn goes_on<L: Log>() {
    let dir = Dir::new();
    for half in 0..2 {
        let log = L::open(&dir.0, SHAPE);
        for number in half * FEW..(half + 1) * FEW {
            log.append(&record(SHAPE, 0, number));
        }
        log.sync();
        log.close();
    }
    assert_eq!(read_back::<L>(&dir.0, SHAPE, 1)[0], 0..2 * FEW);
}

fn truncation_keeps_the_end<L: Log>(appends: u64) {
    let dir = Dir::new();
    let log = L::open(&dir.0, SHAPE);
    for number in 0..appends {
        log.append(&record(SHAPE, 0, number));
        if number % (appends / 100) == 0 {
            log.sync();
        }
    }
    log.sync();
    let truncates = log.truncate();
    log.append(&record(SHAPE, 0, appends));
    log.sync();
    log.close();
    let left = &read_back::<L>(&dir.0, SHAPE, 1)[0];
    assert_eq!(left.end, appends + 1);
    assert!(left.start < appends, "the last one when it was truncated");
    assert!(truncates || left.start == 0);
}

/// Which records of each thread a replay shows.
fn read_back<L: Log>(dir: &Path, shape: Shape, threads: u64) -> Vec<std::ops::Range<u64>> {
    let mut seen = vec![None; threads as usize];
    let replayed = L::replay(dir, shape, &mut |bytes| {
        let (thread, number) = (word(bytes, 0), word(bytes, 8));
        assert_eq!(bytes, record(shape, thread, number), "record {number} of thread {thread}");
        let range = seen[thread as usize].get_or_insert(number..number);
        assert_eq!(range.end, number, "thread {thread}");
        range.end += 1;
    });
    assert!(replayed);
    seen.into_iter().map(|range| range.unwrap_or(0..0)).collect()
}

/// 64 bytes to 64 KiB, or as long as the shape lets it be, mostly short, and all of it tells
/// whose it is.
fn record(shape: Shape, thread: u64, number: u64) -> Vec<u8> {
    let mixed = (thread << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let len = match number % 100 {
        99 => 64 * 1024,
        98 => 1024 + mixed as usize % 16_384,
        _ => 64 + mixed as usize % 448,
    };
    let mut bytes = vec![mixed as u8; len.min(shape.record)];
    bytes[..8].copy_from_slice(&thread.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A directory of a test's own, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("peers-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
