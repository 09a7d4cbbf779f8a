//! A log that is used, crashes, and is used again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapwal_fuzz::operations::Lives;

fuzz_target!(|lives: Lives| lives.live());
