//! What is still read from directories that recovery refuses.

use super::*;
use crate::error::Damage;
use crate::format::{self, FIRST_FRAME};
use crate::salvage::{Salvaged, salvage};
use crate::storage::Storage;

/// The records, with their sequence numbers (0: not known), and what was skipped.
fn salvaged(dir: &Dir) -> (Vec<(u64, String)>, Salvaged) {
    let mut records = Vec::new();
    let mut last = 0;
    let done = salvage(&dir.0, &mut |lsn, sequence, bytes| {
        assert!(lsn.0 > last, "in the order of the log");
        last = lsn.0;
        records.push((sequence.unwrap_or(0), String::from_utf8_lossy(bytes).into_owned()));
    });
    let done = done.unwrap();
    assert_eq!(done.records, records.len() as u64);
    (records, done)
}

fn numbered<const N: usize>(records: [(u64, &str); N]) -> Vec<(u64, String)> {
    records.map(|(sequence, text)| (sequence, text.to_owned())).to_vec()
}

#[test]
fn a_damaged_record_is_skipped_and_those_behind_it_are_not() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let two = segment.record("two");
    segment.record("three");
    segment.close();
    dir.flip(1, two % SIZE + 16, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (3, "three")]));
    let skipped = &done.skipped[0];
    assert_eq!((skipped.from, skipped.to), (two % SIZE, two % SIZE + 24));
    assert_eq!(done.skipped.len(), 1);
}

#[test]
fn a_sound_log_is_salvaged_whole() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.batch(["one", "two"]);
    first.abandon(3);
    let mut second = dir.roll(&mut first, 2, 1);
    second.open();
    second.record("four");
    dir.file(3, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (4, "four")]));
    assert!(done.skipped.is_empty());
}

#[test]
fn batches_are_salvaged_whole_or_not_at_all() {
    for hit in 0..4 {
        let dir = Dir::default();
        let mut segment = dir.first();
        segment.record("one");
        let batch = segment.batch(["two", "three", "four", "five"]) % SIZE;
        segment.record("six");
        dir.flip(1, batch + [0, 24, 48, 72][hit] + 16, 1);
        let (records, done) = salvaged(&dir);
        assert_eq!(records, numbered([(1, "one"), (6, "six")]), "{hit}");
        assert_eq!(done.skipped[0].from, batch);
        assert_eq!(done.skipped.last().unwrap().to, batch + 96, "{hit}");
    }
}

#[test]
fn a_record_alone_behind_a_break_is_whole() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.skip("lost");
    segment.record("two");
    segment.batch(["three", "four"]);
    assert_eq!(salvaged(&dir).0, numbered([(2, "two"), (3, "three"), (4, "four")]));
}

#[test]
fn a_lost_epoch_does_not_end_it() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let open = segment.lsn() % SIZE;
    segment.open();
    segment.record("two");
    dir.overwrite(1, open, &[0; 48]);
    assert_eq!(salvaged(&dir).0, numbered([(1, "one"), (2, "two")]));
}

#[test]
fn a_segment_without_its_begin_is_read_as_far_as_the_seal_before_it_numbers_it() {
    let dir = Dir::default();
    let [_, mut second] = dir.segments(["one", "two"]);
    second.record("three");
    let mut third = dir.roll(&mut second, 3, 1);
    third.record("four");
    dir.flip(2, FIRST_FRAME + 16, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (3, "three"), (4, "four")]));
    assert!(matches!(
        done.skipped[0].cause,
        crate::Error::Damaged { at: FIRST_FRAME, damage: Damage::Begin, .. }
    ));
    dir.remove(1);
    let numbers: Vec<_> = salvaged(&dir).0.into_iter().map(|record| record.0).collect();
    assert_eq!(numbers, [0, 0, 4], "without it they have no numbers");
}

/// What was skipped: index of the file, from and to.
fn parts(done: &Salvaged) -> Vec<(u64, u64, u64)> {
    let index = |path: &std::path::Path| {
        format::file_index(path.file_name().unwrap().to_str().unwrap()).unwrap()
    };
    done.skipped.iter().map(|s| (index(&s.path), s.from, s.to)).collect()
}

/// Writes a file anew with another length.
fn resize(dir: &Dir, index: u64, len: u64) {
    let region = dir.region(index);
    let bytes = region.map().published(0..len.min(region.map().len())).to_vec();
    dir.remove(index);
    dir.0.create(&format::file_name(index), len).unwrap();
    dir.overwrite(index, 0, &bytes);
}

