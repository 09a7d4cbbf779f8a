//! Files in a directory: their names, and how they are made.
//!
//! What a file does once it is there is in `mapped`. Knows nothing of logs.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::format::file_index;

use super::mapped::{MappedFile, PIECE, length, pieces, unless_contended};
use super::{Access, FlushMethod, Region, Storage};
use crate::sys;

const LOCK: &str = "LOCK";

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
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                for piece in pieces(0..len, PIECE) {
                    (&file).write_all(&[0; PIECE][..length(&piece)])?;
                }
            }
            done => done?,
        }
        file.sync_all()?;
        MappedFile::new(file, Access::Write, self.flush)
    }
}

impl Storage for Directory {
    fn path(&self, name: &str) -> PathBuf {
        // joining nothing would add a separator
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
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
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let path = self.path(&name);
            let is_gone = |error: io::Error| error.kind() == ErrorKind::NotFound;
            // followed: a segment may have been moved, and a link left in its place
            let metadata = match fs::metadata(&path) {
                Err(_) if file_index(&name).is_none() => continue,
                // since it was listed: somebody writes the log
                Err(_) if fs::symlink_metadata(&path).is_err_and(is_gone) => continue,
                metadata => metadata?,
            };
            if metadata.is_file() {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A place for a directory that is not there yet; gone at the end.
    pub(crate) struct Place(pub(crate) PathBuf);

    impl Place {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mapwal-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Place(path)
        }

        pub(crate) fn directory(&self) -> Directory {
            fs::create_dir_all(&self.0).unwrap();
            Directory::new(&self.0, FlushMethod::Range)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
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
        }
        fs::write(place.0.join("file"), b"123").unwrap();
        assert_eq!(directory.list().unwrap(), [("file".to_owned(), 3)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_segment_that_was_moved_is_found_by_the_link_in_its_place() {
        let place = Place::new("link");
        let directory = place.directory();
        let name = crate::format::file_name(1);
        let link = || std::os::unix::fs::symlink("elsewhere", place.0.join(&name));
        link().unwrap();
        directory.list().unwrap_err(); // it leads nowhere: not a log without a segment
        fs::write(place.0.join("elsewhere"), b"123").unwrap();
        let mut list = directory.list().unwrap();
        list.sort_unstable();
        assert_eq!(list, [(name.clone(), 3), ("elsewhere".to_owned(), 3)]);
    }

    #[test]
    fn a_segment_that_goes_while_it_is_listed_is_no_error() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let place = Place::new("going");
        let directory = place.directory();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let names = (1..).map(crate::format::file_name);
                for path in names.map(|name| place.0.join(name)) {
                    fs::write(&path, b"123").unwrap();
                    fs::remove_file(&path).unwrap();
                    // Relaxed: pairs with nothing, only the end is told
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let failed = (0..20_000).filter(|_| directory.list().is_err()).count();
            done.store(true, Ordering::Relaxed); // as above
            assert_eq!(failed, 0);
        });
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
}
