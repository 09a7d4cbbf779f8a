//! What is done to a log until its disk fails, and is opened again: promises P2, P3 and P10 of
//! `docs/guarantees.md`.
//!
//! One thread uses the log, beside the log's own. What it must hold is kept by `expected`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use arbitrary::Arbitrary;
use mapwal::sim::Disk;
use mapwal::{Error, FlushMethod, Lsn, Options, Result, Verify, Wal};

use crate::expected::{Expected, Item, compare, read, settle};
use crate::format::{FIRST_FRAME, FRAME_HEADER, SEGMENT};

const MAX_LIVES: usize = 4;
const MAX_OPERATIONS: usize = 48;
const MAX_BATCH: usize = 8;
/// The call that is to fail is one of the next so many.
const CALLS: u64 = 64;
/// The bytes at the end of a segment that records leave alone.
const RESERVE: u64 = 256;

/// A log that lives a few times.
#[derive(Arbitrary, Debug)]
pub struct Lives {
    /// The disk takes few segments, or as many as there are.
    capacity: Option<u8>,
    lives: Vec<Life>,
}

/// From one opening to the next.
#[derive(Arbitrary, Debug)]
struct Life {
    tail: bool,
    file: bool,
    spares: u8,
    max_segments: Option<u8>,
    failing: Failing,
    operations: Vec<Operation>,
    end: End,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Failing {
    what: What,
    /// Already while the log is opened.
    early: bool,
    after: u8,
}

#[derive(Arbitrary, Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Nothing,
    /// Once.
    Call,
    /// Once.
    Flush,
    /// Once.
    Names,
    /// For good.
    Device,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Append(Size),
    Commit(Size),
    Batch(Vec<Size>),
    /// Built in place, by a closure that may panic.
    With(Size, bool),
    Sync,
    SyncTo(u8),
    Rotate,
    TruncateBefore(u8),
    TruncateAll,
    TruncateAfter(u8),
    TruncateFrom(u8),
    Read(u8),
    /// What is left of a segment, or a little more or less.
    Fill(i8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Small(u8),
    Medium(u16),
    /// What a segment holds, or a little more or less.
    Segment(i8),
}

#[derive(Arbitrary, Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Close,
    Drop,
    /// Power is cut, and this seed says what is left.
    Crash(u16),
}

/// A disk, and whether it was told to fail since it was made.
struct Failable {
    disk: Disk,
    may_fail: bool,
}

impl Lives {
    /// Lives them all.
    pub fn live(&self) {
        let mut on = Failable { disk: Disk::new(), may_fail: false };
        if let Some(segments) = self.capacity {
            on.disk.capacity(SEGMENT * (3 + u64::from(segments % 8)));
        }
        let mut possible = vec![Expected::new()];
        let mut lossy = false;
        for (i, life) in self.lives.iter().take(MAX_LIVES).enumerate() {
            lossy = life.live(&mut on, &mut possible, lossy, i as u8);
        }
        on.open_at_last().inspect(|wal| settle(wal, &mut possible, lossy)).expect("refused");
    }
}

impl Life {
    /// Returns whether what was not durable may be lost of what is possible.
    fn live(
        &self,
        on: &mut Failable,
        possible: &mut Vec<Expected>,
        mut lossy: bool,
        id: u8,
    ) -> bool {
        if self.failing.early {
            on.fail(self.failing);
        }
        let opened = self.options().open_on(&on.disk).or_else(|error| {
            on.is_to_blame_for(&error);
            if self.failing.what == What::Device {
                on.crash(self.failing.after.into());
                lossy = true;
            }
            on.open_at_last()
        });
        let wal = opened.unwrap_or_else(|error| panic!("refused: {error}"));
        on.pass_failing_calls();
        settle(&wal, possible, lossy);
        if !self.failing.early {
            on.fail(self.failing);
        }
        let expected = possible.remove(0);
        let mut user =
            User { wal: &wal, expected, tags: (id..=u8::MAX).step_by(MAX_LIVES).cycle() };
        for operation in self.operations.iter().take(MAX_OPERATIONS) {
            let before = user.expected.clone();
            match user.run(operation) {
                Ok(()) => {}
                Err(error) if error.is_full() || is_about_the_place(&error) => {
                    user.expected = before;
                }
                Err(error) => {
                    on.is_to_blame_for(&error);
                    // it was done, or not
                    possible.push(before);
                    break;
                }
            }
        }
        let expected = user.expected;
        if possible.is_empty() {
            match read(&wal) {
                Ok(found) => compare(&found, &expected, false).expect("as it was told"),
                Err(error) => on.is_to_blame_for(&error),
            }
        }
        possible.push(expected);
        self.end(on, wal, possible)
    }

