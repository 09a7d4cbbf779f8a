//! What a walk over a segment finds, and walking many at once.

use std::sync::mpsc;
use std::time::Duration;
use std::{panic, thread};

use super::Source;
use super::files::{File, Reading};
use crate::error::Result;
use crate::format::Reason;
use crate::lsn::Lsn;
use crate::scan::{Content, Place, START, Stop, Walk};
use crate::storage::{Region, Storage};
use crate::sync::{Arc, Mutex, lock};
use crate::sys;
use crate::trail::Trail;

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
    /// What it came by, up to `end`.
    pub(super) trail: Trail,
    /// Its mapping, if that is kept.
    pub(super) region: Option<Arc<dyn Region>>,
}

impl Walked {
    /// What holds at the boundary `offset`, one of the named ends.
    pub(super) fn at_named(&self, offset: u64) -> Option<Reached> {
        let found = self.named.binary_search_by_key(&offset, |reached| reached.place.offset);
        found.ok().map(|i| self.named[i])
    }

    /// Whether `offset`, which is not behind `end`, is a batch boundary. Looks once more, from
    /// the last place before it that the walk remembers.
    pub(super) fn is_boundary(
        &self,
        storage: &dyn Storage,
        file: &File,
        offset: u64,
    ) -> Result<bool> {
        let contents = match &self.region {
            Some(region) => file.contents_in(region.clone()),
            None => file.contents(storage)?,
        };
        let from = self.trail.place_up_to(offset);
        let mut reading = Reading::new(&contents, from);
        let mut walk = Walk::new(file.life(), from, self.trail.epoch_at(from.offset));
        while walk.boundary().offset < offset {
            if walk.step(reading.frame(walk.at().offset)?).is_err() {
                break; // a seal
            }
        }
        Ok(walk.boundary().offset == offset)
    }
}

/// Walks a segment from its begin as far as it goes. `named_ends` are the offsets to
/// remember, growing.
pub(super) fn walk(source: &Source<'_>, file: &File, named_ends: &[u64]) -> Result<Walked> {
    let contents = file.contents(source.storage)?.counted(&source.read);
    let mut reading = Reading::new(&contents, START);
    let mut walk = Walk::new(file.life(), START, 0);
    // what the frames said so far, and the same at the last boundary
    let mut said = Reached { place: START, epoch: 0, head: Lsn(0), proof: 0, closed: false };
    let mut end = said;
    let (mut named, mut named_ends) = (Vec::new(), named_ends);
    let mut trail = Trail::new();
    loop {
        let at = walk.at().offset;
        let lsn = file.lsn(at);
        let bytes = reading.frame(at)?;
        let until = named_ends.first().map_or(u64::MAX, |&end| end).min(trail.next_block());
        let proofs = walk.over_records(reading.loaded(at), until);
        let mut proof = said.proof.max(proofs.at_boundary);
        said.proof = said.proof.max(proofs.all);
        let mut stop = None;
        if walk.at().offset > at {
            said.closed = false;
        } else {
            stop = said.step(&mut walk, bytes, lsn, &mut trail);
            proof = said.proof;
        }
        if walk.boundary() != end.place {
            trail.move_to(walk.boundary());
            end = Reached { place: walk.boundary(), epoch: walk.epoch(), proof, ..said };
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
            return Ok(Walked {
                stop,
                at,
                end,
                proof,
                named,
                trail,
                region: Some(contents.region),
            });
        }
    }
}

impl Reached {
    /// Takes in what the next frame says, at the beginning of `bytes`; or why there is none.
    fn step(&mut self, walk: &mut Walk, bytes: &[u8], lsn: u64, trail: &mut Trail) -> Option<Stop> {
        let at = walk.at().offset;
        let frame = match walk.step(bytes) {
            Ok(frame) => frame,
            Err(stop) => {
                if let Stop::Sealed(_) = stop {
                    self.closed = false;
                    trail.seal();
                }
                return Some(stop);
            }
        };
        self.proof = self.proof.max(frame.proves(lsn).min(lsn));
        self.closed = false;
        if let Content::State(state) = frame.content {
            self.head = self.head.max(state.head);
            self.closed = state.reason == Reason::Close;
            if let Reason::Begin(_) | Reason::Open = state.reason {
                trail.begin_epoch(at, state.epoch);
            }
        }
        None
    }
}

/// Of so many files, the newest, the mappings are kept: who recovers reads what there is.
const KEPT: usize = 32;

/// Walks the files `wanted` that were not walked yet.
pub(super) fn walk_many(
    source: &Source<'_>,
    files: &[File],
    wanted: &[usize],
    named_ends: &[Vec<u64>],
    walks: &mut [Option<Walked>],
) -> Result<()> {
    let wanted: Vec<_> = wanted.iter().copied().filter(|&k| walks[k].is_none()).collect();
    let walked = at_once(source.storage, &wanted, |k| {
        let mut walked = walk(source, &files[k], &named_ends[k])?;
        walked.region.take_if(|_| k + KEPT < files.len());
        Ok(walked)
    })?;
    for (k, walked) in walked {
        walks[k] = Some(walked);
    }
    Ok(())
}

/// How long a thread that was started and the one that started it wait for each other.
const LONGEST_START: Duration = Duration::from_millis(1);

/// Looks into the files `wanted`, as many at once as there are processors, if `storage` may be
/// looked into by several.
pub(super) fn at_once<T: Send>(
    storage: &dyn Storage,
    wanted: &[usize],
    look: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(usize, T)>> {
    let most = if storage.is_read_at_once() { wanted.len() } else { 1 };
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(most);
    let left = Mutex::new(wanted.iter());
    let part = || {
        let taken = || lock(&left).next();
        std::iter::from_fn(taken).map(|&k| Ok((k, look(k)?))).collect::<Result<Vec<_>>>()
    };
    let part = &part;
    let (parked, others_parked) = mpsc::channel();
    // while it is locked, no thread ends that may be woken, but by a panic
    let waking = &Mutex::new(());
    let parts = thread::scope(|scope| {
        // where no thread is to be had, the others do it
        let start = |_| {
            let parked = parked.clone();
            let other = move || {
                let _ = parked.send(sys::Parked::current());
                thread::park_timeout(LONGEST_START); // or less, for nothing
                let found = part();
                drop(lock(waking));
                found
            };
            thread::Builder::new().spawn_scoped(scope, other).ok()
        };
        let waiting = lock(waking);
        let others: Vec<_> = (1..threads).filter_map(start).collect();
        for _ in &others {
            // one that does not come to it soon goes on where it is
            match others_parked.recv_timeout(LONGEST_START) {
                Ok(other) => other.wake(),
                Err(_) => break,
            }
        }
        drop(waiting);
        let mut parts = vec![part()];
        let join = |other: thread::ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        };
        parts.extend(others.into_iter().map(join));
        parts
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    let mut found: Vec<_> = parts.into_iter().flatten().collect();
    found.sort_unstable_by_key(|&(k, _)| k);
    Ok(found)
}
