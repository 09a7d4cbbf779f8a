//! What may lie in a directory that is opened: each a clear error that changes
//! nothing, or nothing to care about.

mod common;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use common::{SEGMENT, TempDir, append_all, segments, small, snapshot, texts};
use mapwal::{Damage, Ended, Error, Lsn, Options, Record, Verify, Wal};

/// A closed log of some segments, each with ten records.
fn closed_log(count: usize) -> TempDir {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    for i in 0..count {
        if i > 0 {
            wal.rotate().unwrap();
        }
        append_all(&wal, (0..10).map(|j| format!("record {i} {j}")));
    }
    wal.close().unwrap();
    directory
}

/// The same, but the process was killed when the last records were appended.
fn killed_log(count: usize) -> TempDir {
    let (directory, copy) = (closed_log(0), TempDir::new());
    let wal = small().open(&directory).unwrap();
    for i in 0..count {
        if i > 0 {
            wal.rotate().unwrap();
        }
        append_all(&wal, (0..10).map(|j| format!("record {i} {j}")));
    }
    for (name, bytes) in snapshot(&directory) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    copy
}

/// Opening fails, and leaves every file as it was, under its name. Twice.
#[track_caller]
fn refused(directory: &Path) -> Error {
    let before = snapshot(directory);
    let mut errors = [Verify::All, Verify::Tail, Verify::All].map(|verify| {
        let error = Options::new().verify(verify).open(directory).unwrap_err();
        let after = snapshot(directory);
        assert!(before == after, "opening changed the directory: {error}");
        error
    });
    assert_eq!(errors[0].to_string(), errors[2].to_string());
    std::mem::replace(&mut errors[0], Error::Closed)
}

/// The error says which file, and what to do.
#[track_caller]
fn names(error: &Error, path: &Path, what_next: &str) {
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "which file? {message}");
    assert!(message.contains(what_next), "what next? {message}");
}

fn file(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index:016x}.wal"))
}

/// The last segment with records: those behind it are spares.
fn last(directory: &Path) -> PathBuf {
    let snapshot = snapshot(directory);
    let used = |bytes: &Vec<u8>| bytes[4096..4100] != [0; 4];
    let name = snapshot.iter().rev().find(|(name, bytes)| name.ends_with(".wal") && used(bytes));
    directory.join(name.unwrap().0)
}

fn change(path: &Path, at: u64, f: impl Fn(u8) -> u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] = f(bytes[at as usize]);
    fs::write(path, bytes).unwrap();
}

/// Where this text is in the file.
fn find(path: &Path, text: &str) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
}

#[test]
fn the_settings_of_a_log_that_exists_are_adopted() {
    let directory = closed_log(2);
    for other in [SEGMENT, 1 << 20, 64 << 20] {
        let wal = Options::new().segment_size(other).open(&directory).unwrap();
        assert_eq!(wal.segment_size(), SEGMENT);
        wal.rotate().unwrap();
        wal.append(b"goes on").unwrap();
    }
    let all = snapshot(&directory);
    assert!(all.iter().all(|(name, file)| name == "LOCK" || file.len() as u64 == SEGMENT));
}

#[test]
fn options_that_do_not_go_with_the_log_are_refused_by_name() {
    let directory = closed_log(2);
    let before = snapshot(&directory);
    let error = Options::new().max_log_size(2 * SEGMENT).open(&directory).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "max_log_size", .. }), "{error}");
    assert!(error.to_string().contains("three times"), "{error}");
    assert!(before == snapshot(&directory));
}

#[test]
fn options_that_no_log_can_have_leave_nothing_behind() {
    let above = TempDir::new();
    let directory = above.join("log");
    for (options, option) in [
        (Options::new().max_log_size(SEGMENT), "max_log_size"),
        (Options::new().segment_size(1000), "segment_size"),
        (Options::new().spares(0), "spares"),
        (Options::new().max_record_size(0), "max_record_size"),
    ] {
        let error = options.clone().open(&directory).unwrap_err();
        assert!(
            matches!(error, Error::InvalidOption { option: it, .. } if it == option),
            "{error}"
        );
        assert!(!directory.exists(), "{option}: it was made");
        fs::create_dir(&directory).unwrap();
        options.open(&directory).unwrap_err();
        fs::remove_dir(&directory).unwrap_or_else(|_| panic!("{option}: something is left in it"));
    }
}

