//! What broke earlier drafts, or could break this log: each with exact control over
//! a simulated disk.

mod common;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Random, SEGMENT, append_all, beside_an_append, ends, fill, small, text, texts};
use mapwal::sim::Disk;
use mapwal::{Damage, Ended, Error, Follower, Lsn, Options, Reader, Verify, Wal};

/// The bytes that a frame takes around its record.
const FRAME_HEADER: usize = 16;
/// Where the frames of a segment begin, and its first record.
const FIRST_FRAME: u64 = 4096;
const FIRST_RECORD: u64 = FIRST_FRAME + 80;
/// The size of a frame that an opening writes.
const OPEN_FRAME: usize = 48;
const SECTOR: usize = Disk::SECTOR as usize;

/// The name of the segment file that holds `lsn`.
fn file_of(lsn: Lsn) -> String {
    format!("{:016x}.wal", lsn.as_u64() / SEGMENT)
}

/// Where `lsn` is in its file.
fn offset_of(lsn: Lsn) -> u64 {
    lsn.as_u64() % SEGMENT
}

/// A log on a new disk: its spares are there, and nobody works in the background.
fn log() -> (Disk, Wal) {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    while wal.stats().size < 3 * SEGMENT {
        thread::yield_now();
    }
    (disk, wal)
}

/// The power goes while the log is open: nothing is flushed any more.
fn lose(disk: &Disk, wal: Wal) {
    disk.lose();
    drop(wal);
}

/// What a log reads on this disk, which may be opened.
fn reopened(disk: &Disk) -> Vec<String> {
    texts(&small().open_on(disk).unwrap())
}

/// A record of `len` bytes that begins with `name`.
fn long(name: &str, len: usize) -> Vec<u8> {
    let mut record = name.as_bytes().to_vec();
    record.resize(len, b'.');
    record
}

/// The records' names, without what makes them long.
fn names(wal: &Wal) -> Vec<String> {
    texts(wal).into_iter().map(|text| text.trim_end_matches('.').to_owned()).collect()
}

/// All files of a disk with what is in them.
fn files(disk: &Disk) -> BTreeMap<String, Vec<u8>> {
    disk.files().into_iter().map(|name| (name.clone(), disk.read(&name))).collect()
}

/// How opening fails, which changes no file.
fn refused(disk: &Disk, options: Options) -> Error {
    let before = files(disk);
    let error = options.open_on(disk).expect_err("this is to be refused");
    assert!(files(disk) == before, "a refusal changed a file");
    error
}

fn is_flush_failed<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::FlushFailed { .. }))
}

// --- crashes ---

#[test]
fn an_old_frame_behind_a_hole_does_not_come_back_at_the_second_crash() {
    let (disk, wal) = log();
    // every frame from here on begins with a sector
    let to_sector = SECTOR - FIRST_RECORD as usize % SECTOR;
    wal.append(&long("kept", to_sector - FRAME_HEADER)).unwrap();
    wal.sync().unwrap();
    let whole = SECTOR - FRAME_HEADER;
    let lost = wal.append(&long("lost", whole)).unwrap();
    let behind = wal.append(&long("behind the hole", whole)).unwrap();
    lose(&disk, wal);
    let behind_sector = offset_of(behind) / Disk::SECTOR;
    let disk =
        disk.crash_keeping(|name, sector| name == file_of(behind) && sector == behind_sector);

    let wal = small().open_on(&disk).unwrap();
    assert_eq!(names(&wal), ["kept"]);
    // with the opening's own frame, just as long as what was lost
    let new = wal.commit(&long("new", whole - OPEN_FRAME)).unwrap();
    assert_eq!(new.as_u64(), lost.as_u64() + OPEN_FRAME as u64);
    lose(&disk, wal);
    let disk = disk.crash_keeping(|_, _| false);
    let at = offset_of(behind) as usize + FRAME_HEADER;
    assert_eq!(&disk.read(&file_of(behind))[at..at + 6], b"behind", "it is still there");

    let wal = small().open_on(&disk).unwrap();
    assert_eq!(names(&wal), ["kept", "new"]);
    assert!(matches!(&wal.recovery().ended, Ended::Torn { at, .. } if *at == offset_of(behind)));
}

#[test]
fn an_opening_is_durable_when_it_returns() {
    let (disk, wal) = log();
    wal.commit(b"one").unwrap();
    lose(&disk, wal);
    let disk = disk.crash_keeping(|_, _| false);
    let wal = small().open_on(&disk).unwrap();
    let epoch = wal.recovery().epoch;
    lose(&disk, wal);
    let disk = disk.crash_keeping(|_, _| false);
    let wal = small().open_on(&disk).unwrap();
    assert_eq!((names(&wal), wal.recovery().epoch), (vec!["one".to_owned()], epoch + 1));
}

