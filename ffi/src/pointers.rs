//! How pointers from C are read and written.
//!
//! Structs that may grow begin with `struct_size`: the caller stores the size that it was compiled with. Of a struct
//! from an older program the members that it does not know are taken as 0; one from a newer program is accepted if
//! the members that we do not know are 0. Of an answer only the members that the caller knows are written.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

use crate::fail::{Fail, Result};

/// A struct that begins with its size.
///
/// # Safety
/// `repr(C)`, begins with a `u32`, and valid for any bits.
pub(crate) unsafe trait Sized32: Copy {
    /// What C calls it.
    const NAME: &'static str;
    /// How large its first version was.
    const FIRST: usize = size_of::<Self>();
}

/// No struct of this API will ever be larger: a larger size is a member that was never set.
const MAX_SIZE: usize = 4096;

/// Copies a struct that the caller filled in.
///
/// # Safety
/// `from` is NULL or readable for as many bytes as its first word says.
pub(crate) unsafe fn read_sized<T: Sized32>(from: *const T) -> Result<T> {
    // SAFETY: this function's contract.
    let size = unsafe { size_of_caller(from.cast::<u32>(), T::NAME) }?;
    // The size of every version is a multiple of its alignment.
    if size < T::FIRST || !size.is_multiple_of(align_of::<T>()) {
        return Err(Fail::invalid(format!(
            "struct_size of {} is {size}; set it to its sizeof",
            T::NAME
        )));
    }
    // SAFETY: `size` bytes are readable.
    let given = unsafe { slice::from_raw_parts(from.cast::<u8>(), size) };
    let known = size.min(size_of::<T>());
    if given[known..].iter().any(|byte| *byte != 0) {
        return Err(Fail::invalid(format!(
            "{} has members that this version of Quire does not know",
            T::NAME
        )));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: no more is copied than both have; and any bits make a T, zeros where the caller knows of no member.
    Ok(unsafe {
        value
            .as_mut_ptr()
            .cast::<u8>()
            .copy_from_nonoverlapping(given.as_ptr(), known);
        value.assume_init()
    })
}

/// Writes as much of `value` as the caller knows, but for the size.
///
/// # Safety
/// `to` is NULL, or readable, and writable for as many bytes as its first word says.
pub(crate) unsafe fn write_sized<T: Sized32>(to: *mut T, value: &T) -> Result {
    // SAFETY: this function's contract.
    let size = unsafe { size_of_caller(to.cast_const().cast::<u32>(), T::NAME) }?.min(size_of::<T>());
    let word = size_of::<u32>();
    let from = (&raw const *value).cast::<u8>();
    // SAFETY: no more is written than both sides have.
    unsafe {
        to.cast::<u8>()
            .add(word)
            .copy_from_nonoverlapping(from.add(word), size - word)
    };
    Ok(())
}

/// Checks a struct to be written later, before anything is done. NULL stands for no interest.
///
/// # Safety
/// `to` is NULL or readable.
pub(crate) unsafe fn check_sized<T: Sized32>(to: *mut T) -> Result {
    if !to.is_null() {
        // SAFETY: this function's contract.
        unsafe { size_of_caller(to.cast_const().cast::<u32>(), T::NAME) }?;
    }
    Ok(())
}

/// As `write_sized`; NULL stands for no interest.
///
/// # Safety
/// As for `write_sized`.
pub(crate) unsafe fn write_optional<T: Sized32>(to: *mut T, value: &T) -> Result {
    if to.is_null() {
        return Ok(());
    }
    // SAFETY: this function's contract.
    unsafe { write_sized(to, value) }
}

/// # Safety
/// `size` is NULL or readable.
unsafe fn size_of_caller(size: *const u32, name: &str) -> Result<usize> {
    if size.is_null() {
        return Err(Fail::invalid(format!("the pointer to {name} is NULL")));
    }
    // SAFETY: this function's contract; nothing is said of its alignment.
    match usize::try_from(unsafe { size.read_unaligned() }) {
        Ok(size) if (2 * size_of::<u32>()..=MAX_SIZE).contains(&size) => Ok(size),
        _ => Err(Fail::invalid(format!(
            "struct_size of {name} is not set; set it to its sizeof"
        ))),
    }
}

/// Checks an out-parameter before anything is done that would have to be undone.
pub(crate) fn check_out<T>(out: *mut T, what: &str) -> Result {
    if out.is_null() {
        return Err(Fail::invalid(format!(
            "{what} is NULL; there is nowhere to store the answer"
        )));
    }
    Ok(())
}

/// # Safety
/// `out` is writable.
pub(crate) unsafe fn store<T>(out: *mut T, value: T) {
    // SAFETY: this function's contract; nothing is said of its alignment.
    unsafe { out.write_unaligned(value) }
}

/// # Safety
/// `text` is NULL or zero-terminated, and does not change as long as the answer is used.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: this function's contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// # Safety
/// `at` is NULL or readable for `len` bytes, which do not change as long as the answer is used.
pub(crate) unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Result<&'a [u8]> {
    check_buffer(at, len)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: this function's contract, and it fits an address space.
    Ok(unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}

/// # Safety
/// `at` is NULL or writable for `len` bytes, which nobody else touches as long as the answer is used.
pub(crate) unsafe fn bytes_mut<'a>(at: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    check_buffer(at, len)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as in `bytes`. That the bytes may not be initialised yet does not matter: they are only written.
    Ok(unsafe { slice::from_raw_parts_mut(at.cast::<u8>(), len) })
}

