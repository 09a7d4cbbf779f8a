//! Any byte of a log changed.

use super::*;
use crate::format::FIRST_FRAME;
use crate::recover::{Directory, Verify, recover};

/// A log of two segments, with something of everything.
fn small_log() -> (Dir, Vec<String>, [u64; 2]) {
    let dir = Dir::default();
    let mut first = dir.first();
    first.record("one");
    first.sync();
    first.batch(["two", "three"]);
    first.abandon(9);
    first.sync();
    first.head(0);
    let mut second = dir.roll(&mut first, 2, 1);
    second.record("four");
    second.sync();
    second.open();
    second.batch(["five", "six"]);
    second.record("seven");
    second.close();
    let all = texts(["one", "two", "three", "four", "five", "six", "seven"]);
    (dir, all, [first.at.offset, second.at.offset])
}

#[test]
fn no_flipped_byte_makes_a_wrong_record() {
    let (dir, all, ends) = small_log();
    assert_eq!(dir.records().unwrap(), all);
    let (mut prefixes, mut errors) = (0, 0);
    for (index, end) in [1, 2].into_iter().zip(ends) {
        for at in (0..100).chain(4080..end + 64) {
            for bits in [1, 0x80, 0xff, 0x24] {
                dir.flip(index, at, bits);
                for verify in [Verify::All, Verify::Tail] {
                    match recover(&dir.0, verify) {
                        Ok(Directory::Log(found)) if verify == Verify::All => {
                            let records = dir.read(&found);
                            assert_eq!(records, all[..records.len()], "byte {at} of {index}");
                            prefixes += 1;
                        }
                        Ok(_) => {}
                        Err(_) => errors += 1,
                    }
                }
                dir.flip(index, at, bits);
            }
        }
    }
    assert!(prefixes > 100 && errors > 1000, "{prefixes} {errors}");
}

#[test]
fn nothing_in_a_directory_makes_recovery_panic() {
    // a small generator: any bytes over any part of the log
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..300 {
        let (dir, all, ends) = small_log();
        for _ in 0..=random(3) {
            let index = 1 + random(2);
            let end = ends[index as usize - 1];
            let at = FIRST_FRAME + random(end - FIRST_FRAME);
            let junk: Vec<u8> = (0..random(80)).map(|_| random(256) as u8 & 0x61).collect();
            dir.overwrite(index, at, &junk);
        }
        if let Ok(found) = dir.recover() {
            let records = dir.read(&found);
            assert_eq!(records, all[..records.len()]);
        }
    }
}
