//! A careful user of a log on a disk that fails: tries once more what a failure was the
//! reason of, opens the log anew when it says that it is over, and notes what was
//! acknowledged. Says what is wrong when the log does otherwise than it promised.

use std::sync::atomic::{AtomicU64, Ordering};

use mapwal::sim::Disk;
use mapwal::{Error, Lsn, Options, OwnedRecord, Wal};

use crate::common::SEGMENT;
use crate::model::{Found, History, Past};

/// What is to fail of the disk, from which call on, counted from the user's beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// The call, once.
    Once(u64),
    /// The call, and all of its kind behind it.
    Kind(u64),
    /// All calls from there on that would change the disk.
    Lost(u64),
}

impl Fault {
    fn call(self) -> Option<u64> {
        match self {
            Fault::None => None,
            Fault::Once(call) | Fault::Kind(call) | Fault::Lost(call) => Some(call),
        }
    }

    fn is_lasting(self) -> bool {
        matches!(self, Fault::Kind(_) | Fault::Lost(_))
    }
}

/// A disk with a log on it, and what is known of that.
pub(crate) struct Scene {
    pub(crate) disk: Disk,
    pub(crate) past: Past,
}

pub(crate) struct User {
    pub(crate) disk: Disk,
    pub(crate) options: Options,
    /// `None` while the disk refuses to open it.
    wal: Option<Wal>,
    history: History,
    next_id: AtomicU64,
    held: Vec<Held>,
    fault: Fault,
    /// The disk's calls before this user's.
    calls_before: u64,
    /// Errors that a failure was the reason of.
    pub(crate) refusals: u64,
    /// A failure may be met by so many at once.
    pub(crate) threads: u64,
}

/// A record that is held whatever happens to the log.
struct Held {
    record: OwnedRecord,
    bytes: Vec<u8>,
}

impl User {
    /// Begins to use what is on a disk, which fails as `fault` says from now on.
    pub(crate) fn new(scene: Scene, options: Options, fault: Fault) -> Self {
        let Scene { disk, past } = scene;
        match fault {
            Fault::None => {}
            Fault::Once(call) => disk.fail_call(call),
            Fault::Kind(call) => disk.fail_from_call(call),
            Fault::Lost(call) => disk.lose_after(call),
        }
        let calls_before = disk.calls();
        User {
            disk,
            options,
            wal: None,
            history: History::new(past),
            next_id: AtomicU64::new(calls_before << 32), // others than an earlier user's
            held: Vec::new(),
            fault,
            calls_before,
            refusals: 0,
            threads: 1,
        }
    }

    /// The calls that were made so far.
    pub(crate) fn calls(&self) -> u64 {
        self.disk.calls() - self.calls_before
    }

    fn has_met_fault(&self) -> bool {
        self.fault.call().is_some_and(|call| self.calls() > call)
    }

