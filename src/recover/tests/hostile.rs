//! Files made to be searched for long: full of what may be frames, of which none is one.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::builder::{Dir, SIZE};
use crate::format::{
    self, BEGIN_SIZE, Begin, FIRST_FRAME, FRAME_HEADER, Kind, SEAL_SIZE, Tag, encode_frame,
};
use crate::lsn::Lsn;
use crate::recover::search::{Epochs, Search};
use crate::salvage::salvage;
use crate::scan::{Life, Place};
use crate::sys::counted;
use crate::watch::Watch;

const LIFE: Life = Life { base: 3 << 20, salt: 0x5a17 };
const LEN: u64 = 1 << 20;
const FROM: Place = Place { offset: FIRST_FRAME, ordinal: 0 };
const EPOCH: u32 = 1;

/// What a file may be checksummed in all, in sizes of it.
const BOUND: u64 = 4;

/// The header of a frame with a check that is wrong.
fn header(word: u32, tag: Tag) -> Vec<u8> {
    [&word.to_le_bytes()[..], &format::header_tail(0x0bad_0bad, tag)].concat()
}

/// A file with a header every `step` bytes that has its true ordinal and a mark that proves all
/// before it, and a check that is wrong. `lie` says kind, length of the payload and epoch at an
/// offset.
fn headers(step: u64, lie: impl Fn(u64) -> (Kind, u64, u32)) -> Vec<u8> {
    let mut file = vec![0; LEN as usize];
    for (i, at) in (FIRST_FRAME..=LEN - FRAME_HEADER as u64).step_by(step as usize).enumerate() {
        let (kind, len, epoch) = lie(at);
        let len = len.min(LEN - at - FRAME_HEADER as u64) & !7; // no padding that is not zero
        let (lsn, word) = (LIFE.base + at, format::word(kind, len as usize));
        let tag = Tag::new(i as u32, epoch, lsn, lsn);
        file[at as usize..][..FRAME_HEADER].copy_from_slice(&header(word, tag));
    }
    file
}

/// A file in which every word is the head of a long frame, and the ordinal of the one before it.
fn every_word_a_header() -> Vec<u8> {
    let word = |at: u64| ((at - FIRST_FRAME) / 16).min(LEN - at - 16) & !7 | 1 << 28;
    let words = (FIRST_FRAME..LEN - 16).step_by(8).map(word);
    let file: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    [&[0; FIRST_FRAME as usize][..], &file, &[0; 16]].concat()
}

/// A file of another life, whose records begin with small numbers.
fn small_numbers(epoch: u32) -> Vec<u8> {
    let mut file = vec![0; LEN as usize];
    for (i, at) in (FIRST_FRAME..LEN - 48).step_by(48).enumerate() {
        let payload = [i as u64, 600, 7].map(u64::to_le_bytes).concat();
        let lsn = LIFE.base + at;
        let tag = Tag::new(i as u32, epoch, lsn, lsn);
        let seed = format::seed(!LIFE.salt, epoch);
        let frame = encode_frame(Kind::Record, seed, lsn, tag, &payload);
        file[at as usize..][..frame.len()].copy_from_slice(&frame);
    }
    file
}

/// A file of another life, whose records are pairs of numbers: the high bits of the first are a kind
/// of frame and an epoch, and every second number is small.
fn pairs_of_small_numbers() -> Vec<u8> {
    let pair = |i: u32| (u64::from(i % 7) << 32) | u64::from((1 << 28) | (i % 600));
    let pairs: Vec<u8> =
        (0..(LEN - FIRST_FRAME) as u32 / 8).flat_map(|i| pair(i).to_le_bytes()).collect();
    [&[0; FIRST_FRAME as usize][..], &pairs].concat()
}

/// Searches all of it, and returns the bytes that were checksummed for that.
fn checksummed(file: &[u8], epochs: Epochs<'_>) -> u64 {
    let search = || Search::new(LIFE, file).proof(FROM, LIFE.base + 4000, epochs);
    let (hit, checksummed) = counted::during(search);
    assert!(hit.is_none(), "{hit:?}");
    checksummed
}

