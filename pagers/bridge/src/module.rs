//! A plugin at work: from `init` to `fini`, and the objects opened through it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::ffi::{CStr, c_char, c_void};
use core::fmt;
use core::ptr;

use quire_abi as abi;
use quire_core::alloc_fallible::try_box;
use quire_core::error::{Cause, PagerError, Result, words_or_nothing};
use quire_core::pager::Change;
use quire_core::sync::{FrameLock, Gauge};
use quire_core::types::MAX_OBJECT_SIZE;

use crate::aperture::OpenMemory;
use crate::driver::Driver;
use crate::host::{HostState, Level, Log, PAGE_SIZE};
use crate::judge::judge;
use crate::name::Subject;
use crate::named::ObjectName;
use crate::object::PluginObject;
use crate::requests::{Begun, Returned, SetAside, Token, Work};
use crate::serial::{Closing, Serial, enter};
use crate::status::copy_text;

/// Whatever keeps the table's functions callable: the loaded library. Dropped after `fini` has returned.
pub type Keeper = Box<dyn Any + Send + Sync>;

/// A plugin whose `init` has succeeded. One that is dropped without [`PluginModule::shut_down`] stays loaded for ever, and its
/// `fini` is not called.
///
/// # The locks around its calls
///
/// For a device the thread model is its driver's: that of the pager which opens it does not count, as it is `PARALLEL`.
///
/// | thread model | init, fini | open | close, get, put, … |
/// |---|---|---|---|
/// | `SERIALIZE_ALL` | alone | module | module |
/// | `SERIALIZE_OBJECT` | alone | none | object |
/// | `PARALLEL` | alone | none | none |
///
/// "Alone" needs no lock: `init` runs before this value exists, `fini` when no object is left and no operation runs. Nor
/// does `close` need one of its own: the engine calls it when nothing of the object is under way. A request that pends
/// holds no lock.
pub struct PluginModule {
    table: abi::Module,
    /// What `init` stored.
    ctx: *mut c_void,
    host: Arc<HostState>,
    /// Of a module that is a driver, and no pager.
    driver: Option<Driver>,
    serial: Option<Serial>,
    life: FrameLock<Life>,
    /// The record for `fini`.
    last_call: FrameLock<Option<SetAside>>,
    /// Objects open, and opens under way.
    objects: Gauge,
}

// SAFETY: `ctx` is the plugin's, and its operations may be called on any thread by the ABI; the tables are constant.
unsafe impl Send for PluginModule {}
// SAFETY: as for Send; calls at the same time are kept apart as the plugin's thread model asks.
unsafe impl Sync for PluginModule {}

enum Life {
    Ready(Keeper),
    /// No more opens.
    Draining(Keeper),
    Ended,
}

/// What is to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open<'a> {
    /// A name whose meaning is the plugin's business.
    pub name: Option<&'a CStr>,
    /// An open file descriptor to use. It stays the caller's.
    pub fd: Option<i32>,
    /// Whether the object will be written as well as read.
    pub write: bool,
    /// The driver of the device that is to be opened.
    pub driver: Option<&'a Arc<PluginModule>>,
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// The object, for [`quire_core::engine::Engine::create_object`]. It is closed when dropped, if the engine has not done so.
    pub pager: Box<PluginObject>,
    /// The thing's identity: the same two words whenever the same thing is opened. Nothing when the pager tells none.
    pub identity: Option<[u64; 2]>,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that the backing moves best in; at least a page.
    pub granule: u32,
    /// Which contents it has. Nothing when the pager tells none.
    pub change: Option<Change>,
}

/// Why a plugin does not start.
#[derive(Debug)]
pub enum NotStarted {
    /// What `init` answered, or that it could not be called.
    Init(PagerError),
    /// It says that it is a driver, and its driver's table is no good.
    Driver(PagerError),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(error) => write!(f, "the plugin could not be initialised: {error}"),
            Self::Driver(error) => write!(f, "its driver's table is not valid: {error}"),
        }
    }
}

impl core::error::Error for NotStarted {}

impl From<PagerError> for NotStarted {
    fn from(error: PagerError) -> Self {
        Self::Init(error)
    }
}

/// Why a plugin is not shut down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StillInUse {
    /// Objects open through it.
    pub objects: u32,
    /// Operations under way.
    pub requests: u32,
}

impl fmt::Display for StillInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "still in use: {} object(s) open, {} request(s) under way",
            self.objects, self.requests
        )
    }
}

