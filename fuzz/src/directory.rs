//! Directories that no crash leaves: a real log whose files are edited, with checks that are right
//! all the same.

use arbitrary::Arbitrary;
use mapwal::sim::Disk;

use crate::format::{
    BEGIN, CLOSE, FIRST_FRAME, FRAME_HEADER, Header, SEAL, SEGMENT, STATE, check_header, file_name,
    frame_size, place, put, u32_at, u64_at,
};
use crate::reader::Files;
use crate::real::{LOGS, salt};

const MAX_EDITS: usize = 32;
const MAX_FILES: usize = 8;
const MAX_SLOTS: u64 = 4;

/// A real log, and what is done to its files.
#[derive(Arbitrary, Debug)]
pub struct Directory {
    log: u8,
    edits: Vec<Edit>,
}

/// Files are counted by name, round and round.
#[derive(Arbitrary, Debug)]
enum Edit {
    /// A field of a header lies.
    Header {
        file: u8,
        field: HeaderField,
        value: Number,
        checked: bool,
    },
    /// A field of a frame lies, or of what it says.
    Frame {
        file: u8,
        frame: u8,
        field: FrameField,
        value: Number,
        checked: bool,
    },
    /// A frame more, intact, behind the others or anywhere.
    Write {
        file: u8,
        at: Option<u16>,
        ordinal: Option<Number>,
        frame: NewFrame,
    },
    /// Under another name; as the file of another life: with another index and its own checks.
    Copy {
        file: u8,
        name: Name,
        reborn: bool,
    },
    Remove {
        file: u8,
    },
    /// The file ends early, or goes on with zeros.
    Resize {
        file: u8,
        len: Length,
    },
    Put {
        name: Name,
        bytes: Vec<u8>,
    },
    Overwrite {
        file: u8,
        at: u16,
        bytes: [u8; 9],
    },
    /// From there to the end nothing is written.
    Clear {
        file: u8,
        at: u16,
    },
}

#[derive(Arbitrary, Debug)]
enum HeaderField {
    Version,
    Slots,
    Uuid,
    Index,
    SegmentSize,
    Salt,
    Rest(u16),
}

#[derive(Arbitrary, Debug)]
enum FrameField {
    Word,
    Kind,
    PayloadLen,
    Tag,
    Ordinal,
    Nibble,
    Mark,
    /// The fields of a state, or whatever is there.
    Word32(u8),
    Word64(u8),
}

#[derive(Arbitrary, Debug)]
enum NewFrame {
    Any { kind: u8, epoch: u8, mark: u32, payload: Vec<u8> },
    Long { kind: u8, epoch: u8, len: u16 },
    Seal { epoch: u8, index: u8, right_salt: bool },
    State { reason: u8, epoch: Number, head: Number, durable: Number },
    Begin { epoch: u8, head: Number, index: u8, right_salt: bool, end: Number, sequence: Number },
}