/// A log that has gone on to another segment, with records beyond its first sector.
fn rolled() -> (Disk, Wal, Lsn) {
    let (disk, wal) = log();
    wal.commit(b"one").unwrap();
    wal.rotate().unwrap();
    append_all(&wal, [long("two", 1000), long("three", 1000)]);
    let lsn = wal.append(b"four").unwrap();
    (disk, wal, lsn)
}

#[test]
fn frames_behind_a_begin_that_was_lost_are_given_up_if_nothing_was_promised() {
    let (disk, wal, lsn) = rolled();
    lose(&disk, wal);
    let first = FIRST_FRAME / Disk::SECTOR;
    let left = disk.crash_keeping(|name, sector| name != file_of(lsn) || sector > first);
    let wal = small().open_on(&left).unwrap();
    assert_eq!(texts(&wal), ["one"]);
    wal.commit(b"goes on").unwrap();
    lose(&left, wal);
    assert_eq!(reopened(&left.crash(0)), ["one", "goes on"]);
}

#[test]
fn a_begin_that_was_durable_and_is_gone_is_damage() {
    let (disk, wal, _) = rolled();
    wal.sync().unwrap();
    let lsn = wal.append(b"knows what is durable").unwrap();
    lose(&disk, wal);
    let left = disk.crash_keeping(|_, _| true);
    left.write(&file_of(lsn), FIRST_FRAME, &[0; 80]);
    match refused(&left, small()) {
        Error::Damaged { path, at, .. } => {
            assert!(path.ends_with(file_of(lsn)), "{}", path.display());
            assert_eq!(at, FIRST_FRAME);
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_file_that_was_removed_and_comes_back_does_not_count() {
    let (disk, wal) = log();
    let old = wal.commit(b"old").unwrap();
    wal.rotate().unwrap();
    wal.commit(b"new").unwrap();
    wal.close().unwrap();
    let before = disk.crash(0);
    let wal = small().open_on(&disk).unwrap();
    let head = wal.reader().iter().nth(1).unwrap().unwrap().lsn();
    wal.truncate_before(head).unwrap();
    assert!(!disk.files().contains(&file_of(old)));
    lose(&disk, wal);
    for crash in 0..6 {
        let left = disk.crash(crash);
        left.copy_file_from(&before, &file_of(old));
        let wal = small().open_on(&left).unwrap();
        assert_eq!(texts(&wal), ["new"]);
        assert!(wal.recovery().removed.iter().any(|path| path.ends_with(file_of(old))));
        assert!(!left.files().contains(&file_of(old)));
    }
}

#[test]
fn what_a_reopened_log_holds_after_a_failed_flush_survives_a_power_cut() {
    let (disk, wal) = log();
    wal.commit(b"one").unwrap();
    append_all(&wal, [long("two", 3000), long("three", 9000)]);
    disk.fail_flush(0);
    assert!(is_flush_failed(wal.sync()));
    drop(wal);
    // the same kernel: it believes the pages clean that it failed to write
    let wal = small().open_on(&disk).unwrap();
    assert_eq!(names(&wal), ["one", "two", "three"]);
    lose(&disk, wal);
    for crash in 0..12 {
        let wal = small().open_on(&disk.crash(crash)).unwrap();
        assert_eq!(names(&wal), ["one", "two", "three"]);
    }
}

#[test]
fn a_crash_while_a_torn_log_is_opened_changes_nothing_about_it() {
    let (disk, wal) = log();
    append_all(&wal, [long("one", 2000), long("two", 40_000), long("three", 60_000)]);
    wal.sync().unwrap();
    append_all(&wal, [long("torn", 4000), long("torn", 4000)]);
    lose(&disk, wal);
    let torn = offset_of(disk_tail(&disk)) / Disk::SECTOR;
    let mut opened = 0;
    for call in 0..80 {
        let left = disk.crash_keeping(|_, sector| sector % 3 != torn % 3);
        left.lose_after(call);
        let opening = small().open_on(&left);
        opened += opening.is_ok() as u32;
        drop(opening);
        for crash in 0..6 {
            let left = left.crash(6 * call + crash);
            let wal = small().open_on(&left).unwrap();
            let found = names(&wal);
            assert_eq!(found[..3], ["one", "two", "three"]);
            assert!(found[3..].iter().all(|name| name == "torn"));
        }
    }
    assert!((1..80).contains(&opened), "the last calls are beyond the opening, the first not");
}

/// Where the log on a disk ends that nobody has opened since it was lost.
fn disk_tail(disk: &Disk) -> Lsn {
    small().open_on(&disk.crash(0)).unwrap().recovery().tail
}

#[test]
fn a_log_that_is_only_opened_goes_on_for_ever() {
    let disk = Disk::new();
    let (lsns, _) = {
        let wal = small().max_log_size(3 * SEGMENT).open_on(&disk).unwrap();
        let (lsns, error) = fill(&wal, &long("fills", 1000));
        assert!(error.is_full());
        wal.truncate_before(lsns[lsns.len() - 3]).unwrap();
        lose(&disk, wal);
        (lsns, ())
    };
    let mut disk = disk.crash(1);
    disk.capacity(3 * SEGMENT);
    let mut random = Random(3);
    for _ in 0..100 {
        let wal = small().open_on(&disk).unwrap();
        assert_eq!(names(&wal), ["fills"; 3]);
        assert_eq!(wal.head_lsn(), lsns[lsns.len() - 3]);
        match random.below(3) {
            0 => wal.close().unwrap(),
            1 => drop(wal),
            _ => {
                lose(&disk, wal);
                disk = disk.crash(random.next());
            }
        }
    }
    let wal = small().open_on(&disk).unwrap();
    wal.commit(b"goes on").unwrap();
    assert_eq!(names(&wal).last().unwrap(), "goes on");
}

#[test]
fn what_truncations_at_once_take_away_is_durably_given_up() {
    for calls in 0..1000 {
        let (disk, wal) = log();
        disk.lose_after(calls % 60);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let step = || {
                        wal.append(&long("given up", 9000))?;
                        wal.rotate()?;
                        let lsn = wal.append(b"head")?;
                        wal.truncate_before(lsn)
                    };
                    while step().is_ok() {}
                });
            }
        });
        let head = wal.head_lsn();
        lose(&disk, wal);
        let wal = small().open_on(&disk.crash(0)).unwrap();
        assert!(wal.head_lsn() <= head);
        assert!(wal.reader().iter().all(|record| record.is_ok()));
    }
}

