//! Whole files through the engine and the vnode plugin, beside the same bytes by plain system calls.
//!
//! `cargo bench -p quire-loader --bench files`; `QUIRE_BENCH_DIR` names a folder on the device to measure (default: the one
//! for temporary files), `QUIRE_BENCH_MIB` the size of the file (64), `QUIRE_BENCH_ROUNDS` the rounds (7),
//! `QUIRE_BENCH_IO` the plugin's engine (auto). In every round each
//! way has its turn, so that what else the machine does meets all alike. It prints MiB a second, the median and from the
//! slowest to the fastest, and counts operations beside them.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../../../tests/src/built.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a module of the tests, of which a part is used"
)]
mod built;
mod ways;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quire_bridge::Open;
use quire_core::engine::Engine;
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::pagedaemon::EngineOptions;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::stats::Counts;
use quire_core::types::{AddrRange, Advice, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_loader::Loaded;
use ways::{MIB, Way, compare, number, timed};

fn main() {
    // Only `cargo bench` says so; a run of all test targets is not to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::var_os("QUIRE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let files = [folder.path().join("ours"), folder.path().join("plain")];
    let mib = number("QUIRE_BENCH_MIB", 64);
    let rounds = number("QUIRE_BENCH_ROUNDS", 7);
    for path in &files {
        let mut file = File::create(path).expect("a file");
        let piece: Vec<u8> = (0..1 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
        (0..mib).for_each(|_| file.write_all(&piece).expect("is written"));
        file.sync_all().expect("is written");
    }
    ways::heading(mib);
    // A word after `--` chooses a part; whatever else is there is for other benches.
    let part = std::env::args().find(|argument| ["flush", "scan", "pressure"].contains(&argument.as_str()));
    let wanted = |name: &str| part.as_ref().is_none_or(|part| part == name);
    for (direct, durable) in [(false, false), (false, true), (true, false)]
        .into_iter()
        .filter(|_| wanted("flush"))
    {
        flushes(&files, mib, rounds, direct, durable);
    }
    for direct in [false, true].into_iter().filter(|_| wanted("scan")) {
        scans(&files[0], mib, rounds, direct);
    }
    if wanted("pressure") {
        pressure(&files[0], mib);
    }
}

/// A file, mapped through the plugin.
struct Mapped {
    engine: Arc<Engine>,
    map: Map,
    object: ObjectRef,
    va: VirtAddr,
    plugin: Arc<Loaded>,
}

impl Mapped {
    fn new(path: &Path, mib: usize, frames: u64, direct: bool, daemon_thread: bool) -> Self {
        let io = std::env::var("QUIRE_BENCH_IO").unwrap_or_else(|_| "auto".to_owned());
        let config = CString::new(format!("io={io},direct={}", u8::from(direct))).expect("no zero in it");
        let plugin =
            Loaded::load(&built::plugin("vnode"), Some(&config), Box::new(|_, _, _| {})).expect("the plugin loads");
        let name = CString::new(path.to_str().expect("a path in UTF-8")).expect("no zero in it");
        let opened = plugin
            .open(&Open {
                name: Some(&name),
                write: true,
                ..Open::default()
            })
            .expect("opens");
        let machine = SoftMachine::new(SoftConfig {
            frames,
            ..SoftConfig::default()
        })
        .expect("a machine");
        let options = EngineOptions {
            daemon_thread,
            ..EngineOptions::default()
        };
        let engine = Engine::with_options(machine, &options).expect("an engine");
        let object = engine.create_object(opened.pager, opened.size).expect("memory");
        let everywhere = AddrRange {
            start: VirtAddr(PAGE_SIZE),
            end: SoftMachine::ADDRESS_LIMIT,
        };
        let map = Map::new(engine.clone(), everywhere).expect("memory");
        let request = MapRequest::read_write((mib * MIB) as u64);
        let va = map.map(&object, &request).expect("room").start;
        Self {
            engine,
            map,
            object,
            va,
            plugin,
        }
    }

    /// Frees every page; the next access reads the file.
    fn forget(&self) {
        let all = PageIndex(0)..PageIndex(u64::MAX);
        self.object.object().put(all, PutFlags::FREE).expect("frees");
        assert_eq!(self.object.resident(), 0);
    }

    fn at(&self, offset: usize) -> VirtAddr {
        VirtAddr(self.va.0 + offset as u64)
    }

    fn counts(&self) -> Counts {
        self.engine.stats().counts()
    }

    fn end(self) {
        self.map.clear().expect("unmaps");
        self.object.release().expect("closes");
        self.engine.shut_down().expect("ends");
        drop(self.map);
        drop(self.engine);
        Loaded::unload_when_unused(self.plugin).expect("unloads");
    }
}

/// Bytes, and how many of them to skip for an address that direct I/O takes.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let memory = vec![0x51; len + PAGE_BYTES];
    let skip = memory.as_ptr().align_offset(PAGE_BYTES);
    (memory, skip)
}

fn plain(path: &Path, direct: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path).expect("opens")
}

