//! Bursts: how fast records go in while nothing else is in the way.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{
    Case, Column, MIB, Plot, Run, Unit, Workload, appenders, check, column, merged, settle,
    sources, together,
};
use crate::log::Log;
use crate::logs::{Contender, Role};
use crate::measure::{Span, histogram, nanos};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const APPEND: Workload = Workload {
    name: "append",
    title: "Append, in bursts",
    text: "What a log that was just opened has prepared (12 MiB of payload, `append` alone, nobody \
        syncs), into a log that was opened 500 ms before; up to four bursts a round (two where \
        nothing is to be reached), each into a new log. The time is that of the append loops, from \
        the first thread's start to the last one's end. One thread alone needs no lock around an \
        exclusive writer; several take one. The percentiles are of single appends: of 4 MiB more in \
        the last log, 50 ms after the burst, with a look at the clock before and after each, which \
        is in them; the burst itself is not slowed by a clock. The copy floor computes CRC-32C of \
        the same records and copies them, with a header of 16 bytes, into a mapping whose pages are \
        all there. For one thread it is there twice: plain, and fetching for writing some way ahead \
        as mapwal does; the faster of the two is what mapwal has to come up to. Both copy by `memcpy`, \
        while mapwal copies records of 16 KiB and more past the caches with streaming stores: of \
        64 KiB it can be ahead of them.",
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

/// Between the last burst and the appends that are timed one by one.
const PAUSE: Duration = Duration::from_millis(50);

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
                timed: if quick { MIB / 4 } else { 4 * MIB },
                bursts: if targeted { 4 } else { 2 },
                segment: if quick { 4 * MIB } else { 64 * MIB },
                rounds: if targeted { 5 } else { 2 },
                quick,
                ..Case::default()
            });
        }
    }
    cases
}

fn takes(case: &Case, contender: &Contender) -> bool {
    match contender.role {
        Role::Own | Role::Peer => appenders(case, contender),
        // of longer ones the copy takes most
        Role::Variant => case.record <= if case.threads == 1 { 4096 } else { 1024 },
        Role::Floor if case.threads == 1 => contender.name().starts_with("copy floor"),
        Role::Floor => contender.name() == "copy floor",
    }
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let case = &run.case;
    let each = case.records() / case.threads as u64;
    let (mut seconds, mut bursts) = (0.0, 0);
    loop {
        let dir = run.dir.join(bursts.to_string());
        fs::create_dir(&dir).unwrap();
        let mut log = L::open(&dir, case.shape());
        settle(case);
        let mut sources = sources(case);
        seconds += burst(&mut log, &mut sources, each);
        bursts += 1;
        let notes = log.notes();
        let last = bursts == case.bursts || seconds > MEASURED || case.quick;
        let latency = last.then(|| {
            thread::sleep(PAUSE);
            let timed = case.timed / case.record as u64 / case.threads as u64;
            timed_appends(&mut log, &mut sources, timed.max(1))
        });
        log.close();
        let written: Vec<u64> = sources.iter().map(Source::count).collect();
        check::<L>(&dir, case, Checker::new(case.threads, case.record), &written);
        fs::remove_dir_all(dir).unwrap();
        let Some(latency) = latency else { continue };
        let records = (each * case.threads as u64 * bursts as u64) as f64;
        return Outcome::default()
            .and(notes)
            .with("rate", records / seconds)
            .with("nanos", seconds * 1e9 / records)
            .with("bytes", records * case.record as f64 / seconds)
            .with_latency(latency);
    }
}

/// So many records from each source. Returns the seconds it took.
fn burst<L: Log>(log: &mut L, sources: &mut [Source], each: u64) -> f64 {
    if let [source] = sources {
        let span = Span::of(|| {
            for _ in 0..each {
                log.append_alone(source.record());
            }
        });
        return span.seconds();
    }
    let log = &*log;
    let spans = together(sources, |source| {
        Span::of(|| {
            for _ in 0..each {
                log.append(source.record());
            }
        })
    });
    Span::around(&spans)
}

/// The same, timed one by one.
fn timed_appends<L: Log>(log: &mut L, sources: &mut [Source], each: u64) -> Histogram<u64> {
    if let [source] = sources {
        return timed(each, || log.append_alone(source.record()));
    }
    let log = &*log;
    let latencies = together(sources, |source| timed(each, || log.append(source.record())));
    merged(latencies.iter())
}

fn timed(count: u64, mut append: impl FnMut()) -> Histogram<u64> {
    let mut latency = histogram();
    for _ in 0..count {
        let before = Instant::now();
        append();
        latency.saturating_record(nanos(before.elapsed()));
    }
    latency
}
