//! From one segment to the next, in a ring of two seats.

use crate::small::{Small, Spare, model, spawn};

const READY: Spare = Spare::READY;

#[test]
fn no_record_is_lost_or_doubled_when_segments_follow_each_other() {
    model(None, || {
        let log = Small::new(1, &[READY; 3]);
        let other = log.clone();
        let writer = spawn(move || [b"record a", b"record b"].map(|record| other.append(record)));
        let mine = log.append(b"record c");
        let [a, b] = writer.join().unwrap();
        assert!(a < b && mine.is_some() && a.is_some() && b.is_some());
        log.holds([a, b, mine]);
    });
}

#[test]
fn a_late_claimer_does_nothing_to_the_next_life_of_its_slot() {
    model(None, || {
        let log = Small::new(2, &[READY; 4]);
        let other = log.clone();
        let writer = spawn(move || other.append(b"record a"));
        assert!(log.roll(None) && log.roll(None)); // its slot serves the third segment now
        let mine = log.append(b"record b");
        let a = writer.join().unwrap();
        assert!(a.is_some() && mine.is_some());
        log.holds([a, mine]);
    });
}

#[test]
fn a_slot_whose_claims_were_refused_is_used_again_when_they_are_counted_off() {
    model(None, || {
        // the first segment's mark cannot move: its claimers go on to the others
        let frozen = Spare { ready: 0, room: Some(0), stale: false };
        let log = Small::new(2, &[frozen, READY, READY, READY]);
        let other = log.clone();
        let writer = spawn(move || other.append(b"record a"));
        assert!(log.roll(None) && log.roll(None));
        let mine = log.append(b"record b");
        let a = writer.join().unwrap();
        assert!(a.is_some() && mine.is_some());
        log.holds([a, mine]);
    });
}

#[test]
fn a_late_claimer_who_looks_first_claims_in_the_life_that_it_saw() {
    model(None, || {
        let log = Small::new(2, &[READY; 4]);
        let other = log.clone();
        let writer = spawn(move || other.append_politely(b"record a"));
        assert!(log.roll(None) && log.roll(None));
        let a = writer.join().unwrap();
        assert!(a.is_some());
        log.holds([a]);
    });
}

#[test]
fn a_slot_waits_for_all_who_were_refused_before_its_next_life() {
    model(4, || {
        // one claim crosses the frozen mark, the other the limit: the first notes the
        // end last, and whoever rolls may see nothing of the second but its count
        let frozen = Spare { ready: 0, room: Some(0), stale: false };
        let log = Small::new(1, &[frozen, READY, READY, READY, READY]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        assert!(log.roll(None) && log.roll(None));
        let [a, b] = writers.map(|writer| writer.join().unwrap());
        assert!(a.is_some() && b.is_some());
        log.holds([a, b]);
    });
}

#[test]
fn a_claimer_who_was_refused_late_takes_nothing_from_the_next_life() {
    model(2, || {
        // both wait for a mark that freezes: one may do so until long after
        let frozen = Spare { ready: 0, room: Some(0), stale: false };
        let log = Small::new(2, &[frozen, READY, READY, READY, READY]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        assert!(log.roll(None) && log.roll(None));
        let mine = [b"record c", b"record d"].map(|record| log.append(record));
        let [a, b] = writers.map(|writer| writer.join().unwrap());
        assert!(a.is_some() && b.is_some());
        log.holds([a, b, mine[0], mine[1]]);
    });
}

#[test]
fn who_works_ahead_in_a_seat_leaves_alone_what_is_claimed_in_its_next_life() {
    model(None, || {
        let low = Spare { ready: 0, room: None, stale: false };
        let stale = Spare { ready: 1, room: None, stale: true };
        let log = Small::large(2, &[low, READY, stale]);
        let other = log.clone();
        let worker = spawn(move || other.ring.work_ahead(8));
        assert!(log.roll(None) && log.roll(None));
        let mine = log.append(b"record a");
        worker.join().unwrap();
        log.holds([mine, log.append(b"record b")]);
    });
}
