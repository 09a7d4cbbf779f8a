//! A disk that fails at every call, one after the other, of everything that is done with
//! a log; and openings that a crash cuts short at every call, and the openings behind
//! those.
//!
//! What was acknowledged is there afterwards, in the open log, after opening it again and
//! after power cuts; and the log takes records again, at once or when it was opened anew
//! as it said.
//!
//! `MAPWAL_SCENARIO` picks those scenarios whose name has it in it; `MAPWAL_THREADS` is how many
//! threads work on them, if not as many as there are processors.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)] // what more it can tell is for random work
#[path = "../crash/model.rs"]
mod model;
mod scenarios;
mod user;

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::ends_within;
use mapwal::sim::Disk;
use mapwal::{Error, Options};
use model::Past;
use scenarios::{ALL, Scenario};
use user::{Fault, Scene, User};

/// The kinds of crashes that the disk knows.
const CRASHES: u64 = 6;

/// Where the count of calls differs from run to run: so many in a row did not come to the
/// one that should fail.
const RUNS_WITHOUT: u32 = 3;

#[derive(Debug, Default)]
struct Count {
    runs: AtomicU64,
    calls_failed: AtomicU64,
    /// Errors that the log gave for it.
    refusals: AtomicU64,
    images: AtomicU64,
    openings: AtomicU64,
    cut_short: AtomicU64,
    records: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Does all of `work` on so many threads, and panics for the first that goes wrong.
fn on_threads<W: Send>(work: Vec<W>, done: impl Fn(W) -> Result<(), String> + Sync) {
    let work = Mutex::new(VecDeque::from(work));
    let next = || work.lock().expect("no panic").pop_front();
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(item) = next() {
                    if let Err(wrong) = done(item) {
                        work.lock().expect("no panic").clear(); // the others end
                        panic!("{wrong}");
                    }
                }
            });
        }
    });
}

fn threads() -> usize {
    match std::env::var("MAPWAL_THREADS") {
        Ok(threads) => threads.parse::<usize>().expect("a number").max(1),
        Err(_) => thread::available_parallelism().map_or(2, |n| n.get().max(2)),
    }
}

/// What `run` says, within a time in which it ends unless it hangs.
fn watched<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, String> + Send + std::panic::UnwindSafe + 'static,
) -> Result<T, String> {
    let run = || catch_unwind(run).unwrap_or_else(|_| Err("a panic".to_owned()));
    ends_within(Duration::from_secs(600), run) // it takes minutes where all is counted or checked
}

fn scenarios() -> Vec<&'static Scenario> {
    let wanted = std::env::var("MAPWAL_SCENARIO").unwrap_or_default();
    ALL.iter().filter(|scenario| scenario.name.contains(&wanted)).collect()
}

#[test]
fn every_call_may_fail_and_what_was_promised_is_there_and_goes_on() {
    type OfCall = fn(u64) -> Fault;
    const FAULTS: [(&str, OfCall); 3] =
        [("once", Fault::Once), ("for good", Fault::Kind), ("a lost device", Fault::Lost)];
    let count = Arc::new(Count::default());
    let all = scenarios().into_iter().flat_map(|it| FAULTS.map(|fault| (it, fault)));
    on_threads(all.collect(), |(scenario, (how, fault))| {
        let mut without = 0;
        let mut failed = 0;
        for call in 0.. {
            for dies in [true, false] {
                let counted = count.clone();
                let run = watched(move || fail(scenario, fault(call), dies, call, &counted));
                let calls = run.map_err(|wrong| {
                    format!("{}, {how}, {call}, {dies}: {wrong}", scenario.name)
                })?;
                without = if calls > call { 0 } else { without + 1 };
                failed += u64::from(dies && calls > call);
            }
            if without >= 2 * RUNS_WITHOUT {
                break;
            }
        }
        add(&count.calls_failed, failed);
        println!("{}, {how}: {failed} calls failed in turn", scenario.name);
        Ok(())
    });
    println!("{} scenarios, refused: 0, {count:?}", scenarios().len());
}

/// Lives a scenario on a disk that fails. The log `dies` right behind it, or goes on
/// first. Returns how many calls the scenario took.
fn fail(
    scenario: &Scenario,
    fault: Fault,
    dies: bool,
    seed: u64,
    count: &Count,
) -> Result<u64, String> {
    let mut user = scenario.begin(fault)?;
    scenario.live(&mut user)?;
    let calls = user.calls();
    user.mend()?;
    if !dies {
        user.goes_on()?;
    }
    add(&count.runs, 1);
    add(&count.refusals, user.refusals);
    let Scene { disk, past } = user.die()?;
    // half of the kinds each, by turns
    for kind in (0..CRASHES).filter(|kind| (kind + seed + u64::from(dies)) % 2 == 0) {
        let image = disk.crash(CRASHES * seed + kind);
        let goes_on = kind / 2 == seed / 2 % (CRASHES / 2);
        open(&image, &past, true, scenario.options(), goes_on, count)
            .map_err(|wrong| format!("crash {kind}: {wrong}"))?;
    }
    disk.mend(); // of the process alone it was the end: nothing is lost
    let closed = open(&disk, &past, false, scenario.options(), true, count)?;
    open(&closed.disk.crash(0), &closed.past, true, scenario.options(), false, count)
        .map_err(|wrong| format!("closed: {wrong}"))?;
    Ok(calls)
}

