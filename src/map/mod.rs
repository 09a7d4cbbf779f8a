//! Mapped memory, with calls that are safe to make for those who keep its rules.
//!
//! Knows nothing of frames. Together with `sys` this is the only place with
//! `unsafe`, and these are the rules that make it right:
//!
//! - *locked*: no other process writes the files, and none makes them shorter
//!   (the log's lock file; stated in `docs/guarantees.md`);
//! - *bounded*: an offset is checked before it becomes a pointer;
//! - *claimed*: claimed bytes have one user, the holder of their [`Claim`],
//!   until they are published;
//! - *published*: published bytes never change while anything maps them;
//! - *pinned*: a granted claim keeps the map that it lies in, see [`Slot`].

mod claim;
mod slot;

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::Range;
use std::ptr;

use memmap2::MmapRaw;

pub(crate) use claim::Claim;
pub(crate) use slot::{Attempt, Pending, Slot};

use crate::format::ALIGN;
use crate::sync::{AtomicU32, Ordering};

/// What heap blocks are aligned to: a page, as file mappings are.
const BLOCK_ALIGN: usize = 4096;

/// A stretch of memory that holds a segment: a mapped file, or a heap block.
pub(crate) struct Map {
    base: *mut u8,
    len: u64,
    backing: Backing,
    #[cfg(loom)]
    model: model::Cells,
}

enum Backing {
    File(MmapRaw),
    Heap(Layout),
}

// SAFETY: the pointer is to memory that this map owns until it is dropped, and
// every access through it keeps one of the rules above.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A mapping of a file.
    pub(crate) fn file(map: MmapRaw) -> Self {
        let (base, len) = (map.as_mut_ptr(), map.len() as u64);
        Map {
            base,
            len,
            backing: Backing::File(map),
            #[cfg(loom)]
            model: model::Cells::new(len),
        }
    }

    /// A block of zeros on the heap, or `None` if there is no memory for it.
    pub(crate) fn heap(len: u64) -> Option<Self> {
        let size = usize::try_from(len).ok().filter(|&size| size > 0)?;
        let layout = Layout::from_size_align(size, BLOCK_ALIGN).ok()?;
        // SAFETY: bounded: the layout's size is not 0.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        (!base.is_null()).then(|| Map {
            base,
            len,
            backing: Backing::Heap(layout),
            #[cfg(loom)]
            model: model::Cells::new(len),
        })
    }

    /// The file mapping, where it is one.
    pub(crate) fn as_file(&self) -> Option<&MmapRaw> {
        match &self.backing {
            Backing::File(map) => Some(map),
            Backing::Heap(_) => None,
        }
    }

    /// Bytes from first to last.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The pointer to the first byte of `range`, all of which is in the map.
    #[inline]
    fn pointer(&self, range: &Range<u64>) -> *mut u8 {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} leaves a map of {} bytes",
            self.len
        );
        // SAFETY: bounded: just checked, and the map's length is a `usize`.
        unsafe { self.base.add(range.start as usize) }
    }

    /// The word at `at`, which every thread may read and write at any time: the
    /// first word of each frame, through which it is published.
    #[inline]
    fn word(&self, at: u64) -> &AtomicU32 {
        assert!(at % ALIGN == 0, "byte {at} cannot be a frame's");
        let _word = self.pointer(&(at..at + size_of::<u32>() as u64));
        #[cfg(loom)]
        return self.model.word(at);
        #[cfg(not(loom))]
        // SAFETY: bounded: checked by `pointer`; aligned, since blocks are and
        // `at` is. Words are only used as atomics while frames are published.
        unsafe {
            AtomicU32::from_ptr(_word.cast())
        }
    }

    /// The word at `at`, as it is stored: 0 if nothing is published there. To
    /// see another word is to see its whole frame.
    #[inline]
    pub(crate) fn load(&self, at: u64) -> u32 {
        // Acquire pairs with the Release in `publish`.
        u32::from_le(self.word(at).load(Ordering::Acquire))
    }

    /// Stores the first word of a frame whose other bytes are all there.
    #[inline]
    fn publish(&self, at: u64, word: u32) {
        // Release pairs with the Acquire in `load`: to see the word is to see
        // the frame.
        self.word(at).store(word.to_le(), Ordering::Release);
    }

    /// Bytes that are published, or that nobody writes: frames that `load`
    /// showed, a segment's header, a file that is being recovered.
    #[inline]
    pub(crate) fn published(&self, range: Range<u64>) -> &[u8] {
        let start = self.pointer(&range);
        #[cfg(loom)]
        self.model.read(&range);
        // SAFETY: bounded: checked by `pointer`. published: the caller found the
        // range behind a published word, or holds the log's lock before there
        // are writers; no byte of it changes while the map lives.
        unsafe { std::slice::from_raw_parts(start, (range.end - range.start) as usize) }
    }

    /// Writes zeros over bytes that no claim can have and no reader looks at:
    /// those past the ready mark, which the caller alone moves.
    pub(crate) fn zero(&self, range: Range<u64>) {
        let start = self.pointer(&range);
        #[cfg(loom)]
        self.model.zero(&range);
        // SAFETY: bounded: checked by `pointer`. claimed: bytes past the ready
        // mark have one user, the holder of the preparing lock.
        unsafe { ptr::write_bytes(start, 0, (range.end - range.start) as usize) }
    }

    /// Writes bytes that no claim can have and no reader looks at: the header
    /// and first frame of a segment that is not in the log yet, and what an
    /// opening finds or puts at the tail before there are writers.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        let range = at..at + bytes.len() as u64;
        let start = self.pointer(&range);
        // SAFETY: bounded: checked by `pointer`. claimed: the caller is the only
        // user of a segment that others have not seen yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) }
    }

    /// Stores each page's first byte of `range` again, with the value it has: a
    /// kernel that failed to write a page believes it clean, this makes it
    /// dirty. Only while there are no writers.
    pub(crate) fn touch(&self, range: Range<u64>) {
        const PAGE: u64 = 4096;
        let mut at = range.start;
        while at < range.end {
            let byte = self.pointer(&(at..at + 1));
            // SAFETY: bounded: checked by `pointer`. claimed: there are no
            // writers yet, and no readers. Volatile, since to store what is
            // there would else be nothing to do.
            unsafe { byte.write_volatile(byte.read_volatile()) };
            at = (at / PAGE + 1) * PAGE;
        }
    }

    /// Gives back the memory that a file mapping holds: whoever touches it again finds what
    /// was there.
    #[cfg(target_os = "linux")]
    pub(crate) fn unload(&self) {
        if let Backing::File(map) = &self.backing {
            // SAFETY: the mapping is shared and of a file, so what was stored stays in the
            // page cache, and a slice of it reads the same as before.
            // A refusal costs memory, and nothing else.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// A claim on `range`, for the one who alone may use it: the holder of the
    /// chain lock, behind the last claim of a closed segment or in a file that
    /// takes no other claims.
    pub(crate) fn claim(&self, range: Range<u64>, ordinal: u32, base: u64, seed: u32) -> Claim<'_> {
        Claim::new(self, range, ordinal, base, seed)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Backing::Heap(layout) = self.backing {
            // SAFETY: this block was allocated with this layout, and no claim or
            // slice outlives the map: they borrow it, or pin it.
            unsafe { alloc::dealloc(self.base, layout) }
        }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.backing {
            Backing::File(_) => "file",
            Backing::Heap(_) => "heap",
        };
        f.debug_struct("Map").field("len", &self.len).field("backing", &kind).finish()
    }
}

