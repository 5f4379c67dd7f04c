//! A small host for tests: it loads a pager's table and drives it as an engine would, one call at a time or, with
//! [`TestObject::start_get`] and [`TestObject::start_put`], many requests at once.
//!
//! No engine and no pages of memory: what a pager answers is there to look at, with the text it gave and what it logged.

mod services;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::PoisonError;

use quire_abi::{
    DriverHandle, Extent, HostApi, Io, IoPage, Module, OpenArgs, OpenResult, Populate, QUIRE_ACCESS_READ,
    QUIRE_ACCESS_WRITE, QUIRE_IO_MAY_PEND, QUIRE_OPEN_READ, QUIRE_OPEN_WRITE, QUIRE_PAGER_OK, QUIRE_PAGER_PEND,
    QUIRE_PAGER_UNSUPPORTED, QUIRE_PAGER_UNTOUCHED,
};

use crate::revoke::HostObject;
use crate::table::abi_size;
use services::{Ledger, Progress};
pub use services::{Registered, Revoked};

/// Bytes in a page of this host.
pub const PAGE_SIZE: usize = PAGE_BYTES as usize;
const PAGE_BYTES: u32 = 4096;

/// A status other than success, and the text that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the pager answered.
    pub status: i32,
    /// What it gave to `set_error`.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.status, self.text)
    }
}

impl std::error::Error for Failure {}

/// What became of one page of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAnswer {
    /// The page's status.
    pub status: i32,
    /// Its bytes after the request.
    pub bytes: Vec<u8>,
}

/// What a get or a put was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status: the operation's, or the completion's when it pended.
    pub status: i32,
    /// Whether the operation pended.
    pub pended: bool,
    /// What the pager gave to `set_error`.
    pub text: String,
    /// The pages, in order.
    pub pages: Vec<PageAnswer>,
}

/// A loaded pager. Dropping it calls `fini`.
pub struct TestHost {
    module: Module,
    ctx: *mut c_void,
    // Boxed: the pager and its threads keep their addresses until `fini`.
    api: Box<HostApi>,
    ledger: Box<Ledger>,
}

// SAFETY: the table, the ledger and the pager's state may all be used from any thread; the tests keep to the thread model.
unsafe impl Send for TestHost {}
// SAFETY: as above.
unsafe impl Sync for TestHost {}

impl fmt::Debug for TestHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestHost")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

impl TestHost {
    /// Calls the pager's `init`.
    pub fn load(module: Module, config: Option<&str>) -> Result<Self, Failure> {
        Self::load_on(module, config, |_| {})
    }

    /// As [`TestHost::load`], on a host whose table of services is made another by `change`: without some of them, say, as an older host is.
    pub fn load_on(module: Module, config: Option<&str>, change: impl FnOnce(&mut HostApi)) -> Result<Self, Failure> {
        let ledger = Box::<Ledger>::default();
        let mut api = Box::new(services::table(&ledger));
        change(&mut api);
        let config = config.map(|text| CString::new(text).expect("a configuration holds no zero byte"));
        let mut ctx = ptr::null_mut();
        let status = match module.init {
            // SAFETY: the table and the text are valid, the table until `fini`.
            Some(init) => unsafe {
                init(
                    &*api,
                    config.as_ref().map_or(ptr::null(), |text| text.as_ptr()),
                    &mut ctx,
                )
            },
            None => QUIRE_PAGER_OK,
        };
        ledger.outcome(status)?;
        Ok(Self {
            module,
            ctx,
            api,
            ledger,
        })
    }

