//! A write-ahead log in preallocated, memory-mapped segments.
#![deny(unsafe_code)]
// The models of `tests/loom.rs` are made of the modules that they drive.
#![cfg(not(loom))]

mod chain;
mod commit;
mod cursor;
mod error;
mod follow;
mod format;
mod log;
mod lsn;
#[allow(unsafe_code)]
mod map;
mod open;
mod options;
mod prepare;
mod recover;
mod ring;
mod roll;
mod salvage;
mod scan;
mod segment;
mod storage;
mod sync;
#[allow(unsafe_code)]
mod sys;
mod tail;
mod truncate;
mod wait;
mod wal;

pub use cursor::{Backwards, OwnedRecord, Reader, Record, Records};
pub use error::{Damage, Error, Result};
pub use follow::Follower;
pub use lsn::Lsn;
pub use options::Options;
pub use recover::{Ended, Recovery, SegmentReport, Verify};
pub use salvage::{Salvaged, Skipped};
pub use storage::FlushMethod;
pub use wal::{Stats, Wal};

/// A simulated disk, to crash a log on at any point, and the engine around it.
pub mod sim {
    pub use crate::storage::Disk;
}
