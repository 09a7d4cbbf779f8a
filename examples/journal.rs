//! The main job, on real input: journals every line of real files as a record.
//!
//! ```text
//! cargo run --release --example journal -- [--log DIR] [--threads N] [--kill-after N] [INPUT]
//! ```
//!
//! `INPUT` is a file or a directory, the current one by default; `target`, `.git` and
//! the log's own directory are passed over. The log is in `target/journal` by default.
//!
//! A *pass* journals each line once: threads append lines in groups, wait until their
//! group is durable, and then note in the file `acknowledged` how far that is. Run again,
//! it recovers the log, checks every record against the input, and journals what is
//! missing. If nothing is, it begins another pass, and gives up the one before when the
//! new one is whole. `--kill-after N` ends the process by SIGKILL after N appends.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::slice::Chunks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mapwal::{Ended, Lsn, Options, Recovery, Wal};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: journal [--log DIR] [--threads N] [--kill-after N] [FILE OR DIRECTORY]";
/// Lines that are made durable together.
const GROUP: usize = 64;

fn main() -> ExitCode {
    let Err(failure) = run() else { return ExitCode::SUCCESS };
    eprintln!("journal: {failure}");
    let mut cause = failure.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    let arguments = Arguments::parse()?;
    let input = Input::read(&arguments.input, &arguments.log)?;
    if input.len() == 0 {
        return Err(format!("nothing to journal in {}", arguments.input.display()).into());
    }
    println!(
        "input: {} lines, {} bytes, {} files in {}",
        input.places().count(),
        input.len(),
        input.files.len(),
        arguments.input.display()
    );
    // small segments, so that even a small input rolls; a log that exists keeps its own
    let size = (input.len() / 16).next_power_of_two().clamp(64 << 10, 16 << 20);
    let wal = Options::new().segment_size(size).open(&arguments.log)?;
    say_what_was_found(&arguments.log, wal.recovery());
    let acknowledged = Acknowledged::open(&arguments.log.join("acknowledged"))?;
    acknowledged.check(&wal)?;
    let mut found = Found::check(&wal, &input, acknowledged.highest)?;
    found.say();

    let mut missing: Vec<_> = input.places().filter(|&(f, l)| !found.seen[f][l]).collect();
    if missing.is_empty() {
        println!("pass {} is whole: another one begins", found.pass);
        found.begin_pass(found.pass + 1, &input);
        missing = input.places().collect();
    }
    println!("pass {}: {} lines to journal", found.pass, missing.len());
    let job = Job {
        wal: &wal,
        input: &input,
        pass: found.pass,
        groups: Mutex::new(missing.chunks(GROUP)),
        acknowledged: Mutex::new(acknowledged),
        appended: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        kill_after: arguments.kill_after,
        started: Instant::now(),
    };
    let first = job.run(arguments.threads)?;
    if let Some(first) = found.first.or(first) {
        wal.truncate_before(first)?; // the passes before this one, now that it is whole
        println!("pass {} is whole; records below {first} are given up", found.pass);
    }
    wal.close()?;
    Ok(())
}

struct Arguments {
    log: PathBuf,
    threads: usize,
    kill_after: Option<u64>,
    input: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let (log, input) = (PathBuf::from("target/journal"), PathBuf::from("."));
        let mut arguments = Arguments { log, threads: 4, kill_after: None, input };
        let mut given = std::env::args_os().skip(1);
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(USAGE);
            let number = |value: std::ffi::OsString| -> Result<u64> {
                value.to_str().and_then(|n| n.parse().ok()).ok_or_else(|| USAGE.into())
            };
            match argument.to_str() {
                Some("--log") => arguments.log = value()?.into(),
                Some("--threads") => arguments.threads = number(value()?)?.clamp(1, 256) as usize,
                Some("--kill-after") => arguments.kill_after = Some(number(value()?)?),
                Some(option) if option.starts_with('-') => return Err(USAGE.into()),
                _ => arguments.input = argument.into(),
            }
        }
        Ok(arguments)
    }
}

/// The files to journal, in memory.
struct Input {
    files: Vec<File>,
    by_path: HashMap<Vec<u8>, usize>,
}

