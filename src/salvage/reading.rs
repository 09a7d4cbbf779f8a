//! One file of a damaged log: a walk, and at each break the search for what is
//! intact behind it.

use std::ops::Range;

use super::{Salvage, Sealed};
use crate::error::{Damage, Error};
use crate::format::{ALIGN, FIRST_FRAME, Kind};
use crate::lsn::Lsn;
use crate::recover::files::{Contents, File};
use crate::recover::search::{Epochs, Hit, Outcome, Search};
use crate::scan::{Content, Frame, Place, START, Stop, Walk};

/// What bad media takes at a time.
const PAGE: u64 = 4096;

/// How many of the epochs that states name are tried behind a break.
const MAX_EPOCHS: usize = 256;

impl Salvage<'_> {
    /// One file, up to `until`.
    pub(super) fn file(
        &mut self,
        file: &File,
        until: u64,
        first_sequence: Option<u64>,
    ) -> Option<Sealed> {
        let mut at = Break { place: START, epoch: 0 };
        let contents = match file.contents(self.storage) {
            Ok(contents) => contents,
            Err(cause) => {
                self.skip(file.path.clone(), 0..file.len(), cause);
                return None;
            }
        };
        for window in self.readable(file, &contents) {
            if window.start >= until {
                break;
            }
            let whole = file.first.is_some() && at.place == START && window.start == 0;
            at.place.offset = at.place.offset.max(window.start);
            let bytes = &contents.bytes(0)[..window.end as usize];
            let stretch = Stretch { file, bytes, until, first_sequence };
            match self.window(stretch, at, whole) {
                Ok(sealed) => return sealed,
                Err(stopped) => at = stopped,
            }
        }
        None
    }

    /// The parts of a file that can be read.
    fn readable(&mut self, file: &File, contents: &Contents) -> Vec<Range<u64>> {
        let mut windows: Vec<Range<u64>> = Vec::new();
        for at in (0..file.len()).step_by(PAGE as usize) {
            let page = at..(at + PAGE).min(file.len());
            match contents.load(page.clone()) {
                Ok(()) => match windows.last_mut() {
                    Some(window) if window.end == page.start => window.end = page.end,
                    _ => windows.push(page),
                },
                Err(cause) => self.skip(file.path.clone(), page, cause),
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
    ) -> Result<Option<Sealed>, Break> {
        let Stretch { file, bytes, until, .. } = stretch;
        let mut search = Search::new(file.life(), bytes);
        let mut walk = Walk::new(file.life(), at.place, at.epoch);
        if !whole {
            let lost = if at.place == START { Damage::Begin } else { Damage::Check };
            let from = at.place.offset;
            walk = self.resume(&stretch, &mut search, from, at, Stop::Unreadable(lost))?;
        }
        loop {
            if walk.at().offset >= until {
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
                    search.count_stop(walk.at().offset);
                    let at = Break::behind(&walk);
                    walk = self.resume(&stretch, &mut search, batch.at().offset, at, stop)?;
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
        if lsn < self.head {
            return;
        }
        self.done.records += 1;
        (self.visit)(lsn, stretch.sequence(ordinal), frame.payload);
    }

    /// Searches on behind a break, from `at`; `from` is where the skipped part
    /// begins. The walk that is returned stands at a batch boundary. `Err`: there
    /// is nothing more.
    fn resume(
        &mut self,
        stretch: &Stretch<'_>,
        search: &mut Search<'_>,
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
        let (to, cause, next) = loop {
            // as many as a log that was opened now and then has: a file may name millions
            let epochs = self.epochs.range(at.epoch..).copied().take(MAX_EPOCHS);
            let epochs = Epochs::new(epochs, at.epoch);
            match search.frame(at.place, &epochs) {
                Outcome::Frame(hit) if hit.place.offset < until => {
                    let mut walk = Walk::new(file.life(), hit.place, hit.epoch);
                    if stretch.pass_partial_batch(&mut walk, &hit) {
                        break (walk.at().offset, file.damaged(from, damage), Some(walk));
                    }
                    search.count_stop(walk.at().offset);
                    at = Break::behind(&walk);
                }
                Outcome::Undecided => {
                    break (end, Error::Undecided { path: file.path.clone(), at: from }, None);
                }
                // a log's tail, or a spare
                Outcome::Nothing if stop == Stop::Unwritten || from == FIRST_FRAME => {
                    return Err(at.at(end));
                }
                _ => break (until.min(end), file.damaged(from, damage), None),
            }
        };
        self.skip(file.path.clone(), from..to.max(from), cause);
        next.ok_or(at.at(end))
    }
}

/// Where reading goes on: what was counted, and which epoch was in force.
#[derive(Clone, Copy)]
struct Break {
    place: Place,
    epoch: u32,
}

impl Break {
    /// Right behind the place where a walk came to a break.
    fn behind(walk: &Walk) -> Self {
        let place = Place { offset: walk.at().offset + ALIGN, ..walk.at() };
        Break { place, epoch: walk.epoch() }
    }

    fn at(self, offset: u64) -> Self {
        Break { place: Place { offset, ..self.place }, ..self }
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
