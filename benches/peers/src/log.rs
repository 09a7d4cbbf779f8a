//! What the workloads ask of a log. One file of `logs` an implementation.

use std::path::Path;

/// How a log is to be opened: the same for all, as far as they can be told.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a segment, for those that have segments.
    pub segment: u64,
    /// The largest record that will come, in bytes.
    pub record: usize,
}

/// What a log is, for the tables.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name and what is special about how it is driven, as in "wal-db segmented".
    pub name: &'static str,
    /// What of a record is where when `append` has returned.
    pub appended: &'static str,
    /// How `sync` makes it durable.
    pub synced: &'static str,
}

/// A log, open for writing in a directory of its own. A failure is a panic: a run with
/// one counts for nothing.
pub trait Log: Sized + Send + Sync + 'static {
    const ABOUT: About;

    /// Opens the log in `dir`, which is there, or creates it.
    fn open(dir: &Path, shape: Shape) -> Self;

    /// Adds a record; from any thread. A log whose writer is exclusive takes a lock
    /// here, as its users would.
    fn append(&self, record: &[u8]);

    /// The same for who is alone: an exclusive writer needs no lock.
    fn append_alone(&mut self, record: &[u8]) {
        self.append(record);
    }

    /// Makes durable what was appended before, by any thread.
    fn sync(&self);

    /// Appends, and waits until the record is durable: by whatever call the log
    /// has for it.
    fn commit(&self, record: &[u8]) {
        self.append(record);
        self.sync();
    }

    /// Gives up what it can of the records before the last one, which stays, as an engine does
    /// at a checkpoint. `false`: it has no such thing.
    fn truncate(&self) -> bool {
        false
    }

    /// What the log counted itself since it was opened, as "rolls": shown beside what
    /// was measured.
    fn notes(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Whatever an orderly end takes. Nothing needs to be durable afterwards.
    fn close(self) {}

    /// Opens the log that is in `dir`, and hands all its records over, oldest
    /// first, as its users would read them at a start. `false`: it cannot.
    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool;
}

/// What this project's log has besides.
pub trait Own: Log {
    /// All records in place, oldest first, each with its check verified or none.
    fn iterate(&self, verified: bool, visit: impl FnMut(&[u8]));
}
