//! What an engine of a test stands on: a soft machine in each of its awkward modes, and real memory in both ways to serve it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use quire_core::machine::Serve;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::PAGE_SIZE;
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine};

use crate::Below;

/// A machine to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A soft machine.
    Soft(SoftConfig),
    /// The Linux machine, and who resolves the faults of what is mapped.
    Linux(LinuxConfig, Serve),
}

impl From<SoftConfig> for Mode {
    fn from(config: SoftConfig) -> Self {
        Self::Soft(config)
    }
}

impl Mode {
    /// Every soft machine, and the Linux machine in both ways to serve. Where it cannot be had, that is said and counted.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Self::exact();
        if all.iter().any(Self::is_linux) {
            all.push(Self::linux(Serve::Threads));
        }
        all
    }

    /// As [`Mode::all`], without the one in which other threads resolve the faults: those begin to read ahead, and ask again
    /// for what failed, when the thread that faulted has gone on.
    #[must_use]
    pub fn exact() -> Vec<Self> {
        let mut all: Vec<_> = Self::soft().collect();
        if support().is_some() {
            all.push(Self::linux(Serve::InThread));
        }
        all
    }

    /// Every soft machine.
    pub fn soft() -> impl Iterator<Item = Self> {
        SoftConfig::awkward_modes().into_iter().map(Self::Soft)
    }

    /// As large a machine as the soft one is, of real memory.
    #[must_use]
    pub fn linux(serve: Serve) -> Self {
        let soft = SoftConfig::default();
        let config = LinuxConfig {
            memory: soft.frames * PAGE_SIZE,
            reserve_kernel: soft.reserve_kernel,
            reserve_daemon: soft.reserve_daemon,
        };
        Self::Linux(config, serve)
    }

    /// Whether it is real memory.
    #[must_use]
    pub fn is_linux(&self) -> bool {
        matches!(self, Self::Linux(..))
    }

    /// Who resolves the faults; the soft machine takes no notice.
    #[must_use]
    pub fn serve(self) -> Serve {
        match self {
            Self::Soft(_) => Serve::default(),
            Self::Linux(_, serve) => serve,
        }
    }

    /// The same with so many frames, of which so many are held back for the page daemon.
    #[must_use]
    pub fn with_frames(self, frames: u64, reserve_daemon: u64) -> Self {
        match self {
            Self::Soft(config) => Self::Soft(SoftConfig {
                frames,
                reserve_daemon,
                reserve_kernel: 0,
                ..config
            }),
            Self::Linux(_, serve) => {
                let config = LinuxConfig {
                    memory: frames * PAGE_SIZE,
                    reserve_kernel: 0,
                    reserve_daemon,
                };
                Self::Linux(config, serve)
            }
        }
    }

    /// The machine.
    #[must_use]
    pub fn machine(self) -> Below {
        match self {
            Self::Soft(config) => Below::Soft(SoftMachine::new(config).expect("a machine")),
            Self::Linux(config, _) => {
                let support = support().expect("asked before the mode was chosen");
                Below::Linux(LinuxMachine::new(support, config).expect("a machine"))
            }
        }
    }
}

/// What the kernel allows; nothing, and a sentence, where that is not enough.
fn support() -> Option<Support> {
    static ANSWER: OnceLock<Result<Support, String>> = OnceLock::new();
    static NOT_RUN: AtomicUsize = AtomicUsize::new(0);
    match ANSWER.get_or_init(|| Support::probe().map_err(|error| error.to_string())) {
        Ok(support) => Some(*support),
        Err(why) => {
            let count = NOT_RUN.fetch_add(1, Ordering::Relaxed) + 1;
            // Past the harness, which keeps what passing tests print.
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: on the Linux machine ({count} so far): {why}"
            );
            None
        }
    }
}

/// A machine that was made.
impl Below {
    /// As the engine sees it.
    #[must_use]
    pub fn machine(&self) -> Arc<dyn quire_core::machine::Machine> {
        match self {
            Self::Soft(machine) => machine.clone(),
            Self::Linux(machine) => machine.clone(),
        }
    }
}
