//! What the fuzz targets share: real logs to begin with, what is made of them, and what must hold
//! afterwards.
//!
//! The format is written anew in `format` and `reader`, from `docs/format.md` alone.

pub mod directory;
pub mod expected;
pub mod format;
pub mod operations;
pub mod reader;
pub mod real;
pub mod segment;
pub mod survives;
