//! What a log takes of its process: open files, and the working directory it does
//! not depend on. One test, since all of it belongs to the whole process.

mod common;

use common::{TempDir, append_all, segments, small};
use mapwal::Wal;

#[test]
fn a_log_stays_where_it_was_opened_and_keeps_few_files_open() {
    let (here, there) = (TempDir::new(), TempDir::new());
    let other = small().open(there.path().join("wal")).unwrap();
    append_all(&other, (0..100).map(|_| [7; 3000]));
    other.close().unwrap();
    let before = segments(&there.path().join("wal"));

    std::env::set_current_dir(here.path()).unwrap();
    let wal = small().open("wal").unwrap();
    append_all(&wal, (0..60).map(|_| [1; 3000]));
    std::env::set_current_dir(there.path()).unwrap();
    wal.truncate_before(wal.next_lsn()).unwrap();
    append_all(&wal, (0..60).map(|_| [1; 3000]));
    wal.close().unwrap();
    assert_eq!(segments(&there.path().join("wal")), before);
    assert_eq!(Wal::open("wal").unwrap().reader().iter().count(), 100);

    let few = || {
        let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return true };
        open.count() < 120
    };
    let wal = small().open(here.path().join("files")).unwrap();
    append_all(&wal, (0..200 * 21).map(|_| [1; 3000])); // segments that wait for a flush
    wal.sync().unwrap();
    assert!(few());
    for _ in 0..150 {
        wal.append(&[1; 70_000]).unwrap(); // each in a file of its own
        wal.sync().unwrap();
    }
    assert!(few());
    drop(wal);
    let wal = small().open(here.path().join("files")).unwrap();
    let reader = wal.reader();
    assert_eq!(reader.iter().count(), 200 * 21 + 150);
    assert!(few());
    assert!(format!("{reader:?}").len() < 200);
}

#[test]
fn a_log_may_belong_to_a_thread() {
    thread_local! {
        static WAL: std::cell::OnceCell<Wal> = const { std::cell::OnceCell::new() };
    }
    let thread = std::thread::spawn(|| {
        WAL.with(|wal| wal.get_or_init(|| small().in_memory().unwrap()).commit(b"a").unwrap())
    });
    thread.join().unwrap();
}
