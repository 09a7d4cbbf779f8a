//! raft-engine: many logs of numbered entries in one row of files; who comes while
//! another writes joins its group, with one write an entry and one fdatasync a group.
//!
//! The entries of a log must come in the order of their numbers, so each thread has a log
//! of its own (a region), as the groups of a multi-raft store have. A replay hands over region
//! by region: the order is kept for each thread, not among them. Entries live on the disk;
//! where each one is stays in memory.

use std::cell::Cell;
use std::path::Path;
use std::slice;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::log::{About, Log, Shape};

/// More than any workload has threads: two in one region would wait for each other.
const REGIONS: u64 = 256;

/// Holds no entries: only the key that a sync writes.
const SYNC_REGION: u64 = REGIONS + 1;

pub struct RaftEngine {
    engine: Engine,
    /// By number, from 1.
    regions: Vec<Mutex<Region>>,
}

struct Region {
    number: u64,
    entry: UninterpretedOption,
    batch: LogBatch,
}

/// The message that an entry is. raft's own would be three more crates; this one, which
/// protobuf brings, has the two fields that are needed, in the same encoding.
struct Numbered;

impl MessageExt for Numbered {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

impl Log for RaftEngine {
    const ABOUT: About = About {
        name: "raft-engine",
        appended: "page cache: one pwrite by the group's leader; fdatasync of a full file",
        synced: "a small write, then fdatasync, shared by its group",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        let engine = open(dir, shape);
        let region = |number| {
            let mut entry = UninterpretedOption::new();
            entry.set_positive_int_value(engine.last_index(number).unwrap_or(0));
            Mutex::new(Region { number, entry, batch: LogBatch::default() })
        };
        Self { regions: (1..=REGIONS).map(region).collect(), engine }
    }

    fn append(&self, record: &[u8]) {
        self.write(record, false);
    }

    /// `Engine::sync` writes an empty batch, which returns before anything is flushed. So
    /// the batch has something in it.
    fn sync(&self) {
        let mut batch = LogBatch::default();
        batch.put(SYNC_REGION, b"sync".to_vec(), Vec::new()).expect("put a key");
        self.engine.write(&mut batch, true).expect("sync raft-engine");
    }

    fn commit(&self, record: &[u8]) {
        self.write(record, true);
    }

    /// raft-engine looks for files to drop only above `purge_threshold`.
    fn truncate(&self) -> bool {
        for number in regions(&self.engine) {
            let last = self.engine.last_index(number).expect("entries");
            self.engine.compact_to(number, last);
        }
        self.engine.purge_expired_files().expect("purge raft-engine");
        true
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        const AT_ONCE: u64 = 256;
        let engine = open(dir, shape);
        let mut entries = Vec::new();
        for number in regions(&engine) {
            let end = engine.last_index(number).expect("entries") + 1;
            let mut begin = engine.first_index(number).expect("entries");
            while begin < end {
                let until = end.min(begin + AT_ONCE);
                engine
                    .fetch_entries_to::<Numbered>(number, begin, until, None, &mut entries)
                    .expect("read raft-engine");
                for entry in entries.drain(..) {
                    visit(entry.get_string_value());
                }
                begin = until;
            }
        }
        true
    }
}

impl RaftEngine {
    fn write(&self, record: &[u8], sync: bool) {
        let mut region = self.regions[this_region()].lock().unwrap();
        let Region { number, entry, batch } = &mut *region;
        entry.set_positive_int_value(entry.get_positive_int_value() + 1);
        let bytes = entry.mut_string_value();
        bytes.clear();
        bytes.extend_from_slice(record);
        batch.add_entries::<Numbered>(*number, slice::from_ref(entry)).expect("add an entry");
        self.engine.write(batch, sync).expect("write to raft-engine");
    }
}

/// Threads get the regions in turn.
fn this_region() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static REGION: Cell<u64> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % REGIONS);
    }
    REGION.get() as usize
}

fn regions(engine: &Engine) -> Vec<u64> {
    let mut numbers = engine.raft_groups();
    numbers.retain(|&number| engine.last_index(number).is_some());
    numbers.sort_unstable();
    numbers
}

/// Compression is off, as in raft-engine's example: no other log has it.
fn open(dir: &Path, shape: Shape) -> Engine {
    let config = Config {
        dir: dir.to_str().expect("a directory in UTF-8").to_owned(),
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(shape.segment),
        purge_threshold: ReadableSize(2 * shape.segment),
        ..Config::default()
    };
    Engine::open(config).expect("open raft-engine")
}
