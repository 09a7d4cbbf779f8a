//! mapwal beside other write-ahead logs, and beside what the machine can do.
//!
//! The parent runs every contender of every case in interleaved rounds, each in a child
//! process of its own, and reports. See README.md.

mod ahead;
mod calm;
mod log;
mod logs;
mod machine;
mod measure;
mod outcome;
mod payload;
mod plot;
mod report;
mod rounds;
mod tables;
mod targets;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pico_args::Arguments;

const HELP: &str = "\
cargo run --release -- [OPTIONS]

  --only NAME[,NAME]   these workloads
  --logs NAME[,NAME]   these contenders
  --rounds N           instead of each workload's own number
  --quick              small sizes: whether it works, not how fast
  --write, --no-write  docs/benchmarks.md and its plots; without either, a run of
                       everything in full size writes them
  --dir PATH           where the logs lie, by default target/logs of this package
  --list               what there is to name
";

/// What was asked for on the command line.
pub struct Asked {
    pub only: Vec<String>,
    pub logs: Vec<String>,
    /// Every workload and every contender.
    pub everything: bool,
    pub rounds: Option<usize>,
    pub quick: bool,
    pub write: bool,
    pub dir: PathBuf,
}

fn main() -> ExitCode {
    let mut args = Arguments::from_env();
    if args.contains(["-h", "--help"]) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if args.contains("--list") {
        list();
        return ExitCode::SUCCESS;
    }
    if args.contains("--child") {
        rounds::child(&args.finish());
        return ExitCode::SUCCESS;
    }
    match asked(args) {
        Ok(asked) if rounds::all(&asked) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn asked(mut args: Arguments) -> Result<Asked, String> {
    let names = |list: String| list.split(',').map(String::from).collect::<Vec<_>>();
    let mut list = |key: &'static str| -> Result<Vec<String>, String> {
        let given: Option<String> = args.opt_value_from_str(key).map_err(|e| e.to_string())?;
        Ok(given.map(names).unwrap_or_default())
    };
    let (only, logs) = (list("--only")?, list("--logs")?);
    for name in &only {
        workloads::find(name).ok_or(format!("no workload is called {name}"))?;
    }
    for name in &logs {
        let known = logs::CONTENDERS.iter().any(|contender| contender.id() == *name);
        known.then_some(()).ok_or(format!("no contender is called {name}"))?;
    }
    let rounds = args.opt_value_from_str("--rounds").map_err(|e| e.to_string())?;
    let quick = args.contains("--quick");
    let everything = only.is_empty() && logs.is_empty();
    let (asked, declined) = (args.contains("--write"), args.contains("--no-write"));
    let write = (asked || everything && !quick) && !declined;
    let dir: Option<PathBuf> = args.opt_value_from_str("--dir").map_err(|e| e.to_string())?;
    let dir = dir.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/logs"));
    match args.finish().as_slice() {
        [] => Ok(Asked { only, logs, everything, rounds, quick, write, dir }),
        [unknown, ..] => Err(format!("{} is no option", unknown.display())),
    }
}

fn list() {
    println!("workloads:");
    for workload in workloads::ALL {
        println!("  {:15} {}", workload.name, workload.title);
    }
    println!("contenders:");
    for contender in logs::CONTENDERS {
        println!("  {:22} appended: {}", contender.id(), contender.about.appended);
        println!("  {:22} synced: {}", "", contender.about.synced);
    }
}
