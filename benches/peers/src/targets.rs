//! What was to be reached, and whether it was: computed from the run.

use hdrhistogram::Histogram;

use crate::logs::{CONTENDERS, Role};
use crate::measure::median;
use crate::outcome::{Results, Rounds};
use crate::tables::{bounds, show, table, times};
use crate::workloads::{Unit, latency, memory, sustained};

/// What was found.
struct Figure {
    /// By default the median of the rounds.
    value: f64,
    rounds: Vec<f64>,
    /// Of whom, where that was to be found out, or how.
    note: Option<String>,
    /// It says nothing of the target: the work was not the one that it is about.
    void: bool,
}

impl Figure {
    /// `None`: there are no rounds.
    fn of(rounds: Vec<f64>) -> Option<Self> {
        let value = (!rounds.is_empty()).then(|| median(&rounds))?;
        Some(Figure { value, rounds, note: None, void: false })
    }

    fn noting(self, note: impl Into<String>) -> Self {
        Figure { note: Some(note.into()), ..self }
    }
}

enum Needed {
    /// So many times the other.
    Times(f64),
    /// At most so many times the other.
    Within(f64),
    /// At most this.
    AtMost(f64, Unit),
}

struct Target {
    what: &'static str,
    beside: &'static str,
    needed: Needed,
    figure: fn(&Results) -> Option<Figure>,
}

const APPEND_64: &str = "64 B, 1 thread";
const APPEND_256: &str = "256 B, 1 thread";
const APPEND_64K: &str = "65536 B, 1 thread";
const APPEND_8: &str = "256 B, 8 threads";
const PACED: &str = "256 B, 500,000/s";
const COMMIT: &str = "256 B, 1 thread";
const REPLAY: &str = "256 MiB of 256 B";
const MEMORY: &str = "64 KiB at 1 GB/s";
const SEGMENTED: &str = "wal-db, segmented";

/// Of the rate that a target is about: a writer that is slower is another one.
const NEARLY: f64 = 0.98;

const TARGETS: &[Target] = &[
    target("append, 1 thread, 256 B", SEGMENTED, Needed::Times(15.0), |r| {
        ratios(r, "append", APPEND_256, "rate", SEGMENTED)
    }),
    target("append, 1 thread, 256 B", "seglog", Needed::Times(3.0), |r| {
        ratios(r, "append", APPEND_256, "rate", "seglog")
    }),
    target("append, 1 thread, 256 B", "the faster floor", Needed::Times(0.6), |r| {
        best(r, "append", APPEND_256, "rate", Role::Floor)
    }),
    target("append, 1 thread, 64 KiB", "the faster floor", Needed::Times(0.85), |r| {
        best(r, "append", APPEND_64K, "rate", Role::Floor)
    }),
    target("append, 1 thread, 64 B", "seglog", Needed::Times(2.0), |r| {
        ratios(r, "append", APPEND_64, "rate", "seglog")
    }),
    target("append, 8 threads, 256 B", "wal-db", Needed::Times(15.0), |r| {
        ratios(r, "append", APPEND_8, "rate", "wal-db")
    }),
    target("append p99.9, 1 thread, 256 B, 500,000/s", "the best peer", Needed::Within(0.1), |r| {
        tail(r, "latency", PACED)
    }),
    target("sustained append, 8 GiB of 256 B, fresh", SEGMENTED, Needed::Times(2.0), |r| {
        ratios(r, "sustained", sustained::FRESH, "bytes", SEGMENTED)
    }),
    target("sustained append, 8 GiB of 256 B, recycled", SEGMENTED, Needed::Times(5.0), |r| {
        ratios(r, "sustained", sustained::RECYCLED, "bytes", SEGMENTED)
    }),
    target("commit p50, 1 thread", "device floor", Needed::Within(1.1), |r| {
        latencies(own(r, "commit", COMMIT)?, r.get("commit", COMMIT, "device floor")?, 0.5)
    }),
    target("commit, to the device each", "", Needed::AtMost(4.5 * 1024.0, Unit::Bytes), |r| {
        numbers(r, "commit", COMMIT, "device_bytes")
    }),
    target("commit, 32 threads", "the best peer", Needed::Times(1.5), |r| {
        best(r, "group", "256 B, 32 threads", "rate", Role::Peer)
    }),
    target("commit, 128 threads", "the best peer", Needed::Times(1.3), |r| {
        best(r, "group", "256 B, 128 threads", "rate", Role::Peer)
    }),
    target("open and replay, 256 MiB of 256 B", "seglog", Needed::Times(2.5), |r| {
        ratios(r, "replay", REPLAY, "bytes", "seglog")
    }),
    target("iteration, checked", "CRC-32C, a call a record", Needed::Times(0.7), |r| {
        ratios(r, "iterate", REPLAY, "bytes", "checksum floor")
    }),
    target("open, Verify::Tail, 4 GiB", "", Needed::AtMost(20e6, Unit::Nanos), |r| {
        numbers(r, "verify_tail", "4096 MiB", "nanos")
    }),
    target("open, Verify::Tail, 4 GiB", "the same for 1 GiB", Needed::Within(1.25), |r| {
        let small = own(r, "verify_tail", "1024 MiB")?;
        Figure::of(own(r, "verify_tail", "4096 MiB")?.ratios("nanos", small))
    }),
    target("resident memory at 1 GB/s", "(spares + 2) segments", Needed::Within(1.0), |r| {
        let rounds = own(r, "memory", MEMORY)?;
        let figure = Figure::of(rounds.numbers("of_bound"))?;
        let slowest = bounds(&rounds.numbers("bytes")).0;
        Some(Figure {
            value: bounds(&figure.rounds).1, // it is a bound: the worst round counts
            note: Some(format!("written at {}", show(slowest, Unit::BytesPerSecond))),
            void: slowest < memory::RATE * NEARLY,
            ..figure
        })
    }),
];

