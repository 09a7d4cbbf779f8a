//! The log as its user sees it.

use std::fmt;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::follow::Follower;
use crate::format::{self, ALIGN, Kind};
use crate::log::{Log, Purpose};
use crate::lsn::Lsn;
use crate::options::Options;
use crate::reader::{Reader, Records};
use crate::record::{OwnedRecord, Record};
use crate::recover::Recovery;
use crate::seek::Start;
use crate::segment::{self, Building};
use crate::stats::Stats;
use crate::sync::{Arc, Ordering, lock};

/// A write-ahead log, open for writing.
///
/// All methods take `&self`: share it between threads by reference or in an
/// [`Arc`](std::sync::Arc). [`append`](Wal::append) and [`sync`](Wal::sync) are two
/// steps: an appended record is readable at once and survives the death of the
/// process, a synced one survives a power cut.
///
/// Dropped, the log is closed as by [`close`](Wal::close), but nobody learns whether
/// that succeeded.
pub struct Wal {
    log: Arc<Log>,
    /// `None`: it was not asked for, or has ended.
    worker: Option<JoinHandle<()>>,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt_as("Wal", f)
    }
}

impl Wal {
    /// The log, and the thread that works for it in the background, if it is to have one.
    pub(crate) fn start(log: Log) -> Result<Wal> {
        let mut wal = Wal { log: Arc::new(log), worker: None };
        if wal.log.options.background {
            let working = wal.log.clone();
            let worker = thread::Builder::new()
                .name("mapwal".into())
                .spawn(move || working.worker.run(&working))
                .map_err(|e| Error::io("start the background thread of", &wal.log.path(""), e))?;
            wal.worker = Some(worker);
        } else {
            // nobody would later
            lock(&wal.log.recovered).clear();
            let _ = wal.log.remove_surplus(&lock(&wal.log.making)); // or they are used
        }
        Ok(wal)
    }

    /// Opens the log in this directory with default [`Options`], or creates it.
    ///
    /// # Errors
    ///
    /// See [`Options::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Wal> {
        Options::new().open(directory)
    }

    /// A new log in memory with default [`Options`]: what it takes is said at
    /// [`Options::in_memory`].
    ///
    /// # Errors
    ///
    /// See [`Options::in_memory`].
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
    /// or none. When one is durable, all are. Costs one [`append`](Self::append) of them all.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), with [`Error::TooLarge`] also for a batch that is
    /// larger than a file may be; [`Error::EmptyBatch`]. None of the records is then in
    /// the log.
    pub fn append_batch(&self, records: &[&[u8]]) -> Result<Batch> {
        let Some(last) = records.last() else { return Err(Error::EmptyBatch) };
        let (mut size, mut len) = (0, 0);
        for record in records {
            size += self.frame_size(record.len())?;
            len += record.len() as u64;
        }
        if size > self.log.largest_claim {
            // what its frames add: headers, but not padding, which records could fill
            let added = (size - len) / ALIGN * ALIGN;
            let max = self.log.largest_claim.saturating_sub(added);
            return Err(Error::TooLarge { len, max });
        }
        let first = self.log.append(size, records.len() as u32, |claim, stamp| {
            segment::put_batch(claim, stamp, records)
        })?;
        let last = Lsn(first.0 + size - format::frame_size(last.len()));
        Ok(Batch { first, last })
    }

    /// The size of a record's frame, or that it is too large.
    #[inline]
    fn frame_size(&self, len: usize) -> Result<u64> {
        let max = self.log.largest_record;
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
    /// before. For a place below the head, [`Lsn::NONE`] among them, waits until the head
    /// is durable: then the record is given up for good.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync); [`Error::OutOfLog`] if nothing was appended there yet;
    /// [`Error::NotARecord`] if no frame begins there; [`Error::CutAway`] if the record was,
    /// before or meanwhile.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        self.log.check_outside_closure()?;
        if let Some(head_named) = self.log.given_up(lsn)? {
            // until the head is durable, a crash brings the record back, or loses it
            return self.log.wait_durable(head_named);
        }
        self.log.wait_for_neighbours(lsn)?;
        use Error::{CutAway, NotARecord, OutOfLog};
        match self.log.seek(Start::At(lsn)) {
            Err(e @ (CutAway { .. } | NotARecord { .. } | OutOfLog { .. })) => Err(e),
            _ => Ok(()), // durable, or given up since
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
    ///
    /// Costs a lock that rolls and truncations hold for some microseconds.
    pub fn head_lsn(&self) -> Lsn {
        self.log.head()
    }

    /// The tail: above every record appended so far. The next record is there, or
    /// further on in another segment. Costs what [`head_lsn`](Self::head_lsn) does.
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

    /// A reader: iterates over the log, forwards and backwards, without copying. Costs a
    /// reference count; files are mapped when it comes to them.
    pub fn reader(&self) -> Reader {
        Reader::new(self.log.clone())
    }

    /// A live tail from `lsn` on, which is as for [`Reader::from`]. Costs what
    /// [`read`](Self::read) does.
    ///
    /// # Errors
    ///
    /// As [`Reader::from`].
    pub fn follow(&self, lsn: Lsn) -> Result<Follower> {
        Follower::new(self.log.clone(), lsn)
    }

    /// The record at `lsn`, verified, to keep. O(1), once its segment has been mapped and
    /// walked, which the first of such calls does (some ten milliseconds for 64 MiB of
    /// small records); costs two reference counts, and the lock of
    /// [`head_lsn`](Self::head_lsn).
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

    /// What the log has done since it was opened. Costs a few loads, and the lock of
    /// [`head_lsn`](Self::head_lsn), for a time that grows with the number of files: it
    /// adds up their sizes.
    pub fn stats(&self) -> Stats {
        self.log.counters.stats(lock(&self.log.chain).size())
    }

    /// Syncs and closes the log, so that the next opening knows that nothing was cut
    /// short, unless the last segment has no room left to say so.
    ///
    /// # Errors
    ///
    /// [`Error::FlushFailed`]. The log is closed all the same.
    pub fn close(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let guard = lock(&self.log.guard).take();
        if guard.is_none() {
            return Ok(()); // it has ended already
        }
        self.log.worker.stop();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join(); // it makes its errors known where they matter
        }
        let closed = self.log.close();
        // Who still reads asks where the log ends, and must not store to files of another opening.
        self.log.end_active(&mut lock(&self.log.chain));
        lock(&self.log.recovered).clear();
        drop(guard); // from here on another may open it
        closed
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        let _ = self.end();
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
