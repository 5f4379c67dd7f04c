//! Plugins at work: once a process, and how they end.

mod support;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use quire_abi::{HostApi, Module, QUIRE_LOG_WARN, QUIRE_PAGER_MODULE_MIN_SIZE};
use quire_bridge::{Log, Open};
use quire_core::pager::Pager;
use quire_loader::{LoadError, Loaded, Released};
use support::{Built, c_plugin};

/// How often init and fini ran.
struct Counts(&'static [AtomicU32; 2]);

impl Counts {
    fn new() -> (Self, CString) {
        let counts: &'static [AtomicU32; 2] = Box::leak(Box::default());
        let address = std::ptr::from_ref(counts).expose_provenance();
        (Self(counts), CString::new(address.to_string()).unwrap())
    }

    fn get(&self) -> (u32, u32) {
        (self.0[0].load(Ordering::SeqCst), self.0[1].load(Ordering::SeqCst))
    }
}

fn counting(options: &[&str]) -> Built {
    c_plugin(&[&["-DCOUNTS"], options].concat())
}

fn no_log() -> Log {
    Box::new(|_, _, _| {})
}

#[test]
fn a_plugin_is_initialised_once_however_often_it_is_loaded() {
    let built = counting(&[]);
    let (counts, config) = Counts::new();
    let first = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    let second = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let error = Loaded::load(&built.path, Some(c"another"), no_log()).unwrap_err();
    assert!(matches!(error, LoadError::OtherConfig { .. }), "{error}");
    drop(first);
    drop(second);
    assert_eq!(counts.get(), (1, 0), "dropping every handle lets nothing go");
    let third = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    assert_eq!(counts.get(), (1, 0));
    assert_eq!(Loaded::unload(third).unwrap(), Released);
    assert_eq!(counts.get(), (1, 1));
}

#[test]
fn a_plugin_in_use_is_not_unloaded_and_says_by_what() {
    let built = counting(&[]);
    let (counts, config) = Counts::new();
    let loaded = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    let again = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    let kept = Loaded::unload(again).unwrap_err();
    assert!(kept.to_string().contains("somebody else has it loaded"), "{kept}");
    drop(kept);

    let opened = loaded.open(&Open::default()).unwrap();
    let kept = Loaded::unload(loaded).unwrap_err();
    assert!(
        kept.to_string()
            .contains("still in use: 1 object(s) open, 0 request(s) under way"),
        "{kept}"
    );
    assert_eq!(kept.error.status(), -16);
    let another = kept.loaded.open(&Open::default()).expect("it works as before");
    drop(another);

    let loaded = kept.loaded;
    let module = Arc::clone(loaded.module());
    let waits = thread::spawn(move || Loaded::unload_when_unused(loaded).unwrap());
    while module.is_ready() {
        thread::yield_now();
    }
    let error = Loaded::load(&built.path, Some(&config), no_log()).unwrap_err();
    assert!(error.to_string().contains("it is being unloaded"), "{error}");
    assert_eq!(counts.get(), (1, 0));
    opened.pager.close().unwrap();
    drop(opened);
    assert_eq!(waits.join().unwrap(), Released);
    assert_eq!(counts.get(), (1, 1));
}

#[test]
fn a_plugin_whose_init_fails_is_not_loaded_and_may_be_tried_again() {
    let built = counting(&["-DINIT_ANSWERS=-13"]);
    let (counts, config) = Counts::new();
    for tries in 1..3 {
        let error = Loaded::load(&built.path, Some(&config), no_log()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}: the plugin could not be initialised: bent: init: the pager reported system error 13",
                built.path.display()
            )
        );
        assert_eq!(error.status(), -13);
        assert_eq!(counts.get(), (tries, 0));
    }
}

#[test]
fn a_plugin_that_must_stay_is_not_ended() {
    let built = counting(&["-DCAPS=2"]);
    let (counts, config) = Counts::new();
    let loaded = Loaded::load(&built.path, Some(&config), no_log()).unwrap();
    let kept = Loaded::unload_when_unused(loaded).unwrap_err();
    assert!(matches!(kept.error, LoadError::StaysResident { .. }));
    drop(kept.loaded.open(&Open::default()).expect("it works as before"));
    assert_eq!(counts.get(), (1, 0));
}

#[test]
fn a_table_of_the_programs_own_is_checked_like_a_plugins() {
    let built = c_plugin(&[]);
    let plugin = quire_loader::Plugin::load(&built.path).unwrap();
    let good: &'static mut Module = Box::leak(Box::new(*plugin.module()));
    let name = Path::new("built-in");
    // SAFETY: NULL is allowed.
    let error = unsafe { Loaded::register(name, std::ptr::null(), None, no_log()) }.unwrap_err();
    assert_eq!(error.to_string(), "built-in: its table is not valid: the table is NULL");
    good.struct_size = QUIRE_PAGER_MODULE_MIN_SIZE - 1;
    // SAFETY: the table is leaked, and what it points at is the plugin's, which is never unloaded.
    let error = unsafe { Loaded::register(name, good, None, no_log()) }.unwrap_err();
    assert!(matches!(error, LoadError::TooSmall { .. }));
    good.struct_size = QUIRE_PAGER_MODULE_MIN_SIZE;
    // SAFETY: as above.
    let loaded = unsafe { Loaded::register(name, good, None, no_log()) }.unwrap();
    assert_eq!(loaded.plugin().name(), "bent");
    drop(loaded.open(&Open::default()).unwrap());
    assert_eq!(Loaded::unload(loaded).unwrap(), Released);
}

type Init = unsafe extern "C" fn(*const HostApi, *const c_char, *mut *mut c_void) -> i32;
type Fini = unsafe extern "C" fn(*mut c_void);