const fn target(
    what: &'static str,
    beside: &'static str,
    needed: Needed,
    figure: fn(&Results) -> Option<Figure>,
) -> Target {
    Target { what, beside, needed, figure }
}

fn own<'r>(results: &'r Results, workload: &'static str, case: &str) -> Option<&'r Rounds> {
    results.get(workload, case, "mapwal")
}

fn numbers(results: &Results, workload: &'static str, case: &str, number: &str) -> Option<Figure> {
    Figure::of(own(results, workload, case)?.numbers(number))
}

fn ratios(
    results: &Results,
    workload: &'static str,
    case: &str,
    number: &str,
    other: &str,
) -> Option<Figure> {
    let other = results.get(workload, case, other)?;
    Figure::of(own(results, workload, case)?.ratios(number, other))
}

/// One latency beside another: of all rounds together, and of each.
fn latencies(ours: &Rounds, other: &Rounds, quantile: f64) -> Option<Figure> {
    let at = |latency: &Histogram<u64>| latency.value_at_quantile(quantile) as f64;
    let figure = Figure::of(ours.ratios_of(other, |outcome| outcome.latency.as_ref().map(at)))?;
    Some(Figure { value: at(&ours.latency()?) / at(&other.latency()?), ..figure })
}

fn all<'r>(
    results: &'r Results,
    workload: &'static str,
    case: &'r str,
    role: Role,
) -> impl Iterator<Item = (&'static str, &'r Rounds)> {
    let all = CONTENDERS.iter().filter(move |contender| contender.role == role);
    all.filter_map(move |other| Some((other.name(), results.get(workload, case, other.name())?)))
}

/// Beside the one that does most, of all that are this to us.
fn best(
    results: &Results,
    workload: &'static str,
    case: &str,
    number: &str,
    role: Role,
) -> Option<Figure> {
    let (name, _) = all(results, workload, case, role)
        .filter_map(|(name, rounds)| Some((name, rounds.median(number)?)))
        .max_by(|left, right| left.1.total_cmp(&right.1))?;
    Some(ratios(results, workload, case, number, name)?.noting(name))
}

/// p99.9 beside the lowest of a peer's, if the appends came as fast as they should.
fn tail(results: &Results, workload: &'static str, case: &str) -> Option<Figure> {
    const QUANTILE: f64 = 0.999;
    let (name, rounds, _) = all(results, workload, case, Role::Peer)
        .filter_map(|(name, rounds)| Some((name, rounds, rounds.latency()?)))
        .min_by_key(|(_, _, latency)| latency.value_at_quantile(QUANTILE))?;
    let own = own(results, workload, case)?;
    let slowest = bounds(&own.numbers("rate")).0;
    let figure = latencies(own, rounds, QUANTILE)?.noting(name);
    Some(Figure { void: slowest < latency::PACE as f64 * NEARLY, ..figure })
}