/// A log whose last segment follows one that was cut, and has no seal: the file of that
/// last segment, by its name, on a disk from which the log was closed.
fn cut_and_closed() -> (Disk, String) {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    let old: Vec<_> =
        (0..10).map(|i| wal.commit(&long(&format!("old {i}"), 100)).unwrap()).collect();
    while wal.stats().made < 2 {
        thread::yield_now();
    }
    wal.truncate_after(old[4]).unwrap();
    let last = (0..50).map(|i| wal.commit(&long(&format!("new {i}"), 100)).unwrap()).max().unwrap();
    let index = last.as_u64() / SEGMENT;
    wal.close().unwrap();
    (disk, format!("{index:016x}.wal"))
}

#[test]
fn a_begin_behind_a_cut_that_is_damaged_is_damage() {
    for verify in [Verify::All, Verify::Tail] {
        for damage in [&[0; 512][..], &[0xff]] {
            let (disk, name) = cut_and_closed();
            disk.write(&name, 4096, damage);
            let opened = small().verify(verify).open_on(&disk);
            assert!(opened.is_err(), "{verify:?}, {} bytes", damage.len());
        }
    }
}

// --- batches ---

#[test]
fn syncing_to_a_place_inside_a_batch_makes_all_of_it_durable() {
    let batch = [long("one", 3000), long("two", 3000), long("three", 3000)];
    let slices: Vec<_> = batch.iter().map(Vec::as_slice).collect();
    for place in 0..3 {
        let (disk, wal) = log();
        let lsn = wal.append_batch(&slices).unwrap().lsns(&slices).nth(place).unwrap();
        wal.sync_to(lsn).unwrap();
        lose(&disk, wal);
        let wal = small().open_on(&disk.crash(0)).unwrap();
        assert_eq!(names(&wal), ["one", "two", "three"]);
    }
}

// --- space ---

#[test]
fn a_full_log_is_truncated_and_goes_on() {
    let disk = Disk::new();
    let wal = small().max_log_size(4 * SEGMENT).open_on(&disk).unwrap();
    for round in 0..10 {
        let (_, error) = fill(&wal, &long("fills", 700));
        assert!(matches!(error, Error::LogFull { .. }), "{error}");
        assert!(wal.stats().size <= 4 * SEGMENT);
        let keep = wal.reader().backwards().nth(round).unwrap().unwrap().lsn();
        wal.truncate_before(keep).unwrap();
        assert_eq!(wal.reader().iter().count(), round + 1);
        wal.commit(b"goes on").unwrap();
    }
    lose(&disk, wal);
    assert_eq!(reopened(&disk.crash(0)).last().unwrap(), "goes on");
}

