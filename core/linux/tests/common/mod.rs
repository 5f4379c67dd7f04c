//! What the tests of the machine share: an engine on it, and looking at memory without being killed.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "each test program has this as a module of its own")]
#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quire_core::engine::Engine;
use quire_core::machine::{Machine as _, Serve};
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::pagedaemon::EngineOptions;
use quire_core::types::{AddrRange, PAGE_SIZE, VirtAddr};
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine, Server};

pub struct Rig {
    pub machine: Arc<LinuxMachine>,
    pub engine: Arc<Engine>,
    pub map: Arc<Map>,
    pub server: Server,
    pub serve: Serve,
}

impl Rig {
    pub fn new(serve: Serve, pages: u64) -> Self {
        Self::with(serve, pages, &EngineOptions::default())
    }

    pub fn with(serve: Serve, pages: u64, options: &EngineOptions) -> Self {
        let config = LinuxConfig {
            memory: pages * PAGE_SIZE,
            ..LinuxConfig::default()
        };
        let machine = LinuxMachine::new(Support::probe().unwrap(), config).unwrap();
        let engine = Engine::with_options(machine.clone(), options).unwrap();
        let (start, end) = (VirtAddr(0x10000), VirtAddr(1 << 47));
        let map = Arc::new(Map::new(engine.clone(), AddrRange { start, end }).unwrap());
        let server = Server::start(map.clone()).unwrap();
        Self {
            machine,
            engine,
            map,
            server,
            serve,
        }
    }

    pub fn read_write(&self, pages: u64) -> MapRequest {
        MapRequest {
            serve: self.serve,
            ..MapRequest::read_write(pages * PAGE_SIZE)
        }
    }

    pub fn at(&self, place: VirtAddr, pages: u64) -> MapRequest {
        MapRequest {
            place: Place::Fixed(place),
            ..self.read_write(pages)
        }
    }

    /// Ends everything; every frame must have been given back.
    pub fn end(self) {
        self.map.clear().unwrap();
        self.server.stop(Duration::from_secs(10)).unwrap();
        self.engine.shut_down().unwrap();
        let counts = self.machine.frame_counts();
        assert_eq!(counts.free, counts.total);
    }
}

pub fn both(test: impl Fn(Serve)) {
    for serve in [Serve::Threads, Serve::InThread] {
        eprintln!("{serve:?}");
        test(serve);
    }
}

/// Addresses where nothing of this process ever lies but what the test maps, also when they are free again. 16 GiB.
pub fn own_place() -> VirtAddr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    VirtAddr((1 << 44) + (NEXT.fetch_add(1, Ordering::Relaxed) << 34))
}

pub fn page_at(va: VirtAddr, page: u64) -> VirtAddr {
    VirtAddr(va.0 + page * PAGE_SIZE)
}

pub fn load(va: VirtAddr) -> u8 {
    // SAFETY: the tests ask for what they have mapped, or die of it on purpose.
    unsafe { (va.0 as usize as *const u8).read_volatile() }
}

pub fn store(va: VirtAddr, byte: u8) {
    // SAFETY: as above.
    unsafe { (va.0 as usize as *mut u8).write_volatile(byte) }
}

/// Reads a byte as a system call does; nothing where it says `EFAULT`.
pub fn peek(va: VirtAddr) -> Option<u8> {
    let (mut out, mut into) = std::io::pipe().unwrap();
    // SAFETY: only the kernel looks there.
    let from = unsafe { std::slice::from_raw_parts(va.0 as usize as *const u8, 1) };
    match into.write(from) {
        Ok(1) => {
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap();
            Some(byte[0])
        }
        Ok(n) => panic!("{n} bytes were written"),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}");
            None
        }
    }
}

/// Writes a byte as a system call does. Answers whether it could.
pub fn poke(va: VirtAddr, byte: u8) -> bool {
    let (mut out, mut into) = std::io::pipe().unwrap();
    into.write_all(&[byte]).unwrap();
    // SAFETY: only the kernel writes there.
    let to = unsafe { std::slice::from_raw_parts_mut(va.0 as usize as *mut u8, 1) };
    match out.read(to) {
        Ok(1) => true,
        Ok(n) => panic!("{n} bytes were read"),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT), "{error}");
            false
        }
    }
}

/// Whether the kernel has an entry for a page in the page tables: bit 63 of its word in `/proc/self/pagemap`.
pub fn is_mapped(va: VirtAddr) -> bool {
    use std::os::unix::fs::FileExt as _;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut word = [0; 8];
    pagemap.read_exact_at(&mut word, va.0 / PAGE_SIZE * 8).unwrap();
    u64::from_ne_bytes(word) >> 63 == 1
}

/// Runs the test called `name` in a process of its own, in which `body` is all it does, once for each way to serve.
/// Answers the signals that ended them, or calls `body` when it is that process.
pub fn in_a_process(name: &str, body: impl Fn(Serve)) -> Vec<Option<i32>> {
    let modes = [("threads", Serve::Threads), ("in-thread", Serve::InThread)];
    if let Ok(mode) = std::env::var("QUIRE_TEST_CHILD") {
        let (_, serve) = modes.into_iter().find(|(text, _)| *text == mode).unwrap();
        body(serve);
        std::process::exit(0);
    }
    let run = |mode: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([name, "--exact", "--nocapture"])
            .env("QUIRE_TEST_CHILD", mode);
        let status = command.status().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "{mode}: {status}");
        status.signal()
    };
    modes.iter().map(|(text, _)| run(text)).collect()
}
