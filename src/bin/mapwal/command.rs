//! The commands, and what of the log they say.

use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mapwal::{Error, Lsn, Options, Salvaged, Verify};

use crate::json;
use crate::report::{inspect, inspect_json, verify, verify_json};

const USAGE: &str = "\
mapwal inspect DIR [--json]        what opening would find: how the log ended, and its segments; of a log that is
                                   refused, what is intact and what is not
mapwal verify DIR [--json]         whether all is intact that the log can prove to have been durable
    --json                         of both: a JSON object on one line, places as decimal numbers; where the exit is
                                   neither 0 nor 1, none
mapwal dump DIR [OPTION...]        the records: place, number, length, and what is printable of them
    --from LSN  --to LSN           those at or above, and below, a place: as printed, or a decimal number
    --hex                          their bytes in hexadecimal
    --json                         a JSON object a line, bytes in hexadecimal
    --follow                       then those that come, until they reach --to, or it is interrupted; where there is no
                                   log yet, it waits for one
mapwal salvage DIR NEW [OPTION]    what is intact, into a new log, which gives it new places and numbers; batches that
                                   are whole, as single records
    --segment-size BYTES           of the new log
mapwal --version

DIR is only read, without a lock, and no writer is kept waiting. While a program writes the log, inspect and verify
say how it was at a moment, and look again before they call anything wrong; dump and salvage are for one that nobody
writes, but for dump --follow: it prints what was appended, be it durable or not, batches as a whole. What was given up
before it was printed, or cut away after, is told, and it goes on behind.
Exit: 0 all is sound, 1 something is damaged or was left out (of dump and salvage also what a crash cut short),
2 the command is wrong, 3 DIR could not be read or has no log, or NEW or the output could not be written.";

/// What a command found.
pub(super) enum Found {
    Sound,
    Damage,
}

/// Why a command did not come to an end.
pub(super) enum Failed {
    Usage(String),
    Log(Error),
    Source(PathBuf, io::Error),
    NoLog(PathBuf),
    Output(io::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidOption { .. } => Failed::Usage(error.to_string()),
            error => Failed::Log(error),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Output(error)
    }
}

pub(super) type Result<T> = std::result::Result<T, Failed>;

pub(super) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(Found::Sound) => ExitCode::SUCCESS,
        Ok(Found::Damage) => ExitCode::from(1),
        // whoever reads the output has seen enough
        Err(Failed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failed::Usage(why)) => {
            complain(format_args!("{why}; mapwal --help tells what there is"));
            ExitCode::from(2)
        }
        Err(Failed::Source(path, error)) => {
            complain(format_args!("cannot read {}: {error}", path.display()));
            ExitCode::from(3)
        }
        Err(Failed::NoLog(path)) => {
            complain(format_args!("there is no log in {}: no segment has begun", path.display()));
            ExitCode::from(3)
        }
        Err(Failed::Output(error)) => {
            complain(format_args!("cannot write what was found: {error}"));
            ExitCode::from(3)
        }
        Err(Failed::Log(error)) => {
            complain(with_causes(&error));
            ExitCode::from(if damage(&error).is_some() { 1 } else { 3 })
        }
    }
}

fn run(arguments: &[OsString]) -> Result<Found> {
    // what is no UTF-8 is a path, or wrong
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or("\0")).collect();
    let path = |i: usize| Path::new(&arguments[i]);
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) || words == ["help"] {
        return say(USAGE);
    }
    match words[..] {
        ["--version"] => say(concat!("mapwal ", env!("CARGO_PKG_VERSION"))),
        ["inspect" | "verify" | "dump" | "salvage", option, ..] if option.starts_with("--") => {
            Err(Failed::Usage(format!("{} needs a directory before {option}", words[0])))
        }
        ["inspect", _] => inspect(path(1)),
        ["inspect", _, "--json"] => inspect_json(path(1)),
        ["verify", _] => verify(path(1)),
        ["verify", _, "--json"] => verify_json(path(1)),
        ["dump", _, ref options @ ..] => dump(path(1), &Dump::parse(options)?),
        ["salvage", _, _] => salvage(path(1), path(2), None),
        ["salvage", _, _, "--segment-size", bytes] => {
            salvage(path(1), path(2), Some(number(bytes)?))
        }
        ["inspect" | "verify" | "dump"] => {
            Err(Failed::Usage(format!("{} needs a directory", words[0])))
        }
        ["salvage"] | ["salvage", _] => Err(Failed::Usage("salvage needs two directories".into())),
        ["salvage", _, _, "--segment-size"] => {
            Err(Failed::Usage("--segment-size needs a number".into()))
        }
        ["inspect" | "verify", _, "--json", other, ..]
        | ["inspect" | "verify", _, other, ..]
        | ["salvage", _, _, "--segment-size", _, other, ..]
        | ["salvage", _, _, other, ..] => {
            Err(Failed::Usage(format!("{} does not take {other} there", words[0])))
        }
        [other, ..] => Err(Failed::Usage(format!("there is no command {other}"))),
        [] => Err(Failed::Usage("there is no command".into())),
    }
}