    /// Opens `name` for reading and writing.
    pub fn open(&self, name: &str) -> Result<TestObject<'_>, Failure> {
        self.open_with(Some(name), -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)
    }

    /// Opens a name, a descriptor (-1: none), or both, with the ABI's flags.
    pub fn open_with(&self, name: Option<&str>, fd: i32, flags: u32) -> Result<TestObject<'_>, Failure> {
        self.open_any(ptr::null(), name, fd, flags)
    }

    /// Opens a device of `driver` for reading and writing, through a pager of devices. `driver` stays until the object is dropped.
    pub fn open_device<'a>(&'a self, driver: &'a DriverHandle, name: &str) -> Result<TestObject<'a>, Failure> {
        self.open_any(driver, Some(name), -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE)
    }

    fn open_any(
        &self,
        driver: *const DriverHandle,
        name: Option<&str>,
        fd: i32,
        flags: u32,
    ) -> Result<TestObject<'_>, Failure> {
        let name = name.map(|name| CString::new(name).expect("a name holds no zero byte"));
        let name_in_host = self.ledger.token();
        let args = OpenArgs {
            struct_size: abi_size::<OpenArgs>(),
            flags,
            token: self.ledger.token(),
            name: name.as_ref().map_or(ptr::null(), |name| name.as_ptr()),
            fd,
            page_size: PAGE_BYTES,
            driver,
            host_object: name_in_host,
            host: &*self.api,
        };
        let mut opened = OpenResult {
            struct_size: abi_size::<OpenResult>(),
            flags: 0,
            object: ptr::null_mut(),
            identity: [0; 2],
            size: 0,
            granule: 0,
            max_run: 0,
            change: [0; 2],
        };
        let open = self.module.open.expect("open is mandatory");
        // SAFETY: the arguments are as the ABI says.
        let status = unsafe { open(self.ctx, &args, &mut opened) };
        self.ledger.outcome(status)?;
        self.ledger.told().shown.insert(name_in_host, BTreeMap::new());
        Ok(TestObject {
            host: self,
            name: name_in_host,
            opened,
        })
    }

    /// The pager's table.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What `init` stored, for calling the table by hand.
    pub fn ctx(&self) -> *mut c_void {
        self.ctx
    }

    /// The table of services that the pager got.
    pub fn api(&self) -> &HostApi {
        &self.api
    }

    /// The lines that the pager logged, so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.ledger.told().log.clone()
    }

    /// What was revoked, so far, in order.
    pub fn revoked(&self) -> Vec<Revoked> {
        self.ledger.told().revoked.clone()
    }

    /// What `revoke` answers from now on, to calls that are right; at first `QUIRE_PAGER_OK`.
    pub fn answer_revokes(&self, status: i32) {
        self.ledger.told().revoke_answer = status;
    }

    /// The apertures that are registered now, by their numbers.
    pub fn apertures(&self) -> BTreeMap<u64, Registered> {
        self.ledger.told().apertures.clone()
    }

    /// The text of the last `set_error` that no call of this host has taken.
    pub fn take_error(&self) -> String {
        std::mem::take(&mut self.ledger.told().error)
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if let Some(fini) = self.module.fini {
            // SAFETY: every object borrows this host, so all are closed.
            unsafe { fini(self.ctx) };
        }
    }
}

/// An open object. Dropping it calls `close`.
#[derive(Debug)]
pub struct TestObject<'a> {
    host: &'a TestHost,
    /// In the host's services.
    name: u64,
    /// What `open` answered.
    pub opened: OpenResult,
}

// SAFETY: as for `TestHost`; the handle may be used from any thread.
unsafe impl Send for TestObject<'_> {}
// SAFETY: as above.
unsafe impl Sync for TestObject<'_> {}

/// A get or a put with everything that can be chosen.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Index of the first page.
    pub first: u64,
    /// The page that must be moved, as a position.
    pub required: u32,
    /// The request's flags.
    pub flags: u32,
    /// The object's size as the host tells it.
    pub object_size: u64,
    /// The bytes that the pages hold before the request.
    pub pages: Vec<Vec<u8>>,
}

