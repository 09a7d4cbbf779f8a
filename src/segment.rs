//! One file of the log: its mapping, and how far it may be read.
//!
//! Nothing counts what is published in it: whoever wants to know walks the words, from
//! where the last one stopped. So an append pays nothing for it.

use std::path::{Path, PathBuf};
use std::sync::Weak;

use crate::error::{Damage, Error, Result};
use crate::format::{self, FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::scan::Life;
use crate::storage::{Access, Region, Storage};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};
use crate::trail::Trail;

#[path = "segment/put.rs"] // the models take this file in from elsewhere
mod put;
#[path = "segment/walk.rs"]
mod walk;
pub(crate) use put::{Building, Stamp, put, put_batch};

/// What stays the same about a segment.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) index: u64,
    pub(crate) slots: u32,
    pub(crate) life: Life,
    /// The sequence number of its first record.
    pub(crate) first_sequence: u64,
    pub(crate) path: PathBuf,
}

/// A segment that the log counts, or counted.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: Identity,
    len: u64,
    region: Mutex<Held>,
    /// A word means something only below this offset.
    ready: AtomicU64,
    /// Readers and flushes end at this offset: where `truncate_after` cut.
    cut: AtomicU64,
    walked: Mutex<Trail>,
}

/// The mapping: kept while the segment may still be written or flushed, and
/// for old ones as long as someone reads them.
#[derive(Debug)]
enum Held {
    Kept(Arc<dyn Region>),
    /// `None`: nobody ever had it.
    Loose(Option<Weak<dyn Region>>),
    /// Its file is another segment's by now, or is gone.
    Given,
}

impl Segment {
    /// A segment with this region. Words count below `ready`.
    pub(crate) fn new(id: Identity, region: Arc<dyn Region>, ready: u64) -> Self {
        let len = region.map().len();
        Self::build(id, len, Held::Kept(region), ready, Trail::new())
    }

    /// A segment of `len` bytes that is mapped when someone reads it; as `region`, while
    /// someone has that. It was walked as far as `trail` leads.
    pub(crate) fn unmapped(
        id: Identity,
        len: u64,
        region: Option<&Arc<dyn Region>>,
        trail: Trail,
    ) -> Self {
        Self::build(id, len, Held::Loose(region.map(Arc::downgrade)), len, trail)
    }

    /// The same segment, with a mapping to be kept. Words count up to its end.
    pub(crate) fn with_region(&self, region: Arc<dyn Region>) -> Self {
        let (id, trail) = (self.id.clone(), lock(&self.walked).clone());
        Self::build(id, self.len, Held::Kept(region), self.len, trail)
    }

    fn build(id: Identity, len: u64, held: Held, ready: u64, trail: Trail) -> Self {
        Segment {
            id,
            len,
            region: Mutex::new(held),
            ready: AtomicU64::new(ready),
            cut: AtomicU64::new(u64::MAX),
            walked: Mutex::new(trail),
        }
    }

