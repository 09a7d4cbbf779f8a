//! Walking in order: from a position to the next record.
//!
//! A position is a segment and an offset. Each frame says where the next one is.

use std::cmp::Ordering;

use crate::chain::Chain;
use crate::error::{Damage, Error, Result};
use crate::format::{self, FIRST_FRAME, FrameHeader, Kind, Lanes, Reason};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::map::Map;
use crate::record::{Record, RecordAt, View};
use crate::scan::{self, Content};
use crate::segment::Segment;
use crate::sync::{Arc, lock};
use crate::sys;

/// Where reading goes on in a segment, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    offset: u64,
    /// The epoch in force there; only what is verified needs it.
    epoch: u32,
    /// What checks start from in that epoch.
    seed: u32,
    verify: bool,
    /// Up to here nothing is in the way of reading: what is published there is present, below
    /// the limit, and intact if that was asked for.
    clear_to: u64,
    /// Pages before this offset are present, as far as that can be told.
    present: u64,
    /// Records before this offset are passed over: where reading was to begin at a
    /// place that nobody could walk to yet.
    from: u64,
    /// The segment is complete, and this is its end.
    is_end: bool,
}

/// What reading at a position found.
pub(crate) enum Step {
    Record(RecordAt),
    /// The segment is complete: the log goes on in its successor.
    Complete,
    /// Nothing is published there yet, or nothing durable if that was asked for.
    Tail,
}

impl Position {
    /// The same in another segment, from its first frame on: a begin.
    pub(crate) fn in_next(self) -> Self {
        Position { offset: FIRST_FRAME, clear_to: 0, present: 0, from: 0, is_end: false, ..self }
    }

    /// The same, which is behind the last frame of its segment: no frame there says so.
    pub(crate) fn at_end(self) -> Self {
        Position { is_end: true, ..self }
    }

    pub(crate) fn unverified(self) -> Self {
        Position { verify: false, ..self }
    }

    /// The same, where the way that was found clear is to be looked at again: for another limit.
    pub(crate) fn looking_again(self) -> Self {
        Position { clear_to: 0, ..self }
    }

    /// The same, but for records before the offset `from`, which are passed over.
    pub(crate) fn passing_over(self, from: u64) -> Self {
        Position { from, ..self }
    }

    pub(crate) fn offset(self) -> u64 {
        self.offset
    }

    /// Looks how far the way is clear from here on, below `limit`, an LSN; whether it is at all.
    #[inline(never)] // it is called once for many records
    fn clear(&mut self, segment: &Segment, map: &Map, limit: u64) -> bool {
        let limit = limit.saturating_sub(segment.lsn(0).0);
        // behind a cut, a later opening writes
        let end = segment.words_end().min(segment.cut()).min(self.present).min(limit);
        if self.offset < self.from || self.offset >= end {
            return false;
        }
        self.clear_to = if self.verify { self.intact_to(segment, map, end) } else { end };
        self.offset < self.clear_to
    }

    /// The end of the intact records from here on that begin below `end`, but for those far
    /// behind. What is not intact is looked at again, and then told: see [`View::step`].
    fn intact_to(&self, segment: &Segment, map: &Map, end: u64) -> u64 {
        const AT_ONCE: u64 = 4096;
        let mut intact_to = self.offset;
        let end = end.min(intact_to + AT_ONCE);
        while intact_to < end {
            let (mut records, mut at) = (Lanes::new(), intact_to);
            while records.takes_more() && at < end {
                let record = segment.record_bytes(map, at);
                let record = record.and_then(|(_, bytes)| scan::record(bytes, self.epoch));
                let Some((header, payload)) = record else { break };
                records.push(self.seed, segment.lsn(at).0, header, payload);
                at = intact_to + records.size();
            }
            if at == intact_to || !records.is_intact() {
                break;
            }
            intact_to = at;
        }
        intact_to
    }
}

