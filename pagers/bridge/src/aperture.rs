//! Memory of devices at the border: `struct quire_aperture`, and the services about it.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use quire_abi as abi;
use quire_core::aperture::{self, ApertureId, DeviceFile, DeviceMemory};
use quire_core::error::{Cause, Error, PagerError, Result};
use quire_core::types::{CacheMode, PAGE_SHIFT, PAGE_SIZE, PageIndex};

use crate::host::{HostState, Level, run_of_pages, state};

/// What an aperture is to show: memory, a file, or memory that a file has as well.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where it is in this process; without it the file is to be mapped.
    pub memory: Option<NonNull<u8>>,
    /// Bytes: whole pages, at least one.
    pub len: u64,
    /// The file. It stays the caller's.
    pub file: Option<DeviceFile>,
}

/// Who finds out what memory is like, and maps files: [`only_addresses`], or the host's own.
///
/// # Safety
/// For the caller: memory that is named can be read and written, as far as it allows that, until the answer is dropped.
pub type OpenMemory = unsafe fn(&Wanted) -> Result<DeviceMemory, PagerError>;

/// For a host that maps no files: memory is taken for what it is said to be.
///
/// # Errors
/// [`Cause::Unsupported`] where there is only a file.
///
/// # Safety
/// As [`OpenMemory`] asks; the memory can be written.
pub unsafe fn only_addresses(wanted: &Wanted) -> Result<DeviceMemory, PagerError> {
    let Some(start) = wanted.memory else {
        return Err(PagerError::new(
            Cause::Unsupported,
            format_args!("this host maps no files: register the memory by its address"),
        ));
    };
    // SAFETY: this function's contract.
    let mut memory = unsafe { DeviceMemory::new(start, wanted.len) };
    memory.file = wanted.file;
    Ok(memory)
}

/// Registers what a `struct quire_aperture` describes.
///
/// # Errors
/// What is wrong with it, in words.
///
/// # Safety
/// `what` is NULL, or readable for as many bytes as its first word says, and what it names is as the header asks until the aperture has been
/// removed.
pub unsafe fn add(what: *const abi::Aperture, open: OpenMemory) -> Result<ApertureId, PagerError> {
    // SAFETY: this function's contract.
    let what = unsafe { read(what) }?;
    let (wanted, cache) = check(&what).map_err(|what| PagerError::new(Cause::Invalid, format_args!("{what}")))?;
    // SAFETY: as above.
    let memory = unsafe { open(&wanted) }?;
    aperture::add(memory, cache).map_err(refused)
}

/// Ends an aperture.
///
/// # Errors
/// [`Error::Invalid`], [`Error::InUse`]: see [`aperture::remove`].
pub fn remove(id: u64) -> Result<(), Error> {
    aperture::remove(ApertureId(id))
}

/// No version of the struct will ever be larger: a larger size is a member that was never set.
const MAX_SIZE: usize = 4096;

/// # Safety
/// As [`add`].
unsafe fn read(what: *const abi::Aperture) -> Result<abi::Aperture, PagerError> {
    let invalid = |why: &str| PagerError::new(Cause::Invalid, format_args!("{why}"));
    if what.is_null() {
        return Err(invalid("the aperture is NULL; pass a struct quire_aperture"));
    }
    // SAFETY: this function's contract; it may lie anywhere.
    let size = unsafe { what.cast::<u32>().read_unaligned() } as usize;
    if size < abi::QUIRE_APERTURE_MIN_SIZE as usize || size > MAX_SIZE {
        return Err(invalid(
            "struct_size of quire_aperture is not its size; set it to its sizeof",
        ));
    }
    // SAFETY: as above.
    let given = unsafe { core::slice::from_raw_parts(what.cast::<u8>(), size) };
    let known = size.min(size_of::<abi::Aperture>());
    if given[known..].iter().any(|byte| *byte != 0) {
        return Err(invalid("quire_aperture has members that this host does not know"));
    }
    let mut value = MaybeUninit::<abi::Aperture>::zeroed();
    // SAFETY: no more is copied than both have; any bits make the struct, which is made of numbers and a pointer.
    Ok(unsafe {
        ptr::copy_nonoverlapping(given.as_ptr(), value.as_mut_ptr().cast::<u8>(), known);
        value.assume_init()
    })
}