impl core::error::Error for StillInUse {}

impl PluginModule {
    /// Calls `init` with `config`. May block for as long as the plugin does.
    ///
    /// # Errors
    /// What `init` answered. The keeper and the host are then kept for ever, as no `fini` follows: what `init` may have
    /// started runs on in the library, and may still log. [`Cause::NoMemory`] when `init` was not called. [`NotStarted::Driver`]: `fini`
    /// was called.
    ///
    /// # Safety
    /// `table` is the checked copy of a plugin's module table: name, open, close and get are there, or if it is a driver's name and
    /// get_extension; members beyond the plugin's size are absent, and everything it points at stays valid and callable until `keeper` is dropped, or for ever if it
    /// is never dropped. No other `PluginModule` is ready for the same plugin.
    pub unsafe fn start(
        table: abi::Module,
        config: Option<&CStr>,
        keeper: Keeper,
        log: Log,
        open_memory: OpenMemory,
    ) -> Result<Arc<Self>, NotStarted> {
        // SAFETY: the name is zero-terminated and static by contract.
        let name = unsafe { copy_text(table.name) };
        let host = HostState::new(name.into(), log, open_memory);
        let last_call = host.requests.set_aside()?;
        let mut ctx = ptr::null_mut();
        if let Some(init) = table.init {
            let begun = host.requests.begin(Subject::new("init", &host.name), Work::Call)?;
            // The plugin's count of the host: what it was told stays valid until `fini` has returned, or for ever.
            let for_plugin = Arc::into_raw(host.clone());
            let config = config.map_or(ptr::null(), CStr::as_ptr);
            // SAFETY: called once, before anything else; the host table lives in the count just made.
            let answer = call_begun(&host, &begun, |_| unsafe {
                init(&raw const (*for_plugin).api, config, &raw mut ctx)
            });
            if let Err(error) = answer {
                core::mem::forget(keeper);
                return Err(error.into());
            }
        }
        let serial = (table.thread_model == abi::QUIRE_THREADS_SERIALIZE_ALL).then(Serial::default);
        let life = FrameLock::new(Life::Ready(keeper));
        let mut this = Self {
            table,
            ctx,
            host,
            driver: None,
            serial,
            life,
            last_call: FrameLock::new(Some(last_call)),
            objects: Gauge::new(),
        };
        match this.read_driver() {
            Ok(driver) => this.driver = driver,
            Err(error) => {
                this.shut_down();
                return Err(NotStarted::Driver(error));
            }
        }
        Ok(Arc::new(this))
    }

    /// Asks a module that is a driver for its table.
    fn read_driver(&self) -> Result<Option<Driver>, PagerError> {
        if self.table.caps & abi::QUIRE_CAP_DRIVER == 0 {
            return Ok(None);
        }
        let get_extension = self.table.get_extension;
        let mut raw = ptr::null();
        plain_call(&self.host, Subject::new("get_extension", &self.host.name), |_| {
            let id = abi::QUIRE_DRIVER_EXTENSION.as_ptr().cast::<c_char>();
            // SAFETY: `ctx` is what init stored, and the text is zero-terminated.
            raw = get_extension.map_or(raw, |ask| unsafe { ask(self.ctx, id) });
            abi::QUIRE_PAGER_OK
        })?;
        if raw.is_null() {
            return Err(PagerError::new(
                Cause::Invalid,
                format_args!(
                    "get_extension answers no table to \"quire.driver.1\"; answer the address of a struct quire_driver, or leave \
                     QUIRE_CAP_DRIVER out"
                ),
            ));
        }
        // SAFETY: what a driver's module answers to this name is its driver's table, by the ABI.
        unsafe { Driver::read(raw.cast(), self.ctx, self.table.name) }.map(Some)
    }

    /// A number of its own, as long as it lives: what the engine knows it by.
    #[must_use]
    pub fn number(&self) -> u64 {
        ptr::from_ref(self).addr() as u64
    }

    /// The plugin's short name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Objects that are open through it.
    #[must_use]
    pub fn open_objects(&self) -> u32 {
        self.objects.count()
    }

    /// Completions, and other calls of the plugin with a token, that named nothing under way and were ignored.
    #[must_use]
    pub fn stale_calls(&self) -> u64 {
        self.host.requests.stale_count()
    }

