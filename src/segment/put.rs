//! Frames into claims: from here to `publish`, nothing can fail.

use crate::format::{self, FRAME_HEADER, Kind, Tag};
use crate::lsn::Lsn;
use crate::map::Claim;

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
/// Returns where its first record is.
pub(crate) fn put_batch(mut claim: Claim<'_>, stamp: Stamp, records: &[&[u8]]) -> Lsn {
    if let [record] = records {
        let seed = claim.seed();
        return put(claim, stamp, Kind::Record, seed, record);
    }
    let (mut at, mut ordinal) = (claim.start(), claim.ordinal());
    let lsn = claim.base() + at;
    let first_word = format::word(Kind::More, records[0].len());
    for (i, record) in records.iter().enumerate() {
        let kind = if i + 1 < records.len() { Kind::More } else { Kind::Last };
        let (word, seed) = (format::word(kind, record.len()), claim.seed());
        fill(&mut claim, stamp, at, ordinal, seed, word, record);
        if i > 0 {
            claim.store_word(at, word);
        }
        at += format::frame_size(record.len());
        ordinal += 1;
    }
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
