//! Bursts: how fast records go in while nothing else is in the way.

use std::fs;
use std::sync::Barrier;
use std::thread;

use super::{Case, Column, MIB, Plot, Run, Unit, Workload, appenders, check, column, settle};
use crate::log::Log;
use crate::logs::{Contender, Role};
use crate::measure::Span;
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const APPEND: Workload = Workload {
    name: "append",
    title: "Append, in bursts",
    text: "What a log that was just opened has prepared (12 MiB of payload, `append` alone, nobody \
        syncs), into a log that was opened 300 ms before; up to six bursts a round, each \
        into a new log. The time is that of the append loops, from the first thread's start to the \
        last one's end. One thread alone needs no lock around an exclusive writer; several \
        take one. The copy floor computes CRC-32C of the same records and copies them, with a \
        header of 16 bytes, into a mapping whose pages are all there.",
    cases,
    takes,
    columns: COLUMNS,
    plot: Plot::Bars,
};

const COLUMNS: &[Column] = &[
    column("rate", "records/s", Unit::PerSecond),
    column("nanos", "per record", Unit::Nanos),
    column("bytes", "payload", Unit::BytesPerSecond),
    column("overtaken", "overtook preparation", Unit::Count),
];

/// Bursts a round: enough of them for this much time, and not more.
const MEASURED: f64 = 0.1;
const MOST_BURSTS: usize = 6;

fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for record in [64, 256, 1024, 4096, 65536] {
        for threads in [1, 2, 8] {
            if quick && (threads > 1) != (record == 256) {
                continue;
            }
            let targeted = matches!((record, threads), (64 | 256 | 65536, 1) | (256, 8));
            cases.push(Case {
                name: format!("{record} B, {threads} thread{}", if threads > 1 { "s" } else { "" }),
                record,
                threads,
                amount: if quick { MIB } else { 12 * MIB },
                segment: if quick { 4 * MIB } else { 64 * MIB },
                rounds: if targeted { 5 } else { 1 },
                quick,
                ..Case::default()
            });
        }
    }
    cases
}

/// The peers only where their numbers say something new.
fn takes(case: &Case, contender: &Contender) -> bool {
    match contender.role {
        Role::Own => true,
        Role::Peer => appenders(case, contender) && (case.threads == 1 || case.record == 256),
        Role::Floor => contender.name() == "copy floor",
    }
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let case = &run.case;
    let each = case.records() / case.threads as u64;
    let (mut seconds, mut bursts) = (0.0, 0);
    let mut notes = Vec::new();
    while bursts == 0 || (bursts < MOST_BURSTS && seconds < MEASURED && !case.quick) {
        let dir = run.dir.join(bursts.to_string());
        fs::create_dir(&dir).unwrap();
        let mut log = L::open(&dir, case.shape());
        settle(case);
        seconds += if case.threads == 1 {
            alone(&mut log, case, each)
        } else {
            together(&log, case, each)
        };
        bursts += 1;
        notes = log.notes();
        log.close();
        check::<L>(&dir, case, Checker::new(case.threads, case.record), &vec![each; case.threads]);
        fs::remove_dir_all(dir).unwrap();
    }
    let records = (each * case.threads as u64 * bursts as u64) as f64;
    Outcome::default()
        .and(notes)
        .with("rate", records / seconds)
        .with("nanos", seconds * 1e9 / records)
        .with("bytes", records * case.record as f64 / seconds)
}

fn alone<L: Log>(log: &mut L, case: &Case, count: u64) -> f64 {
    let mut source = Source::new(0, case.record);
    let span = Span::of(|| {
        for _ in 0..count {
            log.append_alone(source.record());
        }
    });
    span.seconds()
}

fn together<L: Log>(log: &L, case: &Case, each: u64) -> f64 {
    let barrier = Barrier::new(case.threads);
    let work = |thread: usize| {
        let mut source = Source::new(thread, case.record);
        barrier.wait();
        Span::of(|| {
            for _ in 0..each {
                log.append(source.record());
            }
        })
    };
    let spans: Vec<Span> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..case.threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    Span::around(&spans)
}
