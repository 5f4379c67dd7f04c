//! Which mappings show the frames of devices. Their memory is the aperture's; the lists are each machine's own.
//!
//! # Invariant
//!
//! A block is put in once and stays until the machine goes, so that a list may be kept hold of without the lock. It takes 40 bytes for
//! each page that was ever mapped, rounded up to 64 pages; a place of the table of apertures that is used again uses its blocks again.

use alloc::boxed::Box;
use core::ptr::NonNull;

use hashbrown::HashMap;

use super::rmap::FrameMappings;
use crate::alloc_fallible::try_box;
use crate::machine::Shortage;
use crate::sync::FrameLock;
use crate::types::Frame;

/// Frames whose lists are made at once.
const BLOCK: usize = 64;

type Block = [FrameMappings; BLOCK];

/// The lists, by the number of the block's first frame.
#[derive(Debug, Default)]
pub(super) struct DeviceMappings(FrameLock<HashMap<u64, Blocks>>);

/// A block: a box of ours, which nobody but `Drop` ends.
#[derive(Debug)]
struct Blocks(NonNull<Block>);

// SAFETY: a block is made of locks; it is owned, and shared by reference.
unsafe impl Send for Blocks {}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: made from a box in `get_or_new`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The list of a frame that was never mapped.
static NONE: FrameMappings = FrameMappings::new();

impl DeviceMappings {
    /// The mappings of a frame.
    pub(super) fn get(&self, frame: Frame) -> &FrameMappings {
        let (number, at) = place(frame);
        let blocks = self.0.lock();
        // SAFETY: the box stays as long as we do (the invariant), and only shared references to it are made.
        blocks
            .get(&number)
            .map_or(&NONE, |block| unsafe { &block.0.as_ref()[at] })
    }

    /// The same, for a mapping that is about to be listed.
    pub(super) fn get_or_new(&self, frame: Frame) -> Result<&FrameMappings, Shortage> {
        let known = self.get(frame);
        if !core::ptr::eq(known, &raw const NONE) {
            return Ok(known);
        }
        let (number, at) = place(frame);
        let block = try_box([const { FrameMappings::new() }; BLOCK]).map_err(|_| Shortage)?;
        let block = Blocks(NonNull::from(Box::leak(block)));
        let mut blocks = self.0.lock();
        blocks.try_reserve(1).map_err(|_| Shortage)?;
        // Two at once: the first one's stays.
        let block = blocks.entry(number).or_insert(block).0;
        // SAFETY: as in `get`.
        Ok(unsafe { &block.as_ref()[at] })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "less than BLOCK")]
fn place(frame: Frame) -> (u64, usize) {
    let block = BLOCK as u64;
    (frame.0 / block, (frame.0 % block) as usize)
}
