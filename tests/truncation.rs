//! Giving up records at both ends: what goes, what stays, and what is still held.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{
    SEGMENT, TempDir, append_all, beside_an_append, fill, is_whole, segments, small, text, texts,
    writers,
};
use mapwal::sim::Disk;
use mapwal::{Error, Lsn, Options, Wal};

fn numbers(wal: &Wal) -> Vec<u64> {
    wal.reader().iter().map(|record| record.unwrap().sequence()).collect()
}

/// Nothing is claimed, nothing is given up: the same records, and the same tail.
fn unchanged(wal: &Wal, call: impl FnOnce()) {
    let before = (numbers(wal), wal.head_lsn(), wal.next_lsn());
    call();
    assert_eq!((numbers(wal), wal.head_lsn(), wal.next_lsn()), before);
}

#[test]
fn records_below_the_head_are_gone_and_stay_gone() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, (0..200).map(|i| format!("{i} {}", "x".repeat(1000))));
    for head in [0, 1, 10, 100, 150] {
        wal.truncate_before(lsns[head]).unwrap();
        assert_eq!(wal.head_lsn(), lsns[head]);
        assert_eq!(numbers(&wal), (head as u64 + 1..=200).collect::<Vec<_>>());
        assert!(wal.durable_lsn() > lsns[199], "all before it is durable");
        for gone in &lsns[..head] {
            assert!(matches!(wal.read(*gone), Err(Error::Truncated { .. })));
        }
    }
    let backwards = wal.reader().backwards().count();
    assert_eq!(backwards, 50);
    drop(wal);
    let wal = small().open(&directory).unwrap();
    assert_eq!((wal.head_lsn(), numbers(&wal).len()), (lsns[150], 50));
    assert_eq!(wal.recovery().head, lsns[150]);
}

#[test]
fn a_head_far_below_the_tail_is_found_again() {
    let directory = TempDir::new();
    let wal = small().open(directory.path()).unwrap();
    let lsns: Vec<_> = (0..40)
        .flat_map(|_| {
            let lsns = append_all(&wal, ["given up", "kept"]);
            wal.rotate().unwrap();
            lsns
        })
        .collect();
    wal.truncate_before(lsns[1]).unwrap();
    drop(wal);
    let wal = small().open(directory.path()).unwrap();
    assert_eq!(numbers(&wal), Vec::from_iter(2..=80));
}

#[test]
fn all_records_can_be_given_up_and_numbers_go_on() {
    let directory = TempDir::new();
    let mut next = 1;
    for _ in 0..5 {
        let wal = small().open(&directory).unwrap();
        assert_eq!(numbers(&wal), []);
        for _ in 0..3 {
            append_all(&wal, (0..40).map(|_| [0; 2000]));
            assert_eq!(numbers(&wal), (next..next + 40).collect::<Vec<_>>());
            next += 40;
            wal.truncate_before(wal.next_lsn()).unwrap();
            assert_eq!(numbers(&wal), []);
            assert_eq!(wal.reader().backwards().count(), 0);
        }
    }
}

#[test]
fn a_place_at_or_below_the_head_changes_nothing() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, ["a", "b", "c"]);
    wal.truncate_before(lsns[1]).unwrap();
    unchanged(&wal, || {
        for lsn in [lsns[1], lsns[0], Lsn::NONE, Lsn::from_u64(lsns[1].as_u64() - 1)] {
            wal.truncate_before(lsn).unwrap();
        }
    });
}

#[test]
fn files_that_hold_nothing_else_go() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, (0..400).map(|_| [0; 2000]));
    let before = segments(&directory).len();
    assert!(before > 12, "{before} files");
    wal.truncate_before(lsns[399]).unwrap();
    let left = segments(&directory);
    assert!(left.len() <= 5, "the active one and twice the spares: {left:?}");
    assert!(wal.stats().size <= 5 * SEGMENT);
}

#[test]
fn files_of_large_records_go_too() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    for _ in 0..5 {
        wal.append(&[7; 300_000]).unwrap();
    }
    assert!(wal.stats().size > 5 * 300_000);
    wal.truncate_before(wal.next_lsn()).unwrap();
    assert!(wal.stats().size <= 5 * SEGMENT, "{:?}", wal.stats());
    assert!(common::snapshot(&directory).values().all(|file| file.len() as u64 <= SEGMENT));
    wal.append(&[8; 300_000]).unwrap();
    assert_eq!(numbers(&wal), [6]);
}