impl TestObject<'_> {
    /// Fills `count` pages from `first`; the first is required, and the request may pend.
    pub fn get(&self, first: u64, count: usize) -> Answer {
        // Not zeros, so that bytes which nobody wrote are seen.
        self.get_with(self.transfer(first, vec![vec![0xAA; PAGE_SIZE]; count]))
    }

    /// Writes pages from `first`. `data` is cut into pages, the last one padded with zeros.
    pub fn put(&self, first: u64, data: &[u8]) -> Answer {
        let pages = data.chunks(PAGE_SIZE).map(|chunk| {
            let mut page = chunk.to_vec();
            page.resize(PAGE_SIZE, 0);
            page
        });
        self.put_with(self.transfer(first, pages.collect()))
    }

    /// A transfer with the usual choices.
    pub fn transfer(&self, first: u64, pages: Vec<Vec<u8>>) -> Transfer {
        Transfer {
            first,
            required: 0,
            flags: QUIRE_IO_MAY_PEND,
            object_size: self.opened.size,
            pages,
        }
    }

    /// A get with everything chosen.
    pub fn get_with(&self, transfer: Transfer) -> Answer {
        self.run(self.host.module.get.expect("get is mandatory"), transfer)
    }

    /// A put with everything chosen; unsupported when the pager has no put.
    pub fn put_with(&self, transfer: Transfer) -> Answer {
        match self.host.module.put {
            Some(put) => self.run(put, transfer),
            None => Answer {
                status: QUIRE_PAGER_UNSUPPORTED,
                pended: false,
                text: "no put".to_owned(),
                pages: Vec::new(),
            },
        }
    }

    fn run(&self, operation: RunOperation, transfer: Transfer) -> Answer {
        self.start(operation, transfer).wait()
    }

    /// Begins a get; [`Started::wait`] takes the answer.
    pub fn start_get(&self, transfer: Transfer) -> Started<'_> {
        self.start(self.host.module.get.expect("get is mandatory"), transfer)
    }

    /// Begins a put; [`Started::wait`] takes the answer.
    pub fn start_put(&self, transfer: Transfer) -> Started<'_> {
        self.start(self.host.module.put.expect("the pager has put"), transfer)
    }

    fn start(&self, operation: RunOperation, transfer: Transfer) -> Started<'_> {
        let mut frames: Box<[Frame]> = transfer.pages.iter().map(|page| Frame::holding(page)).collect();
        let mut pages: Box<[IoPage]> = frames
            .iter_mut()
            .map(|frame| IoPage {
                bytes: frame.0.as_mut_ptr().cast(),
                status: QUIRE_PAGER_UNTOUCHED,
                reserved: 0,
            })
            .collect();
        let ledger = &self.host.ledger;
        let token = ledger.token();
        let mut io = Box::new(Io {
            struct_size: abi_size::<Io>(),
            flags: transfer.flags,
            token,
            first: transfer.first,
            count: u32::try_from(pages.len()).expect("a run is short"),
            required: transfer.required,
            page_size: PAGE_BYTES,
            page_stride: abi_size::<IoPage>(),
            object_size: transfer.object_size,
            pages: pages.as_mut_ptr(),
        });
        ledger.told().requests.insert(token, Progress::default());
        // SAFETY: the handle is open; request, pages and bytes live until `Started` has seen the completion.
        let answered = unsafe { operation(self.opened.object, &mut *io) };
        Started {
            ledger,
            token,
            answered,
            taken: false,
            pages,
            frames,
            _io: io,
        }
    }

    /// What `has_page` answers; `None` is `QUIRE_PAGER_FAIL`.
    pub fn has_page(&self, index: u64) -> Result<Option<crate::Extent>, Failure> {
        let has_page = self.host.module.has_page.expect("the pager has has_page");
        let mut extent = Extent {
            struct_size: abi_size::<Extent>(),
            before: 0,
            after: 0,
        };
        // SAFETY: the handle is open, and there is a place for the answer.
        let status = unsafe { has_page(self.opened.object, index, &mut extent) };
        match self.host.ledger.outcome(status) {
            Err(failure) if failure.status == quire_abi::QUIRE_PAGER_FAIL => Ok(None),
            outcome => outcome.map(|()| {
                Some(crate::Extent {
                    before: extent.before,
                    after: extent.after,
                })
            }),
        }
    }

    /// The size as it is now.
    pub fn size(&self) -> Result<u64, Failure> {
        let get_size = self.host.module.get_size.expect("the pager has get_size");
        let mut size = 0;
        // SAFETY: the handle is open, and there is a place for the answer.
        let status = unsafe { get_size(self.opened.object, &mut size) };
        self.host.ledger.outcome(status).map(|()| size)
    }

    /// Sets the size.
    pub fn resize(&mut self, size: u64) -> Result<(), Failure> {
        let resize = self.host.module.resize.expect("the pager has resize");
        // SAFETY: the handle is open.
        let status = unsafe { resize(self.opened.object, size) };
        self.host.ledger.outcome(status)?;
        self.opened.size = size;
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync(&self) -> Result<(), Failure> {
        let sync = self.host.module.sync.expect("the pager has sync");
        // SAFETY: the handle is open.
        let status = unsafe { sync(self.opened.object) };
        self.host.ledger.outcome(status)
    }

    /// Says that `count` pages from `first` will not be read again until they are put.
    pub fn free_space(&self, first: u64, count: u64) -> Result<(), Failure> {
        let free_space = self.host.module.free_space.expect("the pager has free_space");
        // SAFETY: the handle is open.
        let status = unsafe { free_space(self.opened.object, first, count) };
        self.host.ledger.outcome(status)
    }

    /// The object's name, cut to `len` bytes with its zero.
    pub fn path(&self, len: usize) -> Result<String, Failure> {
        let path = self.host.module.path.expect("the pager has path");
        let mut text: Vec<c_char> = vec![1; len];
        // SAFETY: the handle is open, and the place has `len` bytes.
        let status = unsafe { path(self.opened.object, text.as_mut_ptr(), len) };
        self.host.ledger.outcome(status)?;
        // SAFETY: a success is zero-terminated.
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Asks for pages around `index`; somebody else has those in `taken`. The range answered, and the pages made ready.
    #[allow(clippy::type_complexity, reason = "a pair with no use outside tests")]
    pub fn populate(
        &self,
        index: u64,
        window: RangeInclusive<u64>,
        taken: &[u64],
    ) -> Result<(RangeInclusive<u64>, BTreeMap<u64, Box<[u8]>>), Failure> {
        let populate = self.host.module.populate.expect("the pager has populate");
        let ledger = &self.host.ledger;
        let mut request = Populate {
            struct_size: abi_size::<Populate>(),
            flags: 0,
            token: ledger.token(),
            index,
            first: *window.start(),
            last: *window.end(),
            access: QUIRE_ACCESS_READ,
            max_prot: QUIRE_ACCESS_READ | QUIRE_ACCESS_WRITE,
            page_size: PAGE_BYTES,
            reserved: 0,
            host: &*self.host.api,
        };
        {
            let mut told = ledger.told();
            told.taken = taken.to_vec();
            told.end = self.opened.size.div_ceil(PAGE_BYTES.into());
            told.requests.insert(request.token, Progress::default());
        }
        // SAFETY: the handle is open, the request is as the ABI says.
        let status = unsafe { populate(self.opened.object, &mut request) };
        let mut told = ledger.told();
        told.requests.remove(&request.token);
        let inserted = std::mem::take(&mut told.inserted);
        let frames = std::mem::take(&mut told.frames);
        told.shown.insert(self.name, frames);
        drop(told);
        ledger.outcome(status)?;
        let ready = inserted
            .into_iter()
            .filter(|(_, (_, ready))| *ready)
            .map(|(i, (bytes, _))| (i, bytes));
        Ok((request.first..=request.last, ready.collect()))
    }
}

impl TestObject<'_> {
    /// The pages that show a device's own memory, as the last populate installed them and revokes left them: for each the
    /// aperture, and the offset in it. This host takes any aperture's number, so that a test need not register one.
    pub fn frames(&self) -> BTreeMap<u64, (u64, u64)> {
        self.host
            .ledger
            .told()
            .shown
            .get(&self.name)
            .cloned()
            .unwrap_or_default()
    }

    /// The object's name in the host's services: what its pager was told.
    pub fn host_object(&self) -> HostObject {
        HostObject::of(self.name)
    }
}