/// What loom sees of a map: an atomic word and a cell for every 8 bytes that
/// frames can have.
#[cfg(loom)]
mod model {
    use super::{ALIGN, Range};
    use crate::format::FIRST_FRAME;
    use loom::{cell::UnsafeCell, sync::atomic::AtomicU32};

    pub(super) struct Cells {
        words: Vec<AtomicU32>,
        cells: Vec<UnsafeCell<()>>,
    }

    impl Cells {
        pub(super) fn new(len: u64) -> Self {
            let n = len.saturating_sub(FIRST_FRAME) / ALIGN;
            Cells {
                words: (0..n).map(|_| AtomicU32::new(0)).collect(),
                cells: (0..n).map(|_| UnsafeCell::new(())).collect(),
            }
        }

        pub(super) fn word(&self, at: u64) -> &AtomicU32 {
            &self.words[((at - FIRST_FRAME) / ALIGN) as usize]
        }

        fn cells(&self, range: &Range<u64>) -> &[UnsafeCell<()>] {
            let (start, end) = (range.start - FIRST_FRAME, range.end - FIRST_FRAME);
            &self.cells[(start / ALIGN) as usize..end.div_ceil(ALIGN) as usize]
        }

        pub(super) fn read(&self, range: &Range<u64>) {
            self.cells(range).iter().for_each(|cell| cell.with(|_| ()));
        }

        pub(super) fn write(&self, range: &Range<u64>) {
            self.cells(range).iter().for_each(|cell| cell.with_mut(|_| ()));
        }

        pub(super) fn zero(&self, range: &Range<u64>) {
            self.write(range);
            for at in (range.start..range.end).step_by(ALIGN as usize) {
                // Relaxed: `set_ready` releases it.
                self.word(at).store(0, loom::sync::atomic::Ordering::Relaxed);
            }
        }
    }
}
