//! A log that is followed from outside: without the writer's lock, by copies.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{
    SEGMENT, TempDir, append_all, beside_an_append, ends, segments, small, snapshot, text,
};
use mapwal::{Damage, Error, Lsn, Options, Wal, Watch};

const FIRST_FRAME: u64 = 4096;

fn watch(directory: &Path) -> Watch {
    Options::new().watch(directory, Lsn::NONE).unwrap()
}

/// What is there and was not handed out yet.
fn there(watch: &mut Watch) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(record) = watch.next(Duration::ZERO).unwrap() {
        found.push(text(record.data()));
    }
    found
}

/// The next record within a time that is long enough on any machine.
fn next(watch: &mut Watch) -> Result<(Lsn, String), Error> {
    let record = watch.next(Duration::from_secs(60))?.expect("it was appended");
    Ok((record.lsn(), text(record.data())))
}

/// Records that take some segments.
fn many() -> impl Iterator<Item = String> {
    (0..300).map(|i| format!("record {i} {}", "x".repeat(900)))
}

fn segment_file(directory: &Path, index: u64) -> std::path::PathBuf {
    directory.join(format!("{index:016x}.wal"))
}

#[test]
fn a_watch_hands_out_what_is_there_and_then_what_comes() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    let mut watch = watch(&directory);
    for (i, expected) in many().enumerate() {
        let record = watch.next(Duration::ZERO).unwrap().unwrap();
        assert_eq!((record.lsn(), record.sequence()), (lsns[i], i as u64 + 1));
        assert_eq!((text(record.data()), record.epoch()), (expected, 1));
    }
    assert!(watch.next(Duration::ZERO).unwrap().is_none());
    assert_eq!(watch.next_lsn(), wal.next_lsn());
    append_all(&wal, many());
    assert_eq!(there(&mut watch), many().collect::<Vec<_>>());
    wal.append(&[b'y'; 200_000]).unwrap(); // in a file of its own
    wal.append(b"behind it").unwrap();
    assert_eq!(there(&mut watch), ["y".repeat(200_000), "behind it".to_owned()]);
}

#[test]
fn a_watch_waits_until_a_record_comes() {
    ends(|| {
        let directory = TempDir::new();
        let wal = small().open(&directory).unwrap();
        let mut watch = watch(&directory);
        assert!(watch.next(Duration::ZERO).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| next(&mut watch).unwrap().1);
            wal.append(b"late").unwrap();
            assert_eq!(waiting.join().unwrap(), "late");
        });
    });
}

#[test]
fn a_watch_begins_where_it_is_told_to() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    for from in [lsns[0], lsns[7], lsns[150], lsns[299]] {
        let mut watch = Options::new().watch(&directory, from).unwrap();
        assert_eq!(next(&mut watch).unwrap().0, from);
    }
    let mut behind = Options::new().watch(&directory, wal.next_lsn()).unwrap();
    assert!(behind.next(Duration::ZERO).unwrap().is_none());
    let lsn = wal.append(b"the next").unwrap();
    assert_eq!(next(&mut behind).unwrap(), (lsn, "the next".to_owned()));
}

