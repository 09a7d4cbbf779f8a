//! The ways in: from options and a directory to a log that is open, or to what can be said
//! of one without opening it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::look;
use crate::lsn::Lsn;
use crate::options::Options;
#[cfg(feature = "sim")]
use crate::recover;
use crate::recover::Recovery;
use crate::salvage::{self, Flow, Salvaged};
#[cfg(feature = "sim")]
use crate::storage::Disk;
use crate::storage::{Directory, Memory, Storage};
use crate::wal::Wal;
use crate::watch::Watch;

impl Options {
    /// Opens the log in this directory, or creates it.
    ///
    /// On return all that was recovered is durable, and so is the new epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if it is open for writing elsewhere; [`Error::Damaged`],
    /// [`Error::Missing`], [`Error::Foreign`] and
    /// [`Error::UnsupportedVersion`] for what lies in the directory, which is then
    /// left as it is; [`Error::OutOfPlaces`] for a log that was opened 2^32 times;
    /// [`Error::InvalidOption`]; [`Error::Io`].
    pub fn open(self, directory: impl AsRef<Path>) -> Result<Wal> {
        let directory = absolute(directory.as_ref())?;
        let method = self.flush_method;
        self.open_in(Box::new(Directory::new(&directory, method)))
    }

    /// A new log in memory: nothing outlives it. For tests. Takes as much memory as its
    /// files would take disk: a small [`segment_size`](Self::segment_size) goes well with
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`]; [`Error::Io`] where there is no memory.
    pub fn in_memory(self) -> Result<Wal> {
        self.open_in(Box::new(Memory::default()))
    }

    /// Opens the log on a simulated disk, or creates it there: for crash tests.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "sim")]
    pub fn open_on(self, disk: &Disk) -> Result<Wal> {
        self.open_in(Box::new(disk.clone()))
    }

    /// Says what [`open`](Self::open) would find in a directory, and changes nothing: `None`
    /// if there is no log. [`Recovery::epoch`] is the one that opening would begin,
    /// [`Recovery::removed`] what it would remove. Of the options,
    /// [`verify`](Self::verify) and [`on_progress`](Self::on_progress) count.
    ///
    /// Takes no lock of the log's, and never stands in a writer's way. Somebody may write the
    /// log meanwhile: then it says how the log was at some moment while it looked. What is
    /// wrong is looked at again after a pause, and told only if it is still so; so an error, or
    /// a torn end, takes twice as long. (Files that it reads at the moment are removed rather
    /// than recycled.)
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but never [`Error::Locked`]; [`Error::Io`] if the directory
    /// is not there, or if the log changed all the time in such a way that nothing could be
    /// said, or a file was being recycled at each of twenty looks: try again.
    pub fn inspect(self, directory: impl AsRef<Path>) -> Result<Option<Recovery>> {
        let directory = self.directory(directory.as_ref())?;
        Ok(look::look(&directory, self.verify, &self.listener)?.report())
    }

    /// The same on a simulated disk, which nobody may be writing.
    ///
    /// # Errors
    ///
    /// As [`open_on`](Self::open_on), but never [`Error::Locked`].
    #[cfg(feature = "sim")]
    pub fn inspect_on(self, disk: &Disk) -> Result<Option<Recovery>> {
        let nobody = recover::Writers::None;
        let found = recover::recover_while(nobody, disk, self.verify, &self.listener)?;
        Ok(found.report())
    }

    /// Follows a log that another process writes, from `from` on, or from the head with
    /// [`Lsn::NONE`]: hands out what is there, and then every record as it comes. None of
    /// the options counts. Within the writing process, [`Wal::follow`] does so without
    /// looking again and again.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("mapwal-watch-{}", std::process::id()));
    /// # let wal = mapwal::Wal::open(&dir)?;
    /// use std::time::Duration;
    ///
    /// use mapwal::{Lsn, Options};
    ///
    /// let mut watch = Options::new().watch(&dir, Lsn::NONE)?; // in another process
    /// wal.append(b"a change")?;
    /// let record = watch.next(Duration::from_secs(1))?.expect("it came");
    /// assert_eq!(record.data(), b"a change");
    /// # drop(wal);
    /// # std::fs::remove_dir_all(dir).unwrap();
    /// # Ok::<(), mapwal::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory is not there. One without a log is waited in until there
    /// is one, and a place behind the log's end until the log has grown beyond it.
    pub fn watch(self, directory: impl AsRef<Path>, from: Lsn) -> Result<Watch> {
        Ok(Watch::new(Box::new(self.directory(directory.as_ref())?), from))
    }

    /// The same on a simulated disk, which nobody may be writing.
    #[cfg(feature = "sim")]
    pub fn watch_on(self, disk: &Disk, from: Lsn) -> Watch {
        Watch::new(Box::new(disk.clone()), from)
    }

    /// Hands over what is intact in a directory that [`open`](Self::open) refuses: calls
    /// `visit` for every intact record in the order of the log, with its place, its
    /// sequence number where that is known, and its bytes. Batches are whole or left
    /// out. A file whose header or length is broken is read as far as other files say what its
    /// header did, and as far as it goes; one with so many broken frames that 64 times its size
    /// was read in vain is given up from there on. Returns what was skipped, and why. None of
    /// the options counts.
    ///
    /// `visit` returns nothing, or a [`ControlFlow`](std::ops::ControlFlow), with which it
    /// can end the work:
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("mapwal-salvage-{}", std::process::id()));
    /// # let wal = mapwal::Wal::open(&dir)?;
    /// # wal.append_batch(&[b"one", b"two", b"three"])?;
    /// # wal.close()?;
    /// use std::ops::ControlFlow::{Break, Continue};
    ///
    /// let mut first_two = Vec::new();
    /// let salvaged = mapwal::Options::new().salvage(&dir, |_, _, data| {
    ///     first_two.push(data.to_vec());
    ///     if first_two.len() < 2 { Continue(()) } else { Break(()) }
    /// })?;
    /// assert_eq!(first_two, [b"one".as_slice(), b"two"]);
    /// assert!(salvaged.was_ended);
    /// # std::fs::remove_dir_all(dir).unwrap();
    /// # Ok::<(), mapwal::Error>(())
    /// ```
    ///
    /// Changes nothing, and takes no lock: nobody may write the log meanwhile. Records
    /// that were truncated away may be among those handed over where too little of the
    /// log is intact to tell.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory is not there, or cannot be read. A file that cannot
    /// is skipped.
    pub fn salvage<R: Flow>(
        self,
        directory: impl AsRef<Path>,
        mut visit: impl FnMut(Lsn, Option<u64>, &[u8]) -> R,
    ) -> Result<Salvaged> {
        salvage::salvage(&self.directory(directory.as_ref())?, &mut visit)
    }

    /// The same on a simulated disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk cannot be listed. A file that cannot be read is skipped.
    #[cfg(feature = "sim")]
    pub fn salvage_on<R: Flow>(
        self,
        disk: &Disk,
        mut visit: impl FnMut(Lsn, Option<u64>, &[u8]) -> R,
    ) -> Result<Salvaged> {
        salvage::salvage(disk, &mut visit)
    }

    fn open_in(self, storage: Box<dyn Storage>) -> Result<Wal> {
        Wal::start(Log::open(storage, self)?)
    }

    /// A directory that is there, to be looked at.
    fn directory(&self, path: &Path) -> Result<Directory> {
        let path = absolute(path)?;
        std::fs::read_dir(&path).map_err(|e| Error::io("read the directory", &path, e))?;
        Ok(Directory::new(&path, self.flush_method))
    }
}

/// The same directory wherever the process goes.
fn absolute(directory: &Path) -> Result<PathBuf> {
    std::path::absolute(directory).map_err(|e| Error::io("find the directory", directory, e))
}