    /// Has `what` done with the log. What fails of it because the disk did is tried again,
    /// which is in vain as long as the disk goes on failing, and at no other time.
    pub(crate) fn call(
        &mut self,
        what: impl Fn(&Hand<'_>) -> Result<(), Error>,
    ) -> Result<(), String> {
        for _ in 0..=self.threads {
            if self.wal.is_none() {
                self.open()?;
            }
            let Some(hand) = self.hand() else { return Ok(()) };
            match what(&hand) {
                Ok(()) => return Ok(()),
                Err(error) => self.is_refused(error)?,
            }
        }
        if self.fault.is_lasting() { Ok(()) } else { Err("it fails, and nothing does".to_owned()) }
    }

    /// The same by several threads at once, each of which goes on until it is refused for
    /// good.
    pub(crate) fn call_from_threads(
        &mut self,
        calls: u64,
        what: impl Fn(&Hand<'_>, u64, u64) -> Result<(), Error> + Sync,
    ) -> Result<(), String> {
        if self.wal.is_none() {
            self.open()?;
        }
        let Some(hand) = self.hand() else { return Ok(()) };
        let work = |thread| {
            let errors = (0..calls).filter_map(|call| what(&hand, thread, call).err());
            errors.collect::<Vec<_>>()
        };
        let errors: Vec<Error> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|i| scope.spawn(move || work(i))).collect();
            threads.into_iter().flat_map(|it| it.join().expect("no panic")).collect()
        });
        let is_over = |error: &Error| matches!(error, Error::FlushFailed { .. });
        let (over, others): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_over);
        if others.len() as u64 > self.threads && !self.fault.is_lasting() {
            return Err(format!("one failure was met {} times: {others:?}", others.len()));
        }
        others.into_iter().try_for_each(|error| self.is_refused(error))?;
        over.into_iter().next().map_or(Ok(()), |error| self.is_refused(error))
    }

    fn hand(&self) -> Option<Hand<'_>> {
        let wal = self.wal.as_ref()?;
        let (history, next_id, is_alone) = (&self.history, &self.next_id, self.threads == 1);
        Some(Hand { wal, history, next_id, is_alone })
    }

    /// Whether the failure that there is may be why.
    fn is_refused(&mut self, error: Error) -> Result<(), String> {
        self.refusals += 1;
        if !self.has_met_fault() {
            return Err(format!("nothing failed: {error}"));
        }
        match error {
            Error::FlushFailed { .. } => {
                self.is_over()?;
                self.leave()
            }
            Error::Io { .. } => Ok(()),
            // what could not be given up takes its room as long as that lasts
            Error::LogFull { .. } if self.fault.is_lasting() => Ok(()),
            error => Err(format!("refused: {error}")),
        }
    }

    /// A failed flush is told to everybody, with a mark that is not below what was
    /// acknowledged.
    fn is_over(&self) -> Result<(), String> {
        let wal = self.wal.as_ref().expect("it has just failed");
        let mut acknowledged = 0;
        self.history.note(|past| acknowledged = past.durable);
        for result in [wal.append(b"too late"), wal.sync(), wal.rotate().map(|()| Lsn::NONE)] {
            match result {
                Err(Error::FlushFailed { durable, .. }) if durable.as_u64() >= acknowledged => {}
                other => return Err(format!("of {acknowledged:#x} durable remained {other:x?}")),
            }
        }
        Ok(())
    }

    /// Opens the log, if the disk lets it.
    fn open(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            match self.options.clone().open_on(&self.disk) {
                Ok(wal) => {
                    if let Some(found) = self.look(&wal, false)? {
                        self.history = History::new(found.reopened(&wal));
                    }
                    self.wal = Some(wal);
                    return Ok(());
                }
                Err(Error::Io { .. } | Error::FlushFailed { .. }) if self.has_met_fault() => {
                    self.refusals += 1;
                }
                Err(error) => return Err(format!("opening is refused: {error}")),
            }
        }
        if self.fault.is_lasting() { Ok(()) } else { Err("refused twice".to_owned()) }
    }

    /// Compares the log with what is known of it; `None` if the disk does not let it be
    /// read.
    fn look(&self, wal: &Wal, lossy: bool) -> Result<Option<Found>, String> {
        let had_met_fault = self.has_met_fault();
        if had_met_fault && self.fault.is_lasting() {
            return Ok(None);
        }
        let look = || {
            let mut found = None;
            self.history.note(|past| found = Some(past.check(wal, lossy)));
            found.expect("just looked")
        };
        match look() {
            Ok(found) => Ok(Some(found)),
            Err(_) if self.has_met_fault() && !had_met_fault => match self.fault {
                Fault::Once(_) => look().map(Some), // it is there at the second look
                _ => Ok(None),
            },
            Err(wrong) => Err(wrong),
        }
    }

    /// Notes what the open log holds, which is all that it took.
    fn learn(&self) -> Result<(), String> {
        self.held_is_unchanged()?;
        let Some(wal) = &self.wal else { return Ok(()) };
        let found = self.look(wal, false).map_err(|wrong| format!("still open: {wrong}"))?;
        let mut done = Ok(());
        if let Some(found) = found {
            self.history.note(|past| {
                past.learn(found);
                done = past.syncs_cover_what_was_before();
            });
        }
        done
    }

    /// Lets go of the log without closing it.
    pub(crate) fn leave(&mut self) -> Result<(), String> {
        self.learn()?;
        self.wal = None;
        self.held_is_unchanged()
    }

    /// Closes the log, and opens it again.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        self.learn()?;
        if let Some(wal) = self.wal.take() {
            let next = wal.next_lsn();
            match wal.close() {
                Ok(()) => self.history.note(|past| past.acknowledge(next.as_u64())),
                Err(Error::Io { .. } | Error::FlushFailed { .. }) if self.has_met_fault() => {
                    self.refusals += 1;
                }
                Err(error) => return Err(format!("closing is refused: {error}")),
            }
        }
        self.held_is_unchanged()?;
        self.open()
    }

    /// Holds the `nth` record from the end, and some before it, for good.
    pub(crate) fn hold(&mut self, nth: usize) -> Result<(), String> {
        let Some(wal) = &self.wal else { return Ok(()) };
        let reader = wal.reader();
        for record in reader.backwards().skip(nth).take(5).filter_map(Result::ok) {
            self.held.push(Held { record: record.keep(), bytes: record.data().to_vec() });
        }
        Ok(())
    }

    fn held_is_unchanged(&self) -> Result<(), String> {
        match self.held.iter().find(|it| it.record.data() != it.bytes) {
            Some(it) => Err(format!("the held record at {} has changed", it.record.lsn())),
            None => Ok(()),
        }
    }

    /// The failure's end: from now on nothing is a reason to refuse anything. A device
    /// that was lost stays so for those who die with it.
    pub(crate) fn mend(&mut self) -> Result<(), String> {
        let has_failed = self.has_met_fault();
        if self.refusals > self.threads && has_failed && !self.fault.is_lasting() {
            return Err(format!("one failure was met {} times", self.refusals));
        }
        self.disk.mend();
        self.fault = Fault::None;
        self.learn()
    }

    /// Goes on with a log whose disk works again. It takes records, or says for good
    /// that it does not, and does when it was opened anew.
    pub(crate) fn goes_on(&mut self) -> Result<(), String> {
        assert_eq!(self.fault, Fault::None);
        if let Some(hand) = self.hand() {
            match hand.or_make_room(|| hand.commit(100)) {
                Ok(()) => {}
                Err(Error::FlushFailed { .. }) => {
                    self.is_over()?;
                    self.leave()?;
                }
                Err(error) => return Err(format!("the cause has gone, but not: {error}")),
            }
        }
        if self.wal.is_none() {
            self.open()?;
        }
        let hand = self.hand().expect("nothing fails");
        let works = [100, 2000, 30]
            .iter()
            .try_for_each(|&len| hand.or_make_room(|| hand.commit(len).and(hand.append(len))));
        works.map_err(|error| format!("it does not go on: {error}"))?;
        self.learn()
    }

    /// The end of the process, by a power cut or not; returns the disk, and what is known
    /// of it.
    pub(crate) fn die(mut self) -> Result<Scene, String> {
        self.disk.lose();
        self.leave()?;
        Ok(Scene { disk: self.disk, past: self.history.into_past() })
    }

    /// The end of a log that is closed.
    pub(crate) fn close(mut self) -> Result<Scene, String> {
        self.learn()?;
        let wal = self.wal.take().ok_or("it is not open")?;
        let next = wal.next_lsn();
        wal.close().map_err(|error| format!("closing: {error}"))?;
        self.history.note(|past| past.acknowledge(next.as_u64()));
        Ok(Scene { disk: self.disk, past: self.history.into_past() })
    }
}

