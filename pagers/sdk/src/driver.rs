//! Drivers of devices, in safe Rust: what the author of a device implements, and the table that comes out of it.
//!
//! A driver is a module of its own, without the operations of a pager. Its devices are opened through the device pager, which calls
//! the driver's narrow table: `ctor`, `dtor`, `fault`, `populate`, `put`, `path`, `sync`. Implement [`Driver`] and [`Device`], and
//! [`Populate`], [`Put`] and [`Durable`] for what the device can do beyond that; [`export_driver!`](crate::export_driver) makes the crate a
//! plugin.
//!
//! A whole driver, whose page *n* holds the number *n*, sixteen pages a fault:
//!
//! ```
//! use std::ffi::CStr;
//! use quire_pager::{Device, DeviceFault, DeviceKind, Driver, OpenRequest, Opened, Populate, PopulateRun, Populated, Result};
//!
//! struct Counting;
//! struct Numbers;
//!
//! impl Driver for Counting {
//!     const NAME: &'static CStr = c"counting";
//!     const KIND: DeviceKind = DeviceKind::Managed;
//!     type Device = Numbers;
//!
//!     fn ctor(_request: &OpenRequest<'_>) -> Result<Opened<Numbers>> {
//!         Ok(Opened::new(Numbers, 1 << 20))
//!     }
//! }
//!
//! impl Device for Numbers {
//!     fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
//!         let number = fault.index().to_le_bytes();
//!         fault.fill(&number)
//!     }
//! }
//!
//! impl Populate for Numbers {
//!     fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
//!         let first = run.index() / 16 * 16;
//!         run.fill(first..=first + 15, |index, bytes| {
//!             bytes.fill(0);
//!             bytes[..8].copy_from_slice(&index.to_le_bytes());
//!             Ok(())
//!         })
//!     }
//! }
//!
//! quire_pager::export_driver!(Counting);
//! ```
//!
//! A device whose frames are its own and that has `populate` is [`DeviceKind::Phys`]; an unmanaged one does not compile (S213):
//!
//! ```compile_fail,E0080
//! # use std::ffi::CStr;
//! # use quire_pager::*;
//! # struct Frames;
//! # struct Memory;
//! impl Driver for Frames {
//!     const NAME: &'static CStr = c"frames";
//!     const KIND: DeviceKind = DeviceKind::Unmanaged;
//!     type Device = Memory;
//!     fn ctor(_request: &OpenRequest<'_>) -> Result<Opened<Memory>> {
//!         Ok(Opened::new(Memory, 1 << 20))
//!     }
//! }
//! impl Device for Memory {}
//! impl Populate for Memory {
//!     fn populate(&self, _run: &mut PopulateRun<'_>) -> Result<Populated> {
//!         Ok(Populated::UseGet)
//!     }
//! }
//! export_driver!(Frames);
//! ```

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::{fmt, ptr, slice};

use quire_abi::{
    DriverFault, DriverHandle, Io, Module, OpenArgs, OpenResult, QUIRE_CAP_DRIVER, QUIRE_DRIVER_EXTENSION,
    QUIRE_DRIVER_MANAGED, QUIRE_DRIVER_PHYS, QUIRE_DRIVER_UNMANAGED, QUIRE_PAGER_INVALID, QUIRE_PAGER_OK,
};

use crate::border;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::pager::{Caps, Durable, OpenRequest, Opened, Populate, Put, Threads};
use crate::populate::Access;
use crate::run::Origin;
use crate::table::{self, ObjectState, abi_size, guard, on_object};

/// Whose frames a device's pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The device's own, and each fault is answered with one of them.
    Unmanaged,
    /// The host's, filled by the driver, and written back with [`Put`].
    Managed,
    /// The device's own, and [`Populate`] installs large windows of them.
    Phys,
}

impl DeviceKind {
    const fn to_abi(self) -> u32 {
        match self {
            Self::Unmanaged => QUIRE_DRIVER_UNMANAGED,
            Self::Managed => QUIRE_DRIVER_MANAGED,
            Self::Phys => QUIRE_DRIVER_PHYS,
        }
    }
}