    /// Opens an object. May block for as long as the plugin does; no lock may be held.
    ///
    /// # Errors
    /// The plugin's answer; [`Cause::Invalid`] once it is being shut down, for a driver where a pager is wanted, and the other way
    /// round; [`Cause::NoMemory`].
    pub fn open(self: &Arc<Self>, what: &Open<'_>) -> Result<Opened, PagerError> {
        self.can_open(what.driver)?;
        let use_of = Arc::new(OpenObject::begin(self, what.driver)?);
        let mut closing = try_box(Closing::of(use_of.clone())).map_err(|_| PagerError::bare(Cause::NoMemory))?;
        let mut out = empty_result();
        let subject = Subject::new("open", use_of.opener());
        let mut args = abi::OpenArgs {
            struct_size: size_u32::<abi::OpenArgs>(),
            flags: abi::QUIRE_OPEN_READ | if what.write { abi::QUIRE_OPEN_WRITE } else { 0 },
            token: 0,
            name: what.name.map_or(ptr::null(), CStr::as_ptr),
            fd: what.fd.unwrap_or(-1),
            page_size: PAGE_SIZE,
            driver: use_of.driver().map_or(ptr::null(), Driver::handle),
            host_object: use_of.name().0,
            host: &raw const self.host.api,
        };
        let Some(open) = self.table.open else {
            unreachable!("a pager's open is there by the contract of `start`")
        };
        {
            let _serial = enter(use_of.threads().serial(), &subject)?;
            plain_call(&self.host, subject, |token| {
                args.token = token.0;
                // SAFETY: `ctx` is what init stored; both structs are ours and outlive the call.
                unsafe { open(self.ctx, &raw const args, &raw mut out) }
            })?;
        }
        closing.handle = out.object;
        let name = what.name.map(|n| n.to_string_lossy());
        let object = PluginObject::new(use_of, closing, &out, what.write, name.as_deref().unwrap_or(""));
        let pager = try_box(object).map_err(|_| PagerError::bare(Cause::NoMemory))?;
        self.check_opened(&pager, &out)?;
        Ok(Opened {
            pager,
            identity: known(out.identity),
            size: out.size.min(MAX_OBJECT_SIZE),
            granule: out.granule.max(PAGE_SIZE),
            change: known(out.change),
        })
    }

    /// Whether this is a pager, and `driver` what it wants: a driver if it opens devices, otherwise none. [`PluginModule::open`] asks it too.
    ///
    /// # Errors
    /// [`Cause::Invalid`], with a sentence that says what to open how.
    pub fn can_open(&self, driver: Option<&Arc<Self>>) -> Result<(), PagerError> {
        let wrong = |what: fmt::Arguments<'_>| Err(PagerError::new(Cause::Invalid, what));
        let opens_devices = self.table.caps & abi::QUIRE_CAP_DEVICES != 0;
        match driver {
            _ if self.driver.is_some() => wrong(format_args!(
                "{} is a driver; open its devices through the device pager",
                self.name()
            )),
            Some(driver) if driver.driver.is_none() => wrong(format_args!(
                "{} is a pager, and no driver; open its objects without the device pager",
                driver.name()
            )),
            Some(driver) if !opens_devices => wrong(format_args!(
                "{} is a pager that takes no driver; open the devices of {} through the device pager",
                self.name(),
                driver.name()
            )),
            None if opens_devices => wrong(format_args!(
                "{} opens the devices of drivers; open with a driver",
                self.name()
            )),
            _ => Ok(()),
        }
    }

    /// What the pager says of an object that it opened.
    ///
    /// # Errors
    /// [`Cause::Unsupported`] for a flag that must be understood, and is not.
    fn check_opened(&self, pager: &PluginObject, out: &abi::OpenResult) -> Result<(), PagerError> {
        let known = abi::QUIRE_OBJECT_POPULATE | abi::QUIRE_OBJECT_READ_ONLY | abi::QUIRE_OBJECT_FRAMES;
        let unknown = out.flags & abi::QUIRE_PAGER_FLAGS_MUST_KNOW & !known;
        if unknown != 0 {
            return Err(PagerError::new(
                Cause::Unsupported,
                format_args!(
                    "{}: open answered the flags {unknown:#x}, which this host does not know; use a newer host",
                    pager.name()
                ),
            ));
        }
        if out.size > MAX_OBJECT_SIZE {
            self.host.log(
                Level::Warn,
                format_args!(
                    "{}: open answered a size of {} bytes; {MAX_OBJECT_SIZE} is the most there can be, and is used",
                    pager.name(),
                    out.size
                ),
            );
        }
        Ok(())
    }

