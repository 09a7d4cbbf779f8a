//! Files in a directory, mapped: what platforms and file systems need so that the
//! promises of the seam hold. Knows nothing of logs.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};

use super::{Access, FlushMethod, Region, Storage};
use crate::map::Map;
use crate::sync::Arc;
use crate::sys;

const LOCK: &str = "LOCK";

/// Zeros are written, and files read, in pieces of this many bytes. Larger writes
/// leave huge folios in the page cache of Linux, where one dirty byte dirties all.
const PIECE: usize = 4096;

/// Whether a flush is one call that covers its range to the disk: elsewhere the
/// mapping's pages and the file's are pushed by calls of their own.
const ONE_CALL_FLUSHES: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A directory on disk.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    flush: FlushMethod,
}

impl Directory {
    /// The directory at `path`, there or not; its files are flushed by `flush`.
    pub(crate) fn new(path: &Path, flush: FlushMethod) -> Self {
        Directory { path: named(path).to_owned(), flush }
    }

    /// Makes the directory and those above it, each durable before the next is
    /// made. Of those found, the last may be left by a process that died between
    /// the two steps: it is made durable as well.
    fn make(&self) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut dir = self.path.as_path();
        while !dir.exists() {
            missing.push(dir);
            dir = above(dir).ok_or(ErrorKind::NotFound)?;
        }
        if !dir.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        match above(dir).map_or(Ok(()), sync_directory) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {} // not made by us
            done => done?,
        }
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
                done => done?,
            }
            above(dir).map_or(Ok(()), sync_directory)?;
        }
        Ok(())
    }

    /// The steps of `create` that may fail and leave a file behind.
    fn prepare(&self, file: File, len: u64) -> io::Result<MappedFile> {
        sys::no_copy_on_write(&file);
        match sys::allocate(&file, len) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {} // the zeros do it
            done => done?,
        }
        for piece in pieces(0..len, PIECE) {
            (&file).write_all(&[0; PIECE][..length(&piece)])?;
        }
        file.sync_all()?;
        MappedFile::new(file, Access::Write, self.flush)
    }
}

