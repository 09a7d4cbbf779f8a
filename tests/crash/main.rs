//! Power cuts: random work on a simulated disk, the crash at any moment of it, and
//! of what it left, again and again, what was promised.
//!
//! `MAPWAL_IMAGES` says how many crashes are to be looked at, `MAPWAL_SEED` with which
//! seed to begin, on one thread: a failure names its own. An even seed is one thread's work,
//! and the same each time; of an odd one the machine decides how threads meet.

#[path = "../common/mod.rs"]
mod common;
mod model;
mod workload;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use common::Random;
use mapwal::sim::Disk;
use mapwal::{Error, Options, Record, Wal};
use model::Past;
use workload::{End, Life, options};

/// Crashes of one workload, of each kind that the disk knows as many.
const CRASHES: u64 = 12;

/// A call that is to fail is one of so many.
const LATEST_FAILURE: u64 = 60;

#[derive(Debug, Default)]
struct Count {
    workloads: AtomicU64,
    images: AtomicU64,
    records: AtomicU64,
    cut_short: AtomicU64,
}

/// One workload.
struct Run<'c> {
    count: &'c Count,
    /// One thread does it all, and no other works in the background.
    is_alone: bool,
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

#[test]
fn after_any_crash_the_log_is_a_prefix_with_every_durable_record() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let wanted: u64 = number("MAPWAL_IMAGES").unwrap_or(20_000);
    let first: Option<u64> = number("MAPWAL_SEED");
    let (count, seeds) = (Count::default(), AtomicU64::new(first.unwrap_or(0)));
    let threads = match first {
        Some(_) => 1,
        None => thread::available_parallelism().map_or(2, |n| n.get() as u64).max(2),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while count.images.load(Ordering::Relaxed) < wanted {
                    let seed = seeds.fetch_add(1, Ordering::Relaxed);
                    let done = catch_unwind(|| workload(seed, &count));
                    if let Err(wrong) = done.unwrap_or(Err("a panic".to_owned())) {
                        count.images.store(u64::MAX / 2, Ordering::Relaxed); // the others end
                        panic!("seed {seed}: {wrong}");
                    }
                }
            });
        }
    });
    println!("none refused: {count:?}");
}

#[test]
fn what_one_thread_does_is_the_same_each_time() {
    for seed in (0..40).step_by(2) {
        let counts = [(); 3].map(|()| {
            let count = Count::default();
            workload(seed, &count).unwrap();
            format!("{count:?}")
        });
        assert!(counts[0] == counts[1] && counts[0] == counts[2], "seed {seed}: {counts:?}");
    }
}

#[test]
fn any_one_call_may_fail_and_what_was_promised_is_there() {
    let count = Count::default();
    for seed in 0..2 {
        for call in 0.. {
            let calls = fail_one(seed, call, &count);
            if calls.unwrap_or_else(|wrong| panic!("life {seed}, call {call}: {wrong}")) <= call {
                break;
            }
        }
    }
    println!("none refused: {count:?}");
}

/// A log that lives once on a disk of which one call fails, and is opened afterwards,
/// on the same disk and on what crashes leave. Returns how many calls its life took.
fn fail_one(seed: u64, call: u64, count: &Count) -> Result<u64, String> {
    let run = &Run { count, is_alone: seed % 2 == 0 };
    let random = &mut Random(seed);
    let disk = Disk::new();
    disk.fail_call(call);
    let options = Options::new().segment_size(workload::SEGMENT).background(!run.is_alone);
    let open = || options.clone().open_on(&disk);
    let wal = open().or_else(|error| may_fail(error).map(|()| open().expect("it fails once")))?;
    let life = Life { calls: 40, ..Life::random(random, End::Close, true) };
    let past = life.live(&disk, wal, Past::default())?;
    let calls = disk.calls();
    for kind in 0..6 {
        add(&run.count.images, 1);
        let image = disk.crash(6 * call + kind);
        reopen(&image, past.clone(), random, true, run)
            .map_err(|wrong| format!("crash {kind}: {wrong}"))?;
    }
    reopen(&disk, past, random, false, run)?;
    add(&run.count.workloads, 1);
    Ok(calls)
}