/// The targets that the run can tell of; of a whole run all.
pub fn section(results: &Results, whole: bool) -> String {
    let head = ["", "beside", "needed", "measured", "rounds", ""];
    let mut rows = vec![head.map(String::from).to_vec()];
    for target in TARGETS {
        match (target.figure)(results) {
            Some(figure) => rows.push(row(target, &figure)),
            None if whole => rows.push(unmeasured(target)),
            None => {}
        }
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!("\n## Targets\n\n{}", table(&rows, true))
}

impl Target {
    fn needed(&self) -> String {
        match self.needed {
            Needed::Times(times) => format!("≥ {times} ×"),
            Needed::Within(times) => format!("≤ {times} ×"),
            Needed::AtMost(most, unit) => format!("≤ {}", show(most, unit)),
        }
    }

    fn reached(&self, value: f64) -> bool {
        match self.needed {
            Needed::Times(least) => value >= least,
            Needed::Within(most) | Needed::AtMost(most, _) => value <= most,
        }
    }

    fn show(&self, value: f64) -> String {
        match self.needed {
            Needed::Times(_) | Needed::Within(_) => times(value),
            Needed::AtMost(_, unit) => show(value, unit),
        }
    }
}

fn row(target: &Target, figure: &Figure) -> Vec<String> {
    let (min, max) = bounds(&figure.rounds);
    let spread = match figure.rounds.len() {
        1 => "one".into(),
        many => format!("{many}: {} … {}", target.show(min), target.show(max)),
    };
    let note = figure.note.as_ref().map_or(String::new(), |note| format!(": {note}"));
    let verdict = match (figure.void, target.reached(figure.value)) {
        (true, _) => "**not judged**",
        (false, true) => "reached",
        (false, false) => "**not reached**",
    };
    vec![
        target.what.into(),
        format!("{}{note}", target.beside),
        target.needed(),
        target.show(figure.value),
        spread,
        verdict.into(),
    ]
}

fn unmeasured(target: &Target) -> Vec<String> {
    let mut row = vec![target.what.into(), target.beside.into(), target.needed()];
    row.extend(["", "", "**not measured**"].map(String::from));
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;
    use crate::outcome::Outcome;
    use crate::workloads::{self, Case};

    fn memory_at(rate: f64) -> String {
        let mut results = Results::default();
        let outcome = Outcome::default().with("of_bound", 0.75).with("bytes", rate);
        results.add("memory", MEMORY, "mapwal", 1, outcome);
        section(&results, false)
    }

    fn paced_at(rate: f64) -> String {
        let mut results = Results::default();
        for (log, nanos) in [("mapwal", 5), ("seglog", 100)] {
            let mut latency = histogram();
            latency.record(nanos).unwrap();
            let outcome = Outcome::default().with("rate", rate).with_latency(latency);
            results.add("latency", PACED, log, 1, outcome);
        }
        section(&results, false)
    }

    #[test]
    fn what_was_written_too_slowly_is_not_judged() {
        assert!(memory_at(1e9).contains("| reached |"));
        assert!(memory_at(0.5e9).contains("| **not judged** |"));
        assert!(paced_at(499e3).contains("| reached |"));
        assert!(paced_at(400e3).contains("| **not judged** |"));
    }

    #[test]
    fn a_whole_run_names_every_target() {
        let missing = section(&Results::default(), true);
        assert_eq!(missing.matches("**not measured**").count(), TARGETS.len());
        assert_eq!(section(&Results::default(), false), "");
    }

    #[test]
    fn every_target_is_of_a_case_that_is_run() {
        let of = |name, case| {
            let workload = workloads::find(name).unwrap();
            (workload.cases)(false).iter().any(|known: &Case| known.name == case)
        };
        for (workload, case) in [
            ("append", APPEND_64),
            ("append", APPEND_256),
            ("append", APPEND_64K),
            ("append", APPEND_8),
            ("latency", PACED),
            ("commit", COMMIT),
            ("group", "256 B, 32 threads"),
            ("group", "256 B, 128 threads"),
            ("replay", REPLAY),
            ("iterate", REPLAY),
            ("verify_tail", "4096 MiB"),
            ("verify_tail", "1024 MiB"),
            ("sustained", sustained::FRESH),
            ("sustained", sustained::RECYCLED),
            ("memory", MEMORY),
        ] {
            assert!(of(workload, case), "{workload}, {case}");
        }
    }
}
