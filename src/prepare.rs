//! Space, prepared ahead: spares are made and recycled, and files that nothing counts go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::PathBuf;

use crate::chain::{Chain, Spare};
use crate::error::{Error, Result};
use crate::format::{self, FIRST_FRAME, SegmentHeader};
use crate::log::{Log, Purpose};
use crate::pace::Pace;
use crate::scan::Life;
use crate::segment::{Identity, Segment};
use crate::stats::count;
use crate::storage::{Region, pieces};
use crate::sync::{Arc, MutexGuard, lock};

/// Of files that are given up, how many times as many become spares as are made ahead: where
/// the log outruns its truncation, several are given up at once, and used soon.
const KEPT: usize = 2;

/// What is made present of a new file at a time, and what is flushed.
const PRESENT: usize = 1 << 20;
const FLUSHED: usize = 16 << 20;

/// A number that nobody can foretell: the standard library seeds its hash maps
/// from the system's generator.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Log {
    /// Makes one spare more, or finds that it need not: somebody else did. Its error
    /// is why there is none.
    pub(crate) fn make_spare(&self, purpose: Purpose) -> Result<()> {
        let making = lock(&self.making);
        let enough = |chain: &Chain| chain.spares.len() > purpose.held_back();
        if enough(&lock(&self.chain)) {
            return Ok(());
        }
        self.tidy(&making)?;
        if enough(&lock(&self.chain)) {
            return Ok(());
        }
        self.make_one(&making)
    }

    /// Makes a spare of a new file.
    pub(crate) fn make_one(&self, _making: &MutexGuard<'_, ()>) -> Result<()> {
        self.unload_old(false); // before the new file takes as much
        let index = {
            let mut chain = lock(&self.chain);
            self.check_size(&chain, self.size.bytes())?;
            self.take_index(&mut chain, 1)?
        };
        let spare = self.new_file(index, 1)?;
        count(&self.counters.made);
        let mut chain = lock(&self.chain);
        debug_assert!(chain.spares.back().is_none_or(|last| last.index < spare.index));
        chain.spares.push_back(spare);
        Ok(())
    }

    /// Whether `needed` bytes of files more fit in the log's limit.
    pub(crate) fn check_size(&self, chain: &Chain, needed: u64) -> Result<()> {
        let (size, max) = (chain.size(), self.options.max_log_size);
        if size.saturating_add(needed) > max {
            return Err(Error::LogFull { size, needed, max });
        }
        Ok(())
    }

    /// The index of a file that is to be made, of `slots` slots.
    pub(crate) fn take_index(&self, chain: &mut Chain, slots: u32) -> Result<u64> {
        let index = chain.next_index;
        let next = index.checked_add(slots as u64).filter(|&next| next <= self.size.max_index());
        chain.next_index = next.ok_or(Error::OutOfPlaces)?;
        Ok(index)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.storage.path(name)
    }

    /// What stays the same about the segment in the file with this index and salt.
    pub(crate) fn identity(
        &self,
        index: u64,
        slots: u32,
        salt: u64,
        first_sequence: u64,
    ) -> Identity {
        let life = Life { base: self.size.base(index), salt };
        Identity { index, slots, life, first_sequence, path: self.path(&format::file_name(index)) }
    }

    /// Makes a file of zeros with a header, all durable, its name included: first under
    /// another name, so that there is never a segment without its header.
    ///
    /// Its zeros are written to the device, so that a flush writes what it is asked to and
    /// nothing else. Where the log grows too fast for that, blocks stay its own but marked
    /// as unwritten: each flush has to tell the file system that some no longer are, but
    /// what fills the file is written once instead of twice.
    pub(crate) fn new_file(&self, index: u64, slots: u32) -> Result<Spare> {
        let salt = random();
        let temporary = format::temporary_name(index);
        let len = slots as u64 * self.size.bytes();
        let path = self.path(&temporary);
        let region: Arc<dyn Region> =
            self.storage.create(&temporary, len).map_err(|e| Error::io("create", &path, e))?.into();
        let made = self.make_pages(&*region).map_err(|e| Error::io("prepare", &path, e));
        let made = made.and_then(|ready| {
            self.give_name(index, slots, salt, &*region, &temporary)?;
            Ok(ready)
        });
        let ready = made.inspect_err(|_| self.remove_quietly(&[index]))?;
        Ok(Spare { index, salt, slots, region, zero_to: len, ready })
    }

    /// Makes the pages of a new file present, and its zeros durable if there is time for
    /// that. Returns how far a store finds them present afterwards: a flush takes that
    /// away. Appends go on meanwhile; if they overtake this, pages are made as they come.
    fn make_pages(&self, region: &dyn Region) -> io::Result<u64> {
        let len = region.map().len();
        let is_filled_at_once = len > self.size.bytes();
        for piece in pieces(0..len, PRESENT) {
            if !is_filled_at_once && self.worker.is(Pace::races) {
                return Ok(piece.start);
            }
            region.populate(piece)?;
            self.work_ahead();
        }
        let mut ready = len;
        for piece in pieces(0..len, FLUSHED) {
            if is_filled_at_once || self.worker.is(Pace::hurries) {
                break;
            }
            region.flush(piece)?;
            ready = 0;
            self.work_ahead();
        }
        Ok(ready)
    }

    /// Writes the header, then gives the file its name; both durable.
    fn give_name(
        &self,
        index: u64,
        slots: u32,
        salt: u64,
        region: &dyn Region,
        temporary: &str,
    ) -> Result<()> {
        let name = format::file_name(index);
        let path = self.path(&name);
        let segment_size = self.size.bytes();
        let header = SegmentHeader { uuid: self.uuid, index, segment_size, slots, salt };
        // a retired file's first page may not be there
        region.populate(0..FIRST_FRAME).map_err(|e| Error::io("prepare", &path, e))?;
        region.map().write(0, &header.encode());
        region.flush(0..FIRST_FRAME).map_err(|e| Error::io("flush the header of", &path, e))?;
        self.storage.rename(temporary, &name).map_err(|e| Error::io("name", &path, e))?;
        self.sync_names()
    }

    pub(crate) fn sync_names(&self) -> Result<()> {
        let synced = self.storage.sync_names();
        synced.map_err(|e| Error::io("sync the directory", &self.path(""), e))
    }

    /// Recycles or removes what is dead, oldest first, as far as nobody needs it.
    pub(crate) fn tidy(&self, _making: &MutexGuard<'_, ()>) -> Result<()> {
        let mut removed = false;
        loop {
            let (segment, wanted) = {
                let mut chain = lock(&self.chain);
                for segment in &chain.dead {
                    self.ring.release(segment);
                }
                // claims that are not published yet keep a segment
                let done = chain.dead.iter().position(|segment| !self.ring.uses(segment));
                let Some(done) = done else { break };
                let segment = chain.dead.remove(done);
                let spares = chain.spares.len();
                let wanted = spares < self.options.spares
                    || spares < KEPT * self.options.spares
                        && self.check_size(&chain, segment.len()).is_ok();
                (segment, wanted)
            };
            let recycled = if wanted { self.recycle(&segment) } else { Ok(false) };
            let gone = match recycled {
                Ok(true) => Ok(()),
                Ok(false) => {
                    removed = true;
                    self.remove(segment.path(), segment.id.index)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = gone {
                lock(&self.chain).dead.insert(0, segment);
                return Err(error);
            }
        }
        if removed { self.sync_names() } else { Ok(()) }
    }

    /// Removes the spares of an earlier opening that had more, or a higher limit.
    pub(crate) fn remove_surplus(&self, making: &MutexGuard<'_, ()>) -> Result<()> {
        let fits = self.check_size(&lock(&self.chain), 0).is_ok();
        self.remove_spares(if fits { KEPT } else { 1 } * self.options.spares, making)
    }

    /// Removes spares beyond so many, the last first. No frame names them.
    pub(crate) fn remove_spares(&self, kept: usize, _making: &MutexGuard<'_, ()>) -> Result<()> {
        let mut removed = false;
        let surplus = || {
            let spares = &mut lock(&self.chain).spares;
            if spares.len() > kept { spares.pop_back() } else { None }
        };
        while let Some(spare) = surplus() {
            removed = true;
            // not used any more, even if it should still be there: the next opening finds it
            self.remove(&self.path(&format::file_name(spare.index)), spare.index)?;
        }
        if removed { self.sync_names() } else { Ok(()) }
    }

    /// Takes away what could not be finished, under either name, as far as that is
    /// possible: the next opening removes what is left.
    pub(crate) fn remove_quietly(&self, indexes: &[u64]) {
        for &index in indexes {
            let _ = self.storage.remove(&format::temporary_name(index));
            let _ = self.storage.remove(&format::file_name(index));
        }
    }

    fn remove(&self, path: &std::path::Path, index: u64) -> Result<()> {
        match self.storage.remove(&format::file_name(index)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Makes a spare of a dead segment's file, if nobody reads it, here or
    /// elsewhere. Its bytes stay: they fail their checks in the file's next life.
    fn recycle(&self, segment: &Arc<Segment>) -> Result<bool> {
        if segment.id.slots != 1 {
            return Ok(false);
        }
        let Some(region) = segment.give(&*self.storage) else { return Ok(false) };
        if !region.is_unshared().unwrap_or(false) {
            return Ok(false);
        }
        let index = self.take_index(&mut lock(&self.chain), 1)?;
        let salt = self.fresh_salt(segment, &*region, index);
        let (name, temporary) =
            (format::file_name(segment.id.index), format::temporary_name(index));
        let renamed = self.storage.rename(&name, &temporary);
        renamed.map_err(|e| Error::io("rename", segment.path(), e))?;
        let named = self.sync_names().and_then(|()| {
            self.give_name(index, 1, salt, &*region, &temporary)?;
            let path = self.path(&format::file_name(index));
            region.share().map_err(|e| Error::io("unlock", &path, e))
        });
        named.inspect_err(|_| self.remove_quietly(&[index]))?;
        count(&self.counters.recycled);
        let spare = Spare { index, salt, slots: 1, region, zero_to: 0, ready: 0 };
        lock(&self.chain).spares.push_back(spare);
        Ok(true)
    }

    /// A salt under which no frame of the file's last life can pass. The check is
    /// linear: two lives differ by one constant at every place, which must not be 0.
    fn fresh_salt(&self, last: &Segment, region: &dyn Region, index: u64) -> u64 {
        let start = |salt, epoch, base| crate::sys::crc32c_step(format::seed(salt, epoch), base);
        let old: Vec<u32> = {
            // begin and open are seeded with epoch 0
            let epochs = last.epochs(region.map()).into_iter().chain([0]);
            epochs.map(|e| start(last.id.life.salt, e, last.id.life.base)).collect()
        };
        let base = self.size.base(index);
        loop {
            let salt = random();
            let new = [start(salt, 0, base), start(salt, self.epoch, base)];
            if !new.iter().any(|state| old.contains(state)) {
                return salt;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn before_a_file_is_made_the_memory_of_every_full_segment_is_given_back() {
        let log = Log::small();
        for _ in 0..3 {
            log.append_len(8);
            log.with_spares(Purpose::State, |chain| log.roll(chain)).unwrap();
        }
        lock(&log.chain).spares.clear();
        log.make_spare(Purpose::State).unwrap();
        let chain = lock(&log.chain);
        let last_full = chain.live[chain.live.len() - 2].id.index;
        assert_eq!(chain.loaded_from, last_full + 1);
    }
}
