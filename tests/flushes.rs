//! Real files are flushed: what is durable is there in what the calls that flush have covered,
//! and nothing else.
//!
//! `msync`, `fdatasync` and `fsync` are this file's own: they take the place of the C library's
//! when the test is linked. They make the real call, and keep a copy of what it covered: that
//! is what a power cut leaves at the least. It is stricter than Linux: only a call for the file
//! makes its length durable, not one for its pages.
#![cfg(target_os = "linux")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use common::{TempDir, small, snapshot, texts};
use libc::{c_int, c_void};
use mapwal::{Ended, FlushMethod, Wal};

/// A file, whatever its names: device, inode, and when it was made, since inodes are used again.
type Id = (u64, u64, Option<SystemTime>);

/// What is on disk for certain.
struct OnDisk {
    files: BTreeMap<Id, Flushed>,
    names: BTreeMap<PathBuf, BTreeMap<OsString, Id>>,
}

#[derive(Default)]
struct Flushed {
    len: usize,
    /// Zeros where nothing was flushed.
    bytes: Vec<u8>,
    by: BTreeSet<&'static str>,
}

static ON_DISK: Mutex<OnDisk> =
    Mutex::new(OnDisk { files: BTreeMap::new(), names: BTreeMap::new() });

fn on_disk() -> MutexGuard<'static, OnDisk> {
    ON_DISK.lock().unwrap_or_else(|e| e.into_inner())
}

fn id(path: &Path) -> io::Result<Id> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

impl OnDisk {
    fn note(&mut self, file: Id, by: &'static str, at: u64, bytes: &[u8]) {
        let flushed = self.files.entry(file).or_default();
        let (at, end) = (at as usize, at as usize + bytes.len());
        flushed.bytes.resize(end.max(flushed.bytes.len()), 0);
        flushed.bytes[at..end].copy_from_slice(bytes);
        flushed.by.insert(by);
    }

    /// Makes a call for a file or directory; what it covers is what was there before.
    fn sync(&mut self, descriptor: c_int, by: &'static str, call: impl FnOnce() -> c_int) -> c_int {
        let path = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
        if path.is_dir() {
            let files = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
            let names = files.filter_map(|file| Some((file.file_name(), id(&file.path()).ok()?)));
            let names = names.collect();
            let done = call();
            if done == 0 {
                self.names.insert(fs::read_link(&path).unwrap(), names);
            }
            return done;
        }
        let (file, bytes) = (id(&path).unwrap(), fs::read(&path).unwrap());
        let done = call();
        if done == 0 {
            self.note(file, by, 0, &bytes);
            self.files.entry(file).or_default().len = bytes.len();
        }
        done
    }
}

/// The parts of files that are mapped at these addresses: as many bytes from an offset on.
fn mapped(start: usize, end: usize) -> Vec<(Id, u64, Vec<u8>)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let part = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (from, to) = words.next()?.split_once('-')?;
        let number = |hex: &str| usize::from_str_radix(hex, 16).ok();
        let (from, to, offset) = (number(from)?, number(to)?, number(words.nth(1)?)?);
        let path = Path::new(words.nth(2)?.trim_start());
        let (first, last) = (start.max(from), end.min(to));
        if first >= last {
            return None;
        }
        let at = (offset + first - from) as u64;
        let mut bytes = vec![0; last - first];
        // one that was removed, or is shorter than its mapping, is not noted
        File::open(path).ok()?.read_exact_at(&mut bytes, at).ok()?;
        Some((id(path).ok()?, at, bytes))
    };
    maps.lines().filter_map(part).collect()
}

/// # Safety
///
/// As that of the C library, which it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msync(address: *mut c_void, len: usize, flags: c_int) -> c_int {
    let mut on_disk = on_disk();
    let parts = mapped(address as usize, address as usize + len);
    // SAFETY: the kernel checks what it is given.
    let done = unsafe { libc::syscall(libc::SYS_msync, address, len, flags) } as c_int;
    if done == 0 && flags & libc::MS_SYNC != 0 {
        for (file, at, bytes) in parts {
            on_disk.note(file, "msync", at, &bytes);
        }
    }
    done
}

