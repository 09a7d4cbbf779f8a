//! The log as its user sees it.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crate::cursor::Start;
use crate::error::{Error, Result};
use crate::follow::Follower;
use crate::format::{self, Kind, Reason};
use crate::log::{Log, Purpose};
use crate::look;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::reader::{Reader, Records};
use crate::record::{OwnedRecord, Record};
use crate::recover::Recovery;
use crate::salvage::{self, Salvaged};
use crate::segment::{self, Building};
#[cfg(feature = "sim")]
use crate::storage::Disk;
use crate::storage::{Directory, Memory, Storage};
use crate::sync::{Arc, Ordering, lock};
use crate::watch::Watch;

/// A write-ahead log, open for writing.
///
/// All methods take `&self`: share it between threads by reference or in an
/// [`Arc`](std::sync::Arc). [`append`](Wal::append) and [`sync`](Wal::sync) are two
/// steps: an appended record is readable at once and survives the death of the
/// process, a synced one survives a power cut.
///
/// Dropped, the log is closed as by [`close`](Wal::close), but nobody learns whether
/// that succeeded.
#[derive(Debug)]
pub struct Wal {
    log: Arc<Log>,
    worker: Option<JoinHandle<()>>,
}

/// What the log has done since it was opened, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Appends that came to the end of what was made ready ahead of them, and made more
    /// ready themselves: 64 KiB each time, in some microseconds.
    pub overtaken: u64,
    /// Times that the log went on to another segment, the first included.
    pub rolls: u64,
    /// Ranges flushed.
    pub flushes: u64,
    /// Spare segments made of new files.
    pub made: u64,
    /// Spare segments made of retired ones.
    pub recycled: u64,
    /// Bytes of all the log's files.
    pub size: u64,
}

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
    /// [`Recovery::removed`] what it would remove.
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
    /// said: try again.
    pub fn inspect(self, directory: impl AsRef<Path>) -> Result<Option<Recovery>> {
        let path = absolute(directory.as_ref())?;
        std::fs::read_dir(&path).map_err(|e| Error::io("read the directory", &path, e))?;
        Ok(look::look(&Directory::new(&path, self.flush_method), self.verify)?.report())
    }

    /// The same on a simulated disk, which nobody may be writing.
    #[cfg(feature = "sim")]
    pub fn inspect_on(self, disk: &Disk) -> Result<Option<Recovery>> {
        Ok(crate::recover::recover(disk, self.verify)?.report())
    }

    /// Follows a log that another process writes, from `from` on, or from the head with
    /// [`Lsn::NONE`]: hands out what is there, and then every record as it comes. Nothing of
    /// the options matters. Within the writing process, [`Wal::follow`] does so without
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
        let path = absolute(directory.as_ref())?;
        std::fs::read_dir(&path).map_err(|e| Error::io("read the directory", &path, e))?;
        Ok(Watch::new(Box::new(Directory::new(&path, self.flush_method)), from))
    }

    /// Hands over what is intact in a directory that [`open`](Self::open) refuses: calls
    /// `visit` for every intact record in the order of the log, with its place, its
    /// sequence number where that is known, and its bytes. Batches are whole or left
    /// out. Returns what was skipped, and why.
    ///
    /// Changes nothing, and takes no lock: nobody may write the log meanwhile. Records
    /// that were truncated away may be among those handed over where too little of the
    /// log is intact to tell.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory is not there, or cannot be read. A file that cannot
    /// is skipped.
    pub fn salvage(
        self,
        directory: impl AsRef<Path>,
        mut visit: impl FnMut(Lsn, Option<u64>, &[u8]),
    ) -> Result<Salvaged> {
        let path = absolute(directory.as_ref())?;
        std::fs::read_dir(&path).map_err(|e| Error::io("read the directory", &path, e))?;
        salvage::salvage(&Directory::new(&path, self.flush_method), &mut visit)
    }

    /// The same on a simulated disk.
    #[cfg(feature = "sim")]
    pub fn salvage_on(
        self,
        disk: &Disk,
        mut visit: impl FnMut(Lsn, Option<u64>, &[u8]),
    ) -> Result<Salvaged> {
        salvage::salvage(disk, &mut visit)
    }

    fn open_in(self, storage: Box<dyn Storage>) -> Result<Wal> {
        let log = Arc::new(Log::open(storage, self)?);
        let working = log.clone();
        let worker = thread::Builder::new()
            .name("mapwal".into())
            .spawn(move || working.worker.run(&working))
            .map_err(|e| Error::io("start the background thread of", &log.path(""), e))?;
        Ok(Wal { log, worker: Some(worker) })
    }
}

