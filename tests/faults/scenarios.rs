//! What is done to a log while its disk fails: each way of using it that makes other calls.

use mapwal::sim::Disk;
use mapwal::{Error, Options, Verify};

use crate::common::{SEGMENT, small};
use crate::model::Past;
use crate::user::{Fault, Scene, User};

type Done = Result<(), String>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    options: fn() -> Options,
    /// What is there before anything fails.
    before: fn() -> Result<Scene, String>,
    threads: u64,
    live: fn(&mut User) -> Done,
}

impl Scenario {
    /// Begins it on a disk that is going to fail.
    pub(crate) fn begin(&self, fault: Fault) -> Result<User, String> {
        let mut user = User::new((self.before)()?, (self.options)(), fault);
        user.threads = self.threads;
        Ok(user)
    }

    pub(crate) fn live(&self, user: &mut User) -> Done {
        (self.live)(user)
    }

    pub(crate) fn options(&self) -> Options {
        (self.options)()
    }
}

const fn scenario(name: &'static str, live: fn(&mut User) -> Done) -> Scenario {
    Scenario { name, options: small, before: nothing, threads: 1, live }
}

pub(crate) const ALL: [Scenario; 16] = [
    scenario("a new log is filled over several rolls", fill_over_rolls),
    scenario("batches, commits and abandoned claims", batches_and_commits),
    scenario("records larger than a segment", large_records),
    scenario("the head moves, and files are recycled", move_the_head),
    scenario("the end is cut away", cut_the_end),
    scenario("rotated again and again", rotate),
    scenario("closed and opened", close_and_open),
    Scenario {
        options: || small().verify(Verify::Tail),
        ..scenario("closed and opened, of which the tail is looked at", close_and_open)
    },
    Scenario { before: torn, ..scenario("opened with a torn tail and dead files", go_on) },
    Scenario { before: unwritten, ..scenario("opened after a flush failed", go_on) },
    Scenario { before: large_and_torn, ..scenario("opened with a torn large record", go_on) },
    Scenario { before: recycled, ..scenario("opened with spares that were recycled", go_on) },
    Scenario { before: small_disk, ..scenario("a full disk", fill_and_truncate) },
    Scenario {
        options: || small().max_log_size(5 * SEGMENT),
        ..scenario("a full log", fill_and_truncate)
    },
    scenario("records are held", hold_records),
    Scenario { threads: 2, ..scenario("two threads", from_threads) },
];

// --- what is there before ---

fn nothing() -> Result<Scene, String> {
    Ok(Scene { disk: Disk::new(), past: Past::default() })
}

fn small_disk() -> Result<Scene, String> {
    let scene = nothing()?;
    scene.disk.capacity(5 * SEGMENT);
    Ok(scene)
}

/// What a crash of this kind leaves of a log that lived so.
fn crashed(kind: u64, live: fn(&mut User) -> Done) -> Result<Scene, String> {
    let mut user = User::new(nothing()?, small(), Fault::None);
    live(&mut user)?;
    let Scene { disk, past } = user.die()?;
    let disk = disk.crash(kind);
    // another copy of it says what is there
    let looked_at = small().open_on(&disk.crash(1)).map_err(|error| error.to_string())?;
    let mut found = past.check(&looked_at, true)?.reopened(&looked_at);
    found.durable = past.durable; // on this one nothing more is
    let past = found;
    Ok(Scene { disk, past })
}

/// The first part of each file that was not flushed is gone, and what was cut away is back.
fn torn() -> Result<Scene, String> {
    crashed(10, |user| {
        user.call(|log| log.commit(300))?;
        for _ in 0..20 {
            user.call(|log| log.append(9000))?;
        }
        user.call(|log| log.truncate_after(3))?;
        user.call(|log| log.commit(2000))?;
        for len in [700, 5000, 700, 20_000, 30_000, 20_000, 500] {
            user.call(|log| log.append(len))?;
        }
        Ok(())
    })
}

fn large_and_torn() -> Result<Scene, String> {
    crashed(3, |user| {
        user.call(|log| log.commit(300))?;
        user.call(|log| log.append(90_000))?;
        user.call(|log| log.append(300))
    })
}

/// A flush failed, and the process ended: the kernel believes clean what it did not write.
fn unwritten() -> Result<Scene, String> {
    let mut user = User::new(nothing()?, small(), Fault::None);
    user.call(|log| log.commit(300))?;
    for _ in 0..12 {
        user.call(|log| log.append(9000))?;
    }
    for nth in 0..8 {
        user.disk.fail_flush(nth); // some of them are for files made in the background
    }
    user.leave()?;
    user.die().inspect(|scene| scene.disk.mend())
}

fn recycled() -> Result<Scene, String> {
    let mut user = User::new(nothing()?, small(), Fault::None);
    for _ in 0..4 {
        for _ in 0..16 {
            user.call(|log| log.append(9000))?;
        }
        user.call(|log| log.truncate_before(2))?;
    }
    user.close()
}

// --- what is done ---

