//! Real logs whose files lie, with checks that are right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapwal_fuzz::directory::Directory;
use mapwal_fuzz::survives::survives;

fuzz_target!(|directory: Directory| survives(&directory.disk()));
