//! What a power cut leaves of a simulated disk.

use std::collections::BTreeSet;
use std::ops::Range;

use super::platter::{self, WORD};
use super::{Arc, Disk, File, Mutex, Names, Platter, State, lock};

const SECTORS_PER_PAGE: u64 = 4096 / Disk::SECTOR;

/// What the crash of a seed keeps of the sectors that were not flushed.
#[derive(Clone, Copy, Debug)]
enum Keep {
    None,
    All,
    /// Each one or not, or a part of it.
    Some,
    /// Those up to some place, in the order of files and bytes.
    Early,
    /// Those from some place on.
    Late,
    /// Whole pages or not.
    Pages,
}

const KEEP: [Keep; 6] = [Keep::None, Keep::All, Keep::Some, Keep::Early, Keep::Late, Keep::Pages];

/// A dirty sector of a file.
struct Dirty<'a> {
    /// Position among the files.
    file: usize,
    name: &'a str,
    of: platter::Dirty,
}

impl Disk {
    /// What a power cut may leave, as a disk of its own: unlocked, with the same
    /// capacity and bad sectors, and with nothing that is to fail.
    ///
    /// The seed decides what is kept of that which was not flushed, and the same
    /// seed decides the same. Six seeds in a row are six kinds of crash: nothing
    /// is kept, or everything, or sectors at random, or those up to some place,
    /// or from some place on, or whole pages at random. Of the sectors at random some were
    /// written back before all of what changed in them was stored: they keep the first part of
    /// that or the last, in words of eight bytes. Except in the first two kinds, each name that
    /// was not synced is kept or not at random: a renamed file may have both names, or none; and
    /// a sector that a [failed flush](Disk::fail_flush) was about may have been written before
    /// that failed.
    ///
    /// To have the crash at one moment while threads work on the log, call
    /// [`lose`](Disk::lose) at that moment, then end them and drop the log.
    ///
    /// # Panics
    ///
    /// If a log on this disk is open for writing.
    pub fn crash(&self, seed: u64) -> Disk {
        let keep = KEEP[(seed % KEEP.len() as u64) as usize];
        let mut random = Random(seed);
        let mut of_names = Random(random.next());
        self.image(
            |_| match keep {
                Keep::None => false,
                Keep::All => true,
                _ => of_names.flip(),
            },
            |dirty| random.choose(keep, dirty),
        )
    }

    /// What a power cut leaves that keeps exactly the chosen sectors, given by
    /// file name and number, of those that were not flushed, and of which no flush failed.
    /// Names are kept as they are in the cache.
    ///
    /// # Panics
    ///
    /// As [`crash`](Disk::crash).
    pub fn crash_keeping(&self, sectors: impl FnMut(&str, u64) -> bool) -> Disk {
        self.crash_keeping_names(|_| true, sectors)
    }

    /// As [`crash_keeping`](Disk::crash_keeping), choosing among the names that
    /// were not synced as well: `true` for as it is in the cache, there or not.
    ///
    /// # Panics
    ///
    /// As [`crash`](Disk::crash).
    pub fn crash_keeping_names(
        &self,
        names: impl FnMut(&str) -> bool,
        mut sectors: impl FnMut(&str, u64) -> bool,
    ) -> Disk {
        self.image(names, |dirty| {
            let mut keeps =
                |it: &Dirty<'_>| !it.of.believed_clean && sectors(it.name, it.of.sector);
            dirty.iter().map(|it| it.whole_if(keeps(it))).collect()
        })
    }

