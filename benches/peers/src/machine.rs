//! On what it was measured, without saying whose machine that is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure;

/// Lines for the report: what, and which.
pub fn describe(dir: &Path) -> Vec<(&'static str, String)> {
    let memory_kib = field("/proc/meminfo", "MemTotal").replace(" kB", "");
    let memory_gib = memory_kib.parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("date", answer("date", &["-u", "+%F"])),
        ("mapwal", answer("git", &["describe", "--always", "--dirty", "--abbrev=12"])),
        ("Rust", answer("rustc", &["--version"])),
        ("CPU", field("/proc/cpuinfo", "model name")),
        ("cores", cores.to_string()),
        ("memory", format!("{memory_gib:.0} GiB")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("file system", file_system(dir)),
        ("device's write cache", write_cache(dir)),
        ("frequency governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    ]
}

/// The version of a package in this package's lock file.
pub fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"')).map_or("?", |(v, _)| v)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or("not told".into(), |text| text.trim().into())
}

/// What stands behind `name` and a colon.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("not told".into(), |(_, v)| v.trim().into())
}

/// What a program prints, in this package's directory.
fn answer(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let told = output.ok().filter(|output| output.status.success());
    told.map_or("not told".into(), |out| String::from_utf8_lossy(&out.stdout).trim().into())
}

/// Its type and how it is mounted.
fn file_system(dir: &Path) -> String {
    // as in proc(5): id parent major:minor root mount-point options [...] - type source options
    let device = measure::device(dir);
    let mounts = read("/proc/self/mountinfo");
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device.as_str()));
    let told = mount.and_then(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (kind, _) = right.split_once(' ')?;
        Some(format!("{kind} ({})", left.split(' ').nth(5)?))
    });
    told.unwrap_or("not told".into())
}

fn write_cache(dir: &Path) -> String {
    // a partition has its disk's queue
    let device = format!("/sys/dev/block/{}", measure::device(dir));
    ["queue", "../queue"]
        .iter()
        .find_map(|queue| fs::read_to_string(format!("{device}/{queue}/write_cache")).ok())
        .map_or("not told".into(), |text| text.trim().into())
}