#[test]
fn a_full_log_recycles_its_files() {
    let directory = TempDir::new();
    let wal = small().max_log_size(6 * SEGMENT).open(&directory).unwrap();
    for _ in 0..5 {
        assert!(fill(&wal, &[1; 500]).1.is_full());
        wal.truncate_before(wal.next_lsn()).unwrap();
    }
    assert!(wal.stats().recycled >= 5, "{:?}", wal.stats());
    append_all(&wal, (0..300).map(|_| [2; 500]));
    assert!(wal.reader().iter().all(|record| record.unwrap().data() == [2; 500]));
    drop(wal);
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 300);
}

#[test]
fn what_is_held_stays_unchanged_while_files_are_retired_recycled_and_cut() {
    let directory = TempDir::new();
    let record = |i: usize| vec![i as u8; 100 + i % 1000];
    let mut held = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        let wal = small().max_log_size(6 * SEGMENT).open(&directory).unwrap();
        for _ in 0..4 {
            let mut cut = None;
            while let Ok(lsn) = wal.append(&record(next)) {
                if next % 7 == 0 {
                    held.push((next, wal.read(lsn).unwrap()));
                }
                if next % 50 == 0 {
                    cut = Some(lsn);
                }
                next += 1;
            }
            wal.truncate_after(cut.unwrap()).unwrap();
            // what is held keeps its files from being recycled, some others are not held
            let half = held.len() / 2;
            let mut i = 0;
            held.retain(|_| {
                i += 1;
                i > half || i % 10 == 0
            });
            wal.truncate_before(wal.next_lsn()).unwrap();
            for (i, owned) in &held {
                assert_eq!(owned.data(), record(*i), "record {i}");
            }
        }
        held.truncate(held.len() / 2);
    }
    assert!(next > 1000 && held.len() > 10, "{next} records, {} held", held.len());
}

#[test]
fn a_file_that_is_held_is_not_recycled_and_others_are() {
    let directory = TempDir::new();
    let wal = small().spares(8).max_log_size(7 * SEGMENT).open(&directory).unwrap();
    let (lsns, _) = fill(&wal, &[1; 1000]);
    let held = wal.read(lsns[0]).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    let first = wal.stats().recycled;
    assert!(first > 0);
    for round in 2..6 {
        fill(&wal, &[round; 1000]);
        wal.truncate_before(wal.next_lsn()).unwrap();
        assert_eq!(held.data(), [1; 1000]);
    }
    assert!(wal.stats().recycled > first);
}

#[test]
fn what_an_earlier_opening_handed_out_stays_while_a_later_one_recycles() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, (0..100).map(|_| [1; 2000]));
    let held: Vec<_> = lsns.iter().map(|&lsn| wal.read(lsn).unwrap()).collect();
    drop(wal);
    let wal = small().max_log_size(8 * SEGMENT).open(&directory).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    for _ in 0..3 {
        fill(&wal, &[2; 2000]);
        wal.truncate_before(wal.next_lsn()).unwrap();
    }
    assert!(held.iter().all(|owned| owned.data() == [1; 2000]));
}

#[test]
fn a_log_cannot_begin_or_end_inside_a_batch() {
    let wal = small().in_memory().unwrap();
    wal.append(b"before").unwrap();
    let last = wal.append_batch(&[b"one", b"two", b"three"]).unwrap().last();
    let behind = wal.append(b"behind").unwrap();
    let lsns: Vec<_> = wal.reader().iter().map(|record| record.unwrap().lsn()).collect();
    assert_eq!((lsns[3], lsns[4]), (last, behind));
    unchanged(&wal, || {
        for inside in [lsns[2], lsns[3]] {
            let refused = wal.truncate_before(inside);
            assert!(matches!(refused, Err(Error::InsideBatch { lsn }) if lsn == inside));
        }
        for inside in [lsns[1], lsns[2]] {
            let refused = wal.truncate_after(inside);
            assert!(matches!(refused, Err(Error::InsideBatch { lsn }) if lsn == inside));
        }
    });
    wal.truncate_before(lsns[1]).unwrap();
    wal.truncate_after(last).unwrap();
    assert_eq!(texts(&wal), ["one", "two", "three"]);
}

