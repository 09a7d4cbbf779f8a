//! Appending, committing and rolling: what a writer is promised.

mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::{LARGEST, SEGMENT, TempDir, append_all, beside_an_append, ends, fill, small, texts};
use mapwal::sim::Disk;
use mapwal::{Batch, Error, FlushMethod, Lsn, Options, Wal};

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

fn file_sizes(directory: &TempDir) -> Vec<u64> {
    let files = std::fs::read_dir(directory.path()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn an_appended_record_is_readable_at_once() {
    let wal = small().in_memory().unwrap();
    let lsn = wal.append(b"a change").unwrap();
    assert_eq!(wal.read(lsn).unwrap().data(), b"a change");
    assert_eq!(texts(&wal), ["a change"]);
}

#[test]
fn records_of_every_size_come_back_as_they_were() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let sizes: Vec<usize> = (0..=40).chain([255, 4095, 4096, 4097, LARGEST - 1, LARGEST]).collect();
    let lsns = append_all(&wal, sizes.iter().map(|&len| data(len)));
    for (lsn, len) in lsns.iter().zip(&sizes) {
        assert_eq!(wal.read(*lsn).unwrap().data(), data(*len));
    }
    drop(wal);
    let wal = small().open(&directory).unwrap();
    let reader = wal.reader();
    let read: Vec<_> = reader.iter().map(|r| r.unwrap().data().to_vec()).collect();
    assert_eq!(read, sizes.iter().map(|&len| data(len)).collect::<Vec<_>>());
}

#[test]
fn the_largest_record_of_a_segment_shares_it_and_one_byte_more_has_a_file_of_its_own() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(&data(LARGEST)).unwrap();
    assert!(file_sizes(&directory).iter().all(|&len| len <= SEGMENT));
    let lsn = wal.append(&data(LARGEST + 1)).unwrap();
    assert!(file_sizes(&directory).contains(&(2 * SEGMENT)));
    assert_eq!(wal.read(lsn).unwrap().data(), data(LARGEST + 1), "one slice");
}

#[test]
fn a_record_of_many_segment_sizes_is_one_slice_before_and_after_reopening() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(b"before").unwrap();
    let large = wal.append(&data(1_000_000)).unwrap();
    let built = wal.append_with(300_000, |bytes| bytes.copy_from_slice(&data(300_000))).unwrap();
    let half = data(50_000);
    let batch = wal.append_batch(&[&half, b"", &half]).unwrap().last();
    wal.commit(b"behind").unwrap();
    let check = |wal: &Wal| {
        assert_eq!(wal.read(large).unwrap().data(), data(1_000_000));
        assert_eq!(wal.read(built).unwrap().data(), data(300_000));
        assert_eq!(wal.read(batch).unwrap().data(), half);
        let reader = wal.reader();
        let lens: Vec<_> = reader.iter().map(|r| r.unwrap().data().len()).collect();
        assert_eq!(lens, [6, 1_000_000, 300_000, 50_000, 0, 50_000, 6]);
        let backwards: Vec<_> = reader.backwards().map(|r| r.unwrap().sequence()).collect();
        assert_eq!(backwards, [7, 6, 5, 4, 3, 2, 1]);
    };
    check(&wal);
    drop(wal);
    check(&small().open(&directory).unwrap());
}

#[test]
fn a_record_above_the_limit_is_refused_and_changes_nothing() {
    let wal = small().max_record_size(100).in_memory().unwrap();
    wal.append(&data(100)).unwrap();
    let before = (wal.next_lsn(), wal.stats().size);
    let too_large = |result: mapwal::Result<Lsn>| {
        assert!(matches!(result, Err(Error::TooLarge { len: 101, max: 100 })), "{result:?}");
    };
    too_large(wal.append(&data(101)));
    too_large(wal.commit(&data(101)));
    too_large(wal.append_with(101, |_| panic!("not called")));
    too_large(wal.append_batch(&[b"small", &data(101)]).map(Batch::last));
    let message = wal.append(&data(101)).unwrap_err().to_string();
    assert!(message.contains("101") && message.contains("at most 100 bytes"), "{message}");
    assert_eq!((wal.next_lsn(), wal.stats().size), before);
    assert_eq!(wal.reader().iter().count(), 1);
    wal.append(b"goes on").unwrap();
}

