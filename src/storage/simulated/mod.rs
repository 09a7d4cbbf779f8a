//! A simulated disk, for crash tests: it keeps what was flushed apart from what
//! was not.
//!
//! Here is what a test does with it. How a log uses it is in `seam`, what one file
//! has on disk in `platter`, what a power cut leaves in `image`. Knows nothing of
//! logs.

mod image;
mod platter;
mod seam;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::memory::Sharing;
use crate::map::Map;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use platter::Platter;

/// A disk in memory, for testing what a crash leaves of a log and of an engine
/// built on it.
///
/// Every file has two states: the *cache*, which the log reads and writes, and
/// what is *on disk*, which only flushes change. The names of files have the same
/// two states. [`crash`](Disk::crash) returns another disk, with what a power cut
/// may leave: of everything that was not flushed any part, sector by sector, and of some sectors a
/// part.
///
/// It fails when told to. Calls are counted across everything that reaches for
/// the disk: locking, listing, creating, opening, renaming and removing files,
/// syncing names, flushing, preparing and reading in. Appending to prepared space
/// is none of these. Those of a log's background thread count with the others, and come when
/// they come: open the log without one
/// ([`Options::background`](crate::Options::background)), and what failed fails again, as long
/// as one thread uses it. (An opening looks into the files of a simulated disk one after the
/// other.)
///
/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

type Names = BTreeMap<String, Arc<File>>;

#[derive(Default)]
struct State {
    locked: bool,
    names: Names,
    names_on_disk: Names,
    capacity: Option<u64>,
    calls: u64,
    failing_calls: BTreeSet<u64>,
    /// The call from which on all of its kind fail, and that kind once it is known.
    failing_from: Option<u64>,
    failing_kind: Option<Kind>,
    /// The first call that finds the device gone.
    lost_at: Option<u64>,
    flushes: u64,
    failing_flushes: BTreeSet<u64>,
    fail_sync_names: bool,
    populates: u64,
}

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lock,
    List,
    Create,
    Open,
    Rename,
    Remove,
    SyncNames,
    Flush,
    Populate,
    Load,
}

/// A file, whatever its names.
struct File {
    /// The cache.
    map: Arc<Map>,
    on_disk: Mutex<Platter>,
    sharing: Sharing,
}

impl Disk {
    /// The bytes that a power cut keeps or loses as one.
    pub const SECTOR: u64 = 512;

    /// An empty disk, without limits.
    pub fn new() -> Self {
        Disk::default()
    }

    /// Makes the disk `bytes` large: creating files that together are larger
    /// fails as on a full disk. What is there stays.
    pub fn capacity(&self, bytes: u64) {
        lock(&self.0).capacity = Some(bytes);
    }

    /// How many calls have reached the disk so far.
    pub fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    /// Makes one call fail, once: the `nth` from now, 0 the next.
    pub fn fail_call(&self, nth: u64) {
        let mut state = lock(&self.0);
        let call = state.calls + nth;
        state.failing_calls.insert(call);
    }

    /// Makes a call fail, the `nth` from now, 0 the next, and every call of its kind
    /// after it, until [`mend`](Disk::mend): a directory that can no longer be synced, a
    /// medium that can no longer be read. Creating a file and preparing its pages fail
    /// as on a disk that stays full.
    pub fn fail_from_call(&self, nth: u64) {
        let mut state = lock(&self.0);
        state.failing_from = Some(state.calls + nth);
        state.failing_kind = None;
    }

    /// Makes one flush fail, once: the `nth` from now, 0 the next. Which of its sectors it had
    /// written before it failed, [`crash`](Disk::crash) decides. As on Linux, the others
    /// are then believed clean: they do not reach
    /// the disk, by a later flush or by themselves, unless they are stored again.
    pub fn fail_flush(&self, nth: u64) {
        let mut state = lock(&self.0);
        let flush = state.flushes + nth;
        state.failing_flushes.insert(flush);
    }

    /// Makes the next syncing of names fail, once.
    pub fn fail_sync_names(&self) {
        lock(&self.0).fail_sync_names = true;
    }

    /// Takes the device away: what is on disk stays as it is, and every call that
    /// would change it fails from now on. Memory goes on: what is appended may
    /// still be among what [`crash`](Disk::crash) keeps.
    pub fn lose(&self) {
        self.lose_after(0);
    }

    /// Takes the device away, as [`lose`](Disk::lose), when `calls` more calls have
    /// been made.
    pub fn lose_after(&self, calls: u64) {
        let mut state = lock(&self.0);
        state.lost_at = Some(state.calls + calls);
    }

