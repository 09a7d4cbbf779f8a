//! What must hold of every directory, whatever lies in it: promise P11 of `docs/guarantees.md`, and
//! that what is opened is the log that the format says is there.

use std::time::Duration;

use mapwal::sim::Disk;
use mapwal::{Error, Lsn, Options, Result, Verify, Wal};

use crate::format::SEGMENT;
use crate::reader::{self, Entry, Files};

/// Looks at all that a disk holds in every way there is, opens it, and goes on with it.
pub fn survives(disk: &Disk) {
    let before = files(disk);
    let inspected =
        [Verify::All, Verify::Tail].map(|verify| Options::new().verify(verify).inspect_on(disk));
    let mut salvaged = 0;
    let report =
        Options::new().salvage_on(disk, |_, _, _| salvaged += 1).expect("it can be listed");
    assert_eq!(report.records, salvaged);
    let watched = watched(disk);
    assert!(files(disk) == before, "who looks changes nothing");

    let [all, tail] = inspected;
    let wal = match (open(disk), &all) {
        (Ok(wal), Ok(_)) => wal,
        (Ok(_), Err(error)) => panic!("opened, and inspecting it is refused: {error}"),
        (Err(error), Err(_)) => {
            is_about_the_files(&error);
            assert!(files(disk) == before, "what is refused is left as it is");
            return;
        }
        // there is no room behind it
        (Err(Error::OutOfPlaces), Ok(_)) => return,
        (Err(error), Ok(_)) => panic!("inspected, and opening it is refused: {error}"),
    };
    if let Ok(Some(found)) = &all {
        assert_eq!((found.head, found.epoch), (wal.head_lsn(), wal.recovery().epoch));
        let Ok(Some(by_tail)) = tail else { panic!("refused where less is verified: {tail:?}") };
        assert_eq!((by_tail.tail, by_tail.head), (found.tail, found.head));
        assert_eq!((by_tail.ended, by_tail.epoch), (found.ended.clone(), found.epoch));
    }
    let expected = reader::read(&before);
    let mut entries = entries(&wal).expect("all of it was verified");
    assert_eq!(Ok(&entries), expected.as_ref(), "the log of the format");
    assert_eq!(watched.expect("all of it is verified"), records(&entries), "watched");
    goes_on(disk, wal, &mut entries);
}

/// Appends a record to a log, which is there when it is opened again, behind what was before.
fn goes_on(disk: &Disk, wal: Wal, entries: &mut Vec<Entry>) {
    let lsn = match wal.commit(b"goes on") {
        Ok(lsn) => lsn,
        Err(Error::OutOfPlaces) => return,
        Err(error) => panic!("nothing can be appended: {error}"),
    };
    let read = wal.read(lsn).expect("it was appended");
    entries.push(Entry {
        lsn: lsn.as_u64(),
        sequence: read.sequence(),
        data: Some(b"goes on".into()),
    });
    assert!(entries.is_sorted_by(|a, b| a.lsn < b.lsn && a.sequence + 1 == b.sequence));
    drop(read);
    wal.close().expect("the disk is sound");
    let wal = open(disk).expect("it was closed");
    assert_eq!(self::entries(&wal).expect("it was closed"), *entries, "after it was opened again");
}

fn open(disk: &Disk) -> Result<Wal> {
    Options::new().segment_size(SEGMENT).open_on(disk)
}

/// All that a disk holds.
pub fn files(disk: &Disk) -> Files {
    disk.files().into_iter().map(|name| (name.clone(), disk.read(&name))).collect()
}

/// All that a log holds, which is the same backwards.
fn entries(wal: &Wal) -> Result<Vec<Entry>> {
    let entry = |record: Result<mapwal::Record<'_>>| {
        let record = record?;
        let data = (!record.is_abandoned()).then(|| record.data().to_vec());
        Ok(Entry { lsn: record.lsn().as_u64(), sequence: record.sequence(), data })
    };
    let reader = wal.reader();
    let forwards: Vec<_> = reader.iter().with_abandoned().map(entry).collect::<Result<_>>()?;
    let mut backwards: Vec<_> = reader.backwards().map(entry).collect::<Result<_>>()?;
    backwards.reverse();
    assert_eq!(records(&forwards), backwards, "backwards");
    Ok(forwards)
}

/// Those that are not abandoned.
fn records(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|it| it.data.is_some()).cloned().collect()
}

/// All that is found from outside, which comes to an end.
fn watched(disk: &Disk) -> Result<Vec<Entry>> {
    let mut watch = Options::new().watch_on(disk, Lsn::NONE);
    let mut entries = Vec::new();
    while let Some(record) = watch.next(Duration::ZERO)? {
        entries.push(Entry {
            lsn: record.lsn().as_u64(),
            sequence: record.sequence(),
            data: Some(record.data().to_vec()),
        });
        assert!(entries.is_sorted_by(|a, b| a.lsn < b.lsn), "round and round");
    }
    Ok(entries)
}

/// Whether an error says that something is wrong with the files.
fn is_about_the_files(error: &Error) {
    let is = matches!(
        error,
        Error::Damaged { .. }
            | Error::Missing { .. }
            | Error::Foreign { .. }
            | Error::UnsupportedVersion { .. }
    );
    assert!(is, "{error}");
}
