//! What is intact in a directory, whatever recovery says to it. Only reads.
//!
//! Where recovery stops at a break, this searches on for the next intact frame. It
//! promises nothing about what lies between, and says where that is.

mod broken;
mod reading;

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use crate::error::Error;
use crate::format;
use crate::lsn::Lsn;
use crate::recover::files::File;
use crate::recover::{self, Verify, predecessor};
use crate::storage::Storage;

/// Takes what is handed over: place, sequence number, bytes.
type Visit<'v, R = ControlFlow<()>> = dyn FnMut(Lsn, Option<u64>, &[u8]) -> R + 'v;

/// What a visitor of records returns: nothing, if it wants all of them, or a
/// [`ControlFlow`], with which it may end the work.
pub trait Flow {
    /// Whether the work goes on.
    fn flow(self) -> ControlFlow<()>;
}

impl Flow for () {
    fn flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Flow for ControlFlow<()> {
    fn flow(self) -> ControlFlow<()> {
        self
    }
}

/// What was found intact in a damaged log, and what was not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The records handed over.
    pub records: u64,
    /// Whether the visitor ended the work: then nothing is known of what lies behind the
    /// last record that it was handed.
    pub was_ended: bool,
    /// What was skipped, in the order of the log: the first thousand parts that were found.
    pub skipped: Vec<Skipped>,
    /// How many parts were skipped beyond those.
    pub more_skipped: u64,
}

/// So many skipped parts are told, and the rest are counted: a file may be made of nothing else.
const MOST_TOLD: usize = 1000;

/// A part of a file that holds nothing intact, that could not be read, or that is not there
/// since the file is too short; or a whole file, with [`Error::Missing`] and no bytes, that is
/// named and not there. Of a file whose header is broken it is the header alone, if what other
/// files say of it makes something in it intact; else all of it.
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

/// Hands every intact record to `visit`, in the order of the log, until that ends the
/// work: its place, its sequence number (`None` where that is not known, since its
/// segment's begin is lost), and its bytes. Batches are whole or left out. Fails only if
/// the directory cannot be listed.
///
/// Where the log is whole enough to say what was cut away or given up, such files
/// are left out; else there may be records of them.
pub(crate) fn salvage<R: Flow>(
    storage: &dyn Storage,
    visit: &mut Visit<'_, R>,
) -> crate::Result<Salvaged> {
    let mut visit = |lsn, sequence, bytes: &[u8]| visit(lsn, sequence, bytes).flow();
    let mut salvage = Salvage {
        storage,
        visit: &mut visit,
        done: Salvaged::default(),
        epochs: BTreeSet::new(),
        head: Lsn::NONE,
    };
    let files = salvage.open_all()?;
    // a log that is whole says itself where it begins
    if let Ok(recover::Directory::Log(found)) = recover::recover(storage, Verify::Tail) {
        salvage.head = found.head;
    }
    let mut sealed = None;
    for Chosen { k, until, missing } in chosen(&files, salvage.head) {
        let file = &files[k];
        if let Some(index) = missing {
            salvage.miss(index, file);
        }
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
        if salvage.done.was_ended {
            break;
        }
        let next = |index| files.iter().find(|file| file.header.index == index);
        let is_last = files[k + 1..].iter().all(|behind| behind.first.is_none());
        match sealed {
            Some((index, ..)) if is_last && next(index).is_none() => salvage.miss(index, file),
            _ => {}
        }
    }
    // a file's name begins with its index
    salvage.done.skipped.sort_by(|a, b| (&a.path, a.from).cmp(&(&b.path, b.from)));
    Ok(salvage.done)
}

/// A file to read.
struct Chosen {
    k: usize,
    /// The offset where its successor says it ends.
    until: u64,
    /// The index of the file that it names as the one before it, and that is gone.
    missing: Option<u64>,
}

/// The files to read, in order: from the last one down by the names, and where a name leads
/// nowhere, by index; but for those below the head, as far as that is known.
fn chosen(files: &[File], mut head: Lsn) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut next = files.len().checked_sub(1).map(|last| (last, u64::MAX));
    while let Some((k, until)) = next {
        chosen.push(Chosen { k, until, missing: None });
        next = k.checked_sub(1).map(|below| (below, u64::MAX));
        let Some(first) = files[k].first else { continue };
        head = head.max(first.state.head);
        if first.begin.predecessor_end <= head.0 {
            break;
        }
        match predecessor(files, k) {
            Some(to) => {
                next = Some((to, first.begin.predecessor_end.saturating_sub(files[to].lsn(0))));
            }
            None => {
                let last = chosen.last_mut().expect("just pushed");
                last.missing = Some(first.begin.predecessor_index).filter(|&index| index > 0);
            }
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
    /// Records below were given up, as far as that is known.
    head: Lsn,
}

impl Salvage<'_> {
    /// Notes a file that `by` names, and that is not there.
    fn miss(&mut self, index: u64, by: &File) {
        let path = self.storage.path(&format::file_name(index));
        if self.done.skipped.iter().any(|skipped| skipped.path == path) {
            return; // it is there, but not readable
        }
        let cause = Error::Missing { path: path.clone(), named_by: by.path.clone() };
        self.skip(path, 0..0, cause);
    }

    fn skip(&mut self, path: PathBuf, range: Range<u64>, cause: Error) {
        if self.done.skipped.len() < MOST_TOLD {
            self.done.skipped.push(Skipped { path, from: range.start, to: range.end, cause });
        } else {
            self.done.more_skipped += 1;
        }
    }
}
