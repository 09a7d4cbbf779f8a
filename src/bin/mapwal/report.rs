//! What `inspect` and `verify` say of a log, to people and as JSON.

use std::io::{self, Write};
use std::path::Path;

use mapwal::{Ended, Error, Lsn, Options, Recovery, Salvaged, SegmentReport, Skipped};

use crate::command::{Failed, Found, Meter, Result, damage, left_out, reason, say};
use crate::json;

pub(super) fn inspect(directory: &Path) -> Result<Found> {
    let report = match look(directory) {
        Err(Failed::Log(error)) if damage(&error).is_some() => {
            return refused(error, say_what_is_intact(directory));
        }
        report => report?,
    };
    let mut out = io::stdout().lock();
    writeln!(out, "ended      {}", ending(&report))?;
    writeln!(out, "head       {}", report.head)?;
    writeln!(out, "tail       {}", report.tail)?;
    writeln!(out, "proved     {} (all below was durable, as the log itself shows)", report.proved)?;
    writeln!(out, "openings   {}", report.epoch - 1)?;
    writeln!(out, "segments   {}", report.segments.len())?;
    for segment in &report.segments {
        let (first, records, bytes) = (segment.first_sequence, segment.records, segment.bytes);
        let path = segment.path.display();
        let (from, to) = (segment.from, segment.to);
        let sizes = format_args!("{records} records, {bytes} bytes");
        writeln!(out, "  {path}  {from} to {to}, from number {first}, {sizes}")?;
    }
    for path in &report.removed {
        writeln!(out, "  {}  counts for nothing: opening removes it", path.display())?;
    }
    Ok(Found::Sound)
}

pub(super) fn inspect_json(directory: &Path) -> Result<Found> {
    match look(directory) {
        Err(Failed::Log(error)) if damage(&error).is_some() => {
            let Intact { places, bytes, salvaged } = Intact::find(directory)?;
            let intact = json::object([
                ("records", salvaged.records.to_string()),
                ("bytes", bytes.to_string()),
                ("first_lsn", json::or_null(places.map(|(first, _)| first.as_u64()))),
                ("last_lsn", json::or_null(places.map(|(_, last)| last.as_u64()))),
            ]);
            let text = json::object([
                ("sound", "false".into()),
                ("damage", damage_json(&error)),
                ("intact", intact),
                ("left_out", json::array(salvaged.skipped.iter().map(skipped_json))),
                ("more_left_out", salvaged.more_skipped.to_string()),
            ]);
            refused(error, say(&text))
        }
        report => say(&report_json(&report?)),
    }
}

fn look(directory: &Path) -> Result<Recovery> {
    let mut meter = Meter::new("read".into());
    let options = Options::new().on_progress(move |progress| {
        meter.come_to(progress.read, Some(progress.total));
    });
    let report = options.inspect(directory)?;
    report.ok_or_else(|| Failed::NoLog(directory.to_owned()))
}

/// What can be told of a log that is refused: the records that are intact, and the parts that
/// are not.
struct Intact {
    /// Of the first record and the last.
    places: Option<(Lsn, Lsn)>,
    bytes: u64,
    salvaged: Salvaged,
}

impl Intact {
    fn find(directory: &Path) -> Result<Self> {
        let mut places = None;
        let mut meter = Meter::new("are intact so far".into());
        let salvaged = Options::new().salvage(directory, |lsn, _, data| {
            places = Some((places.map_or(lsn, |(first, _)| first), lsn));
            meter.add(data.len());
        })?;
        Ok(Intact { places, bytes: meter.bytes, salvaged })
    }
}

fn say_what_is_intact(directory: &Path) -> Result<()> {
    let Intact { places, bytes, salvaged } = Intact::find(directory)?;
    let records = salvaged.records;
    say(&match places {
        Some((first, last)) => {
            format!("intact     {records} records of {bytes} bytes, {first} to {last}")
        }
        None => "intact     no record".to_owned(),
    })?;
    left_out(&salvaged);
    Ok(())
}