/// A table of the program's own, with these.
fn table(name: &'static CStr, init: Option<Init>, fini: Option<Fini>) -> &'static Module {
    static GOOD: OnceLock<Module> = OnceLock::new();
    let good = GOOD.get_or_init(|| *quire_loader::Plugin::load(&c_plugin(&[]).path).unwrap().module());
    Box::leak(Box::new(Module {
        name: name.as_ptr(),
        init,
        fini,
        ..*good
    }))
}

fn register(table: &'static Module) -> Result<Arc<Loaded>, LoadError> {
    // SAFETY: the table is leaked, and what it points at is static, or the plugin's, which is never unloaded.
    unsafe { Loaded::register(Path::new("own"), table, None, no_log()) }
}

#[test]
fn an_init_that_loads_its_own_plugin_is_told_so_and_does_not_hang() {
    static SELF: AtomicPtr<Module> = AtomicPtr::new(std::ptr::null_mut());
    static OTHER: AtomicPtr<Module> = AtomicPtr::new(std::ptr::null_mut());
    static TEXTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn register_at(at: &AtomicPtr<Module>) -> Result<Arc<Loaded>, LoadError> {
        // SAFETY: set below, to a leaked table.
        register(unsafe { &*at.load(Ordering::SeqCst) })
    }
    unsafe extern "C" fn init(_: *const HostApi, _: *const c_char, _: *mut *mut c_void) -> i32 {
        let error = register_at(&SELF).unwrap_err();
        assert_eq!(error.status(), -35);
        TEXTS.lock().unwrap().push(error.to_string());
        register_at(&OTHER).expect("another plugin may be loaded");
        0
    }
    unsafe extern "C" fn fini(_: *mut c_void) {
        TEXTS.lock().unwrap().push(register_at(&SELF).unwrap_err().to_string());
    }
    let own = table(c"own", Some(init), Some(fini));
    SELF.store(std::ptr::from_ref(own).cast_mut(), Ordering::SeqCst);
    OTHER.store(
        std::ptr::from_ref(table(c"other", None, None)).cast_mut(),
        Ordering::SeqCst,
    );
    let loaded = register(own).unwrap();
    Loaded::unload(loaded).unwrap();
    assert_eq!(
        *TEXTS.lock().unwrap(),
        [
            "own: its own init wants to load it; do it after init or fini has returned",
            "own: its own fini wants to load it; do it after init or fini has returned"
        ]
    );
    // Gone, it may come again.
    TEXTS.lock().unwrap().clear();
    Loaded::unload(register(own).unwrap()).unwrap();
}

#[test]
fn a_slow_init_keeps_nobody_from_loading_another_plugin_and_is_waited_for_by_those_who_want_the_same() {
    static INSIDE: OnceLock<mpsc::Sender<()>> = OnceLock::new();
    static GO: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
    static INITS: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn slow(_: *const HostApi, _: *const c_char, _: *mut *mut c_void) -> i32 {
        INITS.fetch_add(1, Ordering::SeqCst);
        INSIDE.get().unwrap().send(()).unwrap();
        GO.lock().unwrap().take().unwrap().recv().unwrap();
        0
    }
    let ((inside, is_inside), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    INSIDE.set(inside).unwrap();
    *GO.lock().unwrap() = Some(may_go);
    let table_of_slow = table(c"slow", Some(slow), None);
    let first = thread::spawn(move || register(table_of_slow).unwrap());
    is_inside.recv().unwrap();
    let quick = register(table(c"quick", None, None)).expect("is not kept waiting");
    Loaded::unload(quick).unwrap();
    let second = thread::spawn(move || register(table_of_slow).unwrap());
    go.send(()).unwrap();
    assert!(Arc::ptr_eq(&first.join().unwrap(), &second.join().unwrap()));
    assert_eq!(INITS.load(Ordering::SeqCst), 1);
}

#[test]
fn a_table_is_known_by_its_address_and_its_contents() {
    let memory: &'static mut Module = Box::leak(Box::new(*table(c"one", None, None)));
    let at = std::ptr::from_mut(memory);
    // SAFETY: leaked; read by `register` alone, between our writes.
    let again = move || unsafe { Loaded::register(Path::new("own"), at, None, no_log()) }.unwrap();
    let (first, second) = (again(), again());
    assert!(Arc::ptr_eq(&first, &second));
    // SAFETY: as above.
    unsafe { (*at).name = c"two".as_ptr() };
    let other = again();
    assert!(!Arc::ptr_eq(&first, &other), "the memory holds another pager by now");
    assert_eq!((first.plugin().name(), other.plugin().name()), ("one", "two"));
    Loaded::unload(other).unwrap();
}

#[test]
fn a_failed_init_keeps_its_host_alive_for_what_it_started() {
    static HOST: AtomicPtr<HostApi> = AtomicPtr::new(std::ptr::null_mut());
    unsafe extern "C" fn fails(host: *const HostApi, _: *const c_char, _: *mut *mut c_void) -> i32 {
        HOST.store(host.cast_mut(), Ordering::SeqCst);
        -13
    }
    let (lines_to, lines) = mpsc::channel();
    let log: Log = Box::new(move |_, _, text: &str| lines_to.send(text.to_owned()).unwrap());
    // SAFETY: leaked and static.
    unsafe { Loaded::register(Path::new("own"), table(c"own", Some(fails), None), None, log) }.unwrap_err();
    // SAFETY: a host table stays as long as nobody has finalised the plugin, and here nobody does.
    unsafe {
        let host = &*HOST.load(Ordering::SeqCst);
        host.log.unwrap()(host.host, QUIRE_LOG_WARN, c"late".as_ptr());
    }
    assert_eq!(lines.recv().unwrap(), "late");
}
