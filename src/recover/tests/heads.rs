//! Heads: each place that a state may name, and what becomes of one that no writer names.

use super::builder::damaged;
use super::*;
use crate::Error;
use crate::error::Damage;
use crate::format::{self, FIRST_FRAME};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::recover::{Directory, Verify, recover};
use crate::seek::Start;

/// A log of two segments, with something of everything, whose last frame names `head`; and the
/// places between its frames and batches. What is before the second segment was durable.
fn log_with_head(head: u64) -> (Dir, Vec<u64>) {
    let dir = Dir::default();
    let mut first = dir.first();
    let mut between = vec![0, SIZE + FIRST_FRAME, first.lsn()];
    first.record("one");
    between.push(first.lsn());
    first.batch(["two", "three"]);
    between.push(first.lsn());
    first.abandon(40);
    between.push(first.lsn());
    first.open();
    between.push(first.lsn());
    first.bytes(&[7; 300]);
    between.push(first.lsn());
    let mut second = dir.roll(&mut first, 2, 1);
    between.extend([first.lsn(), 2 * SIZE + FIRST_FRAME, second.lsn()]);
    second.sync();
    second.batch(["five", "six", "seven"]);
    between.push(second.lsn());
    second.head(head);
    between.push(second.lsn());
    (dir, between)
}

#[test]
fn a_head_is_between_whole_frames_and_batches_or_damage() {
    let (_, between) = log_with_head(0);
    let (first_end, end) = (between[8] + 64, *between.last().unwrap());
    let places = [
        0..16,
        SIZE - 16..SIZE + 16,
        SIZE + 4080..first_end,
        2 * SIZE - 16..2 * SIZE + 16,
        2 * SIZE + 4080..end,
    ];
    let places = places.into_iter().flat_map(|places| places.step_by(8));
    let mut refused = 0;
    for head in places.flat_map(|head| [head, head + 3]) {
        let (dir, between) = log_with_head(head);
        if between.contains(&head) {
            let found = dir.recover().unwrap_or_else(|error| panic!("{head:#x}: {error}"));
            assert!(found.head.0 >= head, "{head:#x}");
            continue;
        }
        refused += 1;
        let error = recover(&dir.0, Verify::All).expect_err("a head that no writer names");
        assert!(
            matches!(error, Error::Damaged { damage: Damage::Head(Lsn(at)), .. } if at == head)
        );
        let (index, offset) = match head {
            ..SIZE => (1, FIRST_FRAME),
            // behind what counts there: no part of the log
            _ if head < 2 * SIZE && head > between[8] => (2, FIRST_FRAME),
            _ => (head / SIZE, (head % SIZE).max(FIRST_FRAME)),
        };
        assert_eq!(damaged(&error), (format::file_name(index), offset), "{head:#x}");
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_head_above_the_tail_is_damage() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let end = segment.lsn() + 48;
    segment.head(end + 8);
    for verify in [Verify::All, Verify::Tail] {
        let error = recover(&dir.0, verify).unwrap_err();
        let Error::Damaged { damage: Damage::Head(head), .. } = error else { panic!("{error}") };
        assert_eq!(head.0, end + 8);
    }
}

#[test]
fn a_head_that_was_not_verified_is_found_when_it_is_read() {
    let (_, between) = log_with_head(0);
    for (head, is_sound) in [(between[3], true), (between[3] + 8, false), (between[3] + 24, false)]
    {
        let (dir, _) = log_with_head(head);
        let Directory::Log(found) = recover(&dir.0, Verify::Tail).unwrap() else { panic!() };
        assert!(!found.report.segments[0].verified);
        let options = Options::new().verify(Verify::Tail);
        let log = Log::open(Box::new(dir.0.clone()), options).unwrap();
        match log.seek(Start::Head).map(|_| ()) {
            Ok(()) => assert!(is_sound, "{head:#x}"),
            Err(error) => {
                assert!(
                    !is_sound && matches!(error, Error::Damaged { damage: Damage::Head(_), .. })
                );
                assert_eq!(damaged(&error), (format::file_name(1), head % SIZE));
            }
        }
    }
}

#[test]
fn a_begin_with_an_older_head_than_the_one_before_follows_nothing() {
    for (head, follows) in [(SIZE + FIRST_FRAME, true), (0, false)] {
        let dir = Dir::default();
        let mut one = dir.first();
        one.head = SIZE + FIRST_FRAME;
        let mut two = dir.roll(&mut one, 2, 1);
        two.head = head;
        let mut three = dir.roll(&mut two, 3, 1);
        three.sync(); // with less to verify, the second is taken as the begins say
        for verify in [Verify::All, Verify::Tail] {
            let found = recover(&dir.0, verify);
            assert_eq!(found.is_ok(), follows, "{verify:?}: {found:?}");
        }
    }
}
