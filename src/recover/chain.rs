//! Which segments follow each other: begins name their predecessors, and a walk
//! confirms it.

use super::files::{File, First};
use super::walk::{Reached, Walked};
use crate::format::{ALIGN, BEGIN_SIZE, FIRST_FRAME, ORDINAL_MASK};
use crate::lsn::Lsn;
use crate::scan::Place;

/// What a segment follows.
#[derive(Clone, Copy, Debug)]
enum Below {
    /// Nothing: it is the log's first, or has no begin.
    Nothing,
    /// The file with this number, up to this boundary.
    Link(usize, Reached),
    Broken(Broken),
}

/// Why a segment does not link to what it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// The file that it names is not there.
    Missing(u64),
    /// The file that it names has no intact begin.
    NoBegin(usize),
    /// The walk of the file that it names stopped before the end that it names.
    Short(usize),
    /// It says what the file that it names does not.
    Disagrees,
    /// Nothing is, but the head is above the log's end.
    Head(Lsn),
}

/// The segments of a log, oldest first, each with the boundary where it ends.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) links: Vec<(usize, Reached)>,
    pub(super) head: Lsn,
}

/// How the segments hang together. Found from the lowest file up, so that each is
/// looked at once.
pub(super) struct Chains<'a> {
    files: &'a [File],
    walks: &'a [Option<Walked>],
    below: Vec<Below>,
    /// The lowest file to which each file's links lead down without a break.
    feet: Vec<usize>,
    /// The highest head named below each file, as far down as its links lead.
    heads: Vec<Lsn>,
}

impl<'a> Chains<'a> {
    /// `files` in index order. One that was not walked is taken as its successor's
    /// begin describes it.
    pub(super) fn new(files: &'a [File], walks: &'a [Option<Walked>]) -> Self {
        let (mut below, mut feet, mut heads) = (Vec::new(), Vec::<usize>::new(), Vec::<Lsn>::new());
        for k in 0..files.len() {
            let link = link(files, walks, k);
            let (foot, head) = match link {
                Below::Link(to, reached) => (feet[to], heads[to].max(reached.head)),
                Below::Nothing | Below::Broken(_) => (k, Lsn(0)),
            };
            below.push(link);
            feet.push(foot);
            heads.push(head);
        }
        Chains { files, walks, below, feet, heads }
    }

    /// The chain that ends with the file `top`, if it is whole down to its head.
    pub(super) fn down_from(&self, top: usize) -> Option<Chain> {
        let end = self.walks[top].as_ref()?.end;
        let head = self.head_below(top, end);
        // records from the head on are not below the end of a predecessor: at
        // that very end, the successor holds them all
        let starts_in = |k: usize| {
            self.files[k].first.is_some_and(|first| first.begin.predecessor_end <= head.0)
        };
        if head.0 > self.files[top].lsn(end.place.offset) || !starts_in(self.feet[top]) {
            return None;
        }
        let mut links = vec![(top, end)];
        let mut at = top;
        while !starts_in(at) {
            let Below::Link(to, reached) = self.below[at] else { return None };
            links.push((to, reached));
            at = to;
        }
        links.reverse();
        Some(Chain { links, head })
    }

    /// The highest head that is named in the chain of `top`, which ends at `end`.
    fn head_below(&self, top: usize, end: Reached) -> Lsn {
        self.heads[top].max(end.head)
    }

    /// Where the links of `top` end, and why there.
    pub(super) fn break_below(&self, top: usize) -> (usize, Broken) {
        let foot = self.feet[top];
        match (self.below[foot], &self.walks[top]) {
            (Below::Broken(broken), _) => (foot, broken),
            (_, Some(walked)) => (top, Broken::Head(self.head_below(top, walked.end))),
            (_, None) => (foot, Broken::Disagrees),
        }
    }
}

/// The file that the begin of file `k` names, by index and salt.
pub(super) fn named_by(files: &[File], k: usize) -> Result<usize, Broken> {
    let Some(First { begin, .. }) = files[k].first else { return Err(Broken::Disagrees) };
    let lower = &files[..k];
    match lower.binary_search_by_key(&begin.predecessor_index, |file| file.header.index) {
        Ok(to) if lower[to].header.salt == begin.predecessor_salt => Ok(to),
        Err(_) if (1..files[k].header.index).contains(&begin.predecessor_index) => {
            Err(Broken::Missing(begin.predecessor_index))
        }
        _ => Err(Broken::Disagrees),
    }
}

/// For each file, the offsets at which others say that it ends, growing.
pub(super) fn named_ends(files: &[File]) -> Vec<Vec<u64>> {
    let mut ends = vec![Vec::new(); files.len()];
    for k in 0..files.len() {
        let (Ok(to), Some(first)) = (named_by(files, k), files[k].first) else { continue };
        ends[to].extend(first.begin.predecessor_end.checked_sub(files[to].lsn(0)));
    }
    for ends in &mut ends {
        ends.sort_unstable();
        ends.dedup();
    }
    ends
}

/// What the file `k` follows: the names, the named end, the count, and the epoch.
fn link(files: &[File], walks: &[Option<Walked>], k: usize) -> Below {
    let Some(First { state, begin, .. }) = files[k].first else { return Below::Nothing };
    if begin.predecessor_index == 0 && begin.predecessor_end == 0 && files[k].header.index == 1 {
        return Below::Nothing;
    }
    let to = match named_by(files, k) {
        Ok(to) => to,
        Err(broken) => return Below::Broken(broken),
    };
    let Some(first) = files[to].first else { return Below::Broken(Broken::NoBegin(to)) };
    let Some(offset) = begin.predecessor_end.checked_sub(files[to].lsn(0)) else {
        return Below::Broken(Broken::Disagrees);
    };
    let reached = match &walks[to] {
        Some(walked) => match walked.at_named(offset) {
            None if walked.end.place.offset < offset => return Below::Broken(Broken::Short(to)),
            reached => reached,
        },
        None => taken_by_begins(&files[to], first, files[k].first, offset),
    };
    match reached {
        Some(end)
            if first.begin.first_sequence + u64::from(end.place.ordinal)
                == begin.first_sequence
                && state.epoch >= end.epoch
                && state.head >= first.state.head =>
        {
            Below::Link(to, end)
        }
        _ => Below::Broken(Broken::Disagrees),
    }
}

/// The end of a segment that was not walked, as its own begin and its successor's
/// describe it.
fn taken_by_begins(
    file: &File,
    first: First,
    successor: Option<First>,
    offset: u64,
) -> Option<Reached> {
    let successor = successor?;
    let claims = successor.begin.first_sequence.checked_sub(first.begin.first_sequence)?;
    let ordinal = u32::try_from(claims).ok().filter(|&ordinal| ordinal <= ORDINAL_MASK)?;
    let possible = offset % ALIGN == 0
        && (FIRST_FRAME + BEGIN_SIZE..=file.len()).contains(&offset)
        && first.state.epoch <= successor.state.epoch;
    possible.then_some(Reached {
        place: Place { offset, ordinal },
        epoch: successor.state.epoch,
        head: first.state.head,
        proof: first.proof,
        closed: false,
    })
}
