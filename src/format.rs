//! Every byte on disk: the header of a segment, and the frames behind it.
//!
//! Functions of bytes alone: no files, no maps, no atomics. The bytes are
//! specified in `docs/format.md`; what makes a frame intact is in `scan`.

use crate::lsn::Lsn;
use crate::sys;

#[path = "format/lanes.rs"] // the models take this file in from elsewhere
mod lanes;
pub(crate) use lanes::Lanes;

/// Frames start on a multiple of this, and so do payloads.
pub(crate) const ALIGN: u64 = 8;

/// The largest record, in bytes: the length has 28 bits.
pub(crate) const MAX_RECORD: usize = (1 << 28) - 1;

/// The end of every segment that records never claim: four states and the seal.
pub(crate) const RESERVE: u64 = 256;

// --- the header of a segment ---

/// The first bytes of a segment; frames begin behind them.
pub(crate) const SEGMENT_HEADER: usize = 4096;
/// Where a segment's first frame is, as an offset.
pub(crate) const FIRST_FRAME: u64 = SEGMENT_HEADER as u64;

const MAGIC_BYTES: [u8; 8] = *b"mapwal\r\n";
/// The one version this library writes; it reads it for ever.
pub(crate) const VERSION: u32 = 1;

const MAGIC: usize = 0;
const VERSION_AT: usize = MAGIC + MAGIC_BYTES.len();
const SLOTS: usize = VERSION_AT + size_of::<u32>();
const UUID: usize = SLOTS + size_of::<u32>();
const INDEX: usize = UUID + size_of::<[u8; 16]>();
const SEGMENT_SIZE: usize = INDEX + size_of::<u64>();
const SALT: usize = SEGMENT_SIZE + size_of::<u64>();
const ZEROS: usize = SALT + size_of::<u64>();
const HEADER_CHECK: usize = SEGMENT_HEADER - size_of::<u32>();
const _: () = assert!(ZEROS == 56);

/// The header of a segment file, written once and never again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) uuid: [u8; 16],
    pub(crate) index: u64,
    pub(crate) segment_size: u64,
    pub(crate) slots: u32,
    pub(crate) salt: u64,
}

/// Why 4,096 bytes are no segment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadHeader {
    Magic,
    Version(u32),
    Check,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        put(&mut bytes, MAGIC, &MAGIC_BYTES);
        put(&mut bytes, VERSION_AT, &VERSION.to_le_bytes());
        put(&mut bytes, SLOTS, &self.slots.to_le_bytes());
        put(&mut bytes, UUID, &self.uuid);
        put(&mut bytes, INDEX, &self.index.to_le_bytes());
        put(&mut bytes, SEGMENT_SIZE, &self.segment_size.to_le_bytes());
        put(&mut bytes, SALT, &self.salt.to_le_bytes());
        let check = crc32c::crc32c(&bytes[..HEADER_CHECK]);
        put(&mut bytes, HEADER_CHECK, &check.to_le_bytes());
        bytes
    }

    /// Every version has magic, version and check in these places, so that a
    /// newer file is told from a damaged one.
    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, BadHeader> {
        if bytes[..VERSION_AT] != MAGIC_BYTES {
            return Err(BadHeader::Magic);
        }
        let intact = crc32c::crc32c(&bytes[..HEADER_CHECK]) == u32_at(bytes, HEADER_CHECK);
        let version = u32_at(bytes, VERSION_AT);
        if intact && version > VERSION {
            return Err(BadHeader::Version(version));
        }
        if !intact || version != VERSION || bytes[ZEROS..HEADER_CHECK].iter().any(|&b| b != 0) {
            return Err(BadHeader::Check);
        }
        Ok(SegmentHeader {
            uuid: array_at(bytes, UUID),
            index: u64_at(bytes, INDEX),
            segment_size: u64_at(bytes, SEGMENT_SIZE),
            slots: u32_at(bytes, SLOTS),
            salt: u64_at(bytes, SALT),
        })
    }
}

/// The name of the segment file with this index.
pub(crate) fn file_name(index: u64) -> String {
    format!("{index:016x}.wal")
}

/// The name of the segment file with this index while it is on its way.
pub(crate) fn temporary_name(index: u64) -> String {
    format!("{index:016x}.tmp")
}

/// Whether this is the name of a segment file on its way.
pub(crate) fn is_temporary_name(name: &str) -> bool {
    name.strip_suffix(".tmp").and_then(index_of).is_some()
}

