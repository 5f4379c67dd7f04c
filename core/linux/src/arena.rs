//! The engine's own memory, at addresses that are set aside for it once.
//!
//! A table that is made with `mmap` at any address may come to lie in a hole that the program has just made, and which it is
//! about to fill with `MAP_FIXED`: then the program destroys our table. So one span of addresses is set aside before the program
//! makes holes, and what the machine needs for itself is cut from it and kept for ever. It costs no memory
//! until it is written, and counts for no limit but that of addresses until it is cut.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::OnceLock;

use quire_core::types::PAGE_BYTES;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use rustix::process::{Resource, getrlimit};

/// Addresses that are set aside at the start: one table takes half of them.
const MOST: usize = 1 << 39;
/// Less than this is not worth it.
const LEAST: usize = 1 << 24;
/// Where addresses are limited, the program gets most of them.
const SHARE_OF_LIMIT: u64 = 16;

/// A span that is set aside, from whose start on pieces are cut.
struct Span {
    start: NonNull<u8>,
    bytes: usize,
    cut: AtomicUsize,
}

// SAFETY: a span is a range of addresses; each piece belongs to whoever cut it.
unsafe impl Send for Span {}
// SAFETY: pieces are cut by one atomic addition each, so that no two overlap.
unsafe impl Sync for Span {}

/// Sees that the addresses are set aside.
pub(crate) fn start() {
    span();
}

fn span() -> Option<&'static Span> {
    static SPAN: OnceLock<Option<Span>> = OnceLock::new();
    SPAN.get_or_init(Span::set_aside).as_ref()
}

/// Cuts off a piece: zeros, which cost memory only where they are written. Beyond the span it is a mapping of its own.
pub(crate) fn reserve(bytes: usize) -> Result<NonNull<u8>, Errno> {
    let bytes = bytes.checked_next_multiple_of(PAGE_BYTES).ok_or(Errno::NOMEM)?;
    let at = span()
        .and_then(|span| span.cut(bytes))
        .map_or_else(|| set_aside(bytes), Ok)?;
    // SAFETY: the piece is nobody else's.
    unsafe { mprotect(at.as_ptr().cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
    Ok(at)
}

impl Span {
    fn set_aside() -> Option<Self> {
        let limit = getrlimit(Resource::As)
            .current
            .map_or(MOST, |limit| usize::try_from(limit / SHARE_OF_LIMIT).unwrap_or(MOST));
        let mut bytes = MOST;
        while bytes >= LEAST {
            if bytes <= limit
                && let Ok(start) = set_aside(bytes)
            {
                let cut = AtomicUsize::new(0);
                return Some(Self { start, bytes, cut });
            }
            bytes /= 2;
        }
        None
    }

    fn cut(&self, bytes: usize) -> Option<NonNull<u8>> {
        let fits = |cut: usize| cut.checked_add(bytes).filter(|end| *end <= self.bytes);
        let at = self.cut.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        // SAFETY: inside the span.
        Some(unsafe { self.start.add(at) })
    }
}

/// Addresses that nothing can be at yet.
fn set_aside(bytes: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
    let at = unsafe {
        mmap_anonymous(
            core::ptr::null_mut(),
            bytes,
            ProtFlags::empty(),
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
