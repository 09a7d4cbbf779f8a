//! SIGKILL at random moments: whatever append returned before is there afterwards.
//!
//! A child, this same program, appends from three threads and notes every record
//! that was acknowledged in a file per thread, after the call returned. The parent
//! kills it, opens the log itself, and compares. All the while a third process looks at the
//! directory: it inspects it again and again, and follows it from outside.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, thread};

use common::{Random, TempDir};
use mapwal::{Ended, Error, Lsn, Options, Verify, Wal};

/// How often the child is killed, unless `MAPWAL_KILLS` says otherwise.
const KILLS: u64 = 210;
/// After so many a new log begins, with segments of another size.
const KILLS_OF_A_LOG: u64 = 15;
const THREADS: u64 = 3;

const DIRECTORY: &str = "MAPWAL_KILL_DIRECTORY";
const RUN: &str = "MAPWAL_KILL_RUN";
const LOOKED_AT: &str = "MAPWAL_KILL_LOOKED_AT";

/// What a thread notes of a call that returned: a kind and an LSN.
const APPENDED: u64 = 1;
const DURABLE: u64 = 2;
const WANTS_HEAD: u64 = 3;
const HAS_HEAD: u64 = 4;
/// Bytes of a note: kind, counter, LSN.
const NOTE: usize = 24;

/// Run, thread, counter: who wrote a record.
type Name = (u64, u64, u64);

/// The bytes of the record with this name: its name first.
fn contents((run, by, counter): Name) -> Vec<u8> {
    let mut random = Random(run << 40 ^ by << 32 ^ counter);
    let len = match random.below(30) {
        0 => random.below(300_000), // larger than the smallest segments
        1..5 => random.below(9000),
        _ => random.below(400),
    };
    let mut bytes: Vec<u8> = [run, by, counter].iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.extend((0..len).map(|at| (random.0 >> (at % 56)) as u8));
    bytes
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn name_of(bytes: &[u8]) -> Name {
    let numbers: Vec<_> = numbers(&bytes[..24]).collect();
    (numbers[0], numbers[1], numbers[2])
}

fn notes_of(directory: &Path, by: u64) -> PathBuf {
    directory.join(format!("notes-{by}"))
}

// --- the child ---

/// Not a test of its own: what the parent starts and kills.
#[test]
fn child() {
    let Ok(directory) = env::var(DIRECTORY) else { return };
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort(); // which the parent tells from its own signal
    }));
    let directory = PathBuf::from(directory);
    let run = env::var(RUN).unwrap().parse().unwrap();
    let wal = Wal::open(directory.join("log")).unwrap();
    thread::scope(|scope| {
        for by in 0..THREADS {
            let notes = File::create(notes_of(&directory, by)).unwrap();
            let wal = &wal;
            scope.spawn(move || write_for_ever(wal, notes, run, by));
        }
    });
}

fn write_for_ever(wal: &Wal, mut notes: File, run: u64, by: u64) {
    let mut random = Random(run * THREADS + by);
    let mut note = |kind: u64, counter: u64, lsn: Lsn| {
        let bytes: Vec<u8> =
            [kind, counter, lsn.as_u64()].iter().flat_map(|n| n.to_le_bytes()).collect();
        notes.write_all(&bytes).unwrap(); // one system call: whole, or not there
    };
    for counter in 0.. {
        let bytes = contents((run, by, counter));
        let lsn = match random.below(20) {
            0 => wal.commit(&bytes),
            1 => wal.append_with(bytes.len(), |place| place.copy_from_slice(&bytes)),
            _ => wal.append(&bytes),
        };
        let lsn = lsn.unwrap();
        note(APPENDED, counter, lsn);
        match random.below(150) {
            0..4 => note(DURABLE, counter, wal.sync().unwrap()),
            4 if by == 0 => wal.rotate().unwrap(),
            5 if by == 0 => {
                note(WANTS_HEAD, counter, lsn);
                wal.truncate_before(lsn).unwrap();
                note(HAS_HEAD, counter, lsn);
            }
            _ => {}
        }
    }
}

