//! What is known of a log from outside, and whether what was recovered agrees.
//!
//! Knows nothing of how the log works: what was appended where, what was
//! acknowledged, what was given up, and between which ticks of one clock.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mapwal::{Batch, Error, Lsn, Record, Wal};

use crate::common::{Random, abandon};

/// The bytes that a frame takes around its record.
const FRAME_HEADER: u64 = 16;

/// The bytes of the record with this number.
pub(crate) fn contents(id: u64, len: usize) -> Vec<u8> {
    let mut random = Random(id);
    let first = id.to_le_bytes().into_iter();
    let rest = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten();
    first.chain(rest).take(len).collect()
}

/// The bytes from a record's beginning to the next.
pub(crate) fn frame_size(len: usize) -> u64 {
    (FRAME_HEADER + len as u64).next_multiple_of(8)
}

/// When something was called, and when it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Span {
    /// Before everything else.
    const ONCE: Span = Span { from: 0, to: 0 };
    const SOME_TIME: Span = Span { from: 0, to: u64::MAX };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// The record with this number. `more`: its batch goes on.
    Record {
        id: u64,
        len: usize,
        more: bool,
    },
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) lsn: u64,
    pub(crate) what: What,
    /// Once it is known.
    pub(crate) sequence: Option<u64>,
    pub(crate) span: Span,
}

/// A call of `truncate_after`.
#[derive(Clone, Copy, Debug)]
struct Cut {
    behind: u64,
    span: Span,
    is_done: bool,
}

/// What is known of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) appended: Vec<Appended>,
    /// Records of which it is not known where they are, or whether.
    limbo: BTreeMap<u64, (usize, Span)>,
    /// Closures that panicked: as many abandoned claims, somewhere.
    panics: usize,
    /// Acknowledged: every record below is durable.
    pub(crate) durable: u64,
    /// The head is not lower.
    head: u64,
    /// Nobody wanted it higher.
    head_tried: u64,
    cuts: Vec<Cut>,
    /// The marks that syncs returned.
    syncs: Vec<(u64, Span)>,
}

/// What writers say to it while they write.
#[derive(Debug, Default)]
pub(crate) struct History {
    clock: AtomicU64,
    past: Mutex<Past>,
}

impl History {
    pub(crate) fn new(past: Past) -> Self {
        History { clock: AtomicU64::new(1), past: Mutex::new(past) }
    }

    pub(crate) fn into_past(self) -> Past {
        self.past.into_inner().unwrap()
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// What `call` returns, and when it was called.
    pub(crate) fn time<T>(&self, call: impl FnOnce() -> T) -> (T, Span) {
        let from = self.now();
        let done = call();
        (done, Span { from, to: self.now() })
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Past)) {
        change(&mut self.past.lock().unwrap());
    }

    /// Appends a record.
    pub(crate) fn append(&self, wal: &Wal, id: u64, len: usize) -> Result<(), Error> {
        let (lsn, span) = self.time(|| wal.append(&contents(id, len)));
        let lsn = lsn?;
        self.note(|past| past.add(&[(id, len)], lsn, span));
        Ok(())
    }

    /// Appends a record that is built in place.
    pub(crate) fn append_with(&self, wal: &Wal, id: u64, len: usize) -> Result<(), Error> {
        let bytes = contents(id, len);
        let (lsn, span) = self.time(|| wal.append_with(len, |place| place.copy_from_slice(&bytes)));
        let lsn = lsn?;
        self.note(|past| past.add(&[(id, len)], lsn, span));
        Ok(())
    }

    /// Claims a place and gives it up.
    pub(crate) fn abandon(&self, wal: &Wal, len: usize) -> Result<(), Error> {
        abandon(wal, len)?;
        self.note(Past::add_abandoned);
        Ok(())
    }

    /// Appends a batch; returns where its last record is.
    pub(crate) fn append_batch(&self, wal: &Wal, records: &[(u64, usize)]) -> Result<Lsn, Error> {
        let bytes: Vec<_> = records.iter().map(|&(id, len)| contents(id, len)).collect();
        let slices: Vec<_> = bytes.iter().map(Vec::as_slice).collect();
        let (lsn, span) = self.time(|| wal.append_batch(&slices).map(Batch::last));
        let lsn = lsn?;
        self.note(|past| past.add(records, lsn, span));
        Ok(lsn)
    }

    /// Gives up what is before a place. Whoever `is_alone` knows what was appended before.
    pub(crate) fn truncate_before(&self, wal: &Wal, lsn: Lsn, is_alone: bool) -> Result<(), Error> {
        let moves = lsn > wal.head_lsn();
        self.note(|past| past.tries_head(lsn));
        let (done, span) = self.time(|| wal.truncate_before(lsn));
        done?;
        self.note(|past| {
            past.has_head(lsn);
            past.acknowledge(lsn.as_u64());
            if is_alone && moves {
                past.acknowledge_all_before(span);
            }
        });
        Ok(())
    }

