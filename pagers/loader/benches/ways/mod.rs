//! Several ways to move the same bytes, each in its turn, so that what else the machine does meets all alike.

#![allow(dead_code, unreachable_pub, reason = "a module of benches, which use what they need")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::time::{Duration, Instant};

/// Bytes of one.
pub const MIB: usize = 1 << 20;

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The line above what [`compare`] prints.
pub fn heading(mib: usize) {
    println!("{:<58}{:>8}{:>16}   of {mib} MiB", "MiB/s", "median", "range");
}

/// One way of doing it, and how long each of its turns took.
pub struct Way<'a> {
    name: String,
    run: Box<dyn FnMut() -> Duration + 'a>,
    took: Vec<Duration>,
}

impl<'a> Way<'a> {
    /// A way with its name.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Duration + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            took: Vec::new(),
        }
    }
}

/// Lets every way take its turn, once without counting and then `rounds` times, and prints them beside the first.
pub fn compare(mib: usize, rounds: usize, mut ways: Vec<Way<'_>>) {
    for round in 0..=rounds {
        for way in &mut ways {
            let took = (way.run)();
            if round > 0 {
                way.took.push(took);
            }
        }
    }
    let mut first = None;
    for way in &mut ways {
        way.took.sort_unstable();
        let rate = |took: Duration| mib as f64 / took.as_secs_f64();
        let median = rate(way.took[rounds / 2]);
        let range = format!("{:.0}-{:.0}", rate(way.took[rounds - 1]), rate(way.took[0]));
        let first = *first.get_or_insert(median);
        println!("{:<58}{median:>8.0}{range:>16}   {:.2}", way.name, median / first);
    }
}

/// How long it takes.
pub fn timed(act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    begin.elapsed()
}
