//! This project's log.

use std::path::Path;

use mapwal::{Options, Wal};

use crate::log::{About, Log, Shape};

pub struct Mapwal {
    pub wal: Wal,
}

impl Log for Mapwal {
    const ABOUT: About = About {
        name: "mapwal",
        appended: "in the page cache, through a shared mapping",
        synced: "msync of the range, and with it the device flushes its cache",
    };

    fn open(dir: &Path, shape: Shape) -> Self {
        Mapwal { wal: Options::new().segment_size(shape.segment).open(dir).unwrap() }
    }

    #[inline]
    fn append(&self, record: &[u8]) {
        self.wal.append(record).unwrap();
    }

    fn sync(&self) {
        self.wal.sync().unwrap();
    }

    fn commit(&self, record: &[u8]) {
        self.wal.commit(record).unwrap();
    }

    fn truncate(&self) -> bool {
        self.wal.truncate_before(self.wal.next_lsn()).unwrap();
        true
    }

    fn notes(&self) -> Vec<(&'static str, f64)> {
        let stats = self.wal.stats();
        vec![
            ("rolls", stats.rolls as f64),
            ("overtaken", stats.overtaken as f64),
            ("flushes", stats.flushes as f64),
            ("made", stats.made as f64),
            ("recycled", stats.recycled as f64),
        ]
    }

    fn close(self) {
        self.wal.close().unwrap();
    }

    fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
        let log = Self::open(dir, shape);
        // every check was verified on opening, just now
        for record in log.wal.reader().iter().unverified() {
            visit(record.unwrap().data());
        }
        true
    }
}
