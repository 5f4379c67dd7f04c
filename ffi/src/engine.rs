//! Engines.

use std::ffi::c_char;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quire_core::engine::Engine;
use quire_core::flush::FlushFlags;
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::stats::Counts;
use quire_core::types::{PAGE_SIZE, pages_of};

use crate::c::*;
use crate::fail::{Fail, Result, guard};
use crate::handle::{self, NotEnded};
use crate::pager::{self, PagerState};
use crate::status::QUIRE_ERR_IN_USE;

/// `quire_engine_destroy`: gives up what is dirty instead of writing it.
pub const QUIRE_DISCARD: u32 = 1;
/// `quire_engine_sync`, `quire_object_flush`: what was written is durable before the call returns.
pub const QUIRE_DURABLE: u32 = 1;

/// `quire_engine_options`: objects that nobody uses are closed at once.
pub const QUIRE_KEEP_NONE: u32 = u32::MAX;

/// What an engine's handle stands for.
pub(crate) struct EngineState {
    pub(crate) shared: Arc<Shared>,
}

/// An engine and what belongs to it, shared by all handles made in it.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    /// Open handles of maps.
    pub(crate) maps: AtomicUsize,
    /// Open handles of pagers.
    pub(crate) pagers: Mutex<Vec<PagerAt>>,
}

/// A pager's handle, as a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PagerAt(pub(crate) usize);

/// The version of the library as text, such as "0.1.0". Static; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Makes an engine. `options` may be NULL: all defaults. Stores its handle in `out`, to be ended with
/// `quire_engine_destroy`. Does not block. INVALID (an unknown machine, unknown flags, no room for one page above the
/// reserve); NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_create(options: *const EngineOptions, out: *mut *mut EngineHandle) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let (config, kept) = if options.is_null() {
            (SoftConfig::default(), 0)
        } else {
            // SAFETY: the caller's struct, with its size in it.
            let options = unsafe { read_sized(options) }?;
            (soft_config(&options)?, options.kept_objects)
        };
        let shared = Arc::new(Shared {
            engine: Engine::new(SoftMachine::new(config)?),
            maps: AtomicUsize::new(0),
            pagers: Mutex::new(Vec::new()),
        });
        match kept {
            0 => {}
            QUIRE_KEEP_NONE => shared.engine.set_cache_limit(0),
            // At most u32::MAX, which fits.
            kept => shared.engine.set_cache_limit(kept as usize),
        }
        let handle = handle::open(EngineState { shared })?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, handle) };
        Ok(())
    })
}

fn soft_config(options: &EngineOptions) -> Result<SoftConfig> {
    if options.machine != QUIRE_MACHINE_AUTO && options.machine != QUIRE_MACHINE_SOFT {
        return Err(Fail::invalid(format!("machine {} is unknown", options.machine)));
    }
    let awkward = QUIRE_SOFT_FIXED_FRAMES | QUIRE_SOFT_LEND_COPIES | QUIRE_SOFT_MODIFIED_BY_REMOVAL;
    check_flags(options.flags, awkward, "flags")?;
    let mut config = SoftConfig {
        fixed_frames: options.flags & QUIRE_SOFT_FIXED_FRAMES != 0,
        lend_copies: options.flags & QUIRE_SOFT_LEND_COPIES != 0,
        modified_by_removal: options.flags & QUIRE_SOFT_MODIFIED_BY_REMOVAL != 0,
        ..SoftConfig::default()
    };
    if options.memory != 0 {
        config.frames = options.memory / PAGE_SIZE;
    }
    if options.reserve != 0 {
        // A third of it for the page daemon alone, as in the default.
        let pages = pages_of(options.reserve);
        config.reserve_daemon = pages.div_ceil(3);
        config.reserve_kernel = pages - config.reserve_daemon;
    }
    if config.frames <= config.reserve_daemon.saturating_add(config.reserve_kernel) {
        return Err(Fail::invalid(format!(
            "memory of {} bytes has no room for a page above the reserve; give more memory or a smaller reserve",
            options.memory
        )));
    }
    Ok(config)
}

