//! Reading in order, in both directions, borrowing from the maps.
//!
//! A position is a segment and an offset. Forwards, each frame says where the next
//! one is; backwards, a block is walked forwards and handed out from its end.
//! Whoever reads holds the regions of the segments it has come through, so what it
//! was handed stays true whatever becomes of the files.

use std::cmp::Ordering;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{Damage, Error, Result};
use crate::format::{self, FIRST_FRAME, FRAME_HEADER, FrameHeader, Kind, Reason};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::map::Map;
use crate::scan::{self, Content};
use crate::segment::Segment;
use crate::storage::Region;
use crate::sync::{Arc, lock};

/// A segment, and its mapping held.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) segment: Arc<Segment>,
    pub(crate) region: Arc<dyn Region>,
}

/// Where a record or an abandoned claim lies in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordAt {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    /// The offset behind its frame.
    pub(crate) end: u64,
    pub(crate) ordinal: u32,
    payload_len: usize,
}

impl RecordAt {
    fn payload(&self) -> Range<u64> {
        let start = self.offset + FRAME_HEADER as u64;
        start..start + self.payload_len as u64
    }
}

/// A record of the log, borrowed from where it lies in the mapping.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    view: &'a View,
    at: RecordAt,
}

impl<'a> Record<'a> {
    /// The bytes that were appended; 8-byte aligned. Empty for an abandoned claim.
    pub fn data(&self) -> &'a [u8] {
        if self.is_abandoned() {
            return &[];
        }
        self.view.region.map().published(self.at.payload())
    }

    /// Where it is in the log.
    pub fn lsn(&self) -> Lsn {
        self.view.segment.lsn(self.at.offset)
    }

    /// Its number: 1 for the first record of the log, and one more for each.
    pub fn sequence(&self) -> u64 {
        self.view.segment.id.first_sequence + self.at.ordinal as u64
    }

    /// Whether more records of its batch follow.
    pub fn has_more_of_its_batch(&self) -> bool {
        self.at.kind == Kind::More
    }

    /// Whether there is only a number: the closure of
    /// [`append_with`](crate::Wal::append_with) panicked. Only seen by those who
    /// [ask for it](Records::with_abandoned).
    pub fn is_abandoned(&self) -> bool {
        self.at.kind == Kind::Abandoned
    }

    /// The record by itself: may be kept and sent, whatever becomes of the log.
    /// Costs a reference count, no copy.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord { view: self.view.clone(), at: self.at }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_record(f, "Record", self)
    }
}

/// A record that is kept: holds its segment's mapping, not a copy.
#[derive(Clone)]
pub struct OwnedRecord {
    view: View,
    at: RecordAt,
}

impl OwnedRecord {
    /// The record, borrowed.
    pub fn record(&self) -> Record<'_> {
        Record { view: &self.view, at: self.at }
    }

    /// The bytes that were appended; 8-byte aligned.
    pub fn data(&self) -> &[u8] {
        self.record().data()
    }

    /// Where it was in the log.
    pub fn lsn(&self) -> Lsn {
        self.record().lsn()
    }

    /// Its number.
    pub fn sequence(&self) -> u64 {
        self.record().sequence()
    }
}

impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_record(f, "OwnedRecord", &self.record())
    }
}

fn debug_record(f: &mut fmt::Formatter<'_>, name: &str, record: &Record<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("lsn", &record.lsn())
        .field("sequence", &record.sequence())
        .field("len", &record.data().len())
        .finish()
}

/// Where reading goes on in a segment, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    offset: u64,
    /// The epoch in force there; only what is verified needs it.
    epoch: u32,
    verify: bool,
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
    pub(crate) fn at(self, offset: u64) -> Self {
        Position { offset, ..self }
    }

    pub(crate) fn offset(self) -> u64 {
        self.offset
    }
}

