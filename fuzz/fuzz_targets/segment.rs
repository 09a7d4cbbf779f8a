//! Arbitrary bytes as the one segment of a directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapwal_fuzz::segment;
use mapwal_fuzz::survives::survives;

fuzz_target!(|input: &[u8]| {
    if let Some(disk) = segment::disk(input) {
        survives(&disk);
    }
});