    /// Commits a record of at least the eight bytes that say which one it is: where a failed
    /// commit put it is not known.
    pub(crate) fn commit(&self, wal: &Wal, id: u64, len: usize) -> Result<(), Error> {
        let len = len.max(8);
        let (done, span) = self.time(|| wal.commit(&contents(id, len)));
        self.note(|past| match done {
            Ok(lsn) => {
                past.add(&[(id, len)], lsn, span);
                past.acknowledge(lsn.as_u64() + 1);
            }
            Err(_) => past.add_unknown(id, len, span),
        });
        done.map(drop)
    }

    /// Some record that was appended, rather a late one.
    pub(crate) fn some_record(&self, random: &mut Random) -> Option<Appended> {
        let past = self.past.lock().unwrap();
        let count = past.appended.len() as u64;
        let back = random.below(count.max(1));
        let back = if random.one_in(2) { back.min(random.below(10)) } else { back };
        past.appended.get(count.checked_sub(back + 1)? as usize).copied()
    }
}

impl Past {
    /// Records that stand one behind the other; `lsn` is the last one's place.
    pub(crate) fn add(&mut self, records: &[(u64, usize)], lsn: Lsn, span: Span) {
        let (_, last_len) = records[records.len() - 1];
        let sizes = records.iter().map(|&(_, len)| frame_size(len));
        let mut lsn = lsn.as_u64() + frame_size(last_len) - sizes.sum::<u64>();
        for (i, &(id, len)) in records.iter().enumerate() {
            let more = i + 1 < records.len();
            self.appended.push(Appended {
                lsn,
                what: What::Record { id, len, more },
                sequence: None,
                span,
            });
            lsn += frame_size(len);
        }
    }

    /// A record that may be there, or not.
    pub(crate) fn add_unknown(&mut self, id: u64, len: usize, span: Span) {
        self.limbo.insert(id, (len, span));
    }

    pub(crate) fn add_abandoned(&mut self) {
        self.panics += 1;
    }

    /// Everything below `lsn` was acknowledged.
    pub(crate) fn acknowledge(&mut self, lsn: u64) {
        self.durable = self.durable.max(lsn);
    }

    /// What had been appended when `span` began was acknowledged in it.
    pub(crate) fn acknowledge_all_before(&mut self, span: Span) {
        let before = self.appended.iter().filter(|it| it.span.to < span.from);
        self.durable = before.map(|it| it.lsn + 1).chain([self.durable]).max().unwrap_or(0);
    }

    pub(crate) fn tries_head(&mut self, lsn: Lsn) {
        self.head_tried = self.head_tried.max(lsn.as_u64());
    }

    pub(crate) fn has_head(&mut self, lsn: Lsn) {
        self.head = self.head.max(lsn.as_u64());
    }

    pub(crate) fn cut_behind(&mut self, lsn: u64, span: Span, is_done: bool) {
        self.cuts.push(Cut { behind: lsn, span, is_done });
    }

    pub(crate) fn note_sync(&mut self, durable: Lsn, span: Span) {
        self.acknowledge(durable.as_u64());
        self.syncs.push((durable.as_u64(), span));
    }

    /// Whether all that had been appended before a sync is below the mark it returned.
    pub(crate) fn syncs_cover_what_was_before(&self) -> Result<(), String> {
        for &(durable, span) in &self.syncs {
            let mut before = self.appended.iter().filter(|it| it.span.to < span.from);
            if let Some(it) = before.find(|it| it.lsn >= durable && !self.may_be_cut(it)) {
                return Err(format!("sync returned {durable:#x}, below {it:x?}"));
            }
        }
        Ok(())
    }

    fn may_be_cut(&self, it: &Appended) -> bool {
        self.cuts.iter().any(|cut| it.lsn > cut.behind && it.span.from < cut.span.to)
    }

    fn is_cut(&self, it: &Appended) -> bool {
        let cuts = self.cuts.iter().filter(|cut| cut.is_done);
        cuts.clone().any(|cut| it.lsn > cut.behind && it.span.to < cut.span.from)
    }