/// What a lying field says.
#[derive(Arbitrary, Debug)]
enum Number {
    Small(u8),
    /// What it said, and a little more or less.
    Near(i8),
    Place {
        index: u8,
        offset: u16,
    },
    Bit(u8),
    High(u8),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Name {
    Segment(u8),
    Temporary(u8),
    High(u8),
    Other(String),
}

#[derive(Arbitrary, Debug)]
enum Length {
    Slots(u8),
    Bytes(u32),
}

impl Directory {
    /// The disk with these files.
    pub fn disk(&self) -> Disk {
        let mut files = LOGS[usize::from(self.log) % LOGS.len()].clone();
        for edit in self.edits.iter().take(MAX_EDITS) {
            edit.apply(&mut files);
        }
        let disk = Disk::new();
        for (name, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            disk.put_file(name, bytes);
        }
        disk
    }
}

impl Edit {
    fn apply(&self, files: &mut Files) {
        match self {
            Edit::Header { file, field, value, checked } => {
                let Some((_, bytes)) = nth(files, *file) else { return };
                field.set(bytes, value);
                if *checked {
                    check_header(bytes);
                }
            }
            Edit::Frame { file, frame, field, value, checked } => {
                let Some((_, bytes)) = nth(files, *file) else { return };
                let life = Header::fields(bytes).life();
                let frames = life.walk(bytes).frames;
                let Some(i) = usize::from(*frame).checked_rem(frames.len()) else { return };
                let frame = &frames[i];
                field.set(&mut bytes[frame.at..], value);
                if *checked && place(bytes, frame.at).is_some() {
                    life.mend(bytes, frame.at, frame.epoch);
                }
            }
            Edit::Write { file, at, ordinal, frame } => {
                let Some((_, bytes)) = nth(files, *file) else { return };
                frame.write(bytes, *at, ordinal.as_ref());
            }
            Edit::Copy { file, name, reborn } => {
                let Some((_, bytes)) = nth(files, *file) else { return };
                let (name, mut bytes) = (name.text(), bytes.clone());
                if let (true, Some(index)) = (*reborn, crate::format::index_of(&name)) {
                    be_reborn(&mut bytes, index);
                }
                insert(files, name, bytes);
            }
            Edit::Remove { file } => {
                let name = nth(files, *file).map(|(name, _)| name.clone());
                name.and_then(|name| files.remove(&name));
            }
            Edit::Resize { file, len } => {
                let Some((_, bytes)) = nth(files, *file) else { return };
                bytes.resize(len.bytes(), 0);
            }
            Edit::Put { name, bytes } => insert(files, name.text(), bytes.clone()),
            Edit::Overwrite { file, at, bytes } => {
                let Some((_, file)) = nth(files, *file) else { return };
                let at = usize::from(*at);
                if at + bytes.len() <= file.len() {
                    put(file, at, bytes);
                }
            }
            Edit::Clear { file, at } => {
                let Some((_, file)) = nth(files, *file) else { return };
                let at = usize::from(*at).min(file.len());
                file[at..].fill(0);
            }
        }
    }
}

/// A file that is long enough for a header.
fn nth(files: &mut Files, n: u8) -> Option<(&String, &mut Vec<u8>)> {
    let mut long: Vec<_> = files.iter_mut().filter(|(_, it)| it.len() >= FIRST_FRAME).collect();
    let n = usize::from(n).checked_rem(long.len())?;
    Some(long.swap_remove(n))
}

fn insert(files: &mut Files, name: String, bytes: Vec<u8>) {
    if files.len() < MAX_FILES || files.contains_key(&name) {
        files.insert(name, bytes);
    }
}

/// Makes a file the same segment with another index: all its frames are intact there, too.
fn be_reborn(file: &mut [u8], index: u64) {
    let old = Header::fields(file);
    let frames = old.life().all_intact(file);
    let new = Header { index, salt: salt(index), ..old };
    new.write(file);
    for frame in frames {
        new.life().mend(file, frame.at, frame.epoch);
    }
}

impl HeaderField {
    fn set(&self, file: &mut [u8], value: &Number) {
        match self {
            HeaderField::Version => value.put32(file, 8),
            HeaderField::Slots => value.put32(file, 12),
            HeaderField::Uuid => value.put64(file, 16),
            HeaderField::Index => value.put64(file, 32),
            HeaderField::SegmentSize => value.put64(file, 40),
            HeaderField::Salt => value.put64(file, 48),
            HeaderField::Rest(at) => value.put32(file, usize::from(*at) % (FIRST_FRAME - 4)),
        }
    }
}

impl FrameField {
    /// Sets it in the frame that `bytes` begin with.
    fn set(&self, bytes: &mut [u8], value: &Number) {
        let (word, tag) = (u32_at(bytes, 0), u32_at(bytes, 8));
        let bits = |all: u32, from: u32, count: u32| {
            let mask = (u32::MAX >> (32 - count)) << from;
            let old = (all & mask) >> from;
            all & !mask | (value.near(old.into()) as u32) << from & mask
        };
        match *self {
            FrameField::Word => value.put32(bytes, 0),
            FrameField::Kind => put(bytes, 0, &bits(word, 28, 4).to_le_bytes()),
            FrameField::PayloadLen => put(bytes, 0, &bits(word, 0, 28).to_le_bytes()),
            FrameField::Tag => value.put64(bytes, 8),
            FrameField::Ordinal => put(bytes, 8, &bits(tag, 0, 28).to_le_bytes()),
            FrameField::Nibble => put(bytes, 8, &bits(tag, 28, 4).to_le_bytes()),
            FrameField::Mark => value.put32(bytes, 12),
            FrameField::Word32(n) if FRAME_HEADER + 4 * usize::from(n) + 4 <= bytes.len() => {
                value.put32(bytes, FRAME_HEADER + 4 * usize::from(n));
            }
            FrameField::Word64(n) if FRAME_HEADER + 8 * usize::from(n) + 8 <= bytes.len() => {
                value.put64(bytes, FRAME_HEADER + 8 * usize::from(n));
            }
            FrameField::Word32(_) | FrameField::Word64(_) => {}
        }
    }
}

impl NewFrame {
    /// Writes it where there is room for it, under the epoch in force at the end of the segment
    /// unless it says another.
    fn write(&self, file: &mut [u8], at: Option<u16>, ordinal: Option<&Number>) {
        let life = Header::fields(file).life();
        let end = life.walk(file).boundaries.last().copied();
        let (end, epoch, count) =
            end.map_or((FIRST_FRAME, 0, 0), |it| (it.at, it.epoch, it.ordinal));
        let at = at.map_or(end, |at| FIRST_FRAME.max(usize::from(at) & !7));
        let (kind, own_epoch, mark, payload) = self.parts(epoch, life.base.wrapping_add(at as u64));
        let size = frame_size(payload.len());
        if at + size > file.len() {
            return;
        }
        file[at..at + size].fill(0);
        let word = u32::from(kind & 15) << 28 | payload.len() as u32;
        let ordinal = ordinal.map_or(count, |it| it.near(count.into()) as u32);
        put(file, at, &word.to_le_bytes());
        put(file, at + 8, &(own_epoch << 28 | ordinal & 0x0fff_ffff).to_le_bytes());
        put(file, at + 12, &mark.to_le_bytes());
        put(file, at + FRAME_HEADER, &payload);
        if word != 0 {
            life.mend(file, at, own_epoch);
        }
    }

