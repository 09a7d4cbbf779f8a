//! What is measured: each workload a list of cases, who takes part, and how one
//! contender runs one case.

pub mod append;
pub mod commit;
pub mod iterate;
pub mod latency;
pub mod memory;
pub mod replay;
pub mod sustained;
pub mod verify_tail;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::log::{Log, Own, Shape};
use crate::logs::{Contender, Role};
use crate::measure::histogram;
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// The sizes of one piece of work. What a workload does not use is zero.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// As the tables call it.
    pub name: String,
    pub record: usize,
    pub threads: usize,
    /// Payload to write, in bytes.
    pub amount: u64,
    /// Records due per second, for what is paced.
    pub rate: u64,
    /// How long it lasts, for what is not bounded by an amount.
    pub time: Duration,
    pub segment: u64,
    pub rounds: usize,
    /// The most times that it is done in a round.
    pub bursts: usize,
    /// What of it is timed record by record, in bytes, after what is timed as a whole.
    pub timed: u64,
    /// Only whether it works.
    pub quick: bool,
}

impl Case {
    pub fn shape(&self) -> Shape {
        Shape { segment: self.segment, record: self.record }
    }

    pub fn records(&self) -> u64 {
        self.amount / self.record as u64
    }
}

/// What a contender is handed in its child process.
pub struct Run {
    pub workload: &'static Workload,
    pub case: Case,
    /// Empty, and its own.
    pub dir: PathBuf,
}

/// The unit of a number, for the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Nanos,
    PerSecond,
    BytesPerSecond,
    Bytes,
    Count,
}

pub struct Column {
    pub number: &'static str,
    pub title: &'static str,
    pub unit: Unit,
}

const fn column(number: &'static str, title: &'static str, unit: Unit) -> Column {
    Column { number, title, unit }
}

/// How a case is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plot {
    /// The first column.
    Bars,
    /// Latency over percentiles.
    Curves,
    Nothing,
}

pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    /// What is done and compared, for the report.
    pub text: &'static str,
    /// The sizes; small ones for a quick run.
    pub cases: fn(quick: bool) -> Vec<Case>,
    pub takes: fn(&Case, &Contender) -> bool,
    /// The first one is what it is about.
    pub columns: &'static [Column],
    pub plot: Plot,
}

pub const ALL: &[Workload] = &[
    append::APPEND,
    latency::LATENCY,
    latency::LATENCY_SYNCED,
    latency::ROLLS,
    commit::COMMIT,
    commit::GROUP,
    replay::REPLAY,
    verify_tail::VERIFY_TAIL,
    iterate::ITERATE,
    sustained::SUSTAINED,
    sustained::SUSTAINED_ALL,
    memory::MEMORY,
];

pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// Runs one case on one log.
pub fn run<L: Log>(run: &Run) -> Outcome {
    match run.workload.name {
        "append" => append::run::<L>(run),
        "latency" => latency::run::<L>(run, false),
        "latency_synced" => latency::run::<L>(run, true),
        "rolls" => latency::run::<L>(run, false),
        "commit" => commit::run::<L>(run),
        "group" => commit::run::<L>(run),
        "replay" => replay::run::<L>(run),
        "sustained" | "sustained_all" => sustained::run::<L>(run),
        other => unreachable!("{other} is not for every log"),
    }
}

/// The same for this project's log, which takes part in everything.
pub fn run_own<L: Own>(run: &Run) -> Outcome {
    match run.workload.name {
        "verify_tail" => verify_tail::run(run),
        "iterate" => iterate::run::<L>(run),
        "memory" => memory::run(run),
        _ => self::run::<L>(run),
    }
}

/// All logs, none of the floors.
fn logs(_: &Case, contender: &Contender) -> bool {
    matches!(contender.role, Role::Own | Role::Peer)
}

/// All that have an append which does not wait for the disk.
fn appenders(case: &Case, contender: &Contender) -> bool {
    logs(case, contender) && !contender.commits_only
}

fn own(_: &Case, contender: &Contender) -> bool {
    contender.role == Role::Own
}

/// Time for what an opened log does in the background: the same for all.
fn settle(case: &Case) {
    thread::sleep(Duration::from_millis(if case.quick { 10 } else { 500 }));
}

/// The log is closed: whether everything comes back, and how many records that is.
fn check<L: Log>(dir: &Path, case: &Case, mut checker: Checker, written: &[u64]) -> u64 {
    if !L::replay(dir, case.shape(), &mut |record| checker.visit(record)) {
        return 0; // the tables say that it cannot be read
    }
    checker.finish(written).unwrap_or_else(|wrong| {
        panic!("{}: what came back is not what was written: {wrong}", L::ABOUT.name)
    })
}

/// The latencies of several threads as one.
fn merged<'l>(latencies: impl Iterator<Item = &'l Histogram<u64>>) -> Histogram<u64> {
    let mut all = histogram();
    latencies.for_each(|latency| all.add(latency).unwrap());
    all
}

/// One thread for each source, all at once, and what they return.
fn together<T: Send>(sources: &mut [Source], work: impl Fn(&mut Source) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(sources.len());
    let (barrier, work) = (&barrier, &work);
    thread::scope(|scope| {
        let threads: Vec<_> = sources
            .iter_mut()
            .map(|source| {
                scope.spawn(move || {
                    barrier.wait();
                    work(source)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn sources(case: &Case) -> Vec<Source> {
    (0..case.threads).map(|thread| Source::new(thread, case.record)).collect()
}
