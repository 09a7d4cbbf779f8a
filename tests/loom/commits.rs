//! Group commit: who flushes, who waits, and the failure that ends it.

use std::io;

use loom::cell::UnsafeCell;

use crate::commit::{Commit, Lead};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::small::{model, spawn};
use crate::stats::{Counters, count};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, PANICKING};

/// A log of appends that are eight bytes each, and a disk.
struct Committed {
    commit: Commit,
    tail: AtomicU64,
    /// What the disk has.
    flushed: AtomicU64,
    /// Whether a flush has failed.
    broken: AtomicBool,
    /// Used by the one who flushes.
    flushing: UnsafeCell<()>,
}

/// What the next flush does.
#[derive(Clone, Copy)]
enum Flush {
    Works,
    Fails,
    Panics,
}

impl Committed {
    fn new() -> Arc<Self> {
        Arc::new(Committed {
            commit: Commit::new(0),
            tail: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            flushing: UnsafeCell::new(()),
        })
    }

    fn append(&self) -> u64 {
        self.tail.fetch_add(8, Ordering::AcqRel) + 8
    }

    /// Flushes what there is. All orderings are relaxed: it is the lead and the mark
    /// that order flushes.
    fn flush(&self, lead: &Lead<'_>, how: Flush) -> Result<()> {
        self.flushing.with_mut(|_| ());
        let again = self.broken.load(Ordering::Relaxed);
        assert!(!again, "a flush is never tried again");
        lead.begin();
        let tail = self.tail.load(Ordering::Relaxed);
        match how {
            Flush::Works => {
                self.flushed.store(tail, Ordering::Relaxed);
                lead.move_to(tail);
                Ok(())
            }
            Flush::Fails => {
                self.broken.store(true, Ordering::Relaxed);
                self.commit.fail(Arc::new(io::Error::other("the disk is gone")));
                self.commit.check()
            }
            Flush::Panics => {
                self.broken.store(true, Ordering::Relaxed);
                PANICKING.with(|panicking| panicking.set(true));
                Err(Error::Closed) // drops the lead, as unwinding would
            }
        }
    }

    /// Appends, and waits until that is durable.
    fn commit(&self, how: Flush) -> Result<()> {
        let want = self.append();
        let waited = self.commit.wait(|| want, |lead| self.flush(lead, how));
        if waited.is_ok() {
            assert!(self.commit.durable() >= want);
            assert!(self.flushed.load(Ordering::Relaxed) >= want, "the mark passed the flush");
        }
        waited
    }
}

fn has_failed(result: &Result<()>) -> bool {
    matches!(result, Err(Error::FlushFailed { .. }))
}

#[test]
fn commits_share_flushes_and_nobody_sleeps_for_ever() {
    model(3, || {
        let log = Committed::new();
        let others = [(); 2].map(|()| {
            let log = log.clone();
            spawn(move || log.commit(Flush::Works).unwrap())
        });
        log.commit(Flush::Works).unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn who_commits_again_is_waited_for_and_nobody_sleeps_for_ever() {
    model(3, || {
        let log = Committed::new();
        let again = |log: &Committed| (0..2).for_each(|_| log.commit(Flush::Works).unwrap());
        let other = log.clone();
        let other = spawn(move || again(&other));
        again(&log);
        other.join().unwrap();
    });
}

#[test]
fn a_failure_reaches_who_waits_for_those_who_are_due() {
    model(3, || {
        let log = Committed::new();
        let others = [(); 2].map(|()| {
            let log = log.clone();
            spawn(move || log.commit(Flush::Works).and_then(|()| log.commit(Flush::Works)))
        });
        // somebody who does not lead: a panic elsewhere in the log
        log.commit.fail(Arc::new(io::Error::other("the disk is gone")));
        let results = others.map(|other| other.join().unwrap());
        assert!(results.iter().all(|result| result.is_ok() || has_failed(result)));
    });
}

#[test]
fn a_failing_flush_reaches_everyone_and_is_not_tried_again() {
    model(3, || {
        let log = Committed::new();
        let others = [(); 2].map(|()| {
            let log = log.clone();
            spawn(move || log.commit(Flush::Fails))
        });
        assert!(has_failed(&log.commit(Flush::Fails)));
        others.into_iter().for_each(|other| assert!(has_failed(&other.join().unwrap())));
    });
}

#[test]
fn a_flush_that_fails_behind_one_that_worked_names_what_is_durable() {
    model(None, || {
        let log = Committed::new();
        let other = log.clone();
        let works = spawn(move || other.commit(Flush::Works));
        let mine = log.commit(Flush::Fails);
        let works = works.join().unwrap();
        let flushed = log.flushed.load(Ordering::Relaxed);
        for result in [mine, works] {
            if let Err(error) = result {
                let Error::FlushFailed { durable, .. } = error else { panic!("{error}") };
                assert_eq!(durable, Lsn(flushed));
            }
        }
    });
}

#[test]
fn a_panic_in_a_flush_reaches_everyone() {
    model(3, || {
        let log = Committed::new();
        let others = [(); 2].map(|()| {
            let log = log.clone();
            spawn(move || log.commit(Flush::Works))
        });
        let mine = log.commit(Flush::Panics);
        let panicked = matches!(mine, Err(Error::Closed));
        for other in others {
            let result = other.join().unwrap();
            assert!(result.is_ok() || panicked && has_failed(&result));
        }
        let sticky = has_failed(&log.commit.check());
        assert_eq!(sticky, panicked);
    });
}

#[test]
fn who_takes_the_lead_keeps_waiters_out_and_lets_them_go_on() {
    model(3, || {
        let log = Committed::new();
        let others = [(); 2].map(|()| {
            let log = log.clone();
            spawn(move || log.commit(Flush::Works).unwrap())
        });
        let lead = log.commit.lead();
        log.flushing.with_mut(|_| ());
        drop(lead);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn who_wants_the_lead_gets_it_after_a_failure_too() {
    model(None, || {
        let log = Committed::new();
        let other = log.clone();
        let failing = spawn(move || other.commit(Flush::Fails));
        let lead = log.commit.lead();
        log.flushing.with_mut(|_| ());
        drop(lead);
        assert!(has_failed(&failing.join().unwrap()));
    });
}

#[test]
fn who_sees_a_mark_sees_that_there_was_a_cut_before_it() {
    model(None, || {
        let log = Committed::new();
        let has_cuts = Arc::new(AtomicBool::new(false));
        let (other, said) = (log.clone(), has_cuts.clone());
        let waiter = spawn(move || {
            if other.commit.durable() > 0 {
                assert!(said.load(Ordering::Relaxed), "what was cut away would be durable");
            }
        });
        has_cuts.store(true, Ordering::Relaxed);
        log.commit(Flush::Works).unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn nothing_is_lost_of_what_is_counted_at_once() {
    model(None, || {
        let counters = Arc::new(Counters::default());
        let other = counters.clone();
        let counting = spawn(move || count(&other.flushes));
        count(&counters.flushes);
        counting.join().unwrap();
        assert_eq!(counters.stats(0).flushes, 2);
    });
}