#[test]
fn a_path_without_a_name_is_told_as_such() {
    let errors = [
        Options::new().open("").unwrap_err(),
        Options::new().inspect("").unwrap_err(),
        Options::new().watch("", Lsn::NONE).unwrap_err(),
        Options::new().salvage("", |_, _, _| {}).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.to_string(), "cannot find the directory \"\"");
    }
}

#[test]
fn a_file_too_short_for_a_header_is_told_to_be_so() {
    let directory = TempDir::new();
    let path = file(&directory, 1);
    fs::write(&path, "four").unwrap();
    let error = Options::new().open(&directory).unwrap_err();
    names(&error, &path, "too short for a header");
    assert_eq!(fs::read(&path).unwrap(), b"four");
}

#[test]
fn salvaging_ends_where_its_visitor_ends_it() {
    use std::ops::ControlFlow::{Break, Continue};
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    for i in 0..50 {
        let record = format!("record {i}, ").repeat(60);
        wal.append_batch(&[record.as_bytes(); 3]).unwrap();
    }
    wal.close().unwrap();
    let path = last(&directory);
    assert_ne!(path, file(&directory, 1), "there are several files");
    change(&path, find(&path, "record 49"), |byte| !byte);
    let salvage = |most: u64| {
        let mut visited = 0;
        let salvaged = Options::new().salvage(&directory, |_, _, _| {
            visited += 1;
            if visited < most { Continue(()) } else { Break(()) }
        });
        let salvaged = salvaged.unwrap();
        assert_eq!(salvaged.records, visited);
        (visited, salvaged.was_ended, salvaged.skipped.is_empty())
    };
    // in a batch, at its end, and in another file
    for most in [1, 2, 3, 4, 140] {
        assert_eq!(salvage(most), (most, true, true), "what lies behind is not looked at");
    }
    assert_eq!(salvage(1000), (147, false, false));
    let mut records = 0;
    let all = Options::new().salvage(&directory, |_, _, _| records += 1).unwrap();
    assert_eq!((records, all.records, all.was_ended), (147, 147, false));
}

#[test]
fn a_log_larger_than_its_new_limit_opens_and_is_full_until_it_is_truncated() {
    let directory = closed_log(8);
    let wal = Options::new().max_log_size(3 * SEGMENT).open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 80);
    let (lsns, error) = common::fill(&wal, &[0; 1000]);
    assert!(error.is_full());
    wal.truncate_before(lsns[lsns.len() - 1]).unwrap();
    wal.append(b"room").unwrap();
    common::fill(&wal, &[0; 1000]);
    assert!(wal.stats().size <= 3 * SEGMENT);
}

#[test]
fn a_second_writer_in_this_process_is_turned_away_at_once() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    wal.append(b"mine").unwrap();
    for _ in 0..2 {
        let error = small().open(&directory).unwrap_err();
        assert!(matches!(&error, Error::Locked { path } if path.starts_with(&*directory)));
        names(&error, &directory, "close it there first");
    }
    assert_eq!(texts(&wal), ["mine"]);
    wal.close().unwrap();
    small().open(&directory).unwrap();
}