impl View {
    /// The record at `position`, which is moved behind it, if that is all there is to it: an
    /// intact one below `limit`. `None`, and nothing is moved: see [`step`](Self::step).
    ///
    /// `map` is the view's own, looked up once for many records.
    #[inline]
    pub(crate) fn record_at_once<'m>(
        &'m self,
        map: &'m Map,
        position: &mut Position,
        limit: impl FnOnce() -> u64,
    ) -> Option<Record<'m>> {
        let segment = &*self.segment;
        let at = position.offset;
        let is_clear = at < position.clear_to || position.clear(segment, map, limit());
        if !is_clear || at >= segment.cut() {
            return None;
        }
        let (kind, bytes) = segment.record_bytes(map, at)?;
        let header = FrameHeader::decode(bytes);
        position.offset = at + bytes.len() as u64;
        if !position.verify {
            sys::prefetch_behind(bytes.as_ptr(), 1, bytes.len());
        }
        let payload_len = format::payload_len(header.word);
        let at = RecordAt {
            kind,
            offset: at,
            ordinal: header.tag.ordinal(),
            payload_len: payload_len as u32,
        };
        Some(Record { view: self, at, data: &bytes[format::FRAME_HEADER..][..payload_len] })
    }

    /// The offset of the record with this ordinal, from `position` on; `None` if the walk does not
    /// come to it: it was cut away, or its ordinal is damaged.
    pub(crate) fn find_ordinal(&self, mut position: Position, ordinal: u32) -> Result<Option<u64>> {
        loop {
            match self.step(&mut position, u64::MAX)? {
                Step::Record(at) if at.ordinal == ordinal => return Ok(Some(at.offset)),
                Step::Record(_) => {}
                Step::Complete | Step::Tail => return Ok(None),
            }
        }
    }

    /// Has what comes next at `position` present, for a reader in order.
    pub(crate) fn read_ahead(&self, position: &mut Position) {
        const PIECE: u64 = 1 << 20;
        let (at, len) = (position.offset, self.segment.len());
        if at >= position.present && at < len {
            let piece = at - at % PIECE;
            position.present = (piece + PIECE).min(len);
            self.region.read_ahead(piece..position.present);
        }
    }

    /// Reads on from `position`, which is moved behind what is returned. Ends at
    /// `limit`, an LSN.
    pub(crate) fn step(&self, position: &mut Position, limit: u64) -> Result<Step> {
        let (segment, map) = (&*self.segment, self.map());
        loop {
            let at = position.offset;
            let cut = segment.cut();
            if at < position.from && position.from >= cut {
                return Err(Error::CutAway { lsn: segment.lsn(position.from) });
            }
            match at.cmp(&cut) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Step::Complete),
                // what was read is no longer in the log: what follows does not follow it
                Ordering::Greater => return Err(Error::CutAway { lsn: segment.lsn(at) }),
            }
            if segment.lsn(at).0 >= limit {
                return Ok(Step::Tail);
            }
            if position.is_end {
                return Ok(Step::Complete);
            }
            let Some((kind, bytes)) = segment.frame_bytes(map, at)? else {
                return Ok(Step::Tail);
            };
            let header = FrameHeader::decode(bytes);
            if position.verify || kind == Kind::State {
                position.epoch = verified(segment, bytes, at, position.epoch)?;
                position.seed = format::seed(segment.id.life.salt, position.epoch);
            }
            if kind == Kind::Seal {
                return Ok(Step::Complete);
            }
            position.offset = at + bytes.len() as u64;
            if at < position.from && position.offset > position.from {
                return Err(Error::NotARecord { lsn: segment.lsn(position.from) });
            }
            if kind.counts() && at >= position.from {
                return Ok(Step::Record(RecordAt {
                    kind,
                    offset: at,
                    ordinal: header.tag.ordinal(),
                    payload_len: format::payload_len(header.word) as u32,
                }));
            }
        }
    }
}

/// Whether the frame is intact; returns the epoch in force behind it.
fn verified(segment: &Segment, bytes: &[u8], at: u64, epoch: u32) -> Result<u32> {
    match segment.id.life.read(bytes, at, epoch) {
        scan::Found::Frame(frame) => match frame.content {
            Content::State(state) if matches!(state.reason, Reason::Begin(_) | Reason::Open) => {
                Ok(state.epoch)
            }
            _ if frame.tag.nibble() != format::nibble(epoch) => {
                Err(segment.damaged(at, Damage::Epoch))
            }
            _ => Ok(epoch),
        },
        scan::Found::Unwritten => Err(segment.damaged(at, Damage::Hole)),
        scan::Found::Unreadable(damage) => Err(segment.damaged(at, damage)),
    }
}

