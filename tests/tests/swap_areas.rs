//! Swap areas through the loader and the anon pager: the plugin is a file of its own, as a program has it.

use std::ffi::CString;
use std::sync::Arc;

use quire_bridge::Open;
use quire_core::error::{Cause, PagerError};
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::pager::{Pager, PagerOps};
use quire_core::soft::SoftConfig;
use quire_core::types::{PAGE_SIZE, PageIndex};
use quire_loader::Loaded;
use quire_tests::{Rig, built};

fn load() -> Arc<Loaded> {
    Loaded::load(&built::plugin("anon"), None, Box::new(|_, _, _| {})).unwrap()
}

fn open(anon: &Loaded, name: &str) -> Result<quire_bridge::Opened, PagerError> {
    let name = CString::new(name).unwrap();
    anon.open(&Open {
        name: Some(&name),
        write: true,
        ..Open::default()
    })
}

fn attach(rig: &Rig, anon: &Loaded, name: &str) -> ObjectRef {
    let opened = open(anon, name).unwrap();
    let object = rig.engine.attach(Opening {
        pager: opened.pager,
        source: 1,
        identity: opened.identity,
        size: opened.size,
        change: opened.change,
    });
    object.unwrap()
}

#[test]
fn the_plugin_hears_which_slots_are_free_and_an_error_says_why() {
    let anon = load();
    let area = open(&anon, "memory,size=64K").unwrap().pager;
    let ops = area.ops();
    assert!(ops.contains(PagerOps::PUT | PagerOps::FREE_SPACE));
    assert!(!ops.intersects(PagerOps::SYNC | PagerOps::ASYNC | PagerOps::SIGNAL_SAFE | PagerOps::RESIZE));
    assert_eq!(area.free_space(PageIndex(3), 13), Ok(()));
    let error = area.free_space(PageIndex(3), 14).unwrap_err();
    assert_eq!(
        (error.cause, error.text.as_str()),
        (
            Cause::OutOfRange,
            "anon: free_space of memory: 14 pages from 3 are no slots of the swap area"
        )
    );
}

#[test]
fn an_area_is_closed_with_its_last_use_and_its_file_is_free_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{},size=64K,compress=lz4", folder.path().join("swap").display());
    let (rig, anon) = (Rig::new(SoftConfig::default()), load());
    for byte in 1..3 {
        let object = attach(&rig, &anon, &name);
        assert_eq!(open(&anon, &name).unwrap_err().cause, Cause::Errno(16), "it is in use");
        let va = rig.map.map(&object, &MapRequest::read_write(PAGE_SIZE)).unwrap().start;
        assert_eq!(rig.load_page(va)[0], 0, "what an earlier area held is gone");
        rig.map.store(va, &[byte]).unwrap();
        rig.map.unmap(va, PAGE_SIZE).unwrap();
        object.release().unwrap();
    }
    rig.assert_nothing_left();
}
