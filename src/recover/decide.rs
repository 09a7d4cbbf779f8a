//! Where the log of a chain ends, and whether anything durable is gone there.

use std::ops::Range;

use super::chain::Chain;
use super::damage_at;
use super::files::{Contents, File, START_LEN};
use super::search::{Epochs, Search};
use super::walk::{self, Reached, Walked};
use super::{Ended, Found, Link, Next, Recovery, SegmentReport, Source, Writers};
use crate::error::{Damage, Error, Result};
use crate::format::{self, ALIGN, Begin, FIRST_FRAME, SEAL_SIZE, STATE_SIZE, Seal, SegmentHeader};
use crate::lsn::Lsn;
use crate::scan::{Place, START, Stop};
use crate::storage::{Storage, length, pieces};
use crate::trail::Trail;

/// Whether a place is proved to have been durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    Durable,
    None,
}

/// What it means that the last segment's walk stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Damaged,
    Torn(Damage),
    Tail,
}

fn verdict(stop: Stop, proof: Proof) -> Verdict {
    match (stop, proof) {
        (_, Proof::Durable) => Verdict::Damaged, // it was durable once: not a crash
        // a write the crash cut short; never promised
        (Stop::Unreadable(damage), Proof::None) => Verdict::Torn(damage),
        // nothing more was written, here or in the file that the seal names
        (Stop::Unwritten | Stop::Sealed(_), Proof::None) => Verdict::Tail,
    }
}

/// Whether a frame at or behind `from` proves more than `above` to have been durable.
pub(super) fn search(
    source: &Source<'_>,
    file: &File,
    from: Place,
    above: u64,
    epochs: Epochs<'_>,
) -> Result<Proof> {
    let contents = file.contents(source.storage)?.counted(&source.read);
    if is_zero(source.storage, &contents, from.offset..file.len())? {
        return Ok(Proof::None); // nearly always
    }
    Ok(match Search::new(file.life(), contents.bytes(0)).proof(from, above, epochs) {
        Some(_) => Proof::Durable,
        None => Proof::None,
    })
}

/// Whether nothing was ever written there. Reads it in.
fn is_zero(storage: &dyn Storage, contents: &Contents<'_>, range: Range<u64>) -> Result<bool> {
    const PIECE: usize = 4 << 20;
    let pieces: Vec<_> = pieces(range, PIECE).collect();
    let wanted: Vec<_> = (0..pieces.len()).collect();
    let found = walk::at_once(storage, &wanted, |i| {
        contents.load(pieces[i].clone())?;
        let bytes = &contents.bytes(pieces[i].start)[..length(&pieces[i])];
        // many at once, and an end to it
        Ok(bytes.chunks(64).all(|some| some.iter().fold(0, |all, byte| all | byte) == 0))
    })?;
    Ok(found.iter().all(|&(_, is_zero)| is_zero))
}

/// A directory whose chain is found.
pub(super) struct Recovered<'a> {
    pub(super) writers: Writers,
    pub(super) source: Source<'a>,
    /// In index order.
    pub(super) files: Vec<File>,
    /// Of each file, if it was walked: of the chain's top, and of all with a begin
    /// above it.
    pub(super) walks: Vec<Option<Walked>>,
    pub(super) chain: Chain,
}

