//! What is told while a log's files are read through.

mod common;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{SEGMENT, TempDir, append_all, segments, small, snapshot, texts};
use mapwal::sim::Disk;
use mapwal::{Ended, Options, Progress, Verify};

/// All that was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Progress>>>);

impl Told {
    fn to(&self, options: Options) -> Options {
        let told = self.0.clone();
        options.on_progress(move |progress| {
            std::thread::sleep(Duration::from_millis(1)); // another would come
            told.lock().unwrap().push(progress);
        })
    }

    fn take(&self) -> Vec<Progress> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A log that was not closed, of several segments, and its records.
fn log() -> (TempDir, Vec<String>) {
    let (of_writer, directory) = (TempDir::new(), TempDir::new());
    let records: Vec<_> = (0..300).map(|i| format!("record {i} {}", "x".repeat(1000))).collect();
    let wal = small().background(false).open(&of_writer).unwrap();
    append_all(&wal, &records);
    for (name, bytes) in snapshot(&of_writer) {
        fs::write(directory.join(name), bytes).unwrap();
    }
    assert!(segments(&directory).len() > 4);
    (directory, records)
}

fn len_of_all(directory: &TempDir) -> u64 {
    segments(directory).iter().map(|name| fs::metadata(directory.join(name)).unwrap().len()).sum()
}

/// That it grew from nearly nothing to `end`, of all there is.
fn assert_grew_to(end: u64, told: &[Progress], total: u64) {
    assert!(told.iter().all(|progress| progress.total == total), "{told:?}");
    assert!(told.is_sorted_by(|before, after| before.read <= after.read), "{told:?}");
    assert!(told.first().is_some_and(|first| (1..=SEGMENT).contains(&first.read)), "{told:?}");
    assert_eq!(told.last().map(|last| last.read), Some(end), "{told:?}");
}

#[test]
fn looking_and_opening_tell_how_far_they_came() {
    let (directory, records) = log();
    let (told, total) = (Told::default(), len_of_all(&directory));
    let options = told.to(Options::new());
    assert!(format!("{options:?}").contains("listener: Some"));
    let report = options.inspect(&directory).unwrap().unwrap();
    assert_eq!(report.ended, Ended::Unclosed);
    assert_grew_to(total, &told.take(), total);
    let wal = told.to(Options::new()).open(&directory).unwrap();
    assert_grew_to(total, &told.take(), total);
    assert_eq!(texts(&wal), records);
    assert!(told.take().is_empty(), "the log is open");
    assert_eq!(Arc::strong_count(&told.0), 1, "it is let go");
}

#[test]
fn what_is_not_read_is_not_told() {
    let (directory, _) = log();
    small().open(&directory).unwrap().close().unwrap();
    let (told, total) = (Told::default(), len_of_all(&directory));
    told.to(Options::new().verify(Verify::Tail)).inspect(&directory).unwrap().unwrap();
    let last = *told.take().last().unwrap();
    assert_eq!(last.total, total);
    assert!((1..=2 * SEGMENT).contains(&last.read), "{last:?}");
}

#[test]
fn a_simulated_disk_tells_so_too() {
    let disk = Disk::new();
    let wal = small().background(false).open_on(&disk).unwrap();
    wal.append(b"a record").unwrap();
    drop(wal);
    let told = Told::default();
    told.to(Options::new()).inspect_on(&disk).unwrap().unwrap();
    let looking = told.take();
    let total = looking[0].total;
    assert!(total >= SEGMENT);
    assert_grew_to(total, &looking, total);
    told.to(Options::new()).open_on(&disk).unwrap();
    assert_eq!(told.take(), looking);
}

#[test]
fn who_looks_again_begins_again() {
    let (directory, _) = log();
    let tail = Options::new().inspect(&directory).unwrap().unwrap().tail.as_u64();
    let path = directory.join(format!("{:016x}.wal", tail / SEGMENT));
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(tail % SEGMENT)).unwrap();
    file.write_all(b"cut short").unwrap();
    let (told, total) = (Told::default(), len_of_all(&directory));
    let report = told.to(Options::new()).inspect(&directory).unwrap().unwrap();
    assert!(matches!(report.ended, Ended::Torn { .. }), "{report:?}");
    let told = told.take();
    let falls: Vec<_> = (1..told.len()).filter(|&i| told[i].read < told[i - 1].read).collect();
    let [again] = falls[..] else { panic!("{told:?}") };
    for look in [&told[..again], &told[again..]] {
        assert_grew_to(total, look, total);
    }
}

#[test]
fn one_that_panics_leaves_the_log_as_it_is() {
    let (directory, records) = log();
    let before = snapshot(&directory);
    for read in [1, 2 * SEGMENT] {
        let options = Options::new().on_progress(move |progress| {
            assert!(progress.read < read, "enough");
        });
        assert!(catch_unwind(AssertUnwindSafe(|| options.open(&directory))).is_err());
        assert!(snapshot(&directory) == before);
    }
    assert_eq!(texts(&small().open(&directory).unwrap()), records);
}