/// The calls of an open log, noted as they return.
pub(crate) struct Hand<'u> {
    wal: &'u Wal,
    history: &'u History,
    next_id: &'u AtomicU64,
    is_alone: bool,
}

impl Hand<'_> {
    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) // a number of its own, no more
    }

    pub(crate) fn append(&self, len: usize) -> Result<(), Error> {
        self.history.append(self.wal, self.id(), len)
    }

    pub(crate) fn append_with(&self, len: usize) -> Result<(), Error> {
        self.history.append_with(self.wal, self.id(), len)
    }

    /// A claim that is abandoned, since its closure panics.
    pub(crate) fn abandon(&self, len: usize) -> Result<(), Error> {
        self.history.abandon(self.wal, len)
    }

    pub(crate) fn append_batch(&self, lens: &[usize]) -> Result<(), Error> {
        let records: Vec<_> = lens.iter().map(|&len| (self.id(), len)).collect();
        self.history.append_batch(self.wal, &records).map(drop)
    }

    pub(crate) fn commit(&self, len: usize) -> Result<(), Error> {
        self.history.commit(self.wal, self.id(), len)
    }

    /// A full log takes records again when those that it holds are given up.
    fn or_make_room(&self, what: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        match what() {
            Err(error) if error.is_full() => {
                self.truncate_before_all()?;
                what()
            }
            done => done,
        }
    }

    /// Appends until the log is full.
    pub(crate) fn fill(&self, len: usize) -> Result<(), Error> {
        for _ in 0..20 * SEGMENT as usize / len {
            match self.append(len) {
                Err(error) if error.is_full() => return Ok(()),
                done => done?,
            }
        }
        panic!("there is room for a log of twenty segments")
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        let (durable, span) = self.history.time(|| self.wal.sync());
        let durable = durable?;
        self.history.note(|past| past.note_sync(durable, span));
        Ok(())
    }

    pub(crate) fn rotate(&self) -> Result<(), Error> {
        self.wal.rotate()
    }

    /// Where the `nth` record from the end is, if there are as many.
    fn nth_last(&self, nth: usize) -> Result<Option<Lsn>, Error> {
        let reader = self.wal.reader();
        let record = reader.backwards().nth(nth).transpose()?;
        Ok(record.map(|record| record.lsn()))
    }

    pub(crate) fn sync_to(&self, nth: usize) -> Result<(), Error> {
        let Some(lsn) = self.nth_last(nth)? else { return Ok(()) };
        self.wal.sync_to(lsn)?;
        self.history.note(|past| past.acknowledge(lsn.as_u64() + 1));
        Ok(())
    }

    /// Gives up what is before the `nth` record from the end.
    pub(crate) fn truncate_before(&self, nth: usize) -> Result<(), Error> {
        self.nth_last(nth)?.map_or(Ok(()), |lsn| self.move_head(lsn))
    }

    pub(crate) fn truncate_before_all(&self) -> Result<(), Error> {
        self.move_head(self.wal.next_lsn())
    }

    fn move_head(&self, lsn: Lsn) -> Result<(), Error> {
        self.history.truncate_before(self.wal, lsn, self.is_alone)
    }

    /// Gives up what is behind the `nth` record from the end.
    pub(crate) fn truncate_after(&self, nth: usize) -> Result<(), Error> {
        let Some(lsn) = self.nth_last(nth)? else { return Ok(()) };
        self.cut(lsn.as_u64(), lsn.as_u64() + 1, || self.wal.truncate_after(lsn))
    }

    /// Gives up the `nth` record from the end, and what is behind it.
    pub(crate) fn truncate_from(&self, nth: usize) -> Result<(), Error> {
        let Some(lsn) = self.nth_last(nth)? else { return Ok(()) };
        self.cut(lsn.as_u64() - 1, lsn.as_u64(), || self.wal.truncate_from(lsn))
    }

    fn cut(
        &self,
        behind: u64,
        durable: u64,
        call: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (done, span) = self.history.time(call);
        self.history.note(|past| {
            past.cut_behind(behind, span, done.is_ok());
            if done.is_ok() {
                past.acknowledge(durable);
            }
        });
        done
    }
}
