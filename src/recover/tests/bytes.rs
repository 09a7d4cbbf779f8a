//! Any byte of a log changed.

use super::*;
use crate::format::{Begin, FIRST_FRAME};
use crate::recover::{Directory, Verify, recover};
use crate::salvage::salvage;

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
    second.record("eight"); // as many without a state between as are checked at once
    second.close();
    let all = texts(["one", "two", "three", "four", "five", "six", "seven", "eight"]);
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

/// A small generator, the same for every run.
fn generator(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    }
}

#[test]
fn nothing_in_a_directory_makes_recovery_panic() {
    let mut random = generator(0x2545_f491_4f6c_dd1d);
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

#[test]
fn no_intact_frame_makes_recovery_panic_whatever_it_says() {
    let mut random = generator(0x9e37_79b9_7f4a_7c15);
    let (mut logs, mut refused) = (0, 0);
    for _ in 0..2000 {
        let dir = Dir::default();
        let indexes: Vec<u64> = (1..7).filter(|&i| i == 1 || random(3) > 0).collect();
        for &index in &indexes {
            let mut segment = dir.file(index, 1);
            let mut number = |near: u64| match random(6) {
                0 => 0,
                1 => u64::MAX - random(200),
                2 => near,
                _ => random(7) * SIZE + 4096 + 8 * random(40),
            };
            let begin = Begin {
                predecessor_index: index - 1,
                predecessor_salt: 0x5a17 + index - 1,
                predecessor_end: number((index - 1) * SIZE + 4096 + 96 + 32),
                first_sequence: number(1),
            };
            (segment.head, segment.durable) = (number(0), number(0));
            segment.epoch = number(1) as u32;
            if index == 1 && random(4) > 0 {
                segment.epoch = 1;
                segment.head = 0;
                segment.begin(Begin {
                    predecessor_index: 0,
                    predecessor_salt: 0,
                    predecessor_end: 0,
                    first_sequence: 1,
                });
            } else if random(4) > 0 {
                segment.begin(begin);
            }
            for _ in 0..random(6) {
                match random(9) {
                    0 => segment.open(),
                    1 => segment.close(),
                    2 => segment.head(random(2) * (random(8) * SIZE + 8 * random(600))),
                    3 => {
                        let next = dir.file(index + 1 + random(2), 1);
                        segment.seal(&next);
                    }
                    4 => segment.durable = random(8) * SIZE + 8 * random(600),
                    5 => segment.at.offset += 8 * random(9),
                    6 => {
                        segment.batch(["a", "b"]);
                    }
                    _ => {
                        segment.record("x");
                    }
                }
            }
        }
        for verify in [Verify::All, Verify::Tail] {
            match recover(&dir.0, verify) {
                Ok(_) => logs += 1,
                Err(_) => refused += 1,
            }
        }
        salvage(&dir.0, &mut |_, _, _| {}).unwrap();
    }
    assert!(logs > 200 && refused > 200, "{logs} {refused}");
}
