//! Apertures: memory of devices, which pagers make pages of.

use quire_abi::Aperture;
use quire_bridge::aperture;
use quire_core::error::{Cause, PagerError};

use crate::c::ApertureC;
use crate::fail::{Fail, Result, guard};
use crate::pointers::{check_out, store};
use crate::status::*;

/// Registers memory of a device for the whole process, and stores its number in `out`: pagers of every engine make pages of it
/// during populate (`frame_insert`). `what` is a `struct quire_aperture` of quire_pager.h with its `struct_size` set, and
/// borrowed until return; its memory must stay as it is until `quire_aperture_remove` has answered OK, and its file
/// descriptor is duplicated. A process has 1024 apertures at most. On the Linux machine the memory itself is mapped where such pages are,
/// so it must be a shared mapping, or what `fd` maps; a machine that cannot show it fails the access (`QUIRE_FAULT_DEVICE`). There
/// the first such page installs a handler of SIGSEGV, as `QUIRE_MAP_IN_THREAD` does one of SIGBUS: accesses wait in it while
/// pages are taken away, and everything else is passed on to the handler that was there. A handler that the program installs later has
/// to pass on what is not its own, with all three arguments. A system call that comes to such memory at that moment fails with EFAULT. May block for a look at the process's
/// mappings. INVALID (no bytes, not whole pages, nothing mapped there, a file that ends before; the last error has the words);
/// UNSUPPORTED for a file descriptor that cannot be used or mapped (`quire_last_errno`); NOMEM, also when there are 1024.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_aperture_add(what: *const ApertureC, out: *mut u64) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        // SAFETY: the caller's struct, with its size in it, and memory that stays by contract.
        let id = unsafe { aperture::add(what.cast::<Aperture>(), quire_loader::open_memory) }.map_err(refused)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, id.0) };
        Ok(())
    })
}

/// What is wrong is the caller's, and no pager's.
fn refused(error: PagerError) -> Fail {
    let status = match error.cause {
        Cause::Invalid => QUIRE_ERR_INVALID,
        Cause::NoMemory => QUIRE_ERR_NOMEM,
        _ => QUIRE_ERR_UNSUPPORTED,
    };
    let mut fail = Fail::from(error);
    fail.status = status;
    fail
}

/// Ends what `quire_aperture_add` began: the memory is the caller's alone again, and what was mapped and duplicated for it is
/// given back. Does not block. INVALID (no such aperture); IN_USE while pages of objects show it: revoke them, or close their
/// objects, first.
#[unsafe(no_mangle)]
pub extern "C" fn quire_aperture_remove(aperture: u64) -> i32 {
    guard(|| aperture::remove(aperture).map_err(Fail::from) as Result)
}
