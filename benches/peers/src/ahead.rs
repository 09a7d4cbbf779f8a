//! Where others are ahead of mapwal: computed from the run, whether a target is about it or not.

use crate::logs::{CONTENDERS, Role};
use crate::measure::median;
use crate::outcome::{Results, Rounds};
use crate::tables::{percentile, show, table, times};
use crate::workloads::{self, Case, Column, Unit, Workload};

/// What a peer is ahead in: mapwal's figure, the peer's, and the one divided by the other.
struct Ahead {
    what: &'static str,
    unit: Unit,
    own: f64,
    peer: f64,
    ratio: f64,
}

pub fn section(results: &Results) -> String {
    let head = ["", "in", "who", "mapwal", "the other", "mapwal beside it"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut compared = false;
    for workload in workloads::ALL {
        for case in (workload.cases)(false) {
            let Some(own) = results.get(workload.name, &case.name, "mapwal") else { continue };
            for peer in CONTENDERS.iter().filter(|contender| contender.role == Role::Peer) {
                let Some(rounds) = results.get(workload.name, &case.name, peer.name()) else {
                    continue;
                };
                compared = true;
                let found = rate(workload, &case, own, rounds).into_iter();
                for ahead in found.chain(percentiles(workload, &case, own, rounds)) {
                    rows.push(vec![
                        format!("{}: {}", workload.title, case.name),
                        ahead.what.into(),
                        peer.name().into(),
                        show(ahead.own, ahead.unit),
                        show(ahead.peer, ahead.unit),
                        times(ahead.ratio),
                    ]);
                }
            }
        }
    }
    let found = match (compared, rows.len()) {
        (false, _) => return String::new(),
        (true, 1) => "In nothing of what is compared here is a peer ahead of mapwal.\n".into(),
        (true, _) => table(&rows, true),
    };
    format!(
        "\n## Where others are ahead\n\nEvery case in which a peer does more than mapwal in the same time (the \
         median of the ratios in each round is below 1 ×; so it may be where the medians of both say otherwise), \
         in which its median commit takes less, or, of appends at a steady rate, its p99.9 or p99.99 does (of all \
         rounds together, above 1 ×).\n\n{found}"
    )
}

/// What comes at a steady rate is done by all in the same time.
fn rate(workload: &Workload, case: &Case, own: &Rounds, peer: &Rounds) -> Option<Ahead> {
    let Column { number, title, unit } = workload.columns[0];
    let compared = case.rate == 0 && matches!(unit, Unit::PerSecond | Unit::BytesPerSecond);
    let ratios = own.ratios(number, peer);
    let ratio = (compared && !ratios.is_empty()).then(|| median(&ratios))?;
    let (own, peer) = (own.median(number)?, peer.median(number)?);
    (ratio < 1.0).then_some(Ahead { what: title, unit, own, peer, ratio })
}

fn percentiles(workload: &Workload, case: &Case, own: &Rounds, peer: &Rounds) -> Vec<Ahead> {
    let compared: &[(&str, f64)] = match workload.name {
        "commit" | "group" => &[("p50", 0.5)],
        _ if case.rate > 0 => &[("p99.9", 0.999), ("p99.99", 0.9999)],
        _ => &[],
    };
    let (Some(own), Some(peer)) = (own.latency(), peer.latency()) else { return Vec::new() };
    let ahead = |&(what, quantile): &(&'static str, f64)| {
        let (own, peer) = (percentile(&own, quantile)?, percentile(&peer, quantile)?);
        (peer < own).then_some(Ahead { what, unit: Unit::Nanos, own, peer, ratio: own / peer })
    };
    compared.iter().filter_map(ahead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;
    use crate::outcome::Outcome;

    /// Rounds with these rates, and as many appends of each of these nanoseconds.
    fn with(rates: &[f64], nanos: &[u64]) -> Vec<Outcome> {
        let round = |&rate: &f64| {
            let mut latency = histogram();
            nanos.iter().for_each(|&nanos| latency.record_n(nanos, 10_000).unwrap());
            Outcome::default().with("rate", rate).with_latency(latency)
        };
        rates.iter().map(round).collect()
    }

    /// The rows of mapwal beside another in a case.
    fn rows(
        workload: &'static str,
        case: &str,
        own: Vec<Outcome>,
        other: (&str, Vec<Outcome>),
    ) -> Vec<String> {
        let mut results = Results::default();
        for (log, rounds) in [("mapwal", own), other] {
            for (round, outcome) in rounds.into_iter().enumerate() {
                results.add(workload, case, log, round, outcome);
            }
        }
        let text = section(&results);
        text.lines().filter(|line| line.contains(&format!(": {case} |"))).map(Into::into).collect()
    }

    #[test]
    fn rates_are_compared_round_by_round() {
        let case = "256 B, 1 thread";
        let row = |own: &[f64], peer: &[f64]| {
            rows("append", case, with(own, &[9]), ("seglog", with(peer, &[1])))
        };
        assert_eq!(
            row(&[1e6, 2e6, 9e6], &[2e6, 4e6, 1e6]),
            [
                "| Append, in bursts: 256 B, 1 thread | records/s | seglog | 2 M/s | 2 M/s | 0.50 × |"
            ]
        );
        assert!(row(&[2.0, 4.0, 1.0], &[1.0, 2.0, 9.0]).is_empty());
        assert!(row(&[1.0], &[1.0]).is_empty(), "as fast");
    }

    #[test]
    fn commits_are_compared_by_their_median_as_well() {
        let case = "256 B, 1 thread";
        let row = |own, peer| {
            rows("commit", case, with(&[1.0], &[own]), ("okaywal", with(&[1.0], &[peer])))
        };
        assert_eq!(
            row(120, 100),
            ["| Commit: 256 B, 1 thread | p50 | okaywal | 120 ns | 100 ns | 1.20 × |"]
        );
        assert!(row(100, 120).is_empty());
    }

    #[test]
    fn what_is_paced_is_compared_by_its_slow_end_alone() {
        let case = "256 B, 500,000/s";
        // of three times 10,000 both ends lie in the slowest third
        let row = |own: &[u64], peer: &[u64]| {
            rows("latency", case, with(&[1.0], own), ("walrus", with(&[2.0], peer)))
        };
        let title = "Append latency, paced: 256 B, 500,000/s";
        assert_eq!(
            row(&[9, 9, 30], &[1, 1, 20]),
            ["p99.9", "p99.99"]
                .map(|what| format!("| {title} | {what} | walrus | 30 ns | 20 ns | 1.50 × |"))
        );
        assert!(row(&[9, 9, 20], &[1, 1, 30]).is_empty());
    }

    #[test]
    fn floors_and_variants_are_no_peers_and_nothing_ahead_is_said() {
        for other in ["copy floor", "mapwal, fast-crc", "seglog"] {
            let mut results = Results::default();
            let rate = |log| if log == "seglog" { 0.5 } else { 2.0 };
            for (log, rate) in [("mapwal", 1.0), ("wal-db", 0.5), (other, rate(other))] {
                let outcome = Outcome::default().with("rate", rate);
                results.add("append", "256 B, 1 thread", log, 1, outcome);
            }
            assert!(section(&results).contains("In nothing"), "{other}");
        }
        assert_eq!(section(&Results::default()), "", "nobody to compare with");
    }
}
