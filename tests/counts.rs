//! What an append costs in the steady state: no allocation, and nothing that reaches
//! for the disk.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{TempDir, small};
use mapwal::sim::Disk;
use mapwal::{Options, Wal};

/// Counts what every thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATED.with(|allocated| allocated.set(allocated.get() + 1));
}

// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as this function's caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as this function's caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations of this thread while `f` runs.
fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    f();
    ALLOCATED.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
    assert_eq!(allocations(|| drop(vec![0; 10])), 1);
}

/// Records that a segment of 64 KiB has room for behind the first 12 KiB.
const RECORDS: usize = 2000;

/// Fills the first pages of a new log's segment: an append that overtakes the ready
/// mark there moves it to the segment's end. Then all is prepared.
fn prepare(wal: &Wal) {
    common::append_all(wal, (0..9).map(|_| [0; 1000]));
    wal.append_with(0, |_| {}).unwrap(); // a thread's first one allocates
    // both spares are made: the background thread has nothing left to do
    while wal.stats().made < 2 {
        std::thread::yield_now();
    }
}

/// Appends of all kinds, all in one segment.
fn append_all_kinds(wal: &Wal) {
    let rolls = wal.stats().rolls;
    for i in 0..RECORDS / 4 {
        wal.append(&[]).unwrap();
        wal.append_with(4, |bytes| bytes.copy_from_slice(&(i as u32).to_le_bytes())).unwrap();
        wal.append_batch(&[b"ab", b"cd"]).unwrap();
    }
    assert_eq!(wal.stats().rolls, rolls, "no roll in between");
}

#[test]
fn an_append_allocates_nothing_in_memory_and_in_files() {
    let directory = TempDir::new();
    for wal in [small().in_memory().unwrap(), small().open(&directory).unwrap()] {
        prepare(&wal);
        assert_eq!(allocations(|| append_all_kinds(&wal)), 0);
    }
}

#[test]
fn an_append_that_the_preparer_or_the_append_itself_must_make_room_for_allocates_nothing() {
    let directory = TempDir::new();
    let wal = Options::new().segment_size(16 << 20).open(&directory).unwrap();
    wal.append(b"first").unwrap();
    let allocated = allocations(|| {
        for _ in 0..50_000 {
            wal.append(&[7; 200]).unwrap();
        }
    });
    assert_eq!((allocated, wal.stats().rolls), (0, 1));
    assert!(wal.next_lsn().as_u64() % (16 << 20) > 10 << 20, "over many ready marks");
}

#[test]
fn an_append_to_prepared_space_makes_no_call_that_reaches_for_the_disk() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    prepare(&wal);
    let (calls, overtaken) = (disk.calls(), wal.stats().overtaken);
    append_all_kinds(&wal);
    assert_eq!(disk.calls(), calls, "over {RECORDS} records");
    assert_eq!(wal.stats().overtaken, overtaken);
    // and reading them makes none either
    let reader = wal.reader();
    assert_eq!(reader.iter().count(), RECORDS + 10);
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_commit_is_one_flush() {
    let disk = Disk::new();
    let wal = small().open_on(&disk).unwrap();
    prepare(&wal);
    wal.sync().unwrap();
    let calls = disk.calls();
    for _ in 0..100 {
        wal.commit(b"record").unwrap();
    }
    assert_eq!(disk.calls() - calls, 100);
}

#[test]
fn reading_a_record_allocates_nothing() {
    let wal = small().in_memory().unwrap();
    prepare(&wal);
    append_all_kinds(&wal);
    let reader = wal.reader();
    let mut records = reader.iter();
    records.next().unwrap().unwrap();
    let mut bytes = 0;
    let allocated = allocations(|| {
        for record in records.by_ref().take(RECORDS - 100) {
            bytes += record.unwrap().data().len();
        }
    });
    assert_eq!(allocated, 0);
    assert!(bytes > 0);
    let lsn = reader.from_sequence(1000).next().unwrap().unwrap().lsn();
    wal.read(lsn).unwrap();
    assert_eq!(allocations(|| drop(wal.read(lsn).unwrap())), 0);
}

#[test]
fn a_follower_allocates_nothing_for_what_is_there() {
    let wal = small().in_memory().unwrap();
    prepare(&wal);
    let mut follower = wal.follow(wal.next_lsn()).unwrap();
    append_all_kinds(&wal);
    follower.try_next().unwrap();
    let allocated = allocations(|| {
        for _ in 1..RECORDS {
            follower.try_next().unwrap().unwrap();
        }
    });
    assert_eq!(allocated, 0);
}
