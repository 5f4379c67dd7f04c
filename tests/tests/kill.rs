//! A C program that is killed in the middle of write-back, again and again: what a durable flush had confirmed is in the file.

mod c_support;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use c_support::{folder, libraries, link};

const KILLS: u64 = 40;
/// Room for records: 256 pages.
const PLACES: u64 = 65536;
const RECORD: usize = 16;

/// Lets the program work on `file` from record `first` on, kills it, and answers with the last number that it confirmed.
fn killed(program: &Path, file: &Path, first: u64, confirmations: u64, then: Duration) -> u64 {
    let mut child = Command::new(program)
        .arg(file)
        .arg(first.to_string())
        .env("QUIRE_PAGER_PATH", libraries())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut word = [0; 8];
    let mut confirmed = first;
    for _ in 0..confirmations {
        pipe.read_exact(&mut word)
            .expect("the program works until it is killed");
        confirmed = u64::from_le_bytes(word);
    }
    let moment = Instant::now() + then;
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    child.kill().expect("it has not ended by itself");
    child.wait().expect("it ends");
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).expect("what it said before");
    if let Some(last) = rest.chunks_exact(8).last() {
        confirmed = u64::from_le_bytes(last.try_into().expect("eight bytes"));
    }
    confirmed
}

fn place(n: u64) -> usize {
    usize::try_from(n * 7919 % PLACES).expect("a place")
}

/// Every record in the file is whole, and none is older than the last confirmed one of its place.
fn check(file: &Path, confirmed: &[u64]) {
    let bytes = fs::read(file).expect("the file");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    for (i, &least) in confirmed.iter().enumerate() {
        let (n, sum) = (word(i * RECORD), word(i * RECORD + 8));
        assert!(n >= least, "record {least} was confirmed, and place {i} holds {n}");
        if n != 0 {
            assert_eq!(sum, (!n).wrapping_mul(0x9e37_79b9_7f4a_7c15), "record {n} is torn");
            assert_eq!(place(n), i, "record {n} is in the wrong place");
        }
    }
}

#[test]
fn what_a_durable_flush_confirmed_is_in_the_file_after_kill_9() {
    let folder = folder("kill");
    let (program, file) = (folder.join("kill"), folder.join("file"));
    link("c99", "tests/c/kill.c", &program);
    let records = usize::try_from(PLACES).expect("a count");
    fs::write(&file, vec![0; records * RECORD]).expect("a file");
    let mut confirmed = vec![0; records];
    let mut total = 0;
    let mut first = 1;
    let mut dice = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    eprintln!("dice start at {dice:#x}");
    for _ in 0..KILLS {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let moment = Duration::from_micros(dice >> 33 & 0x1fff);
        let last = killed(&program, &file, first, 1 + (dice >> 61), moment);
        (first..=last).for_each(|n| confirmed[place(n)] = n);
        check(&file, &confirmed);
        total += last + 1 - first;
        // Whatever it had written beyond that is older than what comes next.
        first = (last / PLACES + 2) * PLACES + 1;
    }
    eprintln!("{KILLS} kills, {total} records confirmed");
}
