//! Reading in both directions, from any place, while writers go on.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{
    SEGMENT, StoreOnDrop, TempDir, abandon, append_all, beside_an_append, ends, is_whole, small,
    text, texts, texts_of, writers,
};
use mapwal::{Error, Lsn, Record, Records, Wal};

/// Where frames begin in a segment.
const FIRST_FRAME: u64 = 4096;
/// The size of a frame's header.
const HEADER: u64 = 16;

/// A log of several segments with records, batches and an abandoned claim.
fn mixed() -> (Wal, Vec<(Lsn, u64, Vec<u8>)>) {
    let wal = small().in_memory().unwrap();
    for i in 0..400u32 {
        let data = vec![i as u8; (i as usize * 37) % 900];
        match i % 40 {
            7 => wal.append_batch(&[&data, b"", &data]).map(drop).unwrap(),
            23 => abandon(&wal, data.len()).unwrap(),
            _ => wal.append(&data).map(drop).unwrap(),
        }
    }
    wal.append(&vec![9; 150_000]).unwrap();
    wal.append(b"last").unwrap();
    let all = wal.reader().iter().map(|record| plain(record.unwrap())).collect();
    (wal, all)
}

fn plain(record: Record<'_>) -> (Lsn, u64, Vec<u8>) {
    (record.lsn(), record.sequence(), record.data().to_vec())
}

#[test]
fn backwards_is_forwards_from_the_end() {
    let (wal, all) = mixed();
    assert!(wal.stats().rolls > 3);
    let reader = wal.reader();
    let mut backwards: Vec<_> = reader.backwards().map(|r| plain(r.unwrap())).collect();
    backwards.reverse();
    assert_eq!(backwards, all);
}

#[test]
fn reading_begins_at_any_record() {
    let (wal, all) = mixed();
    let reader = wal.reader();
    for (i, (lsn, sequence, data)) in all.iter().enumerate() {
        let from = |records: mapwal::Records<'_>| -> Vec<_> {
            records.take(3).map(|r| plain(r.unwrap())).collect()
        };
        let expected = &all[i..all.len().min(i + 3)];
        assert_eq!(from(reader.from(*lsn)), expected);
        assert_eq!(from(reader.from_sequence(*sequence)), expected);
        assert_eq!(wal.read(*lsn).unwrap().data(), data);
        let before: Vec<_> =
            reader.backwards_from(*lsn).take(2).map(|r| plain(r.unwrap())).collect();
        let mut expected = all[i.saturating_sub(2)..i].to_vec();
        expected.reverse();
        assert_eq!(before, expected);
    }
}

#[test]
fn an_abandoned_number_is_a_place_to_begin_at() {
    let wal = small().in_memory().unwrap();
    wal.append(b"one").unwrap();
    abandon(&wal, 10).unwrap();
    wal.append(b"three").unwrap();
    let reader = wal.reader();
    let first = reader.from_sequence(2).next().unwrap().unwrap();
    assert_eq!((first.sequence(), first.data()), (3, &b"three"[..]));
    let asked = reader.from_sequence(2).with_abandoned().next().unwrap().unwrap();
    assert!(asked.is_abandoned());
    assert_eq!(asked.sequence(), 2);
    let from = reader.from(asked.lsn()).next().unwrap().unwrap();
    assert_eq!(from.sequence(), 3);
}

#[test]
fn numbers_that_no_record_has_are_told_with_those_that_some_have() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, (0..100).map(|_| [0; 3000]));
    let keep = wal.append(b"kept").unwrap();
    wal.append(b"last").unwrap();
    wal.truncate_before(keep).unwrap();
    let reader = wal.reader();
    for wrong in [0, 1, 50, 100, 104, 1000, u64::MAX] {
        let mut records = reader.from_sequence(wrong);
        match records.next() {
            Some(Err(Error::NoSuchSequence { sequence, next, .. })) => {
                assert_eq!((sequence, next), (wrong, 103));
            }
            other => panic!("{wrong}: {other:?}"),
        }
        assert!(records.next().is_none(), "an error is the last item");
    }
    assert_eq!(reader.from_sequence(103).count(), 0, "the next one is the tail");
    assert_eq!(reader.from_sequence(101).count(), 2);
}

