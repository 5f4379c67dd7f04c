//! Allocation that can fail: what the standard library does not offer on the stable channel.
//!
//! The engine never lets the allocator's panic decide (rule 6 of the design): memory that cannot be had is
//! [`Error::NoMemory`](crate::error::Error::NoMemory). Tests can make every allocation that goes through here fail from a
//! chosen one on, and so prove that an operation which runs out of memory half way leaves nothing behind.

use alloc::alloc::alloc;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;

use crate::error::{Error, Result};

/// Moves `value` into a box of its own.
///
/// # Errors
/// [`Error::NoMemory`] when memory cannot be had; `value` is dropped then.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    refuse_if_told()?;
    // SAFETY: the layout's size is not zero, checked above.
    let memory = unsafe { alloc(layout) }.cast::<T>();
    if memory.is_null() {
        return Err(Error::NoMemory);
    }
    // SAFETY: `memory` is not null and was just allocated by the global allocator with the layout of `T`, so it is
    // aligned, writable, ours alone, and exactly what a box of `T` gives back when it is dropped.
    unsafe {
        memory.write(value);
        Ok(Box::from_raw(memory))
    }
}

/// Makes room for `more` values behind those in `list`.
///
/// # Errors
/// [`Error::NoMemory`] when memory cannot be had; the list is as it was.
pub fn try_reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    if list.capacity() - list.len() >= more {
        return Ok(());
    }
    refuse_if_told()?;
    list.try_reserve(more).map_err(|_| Error::NoMemory)
}

#[cfg(not(test))]
fn refuse_if_told() -> Result<()> {
    Ok(())
}

#[cfg(test)]
use failing::refuse_if_told;

/// Makes allocations of the calling thread fail, in tests.
#[cfg(test)]
pub(crate) mod failing {
    extern crate std;

    use core::cell::Cell;

    use crate::error::{Error, Result};

    std::thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// From now on `n` allocations of this thread succeed and all later ones fail; `None` ends it.
    pub(crate) fn after(n: Option<usize>) {
        LEFT.set(n);
    }

    pub(super) fn refuse_if_told() -> Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(Error::NoMemory),
            Some(n) => {
                LEFT.set(Some(n - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_allocation_is_an_error_and_the_next_one_can_succeed() {
        failing::after(Some(1));
        assert_eq!(*try_box(7_u32).unwrap(), 7);
        assert_eq!(try_box(8_u32).unwrap_err(), Error::NoMemory);
        let mut list: Vec<u32> = Vec::new();
        assert_eq!(try_reserve(&mut list, 1), Err(Error::NoMemory));
        failing::after(None);
        assert_eq!(try_reserve(&mut list, 1), Ok(()));
        assert_eq!(*try_box(8_u32).unwrap(), 8);
    }

    #[test]
    fn a_value_without_a_size_needs_no_memory() {
        failing::after(Some(0));
        assert!(try_box(()).is_ok());
        failing::after(None);
    }
}