fn check(what: &abi::Aperture) -> Result<(Wanted, CacheMode), &'static str> {
    let cache = match what.cache {
        abi::QUIRE_CACHE_WRITE_BACK => CacheMode::WriteBack,
        abi::QUIRE_CACHE_WRITE_COMBINING => CacheMode::WriteCombining,
        abi::QUIRE_CACHE_UNCACHED => CacheMode::Uncached,
        _ => return Err("the aperture's cache is none of QUIRE_CACHE_..."),
    };
    if what.reserved != 0 {
        return Err("the aperture's reserved member is not zero");
    }
    let memory = NonNull::new(what.memory.cast::<u8>());
    let aligned = |number: u64| number.is_multiple_of(PAGE_SIZE);
    if what.length == 0 {
        return Err("an aperture of no bytes shows nothing; give its length");
    }
    let address = what.memory.addr() as u64;
    if !aligned(what.length) || !aligned(address) || !aligned(what.offset) {
        return Err("the aperture's memory, length and offset must be multiples of the page size");
    }
    if address.checked_add(what.length).is_none() || what.offset.checked_add(what.length).is_none() {
        return Err("the aperture's end does not fit 64 bits; give a shorter length");
    }
    let file = (what.fd >= 0).then_some(DeviceFile {
        fd: what.fd,
        offset: what.offset,
    });
    if memory.is_none() && file.is_none() {
        return Err("the aperture has neither memory nor a file descriptor; give one of them, and fd -1 for none");
    }
    let len = what.length;
    Ok((Wanted { memory, len, file }, cache))
}

fn refused(error: Error) -> PagerError {
    let cause = match error {
        Error::NoMemory | Error::InUse(_) => Cause::NoMemory,
        _ => Cause::Invalid,
    };
    PagerError::new(cause, format_args!("{error}"))
}

/// The service `aperture_add`.
pub(crate) unsafe extern "C" fn aperture_add(
    host: *mut abi::Host,
    what: *const abi::Aperture,
    aperture: *mut u64,
) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    if aperture.is_null() {
        return abi::QUIRE_PAGER_INVALID;
    }
    // SAFETY: the ABI asks for a struct of the size it names, and for memory that stays.
    match unsafe { add(what, host.open_memory) } {
        Ok(id) => {
            // SAFETY: not NULL, and a place for a number by contract; it may lie anywhere.
            unsafe { ptr::write_unaligned(aperture, id.0) };
            abi::QUIRE_PAGER_OK
        }
        Err(error) => host.refuse("aperture_add", &error),
    }
}

/// The service `aperture_remove`.
pub(crate) unsafe extern "C" fn aperture_remove(host: *mut abi::Host, aperture: u64) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    match remove(aperture) {
        Ok(()) => abi::QUIRE_PAGER_OK,
        Err(Error::InUse(_)) => abi::QUIRE_PAGER_AGAIN,
        Err(error) => host.refuse(
            "aperture_remove",
            &PagerError::new(Cause::Invalid, format_args!("{error}")),
        ),
    }
}

/// The service `frame_insert`.
pub(crate) unsafe extern "C" fn frame_insert(
    host: *mut abi::Host,
    token: u64,
    first: u64,
    count: u32,
    aperture: u64,
    offset: u64,
    inserted: *mut u32,
) -> i32 {
    // SAFETY: the ABI asks the plugin for its own host.
    let Some(host) = (unsafe { state(host) }) else {
        return abi::QUIRE_PAGER_INVALID;
    };
    if !offset.is_multiple_of(PAGE_SIZE) {
        return abi::QUIRE_PAGER_INVALID;
    }
    let (aperture, frame) = (ApertureId(aperture), offset >> PAGE_SHIFT);
    // SAFETY: as the ABI says of `inserted`.
    unsafe {
        run_of_pages(host, "frame_insert", token, count, inserted, |request| {
            request.insert_frames(PageIndex(first), count.into(), aperture, frame)
        })
    }
}

impl HostState {
    /// The status for a plugin, whose log has the words.
    fn refuse(&self, service: &str, error: &PagerError) -> i32 {
        self.log(Level::Error, format_args!("{service}: {error}"));
        match error.cause {
            Cause::NoMemory => abi::QUIRE_PAGER_NOMEM,
            Cause::Unsupported => abi::QUIRE_PAGER_UNSUPPORTED,
            Cause::Errno(errno) => -errno,
            _ => abi::QUIRE_PAGER_INVALID,
        }
    }
}
