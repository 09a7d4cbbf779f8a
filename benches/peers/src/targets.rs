//! What was to be reached, and whether it was: computed from the run.

use crate::logs::{CONTENDERS, Role};
use crate::measure::median;
use crate::outcome::{Results, Rounds};
use crate::tables::{bounds, digits, show, table};
use crate::workloads::{Unit, sustained};

/// What was found: one figure, or one per round.
struct Figure {
    values: Vec<f64>,
    /// Of whom, where that was to be found out.
    beside: Option<&'static str>,
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

const TARGETS: &[Target] = &[
    target("append, 1 thread, 256 B", SEGMENTED, Needed::Times(15.0), |r| {
        ratios(r, "append", APPEND_256, "rate", SEGMENTED)
    }),
    target("append, 1 thread, 256 B", "seglog", Needed::Times(3.0), |r| {
        ratios(r, "append", APPEND_256, "rate", "seglog")
    }),
    target("append, 1 thread, 256 B", "copy floor", Needed::Times(0.6), |r| {
        ratios(r, "append", APPEND_256, "rate", "copy floor")
    }),
    target("append, 1 thread, 64 KiB", "copy floor", Needed::Times(0.85), |r| {
        ratios(r, "append", APPEND_64K, "rate", "copy floor")
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
        let ours = own(r, "commit", COMMIT)?.latency()?;
        let floor = r.get("commit", COMMIT, "device floor")?.latency()?;
        let p50 = ours.value_at_quantile(0.5) as f64 / floor.value_at_quantile(0.5) as f64;
        one(p50)
    }),
    target("commit, to the device each", "", Needed::AtMost(4.5 * 1024.0, Unit::Bytes), |r| {
        numbers(r, "commit", COMMIT, "device_bytes")
    }),
    target("commit, 32 threads", "the best peer", Needed::Times(1.5), |r| {
        best(r, "group", "256 B, 32 threads", "rate")
    }),
    target("commit, 128 threads", "the best peer", Needed::Times(1.3), |r| {
        best(r, "group", "256 B, 128 threads", "rate")
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
        let large = own(r, "verify_tail", "4096 MiB")?.median("nanos")?;
        one(large / own(r, "verify_tail", "1024 MiB")?.median("nanos")?)
    }),
    target("resident memory at 1 GB/s", "(spares + 2) segments", Needed::Within(1.0), |r| {
        let rounds = own(r, "memory", MEMORY)?;
        one(rounds.median("rss")? / rounds.median("bound")?)
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

fn one(value: f64) -> Option<Figure> {
    Some(Figure { values: vec![value], beside: None })
}

fn numbers(results: &Results, workload: &'static str, case: &str, number: &str) -> Option<Figure> {
    let values = own(results, workload, case)?.numbers(number);
    (!values.is_empty()).then_some(Figure { values, beside: None })
}

fn ratios(
    results: &Results,
    workload: &'static str,
    case: &str,
    number: &str,
    other: &str,
) -> Option<Figure> {
    let other = results.get(workload, case, other)?;
    let values = own(results, workload, case)?.ratios(number, other);
    (!values.is_empty()).then_some(Figure { values, beside: None })
}

fn peers<'r>(
    results: &'r Results,
    workload: &'static str,
    case: &'r str,
) -> impl Iterator<Item = (&'static str, &'r Rounds)> {
    let peers = CONTENDERS.iter().filter(|contender| contender.role == Role::Peer);
    peers.filter_map(move |peer| Some((peer.name(), results.get(workload, case, peer.name())?)))
}

/// Beside the peer that does most.
fn best(results: &Results, workload: &'static str, case: &str, number: &str) -> Option<Figure> {
    let (name, _) = peers(results, workload, case)
        .filter_map(|(name, rounds)| Some((name, rounds.median(number)?)))
        .max_by(|left, right| left.1.total_cmp(&right.1))?;
    Some(Figure { beside: Some(name), ..ratios(results, workload, case, number, name)? })
}

/// p99.9 beside the lowest of a peer's.
fn tail(results: &Results, workload: &'static str, case: &str) -> Option<Figure> {
    let p999 = |rounds: &Rounds| Some(rounds.latency()?.value_at_quantile(0.999));
    let (name, least) = peers(results, workload, case)
        .filter_map(|(name, rounds)| Some((name, p999(rounds)?)))
        .min_by_key(|(_, latency)| *latency)?;
    let ours = p999(own(results, workload, case)?)?;
    Some(Figure { values: vec![ours as f64 / least as f64], beside: Some(name) })
}

/// Those targets that the run can tell of.
pub fn section(results: &Results) -> String {
    let mut rows =
        vec![["", "beside", "reached", "rounds", "needed", ""].map(String::from).to_vec()];
    for target in TARGETS {
        let Some(figure) = (target.figure)(results) else { continue };
        let value = median(&figure.values);
        let (unit, needed, reached) = match target.needed {
            Needed::Times(times) => (None, format!("≥ {times} ×"), value >= times),
            Needed::Within(times) => (None, format!("≤ {times} ×"), value <= times),
            Needed::AtMost(most, unit) => {
                (Some(unit), format!("≤ {}", show(most, unit)), value <= most)
            }
        };
        let shown = |value| unit.map_or(format!("{} ×", digits(value)), |unit| show(value, unit));
        let (min, max) = bounds(&figure.values);
        let spread = match figure.values.len() {
            1 => String::new(),
            _ => format!("{} … {}", shown(min), shown(max)),
        };
        let beside = figure.beside.map_or(String::new(), |name| format!(": {name}"));
        let verdict = if reached { "reached" } else { "**not reached**" };
        rows.push(vec![
            target.what.into(),
            format!("{}{beside}", target.beside),
            shown(value),
            spread,
            needed,
            verdict.into(),
        ]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!("\n## Targets\n\n{}", table(&rows, true))
}
