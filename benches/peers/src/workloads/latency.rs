//! How long one append takes when they come at a steady rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, Column, MIB, Plot, Run, Unit, Workload, appenders, check, column, settle};
use crate::log::Log;
use crate::measure::{histogram, nanos, wait_until};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

/// Appends due in a second.
pub const PACE: u64 = 500_000;

pub const LATENCY: Workload = Workload {
    name: "latency",
    title: "Append latency, paced",
    text: "One thread appends 256 B at 500,000 a second (128 MB/s), each when it is due. The \
        latency is from the call to the return: an append that is late because one before it \
        took long is counted as late. What its caller waited in all, since it was due, is the \
        column beside that. Nobody syncs.",
    cases: |quick| vec![paced("256 B, 500,000/s", PACE, 64 * MIB, quick)],
    columns: &[RATE, LATE, SINCE_DUE, column("overtaken", "overtook preparation", Unit::Count)],
    ..WORKLOAD
};

pub const LATENCY_SYNCED: Workload = Workload {
    name: "latency_synced",
    title: "Append latency beside syncs",
    text: "The same at 100,000 a second, while another thread calls `sync`: 1,000 times a second, \
        or as soon as the one before has returned, and never before something was appended since. \
        So a sync has some 100 records to make durable, or all that came in while the one before \
        took its time.",
    cases: |quick| vec![paced("256 B, 100,000/s", 100_000, 64 * MIB, quick)],
    columns: &[
        RATE,
        LATE,
        SINCE_DUE,
        column("syncs", "syncs", Unit::PerSecond),
        column("records_a_sync", "records a sync", Unit::Count),
    ],
    ..WORKLOAD
};

pub const ROLLS: Workload = Workload {
    name: "rolls",
    title: "Append latency over rolls",
    text: "The same in segments of 1 MiB, at 50,000 a second, so that the log goes on to \
        another segment every 80 ms. For logs that have segments of a size that can be set. \
        Rolls are as the log counts them, where it does. Nobody syncs.",
    cases: |quick| vec![paced("256 B, 50,000/s, segments of 1 MiB", 50_000, MIB, quick)],
    takes: |case, contender| appenders(case, contender) && contender.segments,
    columns: &[RATE, LATE, SINCE_DUE, column("rolls", "rolls", Unit::Count)],
    ..WORKLOAD
};

/// What they have in common.
const WORKLOAD: Workload = Workload {
    name: "",
    title: "",
    text: "",
    cases: |_| Vec::new(),
    takes: appenders,
    columns: &[],
    plot: Plot::Curves,
};

const RATE: Column = column("rate", "records/s", Unit::PerSecond);
const LATE: Column = column("late", "late", Unit::Count);
const SINCE_DUE: Column = column("since_due", "p99.9 since due", Unit::Nanos);

/// Syncs due, beside the appends.
const SYNC_EVERY: Duration = Duration::from_millis(1);

fn paced(name: &str, rate: u64, segment: u64, quick: bool) -> Case {
    Case {
        name: name.into(),
        record: 256,
        threads: 1,
        rate,
        time: Duration::from_millis(if quick { 100 } else { 3000 }),
        segment,
        rounds: 3,
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
    let (appended, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            let began = Instant::now();
            let syncs = syncs(log, &appended, &over);
            syncs / began.elapsed().as_secs_f64()
        });
        let mut count = 0;
        let outcome = pace(case, source, |record| {
            log.append(record);
            count += 1;
            appended.store(count, Ordering::Relaxed);
        });
        over.store(true, Ordering::Relaxed);
        let syncs = syncing.join().unwrap();
        let records_a_sync = outcome.numbers["rate"] / syncs;
        outcome.with("syncs", syncs).with("records_a_sync", records_a_sync)
    })
}

/// Syncs when it is due and there is something to do, until it is over. Returns how often.
fn syncs<L: Log>(log: &L, appended: &AtomicU64, over: &AtomicBool) -> f64 {
    let (mut syncs, mut synced) = (0.0, 0);
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        // the appending thread is in need of its core: this one sleeps
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = appended.load(Ordering::Relaxed);
        if now > synced {
            log.sync();
            synced = now;
            syncs += 1.0;
        }
        due = (due + SYNC_EVERY).max(Instant::now());
    }
    syncs
}

/// Appends at the case's rate until its time is over.
fn pace(case: &Case, source: &mut Source, mut append: impl FnMut(&[u8])) -> Outcome {
    let interval = Duration::from_secs(1) / case.rate as u32;
    let (mut latency, mut since_due) = (histogram(), histogram());
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
        since_due.saturating_record(nanos(after - due));
        late += u64::from(before - due >= interval);
        due += interval;
    }
    let rate = source.count() as f64 / began.elapsed().as_secs_f64();
    Outcome::default()
        .with("rate", rate)
        .with("late", late as f64)
        .with("since_due", since_due.value_at_quantile(0.999) as f64)
        .with_latency(latency)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::log::{About, Shape};

    /// Counts, and keeps nothing.
    #[derive(Default)]
    struct Counting {
        appended: AtomicU64,
        synced: AtomicU64,
        empty: AtomicU64,
    }

    impl Log for Counting {
        const ABOUT: About = About { name: "", appended: "", synced: "" };

        fn open(_: &Path, _: Shape) -> Self {
            Self::default()
        }

        fn append(&self, _: &[u8]) {
            self.appended.fetch_add(1, Ordering::Relaxed);
        }

        fn sync(&self) {
            let appended = self.appended.load(Ordering::Relaxed);
            let nothing = appended == self.synced.swap(appended, Ordering::Relaxed);
            self.empty.fetch_add(nothing.into(), Ordering::Relaxed);
        }

        fn replay(_: &Path, _: Shape, _: &mut dyn FnMut(&[u8])) -> bool {
            false
        }
    }

    #[test]
    fn every_sync_has_something_to_do() {
        let log = Counting::default();
        let slow = paced("", 100, MIB, true); // ten appends, and time for a hundred syncs
        let outcome = beside_syncs(&log, &slow, &mut Source::new(0, slow.record));
        assert!(outcome.numbers["syncs"] > 0.0);
        assert!(log.synced.into_inner() > 0);
        assert!(log.empty.into_inner() <= 1); // the one before may have had its record already
    }
}
