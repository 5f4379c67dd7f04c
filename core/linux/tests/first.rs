//! The first steps: an object in real memory, through both ways to serve.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

use std::sync::Arc;
use std::time::Duration;

use quire_core::engine::Engine;
use quire_core::flush::FlushFlags;
use quire_core::machine::Serve;
use quire_core::map::{Map, MapRequest};
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine, Server};
use quire_tests::{Script, pattern};

struct Rig {
    engine: Arc<Engine>,
    map: Arc<Map>,
    server: Server,
}

impl Rig {
    fn new(pages: u64) -> Self {
        let machine = LinuxMachine::new(
            Support::probe().unwrap(),
            LinuxConfig {
                memory: pages * PAGE_SIZE,
                ..LinuxConfig::default()
            },
        )
        .unwrap();
        let engine = Engine::new(machine);
        let range = AddrRange {
            start: VirtAddr(0x10000),
            end: VirtAddr(1 << 47),
        };
        let map = Arc::new(Map::new(engine.clone(), range).unwrap());
        let server = Server::start(map.clone()).unwrap();
        Self { engine, map, server }
    }

    fn end(self) {
        self.map.clear().unwrap();
        self.server.stop(Duration::from_secs(5)).unwrap();
        self.engine.shut_down().unwrap();
        let counts = self.engine.machine().frame_counts();
        assert_eq!(counts.free, counts.total);
    }
}

fn ptr(va: VirtAddr, page: u64) -> *mut u8 {
    (va.0 + page * PAGE_SIZE) as *mut u8
}

fn both(test: impl Fn(Serve)) {
    for serve in [Serve::Threads, Serve::InThread] {
        eprintln!("{serve:?}");
        test(serve);
    }
}

#[test]
fn a_program_reads_and_writes_through_the_pointer() {
    both(|serve| {
        let rig = Rig::new(1024);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 100 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            serve,
            ..MapRequest::read_write(100 * PAGE_SIZE)
        };
        let at = rig.map.map(&object, &request).unwrap().start;
        for page in 0..100 {
            // SAFETY: mapped above.
            let bytes = unsafe { std::slice::from_raw_parts(ptr(at, page), PAGE_BYTES) };
            assert_eq!(bytes, pattern(page));
        }
        for page in (0..100).step_by(3) {
            // SAFETY: mapped above.
            unsafe { ptr(at, page).add(7).write(0xee) };
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        for page in 0..100 {
            let mut want = pattern(page);
            if page % 3 == 0 {
                want[7] = 0xee;
            }
            assert_eq!(script.stored(page), want, "page {page}");
        }
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn more_is_mapped_than_the_budget_has() {
    both(|serve| {
        let rig = Rig::new(200);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 1000 * PAGE_SIZE).unwrap();
        let request = MapRequest {
            serve,
            ..MapRequest::read_write(1000 * PAGE_SIZE)
        };
        let at = rig.map.map(&object, &request).unwrap().start;
        for round in 1..4u8 {
            for page in 0..1000 {
                // SAFETY: mapped above.
                unsafe {
                    if round > 1 {
                        assert_eq!(ptr(at, page).add(9).read(), round - 1, "page {page}");
                    }
                    ptr(at, page).add(9).write(round);
                }
            }
        }
        rig.map.clear().unwrap();
        object.release().unwrap();
        for page in 0..1000 {
            assert_eq!(script.stored(page)[9], 3, "page {page}");
        }
        rig.end();
    });
}
