//! A record as it is handed out: borrowed from where it lies, or kept.

use std::fmt;
use std::ops::Range;

use crate::format::{self, FRAME_HEADER, Kind};
use crate::lsn::Lsn;
use crate::map::Map;
use crate::segment::Segment;
use crate::storage::Region;
use crate::sync::Arc;

/// A segment, and its mapping held.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) segment: Arc<Segment>,
    pub(crate) region: Arc<dyn Region>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.segment.path()).finish()
    }
}

impl View {
    pub(crate) fn map(&self) -> &Map {
        self.region.map()
    }

    pub(crate) fn record(&self, at: RecordAt) -> Record<'_> {
        let data = match at.kind {
            Kind::Abandoned => &[],
            _ => self.map().published(at.payload()),
        };
        Record { view: self, at, data }
    }
}

/// Where a record or an abandoned claim lies in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordAt {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) ordinal: u32,
    pub(crate) payload_len: u32,
}

impl RecordAt {
    fn payload(self) -> Range<u64> {
        let start = self.offset + FRAME_HEADER as u64;
        start..start + u64::from(self.payload_len)
    }

    /// The offset behind its frame.
    pub(crate) fn end(self) -> u64 {
        self.offset + format::frame_size(self.payload_len as usize)
    }
}

/// A record of the log, borrowed from where it lies in the mapping.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub(crate) view: &'a View,
    pub(crate) at: RecordAt,
    pub(crate) data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The bytes that were appended; 8-byte aligned. Empty for an abandoned claim.
    #[inline]
    pub fn data(&self) -> &'a [u8] {
        self.data
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
    /// [ask for it](crate::Records::with_abandoned).
    pub fn is_abandoned(&self) -> bool {
        self.at.kind == Kind::Abandoned
    }

    /// The record by itself: may be kept and sent, whatever becomes of the log.
    /// Costs two reference counts, no copy.
    pub fn keep(&self) -> OwnedRecord {
        OwnedRecord::new(self.view.clone(), self.at)
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
    pub(crate) fn new(view: View, at: RecordAt) -> Self {
        OwnedRecord { view, at }
    }

    /// The record, borrowed.
    pub fn record(&self) -> Record<'_> {
        self.view.record(self.at)
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
