//! The engine's own memory, at addresses that are set aside for it once.
//!
//! A table that is made with `mmap` at any address may come to lie in a hole that the program has just made, and which it is
//! about to fill with `MAP_FIXED`: then the program destroys our table. So what the machine needs for itself lies in spans
//! that are reserved at the start and kept for ever.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Sets addresses aside: zeros, which cost memory only where they are written.
pub(crate) fn reserve(bytes: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
    let at = unsafe {
        mmap_anonymous(
            core::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    // SAFETY: the range was mapped above. Both pieces of advice are about dumps and huge pages; a kernel may refuse them.
    unsafe {
        libc::madvise(at, bytes, libc::MADV_DONTDUMP);
        libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
    }
    NonNull::new(at.cast()).ok_or(Errno::NOMEM)
}

/// Words that are zero, for the life of the process.
pub(crate) fn reserve_words(count: u64) -> Result<&'static [AtomicU64], Errno> {
    let count = usize::try_from(count).map_err(|_| Errno::NOMEM)?;
    let at = reserve(count.checked_mul(8).ok_or(Errno::NOMEM)?)?;
    // SAFETY: that many zero bytes, page aligned, mapped by nobody else and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts(at.cast().as_ptr(), count) })
}
