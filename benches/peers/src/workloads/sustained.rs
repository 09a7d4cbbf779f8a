//! How fast records go in when they do not stop coming, and the disk has its say.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::{Case, Column, GIB, MIB, Plot, Run, Unit, Workload, appenders, check, column};
use crate::log::Log;
use crate::logs::Role;
use crate::measure::{histogram, nanos};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const SUSTAINED: Workload = Workload {
    name: "sustained",
    title: "Append without end",
    text: "One thread appends records of 256 B, 8 GiB in all: 40 times what mapwal has prepared \
        when it begins (the first segment and two spares of 64 MiB), and more than a kernel lets wait \
        in its cache by default, up to 32 GiB of memory. Fresh: nothing is given up, and every file is new. Recycled: after every \
        64 MiB another thread gives up all that is before the last record, as at a checkpoint, and \
        the time includes the end of the last of these. Those that fall due while one is under way \
        are joined into one: how many there were is in the table, and a log whose truncations take \
        longer is asked for fewer. seglog leaves files to its user: its adapter removes them whole. \
        Nobody syncs. The percentiles are of the times that one MiB takes. What is left is read \
        back, except where wal-db holds more than 1 GiB: there the size of its files is checked.",
    cases: |quick| cases(if quick { 32 * MIB } else { 8 * GIB }, quick),
    takes: |case, contender| {
        contender.role == Role::Own
            || [BESIDE, "seglog"].contains(&contender.name()) && appenders(case, contender)
    },
    columns: COLUMNS,
    plot: Plot::Nothing,
};

pub const SUSTAINED_ALL: Workload = Workload {
    name: "sustained_all",
    title: "Append without end, all logs",
    text: "The same over 1 GiB for all logs, as some are slow: five times what mapwal has prepared \
        when it begins, but little enough to wait in the kernel's cache: what writes only into \
        that is not slowed down by the disk here.",
    cases: |quick| cases(if quick { 16 * MIB } else { GIB }, quick),
    takes: |case, contender| {
        appenders(case, contender) && (case.name == FRESH || contender.segments)
    },
    columns: COLUMNS,
    plot: Plot::Bars,
};

/// Whose work is set beside mapwal's.
const BESIDE: &str = "wal-db, segmented";

const COLUMNS: &[Column] = &[
    column("bytes", "payload", Unit::BytesPerSecond),
    column("nanos", "per record", Unit::Nanos),
    column("amount", "given", Unit::Bytes),
    column("left", "left", Unit::Bytes),
    column("truncations", "truncations", Unit::Count),
    column("recycled", "files recycled", Unit::Count),
    column("made", "files made", Unit::Count),
];

pub const FRESH: &str = "fresh";
pub const RECYCLED: &str = "recycled";

fn cases(amount: u64, quick: bool) -> Vec<Case> {
    [FRESH, RECYCLED]
        .map(|name| Case {
            name: name.into(),
            record: 256,
            threads: 1,
            amount,
            segment: if quick { MIB } else { 64 * MIB },
            rounds: 2,
            quick,
            ..Case::default()
        })
        .into()
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let case = &run.case;
    let recycled = case.name == RECYCLED;
    let mut log = L::open(&run.dir, case.shape());
    let mut source = Source::new(0, case.record);
    if recycled {
        log.append(source.record());
        if !log.truncate() {
            return Outcome::skipped("gives nothing up");
        }
    }
    super::settle(case);
    let mut latency = histogram();
    let began = Instant::now();
    let truncations = if recycled {
        recycle(&log, case, &mut source, &mut latency)
    } else {
        for _ in 0..case.amount / MIB {
            a_mib(case, &mut latency, || log.append_alone(source.record()));
        }
        0
    };
    let seconds = began.elapsed().as_secs_f64();
    let mut outcome = Outcome::default()
        .and(log.notes())
        .with("bytes", case.amount as f64 / seconds)
        .with("nanos", seconds * 1e9 / case.records() as f64)
        .with("amount", case.amount as f64)
        .with_latency(latency);
    log.close();
    if !recycled && case.amount > GIB && L::ABOUT.name == BESIDE {
        assert!(size(&run.dir) >= case.amount); // it takes minutes to read it
        return outcome;
    }
    let mut checker = Checker::new(1, case.record);
    if recycled {
        checker = checker.truncated();
        outcome = outcome.with("truncations", f64::from(truncations));
    }
    let left = check::<L>(&run.dir, case, checker, &[source.count()]);
    assert!(!recycled || left < source.count(), "something was given up");
    outcome.with("left", (left * case.record as u64) as f64)
}

/// As many records as make one MiB of payload.
fn a_mib(case: &Case, latency: &mut Histogram<u64>, mut append: impl FnMut()) {
    let began = Instant::now();
    for _ in 0..MIB / case.record as u64 {
        append();
    }
    latency.saturating_record(nanos(began.elapsed()));
}

/// Bytes of all files, without holes.
fn size(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

/// Writes, and has another thread give up what is behind. Returns how often it did.
fn recycle<L: Log>(log: &L, case: &Case, source: &mut Source, latency: &mut Histogram<u64>) -> u32 {
    let every = case.segment / MIB;
    let (due, work) = channel();
    thread::scope(|scope| {
        let truncating = scope.spawn(move || {
            let mut truncations = 0;
            while work.recv().is_ok() {
                let _ = work.try_iter().count(); // once for all that fell due meanwhile
                log.truncate();
                truncations += 1;
            }
            truncations
        });
        for number in 1..=case.amount / MIB {
            a_mib(case, latency, || log.append(source.record()));
            if number % every == 0 {
                due.send(()).unwrap();
            }
        }
        drop(due);
        truncating.join().unwrap()
    })
}
