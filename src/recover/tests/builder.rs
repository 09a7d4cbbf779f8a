//! Builds directories frame by frame, as writers would.

use crate::format::{
    self, BEGIN_SIZE, Begin, FIRST_FRAME, Kind, Reason, Seal, SegmentHeader, State, Tag,
};
use crate::lsn::Lsn;
use crate::recover::{Directory, Found, Next, Verify, recover};
use crate::scan::{Life, Place, START, Walk};

use crate::storage::{Access, Memory, Region, Storage};
use crate::{Error, Result};

pub(super) const SIZE: u64 = 64 << 10;

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Dir(pub(super) Memory);

impl Dir {
    /// A file with a header alone.
    pub(super) fn file(&self, index: u64, slots: u32) -> Segment {
        let salt = 0x5a17 + index;
        let header = SegmentHeader { uuid: [7; 16], index, segment_size: SIZE, slots, salt };
        let region = self.0.create(&format::file_name(index), SIZE * u64::from(slots)).unwrap();
        region.map().write(0, &header.encode());
        Segment { region, header, at: START, first_sequence: 1, epoch: 1, durable: 0, head: 0 }
    }

    /// The first segment of a log.
    pub(super) fn first(&self) -> Segment {
        let mut segment = self.file(1, 1);
        segment.begin(Begin {
            predecessor_index: 0,
            predecessor_salt: 0,
            predecessor_end: 0,
            first_sequence: 1,
        });
        segment
    }

    /// A log with a segment for each text, which is its only record: 1, 2, and so on.
    pub(super) fn segments<const N: usize>(&self, texts: [&str; N]) -> [Segment; N] {
        let mut segments = Vec::with_capacity(N);
        for (text, index) in texts.into_iter().zip(1..) {
            let mut segment = match segments.last_mut() {
                None => self.first(),
                Some(before) => self.roll(before, index, 1),
            };
            segment.record(text);
            segments.push(segment);
        }
        segments.try_into().unwrap()
    }

    /// A segment that follows `before`, which is sealed.
    pub(super) fn roll(&self, before: &mut Segment, index: u64, slots: u32) -> Segment {
        let next = self.file(index, slots);
        before.seal(&next);
        next.following(before, before.at)
    }

    pub(super) fn recover(&self) -> Result<Found> {
        let found = log(recover(&self.0, Verify::All)?);
        // it makes no difference to what is found, where nothing is damaged
        let short = log(recover(&self.0, Verify::Tail)?);
        assert_eq!(short.report.ended, found.report.ended);
        assert_eq!((short.next, &short.dead), (found.next, &found.dead));
        assert_eq!((short.head, short.report.tail), (found.head, found.report.tail));
        let ends = |found: &Found| found.links.iter().map(|link| link.end).collect::<Vec<_>>();
        assert_eq!(ends(&short), ends(&found));
        Ok(found)
    }

    /// The records of the log, as recovery finds it.
    pub(super) fn records(&self) -> Result<Vec<String>> {
        Ok(self.read(&self.recover()?))
    }

    pub(super) fn read(&self, found: &Found) -> Vec<String> {
        let mut records = Vec::new();
        for link in &found.links {
            let region = self.region(link.header.index);
            let base = link.header.index * SIZE;
            let mut walk = Walk::new(Life { base, salt: link.header.salt }, START, 0);
            while walk.at().offset < link.end.offset {
                let range = walk.at().offset..region.map().len();
                let bytes = region.map().published(range);
                let lsn = base + walk.at().offset;
                let Ok(frame) = walk.step(bytes) else { break };
                if matches!(frame.kind, Kind::Record | Kind::More | Kind::Last)
                    && lsn >= found.head.0
                {
                    records.push(String::from_utf8_lossy(frame.payload).into_owned());
                }
            }
            assert_eq!(walk.boundary(), link.end);
        }
        records
    }

    pub(super) fn region(&self, index: u64) -> Box<dyn Region> {
        self.0.open(&format::file_name(index), Access::Write).unwrap()
    }

    pub(super) fn remove(&self, index: u64) {
        self.0.remove(&format::file_name(index)).unwrap();
    }

    /// Writes over bytes, as a bad disk does.
    pub(super) fn overwrite(&self, index: u64, at: u64, bytes: &[u8]) {
        self.region(index).map().write(at, bytes);
    }

    pub(super) fn flip(&self, index: u64, at: u64, bits: u8) {
        let region = self.region(index);
        let byte = region.map().published(at..at + 1)[0];
        region.map().write(at, &[byte ^ bits]);
    }

    pub(super) fn is_empty_log(&self) -> bool {
        matches!(recover(&self.0, Verify::All), Ok(Directory::Empty { .. }))
    }
}

