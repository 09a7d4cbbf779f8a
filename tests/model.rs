//! Random operations on a log and on a plain list: both say the same, whenever the
//! log is asked, and however often it is opened again.

mod common;

use common::{SEGMENT, TempDir, abandon, small};
use mapwal::sim::Disk;
use mapwal::{Ended, Error, Lsn, Record, Wal};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    /// Built in place; or not, by a panic.
    Build(usize, bool),
    Batch(Vec<usize>),
    Commit(usize),
    Sync,
    Rotate,
    /// Which record, in 1/256 of them; 255: all.
    TruncateBefore(u8),
    TruncateAfter(u8),
    Reopen {
        close: bool,
    },
    /// Reads from a record on, in both directions, some records.
    Read(u8),
    /// Asks for a place that may be anything.
    Ask(u16, u32),
}

/// Lengths of records: small ones, those that soon fill a segment of 64 KiB, and now
/// and then one that does not fit in it.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..40usize,
        6 => 2_000..12_000usize,
        1 => 60_000..61_200usize,
        1 => 61_089..140_000usize,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => len().prop_map(Op::Append),
        3 => (len(), prop::bool::weighted(0.3)).prop_map(|(len, panics)| Op::Build(len, panics)),
        3 => prop::collection::vec(len(), 1..5).prop_map(Op::Batch),
        2 => len().prop_map(Op::Commit),
        2 => Just(Op::Sync),
        2 => Just(Op::Rotate),
        2 => any::<u8>().prop_map(Op::TruncateBefore),
        2 => any::<u8>().prop_map(Op::TruncateAfter),
        2 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        3 => any::<u8>().prop_map(Op::Read),
        3 => (any::<u16>(), any::<u32>()).prop_map(|(at, off)| Op::Ask(at, off)),
    ]
}

/// What a record says: all of it from its number.
fn data(stamp: u64, len: usize) -> Vec<u8> {
    let stamp = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    stamp.iter().copied().cycle().take(len).collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    lsn: Lsn,
    sequence: u64,
    /// `None`: abandoned.
    data: Option<Vec<u8>>,
    more: bool,
}

impl Entry {
    fn of(record: Record<'_>) -> Self {
        Entry {
            lsn: record.lsn(),
            sequence: record.sequence(),
            data: (!record.is_abandoned()).then(|| record.data().to_vec()),
            more: record.has_more_of_its_batch(),
        }
    }
}

/// Where the log is kept.
enum Home {
    Files(TempDir),
    Memory(Disk),
}

impl Home {
    fn open(&self) -> Wal {
        match self {
            Home::Files(directory) => small().open(directory).unwrap(),
            Home::Memory(disk) => small().open_on(disk).unwrap(),
        }
    }
}

struct Pair {
    home: Home,
    wal: Option<Wal>,
    model: Vec<Entry>,
    next_sequence: u64,
    /// Above every place handed out.
    above: Lsn,
    /// Distinguishes all records ever appended.
    stamp: u64,
    openings: u32,
}

type Check = Result<(), TestCaseError>;

impl Pair {
    fn new(home: Home) -> Self {
        let wal = Some(home.open());
        let (model, above) = (Vec::new(), Lsn::NONE);
        Pair { home, wal, model, next_sequence: 1, above, stamp: 0, openings: 1 }
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().unwrap()
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.stamp += 1;
        data(self.stamp, len)
    }

    /// Notes what was appended at `lsn`.
    fn push(&mut self, lsn: Lsn, data: Option<Vec<u8>>, more: bool) -> Check {
        prop_assert!(lsn >= self.above, "{lsn} is below {}", self.above);
        self.above = Lsn::from_u64(lsn.as_u64() + 16);
        self.model.push(Entry { lsn, sequence: self.next_sequence, data, more });
        self.next_sequence += 1;
        Ok(())
    }

    fn pick(&self, which: u8) -> Option<usize> {
        let i = which as usize * self.model.len() / 255;
        (i < self.model.len()).then_some(i)
    }

