//! A plugin that a test scripts: its table is real, its operations do what the test says.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    missing_docs,
    reason = "each test uses a part"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use quire_abi::*;
use quire_bridge::{Level, NotStarted, Open, Opened, PluginModule, only_addresses};
use quire_core::error::PagerError;
use quire_core::io::{Direction, Io as CoreIo, IoPlan};
use quire_core::types::{PAGE_BYTES, PageIndex};

type Operation = Box<dyn Fn(&Script, &mut Io) -> i32 + Send + Sync>;

type PopulateOperation = Box<dyn Fn(&Script, &mut Populate) -> i32 + Send + Sync>;
type CancelOperation = Box<dyn Fn(&Script, u64) -> i32 + Send + Sync>;
type FreeOperation = Box<dyn Fn(&Script, u64, u64) -> i32 + Send + Sync>;
type OpenOperation = Box<dyn Fn(&Script, &mut OpenResult) -> i32 + Send + Sync>;

/// What the plugin does, and what was done to it.
pub struct Script {
    pub get: Operation,
    pub put: Operation,
    pub sync: Box<dyn Fn(&Script) -> i32 + Send + Sync>,
    pub init: Box<dyn Fn(&Script) -> i32 + Send + Sync>,
    pub open: OpenOperation,
    pub populate: PopulateOperation,
    pub path: Option<&'static CStr>,
    pub caps: u64,
    pub threads: u32,
    pub prepares_writes: bool,
    pub frees_space: Option<FreeOperation>,
    pub cancels: bool,
    pub cancel: CancelOperation,
    pub host: AtomicPtr<HostApi>,
    pub inits: AtomicU32,
    pub finis: AtomicU32,
    pub closes: AtomicU32,
    pub keeper_dropped: AtomicBool,
    pub log: Mutex<Vec<(Level, String)>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            get: Box::new(|_, io| fill_all(io)),
            put: Box::new(|_, io| touch_all(io)),
            sync: Box::new(|_| QUIRE_PAGER_OK),
            init: Box::new(|_| QUIRE_PAGER_OK),
            open: Box::new(|_, _| QUIRE_PAGER_OK),
            populate: Box::new(|_, _| QUIRE_PAGER_BAD),
            path: None,
            caps: QUIRE_CAP_ASYNC,
            threads: QUIRE_THREADS_PARALLEL,
            prepares_writes: false,
            frees_space: None,
            cancels: false,
            cancel: Box::new(|_, _| QUIRE_PAGER_OK),
            host: AtomicPtr::default(),
            inits: AtomicU32::new(0),
            finis: AtomicU32::new(0),
            closes: AtomicU32::new(0),
            keeper_dropped: AtomicBool::new(false),
            log: Mutex::default(),
        }
    }
}

/// Fills every page with sevens.
pub fn fill_all(io: &mut Io) -> i32 {
    for page in pages(io) {
        // SAFETY: the host lends a page's bytes until completion.
        unsafe { page.bytes.cast::<u8>().write_bytes(7, PAGE_BYTES) };
    }
    touch_all(io)
}

/// Says that every page is done.
pub fn touch_all(io: &mut Io) -> i32 {
    for page in pages(io) {
        page.status = QUIRE_PAGER_OK;
    }
    QUIRE_PAGER_OK
}

/// The pages of a run.
pub fn pages(io: &mut Io) -> &mut [IoPage] {
    // SAFETY: the host gives `count` pages, and they are the plugin's until completion.
    unsafe { std::slice::from_raw_parts_mut(io.pages, io.count as usize) }
}

impl Script {
    fn api(&self) -> &HostApi {
        // SAFETY: stored by init; the host table is valid until fini has returned.
        unsafe { &*self.host.load(Ordering::Acquire) }
    }

    pub fn complete(&self, token: u64, status: i32) -> i32 {
        // SAFETY: the plugin's own host.
        unsafe { self.api().complete.unwrap()(self.api().host, token, status) }
    }

    pub fn set_error(&self, token: u64, text: &CStr) {
        // SAFETY: the plugin's own host.
        unsafe { self.api().set_error.unwrap()(self.api().host, token, text.as_ptr()) }
    }

