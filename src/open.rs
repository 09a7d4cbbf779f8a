//! Opening a log for writing: what recovery found becomes a chain, and a new epoch
//! begins, durable before anything is appended.
//!
//! The order is what makes it safe to be cut short anywhere. First all that is
//! kept is stored and flushed again: a kernel that failed a flush believes its
//! pages clean. Then dead files go. Then the new epoch's first frame, at the place
//! where the tail is: it makes whatever lies behind unreadable for good.

use std::mem;
use std::path::PathBuf;

use crate::chain::{Chain, Spare};
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::format::{
    self, FIRST_FRAME, FRAME_HEADER, RESERVE, Reason, SEAL_SIZE, STATE_SIZE, Seal,
};
use crate::large;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::prepare;
use crate::recover::{self, Directory, Ended, Found, Next, Recovery, Writers, files};
use crate::ring::{self, Preparing, Ring};
use crate::roll::{FIRST_CLAIM, Predecessor};
use crate::scan::{Life, Place};
use crate::segment::{self, Segment};
use crate::stats::Counters;
use crate::storage::{Access, Region, Storage};
use crate::sync::{Arc, AtomicBool, Mutex, lock};
use crate::tail::ADDED_BLINDLY;
use crate::wait::Waiters;
use crate::worker::Worker;

