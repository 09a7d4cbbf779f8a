//! The check of a frame, header and payload in one: by the `crc32c` crate, or with the feature
//! `fast-crc`, and a processor for it, in less time; and of several frames at once. The sums are
//! the same.

/// CRC-32C's polynomial; the lowest bit is the highest power, here as everywhere.
pub(crate) const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

/// CRC-32C over two words, from a raw state, and over `payload`; with the inversion at its end.
#[inline]
pub(crate) fn crc32c_frame(state: u32, words: [u64; 2], payload: &[u8]) -> u32 {
    #[cfg(all(test, not(loom)))]
    super::counted::add(size_of_val(&words) + payload.len());
    #[cfg(all(feature = "fast-crc", target_arch = "x86_64", not(any(miri, loom))))]
    if payload.len() <= fast::MOST
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("pclmulqdq")
    {
        let [first, second] = words; // in registers, as an array would not be
        // SAFETY: the processor has SSE 4.2 and PCLMULQDQ, just asked.
        return unsafe { fast::frame(state, first, second, payload) };
    }
    crc32c::crc32c_append(!super::crc32c_steps(state, words), payload)
}

/// The frames that are summed up side by side: the processor's instruction begins one step a cycle,
/// but ends it three cycles later.
pub(crate) const FRAMES: usize = 4;

/// What a frame's sum is of: see [`crc32c_frame`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed<'a> {
    pub(crate) state: u32,
    pub(crate) words: [u64; 2],
    pub(crate) payload: &'a [u8],
}

/// The sums of several frames, in little more time than that of one takes, if they are as long.
#[inline]
pub(crate) fn crc32c_frames(frames: [&Hashed<'_>; FRAMES]) -> [u32; FRAMES] {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    if is_x86_feature_detected!("sse4.2") {
        #[cfg(test)]
        frames.iter().for_each(|frame| super::counted::add(16 + frame.payload.len()));
        // SAFETY: the processor has SSE 4.2, just asked.
        return unsafe { instruction::frames(frames) };
    }
    frames.map(|&Hashed { state, words, payload }| crc32c_frame(state, words, payload))
}

/// The processor's instruction, without the crate around it.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[allow(unused_unsafe, reason = "the intrinsics are unsafe before Rust 1.86")]
mod instruction {
    use std::arch::x86_64::_mm_crc32_u64;

    use super::{FRAMES, Hashed};

    pub(super) const WORD: usize = size_of::<u64>();

    /// # Safety
    ///
    /// The processor has SSE 4.2.
    #[target_feature(enable = "sse4.2")]
    pub(super) unsafe fn frames(frames: [&Hashed<'_>; FRAMES]) -> [u32; FRAMES] {
        let shortest = frames.iter().map(|frame| frame.payload.len()).min().unwrap_or(0);
        let side_by_side = shortest - shortest % WORD;
        let mut payloads = [&[][..]; FRAMES];
        let mut states = [0; FRAMES];
        // SAFETY: the caller has seen to what these need.
        unsafe {
            for ((state, payload), frame) in states.iter_mut().zip(&mut payloads).zip(frames) {
                *state = header(frame);
                *payload = &frame.payload[..side_by_side];
            }
            for at in (0..side_by_side).step_by(WORD) {
                for (state, payload) in states.iter_mut().zip(payloads) {
                    *state = step(*state, u64_of(&payload[at..at + WORD]));
                }
            }
            if frames.iter().all(|frame| frame.payload.len() == side_by_side) {
                return states.map(|state| !(state as u32));
            }
            let mut sums = [0; FRAMES];
            for ((sum, state), frame) in sums.iter_mut().zip(states).zip(frames) {
                *sum = end(state, &frame.payload[side_by_side..], frame.payload);
            }
            sums
        }
    }

    /// The state behind a frame's two words.
    ///
    /// # Safety
    ///
    /// The processor has SSE 4.2.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    unsafe fn header(frame: &Hashed<'_>) -> u64 {
        let [first, second] = frame.words;
        // SAFETY: the caller has seen to what these need.
        unsafe { step(step(frame.state.into(), first), second) }
    }