#[test]
fn a_reader_ends_at_the_tail_and_goes_on_when_asked_again() {
    let wal = small().in_memory().unwrap();
    let reader = wal.reader();
    let mut records = reader.iter();
    assert!(records.next().is_none());
    for i in 0..300u32 {
        let data = [i as u8; 1000];
        wal.append(&data).unwrap();
        assert_eq!(records.next().unwrap().unwrap().data(), data);
        assert!(records.next().is_none());
    }
    let mut at_tail = reader.from(wal.next_lsn());
    assert!(at_tail.next().is_none());
    wal.append(b"new").unwrap();
    assert_eq!(at_tail.next().unwrap().unwrap().data(), b"new");
}

#[test]
fn the_durable_end_is_behind_the_published_one() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, ["a", "b"]);
    wal.sync().unwrap();
    append_all(&wal, ["c", "d"]);
    let reader = wal.reader();
    let mut durable = reader.iter().durable();
    let mut next = || durable.next().map(|record| text(record.unwrap().data()));
    assert_eq!((next(), next(), next()), (Some("a".into()), Some("b".into()), None));
    assert_eq!(texts_of(&reader), ["a", "b", "c", "d"]);
    wal.sync().unwrap();
    assert_eq!(next(), Some("c".into()), "goes on when more is durable");
}

#[test]
fn reading_without_verifying_reads_the_same() {
    let (wal, all) = mixed();
    let reader = wal.reader();
    let read: Vec<_> = reader.iter().unverified().map(|r| plain(r.unwrap())).collect();
    assert_eq!(read, all);
}

#[test]
fn an_empty_log_has_nothing_to_read() {
    let wal = small().in_memory().unwrap();
    let reader = wal.reader();
    assert_eq!(reader.iter().count() + reader.backwards().count(), 0);
    assert_eq!(reader.from(wal.next_lsn()).count(), 0);
    assert_eq!(reader.from(wal.head_lsn()).count(), 0);
    assert_eq!(reader.from_sequence(1).count(), 0);
    assert!(matches!(wal.read(wal.head_lsn()), Err(Error::NotARecord { .. })));
}

