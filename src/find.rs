//! Where an LSN is, and where the log ends: what every other road asks first. Under the
//! chain lock.

use crate::chain::{Chain, Found};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::scan::Place;
use crate::segment::Segment;
use crate::sync::{Arc, lock};

impl Log {
    /// The live segment that `lsn` is in, with the offset.
    pub(crate) fn find(&self, chain: &mut Chain, lsn: Lsn) -> Result<(Arc<Segment>, u64)> {
        let head = chain.head;
        match chain.find(lsn) {
            Found::Live(i, offset) => {
                let next = self.tail(chain);
                if lsn > next {
                    return Err(Error::OutOfLog { lsn, first: head, next });
                }
                Ok((chain.live[i].clone(), offset))
            }
            Found::Truncated => Err(Error::Truncated { lsn, head }),
            Found::CutAway => Err(Error::CutAway { lsn }),
            Found::Nowhere => Err(Error::OutOfLog { lsn, first: head, next: self.tail(chain) }),
        }
    }

    /// For a place below the head: when everything below what is returned is durable, it
    /// is given up for good. `None` for one below the tail, where a record may be.
    pub(crate) fn given_up(&self, lsn: Lsn) -> Result<Option<u64>> {
        let chain = &mut *lock(&self.chain);
        match self.find(chain, lsn) {
            Err(Error::Truncated { .. }) => return Ok(Some(chain.head_named)),
            found => found?,
        };
        let next = self.tail(chain);
        if lsn < next { Ok(None) } else { Err(Error::OutOfLog { lsn, first: chain.head, next }) }
    }

    /// Where the next frame goes. Ends the claims of a segment that has refused one.
    pub(crate) fn tail(&self, chain: &mut Chain) -> Lsn {
        let place = self.tail_place(chain);
        chain.active().lsn(place.offset)
    }

    /// The same in the last segment.
    pub(crate) fn tail_place(&self, chain: &mut Chain) -> Place {
        let slot = &self.ring.active_seat().slot;
        let tail = slot.tail();
        match chain.behind_end {
            Some(place) => place,
            None if tail.is_closed() || tail.place().offset > slot.limit() => {
                self.end_active(chain)
            }
            None => tail.place(),
        }
    }

    /// Whether the last segment takes claims and holds no record.
    pub(crate) fn is_empty(&self, chain: &mut Chain) -> bool {
        let place = self.tail_place(chain);
        chain.behind_end.is_none() && place.ordinal == 0
    }

    pub(crate) fn next_lsn(&self) -> Lsn {
        self.tail(&mut lock(&self.chain))
    }

    /// How far the log has grown: in places, but for those between segments that no frame takes.
    pub(crate) fn grown(&self) -> u64 {
        let chain = &mut *lock(&self.chain);
        self.tail(chain).0.saturating_sub(chain.skipped)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::log::Purpose;

    #[test]
    fn a_log_grows_by_what_is_appended_and_not_by_going_on_elsewhere() {
        let log = Log::small();
        let before = log.grown();
        for rolls in 1..=5 {
            log.append_len(8);
            log.with_spares(Purpose::State, |chain| log.roll(chain)).unwrap();
            let grown = log.grown() - before;
            assert!((24..300).contains(&(grown / rolls)), "{grown} bytes, {rolls} rolls");
        }
        log.append_len(200_000); // in a file of its own
        let grown = log.grown() - before;
        assert!((200_000..202_000).contains(&grown), "{grown} bytes");
    }
}