// --- the one that looks on ---

/// Not a test of its own: looks at the log until its input ends, then says what it saw.
#[test]
fn looker() {
    let Ok(directory) = env::var(LOOKED_AT) else { return };
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    let directory = PathBuf::from(directory);
    let stop = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let inspecting = scope.spawn(|| inspect_until(&stop, &directory.join("log")));
        let watching = scope.spawn(|| watch_until(&stop, &directory));
        let _ = std::io::stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
        [inspecting.join().unwrap(), watching.join().unwrap()].concat()
    });
    let bytes: Vec<u8> = seen.iter().flat_map(|n| n.to_le_bytes()).collect();
    fs::write(directory.join("looked"), bytes).unwrap();
}

/// Whether it is only that the log changed too fast.
fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::WouldBlock)
}

/// How often it was inspected, to no result for all the changes, and torn.
fn inspect_until(stop: &AtomicBool, log: &Path) -> [u64; 3] {
    let [mut looks, mut busy, mut torn] = [0; 3];
    while !stop.load(Ordering::Relaxed) {
        let verify = if looks % 2 == 0 { Verify::All } else { Verify::Tail };
        match Options::new().verify(verify).inspect(log) {
            Ok(found) => {
                let report = found.expect("the log was created before");
                torn += u64::from(matches!(report.ended, Ended::Torn { .. }));
                assert!(report.head <= report.tail && report.proved <= report.tail);
            }
            Err(error) if is_busy(&error) => busy += 1,
            Err(error) => panic!("a log that is sound is called {error:?}"),
        }
        looks += 1;
    }
    [looks, busy, torn]
}

/// How many records came, and how often some were given up before they did. Each is noted.
fn watch_until(stop: &AtomicBool, directory: &Path) -> [u64; 3] {
    let mut notes = File::create(directory.join("watched")).unwrap();
    let mut watch = Options::new().watch(directory.join("log"), Lsn::NONE).unwrap();
    let [mut records, mut busy, mut overtaken] = [0; 3];
    let (mut next, mut last_lsn, mut last_epoch) = (None, Lsn::NONE, 0);
    let mut counters = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let record = match watch.next(Duration::from_millis(20)) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(Error::Truncated { lsn, head }) => {
                assert!(lsn < head);
                overtaken += 1;
                next = None;
                counters.clear();
                continue;
            }
            Err(error) if is_busy(&error) => {
                busy += 1;
                continue;
            }
            Err(error) => panic!("a log that is sound is called {error:?}"),
        };
        let name = name_of(record.data());
        assert!(record.data() == contents(name), "{record:?} is not what {name:?} wrote");
        assert!(next.is_none_or(|next| next == record.sequence()), "{record:?} is not {next:?}");
        assert!(
            record.lsn() > last_lsn && record.epoch() >= last_epoch,
            "{record:?} is out of order"
        );
        let before = counters.insert((name.0, name.1), name.2);
        assert!(before.is_none_or(|before| before + 1 == name.2), "{name:?} is behind {before:?}");
        next = Some(record.sequence() + 1);
        (last_lsn, last_epoch) = (record.lsn(), record.epoch());
        let note = [record.lsn().as_u64(), name.0, name.1, name.2];
        notes.write_all(&note.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        records += 1;
    }
    [records, busy, overtaken]
}

// --- the parent ---

/// A process that looks at the log, and what is known of it by the end.
struct Looker {
    process: Child,
    /// What any opening found, by place.
    found: BTreeMap<u64, Name>,
    /// The counters that each thread of a run had come to, at most.
    appended: BTreeMap<(u64, u64), u64>,
}

