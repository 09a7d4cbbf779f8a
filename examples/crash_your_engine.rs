//! How to crash an engine of your own: a key-value store on a simulated disk, which is
//! taken away at any call, and what a power cut may leave of it is opened again.
//!
//! ```text
//! crash_your_engine [SEEDS] [--seed N] [--without-sync]
//! ```
//!
//! A seed that fails is printed, and `--seed` brings it back, each time: the engine has one
//! thread, and the log none in the background. `--without-sync` is an engine
//! that forgets to make a change durable before it acknowledges it: to see that it is found.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;

use mapwal::sim::Disk;
use mapwal::{Options, Result, Wal};

/// What a power cut leaves is a matter of chance: so many times a seed, each kind as often.
const CRASHES: u64 = 12;
const STEPS: u64 = 100;

const SNAPSHOT: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;

type Entries = BTreeMap<u8, Vec<u8>>;

/// The engine: its state in memory, every change a record, and now and then all of the state
/// as one record, before which the log can go.
struct Store {
    wal: Wal,
    entries: Entries,
    forgets_to_sync: bool,
}

impl Store {
    fn open(disk: &Disk, forgets_to_sync: bool) -> Result<Self> {
        let wal = Options::new().segment_size(64 << 10).background(false).open_on(disk)?;
        let mut entries = Entries::new();
        for record in wal.reader().iter() {
            apply(&mut entries, record?.data());
        }
        Ok(Store { wal, entries, forgets_to_sync })
    }

    fn change(&mut self, record: &[u8]) -> Result<()> {
        if self.forgets_to_sync {
            self.wal.append(record)?;
        } else {
            self.wal.commit(record)?;
        }
        apply(&mut self.entries, record);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let mut record = vec![SNAPSHOT];
        for (&key, value) in &self.entries {
            record.push(key);
            record.extend((value.len() as u16).to_le_bytes());
            record.extend(value);
        }
        let lsn = self.wal.commit(&record)?;
        self.wal.truncate_before(lsn)
    }
}

fn apply(entries: &mut Entries, record: &[u8]) {
    match *record {
        [PUT, key, ref value @ ..] => drop(entries.insert(key, value.to_vec())),
        [DELETE, key] => drop(entries.remove(&key)),
        [SNAPSHOT, ref state @ ..] => {
            entries.clear();
            let mut rest = state;
            while let [key, low, high, behind @ ..] = rest {
                let (value, next) = behind.split_at(u16::from_le_bytes([*low, *high]).into());
                entries.insert(*key, value.to_vec());
                rest = next;
            }
        }
        _ => unreachable!("a record of another engine"),
    }
}

/// Runs the engine until its disk is gone, then looks at what crashes leave. Whatever was
/// acknowledged must be there, and beside it at most the change that was being tried.
fn crash(seed: u64, forgets_to_sync: bool) -> std::result::Result<(), String> {
    let mut random = Random(seed);
    let disk = Disk::new();
    disk.lose_after(random.below(2 * STEPS));
    let (mut acknowledged, mut tried) = (Entries::new(), Entries::new());
    if let Ok(mut store) = Store::open(&disk, forgets_to_sync) {
        for _ in 0..STEPS {
            let key = random.below(16) as u8;
            let record = match random.below(8) {
                0 if store.checkpoint().is_ok() => continue,
                0 => break,
                1 => vec![DELETE, key],
                _ => [&[PUT, key][..], &vec![key; random.below(3000) as usize]].concat(),
            };
            apply(&mut tried, &record);
            if store.change(&record).is_err() {
                break;
            }
            apply(&mut acknowledged, &record);
        }
    }
    // the log is dropped: only now may the disk be looked at
    disk.lose();
    for kind in 0..CRASHES {
        let left = disk.crash(CRASHES * seed + kind);
        let wrong = |what: &str| format!("seed {seed}, crash {kind}: {what}");
        let mut store = Store::open(&left, false).map_err(|error| wrong(&error.to_string()))?;
        if store.entries != acknowledged && store.entries != tried {
            return Err(wrong("what was acknowledged is not there"));
        }
        // and it goes on from there
        store.change(&[PUT, 255, 1]).map_err(|error| wrong(&error.to_string()))?;
        let expected = store.entries.clone();
        drop(store);
        let again = Store::open(&left, false).map_err(|error| wrong(&error.to_string()))?;
        if again.entries != expected {
            return Err(wrong("what was written after it is not there"));
        }
    }
    Ok(())
}

/// The seeds to run, and whether the engine forgets to sync; `None` if that is not clear.
fn parse(arguments: &[&str]) -> Option<(Range<u64>, bool)> {
    let (mut seeds, mut forgets_to_sync) = (0..1000, false);
    let mut rest = arguments;
    loop {
        rest = match rest {
            [] => return (!seeds.is_empty()).then_some((seeds, forgets_to_sync)),
            ["--without-sync", rest @ ..] => {
                forgets_to_sync = true;
                rest
            }
            ["--seed", seed, rest @ ..] => {
                let seed = seed.parse().ok()?;
                seeds = seed..u64::checked_add(seed, 1)?;
                rest
            }
            [count, rest @ ..] => {
                seeds = 0..count.parse().ok()?;
                rest
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((seeds, forgets_to_sync)) = parse(&words) else {
        eprintln!("crash_your_engine [SEEDS] [--seed N] [--without-sync]");
        return ExitCode::FAILURE;
    };
    let crashes = CRASHES * (seeds.end - seeds.start);
    for seed in seeds {
        if let Err(wrong) = crash(seed, forgets_to_sync) {
            println!("{wrong}");
            return ExitCode::FAILURE;
        }
    }
    println!("{crashes} crashes, and everything that was acknowledged was there");
    ExitCode::SUCCESS
}

/// splitmix64: the same seed, the same numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
