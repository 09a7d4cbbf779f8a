//! A live tail from outside: reads on in a log that another process writes.
//!
//! Takes no lock of the log's, and trusts nothing that it shares with the writer: it copies,
//! then checks the copy. It goes from frame to frame, from a seal to the file that it names.
//! Where that leads nowhere, a look at the whole directory says where the log goes on.

mod at;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use at::{At, Copied};

use crate::error::{Error, Result};
use crate::format::{self, Kind, Reason, SEAL_SIZE, SegmentHeader};
use crate::look;
use crate::lsn::Lsn;
use crate::progress::Listener;
use crate::recover::files::{self, File, START_LEN};
use crate::recover::{self, Directory, Found, Verify};
use crate::scan::{Content, Stop};
use crate::storage::{Access, Storage};

/// The pauses between two looks for more, which grow while nothing comes.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);

/// How often it finds out where the log goes on before it asks what time it is.
const MOST_TURNS: u32 = 8;

/// Follows a log that another process writes, or nobody: hands out what is there, and then
/// every record as it comes. Made by [`Options::watch`](crate::Options::watch).
///
/// What it hands out is *published*, not necessarily durable: it survives the writer's death,
/// and a power cut may take it away. The records of a batch are handed out when all are there.
///
/// It changes nothing and takes no lock of the log. It holds one file open, which the writer
/// therefore removes rather than recycles when it is given up; and it looks for more again and
/// again, at most 100 ms apart, since the writer does not know of it.
///
/// A log that is opened anew goes on in a new epoch: [`Watched::epoch`].
pub struct Watch {
    storage: Box<dyn Storage>,
    /// What is below is passed over.
    from: Lsn,
    /// `None`: it is not known yet where to begin.
    at: Option<At>,
    copied: Copied,
    /// The log's files, by index, as far as they were known when the directory was last looked
    /// at.
    known: Vec<Known>,
    /// Where the last record ends that was handed out.
    handed_out: Lsn,
    is_closed: bool,
    noticed: Option<Notice>,
    pause: Duration,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("directory", &self.storage.path(""))
            .field("next", &self.next_lsn())
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

/// A file of the log, as the last look found it.
struct Known {
    index: u64,
    salt: u64,
    /// The offset where the next one says that it ends.
    until: u64,
}

/// A record that a [`Watch`] hands out: a copy.
#[derive(Clone, Copy)]
pub struct Watched<'a> {
    lsn: Lsn,
    sequence: u64,
    epoch: u32,
    data: &'a [u8],
}

impl<'a> Watched<'a> {
    /// Where it is in the log.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Its number: 1 for the first record of the log, and one more for each.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Which opening of the log wrote it: 1 for the first, and more for each later one.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The bytes that were appended.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

impl fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("lsn", &self.lsn)
            .field("sequence", &self.sequence)
            .field("epoch", &self.epoch)
            .field("len", &self.data.len())
            .finish()
    }
}

/// What was seen of the directory where there was nothing to read.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    offset: u64,
    stop: Stop,
    is_listed: bool,
    begun_above: Option<u64>,
}

/// Where a record lies among the copied bytes.
struct Place {
    lsn: Lsn,
    sequence: u64,
    payload_len: usize,
}

impl Watch {
    pub(crate) fn new(storage: Box<dyn Storage>, from: Lsn) -> Self {
        Watch {
            storage,
            from,
            at: None,
            copied: Copied::default(),
            known: Vec::new(),
            handed_out: Lsn::NONE,
            is_closed: false,
            noticed: None,
            pause: SHORTEST,
        }
    }

    /// The next record; `None` if none comes within `at_most`. Abandoned claims are passed over.
    ///
    /// # Errors
    ///
    /// Two are told once, and the call after them goes on behind what they tell:
    /// [`Error::Truncated`] if the log was truncated before it was read so far, with the head,
    /// where it goes on; [`Error::CutAway`] if records that were handed out were cut away,
    /// with the first place that was: what was handed out from there on is no longer in the log.
    /// Where files were truncated before a cut in them was seen, only `Truncated` is told, and
    /// numbers that were handed out may come again.
    ///
    /// [`Error::Foreign`] if another log took its place. [`Error::Damaged`] and all that
    /// [`Options::inspect`](crate::Options::inspect) says, if there is no going on.
    pub fn next(&mut self, at_most: Duration) -> Result<Option<Watched<'_>>> {
        let deadline = Instant::now().checked_add(at_most);
        let place = loop {
            if let Some(place) = self.step()? {
                break place;
            }
            let left =
                deadline.map_or(LONGEST, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(self.pause.min(left));
            self.pause = LONGEST.min(self.pause * 2);
        };
        self.pause = SHORTEST;
        let Place { lsn, sequence, payload_len } = place;
        let epoch = self.at.as_ref().map_or(0, |at| at.walk.epoch());
        let data = self.copied.payload(payload_len);
        Ok(Some(Watched { lsn, sequence, epoch, data }))
    }