impl Looker {
    fn start(directory: &Path) -> Self {
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "looker", "--nocapture"])
            .env(LOOKED_AT, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Looker { process, found: BTreeMap::new(), appended: BTreeMap::new() }
    }

    fn learn(&mut self, run: u64, noted: &Noted, now: &BTreeMap<u64, Name>) {
        self.found.extend(now);
        for (by, appended) in (0..).zip(&noted.appended) {
            let last = appended.last().map_or(0, |&(counter, _)| counter + 1);
            self.appended.insert((run, by), last);
        }
    }

    /// Ends it, and compares what it saw. `before` is what the log holds now.
    fn end(mut self, directory: &Path, before: &BTreeMap<u64, Name>) -> Vec<u64> {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success(), "the one that looks on failed");
        let watched = fs::read(directory.join("watched")).unwrap();
        let head = before.keys().next().copied().unwrap_or(u64::MAX);
        for note in watched.chunks_exact(32) {
            let note: Vec<_> = numbers(note).collect();
            let (lsn, name) = (note[0], (note[1], note[2], note[3]));
            match self.found.get(&lsn) {
                Some(found) => assert_eq!(*found, name, "at {lsn:#x}"),
                None => assert!(lsn < head, "{name:?} at {lsn:#x} was handed out and is gone"),
            }
            let last = self.appended.get(&(name.0, name.1));
            assert!(last.is_none_or(|&last| name.2 <= last), "{name:?} was never appended");
        }
        numbers(&fs::read(directory.join("looked")).unwrap()).collect()
    }
}

#[derive(Default)]
struct Noted {
    /// Counter and LSN of each thread's appends that returned.
    appended: Vec<Vec<(u64, u64)>>,
    durable: u64,
    wanted_head: u64,
    head: u64,
}

impl Noted {
    fn read(directory: &Path) -> Self {
        let mut noted = Noted::default();
        for by in 0..THREADS {
            let mut appended = Vec::new();
            let bytes = fs::read(notes_of(directory, by)).unwrap_or_default();
            for note in bytes.chunks_exact(NOTE) {
                let note: Vec<_> = numbers(note).collect();
                match note[0] {
                    APPENDED => appended.push((note[1], note[2])),
                    DURABLE => noted.durable = noted.durable.max(note[2]),
                    WANTS_HEAD => noted.wanted_head = noted.wanted_head.max(note[2]),
                    HAS_HEAD => noted.head = noted.head.max(note[2]),
                    kind => panic!("a note of kind {kind}"),
                }
            }
            noted.appended.push(appended);
            let _ = fs::remove_file(notes_of(directory, by));
        }
        noted
    }
}

