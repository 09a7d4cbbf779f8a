//! Format 1, written anew from `docs/format.md`, of which the sections are named here. Nothing is
//! shared with the library: where the two do not agree, one of them is wrong.

use std::ops::Range;

/// The size of the segments that are made here: the smallest there is.
pub const SEGMENT: u64 = 64 << 10;
/// Where the frames of a segment begin.
pub const FIRST_FRAME: usize = 4096;
/// The bytes of a frame before its payload.
pub const FRAME_HEADER: usize = 16;

const MAGIC: [u8; 8] = *b"mapwal\r\n";
const HEADER_CHECK: usize = 4092;

pub const RECORD: u8 = 1;
pub const MORE: u8 = 2;
pub const LAST: u8 = 3;
pub const ABANDONED: u8 = 4;
pub const SEAL: u8 = 5;
pub const STATE: u8 = 6;

pub const BEGIN: u32 = 1;
pub const OPEN: u32 = 2;
pub const HEAD: u32 = 3;
pub const CLOSE: u32 = 4;

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// The name of the segment with this index (section 2).
pub fn file_name(index: u64) -> String {
    format!("{index:016x}.wal")
}

/// The index in a segment's name.
pub fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let index = u64::from_str_radix(digits, 16).ok()?;
    (file_name(index) == name).then_some(index)
}

/// A segment's header (section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub slots: u32,
    pub uuid: [u8; 16],
    pub index: u64,
    pub segment_size: u64,
    pub salt: u64,
}

impl Header {
    /// The fields, whether the header is intact or not. `bytes` are 4,096 at least.
    pub fn fields(bytes: &[u8]) -> Self {
        Header {
            slots: u32_at(bytes, 12),
            uuid: bytes[16..32].try_into().expect("16 bytes"),
            index: u64_at(bytes, 32),
            segment_size: u64_at(bytes, 40),
            salt: u64_at(bytes, 48),
        }
    }

    /// The fields of the header of a file, if it makes the file a valid segment under this name.
    pub fn of_valid(name: &str, file: &[u8]) -> Option<Self> {
        if file.len() < FIRST_FRAME || file[..8] != MAGIC || u32_at(file, 8) != 1 {
            return None;
        }
        let header = Header::fields(file);
        let size = header.segment_size;
        let is_valid = u32_at(file, HEADER_CHECK) == crc32c::crc32c(&file[..HEADER_CHECK])
            && file[56..HEADER_CHECK].iter().all(|&byte| byte == 0)
            && index_of(name) == Some(header.index)
            && size.is_power_of_two()
            && (SEGMENT..=4 << 30).contains(&size)
            && header.slots >= 1
            && header.index >= 1
            && u128::from(header.index) + u128::from(header.slots) < (1 << 64) / u128::from(size)
            && u128::from(header.slots) * u128::from(size) == file.len() as u128;
        is_valid.then_some(header)
    }

    /// Makes the header of `file` intact, with these fields.
    pub fn write(&self, file: &mut [u8]) {
        file[..FIRST_FRAME].fill(0);
        put(file, 0, &MAGIC);
        put(file, 8, &1u32.to_le_bytes());
        put(file, 12, &self.slots.to_le_bytes());
        put(file, 16, &self.uuid);
        put(file, 32, &self.index.to_le_bytes());
        put(file, 40, &self.segment_size.to_le_bytes());
        put(file, 48, &self.salt.to_le_bytes());
        check_header(file);
    }

    pub fn life(&self) -> Life {
        Life { base: self.index.wrapping_mul(self.segment_size), salt: self.salt }
    }

    /// The highest index that the file covers.
    pub fn last_index(&self) -> u64 {
        self.index + u64::from(self.slots) - 1
    }
}

/// Makes the check of a segment's header right, whatever the header says.
pub fn check_header(file: &mut [u8]) {
    let check = crc32c::crc32c(&file[..HEADER_CHECK]);
    put(file, HEADER_CHECK, &check.to_le_bytes());
}

/// The raw checksum of section 6.
fn crc(state: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, data)
}

pub fn seed(salt: u64, epoch: u32) -> u32 {
    crc(epoch, &salt.to_le_bytes())
}

pub fn check(seed: u32, word: u32, lsn: u64, tag: u64, hashed: &[u8]) -> u32 {
    let state = crc(seed ^ word, &lsn.to_le_bytes());
    let state = crc(state, &tag.to_le_bytes());
    !crc(state, hashed)
}

pub fn kind(word: u32) -> u8 {
    (word >> 28) as u8
}

