//! From a directory to a log: which segments count, where the tail is, and whether
//! anything that had been durable is gone. Reads and decides; changes nothing.

mod chain;
mod decide;
pub(crate) mod files;
mod ranges;
pub(crate) mod search;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chain::{Broken, Chain, Chains};
use decide::{Proof, Recovered};
use files::File;
use search::Epochs;
use walk::Walked;

use crate::error::{Damage, Error, Result};
use crate::format::{self, FIRST_FRAME, SegmentHeader};
use crate::lsn::{Lsn, SegmentSize};
use crate::progress::{BytesRead, Listener};
use crate::scan::{Place, START, Stop};
use crate::storage::{Region, Storage};
use crate::sync::Arc;
use crate::trail::Trail;

/// How much opening verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Verify {
    /// Every frame of every segment.
    #[default]
    All,
    /// The last segment, and all that the log cannot prove to have been durable.
    /// Damage before that is found when it is read. Of a log that was closed, files that
    /// are kept ready are not read.
    Tail,
}

/// A segment that the log counts.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) header: SegmentHeader,
    pub(crate) first_sequence: u64,
    /// The epoch in force at `end`; for a segment that was not walked, its
    /// successor's.
    pub(crate) last_epoch: u32,
    /// The batch boundary where it ends: where the successor's begin says, or for
    /// the last one where the walk stopped.
    pub(crate) end: Place,
    /// Its mapping, if that was kept.
    pub(crate) region: Option<Arc<dyn Region>>,
    /// What the walk came by, if the mapping was kept; else only where it begins.
    pub(crate) trail: Trail,
}

/// Where the next frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// At the end of the last link.
    There,
    /// The last link is sealed: a begin goes to this spare, which it names, the
    /// first of [`Found::spares`].
    Spare(u64),
    /// The last link is sealed, and the file that it names is gone with a name
    /// that never was durable: a begin goes to any other file.
    Fresh,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) enum Directory {
    /// No log: no segment, or only the first one without its begin.
    Empty {
        /// Names to be removed.
        dead: Vec<String>,
    },
    Log(Box<Found>),
}

impl Directory {
    /// What is said of the log, if there is one.
    pub(crate) fn report(self) -> Option<Recovery> {
        match self {
            Directory::Empty { .. } => None,
            Directory::Log(found) => Some(found.report),
        }
    }
}

/// The log that a directory holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) size: SegmentSize,
    pub(crate) uuid: [u8; 16],
    /// Oldest first: from the one that holds the head on. Never empty.
    pub(crate) links: Vec<Link>,
    pub(crate) next: Next,
    /// In a link, or at its first byte.
    pub(crate) head: Lsn,
    /// Everything below was durable before; from here to the tail it is stored
    /// again. In a link.
    pub(crate) proved: Lsn,
    /// The highest epoch in any intact frame, live or dead. Below `u32::MAX`.
    pub(crate) epoch: u32,
    /// Files without a begin above the last link: index and salt, in order. They have
    /// one slot, save one that a seal names.
    pub(crate) spares: Vec<(u64, u64)>,
    /// Names that nothing counts: to be removed.
    pub(crate) dead: Vec<String>,
    /// Above every index that a file has.
    pub(crate) next_index: u64,
    /// Its epoch is the next one, which the caller begins.
    pub(crate) report: Recovery,
}

/// What opening a log found: [`Wal::recovery`](crate::Wal::recovery).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovery {
    /// How the log ended.
    pub ended: Ended,
    /// The segments of the log, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Files that no part of the log counted, and that were removed; by
    /// [`inspect`](crate::Options::inspect), those that opening would remove.
    pub removed: Vec<PathBuf>,
    /// The head: records below are given up.
    pub head: Lsn,
    /// The tail: the next record goes there, or further on. After opening it is behind the frame
    /// with which that began its epoch.
    pub tail: Lsn,
    /// Everything below had been durable, as the log itself could prove.
    pub proved: Lsn,
    /// The epoch that this opening began: 1 for a new log, and one more each time.
    pub epoch: u32,
}

/// How a log ended that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// There was none: it was created.
    Created,
    /// It had been closed.
    Closed,
    /// Behind the last frame nothing was written: the process ended without
    /// closing, and no write was cut short.
    Unclosed,
    /// Something unreadable, which had never been promised, stood behind the last
    /// frame: the crash cut a write short. It was given up.
    Torn {
        /// The file.
        path: PathBuf,
        /// The byte in the file where reading stopped.
        at: u64,
        /// What was wrong there.
        damage: Damage,
        /// The bytes at the tail, as far as the new epoch's first frame overwrites
        /// them.
        overwritten: Vec<u8>,
    },
}

/// One segment, as opening found it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// The sequence number of its first record.
    pub first_sequence: u64,
    /// Its records, abandoned ones included.
    pub records: u64,
    /// The bytes of its header and frames.
    pub bytes: u64,
    /// Its records are at this place or above, and those below [`Recovery::head`] are given up.
    pub from: Lsn,
    /// Its records are below this place.
    pub to: Lsn,
    /// Whether every frame was verified on opening.
    pub verified: bool,
}

