//! Where log lines go.

use std::ffi::{CString, c_char, c_void};
use std::io::Write;
use std::sync::{PoisonError, RwLock};

use quire_abi::{QUIRE_LOG_DEBUG, QUIRE_LOG_ERROR, QUIRE_LOG_INFO, QUIRE_LOG_WARN};
use quire_bridge::{Level, Log};

use crate::fail::guard;

#[derive(Clone, Copy)]
struct Target {
    callback: unsafe extern "C" fn(ctx: *mut c_void, level: u32, pager: *const c_char, text: *const c_char),
    ctx: *mut c_void,
}

// SAFETY: by the contract of `quire_set_log` the callback may be called with its context on any thread.
unsafe impl Send for Target {}
// SAFETY: as for Send.
unsafe impl Sync for Target {}

static TARGET: RwLock<Option<Target>> = RwLock::new(None);

/// Says where log lines go, for the whole process. `callback` gets `ctx`, a level (one of `QUIRE_LOG_…` of
/// quire_pager.h), the pager's name, which is "" if an engine says it, and the line, both borrowed until it returns. It is called on any thread, also on
/// those of pagers and on several at once, and must call neither Quire nor a pager. A callback that was replaced may
/// still be running on another thread. NULL: errors and warnings go to standard error, as at the start. Never blocks.
/// Answers `QUIRE_OK`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_set_log(
    callback: Option<unsafe extern "C" fn(ctx: *mut c_void, level: u32, pager: *const c_char, text: *const c_char)>,
    ctx: *mut c_void,
) -> i32 {
    guard(|| {
        let target = callback.map(|callback| Target { callback, ctx });
        *TARGET.write().unwrap_or_else(PoisonError::into_inner) = target;
        Ok(())
    })
}

/// The log of a pager.
pub(crate) fn pager_log() -> Log {
    Box::new(say)
}

/// The log of an engine.
pub(crate) fn engine_log() -> quire_core::log::Log {
    quire_core::log::Log::new(|text| say(Level::Warn, "", text))
}

/// Wrong use of a page.
pub(crate) fn page_report(text: &str) {
    say(Level::Error, "", text);
}

fn say(level: Level, pager: &str, text: &str) {
    let target = *TARGET.read().unwrap_or_else(PoisonError::into_inner);
    match target {
        Some(target) => call(target, level, pager, text),
        None if level <= Level::Warn => {
            let of = if pager.is_empty() { "" } else { "pager " };
            let colon = if pager.is_empty() { "" } else { ": " };
            // A closed standard error is no reason to fail, and above all none to panic under a plugin's feet.
            let _closed = writeln!(std::io::stderr(), "quire: {of}{pager}{colon}{text}");
        }
        None => {}
    }
}

fn call(target: Target, level: Level, pager: &str, text: &str) {
    let number = match level {
        Level::Error => QUIRE_LOG_ERROR,
        Level::Warn => QUIRE_LOG_WARN,
        Level::Info => QUIRE_LOG_INFO,
        Level::Debug => QUIRE_LOG_DEBUG,
    };
    let (pager, text) = (c_text(pager), c_text(text));
    // SAFETY: by the contract of `quire_set_log`; both texts live until it returns.
    unsafe { (target.callback)(target.ctx, number, pager.as_ptr(), text.as_ptr()) }
}

/// A text for C; a zero inside it is replaced.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}
