//! How long opening takes when only the tail is verified.

use std::path::Path;
use std::time::Instant;

use mapwal::{Lsn, Options, Verify, Wal};

use super::{Case, Column, GIB, MIB, Plot, Run, Unit, Workload, column, own};
use crate::measure::{median, nanos};
use crate::outcome::Outcome;
use crate::payload::Source;

pub const VERIFY_TAIL: Workload = Workload {
    name: "verify_tail",
    title: "Open with Verify::Tail",
    text: "Opening alone, of a log that was closed and lies in the page cache: the median of \
        nine openings one after the other. It has records of 4 KiB, so that writing is done \
        sooner, in segments of 64 MiB, of which the last one, that alone is verified record by \
        record, is half full. Records of a few bytes make that part three times as long. For \
        comparison once with Verify::All. The check afterwards: the last record is the last one \
        written.",
    cases: |quick| {
        if quick {
            vec![case(8 * MIB, MIB)]
        } else {
            vec![case(GIB, 64 * MIB), case(4 * GIB, 64 * MIB)]
        }
    },
    takes: own,
    columns: COLUMNS,
    plot: Plot::Nothing,
};

const COLUMNS: &[Column] = &[
    column("nanos", "opening", Unit::Nanos),
    column("slowest", "the slowest", Unit::Nanos),
    column("tail", "the last segment holds", Unit::Bytes),
    column("all", "Verify::All", Unit::Nanos),
];

const TIMES: usize = 9;

const RECORD: u64 = 4096;
/// What a record takes of a segment.
const FRAME: u64 = RECORD + 16;

fn case(amount: u64, segment: u64) -> Case {
    Case {
        name: format!("{} MiB", amount / MIB),
        record: RECORD as usize,
        // whole segments with their frames' headers, and half of one
        amount: (amount + segment / 2) / FRAME * RECORD,
        segment,
        rounds: 3,
        ..Case::default()
    }
}

pub fn run(run: &Run) -> Outcome {
    let case = &run.case;
    let wal = Options::new().segment_size(case.segment).open(&run.dir).unwrap();
    let mut source = Source::new(0, case.record);
    let mut last = Lsn::NONE;
    for _ in 0..case.records() {
        last = wal.append(source.record()).unwrap();
    }
    wal.close().unwrap();

    let times: Vec<f64> = (0..TIMES).map(|_| open(&run.dir, Verify::Tail, case).0).collect();
    let (all, _) = open(&run.dir, Verify::All, case);
    Outcome::default()
        .with("nanos", median(&times))
        .with("slowest", times.iter().copied().fold(0.0, f64::max))
        .with("tail", (last.as_u64() % case.segment) as f64 + case.record as f64)
        .with("all", all)
}

/// The time in nanoseconds, and the log, which holds what was written.
fn open(dir: &Path, verify: Verify, case: &Case) -> (f64, Wal) {
    let began = Instant::now();
    let wal = Options::new().verify(verify).open(dir).unwrap();
    let took = nanos(began.elapsed()) as f64;
    let mut source = Source::new(0, case.record);
    for _ in 1..case.records() {
        source.record();
    }
    let reader = wal.reader();
    let last = reader.backwards().next().unwrap().unwrap();
    assert_eq!(last.data(), source.record(), "the last record");
    drop(reader);
    (took, wal)
}
