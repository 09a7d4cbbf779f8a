//! Logs that live in memory: files are heap blocks, and nothing is durable beyond
//! the last handle.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::{Access, Region, Storage};
use crate::map::Map;
use crate::sync::{Arc, Mutex, lock};

/// A directory in memory. Clones are the same directory, so that a log can be
/// closed and opened again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    locked: bool,
    files: BTreeMap<String, Arc<File>>,
}

#[derive(Debug)]
struct File {
    map: Arc<Map>,
    sharing: Sharing,
}

impl Storage for Memory {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory:").join(name)
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = lock(&self.0);
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(Guard(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = lock(&self.0);
        Ok(state.files.iter().map(|(name, file)| (name.clone(), file.map.len())).collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn Region>> {
        let mut state = lock(&self.0);
        state.files.remove(name);
        let map = Map::heap(len).ok_or(io::ErrorKind::StorageFull)?;
        let file = Arc::new(File { map: Arc::new(map), sharing: Sharing::default() });
        let region = Block::of(&file)?;
        state.files.insert(name.to_owned(), file);
        Ok(Box::new(region))
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn Region>> {
        let state = lock(&self.0);
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Block::of(file)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let gone = lock(&self.0).files.remove(name);
        gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn names_are_durable(&self) -> bool {
        true
    }
}

/// Unlocks the directory when dropped.
#[derive(Debug)]
struct Guard(Memory);

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.0.0).locked = false;
    }
}

/// A file, opened.
#[derive(Debug)]
struct Block(Arc<File>);

impl Block {
    fn of(file: &Arc<File>) -> io::Result<Self> {
        file.sharing.enter()?;
        Ok(Block(file.clone()))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.0.sharing.leave();
    }
}

impl Region for Block {
    fn map(&self) -> &Arc<Map> {
        &self.0.map
    }

    fn flush(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn populate(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn load(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn is_unshared(&self) -> io::Result<bool> {
        Ok(self.0.sharing.is_unshared())
    }

    fn share(&self) -> io::Result<()> {
        self.0.sharing.share();
        Ok(())
    }
}

/// The regions of a file that is in memory, as file locks would count them.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    regions: usize,
    /// The one region keeps others out.
    alone: bool,
}

impl Sharing {
    pub(super) fn enter(&self) -> io::Result<()> {
        let mut users = lock(&self.0);
        if users.alone {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        users.regions += 1;
        Ok(())
    }

    pub(super) fn leave(&self) {
        let mut users = lock(&self.0);
        *users = Users { regions: users.regions - 1, alone: false };
    }

    pub(super) fn is_unshared(&self) -> bool {
        let mut users = lock(&self.0);
        users.alone = users.regions == 1;
        users.alone
    }

    pub(super) fn share(&self) {
        lock(&self.0).alone = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_closed_directory_still_has_its_files() {
        let memory = Memory::default();
        let again = memory.clone();
        let guard = memory.lock().unwrap();
        memory.create("a", 4096).unwrap().map().write(8, b"kept");
        assert_eq!(kind(again.lock()), Some(io::ErrorKind::WouldBlock));
        drop((guard, memory));
        let _guard = again.lock().unwrap();
        assert_eq!(again.list().unwrap(), [("a".to_owned(), 4096)]);
        let region = again.open("a", Access::Write).unwrap();
        assert_eq!(region.map().published(8..12), b"kept");
    }

    #[test]
    fn a_renamed_file_replaces_another_and_a_removed_one_stays_mapped() {
        let memory = Memory::default();
        memory.create("a", 4096).unwrap().map().write(0, b"a");
        let old = memory.create("b", 8192).unwrap();
        old.map().write(0, b"b");
        memory.rename("a", "b").unwrap();
        assert_eq!(memory.list().unwrap(), [("b".to_owned(), 4096)]);
        assert_eq!(memory.open("b", Access::Read).unwrap().map().published(0..1), b"a");
        memory.remove("b").unwrap();
        assert_eq!(kind(memory.open("b", Access::Read)), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(memory.remove("b")), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(memory.rename("b", "c")), Some(io::ErrorKind::NotFound));
        assert_eq!(old.map().published(0..1), b"b");
    }

    #[test]
    fn a_file_that_is_read_elsewhere_is_not_recycled() {
        let memory = Memory::default();
        let region = memory.create("a", 4096).unwrap();
        let reader = memory.open("a", Access::Read).unwrap();
        assert!(!region.is_unshared().unwrap());
        drop(reader);
        assert!(region.is_unshared().unwrap());
        assert_eq!(kind(memory.open("a", Access::Read)), Some(io::ErrorKind::WouldBlock));
        region.share().unwrap();
        memory.open("a", Access::Read).unwrap();
        assert!(region.is_unshared().unwrap());
        drop(region);
        memory.open("a", Access::Read).unwrap();
    }

    #[test]
    fn no_memory_is_a_full_disk() {
        let memory = Memory::default();
        assert_eq!(kind(memory.create("a", u64::MAX)), Some(io::ErrorKind::StorageFull));
        assert_eq!(memory.list().unwrap(), []);
    }
}
