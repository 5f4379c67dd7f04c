//! A driver: the table that its module answers, checked, as the device pager is given it.

use alloc::boxed::Box;
use core::ffi::{c_char, c_void};
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;

use quire_abi as abi;
use quire_abi::golden::Described;
use quire_core::alloc_fallible::try_box;
use quire_core::error::{Cause, PagerError, Result};

use crate::module::size_u32;

/// The driver of a module, as device pagers are told of it.
///
/// # Invariants
/// - `handle.table` is `table`, the host's own copy: members that the driver does not know are absent.
/// - It lives as long as its module; whoever uses it has a place among the module's open objects.
pub(crate) struct Driver {
    handle: abi::DriverHandle,
    table: Box<abi::Driver>,
}

impl Driver {
    /// Copies and checks a driver's table. The driver's `name` and `ctx` are its module's.
    ///
    /// # Errors
    /// [`Cause::Invalid`], with what is wrong and what to do; [`Cause::NoMemory`].
    ///
    /// # Safety
    /// `raw` is a readable number, and if it is the size that a driver's table may have, then so many bytes are readable.
    pub(crate) unsafe fn read(
        raw: *const abi::Driver,
        ctx: *mut c_void,
        name: *const c_char,
    ) -> Result<Self, PagerError> {
        // SAFETY: by contract; nothing is said of its alignment.
        let size = unsafe { ptr::read_unaligned(ptr::addr_of!((*raw).struct_size)) };
        check_size(size)?;
        let len = usize::try_from(size).map_or(size_of::<abi::Driver>(), |n| n.min(size_of::<abi::Driver>()));
        let mut copy = MaybeUninit::<abi::Driver>::zeroed();
        // SAFETY: so many bytes are readable by contract, and no more than the copy holds are taken.
        unsafe { ptr::copy_nonoverlapping(raw.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), len) };
        // SAFETY: all bytes are set; integers and nullable function pointers are valid for any bits, zeros included.
        let mut table = unsafe { copy.assume_init() };
        table.struct_size = size_u32::<abi::Driver>();
        check_members(&table)?;
        let table = try_box(table).map_err(|_| PagerError::bare(Cause::NoMemory))?;
        let handle = abi::DriverHandle {
            struct_size: size_u32::<abi::DriverHandle>(),
            reserved: 0,
            table: &raw const *table,
            ctx,
            name,
        };
        Ok(Self { handle, table })
    }

    /// What a pager's `open` is given.
    pub(crate) fn handle(&self) -> *const abi::DriverHandle {
        &raw const self.handle
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("kind", &self.table.kind)
            .finish_non_exhaustive()
    }
}

fn check_size(size: u32) -> Result<(), PagerError> {
    if size < abi::QUIRE_DRIVER_MIN_SIZE {
        return Err(flaw(format_args!(
            "it has {size} bytes, and every one has at least {}; set struct_size to sizeof(struct quire_driver)",
            abi::QUIRE_DRIVER_MIN_SIZE
        )));
    }
    let cut = usize::try_from(size)
        .ok()
        .and_then(|size| abi::Driver::GOLDEN.cut_member(size));
    match cut {
        Some(member) => Err(flaw(format_args!(
            "struct_size {size} ends inside a member, {member}; use sizeof(struct quire_driver) and rebuild it"
        ))),
        None => Ok(()),
    }
}

/// What a driver of its kind must have, and must not have (S213).
fn check_members(table: &abi::Driver) -> Result<(), PagerError> {
    let managed = table.kind == abi::QUIRE_DRIVER_MANAGED;
    match table.kind {
        abi::QUIRE_DRIVER_UNMANAGED | abi::QUIRE_DRIVER_MANAGED | abi::QUIRE_DRIVER_PHYS => {}
        kind => {
            return Err(flaw(format_args!(
                "kind {kind} is unknown; use one of QUIRE_DRIVER_..."
            )));
        }
    }
    if table.ctor.is_none() || table.dtor.is_none() {
        let what = if table.ctor.is_none() { "ctor" } else { "dtor" };
        return Err(flaw(format_args!(
            "the mandatory {what} is missing; add it to the table"
        )));
    }
    if table.kind == abi::QUIRE_DRIVER_UNMANAGED && table.populate.is_some() {
        return Err(flaw(format_args!(
            "an unmanaged driver cannot have populate; answer each page with fault, or make it QUIRE_DRIVER_PHYS"
        )));
    }
    if !managed && table.put.is_some() {
        return Err(flaw(format_args!(
            "only a managed driver can have put, because writes to a device's own frames need none; leave put out, or make it \
             QUIRE_DRIVER_MANAGED"
        )));
    }
    Ok(())
}

fn flaw(what: fmt::Arguments<'_>) -> PagerError {
    PagerError::new(Cause::Invalid, what)
}
