//! The live segments in order, what is dead, and what is spare. Everything here
//! is behind the chain lock.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::scan::Place;
use crate::segment::Segment;
use crate::storage::Region;
use crate::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Oldest first; the last one takes claims, or took them last. Never empty.
    pub(crate) live: VecDeque<Arc<Segment>>,
    /// Where the next frame goes in the last one, once its claims have ended.
    pub(crate) behind_end: Option<Place>,
    /// Records below are given up.
    pub(crate) head: Lsn,
    /// What a head was asked to be, and what it became, since no record stood there.
    pub(crate) asked_for: (Lsn, Lsn),
    /// When everything below this is durable, so is the head.
    pub(crate) head_named: u64,
    /// What `truncate_after` took out of the log since it was opened, as LSNs:
    /// ascending, and apart.
    pub(crate) cuts: Vec<Range<u64>>,
    /// Retired or cut away; their files are still there.
    pub(crate) dead: Vec<Arc<Segment>>,
    /// Ready to be used, ascending by index, all above the last live one.
    pub(crate) spares: VecDeque<Spare>,
    /// The first index that no file has had.
    pub(crate) next_index: u64,
    /// How often the log has rolled since segments were last retired.
    pub(crate) rolls_since_retired: u32,
    /// The memory of segments below this index was given back.
    pub(crate) loaded_from: u64,
    /// Places that no frame takes, between segments.
    pub(crate) skipped: u64,
}

/// A segment file that is prepared, and empty but for its header.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) index: u64,
    pub(crate) salt: u64,
    pub(crate) slots: u32,
    pub(crate) region: Arc<dyn Region>,
    /// Below, all behind its header is zero; further on may lie what an earlier life of
    /// the file left.
    pub(crate) zero_to: u64,
    /// Below, a store finds its page present, too: nothing was flushed since they were made.
    pub(crate) ready: u64,
}

/// Where an LSN is.
#[derive(Debug)]
pub(crate) enum Found {
    /// In this live segment, at this offset: which may be behind what is published.
    Live(usize, u64),
    Truncated,
    CutAway,
    /// Above every segment, or in none.
    Nowhere,
}

impl Chain {
    /// One without a segment yet.
    pub(crate) fn new(next_index: u64) -> Self {
        Chain {
            live: VecDeque::new(),
            behind_end: None,
            head: Lsn::NONE,
            asked_for: (Lsn::NONE, Lsn::NONE),
            head_named: 0,
            cuts: Vec::new(),
            dead: Vec::new(),
            spares: VecDeque::new(),
            next_index,
            rolls_since_retired: u32::MAX,
            loaded_from: 0,
            skipped: 0,
        }
    }

    pub(crate) fn active(&self) -> &Arc<Segment> {
        self.live.back().expect("a log has a segment")
    }

    /// Where `lsn` is. Not whether a frame is there.
    pub(crate) fn find(&self, lsn: Lsn) -> Found {
        if self.is_cut_away(lsn) {
            return Found::CutAway;
        }
        let (asked, became) = self.asked_for;
        let lsn = if lsn >= asked && became == self.head { lsn.max(became) } else { lsn };
        if lsn < self.head {
            return Found::Truncated;
        }
        let after = self.live.partition_point(|segment| segment.lsn(0) <= lsn);
        let Some(i) = after.checked_sub(1) else { return Found::Nowhere };
        let offset = lsn.0 - self.live[i].lsn(0).0;
        if offset > self.live[i].len() { Found::Nowhere } else { Found::Live(i, offset) }
    }

    /// The live segments from the one that `lsn` is in, oldest first.
    pub(crate) fn from(&self, lsn: Lsn) -> Vec<Arc<Segment>> {
        let after = self.live.partition_point(|segment| segment.lsn(0) <= lsn);
        self.live.iter().skip(after.saturating_sub(1)).cloned().collect()
    }

    /// The first byte of the segment that holds the head, as an LSN: what is below need
    /// not survive a crash that the head survives.
    pub(crate) fn first_needed(&self) -> u64 {
        let after = self.live.partition_point(|segment| segment.lsn(0) <= self.head);
        self.live[after.saturating_sub(1)].lsn(0).0
    }

    pub(crate) fn is_cut_away(&self, lsn: Lsn) -> bool {
        let after = self.cuts.partition_point(|cut| cut.start <= lsn.0);
        after.checked_sub(1).is_some_and(|i| self.cuts[i].contains(&lsn.0))
    }

    /// Notes a cut, which takes those behind its beginning in.
    pub(crate) fn note_cut(&mut self, cut: Range<u64>) {
        while self.cuts.last().is_some_and(|last| last.start >= cut.start) {
            self.cuts.pop();
        }
        // Those below the head stay: a sleeper may still ask, and must not be told that
        // what was cut away is durable.
        self.cuts.push(cut);
    }

    /// The live segment behind `segment`; `None` if that is the last one.
    pub(crate) fn successor(&self, segment: &Segment) -> Result<Option<&Arc<Segment>>> {
        let i = self.position(segment)?;
        Ok(self.live.get(i + 1))
    }

    /// The first live segment, if its first record has this number, or will have it.
    pub(crate) fn first_if_it_begins_with(&self, sequence: u64) -> Option<&Arc<Segment>> {
        self.live.front().filter(|first| first.id.first_sequence == sequence)
    }

    /// The live segment before `segment`, if records of it are not given up.
    pub(crate) fn predecessor(&self, segment: &Segment) -> Result<Option<&Arc<Segment>>> {
        let i = self.position(segment)?;
        Ok(i.checked_sub(1).map(|i| &self.live[i]))
    }

    pub(crate) fn is_live(&self, segment: &Segment) -> bool {
        self.position(segment).is_ok()
    }

    fn position(&self, segment: &Segment) -> Result<usize> {
        let index = segment.id.index;
        self.live.binary_search_by_key(&index, |live| live.id.index).map_err(|_| {
            let lsn = segment.lsn(0);
            if self.live.front().is_some_and(|first| index < first.id.index) {
                Error::Truncated { lsn, head: self.head }
            } else {
                Error::CutAway { lsn }
            }
        })
    }

    /// Unmaps old segments when nobody reads them: mappings and open files are
    /// scarcer than disk. They are durable to their end.
    pub(crate) fn loosen_old(&self, durable: u64) {
        const KEPT: usize = 64;
        let old = self.live.len().saturating_sub(KEPT);
        for i in (0..old).rev() {
            let is_durable = self.live[i + 1].lsn(0).0 <= durable;
            if is_durable && !self.live[i].loosen() {
                break; // those before it were loosened when it was
            }
        }
    }

    /// The bytes of all files with a name.
    pub(crate) fn size(&self) -> u64 {
        let files = self.live.iter().chain(&self.dead).map(|segment| segment.len());
        let spares = self.spares.iter().map(|spare| spare.region.map().len());
        files.chain(spares).fold(0, u64::saturating_add)
    }
}
