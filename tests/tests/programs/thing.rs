//! What the random programs open, and the bytes that must be in it.

use quire_core::object::ObjectRef;
use quire_core::types::{PAGE_BYTES, pages_of};
use quire_tests::{Script, pattern};

use super::PAGES;

/// Something that can be opened, and what is known of it.
pub(crate) struct Thing {
    pub(crate) script: Script,
    /// Handles of the object that there is now.
    pub(crate) handles: Vec<ObjectRef>,
    /// How often it was terminated.
    pub(crate) life: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) bad: bool,
    pub(crate) sync_fails: bool,
}

impl Thing {
    pub(crate) fn pages(&self) -> u64 {
        pages_of(self.size)
    }

    /// What the pager has.
    pub(crate) fn stored(&self) -> Vec<u8> {
        (0..PAGES).flat_map(|i| self.script.stored(i)).collect()
    }

    pub(crate) fn live(&self) -> usize {
        usize::try_from(self.size).expect("a size")
    }

    pub(crate) fn resized(&mut self, size: u64) {
        let cut = usize::try_from(pages_of(size)).expect("pages") * PAGE_BYTES;
        let end = usize::try_from(size).expect("a size");
        self.bytes[end..cut].fill(0);
        if size < self.size {
            let gone: Vec<u8> = (pages_of(size)..PAGES).flat_map(pattern).collect();
            self.bytes[cut..].copy_from_slice(&gone);
        }
        self.size = size;
    }

    pub(crate) fn check_stored(&self) {
        let (stored, live) = (self.stored(), self.live());
        if stored[..live] != self.bytes[..live] {
            let first = (0..live).find(|&i| stored[i] != self.bytes[i]);
            panic!("of {live} bytes these were not written, from: {first:?}");
        }
    }
}