    /// Where the next record is looked for: all below was handed out or passed over.
    pub fn next_lsn(&self) -> Lsn {
        self.at.as_ref().map_or(self.from, |at| at.lsn().max(self.from))
    }

    /// Whether the log was closed behind what was handed out last: nothing comes before it is
    /// opened again. A writer that died did not close it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The next record that is there, copied; `None` if there is none yet.
    fn step(&mut self) -> Result<Option<Place>> {
        let mut turns = 0;
        loop {
            let Some(at) = &mut self.at else {
                if self.seek()? {
                    continue;
                }
                return Ok(None);
            };
            let (lsn, ordinal) = (at.lsn(), at.walk.at().ordinal);
            let stop = match at.frame(&mut self.copied)? {
                Ok((kind, content, payload_len)) => {
                    self.is_closed =
                        matches!(content, Content::State(s) if s.reason == Reason::Close);
                    if matches!(kind, Kind::Record | Kind::More | Kind::Last) && lsn >= self.from {
                        self.handed_out = at.lsn();
                        let sequence = at.first.begin.first_sequence + u64::from(ordinal);
                        return Ok(Some(Place { lsn, sequence, payload_len }));
                    }
                    continue;
                }
                Err(stop) => stop,
            };
            if self.follow(stop)? {
                continue;
            }
            turns += 1; // each may take long, and the caller has a deadline
            if turns > MOST_TURNS || !self.turn(stop)? {
                return Ok(None);
            }
        }
    }

    /// The log as it is now, if there is one.
    fn found(&self) -> Result<Option<Box<Found>>> {
        match look::look(&*self.storage, Verify::Tail, &Listener::default())? {
            Directory::Log(found) => Ok(Some(found)),
            Directory::Empty { .. } => Ok(None),
        }
    }

    /// Begins in the file that holds the place to begin at. `false`: there is none yet.
    fn seek(&mut self) -> Result<bool> {
        let Some(found) = self.found()? else { return Ok(false) };
        let from = self.from.max(found.head);
        let base = |index| found.size.base(index);
        let above = found.links.partition_point(|link| base(link.header.index) <= from.0);
        self.note_links(&found);
        let Some(at) = self.enter_link(&found, above.saturating_sub(1))? else { return Ok(false) };
        self.at = Some(at);
        let asked = std::mem::replace(&mut self.from, from);
        if asked != Lsn::NONE && asked < from {
            return Err(Error::Truncated { lsn: asked, head: from });
        }
        Ok(true)
    }

    /// Goes on behind a seal, in the file that is known to follow or else in the one that it
    /// names, if that follows. Most of a log is read so.
    fn follow(&mut self, stop: Stop) -> Result<bool> {
        let (Some(at), Stop::Sealed(seal)) = (&self.at, stop) else { return Ok(false) };
        let known = self.position(at.file.header).and_then(|i| self.known.get(i + 1));
        let next = known.map_or((seal.next_index, seal.next_salt), |it| (it.index, it.salt));
        let next = self.enter(next.0, Some(next.1))?;
        let next = next.filter(|next| next.follows(at, at.lsn().0 + SEAL_SIZE));
        let is_there = next.is_some();
        if let Some(next) = next {
            self.at = Some(next);
        }
        Ok(is_there)
    }

