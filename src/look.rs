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
pub(crate) fn look(storage: &dyn Storage, verify: Verify) -> Result<Directory> {
    let mut pause = SHORTEST;
    let mut before = None;
    for _ in 0..LOOKS {
        let found = recover::recover_while(Writers::Perhaps, storage, verify);
        let wrong = what_is_wrong(&found);
        if wrong.is_none() || wrong == before {
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
