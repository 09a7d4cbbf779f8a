//! What is read off: times, histograms, the device's count of bytes, resident memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Nanoseconds, to three digits, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

pub fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// When a stretch of work began and ended, in one thread or over several.
#[derive(Clone, Copy)]
pub struct Span {
    pub began: Instant,
    pub ended: Instant,
}

impl Span {
    pub fn of(work: impl FnOnce()) -> Self {
        let began = Instant::now();
        work();
        Span { began, ended: Instant::now() }
    }

    /// From the first beginning to the last end.
    pub fn around(spans: &[Span]) -> f64 {
        let began = spans.iter().map(|span| span.began).min().unwrap();
        let ended = spans.iter().map(|span| span.ended).max().unwrap();
        (ended - began).as_secs_f64()
    }

    pub fn seconds(self) -> f64 {
        (self.ended - self.began).as_secs_f64()
    }
}

/// Waits for a time to come, without sleeping. Returns the time it is, which is later
/// if that had passed.
#[inline]
pub fn wait_until(due: Instant) -> Instant {
    loop {
        let now = Instant::now();
        if now >= due {
            return now;
        }
        std::hint::spin_loop();
    }
}

/// Writes back everything on the machine.
pub fn sync_all() {
    // SAFETY: takes nothing, gives nothing.
    unsafe { libc::sync() }
}

/// The block device below a directory, as in `/sys/dev/block`.
pub fn device(dir: &Path) -> String {
    let dev = fs::metadata(dir).unwrap().dev();
    format!("{}:{}", libc::major(dev), libc::minor(dev))
}

/// Bytes written to the device so far, by everyone on the machine. `None`: it does
/// not tell.
pub fn device_bytes(dir: &Path) -> Option<u64> {
    let stat = fs::read_to_string(format!("/sys/dev/block/{}/stat", device(dir))).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

/// A line of `/proc/self/status` that is in kB, as bytes.
pub fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: u64 = line.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    kib << 10
}

/// The one in the middle; of an even number the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