#[test]
fn places_that_are_no_record_cannot_be_truncated_at() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, ["0123456789abcdef0123456789abcdef", "b"]);
    let inside = Lsn::from_u64(lsns[0].as_u64() + 16);
    let far = Lsn::from_u64(wal.next_lsn().as_u64() + 8);
    unchanged(&wal, || {
        assert!(matches!(wal.truncate_before(inside), Err(Error::NotARecord { .. })));
        assert!(matches!(wal.truncate_after(inside), Err(Error::NotARecord { .. })));
        assert!(matches!(wal.truncate_before(far), Err(Error::OutOfLog { .. })));
        assert!(matches!(wal.truncate_after(far), Err(Error::OutOfLog { .. })));
        assert!(matches!(wal.truncate_after(wal.next_lsn()), Err(Error::NotARecord { .. })));
    });
    wal.truncate_before(lsns[1]).unwrap();
    let head = lsns[1];
    unchanged(&wal, || match wal.truncate_after(lsns[0]) {
        Err(Error::Truncated { lsn, head: at }) => assert_eq!((lsn, at), (lsns[0], head)),
        other => panic!("{other:?}"),
    });
}

#[test]
fn what_stands_behind_the_cut_is_gone_and_numbers_go_on_from_it() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let mut lsns = append_all(&wal, (0..100).map(|i| format!("{i} {}", "x".repeat(1500))));
    let mut all_gone = Vec::new();
    for cut in [99, 98, 60, 59, 20, 3, 0] {
        let highest = wal.next_lsn();
        wal.truncate_after(lsns[cut]).unwrap();
        assert!(wal.durable_lsn() > lsns[cut], "the cut is durable");
        assert_eq!(numbers(&wal), (1..=cut as u64 + 1).collect::<Vec<_>>());
        all_gone.extend(lsns.drain(cut + 1..));
        for gone in &all_gone {
            assert!(matches!(wal.read(*gone), Err(Error::CutAway { lsn }) if lsn == *gone));
            assert!(matches!(wal.sync_to(*gone), Err(Error::CutAway { .. })));
            assert!(matches!(wal.truncate_before(*gone), Err(Error::CutAway { .. })));
            assert!(matches!(wal.truncate_after(*gone), Err(Error::CutAway { .. })));
            let reader = wal.reader();
            assert!(matches!(reader.from(*gone).next(), Some(Err(Error::CutAway { .. }))));
        }
        let new = wal.append(format!("new {cut}").as_bytes()).unwrap();
        assert!(new >= highest, "a place is never used twice");
        assert_eq!(wal.read(new).unwrap().sequence(), cut as u64 + 2);
        lsns.push(new);
    }
    assert_eq!(texts(&wal)[1..], ["new 0"]);
    drop(wal);
    let wal = small().open(&directory).unwrap();
    assert_eq!(texts(&wal)[1..], ["new 0"]);
    assert!(segments(&directory).len() <= 6, "files in between are gone");
    assert!(all_gone.iter().all(|gone| wal.read(*gone).is_err()));
}

#[test]
fn cutting_behind_the_last_record_changes_nothing_but_makes_it_durable() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, ["a", "b"]);
    unchanged(&wal, || wal.truncate_after(lsns[1]).unwrap());
    assert!(wal.durable_lsn() > lsns[1]);
}

#[test]
fn a_cut_behind_a_large_record_or_before_one() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let first = wal.append(b"first").unwrap();
    let large = wal.append(&[1; 200_000]).unwrap();
    wal.append(b"behind").unwrap();
    wal.truncate_after(large).unwrap();
    assert_eq!(numbers(&wal), [1, 2]);
    wal.append(&[2; 200_000]).unwrap();
    assert_eq!(numbers(&wal), [1, 2, 3]);
    wal.truncate_after(first).unwrap();
    wal.append(b"second").unwrap();
    assert_eq!(texts(&wal), ["first", "second"]);
    drop(wal);
    assert_eq!(texts(&small().open(&directory).unwrap()), ["first", "second"]);
}

