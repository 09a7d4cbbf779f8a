//! A real file system that is small and full: what `ci/filesystems.sh` runs on each, and
//! unmounts and mounts it between two steps.
//!
//! A child, this same program, fills the log from several threads until the disk is full,
//! notes every record that was acknowledged in files elsewhere, goes on in what
//! truncation gives back, and is killed. A signal of its own, above all for a store that
//! met the full disk, fails the step.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use common::Random;
use mapwal::{Error, Lsn, Options, Wal};

const SEGMENT: u64 = 256 << 10;
const THREADS: u64 = 4;
const SIGKILL: i32 = 9;

/// The name of notes that say nothing: the child may be killed.
const READY: &str = "ready";

/// How often a child fills the disk and gives half of it back before it may be killed.
const ROUNDS: u64 = 3;

/// Where the file system is mounted, and a folder elsewhere.
const MOUNT: &str = "MAPWAL_MOUNT";
const NOTES: &str = "MAPWAL_NOTES";
/// How many MiB the log may take, where it is not to fill the disk: it is full all the same.
const LIMIT: &str = "MAPWAL_LIMIT";
/// Set if the last step ended in a power cut: what was not durable may be gone.
const CUT: &str = "MAPWAL_CUT";

fn path(name: &str) -> PathBuf {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see ci/filesystems.sh")).into()
}

fn open() -> Wal {
    let limit = env::var(LIMIT).map_or(u64::MAX, |text| text.parse::<u64>().unwrap() << 20);
    let options = Options::new().segment_size(SEGMENT).max_log_size(limit);
    options.open(path(MOUNT).join("log")).unwrap() // a refusal would be the finding
}

/// The bytes of a record: its number first.
fn contents(id: u64) -> Vec<u8> {
    let mut random = Random(id);
    let len = match random.below(100) {
        0 => random.below(4 * SEGMENT),
        1..20 => random.below(30_000),
        _ => random.below(3000),
    };
    let rest = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten();
    id.to_le_bytes().into_iter().chain(rest.take(len as usize)).collect()
}

// --- what is noted ---

/// A file of notes: a line for each call that returned.
struct Notes(File);

impl Notes {
    fn new(name: &str) -> Self {
        Notes(File::create(path(NOTES).join(name)).unwrap())
    }

    fn line(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap(); // one call: whole or not there
    }

    fn appended(&mut self, id: u64, lsn: Lsn) {
        self.line(&format!("appended {id} {}", lsn.as_u64()));
    }

    fn durable(&mut self, below: u64) {
        self.line(&format!("durable {below}"));
    }
}

/// What all notes say.
#[derive(Default)]
struct Noted {
    /// Place and number of each record that an append returned.
    appended: BTreeMap<u64, u64>,
    durable: u64,
    wanted_head: u64,
    head: u64,
}

impl Noted {
    fn read() -> Self {
        let mut noted = Noted::default();
        for entry in fs::read_dir(path(NOTES)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for line in text.lines() {
                let words: Vec<_> = line.split(' ').collect();
                let number = |at: usize| words[at].parse::<u64>().unwrap();
                match words[0] {
                    "appended" => assert!(noted.appended.insert(number(2), number(1)).is_none()),
                    "durable" => noted.durable = noted.durable.max(number(1)),
                    "wants" => noted.wanted_head = noted.wanted_head.max(number(1)),
                    "head" => noted.head = noted.head.max(number(1)),
                    other => panic!("a note of {other}"),
                }
            }
        }
        noted
    }

