//! One file of the log: what is published in it, and how frames are put into
//! what is claimed of it.
//!
//! Nothing counts what is published: whoever wants to know walks the words, from
//! where the last one stopped. So an append pays nothing for it.

use std::path::{Path, PathBuf};
use std::sync::Weak;

use crate::error::{Damage, Error, Result};
use crate::format::{self, FRAME_HEADER, Kind, Reason, State, Tag};
use crate::lsn::Lsn;
use crate::map::{Claim, Map};
use crate::scan::{Life, Place};
use crate::storage::{Access, Region, Storage};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};
use crate::trail::Trail;

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

/// The end of what is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Published {
    /// A batch boundary.
    pub(crate) at: Place,
    /// Nothing follows here: sealed, or cut.
    pub(crate) complete: bool,
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
            Held::Given => {
                let gone = std::io::ErrorKind::NotFound;
                return Err(Error::io("map", self.path(), gone.into()));
            }
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
        *held = Held::Loose(Some(Arc::downgrade(&region)));
        Ok(region)
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

    /// The epochs of frames in it, as far as it can be walked.
    pub(crate) fn epochs(&self, map: &Map) -> Vec<u32> {
        let mut walked = lock(&self.walked);
        // a place that cannot be walked past has nothing behind it that anyone read
        let _ = self.walk(&mut walked, map, u64::MAX);
        walked.epochs().collect()
    }

    #[inline]
    pub(crate) fn ready(&self) -> u64 {
        // Acquire pairs with the Release in `set_ready`.
        self.ready.load(Ordering::Acquire)
    }

    /// Moves the mark below which words count; what is below is zero or claimed.
    pub(crate) fn set_ready(&self, ready: u64) {
        // Release pairs with the Acquire in `ready`: the zeros are seen with it.
        self.ready.store(ready, Ordering::Release);
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

    /// Walks on to the end of what is published, up to the cut.
    pub(crate) fn published(&self, map: &Map) -> Result<Published> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, u64::MAX)?;
        let cut = self.cut();
        if walked.at().offset < cut {
            return Ok(Published { at: walked.at(), complete: walked.is_sealed() });
        }
        let at = self.step_to(&walked, map, cut)?;
        Ok(Published { at, complete: true })
    }

    /// The same, or if that is before it the first batch boundary that is not below `until`.
    pub(crate) fn published_up_to(&self, map: &Map, until: Lsn) -> Result<Published> {
        let published = self.published(map)?;
        if until >= self.lsn(published.at.offset) {
            return Ok(published);
        }
        let offset = until.0.saturating_sub(self.lsn(0).0);
        let at = self.step_to(&lock(&self.walked), map, offset)?;
        Ok(Published { at, complete: false })
    }

    /// Whether everything up to `offset` is published, cut or not.
    pub(crate) fn is_published(&self, map: &Map, offset: u64) -> Result<bool> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, offset)?;
        Ok(walked.at().offset >= offset)
    }

    /// The last remembered place before `offset`, or the first one.
    pub(crate) fn block_before(&self, map: &Map, offset: u64) -> Result<Place> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, offset)?;
        Ok(walked.place_before(offset))
    }

    /// The last remembered place that has at most `ordinal` claims before it.
    pub(crate) fn block_of(&self, map: &Map, ordinal: u32) -> Result<Place> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, u64::MAX)?;
        Ok(walked.place_of(ordinal))
    }

    /// How far the walk has come, having been tried to go beyond `offset`.
    pub(crate) fn walked_beyond(&self, map: &Map, offset: u64) -> Result<u64> {
        let mut walked = lock(&self.walked);
        if walked.at().offset <= offset {
            self.walk(&mut walked, map, u64::MAX)?;
        }
        Ok(walked.at().offset)
    }

    /// The place at `offset`, if a batch begins or the published part ends there.
    pub(crate) fn boundary_at(&self, map: &Map, offset: u64) -> Result<Option<Place>> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, offset)?;
        if walked.at().offset < offset {
            return Ok(None);
        }
        let place = self.step_to(&walked, map, offset)?;
        Ok((place.offset == offset).then_some(place))
    }

    /// The bytes of what may be a frame at `offset`, if it ends at or below `walked`.
    pub(crate) fn frame_below<'m>(
        &self,
        map: &'m Map,
        offset: u64,
        walked: u64,
    ) -> Option<&'m [u8]> {
        let (_, size) = (offset < walked).then(|| self.word_at(map, offset).ok()).flatten()??;
        let end = offset.checked_add(size).filter(|&end| end <= walked)?;
        Some(map.published(offset..end))
    }

    /// Whether a frame begins at `offset`, which has been walked beyond.
    pub(crate) fn starts_frame(&self, map: &Map, offset: u64) -> Result<bool> {
        let walked = lock(&self.walked);
        let mut at = walked.place_up_to(offset).offset;
        while at < offset {
            let Some((_, size)) = self.word_at(map, at)? else { break };
            at += size;
        }
        Ok(at == offset)
    }

    /// From the block before `offset` on, batch by batch, to the first boundary
    /// that is not below `offset`.
    fn step_to(&self, walked: &Trail, map: &Map, offset: u64) -> Result<Place> {
        let mut at = walked.place_up_to(offset);
        while at.offset < offset {
            match self.batch_behind(map, at)? {
                Some((behind, _)) => at = behind,
                None => break,
            }
        }
        Ok(at)
    }

    fn walk(&self, walked: &mut Trail, map: &Map, to: u64) -> Result<()> {
        while !walked.is_sealed() && walked.at().offset < to {
            let at = walked.at();
            let Some((behind, kind)) = self.batch_behind(map, at)? else { break };
            if kind == Kind::State {
                let payload = at.offset + FRAME_HEADER as u64..behind.offset;
                match State::decode(map.published(payload)) {
                    Some(State { reason: Reason::Begin(_) | Reason::Open, epoch, .. }) => {
                        walked.begin_epoch(at.offset, epoch);
                    }
                    Some(_) => {}
                    None => return Err(self.damaged(at.offset, Damage::State)),
                }
            }
            walked.move_to(behind);
            if kind == Kind::Seal {
                walked.seal();
            }
        }
        Ok(())
    }

    /// The boundary behind the batch, or the single frame, that begins at `at`, and
    /// the kind of its last frame; `None` if none is published there.
    fn batch_behind(&self, map: &Map, mut at: Place) -> Result<Option<(Place, Kind)>> {
        let mut inside = false;
        loop {
            let Some((kind, size)) = self.word_at(map, at.offset)? else {
                // a batch's first word is stored last, so all others are there
                return if inside { Err(self.damaged(at.offset, Damage::Batch)) } else { Ok(None) };
            };
            at.offset += size;
            at.ordinal += kind.counts() as u32;
            if kind != Kind::More {
                return Ok(Some((at, kind)));
            }
            inside = true;
        }
    }

    /// The kind and the size of the frame at `offset`, which was reached by walking;
    /// `None` if none is published.
    #[inline]
    fn word_at(&self, map: &Map, offset: u64) -> Result<Option<(Kind, u64)>> {
        if offset + FRAME_HEADER as u64 > self.ready().min(self.len) {
            return Ok(None);
        }
        let word = map.load(offset);
        if word == 0 {
            return Ok(None);
        }
        let kind = format::kind(word).ok_or_else(|| self.damaged(offset, Damage::Kind))?;
        let size = format::frame_size(format::payload_len(word));
        if size > self.len - offset {
            return Err(self.damaged(offset, Damage::Length));
        }
        Ok(Some((kind, size)))
    }

    /// The epoch in force at `offset`, which is walked to.
    pub(crate) fn epoch_at(&self, map: &Map, offset: u64) -> Result<u32> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, offset)?;
        Ok(walked.epoch_at(offset))
    }

    /// The frame at `offset`, which was reached by walking, if it is a record's: its kind and
    /// its bytes; `None` if it is another, or none, or impossible.
    #[inline]
    pub(crate) fn record_bytes<'m>(&self, map: &'m Map, offset: u64) -> Option<(Kind, &'m [u8])> {
        if offset + FRAME_HEADER as u64 > self.ready().min(self.len) {
            return None;
        }
        let word = map.load(offset);
        let kind = format::kind(word)
            .filter(|kind| matches!(kind, Kind::Record | Kind::More | Kind::Last))?;
        let size = format::frame_size(format::payload_len(word));
        (size <= self.len - offset).then(|| (kind, map.published(offset..offset + size)))
    }

    /// The frame at `offset`, which was reached by walking: its kind and its bytes; `None`
    /// if none is published.
    #[inline]
    pub(crate) fn frame_bytes<'m>(
        &self,
        map: &'m Map,
        offset: u64,
    ) -> Result<Option<(Kind, &'m [u8])>> {
        let frame = self.word_at(map, offset)?;
        Ok(frame.map(|(kind, size)| (kind, map.published(offset..offset + size))))
    }
}

