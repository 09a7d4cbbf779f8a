//! The segment files of a directory: their headers and their first frames.
//!
//! Knows nothing of how segments follow each other.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Damage, Error, Result};
use crate::format::{
    self, BEGIN_SIZE, BadHeader, Begin, FIRST_FRAME, Reason, SegmentHeader, State,
};
use crate::lsn::SegmentSize;
use crate::progress::BytesRead;
use crate::scan::{Content, Life, Place, START, Walk};
use crate::storage::{Access, Region, Storage};
use crate::sync::Arc;

/// Bytes that are read in at a time.
const STEP: u64 = 1 << 20;

/// Sequence numbers above are refused, so that none overflows behind them.
const MAX_FIRST_SEQUENCE: u64 = u64::MAX >> 1;

/// The bytes of a file that say what it is: its header, and its first frame.
pub(crate) const START_LEN: u64 = FIRST_FRAME + BEGIN_SIZE;

/// The names in a directory that are the log's.
pub(crate) struct Names {
    /// Index, name and length in bytes of each segment, in index order.
    pub(crate) segments: Vec<(u64, String, u64)>,
    /// Files that were on their way.
    pub(crate) unfinished: Vec<String>,
}

/// Lists the log's files. Others are not its business.
pub(crate) fn names(storage: &dyn Storage) -> Result<Names> {
    let list = storage.list().map_err(|e| Error::io("list", &storage.path(""), e))?;
    let mut names = Names { segments: Vec::new(), unfinished: Vec::new() };
    for (name, len) in list {
        if format::is_temporary_name(&name) {
            names.unfinished.push(name);
        } else if let Some(index) = format::file_index(&name) {
            names.segments.push((index, name, len));
        }
    }
    names.segments.sort_unstable();
    names.unfinished.sort_unstable();
    Ok(names)
}

/// A segment file with an intact header.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) size: SegmentSize,
    /// Its first frame, if that is an intact begin.
    pub(crate) first: Option<First>,
    len: u64,
}

/// A file's bytes, mapped. Few are kept: there may be more files than may be open.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    path: PathBuf,
    pub(crate) region: Arc<dyn Region>,
    /// Where what is read in is counted, if it is.
    read: Option<&'a BytesRead<'a>>,
}

/// An intact first frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) state: State,
    pub(crate) begin: Begin,
    /// Everything below this LSN was durable before it.
    pub(crate) proof: u64,
}

impl File {
    /// Opens the file `name` of `len` bytes, and reads its header and first frame.
    pub(crate) fn open(storage: &dyn Storage, index: u64, name: &str, len: u64) -> Result<Self> {
        let contents = Self::start(storage, name, len)?;
        let bytes = &contents.bytes(0)[..len.min(START_LEN) as usize];
        Self::read(contents.path.clone(), index, name, len, bytes)
    }

    /// The same whatever its length, and with the header `told` by others, if its own is broken.
    pub(crate) fn open_broken(
        storage: &dyn Storage,
        index: u64,
        name: &str,
        len: u64,
        told: Option<SegmentHeader>,
    ) -> Result<Self> {
        let contents = Self::start(storage, name, len)?;
        let bytes = &contents.bytes(0)[..len.min(START_LEN) as usize];
        let told = told.map(|header| header.encode());
        let header = told.as_ref().map_or(bytes, |told| told);
        let (header, size) = Self::header(&contents.path, index, header)?;
        Self::with(contents.path.clone(), name, len, (header, size), bytes)
    }

