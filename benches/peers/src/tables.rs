//! Tables in Markdown, and numbers as people read them.

use hdrhistogram::Histogram;

use crate::measure::median;
use crate::workloads::Unit;

/// A table whose first line is its head. Its columns but the first are numbers, or text.
pub fn table(rows: &[Vec<String>], numbers: bool) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let Some((head, body)) = rows.split_first() else { return String::new() };
    let rule: Vec<String> = (0..head.len())
        .map(|i| if i > 0 && numbers { "---:".into() } else { "---".into() })
        .collect();
    let body: String = body.iter().map(|row| line(row)).collect();
    line(head) + &line(&rule).replace("| ", "|").replace(" |", "|") + &body
}

/// Three digits or so, with the unit.
pub fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanos => scaled(value, 1000.0, &["ns", "µs", "ms", "s"]),
        Unit::PerSecond => scaled(value, 1000.0, &["/s", "k/s", "M/s", "G/s"]),
        Unit::BytesPerSecond => scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
        Unit::Bytes => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB"]),
        Unit::Count => digits(value),
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{} {}", digits(value), units[unit])
}

pub fn digits(value: f64) -> String {
    match value {
        _ if value == value.trunc() || value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How many times one is the other: closer to 1 with one more digit, as it is there that the two
/// are judged.
pub fn times(ratio: f64) -> String {
    match (ratio - 1.0).abs() {
        off if off > 0.0 && off < 0.005 => format!("{ratio:.3} ×"),
        _ => digits(ratio) + " ×",
    }
}

/// The median, and from where to where the rounds went.
pub fn show_spread(values: &[f64], unit: Unit) -> String {
    let (min, max) = bounds(values);
    let middle = show(median(values), unit);
    if values.len() == 1 {
        return middle;
    }
    format!("{middle} ({} … {})", show(min, unit), show(max, unit))
}

pub fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)))
}

/// The percentiles that tables show.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// Nothing is said of a percentile that no sample lies above, but for the maximum.
pub fn percentiles(latency: &Histogram<u64>) -> Vec<String> {
    let shown = |&(_, quantile): &_| {
        percentile(latency, quantile).map_or(String::new(), |nanos| show(nanos, Unit::Nanos))
    };
    PERCENTILES.iter().map(shown).collect()
}

/// In nanoseconds, if there are samples enough.
pub fn percentile(latency: &Histogram<u64>, quantile: f64) -> Option<f64> {
    let told = quantile == 1.0 || latency.len() as f64 * (1.0 - quantile) > 0.999;
    told.then(|| latency.value_at_quantile(quantile) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;

    #[test]
    fn a_ratio_close_to_one_says_on_which_side_it_is() {
        let shown = [257.0 / 256.0, 0.996, 0.994, 1.0, 1.006, 1.1].map(times);
        assert_eq!(shown, ["1.004 ×", "0.996 ×", "0.99 ×", "1 ×", "1.01 ×", "1.10 ×"]);
    }

    #[test]
    fn a_percentile_needs_samples_enough() {
        let mut latency = histogram();
        latency.record_n(5, 100).unwrap();
        assert_eq!(percentiles(&latency), ["5 ns", "5 ns", "", "", "5 ns"]);
    }
}
