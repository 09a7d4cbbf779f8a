//! What appending takes, per call, in files below the temporary directory: the median is
//! that of prepared space, the slowest sample that of a roll. Between the samples, where
//! nothing is timed, the log rests, and what earlier samples left is given up.

mod common;

use common::{BenchLog, record};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use mapwal::Wal;

fn main() {
    divan::main();
}

/// Times `append`, which adds `records` records that are all `record`.
fn time(bencher: Bencher, record: &[u8], records: u64, append: impl Fn(&Wal) + Sync) {
    let log = BenchLog::new();
    append(&log.wal);
    log.count(records);
    bencher
        .counter(BytesCount::new(record.len() * records as usize))
        .counter(ItemsCount::new(records))
        .with_inputs(|| {
            log.make_room();
            log.count(records);
        })
        .bench_values(|()| append(&log.wal));
    log.check(record);
}

#[divan::bench(
    args = [16, 64, 256, 1024, 4096],
    threads = [1, 2, 4],
    sample_count = 50,
    sample_size = 500
)]
fn append(bencher: Bencher, len: usize) {
    let record = record(len);
    time(bencher, &record, 1, |wal| {
        wal.append(&record).unwrap();
    });
}

#[divan::bench(args = [64, 256, 4096], sample_count = 50, sample_size = 500)]
fn append_with(bencher: Bencher, len: usize) {
    let record = record(len);
    time(bencher, &record, 1, |wal| {
        wal.append_with(len, |bytes| bytes.copy_from_slice(&record)).unwrap();
    });
}

#[divan::bench(args = [2, 8, 64], sample_count = 50, sample_size = 50)]
fn append_batch_of_256_bytes(bencher: Bencher, records: usize) {
    let record = record(256);
    let batch = vec![record.as_slice(); records];
    time(bencher, &record, records as u64, |wal| {
        wal.append_batch(&batch).unwrap();
    });
}