    /// A file's bytes, of which [`START_LEN`] are loaded, or all there are.
    fn start(storage: &dyn Storage, name: &str, len: u64) -> Result<Contents<'static>> {
        if len < FIRST_FRAME {
            let path = storage.path(name);
            return Err(Error::Damaged { path, at: 0, damage: Damage::FileLength });
        }
        let contents = Contents::open(storage, name, len)?;
        contents.load(0..len.min(START_LEN))?;
        Ok(contents)
    }

    /// The file at `path`, of `len` bytes, that starts with `bytes`: [`START_LEN`] of them, or
    /// all there are.
    pub(crate) fn read(
        path: PathBuf,
        index: u64,
        name: &str,
        len: u64,
        bytes: &[u8],
    ) -> Result<Self> {
        let (header, size) = Self::header(&path, index, bytes)?;
        if u64::from(header.slots).checked_mul(size.bytes()) != Some(len) {
            return Err(Error::Damaged { path, at: 0, damage: Damage::FileLength });
        }
        Self::with(path, name, len, (header, size), bytes)
    }

    /// What the header says with which `bytes` start, if a file with this index may have it.
    fn header(path: &Path, index: u64, bytes: &[u8]) -> Result<(SegmentHeader, SegmentSize)> {
        let damaged = |damage| Error::Damaged { path: path.to_owned(), at: 0, damage };
        let Some(header) = bytes.first_chunk() else {
            return Err(damaged(Damage::FileLength));
        };
        let header = SegmentHeader::decode(header).map_err(|bad| match bad {
            BadHeader::Version(version) => Error::UnsupportedVersion {
                path: path.to_owned(),
                version,
                supported: format::VERSION,
            },
            BadHeader::Magic | BadHeader::Check => damaged(Damage::Header),
        })?;
        let size = SegmentSize::new(header.segment_size).ok_or(damaged(Damage::Header))?;
        let last = header.index.checked_add(u64::from(header.slots)).map(|next| next - 1);
        if header.index == 0 || header.slots == 0 || last.is_none_or(|l| l > size.max_index()) {
            return Err(damaged(Damage::Header));
        }
        if header.index != index {
            return Err(damaged(Damage::Name));
        }
        Ok((header, size))
    }

    fn with(
        path: PathBuf,
        name: &str,
        len: u64,
        (header, size): (SegmentHeader, SegmentSize),
        bytes: &[u8],
    ) -> Result<Self> {
        let name = name.to_owned();
        let mut file = File { name, path, header, size, first: None, len };
        file.first = file.read_first(&bytes[FIRST_FRAME as usize..])?;
        Ok(file)
    }

    fn read_first(&self, bytes: &[u8]) -> Result<Option<First>> {
        let Ok(frame) = Walk::new(self.life(), START, 0).step(bytes) else {
            return Ok(None);
        };
        let Content::State(state) = frame.content else { return Ok(None) };
        let Reason::Begin(begin) = state.reason else { return Ok(None) };
        if !(1..=MAX_FIRST_SEQUENCE).contains(&begin.first_sequence) || state.epoch == u32::MAX {
            return Err(self.damaged(FIRST_FRAME, Damage::State));
        }
        let lsn = self.lsn(FIRST_FRAME);
        Ok(Some(First { state, begin, proof: frame.proves(lsn).min(lsn) }))
    }

    pub(crate) fn life(&self) -> Life {
        Life { base: self.lsn(0), salt: self.header.salt }
    }

    pub(crate) fn lsn(&self, offset: u64) -> u64 {
        self.size.base(self.header.index) + offset
    }

    /// The highest index that the file covers.
    pub(crate) fn last_index(&self) -> u64 {
        self.header.index + u64::from(self.header.slots) - 1
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The length that its header says, which only a broken file does not have.
    pub(crate) fn full_len(&self) -> u64 {
        u64::from(self.header.slots) * self.size.bytes()
    }

    pub(crate) fn contents<'a>(&self, storage: &dyn Storage) -> Result<Contents<'a>> {
        Contents::open(storage, &self.name, self.len)
    }

    /// The same in a mapping that was kept.
    pub(crate) fn contents_in<'a>(&self, region: Arc<dyn Region>) -> Contents<'a> {
        Contents { path: self.path.clone(), region, read: None }
    }

    pub(crate) fn damaged(&self, at: u64, damage: Damage) -> Error {
        Error::Damaged { path: self.path.clone(), at, damage }
    }
}

impl<'a> Contents<'a> {
    fn open(storage: &dyn Storage, name: &str, len: u64) -> Result<Self> {
        let path = storage.path(name);
        let region = storage.open(name, Access::Read).map_err(|e| Error::io("open", &path, e))?;
        if region.map().len() != len {
            return Err(Error::Damaged { path, at: 0, damage: Damage::FileLength });
        }
        Ok(Contents { path, region: region.into(), read: None })
    }

    /// The same, and what is read in from now on is counted.
    pub(crate) fn counted(self, read: &'a BytesRead<'a>) -> Self {
        Contents { read: Some(read), ..self }
    }

    fn len(&self) -> u64 {
        self.region.map().len()
    }

    /// Reads a range in, as far as it lies in the file, so that bad media is an
    /// error here. Where one is met, what comes before it is in.
    pub(crate) fn load(&self, range: Range<u64>) -> Result<()> {
        let (mut at, end) = (range.start, range.end.min(self.len()));
        while at < end {
            let next = end.min(at + STEP);
            self.region.load(at..next).map_err(|e| Error::io("read", &self.path, e))?;
            if let Some(read) = self.read {
                read.add(next - at);
            }
            at = next;
        }
        Ok(())
    }

    /// The bytes from `offset` to the end of the file. Only those that were
    /// loaded may be looked at.
    pub(crate) fn bytes(&self, offset: u64) -> &[u8] {
        self.region.map().published(offset.min(self.len())..self.len())
    }
}

/// Whether `file` is of the same log as those `below`, and covers no index of theirs.
pub(crate) fn fits(below: &[File], file: &File) -> Result<()> {
    let Some(lowest) = below.first() else { return Ok(()) };
    if (lowest.header.uuid, lowest.size) != (file.header.uuid, file.size) {
        return Err(Error::Foreign { path: file.path.clone(), other: lowest.path.clone() });
    }
    match below.last() {
        Some(last) if last.last_index() >= file.header.index => {
            Err(file.damaged(0, Damage::Overlap))
        }
        _ => Ok(()),
    }
}

/// Reads a file in, from a place on, as far as a walk needs it.
pub(crate) struct Reading<'a> {
    contents: &'a Contents<'a>,
    loaded: u64,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(contents: &'a Contents<'a>, from: Place) -> Self {
        Reading { contents, loaded: from.offset }
    }

    /// The bytes from `offset` on, of which the frame there is loaded.
    pub(crate) fn frame(&mut self, offset: u64) -> Result<&'a [u8]> {
        self.load(offset + format::FRAME_HEADER as u64)?;
        let bytes = self.contents.bytes(offset);
        if let Some(word) = bytes.first_chunk() {
            let payload_len = format::payload_len(u32::from_le_bytes(*word));
            self.load(offset + format::frame_size(payload_len))?;
        }
        Ok(bytes)
    }

    /// The bytes from `offset` on that are loaded.
    pub(crate) fn loaded(&self, offset: u64) -> &'a [u8] {
        &self.contents.bytes(offset)[..self.loaded.saturating_sub(offset) as usize]
    }

    fn load(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.contents.len());
        if end > self.loaded {
            let end = end.next_multiple_of(STEP);
            self.contents.load(self.loaded..end)?;
            self.loaded = end.min(self.contents.len());
        }
        Ok(())
    }
}