#[test]
fn a_watch_of_a_directory_without_a_log_waits_for_one() {
    let directory = TempDir::new();
    let mut watch = watch(&directory);
    assert!(watch.next(Duration::ZERO).unwrap().is_none());
    let wal = small().open(&directory).unwrap();
    wal.append(b"the first").unwrap();
    assert_eq!(next(&mut watch).unwrap().1, "the first");
    let error = Options::new().watch(directory.join("missing"), Lsn::NONE).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_watch_changes_nothing_and_locks_nobody_out() {
    let directory = TempDir::new();
    append_all(&small().open(&directory).unwrap(), many());
    let before = snapshot(&directory);
    let mut watch = watch(&directory);
    assert_eq!(there(&mut watch).len(), 300);
    assert_eq!(snapshot(&directory), before);
    small().open(&directory).unwrap();
}

#[test]
fn an_opening_is_noticed_by_its_epoch_and_a_closing_too() {
    let directory = TempDir::new();
    let mut watch = watch(&directory);
    for epoch in 1..4 {
        let wal = small().open(&directory).unwrap();
        wal.append(b"a record").unwrap();
        let record = watch.next(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(record.epoch(), epoch);
        assert!(watch.next(Duration::ZERO).unwrap().is_none() && !watch.is_closed());
        wal.close().unwrap();
        assert!(watch.next(Duration::ZERO).unwrap().is_none() && watch.is_closed());
    }
}

#[test]
fn a_batch_is_handed_out_when_all_of_it_is_there() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(b"before").unwrap();
    let batch: Vec<_> = many().take(40).collect();
    wal.append_batch(&batch.iter().map(String::as_bytes).collect::<Vec<_>>()).unwrap();
    let last = wal.reader().iter().last().unwrap().unwrap().lsn().as_u64();
    wal.close().unwrap();
    let path = segment_file(&directory, last / SEGMENT);
    let whole = fs::read(&path).unwrap();
    let last = (last % SEGMENT) as usize;
    let mut part = whole.clone();
    part[last..].fill(0);
    fs::write(&path, &part).unwrap();
    let mut watch = watch(&directory);
    assert_eq!(there(&mut watch), ["before"]);
    fs::write(&path, &whole).unwrap();
    assert_eq!(there(&mut watch), batch);
}

#[test]
fn a_truncation_that_overtook_a_watch_is_told_once() {
    let directory = TempDir::new();
    let wal = small().spares(1).open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    let mut watch = watch(&directory);
    assert_eq!(next(&mut watch).unwrap().0, lsns[0]);
    let here = watch.next_lsn();
    wal.truncate_before(lsns[250]).unwrap();
    // the file that it holds is read to its end
    let mut passed = 1;
    let error = loop {
        match next(&mut watch) {
            Ok((lsn, _)) => assert_eq!(lsn, lsns[passed]),
            Err(error) => break error,
        }
        passed += 1;
    };
    let Error::Truncated { lsn, head } = error else { panic!("{error}") };
    assert_eq!(head, lsns[250]);
    assert!(here < lsn && lsn < lsns[passed] && passed < 250, "{lsn} is behind {passed}");
    assert_eq!(next(&mut watch).unwrap().0, lsns[250]);
    assert_eq!(there(&mut watch).len(), 49);

    let mut late = Options::new().watch(&directory, lsns[3]).unwrap();
    let error = next(&mut late).unwrap_err();
    assert!(matches!(error, Error::Truncated { lsn, head } if (lsn, head) == (lsns[3], lsns[250])));
    assert_eq!(next(&mut late).unwrap().0, lsns[250]);
}

#[test]
fn a_truncation_of_what_was_read_is_passed_over() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let mut watch = watch(&directory);
    for _ in 0..5 {
        append_all(&wal, many());
        assert_eq!(there(&mut watch).len(), 300);
        wal.truncate_before(wal.next_lsn()).unwrap();
        assert!(there(&mut watch).is_empty());
    }
    let lsn = wal.append(b"behind").unwrap();
    assert_eq!(next(&mut watch).unwrap(), (lsn, "behind".to_owned()));
}

#[test]
fn a_cut_of_what_was_handed_out_is_told_with_its_place() {
    for kept in [5, 120, 298] {
        let directory = TempDir::new();
        let wal = small().open(&directory).unwrap();
        let lsns = append_all(&wal, many());
        let mut watch = watch(&directory);
        assert_eq!(there(&mut watch).len(), 300);
        wal.truncate_after(lsns[kept]).unwrap();
        let error = next(&mut watch).unwrap_err();
        let Error::CutAway { lsn } = error else { panic!("{error}") };
        assert!(lsns[kept] < lsn && lsn <= lsns[kept + 1], "{lsn} is not behind {kept}");
        let behind = wal.append(b"behind the cut").unwrap();
        let record = watch.next(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((record.lsn(), record.sequence()), (behind, kept as u64 + 2));
    }
}

#[test]
fn a_cut_of_what_was_not_handed_out_yet_is_no_error() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    let mut watch = watch(&directory);
    for lsn in &lsns[..=5] {
        assert_eq!(next(&mut watch).unwrap().0, *lsn);
    }
    wal.truncate_after(lsns[5]).unwrap();
    wal.append(b"behind the cut").unwrap();
    drop(wal);
    let mut later = Options::new().watch(&directory, Lsn::NONE).unwrap();
    let texts: Vec<_> = many().take(6).chain(["behind the cut".to_owned()]).collect();
    assert_eq!(there(&mut later), texts);
    // a cut is noticed where nothing is left to read: until then it reads what there was
    let mut error = None;
    let behind = loop {
        match next(&mut watch) {
            Ok((lsn, text)) if text.starts_with("record") => assert!(lsns.contains(&lsn)),
            Ok((_, text)) => break text,
            Err(cut @ Error::CutAway { .. }) => assert!(error.replace(cut).is_none()),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(behind, "behind the cut");
}

#[test]
fn what_was_cut_away_before_is_not_handed_out() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let mut kept = Vec::new();
    for segment in 0..4 {
        let texts = [0, 1, 2].map(|i| format!("{segment} {i}"));
        let lsns = append_all(&wal, texts.iter().cloned());
        wal.rotate().unwrap();
        append_all(&wal, ["cut away".to_owned()]);
        if segment % 2 == 0 {
            wal.truncate_after(lsns[2]).unwrap();
            kept.extend(texts);
        } else {
            wal.truncate_from(lsns[2]).unwrap();
            kept.extend(texts.into_iter().take(2));
        }
        wal.rotate().unwrap();
    }
    let mut watch = watch(&directory);
    assert_eq!(there(&mut watch), kept);
}

#[test]
fn a_truncation_passes_over_an_append_that_does_not_end() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    append_all(&wal, ["one".to_owned()]);
    let mut watch = watch(&directory);
    assert_eq!(there(&mut watch), ["one"]);
    beside_an_append(&wal, b"in the middle", |_| {
        wal.rotate().unwrap();
        let behind = wal.append(b"behind").unwrap();
        wal.truncate_before(behind).unwrap();
        let error = next(&mut watch).unwrap_err();
        assert!(
            matches!(error, Error::Truncated { head, .. } if head == wal.head_lsn()),
            "{error}"
        );
        assert_eq!(there(&mut watch), ["behind"]);
    });
}

