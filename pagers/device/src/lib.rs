//! The device pager: memory of devices, each of which has a driver.
//!
//! A driver is a module of its own (`QUIRE_CAP_DRIVER`) with a narrow table: `ctor`, `dtor`, and what it has of `fault`, `populate`, `put`, `path` and `sync`.
//! The host passes it by handle when a device is opened, and keeps it loaded as long as the device is open; what the name
//! given to open means is the driver's business.
//!
//! | kind | whose frames | `populate` | `get` | written |
//! |---|---|---|---|---|
//! | managed | the host's | the driver's; `BAD` and absent: `get` | the driver's `fault`, one page (S235, S236) | by the driver's `put`; without one it is read-only |
//! | unmanaged | the device's | its `fault`, answered with one frame | none | in place |
//! | phys | the device's | the driver's; `BAD` and absent: as unmanaged | none | in place |
//!
//! # Promises
//!
//! - `ctor` and `dtor` balance: a `dtor` follows each `ctor` that answered `OK`, also when the opening fails after it.
//! - What a driver answers to `populate`, `fault` and `put` reaches the host as it is, also what no operation may answer: the
//!   host judges it, and names the device and its driver. A driver that pends keeps the pages that it was lent until it completes.
//! - A device is told a read whatever the access is, where it is managed: a page is prepared for all that its mapping may ever do (S237).
//!
//! # Operations
//!
//! All run in parallel, on the thread that asks, as far as the driver's module allows; none pends. There are no threads, no state
//! and no configuration of its own. A driver is code that this pager cannot contain: a crash in it is a crash of the process.

mod device;

use std::ffi::CStr;

use quire_pager::abi::Module;
use quire_pager::{Caps, Error, Host, OpenRequest, Opened, Pager, Result, version};

pub use device::Device;

/// The pager: its devices have nothing in common but the host.
#[derive(Debug)]
pub struct Devices {
    host: Host,
}

impl Pager for Devices {
    const NAME: &'static CStr = c"device";
    const VERSION: &'static CStr = version!();
    const DESCRIPTION: &'static CStr = c"Memory of devices, by drivers that are modules of their own";
    const CAPS: Caps = Caps::DEVICES;
    type Object = Device;

    fn init(host: Host, config: Option<&str>) -> Result<Self> {
        match config.map(str::trim) {
            None | Some("") => Ok(Self { host }),
            Some(text) => Err(Error::invalid(format!(
                "`{text}` in the configuration; this pager has none, and its devices are configured by their drivers"
            ))),
        }
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Device>> {
        Device::open(&self.host, request)
    }
}

/// The pager's table, for a program that links it.
pub const fn module() -> Module {
    quire_pager::module!(Devices)
}

#[cfg(feature = "plugin")]
quire_pager::export_pager!(Devices);
