//! A write-ahead log in preallocated, memory-mapped segments: for storage engines.
//!
//! [`Wal`] is the log. [`append`](Wal::append) puts a record into the mapping, at memory
//! speed and from any thread; [`sync`](Wal::sync) makes durable what was appended; and
//! [`commit`](Wal::commit) does both. A [`Reader`] hands out records where they lie, a
//! [`Follower`] waits for those to come, a [`Watch`] does so from another process. Opening
//! recovers whatever a crash left, and says what that was: [`Recovery`].
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("mapwal-doc-{}", std::process::id()));
//! use mapwal::Wal;
//!
//! let wal = Wal::open(&dir)?;
//! let lsn = wal.append(b"a change")?;
//! wal.sync()?; // it survives a power cut now
//! drop(wal);
//!
//! let wal = Wal::open(&dir)?;
//! for record in wal.reader().iter() {
//!     let record = record?;
//!     assert_eq!((record.lsn(), record.sequence(), record.data()), (lsn, 1, &b"a change"[..]));
//! }
//! # std::fs::remove_dir_all(dir).unwrap();
//! # Ok::<(), mapwal::Error>(())
//! ```
//!
//! # Features
//!
//! - `sim`: a simulated disk to crash a log on, and an engine built on it: for tests.
//! - `fast-crc`: appends of 64 B to 1 KiB are checked in less time on x86-64; the bytes on disk
//!   are the same.
//!
//! In the repository, `docs/guarantees.md` says what is promised, and on what that rests;
//! `docs/format.md` specifies every byte on disk; `docs/design.md` says why it is right.
#![deny(unsafe_code)]
// The models of `tests/loom.rs` are made of the modules that they drive.
#![cfg(not(loom))]

mod batch;
mod chain;
mod commit;
mod cursor;
mod entry;
mod error;
mod find;
mod flush;
mod follow;
mod format;
mod large;
mod log;
mod look;
mod lsn;
#[allow(unsafe_code)]
mod map;
mod open;
mod options;
mod pace;
mod prepare;
mod progress;
mod reader;
mod record;
mod recover;
mod ring;
mod roll;
mod salvage;
mod scan;
mod seek;
mod segment;
mod stats;
mod storage;
mod sync;
#[allow(unsafe_code)]
mod sys;
mod tail;
mod trail;
mod truncate;
mod wait;
mod wal;
mod watch;
mod worker;

pub use batch::Batch;
pub use error::{Damage, Error, Result};
pub use follow::Follower;
pub use lsn::Lsn;
pub use options::Options;
pub use progress::Progress;
pub use reader::{Backwards, Reader, Records};
pub use record::{OwnedRecord, Record};
pub use recover::{Ended, Recovery, SegmentReport, Verify};
pub use salvage::{Flow, Salvaged, Skipped};
pub use stats::Stats;
pub use storage::FlushMethod;
pub use wal::Wal;
pub use watch::{Watch, Watched};

/// A simulated disk, to crash a log on at any point, and the engine around it: files of the
/// engine's own are not modelled.
///
/// It models what a mapped log meets: what is stored is in the cache; what was flushed is on
/// disk; of the rest a power cut keeps any part, torn at sectors, in any order, and of names
/// that were not synced any. Flushes fail once and succeed afterwards though the pages were
/// dropped; a disk is full; sectors cannot be read; the device is gone. `examples/` has an
/// engine that is crashed on it: `crash_your_engine`.
///
/// ```
/// use mapwal::{Options, sim::Disk};
///
/// let disk = Disk::new();
/// let wal = Options::new().segment_size(64 << 10).open_on(&disk)?;
/// wal.commit(b"durable")?;
/// wal.append(b"perhaps")?;
/// disk.lose();
/// drop(wal);
/// for seed in 0..100 {
///     let wal = Options::new().open_on(&disk.crash(seed))?;
///     let reader = wal.reader();
///     let first = reader.iter().next().expect("it was durable")?;
///     assert_eq!(first.data(), b"durable");
/// }
/// # Ok::<(), mapwal::Error>(())
/// ```
#[cfg(feature = "sim")]
pub mod sim {
    pub use crate::storage::Disk;
}

/// The example of the README compiles, and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