#[test]
fn a_directory_that_is_a_file_is_an_error() {
    let directory = TempDir::new();
    let path = directory.path().join("file");
    fs::write(&path, b"not a directory").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = small().open(&path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        names(&error, &path, "cannot open the directory");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("not a directory"), "{cause}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"not a directory");
}

#[test]
fn directories_above_are_made() {
    let directory = TempDir::new();
    let path = directory.path().join("a/b/c");
    small().open(&path).unwrap().commit(b"deep").unwrap();
    assert_eq!(texts(&small().open(&path).unwrap()), ["deep"]);
}

#[cfg(unix)]
#[test]
fn without_permission_opening_says_for_what() {
    use std::os::unix::fs::PermissionsExt;
    let directory = closed_log(1);
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let path = file(&directory, 1);
    allow(&path, 0o000);
    if OpenOptions::new().read(true).open(&path).is_ok() {
        println!("skipped: this user is refused nothing");
        return allow(&path, 0o600);
    }
    let error = small().open(&directory).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    names(&error, &path, "cannot open");
    allow(&path, 0o600);
    let above = TempDir::new();
    allow(&above, 0o500);
    let error = small().open(above.path().join("log")).unwrap_err();
    names(&error, &above, "cannot open the directory");
    allow(&above, 0o700);
    assert_eq!(small().open(&directory).unwrap().reader().iter().count(), 10);
}

#[test]
fn files_that_are_not_the_logs_are_left_alone() {
    let directory = closed_log(2);
    let foreign = [
        ("README", "hello"),
        ("1.wal", "not a segment's name"),
        ("00000000000000000001.wal", "nor this"),
        ("000000000000000G.wal", "nor this"),
        ("000000000000000A.wal", "an upper case digit"),
        ("0000000000000001.wal.bak", "a backup"),
        ("notes.tmp", "someone else's"),
    ];
    for (name, text) in foreign {
        fs::write(directory.path().join(name), text).unwrap();
    }
    fs::create_dir(directory.path().join("00000000000000aa.wal")).unwrap();
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 20);
    wal.truncate_before(wal.next_lsn()).unwrap();
    drop(wal);
    for (name, text) in foreign {
        assert_eq!(fs::read(directory.path().join(name)).unwrap(), text.as_bytes(), "{name}");
    }
    assert!(directory.path().join("00000000000000aa.wal").is_dir());
}

#[test]
fn files_on_their_way_when_the_process_died_are_removed() {
    let directory = closed_log(2);
    let left = directory.path().join("00000000000000ff.tmp");
    fs::write(&left, b"half a segment").unwrap();
    let wal = small().open(&directory).unwrap();
    assert!(!left.exists());
    assert_eq!(wal.recovery().removed, [left]);
    assert_eq!(wal.reader().iter().count(), 20);
}

#[test]
fn a_segment_of_another_log_is_told_from_this_ones() {
    let (directory, other) = (closed_log(2), closed_log(12));
    fs::copy(file(&other, 12), file(&directory, 12)).unwrap();
    let error = refused(&directory);
    assert!(matches!(&error, Error::Foreign { path, other }
        if *path == file(&directory, 12) && *other == file(&directory, 1)));
    names(&error, &file(&directory, 12), "move the files of one of them out");
    fs::remove_file(file(&directory, 12)).unwrap();
    assert_eq!(small().open(&directory).unwrap().reader().iter().count(), 20);
}

#[test]
fn a_segment_of_a_newer_version_is_not_touched() {
    let directory = closed_log(2);
    let path = file(&directory, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2; // the version
    let check = crc32c(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&check.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = refused(&directory);
    assert!(matches!(error, Error::UnsupportedVersion { version: 2, supported: 1, .. }));
    names(&error, &path, "update it");
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1)))
    })
}

#[test]
fn a_header_that_is_not_intact_is_damage() {
    for at in [0, 7, 8, 12, 16, 32, 40, 48, 55, 56, 2000, 4091, 4092, 4095] {
        for index in 1..=3 {
            let directory = closed_log(3);
            let path = file(&directory, index);
            change(&path, at, |byte| byte ^ 0x20);
            let error = refused(&directory);
            assert!(
                matches!(&error, Error::Damaged { path: p, at: 0, damage: Damage::Header } if *p == path),
                "byte {at} of segment {index}: {error:?}"
            );
            names(&error, &path, "restore it, or salvage");
        }
    }
}