pub fn payload_len(word: u32) -> usize {
    (word & 0x0fff_ffff) as usize
}

pub fn frame_size(payload_len: usize) -> usize {
    (FRAME_HEADER + payload_len).next_multiple_of(8)
}

/// What ties a frame to a file.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub base: u64,
    pub salt: u64,
}

impl Life {
    /// The check that makes what stands at `at` an intact frame, as far as a check can. The frame
    /// lies in `file`.
    fn right_check(self, file: &[u8], at: usize, epoch: u32) -> u32 {
        let word = u32_at(file, at);
        let payload = &file[at + FRAME_HEADER..][..payload_len(word)];
        let hashed = if kind(word) == ABANDONED { &[] } else { payload };
        let seed = seed(self.salt, if starts_epoch(file, at) { 0 } else { epoch });
        check(seed, word, self.base.wrapping_add(at as u64), u64_at(file, at + 8), hashed)
    }

    /// The frame at `at`, if an intact one is there (section 8).
    pub fn intact(self, file: &[u8], at: usize, epoch: u32) -> Option<Frame> {
        let range = place(file, at)?;
        let kind = kind(u32_at(file, at));
        let payload = at + FRAME_HEADER..at + FRAME_HEADER + payload_len(u32_at(file, at));
        let is_padded = file[payload.end..range.end].iter().all(|&byte| byte == 0);
        let says_what_it_may = match kind {
            RECORD | MORE | LAST | ABANDONED => true,
            SEAL => payload.len() == 16,
            STATE => {
                let reason = (payload.len() >= 32).then(|| u32_at(file, payload.start));
                let len = match reason {
                    Some(BEGIN) => 64,
                    Some(OPEN | HEAD | CLOSE) => 32,
                    _ => return None,
                };
                payload.len() == len && u32_at(file, payload.start + 4) >= 1
            }
            _ => false,
        };
        let is_intact = is_padded
            && says_what_it_may
            && self.right_check(file, at, epoch) == u32_at(file, at + 4);
        let ordinal = u32_at(file, at + 8) & 0x0fff_ffff;
        is_intact.then_some(Frame { at, kind, ordinal, payload, epoch })
    }

    /// The frames that a walk of the segment reaches, as far as they count.
    pub fn walk(self, file: &[u8]) -> Walk {
        let mut walk = Walk { frames: Vec::new(), boundaries: Vec::new() };
        let (mut reached, mut at, mut epoch, mut ordinal) = (0, FIRST_FRAME, 0, 0);
        let mut in_batch = false;
        while let Some(frame) = self.intact(file, at, epoch) {
            let state = (frame.kind == STATE).then(|| State::of(file, &frame));
            let own_epoch = state.as_ref().map_or(epoch, |state| state.epoch);
            let stands_right = match state {
                Some(State { reason: BEGIN, .. }) => at == FIRST_FRAME,
                Some(State { reason: OPEN, .. }) => at > FIRST_FRAME && own_epoch > epoch,
                Some(State { reason: HEAD, .. }) => at > FIRST_FRAME && own_epoch == epoch,
                Some(State { durable, .. }) => {
                    at > FIRST_FRAME
                        && own_epoch == epoch
                        && durable == self.base.wrapping_add(at as u64)
                }
                None => at > FIRST_FRAME,
            };
            let is_of_batch = matches!(frame.kind, MORE | LAST);
            if !stands_right
                || u32_at(file, at + 8) >> 28 != own_epoch % 16
                || frame.ordinal != ordinal
                || in_batch && !is_of_batch
                || !in_batch && frame.kind == LAST
            {
                break;
            }
            (epoch, in_batch) = (own_epoch, frame.kind == MORE);
            ordinal += u32::from(frame.has_number());
            at = frame.end();
            walk.frames.push(frame);
            if !in_batch {
                reached = walk.frames.len();
                walk.boundaries.push(Boundary { at, epoch, ordinal });
            }
            if walk.frames.last().is_some_and(|frame| frame.kind == SEAL) {
                break;
            }
        }
        walk.frames.truncate(reached);
        walk
    }

    /// The frames that a walk reaches, and those behind it that are intact under the epoch in force
    /// at its end.
    pub fn all_intact(self, file: &[u8]) -> Vec<Frame> {
        let walk = self.walk(file);
        let (end, epoch) = walk.boundaries.last().map_or((FIRST_FRAME, 0), |it| (it.at, it.epoch));
        let behind = (end..file.len()).step_by(8).filter_map(|at| self.intact(file, at, epoch));
        walk.frames.into_iter().chain(behind).collect()
    }

