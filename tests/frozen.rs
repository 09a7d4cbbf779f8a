//! Logs of format 1 as they were written when it was frozen, in `tests/data/v1`: they
//! are read for ever, and say what they said then.
//!
//! Each is a directory of segments, with `expected.txt`: how opening ends, and every
//! record. `MAPWAL_FREEZE=1` writes those that are not there yet; none is ever
//! written again.

mod common;

use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use common::{SEGMENT, TempDir, append_all, fill, small, snapshot};
use mapwal::{Ended, Error, Lsn, Options, Wal};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1")
}

// --- what a log says ---

/// What opening a copy of the log says, and every record in it.
fn said(directory: &Path) -> String {
    let copy = copied(directory);
    match Options::new().open(&copy) {
        Ok(wal) => {
            let said = opened(&wal);
            goes_on(&copy, wal);
            said
        }
        Err(error) => refused(&copy, &error),
    }
}

fn opened(wal: &Wal) -> String {
    let (mut said, recovery) = (String::new(), wal.recovery());
    match &recovery.ended {
        Ended::Closed => writeln!(said, "closed"),
        Ended::Unclosed => writeln!(said, "unclosed"),
        Ended::Torn { path, at, damage, .. } => {
            writeln!(said, "torn: {} at byte {at}: {damage:?}", name(path))
        }
        ended => panic!("a frozen log is not {ended:?}"),
    }
    .unwrap();
    writeln!(said, "segments of {} bytes, epoch {}", wal.segment_size(), recovery.epoch).unwrap();
    writeln!(said, "head {}", recovery.head).unwrap();
    for segment in &recovery.segments {
        let (path, records) = (name(&segment.path), segment.records);
        writeln!(said, "{path}: {records} records from {}", segment.first_sequence).unwrap();
    }
    for record in wal.reader().iter().with_abandoned() {
        let record = record.unwrap();
        let what = match (record.is_abandoned(), record.has_more_of_its_batch()) {
            (true, _) => "abandoned".to_owned(),
            (false, true) => format!("{}, more of its batch follows", content(record.data())),
            (false, false) => content(record.data()),
        };
        writeln!(said, "{} at {}: {what}", record.sequence(), record.lsn()).unwrap();
    }
    said
}

fn refused(directory: &Path, error: &Error) -> String {
    let mut said = match error {
        Error::Damaged { path, at, damage } => {
            format!("damaged: {} at byte {at}: {damage:?}\n", name(path))
        }
        Error::Missing { path, named_by } => {
            format!("missing: {}, named by {}\n", name(path), name(named_by))
        }
        error => panic!("a frozen log is not refused with {error:?}"),
    };
    let salvaged = Options::new().salvage(directory, |lsn, sequence, data| {
        let sequence = sequence.unwrap_or(0);
        writeln!(said, "salvaged {sequence} at {lsn}: {}", content(data)).unwrap();
    });
    salvaged.unwrap();
    said
}