#[test]
fn damage_in_what_is_given_up_is_passed_over_and_not_looked_at_for_ever() {
    let directory = TempDir::new();
    const SIZE: u64 = 256 << 10; // more than is copied at a time
    let wal = Options::new().segment_size(SIZE).open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    wal.sync().unwrap();
    let mut watch = watch(&directory);
    next(&mut watch).unwrap();
    let path = segment_file(&directory, lsns[100].as_u64() / SIZE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(lsns[100].as_u64() % SIZE) as usize + 20] ^= 1;
    fs::write(path, bytes).unwrap();
    wal.truncate_before(lsns[298]).unwrap();
    let error = std::iter::repeat_with(|| next(&mut watch)).find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(next(&mut watch).unwrap().0, lsns[298]);
}

#[test]
fn what_is_damaged_is_an_error_and_what_is_torn_is_waited_for() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, many());
    wal.close().unwrap();
    let change = |lsn: Lsn| {
        let path = segment_file(&directory, lsn.as_u64() / SEGMENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes[(lsn.as_u64() % SEGMENT) as usize + 20] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for damaged in [lsns[20], lsns[299]] {
        change(damaged);
        let mut watch = watch(&directory);
        let error = loop {
            match next(&mut watch) {
                Ok((lsn, _)) => assert!(lsn < damaged),
                Err(error) => break error,
            }
        };
        let offset = damaged.as_u64() % SEGMENT;
        assert!(
            matches!(error, Error::Damaged { at, damage: Damage::Check, .. } if at == offset),
            "{error:?}"
        );
        change(damaged);
    }
    let torn = TempDir::new();
    drop(small().open(&torn).unwrap());
    let path = segment_file(&torn, 1);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes[..].iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(8);
    assert!(end as u64 > FIRST_FRAME);
    bytes[end..end + 100].fill(7);
    fs::write(&path, bytes).unwrap();
    let mut watch = watch(&torn);
    assert!(there(&mut watch).is_empty());
    let wal = Wal::open(&torn).unwrap();
    wal.append(b"where it was torn").unwrap();
    assert_eq!(next(&mut watch).unwrap().1, "where it was torn");
}

#[test]
fn another_log_in_its_place_is_not_taken_for_it() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    append_all(&wal, many());
    let mut watch = watch(&directory);
    assert_eq!(there(&mut watch).len(), 300);
    wal.close().unwrap();
    for name in segments(&directory) {
        fs::remove_file(directory.join(name)).unwrap();
    }
    append_all(&small().open(&directory).unwrap(), many());
    let error = next(&mut watch).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}

#[test]
fn a_watch_says_in_debug_where_it_is_and_not_what_it_read() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(b"secret").unwrap();
    let mut watch = watch(&directory);
    let record = format!("{:?}", watch.next(Duration::ZERO).unwrap().unwrap());
    assert!(record.contains("sequence: 1") && record.contains("len: 6"), "{record}");
    let said = format!("{watch:?}");
    assert!(said.contains(directory.path().to_str().unwrap()), "{said}");
    assert!(said.len() < 300, "no internals, of whatever length: {said}");
}
