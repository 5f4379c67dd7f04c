//! Write a pager for Quire in safe Rust.
//!
//! A pager brings pages of an object in, and writes them out. Implement [`Pager`] and [`Object`], and the traits of the
//! optional operations that the object has ([`Put`], [`HasPage`], [`Populate`], [`Size`], [`Resize`], [`Durable`], …);
//! [`export_pager!`] makes the crate a plugin. Its file is `libquire_pager_<name>.so`: give the library that name.
//!
//! ```toml
//! [lib]
//! name = "quire_pager_counting"
//! crate-type = ["cdylib"]
//! ```
//!
//! A whole pager, whose page *n* holds the number *n*:
//!
//! ```
//! use std::ffi::CStr;
//! use quire_pager::{Error, GetRun, Host, Object, OpenRequest, Opened, Pager, Result, export_pager, version};
//!
//! struct Counting;
//! struct Numbers;
//!
//! impl Pager for Counting {
//!     const NAME: &'static CStr = c"counting";
//!     const VERSION: &'static CStr = version!();
//!     type Object = Numbers;
//!
//!     fn init(_host: Host, _config: Option<&str>) -> Result<Self> {
//!         Ok(Counting)
//!     }
//!
//!     fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Numbers>> {
//!         let size = request.text()?.parse().map_err(|_| Error::invalid("the name is not a size in bytes"))?;
//!         Ok(Opened::new(Numbers, size))
//!     }
//! }
//!
//! impl Object for Numbers {
//!     fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
//!         for page in run.pages() {
//!             let number = page.index().to_le_bytes();
//!             page.fill(&number);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! export_pager!(Counting);
//! # use quire_pager::testing::TestHost;
//! # let host = TestHost::load(quire_pager::module!(Counting), None).unwrap();
//! # let object = host.open("9000").unwrap();
//! # assert_eq!(object.get(2, 1).pages[0].bytes[..8], [2, 0, 0, 0, 0, 0, 0, 0]);
//! ```
//!
//! # What the SDK does
//!
//! - It checks what the host passes (NULL, sizes, unknown flags) and answers `QUIRE_PAGER_INVALID` with a sentence.
//! - Pages that begin at or beyond the object's size never reach the pager; bytes beyond it read as zeros and are not in
//!   what a put is given.
//! - An [`Error`] becomes a status, and a line such as `vnode: get of /data/a at byte 8192 (4 pages): Input/output error (os
//!   error 5)` goes to the host.
//! - A panic becomes `QUIRE_PAGER_FAULTED`, with its message. The crate does not compile with `panic = "abort"`, unless
//!   feature `panic-abort` says that this is meant.
//! - A success is checked: a get that did not fill its required page, or a put that says nothing of a page, is an error.
//! - A request that is to complete later is a value ([`PendingGet`], [`PendingPut`]) that completes exactly once: it is
//!   consumed by completing, and dropping it completes with an error.
//!
//! # Drivers
//!
//! A device is opened through the device pager and has a driver, which is a module of its own: implement [`Driver`] and [`Device`], and
//! [`Populate`], [`Put`] and [`Durable`] for what the device can do beyond one page at a time; [`export_driver!`] makes the crate a plugin.
//! `examples/drivers/snapshot` is one.
//!
//! # Devices' own memory, and taking pages back
//!
//! [`Host::add_aperture`] registers memory of a device, from which [`PopulateRun::insert_frames`] and [`DeviceFault::frame`] make pages;
//! [`Host::revoke`] takes pages of an object back, by the name that [`OpenRequest::host_object`] tells. [`Host::lookup`] and [`Host::grab`] give
//! pages of an object by hand, with guards for what is busied and wired.
//!
//! # Threads
//!
//! Operations run on any thread of the host, several at a time if [`Pager::THREADS`] allows. Threads that a pager starts
//! must be joined by [`Pager::fini`]: the host may unload the library afterwards.
//!
//! # What the caller cannot do with it
//!
//! The bytes of a page are borrowed from its run, and a run that pended has none left:
//!
//! ```compile_fail,E0597
//! # use quire_pager::{GetRun, PendingGet};
//! fn keep(run: &mut GetRun<'_>) -> &'static mut [u8] {
//!     let mut pending: PendingGet = run.pend().unwrap();
//!     let bytes = pending.pages().next().unwrap().into_data();
//!     bytes
//! }
//! ```

#[cfg(all(not(panic = "unwind"), not(feature = "panic-abort")))]
compile_error!(
    "with panic = \"abort\" a panic in a pager ends the host's process; build with panic = \"unwind\", or enable quire-pager's \
     feature `panic-abort` if that is meant"
);

mod aperture;
mod border;
mod driver;
mod error;
mod export;
mod host;
#[cfg(feature = "layout")]
mod layout;
mod page;
mod pager;
mod populate;
mod revoke;
mod run;
mod table;
pub mod testing;

pub use aperture::{Aperture, ApertureGuard, CacheMode};
pub use driver::{Device, DeviceFault, DeviceKind, Driver, GivenDriver};
pub use error::{Error, NotDone, Result};
pub use host::{Host, Level};
pub use page::{BusyMode, BusyPage, Exclusive, GrabFlags, PageHandle, Shared, Wiring};
pub use pager::{
    Accounting, Cancel, Caps, Change, Durable, Extensions, Extent, FreeSpace, HasPage, Object, OpenRequest, Opened,
    Pager, Populate, PrepareWrite, Put, Reserve, Resize, Size, Threads,
};
pub use populate::{Access, PopulateRun, Populated};
pub use quire_abi as abi;
pub use revoke::{HostObject, RevokeFlags};
pub use run::{Direction, GetRun, Page, Pages, Pending, PendingGet, PendingPut, PutRun, Request, Run};
pub use table::abi_size;

/// The two directions of a run, for code that serves both.
pub mod direction {
    pub use crate::run::{Get, Put};
}

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::driver::{
        DriverAbsent, DriverProbe, base as driver_base, checked, extension as driver_extension,
        module_base as driver_module_base,
    };
    pub use crate::export::{Absent, ModuleAbsent, ModuleProbe, Probe, version};
    #[cfg(feature = "layout")]
    pub use crate::layout::{Exported, layout_header};
    pub use crate::table::base;
    #[cfg(feature = "layout")]
    pub use abi_stable::library::LibHeader;
}