/// The same directory wherever the process goes.
fn absolute(directory: &Path) -> Result<PathBuf> {
    std::path::absolute(directory).map_err(|e| Error::io("find the directory", directory, e))
}

impl Wal {
    /// Opens the log in this directory with default [`Options`], or creates it.
    ///
    /// # Errors
    ///
    /// See [`Options::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Wal> {
        Options::new().open(directory)
    }

    /// A new log in memory with default [`Options`]: see [`Options::in_memory`].
    pub fn in_memory() -> Result<Wal> {
        Options::new().in_memory()
    }

    /// Adds a record and returns where it is.
    ///
    /// On return the record is in the mapping: it survives the death of the process; a
    /// power cut it survives after [`sync`](Self::sync). It is readable at once, unless
    /// another thread is in the middle of an append before it: then when that ends, and
    /// if the process dies before, it is given up with that one. Costs one atomic
    /// addition, one checksum and one copy: no lock, no allocation, no system call, as
    /// long as segments are prepared as fast as they fill.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::LogFull`] and a full disk ([`Error::is_full`]),
    /// after which appending goes on once there is room; [`Error::Io`] if another segment
    /// could not be made for another reason; [`Error::OutOfPlaces`];
    /// [`Error::FlushFailed`] for ever after a failed flush; [`Error::InsideAppend`] where
    /// it would have to go on to another segment inside a closure. The record is then
    /// not in the log.
    #[inline]
    pub fn append(&self, record: &[u8]) -> Result<Lsn> {
        let size = self.frame_size(record.len())?;
        self.log.append(size, 1, |claim, stamp| {
            let seed = claim.seed();
            segment::put(claim, stamp, Kind::Record, seed, record)
        })
    }

    /// Adds a record of `len` bytes that `build` writes in place, all zero at first.
    ///
    /// While `build` runs, records of others behind this one are readable only after
    /// it, and none of them becomes durable: it should be short. If it panics, the
    /// record's number stays without a record, and the panic goes on. Inside it,
    /// whatever would wait for its end returns [`Error::InsideAppend`].
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); `build` is then not called.
    pub fn append_with(&self, len: usize, build: impl FnOnce(&mut [u8])) -> Result<Lsn> {
        let size = self.frame_size(len)?;
        self.log.append(size, 1, |claim, stamp| {
            let mut building = Building::new(claim, stamp, len);
            let _inside = self.log.enter_closure();
            build(building.bytes_mut());
            building.finish()
        })
    }

    /// Adds records that belong together: after a crash all of them are in the log,
    /// or none. Returns where the last one is: when that is durable, all are.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), with [`Error::TooLarge`] also for a batch of nearly
    /// 4 GiB; [`Error::EmptyBatch`]. None of the records is then in the log.
    pub fn append_batch(&self, records: &[&[u8]]) -> Result<Lsn> {
        // a little less than 2^28 of the smallest frames, which are counted in 28 bits
        const MAX_BATCH: u64 = if usize::BITS < 64 { 1 << 30 } else { (4 << 30) - 4096 };
        if records.is_empty() {
            return Err(Error::EmptyBatch);
        }
        let mut size = 0u64;
        for record in records {
            size += self.frame_size(record.len())?;
        }
        if size > MAX_BATCH {
            return Err(Error::TooLarge { len: size, max: MAX_BATCH });
        }
        self.log.append(size, records.len() as u32, |claim, stamp| {
            segment::put_batch(claim, stamp, records)
        })
    }

    /// The size of a record's frame, or that it is too large.
    #[inline]
    fn frame_size(&self, len: usize) -> Result<u64> {
        let max = self.log.options.max_record_size;
        if len > max {
            return Err(Error::TooLarge { len: len as u64, max: max as u64 });
        }
        Ok(format::frame_size(len))
    }

    /// Adds a record and waits until it is durable, and with it every record before.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), and then the record is not in the log; but after
    /// [`Error::FlushFailed`] it may be there, or not, when the log is opened again.
    /// [`Error::CutAway`] if it was cut away meanwhile.
    pub fn commit(&self, record: &[u8]) -> Result<Lsn> {
        self.log.check_outside_closure()?;
        let lsn = self.append(record)?;
        self.wait_for(lsn)?;
        Ok(lsn)
    }

    /// Makes everything durable that was appended before, by any thread; waits for
    /// appends that are in the middle. Returns the durable LSN, which is above all of
    /// it.
    ///
    /// Concurrent calls share flushes: nobody waits for more than the flush under way
    /// and the next one, which may first wait for callers whom the last one let go: at
    /// most eight times as long as that took, and only as long as they keep coming.
    ///
    /// # Errors
    ///
    /// [`Error::FlushFailed`], now and ever after; [`Error::InsideAppend`].
    pub fn sync(&self) -> Result<Lsn> {
        self.log.wait_tail_durable()?;
        Ok(self.durable_lsn())
    }

    /// Makes the record at `lsn` durable, the rest of its batch, and every record
    /// before.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync); [`Error::OutOfLog`] if nothing was appended there yet;
    /// [`Error::NotARecord`] if no frame begins there; [`Error::CutAway`] if the record was,
    /// before or meanwhile. For a record below the head, waits until that is durably given up.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.log.check_outside_closure()?;
        let given_up = {
            let chain = &mut *lock(&self.log.chain);
            match self.log.find(chain, lsn) {
                // until the head is durable, a crash brings the record back, or loses it
                Err(Error::Truncated { .. }) => Some(chain.head_named),
                found => {
                    found?;
                    let next = self.log.tail(chain);
                    if lsn >= next {
                        return Err(Error::OutOfLog { lsn, first: chain.head, next });
                    }
                    None
                }
            }
        };
        match given_up {
            Some(head_named) => self.log.wait_durable(head_named),
            None => {
                self.log.wait_for_neighbours(lsn)?;
                use Error::{CutAway, NotARecord, OutOfLog};
                match self.log.seek(Start::At(lsn)) {
                    Err(e @ (CutAway { .. } | NotARecord { .. } | OutOfLog { .. })) => Err(e),
                    _ => Ok(()), // durable, or given up since
                }
            }
        }
    }

    /// Waits until the record at `lsn` is durable. The mark stands on batch ends: past
    /// a record's beginning is past its batch.
    fn wait_for(&self, lsn: Lsn) -> Result<()> {
        self.log.wait_durable(lsn.0 + 1)?;
        // Relaxed: the mark that covers an LSN that was cut away was moved after this
        // was set, and seen before.
        if self.log.has_cuts.load(Ordering::Relaxed) && lock(&self.log.chain).is_cut_away(lsn) {
            return Err(Error::CutAway { lsn });
        }
        Ok(())
    }

    /// Everything below this place is durable. Costs a load.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.log.commit.durable())
    }

    /// The head: no record of the log is below it. The first record is there or further
    /// on.
    pub fn head_lsn(&self) -> Lsn {
        self.log.head()
    }

    /// The tail: above every record appended so far. The next record is there, or
    /// further on in another segment.
    pub fn next_lsn(&self) -> Lsn {
        self.log.next_lsn()
    }

    /// Goes on in another segment: what was appended before can then be given up
    /// whole. Nothing is flushed. A segment without records is left as it is.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), without [`Error::TooLarge`].
    pub fn rotate(&self) -> Result<()> {
        self.log.check_outside_closure()?;
        let active = self.log.ring.active();
        self.log.with_spares(Purpose::Records(active), |chain| {
            // somebody else's roll is as good, and an empty segment is as good as a new one
            if self.log.ring.active() == active && !self.log.is_empty(chain) {
                self.log.roll(chain)?;
            }
            Ok(())
        })
    }

    /// Gives up the records below `lsn`: a record's place, where no batch is divided,
    /// or [`next_lsn`](Self::next_lsn) for all of them. Files that hold nothing else are
    /// recycled, or removed.
    ///
    /// On return that is durable, and so are the records appended before that are kept;
    /// what is given up need not be flushed for it. A place at or below the head changes
    /// nothing, and makes nothing durable but that head. Where all of a long log is given
    /// up, it goes on in another segment: [`head_lsn`](Self::head_lsn) may be above `lsn`
    /// then. Works on a full disk and a full log. What readers hold stays readable.
    ///
    /// # Errors
    ///
    /// [`Error::NotARecord`], [`Error::InsideBatch`], [`Error::OutOfLog`],
    /// [`Error::CutAway`] for a place that is none of these; [`Error::FlushFailed`];
    /// [`Error::InsideAppend`]; [`Error::Io`] if a file could not be removed: the records
    /// are given up all the same, and the next truncation or opening tries again.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<()> {
        self.log.truncate_before(lsn)
    }

    /// Gives up every record behind the one at `lsn`, which becomes the last; the next
    /// one continues its sequence numbers. LSNs that were given up are not used again.
    ///
    /// On return that is durable, and so is the record at `lsn`. Appends under way in
    /// other threads may be lost with the rest: waiting for one returns
    /// [`Error::CutAway`]. What readers hold stays readable.
    ///
    /// # Errors
    ///
    /// [`Error::NotARecord`], [`Error::InsideBatch`] if more of the record's batch
    /// follows, [`Error::Truncated`], [`Error::OutOfLog`], [`Error::CutAway`]; a full
    /// disk; [`Error::FlushFailed`]; [`Error::InsideAppend`]; [`Error::Io`] if a file could
    /// not be removed, as for [`truncate_before`](Self::truncate_before).
    pub fn truncate_after(&self, lsn: Lsn) -> Result<()> {
        self.log.truncate_behind(lsn, false)
    }

    /// Gives up the record at `lsn` and every one behind it: as
    /// [`truncate_after`](Self::truncate_after), for who has no record to keep. The next
    /// record gets the number of the one at `lsn`, which may be the first of the log.
    ///
    /// # Errors
    ///
    /// As [`truncate_after`](Self::truncate_after); [`Error::InsideBatch`] if the
    /// record's batch begins before it.
    pub fn truncate_from(&self, lsn: Lsn) -> Result<()> {
        self.log.truncate_behind(lsn, true)
    }

    /// A reader: iterates over the log, forwards and backwards, without copying.
    pub fn reader(&self) -> Reader {
        Reader::new(self.log.clone())
    }

    /// A live tail from `lsn` on, which is where a record begins, or the tail.
    ///
    /// # Errors
    ///
    /// As [`Reader::from`].
    pub fn follow(&self, lsn: Lsn) -> Result<Follower> {
        Follower::new(self.log.clone(), lsn)
    }

    /// The record at `lsn`, verified, to keep. O(1), once its segment has been walked,
    /// which the first of such calls does (some ten milliseconds for 64 MiB of small
    /// records); costs two reference counts.
    ///
    /// # Errors
    ///
    /// [`Error::NotARecord`], [`Error::Abandoned`], [`Error::Truncated`],
    /// [`Error::CutAway`], [`Error::OutOfLog`]; [`Error::UnderWay`] if an append before it
    /// is in the middle; [`Error::Damaged`] if it is no longer intact; [`Error::Io`] if its
    /// file could not be mapped.
    pub fn read(&self, lsn: Lsn) -> Result<OwnedRecord> {
        self.log.read(lsn)
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.log.recovery
    }

    /// The size of a segment, in bytes: the log's own.
    pub fn segment_size(&self) -> u64 {
        self.log.size.bytes()
    }

    /// What the log has done since it was opened.
    pub fn stats(&self) -> Stats {
        let counters = &self.log.counters;
        let number = |counter: &crate::sync::AtomicU64| counter.load(Ordering::Relaxed); // for people
        Stats {
            overtaken: number(&counters.overtaken),
            rolls: number(&counters.rolls),
            flushes: number(&counters.flushes),
            made: number(&counters.made),
            recycled: number(&counters.recycled),
            size: lock(&self.log.chain).size(),
        }
    }

    /// Syncs and closes the log, so that the next opening knows that nothing was cut
    /// short, unless the last segment has no room left to say so.
    ///
    /// # Errors
    ///
    /// [`Error::FlushFailed`]; [`Error::InsideAppend`]. The log is closed all the same.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        self.log.worker.stop();
        let _ = worker.join(); // it makes its errors known where they matter
        let closed = self.log.close();
        lock(&self.log.recovered).clear();
        *lock(&self.log.guard) = None;
        closed
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Log {
    /// Ends the log for writing, and tells all who wait.
    fn close(&self) -> Result<()> {
        let closed = self.put_close();
        // Release pairs with the Acquire in `check_alive`.
        self.closed.store(true, Ordering::Release);
        self.ring.active_seat().slot.close();
        self.waiters.wake_all();
        closed
    }

    /// The last frame of this opening, once all before it is durable.
    fn put_close(&self) -> Result<()> {
        self.commit.check()?;
        self.wait_tail_durable()?;
        let closing = {
            let chain = &mut *lock(&self.chain);
            let tail = self.tail(chain);
            // A full reserve is no reason to fail: the next opening says "unclosed".
            if tail == Lsn(self.commit.durable()) {
                self.put_state(chain, Reason::Close, chain.head)?
            } else {
                None
            }
        };
        closing.map_or(Ok(()), |lsn| self.wait_durable(lsn.0 + 1))
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Wal>();
    shared::<Reader>();
    shared::<Follower>();
    shared::<OwnedRecord>();
    shared::<Record<'_>>();
    shared::<Records<'_>>();
    shared::<Error>();
};
