//! Requests that pagers have.

use std::time::Duration;

use quire_core::requests::{Operation, Request};
use quire_core::types::PAGE_SIZE;

use crate::c::*;
use crate::engine::EngineState;
use crate::fail::guard;
use crate::handle;

/// Lists the requests that pagers have had for at least so many milliseconds without completing them: for a watchdog. Stores
/// the first `room` of them in `requests`, an array of that length, which may be NULL when `room` is 0; and how many
/// there are altogether in `found`. `request_size` is the `sizeof(struct quire_request)` that the program was compiled
/// with. May block for as long as it takes pagers to describe their objects. INVALID; NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_overdue(
    engine: *mut EngineHandle,
    milliseconds: u64,
    requests: *mut RequestC,
    request_size: usize,
    room: usize,
    found: *mut usize,
) -> i32 {
    guard(|| {
        check_out(found, "found")?;
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's array, of that many structs of that size.
        let array = unsafe { Array::new(requests, "request_size", request_size, room) }?;
        let overdue = state.shared.engine.overdue(Duration::from_millis(milliseconds));
        array.fill(overdue.iter().map(request_for_c));
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(found, overdue.len()) };
        Ok(())
    })
}

/// Asks pagers to end those requests soon that they have had for at least so many milliseconds, and stores in `asked`, which
/// may be NULL, how many were asked now: not those that were asked before, nor those of pagers that cannot cancel. A fault
/// whose request is cancelled fails with `QUIRE_FAULT_PAGER` and may be tried again; a flush fails with `QUIRE_ERR_WRITE_BACK`, and its
/// pages stay dirty. Waits for no request. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_cancel_overdue(
    engine: *mut EngineHandle,
    milliseconds: u64,
    asked: *mut usize,
) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        let count = state.shared.engine.cancel_overdue(Duration::from_millis(milliseconds));
        if !asked.is_null() {
            // SAFETY: not NULL, and writable by contract.
            unsafe { store(asked, count) };
        }
        Ok(())
    })
}

fn request_for_c(request: &Request) -> RequestC {
    RequestC {
        name: text_member(&request.name),
        offset: request.first.0 * PAGE_SIZE,
        pages: request.pages as u64,
        age: u64::try_from(request.age.as_millis()).unwrap_or(u64::MAX),
        operation: match request.operation {
            Operation::Get => QUIRE_REQUEST_GET,
            Operation::Put => QUIRE_REQUEST_PUT,
            Operation::Populate => QUIRE_REQUEST_POPULATE,
        },
        reserved: 0,
    }
}
