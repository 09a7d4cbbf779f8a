//! Space, prepared ahead: spares are made and recycled, the ready mark works
//! ahead of the tail, and files that nothing counts go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use crate::chain::{Chain, Spare};
use crate::error::{Error, Result};
use crate::format::{self, FIRST_FRAME, SegmentHeader};
use crate::log::{Log, Purpose, count};
use crate::segment::Segment;
use crate::storage::Region;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, lock};

/// How far ahead of the tail the background thread works at the least and at the
/// most, in bytes.
const WINDOW: std::ops::RangeInclusive<u64> = (128 << 10)..=(16 << 20);

/// How often it looks while appends go on, and after how many looks without any
/// it sleeps until it is called.
const LOOK: Duration = Duration::from_millis(1);
const IDLE_LOOKS: u32 = 200;

/// The background thread's end of things: what it is called for.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    call: Mutex<Calls>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    work: bool,
    stop: bool,
}

impl Worker {
    /// There may be something to do.
    pub(crate) fn call(&self) {
        lock(&self.call).work = true;
        self.called.notify_one();
    }

    /// Ends the thread, soon.
    pub(crate) fn stop(&self) {
        lock(&self.call).stop = true;
        self.called.notify_one();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.call).stop
    }

    /// Sleeps until called, or while `active` for a moment. `false`: stop.
    fn wait(&self, active: bool) -> bool {
        let mut calls = lock(&self.call);
        if !active {
            while !calls.work && !calls.stop {
                calls = self.called.wait(calls).unwrap_or_else(|e| e.into_inner());
            }
        } else if !calls.stop {
            let (after, _) = self
                .called
                .wait_timeout_while(calls, LOOK, |calls| !calls.stop)
                .unwrap_or_else(|e| e.into_inner());
            calls = after;
        }
        calls.work = false;
        !calls.stop
    }

    /// The background thread: until it is stopped.
    pub(crate) fn run(&self, log: &Log) {
        let _guard = log.guard_against_panic();
        let (mut last, mut quiet) = (0, 0);
        let mut was_active = false;
        while self.wait(was_active) {
            let _ = log.keep_spares(); // the append that needs one learns why there is none
            let tail = log.next_lsn().0;
            let gained = tail.saturating_sub(last);
            quiet = if gained == 0 { quiet + 1 } else { 0 };
            was_active = quiet < IDLE_LOOKS;
            if last != 0 && gained > 0 {
                // what comes in four looks, since some come late
                log.ring.work_ahead((4 * gained).clamp(*WINDOW.start(), *WINDOW.end()));
            }
            last = tail;
        }
    }
}

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

    /// Keeps as many spares as the options say, and room in the log's limit.
    fn keep_spares(&self) -> Result<()> {
        self.check_alive()?;
        let making = lock(&self.making);
        self.tidy(&making)?;
        while lock(&self.chain).spares.len() < self.options.spares && !self.worker.is_stopped() {
            self.make_one(&making)?;
        }
        Ok(())
    }

    /// Makes a spare of a new file.
    fn make_one(&self, _making: &MutexGuard<'_, ()>) -> Result<()> {
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

    /// Makes a file with a header, all durable, its name included: zeros first under
    /// another name, so that there is never a segment without its header.
    pub(crate) fn new_file(&self, index: u64, slots: u32) -> Result<Spare> {
        let salt = random();
        let temporary = format::temporary_name(index);
        let len = slots as u64 * self.size.bytes();
        let path = self.path(&temporary);
        let region: Arc<dyn Region> =
            self.storage.create(&temporary, len).map_err(|e| Error::io("create", &path, e))?.into();
        let named = self.give_name(index, slots, salt, &*region, &temporary);
        named.inspect_err(|_| self.remove_quietly(&[index]))?;
        Ok(Spare { index, salt, slots, region, stale: false })
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
                (chain.dead.remove(done), chain.spares.len() < self.options.spares)
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
        let spare = Spare { index, salt, slots: 1, region, stale: true };
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

impl Purpose {
    /// The spares that are not for this purpose.
    pub(crate) fn held_back(self) -> usize {
        match self {
            Purpose::Records(_) => 1,
            Purpose::State => 0,
        }
    }
}
