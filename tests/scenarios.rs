//! What broke earlier drafts, or could break this log: each with exact control over
//! a simulated disk.

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{SEGMENT, append_all, ends, small, text, texts};
use mapwal::sim::Disk;
use mapwal::{Damage, Ended, Error, Lsn, Wal};

/// The bytes that a frame takes around its record.
const FRAME_HEADER: u64 = 16;

/// The name of the segment file that holds `lsn`.
fn file_of(lsn: Lsn) -> String {
    format!("{:016x}.wal", lsn.as_u64() / SEGMENT)
}

/// Where `lsn` is in its file.
fn offset_of(lsn: Lsn) -> u64 {
    lsn.as_u64() % SEGMENT
}

/// A log on a new disk.
fn log() -> (Disk, Wal) {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
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

// --- both ends ---

#[test]
fn torn_frames_behind_a_cut_are_not_walked_after_a_crash() {
    let (disk, wal) = log();
    let lsns = append_all(&wal, ["one", "two", "three"]);
    wal.sync().unwrap();
    wal.append(&long("never synced", 8000)).unwrap();
    let tail = wal.next_lsn();
    wal.truncate_after(lsns[0]).unwrap();
    wal.commit(b"behind the cut").unwrap();
    lose(&disk, wal);
    let left = disk.crash_keeping(|_, _| false);
    // the crash leaves part of a frame that nothing promised
    left.write(&file_of(lsns[0]), offset_of(tail) - 8008, &[0xff; 4]);
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
            let (claimed, is_claimed) = mpsc::channel();
            let (publish, may_publish) = mpsc::channel();
            let wal = &wal;
            thread::scope(|scope| {
                scope.spawn(move || {
                    wal.append_with(5, |place| {
                        place.copy_from_slice(b"first");
                        claimed.send(()).unwrap();
                        may_publish.recv().unwrap();
                    })
                });
                is_claimed.recv().unwrap();
                let second = wal.append(b"second").unwrap();
                let truncating = scope.spawn(move || match from_the_front {
                    true => wal.truncate_before(second),
                    false => wal.truncate_after(second),
                });
                thread::sleep(Duration::from_millis(20)); // it looks meanwhile
                publish.send(()).unwrap();
                truncating.join().unwrap().unwrap();
            });
            let left =
                if from_the_front { vec!["second"] } else { vec!["second", "first", "second"] };
            assert_eq!(texts(wal), left);
        }
    });
}

#[test]
fn truncating_behind_a_record_waits_for_a_neighbour_in_an_earlier_segment() {
    ends(|| {
        let (disk, wal) = log();
        let (claimed, is_claimed) = mpsc::channel();
        let (publish, may_publish) = mpsc::channel();
        thread::scope(|scope| {
            let wal = &wal;
            scope.spawn(move || {
                wal.append_with(5, |place| {
                    place.copy_from_slice(b"first");
                    claimed.send(()).unwrap();
                    may_publish.recv().unwrap();
                })
            });
            is_claimed.recv().unwrap();
            wal.rotate().unwrap();
            let second = wal.append(b"second").unwrap();
            wal.append(b"cut away").unwrap();
            let truncating = scope.spawn(move || wal.truncate_after(second));
            thread::sleep(Duration::from_millis(20)); // it looks meanwhile
            publish.send(()).unwrap();
            truncating.join().unwrap().unwrap();
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
