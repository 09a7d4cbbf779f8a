//! A log that is small enough for a model: memory, a ring of two seats, segments of
//! a few frames, and the least that rolls from one to the next. Its records are a tag
//! of eight bytes, repeated.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::format::{self, FIRST_FRAME, Kind, RESERVE};
use crate::map::Map;
use crate::ring::{Asked, Preparing, Ring, Seat};
use crate::scan::{Found, Life, Place};
use crate::segment::{self, Identity, Segment, Stamp};
use crate::storage::Region;
use crate::sync::{Arc, Backoff, Mutex, lock};
use crate::wait::Waiters;

/// What a record is told by.
pub type Tag = [u8; 8];

/// The size of a frame whose record is one tag.
pub const FRAME: u64 = format::frame_size(8);
/// One that is larger than the reserve, so that the next frame's place lies past the
/// mark that lets this one be claimed.
const LARGE_FRAME: u64 = format::frame_size(LARGE);
const LARGE: usize = RESERVE as usize + 8;
pub const STAMP: Stamp = Stamp { epoch: 1, durable: 0 };
pub const FIRST: Place = Place { offset: FIRST_FRAME, ordinal: 0 };

/// Runs `f` in every order, or in every order with at most so many preemptions,
/// and says in how many.
pub fn model(preemptions: impl Into<Option<usize>>, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions.into());
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed); // a number for people
        f();
    });
    println!("{} orders", orders.load(Relaxed));
}

pub fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
    loom::thread::spawn(f)
}

/// A segment's memory, on a disk that is full beyond `room` when it is asked first.
#[derive(Debug)]
pub struct Pages {
    map: Arc<Map>,
    room: u64,
    pub populated: AtomicUsize,
}

