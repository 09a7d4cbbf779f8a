//! A live tail: reads on for ever, and sleeps until there is more.

use std::time::{Duration, Instant};

use crate::cursor::{Position, Step};
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::record::{Record, RecordAt, View};
use crate::seek::Start;
use crate::sync::{Arc, Backoff, lock};

/// Reads the log in order and waits for what comes: a live tail. Holds the mapping
/// of one segment at a time, so it may live as long as the log.
///
/// Made by [`Wal::follow`](crate::Wal::follow).
#[derive(Debug)]
pub struct Follower {
    log: Arc<Log>,
    view: View,
    position: Position,
    durable_only: bool,
}

impl Follower {
    pub(crate) fn new(log: Arc<Log>, lsn: Lsn) -> Result<Self> {
        let (view, position) = log.seek(Start::At(lsn))?;
        Ok(Follower { log, view, position, durable_only: false })
    }

    /// Only what is durable, from now on: what a power cut would leave.
    pub fn durable(mut self) -> Self {
        self.durable_only = true;
        self
    }

    /// The next record; `None` if there is none yet. Abandoned claims are passed over.
    ///
    /// # Errors
    ///
    /// Those of [`Records`](crate::Records). After one, only another follower goes on.
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>> {
        let at = self.step()?;
        Ok(at.map(|at| self.view.record(at)))
    }

    /// The next record; sleeps until there is one, for `at_most`.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Self::try_next); [`Error::TimedOut`]; [`Error::Closed`] and
    /// [`Error::FlushFailed`] when nothing will come any more; [`Error::InsideAppend`].
    pub fn wait(&mut self, at_most: Duration) -> Result<Record<'_>> {
        let deadline = Instant::now().checked_add(at_most);
        let mut backoff = Backoff::default();
        let at = loop {
            if let Some(at) = self.step()? {
                break at;
            }
            let alive = self.log.check_alive();
            if alive.is_err() && self.has_come_to_the_end() {
                alive?;
            }
            self.log.check_outside_closure()?;
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            self.sleep(left, &mut backoff);
        };
        Ok(self.view.record(at))
    }

    fn limit(&self) -> u64 {
        if self.durable_only { self.log.commit.durable() } else { u64::MAX }
    }

    fn step(&mut self) -> Result<Option<RecordAt>> {
        loop {
            let limit = self.limit();
            match self.view.step(&mut self.position, limit)? {
                Step::Record(at) if at.kind == Kind::Abandoned => {}
                Step::Record(at) => return Ok(Some(at)),
                Step::Tail => return Ok(None),
                Step::Complete => match self.log.view_behind(&self.view, self.position)? {
                    Some(next) => {
                        self.view = next;
                        self.position = self.position.in_next();
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    /// Sleeps until there is something to look at, as far as can be told.
    fn sleep(&self, at_most: Duration, backoff: &mut Backoff) {
        let log = &*self.log;
        let at = self.view.segment.lsn(self.position.offset()).0;
        if self.durable_only && log.commit.durable() <= at && self.is_published() {
            let look = || self.limit() > at || log.check_alive().is_err();
            log.waiters.sleep_for_durable(at_most, look);
            return;
        }
        let chain = lock(&log.chain);
        let guard = log.waiters.lock();
        let is_last = Arc::ptr_eq(chain.active(), &self.view.segment);
        if is_last && chain.behind_end.is_none() && log.check_alive().is_ok() {
            let tail = log.ring.active_seat().slot.call_me();
            if !tail.is_closed() && tail.place().offset == self.position.offset() {
                // Whoever claims next sees the call, and takes the lock that is let go
                // only in sleep.
                drop(chain);
                log.waiters.sleep(guard, at_most);
                return;
            }
        }
        drop((guard, chain));
        backoff.wait(); // claims are in flight, or a roll
    }

    /// Whether nothing is left to hand out of a log that takes nothing any more. What came since
    /// the last look is, and so are appends that were under way when a flush failed.
    fn has_come_to_the_end(&self) -> bool {
        let at = self.view.segment.lsn(self.position.offset());
        if self.durable_only {
            return at.0 >= self.log.commit.durable();
        }
        let chain = &mut *lock(&self.log.chain);
        let end = self.log.end_active(chain);
        at >= chain.active().lsn(end.offset)
    }

    fn is_published(&self) -> bool {
        let map = self.view.region.map();
        let at = self.position.offset();
        self.view.segment.walked_beyond(map, at).is_ok_and(|walked| walked > at)
    }
}
