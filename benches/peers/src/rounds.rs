//! Rounds and children: every contender in turn, each run in a process and a directory
//! of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Asked;
use crate::calm::Calm;
use crate::logs::{self, CONTENDERS, Contender};
use crate::outcome::{Outcome, Results};
use crate::report;
use crate::workloads::{self, Case, Run, Workload};

/// No run takes this long, unless it hangs.
const PATIENCE_SECONDS: u32 = 600;

/// Runs everything that was asked for, and reports. `false`: something failed.
pub fn all(asked: &Asked) -> bool {
    let _ = fs::remove_dir_all(&asked.dir); // what a run that was interrupted left
    fs::create_dir_all(&asked.dir).unwrap();
    let began = Instant::now();
    let mut results = Results::default();
    let mut failures = Vec::new();
    let mut calm = Calm::default();
    for workload in workloads::ALL {
        if !asked.only.is_empty() && !asked.only.iter().any(|name| name == workload.name) {
            continue;
        }
        for case in (workload.cases)(asked.quick) {
            let rounds = asked.rounds.unwrap_or(if asked.quick { 1 } else { case.rounds });
            rounds_of(asked, workload, &case, rounds, &mut results, &mut failures, &mut calm);
        }
        print!("{}", report::section(workload, asked.quick, &results));
        eprintln!("[{:.0} s]", began.elapsed().as_secs_f64());
    }
    fs::remove_dir_all(&asked.dir).unwrap();
    report::finish(asked, &results, &failures, &calm);
    for failure in &failures {
        eprintln!("FAILED: {failure}");
    }
    failures.is_empty()
}

fn rounds_of(
    asked: &Asked,
    workload: &'static Workload,
    case: &Case,
    rounds: usize,
    results: &mut Results,
    failures: &mut Vec<String>,
    calm: &mut Calm,
) {
    let chosen = |contender: &&Contender| {
        (workload.takes)(case, contender)
            && (asked.logs.is_empty() || asked.logs.contains(&contender.id()))
    };
    let contenders: Vec<&Contender> = CONTENDERS.iter().filter(chosen).collect();
    for round in 1..=rounds {
        for contender in order(&contenders, round) {
            let name = contender.name();
            eprintln!("{}, {}: {name}, round {round} of {rounds}", workload.name, case.name);
            match run_child(asked, workload, case, contender, calm) {
                Ok(outcome) => results.add(workload.name, &case.name, name, round, outcome),
                Err(why) => {
                    failures.push(format!("{}, {}, {name}: {why}", workload.name, case.name));
                }
            }
        }
    }
}

/// Who runs when: each round begins with the next one, and every other goes backwards, so that
/// what one leaves behind is not always left to the same.
fn order<T: Copy>(contenders: &[T], round: usize) -> Vec<T> {
    let many = contenders.len();
    let at = |step| (round - 1 + if round % 2 == 1 { step } else { many - step }) % many;
    (0..many).map(|step| contenders[at(step)]).collect()
}

/// Starts a child on one case, and reads what it found.
fn run_child(
    asked: &Asked,
    workload: &Workload,
    case: &Case,
    contender: &Contender,
    calm: &mut Calm,
) -> Result<Outcome, String> {
    let dir = asked.dir.join("run");
    let found = asked.dir.join("outcome");
    fs::create_dir(&dir).unwrap();
    let _ = fs::remove_file(&found);
    if !asked.quick {
        calm.wait(&asked.dir);
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--child")
        .args([workload.name, &case.name, contender.name(), if asked.quick { "quick" } else { "" }])
        .args([&dir, &found])
        .stdout(Stdio::null()) // some logs print
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let text = fs::read_to_string(&found).unwrap_or_default();
    Outcome::from_text(&text).ok_or(status.to_string())
}

/// In the child: runs the one case, and writes what it found.
pub fn child(args: &[OsString]) {
    let [workload, case, contender, quick, dir, found] = args else {
        panic!("the parent starts children, with six arguments")
    };
    // SAFETY: only says when this process is to be killed.
    unsafe { libc::alarm(PATIENCE_SECONDS) };
    let text = |arg: &OsString| arg.to_str().unwrap().to_owned();
    let workload = workloads::find(&text(workload)).unwrap();
    let contender = logs::find(&text(contender)).unwrap();
    let cases = (workload.cases)(quick == "quick");
    let case = cases.into_iter().find(|known| known.name == text(case)).unwrap();
    let outcome = (contender.run)(&Run { workload, case, dir: PathBuf::from(dir) });
    fs::write(Path::new(found), outcome.to_text()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn rounds_begin_with_another_and_turn() {
        let rounds: Vec<Vec<u8>> = (1..=4).map(|round| order(&[1, 2, 3, 4], round)).collect();
        assert_eq!(rounds, [[1, 2, 3, 4], [2, 1, 4, 3], [3, 4, 1, 2], [4, 3, 2, 1]]);
    }
}
