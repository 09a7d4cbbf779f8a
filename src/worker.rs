//! The background thread: works ahead of the tail, keeps spares, and gives back memory that is
//! not needed any more. What there is to do it learns by looking.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::log::Log;
use crate::pace::{Pace, WINDOW};
use crate::storage::FlushMethod;
use crate::sync::{Condvar, Mutex, lock, try_lock};

/// How often it looks while appends go on, and after how many looks without any
/// it sleeps until it is called.
const LOOK: Duration = Duration::from_millis(1);
const IDLE_LOOKS: u32 = 200;

/// The background thread's end of things: what it is called for.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    call: Mutex<Calls>,
    called: Condvar,
    /// `None` before the thread has started.
    pace: Mutex<Option<Pace>>,
}

#[derive(Debug, Default)]
struct Calls {
    work: bool,
    stop: bool,
}

impl Worker {
    /// There may be something to do.
    pub(crate) fn call(&self) {
        lock(&self.call).work = true;
        self.called.notify_one();
    }

    /// Ends the thread, soon.
    pub(crate) fn stop(&self) {
        lock(&self.call).stop = true;
        self.called.notify_one();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.call).stop
    }

    /// Sleeps until called, or while `active` for a moment. `false`: stop.
    fn wait(&self, active: bool) -> bool {
        let mut calls = lock(&self.call);
        if !active {
            while !calls.work && !calls.stop {
                calls = self.called.wait(calls).unwrap_or_else(|e| e.into_inner());
            }
        } else if !calls.stop {
            let (after, _) = self
                .called
                .wait_timeout_while(calls, LOOK, |calls| !calls.stop)
                .unwrap_or_else(|e| e.into_inner());
            calls = after;
        }
        calls.work = false;
        !calls.stop
    }

    /// The background thread: until it is stopped.
    pub(crate) fn run(&self, log: &Log) {
        let _guard = log.guard_against_panic();
        let is_empty = lock(&log.recovered).is_empty();
        *lock(&self.pace) = Some(Pace::new(log.grown(), is_empty));
        let (mut last, mut quiet) = (0, 0);
        while self.wait(quiet < IDLE_LOOKS || !lock(&log.recovered).is_empty()) {
            if !log.work_ahead() {
                continue;
            }
            // a missing spare would take as much memory
            let lacks_spare = lock(&log.chain).spares.len() < log.options.spares;
            log.unload_old(lacks_spare);
            if self.is(Pace::is_past_opening) {
                lock(&log.recovered).clear();
            }
            let _ = log.keep_spares(); // the append that needs one learns why there is none
            let grown = log.grown();
            quiet = if grown == last { quiet + 1 } else { 0 };
            last = grown;
        }
    }

    /// What holds of the log's pace; of none before the thread has started.
    pub(crate) fn is(&self, paced: impl Fn(&Pace) -> bool) -> bool {
        lock(&self.pace).as_ref().is_some_and(paced)
    }
}

impl Log {
    /// Makes pages ready ahead of the tail: before what may take long, and in the middle of
    /// it. `false`: it is too early for anything.
    pub(crate) fn work_ahead(&self) -> bool {
        if lock(&self.worker.pace).is_none() {
            return false; // the log is being opened
        }
        let (grown, now) = (self.grown(), Instant::now());
        let window = lock(&self.worker.pace).as_mut().and_then(|pace| pace.window(grown, now));
        let Some(window) = window else { return false };
        self.ring.work_ahead(match self.options.flush_method {
            FlushMethod::Range => window,
            // every flush writes all that is dirty: as little as that can be
            FlushMethod::File => window.min(*WINDOW.start()),
        });
        true
    }

    /// Keeps as many spares as the options say, and room in the log's limit.
    fn keep_spares(&self) -> Result<()> {
        self.check_alive()?;
        let Some(making) = try_lock(&self.making) else {
            return Ok(()); // somebody else is at it; there is more to do than wait
        };
        self.tidy(&making)?;
        self.remove_surplus(&making)?;
        while self.wants_spare() && !self.worker.is_stopped() {
            self.make_one(&making)?;
        }
        Ok(())
    }

    /// Whether a file is to be made ahead. Where segments are retired as others are begun,
    /// it is left to them to become spares, until half of the last segment is used.
    fn wants_spare(&self) -> bool {
        let chain = &mut *lock(&self.chain);
        let is_retiring = chain.rolls_since_retired <= self.options.spares as u32;
        chain.spares.len() < self.options.spares
            && (!is_retiring || self.tail(chain).0 % self.size.bytes() >= self.size.bytes() / 2)
    }

    /// Gives back the memory of segments that were written some time ago: of those that
    /// take no claims, the last alone is kept as it is, and only where it `keeps_last`. They
    /// are walked first, so that whoever asks for their end later does not bring all of it
    /// back.
    pub(crate) fn unload_old(&self, keeps_last: bool) {
        loop {
            let segment = {
                let chain = lock(&self.chain);
                let old = chain.live.len().saturating_sub(1 + keeps_last as usize);
                let next = chain.live.partition_point(|live| live.id.index < chain.loaded_from);
                if next >= old {
                    return;
                }
                chain.live[next].clone()
            };
            if !segment.unload() {
                return; // somebody is in the middle of an append there
            }
            lock(&self.chain).loaded_from = segment.id.index + 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_one_record_is_all_present_however_fast_the_log_grows() {
        let log = Log::small();
        let is_present = |slots| {
            let mut racing = Pace::new(0, true);
            racing.window(1 << 40, Instant::now());
            *lock(&log.worker.pace) = Some(racing);
            let spare = log.new_file(100, slots).unwrap();
            assert!(spare.ready == 0 || spare.ready == spare.region.map().len());
            spare.ready > 0
        };
        assert!(!is_present(1), "claims there look how far it is present");
        assert!(is_present(2));
    }
}