    fn end(&self, on: &mut Failable, wal: Wal, possible: &mut [Expected]) -> bool {
        match self.end {
            End::Close => match wal.close() {
                Ok(()) => possible.iter_mut().for_each(Expected::all_is_durable),
                Err(error) => on.is_to_blame_for(&error),
            },
            End::Drop => drop(wal),
            End::Crash(seed) => {
                on.disk.lose();
                drop(wal);
                on.crash(seed.into());
                return true;
            }
        }
        let is_lost = self.failing.what == What::Device;
        if is_lost {
            on.crash(self.failing.after.into());
        }
        is_lost
    }

    fn options(&self) -> Options {
        let options = Options::new()
            .segment_size(SEGMENT)
            .spares(1 + usize::from(self.spares % 3))
            .verify(if self.tail { Verify::Tail } else { Verify::All })
            .flush_method(if self.file { FlushMethod::File } else { FlushMethod::Range });
        match self.max_segments {
            Some(segments) => options.max_log_size(SEGMENT * (3 + u64::from(segments % 8))),
            None => options,
        }
    }
}

impl Failable {
    fn fail(&mut self, failing: Failing) {
        let after = u64::from(failing.after) % CALLS;
        match failing.what {
            What::Nothing => return,
            What::Call => self.disk.fail_call(after),
            What::Flush => self.disk.fail_flush(after),
            What::Names => self.disk.fail_sync_names(),
            What::Device => self.disk.lose_after(after),
        }
        self.may_fail = true;
    }

    /// What power cuts leave fails no more.
    fn crash(&mut self, seed: u64) {
        *self = Failable { disk: self.disk.crash(seed), may_fail: false };
    }

    fn is_to_blame_for(&self, error: &Error) {
        let is = matches!(error, Error::Io { .. } | Error::FlushFailed { .. });
        assert!(is && self.may_fail, "{error}");
    }

    /// Opens a log on a disk that may still fail once for each life.
    fn open_at_last(&self) -> Result<Wal> {
        let open = || Options::new().segment_size(SEGMENT).open_on(&self.disk);
        (0..MAX_LIVES).find_map(|_| open().ok()).map_or_else(open, Ok)
    }

    /// Makes the calls that are to fail, so that reading does not meet them, on a disk that is
    /// locked.
    fn pass_failing_calls(&self) {
        for _ in 0..if self.may_fail { CALLS } else { 1 } {
            assert!(Options::new().open_on(&self.disk).is_err(), "two writers");
        }
    }
}

/// Who uses a log.
struct User<'a, Tags> {
    wal: &'a Wal,
    expected: Expected,
    /// What records are made of.
    tags: Tags,
}