#[test]
fn a_record_built_in_place_begins_as_zeros() {
    let directory = TempDir::new();
    // a full log that is truncated recycles: stale bytes lie where it is built
    let wal = small().max_log_size(5 * SEGMENT).open(&directory).unwrap();
    for _ in 0..3 {
        assert!(fill(&wal, &[0xee; 3000]).1.is_full());
        wal.truncate_before(wal.next_lsn()).unwrap();
    }
    assert!(wal.stats().recycled > 0, "{:?}", wal.stats());
    for _ in 0..50 {
        let lsn = wal
            .append_with(3000, |bytes| {
                assert!(bytes.iter().all(|&byte| byte == 0), "all zero at first");
                bytes[..5].copy_from_slice(b"built");
            })
            .unwrap();
        let read = wal.read(lsn).unwrap();
        assert_eq!(&read.data()[..5], b"built");
        assert!(read.data()[5..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_panic_while_a_record_is_built_leaves_a_number_without_a_record_and_no_hang() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(b"one").unwrap();
    let place = wal.next_lsn();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = wal.append_with(50, |bytes| {
            bytes.fill(b'x');
            panic!("in the middle");
        });
    }));
    assert!(panicked.is_err(), "the panic goes on");
    wal.commit(b"three").unwrap();
    let check = |wal: &Wal| {
        assert_eq!(texts(wal), ["one", "three"]);
        let reader = wal.reader();
        let all: Vec<_> = reader.iter().with_abandoned().map(|r| r.unwrap()).collect();
        let said: Vec<_> = all.iter().map(|r| (r.sequence(), r.is_abandoned())).collect();
        assert_eq!(said, [(1, false), (2, true), (3, false)]);
        assert_eq!(all[1].data(), b"");
        assert_eq!(all[1].lsn(), place);
        assert!(matches!(wal.read(place), Err(Error::Abandoned { lsn }) if lsn == place));
    };
    check(&wal);
    drop(wal);
    check(&small().open(&directory).unwrap());
}

#[test]
fn a_panic_while_a_large_record_is_built_leaves_a_number_too() {
    let wal = small().in_memory().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = wal.append_with(200_000, |_| panic!("in the middle"));
    }));
    assert!(panicked.is_err());
    let lsn = wal.commit(b"behind").unwrap();
    assert_eq!(wal.read(lsn).unwrap().sequence(), 2);
    assert_eq!(texts(&wal), ["behind"]);
}

