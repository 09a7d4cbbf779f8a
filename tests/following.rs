//! Following: reading on for ever, and sleeping until there is more.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{LARGEST, SEGMENT, TempDir, append_all, beside_an_append, ends, small, text, texts};
use mapwal::sim::Disk;
use mapwal::{Error, Follower, Lsn, Result};

/// Long enough for anything that does not hang. Where another thread is to wake the follower,
/// it waits for ever: one that nobody woke would look again when the time is over.
const LONG: Duration = Duration::from_secs(60);

/// What a follower gets that is asleep, with nothing more to read, when `wake` is called.
fn asleep(mut follower: Follower, wake: impl FnOnce()) -> Result<String> {
    assert!(follower.try_next().unwrap().is_none());
    let (tells, told) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    thread::spawn(move || {
        begins.send(fs::read_link("/proc/thread-self").unwrap_or_default()).unwrap();
        let got = follower.wait(Duration::MAX).map(|record| text(record.data()));
        tells.send(got).unwrap();
    });
    let state = Path::new("/proc").join(begun.recv().unwrap()).join("stat");
    let sleeps = |stat: String| stat.rsplit_once(')').unwrap().1.starts_with(" S");
    while !fs::read_to_string(&state).map_or(true, sleeps) {
        thread::yield_now();
    }
    wake();
    told.recv_timeout(Duration::from_secs(20)).expect("it sleeps on")
}

#[test]
fn a_follower_gets_every_record_as_it_comes() {
    const RECORDS: u64 = 3000;
    ends(|| {
        let wal = small().in_memory().unwrap();
        for durable in [false, true] {
            let mut follower = wal.follow(wal.next_lsn()).unwrap();
            if durable {
                follower = follower.durable();
            }
            let first = wal.reader().backwards().next().map_or(1, |r| r.unwrap().sequence() + 1);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for i in 0..RECORDS {
                        let data = vec![i as u8; i as usize % 300];
                        match i % 10 {
                            0 => wal.commit(&data).map(drop).unwrap(),
                            1 => wal.append_batch(&[&data, b"x"]).map(drop).unwrap(),
                            _ => wal.append(&data).map(drop).unwrap(),
                        }
                        if i % 100 == 0 {
                            thread::yield_now();
                        }
                    }
                    wal.sync().unwrap();
                });
                for i in 0..RECORDS + RECORDS / 10 {
                    let record = follower.wait(Duration::MAX).unwrap();
                    assert_eq!(record.sequence(), first + i);
                }
                assert!(follower.try_next().unwrap().is_none());
            });
        }
        assert!(wal.stats().rolls > 5);
    });
}

#[test]
fn a_follower_sleeps_until_a_single_record_comes() {
    let wal = small().in_memory().unwrap();
    let follower = wal.follow(wal.next_lsn()).unwrap();
    let got = asleep(follower, || {
        wal.append(b"wake up").unwrap();
    });
    assert_eq!(got.unwrap(), "wake up");
}

#[test]
fn a_follower_that_sleeps_is_woken_by_a_roll() {
    let wal = small().in_memory().unwrap();
    wal.append(b"an empty segment does not roll").unwrap();
    let got = asleep(wal.follow(wal.next_lsn()).unwrap(), || {
        wal.rotate().unwrap();
        wal.append(b"in the next segment").unwrap();
    });
    assert_eq!(got.unwrap(), "in the next segment");
}

#[test]
fn a_follower_that_sleeps_gets_a_record_with_a_file_of_its_own() {
    let wal = small().in_memory().unwrap();
    let large = "large ".repeat(LARGEST / 3);
    let got = asleep(wal.follow(wal.next_lsn()).unwrap(), || {
        wal.append(large.as_bytes()).unwrap();
    });
    assert_eq!(got.unwrap(), large);
}

#[test]
fn a_follower_that_sleeps_is_told_when_the_record_before_is_cut_away() {
    let wal = small().in_memory().unwrap();
    let kept = append_all(&wal, ["kept", "cut away"])[0];
    let follower = wal.follow(wal.next_lsn()).unwrap();
    let got = asleep(follower, || wal.truncate_after(kept).unwrap());
    assert!(matches!(got, Err(Error::CutAway { .. })), "{got:?}");
}