/// Ends an engine: writes what is dirty, closes its objects, ends its pagers and closes their handles. Its maps must
/// have been destroyed and its objects released before. With `QUIRE_DISCARD` in `flags` dirty pages are given up and
/// not written. May block for as long as its pagers do. IN_USE (maps or objects are open); WRITE_BACK (dirty pages
/// could not be written, and are kept); QUARANTINED (an object with a broken pager still has pages; discard). After
/// an error the engine goes on and can be used: mend the cause and call again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_destroy(engine: *mut EngineHandle, flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, QUIRE_DISCARD, "flags")?;
        handle::close(engine, |state: EngineState| match end(&state.shared, flags) {
            Ok(()) => Ok(()),
            Err(fail) => Err(NotEnded::Kept(Box::new(state), fail)),
        })
    })
}

fn end(shared: &Shared, flags: u32) -> Result {
    let maps = shared.maps.load(Ordering::Acquire);
    if maps != 0 {
        let text = format!("the engine still has {maps} map(s); destroy them first");
        return Err(Fail::new(QUIRE_ERR_IN_USE, text));
    }
    if flags & QUIRE_DISCARD != 0 {
        shared.engine.discard_all()?;
    } else {
        shared.engine.shut_down()?;
    }
    let pagers = shared.pagers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for pager in pagers {
        handle::close(std::ptr::without_provenance_mut(pager.0), |state: PagerState| {
            pager::end(state, pager)
        })?;
    }
    Ok(())
}

/// Writes what is dirty in every object, and closes those that only stayed because their last write-back failed.
/// `flags`: 0 or `QUIRE_DURABLE`. All objects are tried. May block for as long as their pagers do. WRITE_BACK (what
/// could not be written is kept, dirty); QUARANTINED; PAGER (a pager could not make it durable).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_sync(engine: *mut EngineHandle, flags: u32) -> i32 {
    guard(|| {
        let flags = flush_flags(flags)?;
        Ok(handle::get::<EngineState>(engine)?.shared.engine.sync(flags)?)
    })
}

pub(crate) fn flush_flags(flags: u32) -> Result<FlushFlags> {
    check_flags(flags, QUIRE_DURABLE, "flags")?;
    Ok(if flags & QUIRE_DURABLE == 0 {
        FlushFlags::empty()
    } else {
        FlushFlags::DURABLE
    })
}

/// Stores the engine's counters in `out`, whose `struct_size` the caller has set. Does not block. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_stats(engine: *mut EngineHandle, out: *mut EngineStats) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { write_sized(out, &stats(&state.shared.engine)) }
    })
}

fn stats(engine: &Engine) -> EngineStats {
    // Taken apart whole, so that a new counter cannot be forgotten here.
    let Counts {
        faults,
        faults_2a_read,
        faults_2a_write,
        faults_resident,
        faults_failed,
        fault_restarts,
        neighbours_mapped,
        gets,
        pages_in,
        puts,
        pages_out,
        populates,
        pages_populated,
        busy_waits,
        memory_waits,
        pages_read_ahead,
        read_aheads_failed,
        writes_failed,
        pages_reclaimed,
        pager_errors,
        broken_promises,
    } = engine.stats().counts();
    let frames = engine.machine().frame_counts();
    let (objects, unwritten) = engine.object_counts();
    EngineStats {
        struct_size: 0,
        reserved: 0,
        faults,
        faults_2a_read,
        faults_2a_write,
        faults_resident,
        faults_failed,
        fault_restarts,
        neighbours_mapped,
        gets,
        pages_in,
        puts,
        pages_out,
        populates,
        pages_populated,
        busy_waits,
        memory_waits,
        pages_reclaimed,
        pager_errors,
        broken_promises,
        frames_total: frames.total,
        frames_free: frames.free,
        frames_reserved: frames.reserved,
        objects: objects as u64,
        objects_unwritten: unwritten as u64,
        pages_read_ahead,
        read_aheads_failed,
        writes_failed,
    }
}