/// # Safety
///
/// As that of the C library, which it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    // SAFETY: the kernel checks what it is given.
    let call = || unsafe { libc::syscall(libc::SYS_fdatasync, descriptor) } as c_int;
    on_disk().sync(descriptor, "fdatasync", call)
}

/// # Safety
///
/// As that of the C library, which it replaces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    // SAFETY: the kernel checks what it is given.
    let call = || unsafe { libc::syscall(libc::SYS_fsync, descriptor) } as c_int;
    on_disk().sync(descriptor, "fsync", call)
}

/// The names of a directory that are durable.
fn names(on_disk: &OnDisk, directory: &Path) -> BTreeMap<OsString, Id> {
    let directory = directory.canonicalize().unwrap();
    on_disk.names.get(&directory).cloned().unwrap_or_default()
}

/// What a power cut leaves of a directory, at the least: its names that were synced, and of
/// their files what was flushed.
fn left_of(directory: &Path) -> TempDir {
    let left = TempDir::new();
    let on_disk = on_disk();
    for (name, id) in names(&on_disk, directory) {
        let bytes = on_disk.files.get(&id).map_or_else(Vec::new, |file| {
            let mut bytes = file.bytes.clone();
            bytes.resize(file.len, 0);
            bytes
        });
        fs::write(left.join(name), bytes).unwrap();
    }
    left
}

/// The records that a power cut leaves of a log, at the least.
fn texts_left_of(directory: &Path) -> Vec<String> {
    texts(&small().open(left_of(directory)).unwrap())
}

/// By which calls the segments of a log were flushed.
fn flushed_by(directory: &Path) -> BTreeSet<&'static str> {
    let on_disk = on_disk();
    let names = names(&on_disk, directory);
    names.values().filter_map(|id| on_disk.files.get(id)).flat_map(|it| it.by.clone()).collect()
}

fn log_in(directory: &TempDir, method: FlushMethod) -> Wal {
    small().flush_method(method).open(directory).unwrap()
}

const METHODS: [FlushMethod; 2] = [FlushMethod::Range, FlushMethod::File];

