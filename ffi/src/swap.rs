//! Swap: where anonymous memory goes when memory is short.

use std::ffi::c_char;

use quire_core::swap::{SwapAreaId, SwapAreaInfo, SwapRefusal};

use crate::c::*;
use crate::engine::EngineState;
use crate::fail::{Fail, errno_of_cause, guard};
use crate::handle;
use crate::object::opening;
use crate::pager::PagerState;

/// Bytes that `quire_swap_area.name` has room for, its terminating zero included.
pub const QUIRE_SWAP_NAME: usize = 128;
/// Bytes that sentences about swap have room for, their terminating zero included.
pub const QUIRE_SWAP_SENTENCE: usize = 160;

/// `quire_swap_area.flags`: it is being removed, and takes nothing any more.
pub const QUIRE_SWAP_LEAVING: u32 = 1;
/// `quire_swap_area.flags`: its pager broke a promise, and it takes nothing any more; `broken` says which.
pub const QUIRE_SWAP_BROKEN: u32 = 2;

/// A swap area. May grow at its end: `quire_swap_areas` is told its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SwapAreaC {
    /// Its name for people, as its pager says it, cut to fit.
    pub name: [c_char; QUIRE_SWAP_NAME],
    /// The promise that its pager broke, cut to fit; "" if it broke none.
    pub broken: [c_char; QUIRE_SWAP_SENTENCE],
    /// What `quire_swap_remove` knows it by. Never 0.
    pub id: u64,
    /// Pages that it has room for.
    pub pages: u64,
    /// Pages that are in it.
    pub used: u64,
    /// Pages of it that could not be read or written, and are not used again.
    pub bad: u64,
    /// Areas with a higher one are used first, equal ones in turns.
    pub priority: i32,
    /// A set of `QUIRE_SWAP_LEAVING` and `BROKEN`.
    pub flags: u32,
}

/// `quire_swap_stats.refusal`: nothing was refused since the last area was added.
pub const QUIRE_SWAP_NOT_REFUSED: u32 = 0;
/// `quire_swap_stats.refusal`: there is no area, or none that can be used.
pub const QUIRE_SWAP_NO_AREA: u32 = 1;
/// `quire_swap_stats.refusal`: all areas are full.
pub const QUIRE_SWAP_FULL: u32 = 2;
/// `quire_swap_stats.refusal`: areas that have room answered with errors; `refusal_errno` has the last one.
pub const QUIRE_SWAP_FAILED: u32 = 3;

/// What went to swap and came from it since the engine was made, and what is there. Each number is exact; all together are
/// not a snapshot.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SwapStatsC {
    /// `sizeof(struct quire_swap_stats)`. Stored by the caller; only members within it are written.
    pub struct_size: u32,
    /// Areas.
    pub areas: u32,
    /// Pages that they have room for.
    pub pages: u64,
    /// Pages that are in them.
    pub used: u64,
    /// Pages of them that could not be read or written, and are not used again.
    pub bad: u64,
    /// Calls of their pagers' get.
    pub gets: u64,
    /// Pages brought in from them.
    pub pages_in: u64,
    /// Calls of their pagers' put.
    pub puts: u64,
    /// Pages written to them.
    pub pages_out: u64,
    /// Times that pages could not be written, because no area took them. When there is no room at all, it is not tried.
    pub refused: u64,
    /// Why pages were not written the last time that they should have been: one of `QUIRE_SWAP_NOT_REFUSED`, `NO_AREA`, `FULL` and
    /// `FAILED`. Forgotten when an area is added.
    pub refusal: u32,
    /// The system's `errno` value behind `QUIRE_SWAP_FAILED`, or 0.
    pub refusal_errno: i32,
    /// A sentence to it: what happened, and what to do. "" if nothing was refused.
    pub refusal_text: [c_char; QUIRE_SWAP_SENTENCE],
}

// SAFETY: integers only.
unsafe impl Sized32 for SwapStatsC {
    const NAME: &'static str = "quire_swap_stats";
}
// SAFETY: integers without padding, which the assertion proves.
unsafe impl Element for SwapAreaC {
    const NAME: &'static str = "quire_swap_area";
}
const _: () = assert!(size_of::<SwapAreaC>() == QUIRE_SWAP_NAME + QUIRE_SWAP_SENTENCE + 5 * size_of::<u64>());

