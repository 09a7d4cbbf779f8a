//! What the machine can do without a log: checksum and copy, write and flush, by the usual calls.
//!
//! None of them is one. They have no recovery, and space for one run. Nor are they the least work
//! that can be done: they copy by `memcpy`, and mapwal, on x86-64, copies records of 16 KiB and more
//! past the caches, with streaming stores. So it can be ahead of them there.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::log::{About, Log, Shape};

const BLOCK: usize = 4096;
/// Length and checksum, and room for what a log has to say besides.
const HEADER: usize = 16;

/// A file in which nothing is left to be allocated: zeros, written in small pieces, so
/// that the page cache has them as single pages.
fn zeroed(path: &Path, len: usize) -> File {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    for at in (0..len).step_by(BLOCK) {
        file.write_all_at(&[0; BLOCK], at as u64).unwrap();
    }
    file.sync_all().unwrap();
    file
}

fn header(record: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32c::crc32c(record).to_le_bytes());
    header
}

fn frame_len(record_len: usize) -> usize {
    HEADER + record_len.next_multiple_of(8)
}

/// The frames in these bytes, to the first that is not one. Returns where they end.
fn replay(bytes: &[u8], visit: &mut dyn FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(frame) = bytes.get(at..at + HEADER) {
        let len = u32::from_le_bytes(*frame.first_chunk().unwrap()) as usize;
        if len == 0 {
            break;
        }
        let record = &bytes[at + HEADER..at + HEADER + len];
        assert_eq!(header(record), frame);
        visit(record);
        at += frame_len(len);
    }
    at
}

/// A checksum and a copy into a mapping whose pages are all there. Threads have nothing
/// to do with each other: each takes a chunk at a time.
pub struct Copy {
    map: MmapRaw,
    chunks: AtomicUsize,
    number: u64,
}

/// The same, and the processor is told to fetch what will be written soon, as mapwal does. Which
/// of the two is faster depends on the record and on the machine (in single runs this one for
/// 64 B, the plain one for 256 B), so both run, and the targets are judged by the faster one.
pub struct CopyFetching(Copy);

const CHUNK: usize = 256 << 10;
/// For the chunks' ends, and the last one of each thread.
const SLACK: usize = 32 * CHUNK;

thread_local! {
    /// Whose chunk this thread has, where its next frame goes, and the chunk's end.
    static PLACE: Cell<(u64, usize, usize)> = const { Cell::new((0, 0, 0)) };
}

impl Copy {
    /// Returns where the frame is.
    #[inline]
    fn put(&self, record: &[u8]) -> *mut u8 {
        let (number, mut at, mut end) = PLACE.get();
        let len = frame_len(record.len());
        if number != self.number || end - at < len {
            at = self.chunk();
            end = at + CHUNK;
            assert!(len <= CHUNK);
        }
        let header = header(record);
        // SAFETY: the frame lies in a chunk that this thread alone has, and the chunk
        // in the map, which nobody else has.
        let frame = unsafe {
            let frame = self.map.as_mut_ptr().add(at);
            frame.copy_from_nonoverlapping(header.as_ptr(), HEADER);
            frame.add(HEADER).copy_from_nonoverlapping(record.as_ptr(), record.len());
            frame
        };
        PLACE.set((self.number, at + len, end));
        frame
    }

    fn chunk(&self) -> usize {
        let at = self.chunks.fetch_add(1, Ordering::Relaxed) * CHUNK;
        assert!(at < self.map.len(), "the floor is for a burst");
        at
    }
}

impl Log for Copy {
    const ABOUT: About = About {
        name: "copy floor",
        appended: "CRC-32C and a copy into a populated shared mapping; not a log",
        synced: "msync",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        // half a segment is more than any burst: the rest would only take time to be written
        let file = zeroed(&dir.join("copy"), shape.segment as usize / 2 + SLACK);
        let map = MmapRaw::map_raw(&file).unwrap();
        map.advise(Advice::PopulateWrite).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Copy { map, chunks: AtomicUsize::new(0), number }
    }

    #[inline]
    fn append(&self, record: &[u8]) {
        self.put(record);
    }

    fn sync(&self) {
        self.map.flush().unwrap();
    }

    fn replay(dir: &Path, _shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        let file = File::open(dir.join("copy")).unwrap();
        // SAFETY: nobody writes the file any more.
        let map = unsafe { MmapOptions::new().map(&file).unwrap() };
        for chunk in map.chunks(CHUNK) {
            replay(chunk, visit);
        }
        true
    }
}

