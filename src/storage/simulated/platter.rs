//! What one file has on disk, and what the kernel wrongly believes it has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Disk;

const SECTOR: usize = Disk::SECTOR as usize;

/// What the kernel marks clean together.
const PAGE: u64 = 4096;

/// What is stored with one instruction, as a log stores what it publishes.
pub(super) const WORD: usize = 8;

/// A sector whose cache differs from the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dirty {
    pub(super) sector: u64,
    /// The bytes of the file from the first word that differs to the last.
    pub(super) changed: Range<usize>,
    /// It will not be written any more: a failed flush saw it as it is.
    pub(super) believed_clean: bool,
}

/// The bytes of a file that survive a power cut.
#[derive(Clone)]
pub(super) struct Platter {
    pub(super) bytes: Vec<u8>,
    /// Sectors that a failed flush left unwritten, with what the flush saw of
    /// them. As long as they hold that, they count as clean.
    unwritten: BTreeMap<u64, [Option<u8>; SECTOR]>,
    /// Sectors that cannot be read.
    pub(super) bad: BTreeSet<u64>,
}

impl Platter {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Platter { bytes, unwritten: BTreeMap::new(), bad: BTreeSet::new() }
    }

    /// Writes `cached`, which the cache holds from `at` on, but for what is
    /// believed clean.
    pub(super) fn flush(&mut self, at: u64, cached: &[u8]) {
        for (sector, at, cached) in sectors(at, cached) {
            if !self.is_believed_clean(sector, at, cached) {
                self.unwritten.remove(&sector);
                self.bytes[at..at + cached.len()].copy_from_slice(cached);
            }
        }
    }

    /// Writes nothing of `cached`, and believes it written.
    pub(super) fn fail(&mut self, at: u64, cached: &[u8]) {
        for (sector, at, cached) in sectors(at, cached) {
            if self.bytes[at..at + cached.len()] != *cached {
                let seen = self.unwritten.entry(sector).or_insert([None; SECTOR]);
                for (seen, byte) in seen[at % SECTOR..].iter_mut().zip(cached) {
                    *seen = Some(*byte);
                }
            }
        }
    }

    /// The pages of `range` are stored to.
    pub(super) fn touch(&mut self, range: Range<u64>) {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        self.unwritten.retain(|sector, _| !pages.contains(&(sector * Disk::SECTOR / PAGE)));
    }

    /// The same file for a kernel that has not written it.
    pub(super) fn read_again(self) -> Self {
        Platter { unwritten: BTreeMap::new(), ..self }
    }

    pub(super) fn has_bad(&self, range: Range<u64>) -> bool {
        self.bad
            .range(range.start / Disk::SECTOR..range.end.div_ceil(Disk::SECTOR))
            .next()
            .is_some()
    }

    /// The sectors of a whole cache that a power cut may keep or lose.
    pub(super) fn dirty(&self, cached: &[u8]) -> impl Iterator<Item = Dirty> {
        let differs = |&(_, at, cached): &(u64, usize, &[u8])| {
            self.bytes[at..at + cached.len()] != *cached // most do not
        };
        sectors(0, cached).filter(differs).filter_map(|(sector, at, cached)| {
            let mut words = cached.chunks(WORD).zip(self.bytes[at..].chunks(WORD));
            let differs = |(cached, disk): (&[u8], &[u8])| cached != &disk[..cached.len()];
            let first = words.clone().position(differs)?;
            let last = words.rposition(differs)?;
            let changed = at + first * WORD..at + cached.len().min((last + 1) * WORD);
            let believed_clean = self.is_believed_clean(sector, at, cached);
            Some(Dirty { sector, changed, believed_clean })
        })
    }

    /// Whether a sector, as far as it is in `cached`, is as a failed flush saw it,
    /// and beyond what that saw as it is on disk.
    fn is_believed_clean(&self, sector: u64, at: usize, cached: &[u8]) -> bool {
        self.unwritten.get(&sector).is_some_and(|seen| {
            let believed = seen[at % SECTOR..].iter().zip(&self.bytes[at..]);
            cached.iter().zip(believed).all(|(now, (seen, disk))| *now == seen.unwrap_or(*disk))
        })
    }
}

/// The parts of `bytes`, which lie `at` bytes from a file's start: the number of
/// each one's sector, where it lies, and the part.
fn sectors(at: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, usize, &[u8])> {
    let (at, end) = (at as usize, at as usize + bytes.len());
    (at / SECTOR..end.div_ceil(SECTOR)).map(move |sector| {
        let part = at.max(sector * SECTOR)..end.min((sector + 1) * SECTOR);
        (sector as u64, part.start, &bytes[part.start - at..part.end - at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_writes_its_range_to_the_byte() {
        let mut platter = Platter::new(vec![0; 2048]);
        platter.flush(500, &[1; 600]);
        let expected = |at: usize| u8::from((500..1100).contains(&at));
        assert!(platter.bytes.iter().enumerate().all(|(at, &byte)| byte == expected(at)));
        let changed = [(0, 0..504), (2, 1096..1536), (3, 1536..2048)];
        let dirty =
            changed.map(|(sector, changed)| Dirty { sector, changed, believed_clean: false });
        assert!(platter.dirty(&[1; 2048]).eq(dirty));
    }

    #[test]
    fn what_a_failed_flush_left_is_not_written_before_it_is_stored_again() {
        let mut platter = Platter::new(vec![0; 16_384]);
        let mut cached = vec![1; 16_384];
        platter.fail(0, &cached[..8192]);
        let clean = |it: Dirty| (it.sector, it.believed_clean);
        assert!(platter.dirty(&cached).map(clean).eq((0..32).map(|sector| (sector, sector < 16))));
        platter.flush(0, &cached[..8192]);
        assert!(platter.bytes.iter().all(|&byte| byte == 0), "believed clean");
        cached[600] = 2;
        let first: Vec<_> = platter.dirty(&cached).map(clean).take(2).collect();
        assert_eq!(first, [(0, true), (1, false)], "another value is seen");
        platter.touch(4096..4097);
        platter.flush(0, &cached);
        assert!(platter.bytes[..512].iter().all(|&byte| byte == 0));
        assert_eq!(platter.bytes[512..1024], cached[512..1024]);
        assert!(platter.bytes[1024..4096].iter().all(|&byte| byte == 0));
        assert_eq!(platter.bytes[4096..], cached[4096..]);
    }

    #[test]
    fn a_sector_that_is_appended_to_is_written_again() {
        let mut platter = Platter::new(vec![0; 512]);
        platter.fail(0, &[1; 100]);
        platter.flush(0, &[1; 100]);
        assert_eq!(platter.bytes[0], 0);
        platter.flush(0, &[1; 101]);
        assert_eq!(platter.bytes[..102], [[1; 101].as_slice(), &[0]].concat());
        platter.flush(0, &[2; 100]);
        platter.flush(0, &[1; 100]);
        assert_eq!(platter.bytes[0], 1, "the failure is forgotten");
    }

    #[test]
    fn bad_sectors_are_found_by_every_range_that_meets_them() {
        let mut platter = Platter::new(vec![0; 2048]);
        platter.bad.insert(1);
        let meets = |range| platter.has_bad(range);
        assert!(meets(0..513) && meets(1023..1024) && meets(600..601));
        assert!(!meets(0..512) && !meets(1024..2048));
    }
}
