//! How a log is opened: every limit, its default, and why.

use crate::error::{Error, Result};
use crate::format::MAX_RECORD;
use crate::lsn::SegmentSize;
use crate::progress::{Listener, Progress};
use crate::recover::Verify;
use crate::storage::FlushMethod;

/// How to open a log. Start from [`Options::new`], change what should differ, and
/// call [`open`](Options::open). What looks at a log without opening it is here, too, and says
/// which options count for it: [`inspect`](Options::inspect), [`watch`](Options::watch),
/// [`salvage`](Options::salvage).
///
/// ```
/// # fn main() -> mapwal::Result<()> {
/// let wal = mapwal::Options::new().segment_size(1 << 20).max_log_size(8 << 20).in_memory()?;
/// wal.commit(b"a change")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) segment_size: u64,
    pub(crate) max_record_size: usize,
    pub(crate) max_log_size: u64,
    pub(crate) spares: usize,
    pub(crate) verify: Verify,
    pub(crate) flush_method: FlushMethod,
    pub(crate) background: bool,
    pub(crate) listener: Listener,
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Options {
            segment_size: SegmentSize::DEFAULT,
            max_record_size: MAX_RECORD,
            max_log_size: u64::MAX,
            spares: 2,
            verify: Verify::All,
            flush_method: FlushMethod::Range,
            background: true,
            listener: Listener::default(),
        }
    }

    /// The size of a segment file in bytes: a power of two from 64 KiB to 4 GiB
    /// (1 GiB on 32-bit machines). 64 MiB by default.
    ///
    /// Space is given up in whole segments, and every roll costs two frames and
    /// the preparation of a file in the background. A log that exists keeps the
    /// size it was created with, whatever is said here.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self
    }

    /// The largest record that is taken, in bytes: from 1 to 2^28 − 1, which is the
    /// default. Larger ones are refused with [`Error::TooLarge`].
    ///
    /// A record that does not fit in a segment gets a file of several segment
    /// sizes of its own, which is made while its append waits.
    pub fn max_record_size(mut self, bytes: usize) -> Self {
        self.max_record_size = bytes;
        self
    }

    /// What the log's files may take together, in bytes: at least three segments,
    /// unlimited by default. An append that would need more is refused with
    /// [`Error::LogFull`] until [`truncate_before`](crate::Wal::truncate_before)
    /// gives space up. One segment of it is held back from records, so that a full
    /// log can be truncated.
    pub fn max_log_size(mut self, bytes: u64) -> Self {
        self.max_log_size = bytes;
        self
    }

    /// How many empty segments are kept ready: from 1 to 64, by default 2. One of
    /// them is held back for truncating and opening a log whose disk is full. Of
    /// segments that are given up, up to twice as many are kept to be used again, as far as
    /// [`max_log_size`](Self::max_log_size) allows.
    pub fn spares(mut self, count: usize) -> Self {
        self.spares = count;
        self
    }

    /// Whether a thread prepares what comes next in the background, as it does by default.
    ///
    /// Without it nothing is done ahead: an append that needs another segment makes the file,
    /// which takes as long as the disk does to take a segment (some 100 ms for 64 MiB), unless
    /// a retired one is there, and the pages behind the last record are made present as they
    /// are needed. For programs that must not have threads; and for tests on a simulated disk
    /// (the feature `sim`), where the same calls then come in the same order each time, as long
    /// as one thread uses the log. (Opening reads several files at once all the same: its calls
    /// are as many each time, but for those it leaves out once one has failed.)
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// How much opening verifies. [`Verify::All`] by default.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// What is called while the log's files are read through: by [`open`](Self::open), and by
    /// [`inspect`](Self::inspect). Nothing by default.
    ///
    /// It is called about once for every MiB that was read, or a few, by any of the threads that
    /// read, but by one at a time, and they wait for it. What it is told grows, unless the files
    /// are looked through once more, as [`inspect`](Self::inspect) does where it is in doubt: then
    /// it begins again. It may end below [`Progress::total`]: what need not be read is not. And it
    /// tells of reading only: [`open`](Self::open) of a log that was not closed then stores and
    /// flushes again what nothing proves to have been durable, which may take longer.
    ///
    /// If it panics, so does what calls it, and the log is left as it was; threads that read
    /// beside may call it again before that. Clones of these options share it, so it must not
    /// use one of them itself. [`open`](Self::open) drops it before it returns.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("mapwal-progress-{}", std::process::id()));
    /// let options = mapwal::Options::new().on_progress(|progress| {
    ///     println!("read {} of {} bytes", progress.read, progress.total);
    /// });
    /// let wal = options.open(&dir)?;
    /// # drop(wal);
    /// # std::fs::remove_dir_all(dir).unwrap();
    /// # Ok::<(), mapwal::Error>(())
    /// ```
    pub fn on_progress(mut self, listener: impl FnMut(Progress) + Send + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// How flushes are made. [`FlushMethod::Range`] by default.
    pub fn flush_method(mut self, method: FlushMethod) -> Self {
        self.flush_method = method;
        self
    }

    /// Whether the options are possible at all.
    pub(crate) fn validate(&self) -> Result<()> {
        check(
            (1..=MAX_RECORD).contains(&self.max_record_size),
            "max_record_size",
            self.max_record_size as u64,
            "from 1 byte to 2^28 - 1 bytes",
        )?;
        check((1..=64).contains(&self.spares), "spares", self.spares as u64, "from 1 to 64")
    }

    /// Whether they are possible for a log of this segment size.
    pub(crate) fn check_limit(&self, size: SegmentSize) -> Result<()> {
        check(
            self.max_log_size / size.bytes() >= 3,
            "max_log_size",
            self.max_log_size,
            "at least three times the log's segment size",
        )
    }

    /// The segment size of a log that is created.
    pub(crate) fn new_segment_size(&self) -> Result<SegmentSize> {
        SegmentSize::new(self.segment_size).ok_or(Error::InvalidOption {
            option: "segment_size",
            value: self.segment_size,
            reason: "a power of two from 64 KiB to 4 GiB (1 GiB on 32-bit machines)",
        })
    }
}

fn check(holds: bool, option: &'static str, value: u64, reason: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidOption { option, value, reason }) }
}