    /// Compares the log with what is known of it. `lossy`: what was not acknowledged
    /// may be missing at the end.
    pub(crate) fn check(&self, wal: &Wal, lossy: bool) -> Result<Found, String> {
        let head = wal.head_lsn().as_u64();
        if head < self.head {
            return Err(format!("the head is {head:#x}, and was {:#x}", self.head));
        }
        let mut known: Vec<&Appended> = self.appended.iter().collect();
        known.sort_by_key(|it| it.lsn);
        let given_up = known.iter().find(|it| (self.head_tried..head).contains(&it.lsn));
        if let Some(it) = given_up.filter(|it| !self.may_be_cut(it)) {
            return Err(format!("the head is {head:#x}, above {it:x?}"));
        }
        let mut known = known.into_iter().filter(|it| it.lsn >= head).peekable();
        let mut found =
            Found { appended: Vec::new(), limbo: self.limbo.clone(), panics: self.panics };
        let reader = wal.reader();
        for record in reader.iter().with_abandoned() {
            let record = record.map_err(|error| format!("reading: {error}"))?;
            let lsn = record.lsn().as_u64();
            while let Some(missing) = known.next_if(|it| it.lsn < lsn) {
                if !self.may_be_cut(missing) {
                    return Err(format!("{missing:x?} is missing before {lsn:#x}"));
                }
            }
            let it = match known.next_if(|it| it.lsn == lsn) {
                Some(it) => *it,
                None => found.identify(&record)?,
            };
            if !it.is(&record) {
                return Err(format!("{record:?} should be {it:x?}"));
            }
            if self.is_cut(&it) {
                return Err(format!("{record:?} was cut away and is back"));
            }
            let it = Appended { sequence: Some(record.sequence()), ..it };
            if found.appended.last().is_some_and(|last| !last.can_precede(&it)) {
                return Err(format!("{it:x?} is behind {:x?}", found.appended.last()));
            }
            found.appended.push(it);
        }
        if found.appended.last().is_some_and(|last| last.ends_inside_batch()) {
            return Err(format!("half a batch: {:x?}", found.appended.last()));
        }
        for missing in known {
            if !self.may_be_cut(missing) && (!lossy || missing.lsn < self.durable) {
                return Err(format!("{missing:x?} is missing at the end"));
            }
        }
        Ok(found)
    }

    /// Adds what was learnt by looking at the log while it was open.
    pub(crate) fn learn(&mut self, found: Found) {
        let places: HashSet<u64> = found.appended.iter().map(|it| it.lsn).collect();
        self.appended.retain(|it| !places.contains(&it.lsn));
        self.appended.extend(found.appended);
        (self.limbo, self.panics) = (found.limbo, found.panics);
    }
}

/// What a look at a log found.
pub(crate) struct Found {
    pub(crate) appended: Vec<Appended>,
    limbo: BTreeMap<u64, (usize, Span)>,
    panics: usize,
}

impl Found {
    /// A record, or an abandoned claim, whose place was not known.
    fn identify(&mut self, record: &Record<'_>) -> Result<Appended, String> {
        let lsn = record.lsn().as_u64();
        let unknown = || format!("{record:?} was never appended, or is there twice");
        if record.is_abandoned() {
            self.panics = self.panics.checked_sub(1).ok_or_else(unknown)?;
            let span = Span::SOME_TIME;
            return Ok(Appended { lsn, what: What::Abandoned, sequence: None, span });
        }
        let id = record.data().first_chunk().map(|id| u64::from_le_bytes(*id));
        let known = id.and_then(|id| self.limbo.remove_entry(&id));
        let (id, (len, span)) = known.ok_or_else(unknown)?;
        let what = What::Record { id, len, more: false };
        Ok(Appended { lsn, what, sequence: None, span })
    }

    /// What is known once a log was opened that holds this: all of it is durable, and
    /// nothing else is ever there.
    pub(crate) fn reopened(self, wal: &Wal) -> Past {
        let once = |it| Appended { span: Span::ONCE, ..it };
        let appended: Vec<_> = self.appended.into_iter().map(once).collect();
        let durable = appended.last().map_or(0, |it| it.lsn + 1);
        let head = wal.head_lsn().as_u64();
        Past { appended, durable, head, head_tried: head, ..Past::default() }
    }
}

impl Appended {
    fn is(&self, record: &Record<'_>) -> bool {
        let same = match self.what {
            What::Abandoned => record.is_abandoned(),
            What::Record { id, len, more } => {
                !record.is_abandoned()
                    && record.data() == contents(id, len)
                    && record.has_more_of_its_batch() == more
            }
        };
        same && self.sequence.is_none_or(|known| known == record.sequence())
    }

    fn ends_inside_batch(&self) -> bool {
        matches!(self.what, What::Record { more: true, .. })
    }

    /// Whether `next` may be what the log holds right behind this.
    fn can_precede(&self, next: &Appended) -> bool {
        let place = match self.what {
            What::Record { len, more: true, .. } => next.lsn == self.lsn + frame_size(len),
            _ => next.lsn > self.lsn,
        };
        place && next.sequence == self.sequence.map(|before| before + 1)
    }
}
