//! One open device: its driver's functions behind the operations of a pager's object.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use quire_pager::abi::{
    Driver, DriverFault, HostApi, Io, OpenResult, QUIRE_ACCESS_READ, QUIRE_DRIVER_MANAGED, QUIRE_OBJECT_FRAMES,
    QUIRE_OBJECT_POPULATE, QUIRE_OBJECT_READ_ONLY, QUIRE_PAGER_BAD, QUIRE_PAGER_FAIL, QUIRE_PAGER_OK,
};
use quire_pager::{
    Durable, Error, GetRun, GivenDriver, Host, Level, Object, OpenRequest, Opened, Populate, PopulateRun, Populated,
    Put, PutRun, Result,
};

/// The longest name that is taken from a driver's `path`, in bytes.
const MAX_NAME: usize = 1024;

/// A device that its driver's `ctor` has made. Dropping it calls `dtor`.
///
/// # Invariants
/// - `device` is what `ctor` stored; no operation is under way when this is dropped.
/// - The functions of `table` can be called as long as this lives: the host keeps the driver's module until close has returned.
#[derive(Debug)]
pub struct Device {
    table: Driver,
    ctx: *mut c_void,
    device: *mut c_void,
    /// As given to open: for a driver's fault, which has no other way to the host.
    host: *const HostApi,
}

// SAFETY: `ctx` and `device` are the driver's, whose functions may be called on any thread by the ABI; the tables are constant.
unsafe impl Send for Device {}
// SAFETY: as for Send; calls at the same time are kept apart by the host, as the driver's module asks.
unsafe impl Sync for Device {}

impl Device {
    /// Has the driver make the device that is to be opened.
    pub(crate) fn open(host: &Host, request: &OpenRequest<'_>) -> Result<Opened<Self>> {
        let driver = request
            .driver()
            .ok_or_else(|| Error::invalid("no driver was given; open the device with the handle of its driver"))?;
        let (device, answer) = Self::make(driver, request)?;
        if answer.size == 0 {
            return Err(Error::invalid(format!(
                "the driver {} made a device of 0 bytes; its ctor has to store the size",
                driver.name
            )));
        }
        let name = device.told_name(host, driver);
        let opened = Opened::from_abi(device, &answer);
        Ok(match name {
            Some(name) => opened.named(name),
            None => opened,
        })
    }

    /// Calls `ctor`. From here on `dtor` is sure to follow.
    fn make(driver: &GivenDriver, request: &OpenRequest<'_>) -> Result<(Self, OpenResult)> {
        let GivenDriver { table, ctx, name } = driver;
        let (Some(ctor), Some(_)) = (table.ctor, table.dtor) else {
            return Err(Error::invalid(format!(
                "the driver {name} has no ctor or no dtor; it must have both"
            )));
        };
        if request.host_api().is_null() {
            return Err(Error::unsupported(
                "this host has no services for drivers; use a newer one",
            ));
        }
        let args = request.as_abi();
        let mut answer = OpenResult {
            struct_size: quire_pager::abi_size::<OpenResult>(),
            flags: 0,
            object: ptr::null_mut(),
            identity: [0; 2],
            size: 0,
            granule: 0,
            max_run: 0,
            change: [0; 2],
        };
        // SAFETY: `ctx` is what the driver's init stored; the host's arguments and our struct outlive the call.
        let status = unsafe { ctor(*ctx, args, &raw mut answer) };
        if status != QUIRE_PAGER_OK {
            return Err(Error::handed_on(status));
        }
        let device = Self {
            table: *table,
            ctx: *ctx,
            device: answer.object,
            host: request.host_api(),
        };
        answer.flags = device.flags(answer.flags);
        // A driver's fault answers one page (S236).
        answer.max_run = 1;
        Ok((device, answer))
    }

    /// What the host is told of the device: what the driver says, and what follows from its table.
    fn flags(&self, told: u32) -> u32 {
        let ours = QUIRE_OBJECT_POPULATE | QUIRE_OBJECT_FRAMES;
        let populates = self.table.populate.is_some() || !self.is_managed();
        let follows = [
            (QUIRE_OBJECT_POPULATE, populates),
            (QUIRE_OBJECT_FRAMES, !self.is_managed()),
            (QUIRE_OBJECT_READ_ONLY, self.is_managed() && self.table.put.is_none()),
        ];
        follows
            .into_iter()
            .filter(|(_, follows)| *follows)
            .fold(told & !ours, |flags, (flag, _)| flags | flag)
    }

    fn is_managed(&self) -> bool {
        self.table.kind == QUIRE_DRIVER_MANAGED
    }

