//! Calm before each run: what the ones before left for the disk is not charged to it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{median, sync_all};

/// A device that has done all its writes may still be slow for a while, where a host
/// limits it. So small flushes are timed, until they take no longer than the best ones
/// took in this run, roughly.
#[derive(Default)]
pub struct Calm {
    best: Option<f64>,
    waits: u32,
    given_up: u32,
}

const SETTLE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
const ROUGHLY: f64 = 2.5;
const PROBES: u64 = 9;

impl Calm {
    pub fn wait(&mut self, dir: &Path) {
        sync_all();
        let began = Instant::now();
        self.waits += 1;
        loop {
            thread::sleep(SETTLE);
            let now = flush_time(dir);
            let best = self.best.map_or(now, |best| best.min(now));
            self.best = Some(best);
            if now <= best * ROUGHLY {
                return;
            }
            if began.elapsed() > PATIENCE {
                self.given_up += 1;
                return;
            }
        }
    }

    pub fn report(&self) -> String {
        let Some(best) = self.best else { return String::new() };
        format!(
            "\nBefore each run the device was given up to {} s to come to rest, until a write and \
             `fdatasync` of 400 B took no longer than {ROUGHLY} times the least so far, which \
             came to {:.0} µs. It did not in {} of {} runs.\n",
            PATIENCE.as_secs(),
            best * 1e6,
            self.given_up,
            self.waits
        )
    }
}

/// Of the probes the one in the middle, in seconds.
fn flush_time(dir: &Path) -> f64 {
    let path = dir.join("probe");
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    file.sync_all().unwrap();
    let times: Vec<f64> = (0..PROBES)
        .map(|number| {
            let began = Instant::now();
            file.write_all_at(&[1; 400], number * 400).unwrap();
            file.sync_data().unwrap();
            began.elapsed().as_secs_f64()
        })
        .collect();
    fs::remove_file(path).unwrap();
    median(&times)
}