    /// Finds out whether the log goes on elsewhere. `true`: there is something to read.
    fn turn(&mut self, stop: Stop) -> Result<bool> {
        let at = self.at.as_ref().expect("it stopped somewhere");
        let index = at.file.header.index;
        let names = match files::names(&*self.storage) {
            Ok(names) => names.segments,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(false); // a file went while they were listed
            }
            Err(error) => return Err(error),
        };
        let is_there = |wanted| names.iter().any(|&(index, ..)| index == wanted);
        // not another one of its name
        let is_listed = self.enter(index, Some(at.file.header.salt))?.is_some();
        let mut begun_above = None;
        for &(above, ..) in names.iter().rev().take_while(|&&(above, ..)| above > index) {
            if self.enter(above, None)?.is_some() {
                begun_above = Some(above);
                break;
            }
        }
        let is_usual = match stop {
            Stop::Unwritten => true,
            Stop::Sealed(seal) => is_there(seal.next_index),
            Stop::Unreadable(_) => false,
        };
        if is_listed && is_usual && begun_above.is_none() {
            self.noticed = None;
            return Ok(false); // at the tail
        }
        let notice = Notice { offset: at.walk.at().offset, stop, is_listed, begun_above };
        if self.noticed.as_ref() == Some(&notice) {
            return Ok(false); // nothing has changed since it was looked at
        }
        // it may have been written since it was found missing
        let at = self.at.as_mut().expect("as above");
        if at.peek(&mut self.copied)? != Err(stop) {
            return Ok(true);
        }
        let goes_on = self.look(stop)?;
        self.noticed = (!goes_on).then_some(notice);
        Ok(goes_on)
    }

    /// Looks at the whole directory for where the log goes on behind the place where reading
    /// stopped.
    fn look(&mut self, stop: Stop) -> Result<bool> {
        let Some(found) = self.found()? else { return Ok(false) };
        self.note_links(&found);
        let at = self.at.as_ref().expect("it stopped somewhere");
        let mine = self.position(at.file.header);
        let at = self.at.as_mut().expect("as above");
        let (header, offset) = (at.file.header, at.walk.at().offset);
        if found.uuid != header.uuid {
            let (path, other) = (at.file.path.clone(), self.storage.path(""));
            return Err(Error::Foreign { path, other });
        }
        let sealed = if let Stop::Sealed(_) = stop { SEAL_SIZE } else { 0 };
        let here = at.lsn().0 + sealed;
        let links = &found.links;
        let Some(next) = links.iter().position(|link| link.header.index > header.index) else {
            if mine.is_some() {
                at.until = u64::MAX;
                return Ok(false); // at the tail
            }
            // this file counts no more, and none follows it
            let last = links.last().expect("a log has a segment");
            let end = Lsn(found.size.base(last.header.index) + last.end.offset);
            self.at = None;
            self.from = self.from.max(end);
            return self.cut_away(end);
        };
        if let Some(mine) = mine {
            at.until = links[mine].end.offset;
            if offset + sealed < at.until {
                return match at.peek(&mut self.copied)? {
                    Err(Stop::Sealed(seal)) if stop != Stop::Sealed(seal) => Ok(true),
                    // what follows this file shows that there was more, and that it was durable
                    Err(stop) => Err(at.file.damaged(offset, recover::damage_at(stop))),
                    Ok(()) => Ok(true),
                };
            }
        }
        // one that was given up since is looked for no more
        let Some(behind) = self.enter_link(&found, next)? else { return Ok(true) };
        let at = self.at.as_mut().expect("as above");
        let end = behind.first.begin.predecessor_end;
        if behind.follows(at, end) && here < end {
            at.until = end - at.file.lsn(0);
            if at.peek(&mut self.copied)?.is_ok() {
                return Ok(true); // there is more in this file, which is held though it is given up
            }
        }
        self.at = Some(behind);
        if here < end && here < found.head.0 {
            self.from = self.from.max(found.head);
            return Err(Error::Truncated { lsn: Lsn(here), head: found.head });
        }
        self.cut_away(Lsn(end))
    }

    /// The log goes on behind `end`: tells it if more was handed out.
    fn cut_away(&mut self, end: Lsn) -> Result<bool> {
        let handed_out = std::mem::replace(&mut self.handed_out, end);
        if handed_out > end { Err(Error::CutAway { lsn: end }) } else { Ok(true) }
    }

    /// Takes in which files the log has, and where they end.
    fn note_links(&mut self, found: &Found) {
        let known = found.links.iter().map(|link| Known {
            index: link.header.index,
            salt: link.header.salt,
            until: link.end.offset,
        });
        self.known = known.collect();
        self.known.last_mut().expect("a log has a segment").until = u64::MAX; // it grows
    }

    /// Which of the files that are known to be the log's this one is.
    fn position(&self, header: SegmentHeader) -> Option<usize> {
        let name = (header.index, header.salt);
        self.known.binary_search_by_key(&name, |known| (known.index, known.salt)).ok()
    }

    /// The begin of a segment of the log.
    fn enter_link(&self, found: &Found, i: usize) -> Result<Option<At>> {
        let header = found.links[i].header;
        self.enter(header.index, Some(header.salt))
    }

    /// Opens a file at its begin. `None`: it has none yet, or is on its way elsewhere.
    fn enter(&self, index: u64, salt: Option<u64>) -> Result<Option<At>> {
        use std::io::ErrorKind::{NotFound, WouldBlock};
        let name = format::file_name(index);
        let path = self.storage.path(&name);
        let region = match self.storage.open(&name, Access::Read) {
            Err(error) if matches!(error.kind(), NotFound | WouldBlock) => return Ok(None),
            region => region.map_err(|e| Error::io("open", &path, e))?,
        };
        let len = region.map().len();
        let mut bytes = vec![0; len.min(START_LEN) as usize];
        region.copy(0, &mut bytes).map_err(|e| Error::io("read", &path, e))?;
        // what is wrong with it is told by those who look at it all
        let Ok(file) = File::read(path, index, &name, len, &bytes) else { return Ok(None) };
        let Some(first) = file.first else { return Ok(None) };
        if salt.is_some_and(|salt| salt != file.header.salt) {
            return Ok(None);
        }
        let until = self.position(file.header).map_or(u64::MAX, |i| self.known[i].until);
        Ok(Some(At::begin(file, first, region, until)))
    }
}