pub(super) fn say(text: &str) -> Result<Found> {
    writeln!(io::stdout(), "{text}")?;
    Ok(Found::Sound)
}

/// Says what is wrong, if anybody hears it.
fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "mapwal: {what}");
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}"); // a string takes all
        cause = error.source();
    }
    text
}

/// Where the log is broken, if it is that and not the looking: the file, and the byte.
pub(super) fn damage(error: &Error) -> Option<(&Path, Option<u64>)> {
    match error {
        Error::Damaged { path, at, .. } => Some((path, Some(*at))),
        Error::Missing { path, .. } | Error::Foreign { path, .. } => Some((path, None)),
        _ => None,
    }
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| Failed::Usage(format!("{text} is not a number")))
}

/// What is wrong, where the place is told beside it.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Damaged { damage, .. } => damage.to_string(),
        error => with_causes(error),
    }
}

/// What of the records is said, and how.
#[derive(Default)]
struct Dump {
    from: Lsn,
    to: Option<Lsn>,
    as_hex: bool,
    as_json: bool,
    follow: bool,
}

impl Dump {
    fn parse(mut options: &[&str]) -> Result<Self> {
        // no value of one begins as an option does
        let given = |option: &str| options.iter().filter(|&&other| other == option).count();
        let mut words = options.iter().filter(|word| word.starts_with("--"));
        if let Some(option) = words.find(|option| given(option) > 1) {
            return Err(Failed::Usage(format!("{option} is given more than once")));
        }
        let mut dump = Dump::default();
        loop {
            options = match options {
                [] => break,
                ["--from", lsn, rest @ ..] => {
                    dump.from = Lsn::from_u64(number(lsn)?);
                    rest
                }
                ["--to", lsn, rest @ ..] => {
                    dump.to = Some(Lsn::from_u64(number(lsn)?));
                    rest
                }
                ["--hex", rest @ ..] => {
                    dump.as_hex = true;
                    rest
                }
                ["--json", rest @ ..] => {
                    dump.as_json = true;
                    rest
                }
                ["--follow", rest @ ..] => {
                    dump.follow = true;
                    rest
                }
                [option @ ("--from" | "--to")] => {
                    return Err(Failed::Usage(format!("{option} needs a place")));
                }
                [other, ..] => return Err(Failed::Usage(format!("dump knows no {other}"))),
            };
        }
        match dump.to {
            Some(to) if dump.from > to => {
                Err(Failed::Usage(format!("--from {} is above --to {to}", dump.from)))
            }
            _ => Ok(dump),
        }
    }

    fn line(&self, lsn: Lsn, sequence: Option<u64>, data: &[u8]) -> String {
        let hex = || {
            data.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}"); // a string takes all
                hex
            })
        };
        let lsn = lsn.as_u64();
        if self.as_json {
            let (sequence, len, data) = (json::or_null(sequence), data.len(), hex());
            return format!(r#"{{"lsn":{lsn},"sequence":{sequence},"len":{len},"data":"{data}"}}"#);
        }
        let sequence = sequence.map_or("?".to_owned(), |sequence| sequence.to_string());
        let text = if self.as_hex { hex() } else { data.escape_ascii().to_string() };
        format!("{lsn:#x} {sequence} {} {text}", data.len())
    }
}

fn dump(directory: &Path, options: &Dump) -> Result<Found> {
    if options.follow {
        return follow(directory, options);
    }
    see_to_a_log(directory)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut meter = Meter::new("read".into());
    if io::stdout().is_terminal() {
        meter.done = None; // it would stand among the records
    }
    let salvaged = Options::new().salvage(directory, |lsn, sequence, data| {
        meter.add(data.len());
        let wanted = lsn >= options.from && options.to.is_none_or(|to| lsn < to);
        if wanted {
            written = writeln!(out, "{}", options.line(lsn, sequence, data));
        }
        if written.is_ok() { Continue(()) } else { Break(()) }
    })?;
    written?;
    out.flush()?;
    Ok(left_out(&salvaged))
}

