//! The command `mapwal`, run as a user runs it: what it says, its exit codes, and that it
//! changes nothing.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::ptr;

use common::{SEGMENT, TempDir, append_all, segments, small, snapshot, texts};
use mapwal::{Error, Lsn, Options, Wal};

const SOUND: i32 = 0;
const DAMAGE: i32 = 1;
const USAGE: i32 = 2;
const UNREADABLE: i32 = 3;

fn mapwal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mapwal")).args(arguments).output().unwrap()
}

/// What it says and its exit code, and that the directory is as it was.
fn says(command: &str, directory: &Path, options: &[&str]) -> (i32, String) {
    let before = snapshot(directory);
    let output = mapwal(&[&[command, directory.to_str().unwrap()], options].concat());
    assert_eq!(snapshot(directory), before, "{command} changed something");
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn record(i: usize) -> String {
    format!("record {i} {}", "x".repeat(500))
}

/// A closed log of several segments, and where its records are.
fn log(directory: &TempDir) -> Vec<Lsn> {
    let wal = small().open(directory).unwrap();
    let lsns = append_all(&wal, (0..300).map(record));
    wal.close().unwrap();
    assert!(segments(directory).len() > 2);
    lsns
}

/// Opens it again. A command that another test is just starting has this process's locks
/// for a moment.
fn open(directory: &Path) -> Wal {
    loop {
        match small().open(directory) {
            Err(Error::Locked { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Changes a byte of the record there.
fn damage(directory: &Path, lsn: Lsn) {
    let (index, offset) = (lsn.as_u64() / SEGMENT, (lsn.as_u64() % SEGMENT) as usize);
    let path = directory.join(format!("{index:016x}.wal"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[offset + 20] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What a write leaves that a crash cut short, at this byte of a file. In place: it may be mapped.
fn cut_short(path: &Path, tail: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x08, 0, 0, 0x10, 1, 2, 3, 4], tail).unwrap();
}

/// What it says on its error output, which is a terminal.
fn on_a_terminal(arguments: &[&str]) -> String {
    let (mut terminal, mut its) = (-1, -1);
    let (name, modes, size) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: two places for descriptors; nothing else is asked for
    assert_eq!(unsafe { libc::openpty(&mut terminal, &mut its, name, modes, size) }, 0);
    // SAFETY: they were just opened, and belong to nobody else
    let (mut terminal, its) = unsafe { (File::from_raw_fd(terminal), Stdio::from_raw_fd(its)) };
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapwal"));
    command.args(arguments).stdout(Stdio::null()).stderr(its);
    let mut running = command.spawn().unwrap();
    drop(command); // and with it this process's end of the terminal
    let mut said = Vec::new();
    let _ = terminal.read_to_end(&mut said); // an error, when the other end is closed
    assert!(running.wait().unwrap().success());
    String::from_utf8(said).unwrap()
}

#[test]
fn long_work_is_told_on_a_terminal_as_it_goes_on() {
    let (directory, new) = (TempDir::new(), TempDir::new());
    let wal = small().open(&directory).unwrap();
    append_all(&wal, [vec![b'x'; 140 << 20], vec![b'x'; 140 << 20], b"small".to_vec()]);
    let close = wal.next_lsn().as_u64();
    wal.close().unwrap();
    let path = directory.to_str().unwrap();
    for command in ["inspect", "verify"] {
        assert_eq!(on_a_terminal(&[command, path]), "256 of 280 MiB read\r\n");
        let silent = mapwal(&[command, path]);
        assert!(silent.status.success() && silent.stderr.is_empty());
    }
    assert_eq!(on_a_terminal(&["dump", path]), "280 MiB read\r\n");
    let new = new.join("new").to_str().unwrap().to_owned();
    assert_eq!(on_a_terminal(&["salvage", path, &new]), format!("280 MiB into {new}\r\n"));
    // what was cut short is looked at again
    cut_short(&directory.join(format!("{:016x}.wal", close / SEGMENT)), close % SEGMENT);
    assert_eq!(on_a_terminal(&["verify", path]), "256 of 280 MiB read\r\n".repeat(2));
}

#[test]
fn where_nothing_can_be_said_the_exit_code_still_tells() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    damage(&directory, lsns[0]);
    for (arguments, code) in [
        (&["verify", directory.to_str().unwrap()][..], DAMAGE),
        (&["dump", directory.to_str().unwrap()], DAMAGE),
        (&["verify", "nowhere"], UNREADABLE),
        (&["verify"], USAGE),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapwal"));
        command.args(arguments).stdout(Stdio::null()).stderr(full);
        assert_eq!(command.status().unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_sound_log_is_told_to_be_so() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let (code, said) = says("verify", &directory, &[]);
    assert_eq!(code, SOUND, "{said}");
    assert!(said.starts_with("sound: 300 records in "), "{said}");
    let (code, said) = says("inspect", &directory, &[]);
    assert_eq!(code, SOUND, "{said}");
    assert!(said.starts_with("ended      closed"), "{said}");
    assert!(said.contains("openings   1"), "{said}");
    let (code, said) = says("dump", &directory, &[]);
    assert_eq!((code, said.lines().count()), (SOUND, 300), "{said}");
    let first = format!("{} 1 509 record 0 xxx", lsns[0]);
    assert!(said.starts_with(&first), "{said}");
}

/// That docs/command.md has every field.
fn assert_documented(said: &str) {
    let known = fs::read_to_string("docs/command.md").unwrap();
    for (end, _) in said.match_indices(r#"":"#) {
        let field = said[..end].rsplit('"').next().unwrap();
        assert!(known.contains(&format!("`{field}`")), "{field}");
    }
}

/// What a command says with `--json`: its exit code, and the one line on its output.
fn json(command: &str, directory: &Path) -> (Option<i32>, String) {
    let output = mapwal(&[command, directory.to_str().unwrap(), "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().count() <= 1, "{said}");
    assert_documented(&said);
    (output.status.code(), said)
}

#[test]
fn the_report_on_a_sound_log_is_one_json_object() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let report = Options::new().inspect(&directory).unwrap().unwrap();
    let (head, tail) = (report.head.as_u64(), report.tail.as_u64());
    assert!(report.segments.windows(2).all(|next| next[0].to < next[1].from), "{report:?}");
    for command in ["verify", "inspect"] {
        let (code, said) = json(command, directory.path());
        assert_eq!(code, Some(SOUND), "{said}");
        let start = format!(
            r#"{{"sound":true,"ended":"closed","torn":null,"head":{head},"tail":{tail},"proved":"#
        );
        assert!(said.starts_with(&start), "{said}");
        assert!(said.contains(r#","openings":1,"records":300,"segments":[{"index":1,"#), "{said}");
        assert_eq!(said.matches(r#""first_sequence":"#).count(), report.segments.len(), "{said}");
        let last = report.segments.last().unwrap();
        let last = format!(
            r#"{{"index":{},"path":"{}","first_sequence":{},"records":{},"bytes":{},"from_lsn":{},"to_lsn":{tail}}}],"removed":[]}}"#,
            lsns[299].as_u64() / SEGMENT,
            last.path.display(),
            last.first_sequence,
            last.records,
            last.bytes,
            last.from.as_u64()
        );
        assert!(said.ends_with(&(last + "\n")), "{said}");
    }
}

#[test]
fn the_report_on_a_broken_log_is_one_json_object() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    damage(&directory, lsns[40]);
    let path = directory.join(format!("{:016x}.wal", lsns[40].as_u64() / SEGMENT));
    let (path, at) = (path.display(), lsns[40].as_u64() % SEGMENT);
    let start = format!(
        r#"{{"sound":false,"damage":{{"path":"{path}","at":{at},"reason":"a frame's checksum does not match"}}"#
    );
    let (code, said) = json("verify", directory.path());
    assert_eq!((code, said), (Some(DAMAGE), start.clone() + "}\n"));

    let (code, said) = json("inspect", directory.path());
    assert_eq!(code, Some(DAMAGE));
    assert!(said.starts_with(&start), "{said}");
    let bytes: usize = (0..300).filter(|&i| i != 40).map(|i| record(i).len()).sum();
    let (first, last) = (lsns[0].as_u64(), lsns[299].as_u64());
    let intact = format!(
        r#","intact":{{"records":299,"bytes":{bytes},"first_lsn":{first},"last_lsn":{last}}},"left_out":["#
    );
    assert!(said.contains(&intact), "{said}");
    let left_out = format!(r#"[{{"path":"{path}","from_byte":{at},"to_byte":"#);
    assert!(said.contains(&left_out), "{said}");
    assert!(said.ends_with("\"}],\"more_left_out\":0}\n"), "{said}");

    let name = &segments(&directory)[0];
    fs::remove_file(directory.join(name)).unwrap();
    let (code, said) = json("verify", directory.path());
    assert_eq!(code, Some(DAMAGE));
    assert!(said.contains(r#","at":null,"reason":""#) && said.contains("is missing"), "{said}");
}

#[test]
fn verify_says_how_many_files_an_opening_would_remove() {
    let directory = TempDir::new();
    log(&directory);
    for (index, removes) in [(170, "opening removes a file "), (171, "opening removes 2 files ")] {
        fs::write(directory.join(format!("{index:016x}.tmp")), "unfinished").unwrap();
        let (code, said) = says("verify", &directory, &[]);
        assert_eq!(code, SOUND);
        assert!(said.contains(removes), "{said}");
    }
}

#[test]
fn a_log_is_refused_also_where_nobody_reads_why() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    damage(&directory, lsns[40]);
    for words in [&["inspect"][..], &["inspect", "--json"], &["verify", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_mapwal"))
            .args([&words[..1], &[directory.to_str().unwrap()], &words[1..]].concat())
            .stdout(writer)
            .status();
        assert_eq!(status.unwrap().code(), Some(DAMAGE), "{words:?}");
    }
}

#[test]
fn a_report_in_json_tells_a_write_that_was_cut_short() {
    let (directory, copy) = (TempDir::new(), TempDir::new());
    // what is not to stand in a string as it is
    let copy = copy.join("a \"quoted\"\n\\name");
    fs::create_dir(&copy).unwrap();
    let (path, tail) = not_closed(&directory, &copy);
    let (code, said) = json("inspect", &copy);
    assert_eq!(code, Some(SOUND));
    assert!(said.starts_with(r#"{"sound":true,"ended":"unclosed","torn":null,"#), "{said}");
    cut_short(&path, tail);
    fs::write(copy.join("0000000000000100.tmp"), b"half a file").unwrap();
    let (code, said) = json("verify", &copy);
    assert_eq!(code, Some(SOUND));
    assert!(said.starts_with(r#"{"sound":true,"ended":"torn","torn":{"path":""#), "{said}");
    let name = path.file_name().unwrap().to_str().unwrap();
    let torn = format!(r#"/a \"quoted\"\u000a\\name/{name}","at":{tail},"reason":"a frame"#);
    assert!(said.contains(&torn), "{said}");
    assert!(said.ends_with("/0000000000000100.tmp\"]}\n"), "{said}");
}

#[test]
fn where_there_is_no_log_there_is_no_json() {
    let directory = TempDir::new();
    for command in ["verify", "inspect"] {
        assert_eq!(json(command, directory.path()), (Some(UNREADABLE), String::new()));
        assert_eq!(json(command, &directory.join("missing")).0, Some(UNREADABLE));
    }
}

#[test]
fn a_dump_is_of_the_places_asked_for_and_as_asked_for() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let (from, to) = (lsns[10].to_string(), lsns[12].as_u64().to_string());
    let (code, said) = says("dump", &directory, &["--from", &from, "--to", &to, "--hex"]);
    assert_eq!((code, said.lines().count()), (SOUND, 2), "{said}");
    assert!(said.contains(" 11 510 7265636f726420313020"), "{said}"); // "record 10 "
    let (code, said) = says("dump", &directory, &["--json", "--from", &from, "--to", &to]);
    assert_eq!((code, said.lines().count()), (SOUND, 2), "{said}");
    assert_documented(&said);
    let object = format!(r#"{{"lsn":{},"sequence":11,"len":510,"data":"7265"#, lsns[10].as_u64());
    assert!(said.starts_with(&object), "{said}");
}

#[test]
fn a_dump_of_places_that_are_upside_down_or_given_twice_is_wrong() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let (low, high) = (&lsns[10].to_string()[..], &lsns[12].as_u64().to_string()[..]);
    let upside_down = format!("--from {} is above --to {low}; ", lsns[12]);
    let wrong = [
        (&["--from", high, "--to", low][..], &upside_down[..]),
        (&["--to", low, "--follow", "--from", high], &upside_down),
        (&["--from", low, "--from", low], "--from is given more than once; "),
        (&["--to", low, "--from", low, "--to", high], "--to is given more than once; "),
        (&["--hex", "--hex"], "--hex is given more than once; "),
        (&["--json", "--hex", "--json"], "--json is given more than once; "),
        (&["--follow", "--follow"], "--follow is given more than once; "),
    ];
    for (options, why) in wrong {
        let output = mapwal(&[&["dump", directory.to_str().unwrap()], options].concat());
        assert_eq!((output.status.code(), output.stdout), (Some(USAGE), vec![]), "{options:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("mapwal: {why}")), "{said}");
    }
    let nothing = says("dump", &directory, &["--from", low, "--to", low]);
    assert_eq!(nothing, (SOUND, String::new()));
}

#[test]
fn what_was_given_up_is_not_dumped() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let wal = open(&directory);
    wal.truncate_before(lsns[290]).unwrap();
    wal.close().unwrap();
    let (code, said) = says("dump", &directory, &[]);
    assert_eq!((code, said.lines().count()), (SOUND, 10), "{said}");
    let into = TempDir::new();
    let (code, said) = says("salvage", &directory, &[into.join("new").to_str().unwrap()]);
    assert_eq!(code, SOUND, "{said}");
    assert!(said.starts_with("10 records into "), "{said}");
}

#[test]
fn a_segment_that_is_gone_is_missed_by_every_command() {
    let directory = TempDir::new();
    log(&directory);
    let into = TempDir::new();
    let names = segments(&directory);
    let report = Options::new().inspect(&directory).unwrap().unwrap();
    let with_records = report.segments.len(); // the others are spares
    assert!(with_records > 1);
    for (i, name) in names[..with_records].iter().enumerate() {
        let kept = fs::read(directory.join(name)).unwrap();
        fs::remove_file(directory.join(name)).unwrap();
        let new = into.join(name);
        for (command, options) in
            [("verify", &[][..]), ("dump", &[]), ("salvage", &[new.to_str().unwrap()])]
        {
            let (code, said) = says(command, &directory, options);
            assert_eq!(code, DAMAGE, "{command} without {i}: {said}");
            assert!(said.contains(&format!("{name} is missing")), "{command} without {i}: {said}");
        }
        let (code, said) = json("inspect", &directory);
        assert_eq!(code, Some(DAMAGE));
        let is_left_out = said.contains(&format!(r#"{name}","from_byte":null,"to_byte":null,"#));
        assert!(is_left_out, "without {i}: {said}");
        fs::write(directory.join(name), kept).unwrap();
    }
    assert_eq!(says("dump", &directory, &[]).0, SOUND);
}

#[test]
fn salvaging_begins_nothing_that_it_cannot_fill() {
    let directory = TempDir::new();
    log(&directory);
    let into = TempDir::new();
    let new = into.join("new");
    let empty = TempDir::new();
    let missing = into.join("missing");
    let salvage = |from: &Path, new: &Path| {
        mapwal(&["salvage", from.to_str().unwrap(), new.to_str().unwrap()]).status.code()
    };
    assert_eq!(salvage(&missing, &new), Some(UNREADABLE));
    assert_eq!(salvage(&empty, &new), Some(UNREADABLE));
    assert_eq!(says("salvage", &directory, &[directory.join("sub").to_str().unwrap()]).0, USAGE);
    let size = ["--segment-size", "1000"];
    assert_eq!(
        says("salvage", &directory, &[&[new.to_str().unwrap()], &size[..]].concat()).0,
        USAGE
    );
    assert!(!new.exists());
    assert_eq!(salvage(&directory, &new), Some(SOUND));
}

#[test]
fn damage_is_told_with_file_and_byte_and_the_rest_is_salvaged() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    damage(&directory, lsns[40]);
    for command in ["verify", "inspect"] {
        let (code, said) = says(command, &directory, &[]);
        assert_eq!(code, DAMAGE, "{said}");
        let offset = lsns[40].as_u64() % SEGMENT;
        assert!(said.contains(&format!("is damaged at byte {offset}")), "{said}");
    }
    let (_, said) = says("inspect", &directory, &[]);
    let bytes: usize = (0..300).filter(|&i| i != 40).map(|i| record(i).len()).sum();
    let intact = format!("intact     299 records of {bytes} bytes, {} to {}", lsns[0], lsns[299]);
    assert!(said.starts_with(&intact), "{said}");
    assert!(said.contains("are left out"), "{said}");
    let (code, said) = says("dump", &directory, &[]);
    assert_eq!((code, said.lines().count()), (DAMAGE, 300), "299 records, and what is left out");

    let into = TempDir::new();
    let new = into.join("new");
    let (code, said) =
        says("salvage", &directory, &[new.to_str().unwrap(), "--segment-size", "65536"]);
    assert_eq!(code, DAMAGE, "{said}");
    assert!(said.starts_with("299 records into "), "{said}");
    let salvaged = texts(&open(&new));
    assert_eq!(salvaged.len(), 299);
    assert!(salvaged[39].starts_with("record 39 ") && salvaged[40].starts_with("record 41 "));
    let again = says("salvage", &directory, &[new.to_str().unwrap()]);
    assert_eq!(again.0, USAGE, "never into what is there: {}", again.1);
}

#[test]
fn what_is_intact_in_a_file_with_a_broken_header_or_length_is_salvaged() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let path = directory.join(&segments(&directory)[1]);
    let sound = fs::read(&path).unwrap();
    let in_it = |lsn: &&Lsn| lsn.as_u64() / SEGMENT == 2;
    let cut_away = lsns.iter().filter(in_it).filter(|lsn| lsn.as_u64() % SEGMENT + 528 > 30_000);
    let mut flipped = sound.clone();
    flipped[100] ^= 1;
    let damaged = [
        (flipped, 300, "bytes 0 to 4096 of"),
        (sound[..30_000].to_vec(), 300 - cut_away.count(), "bytes 30000 to 65536 of"),
    ];
    for (bytes, records, skipped) in damaged {
        fs::write(&path, bytes).unwrap();
        for command in ["verify", "inspect"] {
            let (code, said) = says(command, &directory, &[]);
            assert_eq!(code, DAMAGE, "{said}");
            assert!(said.contains("is damaged at byte 0"), "{said}");
        }
        let intact = says("inspect", &directory, &[]).1;
        assert!(intact.starts_with(&format!("intact     {records} records of ")), "{intact}");
        let into = TempDir::new();
        let new = into.join("new");
        let (code, said) = says("salvage", &directory, &[new.to_str().unwrap()]);
        assert_eq!(code, DAMAGE, "{said}");
        assert!(said.starts_with(&format!("{records} records into ")), "{said}");
        assert!(said.contains(skipped), "{said}");
    }
}

/// A log that was not closed: a copy of what a writer has at this moment, and where its tail is.
fn not_closed(directory: &TempDir, copy: &Path) -> (std::path::PathBuf, u64) {
    let wal = small().open(directory).unwrap();
    let lsns = append_all(&wal, (0..3).map(record));
    wal.sync().unwrap();
    for name in segments(directory) {
        fs::copy(directory.join(&name), copy.join(&name)).unwrap();
    }
    let name = format!("{:016x}.wal", lsns[0].as_u64() / SEGMENT);
    (copy.join(name), wal.next_lsn().as_u64() % SEGMENT)
}

#[test]
fn a_write_that_was_cut_short_is_told_and_nothing_that_is_left_of_one_counts() {
    let (directory, copy) = (TempDir::new(), TempDir::new());
    let (path, tail) = not_closed(&directory, copy.path());
    let (code, said) = says("inspect", copy.path(), &[]);
    assert_eq!(code, SOUND, "{said}");
    assert!(said.starts_with("ended      not closed, and no write cut short"), "{said}");
    cut_short(&path, tail);
    fs::write(copy.join("0000000000000100.tmp"), b"half a file").unwrap();
    let (code, said) = says("inspect", copy.path(), &[]);
    assert_eq!(code, SOUND, "{said}");
    let short = format!("ended      a write was cut short at byte {tail} of {}", path.display());
    assert!(said.starts_with(&short), "{said}");
    assert!(said.contains("100.tmp  counts for nothing: opening removes it"), "{said}");
}

#[test]
fn a_segment_that_has_not_begun_is_no_log() {
    let directory = TempDir::new();
    drop(small().open(&directory).unwrap());
    let names = segments(&directory);
    for name in &names[1..] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    let mut bytes = fs::read(directory.join(&names[0])).unwrap();
    bytes[4096..].fill(0);
    fs::write(directory.join(&names[0]), bytes).unwrap();
    let into = TempDir::new();
    let new = into.join("new");
    let salvage = ["salvage", new.to_str().unwrap()];
    for command in [&["verify"][..], &["inspect"], &["dump"], &salvage] {
        let (code, said) = says(command[0], &directory, &command[1..]);
        assert_eq!(code, UNREADABLE, "{command:?}: {said}");
        assert!(said.contains("there is no log in") && !new.exists(), "{command:?}: {said}");
    }
}

#[test]
fn of_a_log_with_nothing_intact_that_is_said() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsn = wal.append(b"the only one").unwrap();
    wal.close().unwrap();
    damage(&directory, lsn);
    let (code, said) = says("inspect", &directory, &[]);
    assert_eq!(code, DAMAGE, "{said}");
    assert!(said.contains("intact     no record"), "{said}");
}

#[test]
fn of_more_broken_parts_than_are_told_the_number_is_said() {
    let directory = TempDir::new();
    let wal = small().open(&directory).unwrap();
    let lsns = append_all(&wal, (0..2400).map(|_| "short"));
    wal.close().unwrap();
    for &lsn in lsns.iter().skip(1).step_by(2) {
        damage(&directory, lsn);
    }
    let into = TempDir::new();
    let (code, said) = says("salvage", &directory, &[into.join("new").to_str().unwrap()]);
    assert_eq!(code, DAMAGE);
    assert!(said.contains("mapwal: and 200 more parts are left out\n"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_said_is_no_success() {
    let directory = TempDir::new();
    log(&directory);
    for command in ["verify", "dump"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_mapwal"))
            .args([command, directory.to_str().unwrap()])
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(UNREADABLE), "{command}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("mapwal: cannot write what was found: "), "{said}");
    }
}

#[test]
fn a_dump_that_follows_ends_at_damage() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    damage(&directory, lsns[5]);
    let output = mapwal(&["dump", directory.to_str().unwrap(), "--follow"]);
    assert_eq!(output.status.code(), Some(DAMAGE));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 5);
}

#[test]
fn a_log_that_is_open_for_writing_is_looked_at_without_its_lock() {
    let directory = TempDir::new();
    log(&directory);
    let wal = open(&directory);
    wal.commit(b"one more").unwrap();
    let output = mapwal(&["verify", directory.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("sound: 301 records in "), "{said}");
    wal.commit(b"and one").unwrap();
    assert_eq!(texts(&wal).len(), 302);
}

/// A dump that follows: its output is read, and it is ended by the caller.
fn following(directory: &Path, options: &[&str], stderr: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mapwal"))
        .args([&["dump", directory.to_str().unwrap(), "--follow"], options].concat())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// Follows a log until it has printed `lines`, which it returns.
fn followed(
    directory: &Path,
    options: &[&str],
    lines: usize,
    meanwhile: impl FnOnce(),
) -> Vec<String> {
    let mut following = following(directory, options, Stdio::inherit());
    meanwhile();
    let said = BufReader::new(following.stdout.take().unwrap()).lines();
    let said: Vec<_> = said.take(lines).map(|line| line.unwrap()).collect();
    following.kill().unwrap();
    following.wait().unwrap();
    said
}

#[test]
fn a_dump_follows_a_log_that_another_process_writes() {
    let directory = TempDir::new();
    let mut lsns = log(&directory);
    let wal = open(&directory);
    let said = followed(&directory, &[], 600, || {
        lsns.extend(append_all(&wal, (0..300).map(|i| format!("late {i} {}", "x".repeat(500)))));
    });
    assert_eq!(said.len(), 600);
    for (i, line) in said.iter().enumerate() {
        assert!(line.starts_with(&format!("{} {} ", lsns[i], i + 1)), "{line}");
    }
    let from = lsns[599].to_string();
    let said = followed(&directory, &["--json", "--from", &from], 2, || {
        wal.append(b"the last").unwrap();
    });
    assert!(said[0].contains(r#""sequence":600,"#) && said[1].contains(r#""sequence":601,"#));
}

#[test]
fn a_dump_that_follows_says_that_it_waits_for_a_log() {
    let directory = TempDir::new();
    let mut following = following(&directory, &[], Stdio::piped());
    let mut told = BufReader::new(following.stderr.take().unwrap()).lines();
    let waits = format!("mapwal: there is no log in {} yet: waiting for one", directory.display());
    assert_eq!(told.next().unwrap().unwrap(), waits);
    open(directory.path()).append(b"the first").unwrap();
    let mut said = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().ends_with(" 1 9 the first"));
    following.kill().unwrap();
    following.wait().unwrap();
    assert!(told.next().is_none(), "nothing else");
}

#[test]
fn a_dump_that_follows_ends_where_it_is_told_to() {
    let directory = TempDir::new();
    let lsns = log(&directory);
    let wal = open(&directory);
    let (from, to) = (lsns[10].to_string(), lsns[12].to_string());
    let dump = ["dump", directory.to_str().unwrap(), "--follow", "--from", &from, "--to"];
    let output = mapwal(&[&dump[..], &[&to]].concat());
    assert_eq!(output.status.code(), Some(SOUND));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let end = wal.next_lsn().to_string(); // where nothing is yet
    let output = mapwal(&[&dump[..], &[&end]].concat());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 290);
    wal.truncate_before(lsns[290]).unwrap();
    let output = mapwal(&[&dump[..], &[&end]].concat());
    assert_eq!(output.status.code(), Some(DAMAGE));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is below the head of the log"), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 10);
}

#[cfg(unix)]
#[test]
fn a_dump_that_follows_ends_quietly_when_nobody_reads_on() {
    let directory = TempDir::new();
    log(&directory);
    let mut following = following(&directory, &[], Stdio::piped());
    drop(following.stdout.take());
    // it may have come to the tail, and notices with the next record
    open(&directory).append(b"one more").unwrap();
    let output = following.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(SOUND), Vec::new()));
}

#[test]
fn what_is_no_log_and_what_is_no_command_is_told_apart() {
    let directory = TempDir::new();
    let elsewhere = TempDir::new();
    let new = elsewhere.join("new");
    for command in [&["verify"][..], &["inspect"], &["dump"], &["salvage", new.to_str().unwrap()]] {
        let mut words = vec![command[0], directory.to_str().unwrap()];
        words.extend(&command[1..]);
        let output = mapwal(&words);
        assert_eq!(output.status.code(), Some(UNREADABLE), "{command:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("there is no log in") && output.stdout.is_empty(), "{said}");
    }
    assert!(!new.exists());
    let missing = directory.join("missing");
    let output = mapwal(&["inspect", missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(UNREADABLE));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("missing") && said.contains("No such file"), "{said}");
    let wrong = [
        &[][..],
        &["look", "."],
        &["verify"],
        &["verify", ".", "."],
        &["verify", ".", "--json", "--json"],
        &["inspect", ".", "--hex"],
        &["salvage", "."],
        &["salvage", ".", "new", "--hex"],
        &["salvage", ".", "new", "--segment-size"],
        &["salvage", ".", "new", "--segment-size", "65536", "x"],
        &["dump"],
        &["dump", "--follow"],
        &["dump", ".", "--from"],
        &["dump", ".", "--to", "x"],
        &["dump", ".", "--all"],
    ];
    for wrong in wrong {
        let output = mapwal(wrong);
        assert_eq!(output.status.code(), Some(USAGE), "{wrong:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with("mapwal --help tells what there is\n"), "{said}");
    }
    for right in ["--help", "help", "--version"] {
        assert_eq!(mapwal(&[right]).status.code(), Some(SOUND));
    }
}
