//! Lending the bytes of frames: the frames themselves, or a copy of them.

use alloc::alloc::{alloc, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;

use super::bytes;
use super::frames::Frames;
use crate::alloc_fallible::try_reserve;
use crate::machine::{Loan, Purpose, Shortage};
use crate::page::PageRef;
use crate::types::PAGE_BYTES;

/// What a borrower finds in a copy that it is to fill: nothing that it could rely on.
const JUNK: u8 = 0xa5;

/// Lends the frames' own bytes.
pub(super) fn lend_frames(frames: &Frames, pages: &[PageRef], purpose: Purpose) -> Result<Loan, Shortage> {
    let mut bytes = Vec::new();
    try_reserve(&mut bytes, pages.len()).map_err(|_| Shortage)?;
    bytes.extend(pages.iter().map(|page| frames.address(page.frame())));
    // SAFETY: the frames' own bytes, whose pages the caller has exclusively busied.
    Ok(unsafe { Loan::new(bytes, purpose, 0) })
}

/// Lends a buffer: a copy of the bytes, or room for them. The loan's note is the buffer's length in pages.
pub(super) fn lend_copies(frames: &Frames, pages: &[PageRef], purpose: Purpose) -> Result<Loan, Shortage> {
    let mut addresses = Vec::new();
    try_reserve(&mut addresses, pages.len()).map_err(|_| Shortage)?;
    if pages.is_empty() {
        // SAFETY: a loan of nothing.
        return Ok(unsafe { Loan::new(addresses, purpose, 0) });
    }
    // SAFETY: the layout's size is not zero: there is a page.
    let buffer = NonNull::new(unsafe { alloc(layout(pages.len())) }).ok_or(Shortage)?;
    for (i, page) in pages.iter().enumerate() {
        // SAFETY: the buffer has room for every page, and is ours alone. Writing junk initialises it.
        let copy = unsafe {
            let copy = buffer.add(i * PAGE_BYTES);
            copy.write_bytes(JUNK, PAGE_BYTES);
            core::slice::from_raw_parts_mut(copy.as_ptr(), PAGE_BYTES)
        };
        if purpose == Purpose::Read {
            bytes::read(frames.words(page.frame()), 0, copy);
        }
        addresses.push(NonNull::from(copy).cast());
    }
    // SAFETY: pages of a buffer that is ours alone until `take_copies_back` frees it, by its first address and the note.
    Ok(unsafe { Loan::new(addresses, purpose, pages.len() as u64) })
}

/// Takes a buffer back, and brings into the frames what is kept.
pub(super) fn take_copies_back(frames: &Frames, pages: &[PageRef], loan: &Loan, keep: &dyn Fn(usize) -> bool) {
    assert!(
        loan.note() == pages.len() as u64,
        "a loan was taken back for other pages than it was made for"
    );
    let Some(buffer) = loan.bytes().first() else { return };
    for (i, page) in pages.iter().enumerate() {
        if loan.purpose() == Purpose::Fill && keep(i) {
            // SAFETY: a page of the buffer, initialised when it was made. The borrower has handed it back.
            let copy = unsafe { core::slice::from_raw_parts(loan.bytes()[i].as_ptr(), PAGE_BYTES) };
            bytes::write(frames.words(page.frame()), 0, copy);
        }
    }
    // SAFETY: the first page's address is the buffer's, allocated for as many pages as the loan's note says.
    unsafe { dealloc(buffer.as_ptr(), layout(pages.len())) };
}

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_BYTES, PAGE_BYTES).unwrap_or_else(|_| unreachable!("the pages exist"))
}