#[test]
fn what_the_calls_cover_is_noted_and_nothing_else() {
    let directory = TempDir::new();
    let path = directory.join("a");
    fs::write(&path, [1; 8192]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let left = || snapshot(&left_of(&directory)).remove("a");
    assert_eq!(left(), None);
    File::open(&directory).unwrap().sync_all().unwrap();
    assert_eq!(left(), Some(vec![]), "its name alone");
    file.sync_all().unwrap();
    assert!(left() == Some(vec![1; 8192]), "all of it");

    file.write_all_at(&[2; 8192], 0).unwrap();
    let map = memmap2::MmapRaw::map_raw(&file).unwrap();
    map.flush_range(4096, 4096).unwrap();
    assert!(left() == Some([[1; 4096], [2; 4096]].concat()), "a range");
    file.sync_data().unwrap();
    assert!(left() == Some(vec![2; 8192]), "all of it again");
    let all = BTreeSet::from(["fdatasync", "fsync", "msync"]);
    assert_eq!(flushed_by(&directory), all);
}

#[test]
fn what_commit_sync_and_sync_to_returned_for_is_flushed() {
    for method in METHODS {
        let directory = TempDir::new();
        let wal = log_in(&directory, method);
        wal.commit(b"committed").unwrap();
        assert_eq!(texts_left_of(&directory), ["committed"], "{method:?}");
        wal.append(b"synced").unwrap();
        assert_eq!(texts_left_of(&directory), ["committed"], "appending flushes nothing");
        wal.sync().unwrap();
        assert_eq!(texts_left_of(&directory), ["committed", "synced"], "{method:?}");
        let lsn = wal.append(b"synced to").unwrap();
        wal.sync_to(lsn).unwrap();
        assert_eq!(texts_left_of(&directory), ["committed", "synced", "synced to"], "{method:?}");
    }
}

#[test]
fn each_method_flushes_by_its_own_call() {
    for (method, call) in METHODS.into_iter().zip(["msync", "fdatasync"]) {
        let directory = TempDir::new();
        let wal = log_in(&directory, method);
        wal.commit(b"a change").unwrap();
        assert_eq!(flushed_by(&directory), BTreeSet::from([call, "fsync"]), "{method:?}");
    }
}

#[test]
fn a_new_segment_and_its_name_are_flushed_before_a_commit_in_it_returns() {
    for method in METHODS {
        let directory = TempDir::new();
        let wal = log_in(&directory, method);
        let (mut rolls, mut head) = (0, 0);
        for i in 0..10_000 {
            let record = format!("{i:01000}");
            let lsn = wal.commit(record.as_bytes()).unwrap();
            if wal.stats().rolls == rolls {
                continue;
            }
            rolls = wal.stats().rolls;
            let left = texts_left_of(&directory);
            assert_eq!(left.len(), i + 1 - head, "{method:?}, segment {rolls}");
            assert_eq!(left.last(), Some(&record));
            if rolls % 3 == 0 {
                wal.truncate_before(lsn).unwrap();
                head = i;
            }
            if wal.stats().recycled >= 4 && rolls >= 10 {
                break;
            }
        }
        assert!(wal.stats().recycled >= 4, "{method:?}");
    }
}

#[test]
fn a_large_record_and_its_file_are_flushed_before_its_commit_returns() {
    let directory = TempDir::new();
    let wal = log_in(&directory, FlushMethod::Range);
    wal.append(b"before").unwrap();
    let record = "large".repeat(50_000);
    wal.commit(record.as_bytes()).unwrap();
    assert_eq!(texts_left_of(&directory), ["before", &record]);
}

#[test]
fn what_truncations_give_up_is_gone_and_what_they_keep_is_flushed() {
    for method in METHODS {
        let directory = TempDir::new();
        let wal = log_in(&directory, method);
        let lsns = common::append_all(&wal, ["0", "1", "2", "3", "4"]);
        wal.truncate_before(lsns[1]).unwrap();
        assert_eq!(texts_left_of(&directory), ["1", "2", "3", "4"], "{method:?}");
        wal.truncate_after(lsns[3]).unwrap();
        assert_eq!(texts_left_of(&directory), ["1", "2", "3"], "{method:?}");
        wal.truncate_from(lsns[3]).unwrap();
        assert_eq!(texts_left_of(&directory), ["1", "2"], "{method:?}");
        wal.truncate_before(wal.next_lsn()).unwrap();
        assert_eq!(texts_left_of(&directory), [""; 0], "{method:?}");
    }
}

#[test]
fn all_of_a_log_that_was_closed_is_flushed_and_that_it_was_closed() {
    for method in METHODS {
        let directory = TempDir::new();
        let wal = log_in(&directory, method);
        wal.append(b"a change").unwrap();
        wal.close().unwrap();
        let wal = small().open(left_of(&directory)).unwrap();
        assert_eq!(texts(&wal), ["a change"]);
        assert!(matches!(wal.recovery().ended, Ended::Closed), "{:?}", wal.recovery());
    }
}

#[test]
fn what_opening_recovers_is_flushed_when_it_returns() {
    for method in METHODS {
        let (directory, killed) = (TempDir::new(), TempDir::new());
        let wal = log_in(&directory, method);
        wal.commit(b"durable").unwrap();
        wal.append(b"appended").unwrap();
        // as the death of the process leaves it: all is in the files, but not on disk
        let durable = snapshot(&left_of(&directory));
        for (name, bytes) in &durable {
            let file = File::create(killed.join(name)).unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file.sync_all().unwrap();
        }
        File::open(&killed).unwrap().sync_all().unwrap();
        let cached = snapshot(&directory);
        for (name, bytes) in cached.iter().filter(|(name, _)| durable.contains_key(*name)) {
            let file = File::options().write(true).open(killed.join(name)).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
        assert_eq!(texts_left_of(&killed), ["durable"]);
        let wal = log_in(&killed, method);
        assert_eq!(texts(&wal), ["durable", "appended"]);
        assert_eq!(texts_left_of(&killed), ["durable", "appended"], "{method:?}");
    }
}

#[test]
fn the_directories_that_a_log_makes_have_durable_names() {
    let directory = TempDir::new();
    let inner = directory.join("a").join("b");
    let _wal = small().open(&inner).unwrap();
    let has =
        |directory: &Path, name| names(&on_disk(), directory).contains_key(&OsString::from(name));
    assert!(has(&directory, "a"));
    assert!(has(&directory.join("a"), "b"));
}
