//! Copies into a mapping.

use std::ptr;

/// What is this long or longer goes past the processor's caches: it would only push out what the
/// caller works with, and each line would be read from memory before it is overwritten.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
const LONG: usize = 16 << 10;

/// Copies `len` bytes: a store with release order behind it is behind all of them.
///
/// # Safety
///
/// As for [`ptr::copy_nonoverlapping`].
#[inline]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    if len >= LONG {
        // SAFETY: as here.
        return unsafe { stream(from, to, len) };
    }
    // SAFETY: the caller has seen to it.
    unsafe { ptr::copy_nonoverlapping(from, to, len) }
}

/// The same past the caches, by whole lines.
///
/// # Safety
///
/// As for [`ptr::copy_nonoverlapping`].
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline(never)]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;
    const PART: usize = size_of::<__m128i>();
    let start = to.align_offset(LINE).min(len);
    let end = start + (len - start) / LINE * LINE;
    // SAFETY: the three pieces are all of it, each within the caller's bytes, and the one in the
    // middle begins at a line of `to`; every x86-64 has these instructions. Streamed stores are
    // ordered by nothing but the fence.
    unsafe {
        ptr::copy_nonoverlapping(from, to, start);
        for line in (start..end).step_by(LINE) {
            for at in (line..line + LINE).step_by(PART) {
                _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
            }
        }
        ptr::copy_nonoverlapping(from.add(end), to.add(end), len - end);
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_copied_and_no_others() {
        let from: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8 + 1).collect();
        for len in (0..200).chain(16_376..16_396).chain([65_536, 65_543]) {
            for at in 0..70 {
                let mut to = vec![0; len + 140];
                assert!(at + len <= from.len() && at + len <= to.len());
                // SAFETY: both are long enough, just checked, and two vectors.
                unsafe { copy(from.as_ptr().add(at % 13), to.as_mut_ptr().add(at), len) };
                assert!(to[..at].iter().chain(&to[at + len..]).all(|&byte| byte == 0));
                assert_eq!(to[at..at + len], from[at % 13..at % 13 + len], "{len} bytes to {at}");
            }
        }
    }
}
