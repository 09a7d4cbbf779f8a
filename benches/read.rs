//! What reading takes: a log of 20,000 records of 256 bytes, 5 MiB in one file below the
//! temporary directory, all of it in memory.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{BenchLog, options, record};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use mapwal::{Lsn, Record, Wal};

const RECORDS: usize = 20_000;
const LEN: usize = 256;

fn main() {
    divan::main();
}

fn filled() -> (BenchLog, Vec<Lsn>) {
    BenchLog::filled(RECORDS, &record(LEN))
}

/// Times `walk`, which returns the bytes of the whole log's records.
fn time_walk(bencher: Bencher, walk: impl Fn(&Wal) -> usize + Sync) {
    let (log, _) = filled();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .counter(BytesCount::new(RECORDS * LEN))
        .bench(|| assert_eq!(walk(&log.wal), RECORDS * LEN));
    log.check(&record(LEN));
}

fn len(record: mapwal::Result<Record<'_>>) -> usize {
    black_box(record.unwrap().data()).len()
}

#[divan::bench]
fn iterate(bencher: Bencher) {
    time_walk(bencher, |wal| wal.reader().iter().map(len).sum());
}

#[divan::bench]
fn iterate_unverified(bencher: Bencher) {
    time_walk(bencher, |wal| wal.reader().iter().unverified().map(len).sum());
}

#[divan::bench]
fn iterate_backwards(bencher: Bencher) {
    time_walk(bencher, |wal| wal.reader().backwards().map(len).sum());
}

/// Places all over the log, none twice in a row.
fn scattered(i: usize) -> usize {
    i * 7919 % RECORDS
}

#[divan::bench(threads = [1, 2], sample_size = 100)]
fn read_by_lsn(bencher: Bencher) {
    let (log, lsns) = filled();
    let next = AtomicUsize::new(0);
    bencher.with_inputs(|| lsns[scattered(next.fetch_add(1, Ordering::Relaxed))]).bench_values(
        |lsn| {
            let record = log.wal.read(lsn).unwrap();
            assert_eq!(record.lsn(), lsn);
            record
        },
    );
    log.check(&record(LEN));
}

#[divan::bench(sample_size = 100)]
fn from_sequence(bencher: Bencher) {
    let (log, lsns) = filled();
    let mut next = 0;
    bencher
        .with_inputs(|| {
            next += 1;
            scattered(next)
        })
        .bench_local_values(|i| {
            let reader = log.wal.reader();
            let record = reader.from_sequence(i as u64 + 1).next().unwrap().unwrap();
            assert_eq!(record.lsn(), lsns[i]);
        });
    log.check(&record(LEN));
}

/// Every record is verified. The log is closed again where nothing is timed.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn open(bencher: Bencher) {
    let directory = filled().0.close();
    bencher.bench_local(|| options().open(&directory).unwrap());
    let wal = options().open(&directory).unwrap();
    assert!(wal.reader().iter().map(|record| record.unwrap().data().len()).eq([LEN; RECORDS]));
}
