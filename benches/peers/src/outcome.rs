//! What one run found, as text between the child that ran it and the parent, and all of
//! them together.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::measure::{histogram, median};

/// What one run of one contender found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub numbers: BTreeMap<String, f64>,
    pub latency: Option<Histogram<u64>>,
    /// Why it could not run, for a contender that has no such thing.
    pub skipped: Option<String>,
}

impl Outcome {
    pub fn skipped(why: &str) -> Self {
        Outcome { skipped: Some(why.into()), ..Outcome::default() }
    }

    pub fn with(mut self, name: &str, number: f64) -> Self {
        self.numbers.insert(name.into(), number);
        self
    }

    pub fn and(mut self, numbers: Vec<(&'static str, f64)>) -> Self {
        self.numbers.extend(numbers.into_iter().map(|(name, number)| (name.into(), number)));
        self
    }

    pub fn with_latency(mut self, latency: Histogram<u64>) -> Self {
        self.latency = Some(latency);
        self
    }

    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, number) in &self.numbers {
            writeln!(text, "number {name} {number}").unwrap();
        }
        for value in self.latency.iter().flat_map(|latency| latency.iter_recorded()) {
            let (at, count) = (value.value_iterated_to(), value.count_since_last_iteration());
            writeln!(text, "latency {at} {count}").unwrap();
        }
        if let Some(why) = &self.skipped {
            writeln!(text, "skipped {why}").unwrap();
        }
        text + "end\n"
    }

    /// `None`: it is not whole.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut outcome = Outcome::default();
        for line in text.strip_suffix("end\n")?.lines() {
            let (what, rest) = line.split_once(' ')?;
            if what == "skipped" {
                outcome.skipped = Some(rest.into());
                continue;
            }
            let (left, right) = rest.split_once(' ')?;
            if what == "number" {
                outcome.numbers.insert(left.into(), right.parse().ok()?);
            } else {
                let latency = outcome.latency.get_or_insert_with(histogram);
                latency.record_n(left.parse().ok()?, right.parse().ok()?).ok()?;
            }
        }
        Some(outcome)
    }
}

/// All rounds of one contender in one case, by number: one that failed is missing.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<usize, Outcome>);

impl Rounds {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        self.0.values().filter_map(|outcome| outcome.numbers.get(name).copied()).collect()
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        let numbers = self.numbers(name);
        (!numbers.is_empty()).then(|| median(&numbers))
    }

    pub fn latency(&self) -> Option<Histogram<u64>> {
        let mut merged: Option<Histogram<u64>> = None;
        for latency in self.0.values().filter_map(|outcome| outcome.latency.as_ref()) {
            merged.get_or_insert_with(histogram).add(latency).unwrap();
        }
        merged
    }

    pub fn skipped(&self) -> Option<&str> {
        self.0.values().find_map(|outcome| outcome.skipped.as_deref())
    }

    /// What `of` makes of this one divided by what it makes of the other, for each round that
    /// both have.
    pub fn ratios_of(&self, other: &Rounds, of: impl Fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        let ratio = |(round, mine)| Some(of(mine)? / of(other.0.get(round)?)?);
        self.0.iter().filter_map(ratio).collect()
    }

    /// This one's number divided by the other's, round by round.
    pub fn ratios(&self, name: &str, other: &Rounds) -> Vec<f64> {
        self.ratios_of(other, |outcome| outcome.numbers.get(name).copied())
    }
}

/// All that ran: by workload, case and contender.
#[derive(Default)]
pub struct Results(BTreeMap<(&'static str, String, String), Rounds>);

impl Results {
    pub fn add(
        &mut self,
        workload: &'static str,
        case: &str,
        log: &str,
        round: usize,
        outcome: Outcome,
    ) {
        let rounds = self.0.entry((workload, case.into(), log.into())).or_default();
        rounds.0.insert(round, outcome);
    }

    pub fn get(&self, workload: &'static str, case: &str, log: &str) -> Option<&Rounds> {
        self.0.get(&(workload, case.into(), log.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_outlives_its_text_and_half_a_text_is_none() {
        let mut latency = histogram();
        for nanos in [3, 3, 1_000_000] {
            latency.record(nanos).unwrap();
        }
        let outcome = Outcome::default().with("rate", 2.5).with_latency(latency.clone());
        let text = outcome.to_text();
        let read = Outcome::from_text(&text).unwrap();
        assert_eq!(read.numbers, outcome.numbers);
        assert_eq!(read.latency.unwrap(), latency);
        assert!((0..text.len()).all(|cut| Outcome::from_text(&text[..cut]).is_none()));
        assert_eq!(
            Outcome::from_text("skipped no such thing\nend\n").unwrap().skipped.unwrap(),
            "no such thing"
        );
    }

    #[test]
    fn a_round_that_is_missing_shifts_no_ratio() {
        let mut results = Results::default();
        for (log, round, rate) in
            [("a", 1, 10.0), ("a", 2, 20.0), ("a", 3, 30.0), ("b", 1, 1.0), ("b", 3, 3.0)]
        {
            results.add("append", "case", log, round, Outcome::default().with("rate", rate));
        }
        let rounds = |log| results.get("append", "case", log).unwrap();
        assert_eq!(rounds("a").ratios("rate", rounds("b")), [10.0, 10.0]);
        assert_eq!(rounds("b").ratios("rate", rounds("a")), [0.1, 0.1]);
    }
}