/// A driver: it makes devices, and has no state of its own.
///
/// The host calls no operation with a lock of its own held; each may block. A panic in any of them is caught, reported
/// with its message, and answered with `QUIRE_PAGER_FAULTED`; the host then quarantines the device.
pub trait Driver: Sized + 'static {
    /// Short name: lower-case letters, digits, `-` and `_`. Anything else does not compile.
    const NAME: &'static CStr;
    /// The driver's own version, for people; may be empty.
    const VERSION: &'static CStr = c"";
    /// One sentence, for people; may be empty.
    const DESCRIPTION: &'static CStr = c"";
    /// Which operations may run at the same time. The host enforces it.
    const THREADS: Threads = Threads::Parallel;
    /// What else the host must know.
    const CAPS: Caps = Caps::NONE;
    /// Whose frames the pages of its devices are.
    const KIND: DeviceKind;

    /// What `ctor` makes.
    type Device: Device;

    /// Makes the device that `request` names; its name and descriptor may be absent. Its size must not be 0. No `dtor` follows an error.
    fn ctor(request: &OpenRequest<'_>) -> Result<Opened<Self::Device>>;
}

/// A device. No operation is called after `dtor`, and `dtor` only when none is under way.
pub trait Device: Sized + Send + Sync + 'static {
    /// Answers one page. The default has none to give.
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        Err(Error::fail(format!("the device has no page {} to give", fault.index())))
    }

    /// Ends the device, once. The default drops it.
    fn dtor(self) {}
}

/// A fault that a device is to answer with one page.
pub struct DeviceFault<'a> {
    request: DriverFault,
    // The caller's own struct, lent for `'a`.
    place: *mut DriverFault,
    answered: bool,
    bytes: PhantomData<&'a mut [u8]>,
}

impl fmt::Debug for DeviceFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFault").field("request", &self.request).finish()
    }
}

impl DeviceFault<'_> {
    /// Copies the caller's request, after checking it.
    ///
    /// # Safety
    /// `place` is NULL, or a request as the ABI describes it, borrowed for the value's lifetime.
    unsafe fn adopt(place: *mut DriverFault) -> Result<Self> {
        // SAFETY: the caller's promise.
        let request = unsafe { border::read(place) }?;
        border::check_flags("the fault", request.flags, 0)?;
        if !request.page_size.is_power_of_two() {
            return Err(Error::invalid("the fault's page size is no power of two"));
        }
        Ok(Self {
            request,
            place,
            answered: false,
            bytes: PhantomData,
        })
    }

    /// The page index.
    pub fn index(&self) -> u64 {
        self.request.index
    }

    /// Byte offset, in the device, of the page.
    pub fn offset(&self) -> u64 {
        self.request.index * u64::from(self.request.page_size)
    }

    /// Bytes in a page; a power of two.
    pub fn page_size(&self) -> usize {
        self.request.page_size as usize
    }

    /// The access. Of a managed device always a read.
    pub fn access(&self) -> Access {
        Access::of(self.request.access)
    }

    /// The page's bytes, to be filled whole: they come with any contents.
    ///
    /// # Errors
    /// When the device is not managed: its pages are frames of its own.
    pub fn bytes(&mut self) -> Result<&mut [u8]> {
        if self.request.bytes.is_null() {
            return Err(Error::new(
                "the page has no bytes to fill, because the device's frames are its own; answer with a frame",
            ));
        }
        self.answered = true;
        // SAFETY: not NULL, so `page_size` bytes that are lent to this fault alone until it returns.
        Ok(unsafe { slice::from_raw_parts_mut(self.request.bytes.cast(), self.request.page_size as usize) })
    }

    /// Copies `data` into the page, and zeros behind it. Data beyond the page's end is cut.
    ///
    /// # Errors
    /// As [`DeviceFault::bytes`].
    pub fn fill(&mut self, data: &[u8]) -> Result<()> {
        let bytes = self.bytes()?;
        let len = data.len().min(bytes.len());
        bytes[..len].copy_from_slice(&data[..len]);
        bytes[len..].fill(0);
        Ok(())
    }

    /// Answers with a frame of the device's own: the page of `aperture` that begins at `offset`, a multiple of the page size.
    ///
    /// # Errors
    /// When the device is managed: its pages are to be filled.
    pub fn frame(&mut self, aperture: u64, offset: u64) -> Result<()> {
        if !self.request.bytes.is_null() {
            return Err(Error::new(
                "the device is managed, and cannot answer with a frame of its own; fill the page, or be unmanaged",
            ));
        }
        self.answered = true;
        // SAFETY: `adopt` checked the pointer, and both members are in every version of the struct.
        unsafe {
            (&raw mut (*self.place).aperture).write(aperture);
            (&raw mut (*self.place).offset).write(offset);
        }
        Ok(())
    }
}