/// The index in a segment file's name; `None` if it is no such name.
pub(crate) fn file_index(name: &str) -> Option<u64> {
    name.strip_suffix(".wal").and_then(index_of)
}

fn index_of(digits: &str) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(lower) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

// --- the header of a frame ---

const WORD: usize = 0; // kind and length
const CHECK: usize = WORD + size_of::<u32>();
const ORDINAL: usize = CHECK + size_of::<u32>();
const MARK: usize = ORDINAL + size_of::<u32>();
/// Where [`Tag`] lies in a frame, and what is checksummed of its bytes begins.
pub(crate) const TAG: usize = ORDINAL;
/// The size of a frame's header; the payload follows.
pub(crate) const FRAME_HEADER: usize = MARK + size_of::<u32>();
const _: () = assert!(FRAME_HEADER as u64 % ALIGN == 0);

const LEN_BITS: u32 = 28;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;
const ORDINAL_BITS: u32 = 28;
/// The largest number of claims before a frame of one segment.
pub(crate) const ORDINAL_MASK: u32 = (1 << ORDINAL_BITS) - 1;
const NO_MARK: u32 = u32::MAX;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A record by itself.
    Record = 1,
    /// A record with more of its batch behind it.
    More = 2,
    /// The last record of a batch.
    Last = 3,
    /// Claimed, never filled: keeps its number and its length.
    Abandoned = 4,
    /// Nothing follows in this file.
    Seal = 5,
    /// Where the log stands, with a reason.
    State = 6,
}

impl Kind {
    fn of(word: u32) -> Option<Self> {
        Some(match word >> LEN_BITS {
            1 => Kind::Record,
            2 => Kind::More,
            3 => Kind::Last,
            4 => Kind::Abandoned,
            5 => Kind::Seal,
            6 => Kind::State,
            _ => return None,
        })
    }

    /// Whether a frame of this kind has a sequence number.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Kind::Record | Kind::More | Kind::Last | Kind::Abandoned)
    }
}

/// The first word of a frame: its kind and the length of its payload. Never 0.
#[inline]
pub(crate) fn word(kind: Kind, payload_len: usize) -> u32 {
    assert!(payload_len <= MAX_RECORD, "a payload of {payload_len} bytes has no word");
    (kind as u32) << LEN_BITS | payload_len as u32
}

/// The payload's length in a frame's first word, in bytes.
#[inline]
pub(crate) fn payload_len(word: u32) -> usize {
    (word & LEN_MASK) as usize
}

/// The kind in a frame's first word; `None` if it is none that this version
/// knows.
#[inline]
pub(crate) fn kind(word: u32) -> Option<Kind> {
    Kind::of(word)
}

/// The bytes a frame takes: its header, its payload, and zeros up to 8.
pub(crate) const fn frame_size(payload_len: usize) -> u64 {
    (FRAME_HEADER as u64 + payload_len as u64 + (ALIGN - 1)) & !(ALIGN - 1)
}

/// The rest of a frame's header, as one 8-byte step of the check sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag(u64);

impl Tag {
    /// `ordinal`: claims in the segment before this frame. `durable`: the
    /// durable LSN known when it was claimed, at most `lsn`.
    pub(crate) fn new(ordinal: u32, epoch: u32, lsn: u64, durable: u64) -> Self {
        let ordinal = (ordinal & ORDINAL_MASK) | epoch << ORDINAL_BITS;
        let distance = lsn.wrapping_sub(durable) / ALIGN;
        let mark = if distance < NO_MARK as u64 { distance as u32 } else { NO_MARK };
        Tag(ordinal as u64 | (mark as u64) << 32)
    }

    #[inline]
    pub(crate) fn ordinal(self) -> u32 {
        self.0 as u32 & ORDINAL_MASK
    }

    /// The epoch modulo 16.
    #[inline]
    pub(crate) fn nibble(self) -> u32 {
        self.0 as u32 >> ORDINAL_BITS
    }

    /// The durable LSN that the frame at `lsn` carries, if it does.
    #[inline]
    pub(crate) fn durable(self, lsn: u64) -> Option<u64> {
        let mark = (self.0 >> 32) as u32;
        if mark == NO_MARK { None } else { lsn.checked_sub(mark as u64 * ALIGN) }
    }
}

