//! Where the records of a batch are.

use std::iter::FusedIterator;

use crate::format;
use crate::lsn::Lsn;

/// A batch that was appended: where its records are. Returned by
/// [`Wal::append_batch`](crate::Wal::append_batch), whose argument it borrows.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'r> {
    pub(crate) records: &'r [&'r [u8]],
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
}

impl<'r> Batch<'r> {
    /// Where its first record is.
    pub fn first(self) -> Lsn {
        self.first
    }

    /// Where its last record is: to give to [`sync_to`](crate::Wal::sync_to), or to
    /// [`truncate_after`](crate::Wal::truncate_after).
    pub fn last(self) -> Lsn {
        self.last
    }

    /// Where each of them is, in order. Computed on the way: costs no memory.
    pub fn lsns(self) -> impl ExactSizeIterator<Item = Lsn> + FusedIterator + Clone + use<'r> {
        let mut next = self.first;
        self.records.iter().map(move |record| {
            let lsn = next;
            next = Lsn(lsn.0 + format::frame_size(record.len()));
            lsn
        })
    }
}