impl Log {
    /// Opens the log in `storage`, or creates it.
    pub(crate) fn open(storage: Box<dyn Storage>, mut options: Options) -> Result<Self> {
        let new_size = options.new_segment_size()?;
        options.validate()?;
        if let Err(error) = options.check_limit(new_size) {
            // a log that is there has a segment size of its own
            if files::names(&*storage)?.segments.is_empty() {
                return Err(error);
            }
        }
        let directory = storage.path("");
        let guard = storage.lock().map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock => Error::Locked { path: directory.clone() },
            _ => Error::io("open the directory", &directory, e),
        })?;
        let listener = mem::take(&mut options.listener);
        let found = recover::recover_while(Writers::None, &*storage, options.verify, &listener)?;
        drop(listener); // and with it what it holds
        let (size, uuid, recovery, next_index) = match &found {
            Directory::Empty { dead } => {
                (new_size, new_uuid(), Recovery::created(removed(&*storage, dead)), 1)
            }
            Directory::Log(found) => {
                (found.size, found.uuid, found.report.clone(), found.next_index)
            }
        };
        options.check_limit(size)?;
        let largest_claim = large::largest_claim(size, options.max_log_size);
        let mut log = Log {
            storage,
            largest_claim,
            largest_record: options.max_record_size.min(largest_claim as usize - FRAME_HEADER),
            options,
            size,
            uuid,
            epoch: recovery.epoch,
            max_at_once: ADDED_BLINDLY.min(size.bytes() - RESERVE - FIRST_CLAIM),
            recovery,
            making: Mutex::new(()),
            chain: Mutex::new(Chain::new(next_index)),
            ring: Ring::new(size.bytes() - RESERVE),
            commit: Commit::new(0),
            waiters: Waiters::default(),
            worker: Worker::default(),
            counters: Counters::default(),
            has_cuts: AtomicBool::new(false),
            recovered: Mutex::default(),
            guard: Mutex::new(Some(guard)),
        };
        match found {
            Directory::Empty { dead } => log.create(&dead)?,
            Directory::Log(found) => log.adopt(*found)?,
        }
        log.flush_between(&log.commit.lead(), log.commit.durable(), u64::MAX)?; // the new epoch is durable
        log.recovery.tail = log.next_lsn();
        Ok(log)
    }

    /// The first segment of a new log.
    fn create(&mut self, leftovers: &[String]) -> Result<()> {
        self.remove_names(leftovers)?;
        let index = self.take_index(&mut lock(&self.chain), 1)?;
        let spare = self.new_file(index, 1)?;
        self.make_first_pages_ready(&spare)?;
        self.recovery.head = Lsn(self.size.base(index) + FIRST_FRAME);
        let chain = &mut *lock(&self.chain);
        chain.head = self.recovery.head;
        self.begin_with(chain, spare, Predecessor::NONE, true);
        Ok(())
    }

    /// What recovery found becomes the chain.
    fn adopt(&mut self, found: Found) -> Result<()> {
        // The last epoch has none behind it: it would be the end of the log.
        let next = found.epoch.checked_add(1).filter(|&epoch| epoch < u32::MAX);
        self.epoch = next.ok_or(Error::OutOfPlaces)?;
        self.recovery.epoch = self.epoch;
        let chain = &mut *lock(&self.chain);
        chain.head = found.head;
        for link in &found.links {
            let header = link.header;
            let id = self.identity(header.index, header.slots, header.salt, link.first_sequence);
            let len = header.slots as u64 * self.size.bytes();
            let region = link.region.as_ref();
            let segment = Segment::unmapped(id, len, region, link.trail.clone());
            chain.live.push_back(Arc::new(segment));
            lock(&self.recovered).extend(region.cloned());
        }
        // At the very end of a segment that is gone, the head is where the next begins.
        let first = chain.live.front().expect("a log has a segment").lsn(FIRST_FRAME);
        chain.head = chain.head.max(first);
        self.store_again(chain, &found)?;
        self.remove_names(&found.dead)?;
        self.adopt_spares(chain, &found)?;
        self.begin_epoch(chain, &found)
    }

    /// Stores and flushes again what nothing proves to have been durable before.
    fn store_again(&self, chain: &mut Chain, found: &Found) -> Result<()> {
        for (i, link) in found.links.iter().enumerate() {
            let segment = chain.live[i].clone();
            let from = found.proved.0.saturating_sub(segment.lsn(0).0).max(FIRST_FRAME);
            let end = link.end.offset;
            let last = i + 1 == found.links.len();
            if from >= end && !last {
                continue;
            }
            let region = self.map_for_writing(&segment)?;
            if from < end {
                region.touch(from..end);
                region.flush(from..end).map_err(|e| Error::io("flush", segment.path(), e))?;
            }
            if last {
                // kept: frames go there
                chain.live[i] = Arc::new(segment.with_region(region));
            }
        }
        // a segment ends where its successor says: what lies behind may be torn, and
        // is not walked
        for (segment, link) in chain.live.iter().zip(&found.links).rev().skip(1) {
            segment.set_cut(link.end.offset);
            segment.set_ready(link.end.offset);
        }
        Ok(())
    }

    fn map_for_writing(&self, segment: &Segment) -> Result<Arc<dyn Region>> {
        let name = format::file_name(segment.id.index);
        let region = self.storage.open(&name, Access::Write);
        Ok(region.map_err(|e| Error::io("map", segment.path(), e))?.into())
    }

    /// Removes files, and makes all names durable: an earlier opening may have ended
    /// before it synced one that this one goes on with.
    fn remove_names(&self, names: &[String]) -> Result<()> {
        for name in names {
            let removed = self.storage.remove(name);
            removed.map_err(|e| Error::io("remove", &self.path(name), e))?;
        }
        self.sync_names()
    }

    /// Spares of an earlier opening, as far as they can be mapped: one that cannot is
    /// no reason to refuse the log, unless the log continues in it.
    fn adopt_spares(&self, chain: &mut Chain, found: &Found) -> Result<()> {
        for &(index, salt) in &found.spares {
            let name = format::file_name(index);
            match self.storage.open(&name, Access::Write) {
                Ok(region) => {
                    let region: Arc<dyn Region> = region.into();
                    // one, but for a large file whose begin was lost
                    let slots = (region.map().len() / self.size.bytes()) as u32;
                    chain.spares.push_back(Spare {
                        index,
                        salt,
                        slots,
                        region,
                        zero_to: 0,
                        ready: 0,
                    });
                }
                Err(e) if found.next == Next::Spare(index) => {
                    return Err(Error::io("map", &self.path(&name), e));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Begins the new epoch at the tail: by an open where there is room, by a begin in
    /// the next segment otherwise.
    fn begin_epoch(&self, chain: &mut Chain, found: &Found) -> Result<()> {
        let last = found.links.last().expect("a log has a segment");
        let segment = chain.active().clone();
        let mut end = last.end;
        self.commit.lead().move_to(segment.lsn(end.offset).0);
        if found.next == Next::There && end.offset + STATE_SIZE + SEAL_SIZE <= segment.len() {
            return self.open_at(chain, &segment, end);
        }
        if chain.spares.is_empty() {
            let index = self.take_index(chain, 1)?;
            chain.spares.push_back(self.new_file(index, 1)?);
        }
        let spare = chain.spares.pop_front().expect("just seen to");
        self.make_first_pages_ready(&spare)?;
        if found.next == Next::There {
            let seal = Seal { next_index: spare.index, next_salt: spare.salt };
            end = self.seal(&segment, end, seal, last.last_epoch)?;
        }
        self.begin(chain, spare, Predecessor::at(&segment, end));
        Ok(())
    }

    /// Writes an open at the tail; claims go behind it, if there is room for any.
    fn open_at(&self, chain: &mut Chain, segment: &Arc<Segment>, end: Place) -> Result<()> {
        let region = segment.region(&*self.storage)?;
        let (map, len) = (region.map(), segment.len());
        let Life { base, salt } = segment.id.life;
        let ready = ring::first_ready(end.offset + STATE_SIZE, len);
        ring::make_ready(&*region, end.offset..ready, end.offset)
            .map_err(|e| Error::io("prepare", segment.path(), e))?;

        let mut state = self.state(Reason::Open, chain.head);
        state.durable = segment.lsn(end.offset);
        let payload = state.encode(); // before the claim, as in `put_state`
        let stamp = segment::Stamp { epoch: self.epoch, durable: state.durable.0 };
        let range = end.offset..end.offset + STATE_SIZE;
        let claim = map.claim(range, end.ordinal, base, format::seed(salt, 0));
        let seed = claim.seed();
        segment::put(claim, stamp, format::Kind::State, seed, &payload);
        let behind = Place { offset: end.offset + STATE_SIZE, ..end };

        segment.set_ready(ready);
        let limit = self.size.bytes() - RESERVE;
        if segment.id.slots > 1 || behind.offset > limit || !self.has_held_back(chain) {
            return self.idle_at(chain, segment, behind);
        }
        let seed = format::seed(salt, self.epoch);
        self.ring.activate(Preparing::new(segment.clone(), region, ready), seed, behind);
        Ok(())
    }

    /// Whether there is a spare that is not for records; makes it if there is room. If
    /// not, the last segment may be the one that was held back: it takes no records.
    fn has_held_back(&self, chain: &mut Chain) -> bool {
        if chain.spares.is_empty() {
            let made = self.check_size(chain, self.size.bytes()).and_then(|()| {
                let index = self.take_index(chain, 1)?;
                self.new_file(index, 1)
            });
            chain.spares.extend(made.ok());
        }
        !chain.spares.is_empty()
    }

    /// A segment that takes no claims is the last one: the next append rolls.
    fn idle_at(&self, chain: &mut Chain, segment: &Arc<Segment>, end: Place) -> Result<()> {
        let region = segment.region(&*self.storage)?;
        let zero_to = segment.ready();
        self.ring.activate_ended(Preparing::new(segment.clone(), region, zero_to), end);
        chain.behind_end = Some(end);
        Ok(())
    }
}

fn removed(storage: &dyn Storage, names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| storage.path(name)).collect()
}

fn new_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&prepare::random().to_le_bytes());
    uuid[8..].copy_from_slice(&prepare::random().to_le_bytes());
    uuid
}

impl Recovery {
    /// The report of a log that is created.
    fn created(removed: Vec<PathBuf>) -> Self {
        Recovery {
            ended: Ended::Created,
            segments: Vec::new(),
            removed,
            head: Lsn::NONE,
            tail: Lsn::NONE,
            proved: Lsn::NONE,
            epoch: 1,
        }
    }
}