#[test]
fn a_batch_stands_together_and_in_order() {
    let wal = small().in_memory().unwrap();
    wal.append(b"before").unwrap();
    let records = [b"a".as_slice(), b"", b"c"];
    let batch = wal.append_batch(&records).unwrap();
    wal.append(b"behind").unwrap();
    assert_eq!(texts(&wal), ["before", "a", "", "c", "behind"]);
    let lsns: Vec<_> = batch.lsns(&records).collect();
    assert_eq!([batch.first(), batch.last()], [lsns[0], lsns[2]]);
    let parts: Vec<_> = lsns.iter().map(|&lsn| wal.read(lsn).unwrap()).collect();
    assert_eq!(
        [&parts[0], &parts[1], &parts[2]].map(|part| part.data()),
        [b"a".as_slice(), b"", b"c"]
    );
    let reader = wal.reader();
    let more: Vec<_> = reader.iter().map(|r| r.unwrap().has_more_of_its_batch()).collect();
    assert_eq!(more, [false, true, true, false, false]);
    let numbers: Vec<_> = reader.iter().map(|r| r.unwrap().sequence()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[test]
fn a_batch_that_does_not_fit_in_the_rest_of_a_segment_goes_on_whole_in_the_next() {
    let wal = small().in_memory().unwrap();
    wal.append(&data(LARGEST - 100)).unwrap();
    let record = data(40);
    let last = wal.append_batch(&[&record[..]; 10]).unwrap().last();
    let lsns: Vec<_> = {
        let reader = wal.reader();
        reader.iter().skip(1).map(|r| r.unwrap().lsn().as_u64() / SEGMENT).collect()
    };
    assert_eq!(lsns, [last.as_u64() / SEGMENT; 10]);
    assert_ne!(last.as_u64() / SEGMENT, 1, "not in the first");
}

#[test]
fn a_batch_of_one_is_a_record_and_one_of_none_is_refused() {
    let wal = small().in_memory().unwrap();
    let batch = wal.append_batch(&[b"alone"]).unwrap();
    assert_eq!(batch.first(), batch.last());
    let record = wal.read(batch.first()).unwrap();
    assert!(!record.record().has_more_of_its_batch());
    assert!(matches!(wal.append_batch(&[]), Err(Error::EmptyBatch)));
}

#[test]
fn what_would_wait_for_a_closure_is_refused_inside_it() {
    let wal = small().in_memory().unwrap();
    let first = wal.append(b"first").unwrap();
    let inside = |what: &str, result: mapwal::Result<()>| {
        assert!(matches!(result, Err(Error::InsideAppend)), "{what}: {result:?}");
    };
    wal.append_with(5, |bytes| {
        inside("sync", wal.sync().map(drop));
        inside("sync_to", wal.sync_to(first));
        inside("commit", wal.commit(b"no").map(drop));
        inside("rotate", wal.rotate());
        let mut follower = wal.follow(wal.next_lsn()).unwrap();
        inside("wait", follower.wait(Duration::from_secs(60)).map(drop));
        inside("truncate_before", wal.truncate_before(first));
        inside("truncate_after", wal.truncate_after(first));
        inside("a large record", wal.append(&data(LARGEST + 1)).map(drop));
        bytes.copy_from_slice(b"outer");
    })
    .unwrap();
    assert_eq!(texts(&wal), ["first", "outer"], "nothing of it happened");
    wal.sync().unwrap();
}

#[test]
fn an_append_inside_a_closure_works_until_it_would_have_to_roll() {
    let wal = small().in_memory().unwrap();
    let mut appended = 0;
    wal.append_with(5, |bytes| {
        let error = loop {
            match wal.append(&data(1000)) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::InsideAppend), "{error:?}");
        bytes.copy_from_slice(b"outer");
    })
    .unwrap();
    assert!(appended > 50, "{appended} fit");
    // the one that failed left the segment behind it usable, or closed: never stuck
    let lsn = wal.commit(b"outside").unwrap();
    assert_eq!(wal.read(lsn).unwrap().sequence(), appended + 2);
}

#[test]
fn a_closure_may_use_another_log() {
    let (wal, other) = (small().in_memory().unwrap(), small().in_memory().unwrap());
    wal.append_with(1, |_| {
        other.commit(b"there").unwrap();
        other.rotate().unwrap();
    })
    .unwrap();
    assert_eq!(texts(&other), ["there"]);
}

#[test]
fn other_threads_append_and_commit_while_a_closure_runs_and_wait_only_for_its_end() {
    let wal = small().in_memory().unwrap();
    beside_an_append(&wal, b"slow!", |middle| {
        // appends do not wait, not even over rolls
        let mut last = wal.append(b"quick").unwrap();
        for _ in 0..100 {
            last = wal.append(&data(2000)).unwrap();
        }
        assert_eq!(texts(&wal), [""; 0], "nothing behind it is readable before it");
        thread::scope(|scope| {
            let commit = scope.spawn(|| wal.sync_to(last));
            drop(middle);
            commit.join().unwrap().unwrap();
        });
        assert!(wal.durable_lsn() > last);
    });
    let reader = wal.reader();
    let first: Vec<_> = reader.iter().take(2).map(|r| r.unwrap().data().to_vec()).collect();
    assert_eq!(first, [b"slow!", b"quick"]);
    assert_eq!(reader.iter().count(), 102);
}

#[test]
fn many_threads_write_every_record_once_in_their_own_order_with_dense_numbers() {
    const THREADS: usize = 8;
    const EACH: usize = 3000;
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let go = Barrier::new(THREADS);
    let lsns: Vec<Vec<Lsn>> = thread::scope(|scope| {
        let write = |t: usize| {
            let (wal, go) = (&wal, &go);
            scope.spawn(move || {
                go.wait();
                let mut lsns = Vec::new();
                for i in 0..EACH {
                    let text = format!("{t} {i} {}", "x".repeat((t * 7 + i * 13) % 200));
                    lsns.push(match i % 50 {
                        0 => wal.commit(text.as_bytes()),
                        1 => wal.append_with(text.len(), |b| b.copy_from_slice(text.as_bytes())),
                        2 => {
                            let halves = text.as_bytes().split_at(text.len() / 2);
                            wal.append_batch(&[halves.0, halves.1]).map(Batch::last)
                        }
                        _ => wal.append(text.as_bytes()),
                    });
                }
                lsns.into_iter().map(|lsn| lsn.unwrap()).collect()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(write).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wal.stats().rolls > 5, "{:?}", wal.stats());
    for own in &lsns {
        assert!(own.is_sorted_by(|a, b| a < b), "a thread's LSNs grow");
    }
    let check = |wal: &Wal| {
        let reader = wal.reader();
        let mut next = HashMap::new();
        let (mut sequence, mut before, mut half) = (0, Lsn::NONE, Vec::new());
        for record in reader.iter() {
            let record = record.unwrap();
            sequence += 1;
            assert_eq!(record.sequence(), sequence, "dense");
            assert!(record.lsn() > before, "LSNs grow");
            before = record.lsn();
            half.extend_from_slice(record.data());
            if record.has_more_of_its_batch() {
                continue;
            }
            let text = common::text(&half);
            half.clear();
            let mut words = text.split(' ');
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            let (t, i) = (number(), number());
            let expected = next.entry(t).or_insert(0);
            assert_eq!(i, *expected, "thread {t}: each once, in order");
            assert_eq!(record.lsn(), lsns[t][i], "where append said");
            *expected += 1;
        }
        assert_eq!(next.into_values().collect::<Vec<_>>(), [EACH; THREADS]);
    };
    check(&wal);
    wal.close().unwrap();
    check(&small().open(&directory).unwrap());
}

#[test]
fn sync_makes_everything_before_it_durable_and_append_does_not() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    let synced = wal.append(b"synced").unwrap();
    let durable = wal.sync().unwrap();
    assert!(durable > synced && durable == wal.durable_lsn());
    let appended = wal.append(b"appended").unwrap();
    assert!(wal.durable_lsn() <= appended);
    disk.lose();
    drop(wal);
    let left = small().open_on(&disk.crash_keeping(|_, _| false)).unwrap();
    assert_eq!(texts(&left), ["synced"]);
}

#[test]
fn sync_to_a_record_inside_a_batch_makes_the_whole_batch_durable() {
    let wal = small().in_memory().unwrap();
    let batch = wal.append_batch(&[b"a", b"b", b"c"]).unwrap();
    wal.sync_to(batch.first()).unwrap();
    assert!(wal.durable_lsn() > batch.last());
}

#[test]
fn sync_to_a_place_behind_the_tail_is_an_error_and_below_the_head_is_fine() {
    let wal = small().in_memory().unwrap();
    let given_up = wal.append(b"given up").unwrap();
    wal.append(b"kept").unwrap();
    let tail = wal.next_lsn();
    assert!(matches!(wal.sync_to(tail), Err(Error::OutOfLog { lsn, .. }) if lsn == tail));
    wal.truncate_before(tail).unwrap();
    wal.sync_to(given_up).unwrap();
}

#[test]
fn one_flush_covers_all_that_sync_together() {
    const THREADS: usize = 16;
    let wal = small().in_memory().unwrap();
    wal.sync().unwrap();
    let before = wal.stats().flushes;
    let appended = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let lsn = wal.append(b"record").unwrap();
                appended.wait();
                wal.sync_to(lsn).unwrap();
                assert!(wal.durable_lsn() > lsn);
            });
        }
    });
    assert_eq!(wal.stats().flushes - before, 1);
}

