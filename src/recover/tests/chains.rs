//! Logs of several segments: what follows what, what is dead, and what is spare.

use super::builder::tail;
use super::*;
use crate::format::{self, FIRST_FRAME};
use crate::recover::{Directory, Ended, Next, Verify, recover};

#[test]
fn segments_follow_each_other() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.sync();
    second.record("two");
    second.open();
    let mut third = dir.roll(&mut second, 5, 1);
    third.record("three");
    dir.file(6, 1);
    dir.file(8, 1);
    dir.file(4, 1);
    let found = dir.recover().unwrap();
    assert_eq!(dir.read(&found), ["one", "two", "three"]);
    assert_eq!(found.links.iter().map(|link| link.first_sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(found.spares.iter().map(|spare| spare.0).collect::<Vec<_>>(), [6, 8]);
    assert_eq!(found.dead, [format::file_name(4)]);
    assert_eq!((found.next_index, found.epoch), (9, 2));
}

#[test]
fn verifying_the_tail_leaves_proved_segments_alone() {
    let dir = Dir::default();
    let mut first = dir.first();
    let one = first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.sync();
    second.record("two");
    dir.flip(1, one % SIZE + 17, 1);
    assert!(recover(&dir.0, Verify::All).is_err());
    let Directory::Log(found) = recover(&dir.0, Verify::Tail).unwrap() else { panic!() };
    assert_eq!(found.links[0].end.offset, first.at.offset);
    assert!(!found.report.segments[0].verified && found.report.segments[1].verified);
}

#[test]
fn verifying_the_tail_walks_what_nothing_proves() {
    let dir = Dir::default();
    let mut first = dir.first();
    let one = first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("two");
    dir.flip(1, one % SIZE + 17, 1);
    // nothing was synced: the first segment is torn, the second goes
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), tail(&found)), (texts([]), one));
    assert_eq!(found.dead, [format::file_name(2)]);
}

#[test]
fn behind_a_seal_the_log_goes_on_in_the_file_it_names() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    dir.file(2, 1);
    let next = dir.file(3, 1);
    dir.file(4, 1);
    first.seal(&next);
    let found = dir.recover().unwrap();
    assert_eq!(found.next, Next::Spare(3));
    assert_eq!(found.spares.iter().map(|spare| spare.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(found.dead, [format::file_name(2)]);
    assert_eq!(found.report.tail.0, first.lsn());
    assert_eq!(found.report.ended, Ended::Unclosed);
}

#[test]
fn a_begin_that_was_not_promised_is_a_spare_again() {
    let dir = Dir::default();
    dir.segments(["one", "two"]);
    dir.overwrite(2, FIRST_FRAME, &[0; 40]);
    let found = dir.recover().unwrap();
    assert_eq!((found.next, dir.read(&found)), (Next::Spare(2), texts(["one"])));
}

#[test]
fn what_follows_a_torn_segment_is_dead() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.sync();
    first.record("one");
    let torn = first.skip("two");
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("three");
    dir.roll(&mut second, 3, 1).record("four");
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), tail(&found)), (texts(["one"]), torn));
    assert_eq!(found.dead, [format::file_name(2), format::file_name(3)]);
    assert_eq!(found.next_index, 4);
}

#[test]
fn a_cut_leaves_segments_dead_whatever_becomes_of_them() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let cut = first.at;
    first.record("cut away");
    let mut second = dir.roll(&mut first, 2, 1);
    let gone = second.record("cut away, too");
    let mut third = dir.roll(&mut second, 3, 1);
    third.sync();
    third.record("this as well");
    let mut fourth = dir.file(4, 1).following(&first, cut);
    fourth.record("two");
    for damage in 0..3 {
        match damage {
            0 => {}
            1 => dir.flip(2, gone % SIZE + 16, 1),
            _ => dir.remove(2),
        }
        let found = dir.recover().unwrap();
        assert_eq!(dir.read(&found), ["one", "two"]);
        assert_eq!(found.links[1].first_sequence, 2);
        assert!(found.dead.contains(&format::file_name(3)));
    }
}