impl View {
    pub(crate) fn record(&self, at: RecordAt) -> Record<'_> {
        Record { view: self, at }
    }

    fn map(&self) -> &Map {
        self.region.map()
    }

    /// Reads on from `position`, which is moved behind what is returned. Ends at
    /// `limit`, an LSN.
    pub(crate) fn step(&self, position: &mut Position, limit: u64) -> Result<Step> {
        let segment = &*self.segment;
        loop {
            let at = position.offset;
            match at.cmp(&segment.cut()) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Step::Complete),
                // what was read is no longer in the log: what follows does not follow it
                Ordering::Greater => return Err(Error::CutAway { lsn: segment.lsn(at) }),
            }
            if segment.lsn(at).0 >= limit {
                return Ok(Step::Tail);
            }
            let Some(bytes) = segment.frame_bytes(self.map(), at)? else {
                return Ok(Step::Tail);
            };
            let header = FrameHeader::decode(bytes);
            let kind = format::kind(header.word);
            let kind = kind.ok_or_else(|| segment.damaged(at, Damage::Kind))?;
            if position.verify || kind == Kind::State {
                position.epoch = verified(segment, bytes, at, position.epoch)?;
            }
            position.offset = at + bytes.len() as u64;
            if kind == Kind::Seal {
                return Ok(Step::Complete);
            }
            if kind.counts() {
                return Ok(Step::Record(RecordAt {
                    kind,
                    offset: at,
                    end: position.offset,
                    ordinal: header.tag.ordinal(),
                    payload_len: format::payload_len(header.word),
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
            end: offset + bytes.len() as u64,
            ordinal: frame.tag.ordinal(),
            payload_len: frame.payload.len(),
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

    fn view(&self, segment: &Arc<Segment>) -> Result<View> {
        Ok(View { segment: segment.clone(), region: segment.region(&*self.storage)? })
    }

    pub(crate) fn position(&self, view: &View, offset: u64, verify: bool) -> Result<Position> {
        let epoch = view.segment.epoch_at(view.map(), offset)?;
        Ok(Position { offset, epoch, verify })
    }

    /// The view and offset to read from `lsn` on: a frame, or the tail.
    pub(crate) fn seek(&self, lsn: Lsn) -> Result<(View, u64)> {
        let chain = &mut *lock(&self.chain);
        let tail = self.tail(chain);
        let (segment, offset) = self.find(chain, lsn)?;
        let view = self.view(&segment)?;
        if lsn == tail || lsn == chain.head {
            return Ok((view, offset.max(FIRST_FRAME)));
        }
        let map = view.map();
        let starts = match self.record_at(&segment, map, offset)? {
            Some(_) => true,
            None => segment.boundary_at(map, offset)?.is_some(),
        };
        if starts { Ok((view, offset)) } else { Err(Error::NotARecord { lsn }) }
    }

    /// The same for a sequence number.
    fn seek_sequence(&self, sequence: u64) -> Result<(View, u64)> {
        let chain = &mut *lock(&self.chain);
        let after = chain.live.partition_point(|segment| segment.id.first_sequence <= sequence);
        let first_of = |i: usize| chain.live[i].id.first_sequence;
        // several segments begin with one number if those before are empty: the last
        let i = after.saturating_sub(1);
        let view = self.view(&chain.live[i])?;
        let segment = &view.segment;
        let published = segment.published(view.map())?;
        let next = segment.id.first_sequence + published.at.ordinal as u64;
        let no_such = || Error::NoSuchSequence { sequence, first: first_of(0), next };
        if sequence < segment.id.first_sequence || sequence > next {
            return Err(no_such());
        }
        let ordinal = (sequence - segment.id.first_sequence) as u32;
        let block = segment.block_of(view.map(), ordinal)?;
        let mut position = self.position(&view, block.offset, false)?;
        let limit = segment.lsn(published.at.offset).0;
        let offset = loop {
            let before = position.offset;
            match view.step(&mut position, limit)? {
                Step::Record(at) if at.ordinal == ordinal => break at.offset,
                Step::Record(_) => {}
                Step::Complete | Step::Tail => break before.min(published.at.offset),
            }
        };
        if segment.lsn(offset) < chain.head && sequence < next {
            return Err(no_such());
        }
        Ok((view, offset))
    }

    /// `start`, or the end of what is published if that is before it: in an earlier
    /// segment someone may be in the middle of an append.
    fn published_before(&self, start: (View, u64)) -> Result<(View, u64)> {
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

    /// What follows a segment that was read to its end.
    pub(crate) fn view_behind(&self, segment: &Segment) -> Result<Option<View>> {
        let chain = lock(&self.chain);
        chain.successor(segment)?.map(|next| self.view(next)).transpose()
    }

    fn view_before(&self, segment: &Segment) -> Result<Option<View>> {
        let chain = lock(&self.chain);
        chain.predecessor(segment)?.map(|before| self.view(before)).transpose()
    }

    pub(crate) fn head(&self) -> Lsn {
        lock(&self.chain).head
    }
}

/// Where reading starts: holds the mappings of all segments that were read through
/// it, so that their records are plain slices. For a reader that lives long, follow
/// the log with a [`Follower`](crate::Follower), which holds one segment at a time.
///
/// A reader needs no lock, and hinders nobody: the files that it reads may be
/// truncated away meanwhile.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    held: OnceLock<Box<HeldView>>,
}

/// A list that only grows: what is in it can be borrowed as long as the reader.
#[derive(Debug)]
struct HeldView {
    view: View,
    next: OnceLock<Box<HeldView>>,
}

impl Drop for HeldView {
    fn drop(&mut self) {
        // one by one: a log has more segments than a stack has room for
        let mut next = self.next.take();
        while let Some(mut held) = next {
            next = held.next.take();
        }
    }
}

impl Reader {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Reader { log, held: OnceLock::new() }
    }

    /// Holds a view as long as this reader lives.
    fn hold(&self, view: View) -> &View {
        let mut place = &self.held;
        loop {
            let held = place
                .get_or_init(|| Box::new(HeldView { view: view.clone(), next: OnceLock::new() }));
            if Arc::ptr_eq(&held.view.segment, &view.segment) {
                return &held.view;
            }
            place = &held.next;
        }
    }

    /// All records, from the head on.
    pub fn iter(&self) -> Records<'_> {
        self.from(self.log.head())
    }

    /// The records from `lsn` on, which is where one begins, or the tail. If it is
    /// neither, the first item is the error: [`Error::NotARecord`],
    /// [`Error::Truncated`], [`Error::CutAway`] or [`Error::OutOfLog`].
    ///
    /// O(1), however far `lsn` is from the head, once its segment has been walked.
    pub fn from(&self, lsn: Lsn) -> Records<'_> {
        self.records(self.log.seek(lsn))
    }

    /// The records from the one with this number on; an abandoned one counts. If
    /// there is none, the first item is [`Error::NoSuchSequence`].
    pub fn from_sequence(&self, sequence: u64) -> Records<'_> {
        self.records(self.log.seek_sequence(sequence))
    }

    fn records(&self, start: Result<(View, u64)>) -> Records<'_> {
        let start = start.and_then(|(view, offset)| {
            let position = self.log.position(&view, offset, true)?;
            Ok((self.hold(view), position))
        });
        Records { reader: self, at: start.map_err(Some), durable_only: false, abandoned: false }
    }

    /// The records from the last one back to the head.
    pub fn backwards(&self) -> Backwards<'_> {
        self.backwards_from(self.log.next_lsn())
    }

    /// The records before `lsn`, the nearest first. `lsn` is as for
    /// [`from`](Self::from).
    pub fn backwards_from(&self, lsn: Lsn) -> Backwards<'_> {
        let start = self.log.seek(lsn).and_then(|start| self.log.published_before(start));
        let start = start.map(|(view, offset)| (self.hold(view), offset));
        Backwards { reader: self, at: start.map_err(Some), block: Vec::new() }
    }
}

