//! Addresses of this process: claiming them, giving them back, the rights in them, and an access that the kernel makes.

use quire_core::error::{Error, Result};
use quire_core::machine::CpuAccess;
use quire_core::types::{AddrRange, PAGE_SIZE, Prot, VirtAddr};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::layout::address;

pub(crate) fn pointer(va: VirtAddr) -> *mut core::ffi::c_void {
    core::ptr::with_exposed_provenance_mut(address(va))
}

pub(crate) fn mprotect_flags(prot: Prot) -> MprotectFlags {
    let mut flags = MprotectFlags::empty();
    flags.set(MprotectFlags::READ, prot.contains(Prot::READ));
    flags.set(MprotectFlags::WRITE, prot.contains(Prot::WRITE));
    flags.set(MprotectFlags::EXEC, prot.contains(Prot::EXEC));
    flags
}

/// Gives the program these rights in a range that was claimed here.
pub(crate) fn set_rights(range: AddrRange, prot: Prot) -> core::result::Result<(), Errno> {
    // SAFETY: the range was claimed here. Whoever uses it does so by addresses, and is stopped by a signal.
    unsafe {
        rustix::mm::mprotect(
            pointer(range.start),
            address(VirtAddr(range.len())),
            mprotect_flags(prot),
        )
    }
}

/// Gives addresses back to the process. Not when that takes one more memory area than the kernel allows.
pub(crate) fn unmap(range: AddrRange) -> bool {
    // SAFETY: the range was claimed here, and nothing is laid out in it.
    unsafe { rustix::mm::munmap(pointer(range.start), address(VirtAddr(range.len()))) }.is_ok()
}

/// Claims free addresses of the process.
pub(crate) fn find(len: u64, align: u64, hint: VirtAddr) -> Result<VirtAddr> {
    let no_space = || Error::NoSpace(len);
    let span = len.checked_add(align - PAGE_SIZE).ok_or_else(no_space)?;
    let hint = hint.0.next_multiple_of(align);
    // SAFETY: a mapping without rights at an address that nothing uses.
    let at = unsafe {
        rustix::mm::mmap_anonymous(
            pointer(VirtAddr(hint)),
            usize::try_from(span).map_err(|_| no_space())?,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(|_| no_space())?;
    let got = at.expose_provenance() as u64;
    let start = got.next_multiple_of(align);
    for (from, to) in [(got, start), (start + len, got + span)] {
        if from < to {
            // An end that is not needed.
            unmap(AddrRange {
                start: VirtAddr(from),
                end: VirtAddr(to),
            });
        }
    }
    Ok(VirtAddr(start))
}

/// Claims addresses that nobody uses.
pub(crate) fn claim(hole: AddrRange) -> Result<()> {
    // SAFETY: NOREPLACE: nothing of anybody's is replaced.
    let made = unsafe {
        rustix::mm::mmap_anonymous(
            pointer(hole.start),
            address(VirtAddr(hole.len())),
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
        )
    };
    match made {
        Ok(_) => Ok(()),
        Err(Errno::EXIST) => Err(Error::Occupied(hole.start)),
        Err(Errno::NOMEM) => Err(Error::NoMemory),
        Err(_) => Err(Error::Invalid(
            "the kernel allows no mapping at these addresses; choose others, or let it choose",
        )),
    }
}

/// An access as the kernel makes it for another process, here for this one: through the page tables, and with an error in
/// place of a signal where it cannot be made.
pub(crate) fn by_kernel(va: VirtAddr, access: CpuAccess<'_>) -> core::result::Result<(), Errno> {
    let (base, len, store) = match &access {
        CpuAccess::Load(to) => (to.as_ptr().cast_mut(), to.len(), false),
        CpuAccess::Store(from) => (from.as_ptr().cast_mut(), from.len(), true),
    };
    let local = libc::iovec {
        iov_base: base.cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: pointer(va),
        iov_len: len,
    };
    // SAFETY: the local buffer is the caller's, written only for a load. The remote one is checked by the kernel, and lies
    // in a layout, whose bytes belong to nobody's Rust object.
    let done = unsafe {
        let me = libc::getpid();
        if store {
            libc::process_vm_writev(me, &raw const local, 1, &raw const remote, 1, 0)
        } else {
            libc::process_vm_readv(me, &raw const local, 1, &raw const remote, 1, 0)
        }
    };
    match usize::try_from(done) {
        Ok(done) if done == len => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