    /// Bytes of its file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn lsn(&self, offset: u64) -> Lsn {
        Lsn(self.id.life.base + offset)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.id.path
    }

    /// The mapping; opened if nobody has it.
    pub(crate) fn region(&self, storage: &dyn Storage) -> Result<Arc<dyn Region>> {
        let mut held = lock(&self.region);
        let loose = match &*held {
            Held::Kept(region) => return Ok(region.clone()),
            Held::Loose(region) => region.as_ref().and_then(Weak::upgrade),
            Held::Given => return Err(self.gone()),
        };
        if let Some(region) = loose {
            return Ok(region);
        }
        let name = format::file_name(self.id.index);
        let region: Arc<dyn Region> =
            storage.open(&name, Access::View).map_err(|e| Error::io("map", self.path(), e))?.into();
        if region.map().len() != self.len {
            return Err(self.damaged(self.len, Damage::FileLength));
        }
        // a later opening may have made another segment of it while this was opening it
        let header = region.map().published(0..FIRST_FRAME).first_chunk();
        let header = header.and_then(|header| SegmentHeader::decode(header).ok());
        if header.is_some_and(|it| (it.index, it.salt) != (self.id.index, self.id.life.salt)) {
            return Err(self.gone());
        }
        *held = Held::Loose(Some(Arc::downgrade(&region)));
        Ok(region)
    }

    /// Its file is another segment's by now, or is gone.
    fn gone(&self) -> Error {
        Error::io("map", self.path(), std::io::ErrorKind::NotFound.into())
    }

    /// Gives back the memory that its mapping holds, once all of it is published: whoever
    /// touches it again gets it anew. `false`: not yet.
    pub(crate) fn unload(&self) -> bool {
        let region = match &*lock(&self.region) {
            Held::Kept(region) => region.clone(),
            Held::Loose(_) | Held::Given => return true,
        };
        // what cannot be walked is damaged: who reads it is told so
        let is_complete = self.published(region.map()).map_or(true, |end| end.complete);
        if is_complete {
            region.unload();
        }
        is_complete
    }

    /// Keeps the mapping only as long as others have it. For a segment that is
    /// durable to its end. `false`: that is so already.
    pub(crate) fn loosen(&self) -> bool {
        let mut held = lock(&self.region);
        let Held::Kept(region) = &*held else { return false };
        *held = Held::Loose(Some(Arc::downgrade(region)));
        true
    }

    /// The mapping for writing, if nobody else here has one; nobody gets one from here
    /// afterwards.
    pub(crate) fn give(&self, storage: &dyn Storage) -> Option<Arc<dyn Region>> {
        let mut held = lock(&self.region);
        let given = match std::mem::replace(&mut *held, Held::Given) {
            Held::Kept(region) => Some(region),
            Held::Loose(Some(region)) if region.strong_count() > 0 => None,
            Held::Loose(_) => {
                let opened = storage.open(&format::file_name(self.id.index), Access::Write);
                opened.ok().map(Arc::from)
            }
            Held::Given => None,
        };
        given.filter(|region| Arc::strong_count(region) == 1)
    }

    #[inline]
    pub(crate) fn ready(&self) -> u64 {
        // Relaxed, here and below: who comes to a word that counts has acquired the frame before
        // it, whose claim had acquired the slot's mark, which is moved after this one; or the
        // chain lock, under which the segment began.
        self.ready.load(Ordering::Relaxed)
    }

    /// Moves the mark below which words count; what is below is zero or claimed.
    pub(crate) fn set_ready(&self, ready: u64) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Where readers and flushes end, whatever is published behind.
    #[inline]
    pub(crate) fn cut(&self) -> u64 {
        // Acquire pairs with the Release in `set_cut`.
        self.cut.load(Ordering::Acquire)
    }

    pub(crate) fn set_cut(&self, offset: u64) {
        // Release pairs with the Acquire in `cut`.
        self.cut.fetch_min(offset, Ordering::Release);
    }

    pub(crate) fn damaged(&self, at: u64, damage: Damage) -> Error {
        Error::Damaged { path: self.id.path.clone(), at, damage }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::log::{Log, Purpose};

    #[test]
    fn a_file_that_has_another_length_by_now_is_not_mapped() {
        let log = Log::small();
        let segment = lock(&log.chain).live[0].clone();
        for len in [segment.len / 2, segment.len * 2] {
            let segment = Segment::unmapped(segment.id.clone(), len, None, Trail::new());
            match segment.region(&*log.storage).unwrap_err() {
                Error::Damaged { at, damage: Damage::FileLength, .. } => assert_eq!(at, len),
                error => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_another_segments_by_now_is_gone() {
        let log = Log::small();
        log.append_len(8);
        let first = lock(&log.chain).live[0].clone();
        log.with_spares(Purpose::Records(log.ring.active()), |chain| log.roll(chain)).unwrap();
        for salt in [first.id.life.salt, first.id.life.salt ^ 1] {
            let life = Life { salt, ..first.id.life };
            let id = Identity { life, ..first.id.clone() };
            let read = Segment::unmapped(id, first.len, None, Trail::new()).region(&*log.storage);
            match read {
                Ok(_) => assert_eq!(salt, first.id.life.salt),
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
                    assert_ne!(salt, first.id.life.salt);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