/// It can be written, too: a record behind, and all is there when it is opened again.
fn goes_on(directory: &Path, wal: Wal) {
    let before = wal.reader().iter().count();
    let lsn = wal.append(b"written today").unwrap();
    wal.close().unwrap();
    let wal = Options::new().open(directory).unwrap();
    assert_eq!(wal.read(lsn).unwrap().data(), b"written today");
    assert_eq!(wal.reader().iter().count(), before + 1);
    assert_eq!(wal.recovery().ended, Ended::Closed);
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// A short text itself, anything else by length and checksum.
fn content(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if data.len() <= 40 => format!("{text:?}"),
        _ => format!("{} bytes, CRC-32C {:08x}", data.len(), crc32c(data)),
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// The segments of a log, in a directory of their own.
fn copied(directory: &Path) -> TempDir {
    let copy = TempDir::new();
    for (name, bytes) in snapshot(directory) {
        if name.ends_with(".wal") {
            fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    copy
}

// --- the test ---

#[test]
fn logs_of_format_1_say_what_they_said() {
    if std::env::var_os("MAPWAL_FREEZE").is_some() {
        freeze();
    }
    let mut checked = Vec::new();
    for entry in fs::read_dir(data()).unwrap() {
        let directory = entry.unwrap().path();
        let expected = fs::read_to_string(directory.join("expected.txt")).unwrap();
        assert_eq!(said(&directory), expected.replace("\r\n", "\n"), "{}", name(&directory));
        checked.push(name(&directory).to_owned());
    }
    checked.sort();
    let mut known: Vec<_> = LOGS.iter().map(|(name, _)| name.to_string()).collect();
    known.sort();
    assert_eq!(checked, known);
}

// --- how they were made ---

/// Makes a log in a directory and leaves it as it is to be frozen.
type Make = fn(&Path);

const LOGS: [(&str, Make); 11] = [
    ("clean", clean),
    ("unclosed", unclosed),
    ("torn", torn),
    ("damaged", damaged),
    ("missing", missing),
    ("recycled", recycled),
    ("cut", cut),
    ("head", head),
    ("batches", batches),
    ("abandoned", abandoned),
    ("large", large),
];

fn freeze() {
    for (name, make) in LOGS {
        let to = data().join(name);
        if to.exists() {
            continue;
        }
        let made = TempDir::new();
        make(&made);
        let needed = needed(&made);
        fs::create_dir_all(&to).unwrap();
        for (name, bytes) in snapshot(&made) {
            if needed.contains(&name) {
                fs::write(to.join(name), bytes).unwrap();
            }
        }
        fs::write(to.join("expected.txt"), said(&to)).unwrap();
    }
}

/// The files that the log counts; all with a begin, if it is refused.
fn needed(directory: &Path) -> Vec<String> {
    match Options::new().open(copied(directory)) {
        Ok(wal) => {
            let segments = &wal.recovery().segments;
            segments.iter().map(|segment| name(&segment.path).to_owned()).collect()
        }
        Err(_) => {
            let has_begin = |bytes: &[u8]| bytes.len() > 4100 && bytes[4096..4100] != [0; 4];
            let files = snapshot(directory).into_iter();
            files.filter(|(_, bytes)| has_begin(bytes)).map(|(name, _)| name).collect()
        }
    }
}

fn texts(from: u32, to: u32) -> impl Iterator<Item = String> {
    (from..to).map(|i| format!("record {i}{}", "!".repeat(i as usize % 9)))
}

/// What a process that is killed leaves: a copy of the log while it is open.
fn leave(from: &Path, to: &Path) {
    for (name, bytes) in snapshot(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

fn change(directory: &Path, lsn: Lsn, byte: u64) {
    let path = directory.join(format!("{:016x}.wal", lsn.as_u64() / SEGMENT));
    let mut bytes = fs::read(&path).unwrap();
    bytes[(lsn.as_u64() % SEGMENT + byte) as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn clean(directory: &Path) {
    let wal = small().open(directory).unwrap();
    append_all(&wal, (0..24).map(|len| vec![b'a' + len as u8; len]));
    append_all(&wal, [vec![0x5a; 5000], vec![0xa5; 4096]]);
    wal.sync().unwrap();
    wal.rotate().unwrap();
    append_all(&wal, texts(0, 5));
    wal.close().unwrap();
    // and in a second epoch
    let wal = small().open(directory).unwrap();
    append_all(&wal, texts(5, 8));
    wal.close().unwrap();
}

fn unclosed(directory: &Path) {
    let open = TempDir::new();
    let wal = small().open(&open).unwrap();
    append_all(&wal, texts(0, 3));
    wal.sync().unwrap();
    append_all(&wal, texts(3, 6));
    leave(&open, directory);
}

fn torn(directory: &Path) {
    let open = TempDir::new();
    let wal = small().open(&open).unwrap();
    append_all(&wal, texts(0, 5));
    wal.sync().unwrap();
    let lsns = append_all(&wal, texts(5, 9));
    leave(&open, directory);
    change(directory, lsns[1], 20); // a hole, and intact frames behind it
}

fn damaged(directory: &Path) {
    let wal = small().open(directory).unwrap();
    let lsns = append_all(&wal, texts(0, 5));
    wal.rotate().unwrap();
    append_all(&wal, texts(5, 9));
    wal.close().unwrap();
    change(directory, lsns[2], 17);
}

fn missing(directory: &Path) {
    let wal = small().open(directory).unwrap();
    for i in 0..3 {
        append_all(&wal, texts(3 * i, 3 * i + 3));
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
    fs::remove_file(directory.join("0000000000000002.wal")).unwrap();
}

fn recycled(directory: &Path) {
    for _ in 0..100 {
        let open = TempDir::new();
        let wal = small().max_log_size(8 * SEGMENT).open(&open).unwrap();
        // records of one size: stale frames stand where new ones will
        fill(&wal, b"an earlier life");
        wal.truncate_before(wal.next_lsn()).unwrap();
        for i in 0..4 {
            append_all(&wal, texts(3 * i, 3 * i + 3));
            wal.rotate().unwrap();
            let last = wal.append(b"a later life...").unwrap();
            // at once: soon the background thread has wiped the file
            let name = format!("{:016x}.wal", last.as_u64() / SEGMENT);
            let bytes = fs::read(open.path().join(&name)).unwrap();
            if bytes[60_000..].iter().any(|&byte| byte != 0) {
                leave(&open, directory);
                fs::write(directory.join(name), bytes).unwrap();
                return;
            }
        }
    }
    panic!("no file was left as it was recycled");
}

fn cut(directory: &Path) {
    let open = TempDir::new();
    let wal = small().open(&open).unwrap();
    let lsns = append_all(&wal, texts(0, 6));
    wal.rotate().unwrap();
    append_all(&wal, texts(6, 9));
    wal.truncate_after(lsns[3]).unwrap();
    append_all(&wal, ["instead", "of what was cut"]);
    leave(&open, directory);
}

fn head(directory: &Path) {
    let wal = small().open(directory).unwrap();
    append_all(&wal, texts(0, 4));
    wal.rotate().unwrap();
    let lsns = append_all(&wal, texts(4, 8));
    wal.truncate_before(lsns[2]).unwrap();
    append_all(&wal, texts(8, 10));
    wal.close().unwrap();
}

fn batches(directory: &Path) {
    let open = TempDir::new();
    let wal = small().open(&open).unwrap();
    wal.append_batch(&[b"one", b"two", b"three"]).unwrap();
    wal.append(b"between").unwrap();
    wal.append_batch(&[b"", b""]).unwrap();
    wal.sync().unwrap();
    let last = wal.append_batch(&[b"a batch", b"that is", b"not whole"]).unwrap().last();
    leave(&open, directory);
    change(directory, last, 17);
}

fn abandoned(directory: &Path) {
    let wal = small().open(directory).unwrap();
    append_all(&wal, texts(0, 2));
    for len in [0, 13] {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _ = wal.append_with(len, |bytes| {
                bytes.fill(b'?');
                resume_unwind(Box::new("abandoned"));
            });
        }));
        assert!(panicked.is_err());
    }
    append_all(&wal, texts(2, 4));
    wal.close().unwrap();
}

fn large(directory: &Path) {
    let wal = small().open(directory).unwrap();
    wal.append(b"before").unwrap();
    wal.append(&(0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect::<Vec<_>>())
        .unwrap();
    wal.append(b"behind").unwrap();
    wal.close().unwrap();
}
