//! What a walk over a segment finds, and walking many at once.

use std::{panic, thread};

use super::files::{File, Reading, START};
use crate::error::Result;
use crate::format::Reason;
use crate::lsn::Lsn;
use crate::scan::{Content, Place, Stop, Walk};
use crate::storage::Storage;

/// What holds at a batch boundary that a walk reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) place: Place,
    /// The epoch in force.
    pub(super) epoch: u32,
    /// The highest head that a frame of the segment named up to here.
    pub(super) head: Lsn,
    /// The highest LSN that a frame of the segment proved durable up to here.
    pub(super) proof: u64,
    /// Whether the frame before is a *close*.
    pub(super) closed: bool,
}

/// What a walk over a whole segment found.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) stop: Stop,
    /// The byte of the file where reading stopped: in an incomplete batch, behind
    /// `end`.
    pub(super) at: u64,
    pub(super) end: Reached,
    /// The highest LSN that any of its frames proved durable.
    pub(super) proof: u64,
    /// The ends that begins name in this segment, as far as they are boundaries.
    named: Vec<Reached>,
    /// Every epoch that its states name, growing.
    pub(super) epochs: Vec<u32>,
}

impl Walked {
    /// What holds at the boundary `offset`, one of the named ends.
    pub(super) fn at_named(&self, offset: u64) -> Option<Reached> {
        let found = self.named.binary_search_by_key(&offset, |reached| reached.place.offset);
        found.ok().map(|i| self.named[i])
    }
}

/// Walks a segment from its begin as far as it goes. `named_ends` are the offsets to
/// remember, growing.
pub(super) fn walk(storage: &dyn Storage, file: &File, named_ends: &[u64]) -> Result<Walked> {
    let contents = file.contents(storage)?;
    let mut reading = Reading::new(&contents);
    let mut walk = Walk::new(file.life(), START, 0);
    // what the frames said so far, and the same at the last boundary
    let mut said = Reached { place: START, epoch: 0, head: Lsn(0), proof: 0, closed: false };
    let mut end = said;
    let (mut named, mut named_ends) = (Vec::new(), named_ends);
    let mut epochs = Vec::new();
    loop {
        let at = walk.at().offset;
        let lsn = file.lsn(at);
        let stop = match walk.step(reading.frame(at)?) {
            Ok(frame) => {
                said.proof = said.proof.max(frame.proves(lsn).min(lsn));
                said.closed = false;
                if let Content::State(state) = frame.content {
                    said.head = said.head.max(state.head);
                    said.closed = state.reason == Reason::Close;
                    if epochs.last() != Some(&state.epoch) {
                        epochs.push(state.epoch);
                    }
                }
                None
            }
            Err(stop) => {
                said.closed &= !matches!(stop, Stop::Sealed(_));
                Some(stop)
            }
        };
        if walk.boundary() != end.place {
            end = Reached { place: walk.boundary(), epoch: walk.epoch(), ..said };
            while let [next, rest @ ..] = named_ends {
                if *next > end.place.offset {
                    break;
                }
                if *next == end.place.offset {
                    named.push(end);
                }
                named_ends = rest;
            }
        }
        if let Some(stop) = stop {
            let (at, proof) = (walk.at().offset, said.proof);
            return Ok(Walked { stop, at, end, proof, named, epochs });
        }
    }
}

/// Walks the files `wanted` that were not walked yet, as many at once as there are
/// processors.
pub(super) fn walk_many(
    storage: &dyn Storage,
    files: &[File],
    wanted: &[usize],
    named_ends: &[Vec<u64>],
    walks: &mut [Option<Walked>],
) -> Result<()> {
    let wanted: Vec<_> = wanted.iter().copied().filter(|&k| walks[k].is_none()).collect();
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(wanted.len());
    let wanted = &wanted;
    let part = |t: usize| {
        let part = wanted.iter().skip(t).step_by(threads);
        part.map(|&k| Ok((k, walk(storage, &files[k], &named_ends[k])?)))
            .collect::<Result<Vec<_>>>()
    };
    let part = &part;
    let parts = thread::scope(|scope| {
        let start = |t| (t, thread::Builder::new().spawn_scoped(scope, move || part(t)));
        let others: Vec<_> = (1..threads).map(start).collect();
        let mut parts = vec![if threads > 0 { part(0) } else { Ok(Vec::new()) }];
        parts.extend(others.into_iter().map(|(t, other)| match other {
            Ok(other) => other.join().unwrap_or_else(|cause| panic::resume_unwind(cause)),
            Err(_) => part(t), // no thread to be had: it is done here
        }));
        parts
    });
    for part in parts {
        for (k, walked) in part? {
            walks[k] = Some(walked);
        }
    }
    Ok(())
}