    /// The sum behind `rest`, with which `payload` ends.
    ///
    /// # Safety
    ///
    /// The processor has SSE 4.2.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    pub(super) unsafe fn end(state: u64, rest: &[u8], payload: &[u8]) -> u32 {
        let (mut state, mut rest) = (state, rest);
        // SAFETY: the caller has seen to what these need.
        unsafe {
            while let Some((&word, behind)) = rest.split_first_chunk() {
                state = step(state, u64::from_le_bytes(word));
                rest = behind;
            }
            !last_bytes(state, payload)
        }
    }

    /// The state behind the bytes of `payload` that are no whole word, as a checksum has it.
    /// In one step for any number of them, since lengths that vary cannot be predicted: over
    /// zeros, which leave a state of zeros as it is, and then those bytes and as many of the
    /// state; the rest of the state, if any, only moves.
    ///
    /// # Safety
    ///
    /// The processor has SSE 4.2.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    unsafe fn last_bytes(state: u64, payload: &[u8]) -> u32 {
        let len = payload.len() % WORD;
        if len == 0 {
            return state as u32;
        }
        let bits = 8 * len;
        let bytes = match payload.last_chunk() {
            Some(&word) => u64::from_le_bytes(word) >> (64 - bits),
            None => payload.iter().rfold(0, |bytes, &byte| bytes << 8 | u64::from(byte)),
        };
        let bytes = bytes ^ state;
        // SAFETY: the caller has seen to what this needs.
        let stepped = unsafe { step(0, bytes << (64 - bits)) };
        (stepped ^ bytes >> bits) as u32
    }

    /// # Safety
    ///
    /// The processor has SSE 4.2.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    pub(super) unsafe fn step(state: u64, word: u64) -> u64 {
        // SAFETY: the caller has seen to SSE 4.2, of which this is an instruction.
        unsafe { _mm_crc32_u64(state, word) }
    }

    #[inline]
    pub(super) fn u64_of(word: &[u8]) -> u64 {
        u64::from_le_bytes(word.try_into().expect("a chunk of a word is one"))
    }
}

/// What is long enough is cut into three streams, which are stepped side by side as whole frames
/// are above, and then joined: V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using
/// CRC32 Instruction", Intel, 2011.
#[cfg(all(feature = "fast-crc", target_arch = "x86_64", not(any(miri, loom))))]
#[allow(unused_unsafe, reason = "the intrinsics are unsafe before Rust 1.86")]
mod fast {
    use std::arch::x86_64::{_mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64};

    use super::instruction::{WORD, end, step, u64_of};

    /// What is longer is left to the crate, which is as fast in the caches, and faster in memory.
    pub(super) const MOST: usize = 4096;

    /// What is shorter is one stream: to join three takes as long as they save.
    const SHORTEST: usize = 160;
    /// The most words in a stream before it is joined: bounds the table.
    const LONGEST: usize = 128;
    const _: () = assert!(SHORTEST >= 4 * WORD); // one for each stream, and one to join them

    /// What takes a state over `n` words of zeros, for each `n` but 0: x^(64 n - 33) modulo
    /// the polynomial. The 33 come from what follows: a product of 63 bits read as a word has
    /// one power more, and the step that reduces it adds 32.
    static OVER_ZEROS: [u32; 2 * LONGEST + 2] = {
        let mut powers = [0; 2 * LONGEST + 2];
        let (mut power, mut exponent, mut n) = (1 << 31, 0, 1); // x^0
        while n < powers.len() {
            while exponent < 64 * n - 33 {
                power = (power >> 1) ^ (super::CRC32C_POLYNOMIAL * (power & 1)); // times x
                exponent += 1;
            }
            powers[n] = power;
            n += 1;
        }
        powers
    };