    fn apply(&mut self, op: &Op) -> Check {
        match *op {
            Op::Append(len) => {
                let data = self.data(len);
                let lsn = self.wal().append(&data).unwrap();
                self.push(lsn, Some(data), false)?;
            }
            Op::Commit(len) => {
                let data = self.data(len);
                let lsn = self.wal().commit(&data).unwrap();
                prop_assert!(self.wal().durable_lsn() > lsn);
                self.push(lsn, Some(data), false)?;
            }
            Op::Build(len, false) => {
                let data = self.data(len);
                let build = |bytes: &mut [u8]| bytes.copy_from_slice(&data);
                let lsn = self.wal().append_with(len, build).unwrap();
                self.push(lsn, Some(data), false)?;
            }
            Op::Build(len, true) => self.abandon(len)?,
            Op::Batch(ref lens) => self.batch(lens)?,
            Op::Sync => {
                let durable = self.wal().sync().unwrap();
                prop_assert!(self.model.last().is_none_or(|last| last.lsn < durable));
            }
            Op::Rotate => self.wal().rotate().unwrap(),
            Op::TruncateBefore(which) => self.truncate_before(which)?,
            Op::TruncateAfter(which) => self.truncate_after(which)?,
            Op::Reopen { close } => self.reopen(close)?,
            Op::Read(which) => self.read(which)?,
            Op::Ask(at, off) => self.ask(at, off)?,
        }
        self.check_ends()
    }

    fn abandon(&mut self, len: usize) -> Check {
        let wal = self.wal();
        abandon(wal, len).unwrap();
        let reader = wal.reader();
        let last = reader.from_sequence(self.next_sequence).with_abandoned().next();
        let lsn = last.unwrap().unwrap().lsn();
        self.push(lsn, None, false)
    }

    fn batch(&mut self, lens: &[usize]) -> Check {
        let records: Vec<_> = lens.iter().map(|&len| self.data(len)).collect();
        let slices: Vec<_> = records.iter().map(|record| &record[..]).collect();
        let lsns: Vec<_> = self.wal().append_batch(&slices).unwrap().lsns(&slices).collect();
        let count = records.len();
        for (i, (lsn, record)) in lsns.into_iter().zip(records).enumerate() {
            self.push(lsn, Some(record), i + 1 < count)?;
        }
        Ok(())
    }

    fn truncate_before(&mut self, which: u8) -> Check {
        let Some(i) = self.pick(which) else {
            let tail = self.wal().next_lsn();
            self.wal().truncate_before(tail).unwrap();
            self.model.clear();
            return Ok(());
        };
        let lsn = self.model[i].lsn;
        let result = self.wal().truncate_before(lsn);
        if i > 0 && self.model[i - 1].more {
            let refused = matches!(result, Err(Error::InsideBatch { lsn: at }) if at == lsn);
            prop_assert!(refused, "{:?}", result);
            return Ok(());
        }
        result.unwrap();
        let gone = self.model.drain(..i).next_back();
        if let Some(gone) = gone {
            let read = self.wal().read(gone.lsn);
            let refused = matches!(read, Err(Error::Truncated { .. }));
            prop_assert!(refused, "{:?}", read);
        }
        Ok(())
    }

    fn truncate_after(&mut self, which: u8) -> Check {
        let Some(i) = self.pick(which) else { return Ok(()) };
        let lsn = self.model[i].lsn;
        let result = self.wal().truncate_after(lsn);
        if self.model[i].more {
            let refused = matches!(result, Err(Error::InsideBatch { lsn: at }) if at == lsn);
            prop_assert!(refused, "{:?}", result);
            return Ok(());
        }
        result.unwrap();
        prop_assert!(self.wal().durable_lsn() > lsn);
        if let Some(gone) = self.model.get(i + 1) {
            let read = self.wal().read(gone.lsn);
            let refused = matches!(read, Err(Error::CutAway { .. }));
            prop_assert!(refused, "{:?}", read);
        }
        self.model.truncate(i + 1);
        self.next_sequence = self.model[i].sequence + 1;
        Ok(())
    }

    fn reopen(&mut self, close: bool) -> Check {
        let wal = self.wal.take().unwrap();
        // a close and a seal take 80 bytes: at the end of a segment there may be no room
        let used = (wal.next_lsn().as_u64() - 1) % SEGMENT + 1;
        let ended = if used + 80 <= SEGMENT { Ended::Closed } else { Ended::Unclosed };
        if close {
            wal.close().unwrap();
        } else {
            drop(wal);
        }
        self.wal = Some(self.home.open());
        self.openings += 1;
        let recovery = self.wal().recovery();
        prop_assert_eq!(&recovery.ended, &ended);
        prop_assert_eq!(recovery.epoch, self.openings);
        self.check_all()
    }

