//! Anonymous memory twice as large as there is memory, written in order, so that half of it goes to swap: a file, through the anon plugin; beside
//! plain system calls that write as many bytes.
//!
//! `cargo bench -p quire-linux --bench swap`; `QUIRE_BENCH_DIR` names a folder on the device to measure (default: the one for
//! temporary files), `QUIRE_BENCH_MIB` the memory there is (64), `QUIRE_BENCH_ROUNDS` the rounds (7). What is measured is the second half:
//! every page that is stored there needs one that goes. It prints MiB a second, the median and from the slowest to the fastest, and
//! beside them how many operations it took.

#[path = "../../../pagers/loader/benches/ways/mod.rs"]
mod ways;

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quire_bridge::Open;
use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::object::Opening;
use quire_core::pagedaemon::EngineOptions;
use quire_core::soft::SoftConfig;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_loader::Loaded;
use quire_tests::{Mode, Rig, built, page_at};
use ways::{MIB, Way, compare, number, timed};

fn main() {
    // Only `cargo bench` says so; a run of all test targets is not to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::var_os("QUIRE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let mib = number("QUIRE_BENCH_MIB", 64);
    let rounds = number("QUIRE_BENCH_ROUNDS", 7);
    let anon = Loaded::load(&built::plugin("anon"), None, Box::new(|_, _, _| {})).expect("the plugin loads");
    let modes = Mode::all();
    let linux = |serve| {
        let mode = Mode::linux(serve);
        modes.contains(&mode).then_some(mode)
    };
    let soft = Some(Mode::from(SoftConfig::default()));
    let ours = [
        ("soft machine", soft, false),
        ("soft machine, a daemon's thread", soft, true),
        ("Linux machine, in-thread", linux(Serve::InThread), false),
        ("Linux machine, threads", linux(Serve::Threads), true),
    ];
    ways::heading(mib);
    let counted = RefCell::new(Vec::new());
    let path = folder.path().join("plain");
    let mut all = vec![plain(&path, mib, false), plain(&path, mib, true)];
    for (name, mode, daemon_thread) in ours {
        let Some(mode) = mode else { continue };
        let (path, counted, anon) = (folder.path().join("swap"), &counted, &anon);
        all.push(Way::new(name, move || {
            let (took, puts, pages) = overcommit(anon, &path, mode, mib, daemon_thread);
            counted.borrow_mut().push((name, puts, pages));
            took
        }));
    }
    compare(mib, rounds, all);
    for (name, ..) in ours {
        let counted = counted.borrow();
        let of_it: Vec<_> = counted.iter().filter(|(counted, ..)| *counted == name).collect();
        let (puts, pages) = of_it
            .iter()
            .fold((0, 0), |(puts, pages), (_, more, also)| (puts + more, pages + also));
        if puts > 0 {
            let rounds = of_it.len() as u64;
            println!(
                "    {name}: {} pages in {} puts a round, {} a put",
                pages / rounds,
                puts / rounds,
                pages / puts
            );
        }
    }
    Loaded::unload_when_unused(anon).expect("unloads");
}

/// As many bytes to a file that has none yet, in pieces of 1 MiB, each filled before: always the same one, or one after the other of
/// memory that the kernel fills with zeros when it is touched.
fn plain<'a>(path: &Path, mib: usize, is_fresh: bool) -> Way<'a> {
    let file = File::create(path).expect("a file");
    let name = if is_fresh { "fresh memory" } else { "the same memory" };
    Way::new(format!("pwrite of 1 MiB pieces from {name}"), move || {
        file.set_len(0).expect("is emptied");
        file.set_len((mib * MIB) as u64).expect("is made longer");
        let mut memory = vec![0; if is_fresh { mib * MIB } else { MIB }];
        timed(|| {
            for i in 0..mib {
                let at = if is_fresh { i * MIB } else { 0 };
                let piece = &mut memory[at..at + MIB];
                piece
                    .chunks_exact_mut(PAGE_BYTES)
                    .enumerate()
                    .for_each(|(page, bytes)| fill(bytes, i * MIB / PAGE_BYTES + page));
                file.write_all_at(piece, (i * MIB) as u64).expect("is written");
            }
        })
    })
}

/// What a page holds: not one word again and again, which the plugin would keep in memory.
fn fill(bytes: &mut [u8], page: usize) {
    bytes.fill(0x51);
    bytes[..8].copy_from_slice(&page.to_le_bytes());
}

/// Writes twice as many pages as there are, and says how long the second half took, and what it wrote to swap.
fn overcommit(anon: &Arc<Loaded>, path: &Path, mode: Mode, mib: usize, daemon_thread: bool) -> (Duration, u64, u64) {
    let pages = mib * MIB / PAGE_BYTES;
    let options = EngineOptions {
        daemon_thread,
        ..EngineOptions::default()
    };
    let rig = Rig::with_options(mode.with_frames(pages as u64, 16), &options);
    let name = format!("{},size={}", path.display(), 2 * mib * MIB);
    let name = CString::new(name).expect("no zero in it");
    let open = Open {
        name: Some(&name),
        write: true,
        ..Open::default()
    };
    let opened = anon.open(&open).expect("opens");
    let opening = Opening {
        pager: opened.pager,
        source: 1,
        identity: opened.identity,
        size: opened.size,
        change: opened.change,
    };
    rig.engine.add_swap(opening, 0).expect("an area");
    let request = MapRequest::read_write((2 * mib * MIB) as u64);
    let va = rig.map.map_anonymous(&request).expect("room").start;
    let mut bytes = vec![0; PAGE_BYTES];
    let mut store = |page: usize| {
        fill(&mut bytes, page);
        store(&rig, page_at(va, page as u64), &bytes);
    };
    (0..pages).for_each(&mut store);
    let before = rig.engine.swap_counts();
    let took = timed(|| (pages..2 * pages).for_each(&mut store));
    let after = rig.engine.swap_counts();
    rig.assert_nothing_left();
    (took, after.puts - before.puts, after.pages_out - before.pages_out)
}

/// Stores a page: through its pointer, where there are any.
fn store(rig: &Rig, va: VirtAddr, bytes: &[u8]) {
    debug_assert_eq!(bytes.len() as u64, PAGE_SIZE);
    if rig.mode.is_linux() {
        let to: *mut u8 = std::ptr::with_exposed_provenance_mut(usize::try_from(va.0).expect("an address"));
        // SAFETY: the page is mapped to be written, by nobody else, and `bytes` is as long.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), PAGE_BYTES) };
    } else {
        rig.map.store(va, bytes).expect("stores");
    }
}