    /// Ends the plugin if nothing uses it: calls `fini` and lets go of the keeper. Otherwise says what is in the way, and
    /// the plugin goes on as before. May block for as long as `fini` does.
    ///
    /// # Errors
    /// [`StillInUse`]. A plugin that has ended already is no error.
    pub fn try_shut_down(&self) -> Result<(), StillInUse> {
        let keeper = {
            let mut life = self.life.lock();
            let (objects, requests) = (self.objects.count(), self.host.requests.under_way().count());
            if objects != 0 || requests != 0 {
                return Err(StillInUse { objects, requests });
            }
            match core::mem::replace(&mut *life, Life::Ended) {
                Life::Ready(keeper) | Life::Draining(keeper) => keeper,
                Life::Ended => return Ok(()),
            }
        };
        self.fini();
        drop(keeper);
        Ok(())
    }

    /// Refuses new opens from now on. Those who have objects open may close them at their leisure.
    pub fn drain(&self) {
        let mut life = self.life.lock();
        *life = match core::mem::replace(&mut *life, Life::Ended) {
            Life::Ready(keeper) | Life::Draining(keeper) => Life::Draining(keeper),
            Life::Ended => Life::Ended,
        };
    }

    /// Whether objects can still be opened.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(*self.life.lock(), Life::Ready(_))
    }

    /// Sleeps until no object is open and no request is under way. To be called after [`PluginModule::drain`]; a caller that
    /// keeps an object open itself waits for ever. No lock may be held.
    pub fn wait_until_unused(&self) {
        self.objects.wait_for_none();
        self.host.requests.under_way().wait_for_none();
    }

    /// Drains the plugin, waits, and ends it.
    pub fn shut_down(&self) {
        self.drain();
        while self.try_shut_down().is_err() {
            self.wait_until_unused();
        }
    }

    fn fini(&self) {
        if let Some(fini) = self.table.fini {
            let Some(record) = self.last_call.lock().take() else {
                unreachable!("fini is called once")
            };
            let _none = kept_call(&self.host, Subject::new("fini", &self.host.name), record, || {
                // SAFETY: the last call: no object is open, no operation runs, and new opens are refused since before.
                unsafe { fini(self.ctx) };
                abi::QUIRE_PAGER_OK
            });
        }
        if self.table.init.is_some() {
            // SAFETY: the count that `start` gave to the plugin, which uses its host no more.
            drop(unsafe { Arc::from_raw(Arc::as_ptr(&self.host)) });
        }
    }

    pub(crate) fn table(&self) -> &abi::Module {
        &self.table
    }

    pub(crate) fn host(&self) -> &HostState {
        &self.host
    }

    pub(crate) fn ctx(&self) -> *mut c_void {
        self.ctx
    }

    pub(crate) fn serial(&self) -> Option<&Serial> {
        self.serial.as_ref()
    }
}

impl Drop for PluginModule {
    fn drop(&mut self) {
        // Not shut down: threads of the plugin may still run its code, and use the host it was told. Both stay for ever.
        if let Life::Ready(keeper) | Life::Draining(keeper) = core::mem::replace(self.life.get_mut(), Life::Ended) {
            core::mem::forget(keeper);
        }
    }
}

impl fmt::Debug for PluginModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginModule")
            .field("name", &self.name())
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

/// A place among a plugin's open objects: as long as it lives, `fini` is not called.
#[derive(Debug)]
struct Place(Arc<PluginModule>);

