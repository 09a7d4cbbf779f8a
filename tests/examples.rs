//! The examples, run as a user runs them. Cargo builds them for `cargo test`; for
//! this file alone, `cargo build --examples` comes first.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::TempDir;

fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let example =
        profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(example.exists(), "{} is not built: cargo build --examples", example.display());
    Command::new(example)
}

fn stdout_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The input of a journal, and the journal of it.
struct Journal {
    directory: TempDir,
}

const FILES: usize = 8;
const LINES: usize = 500;

impl Journal {
    /// An input of several files, not all of it text, that takes many segments.
    fn new() -> Self {
        let directory = TempDir::new();
        let input = directory.join("input/below");
        fs::create_dir_all(&input).unwrap();
        for file in 0..FILES {
            let mut content = Vec::new();
            for line in 0..LINES {
                content.extend(format!("file {file}, line {line}: ").bytes());
                content.extend((0..line % 200).map(|i| (i as u8) | 0x80)); // no UTF-8, no line feed
                content.push(b'\n');
            }
            content.pop(); // the last line has no end
            fs::write(input.join(format!("file-{file}")), content).unwrap();
        }
        Journal { directory }
    }

    fn run(&self, options: &[&str]) -> Output {
        let (log, input) = (self.path("log"), self.path("input"));
        let mut journal = example("journal");
        journal.arg("--log").arg(log).args(options).arg(input);
        journal.output().unwrap()
    }