#[test]
fn concurrent_commits_share_flushes_and_all_of_them_survive_a_power_cut() {
    const THREADS: usize = 8;
    const EACH: usize = 100;
    let commit_all = |wal: &Wal| {
        let go = Barrier::new(THREADS);
        thread::scope(|scope| {
            for t in 0..THREADS {
                let go = &go;
                scope.spawn(move || {
                    go.wait();
                    for i in 0..EACH {
                        let lsn = wal.commit(format!("{t} {i}").as_bytes()).unwrap();
                        assert!(wal.durable_lsn() > lsn);
                    }
                });
            }
        });
    };
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    commit_all(&wal);
    let flushes = wal.stats().flushes;
    assert!(flushes < (THREADS * EACH) as u64, "{flushes} flushes");

    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    commit_all(&wal);
    disk.lose();
    drop(wal);
    let left = small().open_on(&disk.crash_keeping(|_, _| false)).unwrap();
    assert_eq!(left.reader().iter().count(), THREADS * EACH);
}

#[test]
fn what_was_committed_is_read_again_with_either_flush_method() {
    for method in [FlushMethod::Range, FlushMethod::File] {
        let directory = TempDir::new();
        let wal = small().flush_method(method).open(&directory).unwrap();
        let lsn = wal.commit(b"a change").unwrap();
        assert!(wal.durable_lsn() > lsn);
        drop(wal);
        assert_eq!(texts(&small().open(&directory).unwrap()), ["a change"]);
    }
}