#[test]
fn a_follower_that_sleeps_while_a_log_is_closed_is_told() {
    let wal = small().in_memory().unwrap();
    wal.append(&[0; LARGEST]).unwrap(); // it leaves no room for a claim: no frame wakes
    let follower = wal.follow(wal.next_lsn()).unwrap();
    let got = asleep(follower, || wal.close().unwrap());
    assert!(matches!(got, Err(Error::Closed)), "{got:?}");
}

#[test]
fn a_durable_follower_waits_for_the_flush() {
    let wal = small().in_memory().unwrap();
    let mut follower = wal.follow(wal.next_lsn()).unwrap().durable();
    wal.append(b"appended").unwrap();
    assert!(follower.try_next().unwrap().is_none());
    assert!(matches!(follower.wait(Duration::from_millis(5)), Err(Error::TimedOut)));
    let got = asleep(follower, || {
        wal.sync().unwrap();
    });
    assert_eq!(got.unwrap(), "appended");
}

#[test]
fn a_durable_follower_gets_what_was_flushed_before_damage_was_met() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let follower = wal.follow(wal.append(b"flushed").unwrap()).unwrap().durable();
    wal.rotate().unwrap();
    let lsn = wal.append(b"scribbled on").unwrap().as_u64();
    let path = directory.join(format!("{:016x}.wal", lsn / SEGMENT));
    let file = File::options().write(true).open(path).unwrap();
    let got = asleep(follower, || {
        file.write_all_at(&[0xff; 4], lsn % SEGMENT).unwrap(); // in place: it is mapped
        assert!(matches!(wal.sync(), Err(Error::Damaged { .. })));
    });
    assert_eq!(got.unwrap(), "flushed");
}

#[test]
fn a_follower_gives_up_when_the_time_is_over() {
    let wal = small().in_memory().unwrap();
    let mut follower = wal.follow(wal.next_lsn()).unwrap();
    for at_most in [Duration::ZERO, Duration::from_millis(10)] {
        assert!(matches!(follower.wait(at_most), Err(Error::TimedOut)));
    }
    wal.append(b"in time").unwrap();
    assert_eq!(follower.wait(Duration::ZERO).unwrap().data(), b"in time");
    wal.append(b"for ever").unwrap();
    assert_eq!(follower.wait(Duration::MAX).unwrap().data(), b"for ever");
}

#[test]
fn a_follower_reads_to_the_end_of_a_log_that_is_closed() {
    ends(|| {
        let wal = small().in_memory().unwrap();
        append_all(&wal, ["one", "two"]);
        let mut follower = wal.follow(wal.head_lsn()).unwrap();
        assert_eq!(follower.wait(LONG).unwrap().data(), b"one");
        let waiting = thread::spawn(move || {
            assert_eq!(follower.wait(LONG).unwrap().data(), b"two");
            [(); 2].map(|()| follower.wait(Duration::MAX).map(drop).unwrap_err())
        });
        wal.close().unwrap();
        let errors = waiting.join().unwrap();
        assert!(matches!(errors, [Error::Closed, Error::Closed]), "{errors:?}");
    });
}

#[test]
fn a_sleeping_follower_learns_that_a_flush_failed() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    wal.append(b"lost, perhaps").unwrap();
    let follower = wal.follow(wal.next_lsn()).unwrap();
    let got = asleep(follower, || {
        disk.lose();
        wal.sync().unwrap_err();
    });
    assert!(matches!(got, Err(Error::FlushFailed { .. })), "{got:?}");
}

#[test]
fn a_follower_of_a_failed_log_still_gets_what_was_under_way() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    let first = wal.append(b"first").unwrap();
    let mut follower = wal.follow(first).unwrap();
    beside_an_append(&wal, b"slow", |_middle| {
        disk.lose();
        wal.sync_to(first).unwrap_err();
        assert_eq!(follower.wait(LONG).unwrap().data(), b"first");
        let waited = follower.wait(Duration::from_millis(20)).map(|record| record.sequence());
        assert!(matches!(waited, Err(Error::TimedOut)), "{waited:?}");
    });
    assert_eq!(follower.wait(LONG).unwrap().data(), b"slow");
    assert!(matches!(follower.wait(LONG), Err(Error::FlushFailed { .. })));
}