    /// What it says, if all goes well.
    fn says(&self, options: &[&str]) -> String {
        let output = self.run(options);
        let stdout = stdout_of(&output);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stdout}{stderr}");
        stdout
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

/// The number before these words.
fn number_before(words: &str, text: &str) -> usize {
    let at = text.find(words).unwrap_or_else(|| panic!("it does not say '{words}': {text}"));
    let number = text[..at].split_whitespace().next_back().unwrap();
    number.parse().unwrap_or_else(|_| panic!("no number before '{words}': {text}"))
}

#[test]
fn a_second_run_of_journal_finds_every_line_of_the_first() {
    let journal = Journal::new();
    let first = journal.says(&[]);
    assert!(first.contains("log: a new one"), "{first}");
    assert_eq!(number_before(" lines to journal", &first), FILES * LINES);
    assert!(number_before(" segments of 64 KiB begun", &first) > 5, "{first}");

    let second = journal.says(&["--threads", "2"]);
    assert!(second.contains("log: it had been closed properly"), "{second}");
    assert_eq!(number_before(" records are what was journaled", &second), FILES * LINES);
    assert!(second.contains("pass 2 is whole; records below"), "{second}");

    // the first pass was given up
    let third = journal.says(&[]);
    assert_eq!(number_before(" records are what was journaled", &third), FILES * LINES);
    assert!(!third.contains("since then"), "{third}");
}

#[test]
fn journal_tells_a_changed_input_from_a_broken_log() {
    let journal = Journal::new();
    journal.says(&[]);
    let file = journal.path("input/below/file-3");
    let mut content = fs::read(&file).unwrap();
    content[5] = b'x';
    fs::write(&file, content).unwrap();
    fs::remove_file(journal.path("input/below/file-4")).unwrap();

    let said = journal.says(&[]);
    assert_eq!(number_before(" of these lines changed in the input", &said), 1);
    assert_eq!(number_before(" went", &said), LINES);
    assert_eq!(number_before(" lines to journal", &said), 1);
}

#[test]
fn journal_does_not_pass_over_a_lost_acknowledgement() {
    let journal = Journal::new();
    journal.says(&[]);
    fs::write(journal.path("log/acknowledged"), format!("{:016x}\n", 1u64 << 40)).unwrap();
    let output = journal.run(&[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("LOST"));
}

#[test]
fn journal_does_not_pass_over_a_flipped_bit() {
    let journal = Journal::new();
    journal.says(&[]);
    let segment = journal.path("log/0000000000000002.wal");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = journal.run(&[]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("0000000000000002.wal is damaged at byte"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_killed_journal_goes_on_where_it_was() {
    let journal = Journal::new();
    let (mut found, mut kills) = (0, 0);
    for appends in ["1", "70", "500", "1", "1200", "64", "999", "250"] {
        let output = journal.run(&["--kill-after", appends]);
        let said = stdout_of(&output);
        let stderr = String::from_utf8_lossy(&output.stderr);
        if found > 0 {
            let found_now = number_before(" records are what was journaled", &said);
            assert!(found_now >= found, "{found} records before: {said}{stderr}");
            found = found_now;
        }
        // fewer lines may be missing by now, since other threads go on until the signal
        let killed = said.contains(&format!("killed after {appends} appends"));
        assert_ne!(killed, output.status.success(), "{said}{stderr}");
        kills += usize::from(killed);
        found = if killed { found.max(1) } else { 0 };
    }
    assert!(kills >= 4, "a pass that is whole is followed by another: {kills}");
    journal.says(&[]); // this pass is whole now
    let whole = journal.says(&[]);
    assert_eq!(number_before(" records are what was journaled", &whole), FILES * LINES, "{whole}");
}

type Entries = BTreeMap<String, String>;

/// What was acknowledged before the end, and the same with the change under way.
struct Model {
    acknowledged: Entries,
    under_way: Entries,
}

impl Model {
    /// Follows what `kv stress` says. Returns how many changes were acknowledged.
    fn follow(&mut self, lines: impl Iterator<Item = String>) -> usize {
        let mut count = 0;
        for line in lines {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["ok"] => {
                    self.acknowledged.clone_from(&self.under_way);
                    count += 1;
                }
                ["put", key, value] => {
                    self.under_way.insert(key.to_string(), value.to_string());
                }
                ["delete", key] => {
                    self.under_way.remove(key);
                }
                _ => panic!("kv said: {line}"),
            }
        }
        count
    }

    /// The store must be in one of the two states; that is then the model's.
    fn check(&mut self, directory: &Path) {
        let output = example("kv").arg(directory).arg("list").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let entry = |line: &str| {
            let (key, value) = line.split_once(' ').unwrap();
            (key.to_string(), value.to_string())
        };
        let found: Entries = stdout_of(&output).lines().map(entry).collect();
        assert!(
            found == self.acknowledged || found == self.under_way,
            "found {:?}, acknowledged {:?}, under way {:?}",
            found.keys(),
            self.acknowledged.keys(),
            self.under_way.keys()
        );
        self.acknowledged.clone_from(&found);
        self.under_way = found;
    }
}

#[test]
fn kv_is_what_was_acknowledged_after_every_kill() {
    let directory = TempDir::new();
    let mut model = Model { acknowledged: Entries::new(), under_way: Entries::new() };
    let mut acknowledged = 0;
    let mut random = u64::from(std::process::id());
    for _ in 0..60 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let mut kv = example("kv");
        kv.arg(directory.path()).args(["stress", "1000000"]).stdout(Stdio::piped());
        let mut kv = kv.spawn().unwrap();
        let mut lines = BufReader::new(kv.stdout.take().unwrap()).lines().map_while(Result::ok);
        let before_the_kill = (random >> 33) as usize % 300;
        acknowledged += model.follow(lines.by_ref().take(before_the_kill));
        kv.kill().unwrap(); // SIGKILL, wherever it is by now
        kv.wait().unwrap();
        acknowledged += model.follow(lines);
        model.check(&directory);
    }
    assert!(acknowledged > 1000, "the kills came too early to tell anything: {acknowledged}");
}

#[cfg(unix)]
#[test]
fn kv_survives_killing_itself() {
    let directory = TempDir::new();
    let mut model = Model { acknowledged: Entries::new(), under_way: Entries::new() };
    for kill_after in [1, 2, 40, 333] {
        let (changes, kill_after) = ((kill_after + 100).to_string(), kill_after.to_string());
        let mut kv = example("kv");
        kv.arg(directory.path()).args(["stress", &changes, "--kill-after", &kill_after]);
        let output = kv.output().unwrap();
        assert!(!output.status.success(), "it was not killed");
        model.follow(stdout_of(&output).lines().map(String::from));
        model.check(&directory);
    }
    assert!(!model.acknowledged.is_empty());
}

#[test]
fn kv_answers_from_snapshot_and_log() {
    let directory = TempDir::new();
    let kv = |words: &[&str]| example("kv").arg(directory.path()).args(words).output().unwrap();
    for words in [
        &["put", "one", "1"][..],
        &["put", "two", "2"],
        &["checkpoint"],
        &["put", "three", "3"],
        &["delete", "one"],
        &["put", "two", "zwei"],
    ] {
        assert!(kv(words).status.success(), "{words:?}");
    }
    assert_eq!(stdout_of(&kv(&["list"])), "three 3\ntwo zwei\n");
    assert_eq!(stdout_of(&kv(&["get", "two"])), "zwei\n");
    assert!(!kv(&["get", "one"]).status.success());
}

#[test]
fn crash_your_engine_finds_an_engine_that_forgets_to_sync_and_no_other() {
    let crashed = |options: &[&str]| example("crash_your_engine").args(options).output().unwrap();
    let sound = crashed(&["100"]);
    assert!(sound.status.success(), "{}", stdout_of(&sound));
    assert_eq!(number_before("crashes", &stdout_of(&sound)), 1200);
    let broken = crashed(&["--without-sync"]);
    let says = stdout_of(&broken);
    assert!(!broken.status.success(), "{says}");
    let seed = says.strip_prefix("seed ").and_then(|says| says.split(',').next()).unwrap();
    for _ in 0..10 {
        let again = crashed(&["--seed", seed, "--without-sync"]);
        assert_eq!(stdout_of(&again), says, "the seed brings it back");
    }
}
