//! One file of a damaged log: a walk, and at each break the search for what is
//! intact behind it.

use std::ops::Range;

use super::{Salvage, Sealed};
use crate::error::Damage;
use crate::format::{self, ALIGN, FIRST_FRAME, FRAME_HEADER, FrameHeader, Kind};
use crate::lsn::Lsn;
use crate::recover::files::{Contents, File};
use crate::recover::search::{Epochs, Hit, Search};
use crate::scan::{Content, Frame, Place, START, Stop, Walk};
use crate::storage::pieces;

/// What is read in at a time; and what bad media takes.
const PART: usize = 1 << 20;
const PAGE: usize = 4096;

/// How often the size of a file may be checksummed in vain: some hundred frames of which each says
/// that it is as long as a quarter of the file. What is more was made to be salvaged for ever.
const MAX_IN_VAIN: u64 = 64;

impl Salvage<'_> {
    /// One file, up to `until`.
    pub(super) fn file(
        &mut self,
        file: &File,
        until: u64,
        first_sequence: Option<u64>,
    ) -> Option<Sealed> {
        let mut at = Break { place: START, epoch: 0, start: START.offset };
        let end = file.len().min(file.full_len());
        let mut left = end * MAX_IN_VAIN;
        let contents = match file.contents(self.storage) {
            Ok(contents) => contents,
            Err(cause) => {
                self.skip(file.path.clone(), 0..end, cause);
                return None;
            }
        };
        for window in self.readable(file, &contents, end) {
            if window.start >= until {
                break;
            }
            let whole = file.first.is_some() && window.start == 0;
            at.start = at.start.max(window.start);
            let bytes = &contents.bytes(0)[..window.end as usize];
            let stretch = Stretch { file, bytes, until, first_sequence };
            match self.window(stretch, at, whole, &mut left) {
                Ok(sealed) => return sealed,
                Err(stopped) => at = stopped,
            }
        }
        None
    }

    /// The parts of a file that can be read, up to `end`.
    fn readable(&mut self, file: &File, contents: &Contents<'_>, end: u64) -> Vec<Range<u64>> {
        let mut windows: Vec<Range<u64>> = Vec::new();
        let mut add = |part: Range<u64>| match windows.last_mut() {
            Some(window) if window.end == part.start => window.end = part.end,
            _ => windows.push(part),
        };
        for part in pieces(0..end, PART) {
            if contents.load(part.clone()).is_ok() {
                add(part);
                continue;
            }
            for page in pieces(part, PAGE) {
                match contents.load(page.clone()) {
                    Ok(()) => add(page),
                    Err(cause) => self.skip(file.path.clone(), page, cause),
                }
            }
        }
        windows
    }

    /// Walks and searches on to the end of what can be read, or of the segment.
    fn window(
        &mut self,
        stretch: Stretch<'_>,
        at: Break,
        whole: bool,
        left: &mut u64,
    ) -> Result<Option<Sealed>, Break> {
        let Stretch { file, bytes, until, .. } = stretch;
        let mut breaks = Breaks { search: Search::new(file.life(), bytes), bytes, left };
        let mut walk = Walk::new(file.life(), at.place, at.epoch);
        if !whole {
            let lost = if at.place == START { Damage::Begin } else { Damage::Check };
            let from = at.start;
            walk = self.resume(&stretch, &mut breaks, from, at, Stop::Unreadable(lost))?;
        }
        loop {
            if walk.at().offset >= until || self.done.was_ended {
                return Ok(None);
            }
            let batch = walk.clone();
            match self.batch(&stretch, &mut walk) {
                Ok(()) => {}
                Err(Stop::Sealed(seal)) => {
                    let sequence = stretch.sequence(walk.at().ordinal);
                    return Ok(sequence.map(|next| (seal.next_index, seal.next_salt, next)));
                }
                Err(stop) => {
                    let at = breaks.behind(&walk);
                    walk = self.resume(&stretch, &mut breaks, batch.at().offset, at, stop)?;
                }
            }
        }
    }

    /// The next record or batch.
    fn batch(&mut self, stretch: &Stretch<'_>, walk: &mut Walk) -> Result<(), Stop> {
        let mut replay = walk.clone();
        loop {
            let lsn = Lsn(stretch.file.lsn(walk.at().offset));
            let ordinal = walk.at().ordinal;
            let frame = walk.step(stretch.from(walk.at().offset))?;
            match frame.kind {
                Kind::Record => self.record(stretch, lsn, ordinal, &frame),
                Kind::Last => break, // all of it is there
                Kind::More => continue,
                Kind::State => {
                    if let Content::State(state) = frame.content {
                        self.epochs.insert(state.epoch);
                    }
                }
                Kind::Abandoned | Kind::Seal => {}
            }
            return Ok(());
        }
        while replay.at() != walk.at() {
            let Place { offset, ordinal } = replay.at();
            let frame = replay.step(stretch.from(offset))?;
            self.record(stretch, Lsn(stretch.file.lsn(offset)), ordinal, &frame);
        }
        Ok(())
    }

    fn record(&mut self, stretch: &Stretch<'_>, lsn: Lsn, ordinal: u32, frame: &Frame<'_>) {
        if lsn < self.head || self.done.was_ended {
            return;
        }
        self.done.records += 1;
        let flow = (self.visit)(lsn, stretch.sequence(ordinal), frame.payload);
        self.done.was_ended = flow.is_break();
    }

    /// Searches on behind a break, from `at`; `from` is where the skipped part
    /// begins. The walk that is returned stands at a batch boundary. `Err`: there
    /// is nothing more.
    fn resume(
        &mut self,
        stretch: &Stretch<'_>,
        breaks: &mut Breaks<'_>,
        from: u64,
        mut at: Break,
        stop: Stop,
    ) -> Result<Walk, Break> {
        let Stretch { file, bytes, until, .. } = *stretch;
        let end = bytes.len() as u64;
        let damage = match stop {
            Stop::Unreadable(damage) => damage,
            Stop::Unwritten | Stop::Sealed(_) => Damage::Hole,
        };
        let next = loop {
            let epochs = Epochs { named: &self.epochs, least: at.epoch };
            match breaks.search.frame(at.place, at.start, epochs) {
                Some(hit) if hit.place.offset < until && *breaks.left > 0 => {
                    let mut walk = Walk::new(file.life(), hit.place, hit.epoch);
                    if stretch.pass_partial_batch(&mut walk, &hit) {
                        break Some(walk);
                    }
                    at = breaks.behind(&walk);
                }
                // a log's tail, or a spare
                None if until == u64::MAX && (stop == Stop::Unwritten || from == FIRST_FRAME) => {
                    return Err(at.at(end));
                }
                _ => break None,
            }
        };
        let to = next.as_ref().map_or(until.min(end), |walk| walk.at().offset);
        let cause = file.damaged(from, damage);
        self.skip(file.path.clone(), from..to.max(from), cause);
        next.ok_or(at.at(end))
    }
}

