//! A look at a directory that somebody may be writing: without a lock, so that it never stands
//! in a writer's way.
//!
//! What is read is of many moments. So whatever is wrong is looked at again, and told only if
//! it is still there, in the same place and in the same way: where somebody writes, the log
//! has gone on by then.

use std::io::{Error as IoError, ErrorKind};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::progress::Listener;
use crate::recover::{self, Directory, Ended, Verify, Writers};
use crate::storage::Storage;

/// How often is looked before it is said that this leads to nothing.
const LOOKS: u32 = 20;

/// The first pause between two looks, which grow up to the longest. Longer than the writer's
/// steps that take a file apart, unless it is kept from the processor.
const SHORTEST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(64);

/// What the directory holds. A log that is written while it is read is as it was at some
/// moment in between, as far as its end goes.
pub(crate) fn look(
    storage: &dyn Storage,
    verify: Verify,
    listener: &Listener,
) -> Result<Directory> {
    let mut pause = SHORTEST;
    let mut before = None;
    for looks in 1..=LOOKS {
        let found = recover::recover_while(Writers::Perhaps, storage, verify, listener);
        let wrong = what_is_wrong(&found);
        let is_settled = wrong == before && (looks == LOOKS || !is_recycled(&found));
        if wrong.is_none() || is_settled {
            return found;
        }
        before = wrong;
        thread::sleep(pause);
        pause = LONGEST.min(pause * 2);
    }
    let cause = IoError::new(ErrorKind::WouldBlock, "it changes faster than it can be looked at");
    Err(Error::io("look through", &storage.path(""), cause))
}

/// What may be so only because the directory changed meanwhile, in words.
fn what_is_wrong(found: &Result<Directory>) -> Option<String> {
    match found {
        Err(error) => Some(format!("{error:?}")),
        Ok(Directory::Log(found)) => match &found.report.ended {
            torn @ Ended::Torn { .. } => Some(format!("{torn:?}")),
            Ended::Created | Ended::Closed | Ended::Unclosed => None,
        },
        Ok(Directory::Empty { .. }) => None,
    }
}

