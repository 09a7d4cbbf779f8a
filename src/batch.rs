//! Where the records of a batch are.

use std::iter::FusedIterator;

use crate::format;
use crate::lsn::Lsn;

/// A batch that was appended: where its records are. Returned by
/// [`Wal::append_batch`](crate::Wal::append_batch).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
}

impl Batch {
    /// Where its first record is.
    pub fn first(self) -> Lsn {
        self.first
    }

    /// Where its last record is: to give to [`sync_to`](crate::Wal::sync_to), or to
    /// [`truncate_after`](crate::Wal::truncate_after).
    pub fn last(self) -> Lsn {
        self.last
    }

    /// Where each of them is, in order: of the `records` that were appended. Computed on the
    /// way, from their lengths: costs no memory.
    ///
    /// ```
    /// let wal = mapwal::Wal::in_memory()?;
    /// let records = [b"one".as_slice(), b"two", b"three"];
    /// let batch = wal.append_batch(&records)?;
    /// for (lsn, record) in batch.lsns(&records).zip(records) {
    ///     assert_eq!(wal.read(lsn)?.data(), record);
    /// }
    /// # Ok::<(), mapwal::Error>(())
    /// ```
    pub fn lsns<'r>(
        self,
        records: &'r [&'r [u8]],
    ) -> impl ExactSizeIterator<Item = Lsn> + FusedIterator + Clone + use<'r> {
        let mut next = self.first;
        records.iter().map(move |record| {
            let lsn = next;
            next = Lsn(lsn.0 + format::frame_size(record.len()));
            lsn
        })
    }
}