/// An iterator over the records of a log, forwards: made by [`Reader`].
///
/// It ends at the tail, and goes on there when it is asked again later. An error is
/// the last item. Checks are verified on the way, unless
/// [`unverified`](Self::unverified) was said.
#[derive(Debug)]
pub struct Records<'r> {
    reader: &'r Reader,
    at: std::result::Result<(&'r View, Position), Option<Error>>,
    durable_only: bool,
    abandoned: bool,
}

impl Records<'_> {
    /// Only what is durable: what a power cut now would leave.
    pub fn durable(mut self) -> Self {
        self.durable_only = true;
        self
    }

    /// Does not verify the checksums: for what was verified on opening, or written
    /// since.
    pub fn unverified(mut self) -> Self {
        if let Ok((_, position)) = &mut self.at {
            position.verify = false;
        }
        self
    }

    /// Hands out abandoned claims, too: see [`Record::is_abandoned`].
    pub fn with_abandoned(mut self) -> Self {
        self.abandoned = true;
        self
    }
}

impl<'r> Records<'r> {
    fn step(&mut self) -> Result<Option<Record<'r>>> {
        let log = &*self.reader.log;
        let (view, position) = match &mut self.at {
            Ok(at) => at,
            Err(error) => return error.take().map_or(Ok(None), Err),
        };
        loop {
            let limit = if self.durable_only { log.commit.durable() } else { u64::MAX };
            match view.step(position, limit)? {
                Step::Record(at) => {
                    if at.kind != Kind::Abandoned || self.abandoned {
                        return Ok(Some(Record { view, at }));
                    }
                }
                Step::Tail => return Ok(None),
                Step::Complete => {
                    let Some(next) = log.view_behind(&view.segment)? else {
                        return Ok(None);
                    };
                    *view = self.reader.hold(next);
                    position.offset = FIRST_FRAME;
                }
            }
        }
    }
}

