//! What can go wrong: what happened, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lsn::Lsn;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a log failed. Unless a variant says otherwise, the
/// operation changed nothing in the log and may be tried again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something. A full disk is one of these:
    /// [`is_full`](Error::is_full).
    #[error("cannot {action} {}", shown(.path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// Another process, or another handle of this one, has the log open for
    /// writing.
    #[error("{} is open for writing elsewhere: close it there first", .path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },

    /// A segment changed after it was durable: acknowledged records may be
    /// lost. Restore the file, or read what is intact with
    /// [`Options::salvage`](crate::Options::salvage).
    #[error("{} is damaged at byte {at}: {damage}; restore it, or salvage what is intact", .path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file.
        at: u64,
        /// In which way.
        damage: Damage,
    },

    /// A segment is gone that the log needs. Put it back, or read what is
    /// intact with [`Options::salvage`](crate::Options::salvage).
    #[error("{} is missing, and {} names it: put it back, or salvage what is intact", .path.display(), .named_by.display())]
    Missing {
        /// The file that should be there.
        path: PathBuf,
        /// The file that names it.
        named_by: PathBuf,
    },

    /// A segment was written by a newer version of this library.
    #[error("{} has format version {version}; this library reads up to {supported}: update it", .path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version it says it has.
        version: u32,
        /// The newest version this library reads.
        supported: u32,
    },

    /// Segments of two logs lie in the directory. Move away what is not this log's.
    #[error("{} and {} belong to different logs: move the files of one of them out of the directory", .path.display(), .other.display())]
    Foreign {
        /// A file of one of them.
        path: PathBuf,
        /// A file of the other.
        other: PathBuf,
    },

    /// An option has a value that it cannot have.
    #[error("{option} is {value}, but must be {reason}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: u64,
        /// What it must be.
        reason: &'static str,
    },

    /// A record, or a batch of them, is larger than the log takes.
    #[error("a record or batch of {len} bytes is too large: at most {max} bytes are taken")]
    TooLarge {
        /// The bytes given: of the record, or of all records of the batch.
        len: u64,
        /// The bytes that are taken: of one record, or of a batch of so many. It is the least
        /// of [`Options::max_record_size`](crate::Options::max_record_size) for each record,
        /// of what one file holds, which is nearly 4 GiB (1 GiB on 32-bit machines), and of
        /// what [`Options::max_log_size`](crate::Options::max_log_size) ever leaves room for.
        max: u64,
    },

    /// The log has reached [`Options::max_log_size`](crate::Options::max_log_size).
    /// Give up old records with [`truncate_before`](crate::Wal::truncate_before). What was
    /// refused may have ended its segment: then smaller records are refused, too.
    #[error(
        "the log is full: its files take {size} bytes of at most {max}, and {needed} more are needed; give up old records with truncate_before"
    )]
    LogFull {
        /// The bytes its files take.
        size: u64,
        /// The bytes that would be needed more.
        needed: u64,
        /// The bytes they may take.
        max: u64,
    },

    /// A flush failed, now or earlier, and what was written since the last good
    /// one may be lost. It is not tried again: every later append, and every sync of
    /// what is not durable yet, returns this error until the log is opened anew. A
    /// record whose `commit` returned it may be there then, or not.
    #[error("a flush failed: durable up to {durable}; reopen the log to learn what else survived")]
    FlushFailed {
        /// Every record below this place is durable.
        durable: Lsn,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// There is no record at this place.
    #[error("no record begins at {lsn}")]
    NotARecord {
        /// The place asked for.
        lsn: Lsn,
    },

    /// What was appended there cannot be read yet: an append before it, by another
    /// thread, is in the middle. Try again, or wait with
    /// [`sync_to`](crate::Wal::sync_to).
    #[error("an append before {lsn} is under way: what stands there cannot be read yet")]
    UnderWay {
        /// The place asked for.
        lsn: Lsn,
    },

    /// The place is outside the log.
    #[error("{lsn} is outside the log, which goes from {first} up to, not including, {next}")]
    OutOfLog {
        /// The place asked for.
        lsn: Lsn,
        /// The head: the first place of the log.
        first: Lsn,
        /// The tail: where the next record goes.
        next: Lsn,
    },

    /// No record has this sequence number.
    #[error(
        "no record has sequence number {sequence}: the log holds {first} up to, not including, {next}"
    )]
    NoSuchSequence {
        /// The number asked for.
        sequence: u64,
        /// The number of the first record.
        first: u64,
        /// The number that the next record gets.
        next: u64,
    },

    /// The record was given up by [`truncate_before`](crate::Wal::truncate_before).
    #[error("{lsn} is below the head of the log, {head}: it was truncated, or never there")]
    Truncated {
        /// The place asked for.
        lsn: Lsn,
        /// The first place of the log.
        head: Lsn,
    },

    /// The record was cut away by [`truncate_after`](crate::Wal::truncate_after) or
    /// [`truncate_from`](crate::Wal::truncate_from).
    #[error("{lsn} was cut away by a truncation")]
    CutAway {
        /// The place asked for.
        lsn: Lsn,
    },

    /// The place is inside a batch, which is kept or given up as a whole.
    #[error("{lsn} is inside a batch, which cannot be divided")]
    InsideBatch {
        /// The place asked for.
        lsn: Lsn,
    },

    /// The claim at this place was abandoned: its closure panicked, and there is
    /// no record.
    #[error("the append at {lsn} was abandoned: there is no record")]
    Abandoned {
        /// The place asked for.
        lsn: Lsn,
    },

    /// The log has used up its places: 2^64 bytes, epochs or records, or a record
    /// too large for all of them. Begin a new log.
    #[error("the log has used up its places: begin a new one")]
    OutOfPlaces,

    /// A batch without records was given.
    #[error("a batch needs at least one record")]
    EmptyBatch,

    /// Called inside the closure of [`append_with`](crate::Wal::append_with), where
    /// it would wait for that closure to end.
    #[error("not possible inside append_with's closure, which it would wait for")]
    InsideAppend,

    /// The log was closed; what was read of it stays readable.
    #[error("the log is closed")]
    Closed,

    /// Nothing came within the time given.
    #[error("no record came within the time given")]
    TimedOut,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the disk, or the log's own limit, is full: appending goes on
    /// once there is room.
    pub fn is_full(&self) -> bool {
        match self {
            Error::LogFull { .. } => true,
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// A path in a message: one that is empty can be seen, too.
fn shown(path: &Path) -> std::path::Display<'_> {
    let path = if path.as_os_str().is_empty() { Path::new("\"\"") } else { path };
    path.display()
}

/// In which way a place of a segment is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The segment's header does not have the right magic or checksum, or says what no
    /// header can.
    #[error("its header is not intact")]
    Header,
    /// The file covers a segment index that another file has.
    #[error("it covers an index that another file has")]
    Overlap,
    /// The header's index is not the one in the file's name.
    #[error("its header names another index than its file name")]
    Name,
    /// The file is too short to have a header, or shorter or longer than its header says.
    #[error("the file is too short for a header, or its length is not what its header says")]
    FileLength,
    /// The segment's first frame is gone, though it had been durable.
    #[error("its first frame is not intact")]
    Begin,
    /// The segment does not continue the one that it names as its predecessor.
    #[error("it does not continue the segment that it names")]
    Link,
    /// Nothing is written where something durable was.
    #[error("nothing is written where a durable record was")]
    Hole,
    /// The frame's length reaches out of the file.
    #[error("a frame's length reaches beyond the file")]
    Length,
    /// The frame is of no known kind.
    #[error("a frame is of no known kind")]
    Kind,
    /// The frame's checksum does not match.
    #[error("a frame's checksum does not match")]
    Check,
    /// The bytes behind a frame's payload are not zero.
    #[error("a frame's padding is not zero")]
    Padding,
    /// The frame counts wrongly.
    #[error("a frame counts another number of records before it")]
    Ordinal,
    /// The frame is of another epoch than the frames before it.
    #[error("a frame is of another epoch than those before it")]
    Epoch,
    /// The batch is not whole.
    #[error("a batch is not whole")]
    Batch,
    /// The head of the log, which a frame names, is inside a frame or a batch, or where none is.
    #[error("the log's head, {0}, is not between whole records and batches")]
    Head(Lsn),
    /// The frame says something that cannot stand there.
    #[error("a frame says what cannot stand there")]
    State,
}
