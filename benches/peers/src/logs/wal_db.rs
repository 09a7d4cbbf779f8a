//! wal-db: lock-free claims of offsets, one positioned write a record, one shared
//! fdatasync for those who wait. In one file, and in segments of one byte stream.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_db::{Lsn, SegmentedStore, Wal, WalStore};

use crate::log::{About, Log, Shape};

/// wal-db in a single file, which nothing can be cut from the front of.
pub struct WalDb(Wal);

impl Log for WalDb {
    const ABOUT: About = About {
        name: "wal-db",
        appended: "page cache: one pwrite",
        synced: "fdatasync of the file, shared",
    };

    fn open(dir: &Path, _: Shape) -> Self {
        Self(Wal::open(dir.join("log.wal")).expect("open wal-db"))
    }

    fn append(&self, record: &[u8]) {
        let _ = self.0.append(record).expect("append to wal-db");
    }

    fn sync(&self) {
        self.0.sync().expect("sync wal-db");
    }

    fn commit(&self, record: &[u8]) {
        let _ = self.0.append_and_sync(record).expect("commit to wal-db");
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        visit_all(&Self::open(dir, shape).0, visit);
        true
    }
}

/// wal-db in segments. It keeps every segment it has written to open: as many
/// descriptors as segments.
pub struct WalDbSegmented {
    wal: Wal<SegmentedStore>,
    /// Where a late record begins. Only `truncate` reads it, and any record will do.
    last: AtomicU64,
}

impl WalDbSegmented {
    fn keep(&self, lsn: Lsn) {
        self.last.store(lsn.get(), Ordering::Relaxed);
    }
}

impl Log for WalDbSegmented {
    const ABOUT: About = About {
        name: "wal-db, segmented",
        appended: "page cache: one pwrite, two across a boundary",
        synced: "fdatasync of each segment written since, shared",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        Self {
            wal: Wal::open_segmented(dir, shape.segment).expect("open wal-db"),
            last: AtomicU64::new(0),
        }
    }

    fn append(&self, record: &[u8]) {
        self.keep(self.wal.append(record).expect("append to wal-db"));
    }

    fn sync(&self) {
        self.wal.sync().expect("sync wal-db");
    }

    fn commit(&self, record: &[u8]) {
        self.keep(self.wal.append_and_sync(record).expect("commit to wal-db"));
    }

    fn truncate(&self) -> bool {
        let last = Lsn::new(self.last.load(Ordering::Relaxed));
        let _ = self.wal.truncate_before(last).expect("truncate wal-db");
        true
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        visit_all(&Self::open(dir, shape).wal, visit);
        true
    }
}

fn visit_all<S: WalStore>(wal: &Wal<S>, visit: &mut dyn FnMut(&[u8])) {
    for record in wal.iter().expect("read wal-db") {
        visit(record.expect("a whole record").data());
    }
}
