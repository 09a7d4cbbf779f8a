//! How fast records are read in place, beside the checksum alone.

use std::hint::black_box;
use std::time::Instant;

use super::{Case, Column, MIB, Plot, Run, Unit, Workload, column};
use crate::log::{About, Own};
use crate::logs::Role;
use crate::measure::median;
use crate::outcome::Outcome;
use crate::payload::{Checker, Source};

pub const ITERATE: Workload = Workload {
    name: "iterate",
    title: "Iterate",
    text: "`reader().iter()` over 256 MiB in records of 256 B, in the open log that wrote them: \
        with checks, and with `unverified()`, where the first byte of each is read. The floor \
        is CRC-32C over the same records in memory, one call a record, and in one call for \
        all. The median of seven passes each.",
    cases,
    takes: |_, contender| {
        matches!(contender.role, Role::Own | Role::Variant) || contender.name() == CHECKSUM.name
    },
    columns: COLUMNS,
    plot: Plot::Nothing,
};

const COLUMNS: &[Column] = &[
    column("bytes", "checked", Unit::BytesPerSecond),
    column("unverified", "unverified", Unit::BytesPerSecond),
    column("whole", "in one call", Unit::BytesPerSecond),
];

pub const CHECKSUM: About = About {
    name: "checksum floor",
    appended: "only computes CRC-32C, in memory; not a log",
    synced: "not at all",
};

const PASSES: usize = 7;

fn cases(quick: bool) -> Vec<Case> {
    let amount = if quick { 4 * MIB } else { 256 * MIB };
    vec![Case {
        name: format!("{} MiB of 256 B", amount / MIB),
        record: 256,
        amount,
        segment: if quick { MIB } else { 64 * MIB },
        rounds: 5,
        quick,
        ..Case::default()
    }]
}

/// Payload bytes per second.
fn speed(case: &Case, mut pass: impl FnMut()) -> f64 {
    let seconds: Vec<f64> = (0..PASSES)
        .map(|_| {
            let began = Instant::now();
            pass();
            began.elapsed().as_secs_f64()
        })
        .collect();
    case.amount as f64 / median(&seconds)
}

pub fn run<L: Own>(run: &Run) -> Outcome {
    let case = &run.case;
    let mut log = L::open(&run.dir, case.shape());
    let mut source = Source::new(0, case.record);
    for _ in 0..case.records() {
        log.append_alone(source.record());
    }
    log.sync();

    let mut checker = Checker::new(1, case.record);
    log.iterate(true, |record| checker.visit(record));
    checker.finish(&[case.records()]).unwrap();

    let checked = speed(case, || {
        let mut count = 0;
        log.iterate(true, |record| {
            black_box(record.len());
            count += 1;
        });
        assert_eq!(count, case.records());
    });
    let unverified = speed(case, || {
        let mut count = 0;
        log.iterate(false, |record| {
            black_box(record[0]);
            count += 1;
        });
        assert_eq!(count, case.records());
    });
    Outcome::default().with("bytes", checked).with("unverified", unverified)
}

pub fn checksum(run: &Run) -> Outcome {
    let case = &run.case;
    let mut source = Source::new(0, case.record);
    let mut bytes = Vec::with_capacity(case.amount as usize);
    for _ in 0..case.records() {
        bytes.extend_from_slice(source.record());
    }
    let each = speed(case, || {
        for record in bytes.chunks_exact(case.record) {
            black_box(crc32c::crc32c(record));
        }
    });
    let whole = speed(case, || {
        black_box(crc32c::crc32c(&bytes));
    });
    Outcome::default().with("bytes", each).with("whole", whole)
}