type RunOperation = unsafe extern "C" fn(*mut c_void, *mut Io) -> i32;

/// The bytes of a page, aligned as an engine's are.
#[repr(align(4096))]
struct Frame([u8; PAGE_SIZE]);

impl Frame {
    fn holding(bytes: &[u8]) -> Self {
        Self(bytes.try_into().expect("a page of a transfer is PAGE_SIZE bytes long"))
    }
}

/// A request under way. Dropping it waits for its completion.
pub struct Started<'a> {
    ledger: &'a Ledger,
    token: u64,
    answered: i32,
    taken: bool,
    // Invariant: lent to the pager until the request completes.
    pages: Box<[IoPage]>,
    frames: Box<[Frame]>,
    _io: Box<Io>,
}

impl fmt::Debug for Started<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("token", &self.token)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

impl Started<'_> {
    /// Whether the operation pended.
    pub fn pended(&self) -> bool {
        self.answered == QUIRE_PAGER_PEND
    }

    /// Waits for the answer.
    pub fn wait(self) -> Answer {
        self.wait_in_order().0
    }

    /// Waits for the answer; the number says how many requests of this host completed by `complete` before it (0 for one
    /// that did not pend).
    pub fn wait_in_order(mut self) -> (Answer, u64) {
        let progress = self.finish();
        let pages = self.pages.iter().zip(&self.frames);
        let pages = pages.map(|(page, frame)| PageAnswer {
            status: page.status,
            bytes: frame.0.to_vec(),
        });
        let answer = Answer {
            status: progress.status.unwrap_or(self.answered),
            pended: self.pended(),
            text: progress.text,
            pages: pages.collect(),
        };
        (answer, progress.order)
    }

    fn finish(&mut self) -> Progress {
        self.taken = true;
        let mut told = self.ledger.told();
        while self.pended() && told.requests.get(&self.token).is_some_and(|own| own.status.is_none()) {
            told = self.ledger.completed.wait(told).unwrap_or_else(PoisonError::into_inner);
        }
        let mut progress = told.requests.remove(&self.token).unwrap_or_default();
        if progress.text.is_empty() {
            progress.text = std::mem::take(&mut told.error);
        }
        progress
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if !self.taken {
            self.finish();
        }
    }
}