/// A driver that a pager of devices is given.
#[derive(Debug, Clone)]
pub struct GivenDriver {
    /// Its table, as this version knows it: what an older driver or host does not have is absent. Its functions may be called until the close of
    /// the object that it was given for has returned.
    pub table: quire_abi::Driver,
    /// The first argument of its `ctor` and `dtor`.
    pub ctx: *mut c_void,
    /// Its short name.
    pub name: String,
}

impl GivenDriver {
    /// Copies what the host passed to `open`, after checking it.
    ///
    /// # Safety
    /// `handle` is NULL or as the ABI describes it.
    pub(crate) unsafe fn adopt(handle: *const DriverHandle) -> Result<Option<Self>> {
        if handle.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise, for the handle and for the table it names.
        let (handle, table) = unsafe {
            let handle = border::read(handle)?;
            (handle, border::read(handle.table)?)
        };
        // SAFETY: a driver's name is zero-terminated, if it has one.
        let name = (!handle.name.is_null()).then(|| unsafe { CStr::from_ptr(handle.name) });
        Ok(Some(Self {
            table,
            ctx: handle.ctx,
            name: name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        }))
    }
}

/// The table of a driver with what every one has; `driver!` adds the rest.
pub const fn base<D: Driver>() -> quire_abi::Driver {
    quire_abi::Driver {
        struct_size: abi_size::<quire_abi::Driver>(),
        kind: D::KIND.to_abi(),
        ctor: Some(ctor::<D>),
        dtor: Some(dtor::<D>),
        fault: Some(fault::<D>),
        populate: None,
        put: None,
        path: Some(path::<D>),
        sync: None,
    }
}

/// Refuses, while compiling, what the host would refuse when it loads the driver.
pub const fn checked(driver: quire_abi::Driver) -> quire_abi::Driver {
    let managed = driver.kind == QUIRE_DRIVER_MANAGED;
    assert!(
        driver.kind != QUIRE_DRIVER_UNMANAGED || driver.populate.is_none(),
        "an unmanaged driver cannot populate; answer each page with fault, or be DeviceKind::Phys"
    );
    assert!(
        managed || driver.put.is_none(),
        "only a managed driver can put, because writes to a device's own frames need none"
    );
    driver
}

type GetExtension = unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void;

/// The table of a driver's module; `get_extension` answers the driver's own table.
pub const fn module_base<D: Driver>(get_extension: GetExtension) -> Module {
    assert!(
        table::is_name(D::NAME),
        "a driver's NAME consists of lower-case letters, digits, '-' and '_'"
    );
    Module {
        thread_model: D::THREADS.to_abi(),
        caps: QUIRE_CAP_DRIVER | D::CAPS.to_abi() | table::PANIC_CAP,
        name: D::NAME.as_ptr(),
        version: table::text_or_null(D::VERSION),
        description: table::text_or_null(D::DESCRIPTION),
        get_extension: Some(get_extension),
        ..Module::EMPTY
    }
}

/// What a driver's module answers to `id`.
///
/// # Safety
/// `id` is NULL or zero-terminated.
pub unsafe fn extension(id: *const c_char, driver: &'static quire_abi::Driver) -> *const c_void {
    // SAFETY: the caller's promise.
    let is_it = !id.is_null() && unsafe { CStr::from_ptr(id) }.to_bytes_with_nul() == QUIRE_DRIVER_EXTENSION;
    if is_it {
        ptr::from_ref(driver).cast()
    } else {
        ptr::null()
    }
}