// --- frames into claims: from here to `publish`, nothing can fail ---

/// What a frame carries besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) epoch: u32,
    /// The durable LSN known now.
    pub(crate) durable: u64,
}

/// Puts one frame into a claim that is just as large, publishes it, and returns
/// where it is.
#[inline]
pub(crate) fn put(
    mut claim: Claim<'_>,
    stamp: Stamp,
    kind: Kind,
    seed: u32,
    payload: &[u8],
) -> Lsn {
    let (at, word) = (claim.start(), format::word(kind, payload.len()));
    let lsn = claim.base() + at;
    let ordinal = claim.ordinal();
    fill(&mut claim, stamp, at, ordinal, seed, word, payload);
    claim.publish(word);
    Lsn(lsn)
}

/// Everything of a frame but its word.
#[inline]
fn fill(
    claim: &mut Claim<'_>,
    stamp: Stamp,
    at: u64,
    ordinal: u32,
    seed: u32,
    word: u32,
    payload: &[u8],
) {
    let lsn = claim.base() + at;
    let tag = Tag::new(ordinal, stamp.epoch, lsn, stamp.durable);
    let check = format::check(seed, word, lsn, tag, payload);
    claim.fill_frame(at, &format::header_tail(check, tag), payload);
}

/// Puts a batch into a claim that is just as large: the first word comes last.
/// Returns where its last record is.
pub(crate) fn put_batch(mut claim: Claim<'_>, stamp: Stamp, records: &[&[u8]]) -> Lsn {
    if let [record] = records {
        let seed = claim.seed();
        return put(claim, stamp, Kind::Record, seed, record);
    }
    let (mut at, mut last, mut ordinal) = (claim.start(), claim.start(), claim.ordinal());
    let first_word = format::word(Kind::More, records[0].len());
    for (i, record) in records.iter().enumerate() {
        let kind = if i + 1 < records.len() { Kind::More } else { Kind::Last };
        let (word, seed) = (format::word(kind, record.len()), claim.seed());
        fill(&mut claim, stamp, at, ordinal, seed, word, record);
        if i > 0 {
            claim.store_word(at, word);
        }
        last = at;
        at += format::frame_size(record.len());
        ordinal += 1;
    }
    let lsn = claim.base() + last;
    claim.publish(first_word);
    Lsn(lsn)
}