/// Every page dirty, and one flush of them; against one pwrite a MiB of the same bytes to a file beside it.
fn flushes(files: &[PathBuf; 2], mib: usize, rounds: usize, direct: bool, durable: bool) {
    let ours = Mapped::new(&files[0], mib, (mib * MIB / PAGE_BYTES) as u64 * 2, direct, false);
    let file = plain(&files[1], direct);
    // What is still on its way to the device from the turn before is no part of this one.
    let settle = || {
        files
            .iter()
            .for_each(|path| plain(path, false).sync_data().expect("syncs"))
    };
    let how = match (direct, durable) {
        (true, _) => ", O_DIRECT",
        (false, true) => ", durable",
        (false, false) => "",
    };
    let flags = if durable {
        FlushFlags::DURABLE
    } else {
        FlushFlags::empty()
    };
    // As many bytes as the file has, new in every turn: a piece that is written again and again would stay in the cache.
    let (mut memory, skip) = aligned(mib * MIB);
    let bytes = vec![0xa5; MIB];
    let (mut puts, mut pages) = (0, 0);
    let pwrite = Way::new(format!("pwrite of 1 MiB pieces{how}"), || {
        let memory = &mut memory[skip..skip + mib * MIB];
        memory
            .chunks_exact_mut(MIB)
            .for_each(|piece| piece.copy_from_slice(&bytes));
        settle();
        timed(|| {
            for (i, piece) in memory.chunks_exact(MIB).enumerate() {
                file.write_all_at(piece, (i * MIB) as u64).expect("is written");
            }
            if durable {
                file.sync_data().expect("syncs");
            }
        })
    });
    let flush = Way::new(format!("flush of as many dirty pages{how}"), || {
        (0..mib).for_each(|i| ours.map.store(ours.at(i * MIB), &bytes).expect("stores"));
        settle();
        let before = ours.counts();
        let took = timed(|| ours.object.object().flush_all(flags).expect("flushes"));
        let after = ours.counts();
        (puts, pages) = (after.puts - before.puts, after.pages_out - before.pages_out);
        took
    });
    compare(mib, rounds, vec![pwrite, flush]);
    println!("    {puts} puts of {pages} pages a flush");
    ours.end();
}

/// Drops what the kernel has of a file in its memory.
fn cool(path: &Path) {
    let file = plain(path, false);
    file.sync_data().expect("syncs");
    // SAFETY: the descriptor is open, and the call touches no memory of ours.
    let answer = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(answer, 0);
}

/// Every byte of a cold file, in order; by plain read, with read-ahead, and without.
fn scans(path: &Path, mib: usize, rounds: usize, direct: bool) {
    let ours = Mapped::new(path, mib, (mib * MIB / PAGE_BYTES) as u64 * 2, direct, false);
    let file = plain(path, direct);
    let how = if direct { ", O_DIRECT" } else { "" };
    let (mut memory, skip) = aligned(MIB);
    let buffer = &mut memory[skip..skip + MIB];
    let mut copy = vec![0; MIB];
    let mut counted = Vec::new();
    let read = Way::new(format!("read of 1 MiB pieces{how}"), || {
        cool(path);
        timed(|| (0..mib).for_each(|i| file.read_exact_at(buffer, (i * MIB) as u64).expect("is read")))
    });
    let mut scan = |advice: Advice, loads: bool| {
        ours.map.advise(ours.va, (mib * MIB) as u64, advice).expect("advises");
        ours.forget();
        cool(path);
        let before = ours.counts();
        let took = timed(|| {
            for i in 0..mib {
                let at = ours.at(i * MIB);
                if loads {
                    ours.map.load(at, &mut copy).expect("loads");
                } else {
                    ours.map.copy_out(at, &mut copy).expect("copies");
                }
            }
        });
        let after = ours.counts();
        counted.push((
            format!("{advice:?}, {}", if loads { "loads" } else { "copies" }),
            after.gets - before.gets,
            after.faults - before.faults,
        ));
        took
    };
    let scan = std::cell::RefCell::new(&mut scan);
    let ways = [
        (Advice::Normal, true),
        (Advice::Normal, false),
        (Advice::Sequential, false),
        (Advice::Random, false),
    ];
    let mut all = vec![read];
    for (advice, loads) in ways {
        let scan = &scan;
        let by = if loads { "loads" } else { "copies" };
        all.push(Way::new(
            format!("through the engine, advice {advice:?}, {by}{how}"),
            move || (scan.borrow_mut())(advice, loads),
        ));
    }
    compare(mib, rounds, all);
    for (name, gets, faults) in &counted[counted.len() - ways.len()..] {
        println!("    {name}: {gets} gets, {faults} faults");
    }
    ours.end();
}

/// How long one store takes when a file of `mib` MiB is written at random through an eighth of that memory.
fn pressure(path: &Path, mib: usize) {
    println!(
        "{:<58}{:>8}{:>8}{:>12}",
        "one store, microseconds", "median", "99.9 %", "longest"
    );
    for daemon_thread in [false, true] {
        let ours = Mapped::new(path, mib, (mib * MIB / PAGE_BYTES / 8) as u64, false, daemon_thread);
        let pages = (mib * MIB / PAGE_BYTES) as u64;
        let mut took: Vec<Duration> = thread::scope(|scope| {
            let threads: Vec<_> = (1..3_u64)
                .map(|seed| {
                    let ours = &ours;
                    scope.spawn(move || stores(ours, pages, seed))
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("stores"))
                .collect()
        });
        took.sort_unstable();
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        let by = if daemon_thread {
            "a daemon's thread"
        } else {
            "no thread"
        };
        println!(
            "{:<58}{:>8.1}{:>8.0}{:>12.0}   {} waits for memory, {} puts of {} pages",
            format!("two threads, memory for an eighth, {by}"),
            micros(took[took.len() / 2]),
            micros(took[took.len() * 999 / 1000]),
            micros(took[took.len() - 1]),
            ours.counts().memory_waits,
            ours.counts().puts,
            ours.counts().pages_out,
        );
        ours.end();
    }
}

/// Stores at random places; how long each took.
fn stores(ours: &Mapped, pages: u64, seed: u64) -> Vec<Duration> {
    let mut state = seed;
    let mut took = Vec::new();
    for _ in 0..50_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = VirtAddr(ours.va.0 + (state >> 33) % pages * PAGE_SIZE + seed * 8);
        took.push(timed(|| ours.map.store(at, &state.to_le_bytes()).expect("stores")));
    }
    took
}