#[test]
fn a_follower_is_told_when_what_it_would_read_was_truncated() {
    let wal = small().in_memory().unwrap();
    append_all(&wal, (0..200).map(|_| [0; 3000]));
    let mut follower = wal.follow(wal.head_lsn()).unwrap();
    follower.wait(LONG).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    let mut read = 1;
    let error = loop {
        match follower.wait(LONG) {
            Ok(_) => read += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
    assert!(read < 50, "only what it held: {read}");
}

#[test]
fn a_follower_that_missed_nothing_goes_on_where_the_log_begins_by_now() {
    // how many records behind the one that was read are given up with it
    for missed in 0..3 {
        let wal = small().in_memory().unwrap();
        let lsns = append_all(&wal, ["given up", "read"]);
        let mut follower = wal.follow(lsns[1]).unwrap();
        assert_eq!(follower.wait(LONG).unwrap().data(), b"read");
        wal.rotate().unwrap();
        wal.truncate_before(lsns[1]).unwrap(); // a frame before the first record
        let lsns = append_all(&wal, ["next", "behind", "last"]);
        wal.truncate_before(lsns[missed]).unwrap();
        match follower.wait(LONG).map(|record| text(record.data())) {
            Ok(next) => assert_eq!((missed, next.as_str()), (0, "next")),
            Err(error) => {
                assert!(missed > 0 && matches!(error, Error::Truncated { .. }), "{error:?}");
            }
        }
    }
}

#[test]
fn a_follower_is_told_when_what_it_has_read_was_cut_away() {
    for rolls in [false, true] {
        let wal = small().in_memory().unwrap();
        let kept = wal.append(b"kept").unwrap();
        if rolls {
            wal.rotate().unwrap();
        }
        wal.append(b"cut away").unwrap();
        let mut follower = wal.follow(kept).unwrap();
        assert_eq!(follower.wait(LONG).unwrap().data(), b"kept");
        assert_eq!(follower.wait(LONG).unwrap().data(), b"cut away");
        wal.truncate_after(kept).unwrap();
        wal.append(b"instead").unwrap();
        let next = follower.wait(LONG);
        assert!(matches!(next, Err(Error::CutAway { .. })), "rolls {rolls}: {next:?}");
        let mut again = wal.follow(kept).unwrap();
        assert_eq!(again.wait(LONG).unwrap().data(), b"kept");
        assert_eq!(again.wait(LONG).unwrap().data(), b"instead");
    }
}

#[test]
fn a_follower_at_the_cut_goes_on_behind_it() {
    let wal = small().in_memory().unwrap();
    let kept = wal.append(b"kept").unwrap();
    let mut follower = wal.follow(kept).unwrap();
    assert_eq!(follower.wait(LONG).unwrap().data(), b"kept");
    wal.append(b"cut away").unwrap();
    wal.truncate_after(kept).unwrap();
    wal.append(b"instead").unwrap();
    assert_eq!(follower.wait(LONG).unwrap().data(), b"instead");
}

#[test]
fn following_begins_at_a_record_or_the_tail_only() {
    let wal = small().in_memory().unwrap();
    let lsn = wal.append(&[0; 100]).unwrap();
    let wrong = Lsn::from_u64(lsn.as_u64() + 8);
    assert!(matches!(wal.follow(wrong), Err(Error::NotARecord { .. })));
    let far = Lsn::from_u64(wal.next_lsn().as_u64() + 8);
    assert!(matches!(wal.follow(far), Err(Error::OutOfLog { .. })));
    assert!(wal.follow(wal.next_lsn()).unwrap().try_next().unwrap().is_none());
    assert_eq!(texts(&wal).len(), 1);
}

#[test]
fn a_follower_hands_out_the_last_record_before_it_says_that_the_log_has_ended() {
    for round in 0..200 {
        let fails = round % 2 == 0;
        let disk = Disk::new();
        let wal = small().open_on(&disk).unwrap();
        let first = wal.append(b"first").unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                let follower = wal.follow(first).unwrap();
                let mut follower = if fails { follower } else { follower.durable() };
                scope.spawn(move || {
                    let mut read = Vec::new();
                    loop {
                        match follower.wait(Duration::ZERO) {
                            Ok(record) => read = record.data().to_vec(),
                            Err(Error::TimedOut) => {}
                            Err(Error::FlushFailed { .. } | Error::Closed) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert_eq!(read, b"last");
                });
            }
            thread::sleep(Duration::from_micros(200));
            if fails {
                wal.append(b"last").unwrap();
                disk.lose();
                wal.sync().unwrap_err();
            } else {
                wal.commit(b"last").unwrap();
                wal.close().unwrap();
            }
        });
    }
}
