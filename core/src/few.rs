//! A short list on the stack, for paths that must not allocate.

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// Up to `N` of something. The first `len` places are initialised.
pub(crate) struct Few<T: Copy, const N: usize> {
    places: [MaybeUninit<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> Few<T, N> {
    pub(crate) const fn new() -> Self {
        Self {
            places: [const { MaybeUninit::uninit() }; N],
            len: 0,
        }
    }

    /// # Panics
    /// If there are `N` already.
    #[inline]
    pub(crate) fn push(&mut self, one: T) {
        self.places[self.len].write(one);
        self.len += 1;
    }
}

impl<T: Copy, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` places are initialised, and a MaybeUninit is laid out as what it holds.
        unsafe { core::slice::from_raw_parts(self.places.as_ptr().cast(), self.len) }
    }
}

impl<T: Copy, const N: usize> DerefMut for Few<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` proves that nobody else looks.
        unsafe { core::slice::from_raw_parts_mut(self.places.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Copy, const N: usize> FromIterator<T> for Few<T, N> {
    /// # Panics
    /// If there are more than `N`.
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut few = Self::new();
        all.into_iter().for_each(|one| few.push(one));
        few
    }
}

impl<T: Copy + fmt::Debug, const N: usize> fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_there_in_order_and_can_be_sorted() {
        let mut few: Few<u8, 3> = [3, 1].into_iter().collect();
        few.push(2);
        assert_eq!(*few, [3, 1, 2]);
        few.sort_unstable();
        assert_eq!(*few, [1, 2, 3]);
        assert!(Few::<u8, 3>::new().is_empty());
    }

    #[test]
    #[should_panic(expected = "out of bounds")]
    fn one_too_many_is_caught() {
        let _: Few<u8, 2> = [1, 2, 3].into_iter().collect();
    }
}