fn start(directory: &Path, run: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(RUN, run.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The log's records, all intact and with dense numbers: place and name of each.
fn records(wal: &Wal) -> BTreeMap<u64, Name> {
    common::checked(wal, |record| {
        let name = name_of(record.data());
        assert!(record.data() == contents(name), "{record:?} is not what {name:?} wrote");
        name
    })
}

/// Compares the log with what was noted by the child that was killed. Returns how many
/// appends were noted, and how many of them are behind one that was in the middle.
fn compare(
    before: &BTreeMap<u64, Name>,
    now: &BTreeMap<u64, Name>,
    noted: &Noted,
    head: u64,
    run: u64,
) -> (usize, usize) {
    assert!(head >= noted.head, "the head went back");
    let first = now.keys().next().copied().unwrap_or(u64::MAX);
    if let Some((lsn, name)) = before.range(noted.wanted_head.min(first)..first).next() {
        panic!("{name:?} at {lsn:#x} was given up by nobody");
    }
    // what an earlier opening found is there, but for what was given up
    let last_before = before.keys().next_back().copied().unwrap_or(0);
    let old = now.range(..=last_before);
    assert!(old.eq(before.range(first..)), "an earlier record is gone, or came back");
    // in the order of each thread, without a gap; one more than noted at the most
    let tail = now.keys().next_back().copied().unwrap_or(head);
    let mut missing = Vec::new();
    for (by, appended) in (0..).zip(&noted.appended) {
        let counters: Vec<_> =
            now.values().filter(|name| (name.0, name.1) == (run, by)).map(|name| name.2).collect();
        assert!(counters.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{counters:?}");
        let noted_last = appended.last().map_or(0, |&(counter, _)| counter + 1);
        assert!(counters.last().is_none_or(|&last| last <= noted_last), "never appended");
        for &(counter, lsn) in appended.iter().filter(|(_, lsn)| *lsn >= head) {
            match now.get(&lsn) {
                Some(&name) => assert_eq!(name, (run, by, counter)),
                None if lsn < noted.wanted_head => {}
                None => missing.push((by, lsn)),
            }
        }
    }
    for &(by, lsn) in &missing {
        assert!(lsn > tail, "thread {by}'s record at {lsn:#x} is missing in the middle");
        assert!(lsn >= noted.durable, "thread {by}'s record at {lsn:#x} was durable");
    }
    // they are behind an append that another thread had begun, and not returned from
    let in_the_middle = (0..THREADS).any(|by| missing.iter().all(|&(other, _)| other != by));
    assert!(missing.is_empty() || in_the_middle, "{missing:x?} are missing behind {tail:#x}");
    (noted.appended.iter().map(Vec::len).sum(), missing.len())
}

#[test]
fn what_append_returned_survives_sigkill() {
    let mut random = Random(env::var("MAPWAL_SEED").map_or(7, |seed| seed.parse().unwrap()));
    let (mut noted_in_all, mut behind_in_all, mut found_in_all) = (0, 0, 0);
    let kills = env::var("MAPWAL_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut directory = TempDir::new();
    let mut before = BTreeMap::new();
    let mut looker = None::<Looker>;
    let mut looked = [0; 6];
    let mut add = |looked_now: Vec<u64>| {
        looked.iter_mut().zip(looked_now).for_each(|(all, now)| *all += now);
    };
    for run in 0..kills {
        if run % KILLS_OF_A_LOG == 0 {
            if let Some(looker) = looker.take() {
                add(looker.end(&directory, &before));
            }
            directory = TempDir::new();
            before = BTreeMap::new();
            let size = (64 << 10) << random.below(5);
            let options = Options::new().segment_size(size);
            drop(options.open(directory.join("log")).unwrap());
            looker = Some(Looker::start(&directory));
        }
        let mut child = start(&directory, run);
        thread::sleep(Duration::from_millis(5 + random.below(60)));
        child.kill().unwrap(); // SIGKILL
        let ended = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "by itself");
        assert!(!ended.success(), "the child ended by itself");

        let noted = Noted::read(&directory);
        let wal = match Wal::open(directory.join("log")) {
            Ok(wal) => wal,
            Err(error @ Error::Locked { .. }) => panic!("the dead hold no lock: {error}"),
            Err(error) => panic!("refused after SIGKILL: {error}"),
        };
        let now = records(&wal);
        let (appended, behind) = compare(&before, &now, &noted, wal.head_lsn().as_u64(), run);
        noted_in_all += appended;
        behind_in_all += behind;
        found_in_all += now.len();
        wal.commit(&contents((run, THREADS, 0))).unwrap();
        before = records(&wal);
        let looker = looker.as_mut().expect("it looks at every log");
        looker.learn(run, &noted, &now);
        looker.found.extend(&before);
    }
    if let Some(looker) = looker.take() {
        add(looker.end(&directory, &before));
    }
    println!(
        "{kills} times: {noted_in_all} appends had returned, {behind_in_all} of them behind one in \
         the middle; {found_in_all} records were read"
    );
    let [looks, busy, torn, watched, busy_watching, overtaken] = looked;
    println!(
        "looked at {looks} times meanwhile: {torn} times torn, {busy} times it changed too fast; \
         watched {watched} records, overtaken by truncation {overtaken} times, too fast \
         {busy_watching} times"
    );
    assert!(noted_in_all > 0 && looks > 0 && watched > 0);
}
