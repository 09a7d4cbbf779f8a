//! seglog: one writer, a buffer of 16 KiB, files of a fixed size. It knows one file;
//! the row of files is its user's, so it is kept here, and its beginning is removed here.
//!
//! After a crash seglog takes back what no commit marker covers, so to make durable
//! is `commit` (a marker, then a flush), not `sync`.

use std::fs;
use std::mem;
use std::ops::{Range, RangeInclusive};
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
    /// Of the oldest file that was not given up.
    first_number: u64,
    /// It has the last record: it was made for one that did not fit in the file before.
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

    /// Removes the files below the one that has the last record, whole and oldest first, so that
    /// a crash leaves a row. Appends wait only until it is known which.
    fn truncate(&self) -> bool {
        let (dir, numbers, unwritten) = self.0.lock().unwrap().give_up();
        for number in numbers {
            fs::remove_file(path(&dir, number)).expect("remove a segment");
        }
        drop(unwritten); // what is left in their buffers goes to files without a name
        true
    }

    fn close(self) {
        self.sync(); // or an open would take back what is not committed
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        let active = Segments::open(dir, shape);
        for number in active.first_number..active.active_number {
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
        let (first_number, active_number) = numbers(dir).map_or((0, 0), RangeInclusive::into_inner);
        let path = path(dir, active_number);
        let active = match fs::metadata(&path) {
            Ok(there) => Writer::open(path, there.len() as usize, 0).expect("open a segment"),
            Err(_) => create(dir, shape, active_number),
        };
        Self {
            dir: dir.to_owned(),
            shape,
            full: Vec::new(),
            position: active.last_committed_position().unwrap_or(0),
            first_number,
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
        self.full.push(mem::replace(&mut self.active, next));
    }

    /// Which files are to be removed, and where; and those of them that no commit needs any more.
    fn give_up(&mut self) -> (PathBuf, Range<u64>, Vec<Writer<0>>) {
        let first_number = mem::replace(&mut self.first_number, self.active_number);
        (self.dir.clone(), first_number..self.active_number, mem::take(&mut self.full))
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

/// The first and the last of the row of files. `None`: there is none.
fn numbers(dir: &Path) -> Option<RangeInclusive<u64>> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name());
    let numbers: Vec<u64> =
        files.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse().ok()).collect();
    Some(*numbers.iter().min()?..=*numbers.iter().max()?)
}

fn visit_all(mut reader: Reader<0>, visit: &mut dyn FnMut(&[u8])) {
    let mut records = reader.iter(0);
    while let Some(record) = records.next_record().expect("a whole record") {
        visit(&record.data);
    }
}