    /// The name that the driver's `path` gives, where it has one; a failure is logged, and the name given to open stands.
    fn told_name(&self, host: &Host, driver: &GivenDriver) -> Option<String> {
        let path = self.table.path?;
        let mut text = [0; MAX_NAME + 1];
        // SAFETY: the device is made; the buffer is ours and has `MAX_NAME` bytes, and a zero behind them.
        let status = unsafe { path(self.device, text.as_mut_ptr().cast::<c_char>(), MAX_NAME) };
        if status != QUIRE_PAGER_OK {
            host.log(
                Level::Warn,
                format_args!(
                    "the driver {} cannot tell its device's name (status {status})",
                    driver.name
                ),
            );
            return None;
        }
        let name = CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy();
        (!name.is_empty()).then(|| name.into_owned())
    }

    /// Asks the driver for page `index`. `fill` is where its bytes belong; nothing where the device answers with a frame, whose place comes back.
    fn fault(&self, token: u64, index: u64, page_size: u32, access: u32, fill: *mut c_void) -> (i32, u64, u64) {
        let Some(fault) = self.table.fault else {
            return (QUIRE_PAGER_FAIL, 0, 0);
        };
        let mut request = DriverFault {
            struct_size: quire_pager::abi_size::<DriverFault>(),
            flags: 0,
            token,
            index,
            bytes: fill,
            aperture: 0,
            offset: 0,
            page_size,
            access,
            host: self.host,
        };
        // SAFETY: the device is made, and the request outlives the call.
        let status = unsafe { fault(self.device, &raw mut request) };
        (status, request.aperture, request.offset)
    }

    /// One page of a managed device.
    ///
    /// # Safety
    /// `io` is a request as the ABI describes it, lent to the caller.
    unsafe fn fill(&self, io: *mut Io) -> i32 {
        // SAFETY: the caller's promise: members of every version of the struct, and `required` is one of its pages.
        let (token, index, page_size, page) = unsafe {
            let (first, required) = ((*io).first, (*io).required);
            let page = (*io)
                .pages
                .wrapping_byte_add(required as usize * (*io).page_stride as usize);
            ((*io).token, first + u64::from(required), (*io).page_size, page)
        };
        // SAFETY: as above.
        let bytes = unsafe { (*page).bytes };
        let (status, ..) = self.fault(token, index, page_size, QUIRE_ACCESS_READ, bytes);
        if status == QUIRE_PAGER_OK {
            // SAFETY: as above; the driver has returned, and does not know of the page's status.
            unsafe { (&raw mut (*page).status).write(QUIRE_PAGER_OK) };
        }
        status
    }

    /// One page that shows a frame of the device.
    fn show(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        let (index, page_size) = (run.index(), run.page_size());
        let page_size = u32::try_from(page_size).map_err(|_| Error::invalid("the page size is above 4 GiB"))?;
        let access = run.access().bits();
        let (status, aperture, offset) = self.fault(run.token(), index, page_size, access, ptr::null_mut());
        if status != QUIRE_PAGER_OK {
            // `BAD` would send the host to get, which has nothing either.
            let status = if status == QUIRE_PAGER_BAD {
                QUIRE_PAGER_FAIL
            } else {
                status
            };
            return Ok(Populated::Answered(status));
        }
        match run.insert_frames(index, 1, aperture, offset)? {
            0 => Ok(Populated::Refault),
            _ => Ok(Populated::Pages(index..=index)),
        }
    }
}

impl Object for Device {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        if !self.is_managed() {
            return Err(Error::fail(
                "the device's frames are its own, and cannot be read into memory; map it shared",
            ));
        }
        if self.table.fault.is_none() {
            return Err(Error::fail(
                "the driver has no fault, and so no page to give but by populate",
            ));
        }
        // SAFETY: the run's own request.
        run.hand_on(|io| unsafe { self.fill(io) });
        Ok(())
    }
}

impl Populate for Device {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        let answered = match self.table.populate {
            // SAFETY: the device is made, and the request is lent until this returns.
            Some(populate) => run.hand_on(|request| unsafe { populate(self.device, request) }),
            None => Populated::UseGet,
        };
        match answered {
            Populated::UseGet | Populated::Answered(QUIRE_PAGER_BAD) if !self.is_managed() => self.show(run),
            answered => Ok(answered),
        }
    }
}

impl Put for Device {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        let put = self
            .table
            .put
            .ok_or_else(|| Error::unsupported("the driver has no put; the device cannot be written"))?;
        // SAFETY: the device is made; the request is lent until it completes, which the driver's answer or the driver does.
        run.hand_on(|io| unsafe { put(self.device, io) });
        Ok(())
    }
}

impl Durable for Device {
    fn sync(&self) -> Result<()> {
        let Some(sync) = self.table.sync else { return Ok(()) };
        // SAFETY: the device is made.
        match unsafe { sync(self.device) } {
            QUIRE_PAGER_OK => Ok(()),
            status => Err(Error::handed_on(status)),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(dtor) = self.table.dtor {
            // SAFETY: `ctor` made the device, and nothing of it is under way (the invariants); this is the one call.
            unsafe { dtor(self.ctx, self.device) };
        }
    }
}