    /// # Safety
    ///
    /// The processor has SSE 4.2 and PCLMULQDQ.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) unsafe fn frame(state: u32, first: u64, second: u64, payload: &[u8]) -> u32 {
        // SAFETY: the caller has seen to what these need.
        unsafe {
            let mut state = step(step(state.into(), first), second);
            let mut rest = payload;
            while rest.len() >= SHORTEST {
                let len = ((rest.len() / WORD - 1) / 3).min(LONGEST);
                (state, rest) = three_streams(state, rest, len);
            }
            end(state, rest, payload)
        }
    }

    /// The state behind three streams of `len` words each and one word more, and what is left.
    ///
    /// # Safety
    ///
    /// The processor has SSE 4.2 and PCLMULQDQ.
    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    unsafe fn three_streams(state: u64, bytes: &[u8], len: usize) -> (u64, &[u8]) {
        let (first, rest) = bytes.split_at(len * WORD);
        let (second, rest) = rest.split_at(len * WORD);
        let (third, rest) = rest.split_at(len * WORD);
        let (last, rest) = rest.split_at(WORD);
        let words = first.chunks_exact(WORD).zip(second.chunks_exact(WORD));
        // SAFETY: the caller has seen to what these need.
        unsafe {
            let (mut a, mut b, mut c) = (state, 0, 0);
            for ((first, second), third) in words.zip(third.chunks_exact(WORD)) {
                a = step(a, u64_of(first));
                b = step(b, u64_of(second));
                c = step(c, u64_of(third));
            }
            let ab = product(a, OVER_ZEROS[2 * len + 1]) ^ product(b, OVER_ZEROS[len + 1]);
            (step(c, u64_of(last) ^ ab), rest)
        }
    }

    /// A state times a power, not reduced: a step does that.
    ///
    /// # Safety
    ///
    /// The processor has PCLMULQDQ.
    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    unsafe fn product(state: u64, power: u32) -> u64 {
        // SAFETY: the caller has seen to PCLMULQDQ, which this is; every x86-64 has the moves.
        unsafe {
            let (state, power) = (_mm_cvtsi64_si128(state as i64), _mm_cvtsi64_si128(power.into()));
            _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0>(state, power)) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(i: usize) -> u64 {
        let i = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (i ^ i >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    #[cfg_attr(miri, ignore = "hashes 40 MB")]
    fn a_frames_check_is_what_the_crate_says_of_its_bytes() {
        let bytes: Vec<u8> = (0..100_008).map(|i| (random(i) >> 56) as u8).collect();
        for len in (0..=3000).chain([3_071, 3_080, 4_096, 6_161, 9_999, 65_536, 100_000]) {
            for at in 0..8 {
                let payload = &bytes[at..at + len];
                let (state, words) = (random(len) as u32, [random(len + at), random(at)]);
                let header = words.map(u64::to_le_bytes).concat();
                let expected =
                    crc32c::crc32c_append(crc32c::crc32c_append(!state, &header), payload);
                assert_eq!(crc32c_frame(state, words, payload), expected, "{len} bytes at {at}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "hashes 10 MB")]
    fn several_frames_have_the_sums_that_each_has_alone() {
        let bytes: Vec<u8> = (0..5_000).map(|i| (random(i) >> 56) as u8).collect();
        let lens = [0, 1, 7, 8, 9, 63, 64, 250, 256, 257, 999, 4_096];
        for (i, a) in lens.into_iter().enumerate() {
            for b in lens {
                for c in lens {
                    let mut at = i;
                    let frames = [a, b, c, a.max(c)].map(|len| {
                        at += 1;
                        let (state, words) = (random(len + at) as u32, [random(at), random(len)]);
                        Hashed { state, words, payload: &bytes[at..at + len] }
                    });
                    let alone = frames.map(|Hashed { state, words, payload }| {
                        crc32c::crc32c_append(!super::super::crc32c_steps(state, words), payload)
                    });
                    let together = crc32c_frames(frames.each_ref());
                    assert_eq!(together, alone, "{a}, {b} and {c} bytes");
                }
            }
        }
    }
}
