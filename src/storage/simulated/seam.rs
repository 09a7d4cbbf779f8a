//! How a log uses a simulated disk: the seam, with calls counted and failed.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::platter::Platter;
use super::{Disk, File, Kind, Sharing, State};
use crate::map::Map;
use crate::storage::{Access, Region, Storage};
use crate::sync::{Arc, Mutex, lock};

impl Storage for Disk {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated:").join(name)
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = lock(&self.0);
        state.call(Kind::Lock)?;
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(Guard(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut state = lock(&self.0);
        state.call(Kind::List)?;
        Ok(state.names.iter().map(|(name, file)| (name.clone(), file.map.len())).collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>> {
        let mut state = lock(&self.0);
        state.change(Kind::Create)?;
        state.names.remove(name);
        let used: u64 = state.names.values().map(|file| file.map.len()).sum();
        if state.capacity.is_some_and(|capacity| used.saturating_add(len) > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let map = Map::heap(len).ok_or(io::ErrorKind::StorageFull)?;
        let file = Arc::new(File {
            map: Arc::new(map),
            on_disk: Mutex::new(Platter::new(vec![0; len as usize])),
            sharing: Sharing::default(),
        });
        let region = Opened::new(self, &file)?;
        state.names.insert(name.to_owned(), file);
        Ok(Box::new(region))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn Region>> {
        let mut state = lock(&self.0);
        state.call(Kind::Open)?;
        Ok(Box::new(Opened::new(self, state.find(name)?)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.change(Kind::Rename)?;
        state.find(from)?;
        let file = state.names.remove(from).expect("just found");
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.change(Kind::Remove)?;
        state.find(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.change(Kind::SyncNames)?;
        if std::mem::take(&mut state.fail_sync_names) {
            return Err(failure());
        }
        state.names_on_disk = state.names.clone();
        Ok(())
    }

    fn names_are_durable(&self) -> bool {
        true
    }

    fn is_read_at_once(&self) -> bool {
        false
    }
}

/// Unlocks the disk when dropped.
struct Guard(Disk);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0.0).locked = false;
    }
}

/// A file, opened.
#[derive(Debug)]
struct Opened {
    disk: Disk,
    file: Arc<File>,
}

impl Opened {
    fn new(disk: &Disk, file: &Arc<File>) -> io::Result<Self> {
        file.sharing.enter()?;
        Ok(Opened { disk: disk.clone(), file: file.clone() })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.file.sharing.leave();
    }
}

impl Region for Opened {
    fn map(&self) -> &Arc<Map> {
        &self.file.map
    }

    fn flush(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        let lost = state.is_lost();
        let failing = state.call(Kind::Flush).is_err();
        let flush = state.flushes;
        state.flushes += 1;
        if lost {
            return Err(failure());
        }
        // Nothing beyond the range: others may be storing there.
        let cached = self.file.map.published(range.clone());
        let mut platter = lock(&self.file.on_disk);
        if state.failing_flushes.remove(&flush) || failing {
            platter.fail(range.start, cached);
            return Err(failure());
        }
        platter.flush(range.start, cached);
        Ok(())
    }

    /// Zeros every second time, to find out those who rely on either.
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        state.call(Kind::Populate)?;
        state.populates += 1;
        if state.populates % 2 == 0 {
            self.file.map.zero(range);
        }
        Ok(())
    }

    fn load(&self, range: Range<u64>) -> io::Result<()> {
        lock(&self.disk.0).call(Kind::Load)?;
        if lock(&self.file.on_disk).has_bad(range) { Err(failure()) } else { Ok(()) }
    }

    fn touch(&self, range: Range<u64>) {
        self.file.map.touch(range.clone());
        lock(&self.file.on_disk).touch(range);
    }

    fn is_unshared(&self) -> io::Result<bool> {
        Ok(self.file.sharing.is_unshared())
    }

    fn share(&self) -> io::Result<()> {
        self.file.sharing.share();
        Ok(())
    }
}

impl State {
    fn find(&self, name: &str) -> io::Result<&Arc<File>> {
        self.names.get(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the next call finds the device gone.
    fn is_lost(&self) -> bool {
        self.lost_at.is_some_and(|call| self.calls >= call)
    }

    /// Counts a call, and fails those that are to fail.
    fn call(&mut self, kind: Kind) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        if self.failing_from == Some(call) {
            self.failing_kind = Some(kind);
        }
        match (self.failing_kind == Some(kind), kind) {
            (true, Kind::Create | Kind::Populate) => Err(io::ErrorKind::StorageFull.into()),
            (true, _) => Err(failure()),
            (false, _) if self.failing_calls.remove(&call) => Err(failure()),
            (false, _) => Ok(()),
        }
    }

    /// Counts a call that is to change the disk.
    fn change(&mut self, kind: Kind) -> io::Result<()> {
        let lost = self.is_lost();
        self.call(kind)?;
        if lost { Err(failure()) } else { Ok(()) }
    }
}

/// What the disk says when it fails.
fn failure() -> io::Error {
    io::Error::other("the simulated disk failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Disk, Box<dyn Region>) {
        let disk = Disk::new();
        let region = disk.create("a", 8192).unwrap();
        disk.sync_names().unwrap();
        (disk, region)
    }

    fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_file_is_on_disk_as_zeros_before_its_name_is() {
        let disk = Disk::new();
        disk.put_file("a", &[1; 100]);
        disk.create("a", 4096).unwrap();
        assert_eq!(disk.crash(0).read("a"), [1; 100]);
        assert_eq!(disk.crash(1).read("a"), [0; 4096]);
        disk.sync_names().unwrap();
        assert_eq!(disk.crash(0).read("a"), [0; 4096]);
    }

    #[test]
    fn a_failed_flush_is_not_made_good_by_another_before_a_touch() {
        let (disk, region) = disk();
        region.map().write(0, &[1; 100]);
        disk.fail_flush(1);
        region.flush(0..50).unwrap();
        assert!(region.flush(50..100).is_err());
        region.flush(50..100).unwrap();
        assert_eq!(disk.crash(1).read("a")[..100], [[1; 50], [0; 50]].concat());
        region.touch(50..100);
        assert_eq!(disk.crash(0).read("a")[..100], [[1; 50], [0; 50]].concat());
        region.flush(50..100).unwrap();
        assert_eq!(disk.crash(0).read("a")[..100], [1; 100]);
    }

    #[test]
    fn a_call_that_is_to_fail_fails_once() {
        let (disk, region) = disk();
        let calls = disk.calls();
        disk.fail_call(1);
        region.populate(0..4096).unwrap();
        assert!(region.load(0..4096).is_err());
        region.load(0..4096).unwrap();
        assert_eq!(disk.calls(), calls + 3);
        disk.fail_sync_names();
        disk.rename("a", "b").unwrap();
        assert!(disk.sync_names().is_err());
        assert_eq!(disk.crash(0).files(), ["a"]);
        disk.sync_names().unwrap();
        assert_eq!(disk.crash(0).files(), ["b"]);
    }

    #[test]
    fn calls_of_one_kind_fail_until_the_disk_is_mended() {
        let (disk, region) = disk();
        disk.fail_from_call(1);
        region.load(0..4096).unwrap();
        for _ in 0..3 {
            assert_eq!(kind(region.populate(0..4096)), Some(io::ErrorKind::StorageFull));
            region.load(0..4096).unwrap();
        }
        disk.mend();
        region.populate(0..4096).unwrap();
        disk.fail_from_call(0);
        assert_eq!(kind(disk.sync_names()), Some(io::ErrorKind::Other));
        assert_eq!(kind(disk.sync_names()), Some(io::ErrorKind::Other));
    }

    #[test]
    fn a_mended_disk_has_what_it_had_and_does_what_it_is_told() {
        let (disk, region) = disk();
        region.map().write(0, &[1; 100]);
        disk.lose();
        assert!(region.flush(0..100).is_err());
        disk.fail_call(0);
        disk.fail_flush(0);
        disk.fail_sync_names();
        disk.mend();
        assert_eq!(disk.crash(0).read("a")[..100], [0; 100]);
        region.flush(0..100).unwrap();
        disk.sync_names().unwrap();
        assert_eq!(disk.crash(0).read("a")[..100], [1; 100]);
    }

    #[test]
    fn nothing_reaches_a_lost_device() {
        let (disk, region) = disk();
        region.map().write(0, &[1; 100]);
        disk.lose_after(1);
        region.flush(0..10).unwrap();
        assert!(region.flush(10..20).is_err());
        assert!(disk.create("b", 4096).is_err());
        assert!(disk.rename("a", "b").is_err());
        assert!(disk.remove("a").is_err());
        assert!(disk.sync_names().is_err());
        assert_eq!(disk.crash(0).read("a")[..20], [[1; 10], [0; 10]].concat());
        assert_eq!(disk.crash(1).read("a")[..20], [1; 20], "it was no failure of the kernel");
    }

    #[test]
    fn files_larger_than_the_disk_are_refused() {
        let (disk, _region) = disk();
        disk.capacity(8192 + 4096);
        assert_eq!(kind(disk.create("b", 4097)), Some(io::ErrorKind::StorageFull));
        disk.create("b", 4096).unwrap();
        disk.create("b", 4096).unwrap();
        disk.remove("a").unwrap();
        disk.create("c", 8192).unwrap();
        assert_eq!(kind(disk.create("d", u64::MAX)), Some(io::ErrorKind::StorageFull));
        assert_eq!(disk.list().unwrap(), [("b".to_owned(), 4096), ("c".to_owned(), 8192)]);
    }

    #[test]
    fn a_locked_disk_is_not_looked_at() {
        let (disk, _region) = disk();
        let guard = disk.lock().unwrap();
        assert_eq!(kind(disk.lock()), Some(io::ErrorKind::WouldBlock));
        let look = disk.clone();
        assert!(std::thread::spawn(move || look.crash(0)).join().is_err());
        assert_eq!(disk.files(), ["a"]);
        drop(guard);
        disk.crash(0).lock().unwrap();
    }

    #[test]
    fn damage_is_seen_by_those_who_open_the_file_next() {
        let (disk, region) = disk();
        region.map().write(0, &[1; 100]);
        disk.write("a", 50, &[2; 100]);
        assert_eq!(region.map().published(0..100), [1; 100]);
        assert_eq!(disk.read("a")[..150], [[1; 50], [2; 50], [2; 50]].concat());
        assert_eq!(disk.crash(0).read("a")[..150], [[0; 50], [2; 50], [2; 50]].concat());
        let other = disk.crash(1);
        disk.remove_file("a");
        assert_eq!(disk.crash(0).files(), [""; 0]);
        disk.copy_file_from(&other, "a");
        assert_eq!(disk.crash(0).read("a"), other.read("a"));
    }

    #[test]
    fn populating_may_zero_or_not() {
        let (_disk, region) = disk();
        region.map().write(0, &[1; 100]);
        region.populate(0..50).unwrap();
        assert_eq!(region.map().published(0..100), [1; 100]);
        region.populate(0..50).unwrap();
        assert_eq!(region.map().published(0..100), [[0; 50], [1; 50]].concat());
    }

    #[test]
    fn a_file_that_is_read_elsewhere_is_not_recycled() {
        let (disk, region) = disk();
        let reader = disk.open("a", Access::Read).unwrap();
        assert!(!region.is_unshared().unwrap());
        drop(reader);
        assert!(region.is_unshared().unwrap());
        assert_eq!(kind(disk.open("a", Access::Read)), Some(io::ErrorKind::WouldBlock));
        region.share().unwrap();
        disk.open("a", Access::Read).unwrap();
    }
}