impl Recovered<'_> {
    /// The log, or why there is none to go on with. `unfinished`: names to remove.
    pub(super) fn decide(&self, unfinished: Vec<String>) -> Result<Box<Found>> {
        let (last, end) = *self.chain.links.last().expect("a chain has a top");
        let walked = self.walks[last].as_ref().expect("the top of a chain was walked");
        let file = &self.files[last];
        let tail = file.lsn(end.place.offset);
        self.check_head()?;
        let next = match walked.stop {
            Stop::Sealed(seal) => self.sealed(last, seal)?,
            // no log that a writer left is without room for one
            Stop::Unwritten | Stop::Unreadable(_) if end.place.offset + SEAL_SIZE > file.len() => {
                return Err(file.damaged(end.place.offset, Damage::Length));
            }
            Stop::Unwritten | Stop::Unreadable(_) => Next::There,
        };
        let (mut proof, witness) = self.proof(last, walked, tail)?;
        if proof != Proof::None && self.writers == Writers::Perhaps && self.goes_on(last, walked)? {
            // what proves it was written after the walk had stopped
            proof = Proof::None;
        }
        let ended = match verdict(walked.stop, proof) {
            Verdict::Damaged => return Err(self.lost(last, walked, next, witness)),
            Verdict::Torn(damage) => {
                let contents = file.contents(self.source.storage)?;
                contents.load(end.place.offset..end.place.offset + STATE_SIZE)?;
                let bytes = contents.bytes(end.place.offset);
                let overwritten = bytes[..bytes.len().min(STATE_SIZE as usize)].to_vec();
                Ended::Torn { path: file.path.clone(), at: walked.at, damage, overwritten }
            }
            Verdict::Tail if end.closed => Ended::Closed,
            Verdict::Tail => Ended::Unclosed,
        };
        let (spares, mut dead) = self.spares(last, next);
        dead.extend(unfinished);
        self.found(tail, next, spares, dead, ended).map(Box::new)
    }

    /// The head divides no frame and no batch: a state that names it counts only where all before
    /// it is whole, so no crash leaves another one.
    fn check_head(&self) -> Result<()> {
        let (k, _) = self.chain.links[0];
        let (file, head) = (&self.files[k], self.chain.head);
        let offset = head.0.saturating_sub(file.lsn(0));
        let is_between = match (offset, &self.walks[k]) {
            _ if head.0 % ALIGN != 0 => false,
            // where what comes before ends, as its begin says
            (..FIRST_FRAME, _) => head.0 == self.begin(k).predecessor_end,
            (FIRST_FRAME, _) => true,
            (..START_LEN, _) => false, // inside its begin
            (_, Some(walked)) => walked.is_boundary(self.source.storage, file, offset)?,
            (_, None) => true, // not verified: found by those who read from there
        };
        match is_between {
            true => Ok(()),
            false => Err(file.damaged(offset.max(FIRST_FRAME), Damage::Head(head))),
        }
    }

    /// Whether anything proves that the tail was durable: what was walked above
    /// it, or what a search finds behind it; and in which file.
    fn proof(&self, last: usize, walked: &Walked, tail: u64) -> Result<(Proof, usize)> {
        for k in last + 1..self.files.len() {
            if self.walks[k].as_ref().is_some_and(|walked| walked.proof > tail) {
                return Ok((Proof::Durable, k));
            }
        }
        let named = self.walks.iter().flatten().flat_map(|walked| walked.trail.epochs());
        let epochs = Epochs { named: &named.collect(), least: walked.end.epoch };
        // nothing is ever written behind a seal
        let sealed = matches!(walked.stop, Stop::Sealed(_));
        // Behind a close, the log goes on with an open there, or with a seal: where there is
        // neither, a file without a begin holds nothing. Anywhere else it may be one whose begin is
        // damaged, also where what it follows has no seal: where it was cut, or not flushed.
        let is_closed = walked.end.closed && walked.stop == Stop::Unwritten;
        let may_hold = |k: &usize| *k == last || !is_closed || self.files[*k].first.is_some();
        let looked_into: Vec<_> =
            (last..self.files.len()).skip(sealed as usize).filter(may_hold).collect();
        let found = walk::at_once(self.source.storage, &looked_into, |k| {
            let from = self.walks[k].as_ref().map_or(START, |walked| walked.end.place);
            search(&self.source, &self.files[k], from, tail, epochs)
        })?;
        let proof = found.into_iter().find(|&(_, proof)| proof == Proof::Durable);
        Ok(proof.map_or((Proof::None, last), |(k, proof)| (proof, k)))
    }

    /// Whether the log goes on by now where the walk of its last segment stopped.
    fn goes_on(&self, last: usize, walked: &Walked) -> Result<bool> {
        let again = walk::walk(&self.source, &self.files[last], &[])?;
        if again.at != walked.at {
            return Ok(true);
        }
        let Stop::Sealed(seal) = again.stop else { return Ok(false) };
        let next = self.files.iter().find(|file| file.header.index == seal.next_index);
        let Some(next) = next.filter(|next| next.first.is_none()) else { return Ok(false) };
        let next = File::open(self.source.storage, seal.next_index, &next.name, next.len())?;
        Ok(next.first.is_some())
    }

    /// Where the log goes on behind the seal of its last segment.
    fn sealed(&self, last: usize, seal: Seal) -> Result<Next> {
        let above = &self.files[last + 1..];
        match above.binary_search_by_key(&seal.next_index, |file| file.header.index) {
            // its begin did not link, or its file is another one
            Ok(i) if above[i].first.is_some() || above[i].header.salt != seal.next_salt => {
                Err(above[i].damaged(FIRST_FRAME, Damage::Link))
            }
            Ok(_) => Ok(Next::Spare(seal.next_index)),
            Err(_) if self.source.storage.names_are_durable() => Err(self.missing(last, seal)),
            Err(_) => Ok(Next::Fresh),
        }
    }

    /// The error for a tail that was durable, and behind it more, as the file
    /// `witness` proves.
    fn lost(&self, last: usize, walked: &Walked, next: Next, witness: usize) -> Error {
        let named = self.files.iter().find(|file| next == Next::Spare(file.header.index));
        match (walked.stop, named) {
            (Stop::Sealed(_), Some(file)) => file.damaged(FIRST_FRAME, Damage::Begin),
            (Stop::Sealed(seal), None) => self.missing(last, seal),
            // where its begin is gone, nobody knows whether it followed the tail
            _ if self.files[witness].first.is_none() => {
                self.files[witness].damaged(FIRST_FRAME, Damage::Begin)
            }
            (stop, _) => self.files[last].damaged(walked.at, damage_at(stop)),
        }
    }

    fn missing(&self, last: usize, seal: Seal) -> Error {
        Error::Missing {
            path: self.source.storage.path(&format::file_name(seal.next_index)),
            named_by: self.files[last].path.clone(),
        }
    }

    /// What is kept for later, and the names of what nothing counts.
    fn spares(&self, last: usize, next: Next) -> (Vec<(u64, u64)>, Vec<String>) {
        let lowest = match next {
            Next::Spare(index) => index,
            Next::There | Next::Fresh => self.files[last].last_index() + 1,
        };
        let (mut spares, mut dead) = (Vec::new(), Vec::new());
        for (k, file) in self.files.iter().enumerate() {
            let SegmentHeader { index, slots, salt, .. } = file.header;
            if self.chain.links.binary_search_by_key(&k, |&(link, _)| link).is_ok() {
                continue;
            }
            let usable = slots == 1 || next == Next::Spare(index);
            if file.first.is_none() && index >= lowest && usable {
                spares.push((index, salt));
            } else {
                dead.push(file.name.clone());
            }
        }
        (spares, dead)
    }

    fn found(
        &self,
        tail: u64,
        next: Next,
        spares: Vec<(u64, u64)>,
        dead: Vec<String>,
        ended: Ended,
    ) -> Result<Found> {
        let oldest = &self.files[self.chain.links[0].0];
        let first_lsn = oldest.lsn(FIRST_FRAME);
        let proofs = self.chain.links.iter().map(|(_, end)| end.proof);
        let proved = Lsn(proofs.max().unwrap_or(0).clamp(first_lsn, tail));
        // where the head is the end of what came before, it is where this begins
        let head = Lsn(self.chain.head.0.max(first_lsn));
        let links = self.chain.links.iter().map(|&(k, end)| self.link(k, end)).collect();
        let segments = self.chain.links.iter().map(|&(k, end)| self.segment(k, end)).collect();
        let epoch = self.highest_epoch()?;
        let report = Recovery {
            ended,
            segments,
            removed: dead.iter().map(|name| self.source.storage.path(name)).collect(),
            head,
            tail: Lsn(tail),
            proved,
            epoch: epoch + 1,
        };
        let next_index = self.files.iter().map(File::last_index).max().unwrap_or(0) + 1;
        let (size, uuid) = (oldest.size, oldest.header.uuid);
        Ok(Found { size, uuid, links, next, head, proved, epoch, spares, dead, next_index, report })
    }

    fn begin(&self, k: usize) -> Begin {
        self.files[k].first.expect("a segment of a chain has a begin").begin
    }

    /// The file `k`, which ends at `end`, for those who go on with the log.
    fn link(&self, k: usize, end: Reached) -> Link {
        let file = &self.files[k];
        // of so many, the newest: whoever recovers reads what there is
        let kept = self.walks[k].as_ref().filter(|walked| walked.region.is_some());
        Link {
            header: file.header,
            first_sequence: self.begin(k).first_sequence,
            last_epoch: end.epoch,
            end: end.place,
            region: kept.and_then(|walked| walked.region.clone()),
            trail: kept.map_or_else(Trail::new, |walked| walked.trail.clone().until(end.place)),
        }
    }

    /// The same, for those who want to know.
    fn segment(&self, k: usize, end: Reached) -> SegmentReport {
        let file = &self.files[k];
        SegmentReport {
            path: file.path.clone(),
            first_sequence: self.begin(k).first_sequence,
            records: end.place.ordinal.into(),
            bytes: end.place.offset,
            from: Lsn(file.lsn(FIRST_FRAME)),
            to: Lsn(file.lsn(end.place.offset)),
            verified: self.walks[k].is_some(),
        }
    }

    /// The highest epoch that an intact state names, in any file.
    fn highest_epoch(&self) -> Result<u32> {
        let mut highest = 0;
        for (file, walked) in self.files.iter().zip(&self.walks) {
            let begun = file.first.map_or(0, |first| first.state.epoch);
            let walked = walked.as_ref().map_or(0, |walked| walked.end.epoch);
            highest = highest.max(begun).max(walked);
            if highest == u32::MAX {
                return Err(file.damaged(FIRST_FRAME, Damage::Epoch)); // there is no next one
            }
        }
        Ok(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_table() {
        use Proof::{Durable, None};
        let sealed = Stop::Sealed(Seal { next_index: 2, next_salt: 3 });
        let torn = Stop::Unreadable(Damage::Check);
        for (stop, proof, expected) in [
            (Stop::Unwritten, Durable, Verdict::Damaged),
            (torn, Durable, Verdict::Damaged),
            (sealed, Durable, Verdict::Damaged),
            (Stop::Unwritten, None, Verdict::Tail),
            (torn, None, Verdict::Torn(Damage::Check)),
            (sealed, None, Verdict::Tail),
        ] {
            assert_eq!(verdict(stop, proof), expected, "{stop:?} {proof:?}");
        }
    }
}
