//! A second writer in another process. By itself: between its fork and its exec, a
//! child holds the locks of every log that the process has open, of other tests too.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use common::{TempDir, small, texts};
use mapwal::{Ended, Error};

const CHILD: &str = "MAPWAL_TEST_HOLDS";

#[test]
fn a_second_writer_in_another_process_is_turned_away_until_the_first_dies() {
    let directory = TempDir::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_the_log_of_another_process", "--nocapture"])
        .env(CHILD, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("it is open")), "the child opened it");
    let error = small().open(&directory).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(directory.to_str().unwrap()), "{message}");
    assert!(message.contains("close it there first"), "{message}");
    child.kill().unwrap();
    child.wait().unwrap();
    let wal = small().open(&directory).unwrap();
    assert_eq!(texts(&wal), ["the child's"]);
    assert_eq!(wal.recovery().ended, Ended::Unclosed);
}

/// Not a test by itself: the other process of the test above.
#[test]
fn holds_the_log_of_another_process() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let wal = small().open(directory).unwrap();
    wal.append(b"the child's").unwrap();
    println!("\nit is open");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]); // until it is killed
}