#[test]
fn readers_see_a_growing_prefix_while_writers_go_on() {
    const WRITERS: u64 = 3;
    const EACH: u64 = 4000;
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = writers(scope, &wal, WRITERS, EACH);
        for durable in [false, true, false] {
            let (wal, done) = (&wal, &done);
            scope.spawn(move || {
                let reader = wal.reader();
                let mut records = if durable { reader.iter().durable() } else { reader.iter() };
                let mut next = 1;
                loop {
                    let was_done = done.load(Ordering::SeqCst);
                    for record in records.by_ref() {
                        let record = record.unwrap();
                        assert_eq!(record.sequence(), next);
                        assert!(is_whole(record.data()), "a torn read");
                        assert!(!durable || record.lsn() < wal.durable_lsn());
                        next += 1;
                    }
                    if was_done {
                        break;
                    }
                }
                assert_eq!(next - 1, WRITERS * EACH);
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let reader = wal.reader();
                let mut expected = None;
                for record in reader.backwards().take(500) {
                    let sequence = record.unwrap().sequence();
                    assert!(expected.is_none_or(|expected| expected == sequence));
                    expected = Some(sequence - 1);
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        wal.sync().unwrap();
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn both_directions_end_before_an_append_that_is_in_the_middle() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, ["a", "b"]);
    beside_an_append(&wal, b"slow", |_middle| {
        wal.append(b"same segment").unwrap();
        let backwards = || -> Vec<_> {
            wal.reader().backwards().map(|record| record.unwrap().sequence()).collect()
        };
        assert_eq!((texts(&wal).len(), backwards()), (2, vec![2, 1]));
        wal.rotate().unwrap();
        wal.append(b"another segment").unwrap();
        assert_eq!((texts(&wal).len(), backwards()), (2, vec![2, 1]));
    });
    assert_eq!(texts(&wal), ["a", "b", "slow", "same segment", "another segment"]);
    assert_eq!(wal.reader().backwards().count(), 5);
}

#[test]
fn a_place_that_could_not_be_walked_to_is_no_records_if_none_begins_there() {
    let wal = small().in_memory().unwrap();
    let (mut records, mut followers) = (Vec::new(), Vec::new());
    let reader = wal.reader();
    let last = beside_an_append(&wal, b"slow", |_middle| {
        let last = wal.append_batch(&[b"a", b"b"]).unwrap().last();
        for wrong in [last.as_u64() - 8, last.as_u64() + 8] {
            records.push(reader.from(Lsn::from_u64(wrong)));
            followers.push(wal.follow(Lsn::from_u64(wrong)).unwrap());
        }
        records.push(reader.from(last));
        assert!(records.iter_mut().all(|records| records.next().is_none()));
        last
    });
    wal.append(b"behind").unwrap();
    assert_eq!(records.pop().unwrap().next().unwrap().unwrap().lsn(), last);
    let is_none = |error: &Error| matches!(error, Error::NotARecord { .. });
    for mut records in records {
        assert!(is_none(&records.next().unwrap().unwrap_err()));
    }
    for mut follower in followers {
        assert!(is_none(&follower.try_next().unwrap_err()));
    }
}

#[test]
fn from_the_end_of_a_segment_reading_goes_on_in_the_next() {
    let wal = small().in_memory().unwrap();
    wal.append(b"one").unwrap();
    let seal = wal.next_lsn();
    wal.rotate().unwrap();
    let two = wal.append(b"two").unwrap();
    let end = Lsn::from_u64(seal.as_u64() + 32); // where the durable mark may stand
    let first_of = |mut records: Records| records.next().unwrap().unwrap().lsn();
    let reader = wal.reader();
    assert_eq!((first_of(reader.from(end)), first_of(reader.from_sequence(2))), (two, two));
    assert_eq!(reader.backwards_from(end).next().unwrap().unwrap().data(), b"one");
    assert_eq!(wal.follow(end).unwrap().try_next().unwrap().unwrap().lsn(), two);
    wal.truncate_before(end).unwrap();
    assert_eq!(texts(&wal), ["two"]);
}

#[test]
fn what_is_durable_may_be_asked_for_in_between() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, ["one", "two", "three"]);
    wal.sync().unwrap();
    append_all(&wal, ["not", "yet"]);
    let reader = wal.reader();
    for mut records in [reader.iter(), reader.iter().unverified()] {
        assert_eq!(records.by_ref().take(2).count(), 2); // by now it has looked ahead
        let rest: Vec<_> = records.durable().map(|record| text(record.unwrap().data())).collect();
        assert_eq!(rest, ["three"]);
    }
}

#[test]
fn from_no_place_reading_begins_at_the_head() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, ["one", "two", "three"]);
    for head in lsns {
        wal.truncate_before(head).unwrap();
        assert_eq!(wal.reader().from(Lsn::NONE).next().unwrap().unwrap().lsn(), head);
        assert_eq!(wal.follow(Lsn::NONE).unwrap().try_next().unwrap().unwrap().lsn(), head);
    }
}

#[test]
fn records_lie_on_whole_words() {
    let (wal, _) = mixed();
    for record in wal.reader().iter() {
        assert_eq!(record.unwrap().data().as_ptr().addr() % 8, 0);
    }
    assert!(wal.reader().iter().all(|r| r.unwrap().lsn().as_u64() % 8 == 0));
}

#[test]
fn an_owned_record_outlives_its_reader_its_segment_and_the_log() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsn = wal.append(b"kept for long").unwrap();
    let owned = wal.reader().iter().next().unwrap().unwrap().keep();
    append_all(&wal, (0..100).map(|_| [1; 3000]));
    wal.truncate_before(wal.next_lsn()).unwrap();
    assert!(matches!(wal.read(lsn), Err(Error::Truncated { .. })));
    wal.close().unwrap();
    std::fs::remove_dir_all(directory.path()).unwrap();
    let sent = owned.clone();
    let read = thread::spawn(move || (sent.lsn(), sent.sequence(), sent.data().to_vec()));
    assert_eq!(read.join().unwrap(), (lsn, 1, b"kept for long".to_vec()));
    assert_eq!(owned.record().data(), b"kept for long");
}

#[test]
fn a_reader_outlives_the_log_and_reads_what_is_there() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, ["a", "b"]);
    let reader = wal.reader();
    wal.close().unwrap();
    assert_eq!(texts_of(&reader), ["a", "b"]);
}

