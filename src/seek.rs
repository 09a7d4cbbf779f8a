//! From an LSN or a number to a position, and to a record by itself.

use crate::chain::Chain;
use crate::cursor::Position;
use crate::error::{Damage, Error, Result};
use crate::format::{self, FIRST_FRAME, Kind};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::map::Map;
use crate::record::{OwnedRecord, RecordAt, View};
use crate::scan;
use crate::segment::Segment;
use crate::sync::{Arc, lock};

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    Head,
    Tail,
    At(Lsn),
}

impl Log {
    /// Calls `read` with what `choose` finds under the chain lock, outside of it: files
    /// are mapped and walked there. Chooses again if that was given up or cut away meanwhile.
    fn read_in<T>(
        &self,
        choose: impl Fn(&mut Chain) -> Result<(Arc<Segment>, u64)>,
        read: impl Fn(&Arc<Segment>, u64) -> Result<T>,
    ) -> Result<T> {
        let (mut segment, mut number) = choose(&mut lock(&self.chain))?;
        loop {
            use Error::{Io, NoSuchSequence, NotARecord};
            let error = match read(&segment, number) {
                Err(error @ (Io { .. } | NotARecord { .. } | NoSuchSequence { .. })) => error,
                done => return done,
            };
            let again = choose(&mut lock(&self.chain))?;
            if Arc::ptr_eq(&again.0, &segment) {
                return Err(error);
            }
            (segment, number) = again;
        }
    }

    /// The view and the position to read from: a frame, or the tail. Behind what can be
    /// walked to yet, the last place that can, from where records are passed over.
    pub(crate) fn seek(&self, from: Start) -> Result<(View, Position)> {
        self.read_in(
            |chain| {
                let lsn = match from {
                    Start::Head | Start::At(Lsn::NONE) => chain.head,
                    Start::Tail => self.tail(chain),
                    Start::At(lsn) => lsn,
                };
                let (segment, offset) = self.find(chain, lsn)?;
                // the head may be where a segment begins
                Ok((segment, if lsn == chain.head { offset.max(FIRST_FRAME) } else { offset }))
            },
            |segment, offset| {
                let view = self.view(segment)?;
                let map = view.map();
                let published = segment.published(map)?;
                let walked = published.at.offset;
                if offset > walked && !published.complete {
                    let position = self.position(&view, walked)?;
                    return Ok((view, position.passing_over(offset)));
                }
                let lsn = segment.lsn(offset);
                if segment.boundary_at(map, offset)?.is_none() {
                    if lsn == self.head() {
                        // opening did not verify it
                        return Err(segment.damaged(offset, Damage::Head(lsn)));
                    }
                    if self.record_at(segment, map, offset)?.is_none() {
                        return Err(Error::NotARecord { lsn });
                    }
                }
                let position = self.position(&view, offset)?;
                let is_end = published.complete && offset >= walked; // the durable mark may be there
                Ok((view, if is_end { position.at_end() } else { position }))
            },
        )
    }

    /// The same for a sequence number.
    pub(crate) fn seek_sequence(&self, sequence: u64) -> Result<(View, Position)> {
        self.read_in(
            |chain| {
                // several segments begin with one number if those before are empty: the last
                let live = &chain.live;
                let after = live.partition_point(|live| live.id.first_sequence <= sequence);
                Ok((live[after.saturating_sub(1)].clone(), live[0].id.first_sequence))
            },
            |segment, first| {
                let view = self.view(segment)?;
                let published = segment.published(view.map())?;
                let next = segment.id.first_sequence + published.at.ordinal as u64;
                if published.complete && sequence >= next && self.comes_before(segment, sequence) {
                    // opening did not verify it: records are missing in it
                    return Err(segment.damaged(published.at.offset, Damage::Ordinal));
                }
                let no_such = Error::NoSuchSequence { sequence, first, next };
                if sequence < segment.id.first_sequence || sequence > next {
                    return Err(no_such);
                }
                let mut offset = published.at.offset;
                if sequence < next {
                    let ordinal = (sequence - segment.id.first_sequence) as u32;
                    let block = segment.block_of(view.map(), ordinal)?;
                    let block = self.position(&view, block.offset)?;
                    let found = match view.find_ordinal(block.unverified(), ordinal)? {
                        // who verifies from the start learns why it is not where it is counted
                        None => view.find_ordinal(self.position(&view, FIRST_FRAME)?, ordinal)?,
                        found => found,
                    };
                    offset = found.filter(|&at| segment.lsn(at) >= self.head()).ok_or(no_such)?;
                }
                let position = self.position(&view, offset)?;
                let is_end = published.complete && sequence == next;
                Ok((view, if is_end { position.at_end() } else { position }))
            },
        )
    }

