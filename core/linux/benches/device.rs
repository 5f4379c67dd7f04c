//! Reading a device, a word of each page: through `get`, one page a fault; through `populate` with windows of 1, 16, 64 and 512 pages
//! that the driver fills; and the same with frames of the device's own. On the soft machine, and on real memory in both ways to serve.
//!
//! `cargo bench -p quire-linux --bench device`; `QUIRE_BENCH_MIB` is the device's size (1024), `QUIRE_BENCH_ROUNDS` the number of rounds (3). In
//! every round each way has its turn. Figures are medians, and from the fastest to the slowest. The last column is the page's cost beside `get` on that
//! machine.

#[path = "../../../pagers/loader/benches/ways/mod.rs"]
mod ways;

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use quire_core::aperture::{self, ApertureId, DeviceFile, DeviceMemory};
use quire_core::io::Io;
use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::object::Dirty;
use quire_core::pager::{Answer, Pager, PagerOps, Populated};
use quire_core::populate::Populate;
use quire_core::soft::SoftConfig;
use quire_core::types::{CacheMode, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};
use quire_linux::support::Support;
use quire_tests::{Mode, Rig, page_at};
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use ways::{number, timed};

/// How the device's pages come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Get,
    /// Filled, so many at once.
    Filled(u64),
    /// The device's own frames, so many at once.
    Frames(u64),
}

const WAYS: [(&str, Way); 9] = [
    ("get", Way::Get),
    ("populate, 1 page", Way::Filled(1)),
    ("populate, 16 pages", Way::Filled(16)),
    ("populate, 64 pages", Way::Filled(64)),
    ("populate, 512 pages", Way::Filled(512)),
    ("frames, 1 page", Way::Frames(1)),
    ("frames, 16 pages", Way::Frames(16)),
    ("frames, 64 pages", Way::Frames(64)),
    ("frames, 512 pages", Way::Frames(512)),
];

/// A device that is all ones.
#[derive(Debug)]
struct Device {
    way: Way,
    aperture: ApertureId,
}

impl Device {
    fn window(&self, request: &Populate, pages: u64) -> (u64, u64) {
        let plan = request.plan();
        let first = plan.index.0 / pages * pages;
        (first.max(plan.first.0), (first + pages - 1).min(plan.last.0))
    }
}

impl Pager for Device {
    fn describe(&self) -> String {
        "a device".into()
    }

    fn ops(&self) -> PagerOps {
        match self.way {
            Way::Get => PagerOps::empty(),
            Way::Filled(_) | Way::Frames(_) => PagerOps::POPULATE,
        }
    }

    fn max_run(&self) -> u32 {
        1
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for page in 0..io.len() {
            // SAFETY: the request lends a page's bytes.
            unsafe { io.bytes(page).as_ptr().write_bytes(1, PAGE_BYTES) };
            io.page_done(page);
        }
        Answer::Done(Ok(()))
    }

    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let (first, last) = match self.way {
            Way::Get => return Populated::UseGet,
            Way::Filled(pages) => {
                let (first, last) = self.window(request, pages);
                let fill = &mut |bytes: NonNull<u8>| {
                    // SAFETY: the request lends a page's bytes.
                    unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES) };
                };
                request
                    .insert(PageIndex(first), last - first + 1, fill)
                    .expect("memory");
                assert!(request.ready(PageIndex(first), last - first + 1));
                (first, last)
            }
            Way::Frames(pages) => {
                let (first, last) = self.window(request, pages);
                let count = last - first + 1;
                let inserted = request.insert_frames(PageIndex(first), count, self.aperture, first);
                assert_eq!(inserted, Ok(count));
                (first, last)
            }
        };
        Populated::Range(PageIndex(first), PageIndex(last))
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "figures for people"
)]
fn main() {
    // Only `cargo bench` says so; a run of all test targets is not to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let pages = number("QUIRE_BENCH_MIB", 1024) as u64 * 256;
    let rounds = number("QUIRE_BENCH_ROUNDS", 3);
    let mut machines = vec![("soft", Mode::Soft(SoftConfig::default()))];
    match Support::probe() {
        Ok(_) => {
            machines.push(("linux, in-thread", Mode::linux(Serve::InThread)));
            machines.push(("linux, threads", Mode::linux(Serve::Threads)));
        }
        Err(why) => println!("the Linux machine is not measured: {why}"),
    }
    let aperture = device_memory(pages);
    println!("a word of each of {pages} pages; ns a page, seconds in all, faults");
    for (machine, mode) in machines {
        let mut took: [Vec<Duration>; WAYS.len()] = Default::default();
        let mut faults = [0; WAYS.len()];
        for round in 0..=rounds {
            for (i, (_, way)) in WAYS.iter().enumerate() {
                let (time, count) = read_all(mode, *way, aperture, pages);
                faults[i] = count;
                if round > 0 {
                    took[i].push(time);
                }
            }
        }
        let mut get = None;
        for (i, (name, _)) in WAYS.iter().enumerate() {
            took[i].sort_unstable();
            let of = |time: Duration| time.as_nanos() as u64 / pages;
            let (median, all) = (of(took[i][rounds / 2]), took[i][rounds / 2].as_secs_f64());
            let (least, most) = (of(took[i][0]), of(took[i][rounds - 1]));
            let beside = median as f64 / *get.get_or_insert(median) as f64;
            println!(
                "{machine:<18}{name:<22}{median:>8} [{least}-{most}]{all:>10.3} s{:>10} faults{beside:>8.3}",
                faults[i]
            );
        }
    }
}

