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

/// All rounds of one contender in one case.
#[derive(Debug, Default)]
pub struct Rounds(pub Vec<Outcome>);

impl Rounds {
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        self.0.iter().filter_map(|outcome| outcome.numbers.get(name).copied()).collect()
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        let numbers = self.numbers(name);
        (!numbers.is_empty()).then(|| median(&numbers))
    }

    pub fn latency(&self) -> Option<Histogram<u64>> {
        let mut merged: Option<Histogram<u64>> = None;
        for latency in self.0.iter().filter_map(|outcome| outcome.latency.as_ref()) {
            merged.get_or_insert_with(histogram).add(latency).unwrap();
        }
        merged
    }

    pub fn skipped(&self) -> Option<&str> {
        self.0.iter().find_map(|outcome| outcome.skipped.as_deref())
    }

    /// This one's number divided by the other's, round by round.
    pub fn ratios(&self, name: &str, other: &Rounds) -> Vec<f64> {
        let (mine, others) = (self.numbers(name), other.numbers(name));
        mine.iter().zip(&others).map(|(mine, other)| mine / other).collect()
    }
}

/// All that ran: by workload, case and contender.
#[derive(Default)]
pub struct Results(BTreeMap<(&'static str, String, String), Rounds>);

impl Results {
    pub fn add(&mut self, workload: &'static str, case: &str, log: &str, outcome: Outcome) {
        let rounds = self.0.entry((workload, case.into(), log.into())).or_default();
        rounds.0.push(outcome);
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
}
