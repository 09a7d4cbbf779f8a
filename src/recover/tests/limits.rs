//! Disks that fail, names that are not durable, numbers at their ends.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::builder::damaged;
use super::*;
use crate::Error;
use crate::error::Damage;
use crate::format::{self, Begin, FIRST_FRAME};
use crate::log::Log;
use crate::map::Map;
use crate::options::Options;
use crate::recover::{Directory, Next, Verify, recover};
use crate::storage::{Access, Memory, Region, Storage};
use crate::sync::Arc;

/// A directory whose names are not durable, and one of whose places is unreadable.
#[derive(Debug)]
struct Poor {
    dir: Memory,
    bad: Option<(String, u64)>,
}

#[derive(Debug)]
struct PoorRegion {
    region: Box<dyn Region>,
    bad: Option<u64>,
}

impl Storage for Poor {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path(name)
    }
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.dir.lock()
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.dir.list()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>> {
        self.dir.create(name, len)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn Region>> {
        let bad = self.bad.as_ref().filter(|bad| bad.0 == name).map(|bad| bad.1);
        Ok(Box::new(PoorRegion { region: self.dir.open(name, access)?, bad }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn names_are_durable(&self) -> bool {
        false
    }
}

impl Region for PoorRegion {
    fn map(&self) -> &Arc<Map> {
        self.region.map()
    }
    fn flush(&self, range: Range<u64>) -> io::Result<()> {
        self.region.flush(range)
    }
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.region.populate(range)
    }
    fn load(&self, range: Range<u64>) -> io::Result<()> {
        match self.bad {
            Some(bad) if range.contains(&bad) => Err(io::Error::other("bad sector")),
            _ => self.region.load(range),
        }
    }
    fn is_unshared(&self) -> io::Result<bool> {
        self.region.is_unshared()
    }
    fn share(&self) -> io::Result<()> {
        self.region.share()
    }
}

#[test]
fn a_next_file_whose_name_was_lost_is_made_again_where_names_are_not_durable() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let next = dir.file(2, 1);
    first.seal(&next);
    dir.remove(2);
    assert!(matches!(dir.recover().unwrap_err(), Error::Missing { .. }));
    let poor = Poor { dir: dir.0.clone(), bad: None };
    let Directory::Log(found) = recover(&poor, Verify::All).unwrap() else { panic!() };
    assert_eq!((found.next, found.report.tail.0), (Next::Fresh, first.lsn()));
    // but not if something behind it had been durable
    let mut third = dir.file(3, 1).following(&first, first.at);
    third.durable = first.lsn() + 8;
    third.record("three");
    dir.overwrite(3, FIRST_FRAME, &[0; 4]);
    assert!(matches!(recover(&poor, Verify::All).unwrap_err(), Error::Missing { .. }));
}

#[test]
fn bad_media_is_an_error_with_the_file() {
    for (index, at) in
        [(1, 0), (1, 4100), (1, 60_000), (2, 4100), (2, 60_000), (3, 4100), (3, 60_000)]
    {
        let dir = Dir::default();
        dir.segments(["in a sealed segment", "in the last one"]);
        dir.file(3, 1);
        let name = format::file_name(index);
        let poor = Poor { dir: dir.0.clone(), bad: Some((name.clone(), at)) };
        match recover(&poor, Verify::All).unwrap_err() {
            Error::Io { path, .. } => assert!(path.ends_with(name)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn numbers_at_their_ends_are_refused() {
    let begin = |first_sequence| Begin {
        predecessor_index: 0,
        predecessor_salt: 0,
        predecessor_end: 0,
        first_sequence,
    };
    for (sequence, epoch, sound) in
        [(1, 1, true), (0, 1, false), (u64::MAX, 1, false), (1, u32::MAX, false)]
    {
        let dir = Dir::default();
        let mut segment = dir.file(1, 1);
        segment.epoch = epoch;
        segment.begin(begin(sequence));
        let damage = match dir.recover() {
            Ok(_) => None,
            Err(Error::Damaged { damage, .. }) => Some(damage),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(damage, (!sound).then_some(Damage::State), "{sequence} {epoch}");
    }
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.epoch = u32::MAX - 1;
    segment.open();
    assert!(matches!(dir.recover().unwrap_err(), Error::Damaged { damage: Damage::Epoch, .. }));
}

#[test]
fn begins_that_name_nonsense_are_refused() {
    let sound = Begin {
        predecessor_index: 1,
        predecessor_salt: 0x5a18,
        predecessor_end: 0,
        first_sequence: 2,
    };
    for begin in [
        Begin { predecessor_index: 2, ..sound }, // itself
        Begin { predecessor_index: u64::MAX, ..sound },
        Begin { predecessor_index: 0, ..sound },
        Begin { predecessor_salt: 1, ..sound },
        Begin { predecessor_end: u64::MAX, ..sound },
        Begin { predecessor_end: SIZE + 4097, ..sound },
    ] {
        let dir = Dir::default();
        let mut second = dir.file(2, 1);
        second.head = 2 * SIZE;
        second.begin(begin);
        second.head(u64::MAX); // and above its own tail
        assert!(dir.recover().is_err(), "{begin:?}");
        dir.first().record("one");
        // with a sound first segment the other is dead
        assert_eq!(dir.records().unwrap(), ["one"], "{begin:?}");
    }
}

#[test]
fn old_payloads_that_look_like_frames_decide_nothing() {
    // behind the tail stands what a recycled file holds: pairs of numbers, each like a header
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let tail = segment.at.offset;
    let pairs: Vec<u8> = (0..SIZE - tail - 8)
        .step_by(8)
        .flat_map(|i| (((i % 7) << 32) | (1 << 28) | (i % 600)).to_le_bytes())
        .collect();
    dir.overwrite(1, tail + 8, &pairs);
    assert_eq!(dir.records().unwrap(), texts(["one"]));
    // but one of them that is a frame does
    segment.at.offset += 4 * 600;
    segment.at.ordinal += 1;
    segment.sync();
    segment.record("three");
    assert_eq!(damaged(&dir.recover().unwrap_err()).1, tail);
}

#[test]
fn a_lost_begin_behind_a_cut_is_named() {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    let cut = first.at;
    first.record("two");
    let mut third = dir.file(3, 1).following(&first, cut);
    third.sync();
    third.record("three");
    dir.flip(3, FIRST_FRAME + 16, 1);
    let error = dir.recover().unwrap_err();
    assert_eq!(damaged(&error), (format::file_name(3), FIRST_FRAME));
}

#[test]
fn begins_alone_are_believed_only_if_their_epochs_grow() {
    let dir = Dir::default();
    let mut first = dir.file(1, 1);
    first.epoch = 2;
    first.begin(Begin {
        predecessor_index: 0,
        predecessor_salt: 0,
        predecessor_end: 0,
        first_sequence: 1,
    });
    first.epoch = 1;
    first.durable = first.lsn() + 32;
    dir.roll(&mut first, 2, 1).record("one");
    assert!(recover(&dir.0, Verify::Tail).is_err());
}

#[test]
fn marks_say_how_far_the_log_is_proved() {
    let dir = Dir::default();
    let mut segment = dir.first();
    segment.record("one");
    let before = dir.recover().unwrap().proved;
    segment.sync();
    let synced = segment.lsn();
    segment.record("two");
    let found = dir.recover().unwrap();
    assert_eq!((before.0, found.proved.0), (SIZE + FIRST_FRAME, synced));
}

#[test]
fn a_tail_with_no_room_for_a_seal_was_not_left_by_a_writer() {
    for (left, sound) in [(0, false), (24, false), (32, true), (48, true)] {
        let dir = Dir::default();
        let mut segment = dir.first();
        let len = SIZE - left - segment.at.offset - format::FRAME_HEADER as u64;
        segment.bytes(&vec![1; len as usize]);
        let found = dir.recover();
        assert_eq!(found.is_ok(), sound, "{left} bytes left: {found:?}");
        if sound {
            let log = Log::open(Box::new(dir.0.clone()), Options::new()).unwrap();
            assert!(log.next_lsn() > found.unwrap().report.tail);
        }
    }
}

#[test]
fn salvage_reads_on_behind_bad_media_however_many_records_it_held() {
    for len in [0, 1, 8, 16, 24, 64, 100, 1000] {
        let dir = Dir::default();
        let mut segment = dir.first();
        let mut records = Vec::new();
        while segment.at.offset + len + 64 < SIZE {
            let at = segment.at.offset;
            segment.bytes(&vec![7; len as usize]);
            records.push(at..segment.at.offset);
        }
        let page = 32_768..36_864;
        let poor = Poor { dir: dir.0.clone(), bad: Some((format::file_name(1), page.start)) };
        let mut salvaged = Vec::new();
        let visit = &mut |lsn: crate::Lsn, _: Option<u64>, _: &[u8]| salvaged.push(lsn.0 % SIZE);
        let done = crate::salvage::salvage(&poor, visit).unwrap();
        records.retain(|record| record.end <= page.start || record.start >= page.end);
        let intact: Vec<_> = records.iter().map(|record| record.start).collect();
        assert_eq!(salvaged, intact, "{len} bytes each");
        assert!(done.skipped.is_sorted_by_key(|skipped| skipped.from), "{:?}", done.skipped);
    }
}
