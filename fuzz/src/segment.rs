//! One file under the name of a segment: any bytes.

use mapwal::sim::Disk;

use crate::format::{FIRST_FRAME, Header, SEGMENT, file_name};
use crate::real::{UUID, salt};

/// The first byte of an input: what is made of the others.
pub const FRAMES: u8 = 0;
pub const MENDED_FRAMES: u8 = 1;
pub const FRAMES_OF_A_LATER_ONE: u8 = 2;
pub const WHOLE_FILE: u8 = 3;

/// The disk with the file that an input is, if it is one: its frames behind a header that is sound,
/// with checks as they are or made right, the rest of it zeros; or the file as it is.
pub fn disk(input: &[u8]) -> Option<Disk> {
    let (&how, bytes) = input.split_first()?;
    let index = if how % 4 == FRAMES_OF_A_LATER_ONE { 2 } else { 1 };
    let mut file = match how % 4 {
        WHOLE_FILE => bytes.to_vec(),
        _ => [&[0; FIRST_FRAME][..], bytes].concat(),
    };
    if how % 4 != WHOLE_FILE {
        let slots = (file.len() as u64).div_ceil(SEGMENT) as u32;
        file.resize(slots as usize * SEGMENT as usize, 0);
        let header = Header { slots, uuid: UUID, index, segment_size: SEGMENT, salt: salt(index) };
        header.write(&mut file);
        if how % 4 == MENDED_FRAMES {
            header.life().mend_all(&mut file);
        }
    }
    if file.is_empty() {
        return None;
    }
    let disk = Disk::new();
    disk.put_file(&file_name(index), &file);
    Some(disk)
}