fn go_on(user: &mut User) -> Done {
    user.call(|log| log.append(100))?;
    user.call(|log| log.commit(3000))?;
    for _ in 0..16 {
        user.call(|log| log.append(9000))?;
    }
    user.call(|log| log.truncate_before(4))?;
    user.call(|log| log.append(500))
}

fn fill_over_rolls(user: &mut User) -> Done {
    for i in 0..32 {
        user.call(|log| log.append(8000 + i))?;
        if i % 10 == 9 {
            user.call(|log| log.sync())?;
        }
    }
    Ok(())
}

fn batches_and_commits(user: &mut User) -> Done {
    for i in 0..4 {
        user.call(|log| log.commit(200))?;
        user.call(|log| log.append_batch(&[100, 5000, 0, 12_000, 24]))?;
        user.call(|log| log.append_with(3000 * i))?;
        user.call(|log| log.abandon(700))?;
        user.call(|log| log.append_batch(&[9000, 9000]))?;
        user.call(|log| log.sync_to(2))?;
        user.call(|log| log.append_batch(&[40]))?;
    }
    Ok(())
}

fn large_records(user: &mut User) -> Done {
    for len in [100_000, 70_000, 140_000] {
        user.call(|log| log.append(400))?;
        user.call(|log| log.append(len))?;
        user.call(|log| log.commit(400))?;
    }
    user.call(|log| log.append_batch(&[40_000, 40_000]))?;
    user.call(|log| log.truncate_before(3))?;
    user.call(|log| log.commit(66_000))?;
    user.call(|log| log.append(400))
}

fn move_the_head(user: &mut User) -> Done {
    for _ in 0..3 {
        for _ in 0..14 {
            user.call(|log| log.append(9000))?;
        }
        user.call(|log| log.truncate_before(9))?;
        user.call(|log| log.append(50))?;
        user.call(|log| log.truncate_before(0))?;
    }
    user.call(|log| log.truncate_before_all())?;
    user.call(|log| log.append(50))
}

fn cut_the_end(user: &mut User) -> Done {
    for round in 0..3 {
        for _ in 0..15 {
            user.call(|log| log.append(9000))?;
        }
        user.call(|log| log.truncate_after(11))?;
        user.call(|log| log.append(600))?;
        user.call(|log| log.commit(600))?;
        user.call(|log| log.truncate_from(1))?;
        if round == 1 {
            user.call(|log| log.truncate_before(1))?;
        }
    }
    user.call(|log| log.append(600))
}

fn rotate(user: &mut User) -> Done {
    for i in 0..5 {
        user.call(|log| log.append(100))?;
        user.call(|log| log.rotate())?;
        match i {
            1 => user.call(|log| log.commit(100))?,
            2 => user.call(|log| log.truncate_before(0))?,
            3 => user.call(|log| log.rotate())?,
            _ => {}
        }
    }
    Ok(())
}

fn close_and_open(user: &mut User) -> Done {
    for i in 0..3 {
        for _ in 0..5 {
            user.call(|log| log.append(9000))?;
        }
        if i == 1 {
            user.call(|log| log.rotate())?;
        }
        user.reopen()?;
        user.call(|log| log.commit(40))?;
        user.call(|log| log.append(4000))?;
        if i == 1 {
            user.leave()?;
        }
    }
    user.call(|log| log.append(4000))
}

fn fill_and_truncate(user: &mut User) -> Done {
    for _ in 0..2 {
        user.call(|log| log.fill(9000))?;
        for nth in [20, 19, 18, 3] {
            user.call(|log| log.truncate_before(nth))?;
        }
        user.call(|log| log.fill(900))?;
        user.call(|log| log.sync())?;
        user.leave()?;
        user.call(|log| log.truncate_before_all())?;
        user.call(|log| log.commit(900))?;
    }
    user.call(|log| log.append(900))
}

fn hold_records(user: &mut User) -> Done {
    for round in 0..3 {
        for _ in 0..15 {
            user.call(|log| log.append(9000))?;
        }
        user.hold(8)?;
        user.hold(0)?;
        user.call(|log| log.truncate_before(6))?;
        if round == 1 {
            user.call(|log| log.truncate_after(2))?;
            user.reopen()?;
        }
    }
    user.call(|log| log.truncate_before_all())?;
    for _ in 0..15 {
        user.call(|log| log.append(9000))?;
    }
    Ok(())
}

fn from_threads(user: &mut User) -> Done {
    for _ in 0..2 {
        user.call_from_threads(12, |log, thread, call| match (thread, call) {
            (0, 5) => log.rotate(),
            (0, 9) => match log.truncate_before(4) {
                Err(Error::InsideBatch { .. }) => Ok(()), // the other thread's
                done => done,
            },
            (1, 7) => log.append(70_000),
            (_, 4 | 8) => log.commit(500),
            (1, 2 | 6) => log.append_batch(&[3000, 3000]),
            _ => log.append(9000),
        })?;
    }
    user.call(|log| log.append(900))
}
