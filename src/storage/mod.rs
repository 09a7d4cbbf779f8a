//! The seam: everything that touches a file. Regions and flushes, never records.
//!
//! Behind it are real files, memory, and a simulated disk. The hot path touches
//! the maps of regions alone, so the seam costs nothing there.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::map::Map;
use crate::sync::Arc;

/// A directory of named regions.
pub(crate) trait Storage: Debug + Send + Sync {
    /// The name as users know it, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Makes the directory if it is not there, durably, and locks it against other
    /// writers until what is returned is dropped. `WouldBlock`: it is locked.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The files there are, in any order, with their lengths in bytes. A directory
    /// that is not there has none.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Makes a file of `len` bytes and maps it for writing. Its blocks are
    /// allocated, its bytes written as zeros, and both are durable; its name is
    /// not. Replaces a file of that name. If it fails, nothing is left of it.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>>;

    /// Maps a file that is there: for writing, or for reading alone. For writing,
    /// its blocks are allocated first where it is sparse.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn Region>>;

    /// Gives a file another name, replacing what has it. Not durable before
    /// [`sync_names`](Self::sync_names).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file's name away; those who map it keep it. Not durable before
    /// [`sync_names`](Self::sync_names).
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable as they are.
    fn sync_names(&self) -> io::Result<()>;

    /// Whether [`sync_names`](Self::sync_names) does anything here: if not, a
    /// missing last file may be a crash.
    fn names_are_durable(&self) -> bool;
}

/// What a region is mapped for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A file, mapped.
pub(crate) trait Region: Debug + Send + Sync {
    /// The mapping, as long as the file.
    fn map(&self) -> &Arc<Map>;

    /// Makes the bytes of `range` durable. `Ok`: they survive a power cut. Others
    /// may become durable too.
    fn flush(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes the pages of `range` present for writing, so that a store there is
    /// neither a fault nor a signal. Changes nothing.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;

    /// Reads the pages of `range` in, so that bad media is an error here and not a
    /// signal later.
    fn load(&self, range: Range<u64>) -> io::Result<()>;

    /// Whether this is the only mapping of the file, in any process. If so, nobody
    /// else may read what is written to it from now on without looking again.
    fn is_unshared(&self) -> io::Result<bool>;
}