    /// Ends all that was to fail, and brings a device back that was taken away, with
    /// what is on disk. What a failed flush left stays believed clean, bad sectors stay
    /// bad, and the disk as large as it is.
    pub fn mend(&self) {
        let mut state = lock(&self.0);
        state.failing_calls.clear();
        state.failing_flushes.clear();
        (state.failing_from, state.failing_kind, state.lost_at) = (None, None, None);
        state.fail_sync_names = false;
    }

    /// The names of the files, as they are in the cache, ascending.
    pub fn files(&self) -> Vec<String> {
        lock(&self.0).names.keys().cloned().collect()
    }

    /// What a file has in the cache.
    ///
    /// # Panics
    ///
    /// If there is no such file, or a log on this disk is open for writing.
    pub fn read(&self, name: &str) -> Vec<u8> {
        self.idle().file(name).cached().to_vec()
    }

    /// Damages a file: changes its bytes from `at` on, in the cache and on disk.
    /// Those who have it open keep what they have.
    ///
    /// # Panics
    ///
    /// If the file ends before `at + bytes.len()`, or as [`read`](Disk::read).
    pub fn write(&self, name: &str, at: u64, bytes: &[u8]) {
        let mut state = self.idle();
        let old = state.file(name).clone();
        let mut cached = old.cached().to_vec();
        let mut platter = lock(&old.on_disk).clone();
        let range = at as usize..at as usize + bytes.len();
        cached[range.clone()].copy_from_slice(bytes);
        platter.bytes[range].copy_from_slice(bytes);
        let new = Arc::new(File::new(&cached, platter).expect("memory"));
        let State { names, names_on_disk, .. } = &mut *state;
        for file in names.values_mut().chain(names_on_disk.values_mut()) {
            if Arc::ptr_eq(file, &old) {
                *file = new.clone();
            }
        }
    }

    /// Puts a file there, in the cache and on disk, in place of one with its name.
    ///
    /// # Panics
    ///
    /// If `bytes` is empty, which no file here can be, or a log on this disk is
    /// open for writing.
    pub fn put_file(&self, name: &str, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "a file on a simulated disk has at least one byte");
        let file = File::new(bytes, Platter::new(bytes.to_vec())).expect("memory");
        let (file, mut state) = (Arc::new(file), self.idle());
        state.names.insert(name.to_owned(), file.clone());
        state.names_on_disk.insert(name.to_owned(), file);
    }

    /// Removes a file, in the cache and on disk.
    ///
    /// # Panics
    ///
    /// As [`read`](Disk::read).
    pub fn remove_file(&self, name: &str) {
        let mut state = self.idle();
        state.file(name);
        state.names.remove(name);
        state.names_on_disk.remove(name);
    }

    /// Puts a file there that another disk has, as it is in the other's cache: an
    /// old one that comes back, for example.
    ///
    /// # Panics
    ///
    /// As [`read`](Disk::read), on either disk.
    pub fn copy_file_from(&self, other: &Disk, name: &str) {
        self.put_file(name, &other.read(name));
    }

    /// Makes a sector of a file, `sector` × 512 bytes from its start, unreadable:
    /// reading it in fails. It stays so in what a crash leaves.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn bad_sector(&self, name: &str, sector: u64) {
        lock(&lock(&self.0).file(name).on_disk).bad.insert(sector);
    }

    /// The state while no log writes: a lock on the disk is what allows writing,
    /// so that nobody stores to a cache which is read here.
    fn idle(&self) -> MutexGuard<'_, State> {
        let state = lock(&self.0);
        if state.locked {
            drop(state); // the log goes on
            panic!("a log on this disk is open for writing: close it first");
        }
        state
    }
}

impl State {
    fn file(&self, name: &str) -> &Arc<File> {
        self.names.get(name).unwrap_or_else(|| panic!("no file {name} on this disk"))
    }
}

impl File {
    fn new(cached: &[u8], on_disk: Platter) -> Option<Self> {
        let map = Map::heap(cached.len() as u64)?;
        map.write(0, cached);
        Some(File { map: Arc::new(map), on_disk: Mutex::new(on_disk), sharing: Sharing::default() })
    }

    /// The whole cache: while no log writes.
    fn cached(&self) -> &[u8] {
        self.map.published(0..self.map.len())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("map", &self.map).finish_non_exhaustive()
    }
}