#[test]
fn a_segment_under_another_name_is_damage() {
    let directory = closed_log(2);
    fs::rename(file(&directory, 1), file(&directory, 0xee)).unwrap();
    let error = refused(&directory);
    let path = file(&directory, 0xee);
    assert!(matches!(&error, Error::Damaged { path: p, damage: Damage::Name, .. } if *p == path));
    names(&error, &path, "another index than its file name");

    let directory = closed_log(2);
    fs::copy(file(&directory, 1), file(&directory, 0)).unwrap();
    assert!(matches!(refused(&directory), Error::Damaged { damage: Damage::Name, .. }));
}

#[test]
fn a_file_of_another_length_is_damage() {
    for (index, len) in [(1, 0), (1, 100), (1, 4096), (2, SEGMENT - 1), (2, SEGMENT + 1)]
        .into_iter()
        .chain([(1, 2 * SEGMENT), (3, SEGMENT / 2), (3, 0)])
    {
        let directory = closed_log(3);
        let path = file(&directory, index);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        let error = refused(&directory);
        assert!(
            matches!(&error, Error::Damaged { path: p, damage: Damage::FileLength, .. } if *p == path),
            "{len} bytes of segment {index}: {error:?}"
        );
        names(&error, &path, "length is not what its header says");
    }
}

#[test]
fn a_missing_segment_in_the_middle_is_told_with_the_one_that_continues_in_it() {
    let directory = closed_log(5);
    fs::remove_file(file(&directory, 3)).unwrap();
    let error = refused(&directory);
    assert!(
        matches!(&error, Error::Missing { path, named_by }
        if *path == file(&directory, 3) && *named_by == file(&directory, 2)),
        "{error:?}"
    );
    names(&error, &file(&directory, 3), "put it back");
}

#[test]
fn the_missing_first_segment_is_told_too() {
    let directory = closed_log(3);
    fs::remove_file(file(&directory, 1)).unwrap();
    let error = refused(&directory);
    assert!(matches!(&error, Error::Missing { path, .. } if *path == file(&directory, 1)));
}

#[test]
fn a_missing_last_segment_is_told_by_the_seal_of_the_one_before() {
    for make in [closed_log, killed_log] {
        let directory = make(3);
        let path = last(&directory);
        assert_eq!(path, file(&directory, 3));
        fs::remove_file(&path).unwrap();
        let error = refused(&directory);
        assert!(
            matches!(&error, Error::Missing { path: p, named_by }
            if *p == path && *named_by == file(&directory, 2)),
            "{error:?}"
        );
        names(&error, &path, "put it back");
    }
}

#[test]
fn segments_below_the_head_are_not_missed() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    for i in 0..4 {
        append_all(&wal, [format!("record {i}")]);
        wal.rotate().unwrap();
    }
    let lsn = wal.append(b"kept").unwrap();
    wal.truncate_before(lsn).unwrap();
    drop(wal);
    assert!(!file(&directory, 1).exists());
    assert_eq!(texts(&small().open(&directory).unwrap()), ["kept"]);
}

#[test]
fn an_old_segment_that_comes_back_is_removed_again() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    append_all(&wal, ["old"]);
    wal.sync().unwrap();
    let old = fs::read(file(&directory, 1)).unwrap();
    wal.rotate().unwrap();
    let lsn = wal.append(b"kept").unwrap();
    wal.truncate_before(lsn).unwrap();
    drop(wal);
    assert!(!file(&directory, 1).exists());
    fs::write(file(&directory, 1), old).unwrap();
    let wal = small().open(&directory).unwrap();
    assert_eq!(texts(&wal), ["kept"]);
    assert!(!file(&directory, 1).exists());
}

