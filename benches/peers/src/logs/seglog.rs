//! seglog: one writer, a buffer of 16 KiB, files of a fixed size. It knows one file;
//! the row of files is its user's, so it is kept here.
//!
//! After a crash seglog takes back what no commit marker covers, so to make durable
//! is `commit` (a marker, then a flush), not `sync`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seglog::read::Reader;
use seglog::write::Writer;
use seglog::{COMMIT_MARKER_PAYLOAD, RECORD_HEAD_SIZE};

use crate::log::{About, Log, Shape};

/// What has to stay free behind a record, so that the file can be committed.
const MARKER: usize = RECORD_HEAD_SIZE + COMMIT_MARKER_PAYLOAD;

pub struct Seglog(Mutex<Segments>);

struct Segments {
    dir: PathBuf,
    shape: Shape,
    /// Full, and not committed since: oldest first.
    full: Vec<Writer<0>>,
    active: Writer<0>,
    active_number: u64,
    /// Of the last record. The marker takes it down for who reads.
    position: u64,
}

impl Log for Seglog {
    const ABOUT: About = About {
        name: "seglog",
        appended: "the process: a buffer of 16 KiB, written when full",
        synced: "write, then fdatasync of each file written since, under the lock",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        Self(Mutex::new(Segments::open(dir, shape)))
    }

    fn append(&self, record: &[u8]) {
        self.0.lock().unwrap().append(record);
    }

    fn append_alone(&mut self, record: &[u8]) {
        self.0.get_mut().unwrap().append(record);
    }

    fn sync(&self) {
        self.0.lock().unwrap().commit();
    }

    fn commit(&self, record: &[u8]) {
        let mut segments = self.0.lock().unwrap();
        segments.append(record);
        segments.commit();
    }

    fn close(self) {
        self.sync(); // or an open would take back what is not committed
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        let active = Segments::open(dir, shape);
        for number in 0..active.active_number {
            visit_all(Reader::open_read_only(path(dir, number), None).unwrap(), visit);
        }
        let committed = Some(active.active.flushed_offset());
        let last = path(dir, active.active_number);
        visit_all(Reader::open_read_only(last, committed).unwrap(), visit);
        true
    }
}

impl Segments {
    fn open(dir: &Path, shape: Shape) -> Self {
        let count = (0..).find(|&number| !path(dir, number).exists()).unwrap();
        let active_number = u64::saturating_sub(count, 1);
        let active = match count {
            0 => create(dir, shape, 0),
            _ => {
                let path = path(dir, active_number);
                let size = fs::metadata(&path).unwrap().len() as usize;
                Writer::open(path, size, 0).expect("open a segment")
            }
        };
        Self {
            dir: dir.to_owned(),
            shape,
            full: Vec::new(),
            position: active.last_committed_position().unwrap_or(0),
            active,
            active_number,
        }
    }

    fn append(&mut self, record: &[u8]) {
        let size = RECORD_HEAD_SIZE + record.len() + MARKER;
        if self.active.remaining_bytes() < size as u64 {
            self.roll();
        }
        self.active.append_data(record).expect("append to seglog");
        self.position += 1;
    }

    /// Goes on in a new file. The full one waits for the next commit: to commit it here
    /// would be a flush that no one asked for.
    fn roll(&mut self) {
        self.active_number += 1;
        let next = create(&self.dir, self.shape, self.active_number);
        self.full.push(std::mem::replace(&mut self.active, next));
    }

    fn commit(&mut self) {
        for mut segment in self.full.drain(..) {
            commit(&mut segment, self.position);
        }
        commit(&mut self.active, self.position);
    }
}

/// A marker and a flush, if there is something to commit: there may be no room for a second
/// marker.
fn commit(segment: &mut Writer<0>, position: u64) {
    if segment.write_offset() != segment.flushed_offset().load() {
        segment.commit(position).expect("commit to seglog");
    }
}

/// Makes a file of its full size, and makes it durable: seglog does it here, and so in
/// the append that finds no room.
fn create(dir: &Path, shape: Shape, number: u64) -> Writer<0> {
    let size = shape.segment as usize;
    let mut writer = Writer::create(path(dir, number), size, 0).expect("create a segment");
    let max_record = writer.max_record().max(RECORD_HEAD_SIZE + shape.record);
    writer.set_max_record(max_record);
    writer
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

fn visit_all(mut reader: Reader<0>, visit: &mut dyn FnMut(&[u8])) {
    let mut records = reader.iter(0);
    while let Some(record) = records.next_record().expect("a whole record") {
        visit(&record.data);
    }
}
