//! The report: tables of everything that ran, and `docs/benchmarks.md`.

use std::fs;
use std::path::Path;

use crate::Asked;
use crate::ahead;
use crate::calm::Calm;
use crate::logs::{CONTENDERS, Contender, Role};
use crate::machine;
use crate::measure::median;
use crate::outcome::{Results, Rounds};
use crate::plot;
use crate::tables::{PERCENTILES, percentiles, show, show_spread, table, times};
use crate::targets;
use crate::workloads::{self, Case, Column, Plot, Workload};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// What was looked for among engines.
const ENGINES: &str = "\
The journal of a real engine is there once: raft-engine is TiKV's, published as a crate of its own. No other was found \
that can be driven alone as its engine is published: fjall 3.1, surrealkv 1.2 and persy 1.8 keep theirs in private \
modules; what sled 0.34 shows of its log takes a type that it does not show (the crate `pagecache`, which that log once \
was, sled has left behind); redb has none, as it copies on write.\n";

/// What to say about one workload: nothing, if nothing of it ran.
pub fn section(workload: &'static Workload, quick: bool, results: &Results) -> String {
    section_with(workload, quick, results, &|_| String::new())
}

fn section_with(
    workload: &'static Workload,
    quick: bool,
    results: &Results,
    below: &dyn Fn(&Case) -> String,
) -> String {
    let mut text = String::new();
    for case in (workload.cases)(quick) {
        let entries = entries(workload, &case, results);
        if entries.is_empty() {
            continue;
        }
        let rounds = entries.iter().map(|(_, rounds)| rounds.count()).max().unwrap();
        text += &format!("\n### {}: {}\n\n", workload.title, case.name);
        text += &case_table(workload, &case, &entries);
        text += &format!("\n{rounds} round{}.\n", if rounds == 1 { "" } else { "s" });
        text += &below(&case);
    }
    if text.is_empty() {
        text
    } else {
        format!("\n## {}\n\n{}\n{text}", workload.title, workload.text)
    }
}

type Entry<'r> = (&'static Contender, &'r Rounds);

fn entries<'r>(workload: &Workload, case: &Case, results: &'r Results) -> Vec<Entry<'r>> {
    let found = CONTENDERS.iter().filter_map(|contender| {
        Some((contender, results.get(workload.name, &case.name, contender.name())?))
    });
    found.collect()
}

fn case_table(workload: &Workload, case: &Case, entries: &[Entry]) -> String {
    let columns: Vec<&Column> = workload
        .columns
        .iter()
        .filter(|column| entries.iter().any(|(_, rounds)| rounds.median(column.number).is_some()))
        .collect();
    let own = entries.iter().find(|(contender, _)| contender.role == Role::Own);
    let paced = case.rate > 0; // then all do the same in the same time
    let compared = own.is_some() && entries.len() > 1 && !paced;
    let timed = entries.iter().any(|(_, rounds)| rounds.latency().is_some());

    let mut head = vec![String::new()];
    for (number, column) in columns.iter().enumerate() {
        head.push(column.title.into());
        if number == 0 && compared {
            head.push("mapwal beside it".into());
        }
    }
    if timed {
        head.extend(PERCENTILES.iter().map(|(name, _)| name.to_string()));
    }
    let mut rows = vec![head];
    for (contender, rounds) in entries {
        let mut row = vec![contender.name().to_owned()];
        if let Some(why) = rounds.skipped() {
            row.push(why.into());
            row.resize(rows[0].len(), String::new());
            rows.push(row);
            continue;
        }
        for (number, column) in columns.iter().enumerate() {
            row.push(cell(rounds, column, number == 0));
            if let (0, true, Some((_, own))) = (number, compared, own) {
                let ratios = own.ratios(column.number, rounds);
                let shown = contender.role != Role::Own && !ratios.is_empty();
                row.push(if shown { times(median(&ratios)) } else { String::new() });
            }
        }
        if timed {
            row.extend(
                rounds
                    .latency()
                    .map_or(vec![String::new(); PERCENTILES.len()], |l| percentiles(&l)),
            );
        }
        rows.push(row);
    }
    table(&rows, true)
}

