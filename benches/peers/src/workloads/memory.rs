//! How much memory stays resident while a lot is written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, Column, GIB, MIB, Plot, Run, Unit, Workload, column, own};
use crate::measure::{memory, wait_until};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const MEMORY: Workload = Workload {
    name: "memory",
    title: "Resident memory",
    text: "One thread appends records of 64 KiB at 1 GB/s, and after every 64 MiB another gives \
        up what is before. Every 2 ms `/proc/self/status` is read: shown is the maximum, VmRSS \
        less what it was before the log was opened. The bound is (spares + 2) segments, with \
        the default of 2 spares; it says something only of a writer that kept up with that rate.",
    cases,
    takes: own,
    columns: COLUMNS,
    plot: Plot::Nothing,
};

const COLUMNS: &[Column] = &[
    column("rss", "VmRSS, at most", Unit::Bytes),
    column("rss_file", "of it files", Unit::Bytes),
    column("bound", "bound", Unit::Bytes),
    column("bytes", "written at", Unit::BytesPerSecond),
    column("amount", "in all", Unit::Bytes),
    column("recycled", "files recycled", Unit::Count),
    column("made", "files made", Unit::Count),
];

pub const RATE: f64 = 1e9;
const SPARES: u64 = 2;

fn cases(quick: bool) -> Vec<Case> {
    vec![Case {
        name: "64 KiB at 1 GB/s".into(),
        record: 64 << 10,
        threads: 1,
        amount: if quick { 64 * MIB } else { 8 * GIB },
        segment: if quick { 4 * MIB } else { 64 * MIB },
        rounds: 4,
        quick,
        ..Case::default()
    }]
}

pub fn run(run: &Run) -> Outcome {
    let case = &run.case;
    let before = memory("VmRSS");
    let options = || mapwal::Options::new().segment_size(case.segment).spares(SPARES as usize);
    let wal = options().open(&run.dir).unwrap();
    super::settle(case);

    let mut source = Source::new(0, case.record);
    let interval = Duration::from_secs_f64(case.record as f64 / RATE);
    let every = case.segment / case.record as u64;
    let over = AtomicBool::new(false);
    let (due, work) = channel();
    let began = Instant::now();
    let ((rss, rss_file), seconds) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&over));
        let wal = &wal;
        let truncating = scope.spawn(move || {
            while let Ok(lsn) = work.recv() {
                let newest = work.try_iter().last().unwrap_or(lsn); // once for all that fell due
                wal.truncate_before(newest).unwrap();
            }
        });
        for number in 1..=case.records() {
            wait_until(began + interval * (number - 1) as u32);
            let lsn = wal.append(source.record()).unwrap();
            if number % every == 0 {
                due.send(lsn).unwrap();
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(due);
        truncating.join().unwrap();
        over.store(true, Ordering::Relaxed);
        (watching.join().unwrap(), seconds)
    });

    let mut checker = Checker::new(1, case.record).truncated();
    wal.reader().iter().for_each(|record| checker.visit(record.unwrap().data()));
    checker.finish(&[source.count()]).unwrap();
    let stats = wal.stats();
    let rss = rss.saturating_sub(before) as f64;
    let bound = ((SPARES + 2) * case.segment) as f64;
    Outcome::default()
        .with("rss", rss)
        .with("rss_file", rss_file as f64)
        .with("bound", bound)
        .with("of_bound", rss / bound)
        .with("bytes", case.amount as f64 / seconds)
        .with("amount", case.amount as f64)
        .with("recycled", stats.recycled as f64)
        .with("made", stats.made as f64)
}

/// The maxima until it is over.
fn watch(over: &AtomicBool) -> (u64, u64) {
    let (mut rss, mut rss_file) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        rss = rss.max(memory("VmRSS"));
        rss_file = rss_file.max(memory("RssFile").saturating_add(memory("RssShmem")));
        thread::sleep(Duration::from_millis(2));
    }
    (rss, rss_file)
}
