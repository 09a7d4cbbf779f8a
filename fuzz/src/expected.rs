//! What a log must hold, as a plain list of what it was told.
//!
//! An operation that failed was done or not: that makes two lists, of which the log must be one.

use mapwal::{Lsn, Result, Wal};

/// A record, or an abandoned claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Where that is known: who panics or fails is not told.
    pub lsn: Option<u64>,
    pub sequence: u64,
    /// `None`: abandoned.
    pub data: Option<Vec<u8>>,
    /// More of its batch follow.
    pub more: bool,
}

/// What is in a log.
#[derive(Clone, Debug)]
pub struct Expected {
    pub items: Vec<Item>,
    /// So many of them are durable.
    durable: usize,
    /// The log begins there, or where it went on behind.
    head: u64,
    next_sequence: u64,
}

/// What was read of a log: all of it, and its head.
pub type Found = (Vec<Item>, u64);

impl Expected {
    /// Of a new log.
    pub fn new() -> Self {
        Expected { items: Vec::new(), durable: 0, head: 0, next_sequence: 1 }
    }

    pub fn push(&mut self, lsn: Option<Lsn>, data: Option<Vec<u8>>, more: bool) {
        let (lsn, sequence) = (lsn.map(Lsn::as_u64), self.next_sequence);
        self.items.push(Item { lsn, sequence, data, more });
        self.next_sequence += 1;
    }

    /// The position and the place of the `n`th item from the end, if its place is known.
    pub fn from_the_end(&self, n: u8) -> Option<(usize, u64)> {
        let back = usize::from(n).checked_rem(self.items.len())?;
        let i = self.items.len() - 1 - back;
        Some((i, self.items[i].lsn?))
    }

    pub fn all_is_durable(&mut self) {
        self.durable = self.items.len();
    }

    /// The item `i` is, with all of its batch.
    pub fn is_durable(&mut self, i: usize) {
        let more = self.items[i..].iter().take_while(|item| item.more).count();
        self.durable = self.durable.max(i + more + 1);
    }

    /// The item `i` becomes the first.
    pub fn begins_at(&mut self, i: usize) {
        let lsn = self.items[i].lsn.expect("it was found by its place");
        if lsn > self.head {
            self.items.drain(..i);
            self.head = lsn;
            self.all_is_durable();
        }
    }

    /// All up to this place is given up.
    pub fn begins_behind(&mut self, lsn: u64) {
        if lsn > self.head {
            self.items.clear();
            self.durable = 0;
            self.head = lsn;
        }
    }

    /// The item `i` becomes the last.
    pub fn ends_with(&mut self, i: usize) {
        self.ends_before(i + 1);
    }

    pub fn ends_before(&mut self, i: usize) {
        if let Some(next) = self.items.get(i) {
            self.next_sequence = next.sequence;
            self.items.truncate(i);
        }
        self.all_is_durable();
    }
}

impl Default for Expected {
    fn default() -> Self {
        Expected::new()
    }
}

/// All that a log holds.
pub fn read(wal: &Wal) -> Result<Found> {
    let (reader, mut items) = (wal.reader(), Vec::new());
    for record in reader.iter().with_abandoned() {
        let record = record?;
        items.push(Item {
            lsn: Some(record.lsn().as_u64()),
            sequence: record.sequence(),
            data: (!record.is_abandoned()).then(|| record.data().to_vec()),
            more: record.has_more_of_its_batch(),
        });
    }
    Ok((items, wal.head_lsn().as_u64()))
}

/// Why a log is not what is expected, if it is not. `lossy`: what was not durable may be missing,
/// at the end alone.
pub fn compare(found: &Found, expected: &Expected, lossy: bool) -> std::result::Result<(), String> {
    let (items, head) = found;
    let least = if lossy { expected.durable } else { expected.items.len() };
    if !(least..=expected.items.len()).contains(&items.len()) {
        return Err(format!("{} items of {least} to {}", items.len(), expected.items.len()));
    }
    for (item, wanted) in items.iter().zip(&expected.items) {
        let lsn = wanted.lsn.or(item.lsn);
        if *item != (Item { lsn, ..wanted.clone() }) {
            return Err(format!(
                "number {} at {:x?}, not {:x?}",
                item.sequence, item.lsn, wanted.lsn
            ));
        }
    }
    if !items.is_sorted_by(|a, b| a.lsn < b.lsn) {
        return Err("not in order".to_owned());
    }
    if items.last().is_some_and(|last| last.more) {
        return Err("half a batch".to_owned());
    }
    let first = items.iter().chain(&expected.items[items.len()..]).find_map(|item| item.lsn);
    if *head < expected.head || first.is_some_and(|first| *head > first) {
        return Err(format!("its head is {head:#x}, not {:#x}", expected.head));
    }
    Ok(())
}

/// Finds out which of the lists a log is that was opened: all of that is durable from now on.
pub fn settle(wal: &Wal, possible: &mut Vec<Expected>, lossy: bool) {
    let found = read(wal).unwrap_or_else(|error| panic!("cannot be read: {error}"));
    let compared: Vec<_> = possible.iter().map(|it| compare(&found, it, lossy)).collect();
    // a log without records may be one that has lost them, and one that has given them up and
    // goes on with other numbers: it is that, if its head is as high
    let matching = (0..possible.len()).rev().filter(|&which| compared[which].is_ok());
    let Some(which) = matching.max_by_key(|&which| possible[which].head) else {
        panic!("it is none of {}: {compared:?}", compared.len());
    };
    let (items, head) = found;
    let lost = possible[which].items.get(items.len());
    let next_sequence = lost.map_or(possible[which].next_sequence, |item| item.sequence);
    *possible = vec![Expected { durable: items.len(), items, head, next_sequence }];
}