    /// The disk with these names as they are in the cache, and for each dirty
    /// sector the bytes of its file that `choose` says.
    fn image(
        &self,
        mut keeps_name: impl FnMut(&str) -> bool,
        choose: impl FnOnce(&[Dirty<'_>]) -> Vec<Range<usize>>,
    ) -> Disk {
        let state = self.idle();
        let all: BTreeSet<&String> = state.names.keys().chain(state.names_on_disk.keys()).collect();
        // A file that has several names stays one file.
        let mut files: Vec<(&Arc<File>, Vec<&String>)> = Vec::new();
        for name in all {
            let (cached, on_disk) = (state.names.get(name), state.names_on_disk.get(name));
            let same = cached.map(Arc::as_ptr) == on_disk.map(Arc::as_ptr);
            let kept = if same || keeps_name(name) { cached } else { on_disk };
            if let Some(file) = kept {
                match files.iter_mut().find(|(known, _)| Arc::ptr_eq(known, file)) {
                    Some((_, names)) => names.push(name),
                    None => files.push((file, vec![name])),
                }
            }
        }
        let mut platters: Vec<Platter> =
            files.iter().map(|(file, _)| lock(&file.on_disk).clone()).collect();
        let mut dirty = Vec::new();
        for (i, (file, names)) in files.iter().enumerate() {
            let sectors = platters[i].dirty(file.cached());
            dirty.extend(sectors.map(|of| Dirty { file: i, name: names[0], of }));
        }
        let kept = choose(&dirty);
        for (Dirty { file, .. }, kept) in dirty.iter().zip(kept) {
            let cached = files[*file].0.cached();
            platters[*file].bytes[kept.clone()].copy_from_slice(&cached[kept]);
        }
        let mut left = Names::new();
        for ((_, names), platter) in files.iter().zip(platters) {
            let (bytes, on_disk) = (platter.bytes.clone(), platter.read_again());
            let file = Arc::new(File::new(&bytes, on_disk).expect("memory"));
            left.extend(names.iter().map(|&name| (name.clone(), file.clone())));
        }
        Disk(Arc::new(Mutex::new(State {
            names: left.clone(),
            names_on_disk: left,
            capacity: state.capacity,
            ..State::default()
        })))
    }
}

impl Dirty<'_> {
    /// The bytes that are kept of it if all or none are.
    fn whole_if(&self, is_kept: bool) -> Range<usize> {
        if is_kept { self.of.changed.clone() } else { 0..0 }
    }
}

/// A generator of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn flip(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// Which bytes are kept of each.
    fn choose(&mut self, keep: Keep, dirty: &[Dirty<'_>]) -> Vec<Range<usize>> {
        let place = (self.next() % (dirty.len() as u64 + 1)) as usize;
        let (mut page, mut keep_page) = (None, false);
        let mut chosen = |(i, sector): (usize, &Dirty<'_>)| {
            let is_kept = match keep {
                Keep::None => false,
                Keep::All => !sector.of.believed_clean,
                Keep::Some => {
                    let Range { start, end } = sector.of.changed;
                    let words = (end - start).div_ceil(WORD) as u64;
                    let between = start + (self.next() % words) as usize * WORD;
                    match self.next() % 8 {
                        0 => return start..between,
                        1 => return between..end,
                        n => n % 2 == 0,
                    }
                }
                Keep::Early => i < place,
                Keep::Late => i >= place,
                Keep::Pages => {
                    let this = Some((sector.file, sector.of.sector / SECTORS_PER_PAGE));
                    if page != this {
                        (page, keep_page) = (this, self.flip());
                    }
                    keep_page
                }
            };
            sector.whole_if(is_kept)
        };
        dirty.iter().enumerate().map(&mut chosen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Access, Storage};

    const SECTOR: usize = Disk::SECTOR as usize;

    /// A disk with a file of four pages: zeros that are on disk, ones that are not.
    fn unflushed() -> Disk {
        let disk = Disk::new();
        disk.create("a", 16_384).unwrap().map().write(0, &[1; 16_384]);
        disk.sync_names().unwrap();
        disk
    }

    /// Which sectors of the file begin with ones; of each the first part is kept, or the last.
    fn ones(disk: &Disk) -> Vec<bool> {
        let bytes = disk.read("a");
        let in_one_piece = |sector: &[u8]| sector.is_sorted() || sector.is_sorted_by(|a, b| a >= b);
        assert!(bytes.chunks(SECTOR).all(in_one_piece));
        bytes.chunks(SECTOR).map(|sector| sector[0] == 1).collect()
    }

    #[test]
    fn six_seeds_are_six_kinds_of_crash() {
        let disk = unflushed();
        let kept: Vec<_> = (0..6).map(|kind| ones(&disk.crash(60 + kind))).collect();
        assert!(!kept[0].contains(&true));
        assert!(!kept[1].contains(&false));
        assert!(kept[2].contains(&true) && kept[2].contains(&false));
        assert!(kept[3].is_sorted_by(|a, b| a >= b) && kept[3][0]);
        assert!(kept[4].is_sorted() && kept[4][31]);
        let mut pages = BTreeSet::new();
        for seed in (5..300).step_by(6) {
            let kept = ones(&disk.crash(seed));
            assert!(kept.chunks(8).all(|page| page.iter().all(|one| one == &page[0])));
            pages.insert(kept);
        }
        assert!(pages.len() > 8, "of 16");
    }

    #[test]
    fn the_same_seed_is_the_same_crash() {
        let disk = unflushed();
        let kept: BTreeSet<_> = (2..600).step_by(6).map(|seed| ones(&disk.crash(seed))).collect();
        assert_eq!(kept.len(), 100);
        assert_eq!(ones(&disk.crash(8)), ones(&disk.crash(8)));
    }

    #[test]
    fn a_sector_may_be_kept_as_it_was_before_all_of_it_was_stored() {
        let disk = Disk::new();
        disk.create("a", 512).unwrap().map().write(0, &[[1; 8], [2; 8]].concat());
        disk.sync_names().unwrap();
        let left: BTreeSet<_> =
            (0..1200).map(|seed| disk.crash(seed).read("a")[..16].to_vec()).collect();
        let pairs = [(0, 0), (0, 2), (1, 0), (1, 2)];
        let expected = pairs.map(|(first, second)| [[first; 8], [second; 8]].concat());
        assert_eq!(left, expected.into());
    }

    #[test]
    fn a_flush_that_failed_may_have_written_any_of_it() {
        let disk = unflushed();
        disk.fail_flush(0);
        assert!(disk.open("a", Access::Write).unwrap().flush(0..16_384).is_err());
        for (seed, written) in (0..60).map(|seed| (seed, ones(&disk.crash(seed)))) {
            match seed % 6 {
                0 | 1 => assert!(!written.contains(&true), "it will not be written any more"),
                2 => assert!(written.contains(&true) && written.contains(&false)),
                _ => {}
            }
        }
        assert!(!ones(&disk.crash_keeping(|_, _| true)).contains(&true));
    }

    #[test]
    fn what_was_flushed_is_there_after_every_crash() {
        let disk = unflushed();
        disk.open("a", Access::Write).unwrap().flush(5000..9000).unwrap();
        for seed in 0..100 {
            assert_eq!(disk.crash(seed).read("a")[5000..9000], [1; 4000]);
        }
    }

    #[test]
    fn chosen_sectors_are_kept_and_no_others() {
        let disk = unflushed();
        let left = disk.crash_keeping(|name, sector| name == "a" && sector % 3 == 1);
        let expected: Vec<_> = (0..32).map(|sector| sector % 3 == 1).collect();
        assert_eq!(ones(&left), expected);
    }

    #[test]
    fn names_that_were_not_synced_may_be_lost() {
        let disk = unflushed();
        disk.rename("a", "b").unwrap();
        let names = |seed| disk.crash(seed).files();
        assert_eq!((names(0), names(1)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let seen: BTreeSet<_> = (0..100).map(names).collect();
        assert_eq!(seen.len(), 4, "one of them, both, none");
        disk.sync_names().unwrap();
        assert!((0..100).all(|seed| names(seed) == ["b"]));
        disk.remove("b").unwrap();
        let left = disk.crash_keeping_names(|_| false, |_, _| true);
        assert_eq!(left.files(), ["b"]);
        assert_eq!(disk.crash_keeping(|_, _| true).files(), [""; 0]);
    }

    #[test]
    fn a_crashed_disk_is_one_of_its_own() {
        let disk = unflushed();
        disk.capacity(20_000);
        disk.bad_sector("a", 3);
        disk.lose();
        disk.fail_call(0);
        let left = disk.crash(1);
        let _guard = left.lock().unwrap();
        let region = left.open("a", Access::Write).unwrap();
        region.map().write(0, &[7; 512]);
        region.flush(0..512).unwrap();
        region.load(0..1536).unwrap();
        assert!(region.load(1536..1537).is_err());
        assert!(left.create("b", 4096).is_err());
        assert_eq!(disk.read("a")[..512], [1; 512]);
    }
}
