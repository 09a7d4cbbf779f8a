//! Logs of which something durable is gone.

use super::builder::damaged;
use super::*;
use crate::Error;
use crate::error::Damage;
use crate::format::{self, FIRST_FRAME, SegmentHeader};
use crate::recover::files::File;
use crate::storage::Storage;

#[test]
fn damage_is_proved_by_a_later_mark() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let two = segment.record("two");
    segment.sync();
    segment.record("three");
    dir.flip(1, two % SIZE + 16, 1);
    let error = dir.recover().unwrap_err();
    assert_eq!(damaged(&error), (format::file_name(1), two % SIZE));
    assert!(matches!(error, Error::Damaged { damage: Damage::Check, .. }));
}

#[test]
fn a_hole_where_a_durable_record_was_is_damage() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let two = segment.skip("two");
    segment.sync();
    segment.record("three");
    match dir.recover().unwrap_err() {
        Error::Damaged { at, damage: Damage::Hole, .. } => assert_eq!(at, two % SIZE),
        other => panic!("{other}"),
    }
}

#[test]
fn a_mark_at_the_place_itself_proves_nothing_of_it() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    segment.sync();
    segment.skip("two");
    segment.record("three");
    assert_eq!(dir.records().unwrap(), ["one"]);
}

#[test]
fn a_state_behind_a_damaged_place_proves_it() {
    for reason in 0..3 {
        let dir = Dir::default();
        let mut segment = dir.first();
        let one = segment.record("one");
        match reason {
            0 => segment.close(),
            1 => segment.open(),
            _ => {
                segment.sync();
                segment.head(0);
            }
        }
        dir.flip(1, one % SIZE + 18, 4);
        assert_eq!(damaged(&dir.recover().unwrap_err()).1, one % SIZE);
    }
}

#[test]
fn damage_is_proved_across_epochs() {
    let dir = Dir::default();
    let mut segment = dir.first();
    let one = segment.record("one");
    for _ in 0..40 {
        segment.open();
    }
    segment.record("two");
    dir.flip(1, one % SIZE + 18, 4);
    assert_eq!(damaged(&dir.recover().unwrap_err()).1, one % SIZE);
}

#[test]
fn damage_in_a_middle_segment_is_proved_by_a_later_one() {
    let dir = Dir::default();
    let mut first = dir.first();
    let one = first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("two");
    let mut third = dir.roll(&mut second, 3, 1);
    third.durable = first.lsn();
    third.record("three");
    dir.flip(1, one % SIZE + 16, 1);
    assert_eq!(damaged(&dir.recover().unwrap_err()), (format::file_name(1), one % SIZE));
}

#[test]
fn a_lost_begin_that_was_durable_is_damage() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let mut second = dir.roll(&mut first, 2, 1);
    second.sync();
    second.record("two");
    dir.flip(2, FIRST_FRAME + 20, 1);
    match dir.recover().unwrap_err() {
        Error::Damaged { path, at, damage: Damage::Begin } => {
            assert!(path.ends_with(format::file_name(2)));
            assert_eq!(at, FIRST_FRAME);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_first_begin_lost_is_damage_if_it_was_durable() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.sync();
    first.record("one");
    dir.flip(1, FIRST_FRAME + 20, 1);
    assert_eq!(damaged(&dir.recover().unwrap_err()), (format::file_name(1), FIRST_FRAME));
}

#[test]
fn without_any_begin_above_the_first_index_a_log_is_damaged() {
    let dir = Dir::default();
    dir.file(1, 1);
    dir.file(2, 1);
    assert_eq!(damaged(&dir.recover().unwrap_err()), (format::file_name(1), FIRST_FRAME));
    dir.remove(1);
    assert_eq!(damaged(&dir.recover().unwrap_err()), (format::file_name(2), FIRST_FRAME));
}

#[test]
fn a_missing_segment_is_named() {
    for missing in 1..=3 {
        let dir = Dir::default();
        dir.segments(["one", "two", "three"]);
        dir.remove(missing);
        match dir.recover().unwrap_err() {
            Error::Missing { path, named_by } => {
                assert!(path.ends_with(format::file_name(missing)));
                let by = if missing == 1 { 2 } else { missing - 1 };
                assert!(named_by.ends_with(format::file_name(by)));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn another_file_in_the_place_of_the_next_one_is_damage() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let mut next = dir.file(2, 1);
    next.header.salt ^= 1;
    first.seal(&next);
    let error = dir.recover().unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::Link, .. }), "{error}");
}

#[test]
fn a_begin_that_does_not_count_on_is_damage() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let next = dir.file(2, 1);
    first.seal(&next);
    first.first_sequence += 1;
    next.following(&first, first.at);
    let error = dir.recover().unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::Link, .. }), "{error}");
}