    pub fn log(&self, level: u32, text: &CStr) {
        // SAFETY: the plugin's own host.
        unsafe { self.api().log.unwrap()(self.api().host, level, text.as_ptr()) }
    }

    pub fn page_insert(&self, token: u64, index: u64) -> i32 {
        self.page_insert_filled(token, index, 0)
    }

    /// Inserts a page and fills it, if it may.
    pub fn page_insert_filled(&self, token: u64, index: u64, byte: u8) -> i32 {
        let mut bytes = ptr::null_mut::<c_void>();
        // SAFETY: the plugin's own host; what it lends is a page's bytes.
        unsafe {
            let answer =
                self.api().page_insert.unwrap()(self.api().host, token, index, 1, &mut bytes, std::ptr::null_mut());
            if answer == QUIRE_PAGER_OK {
                bytes.cast::<u8>().write_bytes(byte, PAGE_BYTES);
            }
            answer
        }
    }

    pub fn page_ready(&self, token: u64, index: u64) -> i32 {
        // SAFETY: the plugin's own host.
        unsafe { self.api().page_ready.unwrap()(self.api().host, token, index, 1) }
    }

    pub fn host_api(&self) -> *const HostApi {
        self.host.load(Ordering::Acquire)
    }

    /// What was logged so far.
    pub fn logged(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

unsafe extern "C" fn init(host: *const HostApi, config: *const c_char, ctx: *mut *mut c_void) -> i32 {
    // SAFETY: `start` below gives the script's address as text.
    let script = unsafe {
        let address: usize = CStr::from_ptr(config).to_str().unwrap().parse().unwrap();
        &*ptr::with_exposed_provenance::<Script>(address)
    };
    script.host.store(host.cast_mut(), Ordering::Release);
    script.inits.fetch_add(1, Ordering::Relaxed);
    // SAFETY: a place for the context.
    unsafe { *ctx = ptr::from_ref(script).cast_mut().cast() };
    (script.init)(script)
}

unsafe fn script<'a>(at: *mut c_void) -> &'a Script {
    // SAFETY: both the context and every object's handle are the script's address; the script is leaked.
    unsafe { &*at.cast::<Script>() }
}

unsafe extern "C" fn fini(ctx: *mut c_void) {
    // SAFETY: the context.
    let script = unsafe { script(ctx) };
    assert!(
        !script.keeper_dropped.load(Ordering::SeqCst),
        "the library went before fini"
    );
    script.finis.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" fn open(ctx: *mut c_void, _args: *const OpenArgs, out: *mut OpenResult) -> i32 {
    // SAFETY: the context, and the host's struct.
    let (script, out) = unsafe { (script(ctx), &mut *out) };
    (out.object, out.size) = (ctx, 1 << 20);
    (script.open)(script, out)
}

unsafe extern "C" fn close(_ctx: *mut c_void, object: *mut c_void) -> i32 {
    // SAFETY: the handle.
    unsafe { script(object) }.closes.fetch_add(1, Ordering::Relaxed);
    QUIRE_PAGER_OK
}

unsafe extern "C" fn get(object: *mut c_void, io: *mut Io) -> i32 {
    // SAFETY: the handle, and the host's struct.
    let (script, io) = unsafe { (script(object), &mut *io) };
    (script.get)(script, io)
}

unsafe extern "C" fn put(object: *mut c_void, io: *mut Io) -> i32 {
    // SAFETY: the handle, and the host's struct.
    let (script, io) = unsafe { (script(object), &mut *io) };
    (script.put)(script, io)
}

unsafe extern "C" fn populate(object: *mut c_void, request: *mut Populate) -> i32 {
    // SAFETY: the handle, and the host's struct.
    let (script, request) = unsafe { (script(object), &mut *request) };
    (script.populate)(script, request)
}

unsafe extern "C" fn sync(object: *mut c_void) -> i32 {
    // SAFETY: the handle.
    let script = unsafe { script(object) };
    (script.sync)(script)
}

unsafe extern "C" fn cancel(object: *mut c_void, token: u64) -> i32 {
    // SAFETY: the handle.
    let script = unsafe { script(object) };
    (script.cancel)(script, token)
}

unsafe extern "C" fn prepare_write(_object: *mut c_void, _first: u64, _count: u64) -> i32 {
    -13
}

unsafe extern "C" fn free_space(object: *mut c_void, first: u64, count: u64) -> i32 {
    // SAFETY: the handle.
    let script = unsafe { script(object) };
    script.frees_space.as_ref().unwrap()(script, first, count)
}

unsafe extern "C" fn path(object: *mut c_void, text: *mut c_char, len: usize) -> i32 {
    // SAFETY: the handle.
    let name = unsafe { script(object) }.path.unwrap().to_bytes_with_nul();
    // SAFETY: the host's buffer of `len` bytes.
    unsafe { text.copy_from_nonoverlapping(name.as_ptr().cast(), name.len().min(len)) };
    QUIRE_PAGER_OK
}

struct Keeper(&'static Script);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.keeper_dropped.store(true, Ordering::SeqCst);
    }
}

/// Starts the scripted plugin.
pub fn try_start(script: Script) -> (&'static Script, Result<Arc<PluginModule>, PagerError>) {
    let script: &'static Script = Box::leak(Box::new(script));
    let table = Module {
        thread_model: script.threads,
        caps: script.caps,
        name: c"scripted".as_ptr(),
        init: Some(init),
        fini: Some(fini),
        open: Some(open),
        close: Some(close),
        get: Some(get),
        put: Some(put),
        populate: Some(populate),
        sync: Some(sync),
        prepare_write: script
            .prepares_writes
            .then_some(prepare_write as unsafe extern "C" fn(*mut c_void, u64, u64) -> i32),
        cancel: script
            .cancels
            .then_some(cancel as unsafe extern "C" fn(*mut c_void, u64) -> i32),
        free_space: script
            .frees_space
            .as_ref()
            .map(|_| free_space as unsafe extern "C" fn(*mut c_void, u64, u64) -> i32),
        path: script
            .path
            .map(|_| path as unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> i32),
        ..Module::EMPTY
    };
    let address = CString::new(ptr::from_ref(script).expose_provenance().to_string()).unwrap();
    let log = Box::new(|level, name: &str, text: &str| {
        assert_eq!(name, "scripted");
        script.log.lock().unwrap().push((level, text.to_owned()));
    });
    // SAFETY: the table is complete and static, and started once.
    let module = unsafe { PluginModule::start(table, Some(&address), Box::new(Keeper(script)), log, only_addresses) };
    let module = module.map_err(|error| match error {
        NotStarted::Init(error) | NotStarted::Driver(error) => error,
    });
    (script, module)
}

/// Starts the scripted plugin, which must succeed.
pub fn start(script: Script) -> (&'static Script, Arc<PluginModule>) {
    let (script, module) = try_start(script);
    (script, module.expect("init succeeds"))
}

/// Opens "thing" for writing.
pub fn open_one(module: &Arc<PluginModule>) -> Opened {
    module
        .open(&Open {
            name: Some(c"thing"),
            write: true,
            ..Open::default()
        })
        .expect("open succeeds")
}

/// A request over memory of the test's own, which stays for ever.
pub fn request(direction: Direction, first: u64, count: usize, required: usize) -> Arc<CoreIo> {
    let memory: &'static mut [u8] = Box::leak(vec![0_u8; PAGE_BYTES * count].into_boxed_slice());
    let bytes = memory
        .chunks_mut(PAGE_BYTES)
        .map(|page| NonNull::from(page).cast())
        .collect();
    required_over(direction, first, required, bytes)
}

/// A request over pages of [`request`]'s, which the test does not use twice at a time.
pub fn request_over(direction: Direction, first: u64, bytes: Vec<NonNull<u8>>) -> Arc<CoreIo> {
    required_over(direction, first, 0, bytes)
}

fn required_over(direction: Direction, first: u64, required: usize, bytes: Vec<NonNull<u8>>) -> Arc<CoreIo> {
    let plan = IoPlan {
        direction,
        first: PageIndex(first),
        required,
        object_size: 1 << 20,
        reclaiming: false,
        in_signal: false,
    };
    // SAFETY: the memory is leaked and known to this request alone.
    Arc::new(unsafe { CoreIo::detached(plan, bytes) }.unwrap())
}
