//! How far reading through a log's files has come, for those who want to know.

use std::fmt;

use crate::sync::{Arc, Mutex, lock};

/// How far reading through a log's files has come: what
/// [`Options::on_progress`](crate::Options::on_progress) hands over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The bytes that were read so far; at most `total`.
    pub read: u64,
    /// The bytes of all segment files, also of those kept ready. Not all need be read.
    pub total: u64,
}

/// Who wants to know; by default nobody.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<Mutex<Told>>>);

type Told = dyn FnMut(Progress) + Send;

impl Listener {
    pub(crate) fn new(listener: impl FnMut(Progress) + Send + 'static) -> Self {
        Listener(Some(Arc::new(Mutex::new(listener))))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

/// What one look through the files has read.
#[derive(Debug)]
pub(crate) struct BytesRead<'a> {
    listener: &'a Listener,
    total: u64,
    bytes: Mutex<u64>,
}

impl<'a> BytesRead<'a> {
    pub(crate) fn new(listener: &'a Listener, total: u64) -> Self {
        BytesRead { listener, total, bytes: Mutex::new(0) }
    }

    /// Adds what was just read. It is told before anything else is added: so what is told grows.
    pub(crate) fn add(&self, bytes: u64) {
        let Some(listener) = &self.listener.0 else { return };
        let mut read = lock(&self.bytes);
        // what lies about a place where a walk ended is read once more
        *read = self.total.min(read.saturating_add(bytes));
        lock(listener)(Progress { read: *read, total: self.total });
    }
}