    /// Makes the check of the frame right that begins at `at` and lies in `file`.
    pub fn mend(self, file: &mut [u8], at: usize, epoch: u32) {
        let check = self.right_check(file, at, epoch);
        put(file, at + 4, &check.to_le_bytes());
    }

    /// The same for all that looks like frames one behind the other from the first on, each under
    /// the epoch that is in force there.
    pub fn mend_all(self, file: &mut [u8]) {
        let (mut at, mut epoch) = (FIRST_FRAME, 0);
        while let Some(range) = place(file, at) {
            self.mend(file, at, epoch);
            if starts_epoch(file, at) {
                epoch = u32_at(file, at + FRAME_HEADER + 4);
            }
            at = range.end;
        }
    }
}

/// The bytes that what stands at `at` takes, if it is written and fits in the file.
pub fn place(file: &[u8], at: usize) -> Option<Range<usize>> {
    let header = file.get(at..at + FRAME_HEADER)?;
    let word = u32_at(header, 0);
    let end = at + frame_size(payload_len(word));
    (word != 0 && end <= file.len()).then_some(at..end)
}

/// Whether the frame at `at`, which lies in `file`, is a *begin* or an *open*.
fn starts_epoch(file: &[u8], at: usize) -> bool {
    let word = u32_at(file, at);
    let reason = at + FRAME_HEADER;
    kind(word) == STATE && payload_len(word) >= 8 && matches!(u32_at(file, reason), BEGIN | OPEN)
}

/// A frame that was found intact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub at: usize,
    pub kind: u8,
    pub ordinal: u32,
    pub payload: Range<usize>,
    /// In force right before it.
    pub epoch: u32,
}

impl Frame {
    pub fn end(&self) -> usize {
        self.payload.end.next_multiple_of(8)
    }

    pub fn has_number(&self) -> bool {
        matches!(self.kind, RECORD | MORE | LAST | ABANDONED)
    }
}

/// What a *state* says (section 7).
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub reason: u32,
    pub epoch: u32,
    pub head: u64,
    pub durable: u64,
}

impl State {
    pub fn of(file: &[u8], frame: &Frame) -> Self {
        let payload = &file[frame.payload.clone()];
        State {
            reason: u32_at(payload, 0),
            epoch: u32_at(payload, 4),
            head: u64_at(payload, 8),
            durable: u64_at(payload, 16),
        }
    }
}

/// What a walk over a segment reaches.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Those that count.
    pub frames: Vec<Frame>,
    /// Growing.
    pub boundaries: Vec<Boundary>,
}

/// A batch boundary, and what holds there.
#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    pub at: usize,
    pub epoch: u32,
    /// The frames before that have a number.
    pub ordinal: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_format_are_met() {
        assert_eq!(seed(0x0123_4567_89ab_cdef, 0x12), 0xff96_9953);
        assert_eq!(check(0xff96_9953, 0x1000_0003, 0x21050, 0x24a_2000_0000, b"one"), 0x28af_f259);
    }

    #[test]
    fn frames_that_are_mended_are_reached() {
        let header =
            Header { slots: 1, uuid: [7; 16], index: 1, segment_size: SEGMENT, salt: 0x5a17 };
        let mut file = vec![0; SEGMENT as usize];
        header.write(&mut file);
        let begin = u32::from(STATE) << 28 | 64;
        put(&mut file, FIRST_FRAME, &begin.to_le_bytes());
        put(&mut file, FIRST_FRAME + 8, &(1u32 << 28).to_le_bytes());
        put(&mut file, FIRST_FRAME + FRAME_HEADER, &[BEGIN, 1].map(u32::to_le_bytes).concat());
        let at = FIRST_FRAME + 80;
        put(&mut file, at, &(u32::from(RECORD) << 28 | 3).to_le_bytes());
        put(&mut file, at + 8, &(1u32 << 28).to_le_bytes());
        put(&mut file, at + FRAME_HEADER, b"one");
        assert_eq!(header.life().walk(&file).frames, []);
        header.life().mend_all(&mut file);
        let frames = header.life().walk(&file).frames;
        assert_eq!(frames.iter().map(|frame| frame.at).collect::<Vec<_>>(), [FIRST_FRAME, at]);
        file[at + FRAME_HEADER + 3] = 1; // its padding
        assert_eq!(header.life().walk(&file).frames.len(), 1);
    }
}