struct File {
    /// From the input's directory on.
    path: Vec<u8>,
    content: Vec<u8>,
    /// Each with its line feed.
    lines: Vec<Range<usize>>,
}

impl Input {
    fn read(root: &Path, log: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        match fs::metadata(root).map_err(|e| format!("cannot read {}: {e}", root.display()))? {
            found if found.is_dir() => {
                collect(root, fs::canonicalize(log).ok().as_deref(), &mut paths)
            }
            _ => paths.push(root.to_owned()),
        }
        let mut input = Input { files: Vec::new(), by_path: HashMap::new() };
        for path in paths {
            let Ok(content) = fs::read(&path).inspect_err(|e| passed_over(&path, e)) else {
                continue;
            };
            let mut end = 0;
            let lines = content.split_inclusive(|&byte| byte == b'\n').map(|line| {
                end += line.len();
                end - line.len()..end
            });
            let lines = lines.collect();
            let path =
                path.strip_prefix(root).ok().filter(|p| *p != Path::new("")).unwrap_or(&path);
            let path = path.as_os_str().as_encoded_bytes().to_vec();
            input.by_path.insert(path.clone(), input.files.len());
            input.files.push(File { path, content, lines });
        }
        Ok(input)
    }

    fn len(&self) -> u64 {
        self.files.iter().map(|file| file.content.len() as u64).sum()
    }

    /// Of all lines: the numbers of file and line.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let lines = |(f, file): (usize, &File)| (0..file.lines.len()).map(move |l| (f, l));
        self.files.iter().enumerate().flat_map(lines)
    }

    fn line(&self, (f, l): (usize, usize)) -> &[u8] {
        let file = &self.files[f];
        &file.content[file.lines[l].clone()]
    }
}

/// Finds the files below a directory, in order. Links are not followed.
fn collect(directory: &Path, log: Option<&Path>, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).and_then(|entries| entries.collect());
    let mut entries: Vec<fs::DirEntry> =
        entries.inspect_err(|e| passed_over(directory, e)).unwrap_or_default();
    entries.sort_unstable_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let is_log = || log.is_some() && fs::canonicalize(&path).ok().as_deref() == log;
        match entry.file_type() {
            Ok(kind) if kind.is_file() => paths.push(path),
            Ok(kind) if kind.is_dir() && name != "target" && name != ".git" && !is_log() => {
                collect(&path, log, paths);
            }
            _ => {}
        }
    }
}

fn passed_over(path: &Path, error: &std::io::Error) {
    eprintln!("passed over: {}: {error}", path.display());
}

/// A record: a line, where it is from, and what tells that this is all as it was.
struct Entry<'a> {
    pass: u32,
    /// Counted from 0.
    line: u64,
    path: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    fn encode(&self, record: &mut Vec<u8>) {
        record.clear();
        record.extend([0; 4]);
        record.extend(self.pass.to_le_bytes());
        record.extend(self.line.to_le_bytes());
        record.extend((self.path.len() as u32).to_le_bytes());
        record.extend(self.path);
        record.extend(self.bytes);
        let check = crc32c::crc32c(&record[4..]);
        record[..4].copy_from_slice(&check.to_le_bytes());
    }

    fn decode(record: &'a [u8]) -> Option<Self> {
        let (check, rest) = record.split_first_chunk()?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*check) {
            return None;
        }
        let (pass, rest) = rest.split_first_chunk()?;
        let (line, rest) = rest.split_first_chunk()?;
        let (path_len, rest) = rest.split_first_chunk()?;
        let (path, bytes) = rest.split_at_checked(u32::from_le_bytes(*path_len) as usize)?;
        let (pass, line) = (u32::from_le_bytes(*pass), u64::from_le_bytes(*line));
        Some(Entry { pass, line, path, bytes })
    }
}

/// How far lines were acknowledged as durable: written down where the next run finds it.
struct Acknowledged {
    file: fs::File,
    highest: Lsn,
}

impl Acknowledged {
    fn open(path: &Path) -> Result<Self> {
        let mut options = fs::File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let highest = match text.trim() {
            "" => Lsn::NONE,
            hex => Lsn::from_u64(u64::from_str_radix(hex, 16)?),
        };
        Ok(Acknowledged { file, highest })
    }

