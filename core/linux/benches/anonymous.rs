//! Anonymous memory through real pointers: what the first write to a page costs, and the first one to a page that was copied; beside the kernel's own
//! memory.
//!
//! `cargo bench -p quire-linux --bench anonymous`; `QUIRE_BENCH_ROUNDS` is the number of rounds (7). In every round each has its turn.
//! Figures are nanoseconds a page, the median and from the fastest to the slowest.

#[path = "../../../pagers/loader/benches/ways/mod.rs"]
mod ways;

use std::os::fd::AsFd as _;
use std::time::Duration;

use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::types::{Advice, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_linux::support::Support;
use quire_tests::{Mode, Rig};
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use ways::{number, timed};

/// 32 MiB.
const PAGES: usize = 8192;
const LEN: usize = PAGES * PAGE_BYTES;

/// Who has the memory.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Engine(Serve),
    Kernel,
}

const ALL: [(&str, Whose); 3] = [
    ("engine, in-thread", Whose::Engine(Serve::InThread)),
    ("engine, threads", Whose::Engine(Serve::Threads)),
    ("mmap", Whose::Kernel),
];

/// What a round took, for all pages.
struct Round {
    zero_fill: Duration,
    copy: Duration,
}

fn main() {
    // Only `cargo bench` says so; a run of all test targets is not to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Err(why) = Support::probe() {
        println!("nothing is measured: {why}");
        return;
    }
    let rounds = number("QUIRE_BENCH_ROUNDS", 7);
    let mut measured: [Vec<Round>; ALL.len()] = Default::default();
    for round in 0..=rounds {
        for ((_, whose), measured) in ALL.iter().zip(&mut measured) {
            let took = match whose {
                Whose::Engine(serve) => engine(*serve),
                Whose::Kernel => kernel(),
            };
            if round > 0 {
                measured.push(took);
            }
        }
    }
    println!("{:<24}{:>28}{:>28}", "ns a page", "zero-fill", "copy");
    for ((name, _), measured) in ALL.iter().zip(&measured) {
        let zero_fill = figure(measured.iter().map(|round| round.zero_fill));
        let copy = figure(measured.iter().map(|round| round.copy));
        println!("{name:<24}{zero_fill:>28}{copy:>28}");
    }
}

fn figure(took: impl Iterator<Item = Duration>) -> String {
    let mut all: Vec<_> = took.map(|took| took.as_nanos() / PAGES as u128).collect();
    all.sort_unstable();
    format!("{} [{}-{}]", all[all.len() / 2], all[0], all[all.len() - 1])
}

/// Writes to each page, one after the other.
fn write(at: usize) -> Duration {
    timed(|| {
        for page in 0..PAGES {
            let word = std::ptr::with_exposed_provenance_mut::<u64>(at + page * PAGE_BYTES);
            // SAFETY: `LEN` bytes from `at` are mapped to be written, by nobody else.
            unsafe { word.write_volatile(page as u64 + 2) };
        }
    })
}

/// Fills memory of a map's own, copies it to other addresses, and writes to the copy.
fn engine(serve: Serve) -> Round {
    let mode = Mode::linux(serve).with_frames(3 * PAGES as u64, 16);
    let rig = Rig::new(mode);
    let request = MapRequest {
        advice: Advice::Random,
        ..MapRequest::read_write(LEN as u64)
    };
    let at = |va: VirtAddr| usize::try_from(va.0).expect("an address");
    let va = rig.map.map_anonymous(&request).expect("room").start;
    let zero_fill = write(at(va));
    let copied = rig.map.copied(va, PAGES as u64 * PAGE_SIZE).expect("a copy");
    let copy = write(at(copied));
    let counts = rig.engine.stats().counts();
    // A thread that serves counts a fault after it has let the faulting one go on.
    let all = PAGES as u64 - 1..=PAGES as u64;
    assert!(
        all.contains(&counts.faults_2b) && all.contains(&counts.faults_1b),
        "{counts:?}"
    );
    rig.assert_nothing_left();
    Round { zero_fill, copy }
}

/// Private memory, and a private mapping of a file in memory.
fn kernel() -> Round {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let file = rustix::fs::memfd_create("quire-bench", MemfdFlags::CLOEXEC).expect("a file in memory");
    rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&file, LEN as u64)).expect("it is made longer");
    let page = [1; PAGE_BYTES];
    for i in 0..PAGES {
        rustix::io::pwrite(&file, &page, (i * PAGE_BYTES) as u64).expect("is written");
    }
    // SAFETY: new mappings, unmapped below; huge pages are turned off, as the engine has none.
    unsafe {
        let fresh = rustix::mm::mmap_anonymous(std::ptr::null_mut(), LEN, prot, MapFlags::PRIVATE).expect("memory");
        rustix::mm::madvise(fresh, LEN, rustix::mm::Advice::LinuxNoHugepage).expect("the advice is taken");
        let zero_fill = write(fresh.expose_provenance());
        rustix::mm::munmap(fresh, LEN).expect("it is unmapped");
        let file = file.as_fd();
        let copied = rustix::mm::mmap(std::ptr::null_mut(), LEN, prot, MapFlags::PRIVATE, file, 0).expect("mapped");
        let copy = write(copied.expose_provenance());
        rustix::mm::munmap(copied, LEN).expect("it is unmapped");
        Round { zero_fill, copy }
    }
}
