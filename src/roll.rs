//! Going on to the next segment, whoever needs it.
//!
//! A roll is one critical section: the claims in the last segment end, its seal
//! names the next file, that file's begin names the last one, and claims go there.
//! Nothing of it is flushed: recovery takes any part of it that a crash leaves.

use crate::chain::{Chain, Spare};
use crate::error::{Error, Result};
use crate::format::{
    self, BEGIN_SIZE, Begin, FIRST_FRAME, Kind, RESERVE, Reason, SEAL_SIZE, STATE_SIZE, Seal, Tag,
};
use crate::log::{Log, Purpose};
use crate::lsn::Lsn;
use crate::ring::{self, Asked, Preparing};
use crate::scan::{Life, Place};
use crate::segment::{self, Segment, Stamp};
use crate::stats::count;
use crate::storage::Region;
use crate::sync::{Arc, Backoff, lock};

/// The first place of a segment that a claim can have.
pub(crate) const FIRST_CLAIM: u64 = FIRST_FRAME + BEGIN_SIZE;

/// What a new segment follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predecessor {
    pub(crate) index: u64,
    pub(crate) salt: u64,
    /// Where it ends.
    pub(crate) end: Lsn,
    /// The sequence number of the next record.
    pub(crate) next_sequence: u64,
}

impl Predecessor {
    /// What the first segment of a log follows.
    pub(crate) const NONE: Predecessor =
        Predecessor { index: 0, salt: 0, end: Lsn::NONE, next_sequence: 1 };

    /// `segment`, which ends at `end`.
    pub(crate) fn at(segment: &Segment, end: Place) -> Self {
        Predecessor {
            index: segment.id.index,
            salt: segment.id.life.salt,
            end: segment.lsn(end.offset),
            next_sequence: segment.id.first_sequence + end.ordinal as u64,
        }
    }
}

impl Log {
    /// The largest claim that a segment takes.
    pub(crate) fn max_claim(&self) -> u64 {
        self.size.bytes() - RESERVE - FIRST_CLAIM
    }

    /// Rolls, if the seat `number` is still the active one: it has refused a claim.
    #[cold]
    pub(crate) fn make_room(&self, number: u64) -> Result<()> {
        self.check_outside_closure()?;
        self.with_spares(Purpose::Records(number), |chain| {
            if self.ring.active() == number { self.roll(chain) } else { Ok(()) }
        })
    }

    /// Calls `f` under the chain lock when there are spares for `purpose` and the next
    /// seat is free, or somebody else has rolled. Makes spares and waits without the
    /// lock.
    pub(crate) fn with_spares<T>(
        &self,
        purpose: Purpose,
        f: impl FnOnce(&mut Chain) -> Result<T>,
    ) -> Result<T> {
        let _guard = self.guard_against_panic();
        let mut backoff = Backoff::default();
        let someone_rolled = || match purpose {
            Purpose::Records(number) => self.ring.active() != number,
            Purpose::State => false,
        };
        loop {
            let mut chain = lock(&self.chain);
            self.check_alive()?;
            let has_spare = chain.spares.len() > purpose.held_back();
            if someone_rolled() || has_spare && self.ring.next_is_free() {
                return f(&mut chain);
            }
            drop(chain);
            if has_spare {
                backoff.wait(); // for a claim of eight rolls ago
            } else if let Err(error) = self.make_spare(purpose) {
                if !someone_rolled() {
                    return Err(error);
                }
            }
        }
    }

    /// Seals the last segment and goes on in the first spare. Fails before it changes
    /// anything.
    pub(crate) fn roll(&self, chain: &mut Chain) -> Result<()> {
        let spare = chain.spares.front().expect("the caller has seen to a spare");
        self.make_first_pages_ready(spare)?;
        let seal = Seal { next_index: spare.index, next_salt: spare.salt };
        let end = self.end_active(chain);
        let active = chain.active().clone();
        let end = self.seal(&active, end, seal, self.epoch)?;
        let spare = chain.spares.pop_front().expect("just seen");
        self.begin(chain, spare, Predecessor::at(&active, end));
        Ok(())
    }

    /// Ends the claims of the last segment, and says where its next frame goes.
    pub(crate) fn end_active(&self, chain: &mut Chain) -> Place {
        // once: a seat that ends stores to its file, which is another opening's later
        *chain.behind_end.get_or_insert_with(|| self.ring.active_seat().end())
    }

    /// Writes the last frame of a segment and returns the place behind it.
    /// `epoch` is the one in force there.
    pub(crate) fn seal(
        &self,
        segment: &Segment,
        at: Place,
        seal: Seal,
        epoch: u32,
    ) -> Result<Place> {
        let region = segment.region(&*self.storage)?;
        self.put_behind_end(segment, &*region, at, epoch, Kind::Seal, &seal.encode());
        Ok(Place { offset: at.offset + SEAL_SIZE, ..at })
    }