impl Log for CopyFetching {
    const ABOUT: About = About {
        name: "copy floor, fetching",
        appended: "the same, with a fetch for writing 3 KiB ahead; not a log",
        synced: "msync",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        CopyFetching(Copy::open(dir, shape))
    }

    #[inline]
    fn append(&self, record: &[u8]) {
        let frame = self.0.put(record);
        fetch_to_write_ahead_of(frame, HEADER + record.len());
    }

    fn sync(&self) {
        self.0.sync();
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        Copy::replay(dir, shape, visit)
    }
}

/// As much as was written here, some way on: mapwal's own distance, and like it not more than
/// 1 KiB, as what is longer the processor fetches by itself.
#[inline]
fn fetch_to_write_ahead_of(frame: *mut u8, len: usize) {
    const AHEAD: usize = 3 << 10;
    #[cfg(target_arch = "x86_64")]
    for line in (0..len.min(1024)).step_by(64) {
        // SAFETY: a hint: no address is wrong for it.
        unsafe {
            std::arch::asm!(
                "prefetchw [{}]",
                in(reg) frame.wrapping_add(AHEAD + line),
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (frame, len, AHEAD);
}

/// `pwrite` of the frame and `fdatasync`, into a file that has all its blocks.
pub struct Device {
    file: File,
    len: u64,
    next: AtomicU64,
}

impl Log for Device {
    const ABOUT: About = About {
        name: "device floor",
        appended: "in the page cache, by pwrite into a preallocated file; not a log",
        synced: "fdatasync",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        let len = shape.segment;
        let file = zeroed(&dir.join("device"), len as usize);
        Device { file, len, next: AtomicU64::new(0) }
    }

    fn append(&self, record: &[u8]) {
        let len = frame_len(record.len());
        let at = self.next.fetch_add(len as u64, Ordering::Relaxed);
        assert!(at + len as u64 <= self.len, "the floor is for a burst");
        let frame = [&header(record), record].concat();
        self.file.write_all_at(&frame, at).unwrap();
    }

    fn sync(&self) {
        self.file.sync_data().unwrap();
    }

    fn replay(dir: &Path, _shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        replay(&std::fs::read(dir.join("device")).unwrap(), visit);
        true
    }
}

/// One aligned block a commit, past the page cache, durable when it returns. The block
/// is packed: it is written again with each frame that it takes.
pub struct DeviceDirect {
    file: File,
    tail: Mutex<Tail>,
}

#[repr(C, align(4096))]
struct Tail {
    /// Two of them, for a frame that goes on in the next.
    blocks: [u8; 2 * BLOCK],
    at: u64,
    used: usize,
}

impl Log for DeviceDirect {
    const ABOUT: About = About {
        name: "device floor, direct",
        appended: "durable; not a log",
        synced: "O_DIRECT and O_DSYNC, a block of 4 KiB into a preallocated file",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        let path = dir.join("direct");
        zeroed(&path, shape.segment as usize);
        let direct = libc::O_DIRECT | libc::O_DSYNC;
        let file = OpenOptions::new().write(true).custom_flags(direct).open(path).unwrap();
        DeviceDirect { file, tail: Mutex::new(Tail { blocks: [0; 2 * BLOCK], at: 0, used: 0 }) }
    }

    fn append(&self, record: &[u8]) {
        let tail = &mut *self.tail.lock().unwrap();
        let len = frame_len(record.len());
        assert!(len <= BLOCK, "the floor is for small records");
        let frame = &mut tail.blocks[tail.used..tail.used + len];
        frame[..HEADER].copy_from_slice(&header(record));
        frame[HEADER..HEADER + record.len()].copy_from_slice(record);
        tail.used += len;
        let size = tail.used.next_multiple_of(BLOCK);
        self.file.write_all_at(&tail.blocks[..size], tail.at).unwrap();
        if tail.used >= BLOCK {
            tail.blocks.copy_within(BLOCK.., 0);
            tail.blocks[BLOCK..].fill(0);
            tail.used -= BLOCK;
            tail.at += BLOCK as u64;
        }
    }

    fn sync(&self) {}

    fn replay(dir: &Path, _shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        replay(&std::fs::read(dir.join("direct")).unwrap(), visit);
        true
    }
}
