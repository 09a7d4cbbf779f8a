//! A small key-value store on the log: the whole state in memory, every change a record.
//!
//! ```text
//! kv DIR put KEY VALUE | delete KEY | get KEY | list | checkpoint | stress N [--kill-after N]
//! ```
//!
//! A change that was acknowledged is there after any kill and any power cut. `stress` makes
//! N random changes, says each before it tries it and `ok` when it is acknowledged; with
//! `--kill-after` it sends itself SIGKILL after so many, and goes on until that arrives.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use mapwal::{Lsn, Options, Wal};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Store {
    /// Holds `log/`, and `snapshot` once there was a checkpoint.
    directory: PathBuf,
    wal: Wal,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store {
    /// Recovers the state: the snapshot, and the changes since.
    fn open(directory: &Path) -> Result<Self> {
        let wal = Options::new().segment_size(64 << 10).open(directory.join("log"))?;
        let (directory, entries) = (directory.to_owned(), BTreeMap::new());
        let mut store = Store { directory, wal, entries };
        let since = store.load_snapshot()?;
        for record in store.wal.reader().iter() {
            let record = record?;
            if record.lsn() >= since {
                apply(&mut store.entries, record.data()).ok_or("the log holds no change")?;
            }
        }
        Ok(store)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.change(encode(key, Some(value)))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.change(encode(key, None))
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    fn change(&mut self, record: Vec<u8>) -> Result<()> {
        self.wal.commit(&record)?; // durable first, then seen
        apply(&mut self.entries, &record).ok_or("a change of our own")?;
        Ok(())
    }

    /// Writes the state to a file, and gives up the log before it. The order is what makes
    /// it safe: the snapshot is durable under its name before the log lets go.
    fn checkpoint(&mut self) -> Result<()> {
        let since = self.wal.next_lsn();
        let mut snapshot = since.as_u64().to_le_bytes().to_vec();
        for (key, value) in &self.entries {
            let change = encode(key, Some(value));
            snapshot.extend((change.len() as u32).to_le_bytes());
            snapshot.extend(change);
        }
        snapshot.extend(crc32c::crc32c(&snapshot).to_le_bytes());
        let unfinished = self.directory.join("snapshot.tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(&snapshot)?;
        file.sync_all()?;
        fs::rename(unfinished, self.directory.join("snapshot"))?;
        #[cfg(unix)] // elsewhere a directory cannot be synced, nor needs to be
        File::open(&self.directory)?.sync_all()?;
        Ok(self.wal.truncate_before(since)?)
    }

    /// Returns where the log goes on after the snapshot.
    fn load_snapshot(&mut self) -> Result<Lsn> {
        let snapshot = match fs::read(self.directory.join("snapshot")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lsn::NONE),
            read => read?,
        };
        self.decode_snapshot(&snapshot).ok_or_else(|| "the snapshot is damaged".into())
    }

    fn decode_snapshot(&mut self, snapshot: &[u8]) -> Option<Lsn> {
        let (body, check) = snapshot.split_last_chunk()?;
        let intact = crc32c::crc32c(body) == u32::from_le_bytes(*check);
        let (since, mut changes) = body.split_first_chunk().filter(|_| intact)?;
        while let Some((len, rest)) = changes.split_first_chunk() {
            let (change, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            apply(&mut self.entries, change)?;
            changes = rest;
        }
        Some(Lsn::from_u64(u64::from_le_bytes(*since)))
    }
}

/// A change as a record: the key's length, whether there is a value, the key, the value.
fn encode(key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let len = (key.len() as u32).to_le_bytes();
    [&len, &[u8::from(value.is_some())][..], key, value.unwrap_or_default()].concat()
}

fn apply(entries: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: &[u8]) -> Option<()> {
    let (len, rest) = change.split_first_chunk()?;
    let (put, rest) = rest.split_first()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    match put {
        0 => entries.remove(key),
        _ => entries.insert(key.to_vec(), value.to_vec()),
    };
    Some(())
}

fn stress(store: &mut Store, changes: u64, kill_after: Option<u64>) -> Result<()> {
    let mut killer = None;
    let mut random = process::id().into();
    for i in 0..changes {
        random = u64::wrapping_mul(random, 0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let [what, key, len, ..] = random.to_be_bytes();
        let key = format!("key-{}", key % 64);
        match what % 16 {
            0 => store.checkpoint()?,
            1..5 => {
                println!("delete {key}");
                store.delete(key.as_bytes())?;
                println!("ok");
            }
            _ => {
                let value = format!("{i}-").repeat(usize::from(len) + 1);
                println!("put {key} {value}");
                store.put(key.as_bytes(), value.as_bytes())?;
                println!("ok");
            }
        }
        if kill_after == Some(i + 1) {
            killer = Some(Command::new("sh").args(["-c", "kill -9 $PPID"]).spawn()?);
        }
    }
    if let Some(mut killer) = killer {
        killer.wait()?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [directory, words @ ..] = &words[..] else { return Err("kv DIR COMMAND".into()) };
    let mut store = Store::open(Path::new(directory))?;
    match words {
        ["put", key, value] => store.put(key.as_bytes(), value.as_bytes()),
        ["delete", key] => store.delete(key.as_bytes()),
        ["get", key] => {
            let value = store.get(key.as_bytes()).ok_or("no such key")?;
            println!("{}", String::from_utf8_lossy(value));
            Ok(())
        }
        ["list"] => {
            for (key, value) in &store.entries {
                println!("{} {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            }
            Ok(())
        }
        ["checkpoint"] => store.checkpoint(),
        ["stress", changes] => stress(&mut store, changes.parse()?, None),
        ["stress", changes, "--kill-after", kill_after] => {
            stress(&mut store, changes.parse()?, Some(kill_after.parse()?))
        }
        _ => Err("put KEY VALUE | delete KEY | get KEY | list | checkpoint | stress N".into()),
    }
}