#[test]
fn a_file_with_a_damaged_header_is_read_with_the_salt_that_the_seal_before_it_names() {
    let dir = Dir::default();
    dir.segments(["one", "two", "three"]);
    dir.flip(3, 30, 1);
    dir.0.create(&format::file_name(4), 3).unwrap();
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (3, "three")]));
    assert_eq!(parts(&done), [(3, 0, FIRST_FRAME), (4, 0, 3)]);
    assert!(matches!(
        done.skipped[0].cause,
        crate::Error::Damaged { at: 0, damage: Damage::Header, .. }
    ));
    dir.overwrite(3, 0, &[0; FIRST_FRAME as usize + 60]); // its begin, too
    assert_eq!(salvaged(&dir).0, records);
}

#[test]
fn a_file_with_a_damaged_header_is_read_with_the_salt_that_the_begin_behind_it_names() {
    let dir = Dir::default();
    dir.segments(["one", "two", "three", "four"]);
    for index in [1, 2, 3] {
        dir.overwrite(index, 0, &[0; FIRST_FRAME as usize]);
    }
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (3, "three"), (4, "four")]));
    assert_eq!(parts(&done), [1, 2, 3].map(|index| (index, 0, FIRST_FRAME)));
}

#[test]
fn several_damaged_headers_behind_each_other_are_made_up_for_by_seals() {
    let dir = Dir::default();
    dir.segments(["one", "two", "three"]);
    dir.flip(2, 30, 1);
    dir.flip(3, 30, 1);
    assert_eq!(salvaged(&dir).0, numbered([(1, "one"), (2, "two"), (3, "three")]));
}

#[test]
fn a_file_with_a_damaged_header_that_nothing_names_is_skipped() {
    let dir = Dir::default();
    let [.., third] = dir.segments(["one", "two", "three"]);
    let mut fifth = dir.file(5, 1).following(&third, third.at); // no seal
    fifth.record("five");
    dir.flip(5, 30, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (3, "three")]));
    assert_eq!(parts(&done), [(5, 0, SIZE)]);
    for index in [1, 2, 3] {
        dir.flip(index, 30, 1);
    }
    assert_eq!(salvaged(&dir).0, [], "nobody says how large segments are");
}

#[test]
fn a_wrong_salt_makes_nothing_intact() {
    let dir = Dir::default();
    let [mut first] = dir.segments(["one"]);
    let mut other = dir.file(2, 1);
    other.header.salt ^= 1;
    first.seal(&other);
    let mut second = dir.file(2, 1).following(&first, first.at);
    second.record("two");
    dir.flip(2, 30, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one")]));
    assert_eq!(parts(&done), [(2, 0, SIZE)]);
}

#[test]
fn a_large_file_with_a_damaged_header_is_as_many_segments_as_it_is_long() {
    let dir = Dir::default();
    let [mut first] = dir.segments(["one"]);
    let mut large = dir.roll(&mut first, 2, 3);
    let long = "x".repeat(2 * SIZE as usize);
    large.record(&long);
    dir.roll(&mut large, 5, 1).record("three");
    dir.flip(2, 30, 1);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, &long), (3, "three")]));
    assert_eq!(parts(&done), [(2, 0, FIRST_FRAME)]);
}

#[test]
fn a_file_of_a_wrong_length_is_read_as_far_as_it_goes() {
    let dir = Dir::default();
    let [_, mut second] = dir.segments(["one", "two"]);
    let lost = second.lsn() % SIZE;
    second.record("lost");
    let mut third = dir.roll(&mut second, 3, 1);
    third.record("four");
    resize(&dir, 2, lost + 20);
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one"), (2, "two"), (4, "four")]));
    assert_eq!(parts(&done), [(2, lost, lost + 20), (2, lost + 20, SIZE)]);
    dir.flip(2, 30, 1); // its header, too
    let (again, done) = salvaged(&dir);
    assert_eq!(again, records);
    assert_eq!(parts(&done)[0], (2, 0, FIRST_FRAME));
    dir.flip(2, 30, 1);
    resize(&dir, 2, SIZE + 20);
    assert_eq!(parts(&salvaged(&dir).1).last(), Some(&(2, SIZE, SIZE + 20)));
}

