//! This project's log, and the same with its feature `fast-crc`.

use std::path::Path;

use crate::log::{About, Log, Own, Shape};

/// The same for both: they are of two packages, so there is no type that is either.
macro_rules! adapter {
    ($log:ident: $library:ident, $name:literal) => {
        pub struct $log($library::Wal);

        impl Log for $log {
            const ABOUT: About = About {
                name: $name,
                appended: "in the page cache, through a shared mapping",
                synced: "msync of the range, and with it the device flushes its cache",
            };

            fn open(dir: &Path, shape: Shape) -> Self {
                Self($library::Options::new().segment_size(shape.segment).open(dir).unwrap())
            }

            #[inline]
            fn append(&self, record: &[u8]) {
                self.0.append(record).unwrap();
            }

            fn sync(&self) {
                self.0.sync().unwrap();
            }

            fn commit(&self, record: &[u8]) {
                self.0.commit(record).unwrap();
            }

            fn truncate(&self) -> bool {
                let last = self.0.reader().backwards().next().map(|record| record.unwrap().lsn());
                if let Some(last) = last {
                    self.0.truncate_before(last).unwrap();
                }
                true
            }

            fn notes(&self) -> Vec<(&'static str, f64)> {
                let stats = self.0.stats();
                vec![
                    ("rolls", stats.rolls as f64),
                    ("overtaken", stats.overtaken as f64),
                    ("flushes", stats.flushes as f64),
                    ("made", stats.made as f64),
                    ("recycled", stats.recycled as f64),
                ]
            }

            fn close(self) {
                self.0.close().unwrap();
            }

            fn replay(dir: &Path, shape: Shape, visit: &mut dyn FnMut(&[u8])) -> bool {
                let log = Self::open(dir, shape);
                log.iterate(false, visit); // every check was verified on opening, just now
                true
            }
        }

        impl Own for $log {
            #[inline]
            fn iterate(&self, verified: bool, mut visit: impl FnMut(&[u8])) {
                let reader = self.0.reader();
                let records = reader.iter();
                let records = if verified { records } else { records.unverified() };
                for record in records {
                    visit(record.unwrap().data());
                }
            }
        }
    };
}

adapter!(Mapwal: mapwal, "mapwal");
adapter!(MapwalFastCrc: mapwal_fast_crc, "mapwal, fast-crc");