    fn read(&self, which: u8) -> Check {
        let reader = self.wal().reader();
        let Some(i) = self.pick(which) else { return Ok(()) };
        let (from, to) = (&self.model[i], (i + 20).min(self.model.len()));
        let with_abandoned = |records: mapwal::Records<'_>| -> Vec<_> {
            records.with_abandoned().take(to - i).map(|r| Entry::of(r.unwrap())).collect()
        };
        prop_assert_eq!(with_abandoned(reader.from(from.lsn)), &self.model[i..to]);
        prop_assert_eq!(with_abandoned(reader.from_sequence(from.sequence)), &self.model[i..to]);
        let back = reader.backwards_from(from.lsn).take(20).map(|r| Entry::of(r.unwrap()));
        let model = self.model[..i].iter().rev().filter(|entry| entry.data.is_some());
        prop_assert_eq!(back.collect::<Vec<_>>(), model.take(20).cloned().collect::<Vec<_>>());
        match (self.wal().read(from.lsn), &from.data) {
            (Ok(record), Some(data)) => prop_assert_eq!(record.data(), &data[..]),
            (Err(Error::Abandoned { .. }), None) => {}
            (read, _) => prop_assert!(false, "{:?}", read),
        }
        Ok(())
    }

    /// A place near a record, or far from any: a record only where the model has one.
    fn ask(&self, at: u16, off: u32) -> Check {
        let near = self.model.get(at as usize % self.model.len().max(1));
        let near = near.map_or(self.above, |entry| entry.lsn).as_u64();
        for place in [near + u64::from(off % 64), u64::from(off), near ^ u64::from(off)] {
            let lsn = Lsn::from_u64(place);
            let known = self.model.binary_search_by_key(&lsn, |entry| entry.lsn);
            match (self.wal().read(lsn), known) {
                (Ok(read), Ok(i)) => {
                    prop_assert_eq!(Some(read.data()), self.model[i].data.as_deref())
                }
                (Err(Error::Abandoned { .. }), Ok(i)) => prop_assert!(self.model[i].data.is_none()),
                (
                    Err(
                        Error::NotARecord { .. }
                        | Error::OutOfLog { .. }
                        | Error::Truncated { .. }
                        | Error::CutAway { .. },
                    ),
                    Err(_),
                ) => {}
                (read, known) => prop_assert!(false, "{} {:?} {:?}", lsn, read, known),
            }
        }
        Ok(())
    }

    /// Cheap, after every step: head, tail, first and last record.
    fn check_ends(&self) -> Check {
        let wal = self.wal();
        let reader = wal.reader();
        let living = || self.model.iter().filter(|entry| entry.data.is_some());
        let first = reader.iter().next().map(|r| Entry::of(r.unwrap()));
        prop_assert_eq!(first.as_ref(), living().next());
        let last = reader.backwards().next().map(|r| Entry::of(r.unwrap()));
        prop_assert_eq!(last.as_ref(), living().next_back());
        prop_assert!(wal.head_lsn() <= wal.next_lsn());
        prop_assert!(wal.next_lsn() >= self.above);
        prop_assert_eq!(reader.from_sequence(self.next_sequence).count(), 0);
        let beyond = reader.from_sequence(self.next_sequence + 1).next();
        let no_such = matches!(beyond, Some(Err(Error::NoSuchSequence { .. })));
        prop_assert!(no_such, "{:?}", beyond);
        Ok(())
    }

    fn check_all(&self) -> Check {
        let reader = self.wal().reader();
        let read: Vec<_> = reader.iter().with_abandoned().map(|r| Entry::of(r.unwrap())).collect();
        prop_assert!(read == self.model, "{} read, {} known", read.len(), self.model.len());
        Ok(())
    }

    /// All operations; `again`: the log is closed and opened after each of them.
    fn run(mut self, ops: &[Op], again: bool) -> Check {
        for (i, op) in ops.iter().enumerate() {
            self.apply(op)?;
            if again {
                self.reopen(i % 2 == 0)?;
            }
        }
        self.check_all()?;
        self.reopen(true)
    }
}

/// `MAPWAL_TIMES` runs so many times as many cases.
fn config(cases: u32) -> ProptestConfig {
    let times = std::env::var("MAPWAL_TIMES").map_or(1, |times| times.parse().unwrap());
    ProptestConfig { cases: cases * times, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(250))]
    #[test]
    fn a_log_is_a_list_in_memory(ops in prop::collection::vec(op(), 1..80)) {
        Pair::new(Home::Memory(Disk::new())).run(&ops, false)?;
    }
}

proptest! {
    #![proptest_config(config(100))]
    #[test]
    fn a_log_that_is_reopened_at_every_step_is_a_list(ops in prop::collection::vec(op(), 1..60)) {
        Pair::new(Home::Memory(Disk::new())).run(&ops, true)?;
    }
}

proptest! {
    #![proptest_config(config(40))]
    #[test]
    fn a_log_in_files_is_a_list(ops in prop::collection::vec(op(), 1..60)) {
        Pair::new(Home::Files(TempDir::new())).run(&ops, false)?;
    }
}

proptest! {
    #![proptest_config(config(10))]
    #[test]
    fn a_log_in_files_that_is_reopened_at_every_step_is_a_list(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        Pair::new(Home::Files(TempDir::new())).run(&ops, true)?;
    }
}