impl Region for Pages {
    fn map(&self) -> &Arc<Map> {
        &self.map
    }
    fn flush(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        // Relaxed: under the preparing lock
        let asked_first = self.populated.fetch_add(1, Relaxed) == 0;
        if asked_first && range.end > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
    fn load(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }
    fn touch(&self, _: Range<u64>) {}
    fn is_unshared(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// How a segment begins.
#[derive(Clone, Copy)]
pub struct Spare {
    /// Frames up to the ready mark.
    pub ready: u64,
    /// Frames up to where the disk is full; all there are if `None`.
    pub room: Option<u64>,
    /// Frames of another life of the file lie past the mark.
    pub stale: bool,
}

impl Spare {
    pub const READY: Spare = Spare { ready: u64::MAX, room: None, stale: false };
}

pub struct Small {
    pub ring: Ring,
    pub chain: Mutex<Chain>,
    pub waiters: Waiters,
    record_len: usize,
    limit: u64,
}

pub struct Chain {
    pub live: Vec<(Arc<Segment>, Arc<Pages>)>,
    /// Where all but the last of them end.
    pub ends: Vec<Place>,
    spares: VecDeque<Spare>,
}

impl Small {
    /// A log whose segments hold `frames` records of one tag each.
    pub fn new(frames: u64, spares: &[Spare]) -> Arc<Self> {
        Self::sized(8, frames, spares)
    }

    /// The same with records that are larger than the reserve.
    pub fn large(frames: u64, spares: &[Spare]) -> Arc<Self> {
        Self::sized(LARGE, frames, spares)
    }

    fn sized(record_len: usize, frames: u64, spares: &[Spare]) -> Arc<Self> {
        let limit = FIRST_FRAME + frames * format::frame_size(record_len);
        let mut spares: VecDeque<_> = spares.iter().copied().collect();
        let ring = Ring::new(limit);
        let first = spares.pop_front().expect("a log has a first segment");
        let chain = Chain { live: Vec::new(), ends: Vec::new(), spares };
        let log = Small {
            ring,
            chain: Mutex::new(chain),
            waiters: Waiters::default(),
            record_len,
            limit,
        };
        log.activate(&mut lock(&log.chain), first);
        Arc::new(log)
    }

    fn activate(&self, chain: &mut Chain, spare: Spare) {
        let len = self.limit + RESERVE;
        let map = Arc::new(Map::heap(len).expect("there is memory"));
        let frame = format::frame_size(self.record_len);
        let to = |frames: u64| FIRST_FRAME.saturating_add(frames.saturating_mul(frame)) + RESERVE;
        let ready = to(spare.ready.min(1000)).min(len);
        if spare.stale {
            let life = Life { base: 7 << 16, salt: 77 };
            for at in (FIRST_FRAME..self.limit).step_by(frame as usize) {
                let claim = map.claim(at..at + frame, 0, life.base, format::seed(life.salt, 1));
                let seed = claim.seed();
                let payload = b"an older".repeat(self.record_len / 8);
                segment::put(claim, STAMP, Kind::Record, seed, &payload);
            }
            map.zero(FIRST_FRAME..ready);
        }
        let room = spare.room.map_or(len, to);
        let pages = Arc::new(Pages { map, room, populated: AtomicUsize::new(0) });
        let index = chain.live.len() as u64 + 1;
        let life = Life { base: index << 16, salt: 100 + index };
        let id = Identity { index, slots: 1, life, first_sequence: 0, path: PathBuf::new() };
        let segment = Arc::new(Segment::new(id, pages.clone(), ready));
        chain.live.push((segment.clone(), pages.clone()));
        let seed = format::seed(life.salt, STAMP.epoch);
        self.ring.activate(Preparing::new(segment, pages, ready), seed, FIRST);
    }

    /// Appends, rolling as often as it must; `None` if there is nothing to roll to.
    pub fn append(&self, tag: &Tag) -> Option<(u64, Tag)> {
        self.append_by(Seat::ask, tag)
    }

    /// The same, looking before it claims.
    pub fn append_politely(&self, tag: &Tag) -> Option<(u64, Tag)> {
        self.append_by(Seat::ask_politely, tag)
    }

    fn append_by(&self, ask: fn(&Seat, u64, u32) -> Asked<'_>, tag: &Tag) -> Option<(u64, Tag)> {
        let record = tag.repeat(self.record_len / 8);
        loop {
            let number = self.ring.active();
            let seat = self.ring.seat(number);
            match ask(seat, format::frame_size(record.len()), 1) {
                Asked::Granted { claim, wake, .. } => {
                    let seed = claim.seed();
                    let lsn = segment::put(claim, STAMP, Kind::Record, seed, &record);
                    if wake {
                        self.waiters.published(&seat.slot);
                    }
                    return Some((lsn.0, *tag));
                }
                Asked::Refused => {
                    if !self.roll(Some(number)) {
                        return None;
                    }
                }
            }
        }
    }

    /// Goes on to the next segment, if `number` is still the active one; `false` if
    /// there is none.
    pub fn roll(&self, number: Option<u64>) -> bool {
        let mut backoff = Backoff::default();
        loop {
            let mut chain = lock(&self.chain);
            if number.is_some_and(|number| self.ring.active() != number) {
                return true;
            }
            if chain.spares.is_empty() {
                return false;
            }
            if !self.ring.next_is_free() {
                drop(chain);
                backoff.wait();
                continue;
            }
            let end = self.ring.active_seat().end();
            chain.ends.push(end);
            let spare = chain.spares.pop_front().expect("just seen");
            self.activate(&mut chain, spare);
            self.waiters.wake_all();
            return true;
        }
    }

    /// Ends the last segment, as a rotation does that finds no spare.
    pub fn end(&self) -> Place {
        let mut chain = lock(&self.chain);
        let end = self.ring.active_seat().end();
        chain.ends.push(end);
        end
    }

    /// The records that are published in the segment `index`, each intact.
    pub fn read(&self, index: u64) -> Vec<(u64, Tag)> {
        let (segment, pages) = lock(&self.chain).live[index as usize - 1].clone();
        read(&segment, &pages.map)
    }

    /// All records, when nobody appends any more. Their segments are full of them up
    /// to where they end.
    pub fn read_all(&self) -> Vec<(u64, Tag)> {
        let (live, ends) = {
            let chain = lock(&self.chain);
            (chain.live.clone(), chain.ends.clone())
        };
        let frame = format::frame_size(self.record_len);
        let mut all = Vec::new();
        for (i, (segment, pages)) in live.iter().enumerate() {
            let records = read(segment, &pages.map);
            if let Some(end) = ends.get(i) {
                let at = FIRST_FRAME + records.len() as u64 * frame;
                let ordinal = records.len() as u32;
                assert_eq!(*end, Place { offset: at, ordinal }, "segment {i} ends elsewhere");
            }
            all.extend(records);
        }
        all
    }

    /// Checks that exactly the records that were `appended` are there, each in its
    /// own place, and that all claims are done with.
    pub fn holds(&self, appended: impl IntoIterator<Item = Option<(u64, Tag)>>) {
        let mut appended: Vec<_> = appended.into_iter().flatten().collect();
        appended.sort();
        let is_open = {
            let chain = lock(&self.chain);
            chain.ends.len() < chain.live.len()
        };
        if is_open {
            self.end();
        }
        assert_eq!(self.read_all(), appended);
        let active = self.ring.active();
        for number in active - 1..=active {
            assert!(self.ring.seat(number).slot.is_spent(), "seat {number} is never free again");
        }
    }
}

/// What is published in `segment`: intact frames, dense numbers.
fn read(segment: &Segment, map: &Map) -> Vec<(u64, Tag)> {
    let end = segment.published(map).expect("nothing is damaged").at;
    let (mut at, mut records) = (FIRST, Vec::new());
    while at.offset < end.offset {
        let frame = segment.frame_bytes(map, at.offset).expect("nothing is damaged");
        let mut bytes = frame.expect("it was walked").1.to_vec();
        bytes[..4].copy_from_slice(&map.load(at.offset).to_le_bytes()); // a word of loom's
        let Found::Frame(frame) = segment.id.life.read(&bytes, at.offset, STAMP.epoch) else {
            panic!("the frame at {at:?} is not intact");
        };
        assert_eq!(frame.tag.ordinal(), at.ordinal);
        let tag: Tag = frame.payload[..8].try_into().expect("eight bytes");
        assert!(frame.payload.chunks(8).all(|chunk| chunk == tag), "a torn record");
        records.push((segment.lsn(at.offset).0, tag));
        at.offset += frame.size();
        at.ordinal += 1;
    }
    assert_eq!(at, end);
    records
}
