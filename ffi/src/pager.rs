//! Pagers: plugins at work.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use quire_abi::Module;
use quire_loader::{Loaded, SearchPath};

use crate::c::*;
use crate::engine::{EngineState, PagerAt, Shared};
use crate::fail::{Fail, Result, guard};
use crate::handle::{self, NotEnded};
use crate::log::{c_text, pager_log};
use crate::status::QUIRE_ERR_IN_USE;

/// What a pager's handle stands for.
pub(crate) struct PagerState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) loaded: Arc<Loaded>,
    name: CString,
    version: CString,
    description: CString,
    path: CString,
}

/// Loads a pager plugin, or takes one that is at work in this process already. `name` is a short name such as
/// "vnode", which is looked for as libquire_pager_<name>.so in the folders of the environment variable
/// QUIRE_PAGER_PATH, in the installation's, and beside the library and the executable; with a '/' in it, it is the
/// path of a file. `config` is handed to the plugin's `init` and may be NULL; a plugin at work must have been given
/// the same. Both texts are borrowed until return. Stores a handle in `out`, to be closed with `quire_pager_unload`.
/// Runs code of the plugin, and may block for as long as that does and for file reads, and while another thread loads or
/// ends the same plugin. NOT_FOUND; one of `QUIRE_ERR_LOAD_…`; IN_USE (at work with another configuration, being
/// unloaded, or loaded from inside its own `init` or `fini`; these may load other plugins).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_pager_load(
    engine: *mut EngineHandle,
    name: *const c_char,
    config: *const c_char,
    out: *mut *mut PagerHandle,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's texts, borrowed until return.
        let (name, config) = unsafe { (text(name), text(config)) };
        let name = name.ok_or_else(|| Fail::invalid("the name is NULL; pass a plugin's short name or path"))?;
        let loaded = Loaded::load(&find(name)?, config, pager_log())?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { enter(&state.shared, loaded, out) }
    })
}

fn find(name: &CStr) -> Result<std::path::PathBuf> {
    // A path may have any bytes; a short name is ASCII, or none.
    if name.to_bytes().contains(&b'/') {
        return Ok(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())).to_owned());
    }
    Ok(SearchPath::new(&[]).find(&name.to_string_lossy())?)
}

/// Puts a pager to work that the program has itself: `table` is its `struct quire_pager_module`, which must stay
/// valid and unchanged, with all that it points at, until its last handle in this process has been closed by
/// `quire_pager_unload` or with its engine; for ever when its `init` failed, and when it asked to stay. A table is known by its
/// address and its contents: the same one registered again is the same pager. It is checked as a plugin's is. Otherwise
/// as `quire_pager_load`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_pager_register(
    engine: *mut EngineHandle,
    table: *const PagerTable,
    config: *const c_char,
    out: *mut *mut PagerHandle,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let state = handle::get::<EngineState>(engine)?;
        if table.is_null() {
            return Err(Fail::invalid("the table is NULL; pass a struct quire_pager_module"));
        }
        // SAFETY: the caller's text, borrowed until return.
        let config = unsafe { text(config) };
        let name = Path::new("registered pager");
        // SAFETY: the table is valid until unloaded, by contract.
        let loaded = unsafe { Loaded::register(name, table.cast::<Module>(), config, pager_log()) }?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { enter(&state.shared, loaded, out) }
    })
}

/// # Safety
/// `out` is writable.
unsafe fn enter(shared: &Arc<Shared>, loaded: Arc<Loaded>, out: *mut *mut PagerHandle) -> Result {
    let plugin = loaded.plugin().clone();
    let handle = handle::open(PagerState {
        shared: shared.clone(),
        name: c_text(plugin.name()),
        version: c_text(plugin.version().unwrap_or_default()),
        description: c_text(plugin.description().unwrap_or_default()),
        path: c_text(&plugin.path().to_string_lossy()),
        loaded,
    })?;
    let mut pagers = shared.pagers.lock().unwrap_or_else(PoisonError::into_inner);
    pagers.push(PagerAt(handle.addr()));
    // SAFETY: this function's contract.
    unsafe { store(out, handle) };
    Ok(())
}

/// Stores what a pager is in `out`, whose `struct_size` the caller has set. The texts in it are valid until the
/// handle is closed. Does not block. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_pager_info(pager: *mut PagerHandle, out: *mut PagerInfo) -> i32 {
    guard(|| {
        let state = handle::get::<PagerState>(pager)?;
        let table = state.loaded.plugin().module();
        let info = PagerInfo {
            struct_size: 0,
            abi_version: table.abi_version,
            caps: table.caps,
            thread_model: table.thread_model,
            open_objects: state.loaded.module().open_objects(),
            stale_calls: state.loaded.module().stale_calls(),
            name: state.name.as_ptr(),
            version: state.version.as_ptr(),
            description: state.description.as_ptr(),
            path: state.path.as_ptr(),
        };
        // SAFETY: the caller's struct, with its size in it.
        unsafe { write_sized(out, &info) }
    })
}

/// Closes a pager's handle. OK says that, and no more: the pager works on while another handle of it is open in this
/// process, while a request of it is under way that has not completed, and if it asked to stay. Otherwise this was the
/// last handle, and the pager is ended: `fini` is called, and its library is released to the dynamic linker; whether its
/// code leaves memory is the dynamic linker's decision. Objects that are only kept are closed before. May block for as
/// long as the pager does. IN_USE: objects, devices of it if it is a driver, or swap areas are open through it in this engine; release, or remove,
/// them first. WRITE_BACK, PAGER: a
/// kept object could not be closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_pager_unload(pager: *mut PagerHandle) -> i32 {
    guard(|| handle::close(pager, |state| end(state, PagerAt(pager.addr()))))
}

impl PagerState {
    /// The pager as the engine knows it: by the address of its module.
    pub(crate) fn source(&self) -> u64 {
        self.loaded.module().number()
    }
}

/// Ends what a pager's handle stands for.
pub(crate) fn end(state: PagerState, at: PagerAt) -> Result<(), NotEnded<PagerState>> {
    let open = match state.shared.engine.uncache_all_from(state.source()) {
        Ok(open) => open,
        Err(error) => return Err(NotEnded::Kept(Box::new(state), error.into())),
    };
    let areas = state.shared.engine.swap_areas_from(state.source());
    if open + areas != 0 {
        let name = state.loaded.plugin().name();
        let text = if open != 0 {
            format!("pager {name} still has {open} object(s) open; release them first")
        } else {
            format!("pager {name} still has {areas} swap area(s) open; remove them first")
        };
        return Err(NotEnded::Kept(Box::new(state), Fail::new(QUIRE_ERR_IN_USE, text)));
    }
    let PagerState { shared, loaded, .. } = state;
    // In use by another engine, or to stay: then this handle closes, and the plugin works on.
    let _works_on = Loaded::unload(loaded);
    let mut pagers = shared.pagers.lock().unwrap_or_else(PoisonError::into_inner);
    pagers.retain(|other| *other != at);
    Ok(())
}
