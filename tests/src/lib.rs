//! What the tests that cross crates share: a pager that the test drives, and an engine on every machine: the soft one in each of
//! its awkward modes, and real memory.

pub mod built;
pub mod dice;
pub mod mode;
pub mod script;
pub mod served;
pub mod watch;
mod wrapped;

use std::sync::Arc;

use quire_core::engine::Engine;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::page::Dirtiness;
use quire_core::pagedaemon::{EngineOptions, Targets};
use quire_core::pager::{Pager, PagerOps};
use quire_core::soft::SoftMachine;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_linux::LinuxMachine;

pub use dice::Dice;
pub use mode::Mode;
pub use script::{Call, OnCancel, Script, Twist, pattern};
pub use served::ServedMap;
pub use watch::watch;

/// A machine of either kind.
#[derive(Clone, Debug)]
pub enum Below {
    /// Software.
    Soft(Arc<SoftMachine>),
    /// Real memory.
    Linux(Arc<LinuxMachine>),
}

/// An engine on a machine, with one map.
#[derive(Debug)]
pub struct Rig {
    /// The map. Goes first: it may be served.
    pub map: ServedMap,
    /// The engine.
    pub engine: Arc<Engine>,
    below: Below,
    /// What the machine is.
    pub mode: Mode,
}

/// The lowest address of a rig's map.
pub const BASE: u64 = 0x10_0000;
/// The first address behind it.
pub const TOP: u64 = 0x7fff_0000_0000;

impl Rig {
    /// A rig on a machine of this kind.
    #[must_use]
    pub fn new(mode: impl Into<Mode>) -> Self {
        Self::with_options(mode, &EngineOptions::default())
    }

    /// A rig on a machine of this kind, and an engine with these options.
    #[must_use]
    pub fn with_options(mode: impl Into<Mode>, options: &EngineOptions) -> Self {
        let mode = mode.into();
        let below = mode.machine();
        let engine = Engine::with_options(below.machine(), options).expect("an engine");
        Self {
            map: ServedMap::new(&engine, mode),
            engine,
            below,
            mode,
        }
    }

    /// The soft machine, in tests that run on no other.
    ///
    /// # Panics
    /// On another machine.
    #[must_use]
    pub fn soft(&self) -> &SoftMachine {
        match &self.below {
            Below::Soft(machine) => machine,
            Below::Linux(_) => panic!("this test is for soft machines only: run it in soft modes"),
        }
    }

    /// The Linux machine, likewise.
    ///
    /// # Panics
    /// On another machine.
    #[must_use]
    pub fn linux(&self) -> &LinuxMachine {
        match &self.below {
            Below::Linux(machine) => machine,
            Below::Soft(_) => panic!("this test is for real memory only"),
        }
    }

    /// Another map of the same engine.
    #[must_use]
    pub fn another_map(&self) -> ServedMap {
        ServedMap::new(&self.engine, self.mode)
    }

    /// What a page is that was written back, and is still mapped by those who may write it. The soft machine has taken their
    /// right away; the kernel gives it back without asking, and the machine looks for the trace of it later.
    #[must_use]
    pub fn written_and_mapped(&self) -> Dirtiness {
        if self.mode.is_linux() {
            Dirtiness::Unknown
        } else {
            Dirtiness::Clean
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

    /// A swap area of so many pages, on a pager that the test drives and which takes `max_run` pages at once.
    #[must_use]
    pub fn swap(&self, ops: PagerOps, max_run: u32, pages: u64) -> Script {
        let (script, pager) = Script::with(ops, max_run);
        self.engine.add_swap(opening(pager, pages), 0).expect("an area");
        script
    }

    /// Has the page daemon take all that can go, in the steps that come.
    pub fn want_all_free(&self) {
        let total = self.engine.machine().frame_counts().total;
        self.engine.set_daemon_targets(Targets {
            free_min: total,
            free_target: total,
            free_enough: total,
        });
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
        assert_eq!(counts.free, counts.total, "frames leaked in {:?}", self.mode);
        assert_eq!(self.engine.object_counts(), (0, 0));
    }
}

/// Runs a test on every machine. On real memory the thread that faults resolves its fault, so that the test can tell what
/// happens, how often, and when: with threads that do it for others, the programs and the storms of threads run
/// ([`Mode::all`]).
pub fn in_all_modes(test: impl Fn(Rig)) {
    in_modes(Mode::exact(), test);
}

/// As [`in_all_modes`], with so many frames and no reserve.
pub fn in_all_modes_with_frames(frames: u64, test: impl Fn(Rig)) {
    in_modes(Mode::exact().into_iter().map(|mode| mode.with_frames(frames, 0)), test);
}

/// Runs a test on every soft machine and on no other, for the reason given.
pub fn in_soft_modes(reason: &str, test: impl Fn(Rig)) {
    eprintln!("on soft machines only: {reason}");
    in_modes(Mode::soft(), test);
}

fn in_modes(modes: impl IntoIterator<Item = Mode>, test: impl Fn(Rig)) {
    for mode in modes {
        eprintln!("mode: {mode:?}");
        test(Rig::new(mode));
    }
}

/// What a pager opened, of so many pages and without a name.
#[must_use]
pub fn opening(pager: Box<dyn Pager>, pages: u64) -> Opening {
    Opening {
        pager,
        source: 0,
        identity: None,
        size: pages * PAGE_SIZE,
        change: None,
    }
}

/// The address `pages` pages behind `va`.
#[must_use]
pub fn page_at(va: VirtAddr, pages: u64) -> VirtAddr {
    VirtAddr(va.0 + pages * PAGE_SIZE)
}
