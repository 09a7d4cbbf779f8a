//! A mapped file: flushes, pages and locks, as platforms and file systems have
//! them. Knows nothing of names.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;

use memmap2::{MmapOptions, MmapRaw};

use super::{Access, FlushMethod, Region};
use crate::map::Map;
use crate::sync::Arc;
#[cfg(target_os = "linux")]
use crate::sync::{Mutex, lock};

/// Zeros are written, and files read, in pieces of this many bytes. Larger writes
/// leave huge folios in the page cache of Linux, where one dirty byte dirties all.
pub(super) const PIECE: usize = 4096;

/// Whether a flush is one call that covers its range to the disk: elsewhere the
/// mapping's pages and the file's are pushed by calls of their own.
const ONE_CALL_FLUSHES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A file, opened and mapped. On unix it holds a shared lock on the file; where
/// locks are mandatory a lock would keep others from reading.
#[derive(Debug)]
pub(super) struct MappedFile {
    map: Arc<Map>,
    /// None for a view on Linux, where the mapping keeps the lock by itself: there
    /// may be more segments to read than files may be open.
    file: Option<File>,
    flush: FlushMethod,
    /// Pages before this offset are present: readers had them made so since they were last
    /// given back. A hint: what is not present after all faults. `None` where recovery reads.
    #[cfg(target_os = "linux")]
    read_to: Option<Mutex<u64>>,
}

impl MappedFile {
    /// Locks and maps a file that was opened for `access`.
    pub(super) fn new(file: File, access: Access, flush: FlushMethod) -> io::Result<Self> {
        if cfg!(unix) {
            unless_contended(fs2::FileExt::try_lock_shared(&file))?;
        }
        let map = match access {
            Access::Read | Access::View => MmapOptions::new().map_raw_read_only(&file)?,
            Access::Write => {
                fill_holes(&file)?;
                MmapOptions::new().map_raw(&file)?
            }
        };
        // A child made by `fork` has no business with it; where the advice is not
        // taken, it is told so in the guarantees.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::DontFork);
        let keep = access != Access::View || !cfg!(target_os = "linux");
        let (map, file) = (Arc::new(Map::file(map)), keep.then_some(file));
        Ok(MappedFile {
            map,
            file,
            flush,
            #[cfg(target_os = "linux")]
            read_to: (access != Access::Read).then(|| Mutex::new(0)),
        })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| ErrorKind::Unsupported.into())
    }

    fn raw(&self) -> &MmapRaw {
        self.map.as_file().expect("it was made from a file")
    }

    /// Where `range` is, for calls on the mapping: they round it to whole pages.
    fn part(&self, range: &Range<u64>) -> (usize, usize) {
        assert!(range.start <= range.end && range.end <= self.map.len(), "{range:?} is no part");
        (range.start as usize, (range.end - range.start) as usize)
    }

    /// What `populate` does where the kernel has no call for it: the file system
    /// finds room for the blocks, or says that it has none.
    #[cfg(unix)]
    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let file = self.file()?;
        pieces(range, PIECE)
            .try_for_each(|piece| file.write_all_at(&[0; PIECE][..length(&piece)], piece.start))
    }

    /// Reads `range` by calls that return errors, and forgets what it read.
    fn read_through(&self, range: Range<u64>) -> io::Result<()> {
        let file = self.file()?;
        pieces(range, PIECE)
            .try_for_each(|piece| read_at(file, &mut [0; PIECE][..length(&piece)], piece.start))
    }
}

impl Region for MappedFile {
    fn map(&self) -> &Arc<Map> {
        &self.map
    }

