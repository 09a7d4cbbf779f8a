//! Random work on a log, from one or several threads, that ends well or not.

use std::thread;

use mapwal::sim::Disk;
use mapwal::{Error, Lsn, Options, OwnedRecord, Verify, Wal};

use crate::common::Random;
use crate::model::{Appended, History, Past, What, frame_size};

pub(crate) const SEGMENT: u64 = 64 << 10;

/// One life of a log: from an opening to the next.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) seed: u64,
    pub(crate) threads: u64,
    /// Calls of each thread.
    pub(crate) calls: u64,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Close,
    Drop,
    /// The device goes away when this many calls have reached it, or at the end.
    Lost(u64),
}

/// Options as a random user has them.
pub(crate) fn options(random: &mut Random, is_alone: bool) -> Options {
    let spares = 1 + random.below(3) as usize;
    let background = !is_alone && !random.one_in(8);
    let mut options = Options::new().segment_size(SEGMENT).spares(spares).background(background);
    if random.one_in(4) {
        options = options.max_log_size(SEGMENT * (3 + random.below(6)));
    }
    if random.one_in(4) { options.verify(Verify::Tail) } else { options }
}

impl Life {
    pub(crate) fn random(random: &mut Random, end: End, is_alone: bool) -> Self {
        let threads = if is_alone { 1 } else { 1 + random.below(3) };
        let calls = 5 + random.below(60);
        Life { seed: random.next(), threads, calls, end }
    }

    /// Lives it, and returns what is known of the log afterwards.
    pub(crate) fn live(&self, disk: &Disk, wal: Wal, past: Past) -> Result<Past, String> {
        if let End::Lost(calls) = self.end {
            disk.lose_after(calls);
        }
        // who holds records keeps their files from being used again: not in each life
        let held = if self.seed % 4 == 0 { held(&wal) } else { Vec::new() };
        let history = History::new(past);
        thread::scope(|scope| {
            let writer = |number| Writer {
                wal: &wal,
                history: &history,
                random: Random(self.seed ^ number),
                is_alone: self.threads == 1,
            };
            let start = |number| {
                let mut writer = writer(number);
                scope.spawn(move || (0..self.calls).try_for_each(|_| writer.call()))
            };
            let threads: Vec<_> = (1..=self.threads).map(start).collect();
            let mut ends = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            ends.try_for_each(|end| end.or_else(Stop::into))
        })?;
        let mut past = history.into_past();
        // a call that was to fail once may be the first look's own
        let found = past.check(&wal, false).or_else(|_| past.check(&wal, false));
        let found = found.map_err(|wrong| format!("still open: {wrong}"))?;
        past.learn(found);
        past.syncs_cover_what_was_before()?;
        match self.end {
            End::Close => {
                if wal.close().is_ok() {
                    past.acknowledge(u64::MAX);
                }
            }
            End::Drop => drop(wal),
            End::Lost(_) => disk.lose(),
        }
        match held.iter().find(|(record, bytes)| record.data() != bytes) {
            Some((record, _)) => Err(format!("{record:?} was held and has changed")),
            None => Ok(past),
        }
    }
}

/// Some records of the log to hold, and what is in them.
fn held(wal: &Wal) -> Vec<(OwnedRecord, Vec<u8>)> {
    let reader = wal.reader();
    let lsns = reader.iter().step_by(7).map_while(Result::ok).map(|record| record.lsn());
    let records = lsns.filter_map(|lsn| wal.read(lsn).ok()); // or the disk was to fail
    records.map(|record| (record.clone(), record.data().to_vec())).collect()
}

/// Why a writer goes no further.
enum Stop {
    /// The log failed, as it may.
    Failed,
    Wrong(String),
}

impl From<Stop> for Result<(), String> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed => Ok(()),
            Stop::Wrong(what) => Err(what),
        }
    }
}

struct Writer<'a> {
    wal: &'a Wal,
    history: &'a History,
    random: Random,
    is_alone: bool,
}

