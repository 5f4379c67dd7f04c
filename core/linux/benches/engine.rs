//! The engine on real memory beside the bare mechanism and plain `mmap`: a file in the page cache through the vnode plugin, every page once
//! without a limit, with a limit of a quarter, and in memory already.
//!
//! Every round runs everything once, in turns; figures are medians of the rounds, with their range. `--full`: on a file of
//! 1 GiB instead of 256 MiB. `--rounds N`: other than five. `--only TEXT`: the workloads whose line has it. `--server
//! TEXT`: likewise.

#[path = "bare/mod.rs"]
mod bare;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use bare::workload::{Extent, Memory, Order, Workload, drive};
use bare::{Counters, Measured, Mode, PAGE, bare, cached_file, mapped, of_the_kernel, warm_up};
use quire_bridge::Open;
use quire_core::engine::Engine;
use quire_core::machine::Serve;
use quire_core::map::{Map, MapRequest};
use quire_core::types::{AddrRange, Advice, VirtAddr};
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine, Server};
use quire_loader::Loaded;

/// Who serves the memory.
#[derive(Clone, Copy, Debug)]
enum Served {
    Bare(Mode),
    Engine(Serve),
    Mapped,
}

const SERVERS: [(&str, Served); 5] = [
    ("bare, in-thread", Served::Bare(Mode::InThread)),
    ("engine, in-thread", Served::Engine(Serve::InThread)),
    ("bare, handler thread", Served::Bare(Mode::HandlerThread)),
    ("engine, threads", Served::Engine(Serve::Threads)),
    ("mmap", Served::Mapped),
];

fn main() {
    if let Err(why) = Support::probe() {
        println!("nothing is measured: {why}");
        return;
    }
    let args: Vec<String> = std::env::args().collect();
    let given = |name: &str| args.iter().position(|arg| arg == name);
    let rounds = given("--rounds")
        .map_or(5, |at| args[at + 1].parse().expect("--rounds takes a number"))
        .max(1);
    let mebibytes = if given("--full").is_some() { 1024 } else { 256 };
    let pages = (mebibytes << 20) / PAGE;
    let file = cached_file(pages);
    let only = given("--only").map_or("", |at| &args[at + 1]);
    let server = given("--server").map_or("", |at| &args[at + 1]);
    println!("{mebibytes} MiB in the page cache; medians of {rounds} interleaved rounds [range]");
    println!("the ratio is that of accesses a second to the line above it");
    table(
        "every page once, no limit",
        &once(),
        (only, server),
        &file,
        pages * PAGE * 2,
        rounds,
    );
    table(
        "a limit of a quarter (mmap: none)",
        &steady(),
        (only, server),
        &file,
        pages * PAGE / 4,
        rounds,
    );
    table(
        "hot: everything in memory",
        &hot(),
        (only, server),
        &file,
        pages * PAGE * 2,
        rounds,
    );
}

fn once() -> Vec<Workload> {
    let both = [(Order::Random, 1), (Order::Sequential, 64)];
    workloads(&both, &[1], Extent::Once)
}

fn steady() -> Vec<Workload> {
    let all = [(Order::Random, 1), (Order::Sequential, 64)];
    workloads(&all, &[1, 2], Extent::For(Duration::from_millis(300)))
}

/// Warmed up first, so that hardly a page is missing.
fn hot() -> Vec<Workload> {
    workloads(&[(Order::Random, 1)], &[1], Extent::For(Duration::from_millis(300)))
}

fn workloads(orders: &[(Order, usize)], threads: &[usize], extent: Extent) -> Vec<Workload> {
    let mut all = Vec::new();
    for &(order, run) in orders {
        for write in [false, true] {
            for &threads in threads {
                all.push(Workload {
                    order,
                    write,
                    threads,
                    run,
                    extent,
                });
            }
        }
    }
    all
}

/// Runs each workload on each server, round by round, and prints a line for each.
fn table(title: &str, workloads: &[Workload], only: (&str, &str), file: &File, budget: usize, rounds: usize) {
    let workloads: Vec<&Workload> = workloads
        .iter()
        .filter(|workload| name(workload).contains(only.0))
        .collect();
    let servers: Vec<(&str, Served)> = SERVERS
        .into_iter()
        .filter(|(server, _)| server.contains(only.1))
        .collect();
    let mut measured = vec![Vec::new(); workloads.len() * servers.len()];
    for _ in 0..rounds {
        for (row, workload) in workloads.iter().enumerate() {
            for (column, (_, server)) in servers.iter().enumerate() {
                measured[row * servers.len() + column].push(match server {
                    Served::Bare(mode) => bare(*mode, workload, file, budget),
                    Served::Engine(serve) => engine(*serve, workload, file, budget),
                    Served::Mapped => mapped(rustix::mm::Advice::Normal, workload, file),
                });
            }
        }
    }
    println!("\n{title}");
    println!(
        "{:<34} {:<21} {:>26} {:>6} {:>24} {:>24} {:>9} {:>9}",
        "", "", "thousand accesses a second", "ratio", "ns a fault", "processor ns an access", "faults", "evictions"
    );
    for (workload, rounds) in workloads.iter().zip(measured.chunks(servers.len())) {
        let mut before = 0.0;
        for ((server, _), runs) in servers.iter().zip(rounds) {
            before = line(&name(workload), server, runs, before);
        }
    }
}