#[test]
fn headers_are_what_their_files_are() {
    let sound = SegmentHeader { uuid: [7; 16], index: 2, segment_size: SIZE, slots: 1, salt: 9 };
    let cases = [
        (SegmentHeader { index: 3, ..sound }, Damage::Name),
        (SegmentHeader { index: 0, ..sound }, Damage::Header),
        (SegmentHeader { index: u64::MAX, ..sound }, Damage::Header),
        (SegmentHeader { segment_size: SIZE + 1, ..sound }, Damage::Header),
        (SegmentHeader { segment_size: 2 * SIZE, ..sound }, Damage::FileLength),
        (SegmentHeader { slots: 0, ..sound }, Damage::Header),
        (SegmentHeader { slots: 2, ..sound }, Damage::FileLength),
        (SegmentHeader { slots: u32::MAX, ..sound }, Damage::FileLength),
    ];
    for (header, expected) in cases {
        let dir = Dir::default();
        dir.first();
        dir.file(2, 1);
        dir.overwrite(2, 0, &header.encode());
        match dir.recover().unwrap_err() {
            Error::Damaged { damage, at: 0, .. } => assert_eq!(damage, expected, "{header:?}"),
            other => panic!("{header:?}: {other}"),
        }
    }
    for len in [1, 4095, 4096, SIZE - 8] {
        let dir = Dir::default();
        dir.first();
        let region = dir.0.create(&format::file_name(2), len).unwrap();
        if len >= FIRST_FRAME {
            region.map().write(0, &sound.encode());
        }
        assert!(matches!(
            dir.recover().unwrap_err(),
            Error::Damaged { damage: Damage::FileLength, .. }
        ));
    }
}

#[test]
fn a_file_that_is_not_as_long_as_it_was_listed_is_damaged() {
    let dir = Dir::default();
    dir.first();
    let name = format::file_name(1);
    let listed = File::open(&dir.0, 1, &name, SIZE).unwrap();
    for len in [FIRST_FRAME, SIZE / 2, 2 * SIZE] {
        dir.0.create(&name, len).unwrap();
        let opened = File::open(&dir.0, 1, &name, SIZE).map(|_| ());
        for opened in [opened, listed.contents(&dir.0).map(|_| ())] {
            let Err(Error::Damaged { damage: Damage::FileLength, path, at: 0 }) = opened else {
                panic!("{len} bytes: {opened:?}")
            };
            assert_eq!(path, dir.0.path(&name));
        }
    }
}

#[test]
fn files_of_other_logs_and_later_versions_are_told_apart() {
    let dir = Dir::default();
    dir.first();
    let other = dir.file(2, 1);
    let header = SegmentHeader { uuid: [8; 16], ..other.header };
    dir.overwrite(2, 0, &header.encode());
    assert!(matches!(dir.recover().unwrap_err(), Error::Foreign { .. }));

    let mut bytes = other.header.encode();
    bytes[8] = 2;
    let check = crc32c::crc32c(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&check.to_le_bytes());
    dir.overwrite(2, 0, &bytes);
    assert!(matches!(dir.recover().unwrap_err(), Error::UnsupportedVersion { version: 2, .. }));
}

#[test]
fn files_that_cover_the_same_index_are_damage() {
    let dir = Dir::default();
    dir.first();
    dir.file(2, 3);
    dir.file(4, 1);
    assert_eq!(damaged(&dir.recover().unwrap_err()), (format::file_name(4), 0));
}