/// Opens what is on a disk, which is as it should be, and closes it again, having gone on
/// with it or not.
fn open(
    disk: &Disk,
    past: &Past,
    lossy: bool,
    options: Options,
    goes_on: bool,
    count: &Count,
) -> Result<Scene, String> {
    let wal = options.clone().open_on(disk).map_err(|error| format!("refused: {error}"))?;
    let found = past.check(&wal, lossy)?;
    add(&count.images, u64::from(lossy));
    add(&count.records, found.appended.len() as u64);
    let past = found.reopened(&wal);
    drop(wal);
    let scene = Scene { disk: disk.clone(), past };
    if !goes_on {
        return Ok(scene);
    }
    let mut user = User::new(scene, options, Fault::None);
    user.goes_on()?;
    user.close()
}

/// Of what a scenario leaves when its device is lost: how many calls lie between those at
/// which it is, and of each crash, which kinds are looked at.
const LOST_EVERY: usize = 13;
const KINDS_LOOKED_AT: u64 = 2;

/// How many calls lie between those at which the opening behind one that was cut short is
/// cut short itself. All of them are come by, but not each behind each.
const SECOND_EVERY: usize = 5;

#[test]
fn openings_are_cut_short_at_every_call_and_nothing_is_lost() {
    let count = Arc::new(Count::default());
    let lost_at =
        |scenario: &'static Scenario| (0..).step_by(LOST_EVERY).map(move |call| (scenario, call));
    on_threads(scenarios(), |scenario| {
        for (scenario, call) in lost_at(scenario) {
            let counted = count.clone();
            let run = watched(move || lose(scenario, call, &counted));
            if run.map_err(|wrong| format!("{}, {call}: {wrong}", scenario.name))? <= call {
                return Ok(());
            }
        }
        unreachable!("a scenario ends")
    });
    println!("{} scenarios, refused: 0, {count:?}", scenarios().len());
}

/// Lives a scenario whose device is lost, and cuts openings of what that leaves short.
/// Returns how many calls the scenario took.
fn lose(scenario: &Scenario, call: u64, count: &Count) -> Result<u64, String> {
    let mut user = scenario.begin(Fault::Lost(call))?;
    scenario.live(&mut user)?;
    let calls = user.calls();
    add(&count.runs, 1);
    let scene = user.die()?;
    for kind in 0..KINDS_LOOKED_AT {
        let seed = call * KINDS_LOOKED_AT + kind; // the kinds by turns
        let image = Scene { disk: scene.disk.crash(seed), past: scene.past.clone() };
        add(&count.images, 1);
        let options = scenario.options();
        let wrong = |at: &str, wrong| format!("crash {seed}, cut short at {at}: {wrong}");
        for first in 0.. {
            let (left, is_open) = cut_short(&image, first, &options, count)
                .map_err(|it| wrong(&first.to_string(), it))?;
            for second in (first % SECOND_EVERY as u64..).step_by(SECOND_EVERY) {
                let at = format!("{first} and {second}");
                let (left, is_open) =
                    cut_short(&left, second, &options, count).map_err(|it| wrong(&at, it))?;
                open(&left.disk, &left.past, true, options.clone(), false, count)
                    .map_err(|it| wrong(&at, it))?;
                if is_open {
                    break;
                }
            }
            if is_open {
                break;
            }
        }
    }
    Ok(calls)
}

/// Opens a copy of what is on a disk, whose device is lost at that call, and returns what
/// a crash leaves of it; and whether it was open by then.
fn cut_short(
    scene: &Scene,
    call: u64,
    options: &Options,
    count: &Count,
) -> Result<(Scene, bool), String> {
    let disk = scene.disk.crash(1); // all of it
    disk.lose_after(call);
    add(&count.openings, 1);
    let opened = options.clone().open_on(&disk);
    let (past, is_open) = match opened {
        Ok(wal) => {
            let past = scene.past.check(&wal, true)?.reopened(&wal);
            disk.lose();
            (past, disk.calls() <= call)
        }
        Err(Error::Io { .. } | Error::FlushFailed { .. }) => {
            add(&count.cut_short, 1);
            (scene.past.clone(), false)
        }
        Err(error) => return Err(format!("refused: {error}")),
    };
    // what it keeps differs from one to the next
    let disk = disk.crash(call);
    Ok((Scene { disk, past }, is_open))
}
