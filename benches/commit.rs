//! What durability takes, in files below the temporary directory: mostly the disk's time.

mod common;

use common::{BenchLog, record};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

#[divan::bench(
    args = [64, 256, 4096],
    threads = [1, 2, 4, 16],
    sample_count = 64,
    sample_size = 4
)]
fn commit(bencher: Bencher, len: usize) {
    let (log, record) = (BenchLog::new(), record(len));
    bencher
        .with_inputs(|| {
            log.make_room();
            log.count(1);
        })
        .bench_values(|()| log.wal.commit(&record).unwrap());
    assert_eq!(log.wal.durable_lsn(), log.wal.next_lsn());
    log.check(&record);
}

/// So many appends, and a sync for all of them.
#[divan::bench(args = [1, 100, 10_000], sample_count = 32, sample_size = 1)]
fn sync_behind_appends_of_256_bytes(bencher: Bencher, appends: u64) {
    let (log, record) = (BenchLog::new(), record(256));
    bencher
        .with_inputs(|| {
            log.make_room();
            for _ in 0..appends {
                log.wal.append(&record).unwrap();
            }
            log.count(appends);
        })
        .bench_values(|()| log.wal.sync().unwrap());
    assert_eq!(log.wal.durable_lsn(), log.wal.next_lsn());
    log.check(&record);
}

#[divan::bench]
fn sync_with_nothing_to_do(bencher: Bencher) {
    let record = record(256);
    let (log, _) = BenchLog::filled(1000, &record);
    let flushes = log.wal.stats().flushes;
    bencher.bench(|| log.wal.sync().unwrap());
    assert_eq!(log.wal.stats().flushes, flushes);
    log.check(&record);
}

#[divan::bench]
fn durable_lsn(bencher: Bencher) {
    let (log, _) = BenchLog::filled(1000, &record(256));
    bencher.bench(|| black_box(&log.wal).durable_lsn());
    assert_eq!(log.wal.durable_lsn(), log.wal.next_lsn());
}