/// The epoch modulo 16, as a frame carries it.
#[inline]
pub(crate) fn nibble(epoch: u32) -> u32 {
    epoch & 15
}

/// What a check starts from: ties a frame to one life of one file, and to one
/// epoch of it. Injective in the epoch. Begin and open are seeded with epoch 0.
pub(crate) fn seed(salt: u64, epoch: u32) -> u32 {
    sys::crc32c_step(epoch, salt)
}

/// The check of a frame: over its word, its own place, its tag, and its payload.
#[inline]
pub(crate) fn check(seed: u32, word: u32, lsn: u64, tag: Tag, payload: &[u8]) -> u32 {
    sys::crc32c_frame(seed ^ word, [lsn, tag.0], payload)
}

/// The part of a frame's header behind its word.
pub(crate) type HeaderTail = [u8; FRAME_HEADER - CHECK];

/// The same as it is stored.
#[inline]
pub(crate) fn header_tail(check: u32, tag: Tag) -> HeaderTail {
    let mut bytes = HeaderTail::default();
    bytes[..4].copy_from_slice(&check.to_le_bytes());
    bytes[4..].copy_from_slice(&tag.0.to_le_bytes());
    bytes
}

/// Where [`header_tail`] lies in a frame.
pub(crate) const HEADER_TAIL: u64 = CHECK as u64;

/// A frame's header as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) word: u32,
    pub(crate) check: u32,
    pub(crate) tag: Tag,
}

impl FrameHeader {
    /// The header in the first 16 bytes.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let bytes: &[u8; FRAME_HEADER] = bytes.first_chunk().expect("a frame has a header");
        FrameHeader {
            word: u32_at(bytes, WORD),
            check: u32_at(bytes, CHECK),
            tag: Tag(u64_at(bytes, ORDINAL)),
        }
    }
}

/// A whole frame as bytes, for what is not built in place.
pub(crate) fn encode_frame(kind: Kind, seed: u32, lsn: u64, tag: Tag, payload: &[u8]) -> Vec<u8> {
    let word = word(kind, payload.len());
    let hashed = if kind == Kind::Abandoned { &[] } else { payload };
    let mut bytes = vec![0; frame_size(payload.len()) as usize];
    put(&mut bytes, WORD, &word.to_le_bytes());
    put(&mut bytes, CHECK, &header_tail(check(seed, word, lsn, tag, hashed), tag));
    put(&mut bytes, FRAME_HEADER, payload);
    bytes
}

// --- the payloads of frames that are not records ---

const SEAL_INDEX: usize = 0;
const SEAL_SALT: usize = SEAL_INDEX + size_of::<u64>();
const SEAL_LEN: usize = SEAL_SALT + size_of::<u64>();
/// The size of a seal frame.
pub(crate) const SEAL_SIZE: u64 = frame_size(SEAL_LEN);

/// What a seal says: the file that follows. It stood under its name, durably,
/// before this was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seal {
    pub(crate) next_index: u64,
    pub(crate) next_salt: u64,
}

impl Seal {
    pub(crate) fn encode(&self) -> [u8; SEAL_LEN] {
        let mut bytes = [0; SEAL_LEN];
        put(&mut bytes, SEAL_INDEX, &self.next_index.to_le_bytes());
        put(&mut bytes, SEAL_SALT, &self.next_salt.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        (payload.len() == SEAL_LEN).then(|| Seal {
            next_index: u64_at(payload, SEAL_INDEX),
            next_salt: u64_at(payload, SEAL_SALT),
        })
    }
}

const REASON: usize = 0;
const EPOCH: usize = REASON + size_of::<u32>();
const HEAD: usize = EPOCH + size_of::<u32>();
const DURABLE: usize = HEAD + size_of::<u64>();
const TIME: usize = DURABLE + size_of::<u64>();
const STATE_LEN: usize = TIME + size_of::<u64>();
const PREDECESSOR_INDEX: usize = STATE_LEN;
const PREDECESSOR_SALT: usize = PREDECESSOR_INDEX + size_of::<u64>();
const PREDECESSOR_END: usize = PREDECESSOR_SALT + size_of::<u64>();
const FIRST_SEQUENCE: usize = PREDECESSOR_END + size_of::<u64>();
const BEGIN_LEN: usize = FIRST_SEQUENCE + size_of::<u64>();
/// The size of an open, head or close frame.
pub(crate) const STATE_SIZE: u64 = frame_size(STATE_LEN);
/// The size of a begin frame.
pub(crate) const BEGIN_SIZE: u64 = frame_size(BEGIN_LEN);
const _: () = assert!(4 * STATE_SIZE + SEAL_SIZE <= RESERVE);

/// Why a state was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// The first frame of a segment.
    Begin(Begin),
    /// The log was opened for writing: a new epoch starts here.
    Open,
    /// Records below the head are given up.
    Head,
    /// The log was closed; everything before this is durable.
    Close,
}

