//! The log itself: what `Wal`, readers and the background thread share, and the road
//! that every append takes: a claim.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::chain::Chain;
use crate::commit::Commit;
use crate::error::{Error, Result};
use crate::format::{Reason, State};
use crate::lsn::{Lsn, SegmentSize};
use crate::map::{Attempt, Claim};
use crate::options::Options;
use crate::recover::Recovery;
use crate::ring::{Asked, Ring, Seat};
use crate::segment::Stamp;
use crate::stats::{Counters, count};
use crate::storage::{Region, Storage};
use crate::sync::{Arc, AtomicBool, Mutex, lock, panicking};
use crate::wait::Waiters;
use crate::worker::Worker;

/// Everything of an open log. The order of locks: the lead of `commit`, `making`,
/// `chain`, a seat's preparing lock or `waiters`; and below those, what a segment, a
/// slot, the queue of `commit` and `worker` lock for themselves.
pub(crate) struct Log {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) size: SegmentSize,
    pub(crate) uuid: [u8; 16],
    /// The epoch of this opening.
    pub(crate) epoch: u32,
    /// Up to this size, a claim is made by adding, in any segment.
    pub(crate) max_at_once: u64,
    /// Above this size, no claim is made: no file would hold it.
    pub(crate) largest_claim: u64,
    /// The largest record that is taken, in bytes.
    pub(crate) largest_record: usize,
    pub(crate) recovery: Recovery,
    /// Held by whoever makes or removes files.
    pub(crate) making: Mutex<()>,
    pub(crate) chain: Mutex<Chain>,
    pub(crate) ring: Ring,
    pub(crate) commit: Commit,
    pub(crate) waiters: Waiters,
    pub(crate) worker: Worker,
    pub(crate) counters: Counters,
    /// Whether `truncate_after` ever cut: then LSNs are looked up in the cuts.
    pub(crate) has_cuts: AtomicBool,
    /// Mappings that recovery made, for a while: who recovers reads what there is.
    pub(crate) recovered: Mutex<Vec<Arc<dyn Region>>>,
    /// Keeps other writers away.
    pub(crate) guard: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Log", f)
    }
}

impl Log {
    /// Where it is and how far it has come, for people. Takes the chain lock.
    pub(crate) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("directory", &self.path(""))
            .field("segment_size", &self.size.bytes())
            .field("head", &self.head())
            .field("durable", &Lsn(self.commit.durable()))
            .field("next", &self.next_lsn())
            .finish_non_exhaustive()
    }
}

/// Dropped when a claim is published, or abandoned: between the two, nobody takes a
/// lock. Wakes who sleeps for it, and calls the background thread if the claim
/// overtook it.
pub(crate) struct After<'l> {
    log: &'l Log,
    wake: Option<&'l Seat>,
    overtook: bool,
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.wake {
            self.log.waiters.published(&seat.slot);
        }
        if self.overtook {
            self.log.overtaken();
        }
    }
}

/// Spares that are not for records: a truncation or an opening needs one where the last segment
/// has no room for a state.
pub(crate) const HELD_BACK: usize = 1;

/// What a new segment is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A claim that this seat refused.
    Records(u64),
    State,
}

impl Purpose {
    /// The spares that are not for this purpose.
    pub(crate) fn held_back(self) -> usize {
        match self {
            Purpose::Records(_) => HELD_BACK,
            Purpose::State => 0,
        }
    }
}

thread_local! {
    /// The logs whose `append_with` closure this thread is in.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// This thread is inside an `append_with` closure of a log, until this is dropped.
pub(crate) struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}

impl Log {
    /// Appends what takes `size` bytes and `count` numbers: `put` fills a claim with it, and
    /// publishes that. On the road this is one atomic addition and what `put` does; all else
    /// is elsewhere, so that the claim stays in registers.
    #[inline(always)]
    pub(crate) fn append(
        &self,
        size: u64,
        count: u32,
        put: impl FnOnce(Claim<'_>, Stamp) -> Lsn,
    ) -> Result<Lsn> {
        if size > self.max_at_once {
            return self.append_looking(size, count, put);
        }
        let number = self.ring.active();
        match self.ring.seat(number).slot.attempt(size, count) {
            Attempt::Granted { claim, wake: false } => Ok(put(claim, self.stamp())),
            attempt => {
                let asked = self.ring.seat(number).resolve(attempt);
                self.append_on(number, asked, size, count, put)
            }
        }
    }

    /// The same for a size at which one looks before one adds, or that no segment takes.
    #[cold]
    #[inline(never)]
    fn append_looking(
        &self,
        size: u64,
        count: u32,
        put: impl FnOnce(Claim<'_>, Stamp) -> Lsn,
    ) -> Result<Lsn> {
        if size > self.max_claim() {
            return self.append_large(size, count, put);
        }
        let number = self.ring.active();
        self.append_on(number, self.ring.seat(number).ask(size, count), size, count, put)
    }

    /// Goes on with a claim that something is to be done about, until one is granted.
    #[cold]
    #[inline(never)]
    fn append_on<'l>(
        &'l self,
        mut number: u64,
        mut asked: Asked<'l>,
        size: u64,
        count: u32,
        put: impl FnOnce(Claim<'_>, Stamp) -> Lsn,
    ) -> Result<Lsn> {
        loop {
            match asked {
                Asked::Granted { claim, wake, overtook } => {
                    let wake = wake.then(|| self.ring.seat(number));
                    let _after = After { log: self, wake, overtook };
                    return Ok(put(claim, self.stamp()));
                }
                Asked::Refused => self.make_room(number)?,
            }
            number = self.ring.active();
            asked = self.ring.seat(number).ask(size, count);
        }
    }

    #[cold]
    fn overtaken(&self) {
        count(&self.counters.overtaken);
        self.worker.call();
    }

    /// What frames that are claimed now carry.
    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch, durable: self.commit.durable() }
    }