#[test]
fn nothing_behind_the_length_that_a_header_says_is_of_its_segment() {
    let dir = Dir::default();
    let [mut only] = dir.segments(["one"]);
    resize(&dir, 1, 2 * SIZE);
    only.region = dir.region(1);
    only.at.offset = SIZE;
    only.record("behind");
    let (records, done) = salvaged(&dir);
    assert_eq!(records, numbered([(1, "one")]));
    assert_eq!(parts(&done), [(1, SIZE, 2 * SIZE)]);
}

#[test]
fn what_is_only_zeros_before_the_next_segment_is_told() {
    for from in [FIRST_FRAME, FIRST_FRAME + 200] {
        let dir = Dir::default();
        let mut first = dir.first();
        let lsns: Vec<_> = (0..100).map(|_| first.record("one")).collect();
        let mut second = dir.roll(&mut first, 2, 1);
        second.record("two");
        dir.overwrite(1, from, &vec![0; (first.at.offset - from) as usize]);
        let (records, done) = salvaged(&dir);
        let kept = lsns.iter().filter(|&&lsn| lsn % SIZE + 24 <= from).count();
        assert_eq!(records.len(), kept + 1);
        assert!(!done.skipped.is_empty() && done.skipped[0].to == first.at.offset, "{done:?}");
    }
}

#[test]
fn broken_lengths_by_the_dozen_cost_no_other_record() {
    let dir = Dir::default();
    let mut segment = dir.first();
    let texts: Vec<_> = (0..400).map(|i| format!("{i:0120}")).collect();
    let lsns: Vec<_> = texts.iter().map(|text| segment.record(text)).collect();
    for lsn in lsns.iter().step_by(8) {
        dir.flip(1, lsn % SIZE + 1, 0x20); // 8 KiB longer
    }
    let (records, done) = salvaged(&dir);
    let kept = |i: &usize| i % 8 != 0;
    assert!(records.iter().map(|(_, text)| text).eq((0..400).filter(kept).map(|i| &texts[i])));
    assert_eq!(done.skipped.len(), 50);
}

#[test]
fn what_cannot_be_a_frame_costs_nothing_however_long_it_says_it_is() {
    let dir = Dir::default();
    let mut segment = dir.first();
    let lsns: Vec<_> = (0..400).map(|_| segment.record(&"x".repeat(120))).collect();
    for at in lsns.iter().map(|lsn| lsn % SIZE).step_by(2) {
        let no_kind = 0xf000_0000 | (SIZE - at - 64) as u32;
        dir.overwrite(1, at, &no_kind.to_le_bytes());
    }
    assert_eq!(salvaged(&dir).0.len(), 200);
}

#[test]
fn of_many_broken_parts_the_first_thousand_are_told() {
    let dir = Dir::default();
    let mut segment = dir.first();
    let lsns: Vec<_> = (0..2400).map(|_| segment.record("short")).collect();
    for lsn in lsns.iter().skip(1).step_by(2) {
        dir.flip(1, lsn % SIZE + 16, 1);
    }
    let (records, done) = salvaged(&dir);
    assert_eq!((records.len(), done.skipped.len(), done.more_skipped), (1200, 1000, 200));
}

#[test]
fn what_was_cut_away_stays_away() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let cut = first.at;
    first.record("cut away");
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("cut away, too");
    let mut third = dir.file(3, 1).following(&first, cut);
    third.record("two");
    assert_eq!(salvaged(&dir).0, numbered([(1, "one"), (2, "two")]));
}

#[test]
fn whatever_is_flipped_only_records_that_were_appended_are_salvaged() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    first.batch(["two", "three"]);
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("four");
    second.open();
    second.record("five");
    second.close();
    let all = salvaged(&dir).0;
    assert_eq!(all.len(), 5);
    for (index, end) in [(1, first.at.offset), (2, second.at.offset)] {
        for at in (0..64).chain(FIRST_FRAME..end) {
            dir.flip(index, at, 0x41);
            let (records, _) = salvaged(&dir);
            let least = if at < 64 { all.len() } else { all.len() - 3 };
            assert!(records.len() >= least, "byte {at} of {index}");
            for (sequence, text) in records {
                let right = |known: &(u64, String)| {
                    known.1 == text && (known.0 == sequence || sequence == 0)
                };
                assert!(all.iter().any(right), "{sequence} {text}");
            }
            dir.flip(index, at, 0x41);
        }
    }
}
