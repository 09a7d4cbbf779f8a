//! okaywal: entries of one or more chunks, one entry at a time, a shared flush at the
//! end of each.
//!
//! An entry cannot end without being durable. So `append` writes a chunk into an entry
//! that stays open, and `sync` ends that entry; `commit` is an entry of its own. A full
//! segment is checkpointed (and its records are gone) as soon as the manager agrees:
//! here it waits for `truncate`. While an entry is open its file grows past
//! a segment's size, as the file can be changed only between entries.

use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use okaywal::{
    Configuration, Entry, EntryId, EntryWriter, LogManager, ReadChunkResult, SegmentReader,
    WriteAheadLog,
};

use crate::log::{About, Log, Shape};

pub struct Okaywal {
    /// What `append` writes to. `commit` reads the lock: it needs no entry to be open,
    /// as it would wait for its end.
    open: RwLock<Option<EntryWriter<'static>>>, // borrows `log`, so it is dropped before
    /// One sync at a time: who comes second has records in the first one's entry.
    syncing: Mutex<()>,
    last: AtomicU64,
    gate: Arc<Gate>,
    log: Arc<WriteAheadLog>,
}

impl Okaywal {
    fn begin(&self) -> EntryWriter<'static> {
        // SAFETY: the log stays where it is, in its `Arc`, until after the last entry:
        // those in `open` are dropped before it, the others in the call that began them.
        let log: &'static WriteAheadLog = unsafe { &*Arc::as_ptr(&self.log) };
        log.begin_entry().expect("begin an entry")
    }

    fn end(&self, entry: EntryWriter) {
        let id = entry.commit().expect("commit to okaywal");
        self.last.fetch_max(id.0, Ordering::Relaxed);
    }
}

impl Log for Okaywal {
    const ABOUT: About = About {
        name: "okaywal",
        appended: "the process: a buffer, written when full, in an entry not ended",
        synced: "write, end of the entry, fdatasync, shared",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        let gate = Arc::new(Gate::default());
        let log = open(dir, shape, gate.clone(), None);
        Self {
            open: RwLock::new(None),
            syncing: Mutex::new(()),
            last: AtomicU64::new(0),
            gate,
            log: Arc::new(log),
        }
    }

    fn append(&self, record: &[u8]) {
        let mut open = self.open.write().unwrap();
        write(open.get_or_insert_with(|| self.begin()), record);
    }

    fn append_alone(&mut self, record: &[u8]) {
        if self.open.get_mut().unwrap().is_none() {
            let entry = self.begin();
            *self.open.get_mut().unwrap() = Some(entry);
        }
        write(self.open.get_mut().unwrap().as_mut().unwrap(), record);
    }

    fn sync(&self) {
        let _one = self.syncing.lock().unwrap();
        let entry = self.open.write().unwrap().take();
        if let Some(entry) = entry {
            self.end(entry);
        }
    }

    fn commit(&self, record: &[u8]) {
        let mut open = self.open.read().unwrap();
        while open.is_some() {
            drop(open);
            self.sync();
            open = self.open.read().unwrap();
        }
        let mut entry = self.begin();
        write(&mut entry, record);
        drop(open);
        self.end(entry); // okaywal takes the next entry while this one is flushed
    }

    /// The work is done in okaywal's own thread, after this.
    fn truncate(&self) -> bool {
        self.gate.release(self.last.load(Ordering::Relaxed).saturating_sub(1));
        true
    }

    fn close(self) {
        self.sync();
        shut_down(&self.log, &self.gate);
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        let gate = Arc::new(Gate::default());
        // SAFETY: only the lifetime changes. okaywal recovers in `open`, on this thread,
        // and calls `recover` nowhere else: `visit` outlives all uses.
        let visit = unsafe {
            mem::transmute::<*mut (dyn FnMut(&[u8]) + '_), *mut (dyn FnMut(&[u8]) + 'static)>(visit)
        };
        let log = open(dir, shape, gate.clone(), Some(VisitPtr(visit)));
        shut_down(&log, &gate);
        true
    }
}

fn write(entry: &mut EntryWriter, record: &[u8]) {
    entry.write_chunk(record).expect("append to okaywal");
}

/// A segment is allotted whole, by writing zeros; it is full at three quarters, as in
/// okaywal's defaults. A larger record than the buffer would be three writes.
fn open(dir: &Path, shape: Shape, gate: Arc<Gate>, visit: Option<VisitPtr>) -> WriteAheadLog {
    const BUFFER: usize = 16 * 1024; // okaywal's default
    const CHUNK_HEAD: usize = 64; // rather more than it is
    Configuration::default_for(dir)
        .preallocate_bytes(u32::try_from(shape.segment).expect("a segment below 4 GiB"))
        .checkpoint_after_bytes(shape.segment / 4 * 3)
        .buffer_bytes(BUFFER.max(shape.record + CHUNK_HEAD))
        .open(Manager { gate, visit, record: Vec::new() })
        .expect("open okaywal")
}

fn shut_down(log: &WriteAheadLog, gate: &Gate) {
    gate.shut();
    // The thread ends with the gate's error, or has ended with it: both are as wanted.
    let _ = log.clone().shutdown();
}

/// Holds the checkpointing thread back: up to which entry it may give segments up.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Gate {
    fn release(&self, up_to: u64) {
        self.state.lock().unwrap().0 = up_to;
        self.changed.notify_all();
    }

    fn shut(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn pass(&self, id: EntryId) -> io::Result<()> {
        let waits = |&mut (up_to, shut): &mut (u64, bool)| !shut && up_to < id.0;
        let state = self.state.lock().unwrap();
        let (_, shut) = *self.changed.wait_while(state, waits).unwrap();
        if shut {
            return Err(io::Error::other("the log is being closed"));
        }
        Ok(())
    }
}

/// Keeps segments until the gate lets them go, and shows every chunk to who asked for it
/// as it is read. An entry cut short would have to be taken back, so it is an error: no
/// workload here ends in the middle of one.
struct Manager {
    gate: Arc<Gate>,
    visit: Option<VisitPtr>,
    record: Vec<u8>,
}

struct VisitPtr(*mut dyn FnMut(&[u8]));

// SAFETY: the pointer is used only in `recover`, on the thread that made it; what
// okaywal's other threads have of it is its address.
unsafe impl Send for VisitPtr {}
// SAFETY: as above; `recover` takes the manager by `&mut`.
unsafe impl Sync for VisitPtr {}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manager")
    }
}

impl LogManager for Manager {
    /// Reads and checks all, visited or not: okaywal 0.3.1 goes 4 bytes too far when it
    /// skips a chunk, and then writes on at a wrong place.
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        loop {
            match entry.read_chunk()? {
                ReadChunkResult::Chunk(mut chunk) => {
                    self.record.resize(chunk.bytes_remaining() as usize, 0);
                    chunk.read_exact(&mut self.record)?;
                    if !chunk.check_crc()? {
                        return Err(io::Error::other("a chunk's check is wrong"));
                    }
                    if let Some(visit) = &self.visit {
                        // SAFETY: see `replay`: it is still in the call, and on this thread.
                        unsafe { (*visit.0)(&self.record) };
                    }
                }
                ReadChunkResult::EndOfEntry => return Ok(()),
                ReadChunkResult::AbortedEntry => return Err(io::Error::other("no end of entry")),
            }
        }
    }

    fn checkpoint_to(
        &mut self,
        last: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        self.gate.pass(last)
    }
}