#[test]
fn both_ends_together_over_many_openings() {
    let directory = TempDir::new();
    let mut model: Vec<(u64, String)> = Vec::new();
    let mut next = 1;
    for round in 0..12 {
        let wal = small().open(&directory).unwrap();
        for i in 0..60 {
            let text = format!("{round} {i} {}", "x".repeat(i * 20));
            wal.append(text.as_bytes()).unwrap();
            model.push((next, text));
            next += 1;
        }
        let lsns: Vec<_> = wal.reader().iter().map(|record| record.unwrap().lsn()).collect();
        let (from, to) = (lsns.len() / 3, lsns.len() - 10);
        wal.truncate_before(lsns[from]).unwrap();
        wal.truncate_after(lsns[to]).unwrap();
        model.truncate(to + 1);
        model.drain(..from);
        next = model.last().unwrap().0 + 1;
        if round % 2 == 0 {
            wal.rotate().unwrap();
        }
        let reader = wal.reader();
        let read: Vec<_> = reader
            .iter()
            .map(|record| record.unwrap())
            .map(|record| (record.sequence(), common::text(record.data())))
            .collect();
        assert_eq!(read, model, "round {round}");
    }
}

#[test]
fn truncating_works_on_a_full_disk_and_gives_its_space_back() {
    let disk = Disk::new();
    disk.capacity(6 * SEGMENT);
    let wal = small().open_on(&disk).unwrap();
    for _ in 0..5 {
        let (lsns, error) = fill(&wal, &[1; 2000]);
        assert!(error.is_full());
        assert!(lsns.len() > 50);
        disk.capacity(0); // not a byte
        wal.truncate_before(lsns[lsns.len() - 1]).unwrap();
        assert_eq!(wal.reader().iter().count(), 1);
        disk.capacity(6 * SEGMENT);
    }
    fill(&wal, &[1; 2000]);
    disk.capacity(0);
    let first = wal.head_lsn();
    wal.truncate_after(first).unwrap(); // the spare that is held back
    assert_eq!(wal.reader().iter().count(), 1);
    wal.close().unwrap();
    let wal = small().open_on(&disk).unwrap();
    assert_eq!(wal.reader().iter().count(), 1, "opening needs no room either");
    wal.truncate_before(wal.next_lsn()).unwrap();
}

#[test]
fn the_reserve_holds_many_heads_and_the_next_segment_the_rest() {
    let wal = small().in_memory().unwrap();
    // a segment of heads alone, and over its end
    for i in 0..3000 {
        let lsn = wal.append(b"").unwrap();
        wal.truncate_before(lsn).unwrap();
        assert_eq!(numbers(&wal), [i + 1]);
    }
    assert!(wal.stats().rolls > 3);
}