fn log(directory: Directory) -> Found {
    match directory {
        Directory::Log(found) => *found,
        Directory::Empty { .. } => panic!("there is no log"),
    }
}

/// Where it is damaged: file and byte.
pub(super) fn damaged(error: &Error) -> (String, u64) {
    match error {
        Error::Damaged { path, at, .. } => {
            (path.file_name().unwrap().to_string_lossy().into_owned(), *at)
        }
        other => panic!("not damage: {other:?}"),
    }
}

pub(super) fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// A segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) region: Box<dyn Region>,
    pub(super) header: SegmentHeader,
    pub(super) at: Place,
    pub(super) first_sequence: u64,
    pub(super) epoch: u32,
    /// The durable LSN that the next frame carries.
    pub(super) durable: u64,
    pub(super) head: u64,
}

impl Segment {
    pub(super) fn lsn(&self) -> u64 {
        self.header.index * SIZE + self.at.offset
    }

    fn put(&mut self, kind: Kind, epoch: u32, payload: &[u8]) -> u64 {
        let lsn = self.lsn();
        let tag = Tag::new(self.at.ordinal, self.epoch, lsn, self.durable);
        let seed = format::seed(self.header.salt, epoch);
        let frame = format::encode_frame(kind, seed, lsn, tag, payload);
        self.region.map().write(self.at.offset, &frame);
        self.at.offset += frame.len() as u64;
        self.at.ordinal += u32::from(kind.counts());
        lsn
    }

    /// Appends a record, and returns where it is.
    pub(super) fn record(&mut self, text: &str) -> u64 {
        self.put(Kind::Record, self.epoch, text.as_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        self.put(Kind::Record, self.epoch, bytes)
    }

    pub(super) fn batch<const N: usize>(&mut self, texts: [&str; N]) -> u64 {
        let lsn = self.lsn();
        for (i, text) in texts.iter().enumerate() {
            let kind = if i + 1 < N { Kind::More } else { Kind::Last };
            self.put(kind, self.epoch, text.as_bytes());
        }
        lsn
    }

    pub(super) fn abandon(&mut self, len: usize) {
        let lsn = self.lsn();
        let tag = Tag::new(self.at.ordinal, self.epoch, lsn, self.durable);
        let seed = format::seed(self.header.salt, self.epoch);
        let frame = format::encode_frame(Kind::Abandoned, seed, lsn, tag, &vec![7; len]);
        self.region.map().write(self.at.offset, &frame);
        self.at.offset += frame.len() as u64;
        self.at.ordinal += 1;
    }

    fn state(&mut self, reason: Reason) -> u64 {
        let state = State {
            reason,
            epoch: self.epoch,
            head: Lsn(self.head),
            durable: Lsn(self.durable),
            time_ns: 1,
        };
        self.put(Kind::State, state.seed_epoch(), &state.encode())
    }

    pub(super) fn begin(&mut self, begin: Begin) {
        self.first_sequence = begin.first_sequence;
        self.state(Reason::Begin(begin));
        assert_eq!(self.at.offset, FIRST_FRAME + BEGIN_SIZE);
    }

    /// Begins behind `end` in `before`.
    pub(super) fn following(mut self, before: &Segment, end: Place) -> Segment {
        self.epoch = before.epoch.max(self.epoch);
        self.head = before.head;
        self.durable = before.durable;
        self.begin(Begin {
            predecessor_index: before.header.index,
            predecessor_salt: before.header.salt,
            predecessor_end: before.header.index * SIZE + end.offset,
            first_sequence: before.first_sequence + u64::from(end.ordinal),
        });
        self
    }

    pub(super) fn seal(&mut self, next: &Segment) {
        let seal = Seal { next_index: next.header.index, next_salt: next.header.salt };
        self.put(Kind::Seal, self.epoch, &seal.encode());
    }

    /// Begins the next epoch here.
    pub(super) fn open(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.durable = self.lsn();
        self.state(Reason::Open);
    }

    pub(super) fn head(&mut self, head: u64) {
        self.head = head;
        self.state(Reason::Head);
    }

    pub(super) fn close(&mut self) {
        self.durable = self.lsn();
        self.state(Reason::Close);
    }

    /// Everything up to here is known to be durable by what follows.
    pub(super) fn sync(&mut self) {
        self.durable = self.lsn();
    }

    /// A frame that a crash never let reach the disk.
    pub(super) fn skip(&mut self, text: &str) -> u64 {
        let lsn = self.lsn();
        self.at.offset += format::frame_size(text.len());
        self.at.ordinal += 1;
        lsn
    }
}

/// The tail of what was found, in the last link.
pub(super) fn tail(found: &Found) -> u64 {
    assert_eq!(found.next, Next::There);
    let link = found.links.last().unwrap();
    link.header.index * SIZE + link.end.offset
}
