//! Group commit: the durable mark, who flushes next, and the failure that ends it.
//!
//! One caller leads: it flushes what is published, moves the mark, and wakes whom
//! that covers. Those that came meanwhile sleep, each on a lock of its own; one of
//! them is woken first, to lead the next flush. So nobody waits for more than the
//! flush under way and the next one, and no two flushes of the log overlap.

use std::io;

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::sync::{Arc, AtomicBool, AtomicU64, Backoff, Condvar, Mutex, Ordering, lock, panicking};

/// See the module.
#[derive(Debug)]
pub(crate) struct Commit {
    /// Everything below is durable. Stands on batch ends.
    durable: AtomicU64,
    has_failed: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    led: bool,
    waiting: Vec<(u64, Arc<Sleeper>)>,
    failure: Option<Arc<io::Error>>,
}

/// One sleeping caller.
#[derive(Debug, Default)]
struct Sleeper {
    call: Mutex<Option<Call>>,
    called: Condvar,
}

/// Why a sleeper was woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Look,
    Lead,
}

impl Sleeper {
    fn sleep(&self) -> Call {
        let mut call = lock(&self.call);
        loop {
            match call.take() {
                Some(call) => return call,
                None => call = self.called.wait(call).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }

    fn wake(&self, with: Call) {
        *lock(&self.call) = Some(with);
        self.called.notify_one();
    }
}

/// Held by the one who flushes. Dropped, it hands over to the next.
#[derive(Debug)]
pub(crate) struct Lead<'c> {
    commit: &'c Commit,
    /// Whether the caller was unwinding before: a panic of its own, not of the flush.
    unwinding: bool,
}

impl Commit {
    pub(crate) fn new(durable: u64) -> Self {
        Commit {
            durable: AtomicU64::new(durable),
            has_failed: AtomicBool::new(false),
            queue: Mutex::new(Queue::default()),
        }
    }

    /// Everything below is durable.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        // Acquire pairs with the Release in `move_to`.
        self.durable.load(Ordering::Acquire)
    }

    /// The sticky error, if a flush failed.
    pub(crate) fn check(&self) -> Result<()> {
        // Acquire pairs with the Release in `fail`.
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let source = lock(&self.queue).failure.clone().expect("stored before the flag");
        Err(Error::FlushFailed { durable: Lsn(self.durable()), source })
    }

    /// Remembers the first failure for ever.
    pub(crate) fn fail(&self, source: Arc<io::Error>) {
        let mut queue = lock(&self.queue);
        queue.failure.get_or_insert(source);
        // Release pairs with the Acquire in `check`. Under the lock: who finds the
        // failure in the queue finds it there, too.
        self.has_failed.store(true, Ordering::Release);
    }

    /// Waits until everything below `want` is durable, which may become less meanwhile,
    /// leading flushes where nobody does. `flush` makes durable what is published and moves the mark by
    /// [`Lead::move_to`]; its error has been made sticky.
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

    /// Takes the lead, when nobody else has it.
    pub(crate) fn lead(&self) -> Lead<'_> {
        loop {
            // More than any flush covers: this one is only ever woken to lead.
            if let Some(lead) = self.enter(u64::MAX) {
                return lead;
            }
        }
    }

    /// The lead; or `None` after having slept until `want` was covered, or something
    /// else is to be looked at.
    fn enter(&self, want: u64) -> Option<Lead<'_>> {
        let mut queue = lock(&self.queue);
        // The failure may have come since the caller looked: a flush is not tried
        // again. Who wants the lead itself gets it.
        let failed = queue.failure.is_some() && want < u64::MAX;
        if failed || self.durable() >= want {
            return None;
        }
        if !queue.led {
            queue.led = true;
            return Some(Lead::taken(self));
        }
        let sleeper = Arc::new(Sleeper::default());
        queue.waiting.push((want, sleeper.clone()));
        drop(queue);
        match sleeper.sleep() {
            Call::Lead => Some(Lead::taken(self)),
            Call::Look => None,
        }
    }
}

impl<'c> Lead<'c> {
    fn taken(commit: &'c Commit) -> Self {
        Lead { commit, unwinding: panicking() }
    }

    /// Moves the durable mark: everything below `durable` was flushed.
    pub(crate) fn move_to(&self, durable: u64) {
        // Release pairs with the Acquire in `durable`.
        self.commit.durable.fetch_max(durable, Ordering::Release);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if panicking() && !self.unwinding {
            let source = io::Error::other("a thread panicked while it flushed the log");
            self.commit.fail(Arc::new(source));
        }
        let durable = self.commit.durable();
        let mut queue = lock(&self.commit.queue);
        let failed = queue.failure.is_some();
        let mut covered = Vec::new();
        queue.waiting.retain(|(want, sleeper)| {
            let stays = *want > durable && !(failed && *want < u64::MAX);
            if !stays {
                covered.push(sleeper.clone());
            }
            stays
        });
        let next = (!queue.waiting.is_empty()).then(|| queue.waiting.remove(0).1);
        queue.led = next.is_some();
        drop(queue);
        if let Some(next) = next {
            next.wake(Call::Lead);
        }
        for sleeper in covered {
            sleeper.wake(Call::Look);
        }
    }
}