/// # Safety
/// As [`quire_abi::Driver::ctor`] says.
unsafe extern "C" fn ctor<D: Driver>(_ctx: *mut c_void, args: *const OpenArgs, out: *mut OpenResult) -> i32 {
    // SAFETY: the caller's arguments; the host's table in them is valid until `dtor` has returned, which retires it.
    let host = unsafe { border::read(args).and_then(|args| Host::adopt(args.host)) };
    let Ok(host) = host else { return QUIRE_PAGER_INVALID };
    let origin = Origin {
        host: host.clone(),
        pager: D::NAME.to_str().unwrap_or_default(),
        name: None,
    };
    let status = guard(&origin, "ctor", || {
        // SAFETY: as above, borrowed until this returns.
        let request = unsafe { table::adopt_open(args, out, &host) }?;
        let name = request.name().map(|name| name.to_string_lossy().into_owned());
        let opened = D::ctor(&request).map_err(|error| match &name {
            Some(name) => error.context(name),
            None => error,
        })?;
        let origin = Origin {
            host: host.clone(),
            pager: origin.pager,
            name,
        };
        // SAFETY: `adopt_open` checked the place.
        unsafe { table::store_opened(opened, origin, out) }
    });
    if status != QUIRE_PAGER_OK {
        host.retire();
    }
    status
}

/// # Safety
/// As [`quire_abi::Driver::dtor`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn dtor<D: Driver>(_ctx: *mut c_void, device: *mut c_void) {
    if device.is_null() {
        return;
    }
    // SAFETY: `ctor` made it from a box, and `dtor` is called once, with no operation under way.
    let state = unsafe { Box::from_raw(device.cast::<ObjectState<D::Device>>()) };
    let ObjectState { object, origin } = *state;
    guard(&origin, "dtor", || {
        object.dtor();
        Ok(QUIRE_PAGER_OK)
    });
    origin.host.retire();
}

/// # Safety
/// As [`quire_abi::Driver::fault`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn fault<D: Driver>(device: *mut c_void, request: *mut DriverFault) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        on_object::<D::Device>(device, "fault", |device, _| {
            let mut fault = DeviceFault::adopt(request)?;
            device
                .fault(&mut fault)
                .map_err(|error| error.context(format_args!("page {}", fault.request.index)))?;
            if !fault.answered {
                return Err(Error::new(format!(
                    "the driver answered without page {}; fill its bytes, or give a frame",
                    fault.request.index
                )));
            }
            Ok(QUIRE_PAGER_OK)
        })
    }
}

/// # Safety
/// As [`quire_abi::Driver::populate`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn populate<D: Driver>(device: *mut c_void, request: *mut quire_abi::Populate) -> i32
where
    D::Device: Populate,
{
    // SAFETY: the caller's promise.
    unsafe { table::populate_on::<D::Device>(device, request) }
}

/// # Safety
/// As [`quire_abi::Driver::put`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn put<D: Driver>(device: *mut c_void, io: *mut Io) -> i32
where
    D::Device: Put,
{
    // SAFETY: the caller's promise. A driver's put does not pend.
    unsafe { table::transfer::<D::Device, crate::run::Put>(device, io, false, Put::put) }
}

/// # Safety
/// As [`quire_abi::Driver::path`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn path<D: Driver>(device: *mut c_void, text: *mut c_char, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { table::path_of::<D::Device>(device, text, len) }
}

/// # Safety
/// As [`quire_abi::Driver::sync`] says; `device` is what `ctor::<D>` stored.
unsafe extern "C" fn sync<D: Driver>(device: *mut c_void) -> i32
where
    D::Device: Durable,
{
    // SAFETY: the caller's promise.
    unsafe { on_object::<D::Device>(device, "sync", |device, _| device.sync().map(|()| QUIRE_PAGER_OK)) }
}

/// Looks which optional traits a driver's device implements, as `Probe` does for a pager's objects.
#[derive(Debug)]
pub struct DriverProbe<D>(PhantomData<D>);

macro_rules! probe {
    ($($constant:ident: $type:ty = $function:ident if $trait:ident;)*) => {
        /// The answer for every function that is not there.
        pub trait DriverAbsent {
            $(
                /// The function of this name, absent.
                const $constant: Option<$type> = None;
            )*
        }
        impl<D: Driver> DriverAbsent for DriverProbe<D> {}
        $(
            impl<D: Driver> DriverProbe<D> where D::Device: $trait {
                /// The function of this name, present.
                pub const $constant: Option<$type> = Some($function::<D>);
            }
        )*
    };
}

probe! {
    POPULATE: unsafe extern "C" fn(*mut c_void, *mut quire_abi::Populate) -> i32 = populate if Populate;
    PUT: unsafe extern "C" fn(*mut c_void, *mut Io) -> i32 = put if Put;
    SYNC: unsafe extern "C" fn(*mut c_void) -> i32 = sync if Durable;
}
