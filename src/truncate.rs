//! Giving up records at both ends.

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::format::{FIRST_FRAME, Kind, Reason};
use crate::log::{HELD_BACK, Log, Purpose};
use crate::lsn::Lsn;
use crate::roll::Predecessor;
use crate::scan::Place;
use crate::seek::Start;
use crate::segment::Segment;
use crate::sync::{Arc, Ordering, lock};

/// What a cut leaves to be done.
struct Cut {
    at: Lsn,
    /// The head, which the begin behind the cut names.
    head: Lsn,
    /// Dead once the begin behind the cut is durable.
    dead: Vec<Arc<Segment>>,
}

impl Log {
    /// Records below `lsn` are given up.
    pub(crate) fn truncate_before(&self, lsn: Lsn) -> Result<()> {
        self.check_outside_closure()?;
        // As in `truncate_behind`.
        let mapped = self.seek(Start::At(lsn));
        let head = self.after_neighbours(lsn, || self.move_head(lsn))?;
        drop(mapped); // or its file could not be recycled
        self.retire(head)
    }

    /// Calls `truncate`, and once more if it found no record at `lsn`: a neighbour may
    /// be in the middle of an append before it, which is waited for.
    fn after_neighbours(&self, lsn: Lsn, truncate: impl Fn() -> Result<Lsn>) -> Result<Lsn> {
        match truncate() {
            Err(Error::NotARecord { .. }) if lsn < self.next_lsn() => {
                self.wait_for_neighbours(lsn)?;
                truncate()
            }
            done => done,
        }
    }

    /// Waits until what stands at `lsn` is durable, so that no neighbour is in the
    /// middle of an append before it; or until it is known that nothing will.
    pub(crate) fn wait_for_neighbours(&self, lsn: Lsn) -> Result<()> {
        let target = || self.next_lsn().0.min(lsn.0.saturating_add(1));
        self.commit.wait(target, |lead| self.flush(lead))
    }

    /// Names the head, durably, and returns it.
    fn move_head(&self, lsn: Lsn) -> Result<Lsn> {
        let named = {
            let _guard = self.guard_against_panic();
            let chain = &mut *lock(&self.chain);
            self.check_alive()?;
            self.name_head(chain, lsn)?
        };
        let (head, want) = match named {
            Some(named) => named,
            None => {
                self.with_spares(Purpose::State, |chain| match self.name_head(chain, lsn)? {
                    Some(named) => Ok(named),
                    None => self.roll_for_head(chain, lsn),
                })?
            }
        };
        self.wait_durable_only(want)?;
        Ok(head)
    }

    /// Writes a head frame, and returns the head with what must be durable for it to be;
    /// `None` if there is no room for one.
    fn name_head(&self, chain: &mut Chain, lsn: Lsn) -> Result<Option<(Lsn, u64)>> {
        if lsn > chain.head {
            self.check_boundary(chain, lsn)?;
            if self.is_worth_a_segment(chain, lsn) {
                // if not, a head frame does it
                if let Ok(named) = self.roll_for_head(chain, lsn) {
                    return Ok(Some(named));
                }
            }
            let Some(head) = self.put_state(chain, Reason::Head, lsn)? else { return Ok(None) };
            chain.head = lsn.min(head);
            chain.head_named = head.0 + 1;
        }
        Ok(Some((chain.head, chain.head_named)))
    }

    /// Whether to name a head in the next segment's begin: where all is given up, a head
    /// frame would have to be flushed with all that stands before it in its segment. From
    /// here on that takes longer than what a roll costs in the background.
    fn is_worth_a_segment(&self, chain: &mut Chain, lsn: Lsn) -> bool {
        const WORTH: u64 = 1 << 20;
        let from = chain.active().lsn(0).0.max(self.commit.durable());
        lsn.0.saturating_sub(from) > WORTH
            && lsn == self.tail(chain)
            && chain.spares.len() > HELD_BACK
            && self.ring.next_is_free()
    }

    /// Names the head in the begin of another segment: the log begins there if no
    /// record stands behind the head.
    fn roll_for_head(&self, chain: &mut Chain, lsn: Lsn) -> Result<(Lsn, u64)> {
        let spare = chain.spares.front().expect("the caller has seen to a spare");
        self.make_first_pages_ready(spare)?;
        let behind = Lsn(self.size.base(spare.index) + FIRST_FRAME);
        let end = self.end_active(chain);
        let end = chain.active().lsn(end.offset);
        // claims below it may have been refused
        let head = if lsn < end { lsn } else { behind };
        let before = std::mem::replace(&mut chain.head, head);
        self.roll(chain).inspect_err(|_| chain.head = before)?;
        if head == behind {
            chain.asked_for = (lsn, head);
        }
        chain.head_named = behind.0 + 1;
        Ok((chain.head, chain.head_named))
    }