impl<Tags: Iterator<Item = u8>> User<'_, Tags> {
    /// Where it fails, what is expected afterwards is what there is if it was done all the same.
    fn run(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Append(size) => self.append(size.bytes()),
            Operation::Fill(more) => {
                let used = self.wal.next_lsn().as_u64() % SEGMENT + FRAME_HEADER as u64 + RESERVE;
                let left = SEGMENT.saturating_sub(used).saturating_add_signed((*more).into());
                self.append(left as usize)
            }
            Operation::Commit(size) => self.commit(size.bytes()),
            Operation::Batch(sizes) => self.batch(sizes),
            Operation::With(size, panics) => self.append_with(size.bytes(), *panics),
            Operation::Sync => {
                self.wal.sync()?;
                self.expected.all_is_durable();
                Ok(())
            }
            Operation::SyncTo(n) => self.at(*n, |wal, lsn| wal.sync_to(lsn), Expected::is_durable),
            Operation::Rotate => self.wal.rotate(),
            Operation::TruncateBefore(n) => {
                self.at(*n, |wal, lsn| wal.truncate_before(lsn), Expected::begins_at)
            }
            Operation::TruncateAll => {
                let next = self.wal.next_lsn();
                let done = self.wal.truncate_before(next);
                self.expected.begins_behind(next.as_u64());
                done
            }
            Operation::TruncateAfter(n) => {
                self.at(*n, |wal, lsn| wal.truncate_after(lsn), Expected::ends_with)
            }
            Operation::TruncateFrom(n) => {
                self.at(*n, |wal, lsn| wal.truncate_from(lsn), Expected::ends_before)
            }
            Operation::Read(n) => self.read(*n),
        }
    }

    /// Does something to the record that is the `n`th from the end, round and round.
    fn at(
        &mut self,
        n: u8,
        call: impl FnOnce(&Wal, Lsn) -> Result<()>,
        effect: impl FnOnce(&mut Expected, usize),
    ) -> Result<()> {
        let Some((i, lsn)) = self.expected.from_the_end(n) else { return Ok(()) };
        let done = call(self.wal, Lsn::from_u64(lsn));
        effect(&mut self.expected, i);
        done
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        vec![self.tags.next().expect("round and round"); len]
    }

    fn append(&mut self, len: usize) -> Result<()> {
        let data = self.data(len);
        let lsn = self.wal.append(&data)?;
        self.expected.push(Some(lsn), Some(data), false);
        Ok(())
    }

    fn commit(&mut self, len: usize) -> Result<()> {
        let data = self.data(len);
        let done = self.wal.commit(&data);
        self.expected.push(done.as_ref().ok().copied(), Some(data), false);
        done.map(|_| self.expected.all_is_durable())
    }

    fn batch(&mut self, sizes: &[Size]) -> Result<()> {
        let count = sizes.len().min(MAX_BATCH);
        let records: Vec<_> = sizes[..count].iter().map(|size| self.data(size.bytes())).collect();
        let slices: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let lsns: Vec<_> = self.wal.append_batch(&slices)?.lsns(&slices).collect();
        for (i, (lsn, data)) in lsns.into_iter().zip(records).enumerate() {
            self.expected.push(Some(lsn), Some(data), i + 1 < count);
        }
        Ok(())
    }

    fn append_with(&mut self, len: usize, panics: bool) -> Result<()> {
        let data = self.data(len);
        let call = || {
            self.wal.append_with(len, |place| {
                place.copy_from_slice(&data);
                if panics {
                    resume_unwind(Box::new(())); // which no hook takes for a finding
                }
            })
        };
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(lsn) => self.expected.push(Some(lsn?), Some(data), false),
            Err(_) => self.expected.push(None, None, false),
        }
        Ok(())
    }

    fn read(&mut self, n: u8) -> Result<()> {
        let Some((i, lsn)) = self.expected.from_the_end(n) else { return Ok(()) };
        let Item { sequence, data, .. } = &self.expected.items[i];
        let record = match self.wal.read(Lsn::from_u64(lsn)) {
            Err(Error::Abandoned { .. }) if data.is_none() => return Ok(()),
            record => record?,
        };
        assert_eq!((record.sequence(), Some(record.data())), (*sequence, data.as_deref()));
        Ok(())
    }
}

impl Size {
    fn bytes(self) -> usize {
        // all but the header, the begin, and the reserve
        let whole = SEGMENT - FIRST_FRAME as u64 - 80 - RESERVE - FRAME_HEADER as u64;
        match self {
            Size::Small(len) => len.into(),
            Size::Medium(len) => len.into(),
            Size::Segment(more) => whole.saturating_add_signed(more.into()) as usize,
        }
    }
}

/// Whether an error says that nothing can be done there, and nothing was.
fn is_about_the_place(error: &Error) -> bool {
    matches!(error, Error::InsideBatch { .. } | Error::TooLarge { .. } | Error::EmptyBatch)
}
