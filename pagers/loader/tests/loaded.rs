//! Plugins at work: once a process, and how they end.

mod support;

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use quire_abi::{Module, QUIRE_PAGER_MODULE_MIN_SIZE};
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