impl Storage for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let path = self.path(LOCK);
        if !path.exists() {
            self.make()?;
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        unless_contended(fs2::FileExt::try_lock_exclusive(&file))?;
        Ok(Box::new(file))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue, // just removed
                metadata => metadata?,
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>> {
        let path = self.path(name);
        // Not the old file cut short: it may be mapped.
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done?,
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        match self.prepare(file, len) {
            Ok(region) => Ok(Box::new(region)),
            Err(error) => {
                let _ = fs::remove_file(&path); // the first error is the one to know
                Err(error)
            }
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn Region>> {
        let write = access == Access::Write;
        let file = OpenOptions::new().read(true).write(write).open(self.path(name))?;
        Ok(Box::new(MappedFile::new(file, access, self.flush)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn names_are_durable(&self) -> bool {
        cfg!(unix)
    }
}

/// A file, opened and mapped. On unix it holds a shared lock on the file; where
/// locks are mandatory a lock would keep others from reading.
#[derive(Debug)]
struct MappedFile {
    map: Arc<Map>,
    file: File,
    flush: FlushMethod,
}

impl MappedFile {
    fn new(file: File, access: Access, flush: FlushMethod) -> io::Result<Self> {
        if cfg!(unix) {
            unless_contended(fs2::FileExt::try_lock_shared(&file))?;
        }
        let map = match access {
            Access::Read => MmapOptions::new().map_raw_read_only(&file)?,
            Access::Write => {
                fill_holes(&file)?;
                MmapOptions::new().map_raw(&file)?
            }
        };
        Ok(MappedFile { map: Arc::new(Map::file(map)), file, flush })
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
        pieces(range, PIECE).try_for_each(|piece| {
            self.file.write_all_at(&[0; PIECE][..length(&piece)], piece.start)
        })
    }

    /// Reads `range` by calls that return errors, and forgets what it read.
    fn read_through(&self, range: Range<u64>) -> io::Result<()> {
        pieces(range, PIECE).try_for_each(|piece| {
            read_at(&self.file, &mut [0; PIECE][..length(&piece)], piece.start)
        })
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
            self.file.sync_data()?;
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

    fn is_unshared(&self) -> io::Result<bool> {
        if !cfg!(unix) {
            return Ok(false);
        }
        match unless_contended(fs2::FileExt::try_lock_exclusive(&self.file)) {
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
        unless_contended(fs2::FileExt::try_lock_shared(&self.file))
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
        match sys::allocate(file, metadata.len()) {
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

/// Makes the names in a directory durable, where that can be done at all.
fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(()) // the file system has no such call
        }
        done => done,
    }
}

/// The directory that a path is in.
fn above(path: &Path) -> Option<&Path> {
    path.parent().map(named)
}

/// A path that system calls take: the current directory has one, too.
fn named(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// The same on every platform: `WouldBlock` if someone else has the lock.
fn unless_contended(locked: io::Result<()>) -> io::Result<()> {
    let contended = fs2::lock_contended_error().raw_os_error();
    locked.map_err(|error| match error.raw_os_error() == contended {
        true => ErrorKind::WouldBlock.into(),
        false => error,
    })
}

/// `range` in pieces of at most `len` bytes.
fn pieces(range: Range<u64>, len: usize) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(len).map(move |at| at..end.min(at.saturating_add(len as u64)))
}

fn length(piece: &Range<u64>) -> usize {
    (piece.end - piece.start) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place for a directory that is not there yet; gone at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mapwal-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Place(path)
        }

        fn directory(&self) -> Directory {
            fs::create_dir_all(&self.0).unwrap();
            Directory::new(&self.0, FlushMethod::Range)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_directory_is_made_and_locked_once() {
        let place = Place::new("lock");
        let directory = Directory::new(&place.0.join("a").join("b"), FlushMethod::Range);
        assert_eq!(directory.list().unwrap(), []);
        let guard = directory.lock().unwrap();
        assert_eq!(kind(directory.lock()), Some(ErrorKind::WouldBlock));
        drop(guard);
        let _guard = directory.lock().unwrap();
        assert_eq!(directory.list().unwrap(), [(LOCK.to_owned(), 0)]);
        directory.sync_names().unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let place = Place::new("file");
        fs::write(&place.0, b"a file").unwrap();
        let lock = |path: &Path| Directory::new(path, FlushMethod::Range).lock();
        assert_eq!(kind(lock(&place.0)), Some(ErrorKind::NotADirectory));
        assert_eq!(kind(lock(&place.0.join("a").join("b"))), Some(ErrorKind::NotADirectory));
        fs::remove_file(&place.0).unwrap();
    }

    #[test]
    fn directories_and_names_that_are_not_text_are_not_listed() {
        let place = Place::new("list");
        let directory = place.directory();
        fs::create_dir(place.0.join("directory")).unwrap();
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::ffi::OsStrExt;
            let name = std::ffi::OsStr::from_bytes(b"\xff.wal");
            fs::write(place.0.join(name), b"?").unwrap();
            std::os::unix::fs::symlink("file", place.0.join("link")).unwrap();
        }
        fs::write(place.0.join("file"), b"123").unwrap();
        assert_eq!(directory.list().unwrap(), [("file".to_owned(), 3)]);
    }

    #[test]
    fn a_new_file_is_zeros_in_blocks_of_its_own() {
        let place = Place::new("create");
        let len = 3 * PIECE as u64 + 100;
        let region = place.directory().create("a", len).unwrap();
        assert_eq!(region.map().len(), len);
        assert_eq!(fs::read(place.0.join("a")).unwrap(), vec![0; len as usize]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            assert!(fs::metadata(place.0.join("a")).unwrap().blocks() * 512 >= len);
        }
    }

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

    #[cfg(unix)] // elsewhere a mapped file cannot be replaced
    #[test]
    fn a_mapped_file_that_is_created_again_stays_as_it_was() {
        let place = Place::new("again");
        let directory = place.directory();
        let old = directory.create("a", 8192).unwrap();
        old.map().write(5000, b"held");
        let new = directory.create("a", 4096).unwrap();
        assert_eq!(new.map().len(), 4096);
        assert_eq!(old.map().published(5000..5004), b"held");
    }

    #[cfg(target_os = "linux")] // elsewhere it would write for a long time
    #[test]
    fn a_file_that_does_not_fit_leaves_nothing() {
        let place = Place::new("full");
        let directory = place.directory();
        assert!(directory.create("a", 1 << 60).is_err());
        assert!(directory.create("a", u64::MAX).is_err());
        assert_eq!(directory.list().unwrap(), []);
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