impl Writer<'_> {
    /// One call of the log.
    fn call(&mut self) -> Result<(), Stop> {
        let (call, done) = match self.random.below(100) {
            0..40 => ("append", self.append()),
            40..50 => ("append_batch", self.append_batch()),
            50..57 => ("append_with", self.append_with()),
            57..60 => ("append_with", self.append_with_panic()),
            60..75 => ("commit", self.commit()),
            75..82 => ("sync", self.sync()),
            82..88 => ("sync_to", self.sync_to()),
            88..91 => ("rotate", self.wal.rotate()),
            91..96 => ("truncate_before", self.truncate_before()),
            _ => ("truncate_after", self.truncate_after()),
        };
        match done {
            Ok(()) => Ok(()),
            Err(Error::FlushFailed { .. }) => Err(self.has_failed()),
            // full, or a record that this log's limit never leaves room for
            Err(error) if error.is_full() || matches!(error, Error::TooLarge { .. }) => {
                self.truncate_before().or_else(|error| self.allow("truncate_before", error))
            }
            Err(error) => self.allow(call, error),
        }
    }

    /// Errors that a disk that fails is the reason of, and those of places that
    /// another thread has given up meanwhile.
    fn allow(&self, call: &str, error: Error) -> Result<(), Stop> {
        match error {
            Error::FlushFailed { .. } => Err(self.has_failed()),
            Error::Io { .. }
            | Error::LogFull { .. }
            | Error::CutAway { .. }
            | Error::Truncated { .. } => Ok(()),
            error => Err(Stop::Wrong(format!("{call}: {error}"))),
        }
    }

    /// A failed flush is remembered by every call.
    fn has_failed(&self) -> Stop {
        let failed = |result| matches!(result, Err(Error::FlushFailed { .. }));
        if failed(self.wal.append(b"too late")) && failed(self.wal.sync()) {
            Stop::Failed
        } else {
            Stop::Wrong("a failed flush was forgotten".to_owned())
        }
    }

    fn len(&mut self) -> usize {
        let len = match self.random.below(40) {
            0 => SEGMENT + self.random.below(2 * SEGMENT),
            1..4 => self.random.below(20_000),
            4..10 => self.random.below(3000),
            // often the same, so that one frame may stand where another stood
            _ => self.random.pick(&[0, 1, 24, 100, 100, 500, 1000, 4000]),
        };
        len as usize
    }

    fn append(&mut self) -> Result<(), Error> {
        let (id, len) = (self.random.next(), self.len());
        self.history.append(self.wal, id, len)
    }

    fn append_batch(&mut self) -> Result<(), Error> {
        let count = 1 + self.random.below(5);
        let records: Vec<_> = (0..count).map(|_| (self.random.next(), self.len())).collect();
        let lsn = self.history.append_batch(self.wal, &records)?;
        if self.random.one_in(3) {
            // any of them makes all of them durable
            let before = &records[..records.len() - 1];
            let sizes: u64 = before.iter().map(|&(_, len)| frame_size(len)).sum();
            self.wal.sync_to(Lsn::from_u64(lsn.as_u64() - sizes))?;
            self.history.note(|past| past.acknowledge(lsn.as_u64() + 1));
        }
        Ok(())
    }

    fn append_with(&mut self) -> Result<(), Error> {
        let (id, len) = (self.random.next(), self.len());
        self.history.append_with(self.wal, id, len)
    }

    fn append_with_panic(&mut self) -> Result<(), Error> {
        let len = self.len();
        self.history.abandon(self.wal, len)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let (id, len) = (self.random.next(), self.len());
        self.history.commit(self.wal, id, len)
    }

    fn sync(&mut self) -> Result<(), Error> {
        let (durable, span) = self.history.time(|| self.wal.sync());
        let durable = durable?;
        self.history.note(|past| {
            past.note_sync(durable, span);
        });
        Ok(())
    }

    fn sync_to(&mut self) -> Result<(), Error> {
        let Some(record) = self.history.some_record(&mut self.random) else { return Ok(()) };
        self.wal.sync_to(Lsn::from_u64(record.lsn))?;
        self.history.note(|past| past.acknowledge(record.lsn + 1));
        Ok(())
    }

    fn truncate_before(&mut self) -> Result<(), Error> {
        let record = self.history.some_record(&mut self.random);
        let lsn = match record {
            Some(record) if !self.random.one_in(6) => Lsn::from_u64(record.lsn),
            _ => self.wal.next_lsn(),
        };
        match self.history.truncate_before(self.wal, lsn, self.is_alone) {
            Err(Error::InsideBatch { .. }) => Ok(()),
            done => done,
        }
    }

    fn truncate_after(&mut self) -> Result<(), Error> {
        let Some(record) = self.history.some_record(&mut self.random) else { return Ok(()) };
        let Appended { lsn, what, .. } = record;
        if matches!(what, What::Abandoned) {
            return Ok(());
        }
        let (done, span) = self.history.time(|| self.wal.truncate_after(Lsn::from_u64(lsn)));
        self.history.note(|past| match done {
            Ok(()) => {
                past.cut_behind(lsn, span, true);
                past.acknowledge(lsn + 1);
            }
            Err(Error::Io { .. } | Error::FlushFailed { .. }) => {
                past.cut_behind(lsn, span, false);
            }
            Err(_) => {}
        });
        match done {
            Err(Error::InsideBatch { .. }) => Ok(()),
            done => done,
        }
    }
}