#[test]
fn a_full_disk_is_truncated_many_times_in_a_row_and_goes_on() {
    let disk = Disk::new();
    disk.capacity(4 * SEGMENT);
    let wal = small().open_on(&disk).unwrap();
    for _ in 0..3 {
        let (lsns, error) = fill(&wal, &long("fills", 700));
        assert!(error.is_full(), "{error}");
        // Each puts a head frame, first into the reserve of the last segment, then into
        // the spare that is held back. Nothing is freed.
        for pair in lsns[..60].windows(2) {
            wal.truncate_before(pair[1]).unwrap();
            assert_eq!(wal.head_lsn(), pair[1]);
        }
        wal.truncate_before(wal.next_lsn()).unwrap();
        wal.commit(b"goes on").unwrap();
        assert_eq!(texts(&wal), ["goes on"]);
    }
    lose(&disk, wal);
    assert_eq!(reopened(&disk.crash(0)), ["goes on"]);
}

/// Appends from four threads, each `count` records of `len` bytes; returns what was
/// appended: by place.
fn append_from_four(wal: &Wal, count: usize, len: usize) -> BTreeMap<Lsn, String> {
    let barrier = Barrier::new(4);
    let append = |by: usize| {
        barrier.wait();
        let record = |number| text(&long(&format!("{by} {number}"), len));
        let records = (0..count).map(record);
        records.filter_map(|it| Some((wal.append(it.as_bytes()).ok()?, it))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|by| scope.spawn(move || append(by))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn all(wal: &Wal) -> BTreeMap<Lsn, String> {
    let reader = wal.reader();
    reader.iter().map(|it| it.unwrap()).map(|it| (it.lsn(), text(it.data()))).collect()
}

#[test]
fn a_claim_that_meets_a_failing_disk_is_refused_and_later_ones_are_not_lost() {
    for call in 0..40 {
        ends(move || {
            let (disk, wal) = log();
            // one of the calls that prepare pages ahead, or make a spare
            disk.fail_call(call);
            let appended = append_from_four(&wal, 150, 300);
            assert!(appended.len() >= 600 - 40, "one failure is one for each thread at most");
            assert_eq!(all(&wal), appended);
            for _ in 0..40 {
                let _ = small().open_on(&disk); // a call, if it is not made yet
            }
            wal.sync().unwrap();
            lose(&disk, wal);
            assert_eq!(all(&small().open_on(&disk.crash(0)).unwrap()), appended);
        });
    }
}

#[test]
fn a_claim_that_meets_a_full_disk_is_refused_and_later_ones_are_not_lost() {
    for segments in 3..8 {
        ends(move || {
            let disk = Disk::new();
            disk.capacity(segments * SEGMENT);
            let wal = small().open_on(&disk).unwrap();
            let appended = append_from_four(&wal, 300, 500);
            assert!(appended.len() < 1200, "the disk is too large for this test");
            assert_eq!(all(&wal), appended);
            wal.sync().unwrap();
            lose(&disk, wal);
            assert_eq!(all(&small().open_on(&disk.crash(0)).unwrap()), appended);
        });
    }
}

#[test]
fn threads_that_overtake_the_ready_mark_together_all_get_their_place() {
    ends(|| {
        let mut overtaken = 0;
        for _ in 0..20 {
            let disk = Disk::new();
            let roomy = || Options::new().segment_size(1 << 20);
            let wal = roomy().open_on(&disk).unwrap();
            // the mark of a new segment is some pages ahead
            let appended = append_from_four(&wal, 50, 3500);
            overtaken += wal.stats().overtaken;
            assert_eq!(appended.len(), 200);
            assert_eq!(all(&wal), appended);
            wal.sync().unwrap();
            lose(&disk, wal);
            assert_eq!(all(&roomy().open_on(&disk.crash(0)).unwrap()), appended);
        }
        assert!(overtaken > 0, "the background thread is not always faster");
    });
}

#[test]
fn claimers_that_come_late_to_a_spent_slot_find_the_next_segment() {
    ends(|| {
        let (_disk, wal) = log();
        let done = AtomicBool::new(false);
        let append = |by: usize| {
            let mut appended = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let record = format!("{by} {}", appended.len());
                appended.push((wal.append(record.as_bytes()).unwrap(), record));
            }
            appended
        };
        let appended: BTreeMap<_, _> = thread::scope(|scope| {
            let append = &append;
            let threads: Vec<_> = (0..4).map(|by| scope.spawn(move || append(by))).collect();
            // the ring of slots goes round
            while wal.stats().rolls < 60 {
                wal.rotate().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all(&wal) == appended);
        wal.sync().unwrap();
    });
}

#[test]
fn a_record_of_an_earlier_opening_stays_true_while_files_are_recycled() {
    let (disk, wal) = log();
    let held: Vec<_> = (0..40)
        .map(|number| wal.append(&long(&format!("held {number}"), 5000)).unwrap())
        .map(|lsn| wal.read(lsn).unwrap())
        .collect();
    wal.close().unwrap();
    let wal = small().open_on(&disk).unwrap();
    for _ in 0..20 {
        append_all(&wal, std::iter::repeat_n(long("new", 5000), 20));
        wal.truncate_before(wal.next_lsn()).unwrap();
        for (number, record) in held.iter().enumerate() {
            assert_eq!(record.data(), long(&format!("held {number}"), 5000));
        }
    }
    assert!(wal.stats().recycled > 0, "{:?}", wal.stats());
}

// --- failures ---

#[test]
fn a_failed_flush_is_told_to_everybody_and_for_ever() {
    ends(|| {
        let (disk, wal) = log();
        wal.commit(b"durable").unwrap();
        let known = wal.durable_lsn();
        disk.fail_flush(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match wal.commit(b"lost") {
                    Err(Error::FlushFailed { durable, .. }) => assert_eq!(durable, known),
                    other => panic!("{other:?}"),
                });
            }
        });
        let lsn = wal.reader().iter().next().unwrap().unwrap().lsn();
        for _ in 0..3 {
            assert!(is_flush_failed(wal.append(b"late")));
            assert!(is_flush_failed(wal.append(&long("late", 100_000))));
            assert!(is_flush_failed(wal.append_batch(&[b"late"])));
            assert!(is_flush_failed(wal.append_with(4, |_| ())));
            assert!(is_flush_failed(wal.sync()));
            assert!(is_flush_failed(wal.rotate()));
            assert!(is_flush_failed(wal.truncate_before(wal.next_lsn())));
            assert!(is_flush_failed(wal.truncate_after(lsn)));
        }
        assert_eq!(wal.durable_lsn(), known);
        assert_eq!(wal.read(lsn).unwrap().data(), b"durable");
        let mut follower = wal.follow(wal.next_lsn()).unwrap();
        assert!(is_flush_failed(follower.wait(Duration::from_secs(60)).map(|_| ())));
        assert!(is_flush_failed(wal.close()));
        assert_eq!(reopened(&disk.crash(0)), ["durable"]);
    });
}

#[test]
fn a_truncation_flushes_from_the_new_head_on_and_if_that_failed_nothing_again() {
    for fails in [false, true] {
        let disk = Disk::new();
        let wal = small().background(false).open_on(&disk).unwrap();
        let lsns = append_all(&wal, (0..50).map(|_| [1; 4000])); // 4 segments
        let (known, flushes) = (wal.durable_lsn(), wal.stats().flushes);
        if fails {
            disk.fail_flush(0);
        }
        assert_eq!(wal.truncate_before(lsns[49]).is_err(), fails);
        assert_eq!(wal.stats().flushes, flushes + 1);
        assert_eq!(wal.durable_lsn() == known, fails);
    }
}

#[test]
fn a_log_whose_directory_could_not_be_synced_is_created_at_the_next_try() {
    let disk = Disk::new();
    disk.fail_sync_names();
    assert!(matches!(small().open_on(&disk), Err(Error::Io { .. })));
    for crash in 0..6 {
        let left = disk.crash(crash);
        small().open_on(&left).unwrap().commit(b"one").unwrap();
        assert_eq!(reopened(&left.crash(0)), ["one"]);
    }
    small().open_on(&disk).unwrap().commit(b"one").unwrap();
    assert_eq!(reopened(&disk.crash(0)), ["one"]);
}

#[test]
fn a_directory_that_cannot_be_synced_for_once_stops_nothing_for_good() {
    for round in 0..10 {
        let (disk, wal) = log();
        let mut kept = Vec::new();
        for number in 0..30 {
            if number % 5 == round % 5 {
                disk.fail_sync_names(); // met by whoever rolls or truncates next
            }
            let name = format!("{number}");
            while let Err(error) = wal.rotate() {
                assert!(matches!(error, Error::Io { .. }), "{error}");
            }
            let lsn = wal.commit(name.as_bytes()).unwrap();
            kept.push(name);
            if number % 3 == 0 {
                while let Err(error) = wal.truncate_before(lsn) {
                    assert!(matches!(error, Error::Io { .. }), "{error}");
                }
                kept.drain(..kept.len() - 1);
            }
            assert_eq!(texts(&wal), kept);
        }
        lose(&disk, wal);
        for crash in 0..6 {
            assert_eq!(reopened(&disk.crash(6 * round + crash)), kept);
        }
    }
}

#[test]
fn opening_syncs_names_that_an_earlier_process_may_have_left_unsynced() {
    let (disk, wal) = log();
    wal.append(b"one").unwrap();
    wal.close().unwrap();
    // nothing is to be removed, and yet the names have to be durable before they count
    disk.fail_sync_names();
    assert!(matches!(small().open_on(&disk), Err(Error::Io { .. })));
    assert_eq!(texts(&small().open_on(&disk).unwrap()), ["one"]);
}

// --- what is refused, and what is reported ---

#[test]
fn who_still_reads_a_log_that_ended_stores_nothing_to_its_files() {
    const SIZE: u64 = 1 << 20;
    let looks: [fn(&mut Follower, &Reader); 2] = [
        |follower, _| while follower.wait(Duration::ZERO).is_ok() {},
        |_, reader| drop(reader.backwards().next()),
    ];
    for round in 0..120 {
        let disk = Disk::new();
        disk.capacity(2 * SIZE + SIZE / 2);
        let options = Options::new().segment_size(SIZE).spares(1).background(false);
        let open = || options.clone().open_on(&disk).unwrap();
        let fill = |wal: &Wal, to: u64| {
            while wal.next_lsn().as_u64() % SIZE < to {
                wal.append(&[1; 900]).unwrap();
            }
        };
        let wal = open();
        fill(&wal, 930 << 10);
        wal.close().unwrap();
        let wal = open();
        fill(&wal, 965 << 10);
        let (mut follower, reader) = (wal.follow(wal.next_lsn()).unwrap(), wal.reader());
        disk.fail_flush(0);
        let both = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                wal.commit(b"small").unwrap_err();
            });
            both.wait();
            (0..round * 20).for_each(|_| std::hint::spin_loop());
            // over the segment's end, and there is no room for another
            wal.append(&[2; (64 << 10) - 16]).unwrap_err();
        });
        drop(wal);
        disk.mend();
        let wal = open();
        let lsns: Vec<_> = (0..60).map(|_| wal.commit(&[3; 600]).unwrap()).collect();
        looks[round % 2](&mut follower, &reader);
        assert!(lsns.iter().all(|&lsn| wal.read(lsn).is_ok_and(|it| it.data() == [3; 600])));
    }
}

