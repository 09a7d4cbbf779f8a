//! How long it takes until a record is durable, alone and in company.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{
    Case, Column, MIB, Plot, Run, Unit, Workload, check, column, logs, merged, settle, sources,
    together,
};
use crate::log::Log;
use crate::logs::Contender;
use crate::measure::{Span, device_bytes, histogram, nanos, sync_all};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const COMMIT: Workload = Workload {
    name: "commit",
    title: "Commit",
    text: "One thread commits 256 B after 256 B: append, and wait until the record is durable. \
        Before the first one the log has up to 3 s for what it does in the background. Bytes \
        to the device are what its driver counts from before the first commit to after the \
        last, divided by the commits: what others on the machine write is in it. The device \
        floor is `pwrite` and `fdatasync` into a file with all its blocks written; the direct \
        one writes a block of 4 KiB with O_DIRECT and O_DSYNC.",
    cases: |quick| vec![case(1, 8, quick)],
    takes: |case, contender| logs(case, contender) || device_floor(contender),
    columns: COLUMNS_COMMIT,
    plot: Plot::Curves,
};

pub const GROUP: Workload = Workload {
    name: "group",
    title: "Commit by many threads",
    text: "The same by several threads at once. Flushes are as the log counts them, where it does.",
    cases: |quick| {
        let threads: &[usize] = if quick { &[8] } else { &[8, 32, 128] };
        threads.iter().map(|threads| case(*threads, 3, quick)).collect()
    },
    takes: logs,
    columns: COLUMNS_GROUP,
    plot: Plot::Bars,
};

const COLUMNS_COMMIT: &[Column] = &[
    column("rate", "commits/s", Unit::PerSecond),
    column("device_bytes", "to the device, each", Unit::Bytes),
];
const COLUMNS_GROUP: &[Column] = &[
    column("rate", "commits/s", Unit::PerSecond),
    column("device_bytes", "to the device, each", Unit::Bytes),
    column("flushes", "flushes", Unit::Count),
];

fn case(threads: usize, rounds: usize, quick: bool) -> Case {
    Case {
        name: format!("256 B, {threads} thread{}", if threads > 1 { "s" } else { "" }),
        record: 256,
        threads,
        // the disk's mood changes within seconds: rather more rounds than long ones
        time: Duration::from_millis(if quick { 50 } else { 500 }),
        segment: if quick { 8 * MIB } else { 64 * MIB },
        rounds,
        quick,
        ..Case::default()
    }
}

fn device_floor(contender: &Contender) -> bool {
    contender.name().starts_with("device floor")
}

/// Until what an opened log does in the background is done, and written back: its
/// writes are no commit's. As long as it takes, within bounds, for all.
fn rest(case: &Case, dir: &Path) {
    const MOST: usize = 10;
    const LITTLE: u64 = 64 << 10;
    let mut before = device_bytes(dir);
    for _ in 0..MOST {
        settle(case);
        sync_all();
        let now = device_bytes(dir);
        if now.zip(before).is_none_or(|(now, before)| now - before <= LITTLE) {
            break;
        }
        before = now;
    }
}

struct Committed {
    span: Span,
    latency: Histogram<u64>,
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let case = &run.case;
    let log = L::open(&run.dir, case.shape());
    rest(case, &run.dir);
    let before = device_bytes(&run.dir);
    let mut sources = sources(case);
    let threads = match sources.as_mut_slice() {
        [source] => vec![commits(&log, case, source)],
        several => together(several, |source| commits(&log, case, source)),
    };
    let after = device_bytes(&run.dir);

    let written: Vec<u64> = sources.iter().map(Source::count).collect();
    let spans: Vec<Span> = threads.iter().map(|thread| thread.span).collect();
    let latency = merged(threads.iter().map(|thread| &thread.latency));
    let count = written.iter().sum::<u64>() as f64;
    let mut outcome = Outcome::default()
        .with("rate", count / Span::around(&spans))
        .with_latency(latency)
        .and(log.notes());
    if let (Some(before), Some(after)) = (before, after) {
        outcome = outcome.with("device_bytes", (after - before) as f64 / count);
    }
    log.close();
    check::<L>(&run.dir, case, Checker::new(case.threads, case.record), &written);
    outcome
}

/// Commits until the case's time is over.
fn commits<L: Log>(log: &L, case: &Case, source: &mut Source) -> Committed {
    let mut latency = histogram();
    let span = Span::of(|| {
        let end = Instant::now() + case.time;
        let mut before = Instant::now();
        while before < end {
            log.commit(source.record());
            let after = Instant::now();
            latency.saturating_record(nanos(after - before));
            before = after;
        }
    });
    Committed { span, latency }
}
