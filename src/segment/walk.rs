//! What is published in a segment: its words are walked, from where the last one stopped.

use crate::error::{Damage, Result};
use crate::format::{self, FIRST_FRAME, FRAME_HEADER, Kind, Reason, State};
use crate::lsn::Lsn;
use crate::map::Map;
use crate::scan::Place;
use crate::segment::Segment;
use crate::sync::lock;
use crate::trail::Trail;

/// The end of what is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Published {
    /// A batch boundary.
    pub(crate) at: Place,
    /// Nothing follows here: sealed, or cut.
    pub(crate) complete: bool,
}

impl Segment {
    /// Walks on to the end of what is published, up to the cut.
    pub(crate) fn published(&self, map: &Map) -> Result<Published> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, u64::MAX)?;
        let cut = self.cut();
        if walked.at().offset < cut {
            return Ok(Published { at: walked.at(), complete: walked.is_sealed() });
        }
        let at = self.step_to(&walked, map, cut)?;
        if at.offset != cut.max(FIRST_FRAME) {
            return Err(self.damaged(cut, Damage::Length)); // a cut is where a frame ends
        }
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

    /// The epoch in force at `offset`, which is walked to.
    pub(crate) fn epoch_at(&self, map: &Map, offset: u64) -> Result<u32> {
        let mut walked = lock(&self.walked);
        self.walk(&mut walked, map, offset)?;
        Ok(walked.epoch_at(offset))
    }

    /// The epochs of frames in it, as far as it can be walked.
    pub(crate) fn epochs(&self, map: &Map) -> Vec<u32> {
        let mut walked = lock(&self.walked);
        // a place that cannot be walked past has nothing behind it that anyone read
        let _ = self.walk(&mut walked, map, u64::MAX);
        walked.epochs().collect()
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
                let cut = self.cut();
                if behind.offset < cut && cut != u64::MAX {
                    return Err(self.damaged(at.offset, Damage::Kind)); // a seal is the last frame
                }
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
        if offset >= self.words_end() {
            return Ok(None);
        }
        let word = map.load(offset);
        if word == 0 {
            let cut = self.cut();
            // all below a cut was published before it: the word is looked at once more behind that
            return if offset < cut && cut != u64::MAX && map.load(offset) == 0 {
                Err(self.damaged(offset, Damage::Hole))
            } else {
                Ok(None)
            };
        }
        let kind = format::kind(word).ok_or_else(|| self.damaged(offset, Damage::Kind))?;
        let size = format::frame_size(format::payload_len(word));
        if size > self.len - offset {
            return Err(self.damaged(offset, Damage::Length));
        }
        Ok(Some((kind, size)))
    }

    /// No frame's word that means something begins here or behind.
    pub(crate) fn words_end(&self) -> u64 {
        (self.ready().min(self.len) + 1).saturating_sub(FRAME_HEADER as u64)
    }

    /// The frame at `offset`, which was reached by walking and is below
    /// [`words_end`](Self::words_end), if it is a record's: its kind and its bytes; `None` if it
    /// is another, or none, or impossible.
    #[inline]
    pub(crate) fn record_bytes<'m>(&self, map: &'m Map, offset: u64) -> Option<(Kind, &'m [u8])> {
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