#[test]
fn truncation_from_the_front_goes_on_beside_writers_and_readers() {
    const WRITERS: u64 = 3;
    const EACH: u64 = 3000;
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers = writers(scope, &wal, WRITERS, EACH);
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let middle = wal.reader().backwards().nth(200).map(|record| record.unwrap().lsn());
                wal.truncate_before(middle.unwrap_or(Lsn::NONE)).unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let reader = wal.reader();
                let mut before = None;
                for record in reader.iter() {
                    let record = match record {
                        Ok(record) => record,
                        Err(Error::Truncated { .. }) => break,
                        Err(error) => panic!("{error:?}"),
                    };
                    assert!(before.is_none_or(|before: u64| before + 1 == record.sequence()));
                    assert!(is_whole(record.data()));
                    before = Some(record.sequence());
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let last = numbers(&wal);
    assert_eq!(last.last(), Some(&(WRITERS * EACH)));
    assert!(last.is_sorted_by(|a, b| a + 1 == *b));
    drop(wal);
    assert_eq!(numbers(&small().open(&directory).unwrap()), last);
}

#[test]
fn cuts_beside_writers_lose_only_what_is_behind_them() {
    const WRITERS: u64 = 3;
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let cuts = AtomicU64::new(0);
    let first = wal.commit(&[0; 16]).unwrap();
    thread::scope(|scope| {
        for t in 1..=WRITERS {
            let (wal, cuts) = (&wal, &cuts);
            scope.spawn(move || {
                let mut i = 0u64;
                while cuts.load(Ordering::SeqCst) < 40 {
                    let data = [t, i].map(u64::to_le_bytes).concat();
                    let result = if i % 20 == 0 { wal.commit(&data) } else { wal.append(&data) };
                    match result {
                        Ok(_) | Err(Error::CutAway { .. }) => i += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            for i in 0..40 {
                let reader = wal.reader();
                let target = match reader.backwards().nth(i * 3) {
                    Some(Ok(record)) => record.lsn(),
                    Some(Err(error)) => panic!("{error:?}"),
                    None => first,
                };
                wal.truncate_after(target).unwrap();
                cuts.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    wal.append(b"behind all of it").unwrap();
    let check = |wal: &Wal| {
        let reader = wal.reader();
        let (mut sequence, mut last, mut lsn) = (0, HashMap::new(), Lsn::NONE);
        for record in reader.iter() {
            let record = record.unwrap();
            sequence += 1;
            assert_eq!(record.sequence(), sequence, "dense");
            assert!(record.lsn() > lsn);
            lsn = record.lsn();
            if record.data() == b"behind all of it" {
                continue;
            }
            let (t, i) = record.data().split_at(8);
            let i = u64::from_le_bytes(i.try_into().unwrap());
            let before = last.insert(t.to_vec(), i);
            assert!(before.is_none_or(|before| before < i), "a thread's order, nothing twice");
        }
        sequence
    };
    let count = check(&wal);
    drop(wal);
    assert_eq!(check(&small().open(&directory).unwrap()), count);
}

#[test]
fn a_cut_before_the_first_record_leaves_an_empty_log_that_begins_again() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let first = wal.commit(b"conflicting").unwrap();
    append_all(&wal, (0..50).map(|_| [1; 3000]));
    wal.truncate_from(first).unwrap();
    assert_eq!(wal.reader().iter().count(), 0);
    assert_eq!(wal.reader().backwards().count(), 0);
    assert!(matches!(wal.read(first), Err(Error::Truncated { .. } | Error::CutAway { .. })));
    drop(wal);
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 0);
    let again = wal.commit(b"agreed").unwrap();
    assert!(again > first);
    assert_eq!(wal.read(again).unwrap().sequence(), 1);
    assert_eq!(texts(&wal), ["agreed"]);
}

#[test]
fn a_cut_at_a_record_takes_it_and_what_is_behind_it() {
    let wal = small().in_memory().unwrap();
    wal.append(b"one").unwrap();
    let two = wal.append(b"two").unwrap();
    wal.append_batch(&[b"three", b"four"]).unwrap();
    wal.truncate_from(two).unwrap();
    let inside = wal.append_batch(&[b"2", b"3"]).unwrap().last();
    assert_eq!(wal.read(inside).unwrap().sequence(), 3);
    assert!(matches!(wal.truncate_from(inside), Err(Error::InsideBatch { .. })));
    assert_eq!(texts(&wal), ["one", "2", "3"]);
}

#[test]
fn a_reader_that_goes_backwards_is_told_if_what_it_read_was_cut_away() {
    for read in [1, 40, 100, 260] {
        for kept in [10, 130, 250, 299] {
            let wal = Options::new().segment_size(1 << 20).in_memory().unwrap();
            let lsns: Vec<_> = (0..300).map(|_| wal.append(&[1; 1000]).unwrap()).collect();
            let reader = wal.reader();
            let mut backwards = reader.backwards();
            let mut expected = 300;
            for record in backwards.by_ref().take(read) {
                assert_eq!(record.unwrap().sequence(), expected);
                expected -= 1;
            }
            wal.truncate_after(lsns[kept]).unwrap();
            for record in backwards {
                match record {
                    Ok(record) => assert_eq!(record.sequence(), expected),
                    Err(error) => {
                        assert!(matches!(error, Error::CutAway { .. }), "{error}");
                        assert!(300 - read > kept, "{kept} kept: all that was read is there");
                        expected = u64::MAX;
                        break;
                    }
                }
                expected -= 1;
            }
            let is_told = expected == u64::MAX;
            assert_eq!(is_told, kept + 1 < 301 - read, "{read} read, {kept} kept");
        }
    }
}

#[test]
fn who_would_read_backwards_from_a_place_that_was_cut_away_is_told() {
    for kept in [10, 100, 240] {
        let wal = Options::new().segment_size(1 << 20).in_memory().unwrap();
        let lsns: Vec<_> = (0..300).map(|_| wal.append(&[1; 1000]).unwrap()).collect();
        let reader = wal.reader();
        let mut backwards = reader.backwards_from(lsns[250]);
        wal.truncate_after(lsns[kept]).unwrap();
        assert!(matches!(backwards.next(), Some(Err(Error::CutAway { .. }))), "{kept} kept");
    }
}

#[test]
fn who_waits_for_a_place_that_is_then_cut_away_is_told() {
    let wal = small().in_memory().unwrap();
    let kept = wal.append(b"kept").unwrap();
    let reader = wal.reader();
    let (mut records, mut follower) = beside_an_append(&wal, b"slow", |_middle| {
        let lsn = wal.append(b"behind it").unwrap();
        let mut records = reader.from(lsn);
        assert!(records.next().is_none());
        (records, wal.follow(lsn).unwrap())
    });
    wal.truncate_after(kept).unwrap();
    wal.append(b"another").unwrap();
    assert!(matches!(records.next(), Some(Err(Error::CutAway { .. }))));
    assert!(matches!(follower.try_next(), Err(Error::CutAway { .. })));
}

#[test]
fn what_was_cut_away_is_never_told_to_be_durable_whatever_is_truncated_afterwards() {
    let wal = small().in_memory().unwrap();
    let kept = wal.append(b"kept").unwrap();
    let cut_away = wal.append(b"cut away").unwrap();
    wal.truncate_after(kept).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    let kept = wal.append(b"kept").unwrap();
    wal.append(b"cut away, too").unwrap();
    wal.truncate_after(kept).unwrap();
    let error = wal.sync_to(cut_away).unwrap_err();
    assert!(matches!(error, Error::CutAway { lsn } if lsn == cut_away), "{error}");
}

#[test]
fn syncing_to_no_place_makes_nothing_durable() {
    let wal = small().in_memory().unwrap();
    let lsn = wal.append(b"not durable").unwrap();
    wal.sync_to(Lsn::NONE).unwrap();
    assert!(wal.durable_lsn() <= lsn);
}

#[test]
fn a_commit_whose_record_is_cut_away_meanwhile_is_told_so() {
    let wal = small().in_memory().unwrap();
    let kept = wal.append(b"kept").unwrap();
    // a neighbour before it keeps the commit waiting
    beside_an_append(&wal, b"neighbour", |_middle| {
        let place = wal.next_lsn();
        let committed = thread::scope(|scope| {
            let commit = scope.spawn(|| wal.commit(b"cut away"));
            while wal.next_lsn() == place {
                thread::yield_now();
            }
            wal.truncate_after(kept).unwrap();
            commit.join().unwrap()
        });
        assert!(matches!(committed, Err(Error::CutAway { lsn }) if lsn == place), "{committed:?}");
    });
}

#[test]
fn giving_up_all_of_a_full_disk_leaves_it_room_for_records() {
    const SEGMENT: u64 = 4 << 20;
    let disk = Disk::new();
    disk.capacity(2 * SEGMENT);
    let wal = Options::new().segment_size(SEGMENT).spares(1).open_on(&disk).unwrap();
    while wal.stats().made < 1 {
        std::thread::yield_now(); // the one that is held back
    }
    for round in 0..2 {
        for _ in 0..50 {
            wal.append(&[1; 30_000]).unwrap(); // more than a head is worth a segment for
        }
        wal.truncate_before(wal.next_lsn()).unwrap();
        wal.append(b"and on").unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn what_a_truncation_gives_up_is_recycled_also_where_the_head_was_in_it() {
    const SEGMENT: u64 = 4 << 20;
    let wal = Options::new().segment_size(SEGMENT).open_on(&Disk::new()).unwrap();
    while wal.stats().made < 2 {
        std::thread::yield_now();
    }
    for _ in 0..6 {
        for _ in 0..50 {
            wal.append(&[1; 30_000]).unwrap();
        }
        wal.truncate_before(wal.next_lsn()).unwrap();
    }
    // now and then the background thread has a file in its hands
    assert!(wal.stats().recycled >= 3, "{:?}", wal.stats());
}

#[test]
fn who_has_looked_ahead_reads_nothing_that_was_cut_away_since() {
    let wal = small().in_memory().unwrap();
    let lsns = append_all(&wal, (0..20).map(|i| i.to_string()));
    let reader = wal.reader();
    let both = [reader.iter(), reader.iter().unverified()].map(|mut records| {
        assert_eq!(records.by_ref().take(3).count(), 3);
        records
    });
    wal.truncate_after(lsns[10]).unwrap();
    wal.append(b"instead").unwrap();
    let kept: Vec<_> = (3..=10).map(|i| i.to_string()).chain(["instead".to_owned()]).collect();
    for records in both {
        let read: Vec<_> = records.map(|record| text(record.unwrap().data())).collect();
        assert_eq!(read, kept);
    }
}