    /// A plain write: what the kernel was given outlives the process.
    fn note(&mut self, lsn: Lsn) -> Result<()> {
        if lsn > self.highest {
            self.highest = lsn;
            self.file.rewind()?;
            self.file.write_all(format!("{:016x}\n", lsn.as_u64()).as_bytes())?;
        }
        Ok(())
    }

    /// The record that was acknowledged last must be there, or given up since.
    fn check(&self, wal: &Wal) -> Result<()> {
        match wal.read(self.highest) {
            Err(mapwal::Error::Truncated { .. }) => Ok(()),
            Err(error) if self.highest > Lsn::NONE => {
                Err(format!("LOST: {} was acknowledged as durable: {error}", self.highest).into())
            }
            _ => Ok(()),
        }
    }
}

/// The recovery report in plain words.
fn say_what_was_found(directory: &Path, report: &Recovery) {
    match &report.ended {
        Ended::Created => return println!("log: a new one in {}", directory.display()),
        Ended::Closed => println!("log: it had been closed properly"),
        Ended::Unclosed => println!("log: its process ended without closing it; nothing is torn"),
        Ended::Torn { path, at, damage, .. } => println!(
            "log: a crash cut a write short at byte {at} of {}: {damage}; what stood there had \
             never been acknowledged, and was given up",
            path.display()
        ),
        _ => println!("log: {:?}", report.ended),
    }
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    println!(
        "log: {} segments with {bytes} bytes verified, from {} to {}; opening number {}",
        report.segments.len(),
        report.head,
        report.tail,
        report.epoch
    );
    if !report.removed.is_empty() {
        println!("log: {} files removed that it did not count", report.removed.len());
    }
}

/// What the log holds of the input.
#[derive(Default)]
struct Found {
    /// The newest pass, and the place of its first record.
    pass: u32,
    first: Option<Lsn>,
    /// By file and line: whether that pass holds the line as it is in the input.
    seen: Vec<Vec<bool>>,
    records: u64,
    unacknowledged: u64,
    changed: u64,
    gone: u64,
}

impl Found {
    /// Reads the whole log: every record must be what was journaled, and none missing.
    fn check(wal: &Wal, input: &Input, acknowledged: Lsn) -> Result<Self> {
        let mut found = Found::default();
        found.begin_pass(1, input);
        let mut next = None;
        for record in wal.reader().iter() {
            let record = record?;
            let lsn = record.lsn();
            let broken = |what| format!("BROKEN: the record at {lsn} {what}");
            if next.is_some_and(|next| next != record.sequence()) {
                return Err(broken("does not follow the one before").into());
            }
            next = Some(record.sequence() + 1);
            let entry = Entry::decode(record.data())
                .filter(|entry| entry.pass >= found.pass)
                .ok_or_else(|| broken("is not what was journaled"))?;
            if entry.pass > found.pass {
                found.begin_pass(entry.pass, input);
            }
            found.first.get_or_insert(lsn);
            found.records += 1;
            found.unacknowledged += u64::from(lsn > acknowledged);
            let file = input.by_path.get(entry.path).copied();
            let place = file.map(|f| (f, entry.line as usize));
            match place.filter(|&(f, l)| l < input.files[f].lines.len()) {
                Some((f, l)) if input.line((f, l)) == entry.bytes => found.seen[f][l] = true,
                Some(_) => found.changed += 1,
                None => found.gone += 1,
            }
        }
        Ok(found)
    }

    fn begin_pass(&mut self, pass: u32, input: &Input) {
        self.pass = pass;
        self.first = None;
        self.seen = input.files.iter().map(|file| vec![false; file.lines.len()]).collect();
    }

    fn say(&self) {
        let Found { records, unacknowledged, changed, gone, .. } = self;
        if *records == 0 {
            return;
        }
        println!("check: {records} records are what was journaled, and none is missing");
        println!("check: {unacknowledged} of them were not acknowledged before the process ended");
        if changed + gone > 0 {
            println!(
                "check: since then {changed} of these lines changed in the input, {gone} went"
            );
        }
    }
}