fn cell(rounds: &Rounds, column: &Column, with_spread: bool) -> String {
    let numbers = rounds.numbers(column.number);
    match (numbers.as_slice(), with_spread) {
        ([], _) => String::new(),
        (_, true) => show_spread(&numbers, column.unit),
        (_, false) => show(median(&numbers), column.unit),
    }
}

/// The end of a run: targets, who is ahead, and the document if it was asked for.
pub fn finish(asked: &Asked, results: &Results, failures: &[String], calm: &Calm) {
    // small sizes say nothing about them
    let judged = if asked.quick {
        String::new()
    } else {
        targets::section(results, asked.everything) + &ahead::section(results)
    };
    print!("{judged}");
    if !asked.write {
        return;
    }
    let opening = opening(&asked.dir); // before the sources are no longer what was built
    let plots = Path::new(DOCS).join("benchmarks");
    let _ = fs::remove_dir_all(&plots); // those of a run before, which may have had others
    fs::create_dir_all(&plots).unwrap();
    let mut text = opening + &calm.report() + &judged;
    for workload in workloads::ALL {
        text += &section_with(workload, asked.quick, results, &|case| {
            draw(&plots, workload, case, results)
        });
    }
    if !failures.is_empty() {
        let lines: String = failures.iter().map(|failure| format!("- {failure}\n")).collect();
        text += &format!("\n## Runs that failed\n\n{lines}");
    }
    fs::write(Path::new(DOCS).join("benchmarks.md"), text).unwrap();
}

fn opening(dir: &Path) -> String {
    // the directory of the logs is gone; the one above is on the same device
    let machine: Vec<_> = machine::describe(dir.parent().unwrap_or(Path::new(".")));
    let mut rows = vec![vec!["the machine".into(), String::new()]];
    rows.extend(machine.into_iter().map(|(what, which)| vec![what.into(), which]));
    let mut contenders = vec![
        ["contender", "crate", "when `append` has returned", "`sync`"].map(String::from).to_vec(),
    ];
    for Contender { about, package, .. } in CONTENDERS {
        let package = format!("{package} {}", machine::version(package));
        contenders.push(vec![
            about.name.into(),
            package,
            about.appended.into(),
            about.synced.into(),
        ]);
    }
    format!(
        "# Benchmarks\n\nWritten by `cargo run --release` in `benches/peers`: run it to have the numbers of your \
         machine. They are comparable within one run only. Contenders take turns in rounds, each round \
         beginning with another and every other one backwards, each run in a process and a directory of its \
         own, after a `sync(2)`; shown are the median over the rounds and, in \
         brackets, the slowest and the fastest round; latencies are of all rounds together. Ratios are medians \
         of the ratios in each round, those of percentiles are of the percentiles of all rounds together; above 1 × mapwal \
         does more in the same time, or takes longer where the ratio is of a percentile. After every run what \
         was written is read back and compared, as far as the workload does not say otherwise.\n\n{}\n{}\n{}",
        table(&rows, false),
        table(&contenders, false),
        ENGINES
    )
}

/// Draws a case, and says where.
fn draw(plots: &Path, workload: &'static Workload, case: &Case, results: &Results) -> String {
    let entries = entries(workload, case, results);
    if entries.len() < 3 {
        return String::new();
    }
    let name = format!("{}, {}", workload.name, case.name);
    let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").replace("--", "-") + ".svg";
    let path = plots.join(&file);
    let title = format!("{}: {}", workload.title, case.name);
    match workload.plot {
        Plot::Nothing => return String::new(),
        Plot::Bars => {
            let Column { number, title: what, unit } = workload.columns[0];
            let bars: Vec<_> = entries
                .iter()
                .filter_map(|(contender, rounds)| Some((*contender, rounds.median(number)?)))
                .map(|(contender, value)| plot::Bar { contender, value, label: show(value, unit) })
                .collect();
            plot::bars(&path, &format!("{title} ({what})"), &bars);
        }
        Plot::Curves => {
            let curves: Vec<_> = entries
                .iter()
                .filter_map(|(contender, rounds)| Some((*contender, rounds.latency()?)))
                .collect();
            plot::curves(&path, &title, &curves);
        }
    }
    format!("\n![{title}](benchmarks/{file})\n")
}
