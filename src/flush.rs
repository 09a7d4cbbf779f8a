//! The road to durable: who waits for it, and the flush.

use std::ops::Range;

use crate::commit::Lead;
use crate::error::{Error, Result};
use crate::format::FIRST_FRAME;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::stats::count;
use crate::sync::{Arc, lock};

impl Log {
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
        let flushed = self.flush_needed(lead, from, until);
        // also where something wrong was met behind what was flushed
        if self.commit.durable() > before {
            lock(&self.chain).loosen_old(self.commit.durable());
            self.waiters.durable_moved();
        }
        flushed
    }

    /// The same, but for segments below the head, where this makes the head durable.
    fn flush_needed(&self, lead: &Lead<'_>, from: u64, until: u64) -> Result<()> {
        let (first, named) = {
            let chain = lock(&self.chain);
            (chain.first_needed(), chain.head_named)
        };
        if first <= from || !self.flush_segments(lead, first..until, named)? {
            self.flush_segments(lead, from..until, 0)?;
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
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_flush_ends_at_the_first_batch_end_that_is_not_below_where_it_is_to_end() {
        let log = Log::small();
        let lsns = [8, 2000, 8].map(|len| log.append_len(len).0);
        let flush = |until| {
            log.flush_between(&log.commit.lead(), log.commit.durable(), until).unwrap();
            log.commit.durable()
        };
        assert_eq!(flush(lsns[1]), lsns[1]);
        assert_eq!(flush(lsns[1] + 1), lsns[2]);
        assert_eq!(flush(u64::MAX), log.next_lsn().0);
    }
}
