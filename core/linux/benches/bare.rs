//! What the mechanism itself costs here: faults through userfaultfd with a bounded cache, in both modes, and plain `mmap`.
//!
//! Every round runs everything once, in turns; figures are medians of the rounds, with their range. `--full`: on a file of
//! 1 GiB instead of 256 MiB. `--rounds N`: other than five. `--only TEXT`: the workloads whose line has it.

#[path = "bare/mod.rs"]
mod bare;

use std::fs::File;
use std::time::Duration;

use bare::workload::{Extent, Order, Workload};
use bare::{Measured, Mode, PAGE, bare, cached_file, mapped};
use quire_linux::support::Support;
use rustix::mm::Advice;

/// Who serves the memory.
#[derive(Clone, Copy, Debug)]
enum Server {
    Bare(Mode),
    Mapped(Advice),
}

const SERVERS: [(&str, Server); 4] = [
    ("bare, in-thread", Server::Bare(Mode::InThread)),
    ("bare, handler thread", Server::Bare(Mode::HandlerThread)),
    ("mmap", Server::Mapped(Advice::Normal)),
    ("mmap, MADV_RANDOM", Server::Mapped(Advice::Random)),
];

/// Faults without eviction: every page once. The second, by runs.
const FAULTS: [(Order, usize); 2] = [(Order::Random, 1), (Order::Sequential, 64)];
/// With a budget of a quarter.
const STEADY: [(Order, usize); 3] = [(Order::Random, 1), (Order::Sequential, 1), (Order::Sequential, 64)];

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
    let wanted = |workloads: Vec<Workload>| {
        workloads
            .into_iter()
            .filter(|workload| name(workload).contains(only))
            .collect::<Vec<_>>()
    };

    println!("{mebibytes} MiB in the page cache; medians of {rounds} interleaved rounds [range]");
    table(
        "every page once, no limit",
        &wanted(once()),
        &file,
        pages * PAGE * 2,
        rounds,
    );
    table(
        "a limit of a quarter (mmap: none)",
        &wanted(steady()),
        &file,
        pages * PAGE / 4,
        rounds,
    );
}

fn once() -> Vec<Workload> {
    workloads(&FAULTS, Extent::Once)
        .into_iter()
        .filter(|workload| workload.threads == 1)
        .collect()
}

fn steady() -> Vec<Workload> {
    workloads(&STEADY, Extent::For(Duration::from_millis(300)))
}

fn workloads(orders: &[(Order, usize)], extent: Extent) -> Vec<Workload> {
    let mut all = Vec::new();
    for &(order, run) in orders {
        for write in [false, true] {
            for threads in [1, 2] {
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
fn table(title: &str, workloads: &[Workload], file: &File, budget: usize, rounds: usize) {
    let mut measured = vec![Vec::new(); workloads.len() * SERVERS.len()];
    for _ in 0..rounds {
        for (row, workload) in workloads.iter().enumerate() {
            for (column, (_, server)) in SERVERS.iter().enumerate() {
                measured[row * SERVERS.len() + column].push(match server {
                    Server::Bare(mode) => bare(*mode, workload, file, budget),
                    Server::Mapped(advice) => mapped(*advice, workload, file),
                });
            }
        }
    }
    println!("\n{title}");
    println!(
        "{:<34} {:<21} {:>26} {:>26} {:>26} {:>9} {:>9}",
        "", "", "thousand accesses a second", "ns a fault", "processor ns a fault", "faults", "evictions"
    );
    for (workload, rounds) in workloads.iter().zip(measured.chunks(SERVERS.len())) {
        for ((server, _), runs) in SERVERS.iter().zip(rounds) {
            line(&name(workload), server, runs);
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

fn line(workload: &str, server: &str, runs: &[Measured]) {
    let spread = |value: &dyn Fn(&Measured) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        format!("{:.0} [{least:.0}-{most:.0}]", values[values.len() / 2])
    };
    let count = |value: &dyn Fn(&Measured) -> u64| {
        let mut values: Vec<u64> = runs.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let faults = count(&|run| run.faults);
    let per_fault = |value: &dyn Fn(&Measured) -> f64| if faults == 0 { "-".to_owned() } else { spread(value) };
    println!(
        "{workload:<34} {server:<21} {:>26} {:>26} {:>26} {:>9} {:>9}",
        spread(&|run| run.accesses_per_second() / 1000.0),
        per_fault(&Measured::ns_per_fault),
        per_fault(&Measured::processor_ns_per_fault),
        faults,
        count(&|run| run.evictions),
    );
}