/// Reads the directory, which nobody writes, and decides what it holds.
pub(crate) fn recover(storage: &dyn Storage, verify: Verify) -> Result<Directory> {
    recover_while(Writers::None, storage, verify, &Listener::default())
}

/// Whether the log may be written while it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writers {
    None,
    Perhaps,
}

/// The same, also of a directory that somebody writes meanwhile: where what was written since
/// explains what was found at the end of the log, it does not count. All else is as it was
/// found, and may be of two moments.
pub(crate) fn recover_while(
    writers: Writers,
    storage: &dyn Storage,
    verify: Verify,
    listener: &Listener,
) -> Result<Directory> {
    let names = files::names(storage)?;
    let mut files: Vec<File> = Vec::new();
    for (index, name, len) in &names.segments {
        let file = File::open(storage, *index, name, *len)?;
        files::fits(&files, &file)?;
        files.push(file);
    }
    let total = files.iter().map(File::len).fold(0, u64::saturating_add);
    let read = BytesRead::new(listener, total);
    let source = Source { storage, read };
    let Some(highest) = files.iter().rposition(|file| file.first.is_some()) else {
        return empty(&source, &files, names.unfinished);
    };
    let (walks, chain) = survey(&source, &files, highest, verify)?;
    Recovered { writers, source, files, walks, chain }.decide(names.unfinished).map(Directory::Log)
}

/// Where files are read from, and where that is counted.
struct Source<'a> {
    storage: &'a dyn Storage,
    read: BytesRead<'a>,
}

/// A directory without any begin.
fn empty(source: &Source<'_>, files: &[File], mut dead: Vec<String>) -> Result<Directory> {
    if let Some(lowest) = files.first() {
        // the first begin is durable before there is any other file
        if files.len() > 1 || lowest.header.index > 1 {
            return Err(lowest.damaged(FIRST_FRAME, Damage::Begin));
        }
        let epochs = Epochs { named: &BTreeSet::new(), least: 1 };
        match decide::search(source, lowest, START, lowest.lsn(FIRST_FRAME), epochs)? {
            Proof::Durable => return Err(lowest.damaged(FIRST_FRAME, Damage::Begin)),
            Proof::None => dead.push(lowest.name.clone()),
        }
    }
    Ok(Directory::Empty { dead })
}

/// Walks what is to be verified, and finds the chain: of the begins from which
/// one leads down to its head, the highest decides.
fn survey(
    source: &Source<'_>,
    files: &[File],
    highest: usize,
    verify: Verify,
) -> Result<(Vec<Option<Walked>>, Chain)> {
    let ends = chain::named_ends(files);
    let mut walks: Vec<Option<Walked>> = files.iter().map(|_| None).collect();
    if verify == Verify::Tail {
        walk::walk_many(source, files, &[highest], &ends, &mut walks)?;
        let proved = walks[highest].as_ref().map_or(0, |walked| walked.end.proof);
        walk::walk_many(source, files, &unproved(files, highest, proved), &ends, &mut walks)?;
        if let Some(chain) = Chains::new(files, &walks).down_from(highest) {
            return Ok((walks, chain));
        }
    }
    // all of it, also where the last segment does not stand on the others
    let begun: Vec<_> = (0..files.len()).filter(|&k| files[k].first.is_some()).collect();
    walk::walk_many(source, files, &begun, &ends, &mut walks)?;
    let chains = Chains::new(files, &walks);
    if let Some(chain) = begun.iter().rev().find_map(|&top| chains.down_from(top)) {
        return Ok((walks, chain));
    }
    let (k, broken) = chains.break_below(highest);
    Err(match broken {
        Broken::Missing(index) => Error::Missing {
            path: source.storage.path(&format::file_name(index)),
            named_by: files[k].path.clone(),
        },
        Broken::NoBegin(to) => files[to].damaged(FIRST_FRAME, Damage::Begin),
        Broken::Short(to) => match &walks[to] {
            Some(walked) => files[to].damaged(walked.at, damage_at(walked.stop)),
            None => files[to].damaged(FIRST_FRAME, Damage::Link),
        },
        Broken::Disagrees => files[k].damaged(FIRST_FRAME, Damage::Link),
        Broken::Head(head) => files[k].damaged(FIRST_FRAME, Damage::Head(head)),
    })
}

/// The predecessors of `top`, by name, whose ends are not proved to have been durable.
fn unproved(files: &[File], top: usize, proved: u64) -> Vec<usize> {
    let mut wanted = Vec::new();
    let mut at = top;
    while let (Ok(to), Some(first)) = (chain::named_by(files, at), files[at].first) {
        if first.begin.predecessor_end > proved {
            wanted.push(to);
        }
        at = to;
    }
    wanted
}

/// The file that the begin of the file `k` names, if it is there.
pub(crate) fn predecessor(files: &[File], k: usize) -> Option<usize> {
    chain::named_by(files, k).ok()
}

/// What was wrong where a walk stopped, if something durable had stood there.
pub(crate) fn damage_at(stop: Stop) -> Damage {
    match stop {
        Stop::Unreadable(damage) => damage,
        Stop::Unwritten | Stop::Sealed(_) => Damage::Hole,
    }
}