/// Memory in a file, all ones, that stays for as long as the process does.
fn device_memory(pages: u64) -> ApertureId {
    let len = usize::try_from(pages).expect("a size") * PAGE_BYTES;
    let file = rustix::fs::memfd_create("quire-bench", MemfdFlags::CLOEXEC).expect("a file in memory");
    rustix::fs::ftruncate(&file, len as u64).expect("it is made longer");
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, never unmapped.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, file.as_fd(), 0) };
    let start = NonNull::new(start.expect("it is mapped").cast::<u8>()).expect("an address");
    // SAFETY: `len` bytes are mapped there.
    unsafe { start.as_ptr().write_bytes(1, len) };
    // SAFETY: it stays mapped, and the file open.
    let mut memory = unsafe { DeviceMemory::new(start, len as u64) };
    memory.shared = true;
    memory.file = Some(DeviceFile {
        fd: file.as_raw_fd(),
        offset: 0,
    });
    std::mem::forget(file);
    aperture::add(memory, CacheMode::WriteBack).expect("an aperture")
}

fn read_all(mode: Mode, way: Way, aperture: ApertureId, pages: u64) -> (Duration, u64) {
    let rig = Rig::new(mode.with_frames(pages + 1024, 16));
    let object = rig
        .engine
        .create_object(Box::new(Device { way, aperture }), pages * PAGE_SIZE)
        .expect("an object");
    let va = rig
        .map
        .map(&object, &MapRequest::read_only(pages * PAGE_SIZE))
        .expect("room")
        .start;
    let took = timed(|| match mode {
        Mode::Soft(_) => load_each(&rig, va, pages),
        Mode::Linux(..) => touch_each(va, pages),
    });
    let faults = rig.engine.stats().counts().faults;
    object
        .object()
        .revoke(PageIndex(0)..PageIndex(u64::MAX), Dirty::Discard)
        .expect("nothing is dirty");
    drop(object);
    rig.assert_nothing_left();
    (took, faults)
}

fn load_each(rig: &Rig, va: VirtAddr, pages: u64) {
    let mut word = [0; 8];
    for page in 0..pages {
        rig.map.load(page_at(va, page), &mut word).expect("a load");
        assert_eq!(word, [1; 8]);
    }
}

fn touch_each(va: VirtAddr, pages: u64) {
    for page in 0..pages {
        let word = std::ptr::with_exposed_provenance::<u64>(usize::try_from(page_at(va, page).0).expect("an address"));
        // SAFETY: the whole device is mapped, to be read.
        assert_eq!(unsafe { word.read_volatile() }, 0x0101_0101_0101_0101);
    }
}
