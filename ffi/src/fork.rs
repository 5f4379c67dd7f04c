//! Copies: of a whole map, and of ranges.

use quire_core::fork::CopyRequest;
use quire_core::types::VirtAddr;

use crate::c::*;
use crate::fail::{Result, guard};
use crate::handle;
use crate::map::{MapState, place};

/// Makes a map of the same range with what each part of this one leaves to a child (`quire_inherit`): the same memory, a copy of it as it
/// is now, nothing, or zeros. `flags` is 0. Stores its handle in `child`: a map of the same engine like any other, to be ended with
/// `quire_map_destroy`, before its parent or after. Nothing in it is wired, nor will be by itself, and it is not interrupt-safe.
/// Takes time for mappings and for pages of memory, not for addresses; no page is copied, but for wired ones, before one of the two writes
/// it (`QUIRE_CASE_1B`). May block for as long as pagers do. UNSUPPORTED on the Linux machine, where two maps cannot have the same
/// addresses: `quire_map_copy` copies ranges there. NOMEM; one of `QUIRE_FAULT_…`: a page that is wired could not be copied. After an error
/// there is no child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_fork(map: *mut MapHandle, flags: u32, child: *mut *mut MapHandle) -> i32 {
    guard(|| {
        check_out(child, "child")?;
        check_flags(flags, 0, "flags")?;
        let state = handle::get::<MapState>(map)?;
        let handle = MapState::open(state.shared().clone(), state.map.fork()?)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(child, handle) };
        Ok(())
    })
}

/// Maps a copy of `length` bytes from `start` of the map `from`, as they are at this moment, in the map `to`, which may be the same one or
/// another one of the engine; stores the copy's address in `addr`. `start` is page aligned, `length` is rounded up to whole pages; the range
/// is mapped throughout. `request` says where the copy goes; NULL: anywhere. Rights, inheritance and advice are the range's; nothing is
/// wired, unless `to` wires what is mapped (`quire_wire_all`). Threads may go on writing to the range: what they write from this moment on
/// is not in the copy. Only if another map writes the same memory (`QUIRE_INHERIT_SHARE`) is that one moment for each page. Takes time for
/// mappings and for pages of memory, but copies no page, but for wired ones, before one of the two sides writes it; on the Linux machine
/// also when the copy is first read. Both sides' pages go to swap when memory is short.
///
/// All this is so for private and anonymous memory. A page that is an object's still, because it is mapped shared or was never written in a
/// private mapping, is mapped privately: until the copy has its own, what others write to the object is seen in it as well.
///
/// May block for as long as pagers do. INVALID (as for `quire_map`, or maps of two engines); NOT_MAPPED (a hole in the range); OCCUPIED;
/// NO_SPACE; NOMEM; one of `QUIRE_FAULT_…`: a page that is wired could not be copied. After an error nothing of the copy is mapped; what it
/// was to replace may have been unmapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_copy(
    from: *mut MapHandle,
    start: u64,
    length: u64,
    to: *mut MapHandle,
    request: *const CopyRequestC,
    addr: *mut u64,
) -> i32 {
    guard(|| {
        check_out(addr, "addr")?;
        let (from, to) = (handle::get::<MapState>(from)?, handle::get::<MapState>(to)?);
        let request = if request.is_null() {
            ANYWHERE
        } else {
            // SAFETY: the caller's struct, with its size in it.
            unsafe { read_sized(request) }?
        };
        let copied = from.map.copy_to(&to.map, &copy_request(start, length, &request)?)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(addr, copied.start.0) };
        Ok(())
    })
}

const ANYWHERE: CopyRequestC = CopyRequestC {
    struct_size: 0,
    flags: 0,
    addr: 0,
    align: 0,
};

fn copy_request(start: u64, length: u64, request: &CopyRequestC) -> Result<CopyRequest> {
    let (place, serve) = place(request.flags, request.addr, request.align)?;
    Ok(CopyRequest {
        start: VirtAddr(start),
        len: length,
        place,
        serve,
    })
}