/// A log that lives a few times, crashes, and goes on.
fn workload(seed: u64, count: &Count) -> Result<(), String> {
    let run = &Run { count, is_alone: seed % 2 == 0 };
    let random = &mut Random(seed);
    let disk = Disk::new();
    if random.one_in(5) {
        disk.capacity(workload::SEGMENT * (3 + random.below(5)));
    }
    let mut past = Past::default();
    for _ in 0..random.below(3) {
        let wal;
        (wal, past) = reopen(&disk, past, random, false, run)?;
        match random.below(6) {
            0 => disk.fail_flush(random.below(20)),
            1 => disk.fail_call(random.below(LATEST_FAILURE)),
            2 => disk.fail_sync_names(),
            _ => {}
        }
        let end = random.pick(&[End::Close, End::Drop]);
        past = Life::random(random, end, run.is_alone).live(&disk, wal, past)?;
    }
    let wal;
    (wal, past) = reopen(&disk, past, random, false, run)?;
    let end = End::Lost(random.below(150));
    past = Life::random(random, end, run.is_alone).live(&disk, wal, past)?;
    add(&run.count.workloads, 1);
    for crash in 0..CRASHES {
        let number = seed * CRASHES + crash;
        let random = &mut Random(number ^ 0xc7a5);
        let aftermath = after_crash(disk.crash(number), past.clone(), random, run);
        aftermath.map_err(|wrong| format!("crash {crash}: {wrong}"))?;
    }
    Ok(())
}

/// What a crash left is opened, which may be cut short itself, and lived on with.
fn after_crash(
    mut disk: Disk,
    mut past: Past,
    random: &mut Random,
    run: &Run<'_>,
) -> Result<(), String> {
    for again in 0..3 {
        if random.one_in(3) {
            disk.lose_after(random.below(30));
            match options(random, run.is_alone).open_on(&disk) {
                Ok(wal) => past = look(&wal, &past, true, run)?.reopened(&wal),
                Err(error) => {
                    add(&run.count.cut_short, 1);
                    may_fail(error)?;
                }
            }
            add(&run.count.images, 1);
            disk = disk.crash(random.next());
        }
        add(&run.count.images, 1);
        let (wal, recovered) = reopen(&disk, past, random, true, run)?;
        if again == 2 || random.one_in(3) {
            return Ok(());
        }
        let end = End::Lost(random.below(40));
        let life = Life { calls: 1 + random.below(12), ..Life::random(random, end, run.is_alone) };
        past =
            life.live(&disk, wal, recovered).map_err(|wrong| format!("life {again}: {wrong}"))?;
        disk = disk.crash(random.next());
    }
    Ok(())
}

/// Opens a log; a disk that was told to fail does so a few times at most.
fn reopen(
    disk: &Disk,
    past: Past,
    random: &mut Random,
    lossy: bool,
    run: &Run<'_>,
) -> Result<(Wal, Past), String> {
    let mut tries = 0;
    let wal = loop {
        match options(random, run.is_alone).open_on(disk) {
            Ok(wal) => break wal,
            Err(error) if lossy || tries == 3 => return Err(format!("refused: {error}")),
            Err(error) => may_fail(error)?,
        }
        tries += 1;
    };
    // calls that were to fail and have not been made yet: reading is not to meet them
    for _ in 0..LATEST_FAILURE {
        assert!(Options::new().open_on(disk).is_err(), "two writers");
    }
    let past = look(&wal, &past, lossy, run)?.reopened(&wal);
    Ok((wal, past))
}

fn look(wal: &Wal, past: &Past, lossy: bool, run: &Run<'_>) -> Result<model::Found, String> {
    let found = past.check(wal, lossy)?;
    add(&run.count.records, found.appended.len());
    let lsn = |it: Result<Record<'_>, Error>| it.map(|record| record.lsn());
    let reader = wal.reader();
    let forwards: Result<Vec<_>, _> = reader.iter().map(lsn).collect();
    let backwards: Result<Vec<_>, _> = reader.backwards().map(lsn).collect();
    match (forwards, backwards) {
        (Ok(forwards), Ok(backwards)) if forwards.iter().eq(backwards.iter().rev()) => {}
        others => return Err(format!("not the same backwards: {others:x?}")),
    }
    Ok(found)
}

/// Whether a disk that fails may be the reason.
fn may_fail(error: Error) -> Result<(), String> {
    match error {
        Error::Io { .. } | Error::FlushFailed { .. } => Ok(()),
        error => Err(format!("refused: {error}")),
    }
}
