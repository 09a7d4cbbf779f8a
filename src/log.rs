//! The log itself: what `Wal`, readers and the background thread share, and the
//! two roads that everything takes: a claim, and a flush.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::chain::Chain;
use crate::commit::{Commit, Lead};
use crate::error::{Error, Result};
use crate::format::{FIRST_FRAME, Reason, State};
use crate::lsn::{Lsn, SegmentSize};
use crate::map::{Attempt, Claim};
use crate::options::Options;
use crate::prepare::Worker;
use crate::recover::Recovery;
use crate::ring::{Asked, Ring, Seat};
use crate::segment::Stamp;
use crate::storage::{Region, Storage};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock, panicking};
use crate::wait::Waiters;

/// Everything of an open log. The order of locks: the lead of `commit`, `making`,
/// `chain`, a seat's preparing lock or `waiters`; and below those, what a segment, a
/// slot, the queue of `commit` and `worker` lock for themselves.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) size: SegmentSize,
    pub(crate) uuid: [u8; 16],
    /// The epoch of this opening.
    pub(crate) epoch: u32,
    /// Up to this size, a claim is made by adding, in any segment.
    pub(crate) max_at_once: u64,
    pub(crate) recovery: Recovery,
    /// Held by whoever makes or removes files.
    pub(crate) making: Mutex<()>,
    pub(crate) chain: Mutex<Chain>,
    pub(crate) ring: Ring,
    pub(crate) commit: Commit,
    pub(crate) waiters: Waiters,
    pub(crate) worker: Worker,
    pub(crate) counters: Counters,
    /// Set before the last frame is written; nothing is appended afterwards.
    pub(crate) closed: AtomicBool,
    /// Whether `truncate_after` ever cut: then LSNs are looked up in the cuts.
    pub(crate) has_cuts: AtomicBool,
    /// Mappings that recovery made, for a while: who recovers reads what there is.
    pub(crate) recovered: Mutex<Vec<Arc<dyn Region>>>,
    /// Keeps other writers away.
    pub(crate) guard: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

/// What happened, counted. Relaxed throughout: numbers for people.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) overtaken: AtomicU64,
    pub(crate) rolls: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) recycled: AtomicU64,
    pub(crate) made: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed); // a number for people
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

/// What a new segment is for: the last spare is not for records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A claim that this seat refused.
    Records(u64),
    State,
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
        self.commit.check()?;
        // Acquire pairs with the Release in `close`.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
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

    /// Waits until everything below `want` is durable, flushing where nobody does.
    pub(crate) fn wait_durable(&self, want: u64) -> Result<()> {
        self.check_outside_closure()?;
        self.commit.wait(|| want, |lead| self.flush(lead))
    }

    /// Waits until everything below the tail of now is durable. Claims that reach
    /// beyond the ready mark may still be refused: then the tail comes back.
    pub(crate) fn wait_tail_durable(&self) -> Result<()> {
        self.check_outside_closure()?;
        let tail = self.next_lsn();
        self.commit.wait(|| tail.min(self.next_lsn()).0, |lead| self.flush(lead))
    }

    /// Waits until everything below `want` is durable, and flushes no more than that: what
    /// appenders are just writing may be a lot.
    pub(crate) fn wait_durable_only(&self, want: u64) -> Result<()> {
        self.check_outside_closure()?;
        let flush = |lead: &Lead<'_>| self.flush_or_fail(lead, self.commit.durable(), want);
        self.commit.wait(|| want, flush)
    }

    /// Flushes what is published from the durable mark on, oldest segment first, and
    /// moves the mark. The first failure ends the log for writing.
    pub(crate) fn flush(&self, lead: &Lead<'_>) -> Result<()> {
        self.flush_or_fail(lead, self.commit.durable(), u64::MAX)?;
        self.commit.check()
    }

    /// The same between two places. Whoever led the flush that failed is told what
    /// everybody is told afterwards.
    pub(crate) fn flush_or_fail(&self, lead: &Lead<'_>, from: u64, until: u64) -> Result<()> {
        self.flush_between(lead, from, until).or_else(|error| self.commit.check().and(Err(error)))
    }

    /// Flushes what is published at `from` or behind, up to the first batch end that is not
    /// below `until`.
    pub(crate) fn flush_between(&self, lead: &Lead<'_>, from: u64, until: u64) -> Result<()> {
        let _guard = self.guard_against_panic();
        lead.begin();
        let before = self.commit.durable();
        // Segments below the head need no flush, where this one makes the head durable.
        let (first, named) = {
            let chain = lock(&self.chain);
            (chain.first_needed(), chain.head_named)
        };
        if first <= from || !self.flush_segments(lead, first..until, named)? {
            self.flush_segments(lead, from..until, 0)?;
        }
        if self.commit.durable() > before {
            lock(&self.chain).loosen_old(self.commit.durable());
            self.waiters.durable_moved();
        }
        Ok(())
    }

    /// Flushes what is published in a range, and moves the mark, but not to below
    /// `least`. Returns whether it came so far.
    fn flush_segments(&self, lead: &Lead<'_>, range: Range<u64>, least: u64) -> Result<bool> {
        let segments = lock(&self.chain).from(Lsn(range.start));
        let mut durable = range.start;
        for segment in segments {
            if durable >= range.end {
                break;
            }
            let region = segment.region(&*self.storage)?;
            let published = segment.published_up_to(region.map(), Lsn(range.end))?;
            let start = durable.saturating_sub(segment.lsn(0).0).max(FIRST_FRAME);
            let end = published.at.offset;
            if start < end {
                count(&self.counters.flushes);
                region.flush(start..end).map_err(|e| {
                    let source = Arc::new(e);
                    self.fail(source.clone());
                    Error::Io { action: "flush", path: segment.path().to_owned(), source }
                })?;
                durable = segment.lsn(end).0;
                if !published.complete && durable < range.end {
                    // The kernel protects flushed pages again: take the fault here, not in
                    // the next append.
                    region.rearm(end..(end + 1).min(segment.len()));
                }
            }
            if durable >= least {
                lead.move_to(durable);
            }
            if !published.complete {
                break;
            }
        }
        Ok(durable >= least && durable > range.start)
    }

    /// While this is held, a panic ends the log for writing. It takes the chain lock
    /// then: made before that is taken, it is dropped after that is let go.
    pub(crate) fn guard_against_panic(&self) -> PanicGuard<'_> {
        PanicGuard { log: self, unwinding: panicking() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{self, Kind};
    use crate::segment;
    use crate::storage::Memory;

    #[test]
    fn a_flush_ends_at_the_first_batch_end_that_is_not_below_where_it_is_to_end() {
        let options = Options::new().segment_size(64 << 10);
        let log = Log::open(Box::new(Memory::default()), options).unwrap();
        let append = |len: usize| {
            log.append(format::frame_size(len), 1, |claim, stamp| {
                let seed = claim.seed();
                segment::put(claim, stamp, Kind::Record, seed, &vec![1; len])
            })
        };
        let lsns = [8, 2000, 8].map(|len| append(len).unwrap().0);
        let flush = |until| {
            log.flush_between(&log.commit.lead(), log.commit.durable(), until).unwrap();
            log.commit.durable()
        };
        assert_eq!(flush(lsns[1]), lsns[1]);
        assert_eq!(flush(lsns[1] + 1), lsns[2]);
        assert_eq!(flush(u64::MAX), log.next_lsn().0);
    }
}