/// Prints records as they come.
fn follow(directory: &Path, options: &Dump) -> Result<Found> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut watch = Options::new().watch(directory, options.from)?;
    // what is wrong with one that is there, the watch tells
    if let Ok(None) = Options::new().verify(Verify::Tail).inspect(directory) {
        complain(format_args!("there is no log in {} yet: waiting for one", directory.display()));
    }
    let mut found = Found::Sound;
    let mut at_most = Duration::ZERO;
    while options.to.is_none_or(|to| watch.next_lsn() < to) {
        match watch.next(at_most) {
            Ok(Some(record)) if options.to.is_some_and(|to| record.lsn() >= to) => break,
            Ok(Some(record)) => {
                let line = options.line(record.lsn(), Some(record.sequence()), record.data());
                writeln!(out, "{line}")?;
                at_most = Duration::ZERO;
            }
            Ok(None) => {
                out.flush()?; // all that is there, before it waits
                at_most = Duration::from_secs(60);
            }
            Err(error @ (Error::Truncated { .. } | Error::CutAway { .. })) => {
                out.flush()?;
                complain(error);
                found = Found::Damage;
            }
            Err(error) => {
                out.flush()?;
                return Err(error.into());
            }
        }
    }
    out.flush()?;
    Ok(found)
}

/// Says what was skipped.
pub(super) fn left_out(salvaged: &Salvaged) -> Found {
    for skipped in &salvaged.skipped {
        let (from, to, path) = (skipped.from, skipped.to, skipped.path.display());
        let why = reason(&skipped.cause);
        match skipped.cause {
            Error::Missing { .. } => complain(why),
            _ => complain(format_args!("bytes {from} to {to} of {path} are left out: {why}")),
        }
    }
    if salvaged.more_skipped > 0 {
        complain(format_args!("and {} more parts are left out", salvaged.more_skipped));
    }
    if salvaged.skipped.is_empty() { Found::Sound } else { Found::Damage }
}

fn salvage(directory: &Path, new: &Path, segment_size: Option<u64>) -> Result<Found> {
    if new.exists() {
        return Err(Failed::Usage(format!("{} is there already", new.display())));
    }
    let source = std::fs::canonicalize(directory);
    let source = source.map_err(|error| Failed::Source(directory.to_owned(), error))?;
    let above = std::path::absolute(new)?;
    let mut above = above.ancestors().filter_map(|above| std::fs::canonicalize(above).ok());
    if above.next().is_some_and(|above| above.starts_with(&source)) {
        return Err(Failed::Usage(format!("{} is inside {}", new.display(), directory.display())));
    }
    see_to_a_log(directory)?;
    let options = Options::new();
    let options = match segment_size {
        Some(bytes) => options.segment_size(bytes),
        None => options,
    };
    let wal = options.open(new)?;
    let mut meter = Meter::new(format!("into {}", new.display()));
    let mut appended = Ok(());
    let salvaged = Options::new().salvage(directory, |_, _, data| {
        appended = wal.append(data).map(drop);
        meter.add(data.len());
        if appended.is_ok() { Continue(()) } else { Break(()) }
    })?;
    appended?;
    wal.close()?;
    say(&format!("{} records into {}", salvaged.records, new.display()))?;
    Ok(left_out(&salvaged))
}

/// Whether there is anything to read, be it broken, or a log, be it empty.
fn see_to_a_log(directory: &Path) -> Result<()> {
    std::fs::read_dir(directory).map_err(|error| Failed::Source(directory.to_owned(), error))?;
    let first = Options::new().salvage(directory, |_, _, _| Break(()))?;
    let is_nothing = first.records == 0 && first.skipped.is_empty();
    match is_nothing.then(|| Options::new().verify(Verify::Tail).inspect(directory)) {
        Some(Ok(None)) => Err(Failed::NoLog(directory.to_owned())),
        _ => Ok(()),
    }
}

/// Says on a terminal how far long work has come.
pub(super) struct Meter {
    /// What is done with the bytes, if it is said.
    done: Option<String>,
    pub(super) bytes: u64,
    told: u64,
}

impl Meter {
    const EVERY: u64 = 256 << 20;

    pub(super) fn new(done: String) -> Self {
        let done = io::stderr().is_terminal().then_some(done);
        Meter { done, bytes: 0, told: 0 }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.come_to(self.bytes + bytes as u64, None);
    }

    /// It has come to so many bytes, of so many if that is known. Fewer than before: it begins
    /// again.
    pub(super) fn come_to(&mut self, bytes: u64, total: Option<u64>) {
        self.bytes = bytes;
        self.told = self.told.min(bytes);
        let Some(done) = &self.done else { return };
        if bytes - self.told >= Self::EVERY {
            self.told = bytes;
            let total = total.map(|total| format!(" of {}", total >> 20)).unwrap_or_default();
            let _ = writeln!(io::stderr(), "{}{total} MiB {done}", bytes >> 20);
        }
    }
}
