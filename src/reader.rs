//! Readers: iterators over the log, in both directions, borrowing from the maps.
//!
//! Forwards, each frame says where the next one is; backwards, a block is walked
//! forwards and handed out from its end. Whoever reads holds the regions of the
//! segments it has come through, so what it was handed stays true whatever becomes
//! of the files.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::OnceLock;

use crate::chain::Chain;
use crate::cursor::{Position, Step};
use crate::error::{Error, Result};
use crate::format::{FIRST_FRAME, Kind};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::map::Map;
use crate::record::{Record, RecordAt, View};
use crate::seek::Start;
use crate::sync::{Arc, lock};

/// Where reading starts: holds the mappings of all segments that were read through
/// it, so that their records are plain slices. For a reader that lives long, follow
/// the log with a [`Follower`](crate::Follower), which holds one segment at a time.
///
/// A reader hinders nobody: the files that it reads may be truncated away meanwhile. It may
/// outlive its log, for what it holds: it may come by what a later opening appends, and is not
/// told of what that cuts away.
///
/// Where a place is looked for in a segment for the first time, its records are walked
/// once, which takes some ten milliseconds for 64 MiB of small ones.
pub struct Reader {
    log: Arc<Log>,
    held: OnceLock<Box<HeldView>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("head", &self.log.head()).finish_non_exhaustive()
    }
}

/// A list that only grows: what is in it can be borrowed as long as the reader.
struct HeldView {
    view: View,
    next: OnceLock<Box<HeldView>>,
}

impl fmt::Debug for HeldView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl HeldView {
    /// Holds the view that is read after this one, which is behind it in the list: a log has
    /// more segments than could be looked through for each.
    fn hold_next(&self, view: View) -> &HeldView {
        hold_from(&self.next, view)
    }
}

/// The view in this place of a list or behind it, where it is put if it is not there.
fn hold_from(mut place: &OnceLock<Box<HeldView>>, view: View) -> &HeldView {
    loop {
        let held =
            place.get_or_init(|| Box::new(HeldView { view: view.clone(), next: OnceLock::new() }));
        if Arc::ptr_eq(&held.view.segment, &view.segment) {
            return held;
        }
        place = &held.next;
    }
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
    fn hold(&self, view: View) -> &HeldView {
        hold_from(&self.held, view)
    }

    /// Where reading ends, as an LSN.
    #[inline]
    fn limit(&self, durable_only: bool) -> u64 {
        if durable_only { self.log.commit.durable() } else { u64::MAX }
    }

    /// All records, from the head on.
    pub fn iter(&self) -> Records<'_> {
        self.records(self.log.seek(Start::Head))
    }

    /// The records from `lsn` on, which is where one begins, or the tail, or what
    /// [`truncate_before`](crate::Wal::truncate_before) was asked for, or [`Lsn::NONE`] for all.
    /// If it is none of these, the first item is the error: [`Error::NotARecord`],
    /// [`Error::Truncated`], [`Error::CutAway`] or [`Error::OutOfLog`]. So it is with
    /// [`Error::Io`] if the file could not be mapped, and with [`Error::Damaged`] if what
    /// lies before `lsn` in it is no longer intact, or its frames do not lead to its end any more.
    ///
    /// O(1), however far `lsn` is from the head, once its segment has been walked.
    pub fn from(&self, lsn: Lsn) -> Records<'_> {
        self.records(self.log.seek(Start::At(lsn)))
    }

    /// The records from the one with this number on; an abandoned one counts. If
    /// there is none, the first item is [`Error::NoSuchSequence`].
    pub fn from_sequence(&self, sequence: u64) -> Records<'_> {
        self.records(self.log.seek_sequence(sequence))
    }

    fn records(&self, start: Result<(View, Position)>) -> Records<'_> {
        let at = At::of(start.map(|(view, position)| Standing::new(self.hold(view), position)));
        Records { reader: self, at, durable_only: false, abandoned: false }
    }

    /// The records from the last one back to the head.
    pub fn backwards(&self) -> Backwards<'_> {
        self.back_from(Start::Tail)
    }

    /// The records before `lsn`, the nearest first. `lsn` is as for
    /// [`from`](Self::from).
    pub fn backwards_from(&self, lsn: Lsn) -> Backwards<'_> {
        self.back_from(Start::At(lsn))
    }

    fn back_from(&self, start: Start) -> Backwards<'_> {
        let place = self.log.seek(start).map(|(view, position)| (view, position.offset()));
        let place = place.and_then(|place| self.log.published_before(place));
        let at = At::of(place.map(|(view, offset)| (self.hold(view), offset)));
        let last = match start {
            Start::At(lsn) => Some(lsn),
            Start::Head | Start::Tail => None,
        };
        Backwards { reader: self, at, block: Vec::new(), last }
    }
}

/// Where an iterator stands.
#[derive(Debug)]
enum At<T> {
    Place(T),
    /// Still to be told.
    Failed(Error),
    Ended,
}

impl<T> At<T> {
    fn of(start: Result<T>) -> Self {
        start.map_or_else(At::Failed, At::Place)
    }

    /// The place; `None` at the end, and once an error was told.
    fn place(&mut self) -> Result<Option<&mut T>> {
        if matches!(self, At::Failed(_)) {
            if let At::Failed(error) = std::mem::replace(self, At::Ended) {
                return Err(error);
            }
        }
        Ok(match self {
            At::Place(place) => Some(place),
            _ => None,
        })
    }
}