fn check_buffer(at: *const c_void, len: usize) -> Result {
    if at.is_null() && len != 0 {
        return Err(Fail::invalid("the buffer is NULL, and its length is not 0"));
    }
    if isize::try_from(len).is_err() {
        return Err(Fail::invalid("the buffer is longer than an address space has room for"));
    }
    Ok(())
}

/// Writes a text for C: cut to `len` bytes, its terminating zero included.
///
/// # Safety
/// `to` is NULL or writable for `len` bytes.
pub(crate) unsafe fn write_text(to: *mut c_char, len: usize, text: &str) -> Result {
    // SAFETY: this function's contract.
    let to = unsafe { bytes_mut(to.cast::<c_void>(), len) }?;
    let Some(room) = len.checked_sub(1) else {
        return Err(Fail::invalid(
            "there is no room for the text: its terminating zero needs one byte",
        ));
    };
    let text = cut(text, room).as_bytes();
    to[..text.len()].copy_from_slice(text);
    to[text.len()] = 0;
    Ok(())
}

/// A text for C as a member of a struct, cut to fit.
pub(crate) fn text_member<const N: usize>(text: &str) -> [c_char; N] {
    let mut member = [0; N];
    for (to, from) in member.iter_mut().zip(cut(text, N.saturating_sub(1)).bytes()) {
        *to = from.cast_signed();
    }
    member
}

/// As much of a text as fits.
fn cut(text: &str, room: usize) -> &str {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A struct that programs have arrays of. It grows at its end, and the call is told the size that the program was compiled with.
///
/// # Safety
/// `repr(C)` and without padding.
pub(crate) unsafe trait Element: Copy {
    /// What C calls it.
    const NAME: &'static str;
    /// How large its first version was.
    const FIRST: usize = size_of::<Self>();
}

/// A program's array, to be filled.
pub(crate) struct Array<'a, T> {
    bytes: &'a mut [u8],
    size: usize,
    of: PhantomData<T>,
}

impl<T: Element> Array<'_, T> {
    /// Checks an array of `room` structs of `size` bytes each, before anything is done. NULL is right if there is no room. `what`: how C calls
    /// the size.
    ///
    /// # Safety
    /// `at` is NULL or writable for as much, which nobody else touches as long as the answer is used.
    pub(crate) unsafe fn new(at: *mut T, what: &str, size: usize, room: usize) -> Result<Self> {
        if room > 0 && !(T::FIRST..=MAX_SIZE).contains(&size) {
            return Err(Fail::invalid(format!(
                "{what} is {size}; pass sizeof(struct {})",
                T::NAME
            )));
        }
        let length = room
            .checked_mul(size)
            .ok_or_else(|| Fail::invalid("the array is longer than an address space has room for"))?;
        // SAFETY: this function's contract.
        let bytes = unsafe { bytes_mut(at.cast(), length) }?;
        let of = PhantomData;
        Ok(Self { bytes, size, of })
    }

    /// Stores the first items, as many as there is room for. What the program knows beyond them is 0.
    pub(crate) fn fill(self, items: impl Iterator<Item = T>) {
        if self.bytes.is_empty() {
            return;
        }
        for (to, item) in self.bytes.chunks_exact_mut(self.size).zip(items) {
            // SAFETY: without padding, so that it can be looked at as bytes.
            let from = unsafe { slice::from_raw_parts((&raw const item).cast::<u8>(), size_of::<T>()) };
            let known = from.len().min(to.len());
            to[..known].copy_from_slice(&from[..known]);
            to[known..].fill(0);
        }
    }
}

/// Refuses bits that have no meaning.
pub(crate) fn check_flags(flags: u32, known: u32, what: &str) -> Result {
    let unknown = flags & !known;
    if unknown == 0 {
        return Ok(());
    }
    Err(Fail::invalid(format!("{what} has unknown bits {unknown:#x}")))
}
