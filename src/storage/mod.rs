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

mod file;
mod mapped;
mod memory;
#[cfg(feature = "sim")]
mod simulated;

pub(crate) use file::Directory;
pub(crate) use mapped::{length, pieces};
pub(crate) use memory::Memory;
#[cfg(feature = "sim")]
pub use simulated::Disk;

/// How a range of a segment is made durable. Both are the same barrier on Linux;
/// elsewhere the platform decides, and this changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FlushMethod {
    /// `msync` of the pages of the range: leaves pages that are prepared ahead
    /// alone.
    #[default]
    Range,
    /// `fdatasync` of the file: writes whatever pages of it are dirty.
    File,
}

/// A directory of named regions.
pub(crate) trait Storage: Debug + Send + Sync {
    /// The name as users know it, for messages; of nothing, the directory's own.
    fn path(&self, name: &str) -> PathBuf;

    /// Makes the directory if it is not there, durably, and locks it against other
    /// writers until what is returned is dropped. `WouldBlock`: it is locked.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The files there are, in any order, with their lengths in bytes. A directory
    /// that is not there has none.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Makes a file of `len` bytes and maps it for writing. Its length is durable, its
    /// blocks are its own, and it reads as zeros, after a power cut, too, but for what
    /// is stored in it; its name is not durable. Replaces a file of that name. If it
    /// fails, nothing is left of it.
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>>;

    /// Maps a file that is there for `access`. For writing,
    /// its blocks are allocated first where it is sparse. `WouldBlock`: it is
    /// being recycled.
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

    /// Whether several threads may look into its files at once. If not, one does, so that the
    /// calls come in the same order each time.
    fn is_read_at_once(&self) -> bool {
        true
    }
}

/// What a region is mapped for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// To look through it once: it can be loaded.
    Read,
    /// To read in it as long as someone likes, without an open file where the
    /// platform can do without: it cannot be loaded.
    View,
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
    /// neither a fault nor a signal. Only where nothing of value is and nobody
    /// else reads or writes: may zero `range`, and does where the platform has
    /// no other way.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;

    /// Has the pages of `range` present for who is about to read them in order, where the
    /// platform can: in one call, instead of a fault every few.
    fn read_ahead(&self, _range: Range<u64>) {}

    /// Gives back the memory that the mapping holds; what is in it stays, in the page
    /// cache.
    fn unload(&self) {}

    /// Spares the next store to `range` the fault that a flush leaves behind,
    /// where the platform can. Changes nothing, whoever uses `range` meanwhile.
    fn rearm(&self, _range: Range<u64>) {}

    /// Reads the pages of `range` in, so that bad media is an error here and not a
    /// signal later.
    fn load(&self, range: Range<u64>) -> io::Result<()>;

    /// Copies the bytes from `at` on, of a file that somebody may be writing elsewhere. Not
    /// for [`Access::View`].
    fn copy(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        bytes.copy_from_slice(self.map().published(at..at + bytes.len() as u64));
        Ok(())
    }

    /// Stores the bytes of `range` again, so that their pages are dirty: a kernel
    /// that failed to write them believes them clean. Only while there are no
    /// writers.
    fn touch(&self, range: Range<u64>) {
        self.map().touch(range);
    }

    /// Whether this is the only region of the file, in any process. If so, nobody
    /// can open it (`WouldBlock`) before [`share`](Self::share): whoever opens it
    /// then finds what was written meanwhile. Regions count, so what was read of
    /// a file must hold its region, not its map alone.
    fn is_unshared(&self) -> io::Result<bool>;

    /// Lets others open the file again after [`is_unshared`](Self::is_unshared).
    fn share(&self) -> io::Result<()> {
        Ok(())
    }
}