impl<'r> Iterator for Records<'r> {
    type Item = Result<Record<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if let Some(Err(_)) = item {
            self.at = Err(None);
        }
        item
    }
}

/// An iterator over the records of a log, backwards: made by [`Reader`]. Checks are
/// verified.
#[derive(Debug)]
pub struct Backwards<'r> {
    reader: &'r Reader,
    /// Records before this offset are still to come.
    at: std::result::Result<(&'r View, u64), Option<Error>>,
    /// Those of the current block, nearest last.
    block: Vec<RecordAt>,
}

impl<'r> Backwards<'r> {
    fn step(&mut self) -> Result<Option<Record<'r>>> {
        let log = &*self.reader.log;
        let (view, offset) = match &mut self.at {
            Ok(at) => at,
            Err(error) => return error.take().map_or(Ok(None), Err),
        };
        loop {
            if let Some(at) = self.block.pop() {
                if view.segment.lsn(at.offset) < log.head() {
                    return Ok(None);
                }
                return Ok(Some(Record { view, at }));
            }
            if *offset <= FIRST_FRAME {
                let Some(before) = log.view_before(&view.segment)? else { return Ok(None) };
                *view = self.reader.hold(before);
                *offset = view.segment.published(view.map())?.at.offset;
            }
            let block = view.segment.block_before(view.map(), *offset)?;
            let mut position = log.position(view, block.offset, true)?;
            while position.offset < *offset {
                match view.step(&mut position, view.segment.lsn(*offset).0)? {
                    Step::Record(at) if at.kind != Kind::Abandoned => self.block.push(at),
                    Step::Record(_) => {}
                    Step::Complete | Step::Tail => break,
                }
            }
            *offset = block.offset;
        }
    }
}

impl<'r> Iterator for Backwards<'r> {
    type Item = Result<Record<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.at = Err(None);
        }
        item
    }
}

impl FusedIterator for Backwards<'_> {}

impl Log {
    /// The record at `lsn`, by itself.
    pub(crate) fn read(&self, lsn: Lsn) -> Result<OwnedRecord> {
        let view = {
            let chain = &mut *lock(&self.chain);
            let (segment, _) = self.find(chain, lsn)?;
            self.view(&segment)?
        };
        let offset = lsn.0 - view.segment.lsn(0).0;
        match self.record_at(&view.segment, view.map(), offset)? {
            Some(at) if at.kind == Kind::Abandoned => Err(Error::Abandoned { lsn }),
            Some(at) => Ok(OwnedRecord { view, at }),
            None => Err(Error::NotARecord { lsn }),
        }
    }
}
