//! Logs of one segment of which nothing durable is gone.

use super::builder::tail;
use super::*;
use crate::format::FIRST_FRAME;
use crate::recover::{Directory, Ended, Verify, recover};
use crate::storage::Storage;

#[test]
fn an_empty_directory_has_no_log() {
    let dir = Dir::default();
    assert!(dir.is_empty_log());
    dir.0.create("0000000000000001.tmp", 4096).unwrap();
    dir.0.create("notes.txt", 10).unwrap();
    dir.0.create("LOCK", 1).unwrap();
    match recover(&dir.0, Verify::All).unwrap() {
        Directory::Empty { dead } => assert_eq!(dead, ["0000000000000001.tmp"]),
        Directory::Log(_) => panic!(),
    }
}

#[test]
fn a_first_segment_without_its_begin_is_no_log_yet() {
    let dir = Dir::default();
    dir.file(1, 1);
    assert!(dir.is_empty_log());
    dir.overwrite(1, FIRST_FRAME, &[9; 300]); // its begin is torn
    assert!(dir.is_empty_log());
}

#[test]
fn a_closed_log_is_clean() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    segment.batch(["two", "three"]);
    segment.abandon(40);
    segment.record("");
    let proved = segment.lsn();
    segment.close();
    let found = dir.recover().unwrap();
    assert_eq!(found.report.ended, Ended::Closed);
    assert_eq!(dir.read(&found), ["one", "two", "three", ""]);
    assert_eq!(found.links[0].end.ordinal, 5);
    assert_eq!((tail(&found), found.proved.0), (segment.lsn(), proved));
    assert_eq!((found.epoch, found.next_index), (1, 2));
    assert_eq!(found.report.segments[0].records, 5);
}

#[test]
fn a_log_that_was_not_closed_ends_at_its_last_frame() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let found = dir.recover().unwrap();
    assert_eq!(found.report.ended, Ended::Unclosed);
    assert_eq!(tail(&found), segment.lsn());
    segment.close();
    segment.open();
    assert_eq!(dir.recover().unwrap().report.ended, Ended::Unclosed);
}

#[test]
fn a_torn_record_is_cut() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    segment.sync();
    let at = segment.record("a longer one") % SIZE;
    dir.flip(1, at + 20, 1);
    let found = dir.recover().unwrap();
    assert_eq!(dir.read(&found), ["one"]);
    match &found.report.ended {
        Ended::Torn { at: torn, overwritten, .. } => {
            assert_eq!((*torn, overwritten.len()), (at, 48));
            assert_eq!(overwritten[16], b'a');
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_torn_batch_is_cut_as_a_whole() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let begins = segment.batch(["two", "three", "four"]);
    segment.record("five");
    dir.flip(1, begins % SIZE + 24 + 16, 1); // in "three"
    let found = dir.recover().unwrap();
    assert_eq!(dir.read(&found), ["one"]);
    assert_eq!(tail(&found), begins);
    match found.report.ended {
        Ended::Torn { at, .. } => assert_eq!(at, begins % SIZE + 24),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hole_with_frames_behind_it_was_never_promised() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    segment.sync();
    let hole = segment.skip("lost");
    segment.record("kept by the crash, but not promised");
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), tail(&found)), (texts(["one"]), hole));
    assert_eq!(found.report.ended, Ended::Unclosed);
}

#[test]
fn frames_of_an_older_epoch_behind_a_hole_do_not_come_back() {
    let dir = Dir::default();
    let mut old = dir.first();
    old.record("one");
    old.sync();
    // the hole that the first crash left has the size of open and a record
    let hole = old.at;
    old.at.offset += 48;
    old.skip("two");
    old.record("stale");
    let mut segment = old;
    let (stale, end) = (segment.at, segment.lsn());
    segment.at = hole;
    segment.open();
    segment.record("new");
    assert!(segment.at.offset < stale.offset);
    let found = dir.recover().unwrap();
    assert_eq!(dir.read(&found), ["one", "new"]);
    assert!(tail(&found) < end);
    assert_eq!(found.epoch, 2);
}

#[test]
fn a_frame_of_an_older_epoch_proves_nothing_behind_a_newer_one() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let cut = segment.at;
    segment.at.offset += 400;
    segment.at.ordinal += 5;
    segment.sync();
    segment.record("stale");
    segment.at = cut;
    segment.open();
    segment.record("two");
    let end = segment.lsn();
    let found = dir.recover().unwrap();
    assert_eq!((dir.read(&found), tail(&found)), (texts(["one", "two"]), end));
}

#[test]
fn no_frame_proves_what_comes_behind_it() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    segment.durable = 1 << 40;
    let head = segment.lsn();
    segment.head(0);
    segment.durable = 0;
    segment.record("two");
    assert_eq!(dir.recover().unwrap().proved.0, head);
}
