//! How long one append takes when they come at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, Column, MIB, Plot, Run, Unit, Workload, appenders, check, column, settle};
use crate::log::Log;
use crate::measure::{histogram, nanos, wait_until};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const LATENCY: Workload = Workload {
    name: "latency",
    title: "Append latency, paced",
    text: "One thread appends 256 B at 500,000 a second (128 MB/s), each when it is due. The \
        latency is from the call to the return. An append that is late because one before it \
        took long is counted as late, and its waiting is not in its latency. Nobody syncs.",
    cases: |quick| vec![paced("256 B, 500,000/s", 500_000, 64 * MIB, quick)],
    takes: appenders,
    columns: COLUMNS,
    plot: Plot::Curves,
};

pub const LATENCY_SYNCED: Workload = Workload {
    name: "latency_synced",
    title: "Append latency beside syncs",
    text: "The same at 100,000 a second, while another thread calls `sync` without pause.",
    cases: |quick| vec![paced("256 B, 100,000/s", 100_000, 64 * MIB, quick)],
    takes: appenders,
    columns: COLUMNS_SYNCED,
    plot: Plot::Curves,
};

pub const ROLLS: Workload = Workload {
    name: "rolls",
    title: "Append latency over rolls",
    text: "The same in segments of 1 MiB, at 50,000 a second, so that the log goes on to \
        another segment every 80 ms. For logs that have segments of a size that can be set. \
        Rolls are as the log counts them, where it does.",
    cases: |quick| vec![paced("256 B, 50,000/s, segments of 1 MiB", 50_000, MIB, quick)],
    takes: |case, contender| appenders(case, contender) && contender.segments,
    columns: COLUMNS_ROLLS,
    plot: Plot::Curves,
};

const COLUMNS: &[Column] = &[
    column("rate", "records/s", Unit::PerSecond),
    column("late", "late", Unit::Count),
    column("overtaken", "overtook preparation", Unit::Count),
];
const COLUMNS_SYNCED: &[Column] = &[
    column("rate", "records/s", Unit::PerSecond),
    column("late", "late", Unit::Count),
    column("syncs", "syncs", Unit::Count),
];
const COLUMNS_ROLLS: &[Column] = &[
    column("rate", "records/s", Unit::PerSecond),
    column("late", "late", Unit::Count),
    column("rolls", "rolls", Unit::Count),
];

fn paced(name: &str, rate: u64, segment: u64, quick: bool) -> Case {
    Case {
        name: name.into(),
        record: 256,
        threads: 1,
        rate,
        time: Duration::from_millis(if quick { 100 } else { 3000 }),
        segment,
        rounds: 2,
        quick,
        ..Case::default()
    }
}

pub fn run<L: Log>(run: &Run, synced: bool) -> Outcome {
    let case = &run.case;
    let mut log = L::open(&run.dir, case.shape());
    settle(case);
    let mut source = Source::new(0, case.record);
    let mut outcome = if synced {
        beside_syncs(&log, case, &mut source)
    } else {
        pace(case, &mut source, |record| log.append_alone(record))
    };
    outcome = outcome.and(log.notes());
    log.close();
    check::<L>(&run.dir, case, Checker::new(1, case.record), &[source.count()]);
    outcome
}

fn beside_syncs<L: Log>(log: &L, case: &Case, source: &mut Source) -> Outcome {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            let mut syncs = 0;
            while !over.load(Ordering::Relaxed) {
                log.sync();
                syncs += 1;
            }
            syncs
        });
        let outcome = pace(case, source, |record| log.append(record));
        over.store(true, Ordering::Relaxed);
        outcome.with("syncs", f64::from(syncing.join().unwrap()))
    })
}

/// Appends at the case's rate until its time is over.
fn pace(case: &Case, source: &mut Source, mut append: impl FnMut(&[u8])) -> Outcome {
    let interval = Duration::from_secs(1) / case.rate as u32;
    let mut latency = histogram();
    let mut late = 0u64;
    let began = Instant::now();
    let (mut due, end) = (began, began + case.time);
    while due < end {
        let before = wait_until(due);
        if before >= end {
            break; // so much behind that the time is over
        }
        append(source.record());
        let after = Instant::now();
        latency.saturating_record(nanos(after - before));
        late += u64::from(before - due >= interval);
        due += interval;
    }
    let rate = source.count() as f64 / began.elapsed().as_secs_f64();
    Outcome::default().with("rate", rate).with("late", late as f64).with_latency(latency)
}