/// Where reading goes on: up to where claims were counted, and which epoch was in force there.
#[derive(Clone, Copy)]
struct Break {
    place: Place,
    epoch: u32,
    /// Not before it, and not before here: what lies between cannot be read.
    start: u64,
}

impl Break {
    fn at(self, offset: u64) -> Self {
        Break { start: offset, ..self }
    }
}

/// What is known of the breaks in a part of a file.
struct Breaks<'a> {
    search: Search<'a>,
    bytes: &'a [u8],
    /// Bytes that may still be checksummed in vain.
    left: &'a mut u64,
}

impl Breaks<'_> {
    /// Right behind the place where a walk came to a break. In a file of short frames, each
    /// before what looks like a long one, every break costs as much as all of the file.
    fn behind(&mut self, walk: &Walk) -> Break {
        let offset = walk.at().offset;
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        if rest.len() >= FRAME_HEADER {
            let word = FrameHeader::decode(rest).word;
            let size = format::frame_size(format::payload_len(word));
            if format::kind(word).is_some() && size <= rest.len() as u64 {
                *self.left = self.left.saturating_sub(size);
            }
        }
        Break { place: walk.at(), epoch: walk.epoch(), start: offset + ALIGN }
    }
}

/// A part of a file that can be read, and what is known of it.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    file: &'a File,
    /// The file from its start to the end of the part.
    bytes: &'a [u8],
    until: u64,
    first_sequence: Option<u64>,
}

impl<'a> Stretch<'a> {
    fn from(&self, offset: u64) -> &'a [u8] {
        &self.bytes[(offset.min(self.bytes.len() as u64)) as usize..]
    }

    /// Moves a walk past a batch that may have begun before `hit`, where the walk
    /// stands. `false`: it stopped at a break in it.
    fn pass_partial_batch(&self, walk: &mut Walk, hit: &Hit<'_>) -> bool {
        match hit.frame.kind {
            Kind::Last => {
                let offset = hit.place.offset + hit.frame.size();
                let ordinal = hit.place.ordinal.saturating_add(1);
                *walk = Walk::new(self.file.life(), Place { offset, ordinal }, hit.epoch);
                true
            }
            Kind::More => loop {
                match walk.step(self.from(walk.at().offset)) {
                    Ok(frame) if frame.kind == Kind::Last => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            },
            _ => true,
        }
    }

    fn sequence(&self, ordinal: u32) -> Option<u64> {
        self.first_sequence.map(|first| first.saturating_add(u64::from(ordinal)))
    }
}
