//! What the tests that cross crates share: a pager that the test drives, and an engine on a soft machine in each of its
//! awkward modes.

pub mod built;
pub mod dice;
pub mod script;
pub mod watch;

use std::sync::Arc;

use quire_core::engine::Engine;
use quire_core::map::{Map, MapRequest};
use quire_core::object::ObjectRef;
use quire_core::pagedaemon::EngineOptions;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};

pub use dice::Dice;
pub use script::{Call, OnCancel, Script, Twist, pattern};
pub use watch::watch;

/// An engine on a soft machine, with one map.
#[derive(Debug)]
pub struct Rig {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Its machine.
    pub machine: Arc<SoftMachine>,
    /// The map.
    pub map: Map,
    /// How awkward the machine is.
    pub config: SoftConfig,
}

/// The lowest address of a rig's map.
pub const BASE: u64 = 0x10_0000;
/// The first address behind it.
pub const TOP: u64 = 0x7fff_0000_0000;

impl Rig {
    /// A rig on a machine of this kind.
    #[must_use]
    pub fn new(config: SoftConfig) -> Self {
        Self::with_options(config, &EngineOptions::default())
    }

    /// A rig on a machine of this kind, and an engine with these options.
    #[must_use]
    pub fn with_options(config: SoftConfig, options: &EngineOptions) -> Self {
        let machine = SoftMachine::new(config).expect("a machine");
        let engine = Engine::with_options(machine.clone(), options).expect("an engine");
        let map = Map::new(
            engine.clone(),
            AddrRange {
                start: VirtAddr(BASE),
                end: VirtAddr(TOP),
            },
        )
        .expect("a map");
        Self {
            engine,
            machine,
            map,
            config,
        }
    }

    /// A scripted object of so many pages, and the test's end of its pager.
    #[must_use]
    pub fn object(&self, pages: u64) -> (Script, ObjectRef) {
        let (script, pager) = Script::new();
        (
            script,
            self.engine.create_object(pager, pages * PAGE_SIZE).expect("an object"),
        )
    }

    /// A scripted object, mapped from its start to its end to be read and written.
    #[must_use]
    pub fn mapped(&self, pages: u64) -> (Script, ObjectRef, VirtAddr) {
        let (script, object) = self.object(pages);
        let range = self
            .map
            .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
            .expect("a mapping");
        (script, object, range.start)
    }

    /// The bytes of a page, loaded as a processor does.
    #[must_use]
    pub fn load_page(&self, va: VirtAddr) -> Vec<u8> {
        let mut bytes = vec![0; PAGE_BYTES];
        self.map.load(va, &mut bytes).expect("a load");
        bytes
    }

    /// No page is left, and no frame is in use: nothing leaked.
    pub fn assert_nothing_left(self) {
        self.map.clear().expect("nothing is dirty");
        self.engine.shut_down().expect("nothing is dirty");
        let counts = self.engine.machine().frame_counts();
        assert_eq!(counts.free, counts.total, "frames leaked in {:?}", self.config);
        assert_eq!(self.engine.object_counts(), (0, 0));
    }
}

/// Runs a test on every kind of soft machine.
pub fn in_all_modes(test: impl Fn(Rig)) {
    for config in SoftConfig::awkward_modes() {
        eprintln!("mode: {config:?}");
        test(Rig::new(config));
    }
}

/// As [`in_all_modes`], with so many frames and no reserve.
pub fn in_all_modes_with_frames(frames: u64, test: impl Fn(Rig)) {
    for config in SoftConfig::awkward_modes() {
        eprintln!("mode: {config:?}");
        test(Rig::new(SoftConfig {
            frames,
            reserve_daemon: 0,
            reserve_kernel: 0,
            ..config
        }));
    }
}

/// The address `pages` pages behind `va`.
#[must_use]
pub fn page_at(va: VirtAddr, pages: u64) -> VirtAddr {
    VirtAddr(va.0 + pages * PAGE_SIZE)
}