    /// Whether the log can begin at `lsn`: a batch begins there, or it is the tail.
    fn check_boundary(&self, chain: &mut Chain, lsn: Lsn) -> Result<()> {
        let (segment, offset) = self.find(chain, lsn)?;
        if lsn == self.tail(chain) {
            return Ok(());
        }
        let region = segment.region(&*self.storage)?;
        let map = region.map();
        // Behind what was published just now nobody knows yet; before it, for good.
        let published = segment.published(map)?.at.offset;
        if offset > published {
            return Err(Error::NotARecord { lsn });
        }
        if segment.boundary_at(map, offset)?.is_some() {
            return Ok(());
        }
        match self.record_at(&segment, map, offset)? {
            Some(_) => Err(Error::InsideBatch { lsn }),
            None => Err(Error::NotARecord { lsn }),
        }
    }

    /// Takes the segments below the head out of the log, oldest first, and their files
    /// away. The head is durably there, or higher: another truncation may have named
    /// one that is not durable yet.
    fn retire(&self, head: Lsn) -> Result<()> {
        lock(&self.recovered).clear(); // some platforms remove no file that is mapped
        let mut surplus = Vec::new();
        {
            let chain = &mut *lock(&self.chain);
            while chain.live.get(1).is_some_and(|next| next.lsn(0) <= head) {
                let oldest = chain.live.pop_front().expect("there are two");
                chain.dead.push(oldest.clone());
                if chain.spares.len() + chain.dead.len() >= self.options.spares {
                    surplus.push(oldest);
                }
                chain.rolls_since_retired = 0;
            }
        }
        for segment in surplus {
            segment.unload(); // what becomes spares takes memory enough
        }
        self.tidy(&lock(&self.making))
    }

    /// Everything behind the record at `lsn` is given up, and with `inclusive` that
    /// record, too.
    pub(crate) fn truncate_behind(&self, lsn: Lsn, inclusive: bool) -> Result<()> {
        self.check_outside_closure()?;
        // With a neighbour in the middle of an append before the cut, in a segment
        // before, the begin that cuts could not be flushed while the lead is held.
        self.wait_for_neighbours(lsn)?;
        // Mapped and walked outside the chain lock; what comes of it is seen under it.
        let mapped = self.seek(Start::At(lsn));
        // Nobody moves the durable mark between the roll and its begin being durable.
        let lead = self.commit.lead();
        self.commit.check()?;
        let cut = self.with_spares(Purpose::State, |chain| {
            let (segment, place) = self.place_of_cut(chain, lsn, inclusive)?;
            let last = Arc::ptr_eq(&segment, chain.active());
            if last && self.tail_place(chain).ordinal == place.ordinal {
                return Ok(None); // no record stands behind it
            }
            self.cut(chain, &segment, place).map(Some)
        })?;
        let Some(Cut { at, mut dead, head }) = cut else { return Ok(()) };
        // The mark may stand in what was cut away: then all before the cut is durable.
        self.flush_or_fail(&lead, self.commit.durable().min(at.0), u64::MAX)?;
        drop(lead);
        // Only now: until the begin is durable, a crash brings them back.
        lock(&self.chain).dead.append(&mut dead);
        drop(mapped); // or its file could not be recycled
        self.retire(head)
    }

    /// The segment of the record at `lsn`, and where its batch ends, or begins if it is
    /// to go, too.
    fn place_of_cut(
        &self,
        chain: &mut Chain,
        lsn: Lsn,
        inclusive: bool,
    ) -> Result<(Arc<Segment>, Place)> {
        let (segment, offset) = self.find(chain, lsn)?;
        let region = segment.region(&*self.storage)?;
        let map = region.map();
        let Some(record) = self.record_at(&segment, map, offset)? else {
            return Err(Error::NotARecord { lsn });
        };
        let divides = !inclusive && record.kind == Kind::More;
        let cut = segment.boundary_at(map, if inclusive { offset } else { record.end() })?;
        match cut {
            Some(place) if !divides => Ok((segment, place)),
            _ => Err(Error::InsideBatch { lsn }),
        }
    }