    /// Kind, epoch, mark and payload of a frame at this LSN.
    fn parts(&self, now: u32, lsn: u64) -> (u8, u32, u32, Vec<u8>) {
        let right_salt = |index: u8, right: bool| salt(index.into()) ^ u64::from(!right);
        let state = |reason: u32, epoch: u32, head: &Number, durable: &Number| {
            let (head, durable) = (head.near(0), durable.near(lsn));
            let fields = [u64::from(reason) | u64::from(epoch) << 32, head, durable, 0];
            fields.map(u64::to_le_bytes).concat()
        };
        match self {
            NewFrame::Any { kind, epoch, mark, payload } => {
                let len = payload.len().min(300);
                (*kind, now.wrapping_add((*epoch).into()), *mark, payload[..len].to_vec())
            }
            NewFrame::Long { kind, epoch, len } => {
                (*kind, now.wrapping_add((*epoch).into()), 0, vec![*kind; (*len).into()])
            }
            NewFrame::Seal { epoch, index, right_salt: right } => {
                let payload = [u64::from(*index), right_salt(*index, *right)];
                let payload = payload.map(u64::to_le_bytes).concat();
                (SEAL, now.wrapping_add((*epoch).into()), 0, payload)
            }
            NewFrame::State { reason, epoch, head, durable } => {
                let reason = BEGIN + 1 + u32::from(*reason) % (CLOSE - BEGIN);
                let epoch = epoch.near(now.into()) as u32;
                (STATE, epoch, u32::MAX, state(reason, epoch, head, durable))
            }
            NewFrame::Begin { epoch, head, index, right_salt: right, end, sequence } => {
                let epoch = now.wrapping_add((*epoch).into());
                let salt = if *index == 0 { 0 } else { right_salt(*index, *right) };
                let behind = [u64::from(*index), salt, end.near(0), sequence.near(1)];
                let mut payload = state(BEGIN, epoch, head, &Number::Small(0));
                payload.extend(behind.map(u64::to_le_bytes).concat());
                (STATE, epoch, u32::MAX, payload)
            }
        }
    }
}

impl Number {
    /// The number, where `old` was.
    fn near(&self, old: u64) -> u64 {
        match *self {
            Number::Small(n) => n.into(),
            Number::Near(n) => old.wrapping_add_signed(n.into()),
            Number::Place { index, offset } => u64::from(index) * SEGMENT + u64::from(offset),
            Number::Bit(n) => old ^ 1 << (n % 64),
            Number::High(n) => u64::MAX - u64::from(n),
            Number::Any(n) => n,
        }
    }

    fn put32(&self, bytes: &mut [u8], at: usize) {
        let new = self.near(u32_at(bytes, at).into()) as u32;
        put(bytes, at, &new.to_le_bytes());
    }

    fn put64(&self, bytes: &mut [u8], at: usize) {
        let new = self.near(u64_at(bytes, at));
        put(bytes, at, &new.to_le_bytes());
    }
}

impl Name {
    fn text(&self) -> String {
        match self {
            Name::Segment(index) => file_name(u64::from(*index) % 12),
            Name::Temporary(index) => format!("{:016x}.tmp", index % 12),
            Name::High(below) => file_name(u64::MAX / SEGMENT - u64::from(*below)),
            Name::Other(name) => name.clone(),
        }
    }
}

impl Length {
    fn bytes(&self) -> usize {
        let len = match *self {
            Length::Slots(slots) => u64::from(slots) % (MAX_SLOTS + 1) * SEGMENT,
            Length::Bytes(bytes) => u64::from(bytes) % (MAX_SLOTS * SEGMENT),
        };
        len as usize
    }
}
