//! One hot road of the log, walked a known number of times inside [`measured`]:
//! `ci/instructions.sh` counts the instructions in there, and nowhere else.
//!
//! `instructions` alone names the roads; `instructions ROAD` walks one, checks what
//! came of it, and prints how often it was walked.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use mapwal::{Lsn, Options, Reader, Result, Wal};

/// The smallest segment: one append that overtakes its ready mark prepares all of it.
const SEGMENT: u64 = 64 << 10;

/// Bytes of frames that fit behind what [`Ready::new`] has put there.
const ROOM: usize = 44 << 10;

const FRAME_HEADER: usize = 16;

type Road = fn() -> Result<usize>;

const ROADS: [(&str, Road); 10] = [
    ("append-64", || append(64)),
    ("append-256", || append(256)),
    ("append-1024", || append(1024)),
    ("append-4096", || append(4096)),
    ("append_batch-8x256", append_batch),
    ("commit-256", commit),
    ("iterate-256", || iterate(true)),
    ("iterate-256-unverified", || iterate(false)),
    ("read-256", read),
    ("durable_lsn", durable_lsn),
];

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        ROADS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, road)) = ROADS.iter().find(|(road, _)| *road == name) else {
        eprintln!("no road is called {name}");
        return ExitCode::FAILURE;
    };
    match road() {
        Ok(times) => println!("{times}"),
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What is counted: by this thread, from here to the return. Its name is what the
/// script tells callgrind.
#[inline(never)]
fn measured(walk: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    walk()
}

/// A log in memory with one prepared segment, and a background thread that sleeps.
struct Ready {
    wal: Wal,
    rolls: u64,
    overtaken: u64,
}

impl Ready {
    fn new() -> Result<Self> {
        let wal = Options::new().segment_size(SEGMENT).in_memory()?;
        for _ in 0..9 {
            wal.append(&[0; 1000])?; // overtakes the first ready mark
        }
        wal.sync()?;
        while wal.stats().made < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(400)); // it looks 200 times, a millisecond each
        let stats = wal.stats();
        Ok(Ready { wal, rolls: stats.rolls, overtaken: stats.overtaken })
    }

    /// All of it in the one segment, and nothing but the road itself.
    fn check(&self) {
        let stats = self.wal.stats();
        assert_eq!((stats.rolls, stats.overtaken), (self.rolls, self.overtaken));
    }

    /// The last `count` records are `record`.
    fn check_last(&self, count: usize, record: &[u8]) -> Result<()> {
        self.check();
        let reader = self.wal.reader();
        for last in reader.backwards().take(count) {
            assert_eq!(last?.data(), record);
        }
        assert!(reader.iter().count() > count);
        Ok(())
    }

    /// Appends records of 256 bytes, and returns where they are.
    fn fill(&self) -> Result<Vec<Lsn>> {
        (0..fitting(256)).map(|_| self.wal.append(&record(256))).collect()
    }
}

/// How many frames of so many bytes there is room for.
fn fitting(len: usize) -> usize {
    ROOM / (FRAME_HEADER + len)
}

fn record(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

fn append(len: usize) -> Result<usize> {
    let ready = Ready::new()?;
    let record = record(len);
    ready.wal.append(&record)?; // the first one of a thread may cost more
    let times = fitting(len) - 1;
    measured(&mut || {
        for _ in 0..times {
            black_box(ready.wal.append(black_box(&record))?);
        }
        Ok(())
    })?;
    ready.check_last(times, &record)?;
    Ok(times)
}

fn append_batch() -> Result<usize> {
    let ready = Ready::new()?;
    let record = record(256);
    let batch = [record.as_slice(); 8];
    ready.wal.append_batch(&batch)?;
    let times = fitting(256) / batch.len() - 1;
    measured(&mut || {
        for _ in 0..times {
            black_box(ready.wal.append_batch(black_box(&batch))?);
        }
        Ok(())
    })?;
    ready.check_last(times * batch.len(), &record)?;
    Ok(times)
}

fn commit() -> Result<usize> {
    let ready = Ready::new()?;
    let record = record(256);
    ready.wal.commit(&record)?;
    let flushes = ready.wal.stats().flushes;
    let times = fitting(256) - 1;
    measured(&mut || {
        for _ in 0..times {
            black_box(ready.wal.commit(black_box(&record))?);
        }
        Ok(())
    })?;
    ready.check_last(times, &record)?;
    assert_eq!(ready.wal.stats().flushes - flushes, times as u64);
    Ok(times)
}

fn iterate(checks: bool) -> Result<usize> {
    let ready = Ready::new()?;
    let lsns = ready.fill()?;
    let reader: Reader = ready.wal.reader();
    let mut records = reader.from(lsns[0]);
    if !checks {
        records = records.unverified();
    }
    records.next().expect("the first record is there")?; // walks the segment
    let times = lsns.len() - 1;
    let mut bytes = 0;
    measured(&mut || {
        for record in records.by_ref() {
            bytes += black_box(record?.data()).len();
        }
        Ok(())
    })?;
    assert_eq!(bytes, times * 256);
    ready.check();
    Ok(times)
}

fn read() -> Result<usize> {
    let ready = Ready::new()?;
    let lsns = ready.fill()?;
    ready.wal.read(lsns[0])?; // walks the segment
    let mut bytes = 0;
    measured(&mut || {
        for &lsn in &lsns {
            bytes += black_box(ready.wal.read(black_box(lsn))?.data()).len();
        }
        Ok(())
    })?;
    assert_eq!(bytes, lsns.len() * 256);
    ready.check();
    Ok(lsns.len())
}

fn durable_lsn() -> Result<usize> {
    let ready = Ready::new()?;
    let (times, durable) = (1000, ready.wal.durable_lsn());
    let mut same = 0;
    measured(&mut || {
        for _ in 0..times {
            same += (black_box(&ready.wal).durable_lsn() == durable) as usize;
        }
        Ok(())
    })?;
    assert_eq!(same, times);
    Ok(times)
}
