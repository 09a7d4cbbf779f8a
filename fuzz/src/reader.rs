//! A reader of whole logs, written anew from sections 9 and 10 of `docs/format.md`. It does not ask
//! for evidence (section 11): where the library goes on with a log, this says which one that must
//! be.

use std::collections::BTreeMap;

use crate::format::{ABANDONED, FIRST_FRAME, Frame, Header, STATE, State, Walk, index_of, u64_at};

/// Names and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A record as it is handed out, or an abandoned claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub lsn: u64,
    pub sequence: u64,
    /// `None`: abandoned.
    pub data: Option<Vec<u8>>,
}

/// Why there is nothing to go on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A name of a segment on a file that is none.
    Invalid,
    /// Two logs, or two files for one place.
    Mixed,
    /// There are begins, and no chain ends with one; or files above the first, and no begin.
    NoChain,
    /// A state says what no state can.
    State,
    /// The head is inside a frame or a batch, or where none can be.
    Head,
}

struct Segment<'a> {
    header: Header,
    file: &'a [u8],
    walk: Walk,
    begin: Option<Begin>,
}

/// What a segment's first frame says.
#[derive(Clone, Copy)]
struct Begin {
    epoch: u32,
    head: u64,
    predecessor_index: u64,
    predecessor_salt: u64,
    end: u64,
    first_sequence: u64,
}

/// The records of the log that these files are, from its head on. None if there is no log yet.
pub fn read(files: &Files) -> Result<Vec<Entry>, Refused> {
    let segments = segments(files)?;
    if segments.iter().all(|segment| segment.begin.is_none()) {
        let is_new = segments.len() <= 1 && segments.iter().all(|it| it.header.index == 1);
        return if is_new { Ok(Vec::new()) } else { Err(Refused::NoChain) };
    }
    let tops = (0..segments.len()).rev();
    let (chain, head) =
        tops.filter_map(|top| chain(&segments, top)).next().ok_or(Refused::NoChain)?;
    let &(lowest, _) = chain.last().expect("a chain has a segment");
    if !segments[lowest].is_valid_head(head) {
        return Err(Refused::Head);
    }
    let mut entries = Vec::new();
    for &(k, end) in chain.iter().rev() {
        let segment = &segments[k];
        let first_sequence = segment.begin.expect("a chain's segments have one").first_sequence;
        for frame in segment.frames_below(end).filter(|frame| frame.has_number()) {
            let lsn = segment.lsn(frame.at);
            if lsn >= head {
                let sequence = first_sequence + u64::from(frame.ordinal);
                let data =
                    (frame.kind != ABANDONED).then(|| segment.file[frame.payload.clone()].to_vec());
                entries.push(Entry { lsn, sequence, data });
            }
        }
    }
    Ok(entries)
}

/// All segments, by index.
fn segments(files: &Files) -> Result<Vec<Segment<'_>>, Refused> {
    let mut segments: Vec<Segment<'_>> = Vec::new();
    for (name, file) in files.iter().filter(|(name, _)| index_of(name).is_some()) {
        let header = Header::of_valid(name, file).ok_or(Refused::Invalid)?;
        let walk = header.life().walk(file);
        let begin = walk.frames.first().map(|frame| Begin::of(file, frame));
        if begin.is_some_and(|begin| {
            begin.epoch == u32::MAX || !(1..1 << 63).contains(&begin.first_sequence)
        }) {
            return Err(Refused::State);
        }
        if let Some(before) = segments.last() {
            let other = before.header;
            if (other.uuid, other.segment_size) != (header.uuid, header.segment_size)
                || other.last_index() >= header.index
            {
                return Err(Refused::Mixed);
            }
        }
        segments.push(Segment { header, file, walk, begin });
    }
    Ok(segments)
}

/// The chain that ends with `top`, from there down, each with the offset where it ends; and the
/// head.
fn chain(segments: &[Segment<'_>], top: usize) -> Option<(Vec<(usize, usize)>, u64)> {
    segments[top].begin?;
    let end = segments[top].walk.boundaries.last()?.at;
    let mut linked = vec![(top, end)];
    while let Some(below) = linked.last().and_then(|&(k, _)| link(segments, k)) {
        linked.push(below);
    }
    let heads = linked.iter().filter_map(|&(k, end)| segments[k].highest_head(end));
    let head = heads.max()?;
    let starts_there =
        |&(k, _): &(usize, usize)| segments[k].begin.is_some_and(|begin: Begin| begin.end <= head);
    let lowest = linked.iter().position(starts_there)?;
    linked.truncate(lowest + 1);
    (head <= segments[top].lsn(end)).then_some((linked, head))
}

/// The segment to which the begin of the segment `k` links, and the offset of the end that it names
/// there.
fn link(segments: &[Segment<'_>], k: usize) -> Option<(usize, usize)> {
    let begin = segments[k].begin?;
    let to = segments[..k].iter().position(|it| it.header.index == begin.predecessor_index)?;
    let below = &segments[to];
    let its_begin = below.begin?;
    let offset = begin.end.checked_sub(below.lsn(0))?;
    let boundary = below.walk.boundaries.iter().find(|it| it.at as u64 == offset)?;
    let links = below.header.salt == begin.predecessor_salt
        && its_begin.first_sequence + u64::from(boundary.ordinal) == begin.first_sequence
        && begin.epoch >= boundary.epoch
        && begin.head >= its_begin.head;
    links.then_some((to, boundary.at))
}

impl Segment<'_> {
    fn lsn(&self, offset: usize) -> u64 {
        self.header.life().base + offset as u64
    }

    fn frames_below(&self, end: usize) -> impl Iterator<Item = &Frame> {
        self.walk.frames.iter().take_while(move |frame| frame.at < end)
    }

    /// Whether the head of a log may be this, of which this is the lowest segment (section 10).
    fn is_valid_head(&self, head: u64) -> bool {
        let first = self.lsn(FIRST_FRAME);
        let is_named = head < first && self.begin.is_some_and(|begin| begin.end == head);
        let mut boundaries = self.walk.boundaries.iter().map(|it| self.lsn(it.at));
        head % 8 == 0 && (is_named || head == first || boundaries.any(|at| at == head))
    }

    fn highest_head(&self, end: usize) -> Option<u64> {
        let states = self.frames_below(end).filter(|frame| frame.kind == STATE);
        states.map(|frame| State::of(self.file, frame).head).max()
    }
}

impl Begin {
    fn of(file: &[u8], frame: &Frame) -> Self {
        let payload = &file[frame.payload.clone()];
        let State { epoch, head, .. } = State::of(file, frame);
        Begin {
            epoch,
            head,
            predecessor_index: u64_at(payload, 32),
            predecessor_salt: u64_at(payload, 40),
            end: u64_at(payload, 48),
            first_sequence: u64_at(payload, 56),
        }
    }
}
