//! walrus, on its mmap backend: topics of 10 MiB blocks in sparse files of 1000 MiB.
//!
//! Whether an append is durable is chosen at the opening, so there are two: one that never
//! flushes an append, one that flushes each. Segments cannot be chosen, nor can anything be
//! given up on demand: what was read goes after a thousand rounds of a background thread
//! that sleeps 5 s or more.
//!
//! Each opening costs its process one thread and the maps of all files, for ever: a file
//! that is removed keeps its room until then. A process should open few.

use std::path::Path;
use std::sync::{Mutex, RwLock};

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus as Wal, disable_fd_backend};

use crate::log::{About, Log, Shape};

/// Short, as walrus keeps it in the 64 bytes before each record.
const TOPIC: &str = "log";

/// With what `batch_append_for_topic` does: it flushes in any schedule. While it
/// runs walrus turns all appends away, so who syncs locks the others out.
pub struct Walrus(RwLock<Wal>);

impl Log for Walrus {
    const ABOUT: About = About {
        name: "walrus",
        appended: "the map; at every 10 MiB an msync of the whole file",
        synced: "an empty record in a batch of one: msync of the whole file, under a lock",
    };

    fn open(dir: &Path, _: Shape) -> Self {
        Self(RwLock::new(open(dir, FsyncSchedule::NoFsync)))
    }

    fn append(&self, record: &[u8]) {
        append(&self.0.read().unwrap(), record);
    }

    fn append_alone(&mut self, record: &[u8]) {
        append(self.0.get_mut().unwrap(), record);
    }

    fn sync(&self) {
        self.commit(&[]);
    }

    #[expect(clippy::readonly_write_lock, reason = "walrus turns away who comes meanwhile")]
    fn commit(&self, record: &[u8]) {
        let wal = self.0.write().unwrap();
        wal.batch_append_for_topic(TOPIC, &[record]).expect("commit to walrus");
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        visit_all(dir, shape, visit)
    }
}

pub struct WalrusSyncEach(Wal);

impl Log for WalrusSyncEach {
    const ABOUT: About = About {
        name: "walrus, sync each",
        appended: "the disk: msync of the whole file in every append, under its lock",
        synced: "nothing: every append did",
    };

    fn open(dir: &Path, _: Shape) -> Self {
        Self(open(dir, FsyncSchedule::SyncEach))
    }

    fn append(&self, record: &[u8]) {
        append(&self.0, record);
    }

    fn sync(&self) {}

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        visit_all(dir, shape, visit)
    }
}

fn append(wal: &Wal, record: &[u8]) {
    wal.append_for_topic(TOPIC, record).expect("append to walrus");
}

/// The reader's place is never persisted, so that a replay can be repeated.
fn open(dir: &Path, schedule: FsyncSchedule) -> Wal {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    disable_fd_backend();
    // SAFETY: all that reads the environment here does it through the standard library.
    // walrus has no other way to be told a directory; quiet, it does not print each append.
    unsafe {
        std::env::set_var("WALRUS_DATA_DIR", dir);
        std::env::set_var("WALRUS_QUIET", "1");
    }
    let never = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Wal::with_consistency_and_schedule(never, schedule).expect("open walrus")
}

/// A batch holds 2,000 records at most, and what is read for more is read in vain.
fn visit_all(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
    const HEAD: usize = 64;
    let bytes = (2000 * (HEAD + shape.record)).min(1024 * 1024);
    let wal = open(dir, FsyncSchedule::NoFsync);
    loop {
        let batch = wal.batch_read_for_topic(TOPIC, bytes, true);
        let batch = batch.expect("read walrus");
        if batch.is_empty() {
            return true;
        }
        let records = batch.iter().filter(|entry| !entry.data.is_empty()); // no syncs
        records.for_each(|entry| visit(&entry.data));
    }
}
