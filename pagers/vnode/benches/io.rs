//! Gets and puts through the three engines, one at a time and sixteen at a time, past the page cache and through it.
//!
//! `cargo bench -p quire-pager-vnode`; `QUIRE_BENCH_DIR` names a folder on the device to measure (default: the one for
//! temporary files), `QUIRE_BENCH_MIB` the size of the file. It prints a table: requests a second, MiB a second, and
//! the microseconds that one took, median and 99th of a hundred. The requests are those that an engine makes, through the
//! pager's table; their pages are copied once more by the test host.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, Instant};

use quire_pager::testing::{PAGE_SIZE, Started, TestHost, TestObject};

/// What one measurement does.
struct Case {
    name: &'static str,
    direct: bool,
    random: bool,
    write: bool,
    /// Pages a request.
    run: u64,
}

const CASES: [Case; 6] = [
    Case {
        name: "O_DIRECT random 4 KiB",
        direct: true,
        random: true,
        write: false,
        run: 1,
    },
    Case {
        name: "O_DIRECT sequential 64 KiB",
        direct: true,
        random: false,
        write: false,
        run: 16,
    },
    Case {
        name: "O_DIRECT sequential 1 MiB",
        direct: true,
        random: false,
        write: false,
        run: 256,
    },
    Case {
        name: "cached random 4 KiB",
        direct: false,
        random: true,
        write: false,
        run: 1,
    },
    Case {
        name: "cached sequential put 1 MiB",
        direct: false,
        random: false,
        write: true,
        run: 256,
    },
    Case {
        name: "O_DIRECT random put 4 KiB",
        direct: true,
        random: true,
        write: true,
        run: 1,
    },
];
const DEPTHS: [usize; 2] = [1, 16];
const ENGINES: [&str; 3] = ["uring", "threads", "sync"];
const LENGTH: Duration = Duration::from_secs(1);

fn main() {
    // Only `cargo bench` says so; a run of all test targets is not to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::var_os("QUIRE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let mib = std::env::var("QUIRE_BENCH_MIB").ok().and_then(|text| text.parse().ok());
    let mib = mib.unwrap_or(256_u64);
    let mut file = tempfile::NamedTempFile::new_in(folder).expect("a file to read");
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
    (0..mib).for_each(|_| file.write_all(&piece).expect("is written"));
    file.as_file().sync_all().expect("is written");
    let path = file.path().to_str().expect("a path in UTF-8");

    println!(
        "{:<28}{:<10}{:>6}{:>12}{:>10}{:>10}{:>10}",
        "", "engine", "depth", "requests/s", "MiB/s", "p50 us", "p99 us"
    );
    // A word after `--` chooses the cases that have it in their names; numbers there are for other benches.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| argument.starts_with(char::is_alphabetic))
        .unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&wanted)) {
        for depth in DEPTHS {
            for engine in ENGINES {
                measure(case, engine, depth, path, mib * 256);
            }
        }
    }
}

fn measure(case: &Case, engine: &str, depth: usize, path: &str, pages: u64) {
    let config = format!("io={engine},direct={}", u8::from(case.direct));
    let host = match TestHost::load(quire_pager_vnode::module(), Some(&config)) {
        Ok(host) => host,
        Err(failure) => return println!("{:<28}{engine:<10}{failure}", case.name),
    };
    let object = host.open(path).expect("opens");
    let mut places = Places {
        case,
        pages,
        state: 88_172_645_463_325_252,
    };
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut under_way: VecDeque<(Instant, Started<'_>)> = VecDeque::new();
    while begin.elapsed() < LENGTH {
        while under_way.len() < depth {
            under_way.push_back((Instant::now(), start(&object, places.next(), case)));
        }
        times.extend(under_way.pop_front().map(finish));
    }
    times.extend(under_way.into_iter().map(finish));
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let micros = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = times.len() as f64 / seconds;
    #[allow(clippy::cast_precision_loss, reason = "as above")]
    let mib = rate * case.run as f64 / 256.0;
    println!(
        "{:<28}{engine:<10}{depth:>6}{rate:>12.0}{mib:>10.0}{:>10.1}{:>10.1}",
        case.name,
        micros(50),
        micros(99)
    );
}

fn start<'a>(object: &'a TestObject<'_>, first: u64, case: &Case) -> Started<'a> {
    let count = usize::try_from(case.run).expect("a short run");
    let transfer = object.transfer(first, vec![vec![0; PAGE_SIZE]; count]);
    if case.write {
        object.start_put(transfer)
    } else {
        object.start_get(transfer)
    }
}

fn finish((begun, request): (Instant, Started<'_>)) -> Duration {
    let answer = request.wait();
    let took = begun.elapsed();
    assert_eq!(answer.status, 0, "{}", answer.text);
    took
}

/// Where to read next.
struct Places<'a> {
    case: &'a Case,
    pages: u64,
    state: u64,
}

impl Places<'_> {
    fn next(&mut self) -> u64 {
        if self.case.random {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.state % self.pages
        } else {
            let at = self.state % self.pages / self.case.run * self.case.run;
            self.state = at + self.case.run;
            at
        }
    }
}