pub(super) fn verify(directory: &Path) -> Result<Found> {
    let report = look(directory)?;
    let (records, segments) = (records(&report), report.segments.len());
    let removed = match report.removed.len() {
        0 => String::new(),
        1 => "; opening removes a file of which the log has no use".to_owned(),
        files => format!("; opening removes {files} files of which the log has no use"),
    };
    say(&format!(
        "sound: {records} records in {segments} segments, with those below the head; {}{removed}",
        ending(&report)
    ))
}

pub(super) fn verify_json(directory: &Path) -> Result<Found> {
    match look(directory) {
        Err(Failed::Log(error)) if damage(&error).is_some() => {
            let text = json::object([("sound", "false".into()), ("damage", damage_json(&error))]);
            refused(error, say(&text))
        }
        report => say(&report_json(&report?)),
    }
}

/// Those given up in the segments included.
fn records(report: &Recovery) -> u64 {
    report.segments.iter().map(|segment| segment.records).sum()
}

/// Of a log that is sound. What of a path is no Unicode is replaced, as it is where it is shown.
fn report_json(report: &Recovery) -> String {
    let (ended, torn) = match &report.ended {
        Ended::Closed => ("closed", None),
        Ended::Unclosed => ("unclosed", None),
        Ended::Torn { path, at, damage, .. } => {
            ("torn", Some(place_json(path, Some(*at), &damage.to_string())))
        }
        _ => ("otherwise", None), // no log that is looked at
    };
    json::object([
        ("sound", "true".into()),
        ("ended", json::string(ended)),
        ("torn", json::or_null(torn)),
        ("head", report.head.as_u64().to_string()),
        ("tail", report.tail.as_u64().to_string()),
        ("proved", report.proved.as_u64().to_string()),
        ("openings", (report.epoch - 1).to_string()),
        ("records", records(report).to_string()),
        ("segments", json::array(report.segments.iter().map(segment_json))),
        ("removed", json::array(report.removed.iter().map(|path| json::string(path.display())))),
    ])
}

fn segment_json(segment: &SegmentReport) -> String {
    // a segment's file is named by its index, in hexadecimal
    let name = segment.path.file_stem().and_then(|name| name.to_str());
    let index = name.and_then(|name| u64::from_str_radix(name, 16).ok());
    json::object([
        ("index", json::or_null(index)),
        ("path", json::string(segment.path.display())),
        ("first_sequence", segment.first_sequence.to_string()),
        ("records", segment.records.to_string()),
        ("bytes", segment.bytes.to_string()),
        ("from_lsn", segment.from.as_u64().to_string()),
        ("to_lsn", segment.to.as_u64().to_string()),
    ])
}

fn skipped_json(skipped: &Skipped) -> String {
    // a file that is not there has none
    let bytes = |at: u64| json::or_null((skipped.from < skipped.to).then_some(at));
    json::object([
        ("path", json::string(skipped.path.display())),
        ("from_byte", bytes(skipped.from)),
        ("to_byte", bytes(skipped.to)),
        ("reason", json::string(reason(&skipped.cause))),
    ])
}

/// Why a log is refused.
fn damage_json(error: &Error) -> String {
    let (path, at) = damage(error).expect("it is refused for that");
    place_json(path, at, &reason(error))
}

fn place_json(path: &Path, at: Option<u64>, reason: &str) -> String {
    json::object([
        ("path", json::string(path.display())),
        ("at", json::or_null(at)),
        ("reason", json::string(reason)),
    ])
}

fn ending(report: &Recovery) -> String {
    match &report.ended {
        Ended::Closed => "closed".into(),
        Ended::Unclosed => "not closed, and no write cut short".into(),
        Ended::Torn { path, at, damage, .. } => {
            format!("a write was cut short at byte {at} of {}: {damage}", path.display())
        }
        other => format!("{other:?}"),
    }
}

/// A log that is refused is so whatever was `said` of it, also where nobody reads that.
fn refused<T>(error: Error, said: Result<T>) -> Result<Found> {
    match said {
        Err(Failed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        said => drop(said?),
    }
    Err(error.into())
}