#[test]
fn a_record_that_changed_after_it_was_durable_is_damage_with_file_and_byte() {
    for (segment, record) in
        [(1, "record 0 0"), (1, "record 0 9"), (2, "record 1 5"), (3, "record 2 9")]
    {
        let directory = closed_log(3);
        let path = file(&directory, segment);
        let at = find(&path, record);
        change(&path, at, |byte| byte ^ 1);
        let before = snapshot(&directory);
        let error = Options::new().open(&directory).unwrap_err();
        match &error {
            Error::Damaged { path: p, at: byte, damage: Damage::Check } => {
                assert_eq!((p, *byte), (&path, at - 16), "where its frame begins");
            }
            other => panic!("{record}: {other:?}"),
        }
        names(&error, &path, &format!("at byte {}", at - 16));
        assert!(before == snapshot(&directory));
    }
}

#[test]
fn what_opening_did_not_verify_is_verified_when_it_is_read() {
    let directory = closed_log(3);
    let path = file(&directory, 1);
    let at = find(&path, "record 0 4");
    change(&path, at, |byte| byte ^ 1);
    let wal = Options::new().verify(Verify::Tail).open(&directory).unwrap();
    let reader = wal.reader();
    let read: Vec<_> = reader.iter().collect();
    assert_eq!(read.len(), 5, "four and the error");
    let damaged = |error: &Error| {
        matches!(error, Error::Damaged { path: p, at: byte, damage: Damage::Check }
        if *p == path && *byte == at - 16)
    };
    assert!(damaged(read[4].as_ref().unwrap_err()));
    let record = read[3].as_ref().unwrap();
    let next = mapwal::Lsn::from_u64(record.lsn().as_u64() + 32);
    assert!(damaged(&wal.read(next).unwrap_err()));
    let backwards: Vec<_> = reader.backwards().collect();
    assert!(damaged(backwards.last().unwrap().as_ref().unwrap_err()));
    assert_eq!(reader.from_sequence(6).count(), 25, "the rest is intact");
    assert_eq!(reader.iter().unverified().count(), 30);
}

#[test]
fn a_header_bit_that_opening_did_not_verify_hides_no_record() {
    let directory = closed_log(3);
    let path = file(&directory, 1);
    let at = find(&path, "record 0 4") - 16;
    let sequence_is = |records: Option<mapwal::Result<Record>>, sequence| match records {
        Some(Ok(record)) => assert_eq!(record.sequence(), sequence),
        Some(Err(Error::Damaged { path: p, .. })) => assert_eq!(p, path),
        other => panic!("record {sequence}: {other:?}"),
    };
    for bit in 0..128 {
        change(&path, at + bit / 8, |byte| byte ^ 1 << (bit % 8));
        let wal = Options::new().verify(Verify::Tail).open(&directory).unwrap();
        let reader = wal.reader();
        assert!(reader.iter().any(|record| matches!(record, Err(Error::Damaged { .. }))));
        for sequence in 1..=10 {
            sequence_is(reader.from_sequence(sequence).next(), sequence);
        }
        let place = |record: &str| SEGMENT + find(&path, record) - 16;
        sequence_is(reader.from(Lsn::from_u64(place("record 0 6"))).next(), 7);
        let behind_seal = place("record 0 9") + 32 + 32;
        sequence_is(reader.from(Lsn::from_u64(behind_seal)).next(), 11);
        drop(reader);
        wal.close().unwrap();
        change(&path, at + bit / 8, |byte| byte ^ 1 << (bit % 8));
    }
}

#[test]
fn a_length_that_swallows_others_hides_no_record_behind_it() {
    let directory = TempDir::new();
    let options = Options::new().segment_size(1 << 20);
    let wal = options.clone().open(&directory).unwrap();
    append_all(&wal, (0..10_000).map(|i| format!("record {i:05}")));
    wal.rotate().unwrap();
    append_all(&wal, ["behind"]);
    wal.close().unwrap();
    let path = file(&directory, 1);
    let at = find(&path, "record 00009") - 16;
    for bit in 5..18 {
        change(&path, at + bit / 8, |byte| byte ^ 1 << (bit % 8));
        let wal = options.clone().verify(Verify::Tail).open(&directory).unwrap();
        for sequence in [1, 9, 11, 100, 2500, 5000, 9000, 10_000, 10_001] {
            match wal.reader().from_sequence(sequence).next() {
                Some(Ok(record)) => assert_eq!(record.sequence(), sequence),
                Some(Err(Error::Damaged { path: p, .. })) => assert_eq!(p, path),
                other => panic!("record {sequence}, bit {bit}: {other:?}"),
            }
        }
        wal.close().unwrap();
        change(&path, at + bit / 8, |byte| byte ^ 1 << (bit % 8));
    }
}