/// Whether it came by a file that is just being recycled: that takes the writer as long as its
/// disk takes to flush, and ends.
fn is_recycled(found: &Result<Directory>) -> bool {
    matches!(found, Err(Error::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::fmt;
    use std::io;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::error::Damage;
    use crate::format::file_name;
    use crate::lsn::Lsn;
    use crate::storage::{Access, FlushMethod, Region};
    use crate::watch::Watch;
    use crate::{Options, Wal};

    /// A directory to which something happens before a file of it is opened, and after it was
    /// listed.
    struct Restless<'a> {
        inner: crate::storage::Directory,
        before_open: Box<BeforeOpen<'a>>,
        listed: Mutex<Vec<Box<dyn FnOnce() + Send + 'a>>>,
    }

    type BeforeOpen<'a> = dyn Fn(&str) -> io::Result<()> + Send + Sync + 'a;

    impl fmt::Debug for Restless<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.inner.fmt(f)
        }
    }

    impl Storage for Restless<'_> {
        fn path(&self, name: &str) -> PathBuf {
            self.inner.path(name)
        }
        fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
            panic!("looking takes no lock")
        }
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            let list = self.inner.list();
            let next = self.listed.lock().unwrap().pop();
            if let Some(happens) = next {
                happens();
            }
            list
        }
        fn create(&self, _: &str, _: u64) -> io::Result<Box<dyn Region>> {
            panic!("looking changes nothing")
        }
        fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn Region>> {
            assert_ne!(access, Access::Write);
            (self.before_open)(name)?;
            self.inner.open(name, access)
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            panic!("looking changes nothing")
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            panic!("looking changes nothing")
        }
        fn sync_names(&self) -> io::Result<()> {
            panic!("looking changes nothing")
        }
        fn names_are_durable(&self) -> bool {
            true
        }
    }

    struct Log {
        path: PathBuf,
        wal: Wal,
    }

    impl Log {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("mapwal-look-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            let wal = Options::new().segment_size(64 << 10).open(&path).unwrap();
            wal.commit(b"a record").unwrap();
            Log { path, wal }
        }

        fn restless<'a>(
            &'a self,
            before_open: impl Fn(&str) -> io::Result<()> + Send + Sync + 'a,
            listed: Vec<Box<dyn FnOnce() + Send + 'a>>,
        ) -> Restless<'a> {
            let inner = crate::storage::Directory::new(&self.path, FlushMethod::Range);
            Restless { inner, before_open: Box::new(before_open), listed: Mutex::new(listed) }
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn ended(found: Result<Directory>) -> Ended {
        found.unwrap().report().unwrap().ended
    }

    #[test]
    fn what_was_made_durable_behind_the_walk_is_no_damage() {
        let log = Log::new("commits");
        let commit = |name: &str| {
            if name == file_name(1) {
                log.wal.commit(b"one").unwrap();
                log.wal.commit(b"two").unwrap(); // its mark proves that the first was durable
            }
            Ok(())
        };
        let storage = log.restless(commit, Vec::new());
        let alone = recover::recover(&storage, Verify::All);
        assert!(matches!(alone, Err(Error::Damaged { damage: Damage::Hole, .. })), "{alone:?}");
        assert_eq!(ended(look(&storage, Verify::All, &Listener::default())), Ended::Unclosed);
    }

    #[test]
    fn a_file_that_goes_while_it_is_looked_at_is_looked_for_again() {
        let log = Log::new("goes");
        let spare = (2..99).map(|index| log.path.join(file_name(index)));
        let there = loop {
            // it is made in the background
            match spare.clone().find(|path| path.exists()) {
                Some(path) => break path,
                None => thread::sleep(SHORTEST),
            }
        };
        let away = log.path.join("away");
        let goes = || std::fs::rename(&there, &away).unwrap();
        let storage = log.restless(|_| Ok(()), vec![Box::new(goes)]);
        assert_eq!(ended(look(&storage, Verify::All, &Listener::default())), Ended::Unclosed);
    }

    #[test]
    fn a_file_that_is_being_recycled_is_waited_for() {
        let log = Log::new("recycled");
        let recycled = Mutex::new(5); // so many more times
        let before_open = |_: &str| {
            let left: &mut u32 = &mut recycled.lock().unwrap();
            *left = left.saturating_sub(1);
            if *left > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let storage = log.restless(before_open, Vec::new());
        assert_eq!(ended(look(&storage, Verify::All, &Listener::default())), Ended::Unclosed);
        *recycled.lock().unwrap() = u32::MAX;
        let found = look(&storage, Verify::All, &Listener::default());
        assert!(matches!(found, Err(Error::Io { action: "open", .. })), "{found:?}");
    }

    #[test]
    fn a_watch_goes_on_though_the_file_that_is_next_is_given_up_before_it_is_opened() {
        for opened in 1..=3 {
            let log = Arc::new(Log::new("given-up"));
            let append = |text: &str| log.wal.append(text.as_bytes()).unwrap();
            let lsns = ["one", "two", "three"].map(|text| {
                log.wal.rotate().unwrap();
                append(text)
            });
            log.wal.sync().unwrap();
            let two = file_name(lsns[1].as_u64() / (64 << 10));
            let (left, its) = (Arc::new(Mutex::new(0)), Arc::downgrade(&log));
            let counted = left.clone();
            let before_open = move |name: &str| {
                let left: &mut i32 = &mut counted.lock().unwrap();
                *left -= i32::from(name == two);
                if name == two && *left == 0 {
                    its.upgrade().unwrap().wal.truncate_before(lsns[2]).unwrap();
                }
                Ok(())
            };
            let storage = Restless {
                inner: crate::storage::Directory::new(&log.path, FlushMethod::Range),
                before_open: Box::new(before_open),
                listed: Mutex::default(),
            };
            let mut watch = Watch::new(Box::new(storage), Lsn::NONE);
            let mut next = || match watch.next(Duration::from_millis(300)) {
                Ok(record) => record.map(|record| record.data().to_vec()),
                Err(error) => {
                    assert!(matches!(error, Error::Truncated { .. }), "{error}");
                    Some(Vec::new())
                }
            };
            assert_eq!(next(), Some(b"a record".to_vec()));
            log.wal.truncate_before(lsns[1]).unwrap();
            *left.lock().unwrap() = opened;
            let mut came = Vec::new();
            while came.last().is_none_or(|last| last != b"three") {
                came.push(next().unwrap_or_else(|| panic!("{opened}: {came:?}, and no more")));
            }
            assert_eq!(came.first(), Some(&Vec::new()), "{opened}: it is told");
        }
    }

    #[test]
    fn what_stays_wrong_is_told() {
        let log = Log::new("stays");
        log.wal.commit(b"behind it").unwrap(); // its mark proves that the first was durable
        let path = log.path.join(file_name(1));
        let bytes = std::fs::read(&path).unwrap();
        let payload = bytes.windows(8).position(|bytes| bytes == b"a record").unwrap();
        // in place: the writer has it mapped
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        io::Seek::seek(&mut file, io::SeekFrom::Start(payload as u64)).unwrap();
        io::Write::write_all(&mut file, b"A").unwrap();
        let storage = log.restless(|_| Ok(()), Vec::new());
        let found = look(&storage, Verify::All, &Listener::default());
        let Err(Error::Damaged { at, damage: Damage::Check, .. }) = found else {
            panic!("{found:?}")
        };
        assert_eq!(at, payload as u64 - 16);
    }
}
