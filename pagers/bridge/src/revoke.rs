//! The service `revoke`: a device takes its pages back.

use alloc::string::String;
use alloc::sync::Arc;

use quire_abi as abi;
use quire_core::error::{Cause, Error, PagerError};
use quire_core::object::{Dirty, Object};
use quire_core::types::PageIndex;

use crate::host::{HostState, Level, state};
use crate::named::ObjectName;
use crate::serial::WOULD_WAIT_FOR_ITSELF;

pub(crate) unsafe extern "C" fn revoke(host: *mut abi::Host, object: u64, first: u64, count: u64, flags: u32) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    let Some(object) = host.named.get(ObjectName(object)) else {
        return abi::QUIRE_PAGER_STALE;
    };
    host.revoke(&object, first, count, flags)
}

impl HostState {
    fn revoke(&self, object: &Arc<Object>, first: u64, count: u64, flags: u32) -> i32 {
        let known = abi::QUIRE_REVOKE_DISCARD | abi::QUIRE_REVOKE_FAIL;
        let (fails, whole) = (flags & abi::QUIRE_REVOKE_FAIL != 0, (first, count) == (0, 0));
        if flags & !known != 0 || (fails && !whole) {
            return abi::QUIRE_PAGER_INVALID;
        }
        let end = if count == 0 {
            u64::MAX
        } else {
            first.saturating_add(count)
        };
        let dirty = if flags & abi::QUIRE_REVOKE_DISCARD == 0 {
            Dirty::Write
        } else {
            Dirty::Discard
        };
        let name: String = object.describe();
        let Ok(openings) = self.named.all_of(object) else {
            return abi::QUIRE_PAGER_NOMEM;
        };
        // It would wait for pages that this very operation has.
        if self.requests.runs_here(&openings) {
            self.log(
                Level::Error,
                format_args!(
                    "{name}: revoke was called from inside an operation of the same object, whose pages it would wait \
                     for; call it on another thread, or after the operation has returned: refused"
                ),
            );
            return -WOULD_WAIT_FOR_ITSELF;
        }
        let revoked = if fails {
            object.revoke_for_good(dirty)
        } else {
            object.revoke(PageIndex(first)..PageIndex(end), dirty)
        };
        match revoked {
            Ok(_) => abi::QUIRE_PAGER_OK,
            Err(Error::Invalid(_)) => abi::QUIRE_PAGER_STALE,
            Err(error) => {
                self.log(Level::Error, format_args!("{name}: revoke: {error}"));
                status_of(&error)
            }
        }
    }
}

fn status_of(error: &Error) -> i32 {
    match error {
        Error::NoMemory => abi::QUIRE_PAGER_NOMEM,
        Error::WriteBack { error, .. } | Error::Pager(error) => status_of_pager(error),
        _ => abi::QUIRE_PAGER_ERROR,
    }
}

fn status_of_pager(error: &PagerError) -> i32 {
    match error.cause {
        Cause::Errno(number) => -number,
        Cause::NoMemory => abi::QUIRE_PAGER_NOMEM,
        Cause::Again => abi::QUIRE_PAGER_AGAIN,
        _ => abi::QUIRE_PAGER_ERROR,
    }
}