#[test]
fn a_closed_log_says_so_when_it_is_opened_and_to_those_who_still_read() {
    let (disk, wal) = log();
    wal.append(b"one").unwrap();
    let mut follower = wal.follow(wal.next_lsn()).unwrap();
    let reader = wal.reader();
    wal.close().unwrap();
    assert!(matches!(follower.wait(Duration::from_secs(60)), Err(Error::Closed)));
    assert_eq!(reader.iter().next().unwrap().unwrap().data(), b"one");

    let ended = |wal: &Wal| wal.recovery().ended.clone();
    let wal = small().open_on(&disk).unwrap();
    assert_eq!(ended(&wal), Ended::Closed);
    drop(wal);
    let wal = small().open_on(&disk).unwrap();
    assert_eq!(ended(&wal), Ended::Closed, "dropping closes, too");
    wal.commit(b"two").unwrap();
    lose(&disk, wal);
    assert_eq!(ended(&small().open_on(&disk.crash(0)).unwrap()), Ended::Unclosed);
}

#[test]
fn a_missing_last_segment_is_noticed_by_the_seal_that_names_it() {
    let (disk, wal) = log();
    let first = wal.commit(b"one").unwrap();
    wal.rotate().unwrap();
    let last = wal.commit(b"two").unwrap();
    wal.close().unwrap();
    disk.remove_file(&file_of(last));
    match refused(&disk, small()) {
        Error::Missing { path, named_by } => {
            assert!(path.ends_with(file_of(last)));
            assert!(named_by.ends_with(file_of(first)));
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_named() {
    let (disk, wal) = log();
    let mut lsns = Vec::new();
    for name in ["one", "two", "three"] {
        lsns.push(wal.commit(name.as_bytes()).unwrap());
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
    disk.remove_file(&file_of(lsns[1]));
    match refused(&disk, small()) {
        Error::Missing { path, .. } => assert!(path.ends_with(file_of(lsns[1]))),
        error => panic!("{error}"),
    }
}

#[test]
fn a_byte_that_changes_in_a_durable_record_is_damage_at_that_record() {
    let (disk, wal) = log();
    let lsns = append_all(&wal, ["one", "two", "three"]);
    wal.sync().unwrap();
    wal.append(b"knows what is durable").unwrap();
    lose(&disk, wal);
    for lsn in lsns {
        let left = disk.crash_keeping(|_, _| true);
        let at = offset_of(lsn) + FRAME_HEADER as u64 + 1;
        let byte = left.read(&file_of(lsn))[at as usize];
        left.write(&file_of(lsn), at, &[byte ^ 4]);
        match refused(&left, small()) {
            Error::Damaged { path, at, damage } => {
                assert!(path.ends_with(file_of(lsn)));
                assert_eq!((at, damage), (offset_of(lsn), Damage::Check));
            }
            error => panic!("{error}"),
        }
    }
}

#[test]
fn options_that_cannot_be_change_no_file() {
    let (disk, wal) = log();
    wal.commit(b"one").unwrap();
    lose(&disk, wal);
    let left = disk.crash(1);
    for options in [
        small().max_log_size(2 * SEGMENT),
        small().spares(0),
        small().spares(65),
        small().max_record_size(0),
    ] {
        assert!(matches!(refused(&left, options), Error::InvalidOption { .. }));
    }
    assert_eq!(reopened(&left), ["one"]);
    for size in [0, 1000, 3 << 20, 8 << 30] {
        let empty = Disk::new();
        let options = Options::new().segment_size(size);
        assert!(matches!(refused(&empty, options), Error::InvalidOption { .. }));
        assert_eq!(empty.files(), [""; 0]);
    }
    assert!(matches!(
        refused(&left, Options::new().segment_size(1000)),
        Error::InvalidOption { .. }
    ));
    // the size of a log that exists is its own
    let wal = Options::new().segment_size(1 << 20).open_on(&left).unwrap();
    assert_eq!(wal.segment_size(), SEGMENT);
}

#[test]
fn a_second_writer_is_refused_and_changes_nothing() {
    let (disk, wal) = log();
    wal.commit(b"one").unwrap();
    assert!(matches!(small().open_on(&disk), Err(Error::Locked { .. })));
    wal.commit(b"two").unwrap();
    drop(wal);
    assert_eq!(reopened(&disk), ["one", "two"]);
}

#[test]
fn a_call_that_fails_in_an_opening_fails_again_in_another() {
    let (disk, wal) = log();
    for _ in 0..6 {
        wal.append(b"one").unwrap();
        wal.rotate().unwrap();
    }
    wal.sync().unwrap();
    lose(&disk, wal);
    let here = thread::current().id();
    let by_one_thread = small().background(false).on_progress(move |_| {
        assert_eq!(thread::current().id(), here);
        thread::sleep(Duration::from_millis(5)); // another would take what is next
    });
    by_one_thread.open_on(&disk.crash(0)).unwrap();
    let calls_of_opening = |failing| {
        let disk = disk.crash(0);
        disk.fail_call(failing);
        let opened = small().background(false).open_on(&disk);
        let found = opened.map(|wal| format!("{:?}", wal.recovery()));
        (found.map_err(|error| error.to_string()), disk.calls())
    };
    for failing in 0..calls_of_opening(u64::MAX / 2).1 {
        let outcome = calls_of_opening(failing);
        for _ in 0..5 {
            assert_eq!(calls_of_opening(failing), outcome, "{failing}");
        }
    }
}

// --- both ends ---

#[test]
fn torn_frames_behind_a_cut_are_not_walked_after_a_crash() {
    let (disk, wal) = log();
    let lsns = append_all(&wal, ["one", "two", "three"]);
    wal.sync().unwrap();
    let torn = wal.append(&long("never synced", 8000)).unwrap();
    wal.truncate_after(lsns[0]).unwrap();
    wal.commit(b"behind the cut").unwrap();
    lose(&disk, wal);
    let left = disk.crash_keeping(|_, _| false);
    // the crash leaves part of a frame that nothing promised
    left.write(&file_of(torn), offset_of(torn), &[0xff; 4]);
    let wal = small().open_on(&left).unwrap();
    assert_eq!(texts(&wal), ["one", "behind the cut"]);
    let reader = wal.reader();
    let backwards: Vec<_> = reader.backwards().map(|it| text(it.unwrap().data())).collect();
    assert_eq!(backwards, ["behind the cut", "one"]);
    wal.truncate_after(lsns[0]).unwrap();
    assert_eq!(texts(&wal), ["one"]);
}

#[test]
fn truncating_at_a_record_waits_for_a_neighbour_in_the_middle_of_an_append() {
    ends(|| {
        let (_disk, wal) = log();
        for from_the_front in [true, false] {
            beside_an_append(&wal, b"first", |middle| {
                let second = wal.append(b"second").unwrap();
                thread::scope(|scope| {
                    let truncating = scope.spawn(|| match from_the_front {
                        true => wal.truncate_before(second),
                        false => wal.truncate_after(second),
                    });
                    thread::sleep(Duration::from_millis(20)); // it looks meanwhile
                    drop(middle);
                    truncating.join().unwrap().unwrap();
                });
            });
            let left =
                if from_the_front { vec!["second"] } else { vec!["second", "first", "second"] };
            assert_eq!(texts(&wal), left);
        }
    });
}

#[test]
fn truncating_behind_a_record_waits_for_a_neighbour_in_an_earlier_segment() {
    ends(|| {
        let (disk, wal) = log();
        beside_an_append(&wal, b"first", |middle| {
            wal.rotate().unwrap();
            let second = wal.append(b"second").unwrap();
            wal.append(b"cut away").unwrap();
            thread::scope(|scope| {
                let truncating = scope.spawn(|| wal.truncate_after(second));
                thread::sleep(Duration::from_millis(20)); // it looks meanwhile
                drop(middle);
                truncating.join().unwrap().unwrap();
            });
        });
        lose(&disk, wal);
        assert_eq!(reopened(&disk.crash(0)), ["first", "second"]);
    });
}

#[test]
fn syncing_to_a_record_that_is_given_up_waits_until_that_is_durable() {
    let (disk, wal) = log();
    let lsn = wal.append(b"given up").unwrap();
    disk.fail_flush(0);
    assert!(matches!(wal.truncate_before(wal.next_lsn()), Err(Error::FlushFailed { .. })));
    assert!(matches!(wal.sync_to(lsn), Err(Error::FlushFailed { .. })));
}

// --- space that runs out in every way ---

#[test]
fn heads_find_room_behind_a_segment_that_ended_early() {
    ends(|| {
        let options = || Options::new().segment_size(1 << 20).spares(1).max_log_size(3 << 20);
        let disk = Disk::new();
        let wal = options().open_on(&disk).unwrap();
        let lsns = append_all(&wal, (0..300).map(|_| [1; 100]));
        wal.append(&vec![1; 900_000]).unwrap();
        wal.append(&vec![1; 500_000]).unwrap();
        wal.close().unwrap();
        let wal = options().open_on(&disk).unwrap();
        // does not fit in the rest of the segment, and ends it
        assert!(wal.append(&vec![1; 800_000]).unwrap_err().is_full());
        for &lsn in &lsns[1..] {
            wal.truncate_before(lsn).unwrap();
        }
        assert_eq!(wal.reader().iter().next().unwrap().unwrap().lsn(), lsns[299]);
    });
}

#[test]
fn what_is_held_back_for_truncations_is_never_filled_with_records() {
    ends(|| {
        let disk = Disk::new();
        disk.capacity(3 * SEGMENT);
        let wal = small().open_on(&disk).unwrap();
        let (lsns, _) = fill(&wal, &[1; 100]);
        for round in lsns[1..].chunks(8).take(20) {
            for &lsn in round {
                wal.truncate_before(lsn).unwrap();
                assert!(wal.append(&[1; 100]).unwrap_err().is_full());
            }
        }
        wal.truncate_before(wal.next_lsn()).unwrap();
        wal.append(&[1; 100]).unwrap();
    });
}

#[test]
fn a_full_disk_may_be_opened_again_and_again() {
    let disk = Disk::new();
    disk.capacity(3 * SEGMENT);
    let (lsns, _) = fill(&small().open_on(&disk).unwrap(), &[1; 100]);
    for _ in 0..60 {
        let wal = small().open_on(&disk).unwrap();
        assert!(wal.append(&[1; 100]).unwrap_err().is_full());
        assert_eq!(wal.reader().iter().count(), lsns.len());
        wal.close().unwrap();
    }
    let wal = small().open_on(&disk).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    wal.append(&[1; 100]).unwrap();
}

#[test]
fn a_directory_that_cannot_be_synced_is_not_filled_with_files() {
    let disk = Disk::new();
    let wal = small().max_log_size(4 * SEGMENT).open_on(&disk).unwrap();
    for _ in 0..10 {
        for _ in 0..60 {
            if wal.append(&[1; 3000]).is_err() {
                break;
            }
            disk.fail_sync_names();
        }
        disk.fail_sync_names();
        let _ = wal.truncate_before(wal.next_lsn());
        let files = disk.files().iter().filter(|name| name.ends_with(".wal")).count();
        assert!(files <= 5, "{files} files, of which one may be on its way");
    }
}

#[test]
fn a_simulated_disk_is_inspected_watched_and_salvaged_as_a_directory_is() {
    let (disk, wal) = log();
    append_all(&wal, ["one", "two"]);
    wal.close().unwrap();
    let report = Options::default().inspect_on(&disk).unwrap().unwrap();
    let only = &report.segments[0];
    assert_eq!((only.from, only.to, only.records), (report.head, report.tail, 2));
    assert_eq!(report.ended, Ended::Closed);
    let mut watch = Options::default().watch_on(&disk, Lsn::NONE);
    let mut next = || watch.next(Duration::ZERO).unwrap().map(|record| text(record.data()));
    assert_eq!([next(), next(), next()], [Some("one".to_owned()), Some("two".to_owned()), None]);
    let mut found = Vec::new();
    let salvaged = Options::default().salvage_on(&disk, |_, _, data| found.push(text(data)));
    assert_eq!((salvaged.unwrap().records, found), (2, vec!["one".to_owned(), "two".to_owned()]));
}