#[test]
fn a_record_of_zeros_that_opening_did_not_verify_is_damage_to_all_who_come_to_it() {
    for len in [4, 16, 512] {
        let directory = closed_log(3);
        let path = file(&directory, 1);
        let at = find(&path, "record 0 4") - 16;
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize..][..len].fill(0);
        fs::write(&path, bytes).unwrap();
        let wal = Options::new().verify(Verify::Tail).open(&directory).unwrap();
        let is_hole = |error: Error| {
            assert!(
                matches!(&error, Error::Damaged { path: p, at: byte, damage: Damage::Hole }
                if *p == path && *byte == at),
                "{error}"
            );
        };
        let reader = wal.reader();
        is_hole(reader.iter().find_map(Result::err).expect("a hole is no end"));
        is_hole(reader.iter().durable().find_map(Result::err).expect("as above"));
        is_hole(reader.backwards().find_map(Result::err).expect("as above"));
        is_hole(reader.from_sequence(9).find_map(Result::err).expect("as above"));
        is_hole(wal.read(mapwal::Lsn::from_u64((1 << 16) + at)).unwrap_err());
    }
}

#[test]
fn a_torn_last_record_is_cut_and_the_report_says_where() {
    let directory = killed_log(2);
    let path = last(&directory);
    let at = find(&path, "record 1 9");
    change(&path, at, |byte| byte ^ 1);
    let wal = small().open(&directory).unwrap();
    assert_eq!(wal.reader().iter().count(), 19);
    match &wal.recovery().ended {
        Ended::Torn { path: p, at: byte, damage: Damage::Check, overwritten } => {
            assert_eq!((p, *byte), (&path, at - 16));
            assert_eq!(&overwritten[17..26], b"ecord 1 9");
        }
        other => panic!("{other:?}"),
    }
    let report = wal.recovery();
    let records: Vec<_> = report.segments.iter().map(|segment| segment.records).collect();
    assert_eq!(records, [10, 9]);
    wal.append(b"behind").unwrap();
    drop(wal);
    assert_eq!(texts(&small().open(&directory).unwrap()).last().unwrap(), "behind");
}

#[test]
fn garbage_under_a_segments_name_is_damage_or_foreign() {
    for garbage in [vec![0; SEGMENT as usize], vec![0xff; SEGMENT as usize], b"text".to_vec()] {
        let directory = closed_log(1);
        fs::write(file(&directory, 0x100), &garbage).unwrap();
        let error = refused(&directory);
        names(&error, &file(&directory, 0x100), "restore it");
        fs::remove_file(file(&directory, 0x100)).unwrap();
        small().open(&directory).unwrap();
    }
    let alone = TempDir::new();
    fs::write(file(&alone, 1), vec![0; SEGMENT as usize]).unwrap();
    fs::write(alone.path().join("LOCK"), b"").unwrap();
    assert!(matches!(refused(&alone), Error::Damaged { damage: Damage::Header, .. }));
}

#[test]
fn a_fresh_directory_left_by_a_dead_process_is_a_new_log() {
    let directory = TempDir::new();
    fs::write(directory.path().join("LOCK"), b"").unwrap();
    fs::write(directory.path().join("0000000000000001.tmp"), vec![0; SEGMENT as usize]).unwrap();
    let wal: Wal = small().open(&directory).unwrap();
    assert_eq!(wal.recovery().ended, Ended::Created);
    assert!(segments(&directory).contains(&"0000000000000001.wal".to_owned()));
}