#[test]
fn rotate_goes_on_in_another_segment_and_flushes_nothing() {
    let wal = small().in_memory().unwrap();
    let before = wal.append(b"before").unwrap();
    let flushes = wal.stats().flushes;
    wal.rotate().unwrap();
    assert_eq!(wal.stats().flushes, flushes);
    let behind = wal.append(b"behind").unwrap();
    assert_ne!(before.as_u64() / SEGMENT, behind.as_u64() / SEGMENT);
    assert_eq!(texts(&wal), ["before", "behind"]);
    let reader = wal.reader();
    let numbers: Vec<_> = reader.iter().map(|r| r.unwrap().sequence()).collect();
    assert_eq!(numbers, [1, 2]);
    for _ in 0..20 {
        wal.rotate().unwrap();
    }
    assert_eq!(wal.stats().rolls, 3, "an empty segment is as good as a new one");
    wal.commit(b"last").unwrap();
    assert_eq!(texts(&wal), ["before", "behind", "last"]);
}

#[test]
fn rotate_leaves_a_segment_that_was_opened_again_and_has_no_record() {
    let directory = TempDir::new();
    small().open(&directory).unwrap().close().unwrap();
    let wal = small().open(&directory).unwrap();
    wal.rotate().unwrap();
    assert_eq!(wal.stats().rolls, 0);
}

#[test]
fn a_full_log_refuses_what_needs_more_and_goes_on_when_truncated() {
    let directory = TempDir::new();
    let wal = small().max_log_size(5 * SEGMENT).open(&directory).unwrap();
    for round in 0..3 {
        let (lsns, error) = fill(&wal, &data(1000));
        assert!(matches!(error, Error::LogFull { max, .. } if max == 5 * SEGMENT), "{error:?}");
        assert!(error.is_full());
        let message = error.to_string();
        assert!(message.contains("truncate_before"), "says what to do: {message}");
        assert!(wal.stats().size <= 5 * SEGMENT);
        assert!(file_sizes(&directory).iter().sum::<u64>() <= 5 * SEGMENT);
        assert!(lsns.len() > 100, "round {round}: only {} fit", lsns.len());
        // what is there stays readable, and can be made durable
        assert_eq!(wal.read(lsns[0]).unwrap().data(), data(1000));
        wal.sync().unwrap();
        assert!(wal.append(&data(LARGEST + 1)).unwrap_err().is_full());
        assert!(wal.rotate().unwrap_err().is_full());
        wal.truncate_before(lsns[lsns.len() - 1]).unwrap();
        assert_eq!(wal.reader().iter().count(), 1);
    }
}

#[test]
fn a_full_disk_is_an_error_that_claims_nothing_and_appending_goes_on_with_room() {
    let disk = Disk::new();
    disk.capacity(4 * SEGMENT);
    let wal = small().open_on(&disk).unwrap();
    let (appended, error) = fill(&wal, &data(1000));
    assert!(error.is_full() && matches!(error, Error::Io { .. }), "{error:?}");
    assert_eq!(wal.reader().iter().count(), appended.len());
    wal.sync().unwrap();
    disk.capacity(100 * SEGMENT);
    let lsn = wal.commit(b"room again").unwrap();
    assert_eq!(wal.read(lsn).unwrap().sequence(), appended.len() as u64 + 1);
}

