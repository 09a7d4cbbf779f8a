//! How fast records go in when they do not stop coming, and the disk has its say.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use super::{Case, Column, GIB, MIB, Plot, Run, Unit, Workload, appenders, check, column};
use crate::log::Log;
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const SUSTAINED: Workload = Workload {
    name: "sustained",
    title: "Append without end",
    text: "One thread appends records of 256 B. Fresh: nothing is given up, and every file is \
        new. Recycled: after every 64 MiB another thread gives up what is before, as at a \
        checkpoint (mapwal all that there is, others all but the last record), and the time \
        includes the end of the last of these. Nobody syncs. Some are given less than the others, as the table says; the figures are per byte. What \
        is left is read back, except where a log other than mapwal holds more than 1 GiB: \
        there the size of its files is checked.",
    cases,
    takes: |case, contender| {
        appenders(case, contender) && (case.name == FRESH || contender.segments)
    },
    columns: COLUMNS,
    plot: Plot::Bars,
};

const COLUMNS: &[Column] = &[
    column("bytes", "payload", Unit::BytesPerSecond),
    column("nanos", "per record", Unit::Nanos),
    column("amount", "given", Unit::Bytes),
    column("truncations", "truncations", Unit::Count),
    column("recycled", "files recycled", Unit::Count),
    column("made", "files made", Unit::Count),
];

pub const FRESH: &str = "fresh";
pub const RECYCLED: &str = "recycled";

fn cases(quick: bool) -> Vec<Case> {
    [FRESH, RECYCLED]
        .map(|name| Case {
            name: name.into(),
            record: 256,
            threads: 1,
            amount: if quick { 32 * MIB } else { 8 * GIB },
            segment: if quick { MIB } else { 64 * MIB },
            rounds: 2,
            quick,
            ..Case::default()
        })
        .into()
}

/// The slow get less.
fn amount(name: &str, case: &Case) -> u64 {
    match name {
        "mapwal" | "wal-db, segmented" => case.amount,
        _ => case.amount / 16,
    }
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let recycled = run.case.name == RECYCLED;
    let case = Case { amount: amount(L::ABOUT.name, &run.case), ..run.case.clone() };
    let mut log = L::open(&run.dir, case.shape());
    let mut source = Source::new(0, case.record);
    if recycled {
        log.append(source.record());
        if !log.truncate() {
            return Outcome::skipped("gives nothing up");
        }
    }
    super::settle(&case);
    let began = Instant::now();
    let truncations = if recycled {
        recycle(&log, &case, &mut source)
    } else {
        for _ in 0..case.records() {
            log.append_alone(source.record());
        }
        0
    };
    let seconds = began.elapsed().as_secs_f64();
    let notes = log.notes();
    log.close();
    let mut checker = Checker::new(1, case.record);
    if recycled {
        checker = checker.truncated();
    }
    if recycled || case.amount <= GIB || L::ABOUT.name == "mapwal" {
        check::<L>(&run.dir, &case, checker, &[source.count()]);
    } else {
        assert!(size(&run.dir) >= case.amount); // some take minutes to read it
    }
    Outcome::default()
        .and(notes)
        .with("bytes", case.amount as f64 / seconds)
        .with("nanos", seconds * 1e9 / case.records() as f64)
        .with("amount", case.amount as f64)
        .with("truncations", truncations as f64)
}

/// Bytes of all files, without holes.
fn size(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
}

/// Writes, and has another thread give up what is behind. Returns how often it did.
fn recycle<L: Log>(log: &L, case: &Case, source: &mut Source) -> u32 {
    let every = (case.segment / case.record as u64).max(1);
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
        for number in 1..=case.records() {
            log.append(source.record());
            if number % every == 0 {
                due.send(()).unwrap();
            }
        }
        drop(due);
        truncating.join().unwrap()
    })
}
