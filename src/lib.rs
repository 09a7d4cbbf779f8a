//! A write-ahead log in preallocated, memory-mapped segments.
#![deny(unsafe_code)]

mod error;
mod format;
mod lsn;
#[allow(unsafe_code)]
mod map;
mod recover;
mod scan;
mod storage;
mod sync;
#[allow(unsafe_code)]
mod sys;
mod tail;

pub use error::{Damage, Error, Result};
pub use lsn::Lsn;