#[test]
fn a_failed_flush_is_remembered_by_every_later_call() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    let good = wal.commit(b"good").unwrap();
    let durable = wal.durable_lsn();
    assert!(durable > good);
    disk.fail_flush(0);
    let failed = |result: mapwal::Result<()>| match result {
        Err(Error::FlushFailed { durable: at, .. }) => assert_eq!(at, durable),
        other => panic!("{other:?}"),
    };
    let bad = wal.append(b"bad").unwrap();
    failed(wal.sync_to(bad));
    for _ in 0..2 {
        failed(wal.append(b"no").map(drop));
        failed(wal.commit(b"no").map(drop));
        failed(wal.append_batch(&[b"n", b"o"]).map(drop));
        failed(wal.append(&data(LARGEST + 1)).map(drop));
        failed(wal.sync().map(drop));
        failed(wal.rotate());
        failed(wal.truncate_before(bad));
        failed(wal.truncate_after(good));
    }
    assert_eq!(texts(&wal)[0], "good", "what is there stays readable");
    failed(wal.close());
    let wal = small().open_on(&disk).unwrap();
    wal.commit(b"reopened").unwrap();
    assert_eq!(texts(&wal), ["good", "bad", "reopened"]);
}

#[test]
fn nobody_hangs_when_a_flush_fails() {
    const THREADS: usize = 6;
    ends(|| {
        let disk = Disk::new();
        let wal = small().open_on(&disk).unwrap();
        wal.commit(b"first").unwrap();
        let mut follower = wal.follow(wal.next_lsn()).unwrap().durable();
        disk.fail_flush(20);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let error = loop {
                        if let Err(error) = wal.commit(b"record") {
                            break error;
                        }
                    };
                    assert!(matches!(error, Error::FlushFailed { .. }), "{error:?}");
                });
            }
            scope.spawn(move || {
                let error = loop {
                    if let Err(error) = follower.wait(Duration::MAX) {
                        break error;
                    }
                };
                assert!(matches!(error, Error::FlushFailed { .. }), "{error:?}");
            });
        });
    });
}

#[test]
fn options_out_of_range_are_refused_by_name_and_create_nothing() {
    let refused = |options: Options, name: &str| {
        let directory = TempDir::new();
        let error = options.open(&directory).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option, .. } if option == name));
        assert!(error.to_string().starts_with(name), "{error}");
        assert!(common::segments(&directory).is_empty());
    };
    for bytes in [0, 1, 4096, 65_535, 65_537, 3 << 20, 8 << 30] {
        refused(Options::new().segment_size(bytes), "segment_size");
    }
    refused(small().max_record_size(0), "max_record_size");
    refused(small().max_record_size(1 << 28), "max_record_size");
    refused(small().max_log_size(3 * SEGMENT - 1), "max_log_size");
    refused(small().spares(0), "spares");
    refused(small().spares(65), "spares");
}

#[test]
fn the_least_options_work() {
    let wal = small().max_log_size(3 * SEGMENT).spares(1).max_record_size(1).in_memory().unwrap();
    append_all(&wal, ["a", "b"]);
    wal.rotate().unwrap();
    wal.commit(b"c").unwrap();
    assert_eq!(texts(&wal), ["a", "b", "c"]);
}

#[test]
fn closing_lets_the_next_opening_know() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.recovery().ended, mapwal::Ended::Created);
    wal.append(b"a change").unwrap();
    wal.close().unwrap();
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.recovery().ended, mapwal::Ended::Closed);
    assert_eq!(wal.recovery().epoch, 2);
    drop(wal);
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.recovery().ended, mapwal::Ended::Closed, "dropping closes");
    assert_eq!((wal.recovery().epoch, texts(&wal).len()), (3, 1));
}

#[test]
fn a_log_that_is_opened_and_closed_again_and_again_goes_on() {
    let directory = TempDir::new();
    for i in 0..60 {
        let wal = small().open(&directory).unwrap();
        assert_eq!(wal.reader().iter().count(), i);
        wal.append(&data(3000)).unwrap();
    }
    // an opening and a closing take 64 bytes each: the reserve is used up in between
    for _ in 0..600 {
        drop(small().open(&directory).unwrap());
    }
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 60);
}

#[test]
fn a_log_that_is_used_while_its_caller_unwinds_goes_on() {
    struct SyncedLate<'w>(&'w Wal);
    impl Drop for SyncedLate<'_> {
        fn drop(&mut self) {
            self.0.commit(b"while unwinding").unwrap();
            self.0.rotate().unwrap();
        }
    }
    let wal = small().in_memory().unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _late = SyncedLate(&wal);
        panic!("the caller's own");
    }));
    assert!(unwound.is_err());
    wal.commit(b"afterwards").unwrap();
    assert_eq!(texts(&wal), ["while unwinding", "afterwards"]);
}