impl Log {
    pub(crate) fn view(&self, segment: &Arc<Segment>) -> Result<View> {
        Ok(View { segment: segment.clone(), region: segment.region(&*self.storage)? })
    }

    pub(crate) fn position(&self, view: &View, offset: u64) -> Result<Position> {
        let epoch = view.segment.epoch_at(view.map(), offset)?;
        let seed = format::seed(view.segment.id.life.salt, epoch);
        Ok(Position {
            offset,
            epoch,
            seed,
            verify: true,
            clear_to: 0,
            present: 0,
            from: 0,
            is_end: false,
        })
    }

    /// What follows a segment that was read to its end, which is `at`: also where that was given
    /// up meanwhile, and nothing else with it.
    pub(crate) fn view_behind(&self, read: &View, at: Position) -> Result<Option<View>> {
        let segment = &*read.segment;
        let behind = match self.view_next(|chain| chain.successor(segment)) {
            Err(truncated @ Error::Truncated { .. }) => {
                let end = segment.published(read.map())?.at.ordinal;
                let next = segment.id.first_sequence + u64::from(end);
                match self.view_next(|chain| Ok(chain.first_if_it_begins_with(next)))? {
                    Some(first) if self.is_whole(&first)? => Ok(Some(first)),
                    _ => Err(truncated),
                }
            }
            view => view,
        };
        if at.offset > segment.cut() {
            // since it was read: what follows it now does not follow what was read
            return Err(Error::CutAway { lsn: segment.lsn(at.offset) });
        }
        behind
    }

    /// Whether the head is not above the first record of a segment, which may be to come.
    fn is_whole(&self, view: &View) -> Result<bool> {
        let first = view.find_ordinal(self.position(view, FIRST_FRAME)?, 0)?;
        Ok(first.is_none_or(|offset| self.head() <= view.segment.lsn(offset)))
    }

    /// What comes before a segment; `None` where the log begins by now.
    pub(crate) fn view_before(&self, segment: &Segment) -> Result<Option<View>> {
        self.view_next(|chain| match chain.predecessor(segment) {
            Err(Error::Truncated { .. }) => Ok(None),
            before => before,
        })
    }

    fn view_next(
        &self,
        next: impl Fn(&Chain) -> Result<Option<&Arc<Segment>>>,
    ) -> Result<Option<View>> {
        loop {
            let Some(segment) = next(&lock(&self.chain))?.cloned() else { return Ok(None) };
            match self.view(&segment) {
                Err(Error::Io { .. }) if !lock(&self.chain).is_live(&segment) => {}
                done => return done.map(Some),
            }
        }
    }

    pub(crate) fn head(&self) -> Lsn {
        lock(&self.chain).head
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::log::Purpose;
    use crate::seek::Start;

    #[test]
    fn nobody_looks_ahead_behind_a_cut() {
        let log = Log::small();
        let lsns: Vec<_> = (0..8).map(|_| log.append_len(8)).collect();
        let (view, mut position) = log.seek(Start::Head).unwrap();
        view.read_ahead(&mut position);
        assert!(matches!(view.step(&mut position, u64::MAX), Ok(Step::Record(_))));
        log.truncate_behind(lsns[4], false).unwrap();
        for mut position in [position, position.unverified()] {
            assert!(position.clear(&view.segment, view.map(), u64::MAX));
            assert_eq!(view.segment.lsn(position.clear_to), lsns[5]);
        }
    }

    #[test]
    fn who_came_to_the_end_of_a_segment_is_told_if_it_is_then_cut_away() {
        let log = Log::small();
        let lsns = [8, 8].map(|len| log.append_len(len));
        log.with_spares(Purpose::Records(log.ring.active()), |chain| log.roll(chain)).unwrap();
        let (view, mut position) = log.seek(Start::Head).unwrap();
        while !matches!(view.step(&mut position, u64::MAX), Ok(Step::Complete)) {}
        for (kept, is_told) in [(lsns[1], false), (lsns[0], true)] {
            log.truncate_behind(kept, false).unwrap();
            match log.view_behind(&view, position) {
                Err(Error::CutAway { .. }) => assert!(is_told, "all that was read is kept"),
                behind => assert!(!is_told && behind.unwrap().is_some()),
            }
        }
    }
}