    /// Puts a frame where no claim can be: behind the end of a segment's claims, as
    /// the holder of the chain lock.
    fn put_behind_end(
        &self,
        segment: &Segment,
        region: &dyn Region,
        at: Place,
        epoch: u32,
        kind: Kind,
        payload: &[u8],
    ) -> Lsn {
        let Life { base, salt } = segment.id.life;
        let seed = format::seed(salt, epoch);
        let range = at.offset..at.offset + format::frame_size(payload.len());
        let claim = region.map().claim(range, at.ordinal, base, seed);
        segment::put(claim, Stamp { epoch, ..self.stamp() }, kind, seed, payload)
    }

    /// The fallible part of using a spare.
    pub(crate) fn make_first_pages_ready(&self, spare: &Spare) -> Result<()> {
        let to = ring::first_ready(FIRST_CLAIM, spare.region.map().len());
        ring::make_ready(&*spare.region, FIRST_FRAME..to, spare.zero_to)
            .map_err(|e| Error::io("prepare", &self.path(&format::file_name(spare.index)), e))
    }

    /// Makes a spare, whose first pages are ready, the last segment of the log. One that
    /// was held back takes no records: they would use up what truncating a full log
    /// needs. They wait until there are spares again, and go on in those.
    pub(crate) fn begin(&self, chain: &mut Chain, spare: Spare, after: Predecessor) {
        let for_records = !chain.spares.is_empty();
        self.begin_with(chain, spare, after, for_records);
    }

    /// The same, with records or without.
    pub(crate) fn begin_with(
        &self,
        chain: &mut Chain,
        spare: Spare,
        after: Predecessor,
        for_records: bool,
    ) {
        let zero_to = spare.zero_to;
        let segment = self.begin_segment(chain, spare, after);
        let region = segment.region(&*self.storage).expect("a new segment is mapped");
        let seed = format::seed(segment.id.life.salt, self.epoch);
        let first = Place { offset: FIRST_CLAIM, ordinal: 0 };
        let preparing = Preparing::new(segment, region, zero_to);
        if for_records {
            self.ring.activate(preparing, seed, first);
        } else {
            self.ring.activate_ended(preparing, first);
            chain.behind_end = Some(first);
        }
        count(&self.counters.rolls);
        chain.loosen_old(self.commit.durable());
        self.worker.call();
        self.waiters.wake_all();
    }

    /// Writes a begin and puts the segment into the chain; claims do not go there.
    pub(crate) fn begin_segment(
        &self,
        chain: &mut Chain,
        spare: Spare,
        after: Predecessor,
    ) -> Arc<Segment> {
        let Spare { index, salt, slots, region, ready, .. } = spare;
        let life = Life { base: self.size.base(index), salt };
        let reason = Reason::Begin(Begin {
            predecessor_index: after.index,
            predecessor_salt: after.salt,
            predecessor_end: after.end.0,
            first_sequence: after.next_sequence,
        });
        let mut state = self.state(reason, chain.head);
        if after.index == 0 {
            state.durable = Lsn::NONE;
        }
        let lsn = life.base + FIRST_FRAME;
        let tag = Tag::new(0, self.epoch, lsn, state.durable.0);
        let begin =
            format::encode_frame(Kind::State, format::seed(salt, 0), lsn, tag, &state.encode());
        region.map().write(FIRST_FRAME, &begin);
        let id = self.identity(index, slots, salt, after.next_sequence);
        let ready = ready.max(ring::first_ready(FIRST_CLAIM, region.map().len()));
        let segment = Arc::new(Segment::new(id, region, ready));
        chain.live.push_back(segment.clone());
        chain.behind_end = None;
        chain.skipped += lsn - after.end.0;
        chain.rolls_since_retired = chain.rolls_since_retired.saturating_add(1);
        segment
    }

    /// Writes a state frame at the tail: as a claim while the last segment takes any,
    /// behind its end afterwards. `None`: there is no room.
    pub(crate) fn put_state(
        &self,
        chain: &mut Chain,
        reason: Reason,
        head: Lsn,
    ) -> Result<Option<Lsn>> {
        let active = chain.active().clone();
        if chain.behind_end.is_none() {
            // before the claim: between that and its frame nothing allocates
            let payload = self.state(reason, head).encode();
            if let Asked::Granted { claim, wake, .. } =
                self.ring.active_seat().ask_politely(STATE_SIZE, 0)
            {
                let (seed, stamp) = (claim.seed(), self.stamp());
                let lsn = segment::put(claim, stamp, Kind::State, seed, &payload);
                if wake {
                    self.waiters.published(&self.ring.active_seat().slot);
                }
                return Ok(Some(lsn));
            }
        }
        let at = self.end_active(chain);
        let behind = at.offset + STATE_SIZE + SEAL_SIZE;
        if behind > active.len() || !self.ring.active_seat().extend(behind) {
            return Ok(None);
        }
        // claims that the tail counted may have been refused: the head comes back, too
        let head = head.min(active.lsn(at.offset));
        let payload = self.state(reason, head).encode();
        let region = active.region(&*self.storage)?;
        let lsn = self.put_behind_end(&active, &*region, at, self.epoch, Kind::State, &payload);
        chain.behind_end = Some(Place { offset: at.offset + STATE_SIZE, ..at });
        Ok(Some(lsn))
    }
}
