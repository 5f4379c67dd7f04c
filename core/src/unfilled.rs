//! Finding out that a page which is said to be filled was not: the classic short read.
//!
//! The last bytes of every page that is lent to be filled hold a marker. A page that still ends in it afterwards was not
//! filled. The marker differs from request to request and cannot be foreseen, so that no data can be mistaken for it, by
//! chance or on purpose.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::types::PAGE_BYTES;

const LEN: usize = 32;

/// The marker of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Marker([u8; LEN]);

impl Marker {
    /// One that was never used before.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut state = seed()
            ^ COUNT
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_mul(0xd129_0d4b_8fa2_77c5);
        let mut bytes = [0; LEN];
        for word in bytes.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&scramble(state).to_le_bytes());
        }
        Self(bytes)
    }

    /// Puts it at the end of a page.
    ///
    /// # Safety
    /// `page` is the start of a whole page of bytes that the caller may write and nobody else touches.
    pub(crate) unsafe fn put_on(&self, page: NonNull<u8>) {
        // SAFETY: by the contract the page is ours to write, and the marker is shorter than a page.
        unsafe { tail(page).copy_from_nonoverlapping(self.0.as_ptr(), LEN) }
    }

    /// Whether it is still there.
    ///
    /// # Safety
    /// `page` is one that [`Marker::put_on`] was called for, and nobody writes it any more.
    pub(crate) unsafe fn is_on(&self, page: NonNull<u8>) -> bool {
        // SAFETY: by the contract the tail is initialised and does not change.
        unsafe { tail(page).cast::<[u8; LEN]>().read() == self.0 }
    }
}

/// # Safety
/// `page` is the start of a whole page of bytes.
unsafe fn tail(page: NonNull<u8>) -> *mut u8 {
    // SAFETY: the marker is shorter than a page, so its place lies inside the same page.
    unsafe { page.as_ptr().add(PAGE_BYTES - LEN) }
}

/// What another process, or the writer of a file, cannot know.
#[cfg(feature = "std")]
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0))
}

/// Without a source of randomness, where things lie in memory has to do.
#[cfg(not(feature = "std"))]
fn seed() -> u64 {
    static HERE: u8 = 0;
    let on_stack = 0_u8;
    scramble(core::ptr::from_ref(&HERE).addr() as u64) ^ scramble(core::ptr::from_ref(&on_stack).addr() as u64)
}

/// The output step of splitmix64.
fn scramble(mut n: u64) -> u64 {
    n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_share_a_marker() {
        let markers: alloc::collections::BTreeSet<_> = (0..1000).map(|_| Marker::new().0).collect();
        assert_eq!(markers.len(), 1000);
    }
}
