//! Claims, frames and the ready mark of one segment.

use crate::commit::Commit;
use crate::format::{FIRST_FRAME, Kind};
use crate::ring::Asked;
use crate::segment;
use crate::small::{FRAME, STAMP, Small, Spare, model, spawn};
use crate::storage::Region;
use crate::sync::{Arc, lock};

#[test]
fn a_walker_sees_whole_frames_and_a_prefix() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        let seen = log.read(1);
        assert!(log.read(1).starts_with(&seen));
        log.holds(writers.map(|writer| writer.join().unwrap()));
    });
}

#[test]
fn a_batch_is_seen_whole() {
    model(None, || {
        let log = Small::new(3, &[Spare::READY]);
        let batch = {
            let log = log.clone();
            spawn(move || {
                let Asked::Granted { claim, .. } = log.ring.active_seat().ask(2 * FRAME, 2) else {
                    panic!("there is room");
                };
                segment::put_batch(claim, STAMP, &[b"batch, 1", b"batch, 2"]);
            })
        };
        let single = {
            let log = log.clone();
            spawn(move || log.append(b"a single"))
        };
        let seen = log.read(1);
        let of_batch = seen.iter().filter(|(_, record)| record.starts_with(b"batch")).count();
        assert!(of_batch == 0 || of_batch == 2, "half a batch in {seen:?}");
        batch.join().unwrap();
        single.join().unwrap();
        assert_eq!(log.read(1).len(), 3);
    });
}

#[test]
fn a_dropped_building_leaves_an_abandoned_frame_and_no_hole() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let builder = {
            let log = log.clone();
            spawn(move || {
                let Asked::Granted { claim, .. } = log.ring.active_seat().ask(FRAME, 1) else {
                    panic!("there is room");
                };
                drop(segment::Building::new(claim, STAMP, 8));
            })
        };
        log.append(b"a record");
        builder.join().unwrap();
        let (segment, pages) = lock(&log.chain).live[0].clone();
        let map = pages.map();
        assert_eq!(segment.published(map).unwrap().at.ordinal, 2);
        let kinds = [0, 1].map(|i| map.load(FIRST_FRAME + i * FRAME) >> 28);
        assert!(
            kinds.contains(&(Kind::Abandoned as u32)) && kinds.contains(&(Kind::Record as u32))
        );
    });
}

#[test]
fn of_two_who_overtake_the_mark_one_moves_it() {
    model(None, || {
        let log = Small::large(2, &[Spare { ready: 0, room: None, stale: true }]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        log.read(1); // the frames of another life are not there
        log.holds(writers.map(|writer| writer.join().unwrap()));
        assert_eq!(populated(&log), 1);
    });
}

fn populated(log: &Small) -> usize {
    lock(&log.chain).live[0].1.populated.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn below_a_frozen_mark_the_granted_claims_are_a_prefix() {
    model(None, || {
        // the first claim is granted, the second crosses the mark, the third the limit
        let log = Small::new(2, &[Spare { ready: 1, room: Some(1), stale: false }]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        let mine = log.append(b"record c");
        let settled = log.ring.active_seat().slot.settled_end();
        let [a, b] = writers.map(|writer| writer.join().unwrap());
        let end = log.end();
        assert_eq!(end.ordinal, 1);
        assert!(settled.is_none_or(|settled| settled == end), "the end was noted twice");
        log.holds([a, b, mine]);
    });
}

#[test]
fn a_rotation_ends_a_segment_whose_mark_is_about_to_freeze() {
    model(4, || {
        let log = Small::new(2, &[Spare { ready: 0, room: Some(0), stale: false }]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        let end = log.end();
        assert_eq!(end.offset, FIRST_FRAME);
        log.holds(writers.map(|writer| writer.join().unwrap()));
    });
}

#[test]
fn a_rotation_grants_the_claims_that_wait_for_the_mark() {
    model(None, || {
        let log = Small::large(3, &[Spare { ready: 1, room: None, stale: true }]);
        let writers = [b"record a", b"record b"].map(|record| {
            let log = log.clone();
            spawn(move || log.append(record))
        });
        let end = log.end();
        let appended = writers.map(|writer| writer.join().unwrap());
        assert_eq!(end.ordinal as usize, appended.iter().flatten().count());
        log.holds(appended);
    });
}

#[test]
fn a_claim_that_is_larger_than_the_segment_ends_it_for_all() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let other = Arc::clone(&log);
        let writer = spawn(move || other.append(b"record a"));
        let refused = matches!(log.ring.active_seat().ask(1 << 20, 1), Asked::Refused);
        assert!(refused);
        let after = log.append(b"too late");
        assert_eq!(after, None);
        let end = log.end();
        let appended = writer.join().unwrap();
        assert_eq!(end.ordinal as usize, appended.iter().count());
        log.holds([appended]);
    });
}

#[test]
fn what_is_below_a_cut_is_seen_by_all_who_see_the_cut() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let (segment, pages) = lock(&log.chain).live[0].clone();
        let other = log.clone();
        let writer = spawn(move || other.append(b"record a"));
        let cut = (segment.clone(), pages.clone());
        let cutter = spawn(move || {
            if cut.1.map().load(FIRST_FRAME) != 0 {
                cut.0.set_cut(FIRST_FRAME + FRAME);
            }
        });
        // without a lock, which would order them
        let read = segment.frame_bytes(pages.map(), FIRST_FRAME);
        assert!(read.is_ok(), "a hole below a cut: {read:?}");
        writer.join().unwrap();
        cutter.join().unwrap();
    });
}

#[test]
fn who_is_told_that_a_log_is_closed_sees_its_last_record() {
    model(None, || {
        let log = Small::new(2, &[Spare::READY]);
        let (segment, pages) = lock(&log.chain).live[0].clone();
        let commit = Arc::new(Commit::new(0));
        let (other, closing) = (log.clone(), commit.clone());
        let writer = spawn(move || {
            other.append(b"the last");
            closing.close();
        });
        if commit.check_open().is_err() {
            let last = segment.frame_bytes(pages.map(), FIRST_FRAME); // without a lock, as above
            assert!(last.unwrap().is_some(), "it would end before its last record");
        }
        writer.join().unwrap();
    });
}
