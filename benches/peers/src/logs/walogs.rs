//! walogs: one writer, and every append is on the disk when it returns.
//!
//! It has no append that does not wait, so `append` and `commit` are the same: what
//! it does where others only copy bytes is a flush a record.

use std::path::Path;
use std::sync::Mutex;

use walogs::{Lsn, Wal, WalConfig};

use crate::log::{About, Log, Shape};

pub struct Walogs(Mutex<Wal>);

impl Log for Walogs {
    const ABOUT: About = About {
        name: "walogs",
        appended: "the disk: write and fdatasync in every append",
        synced: "nothing: every append did",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        Self(Mutex::new(open(dir, shape)))
    }

    fn append(&self, record: &[u8]) {
        append(&mut self.0.lock().unwrap(), record);
    }

    fn append_alone(&mut self, record: &[u8]) {
        append(self.0.get_mut().unwrap(), record);
    }

    fn sync(&self) {}

    fn truncate(&self) -> bool {
        let mut wal = self.0.lock().unwrap();
        let before_last = wal.next_lsn().0.saturating_sub(2);
        wal.checkpoint(Lsn(before_last)).expect("checkpoint walogs");
        true
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        for entry in open(dir, shape).iter() {
            let (_, record) = entry.expect("a whole entry");
            visit(&record);
        }
        true
    }
}

fn open(dir: &Path, shape: Shape) -> Wal {
    let config = WalConfig { max_segment_size: Some(shape.segment) };
    Wal::open_with_config(dir, config).expect("open walogs")
}

fn append(wal: &mut Wal, record: &[u8]) {
    let _ = wal.append(record).expect("append to walogs");
}