/// A record that is built in its claim by someone else's code. Dropped before it
/// is finished, it leaves an abandoned frame: no hole, nobody waits for ever.
#[derive(Debug)]
pub(crate) struct Building<'m> {
    claim: Option<Claim<'m>>,
    stamp: Stamp,
    len: usize,
}

impl<'m> Building<'m> {
    pub(crate) fn new(claim: Claim<'m>, stamp: Stamp, len: usize) -> Self {
        Building { claim: Some(claim), stamp, len }
    }

    /// The record's bytes, all zero before they are written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let claim = self.claim.as_mut().expect("taken only by `finish` and `drop`");
        let at = claim.start() + FRAME_HEADER as u64;
        claim.bytes_mut(at, self.len)
    }

    /// Publishes what was built.
    pub(crate) fn finish(mut self) -> Lsn {
        self.end(Kind::Record)
    }

    fn end(&mut self, kind: Kind) -> Lsn {
        let Some(mut claim) = self.claim.take() else { return Lsn::NONE };
        let (at, ordinal, seed) = (claim.start(), claim.ordinal(), claim.seed());
        let lsn = claim.base() + at;
        let word = format::word(kind, self.len);
        let tag = Tag::new(ordinal, self.stamp.epoch, lsn, self.stamp.durable);
        let hashed_len = if kind == Kind::Abandoned { 0 } else { self.len };
        let hashed = claim.bytes_mut(at + FRAME_HEADER as u64, hashed_len);
        let check = format::check(seed, word, lsn, tag, hashed);
        claim.fill_frame(at, &format::header_tail(check, tag), &[]);
        claim.publish(word);
        Lsn(lsn)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.end(Kind::Abandoned);
    }
}