    /// Whether the record with this number comes before the live segment behind `segment`.
    fn comes_before(&self, segment: &Segment, sequence: u64) -> bool {
        let chain = lock(&self.chain);
        let behind = chain.successor(segment).ok().flatten();
        behind.is_some_and(|behind| sequence < behind.id.first_sequence)
    }

    /// `start`, or the end of what is published if that is before it: in an earlier
    /// segment someone may be in the middle of an append.
    pub(crate) fn published_before(&self, start: (View, u64)) -> Result<(View, u64)> {
        let earlier = {
            let chain = lock(&self.chain);
            let mut segments = chain.from(Lsn(self.commit.durable()));
            segments.retain(|segment| segment.id.index < start.0.segment.id.index);
            segments.iter().map(|segment| self.view(segment)).collect::<Result<Vec<_>>>()?
        };
        for view in earlier {
            let published = view.segment.published(view.map())?;
            if !published.complete {
                return Ok((view, published.at.offset));
            }
        }
        Ok(start)
    }

    /// The record, or abandoned claim, whose frame begins at `offset`: verified.
    pub(crate) fn record_at(
        &self,
        segment: &Segment,
        map: &Map,
        offset: u64,
    ) -> Result<Option<RecordAt>> {
        let possible = offset >= FIRST_FRAME && offset % format::ALIGN == 0;
        if !possible || offset >= segment.cut() {
            return Ok(None);
        }
        // Not a place that was walked to: whatever stands there counts only if it is
        // an intact frame of this very place, which is a matter of its check. Behind
        // what was walked others may be writing.
        let walked = segment.walked_beyond(map, offset)?;
        let Some(bytes) = segment.frame_below(map, offset, walked) else {
            return self.damaged_or_none(segment, map, offset, walked);
        };
        let epoch = segment.epoch_at(map, offset)?;
        let scan::Found::Frame(frame) = segment.id.life.read(bytes, offset, epoch) else {
            return self.damaged_or_none(segment, map, offset, walked);
        };
        Ok(frame.kind.counts().then_some(RecordAt {
            kind: frame.kind,
            offset,
            ordinal: frame.tag.ordinal(),
            payload_len: frame.payload.len() as u32,
        }))
    }

    /// A place without an intact frame: damage if a frame begins there, else nothing.
    fn damaged_or_none(
        &self,
        segment: &Segment,
        map: &Map,
        offset: u64,
        walked: u64,
    ) -> Result<Option<RecordAt>> {
        match offset < walked && segment.starts_frame(map, offset)? {
            true => Err(segment.damaged(offset, Damage::Check)),
            false => Ok(None),
        }
    }

    /// The record at `lsn`, by itself.
    pub(crate) fn read(&self, lsn: Lsn) -> Result<OwnedRecord> {
        self.read_in(
            |chain| self.find(chain, lsn),
            |segment, offset| {
                let view = self.view(segment)?;
                let published = segment.published(view.map())?;
                match self.record_at(segment, view.map(), offset)? {
                    Some(at) if at.kind == Kind::Abandoned => Err(Error::Abandoned { lsn }),
                    Some(at) => Ok(OwnedRecord::new(view, at)),
                    None => {
                        let behind = !published.complete && published.at.offset <= offset;
                        Err(match behind && lsn < self.next_lsn() {
                            true => Error::UnderWay { lsn },
                            false => Error::NotARecord { lsn },
                        })
                    }
                }
            },
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_away_while_it_is_looked_for_is_told_to_be_so() {
        let log = Log::small();
        let (kept, gone) = (log.append_len(8), log.append_len(8));
        let found = log.read_in(
            |chain| log.find(chain, gone),
            |segment, offset| {
                log.truncate_behind(kept, false)?;
                match log.record_at(segment, segment.region(&*log.storage)?.map(), offset)? {
                    Some(_) => Ok(()),
                    None => Err(Error::NotARecord { lsn: gone }),
                }
            },
        );
        assert!(matches!(found, Err(Error::CutAway { lsn }) if lsn == gone), "{found:?}");
    }
}
