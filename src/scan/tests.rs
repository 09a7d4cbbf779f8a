//! Which frames are intact, and where a walk may go.

use super::*;
use crate::format::{Begin, FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;

const LIFE: Life = Life { base: 0x2_0000, salt: 0x0123_4567_89ab_cdef };
const EPOCH: u32 = 18;
const BEGIN: Reason = Reason::Begin(Begin {
    predecessor_index: 1,
    predecessor_salt: 2,
    predecessor_end: 0x1_fe00,
    first_sequence: 301,
});
const SEAL: Seal = Seal { next_index: 3, next_salt: 4 };

/// A segment in the making, which takes whatever it is told.
#[derive(Clone)]
struct Segment {
    bytes: Vec<u8>,
    ordinal: u32,
    epoch: u32,
    /// What states say, and marks, if it is not their own place.
    durable: Option<u64>,
    /// Where the last frame is.
    last: u64,
}

impl Segment {
    fn empty() -> Self {
        let bytes = vec![0; FIRST_FRAME as usize];
        Segment { bytes, ordinal: 0, epoch: EPOCH, durable: None, last: 0 }
    }

    fn begun() -> Self {
        Segment::empty().state(BEGIN, EPOCH)
    }

    fn lsn(&self) -> u64 {
        LIFE.base + self.bytes.len() as u64
    }

    fn end(&self) -> Place {
        Place { offset: self.bytes.len() as u64, ordinal: self.ordinal }
    }

    fn put(mut self, kind: Kind, seed_epoch: u32, nibble_epoch: u32, payload: &[u8]) -> Self {
        let lsn = self.lsn();
        let durable = self.durable.unwrap_or(lsn);
        let tag = Tag::new(self.ordinal, nibble_epoch, lsn, durable);
        let seed = format::seed(LIFE.salt, seed_epoch);
        self.last = self.end().offset;
        self.bytes.extend(format::encode_frame(kind, seed, lsn, tag, payload));
        self.ordinal += kind.counts() as u32;
        self
    }

    fn payload(&self, reason: Reason, epoch: u32) -> (u32, Vec<u8>) {
        let durable = Lsn(self.durable.unwrap_or(self.lsn()));
        let state = State { reason, epoch, head: Lsn(LIFE.base), durable, time_ns: 0 };
        (state.seed_epoch(), state.encode())
    }

    /// Adds a state of `epoch`, which is that of the frames behind it.
    fn state(mut self, reason: Reason, epoch: u32) -> Self {
        let (seed_epoch, payload) = self.payload(reason, epoch);
        self.epoch = epoch;
        self.put(Kind::State, seed_epoch, epoch, &payload)
    }

    /// Adds a frame that is no state.
    fn frame(self, kind: Kind) -> Self {
        let epoch = self.epoch;
        match kind {
            Kind::Seal => self.put(kind, epoch, epoch, &SEAL.encode()),
            _ => self.put(kind, epoch, epoch, b"a record"),
        }
    }

    fn frames(self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        kinds.into_iter().fold(self, Segment::frame)
    }

    /// The last frame, with zeros behind it.
    fn last(&self) -> Vec<u8> {
        [&self.bytes[self.last as usize..], &[0; 4096]].concat()
    }

    /// The kinds and ordinals that a walk from `walk` on finds, and why it ends: the same as if
    /// it goes over records at once.
    fn walk_on(&self, walk: &mut Walk) -> (Vec<(Kind, u32)>, Stop) {
        let bytes = [&self.bytes[..], &[0; 64]].concat();
        let from = |walk: &Walk| &bytes[walk.at().offset as usize..];
        let mut at_once = walk.clone();
        let stopped = loop {
            at_once.over_records(from(&at_once), u64::MAX);
            if let Err(stop) = at_once.step(from(&at_once)) {
                break stop;
            }
        };
        let mut found = Vec::new();
        let stop = loop {
            match walk.step(from(walk)) {
                Ok(frame) => found.push((frame.kind, frame.tag.ordinal())),
                Err(stop) => break stop,
            }
        };
        assert_eq!((at_once.at(), at_once.boundary()), (walk.at(), walk.boundary()));
        assert_eq!(stopped, stop);
        (found, stop)
    }

    /// A walk that has ended, and why.
    fn walked(&self) -> (Walk, Stop) {
        let mut walk = Walk::new(LIFE, Place { offset: FIRST_FRAME, ordinal: 0 }, 0);
        let stop = self.walk_on(&mut walk).1;
        (walk, stop)
    }

    /// Whether a walk goes over all frames to where nothing is written.
    fn is_whole(&self) -> bool {
        let (walk, stop) = self.walked();
        stop == Stop::Unwritten && walk.at() == self.end() && walk.boundary() == self.end()
    }

    /// Why the last frame, and no other, may not stand there.
    fn refused(&self) -> Damage {
        match self.walked() {
            (walk, Stop::Unreadable(damage)) if walk.at().offset == self.last => damage,
            other => panic!("{other:?}"),
        }
    }
}

/// One frame of each kind and reason, each at the end of its segment.
fn one_of_each() -> Vec<Segment> {
    use Kind::*;
    let begun = Segment::begun();
    let states = [Reason::Open, Reason::Head, Reason::Close];
    let frames = [Record, More, Last, Abandoned, Seal];
    let mut all = vec![begun.clone(), begun.clone().put(Record, EPOCH, EPOCH, b"")];
    all.extend(states.map(|reason| begun.clone().state(reason, EPOCH)));
    all.extend(frames.map(|kind| begun.clone().frame(kind)));
    // with padding
    all.extend(frames[..4].iter().map(|&kind| begun.clone().put(kind, EPOCH, EPOCH, b"one")));
    all
}

fn frame(found: Found<'_>) -> Frame<'_> {
    match found {
        Found::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unreadable(found: Found<'_>) -> Damage {
    match found {
        Found::Unreadable(damage) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_segment_in_the_format_document_is_read_as_it_is_explained() {
    let bytes = format::tests::segment_of_the_document();
    let header = SegmentHeader::decode(bytes[..4096].try_into().unwrap()).unwrap();
    let life = Life { base: header.index * header.segment_size, salt: header.salt };
    let mut walk = Walk::new(life, Place { offset: FIRST_FRAME, ordinal: 0 }, 0);
    let segment = Segment { bytes, ..Segment::empty() };
    let (found, stop) = segment.walk_on(&mut walk);
    let kinds: Vec<_> = found.iter().map(|&(kind, _)| kind as u8).collect();
    assert_eq!(kinds, [6, 1, 2, 3, 4, 6]);
    assert_eq!(stop, Stop::Sealed(Seal { next_index: 3, next_salt: 0x0f1e_2d3c_4b5a_6978 }));
    assert_eq!((walk.boundary(), walk.epoch()), (Place { offset: 0x1100, ordinal: 4 }, 18));
}

#[test]
fn a_frame_is_read_as_it_was_written() {
    for segment in one_of_each() {
        let bytes = segment.last();
        let found = frame(LIFE.read(&bytes, segment.last, EPOCH));
        assert_eq!(found.size(), segment.end().offset - segment.last);
        assert_eq!(found.payload, &bytes[FRAME_HEADER..][..found.payload.len()]);
        match (found.kind, found.content) {
            (Kind::Seal, Content::Seal(seal)) => assert_eq!(seal, SEAL),
            (Kind::State, Content::State(state)) => assert_eq!(state.encode(), found.payload),
            (kind, content) => assert_eq!((kind.counts(), content), (true, Content::Opaque)),
        }
    }
}

#[test]
fn a_frame_with_a_flipped_bit_is_unreadable_or_unwritten() {
    for segment in one_of_each() {
        let mut bytes = segment.last();
        let Frame { kind, payload, .. } = frame(LIFE.read(&bytes, segment.last, EPOCH));
        let never_read = if kind == Kind::Abandoned { payload.len() } else { 0 };
        for at in 0..(segment.end().offset - segment.last) as usize {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                match LIFE.read(&bytes, segment.last, EPOCH) {
                    Found::Unreadable(_) => {}
                    Found::Unwritten => assert_eq!(bytes[..4], [0; 4]),
                    Found::Frame(_) => {
                        let unread = FRAME_HEADER..FRAME_HEADER + never_read;
                        assert!(unread.contains(&at), "{kind:?}: byte {at}, bit {bit}");
                    }
                }
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn an_abandoned_claim_holds_whatever_it_holds() {
    let segment = Segment::begun().frame(Kind::Abandoned);
    let mut bytes = segment.last();
    bytes[FRAME_HEADER..][..8].copy_from_slice(b"whatever");
    assert_eq!(frame(LIFE.read(&bytes, segment.last, EPOCH)).payload, b"whatever");
}

#[test]
fn a_frame_in_another_place_or_life_is_unreadable() {
    for segment in one_of_each() {
        let (bytes, offset) = (segment.last(), segment.last);
        for (life, offset) in [
            (LIFE, offset + 8),
            (LIFE, offset - 8),
            (Life { base: LIFE.base + (64 << 10), ..LIFE }, offset),
            (Life { salt: LIFE.salt ^ 1 << 63, ..LIFE }, offset),
        ] {
            assert_eq!(unreadable(life.read(&bytes, offset, EPOCH)), Damage::Check);
        }
    }
}

#[test]
fn a_frame_of_another_epoch_is_unreadable_unless_it_begins_one() {
    for segment in one_of_each() {
        let bytes = segment.last();
        for epoch in [0, EPOCH - 16, EPOCH - 1, EPOCH + 1, EPOCH + 16, !EPOCH] {
            let found = LIFE.read(&bytes, segment.last, epoch);
            match found {
                Found::Frame(Frame { content: Content::State(state), .. }) => {
                    assert!(matches!(state.reason, Reason::Begin(_) | Reason::Open));
                }
                _ => assert_eq!(unreadable(found), Damage::Check),
            }
        }
    }
    let open = Segment::begun().state(Reason::Open, EPOCH + 1);
    frame(LIFE.read(&open.last(), open.last, EPOCH));
}

#[test]
fn a_frame_that_reaches_beyond_the_file_is_unreadable() {
    let segment = Segment::begun().frame(Kind::Record);
    let bytes = &segment.bytes[segment.last as usize..];
    for len in 1..bytes.len() {
        let found = LIFE.read(&bytes[..len], segment.last, EPOCH);
        assert_eq!(unreadable(found), Damage::Length, "{len} bytes");
    }
    let smallest = Segment::begun().put(Kind::Record, EPOCH, EPOCH, b"");
    for last in [segment, smallest] {
        frame(LIFE.read(&last.bytes[last.last as usize..], last.last, EPOCH));
    }
}

#[test]
fn where_the_word_is_0_nothing_is_written() {
    for len in [0, 8, 16, 24] {
        assert!(matches!(LIFE.read(&vec![0; len], FIRST_FRAME, EPOCH), Found::Unwritten));
    }
    let mut bytes = Segment::begun().last();
    bytes[..4].fill(0); // the rest of a claim that is not published
    assert!(matches!(LIFE.read(&bytes, FIRST_FRAME, EPOCH), Found::Unwritten));
}

#[test]
fn a_seal_or_state_that_says_nothing_known_is_unreadable() {
    for kind in [Kind::Seal, Kind::State] {
        let segment = Segment::begun().put(kind, EPOCH, EPOCH, b"neither");
        assert_eq!(unreadable(LIFE.read(&segment.last(), segment.last, EPOCH)), Damage::State);
    }
}

#[test]
fn a_frame_proves_what_its_mark_or_its_state_says() {
    let mut segment = Segment::begun();
    let lsn = segment.lsn();
    let proves =
        |segment: &Segment| frame(LIFE.read(&segment.last(), segment.last, EPOCH)).proves(lsn);
    segment.durable = Some(lsn - 64);
    assert_eq!(proves(&segment.clone().frame(Kind::Record)), lsn - 64);
    let (seed_epoch, payload) = segment.payload(Reason::Head, EPOCH);
    for (mark, proved) in [(lsn - 8, lsn - 8), (lsn - 72, lsn - 64), (lsn + 8, lsn - 64)] {
        segment.durable = Some(mark);
        let head = segment.clone().put(Kind::State, seed_epoch, EPOCH, &payload);
        assert_eq!(proves(&head), proved);
    }
    // the last of these was no mark at all
    assert_eq!(proves(&segment.frame(Kind::Record)), 0);
}

#[test]
fn a_walk_counts_what_has_a_number() {
    use Kind::*;
    let segment = Segment::begun()
        .frames([Record, Abandoned])
        .state(Reason::Head, EPOCH)
        .frames([More, More, Last])
        .state(Reason::Close, EPOCH)
        .state(Reason::Open, EPOCH + 1)
        .frame(Record);
    assert!(segment.is_whole());
    let mut walk = Walk::new(LIFE, Place { offset: FIRST_FRAME, ordinal: 0 }, 0);
    let (found, _) = segment.walk_on(&mut walk);
    let ordinals: Vec<_> = found.iter().map(|&(_, ordinal)| ordinal).collect();
    assert_eq!(ordinals, [0, 0, 1, 2, 2, 3, 4, 5, 5, 5]);
    assert_eq!(walk.epoch(), EPOCH + 1);
}

#[test]
fn a_walk_goes_on_from_any_batch_boundary() {
    let first = Segment::begun().frame(Kind::Record).state(Reason::Open, EPOCH + 1);
    let segment = first.clone().frames([Kind::More, Kind::Last]);
    let mut walk = Walk::new(LIFE, first.end(), EPOCH + 1);
    let (found, stop) = segment.walk_on(&mut walk);
    assert_eq!((found, stop), (vec![(Kind::More, 1), (Kind::Last, 2)], Stop::Unwritten));
    assert_eq!(walk.boundary(), segment.end());
}

#[test]
fn a_walk_over_records_stops_at_the_first_boundary_that_is_not_below_where_it_is_to() {
    use Kind::*;
    let begun = Segment::begun();
    let segment = begun.clone().frames([Record, Record, Record, More, Last, Record, Record]);
    let one = segment.end().offset - segment.last; // the bytes of each
    let boundaries = [1, 2, 3, 5, 6, 7].map(|frames| begun.end().offset + frames * one);
    for until in begun.end().offset + 1..=segment.end().offset {
        let mut walk = Walk::new(LIFE, begun.end(), EPOCH);
        walk.over_records(&segment.bytes[begun.end().offset as usize..], until);
        let first = boundaries.into_iter().find(|&boundary| boundary >= until);
        assert_eq!(Some(walk.boundary().offset), first, "to {until}");
    }
}

#[test]
fn a_frame_with_another_ordinal_is_refused() {
    for kind in [Kind::Record, Kind::More, Kind::Abandoned, Kind::Seal] {
        for ordinal in [0, 2] {
            let mut segment = Segment::begun().frame(Kind::Record);
            segment.ordinal = ordinal;
            assert_eq!(segment.frame(kind).refused(), Damage::Ordinal);
        }
    }
    let mut late = Segment::empty();
    late.ordinal = 1;
    assert_eq!(late.state(BEGIN, EPOCH).refused(), Damage::Ordinal);
}

#[test]
fn a_batch_counts_when_its_last_record_is_there() {
    let before = Segment::begun().frame(Kind::Record);
    let part = before.clone().frames([Kind::More, Kind::More]);
    let (walk, stop) = part.walked();
    assert_eq!(stop, Stop::Unreadable(Damage::Batch), "inside a batch nothing is missing");
    assert_eq!((walk.at(), walk.boundary()), (part.end(), before.end()));
    assert!(part.frame(Kind::Last).is_whole());
}

#[test]
fn a_batch_has_none_but_its_own_frames() {
    let part = Segment::begun().frame(Kind::More);
    for kind in [Kind::Record, Kind::Abandoned, Kind::Seal] {
        assert_eq!(part.clone().frame(kind).refused(), Damage::Batch, "{kind:?}");
    }
    for (reason, epoch) in
        [(Reason::Open, EPOCH + 1), (Reason::Head, EPOCH), (Reason::Close, EPOCH)]
    {
        assert_eq!(part.clone().state(reason, epoch).refused(), Damage::Batch, "{reason:?}");
    }
    for before in [&[][..], &[Kind::Record], &[Kind::Abandoned], &[Kind::More, Kind::Last]] {
        let segment = Segment::begun().frames(before.iter().copied()).frame(Kind::Last);
        assert_eq!(segment.refused(), Damage::Batch, "a last behind {before:?}");
    }
}

#[test]
fn a_begin_stands_first_and_nowhere_else() {
    let mut segment = Segment::empty();
    segment.epoch = 0; // as nothing is in force there yet
    for kind in [Kind::Record, Kind::More, Kind::Abandoned, Kind::Seal] {
        assert_eq!(segment.clone().frame(kind).refused(), Damage::State, "{kind:?}");
    }
    assert_eq!(segment.clone().state(Reason::Open, EPOCH).refused(), Damage::State);
    for reason in [Reason::Head, Reason::Close] {
        // even for one who wrongly takes this epoch to be in force
        let mut walk = Walk::new(LIFE, segment.end(), EPOCH);
        let (_, stop) = segment.clone().state(reason, EPOCH).walk_on(&mut walk);
        assert_eq!(stop, Stop::Unreadable(Damage::State), "{reason:?}");
    }
    for epoch in [EPOCH, EPOCH + 1] {
        assert_eq!(Segment::begun().state(BEGIN, epoch).refused(), Damage::State);
    }
}

#[test]
fn an_open_raises_the_epoch() {
    for epoch in [1, EPOCH - 1, EPOCH] {
        let open = Segment::begun().state(Reason::Open, epoch);
        assert_eq!(open.refused(), Damage::State, "epoch {epoch}");
    }
    for epoch in [EPOCH + 1, EPOCH + 16, u32::MAX] {
        let mut open = Segment::begun().state(Reason::Open, epoch);
        assert_eq!(open.walked().0.epoch(), epoch);
        open.epoch = EPOCH;
        assert_eq!(open.frame(Kind::Record).refused(), Damage::Check, "a frame from before");
    }
}

#[test]
fn a_head_or_close_is_of_the_epoch_in_force() {
    for reason in [Reason::Head, Reason::Close] {
        for epoch in [EPOCH - 16, EPOCH + 16] {
            let segment = Segment::begun();
            let (_, payload) = segment.payload(reason, epoch);
            let segment = segment.put(Kind::State, EPOCH, EPOCH, &payload);
            assert_eq!(segment.refused(), Damage::State, "{reason:?} of {epoch}");
        }
        assert!(Segment::begun().state(reason, EPOCH).is_whole());
    }
}

#[test]
fn a_frame_of_another_nibble_is_refused() {
    let record = Segment::begun().put(Kind::Record, EPOCH, EPOCH + 1, b"");
    assert_eq!(record.refused(), Damage::Epoch);
    // a state that begins an epoch has that one's, not the one in force
    for (segment, reason) in [(Segment::empty(), BEGIN), (Segment::begun(), Reason::Open)] {
        let (_, payload) = segment.payload(reason, EPOCH + 1);
        let state = segment.put(Kind::State, 0, EPOCH, &payload);
        assert_eq!(state.refused(), Damage::Epoch);
    }
}

#[test]
fn a_close_stands_only_where_everything_is_durable() {
    let mut segment = Segment::begun();
    for durable in [segment.lsn() - 8, segment.lsn() + 8, 0] {
        segment.durable = Some(durable);
        assert_eq!(segment.clone().state(Reason::Close, EPOCH).refused(), Damage::State);
        assert!(segment.clone().state(Reason::Head, EPOCH).is_whole());
    }
}

#[test]
fn a_seal_ends_the_walk() {
    let sealed = Segment::begun().frames([Kind::Record, Kind::Seal]);
    let (walk, stop) = sealed.clone().frame(Kind::Record).walked();
    assert_eq!(stop, Stop::Sealed(SEAL));
    assert_eq!((walk.at(), walk.boundary()), (sealed.end(), sealed.end()));
}
