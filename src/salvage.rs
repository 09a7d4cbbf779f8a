//! What is intact in a directory, whatever recovery says to it. Reads alone.
//!
//! Where recovery stops at a break, this searches on for the next intact frame. It
//! promises nothing about what lies between, and says where that is.

mod reading;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use crate::error::Error;
use crate::lsn::Lsn;
use crate::recover::files::{self, File};
use crate::recover::predecessor;
use crate::storage::Storage;

/// Takes what is handed over: place, sequence number, bytes.
type Visit<'v> = dyn FnMut(Lsn, Option<u64>, &[u8]) + 'v;

/// What was found intact in a damaged log, and what was not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The records handed over.
    pub records: u64,
    /// What was skipped, in the order of the log.
    pub skipped: Vec<Skipped>,
}

/// A part of a file that holds nothing intact, or that could not be read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The first byte that was skipped.
    pub from: u64,
    /// The first byte behind it that was not.
    pub to: u64,
    /// Why.
    pub cause: Error,
}

/// Hands every intact record to `visit`, in the order of the log: its place, its
/// sequence number (`None` where that is not known, since its segment's begin is
/// lost),
/// and its bytes. Batches are whole or left out. Fails only if the directory
/// cannot be listed.
///
/// Where the log is whole enough to say what was cut away or given up, such files
/// are left out; else there may be records of them.
pub(crate) fn salvage<'v>(
    storage: &'v dyn Storage,
    visit: &'v mut Visit<'v>,
) -> crate::Result<Salvaged> {
    let mut salvage =
        Salvage { storage, visit, done: Salvaged::default(), epochs: BTreeSet::new() };
    let files = salvage.open_all(storage)?;
    let begun = files.iter().filter_map(|file| file.first);
    salvage.epochs.extend(begun.map(|first| first.state.epoch));
    let mut sealed = None;
    for (k, until) in chosen(&files) {
        let file = &files[k];
        let first_sequence = match (file.first, sealed) {
            (Some(first), _) => Some(first.begin.first_sequence),
            (None, Some((index, salt, sequence)))
                if (index, salt) == (file.header.index, file.header.salt) =>
            {
                Some(sequence)
            }
            _ => None,
        };
        sealed = salvage.file(file, until, first_sequence);
    }
    Ok(salvage.done)
}

/// The files to read, in order, each with the offset where its successor says it
/// ends: from the last one down by the names, and where a name leads nowhere, by
/// index.
fn chosen(files: &[File]) -> Vec<(usize, u64)> {
    let mut chosen = Vec::new();
    let mut head = Lsn(0);
    let mut next = files.len().checked_sub(1).map(|last| (last, u64::MAX));
    while let Some((k, until)) = next {
        chosen.push((k, until));
        next = k.checked_sub(1).map(|below| (below, u64::MAX));
        let Some(first) = files[k].first else { continue };
        head = head.max(first.state.head);
        if first.begin.predecessor_end <= head.0 {
            break;
        }
        if let Some(to) = predecessor(files, k) {
            next = Some((to, first.begin.predecessor_end.saturating_sub(files[to].lsn(0))));
        }
    }
    chosen.reverse();
    chosen
}

/// The next index and salt that a seal names, and the sequence number there.
type Sealed = (u64, u64, u64);

struct Salvage<'v> {
    storage: &'v dyn Storage,
    visit: &'v mut Visit<'v>,
    done: Salvaged,
    /// All that states named so far.
    epochs: BTreeSet<u32>,
}

impl Salvage<'_> {
    fn open_all(&mut self, storage: &dyn Storage) -> crate::Result<Vec<File>> {
        let mut files: Vec<File> = Vec::new();
        for (index, name, len) in files::names(storage)?.segments {
            let opened = File::open(storage, index, &name, len);
            match opened.and_then(|file| files::fits(&files, &file).map(|()| file)) {
                Ok(file) => files.push(file),
                Err(cause) => self.skip(storage.path(&name), 0..len, cause),
            }
        }
        Ok(files)
    }

    fn skip(&mut self, path: PathBuf, range: Range<u64>, cause: Error) {
        self.done.skipped.push(Skipped { path, from: range.start, to: range.end, cause });
    }
}
