//! Directories as crashes and failing disks leave them, and what becomes of them.

mod builder;
mod bytes;
mod chains;
mod damage;
mod heads;
mod hostile;
mod limits;
mod salvage;
mod sound;

use builder::{Dir, SIZE, texts};
