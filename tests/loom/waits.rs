//! Sleeping until there is something to read.

use std::time::Duration;

use crate::commit::Commit;
use crate::format::FIRST_FRAME;
use crate::small::{Small, Spare, model, spawn};
use crate::sync::{Arc, Backoff, lock};
use crate::wait::Waiters;

/// Longer than a model: loom's waits are never over before they are woken.
const LONG: Duration = Duration::MAX;

/// Sleeps as a follower does that has read all before the segment `index`, which is
/// empty. `false`: it is not the last one, or claims are in flight.
fn sleep(log: &Small, index: u64) -> bool {
    let chain = lock(&log.chain);
    let guard = log.waiters.lock();
    if chain.live.len() as u64 != index {
        return false;
    }
    let tail = log.ring.active_seat().slot.call_me();
    if tail.is_closed() || tail.place().offset != FIRST_FRAME {
        return false;
    }
    drop(chain);
    log.waiters.sleep(guard, LONG);
    true
}

/// Waits for the first record of the segment `index`.
fn follow(log: &Small, index: u64) {
    let mut backoff = Backoff::default();
    let mut at = 1;
    loop {
        if at < index && lock(&log.chain).ends.len() as u64 >= at {
            at += 1;
        } else if at == index && !log.read(index).is_empty() {
            return;
        } else if !sleep(log, at) {
            backoff.wait();
        }
    }
}

#[test]
fn an_append_wakes_who_sleeps_until_the_next_record() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let other = log.clone();
        let follower = spawn(move || follow(&other, 1));
        log.append(b"a record");
        follower.join().unwrap();
    });
}

#[test]
fn of_two_appends_the_first_in_place_wakes() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let (follower, writer) = (log.clone(), log.clone());
        let follower = spawn(move || follow(&follower, 1));
        let writer = spawn(move || writer.append(b"record a"));
        log.append(b"record b");
        writer.join().unwrap();
        follower.join().unwrap();
    });
}

#[test]
fn an_append_wakes_all_who_sleep() {
    model(3, || {
        let log = Small::new(2, &[Spare::READY]);
        let followers = [(); 2].map(|()| {
            let log = log.clone();
            // who finds a claim in flight does not sleep: it would come again
            spawn(move || while log.read(1).is_empty() && sleep(&log, 1) {})
        });
        log.append(b"a record");
        for follower in followers {
            follower.join().unwrap();
        }
    });
}

#[test]
fn an_append_that_overtakes_the_mark_wakes_as_well() {
    model(None, || {
        let log = Small::new(2, &[Spare { ready: 0, room: None, stale: false }]);
        let other = log.clone();
        let follower = spawn(move || follow(&other, 1));
        log.append(b"a record");
        follower.join().unwrap();
    });
}

#[test]
fn a_roll_wakes_who_sleeps_in_the_segment_before() {
    model(None, || {
        let log = Small::new(1, &[Spare::READY, Spare::READY]);
        let other = log.clone();
        let follower = spawn(move || follow(&other, 2));
        assert!(log.roll(None));
        log.append(b"a record");
        follower.join().unwrap();
    });
}

#[test]
fn a_moved_mark_wakes_who_sleeps_until_it_is_durable() {
    model(None, || {
        let shared = Arc::new((Commit::new(0), Waiters::default()));
        let other = shared.clone();
        let sleeper = spawn(move || {
            let (commit, waiters) = &*other;
            while commit.durable() == 0 {
                waiters.sleep_for_durable(LONG, || commit.durable() > 0);
            }
        });
        let (commit, waiters) = &*shared;
        commit.lead().move_to(8);
        waiters.durable_moved();
        sleeper.join().unwrap();
    });
}
