//! Choosing what an engine runs on.

use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::time::Duration;

use quire_core::engine::Engine;
use quire_core::machine::Machine;
use quire_core::map::Map;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{PAGE_SIZE, pages_of};
use quire_linux::support::Support;
use quire_linux::{LinuxConfig, LinuxMachine, Server};

use crate::c::*;
use crate::fail::{Fail, Result, guard};
use crate::status::QUIRE_ERR_UNSUPPORTED;

/// How long the end of a map waits for faults that are being resolved.
const PATIENCE: Duration = Duration::from_secs(10);
const SOFT_FLAGS: u32 = QUIRE_SOFT_FIXED_FRAMES | QUIRE_SOFT_LEND_COPIES | QUIRE_SOFT_MODIFIED_BY_REMOVAL;
/// Bytes for pages when nothing is said.
const MEMORY: u64 = 256 << 20;

/// Says whether the Linux machine can be had by this process: OK, or UNSUPPORTED, and then `quire_last_error` says what is
/// missing and what to do about it. Does not block. What cannot be done all the same is told by `quire_linux_limits`.
#[unsafe(no_mangle)]
pub extern "C" fn quire_linux_supported() -> i32 {
    guard(|| support().map(|_| ()))
}

/// What the Linux machine cannot do for this process although it can be had, and what to do about it: a sentence, which lives as
/// long as the library is loaded. There is one where userfaultfd is to be had for user mode only. NULL: it can do everything, or it
/// cannot be had (see `quire_linux_supported`). Does not block. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_linux_limits() -> *const c_char {
    let limits = Support::probe().ok().and_then(|support| support.limits());
    limits.map_or(std::ptr::null(), CStr::as_ptr)
}

fn support() -> Result<Support> {
    Support::probe().map_err(|why| Fail::new(QUIRE_ERR_UNSUPPORTED, why.to_string()))
}

/// The machine that the options ask for.
pub(crate) fn choose(options: &EngineOptions) -> Result<Arc<dyn Machine>> {
    let known = SOFT_FLAGS | QUIRE_NO_DAEMON_THREAD | QUIRE_NO_READ_AHEAD_THREAD | QUIRE_NO_WATCHDOG_THREAD;
    check_flags(options.flags, known, "flags")?;
    let soft_asked = options.flags & SOFT_FLAGS != 0;
    match options.machine {
        QUIRE_MACHINE_SOFT => soft(options),
        QUIRE_MACHINE_LINUX if soft_asked => Err(Fail::invalid(
            "QUIRE_SOFT_… flags are for the soft machine; leave them out, or ask for QUIRE_MACHINE_SOFT",
        )),
        QUIRE_MACHINE_LINUX => linux(options, support()?),
        QUIRE_MACHINE_AUTO if soft_asked => soft(options),
        QUIRE_MACHINE_AUTO => match Support::probe() {
            Ok(support) => linux(options, support),
            Err(_) => soft(options),
        },
        other => Err(Fail::invalid(format!("machine {other} is unknown"))),
    }
}

/// Frames, those for the kernel's objects and those for the page daemon.
fn sizes(options: &EngineOptions) -> Result<(u64, u64, u64)> {
    let default = SoftConfig::default();
    let memory = if options.memory == 0 { MEMORY } else { options.memory };
    let frames = memory / PAGE_SIZE;
    let (kernel, daemon) = if options.reserve == 0 {
        (default.reserve_kernel, default.reserve_daemon)
    } else {
        // A third of it for the page daemon alone, as in the default.
        let pages = pages_of(options.reserve);
        let daemon = pages.div_ceil(3);
        (pages - daemon, daemon)
    };
    if frames <= daemon.saturating_add(kernel) {
        return Err(Fail::invalid(format!(
            "memory of {memory} bytes has no room for a page above the reserve; give more memory or a smaller reserve"
        )));
    }
    Ok((frames, kernel, daemon))
}

fn soft(options: &EngineOptions) -> Result<Arc<dyn Machine>> {
    let (frames, reserve_kernel, reserve_daemon) = sizes(options)?;
    let machine = SoftMachine::new(SoftConfig {
        frames,
        reserve_kernel,
        reserve_daemon,
        fixed_frames: options.flags & QUIRE_SOFT_FIXED_FRAMES != 0,
        lend_copies: options.flags & QUIRE_SOFT_LEND_COPIES != 0,
        modified_by_removal: options.flags & QUIRE_SOFT_MODIFIED_BY_REMOVAL != 0,
    })?;
    Ok(machine)
}

fn linux(options: &EngineOptions, support: Support) -> Result<Arc<dyn Machine>> {
    let (frames, reserve_kernel, reserve_daemon) = sizes(options)?;
    let machine = LinuxMachine::new(
        support,
        LinuxConfig {
            memory: frames * PAGE_SIZE,
            reserve_kernel,
            reserve_daemon,
        },
    )?;
    Ok(machine)
}

/// With a terminating zero, for C.
pub(crate) fn name(engine: &Engine) -> &'static CStr {
    match engine.machine().name() {
        "soft" => c"soft",
        "linux" => c"linux",
        _ => c"unknown",
    }
}

/// A map, and who resolves its faults if its addresses are real.
pub(crate) struct ServedMap {
    pub(crate) map: Arc<Map>,
    server: Option<Server>,
}

impl ServedMap {
    pub(crate) fn new(map: Map) -> Result<Self> {
        let map = Arc::new(map);
        let linux = map.engine().machine().name() == "linux";
        let server = linux.then(|| Server::start(map.clone())).transpose()?;
        Ok(Self { map, server })
    }

    /// Nobody resolves faults any more. Nothing is mapped.
    pub(crate) fn stop(&self) -> Result {
        if let Some(server) = &self.server {
            server.stop(PATIENCE)?;
        }
        Ok(())
    }
}