fn name(workload: &Workload) -> String {
    let order = match workload.order {
        Order::Sequential => "sequential",
        Order::Random => "random",
    };
    let access = if workload.write { "write" } else { "read" };
    let threads = if workload.threads == 1 { "1 thread" } else { "2 threads" };
    format!("{order} {access}, run {}, {threads}", workload.run)
}

fn median(runs: &[Measured], value: impl Fn(&Measured) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Prints a line, and answers with its accesses a second.
fn line(workload: &str, server: &str, runs: &[Measured], before: f64) -> f64 {
    let (rate, least, most) = median(runs, |run| run.accesses_per_second() / 1000.0);
    let ratio = if before == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.2}", rate / before)
    };
    let (faults, ..) = median(runs, |run| run.faults as f64);
    let (evictions, ..) = median(runs, |run| run.evictions as f64);
    let ns = if faults == 0.0 {
        "-".to_owned()
    } else {
        let (ns, least, most) = median(runs, Measured::ns_per_fault);
        format!("{ns:.0} [{least:.0}-{most:.0}]")
    };
    let (busy, least_busy, most_busy) =
        median(runs, |run| run.processor.as_nanos() as f64 / run.accesses.max(1) as f64);
    let busy = format!("{busy:.0} [{least_busy:.0}-{most_busy:.0}]");
    println!(
        "{workload:<34} {server:<21} {:>26} {ratio:>6} {ns:>24} {busy:>24} {faults:>9} {evictions:>9}",
        format!("{rate:.0} [{least:.0}-{most:.0}]"),
    );
    rate
}

/// Runs `workload` on `file` through the engine with at most `budget` bytes in memory.
fn engine(serve: Serve, workload: &Workload, file: &File, budget: usize) -> Measured {
    let machine = LinuxMachine::new(
        Support::probe().unwrap(),
        LinuxConfig {
            memory: budget as u64,
            ..LinuxConfig::default()
        },
    )
    .expect("a machine");
    let engine = Engine::new(machine);
    let bounds = AddrRange {
        start: VirtAddr(0x10000),
        end: VirtAddr(1 << 47),
    };
    let map = Arc::new(Map::new(engine.clone(), bounds).expect("a map"));
    let server = Server::start(map.clone()).expect("a server");
    let vnode =
        Loaded::load(&quire_tests::built::plugin("vnode"), None, Box::new(|_, _, _| {})).expect("the plugin loads");
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zero in it");
    let opened = vnode
        .open(&Open {
            name: Some(&path),
            write: true,
            ..Open::default()
        })
        .expect("the file opens");
    let object = engine.create_object(opened.pager, opened.size).expect("an object");
    let len = file.metadata().expect("the file is there").len();
    let request = MapRequest {
        serve,
        advice: if workload.run == 1 {
            Advice::Random
        } else {
            Advice::Sequential
        },
        ..MapRequest::read_write(len)
    };
    let at = map.map(&object, &request).expect("a mapping").start;
    #[allow(clippy::cast_possible_truncation, reason = "an address and a length of this process")]
    let memory = Memory::new(
        std::ptr::with_exposed_provenance_mut(at.0 as usize),
        len as usize / PAGE,
    );
    if let Extent::For(_) = workload.extent {
        drive(&warm_up(workload, budget), memory);
    }
    let before = counters(&engine);
    let driven = drive(workload, memory);
    let measured = Measured::between(driven, before, counters(&engine));
    map.clear().expect("everything is written");
    server.stop(Duration::from_secs(10)).expect("nothing waits");
    object.release().expect("everything is written");
    engine.shut_down().expect("nothing is left");
    measured
}

fn counters(engine: &Engine) -> Counters {
    let counts = engine.stats().counts();
    Counters {
        faults: counts.faults,
        evictions: counts.pages_reclaimed,
        ..of_the_kernel()
    }
}