impl Place {
    fn take(module: &Arc<PluginModule>) -> Result<Self, PagerError> {
        let life = module.life.lock();
        if !matches!(*life, Life::Ready(_)) {
            return Err(PagerError::new(
                Cause::Invalid,
                format_args!("the plugin {} is being unloaded", module.name()),
            ));
        }
        module.objects.rise();
        drop(life);
        Ok(Self(module.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.objects.fall();
    }
}

/// What the plugin calls an object: known from before it is opened until it has been closed.
#[derive(Debug)]
struct Name {
    module: Arc<PluginModule>,
    name: ObjectName,
}

impl Name {
    fn draw(module: &Arc<PluginModule>) -> Result<Self, PagerError> {
        Ok(Self {
            module: module.clone(),
            name: module.host.named.begin()?,
        })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.module.host.named.forget(self.name);
    }
}

/// An open object's places among those of its pager, and of the driver that it is a device of.
#[derive(Debug)]
pub(crate) struct OpenObject {
    name: Name,
    /// The record for `close`.
    record: FrameLock<Option<SetAside>>,
    pager: Place,
    driver: Option<Place>,
    /// Who opens it: `vnode`, or pager and driver: `device:framebuffer`.
    opener: Arc<str>,
}

impl OpenObject {
    fn begin(module: &Arc<PluginModule>, driver: Option<&Arc<PluginModule>>) -> Result<Self, PagerError> {
        let this = Self {
            name: Name::draw(module)?,
            record: FrameLock::new(None),
            pager: Place::take(module)?,
            driver: driver.map(Place::take).transpose()?,
            opener: driver.map_or_else(
                || module.host.name.clone(),
                |driver| words_or_nothing(format_args!("{}:{}", module.name(), driver.name())).into(),
            ),
        };
        *this.record.lock() = Some(module.host.requests.set_aside()?);
        Ok(this)
    }

    pub(crate) fn module(&self) -> &Arc<PluginModule> {
        &self.pager.0
    }

    pub(crate) fn opener(&self) -> &Arc<str> {
        &self.opener
    }

    /// Whose thread model keeps the object's operations apart.
    pub(crate) fn threads(&self) -> &PluginModule {
        self.driver.as_ref().map_or(&self.pager.0, |driver| &driver.0)
    }

    fn driver(&self) -> Option<&Driver> {
        self.driver.as_ref()?.0.driver.as_ref()
    }

    pub(crate) fn name(&self) -> ObjectName {
        self.name.name
    }

    /// For the one call of `close`.
    pub(crate) fn take_record(&self) -> SetAside {
        let Some(record) = self.record.lock().take() else {
            unreachable!("an object is closed once")
        };
        record
    }
}

impl Drop for OpenObject {
    fn drop(&mut self) {
        if let Some(record) = self.record.get_mut().take() {
            self.module().host.requests.give_up(record);
        }
    }
}

/// Calls an operation that cannot pend, and judges its status.
pub(crate) fn plain_call(
    host: &HostState,
    subject: Subject,
    operation: impl FnOnce(Token) -> i32,
) -> Result<(), PagerError> {
    call_with(host, subject, Work::Call, operation)
}

/// As [`plain_call`], for an operation that works on something.
pub(crate) fn call_with(
    host: &HostState,
    subject: Subject,
    work: Work,
    operation: impl FnOnce(Token) -> i32,
) -> Result<(), PagerError> {
    let begun = host.requests.begin(subject, work)?;
    call_begun(host, &begun, operation)
}

/// As [`plain_call`], with a record that was set aside for it: the operation is called, whatever else happens.
pub(crate) fn kept_call(
    host: &HostState,
    subject: Subject,
    record: SetAside,
    operation: impl FnOnce() -> i32,
) -> Result<(), PagerError> {
    let begun = host.requests.begin_kept(record, subject);
    call_begun(host, &begun, |_| operation())
}

fn call_begun(host: &HostState, begun: &Begun, operation: impl FnOnce(Token) -> i32) -> Result<(), PagerError> {
    let status = operation(begun.token);
    match host.requests.returned(begun.token, status, false) {
        Returned::Ended(mut ended) => judge(host, &mut ended),
        Returned::Pending => unreachable!("this operation was not allowed to pend"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the ABI's structs have some tens of bytes"
)]
pub(crate) fn size_u32<T>() -> u32 {
    size_of::<T>() as u32
}

fn empty_result() -> abi::OpenResult {
    abi::OpenResult {
        struct_size: size_u32::<abi::OpenResult>(),
        flags: 0,
        object: ptr::null_mut(),
        identity: [0, 0],
        size: 0,
        granule: 0,
        max_run: 0,
        change: [0, 0],
    }
}

/// Two words, if the plugin filled them in.
pub(crate) fn known(words: [u64; 2]) -> Option<[u64; 2]> {
    (words != [0, 0]).then_some(words)
}

/// The words of an error that nobody is there to be told.
pub(crate) fn log_unheard(host: &HostState, what: &str, error: &PagerError) {
    host.log(
        Level::Error,
        format_args!("{what}: {}", words_or_nothing(format_args!("{error}"))),
    );
}
