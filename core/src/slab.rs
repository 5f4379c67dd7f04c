//! Things by number, which stay where they are: in chunks, so that growing moves nothing. Numbers are given anew when their thing has gone.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::alloc_fallible::{try_box, try_reserve};
use crate::error::{Error, Result};

const CHUNK: u32 = 64;
const PLACES: usize = CHUNK as usize;

#[derive(Debug)]
enum Place<T> {
    Used(T),
    /// The next free number.
    Free(Option<NonZeroU32>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Place<T>; PLACES]>>,
    free: Option<NonZeroU32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: None,
        }
    }

    /// Sees to it that the next [`Slab::insert`] cannot fail.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    #[allow(clippy::cast_possible_truncation, reason = "a place in a chunk")]
    pub(crate) fn reserve(&mut self) -> Result<()> {
        if self.free.is_some() {
            return Ok(());
        }
        try_reserve(&mut self.chunks, 1)?;
        let base = u32::try_from(self.chunks.len() * PLACES).map_err(|_| Error::NoMemory)?;
        let last = base.checked_add(CHUNK).ok_or(Error::NoMemory)?;
        let mut numbers = base + 2..=last;
        let chunk = try_box(core::array::from_fn(|_| {
            Place::Free(numbers.next().and_then(NonZeroU32::new))
        }))?;
        self.chunks.push(chunk);
        self.free = NonZeroU32::new(base + 1);
        Ok(())
    }

    /// Takes a thing in, and gives it a number.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; it is dropped then.
    pub(crate) fn insert(&mut self, thing: T) -> Result<NonZeroU32> {
        self.reserve()?;
        let Some(number) = self.free else {
            return Err(Error::NoMemory);
        };
        let place = self.place_mut(number);
        let Place::Free(next) = core::mem::replace(place, Place::Used(thing)) else {
            unreachable!("a number on the free list is free")
        };
        self.free = next;
        Ok(number)
    }

    /// Takes a thing out.
    pub(crate) fn remove(&mut self, number: NonZeroU32) -> T {
        let free = self.free;
        let Place::Used(thing) = core::mem::replace(self.place_mut(number), Place::Free(free)) else {
            unreachable!("nothing has the number {number}")
        };
        self.free = Some(number);
        thing
    }

    #[inline]
    pub(crate) fn get(&self, number: NonZeroU32) -> &T {
        let at = number.get() as usize - 1;
        match &self.chunks[at / PLACES][at % PLACES] {
            Place::Used(thing) => thing,
            Place::Free(_) => unreachable!("nothing has the number {number}"),
        }
    }

    pub(crate) fn get_mut(&mut self, number: NonZeroU32) -> &mut T {
        match self.place_mut(number) {
            Place::Used(thing) => thing,
            Place::Free(_) => unreachable!("nothing has the number {number}"),
        }
    }

    fn place_mut(&mut self, number: NonZeroU32) -> &mut Place<T> {
        let at = number.get() as usize - 1;
        &mut self.chunks[at / PLACES][at % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_anew_and_things_stay_where_they_are() {
        let mut slab = Slab::new();
        let numbers: Vec<_> = (0..200).map(|n| slab.insert(n).unwrap()).collect();
        for (n, number) in numbers.iter().enumerate() {
            assert_eq!(*slab.get(*number), n);
        }
        assert_eq!(slab.remove(numbers[70]), 70);
        assert_eq!(slab.insert(7).unwrap(), numbers[70]);
        *slab.get_mut(numbers[0]) += 5;
        assert_eq!(*slab.get(numbers[0]), 5);
    }
}
