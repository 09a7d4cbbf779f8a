//! The logs, each in a file of its own, and the floors: what the machine can do.

pub mod floors;
pub mod mapwal;
pub mod okaywal;
pub mod raft_engine;
pub mod seglog;
pub mod wal_db;
pub mod walogs;
pub mod walrus;

#[cfg(test)]
mod tests;

use crate::log::{About, Log, Own};
use crate::outcome::Outcome;
use crate::workloads::{self, Run, iterate};

/// What a contender is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Own,
    /// This project's log, built in another way.
    Variant,
    Peer,
    Floor,
}

/// Something that can be measured.
pub struct Contender {
    pub role: Role,
    pub about: About,
    /// The crate, as in `Cargo.lock`.
    pub package: &'static str,
    /// It appends in segments whose size can be set.
    pub segments: bool,
    /// Its appends are commits: it stands beside nobody who only appends.
    pub commits_only: bool,
    pub run: fn(&Run) -> Outcome,
}

impl Contender {
    const fn log<L: Log>(role: Role, package: &'static str) -> Self {
        Contender {
            role,
            about: L::ABOUT,
            package,
            segments: false,
            commits_only: false,
            run: workloads::run::<L>,
        }
    }

    const fn own<L: Own>(role: Role) -> Self {
        Contender { run: workloads::run_own::<L>, ..Self::log::<L>(role, "mapwal").in_segments() }
    }

    const fn peer<L: Log>(package: &'static str) -> Self {
        Self::log::<L>(Role::Peer, package)
    }

    const fn floor<L: Log>() -> Self {
        Self::log::<L>(Role::Floor, "crc32c")
    }

    const fn in_segments(mut self) -> Self {
        self.segments = true;
        self
    }

    const fn commits_only(mut self) -> Self {
        self.commits_only = true;
        self
    }

    pub fn name(&self) -> &'static str {
        self.about.name
    }

    /// As it is said on the command line.
    pub fn id(&self) -> String {
        self.name().replace(", ", "-").replace(' ', "-")
    }
}

pub const CONTENDERS: &[Contender] = &[
    Contender::own::<mapwal::Mapwal>(Role::Own),
    Contender::own::<mapwal::MapwalFastCrc>(Role::Variant),
    Contender::peer::<wal_db::WalDb>("wal-db"),
    Contender::peer::<wal_db::WalDbSegmented>("wal-db").in_segments(),
    Contender::peer::<seglog::Seglog>("seglog").in_segments(),
    // while it only appends, one segment grows without end
    Contender::peer::<okaywal::Okaywal>("okaywal"),
    Contender::peer::<raft_engine::RaftEngine>("raft-engine").in_segments(),
    Contender::peer::<walrus::Walrus>("walrus-rust"),
    Contender::peer::<walrus::WalrusSyncEach>("walrus-rust").commits_only(),
    Contender::peer::<walogs::Walogs>("walogs").commits_only(),
    Contender::floor::<floors::Copy>(),
    Contender::floor::<floors::CopyFetching>(),
    Contender::floor::<floors::Device>(),
    Contender::floor::<floors::DeviceDirect>(),
    Contender {
        role: Role::Floor,
        about: iterate::CHECKSUM,
        package: "crc32c",
        segments: false,
        commits_only: false,
        run: iterate::checksum,
    },
];

pub fn find(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name() == name)
}
