//! Structs that the host hands in, which may be shorter or longer than this version knows them.

use std::mem::MaybeUninit;
use std::ptr;

use quire_abi::golden::Described;
use quire_abi::{
    Aperture, Driver, DriverFault, DriverHandle, Extent, HostApi, Io, OpenArgs, OpenResult, PageApi, Populate,
    QUIRE_APERTURE_MIN_SIZE, QUIRE_DRIVER_FAULT_MIN_SIZE, QUIRE_DRIVER_HANDLE_MIN_SIZE, QUIRE_DRIVER_MIN_SIZE,
    QUIRE_PAGER_EXTENT_MIN_SIZE, QUIRE_PAGER_FLAGS_MUST_KNOW, QUIRE_PAGER_HOST_API_MIN_SIZE, QUIRE_PAGER_IO_MIN_SIZE,
    QUIRE_PAGER_OPEN_ARGS_MIN_SIZE, QUIRE_PAGER_OPEN_RESULT_MIN_SIZE, QUIRE_PAGER_POPULATE_MIN_SIZE,
};

use crate::error::{Error, Result};

/// A struct of the ABI that may grow.
///
/// # Safety
/// All-zero bytes are a valid value, and any bytes in its members are.
pub(crate) unsafe trait Sized32: Described {
    /// What every version of the struct has at least, in bytes.
    const MIN_SIZE: u32;
    /// Where it keeps its size.
    fn size_at(this: *const Self) -> *const u32;
}

/// The words before the functions.
#[allow(clippy::cast_possible_truncation, reason = "two words")]
const PAGE_API_MIN_SIZE: u32 = std::mem::offset_of!(PageApi, busied) as u32;

macro_rules! sized {
    ($($type:ty: $min:ident;)*) => {$(
        // SAFETY: numbers, raw pointers and optional functions, all of which may be zero.
        unsafe impl Sized32 for $type {
            const MIN_SIZE: u32 = $min;
            fn size_at(this: *const Self) -> *const u32 {
                // No memory is touched.
                this.wrapping_byte_add(std::mem::offset_of!($type, struct_size)).cast()
            }
        }
    )*};
}

sized! {
    HostApi: QUIRE_PAGER_HOST_API_MIN_SIZE;
    PageApi: PAGE_API_MIN_SIZE;
    OpenArgs: QUIRE_PAGER_OPEN_ARGS_MIN_SIZE;
    OpenResult: QUIRE_PAGER_OPEN_RESULT_MIN_SIZE;
    Io: QUIRE_PAGER_IO_MIN_SIZE;
    Extent: QUIRE_PAGER_EXTENT_MIN_SIZE;
    Populate: QUIRE_PAGER_POPULATE_MIN_SIZE;
    DriverHandle: QUIRE_DRIVER_HANDLE_MIN_SIZE;
    Driver: QUIRE_DRIVER_MIN_SIZE;
    DriverFault: QUIRE_DRIVER_FAULT_MIN_SIZE;
    Aperture: QUIRE_APERTURE_MIN_SIZE;
}

/// The size that the host gave its struct, if it is one that a version of it can have.
///
/// # Safety
/// `from` is NULL, or points to a struct whose `struct_size` is readable.
pub(crate) unsafe fn size_of_hosts<T: Sized32>(from: *const T) -> Result<usize> {
    let name = T::GOLDEN.c_name;
    if from.is_null() {
        return Err(Error::invalid(format!("the host passed no struct {name}")));
    }
    // SAFETY: readable, as the caller says.
    let size = unsafe { T::size_at(from).read() };
    if size < T::MIN_SIZE {
        return Err(Error::invalid(format!(
            "the host's struct {name} is {size} bytes long, and every one has at least {}",
            T::MIN_SIZE
        )));
    }
    let size = size as usize;
    let whole = size >= size_of::<T>();
    match (!whole).then(|| T::GOLDEN.cut_member(size)).flatten() {
        Some(member) => Err(Error::invalid(format!(
            "the host's struct {name} is {size} bytes long, which ends inside a member, {member}"
        ))),
        None => Ok(size),
    }
}

/// A copy of the host's struct as this version knows it: what an older host does not have is zero.
///
/// # Safety
/// `from` is NULL, or points to a struct of as many bytes as its `struct_size` says.
pub(crate) unsafe fn read<T: Sized32>(from: *const T) -> Result<T> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_hosts(from) }?.min(size_of::<T>());
    let mut own = MaybeUninit::<T>::zeroed();
    // SAFETY: at most the host's size is read, and at most ours written; zeros are a valid `T`.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), own.as_mut_ptr().cast::<u8>(), size);
        Ok(own.assume_init())
    }
}

/// The struct of a host that has none of it.
pub(crate) fn absent<T: Sized32>() -> T {
    // SAFETY: zeros are a valid `T`.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Stores as much of `value` as the host has room for. The host's `struct_size` stays as it is.
///
/// # Safety
/// As for [`read`]; the struct is writable too.
pub(crate) unsafe fn write<T: Sized32>(to: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_hosts(to) }?.min(size_of::<T>());
    let own_size = T::size_at(to).cast_mut();
    // SAFETY: as in `read`, the other way round.
    unsafe {
        let hosts = own_size.read();
        ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), size);
        own_size.write(hosts);
    }
    Ok(())
}

/// Refuses flags that must be understood and are not; others may be ignored.
pub(crate) fn check_flags(what: &str, flags: u32, known: u32) -> Result<()> {
    match flags & QUIRE_PAGER_FLAGS_MUST_KNOW & !known {
        0 => Ok(()),
        unknown => Err(Error::invalid(format!(
            "{what} has the flags {unknown:#x}, which this pager must know and does not; build it with a newer quire-pager"
        ))),
    }
}