    /// The one step that decides: a new segment follows `segment` at `cut`.
    fn cut(&self, chain: &mut Chain, segment: &Arc<Segment>, cut: Place) -> Result<Cut> {
        self.make_first_pages_ready(chain.spares.front().expect("the caller has seen to a spare"))?;
        self.end_active(chain);
        let spare = chain.spares.pop_front().expect("just seen");
        chain.note_cut(segment.lsn(cut.offset).0..self.size.base(spare.index));
        // Relaxed: who has this LSN from a wait sees it by the durable mark, moved later.
        self.has_cuts.store(true, Ordering::Relaxed);
        segment.set_cut(cut.offset);
        let mut dead = Vec::new();
        while !Arc::ptr_eq(chain.active(), segment) {
            let last = chain.live.pop_back().expect("the segment of the cut is before it");
            last.set_cut(0);
            dead.push(last);
        }
        let at = segment.lsn(cut.offset);
        if chain.head == at {
            // nothing is left: the log begins behind the cut, once its begin is durable
            chain.head = Lsn(self.size.base(spare.index) + FIRST_FRAME);
            chain.head_named = chain.head.0 + 1;
        }
        self.begin(chain, spare, Predecessor::at(segment, cut));
        Ok(Cut { at, head: chain.head, dead })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::map::Attempt;
    use crate::options::Options;
    use crate::ring::Asked;
    use crate::storage::Disk;

    /// A log on this disk, with room for some claims beyond what is ready.
    fn log_on(disk: &Disk) -> Log {
        let options = Options::new().segment_size(256 << 10);
        Log::open(Box::new(disk.clone()), options).unwrap()
    }

    /// Names the tail as the head while a claim before it is refused, since the disk is full.
    fn name_head_behind_a_refused_claim(disk: &Disk) -> (Log, Lsn, (Lsn, u64)) {
        let log = log_on(disk);
        log.append_len(60_000);
        let (end, seat) = (log.next_lsn(), log.ring.active_seat());
        let claim = seat.slot.attempt(60_000, 1);
        assert!(matches!(claim, Attempt::Pending(_)), "nothing is ready there");
        let counted = log.next_lsn();
        assert!(counted > end);
        disk.fail_from_call(0); // no page is to be had
        let named = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !seat.slot.tail().is_closed() {
                    std::thread::yield_now(); // until the head has counted it
                }
                assert!(matches!(seat.resolve(claim), Asked::Refused));
            });
            let named = log.name_head(&mut lock(&log.chain), counted);
            seat.slot.close(); // however that ended, the other thread ends, too
            named
        });
        (log, end, named.unwrap().expect("there is room for a head"))
    }

    #[test]
    fn the_head_is_the_tail_where_claims_below_it_are_refused() {
        let (log, end, (head, want)) = name_head_behind_a_refused_claim(&Disk::new());
        assert_eq!((head, want), (end, end.0 + 1));
        assert_eq!(lock(&log.chain).head, end);
    }

    #[test]
    fn a_head_names_no_claims_that_were_refused() {
        let disk = Disk::new();
        let (log, end, _) = name_head_behind_a_refused_claim(&disk);
        drop(log);
        disk.mend();
        assert_eq!(log_on(&disk).recovery.head, end);
    }

    #[test]
    fn a_head_stays_where_the_segment_that_names_it_cannot_begin() {
        let disk = Disk::new();
        let log = log_on(&disk);
        log.append_len(8);
        log.make_spare(Purpose::State).unwrap();
        let tail = log.next_lsn();
        let chain = &mut *lock(&log.chain);
        let before = chain.head;
        disk.fail_call(1); // that of the roll: it comes to the pages a second time
        log.roll_for_head(chain, tail).unwrap_err();
        assert_eq!(chain.head, before);
    }

    #[test]
    fn where_all_is_cut_away_no_truncation_goes_on_before_the_cut_is_durable() {
        let log = Log::small();
        let first = log.append_len(8);
        log.truncate_before(first).unwrap();
        let named = log.with_spares(Purpose::State, |chain| {
            let (segment, place) = log.place_of_cut(chain, first, true)?;
            log.cut(chain, &segment, place)?;
            // another truncation, at or below the head
            log.name_head(chain, first)
        });
        let (head, want) = named.unwrap().expect("there is nothing to be named");
        assert!(head > first, "the log begins behind the cut");
        assert!(log.commit.durable() < want, "the begin that cuts is not durable yet");
    }
}