impl Drop for TestObject<'_> {
    fn drop(&mut self) {
        // Its pages go first, but its name is good until `close` has returned.
        if let Some(frames) = self.host.ledger.told().shown.get_mut(&self.name) {
            frames.clear();
        }
        let close = self.host.module.close.expect("close is mandatory");
        // SAFETY: the handle is open and this is its end.
        unsafe { close(self.host.ctx, self.opened.object) };
        self.host.ledger.told().shown.remove(&self.name);
    }
}

/// A driver, as a host passes it to a pager of devices.
pub struct TestDriver(DriverHandle);

impl TestDriver {
    /// Asks a driver's module for its table. Its `init` is not called.
    pub fn load(module: &Module) -> Self {
        let get_extension = module.get_extension.expect("a driver has get_extension");
        // SAFETY: the table is valid, and the name ends in a zero.
        let table = unsafe { get_extension(ptr::null_mut(), quire_abi::QUIRE_DRIVER_EXTENSION.as_ptr().cast()) };
        assert!(!table.is_null(), "a driver's module answers with its driver");
        Self(DriverHandle {
            struct_size: abi_size::<DriverHandle>(),
            reserved: 0,
            table: table.cast(),
            ctx: ptr::null_mut(),
            name: module.name,
        })
    }

    /// What a pager's `open` is given.
    pub fn handle(&self) -> &DriverHandle {
        &self.0
    }
}

impl fmt::Debug for TestDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestDriver").field(&self.0).finish()
    }
}
