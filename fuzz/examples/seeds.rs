//! Writes the inputs that the targets begin with, made of real logs: `seeds CORPUS`.

use std::path::PathBuf;
use std::{env, fs, io};

use mapwal_fuzz::format::{FIRST_FRAME, index_of};
use mapwal_fuzz::real::LOGS;
use mapwal_fuzz::segment::{FRAMES, FRAMES_OF_A_LATER_ONE, MENDED_FRAMES, WHOLE_FILE};

fn main() -> io::Result<()> {
    let corpus = PathBuf::from(env::args().nth(1).expect("seeds CORPUS"));
    segments(&corpus.join("segment"))?;
    choices(&corpus.join("directory"), 1)?;
    choices(&corpus.join("operations"), 0)
}

/// The first two segments of each log, as far as they are written: such as they are, and with
/// checks that follow what is changed.
fn segments(corpus: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(corpus)?;
    for (i, log) in LOGS.iter().enumerate() {
        for (name, file) in log.iter().take(2) {
            let end = file.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if end <= FIRST_FRAME || end > 2 * FIRST_FRAME {
                continue;
            }
            let hows: &[u8] = match index_of(name) {
                Some(1) => &[FRAMES, MENDED_FRAMES],
                Some(2) => &[FRAMES_OF_A_LATER_ONE],
                _ => continue, // its checks are right nowhere else
            };
            for how in hows {
                let input = [&[*how], &file[FIRST_FRAME..end]].concat();
                fs::write(corpus.join(format!("log-{i}-{}-{how}", &name[15..16])), input)?;
            }
        }
    }
    fs::write(
        corpus.join("header"),
        [&[WHOLE_FILE], &LOGS[0].values().next().unwrap()[..4200]].concat(),
    )
}

/// Inputs that choose each log, or nothing, and then say the same again and again.
fn choices(corpus: &PathBuf, chosen: usize) -> io::Result<()> {
    fs::create_dir_all(corpus)?;
    for log in 0..LOGS.len() {
        let said: Vec<u8> = (0..96u8).map(|i| i.wrapping_mul(37) ^ log as u8).collect();
        let input = [&vec![log as u8; chosen][..], &said].concat();
        fs::write(corpus.join(format!("log-{log}")), input)?;
    }
    Ok(())
}
