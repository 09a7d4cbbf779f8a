//! Group commit: the durable mark, who flushes next, and the failure that ends it.
//!
//! One caller leads: it flushes what is published, moves the mark, and wakes those
//! who came before it began, all by one call. Who came later is covered by the next
//! flush. So nobody waits for more than the flush under way and the next one, and no
//! two flushes of the log overlap.
//!
//! Threads that commit again and again would divide into two halves, each of which waits
//! for the flush of the other. So the next flush waits for those whom the last one let go,
//! as long as they keep coming: the last of them leads it. Where they do not come, that is
//! tried ever more rarely. Databases know it as a commit delay, of a fixed time.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, Backoff, Condvar, Mutex, MutexGuard, Ordering, has_passed, lock,
    panicking, yield_now,
};

#[path = "commit/queue.rs"] // the models take this file in from elsewhere
mod queue;
use queue::{Next, Queue, turn};

/// See the module.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Everything below is durable. Stands on batch ends.
    durable: AtomicU64,
    has_failed: AtomicBool,
    closed: AtomicBool,
    queue: Mutex<Queue>,
    /// Where callers sleep who wait for a flush: by its [turn].
    turns: [Condvar; 2],
    /// Where callers sleep who want the lead itself.
    seekers: Condvar,
}

/// Callers keep coming if they do so within this part of a flush; they are waited for as
/// long as this many flushes take at the most.
const PARTS_OF_A_FLUSH: u32 = 8;
const MOST_FLUSHES: u32 = 8;

/// Held by the one who flushes. Dropped, it hands over to the next.
#[derive(Debug)]
pub(crate) struct Lead<'c> {
    commit: &'c Commit,
    began: Cell<Option<Instant>>,
    /// Whether the caller was unwinding before: a panic of its own, not of the flush.
    unwinding: bool,
}

impl Commit {
    pub(crate) fn new(durable: u64) -> Self {
        Commit {
            durable: AtomicU64::new(durable),
            has_failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            queue: Mutex::new(Queue::default()),
            turns: [Condvar::new(), Condvar::new()],
            seekers: Condvar::new(),
        }
    }

    /// Everything below is durable.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        // Acquire pairs with the Release in `move_to`.
        self.durable.load(Ordering::Acquire)
    }

    /// Nothing is appended any more.
    pub(crate) fn close(&self) {
        // Release pairs with the Acquire in `check_open`.
        self.closed.store(true, Ordering::Release);
    }

    /// Why nothing can be appended any more, if so. Who is told that it is closed sees all that
    /// was appended before.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check()?;
        // Acquire pairs with the Release in `close`.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The sticky error, if a flush failed.
    pub(crate) fn check(&self) -> Result<()> {
        // Relaxed, as in `fail`: it is set under the lock, which orders what is found below.
        if !self.has_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let source = lock(&self.queue).failure.clone().expect("stored before the flag");
        Err(Error::FlushFailed { durable: Lsn(self.durable()), source })
    }

    /// Remembers the first failure for ever.
    pub(crate) fn fail(&self, source: Arc<io::Error>) {
        let mut queue = lock(&self.queue);
        queue.failure.get_or_insert(source);
        // Under the lock: who finds the failure in the queue finds it here, too, and the other way
        // round.
        self.has_failed.store(true, Ordering::Relaxed);
        self.turns.iter().for_each(Condvar::notify_all);
    }

    /// Waits until everything below `want` is durable, which may become less meanwhile,
    /// leading flushes where nobody does. `flush` says that it [begins](Lead::begin), makes
    /// durable what is published and [moves](Lead::move_to) the mark; its error has been made
    /// sticky.
    pub(crate) fn wait(
        &self,
        want: impl Fn() -> u64,
        mut flush: impl FnMut(&Lead<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let want = want();
            if self.durable() >= want {
                return Ok(());
            }
            self.check()?;
            if let Some(lead) = self.enter(want) {
                let before = self.durable();
                flush(&lead)?;
                drop(lead);
                if self.durable() == before {
                    // a neighbour is in the middle of an append: nobody waits for it
                    // with the lead in hand
                    backoff.wait();
                }
            }
        }
    }

    /// Takes the lead, when nobody else has it: before those who only wait for a flush.
    pub(crate) fn lead(&self) -> Lead<'_> {
        let mut queue = lock(&self.queue);
        if !queue.seek() {
            while !queue.lead_as_seeker() {
                queue = sleep(&self.seekers, queue);
            }
        }
        Lead::new(self)
    }

    /// The lead; or `None` after having slept until `want` may be covered, or something
    /// else is to be looked at.
    fn enter(&self, want: u64) -> Option<Lead<'_>> {
        let mut queue = lock(&self.queue);
        // Both may have come since the caller looked: a flush is not tried again.
        if queue.failure.is_some() || self.durable() >= want {
            return None;
        }
        let flush = queue.next_flush();
        if queue.join(flush) {
            return Some(Lead::new(self));
        }
        while !queue.is_over(flush) {
            if !queue.inherit() {
                queue = sleep(&self.turns[turn(flush)], queue);
                continue;
            }
            queue = self.gather(queue, flush);
            if queue.is_gathering(flush) {
                queue.lead_as_heir(flush);
                return Some(Lead::new(self));
            }
        }
        queue.leave(flush);
        None
    }

    /// The heir waits for those who are due, as long as they keep coming or somebody takes
    /// the lead.
    fn gather<'q>(&'q self, mut queue: MutexGuard<'q, Queue>, flush: u64) -> MutexGuard<'q, Queue> {
        let a_flush = queue.gathering.flush;
        let began = Instant::now();
        let (mut came, mut last) = (queue.asleep(flush), began);
        while !queue.are_all_there(flush) {
            drop(queue);
            yield_now();
            queue = lock(&self.queue);
            if !queue.is_gathering(flush) {
                return queue;
            }
            if queue.asleep(flush) > came && !has_passed(began, MOST_FLUSHES * a_flush) {
                (came, last) = (queue.asleep(flush), Instant::now());
            } else if has_passed(last, a_flush / PARTS_OF_A_FLUSH) {
                queue.gathering.give_up();
                return queue;
            }
        }
        queue.gathering.complete();
        queue
    }
}

fn sleep<'q>(place: &Condvar, queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
    place.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<'c> Lead<'c> {
    /// For the one that the queue has given it to.
    fn new(commit: &'c Commit) -> Self {
        Lead { commit, began: Cell::new(None), unwinding: panicking() }
    }

    /// What was published before is going to be flushed: who comes from now on waits for
    /// the next flush.
    pub(crate) fn begin(&self) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
            lock(&self.commit.queue).begin();
        }
    }

    /// Moves the durable mark: everything below `durable` was flushed.
    pub(crate) fn move_to(&self, durable: u64) {
        // Release pairs with the Acquire in `durable`.
        self.commit.durable.fetch_max(durable, Ordering::Release);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let Commit { queue, turns, seekers, .. } = self.commit;
        if panicking() && !self.unwinding {
            let source = io::Error::other("a thread panicked while it flushed the log");
            self.commit.fail(Arc::new(source));
        }
        self.begin(); // who came before gets to look, whether anything was flushed or not
        let took = self.began.get().map_or(Duration::ZERO, |began| began.elapsed());
        let ended = lock(queue).end(took);
        match ended.next {
            Next::Seeker => seekers.notify_one(),
            Next::Heir(turn) => turns[turn].notify_one(),
            Next::Nobody => {}
        }
        if let Some(turn) = ended.let_go {
            turns[turn].notify_all();
        }
    }
}
