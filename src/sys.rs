//! What the platform offers beyond `std`: steps of a checksum, allocation,
//! page state, flushes.
//!
//! With `map` the only place with `unsafe`.

use std::fs::File;
use std::io;

#[path = "sys/crc.rs"] // the models take this file in from elsewhere
mod crc;
pub(crate) use crc::{CRC32C_POLYNOMIAL, FRAMES, Hashed, crc32c_frame, crc32c_frames};
#[path = "sys/copy.rs"] // as above
mod copy;
pub(crate) use copy::copy;
#[path = "sys/processor.rs"] // as above
mod processor;
pub(crate) use processor::Parked;

/// The bytes that are checksummed on this thread, counted where that is done: for tests that bound
/// it.
#[cfg(all(test, not(loom)))]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local!(static BYTES: Cell<u64> = const { Cell::new(0) });

    pub(crate) fn add(bytes: usize) {
        BYTES.set(BYTES.get() + bytes as u64);
    }

    /// What `work` returns, and the bytes that it checksummed.
    pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = BYTES.get();
        let done = work();
        (done, BYTES.get() - before)
    }
}

/// One 8-byte step of CRC-32C on a raw state, without the inversions around it.
#[inline]
pub(crate) fn crc32c_step(state: u32, word: u64) -> u32 {
    crc32c_steps(state, [word])
}

/// 8-byte steps of CRC-32C on a raw state: what a frame's check adds to its payload. By
/// the processor's instruction where it has one, since a call for 16 bytes would cost as
/// much as the payload.
#[inline]
pub(crate) fn crc32c_steps<const N: usize>(state: u32, words: [u64; N]) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has SSE 4.2, just asked.
        return unsafe { steps_sse42(state, words) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    if std::arch::is_aarch64_feature_detected!("crc") {
        // SAFETY: the processor has the CRC extension, just asked.
        return unsafe { steps_crc(state, words) };
    }
    steps_anywhere(state, words)
}

fn steps_anywhere<const N: usize>(state: u32, words: [u64; N]) -> u32 {
    let step = |state: u32, word: u64| !crc32c::crc32c_append(!state, &word.to_le_bytes());
    words.into_iter().fold(state, step)
}

/// # Safety
///
/// The processor has SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[allow(unused_unsafe, reason = "the intrinsics are unsafe before Rust 1.86")]
unsafe fn steps_sse42<const N: usize>(state: u32, words: [u64; N]) -> u32 {
    use std::arch::x86_64::_mm_crc32_u64;
    // SAFETY: the caller has seen to SSE 4.2, of which this is an instruction.
    words.into_iter().fold(state, |state, word| unsafe { _mm_crc32_u64(state.into(), word) as u32 })
}

/// # Safety
///
/// The processor has the CRC extension.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "crc")]
#[allow(unused_unsafe, reason = "the intrinsics are unsafe before Rust 1.86")]
unsafe fn steps_crc<const N: usize>(state: u32, words: [u64; N]) -> u32 {
    use std::arch::aarch64::__crc32cd;
    // SAFETY: the caller has seen to the CRC extension, of which this is an
    // instruction.
    words.into_iter().fold(state, |state, word| unsafe { __crc32cd(state, word) })
}

/// The longest piece that is [fetched](prefetch_behind), for each frame of which there is one: a
/// processor sees by itself what it is to fetch of longer ones. A chain of frames is no pattern
/// that it sees.
const LONGEST_FETCHED: usize = 1024;

/// Has the processor fetch what is to be read soon, some way behind `at`: as much as is read
/// there, so many frames of `len` bytes in all. Whatever is there, or is not.
#[inline]
pub(crate) fn prefetch_behind(at: *const u8, frames: usize, len: usize) {
    /// Frames that are checked side by side are read ahead of each other.
    const AHEAD: usize = 8 << 10;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in (0..len.min(frames * LONGEST_FETCHED)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[allow(unused_unsafe, reason = "the intrinsic is safe in later versions")]
        // SAFETY: a hint: no address is wrong for it, and every x86-64 has it.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (at, frames, len, AHEAD, LONGEST_FETCHED);
}

/// The same for what is to be written soon, for this processor alone: an atomic addition waits
/// for all stores before it.
#[inline]
pub(crate) fn prefetch_to_write_behind(at: *mut u8, len: usize) {
    const AHEAD: usize = 3 << 10;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in (0..len.min(LONGEST_FETCHED)).step_by(64) {
        // SAFETY: a hint: no address is wrong for it, and every x86-64 has it, or does nothing.
        unsafe {
            std::arch::asm!(
                "prefetchw [{}]",
                in(reg) at.wrapping_add(AHEAD + line),
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (at, len, AHEAD, LONGEST_FETCHED);
}

/// Allocates blocks for the first `len` bytes of a file, which becomes as long if
/// it is shorter; its bytes stay. `Unsupported`: only writing them does that here.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let len = len.try_into().map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: takes no pointers, and the descriptor is open while `file` lives.
        match unsafe { libc::posix_fallocate64(file.as_raw_fd(), 0, len) } {
            0 => return Ok(()),
            libc::EINTR => {}
            libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            code => return Err(io::Error::from_raw_os_error(code)), // `errno` is not set
        }
    }
}

/// As above.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn allocate(_file: &File, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Asks for blocks that are written in place, where the file system copies on
/// write unless told: there a store to an allocated block may meet a full disk.
/// The file is empty. A refusal is no error: most others write in place anyway.
pub(crate) fn no_copy_on_write(_file: &File) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        const FS_NOCOW_FL: libc::c_int = 0x0080_0000; // linux/fs.h
        let mut flags: libc::c_int = 0;
        // SAFETY: this call writes one int, whatever its number says, and the
        // descriptor is open while `_file` lives.
        let known =
            unsafe { libc::ioctl(_file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) } == 0;
        flags |= FS_NOCOW_FL;
        if known {
            // SAFETY: as above, but it reads the int.
            unsafe { libc::ioctl(_file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_and_the_table_agree() {
        for i in 0..1000u64 {
            let (a, b) = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), !i << (i % 64));
            let state = (a >> 7) as u32;
            assert_eq!(crc32c_steps(state, [a, b]), steps_anywhere(state, [a, b]));
            assert_eq!(crc32c_step(crc32c_step(state, a), b), crc32c_steps(state, [a, b]));
        }
    }

    #[test]
    fn a_step_is_eight_bytes_of_the_checksum() {
        let bytes = *b"12345678";
        assert_eq!(!crc32c_step(!0, u64::from_le_bytes(bytes)), crc32c::crc32c(&bytes));
    }
}