    fn flush(&self, range: Range<u64>) -> io::Result<()> {
        let (at, len) = self.part(&range);
        if self.flush == FlushMethod::Range || !ONE_CALL_FLUSHES {
            self.raw().flush_range(at, len)?;
        }
        if self.flush == FlushMethod::File || !ONE_CALL_FLUSHES {
            self.file()?.sync_data()?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        use memmap2::Advice::PopulateWrite;
        let (at, len) = self.part(&range);
        let Err(error) = self.raw().advise_range(PopulateWrite, at, len) else { return Ok(()) };
        // Before Linux 5.14 the advice is unknown. Else writing says what is wrong,
        // where the advice says only that an address is bad.
        self.write_zeros(range)?;
        match error.kind() {
            ErrorKind::InvalidInput => Ok(()),
            _ => self.raw().advise_range(PopulateWrite, at, len),
        }
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.part(&range);
        self.write_zeros(range)
    }

    /// Nothing to do: blocks that are written stay where they are.
    #[cfg(not(unix))]
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.part(&range);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn rearm(&self, range: Range<u64>) {
        let (at, len) = self.part(&range);
        let _ = self.raw().advise_range(memmap2::Advice::PopulateWrite, at, len); // or it faults
    }

    #[cfg(target_os = "linux")]
    fn read_ahead(&self, range: Range<u64>) {
        let (at, len) = self.part(&range);
        let Some(read_to) = &self.read_to else { return };
        if range.end <= *lock(read_to) {
            return;
        }
        let _ = self.raw().advise_range(memmap2::Advice::PopulateRead, at, len); // or it faults
        let mut read_to = lock(read_to);
        if range.start <= *read_to {
            *read_to = range.end.max(*read_to);
        }
    }

    #[cfg(target_os = "linux")]
    fn unload(&self) {
        if let Some(read_to) = &self.read_to {
            *lock(read_to) = 0;
        }
        self.map.unload();
    }

    #[cfg(target_os = "linux")]
    fn load(&self, range: Range<u64>) -> io::Result<()> {
        const STEP: usize = 4 << 20;
        for step in pieces(range, STEP) {
            let (at, len) = self.part(&step);
            let advised = self.raw().advise_range(memmap2::Advice::PopulateRead, at, len);
            if let Err(error) = advised {
                self.read_through(step)?; // as in `populate`
                if error.kind() != ErrorKind::InvalidInput {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn load(&self, range: Range<u64>) -> io::Result<()> {
        self.part(&range);
        self.read_through(range)
    }

    fn copy(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        read_at(self.file()?, bytes, at)
    }

    fn is_unshared(&self) -> io::Result<bool> {
        if !cfg!(unix) {
            return Ok(false);
        }
        match unless_contended(fs2::FileExt::try_lock_exclusive(self.file()?)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The system gives the old lock up before it asks for the new one.
                self.share()?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn share(&self) -> io::Result<()> {
        if !cfg!(unix) {
            return Ok(());
        }
        unless_contended(fs2::FileExt::try_lock_shared(self.file()?))
    }
}

/// Allocates what a file is missing, so that no store to it needs a block.
fn fill_holes(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let metadata = file.metadata()?;
        if metadata.blocks() * 512 >= metadata.len() {
            return Ok(());
        }
        match crate::sys::allocate(file, metadata.len()) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            done => return done,
        }
        for piece in pieces(0..metadata.len(), PIECE) {
            let bytes = &mut [0; PIECE][..length(&piece)];
            file.read_exact_at(bytes, piece.start)?;
            file.write_all_at(bytes, piece.start)?;
        }
    }
    let _ = file;
    Ok(())
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at + done as u64)?
        {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}

/// The same on every platform: `WouldBlock` if someone else has the lock.
pub(super) fn unless_contended(locked: io::Result<()>) -> io::Result<()> {
    let contended = fs2::lock_contended_error().raw_os_error();
    locked.map_err(|error| match error.raw_os_error() == contended {
        true => ErrorKind::WouldBlock.into(),
        false => error,
    })
}

/// `range` in pieces of at most `len` bytes.
pub(crate) fn pieces(range: Range<u64>, len: usize) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(len).map(move |at| at..end.min(at.saturating_add(len as u64)))
}

/// The bytes in a piece.
pub(crate) fn length(piece: &Range<u64>) -> usize {
    (piece.end - piece.start) as usize
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Storage;
    use super::super::file::Directory;
    use super::super::file::tests::{Place, kind};
    use super::*;

    #[test]
    fn what_is_stored_is_in_the_file_and_in_the_next_mapping() {
        for method in [FlushMethod::Range, FlushMethod::File] {
            let place = Place::new(&format!("{method:?}"));
            place.directory();
            let directory = Directory::new(&place.0, method);
            let region = directory.create("a", 65_536).unwrap();
            region.populate(8192..16_384).unwrap();
            region.map().write(9000, b"stored");
            region.flush(9000..9006).unwrap();
            region.touch(9000..9006);
            region.rearm(9000..9006);
            region.flush(0..65_536).unwrap();
            assert_eq!(&fs::read(place.0.join("a")).unwrap()[9000..9006], b"stored");
            drop(region);
            directory.rename("a", "b").unwrap();
            for access in [Access::Read, Access::Write] {
                let region = directory.open("b", access).unwrap();
                region.load(0..65_536).unwrap();
                assert_eq!(region.map().published(9000..9006), b"stored");
            }
            assert_eq!(kind(directory.open("a", Access::Read)), Some(ErrorKind::NotFound));
            directory.remove("b").unwrap();
            assert_eq!(directory.list().unwrap(), []);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_sparse_file_is_allocated_before_it_is_written() {
        use std::os::unix::fs::MetadataExt;
        let place = Place::new("sparse");
        let directory = place.directory();
        let path = place.0.join("a");
        fs::write(&path, b"kept").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        let blocks = || fs::metadata(&path).unwrap().blocks() * 512;
        directory.open("a", Access::Read).unwrap();
        assert!(blocks() < 1 << 20, "reading needs no blocks");
        let region = directory.open("a", Access::Write).unwrap();
        assert!(blocks() >= 1 << 20);
        assert_eq!(region.map().published(0..5), b"kept\0");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_read_elsewhere_is_not_recycled() {
        let place = Place::new("recycle");
        let directory = place.directory();
        let region = directory.create("a", 4096).unwrap();
        let reader = directory.open("a", Access::Read).unwrap();
        assert!(!region.is_unshared().unwrap());
        assert!(!reader.is_unshared().unwrap(), "a refusal leaves the lock as it was");
        drop(reader);
        assert!(region.is_unshared().unwrap());
        assert_eq!(kind(directory.open("a", Access::Read)), Some(ErrorKind::WouldBlock));
        region.share().unwrap();
        let reader = directory.open("a", Access::Read).unwrap();
        assert!(!region.is_unshared().unwrap());
        drop(region);
        assert!(reader.is_unshared().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_view_holds_its_lock_without_an_open_file() {
        let place = Place::new("view");
        let directory = place.directory();
        let region = directory.create("a", 4096).unwrap();
        let view = directory.open("a", Access::View).unwrap();
        let open = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        assert_eq!(open.filter(|path| *path == place.0.join("a")).count(), 1, "the writer's alone");
        assert!(!region.is_unshared().unwrap());
        drop(view);
        assert!(region.is_unshared().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_made_by_fork_has_no_mapping() {
        let place = Place::new("fork");
        let directory = place.directory();
        let _created = directory.create("a", 4096).unwrap();
        let _opened: Vec<_> = [Access::Read, Access::View, Access::Write]
            .into_iter()
            .map(|access| directory.open("a", access).unwrap())
            .collect();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let path = place.0.join("a").canonicalize().unwrap();
        let (mut lines, mut mappings) = (maps.lines(), 0);
        while lines.any(|line| line.ends_with(path.to_str().unwrap())) {
            let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
            assert!(flags.split(' ').any(|flag| flag == "dc"), "{flags}"); // don't copy on fork
            mappings += 1;
        }
        assert_eq!(mappings, 4);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_read_is_an_error_and_no_signal() {
        let place = Place::new("short");
        let directory = place.directory();
        fs::write(place.0.join("a"), vec![1; 8 << 20]).unwrap();
        let region = directory.open("a", Access::Read).unwrap();
        region.load(0..8 << 20).unwrap();
        File::options().write(true).open(place.0.join("a")).unwrap().set_len(6 << 20).unwrap();
        region.load(0..6 << 20).unwrap();
        assert_eq!(kind(region.load(0..8 << 20)), Some(ErrorKind::UnexpectedEof));
    }

    #[cfg(unix)]
    #[test]
    fn without_advice_populating_writes_zeros_in_the_range_alone() {
        let place = Place::new("advice");
        place.directory();
        fs::write(place.0.join("a"), vec![1; 16_384]).unwrap();
        let file = File::options().read(true).write(true).open(place.0.join("a")).unwrap();
        let file = MappedFile::new(file, Access::Write, FlushMethod::Range).unwrap();
        file.write_zeros(5000..13_000).unwrap();
        let bytes = file.map.published(0..16_384);
        assert!(bytes[..5000].iter().chain(&bytes[13_000..]).all(|&byte| byte == 1));
        assert!(bytes[5000..13_000].iter().all(|&byte| byte == 0));
        file.read_through(5000..16_384).unwrap();
        assert_eq!(kind(file.read_through(5000..16_385)), Some(ErrorKind::UnexpectedEof));
    }
}