    /// Of an opened log it is known for good what it holds: notes of that alone.
    fn replace(found: &BTreeMap<u64, u64>, head: Lsn, next: Lsn) {
        for entry in fs::read_dir(path(NOTES)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let mut notes = Notes::new("found");
        for (&lsn, &id) in found {
            notes.line(&format!("appended {id} {lsn}"));
        }
        notes.durable(next.as_u64());
        notes.line(&format!("wants {}", head.as_u64()));
        notes.line(&format!("head {}", head.as_u64()));
    }
}

/// All records of a log, each of which is what its number says: place and number.
fn records(wal: &Wal) -> BTreeMap<u64, u64> {
    common::checked(wal, |record| {
        let id = u64::from_le_bytes(*record.data().first_chunk().unwrap());
        assert!(record.data() == contents(id), "{record:?} is not what was appended");
        id
    })
}

/// Compares an opened log with all notes, and makes new ones of it. `kills`: writers that
/// may have been in the middle of an append since the last time.
fn compare(wal: &Wal, kills: u64) -> usize {
    let (noted, found) = (Noted::read(), records(wal));
    let head = wal.head_lsn().as_u64();
    assert!(head >= noted.head, "the head went back");
    let first = found.keys().next().copied().unwrap_or(u64::MAX);
    let last = found.keys().next_back().copied().unwrap_or(head);
    let kept = noted.appended.range(head.min(noted.wanted_head)..);
    let mut missing = Vec::new();
    for (&lsn, &id) in kept {
        match found.get(&lsn) {
            Some(&other) => assert_eq!(other, id, "at {lsn:#x}"),
            // the head was on its way when the writer ended
            None if lsn < noted.wanted_head && lsn < first => {}
            None => missing.push((lsn, id)),
        }
    }
    for &(lsn, _) in &missing {
        assert!(lsn > last, "the record at {lsn:#x} is missing before {last:#x}");
        assert!(lsn >= noted.durable, "the record at {lsn:#x} was durable");
    }
    // Without a power cut they are behind an append that another thread was in the middle of.
    let thread_of = |id: u64| id >> 32 & 0xff;
    let missing_all = (0..THREADS).all(|by| missing.iter().any(|&(_, id)| thread_of(id) == by));
    assert!(
        missing.is_empty() || env::var(CUT).is_ok() || kills > 0 && !missing_all,
        "{missing:x?} are missing behind {last:#x}"
    );
    let unknown = found.keys().filter(|lsn| !noted.appended.contains_key(lsn)).count() as u64;
    assert!(unknown <= kills * THREADS, "{unknown} records were never appended");
    Noted::replace(&found, wal.head_lsn(), wal.next_lsn());
    found.len()
}

// --- the child ---

/// Not a step of its own: what the step starts and kills.
#[test]
fn child() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort(); // which the parent tells from its own signal
    }));
    let run = fs::read_dir(path(NOTES)).unwrap().count() as u64;
    let mut writers: Vec<_> = (0..THREADS)
        .map(|by| Writer { notes: Notes::new(&format!("{run}-{by}")), next: run << 40 | by << 32 })
        .collect();
    let mut notes = Notes::new(&format!("{run}"));
    let mut wal = open();
    let mut counts = (0, 0);
    for round in 1..=ROUNDS {
        let refused = fill(&wal, &mut writers);
        assert_eq!(refused, THREADS, "each met the full disk");
        let before = records(&wal);
        let noted = Noted::read();
        let head = wal.head_lsn().as_u64();
        assert!(before.iter().eq(noted.appended.range(head..)), "it does not read back");
        if round == ROUNDS {
            counts.1 += wal.stats().recycled;
            wal.close().unwrap();
            wal = open(); // without a free byte
            assert!(records(&wal) == before, "opened on a full disk, it holds something else");
        }
        let middle = Lsn::from_u64(*before.keys().nth(before.len() / 2).unwrap());
        truncate(&wal, middle, &mut notes);
        // there is room again, for all of them
        for writer in &mut writers {
            for _ in 0..10 {
                writer.append(&wal).unwrap();
            }
        }
        counts.0 += before.len();
    }
    counts.1 += wal.stats().recycled;
    assert!(counts.1 > 0, "nothing was recycled");
    println!("counts: {} read back on the full disk, {} files recycled", counts.0, counts.1);
    Notes::new(READY);
    loop {
        fill(&wal, &mut writers);
        let some = wal.reader().backwards().nth(500).unwrap().unwrap().lsn();
        truncate(&wal, some, &mut notes);
    }
}

struct Writer {
    notes: Notes,
    next: u64,
}

impl Writer {
    fn append(&mut self, wal: &Wal) -> Result<(), Error> {
        let (id, bytes) = (self.next, contents(self.next));
        self.next += 1; // whatever comes of it: a commit that failed may be there
        let commits = Random(id).one_in(50);
        let lsn = if commits { wal.commit(&bytes) } else { wal.append(&bytes) }?;
        self.notes.appended(id, lsn);
        if commits {
            self.notes.durable(lsn.as_u64() + 1);
        }
        Ok(())
    }
}

/// Appends from all threads until each is refused; returns how many were.
fn fill(wal: &Wal, writers: &mut [Writer]) -> u64 {
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in writers {
            scope.spawn(|| {
                loop {
                    match writer.append(wal) {
                        Ok(()) => {}
                        Err(error) if error.is_full() => break,
                        Err(error) => panic!("refused: {error}: {:?}", error),
                    }
                }
                refused.fetch_add(1, Ordering::Relaxed)
            });
        }
    });
    refused.into_inner()
}

fn truncate(wal: &Wal, lsn: Lsn, notes: &mut Notes) {
    notes.line(&format!("wants {}", lsn.as_u64()));
    wal.truncate_before(lsn).unwrap();
    notes.line(&format!("head {}", lsn.as_u64()));
}

// --- the steps ---

#[test]
fn a_full_disk_takes_records_again_and_its_writer_is_killed() {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    let (ready, began) = (path(NOTES).join(READY), Instant::now());
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        if began.elapsed() > Duration::from_secs(500) {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(ended.signal(), Some(SIGKILL), "the child ended by itself: {ended}");
    fs::remove_file(ready).unwrap();
}

#[test]
fn what_was_acknowledged_is_there_and_the_log_goes_on() {
    let wal = open();
    let found = compare(&wal, 1);
    let mut notes = Notes::new("after");
    let mut writer =
        Writer { notes: Notes::new("more"), next: 0xff << 56 | wal.next_lsn().as_u64() };
    truncate(&wal, wal.next_lsn(), &mut notes);
    for _ in 0..500 {
        writer.append(&wal).unwrap();
    }
    let next = wal.next_lsn();
    wal.close().unwrap();
    notes.durable(next.as_u64());
    println!("counts: {found} there");
}

#[test]
fn what_was_acknowledged_is_there() {
    let wal = open();
    println!("counts: {} there", compare(&wal, 1));
    wal.close().unwrap();
}

#[test]
fn a_closed_log_is_there_whole() {
    let wal = open();
    println!("counts: {} there after closing", compare(&wal, 0));
    wal.close().unwrap();
}
