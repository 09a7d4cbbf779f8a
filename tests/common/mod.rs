//! What several tests need: a directory that goes away, and short ways to say things.
#![allow(dead_code, unreachable_pub)] // every test file uses a part of it

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use mapwal::{Error, Lsn, Options, Reader, Record, Wal};

/// A directory of its own for one test, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mapwal-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Deref for TempDir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The size of the segments in tests: the smallest.
pub const SEGMENT: u64 = 64 << 10;

/// The largest record that such a segment holds: what its header, its begin, its
/// reserve and the record's own header leave.
pub const LARGEST: usize = SEGMENT as usize - 4096 - 80 - 256 - 16;

/// Options for a log of small segments.
pub fn small() -> Options {
    Options::new().segment_size(SEGMENT)
}

/// What the records say, from the head on.
pub fn texts(wal: &Wal) -> Vec<String> {
    texts_of(&wal.reader())
}

/// What the records say that this reader sees, from the head on.
pub fn texts_of(reader: &Reader) -> Vec<String> {
    reader.iter().map(|record| text(record.unwrap().data())).collect()
}

/// Bytes as text.
pub fn text(data: &[u8]) -> String {
    String::from_utf8(data.to_vec()).unwrap()
}

/// Appends these records and returns where they are.
pub fn append_all<R: AsRef<[u8]>>(wal: &Wal, records: impl IntoIterator<Item = R>) -> Vec<Lsn> {
    records.into_iter().map(|record| wal.append(record.as_ref()).unwrap()).collect()
}

/// All files of a directory with what is in them. One that goes meanwhile, as spares
/// are renamed in the background, is passed over.
pub fn snapshot(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            Some((entry.file_name().into_string().unwrap(), fs::read(entry.path()).ok()?))
        })
        .collect()
}

/// The names of the segment files in a directory, ascending.
pub fn segments(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".wal")).collect();
    names.sort_unstable();
    names
}

/// A generator of numbers: splitmix64. The same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that does once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What `work` returns, or a panic instead of a test that never ends.
pub fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    ends_within(Duration::from_secs(120), work)
}

/// The same for much work.
pub fn ends_within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let working = thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(limit) {
        Ok(done) => working.join().map(|()| done).unwrap(),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("this hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match working.join() {
            Err(cause) => resume_unwind(cause),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// Appends this record until the log refuses; returns where, and the refusal.
pub fn fill(wal: &Wal, record: &[u8]) -> (Vec<Lsn>, Error) {
    let mut lsns = Vec::new();
    loop {
        match wal.append(record) {
            Ok(lsn) => lsns.push(lsn),
            Err(error) => return (lsns, error),
        }
    }
}

/// Claims a place for `len` bytes and gives it up, since the closure panics. An error: it
/// was not claimed.
pub fn abandon(wal: &Wal, len: usize) -> Result<(), Error> {
    let call = || {
        wal.append_with(len, |place| {
            place.fill(0xab);
            resume_unwind(Box::new("abandoned")); // says nothing on the screen
        })
    };
    catch_unwind(AssertUnwindSafe(call)).map_or(Ok(()), |refused| refused.map(drop))
}

/// Tells other threads by a flag that this one has come to an end, also by a panic.
pub struct StoreOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StoreOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does `meanwhile` while an append of `record` by another thread is in the middle: its
/// place is claimed, and it ends when what `meanwhile` is given is dropped.
pub fn beside_an_append<T>(
    wal: &Wal,
    record: &[u8],
    meanwhile: impl FnOnce(mpsc::Sender<()>) -> T,
) -> T {
    let (claimed, is_claimed) = mpsc::channel();
    let (middle, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let append = wal.append_with(record.len(), |place| {
                claimed.send(()).unwrap();
                let _ = end.recv(); // nothing is ever sent
                place.copy_from_slice(record);
            });
            append.unwrap();
        });
        is_claimed.recv().unwrap();
        meanwhile(middle)
    })
}

/// Threads that append `each` records: of 16 bytes that no other record has, once or up to
/// 20 times over.
pub fn writers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    wal: &'scope Wal,
    threads: u64,
    each: u64,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let writer = |t: u64| {
        scope.spawn(move || {
            for i in 0..each {
                let data = [t, i].map(u64::to_le_bytes).concat();
                wal.append(&data.repeat(1 + i as usize % 20)).unwrap();
            }
        })
    };
    (0..threads).map(writer).collect()
}

/// Whether a record can be one of those that [`writers`] append.
pub fn is_whole(data: &[u8]) -> bool {
    let (first, rest) = data.split_at(16);
    rest.chunks(16).all(|chunk| chunk == first)
}

/// What `check` says of all records, by place; their numbers are dense.
pub fn checked<T>(wal: &Wal, check: impl Fn(Record<'_>) -> T) -> BTreeMap<u64, T> {
    let reader = wal.reader();
    let mut next = None;
    let mut found = BTreeMap::new();
    for record in reader.iter() {
        let record = record.unwrap();
        assert!(next.is_none_or(|next| next == record.sequence()), "{record:?} is not {next:?}");
        next = Some(record.sequence() + 1);
        found.insert(record.lsn().as_u64(), check(record));
    }
    found
}
