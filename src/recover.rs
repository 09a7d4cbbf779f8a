//! From a directory to a log: which segments count, where the tail is, and
//! whether anything that had been durable is gone. Reads, decides, changes
//! nothing.

use std::path::PathBuf;

use crate::error::{Damage, Result};
use crate::format::SegmentHeader;
use crate::lsn::{Lsn, SegmentSize};
use crate::scan::Place;
use crate::storage::Storage;

/// How much opening verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Verify {
    /// Every frame of every segment.
    #[default]
    All,
    /// The last segment, and all that the log cannot prove to have been durable.
    /// Damage before that is found when it is read.
    Tail,
}

/// A segment that the log counts.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) header: SegmentHeader,
    pub(crate) first_sequence: u64,
    /// The epoch its begin names.
    pub(crate) first_epoch: u32,
    /// The epoch in force at `end`; for a segment that was not walked, its
    /// successor's.
    pub(crate) last_epoch: u32,
    /// The batch boundary where it ends: where the successor's begin says, or for
    /// the last one where the walk stopped.
    pub(crate) end: Place,
}

/// Where the next frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// At the end of the last link.
    There,
    /// The last link is sealed: a begin goes to this spare, which it names.
    Spare(u64),
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) size: SegmentSize,
    pub(crate) uuid: [u8; 16],
    /// Oldest first: from the one that holds the head on. Never empty.
    pub(crate) links: Vec<Link>,
    pub(crate) next: Next,
    pub(crate) head: Lsn,
    /// Everything below was durable before; from here to the tail it is stored
    /// again. In a link.
    pub(crate) proved: Lsn,
    /// The highest epoch in any intact frame, live or dead.
    pub(crate) epoch: u32,
    /// One-slot files without a begin, above the last link: index and salt, in order.
    pub(crate) spares: Vec<(u64, u64)>,
    /// Names that nothing counts: to be removed.
    pub(crate) dead: Vec<String>,
    /// The first index that no file has had.
    pub(crate) next_index: u64,
    pub(crate) report: Recovery,
}

/// What opening a log found: [`Wal::recovery`](crate::Wal::recovery).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovery {
    /// How the log ended.
    pub ended: Ended,
    /// The segments of the log, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Files that no part of the log counted, and that were removed.
    pub removed: Vec<PathBuf>,
    /// The head: records below are given up.
    pub head: Lsn,
    /// The tail: where the next record went.
    pub tail: Lsn,
    /// Everything below had been durable, as the log itself could prove.
    pub proved: Lsn,
    /// The epoch that this opening began: 1 for a new log, and one more each time.
    pub epoch: u32,
}

/// How a log ended that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// There was none: it was created.
    Created,
    /// It had been closed.
    Closed,
    /// Behind the last frame nothing was written: the process ended without
    /// closing, and no write was cut short.
    Unclosed,
    /// Something unreadable, which had never been promised, stood behind the last
    /// frame: the crash cut a write short. It was given up.
    Torn {
        /// The file.
        path: PathBuf,
        /// The byte in the file where reading stopped.
        at: u64,
        /// What was wrong there.
        damage: Damage,
        /// The bytes at the tail, as far as the new epoch's first frame overwrites
        /// them.
        overwritten: Vec<u8>,
    },
}

/// One segment, as opening found it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// The sequence number of its first record.
    pub first_sequence: u64,
    /// Its records, abandoned ones included.
    pub records: u64,
    /// The bytes of its header and frames.
    pub bytes: u64,
    /// Whether every frame was verified on opening.
    pub verified: bool,
}

/// Reads the directory. `None`: there is no log in it yet (no segment at all, or
/// only the first one without its begin; then `dead` of the result of
/// [`leftovers`] says what to remove).
pub(crate) fn recover(storage: &dyn Storage, verify: Verify) -> Result<Option<Found>> {
    let _ = (storage, verify);
    unimplemented!()
}
