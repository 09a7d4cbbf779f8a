//! What the log does with space: what it flushes, what it makes, and the memory it takes.

mod common;

use std::thread;
use std::time::Duration;

use common::{SEGMENT, TempDir, append_all, ends, fill, small, texts};
use mapwal::sim::Disk;
use mapwal::{Batch, Ended, Error, Lsn, Options, Wal};

/// Waits for the background thread to have done what it has to.
fn until(done: impl Fn() -> bool + Send + 'static) {
    ends(move || {
        while !done() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn segments_that_are_given_up_are_not_flushed() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    let lsns = append_all(&wal, (0..200).map(|i| format!("{i} {}", "x".repeat(2000))));
    let (flushes, head) = (wal.stats().flushes, lsns[190]);
    wal.truncate_before(head).unwrap();
    assert_eq!(wal.stats().flushes, flushes + 1, "of seven segments, that of the head");
    assert!(wal.durable_lsn() > lsns[199]);
    let kept = texts(&wal);
    assert_eq!(kept.len(), 10);
    disk.lose();
    drop(wal);
    let wal = small().open_on(&disk.crash(0)).unwrap();
    assert_eq!((wal.head_lsn(), texts(&wal)), (head, kept));
}

#[test]
fn a_long_log_that_is_given_up_whole_begins_in_another_segment() {
    let disk = Disk::new();
    let large = || Options::new().segment_size(4 << 20);
    let wal = large().open_on(&disk).unwrap();
    wal.append(b"wakes who makes files").unwrap();
    let wal = std::sync::Arc::new(wal);
    until({
        let wal = wal.clone();
        move || wal.stats().made >= 2
    });
    append_all(&wal, (0..2000).map(|_| [7; 1000]));
    let before = wal.next_lsn();
    let (mut follower, reader) = (wal.follow(wal.head_lsn()).unwrap(), wal.reader());
    while follower.try_next().unwrap().is_some() {}
    let mut records = reader.iter();
    assert_eq!(records.by_ref().count(), 2001);
    wal.truncate_before(before).unwrap();
    assert!(follower.try_next().unwrap().is_none(), "it has missed nothing");
    assert!(wal.head_lsn() > before, "nothing of the old segment is needed");
    assert_eq!(texts(&wal), [""; 0]);
    assert_eq!(wal.reader().from(before).count(), 0, "what was asked for is found");
    assert!(wal.follow(before).unwrap().try_next().unwrap().is_none());
    let last = wal.append(b"the next").unwrap();
    assert_eq!(wal.read(last).unwrap().sequence(), 2002);
    assert_eq!(follower.try_next().unwrap().unwrap().lsn(), last);
    assert_eq!(records.next().unwrap().unwrap().lsn(), last);
    drop(records);
    drop((follower, reader));
    wal.sync().unwrap();
    disk.lose();
    drop(wal);
    let wal = large().open_on(&disk.crash(0)).unwrap();
    assert_eq!(texts(&wal), ["the next"]);
    assert_eq!(wal.read(last).unwrap().sequence(), 2002);
}

#[test]
fn a_log_that_is_truncated_as_it_grows_lives_on_its_own_files() {
    for segments in [1, 3] {
        let wal = small().in_memory().unwrap();
        for _ in 0..100 {
            append_all(&wal, (0..16 * segments).map(|_| [3; 4000]));
            wal.truncate_before(wal.next_lsn()).unwrap();
        }
        let stats = wal.stats();
        assert!(stats.recycled > 4 * stats.made, "{segments} at a time: {stats:?}");
        assert!(stats.size <= (5 + segments) * SEGMENT, "{segments} at a time: {stats:?}");
    }
}

#[test]
fn a_large_record_takes_the_room_of_spares() {
    let wal = small().max_log_size(12 * SEGMENT).in_memory().unwrap();
    for _ in 0..3 {
        append_all(&wal, (0..80).map(|_| [3; 4000]));
        wal.truncate_before(wal.next_lsn()).unwrap();
    }
    let size = wal.stats().size;
    assert!(size > 3 * SEGMENT, "{size} bytes: there are spares enough to be in the way");
    let largest = 9 * SEGMENT as usize - 8192; // one before it, one behind, and one held back
    wal.append(&vec![4; largest]).unwrap();
    assert!(wal.stats().size <= 12 * SEGMENT);
    assert!(matches!(wal.append(&vec![4; 9 * SEGMENT as usize]), Err(Error::TooLarge { .. })));
}

#[test]
fn without_a_background_thread_surplus_spares_go_when_the_log_is_opened() {
    ends(|| {
        let disk = Disk::new();
        let wal = small().spares(8).open_on(&disk).unwrap();
        while wal.stats().size < 9 * SEGMENT {
            thread::yield_now();
        }
        wal.close().unwrap();
        let few = small().spares(1).max_log_size(3 * SEGMENT).background(false);
        let wal = few.open_on(&disk).unwrap();
        assert!(wal.stats().size <= 3 * SEGMENT, "{:?}", wal.stats());
        wal.commit(b"it goes on").unwrap();
    });
}

#[test]
fn without_a_background_thread_nothing_happens_behind_the_callers_back() {
    let steps = || -> Vec<u64> {
        let disk = Disk::new();
        let open = || small().background(false).open_on(&disk).unwrap();
        let wal = open();
        let (mut lsns, mut calls) = (Vec::new(), Vec::new());
        for step in 0..40 {
            lsns.extend((0..20).map(|i| wal.append(&vec![step; 100 * i]).unwrap()));
            match step % 5 {
                0 => wal.sync().map(drop).unwrap(),
                1 => wal.rotate().unwrap(),
                2 => wal.truncate_before(lsns[lsns.len() - 30]).unwrap(),
                3 => wal.truncate_after(lsns[lsns.len() - 5]).unwrap(),
                _ => drop(wal.append(&vec![step; 200_000]).unwrap()),
            }
            let before = disk.calls();
            thread::sleep(Duration::from_millis(2));
            assert_eq!(disk.calls(), before, "step {step}");
            calls.push(before);
        }
        assert!(wal.stats().recycled > 0 && wal.stats().made > 0);
        wal.close().unwrap();
        assert_eq!(open().recovery().ended, Ended::Closed);
        calls
    };
    let first = steps();
    assert!((0..3).all(|_| steps() == first));
}

#[test]
fn what_is_too_large_is_told_in_the_bytes_that_were_given() {
    const HEADER: usize = 16;
    let too_large = |appended: mapwal::Result<Lsn>, given: usize| match appended {
        Err(Error::TooLarge { len, max }) if len == given as u64 => max as usize,
        other => panic!("{given} bytes: {other:?}"),
    };
    let record = |wal: &Wal, len: usize| wal.append(&vec![4; len]);
    let batch = |wal: &Wal, len: usize| {
        let (third, bytes) = (len / 24 * 8, vec![4; len]);
        let batch = [&bytes[..third], &bytes[third..2 * third], &bytes[2 * third..]];
        wal.append_batch(&batch).map(Batch::last)
    };
    for segments in [3, 4, 5, 9] {
        let wal = small().max_log_size(segments * SEGMENT).in_memory().unwrap();
        let most = too_large(record(&wal, 9 * SEGMENT as usize), 9 * SEGMENT as usize);
        assert_eq!(too_large(record(&wal, most + 1), most + 1), most);
        let most_of_three = too_large(batch(&wal, most), most);
        assert_eq!(most_of_three, most - 2 * HEADER);
        assert_eq!(too_large(batch(&wal, most_of_three + 1), most_of_three + 1), most_of_three);
        record(&wal, most).unwrap();
        wal.truncate_before(wal.next_lsn()).unwrap();
        batch(&wal, most_of_three).unwrap();
    }
}

#[test]
fn spares_of_an_earlier_opening_go_if_they_are_too_many() {
    let files = |disk: &Disk| disk.files().iter().filter(|name| name.ends_with(".wal")).count();
    let disk = Disk::new();
    for (options, least, most) in [
        (small().spares(20), 20, 21),
        (small().spares(2), 3, 5), // of what is given up, twice as many are kept
        (small().spares(2).max_log_size(3 * SEGMENT), 3, 3),
    ] {
        let wal = options.open_on(&disk).unwrap();
        wal.append(b"wakes who looks after spares").unwrap();
        let disk = disk.clone();
        until(move || (least..=most).contains(&files(&disk)));
        drop(wal);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_written_stays_in_the_files_and_not_in_memory() {
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }
    const LARGE: u64 = 4 << 20;
    let directory = TempDir::new();
    let wal = std::sync::Arc::new(Options::new().segment_size(LARGE).open(&directory).unwrap());
    let before = resident();
    let lsns: Vec<Lsn> = append_all(&wal, (0..40_000).map(|_| [5; 4000])); // 40 segments
    let bound = before + 5 * LARGE; // two spares and two segments, and something else
    until(move || resident() <= bound);
    assert_eq!(wal.read(lsns[0]).unwrap().data(), [5; 4000]);
    assert_eq!(wal.reader().iter().count(), lsns.len());
}

#[cfg(target_os = "linux")]
#[test]
fn what_recovery_mapped_is_let_go_though_nothing_is_appended() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    append_all(&wal, (0..200).map(|_| [5; 4000])); // 13 segments
    wal.close().unwrap();
    let wal = small().open(&directory).unwrap();
    until(mapped_of(&directory, 3)); // the last segment and the spares
    assert_eq!(wal.reader().iter().count(), 200);
}

#[cfg(target_os = "linux")]
#[test]
fn a_sync_lets_go_of_old_segments_that_it_made_durable() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    append_all(&wal, (0..1500).map(|_| [5; 4000])); // 100 segments, none of them durable
    wal.sync().unwrap();
    until(mapped_of(&directory, 64 + 5)); // the newest, and spares
}

/// Whether at most so many files in it are mapped.
#[cfg(target_os = "linux")]
fn mapped_of(directory: &TempDir, most: usize) -> impl Fn() -> bool + Send + 'static {
    let name = directory.path().to_str().unwrap().to_owned();
    move || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(&name)).count() <= most
    }
}

#[test]
fn behind_a_large_record_a_full_disk_can_still_be_truncated_and_opened() {
    let disk = Disk::new();
    disk.capacity(4 * SEGMENT);
    let wal = small().spares(1).open_on(&disk).unwrap();
    let (lsns, _) = fill(&wal, &[1; 500]);
    let rolls = wal.stats().rolls;
    // until the segment is used that is held back for this
    let mut places = lsns[1..].iter();
    while wal.stats().rolls == rolls {
        wal.truncate_before(*places.next().unwrap()).unwrap();
    }
    disk.capacity(7 * SEGMENT);
    wal.append(&[2; 90_000]).unwrap();
    fill(&wal, &[3; 500]);
    for _ in 0..40 {
        wal.truncate_before(*places.next().unwrap()).unwrap();
    }
    wal.close().unwrap();
    small().spares(1).open_on(&disk).unwrap();
}
