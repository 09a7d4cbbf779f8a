//! Every byte of small logs changed, and every length of their end lost: opening
//! finds exactly the right prefix, or says that something durable is gone.
//!
//! What is right is computed here from the frames' own layout, as `docs/format.md`
//! has it: a place was durable if an intact frame behind it carries a mark above it.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use common::{SEGMENT, abandon, small};
use mapwal::sim::Disk;
use mapwal::{Error, Lsn, Wal};

const HEADER: usize = 16;
const FIRST: usize = 4096;
const ABANDONED: u8 = 4;
const STATE: u8 = 6;

/// A frame of the log, as it lies in its file.
#[derive(Clone, Debug)]
struct Frame {
    file: usize,
    at: usize,
    len: usize,
    kind: u8,
    lsn: u64,
    /// The LSN where its batch begins.
    batch: u64,
    /// Everything below was durable.
    proves: u64,
    /// The head that a state names.
    head: u64,
}

impl Frame {
    fn end(&self) -> usize {
        (self.at + HEADER + self.len).next_multiple_of(8)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    lsn: u64,
    sequence: u64,
    data: Vec<u8>,
    abandoned: bool,
}

fn entries(wal: &Wal) -> mapwal::Result<Vec<Entry>> {
    let reader = wal.reader();
    reader
        .iter()
        .with_abandoned()
        .map(|record| {
            record.map(|record| Entry {
                lsn: record.lsn().as_u64(),
                sequence: record.sequence(),
                data: record.data().to_vec(),
                abandoned: record.is_abandoned(),
            })
        })
        .collect()
}

/// A small log as it lies on a disk, and what is known about it.
struct Shape {
    name: &'static str,
    /// Those of the chain, oldest first.
    files: Vec<(String, Vec<u8>)>,
    /// Those that the chain counts, in order.
    frames: Vec<Frame>,
    /// Where each file's part of the chain ends.
    ends: Vec<usize>,
    /// Every record that any prefix may show.
    all: Vec<Entry>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Shape {
    /// The log that `make` leaves on a disk, closed or as a killed process leaves it.
    /// `make` returns the records that are not in the log, but were before the head.
    fn new(name: &'static str, closed: bool, make: impl Fn(&Disk) -> (Wal, Vec<Entry>)) -> Self {
        let disk = Disk::new();
        let (wal, mut all) = make(&disk);
        all.extend(entries(&wal).unwrap());
        if closed {
            wal.close().unwrap();
        } else {
            disk.lose(); // what is appended is there, and no close behind it
            drop(wal);
        }
        let files = disk.files().into_iter().filter(|name| name.ends_with(".wal"));
        let files = files.map(|name| (name.clone(), disk.read(&name)));
        let files: Vec<_> = files.filter(|(_, bytes)| u32_at(bytes, FIRST) != 0).collect();
        let mut ends = Vec::new();
        for next in &files[1..] {
            // a begin names the end of what it follows
            ends.push((u64_at(&next.1, FIRST + HEADER + 48) % SEGMENT) as usize);
        }
        ends.push(SEGMENT as usize);
        let mut shape = Shape { name, files, frames: Vec::new(), ends, all };
        shape.walk();
        shape
    }

    fn walk(&mut self) {
        for (file, (_, bytes)) in self.files.iter().enumerate() {
            let base = u64_at(bytes, 32) * SEGMENT;
            let (mut at, mut batch) = (FIRST, None);
            while at < self.ends[file] && u32_at(bytes, at) != 0 {
                let word = u32_at(bytes, at);
                let (kind, len) = ((word >> 28) as u8, (word & 0xfff_ffff) as usize);
                let (lsn, mark) = (base + at as u64, u32_at(bytes, at + 12));
                let mut proves = if mark == u32::MAX { 0 } else { lsn - u64::from(mark) * 8 };
                let mut head = 0;
                if kind == STATE {
                    head = u64_at(bytes, at + HEADER + 8);
                    proves = proves.max(u64_at(bytes, at + HEADER + 16));
                }
                let begins = *batch.get_or_insert(lsn);
                if kind != 2 {
                    batch = None; // not: more of the batch follows
                }
                let frame = Frame { file, at, len, kind, lsn, batch: begins, proves, head };
                at = frame.end();
                self.frames.push(frame);
            }
            self.ends[file] = at;
        }
    }

    /// What opening must come to if the frame number `lost` is not intact, and those
    /// behind it are, up to the number `to`: an error, or these records.
    fn verdict(&self, lost: usize, to: usize) -> Option<Vec<Entry>> {
        let frame = &self.frames[lost];
        // a segment without its begin is not there: the one before ends the log
        let tail = match frame.at {
            FIRST if frame.file == 0 && self.files.len() > 1 => return None,
            FIRST if frame.file == 0 => frame.lsn, // one that proves nothing is a new log
            FIRST => {
                self.frames[lost - 1].lsn
                    + (self.frames[lost - 1].end() - self.frames[lost - 1].at) as u64
            }
            _ => frame.batch,
        };
        let behind = self.frames[lost + 1..to].iter();
        if behind.map(|frame| frame.proves).max().unwrap_or(0) > tail {
            return None;
        }
        Some(self.records(tail))
    }

    /// The records of the log that ends at `tail`.
    fn records(&self, tail: u64) -> Vec<Entry> {
        let kept = self.frames.iter().filter(|frame| frame.batch < tail && frame.lsn < tail);
        let head = kept.map(|frame| frame.head).max().unwrap_or(0);
        let within = |entry: &&Entry| (head..tail).contains(&entry.lsn);
        self.all.iter().filter(within).cloned().collect()
    }

    fn whole(&self) -> Vec<Entry> {
        self.records(u64::MAX)
    }
}

/// What came of many openings.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    opened: u32,
    refused: u32,
}

/// Opens the files, as they are, on a disk of their own; checks what comes of it.
fn open(files: &[(String, Vec<u8>)], expected: Option<&[Entry]>, what: &str, counts: &mut Counts) {
    let disk = Disk::new();
    for (name, bytes) in files {
        disk.put_file(name, bytes);
    }
    let opened = catch_unwind(AssertUnwindSafe(|| {
        small().spares(1).open_on(&disk).map(|wal| (entries(&wal), wal))
    }));
    let opened = opened.unwrap_or_else(|_| panic!("{what}: opening panicked"));
    match (opened, expected) {
        (Err(error), None) => {
            let told = matches!(error, Error::Damaged { .. } | Error::Missing { .. });
            assert!(told, "{what}: {error:?}");
            for (name, bytes) in files {
                assert!(disk.read(name) == *bytes, "{what}: refusing changed {name}");
            }
            counts.refused += 1;
        }
        (Ok((read, wal)), Some(expected)) => {
            let read = read.unwrap_or_else(|error| panic!("{what}: reading failed: {error:?}"));
            assert!(
                read == expected,
                "{what}: {} records, expected {}",
                read.len(),
                expected.len()
            );
            counts.opened += 1;
            if counts.opened % 16 == 0 {
                goes_on(disk, wal, read, what);
            }
        }
        (Ok((read, _)), None) => {
            let count = read.map(|read| read.len());
            panic!("{what}: something durable was cut, and {count:?} records are left");
        }
        (Err(error), Some(expected)) => {
            panic!("{what}: refused instead of {} records: {error:?}", expected.len());
        }
    }
}

/// What was opened can be appended to, and opened again.
fn goes_on(disk: Disk, wal: Wal, mut read: Vec<Entry>, what: &str) {
    let lsn = wal.append(b"behind").unwrap();
    let sequence = wal.read(lsn).unwrap().sequence();
    read.push(Entry { lsn: lsn.as_u64(), sequence, data: b"behind".to_vec(), abandoned: false });
    drop(wal);
    let wal = small().spares(1).open_on(&disk).unwrap();
    assert!(entries(&wal).unwrap() == read, "{what}: opened again");
}

// --- the shapes ---

fn start(disk: &Disk) -> Wal {
    small().spares(1).open_on(disk).unwrap()
}

fn append(wal: &Wal, from: u32, to: u32) -> Vec<Lsn> {
    let texts = (from..to).map(|i| format!("record {i}{}", "+".repeat(i as usize % 9)));
    common::append_all(wal, texts)
}

fn shapes() -> Vec<Shape> {
    let one_segment = |disk: &Disk| {
        let wal = start(disk);
        append(&wal, 0, 4);
        wal.sync().unwrap();
        append(&wal, 4, 8);
        (wal, Vec::new())
    };
    let never_synced = |disk: &Disk| {
        let wal = start(disk);
        append(&wal, 0, 8);
        wal.rotate().unwrap();
        append(&wal, 8, 12);
        (wal, Vec::new())
    };
    let two_segments = |disk: &Disk| {
        let wal = start(disk);
        append(&wal, 0, 3);
        wal.sync().unwrap();
        append(&wal, 3, 6);
        wal.rotate().unwrap();
        append(&wal, 6, 8);
        wal.sync().unwrap();
        append(&wal, 8, 11);
        (wal, Vec::new())
    };
    let batches = |disk: &Disk| {
        let wal = start(disk);
        append(&wal, 0, 1);
        wal.append_batch(&[b"one", b"", b"three"]).unwrap();
        abandon(&wal, 21).unwrap();
        wal.sync().unwrap();
        wal.append_batch(&[b"four", b"five"]).unwrap();
        wal.append(b"").unwrap();
        abandon(&wal, 5).unwrap();
        wal.append_batch(&[b"six", b"seven", b"eight"]).unwrap();
        (wal, Vec::new())
    };
    let cut = |disk: &Disk| {
        let wal = start(disk);
        let lsns = append(&wal, 0, 6);
        wal.rotate().unwrap();
        append(&wal, 6, 8);
        wal.truncate_after(lsns[2]).unwrap();
        append(&wal, 20, 23);
        wal.sync().unwrap();
        append(&wal, 23, 25);
        (wal, Vec::new())
    };
    let head = |disk: &Disk| {
        let wal = start(disk);
        let lsns = append(&wal, 0, 5);
        let given_up = entries(&wal).unwrap().drain(..2).collect();
        wal.truncate_before(lsns[2]).unwrap();
        append(&wal, 5, 7);
        wal.rotate().unwrap();
        append(&wal, 7, 9);
        (wal, given_up)
    };
    let epochs = |disk: &Disk| {
        for i in 0..3 {
            let wal = start(disk);
            append(&wal, 3 * i, 3 * i + 3);
        }
        let wal = start(disk);
        append(&wal, 9, 12);
        (wal, Vec::new())
    };
    vec![
        Shape::new("one segment", false, one_segment),
        Shape::new("one segment, closed", true, one_segment),
        Shape::new("never synced", false, never_synced),
        Shape::new("two segments", false, two_segments),
        Shape::new("batches", false, batches),
        Shape::new("cut", false, cut),
        Shape::new("head", false, head),
        Shape::new("epochs", false, epochs),
    ]
}

/// All cases, on as many threads as there are processors.
fn all_of<T: Sync>(cases: &[T], check: impl Fn(&T, &mut Counts) + Sync) -> Counts {
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let part = |t: usize| {
        let mut counts = Counts::default();
        cases.iter().skip(t).step_by(threads).for_each(|case| check(case, &mut counts));
        counts
    };
    thread::scope(|scope| {
        let part = &part;
        let parts: Vec<_> = (0..threads).map(|t| scope.spawn(move || part(t))).collect();
        let parts = parts.into_iter().map(|part| part.join().unwrap_or_else(|e| resume_unwind(e)));
        parts.fold(Counts::default(), |a, b| Counts {
            opened: a.opened + b.opened,
            refused: a.refused + b.refused,
        })
    })
}

#[test]
fn the_shapes_open_whole() {
    for shape in shapes() {
        assert!(!shape.frames.is_empty() && !shape.all.is_empty());
        open(&shape.files, Some(&shape.whole()), shape.name, &mut Counts::default());
    }
}

#[test]
fn every_flipped_bit_is_cut_if_it_never_was_durable_and_refused_if_it_was() {
    let mut per_shape = BTreeMap::new();
    for (number, shape) in shapes().iter().enumerate() {
        let mut cases = Vec::new();
        for (file, (_, bytes)) in shape.files.iter().enumerate() {
            let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 8;
            for at in 0..used {
                let frame = shape
                    .frames
                    .iter()
                    .find(|frame| frame.file == file && (frame.at..frame.end()).contains(&at));
                let all_bits = match frame {
                    _ if number == 0 => true,
                    // a header's fields; its zeros in one shape only
                    None if at < FIRST => !(56..FIRST - 4).contains(&at),
                    None => false,
                    Some(frame) => at < frame.at + HEADER || frame.kind >= ABANDONED,
                };
                if (56..FIRST - 4).contains(&at) && number > 0 {
                    continue;
                }
                let bits = if all_bits { 0..8 } else { at % 8..at % 8 + 1 };
                cases.extend(bits.map(|bit| (file, at, bit)));
            }
        }
        let whole = shape.whole();
        let check = |&(file, at, bit): &(usize, usize, usize), counts: &mut Counts| {
            let mut files = shape.files.clone();
            files[file].1[at] ^= 1 << bit;
            let lost = shape
                .frames
                .iter()
                .position(|frame| frame.file == file && (frame.at..frame.end()).contains(&at));
            let expected = match lost.map(|lost| (lost, &shape.frames[lost])) {
                _ if at < FIRST => None,
                // behind a cut, or behind the last frame: nothing that counts
                None if at >= shape.ends[file] => Some(whole.clone()),
                None => unreachable!("every used byte is in a frame"),
                // what was written into an abandoned claim is nothing
                Some((_, frame))
                    if frame.kind == ABANDONED
                        && (frame.at + HEADER..frame.at + HEADER + frame.len).contains(&at) =>
                {
                    Some(whole.clone())
                }
                Some((lost, _)) => shape.verdict(lost, shape.frames.len()),
            };
            let what = format!("{}: bit {bit} of byte {at} in file {file}", shape.name);
            open(&files, expected.as_deref(), &what, counts);
        };
        per_shape.insert(shape.name, all_of(&cases, check));
    }
    println!("flipped bits: {per_shape:#?}");
    let (refused, opened) = per_shape
        .values()
        .fold((0, 0), |sum, counts| (sum.0 + counts.refused, sum.1 + counts.opened));
    println!("{opened} cut where nothing durable stood, {refused} refused");
    assert!(refused > 1000 && opened > 1000);
}

#[test]
fn every_length_of_the_end_lost_is_a_prefix_or_refused() {
    let mut sum = Counts::default();
    for shape in shapes() {
        let last = shape.files.len() - 1;
        let end = shape.ends[last];
        let cases: Vec<_> = (FIRST..=end).collect();
        let check = |&from: &usize, counts: &mut Counts| {
            let mut files = shape.files.clone();
            files[last].1[from..].fill(0);
            // the first frame that is no longer what it was, and those behind are gone
            let is_intact = |frame: &Frame| {
                let counted = match frame.kind {
                    ABANDONED => frame.at..frame.at + HEADER,
                    _ => frame.at..frame.end(),
                };
                frame.file < last || files[last].1[counted.clone()] == shape.files[last].1[counted]
            };
            let lost = shape.frames.iter().position(|frame| !is_intact(frame));
            let expected = match lost {
                Some(lost) => shape.verdict(lost, lost + 1),
                None => Some(shape.whole()),
            };
            let what = format!("{}: everything lost from {from} on", shape.name);
            open(&files, expected.as_deref(), &what, counts);
        };
        let counts = all_of(&cases, check);
        sum = Counts { opened: sum.opened + counts.opened, refused: sum.refused + counts.refused };
    }
    println!("lost ends: {} opened, {} refused", sum.opened, sum.refused);
    assert!(sum.opened > 1000);
}