#[test]
fn no_record_begins_inside_another_even_if_it_is_a_copy_of_a_frame() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsn = wal.append(b"a frame to be copied").unwrap();
    let file = common::snapshot(&directory).remove("0000000000000001.wal").unwrap();
    let at = (lsn.as_u64() % SEGMENT) as usize;
    let frame = &file[at..at + 40];
    assert_eq!(&frame[16..36], b"a frame to be copied");
    let copy = wal.append(frame).unwrap();
    let batch = wal.append_batch(&[frame, &frame.repeat(20)]).unwrap().last();
    let built = wal.append_with(40, |bytes| bytes.copy_from_slice(frame)).unwrap();
    let check = |wal: &Wal| {
        for (at, len) in [(copy, 40), (batch, 800), (built, 40)] {
            for inside in (1..HEADER + len).map(|i| Lsn::from_u64(at.as_u64() + i)) {
                let no_record =
                    |error: &Error| matches!(error, Error::NotARecord { lsn } if *lsn == inside);
                assert!(no_record(&wal.read(inside).unwrap_err()));
                let reader = wal.reader();
                assert!(no_record(&reader.from(inside).next().unwrap().unwrap_err()));
                assert!(no_record(&reader.backwards_from(inside).next().unwrap().unwrap_err()));
                assert!(no_record(&wal.follow(inside).unwrap_err()));
                assert!(no_record(&wal.truncate_before(inside).unwrap_err()));
                assert!(no_record(&wal.truncate_after(inside).unwrap_err()));
            }
        }
        assert_eq!(wal.reader().iter().count(), 5);
    };
    check(&wal);
    drop(wal);
    check(&small().open(&directory).unwrap());
}

#[test]
fn places_that_are_no_record_of_the_log_are_told_apart() {
    let wal = small().in_memory().unwrap();
    let first = wal.append(&[0; 1000]).unwrap();
    wal.rotate().unwrap();
    let second = wal.append(b"second").unwrap();
    let (base, tail) = (second.as_u64() / SEGMENT * SEGMENT, wal.next_lsn());
    let at = Lsn::from_u64;
    for place in
        [base, base + 8, base + FIRST_FRAME - 8, base + FIRST_FRAME, base + FIRST_FRAME + 8]
    {
        assert!(matches!(wal.read(at(place)), Err(Error::NotARecord { .. })), "{place:#x}");
    }
    // behind the first segment's seal, and misaligned
    for place in [first.as_u64() + 2000, first.as_u64() + 1, second.as_u64() + 4] {
        assert!(matches!(wal.read(at(place)), Err(Error::NotARecord { .. })), "{place:#x}");
    }
    assert!(matches!(wal.read(tail), Err(Error::NotARecord { .. })));
    for place in [tail.as_u64() + 8, tail.as_u64() + SEGMENT, u64::MAX, u64::MAX - 7] {
        match wal.read(at(place)) {
            Err(Error::OutOfLog { lsn, first, next }) => {
                assert_eq!((lsn, first, next), (at(place), wal.head_lsn(), tail));
            }
            other => panic!("{place:#x}: {other:?}"),
        }
    }
    wal.truncate_before(second).unwrap();
    for place in [Lsn::NONE, at(8), first] {
        match wal.read(place) {
            Err(Error::Truncated { lsn, head }) => assert_eq!((lsn, head), (place, second)),
            other => panic!("{place}: {other:?}"),
        }
    }
    let error = wal.read(first).unwrap_err().to_string();
    assert!(error.contains(&first.to_string()) && error.contains("truncated"), "{error}");
}

#[test]
fn everything_public_says_something_in_debug() {
    let wal = small().in_memory().unwrap();
    let lsn = wal.append(b"secret").unwrap();
    let reader = wal.reader();
    let record = reader.iter().next().unwrap().unwrap();
    let said = format!("{record:?} {:?}", wal.read(lsn).unwrap());
    assert!(said.contains("sequence: 1") && !said.contains("secret"), "{said}");
    let said = format!("{wal:?}");
    for part in ["memory:", "segment_size: 65536", "head: Lsn(", "durable: Lsn(", "next: Lsn("] {
        assert!(said.contains(part), "{said}");
    }
    append_all(&wal, ["secret"; 100]);
    let (iter, mut backwards) = (reader.iter(), reader.backwards());
    backwards.next();
    let follower = wal.follow(lsn).unwrap();
    let all = [said, format!("{iter:?}"), format!("{backwards:?}"), format!("{follower:?}")];
    for said in all {
        assert!(said.len() < 600, "no internals, of whatever length: {said}");
    }
}