/// Lines on their way into the log.
struct Job<'a> {
    wal: &'a Wal,
    input: &'a Input,
    pass: u32,
    groups: Mutex<Chunks<'a, (usize, usize)>>,
    acknowledged: Mutex<Acknowledged>,
    appended: AtomicU64,
    bytes: AtomicU64,
    kill_after: Option<u64>,
    started: Instant,
}

/// What one thread did, or all of them.
#[derive(Default)]
struct Work {
    /// The place of its first record.
    first: Option<Lsn>,
    appends: Vec<Duration>,
    commits: Vec<Duration>,
}

impl Job<'_> {
    /// Journals all lines, and says how it goes. Returns where the first one is.
    fn run(&self, threads: usize) -> Result<Option<Lsn>> {
        let (running, ended) = mpsc::channel::<()>();
        let workers = thread::scope(|scope| {
            let start = |_| {
                let running = running.clone();
                scope.spawn(move || {
                    let _running = running;
                    self.work()
                })
            };
            let workers: Vec<_> = (0..threads).map(start).collect();
            drop(running); // when the last thread drops its own, there is nothing to wait for
            let each = Duration::from_millis(500);
            while ended.recv_timeout(each) == Err(mpsc::RecvTimeoutError::Timeout) {
                self.say_rate();
            }
            workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
        });
        let mut all = Work::default();
        for worker in workers {
            let work = worker.map_err(|_| "a thread panicked")??;
            all.first = all.first.into_iter().chain(work.first).min();
            all.appends.extend(work.appends);
            all.commits.extend(work.commits);
        }
        self.say_rate();
        self.say_summary(&mut all);
        Ok(all.first)
    }

    fn next_group(&self) -> Option<&[(usize, usize)]> {
        self.groups.lock().unwrap().next()
    }

    /// Appends group after group, and waits until each is durable.
    fn work(&self) -> Result<Work> {
        let mut work = Work::default();
        let mut record = Vec::new();
        while let Some(group) = self.next_group() {
            let mut last = Lsn::NONE;
            for &(f, l) in group {
                let (path, bytes) = (&self.input.files[f].path, self.input.line((f, l)));
                Entry { pass: self.pass, line: l as u64, path, bytes }.encode(&mut record);
                let start = Instant::now();
                last = self.wal.append(&record)?;
                work.appends.push(start.elapsed());
                work.first.get_or_insert(last);
                self.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
                let appended = self.appended.fetch_add(1, Ordering::Relaxed) + 1;
                if self.kill_after == Some(appended) {
                    println!("killed after {appended} appends");
                    // others append on until the signal arrives
                    Command::new("sh").args(["-c", "kill -9 $PPID"]).status()?;
                }
            }
            let start = Instant::now();
            self.wal.sync_to(last)?;
            work.commits.push(start.elapsed());
            self.acknowledged.lock().unwrap().note(last)?;
        }
        Ok(work)
    }

    fn say_rate(&self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let records = self.appended.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        println!(
            "{records:9} records in {seconds:.2} s: {:.0} records/s, {:.1} MB/s, durable up to {}",
            records as f64 / seconds,
            bytes as f64 / 1e6 / seconds,
            self.wal.durable_lsn()
        );
    }

    fn say_summary(&self, all: &mut Work) {
        let seconds = self.started.elapsed().as_secs_f64();
        let commits = all.commits.len();
        println!("{commits:9} commits of {GROUP} lines: {:.0} commits/s", commits as f64 / seconds);
        for (what, times) in [("append", &mut all.appends), ("commit", &mut all.commits)] {
            times.sort_unstable();
            let slowest = times.len() - 1;
            let [p50, p99, p999] = [500, 990, 999].map(|p| times[slowest * p / 1000]);
            println!("   {what}: p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}");
        }
        let stats = self.wal.stats();
        println!(
            "   {} segments of {} KiB begun; files made {}, recycled {}; {} flushes; {} bytes on disk",
            stats.rolls,
            self.wal.segment_size() >> 10,
            stats.made,
            stats.recycled,
            stats.flushes,
            stats.size
        );
    }
}
