//! Files whose header or length is broken: what the others tell of them.
//!
//! All that frames need of a header is the base, which follows from the file's name, and the salt,
//! which the seal before the file names, and the begin behind it. A salt that is wrong makes no
//! frame intact.

use super::{Salvage, Sealed};
use crate::error::{Damage, Error};
use crate::format::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::recover::files::{self, File};
use crate::recover::predecessor;

/// How many salts are tried on a file: one that a begin names, and one of a seal. Each
/// reads all of it.
const MAX_TRIES: u32 = 2;

/// A file that could not be opened.
struct Broken {
    index: u64,
    name: String,
    len: u64,
    cause: Error,
    tries: u32,
}

impl Salvage<'_> {
    /// Opens the files, in index order, and notes what is broken.
    pub(super) fn open_all(&mut self) -> crate::Result<Vec<File>> {
        let mut files: Vec<File> = Vec::new();
        let mut broken = Vec::new();
        for (index, name, len) in files::names(self.storage)?.segments {
            let opened = File::open(self.storage, index, &name, len).or_else(|cause| match cause {
                Error::Damaged { damage: Damage::FileLength, .. } => {
                    File::open_broken(self.storage, index, &name, len, None)
                }
                cause => Err(cause),
            });
            match opened.and_then(|file| files::fits(&files, &file).map(|()| file)) {
                Ok(file) => {
                    self.note_length(&file);
                    files.push(file);
                }
                Err(cause) => broken.push(Broken { index, name, len, cause, tries: 0 }),
            }
        }
        let begun = files.iter().filter_map(|file| file.first);
        self.epochs.extend(begun.map(|first| first.state.epoch));
        self.mend_all(&mut files, &mut broken);
        for Broken { name, len, cause, .. } in broken {
            self.skip(self.storage.path(&name), 0..len, cause);
        }
        Ok(files)
    }

    /// Downwards by begins, which are read already, then upwards by seals: what was mended may
    /// lead on.
    fn mend_all(&mut self, files: &mut Vec<File>, broken: &mut Vec<Broken>) {
        let mut k = files.len();
        while k > 0 && !broken.is_empty() {
            k -= 1;
            if let Some(first) = files[k].first {
                let (index, salt) = (first.begin.predecessor_index, first.begin.predecessor_salt);
                k += usize::from(self.mend(files, broken, index, salt)); // one more is below
            }
        }
        let mut k = 0;
        while k < files.len() && !broken.is_empty() {
            // what follows most files is there
            if k + 1 == files.len() || predecessor(files, k + 1) != Some(k) {
                if let (_, Some((index, salt, _))) = self.rehearse(&files[k]) {
                    self.mend(files, broken, index, salt);
                }
            }
            k += 1;
        }
    }

    /// Puts the broken file `index` among the others, if the salt is that of anything in it.
    fn mend(
        &mut self,
        files: &mut Vec<File>,
        broken: &mut Vec<Broken>,
        index: u64,
        salt: u64,
    ) -> bool {
        let Ok(b) = broken.binary_search_by_key(&index, |broken| broken.index) else {
            return false;
        };
        let Some(file) = self.open_with(files, &mut broken[b], salt) else { return false };
        self.skip(file.path.clone(), 0..FIRST_FRAME, broken.remove(b).cause);
        self.note_length(&file);
        self.epochs.extend(file.first.map(|first| first.state.epoch));
        files.insert(files.partition_point(|other| other.header.index < index), file);
        true
    }

    fn open_with(&self, files: &[File], broken: &mut Broken, salt: u64) -> Option<File> {
        let Broken { index, ref name, len, ref cause, tries } = *broken;
        let is_header = matches!(cause, Error::Damaged { damage: Damage::Header, .. });
        if !is_header || tries == MAX_TRIES {
            return None;
        }
        broken.tries += 1;
        let other = files.first()?;
        let slots = u32::try_from(len.div_ceil(other.size.bytes())).ok()?;
        let header = SegmentHeader { index, slots, salt, ..other.header };
        let file = File::open_broken(self.storage, index, name, len, Some(header)).ok()?;
        let (below, above) =
            files.split_at(files.partition_point(|other| other.header.index < index));
        let fits = files::fits(below, &file).is_ok()
            && above.first().is_none_or(|above| file.last_index() < above.header.index);
        (fits && (file.first.is_some() || self.rehearse(&file) != (0, None))).then_some(file)
    }

    /// Reads a file and hands nothing over: how many records are intact in it, and its seal.
    fn rehearse(&self, file: &File) -> (u64, Option<Sealed>) {
        let mut rehearsal = Salvage {
            storage: self.storage,
            visit: &mut |_, _, _| std::ops::ControlFlow::Continue(()),
            done: super::Salvaged::default(),
            epochs: self.epochs.clone(),
            head: Lsn::NONE,
        };
        let any_number = Some(0); // a seal without one is not told
        let sealed = rehearsal.file(file, u64::MAX, any_number);
        (rehearsal.done.records, sealed)
    }

    /// Notes what is missing of a file, or what is there and none of it.
    fn note_length(&mut self, file: &File) {
        let (len, full) = (file.len(), file.full_len());
        if len != full {
            let cause = file.damaged(0, Damage::FileLength);
            self.skip(file.path.clone(), len.min(full)..len.max(full), cause);
        }
    }
}