#[test]
fn an_iterator_that_told_an_error_has_ended() {
    let wal = small().in_memory().unwrap();
    let kept = wal.append(b"kept").unwrap();
    let lsns = append_all(&wal, (0..100).map(|_| [1; 3000]));
    let reader = wal.reader();
    let (mut forwards, mut backwards) = (reader.from(lsns[40]), reader.backwards_from(lsns[60]));
    assert_eq!(forwards.next().unwrap().unwrap().lsn(), lsns[40]);
    assert_eq!(backwards.next().unwrap().unwrap().lsn(), lsns[59]);
    wal.truncate_after(kept).unwrap();
    let told = forwards.find(|record| record.is_err());
    assert!(matches!(told, Some(Err(Error::CutAway { .. }))), "{told:?}");
    let told = backwards.find(|record| record.is_err());
    assert!(matches!(told, Some(Err(Error::CutAway { .. }))), "{told:?}");
    wal.append(b"goes on").unwrap();
    assert!(forwards.next().is_none() && backwards.next().is_none());
    let mut nowhere = reader.from(Lsn::from_u64(wal.next_lsn().as_u64() + 8));
    assert!(matches!(nowhere.next(), Some(Err(Error::OutOfLog { .. }))));
    assert!(nowhere.next().is_none());
}

#[test]
fn truncation_ends_an_iterator_forwards_by_an_error_and_backwards_as_the_head_does() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, (0..100).map(|_| [1; 3000]));
    let reader = wal.reader();
    let (mut forwards, mut backwards) = (reader.iter(), reader.backwards());
    forwards.next().unwrap().unwrap();
    backwards.next().unwrap().unwrap();
    wal.truncate_before(lsns[90]).unwrap();
    assert!(backwards.all(|record| record.is_ok()));
    let told = forwards.find(|record| record.is_err());
    let Some(Err(Error::Truncated { head, .. })) = told else { panic!("{told:?}") };
    assert_eq!(head, lsns[90]);
    assert!(forwards.next().is_none());
    assert_eq!(reader.from(head).count(), 10);
}

#[test]
fn what_stands_behind_an_append_under_way_is_told_to_be_so_and_can_be_waited_for() {
    ends(|| {
        let wal = small().in_memory().unwrap();
        let (begun, ended) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                wal.append_with(9, |bytes| {
                    begun.wait();
                    ended.wait();
                    bytes.copy_from_slice(b"the first");
                })
            });
            begun.wait();
            let second = wal.append(b"the second").unwrap();
            assert!(matches!(wal.read(second), Err(Error::UnderWay { lsn }) if lsn == second));
            let mut follower = wal.follow(second).unwrap();
            let reader = wal.reader();
            let mut records = reader.from(second);
            assert!(follower.try_next().unwrap().is_none());
            assert!(records.next().is_none());
            ended.wait();
            assert_eq!(follower.wait(Duration::MAX).unwrap().data(), b"the second");
            assert_eq!(records.next().unwrap().unwrap().data(), b"the second");
            assert_eq!(wal.read(second).unwrap().data(), b"the second");
        });
    });
}

#[test]
fn reading_beside_appends_and_truncations_finds_its_place() {
    let wal = small().in_memory().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    wal.append(&[1; 500]).unwrap();
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                wal.truncate_before(wal.next_lsn()).unwrap();
            }
        });
        let _ends = StoreOnDrop(&done);
        for _ in 0..300 {
            let reader = wal.reader();
            match reader.iter().next() {
                Some(Ok(_)) | None | Some(Err(Error::Truncated { .. })) => {}
                Some(Err(error)) => panic!("{error}"),
            }
            reader.backwards().take(50).for_each(|record| {
                record.unwrap();
            });
            match wal.follow(wal.next_lsn()) {
                Ok(_) | Err(Error::Truncated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}
