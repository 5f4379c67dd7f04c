//! Apertures: memory of devices, which pagers make pages of.

use quire_abi::Aperture;
use quire_bridge::aperture;

use crate::c::ApertureC;
use crate::fail::{Fail, Result, guard};
use crate::pointers::{check_out, store};

/// Registers memory of a device for the whole process, and stores its number in `out`: pagers of every engine make pages of it
/// during populate (`frame_insert`). `what` is a `struct quire_aperture` of quire_pager.h with its `struct_size` set, and
/// borrowed until return; its memory must stay as it is until `quire_aperture_remove` has answered OK, and its file
/// descriptor is duplicated. A process has 1024 apertures at most. May block for a look at the process's
/// mappings. INVALID (no bytes, not whole pages, nothing mapped there, a file that ends before; the last error has the words);
/// PAGER with the system's number for a file that cannot be mapped; NOMEM, also when there are 1024.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_aperture_add(what: *const ApertureC, out: *mut u64) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        // SAFETY: the caller's struct, with its size in it, and memory that stays by contract.
        let id = unsafe { aperture::add(what.cast::<Aperture>(), quire_loader::open_memory) }?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, id.0) };
        Ok(())
    })
}

/// Ends what `quire_aperture_add` began: the memory is the caller's alone again, and what was mapped and duplicated for it is
/// given back. Does not block. INVALID (no such aperture); IN_USE while pages of objects show it: revoke them, or close their
/// objects, first.
#[unsafe(no_mangle)]
pub extern "C" fn quire_aperture_remove(aperture: u64) -> i32 {
    guard(|| aperture::remove(aperture).map_err(Fail::from) as Result)
}