const REASON_BEGIN: u32 = 1;
const REASON_OPEN: u32 = 2;
const REASON_HEAD: u32 = 3;
const REASON_CLOSE: u32 = 4;

/// What a begin adds: what its segment follows, and its first number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Begin {
    /// 0: the log's first segment, which follows nothing.
    pub(crate) predecessor_index: u64,
    pub(crate) predecessor_salt: u64,
    /// Where the predecessor ends, as an LSN; 0 with index 0.
    pub(crate) predecessor_end: u64,
    /// The sequence number of the first record in this segment.
    pub(crate) first_sequence: u64,
}

/// Where the log stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) reason: Reason,
    pub(crate) epoch: u32,
    /// Records below are given up.
    pub(crate) head: Lsn,
    /// Everything below was durable when this was claimed.
    pub(crate) durable: Lsn,
    /// Nanoseconds since 1970, or 0 where no clock was to be had.
    pub(crate) time_ns: u64,
}

impl State {
    /// The payload, 32 bytes, or 64 for a begin.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (reason, len) = match self.reason {
            Reason::Begin(_) => (REASON_BEGIN, BEGIN_LEN),
            Reason::Open => (REASON_OPEN, STATE_LEN),
            Reason::Head => (REASON_HEAD, STATE_LEN),
            Reason::Close => (REASON_CLOSE, STATE_LEN),
        };
        let mut bytes = vec![0; len];
        put(&mut bytes, REASON, &reason.to_le_bytes());
        put(&mut bytes, EPOCH, &self.epoch.to_le_bytes());
        put(&mut bytes, HEAD, &self.head.0.to_le_bytes());
        put(&mut bytes, DURABLE, &self.durable.0.to_le_bytes());
        put(&mut bytes, TIME, &self.time_ns.to_le_bytes());
        if let Reason::Begin(begin) = self.reason {
            put(&mut bytes, PREDECESSOR_INDEX, &begin.predecessor_index.to_le_bytes());
            put(&mut bytes, PREDECESSOR_SALT, &begin.predecessor_salt.to_le_bytes());
            put(&mut bytes, PREDECESSOR_END, &begin.predecessor_end.to_le_bytes());
            put(&mut bytes, FIRST_SEQUENCE, &begin.first_sequence.to_le_bytes());
        }
        bytes
    }

    /// `None`: no state. One of epoch 0 is none: that seed is for begin and open.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() < STATE_LEN || u32_at(payload, EPOCH) == 0 {
            return None;
        }
        let reason = match (u32_at(payload, REASON), payload.len()) {
            (REASON_BEGIN, BEGIN_LEN) => Reason::Begin(Begin {
                predecessor_index: u64_at(payload, PREDECESSOR_INDEX),
                predecessor_salt: u64_at(payload, PREDECESSOR_SALT),
                predecessor_end: u64_at(payload, PREDECESSOR_END),
                first_sequence: u64_at(payload, FIRST_SEQUENCE),
            }),
            (REASON_OPEN, STATE_LEN) => Reason::Open,
            (REASON_HEAD, STATE_LEN) => Reason::Head,
            (REASON_CLOSE, STATE_LEN) => Reason::Close,
            _ => return None,
        };
        Some(State {
            reason,
            epoch: u32_at(payload, EPOCH),
            head: Lsn(u64_at(payload, HEAD)),
            durable: Lsn(u64_at(payload, DURABLE)),
            time_ns: u64_at(payload, TIME),
        })
    }

    /// The epoch that this state's frame is seeded with.
    pub(crate) fn seed_epoch(&self) -> u32 {
        match self.reason {
            Reason::Begin(_) | Reason::Open => 0,
            Reason::Head | Reason::Close => self.epoch,
        }
    }
}

// --- integers in bytes ---

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N")
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(all(test, not(loom)))]
#[path = "format/tests.rs"] // the models take this file in from elsewhere
pub(crate) mod tests;