/// Where a forward iterator stands: its segment, that segment's map, and where in it.
#[derive(Debug)]
struct Standing<'r> {
    held: &'r HeldView,
    map: &'r Map,
    position: Position,
}

impl<'r> Standing<'r> {
    fn new(held: &'r HeldView, position: Position) -> Self {
        Standing { held, map: held.view.map(), position }
    }
}

/// An iterator over the records of a log, forwards: made by [`Reader`].
///
/// It ends at the tail, and goes on there when it is asked again later. Checks are verified
/// on the way, unless [`unverified`](Self::unverified) was said.
///
/// # Errors
///
/// An error is the last item: the iterator has ended then for good, and another one goes on
/// behind what was read, or wherever the error says. What was handed out stays valid. The
/// first item may be what is said where the iterator was made ([`Reader::from`],
/// [`Reader::from_sequence`]); later ones:
///
/// - [`Error::Truncated`] at the end of a segment, if records behind it were truncated
///   before they were read. The log goes on at the head that it names.
/// - [`Error::CutAway`] if what was read last, or what comes next, was cut away.
/// - [`Error::Damaged`] if what comes next is no longer intact.
/// - [`Error::Io`] if the next segment's file could not be mapped.
#[derive(Debug)]
pub struct Records<'r> {
    reader: &'r Reader,
    at: At<Standing<'r>>,
    durable_only: bool,
    abandoned: bool,
}

impl Records<'_> {
    /// Only what is durable: what a power cut now would leave.
    pub fn durable(mut self) -> Self {
        self.durable_only = true;
        if let At::Place(Standing { position, .. }) = &mut self.at {
            *position = position.looking_again();
        }
        self
    }

    /// Does not verify the checksums: for what was verified on opening, or written
    /// since.
    pub fn unverified(mut self) -> Self {
        if let At::Place(Standing { position, .. }) = &mut self.at {
            *position = position.unverified();
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
        let Some(at) = self.at.place()? else { return Ok(None) };
        loop {
            let Standing { held, position, .. } = at;
            let view = &held.view;
            view.read_ahead(position);
            match view.step(position, self.reader.limit(self.durable_only))? {
                Step::Record(at) => {
                    if at.kind != Kind::Abandoned || self.abandoned {
                        return Ok(Some(view.record(at)));
                    }
                }
                Step::Tail => return Ok(None),
                Step::Complete => {
                    let Some(next) = log.view_behind(view, *position)? else {
                        return Ok(None);
                    };
                    *at = Standing::new(held.hold_next(next), position.in_next());
                }
            }
        }
    }
}

impl<'r> Iterator for Records<'r> {
    type Item = Result<Record<'r>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let At::Place(Standing { held, map, position }) = &mut self.at {
            if let Some(record) =
                held.view.record_at_once(map, position, || self.reader.limit(self.durable_only))
            {
                return Some(Ok(record));
            }
        }
        self.next_other()
    }
}

impl<'r> Records<'r> {
    /// What is no record by itself: the end of a segment, of the log, an error.
    #[cold]
    #[inline(never)]
    fn next_other(&mut self) -> Option<Result<Record<'r>>> {
        let item = self.step().transpose();
        if let Some(Err(_)) = item {
            self.at = At::Ended;
        }
        item
    }
}

/// An iterator over the records of a log, backwards: made by [`Reader`]. Checks are
/// verified.
///
/// It ends, for good, at the head, also where that has moved since it was made.
///
/// # Errors
///
/// As those of [`Records`], and an error is the last item here, too; but for
/// [`Error::Truncated`], which only the first item may be.
pub struct Backwards<'r> {
    reader: &'r Reader,
    /// Records before this offset are still to come.
    at: At<(&'r HeldView, u64)>,
    /// Those of the current block, nearest last.
    block: Vec<RecordAt>,
    /// The one that was handed out last, or the place where this was to begin.
    last: Option<Lsn>,
}

impl fmt::Debug for Backwards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backwards").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'r> Backwards<'r> {
    fn step(&mut self) -> Result<Option<Record<'r>>> {
        let log = &*self.reader.log;
        let Some((held, offset)) = self.at.place()? else { return Ok(None) };
        loop {
            let mut view = &held.view;
            if let Some(at) = self.block.pop() {
                let lsn = view.segment.lsn(at.offset);
                let chain = lock(&log.chain);
                if lsn < chain.head {
                    return Ok(None);
                }
                // also where a cut has shortened the block
                still_there(&chain, self.last.unwrap_or(lsn))?;
                self.last = Some(lsn);
                return Ok(Some(view.record(at)));
            }
            if *offset <= FIRST_FRAME {
                let Some(before) = log.view_before(&view.segment)? else {
                    let last = self.last.unwrap_or(Lsn::NONE);
                    return still_there(&lock(&log.chain), last).map(|()| None);
                };
                *held = held.hold_next(before);
                view = &held.view;
                *offset = view.segment.published(view.map())?.at.offset;
            }
            let block = view.segment.block_before(view.map(), *offset)?;
            let mut position = log.position(view, block.offset)?;
            while position.offset() < *offset {
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

/// Whether what was handed out last is still in the log.
fn still_there(chain: &Chain, lsn: Lsn) -> Result<()> {
    if chain.is_cut_away(lsn) { Err(Error::CutAway { lsn }) } else { Ok(()) }
}

impl<'r> Iterator for Backwards<'r> {
    type Item = Result<Record<'r>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.at = At::Ended;
        }
        item
    }
}

impl FusedIterator for Backwards<'_> {}