#[test]
fn no_file_makes_a_search_checksum_more_than_four_times_its_size() {
    use Kind::{Abandoned, Last, More, Record};
    let rest = LEN; // as long as fits
    let nibbles = |at: u64| (Record, rest, EPOCH + (at / 16 % 16) as u32);
    let shapes = [
        ("short frames", headers(24, |_| (Record, 8, EPOCH))),
        ("frames of some hundred bytes", headers(16, |_| (More, 496, EPOCH))),
        ("frames that end just before blocks do", headers(16, |_| (Last, 504, EPOCH))),
        (
            "frames in frames in frames",
            headers(16, |at| (Record, LEN - 2 * at.min(LEN / 2), EPOCH)),
        ),
        ("frames to the end of the file", headers(16, |_| (Record, rest, EPOCH))),
        ("frames of every epoch", headers(16, nibbles)),
        ("abandoned ones, of any length", headers(16, |_| (Abandoned, rest, EPOCH))),
        ("a header at every word", every_word_a_header()),
        ("pairs of small numbers in a recycled file", pairs_of_small_numbers()),
        ("small numbers in a recycled file", small_numbers(EPOCH)),
    ];
    let named = [BTreeSet::new(), (EPOCH..EPOCH + 5000).collect()];
    for (shape, file) in &shapes {
        for named in &named {
            let epochs = named.len();
            let checksummed = checksummed(file, Epochs { named, least: EPOCH });
            println!("{shape}, {epochs} epochs: {:.2}", checksummed as f64 / LEN as f64);
            assert!(checksummed <= BOUND * LEN, "{shape}, {epochs} epochs: {checksummed} bytes");
            assert!(checksummed > LEN / 2, "{shape}, {epochs} epochs: not all was looked at");
        }
    }
}

#[test]
fn no_file_makes_salvage_checksum_for_ever() {
    // behind each short record a long one that is not intact, and reaches over all others
    let dir = Dir::default();
    let mut segment = dir.first();
    let mut records = 0;
    while segment.at.offset + 64 < SIZE {
        segment.record("");
        records += 1;
        let Place { offset, ordinal } = segment.at;
        let len = (SIZE - offset) as usize - FRAME_HEADER;
        let tag = Tag::new(ordinal, segment.epoch, segment.lsn(), segment.lsn());
        dir.overwrite(1, offset, &header(format::word(Kind::Record, len), tag));
        segment.at.offset += FRAME_HEADER as u64;
    }
    let (salvaged, checksummed) = counted::during(|| salvage(&dir.0, &mut |_, _, _| {}).unwrap());
    println!("salvage: {:.2} of {} records", checksummed as f64 / SIZE as f64, salvaged.records);
    assert!((1..=records).contains(&salvaged.records));
    // recovery walks and searches, and then salvage does, with its walk once more for batches
    let in_vain = 64;
    assert!(checksummed <= (1 + BOUND + in_vain + 2) * SIZE, "{checksummed} bytes");
}

#[test]
fn a_watch_of_seals_that_come_to_point_in_a_circle_comes_to_an_end() {
    let dir = Dir::default();
    let (mut one, mut two) = (dir.file(1, 1), dir.file(2, 1));
    let end = FIRST_FRAME + BEGIN_SIZE + SEAL_SIZE;
    let behind = |index, salt, first_sequence| Begin {
        predecessor_index: index,
        predecessor_salt: salt,
        predecessor_end: index * SIZE + end,
        first_sequence,
    };
    one.begin(behind(2, two.header.salt, 1));
    one.seal(&two);
    two.head = 2 * SIZE + FIRST_FRAME + BEGIN_SIZE; // it needs nothing before it
    two.begin(behind(1, one.header.salt, 5));
    let mut watch = Watch::new(Box::new(dir.0.clone()), Lsn::NONE);
    assert!(watch.next(Duration::ZERO).unwrap().is_none());
    two.seal(&one); // no writer does
    let (tells, told) = mpsc::channel();
    let mut next = move || watch.next(Duration::ZERO).map(|record| record.is_none());
    thread::spawn(move || tells.send(next()).unwrap());
    let told = told.recv_timeout(Duration::from_secs(60)).expect("it goes round and round");
    assert!(told.unwrap(), "there is no record");
}

#[test]
fn a_watch_goes_on_in_the_file_that_counts() {
    let dir = Dir::default();
    let mut one = dir.first();
    one.record("one");
    dir.roll(&mut one, 2, 1).record("counts no more");
    dir.file(3, 1).following(&one, one.at).record("two"); // the highest that follows decides
    assert_eq!(dir.records().unwrap(), ["one", "two"]);
    let mut watch = Watch::new(Box::new(dir.0.clone()), Lsn::NONE);
    let mut next = || watch.next(Duration::ZERO).unwrap().map(|record| record.data().to_vec());
    assert_eq!([next(), next()], [Some(b"one".to_vec()), Some(b"two".to_vec())]);
}
