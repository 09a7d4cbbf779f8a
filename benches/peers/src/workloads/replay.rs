//! How long a start takes: opening a log and reading all of it.

use std::time::Instant;

use super::{Case, Column, MIB, Plot, Run, Unit, Workload, appenders, column};
use crate::log::Log;
use crate::logs::Role;
use crate::measure::{histogram, median, nanos};
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const REPLAY: Workload = Workload {
    name: "replay",
    title: "Open and replay",
    text: "A log of 256 MiB in records of 256 B was written, closed, and lies in the page \
        cache. Measured is from before it is opened until the last record was handed over, \
        in the same process, up to three times a round (the median counts). What a log verifies on \
        the way is its own choice: mapwal checks everything while it opens, on all processors, a \
        segment each, and hands it over without checking again; seglog checks as it reads, on one thread. The percentiles are of the times from one MiB of payload \
        handed over to the next, of all passes; the first of a pass has the opening in it.",
    cases,
    takes: |case, contender| appenders(case, contender) || contender.role == Role::Variant,
    columns: COLUMNS,
    plot: Plot::Bars,
};

const COLUMNS: &[Column] =
    &[column("bytes", "payload", Unit::BytesPerSecond), column("nanos", "in all", Unit::Nanos)];

const MOST_TIMES: usize = 3;
/// Seconds after which one more would tell little.
const ENOUGH: f64 = 1.0;

fn cases(quick: bool) -> Vec<Case> {
    let amount = if quick { 4 * MIB } else { 256 * MIB };
    vec![Case {
        name: format!("{} MiB of 256 B", amount / MIB),
        record: 256,
        threads: 1,
        amount,
        segment: if quick { MIB } else { 64 * MIB },
        rounds: 5,
        quick,
        ..Case::default()
    }]
}

pub fn run<L: Log>(run: &Run) -> Outcome {
    let case = &run.case;
    let count = case.records();
    let mut log = L::open(&run.dir, case.shape());
    let mut source = Source::new(0, case.record);
    for _ in 0..count {
        log.append_alone(source.record());
    }
    log.sync();
    log.close();
    let mut seconds: Vec<f64> = Vec::new();
    let mut latency = histogram();
    let in_a_mib = MIB / case.record as u64;
    while seconds.len() < MOST_TIMES && seconds.iter().sum::<f64>() < ENOUGH {
        let began = Instant::now();
        let (mut visited, mut ended, mut left) = (0, began, in_a_mib);
        let can = L::replay(&run.dir, case.shape(), &mut |record| {
            std::hint::black_box(record.first());
            visited += 1;
            left -= 1;
            if left == 0 {
                let now = Instant::now();
                latency.saturating_record(nanos(now - ended));
                (ended, left) = (now, in_a_mib); // closing it again is not replay
            }
        });
        if !can {
            return Outcome::skipped("cannot be read from the start");
        }
        assert_eq!(visited, count, "records came back");
        seconds.push((ended - began).as_secs_f64());
    }
    super::check::<L>(&run.dir, case, Checker::new(1, case.record), &[count]);
    let seconds = median(&seconds);
    Outcome::default()
        .with("nanos", seconds * 1e9)
        .with("bytes", case.amount as f64 / seconds)
        .with_latency(latency)
}