/// Opens something through a pager for writing, as `quire_object_open` does by `name` and `fd`, and gives it to the pager's engine as a
/// swap area: room for pages of private and anonymous memory when memory is short. With the anon pager `name` is
/// "PATH[,size=SIZE][,compress=none|lz4|zstd][,pool=SIZE]": PATH names a file or a block device, or is `memory`; SIZE is a number of bytes,
/// or of K, M, G or T. What was in it is overwritten, and what is written to it is worthless once it is closed. `length`: so many
/// bytes of it from its start, and no more; 0: all. A part of a page at the end is not used. Areas with a higher `priority` are filled
/// first, equal ones in turns. There are at most 32 areas, with less than 16 TiB altogether. Stores in `id`, which may be NULL, what
/// `quire_swap_remove` knows it by. It is closed by that, or with the engine, and its pager cannot be unloaded before. May block for as
/// long as the pager does to open it. INVALID (no whole page, `length` above its size, too many areas); PAGER (it cannot be opened;
/// `quire_last_errno` says why: EBUSY, if the anon pager finds it in use); UNSUPPORTED (its pager cannot write); IN_USE (it is a swap area
/// of this engine already); NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_swap_add(
    pager: *mut PagerHandle,
    name: *const c_char,
    fd: i32,
    length: u64,
    priority: i32,
    id: *mut u64,
) -> i32 {
    guard(|| {
        let state = handle::get::<PagerState>(pager)?;
        // SAFETY: the caller's text, borrowed until return.
        let name = unsafe { text(name) };
        let mut opening = opening(&state, name, fd, true)?;
        if length > opening.size {
            let size = opening.size;
            // What it answers makes the error no better.
            let _ = opening.pager.close();
            return Err(Fail::invalid(format!(
                "{length} bytes for swap are more than the {size} that were opened; ask for fewer, or make it longer before"
            )));
        }
        if length != 0 {
            opening.size = length;
        }
        let added = state.shared.engine.add_swap(opening, priority)?;
        if !id.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(id, added.0) };
        }
        Ok(())
    })
}

/// Removes a swap area, by the `id` that `quire_swap_add` stored: brings back what is in it while the program goes on, and closes it. What
/// memory has no room for goes to other areas. May block for as long as pagers do. INVALID: there is no such area. NOMEM: what is in it fits
/// neither in memory nor in other areas. PAGER: pages in it cannot be read, and stay there until their owners end. IN_USE: it is being removed
/// by another thread, or its pager goes on with requests against its promise. After these the area is used as before. PAGER also when its
/// pager failed to close it; then it is gone all the same (`quire_swap_areas` tells).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_swap_remove(engine: *mut EngineHandle, id: u64) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        Ok(state.shared.engine.remove_swap(SwapAreaId(id))?)
    })
}

/// Lists the swap areas of an engine. Stores the first `room` of them in `areas`, an array of that length, which may be NULL when `room`
/// is 0; and how many there are altogether in `found`: at most 32. `area_size` is the `sizeof(struct quire_swap_area)` that the program was
/// compiled with. May block for as long as it takes pagers to describe them. INVALID; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_swap_areas(
    engine: *mut EngineHandle,
    areas: *mut SwapAreaC,
    area_size: usize,
    room: usize,
    found: *mut usize,
) -> i32 {
    guard(|| {
        check_out(found, "found")?;
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's array, of that many structs of that size.
        let array = unsafe { Array::new(areas, "area_size", area_size, room) }?;
        let infos = state.shared.engine.swap_areas()?;
        array.fill(infos.iter().map(area_for_c));
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(found, infos.len()) };
        Ok(())
    })
}

fn area_for_c(area: &SwapAreaInfo) -> SwapAreaC {
    let mut flags = 0;
    if area.leaving {
        flags |= QUIRE_SWAP_LEAVING;
    }
    if area.broken.is_some() {
        flags |= QUIRE_SWAP_BROKEN;
    }
    SwapAreaC {
        name: text_member(&area.description),
        broken: text_member(area.broken.as_deref().unwrap_or_default()),
        id: area.id.0,
        pages: area.slots,
        used: area.used,
        bad: area.bad,
        priority: area.priority,
        flags,
    }
}

/// Stores in `out`, whose `struct_size` the caller has set, what went to swap, what is there, and why not more. Does not block. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_swap_stats(engine: *mut EngineHandle, out: *mut SwapStatsC) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        // Taken apart whole, so that a new counter cannot be forgotten here.
        let quire_core::swap::SwapCounts {
            areas,
            slots,
            used,
            bad,
            gets,
            pages_in,
            puts,
            pages_out,
            refused,
            refusal,
        } = state.shared.engine.swap_counts();
        let (number, errno) = refusal_for_c(refusal);
        let stats = SwapStatsC {
            struct_size: 0,
            areas,
            pages: slots,
            used,
            bad,
            gets,
            pages_in,
            puts,
            pages_out,
            refused,
            refusal: number,
            refusal_errno: errno,
            refusal_text: text_member(&refusal.map(|refusal| refusal.to_string()).unwrap_or_default()),
        };
        // SAFETY: the caller's struct, with its size in it.
        unsafe { write_sized(out, &stats) }
    })
}

fn refusal_for_c(refusal: Option<SwapRefusal>) -> (u32, i32) {
    match refusal {
        None => (QUIRE_SWAP_NOT_REFUSED, 0),
        Some(SwapRefusal::NoArea) => (QUIRE_SWAP_NO_AREA, 0),
        Some(SwapRefusal::Full { .. }) => (QUIRE_SWAP_FULL, 0),
        Some(SwapRefusal::Failed(cause)) => (QUIRE_SWAP_FAILED, errno_of_cause(cause)),
    }
}
