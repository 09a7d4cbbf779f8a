//! From one segment to the next, in a ring of two seats.

use crate::small::{Small, Spare, model, spawn};

#[test]
fn no_record_is_lost_or_doubled_when_segments_follow_each_other() {
    model(None, || {
        let log = Small::new(1, &[Spare::READY; 3]);
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
        let log = Small::new(2, &[Spare::READY; 4]);
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
        let log = Small::new(2, &[frozen, Spare::READY, Spare::READY, Spare::READY]);
        let other = log.clone();
        let writer = spawn(move || other.append(b"record a"));
        assert!(log.roll(None) && log.roll(None));
        let mine = log.append(b"record b");
        let a = writer.join().unwrap();
        assert!(a.is_some() && mine.is_some());
        log.holds([a, mine]);
    });
}
