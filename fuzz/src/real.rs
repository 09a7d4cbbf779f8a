//! Real logs, written by the library on a simulated disk: what inputs begin with.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

use mapwal::sim::Disk;
use mapwal::{Lsn, Options, Result, Wal};

use crate::format::{FIRST_FRAME, Header, SEAL, SEGMENT, STATE, index_of, put, u64_at};
use crate::reader::Files;
use crate::survives::files;

/// The salt of the segment with this index: in place of what is random, so that an input is the
/// same each time.
pub fn salt(index: u64) -> u64 {
    0x0123_4567_89ab_cdef ^ index
}

pub const UUID: [u8; 16] = [7; 16];

/// Logs of all shapes, made once.
pub static LOGS: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let shapes = [closed, killed, opened_often, given_up, cut, large, torn];
    shapes.map(|shape| with_known_salts(&shape().expect("a simulated disk does not fail"))).into()
});

fn open(disk: &Disk) -> Result<Wal> {
    Options::new().segment_size(SEGMENT).open_on(disk)
}

/// Three segments, with batches and an abandoned claim, and a spare.
fn closed() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    for i in 0..3u8 {
        wal.commit(&[i; 5])?;
        wal.append_batch(&[b"one of three", b"two", &[i; 40]])?;
        let panics = || wal.append_with(9, |_| resume_unwind(Box::new(())));
        let _ = catch_unwind(AssertUnwindSafe(panics));
        wal.append(b"")?;
        wal.rotate()?;
    }
    wal.append(b"the last one")?;
    wal.close()?;
    Ok(files(&disk))
}

/// Two segments as they are in the page cache when a process is killed.
fn killed() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    wal.commit(b"acknowledged")?;
    wal.rotate()?;
    wal.append(b"not yet")?;
    wal.sync()?;
    wal.append_batch(&[b"a batch", b"of two"])?;
    disk.lose();
    drop(wal);
    Ok(files(&disk.crash(1)))
}

/// One segment, with many epochs.
fn opened_often() -> Result<Files> {
    let disk = Disk::new();
    for i in 0..18u8 {
        let wal = open(&disk)?;
        wal.append(&[i])?;
    }
    Ok(files(&disk))
}

/// Segments below the head are gone or used again.
fn given_up() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    let mut last = Lsn::NONE;
    for i in 0..5u8 {
        for _ in 0..3 {
            last = wal.append(&[i; 100])?;
        }
        wal.rotate()?;
        if i % 2 == 1 {
            wal.truncate_before(last)?;
        }
    }
    wal.commit(b"kept")?;
    wal.truncate_before(last)?;
    wal.close()?;
    Ok(files(&disk))
}

/// What was behind a record was given up, and the files that were are there again.
fn cut() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    let kept = wal.append(b"kept")?;
    wal.append(b"cut away")?;
    wal.rotate()?;
    wal.commit(b"cut away, too")?;
    wal.close()?;
    let before = files(&disk);
    let wal = open(&disk)?;
    wal.truncate_after(kept)?;
    wal.commit(b"behind the cut")?;
    wal.close()?;
    let mut all = before;
    all.extend(files(&disk));
    Ok(all)
}

/// A record in a file of its own.
fn large() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    wal.append(b"small")?;
    wal.append(&vec![0x5a; 70_000])?;
    wal.commit(b"small again")?;
    wal.close()?;
    Ok(files(&disk))
}

/// The end is lost in part, with intact frames behind the hole.
fn torn() -> Result<Files> {
    let disk = Disk::new();
    let wal = open(&disk)?;
    wal.commit(b"acknowledged")?;
    for i in 0..20u8 {
        wal.append(&[i; 90])?;
    }
    disk.lose();
    drop(wal);
    let first_frame = FIRST_FRAME as u64 / Disk::SECTOR;
    Ok(files(&disk.crash_keeping(|_, sector| sector != first_frame + 1)))
}

/// The same log, as if its salts and its uuid had been these by chance, at the beginning of time.
fn with_known_salts(log: &Files) -> Files {
    let mut log = log.clone();
    log.retain(|name, _| index_of(name).is_some());
    for file in log.values_mut() {
        let old = Header::fields(file);
        let frames = old.life().all_intact(file);
        for frame in &frames {
            let payload = &mut file[frame.payload.clone()];
            match frame.kind {
                SEAL => put_salt(payload, 8, u64_at(payload, 0)),
                STATE => {
                    put(payload, 24, &0u64.to_le_bytes());
                    if payload.len() == 64 {
                        put_salt(payload, 40, u64_at(payload, 32));
                    }
                }
                _ => {}
            }
        }
        Header { salt: salt(old.index), uuid: UUID, ..old }.write(file);
        let life = Header::fields(file).life();
        for frame in frames {
            life.mend(file, frame.at, frame.epoch);
        }
    }
    log
}

fn put_salt(payload: &mut [u8], at: usize, index: u64) {
    let salt = if index == 0 { 0 } else { salt(index) };
    put(payload, at, &salt.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader;
    use crate::survives::survives;

    #[test]
    fn what_the_library_wrote_is_read_by_the_format_and_opened_under_other_salts() {
        let records = [16, 4, 18, 0, 0, 3, 0];
        for (log, least) in LOGS.iter().zip(records) {
            let entries = reader::read(log).expect("a log");
            assert!(entries.len() >= least.max(1), "{} records", entries.len());
            let disk = Disk::new();
            for (name, file) in log {
                disk.put_file(name, file);
            }
            Options::new().inspect_on(&disk).expect("it was a sound log");
            survives(&disk);
        }
    }
}