    /// A state frame's content, but for what its reason adds.
    pub(crate) fn state(&self, reason: Reason, head: Lsn) -> State {
        let durable = Lsn(self.commit.durable());
        State { reason, epoch: self.epoch, head, durable, time_ns: now_ns() }
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.commit.check_open()
    }

    /// Marks this thread as inside a closure of this log.
    pub(crate) fn enter_closure(&self) -> Inside {
        INSIDE.with_borrow_mut(|inside| inside.push(std::ptr::from_ref(self).addr()));
        Inside
    }

    /// Refuses what would wait for the closure that this thread is in.
    pub(crate) fn check_outside_closure(&self) -> Result<()> {
        let me = std::ptr::from_ref(self).addr();
        // a thread that ends, and has dropped it, is in no closure
        let inside = INSIDE.try_with(|inside| inside.borrow().contains(&me));
        if inside.unwrap_or(false) { Err(Error::InsideAppend) } else { Ok(()) }
    }

    /// While this is held, a panic ends the log for writing. It takes the chain lock
    /// then: made before that is taken, it is dropped after that is let go.
    pub(crate) fn guard_against_panic(&self) -> PanicGuard<'_> {
        PanicGuard { log: self, unwinding: panicking() }
    }

    /// Ends the log for writing, and tells all who wait.
    pub(crate) fn close(&self) -> Result<()> {
        let closed = self.put_close();
        self.commit.close();
        self.ring.active_seat().slot.close();
        self.waiters.wake_all();
        closed
    }

    /// The last frame of this opening, once all before it is durable.
    fn put_close(&self) -> Result<()> {
        self.commit.check()?;
        self.wait_tail_durable()?;
        let closing = {
            let chain = &mut *lock(&self.chain);
            let tail = self.tail(chain);
            // A full reserve is no reason to fail: the next opening says "unclosed".
            if tail == Lsn(self.commit.durable()) {
                self.put_state(chain, Reason::Close, chain.head)?
            } else {
                None
            }
        };
        closing.map_or(Ok(()), |lsn| self.wait_durable(lsn.0 + 1))
    }

    /// Ends the log for writing: a flush failed, or someone panicked in one.
    pub(crate) fn fail(&self, source: Arc<io::Error>) {
        // Under the chain lock nobody rolls; whoever rolls later sees the failure. Closed
        // first: who has seen the failure is granted no claim any more.
        let _chain = lock(&self.chain);
        self.ring.active_seat().slot.close();
        self.commit.fail(source);
        self.waiters.wake_all();
    }
}

/// Makes a panic of whoever holds it the log's sticky error: nobody goes on with
/// what it left half done.
#[derive(Debug)]
pub(crate) struct PanicGuard<'l> {
    log: &'l Log,
    /// Whether the thread was unwinding before: a panic of the caller's own.
    unwinding: bool,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if panicking() && !self.unwinding {
            self.log.fail(Arc::new(io::Error::other("a thread panicked inside the log")));
        }
    }
}

/// Now, in nanoseconds since 1970; 0 where the clock is before that.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// What the unit tests of several roads begin with.
#[cfg(all(test, not(loom)))]
impl Log {
    /// A log of the smallest segments, in memory.
    pub(crate) fn small() -> Self {
        let options = Options::new().segment_size(64 << 10);
        Log::open(Box::new(crate::storage::Memory::default()), options).unwrap()
    }

    /// Appends a record of so many bytes.
    pub(crate) fn append_len(&self, len: usize) -> Lsn {
        let appended = self.append(crate::format::frame_size(len), 1, |claim, stamp| {
            let seed = claim.seed();
            crate::segment::put(claim, stamp, crate::format::Kind::Record, seed, &vec![1; len])
        });
        appended.unwrap()
    }
}
