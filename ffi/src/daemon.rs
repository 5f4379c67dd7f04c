//! The page daemon and reading ahead: when they work, and their steps.

use quire_core::machine::FrameCounts;
use quire_core::pagedaemon::{Step, Targets};
use quire_core::types::PAGE_SIZE;

use crate::c::*;
use crate::engine::EngineState;
use crate::fail::{Fail, Result, guard};
use crate::handle;

/// Thresholds in bytes, the least first, where 0 leaves the one of `base`.
pub(crate) fn targets(base: Targets, bytes: [u64; 3], frames: FrameCounts) -> Result<Targets> {
    let pages = |bytes: u64, base: u64| if bytes == 0 { base } else { bytes / PAGE_SIZE };
    let targets = Targets {
        free_min: pages(bytes[0], base.free_min),
        free_target: pages(bytes[1], base.free_target),
        free_enough: pages(bytes[2], base.free_enough),
    };
    let Targets {
        free_min,
        free_target,
        free_enough,
    } = targets;
    if free_min > free_target || free_target > free_enough {
        return Err(Fail::invalid(format!(
            "the thresholds are in disorder: {free_min}, {free_target} and {free_enough} pages; none may be above the next"
        )));
    }
    let most = frames.total.saturating_sub(frames.reserved);
    if bytes != [0; 3] && free_enough > most {
        return Err(Fail::invalid(format!(
            "{free_enough} pages can never be free: there are {most} above the reserve; ask for fewer"
        )));
    }
    Ok(targets)
}

/// Sets when the page daemon works, in bytes, rounded down to whole pages; see `quire_engine_options`. What is 0 stays as
/// it is. Does not block. INVALID (thresholds in disorder, or above the memory there is): nothing was changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_set_targets(
    engine: *mut EngineHandle,
    free_min: u64,
    free_target: u64,
    free_enough: u64,
) -> i32 {
    guard(|| {
        let engine = handle::get::<EngineState>(engine)?.shared.engine.clone();
        let frames = engine.machine().frame_counts();
        let bytes = [free_min, free_target, free_enough];
        engine.set_daemon_targets(targets(engine.daemon_targets(), bytes, frames)?);
        Ok(())
    })
}

/// One step of the page daemon, on the calling thread: if too little memory is free, frees pages until enough is, clean ones
/// first, and writes dirty ones. For programs that want no thread (`QUIRE_NO_DAEMON_THREAD`), and for tests. Stores what
/// it did in `out`, which may be NULL, and whose `struct_size` the caller has set otherwise. Pages that cannot be written
/// are no error of the step: they are counted, and stay dirty. May block for as long as pagers do. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_daemon_step(engine: *mut EngineHandle, out: *mut StepCounts) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { check_sized(out) }?;
        let Step { freed, written, failed } = state.shared.engine.daemon_step();
        let counts = StepCounts {
            struct_size: 0,
            reserved: 0,
            freed,
            written,
            failed,
        };
        // SAFETY: as above.
        unsafe { write_optional(out, &counts) }
    })
}

/// One step of reading ahead, on the calling thread: settles the requests that have completed and that nobody waits for, and
/// reads one window ahead. For programs that want no thread (`QUIRE_NO_READ_AHEAD_THREAD`). Stores in `more`, which may be
/// NULL, 1 if there was a window to read, so that there may be another, or 0. May block for as long as a pager does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_read_ahead_step(engine: *mut EngineHandle, more: *mut u32) -> i32 {
    guard(|| {
        let had = handle::get::<EngineState>(engine)?.shared.engine.read_ahead_step();
        if !more.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(more, u32::from(had)) };
        }
        Ok(())
    })
}
