//! Directories as crashes and failing disks leave them, and what becomes of them.

mod builder;
mod damage;
mod sound;

use builder::{Dir, SIZE, texts};
