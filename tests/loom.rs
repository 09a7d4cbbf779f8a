//! Models of what threads do to each other, for loom: each is run in every order
//! that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`
//!
//! This crate is made of the log's own modules, with loom's atomics and locks. What
//! touches files is left out: `small` has a log of a few frames in its place. The
//! pure modules' own tests run along, since they come with them.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, unused_imports, clippy::arc_with_non_send_sync)]

#[path = "../src/commit.rs"]
mod commit;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/format.rs"]
mod format;
#[path = "../src/lsn.rs"]
mod lsn;
#[path = "../src/map/mod.rs"]
mod map;
#[path = "../src/ring.rs"]
mod ring;
#[path = "../src/scan.rs"]
mod scan;
#[path = "../src/segment.rs"]
mod segment;
#[path = "../src/stats.rs"]
mod stats;
#[path = "../src/sync.rs"]
mod sync;
#[path = "../src/sys.rs"]
mod sys;
#[path = "../src/tail.rs"]
mod tail;
#[path = "../src/trail.rs"]
mod trail;
#[path = "../src/wait.rs"]
mod wait;

#[path = "loom/claims.rs"]
mod claims;
#[path = "loom/commits.rs"]
mod commits;
#[path = "loom/rolls.rs"]
mod rolls;
#[path = "loom/small.rs"]
mod small;
#[path = "loom/waits.rs"]
mod waits;

/// The seam, as far as these modules know it.
mod storage {
    use std::fmt::Debug;
    use std::io;
    use std::ops::Range;

    use crate::map::Map;
    use crate::sync::Arc;

    pub(crate) enum Access {
        View,
        Write,
    }

    pub(crate) trait Storage: Debug + Send + Sync {
        fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn Region>>;
    }

    pub(crate) trait Region: Debug + Send + Sync {
        fn map(&self) -> &Arc<Map>;
        fn flush(&self, range: Range<u64>) -> io::Result<()>;
        fn populate(&self, range: Range<u64>) -> io::Result<()>;
        fn rearm(&self, _range: Range<u64>) {}
        fn unload(&self) {}
        fn load(&self, range: Range<u64>) -> io::Result<()>;
        fn touch(&self, range: Range<u64>);
        fn is_unshared(&self) -> io::Result<bool>;
    }
}