#[test]
fn a_cut_that_was_not_durable_did_not_happen() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let cut = first.at;
    first.record("two");
    dir.file(2, 1).following(&first, cut);
    assert_eq!(dir.records().unwrap(), ["one"]);
    dir.overwrite(2, FIRST_FRAME, &[0; 96]);
    assert_eq!(dir.records().unwrap(), ["one", "two"]);
}

#[test]
fn segments_below_the_head_are_not_needed() {
    let dir = Dir::default();
    let [_, mut second] = dir.segments(["one", "two"]);
    let head = second.record("three");
    let mut third = dir.roll(&mut second, 3, 1);
    third.head(head);
    third.record("four");
    for removed in [false, true] {
        if removed {
            dir.remove(1);
        }
        let found = dir.recover().unwrap();
        assert_eq!((found.links.len(), found.head.0), (2, head));
        assert_eq!(dir.read(&found), ["three", "four"]);
    }
    // a dead file that comes back is dead again
    dir.first().record("from the past");
    assert_eq!(dir.recover().unwrap().dead, [format::file_name(1)]);
}

#[test]
fn a_head_at_the_very_end_of_a_segment_needs_only_what_follows() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.head(first.lsn());
    second.record("two");
    assert_eq!(dir.records().unwrap(), ["two"]);
    dir.remove(1);
    let found = dir.recover().unwrap();
    assert_eq!(dir.read(&found), ["two"]);
    assert_eq!(found.head.0, 2 * SIZE + FIRST_FRAME);
}

#[test]
fn a_file_of_several_slots_is_one_segment() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let mut large = dir.roll(&mut first, 2, 3);
    let big = "x".repeat(3 * SIZE as usize - 5000);
    large.record(&big);
    let mut last = dir.roll(&mut large, 5, 1);
    last.sync();
    last.record("three");
    assert_eq!(dir.records().unwrap(), ["one", &big, "three"]);
    // and where a seal names it, but it has no begin, the log goes on in it
    dir.remove(5);
    dir.overwrite(2, FIRST_FRAME, &[0; 200]);
    let found = dir.recover().unwrap();
    assert_eq!((found.next, found.next_index), (Next::Spare(2), 5));
    assert_eq!(found.spares.len(), 1);
}

#[test]
fn a_recycled_spare_full_of_stale_frames_is_a_spare() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    first.sync();
    first.record("two");
    let mut spare = dir.file(2, 1);
    spare.header.salt ^= 1; // its last life
    spare.at.offset += 96;
    let end = first.lsn();
    while spare.at.offset + 300 < SIZE {
        spare.durable = spare.lsn();
        spare.bytes(&[3; 200]);
    }
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), tail(&found)), (texts(["one", "two"]), end));
    assert_eq!(found.spares.len(), 1);
}

#[test]
fn a_segment_of_an_older_epoch_does_not_follow_a_newer_one() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    first.sync();
    let torn = first.at;
    first.skip(&"x".repeat(56)); // as long as an open and a record
    first.record("two");
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("dead");
    let end = first.at;
    // the next epoch seals the segment at the very same place
    first.at = torn;
    first.open();
    first.record("new");
    first.record("too");
    let third = dir.file(3, 1);
    first.seal(&third);
    assert_eq!(first.at, end);
    // and the dead file comes back
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), found.next), (texts(["one", "new", "too"]), Next::Spare(3)));
    assert_eq!(found.dead, [format::file_name(2)]);
}

#[test]
fn a_segment_follows_one_life_of_a_file() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    first.header.salt ^= 1;
    dir.file(2, 1).following(&first, first.at).record("of another life");
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), found.dead), (texts(["one"]), vec![format::file_name(2)]));
}

#[test]
fn a_large_file_without_a_begin_is_dead() {
    let dir = Dir::default();
    dir.first().record("one");
    dir.file(2, 3);
    dir.file(5, 1);
    let found = dir.recover().unwrap();
    assert_eq!(found.dead, [format::file_name(2)]);
    assert_eq!((found.spares.len(), found.next_index), (1, 6));
}

#[test]
fn a_sealed_segment_was_not_closed() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.close();
    let next = dir.file(2, 1);
    first.seal(&next);
    assert_eq!(dir.recover().unwrap().report.ended, Ended::Unclosed);
}
