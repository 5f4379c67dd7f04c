//! Files that nobody uses and that are kept: through the loader and the vnode pager, as a program has them.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use quire_bridge::Open;
use quire_core::error::PagerError;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::soft::SoftConfig;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE};
use quire_loader::Loaded;
use quire_tests::{Rig, built};

fn load(plugin: &Path) -> Arc<Loaded> {
    Loaded::load(plugin, None, Box::new(|_, _, _| {})).unwrap()
}

fn open(rig: &Rig, vnode: &Loaded, path: &Path) -> Result<ObjectRef, PagerError> {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    let what = Open {
        name: Some(&name),
        write: true,
        ..Open::default()
    };
    let opened = rig.engine.open_with_room(|| vnode.open(&what))?;
    let object = rig.engine.attach(Opening {
        pager: opened.pager,
        source: 1,
        identity: opened.identity,
        size: opened.size,
        change: opened.change,
    });
    Ok(object.unwrap())
}

/// The first byte of the file, as a mapping shows it; afterwards `then` is stored there.
fn first_byte(rig: &Rig, object: &ObjectRef, then: Option<u8>) -> u8 {
    let va = rig.map.map(object, &MapRequest::read_write(PAGE_SIZE)).unwrap().start;
    let byte = rig.load_page(va)[0];
    if let Some(then) = then {
        rig.map.store(va, &[then]).unwrap();
    }
    rig.map.unmap(va, PAGE_SIZE).unwrap();
    byte
}

/// Writes the file until its time of modification is another: that of the file system may go by ticks.
fn rewrite(path: &Path, byte: u8) {
    let modified = || -> SystemTime { fs::metadata(path).unwrap().modified().unwrap() };
    let (before, began) = (modified(), Instant::now());
    while modified() == before {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the file's time stands still"
        );
        fs::write(path, [byte; PAGE_BYTES]).unwrap();
    }
}

#[test]
fn a_file_that_others_wrote_while_nobody_had_it_open_shows_what_they_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, [1; PAGE_BYTES]).unwrap();
    let (rig, vnode) = (Rig::new(SoftConfig::default()), load(&built::plugin("vnode")));
    let object = open(&rig, &vnode, &path).unwrap();
    let id = object.id();
    assert_eq!(first_byte(&rig, &object, None), 1);
    object.release().unwrap();

    let object = open(&rig, &vnode, &path).unwrap();
    assert_eq!(
        (object.id(), object.resident()),
        (id, 1),
        "untouched: it is kept with its page"
    );
    assert_eq!(first_byte(&rig, &object, Some(2)), 1);
    object.release().unwrap();

    let object = open(&rig, &vnode, &path).unwrap();
    assert_eq!(
        (object.id(), object.resident()),
        (id, 1),
        "what it wrote itself is no reason"
    );
    assert_eq!(first_byte(&rig, &object, None), 2);
    object.release().unwrap();

    rewrite(&path, 3);
    let object = open(&rig, &vnode, &path).unwrap();
    assert_eq!(object.resident(), 0);
    assert_eq!(first_byte(&rig, &object, None), 3);
    drop(object);
    rig.assert_nothing_left();
}

/// How many files the child opens, and how many descriptors it has for that.
const FILES: usize = 60;
const DESCRIPTORS: usize = 30;

#[test]
fn kept_files_give_their_descriptors_up_when_there_are_no_more() {
    const FOLDER: &str = "QUIRE_TEST_FOLDER";
    const PLUGIN: &str = "QUIRE_TEST_PLUGIN";
    if let (Some(folder), Some(plugin)) = (std::env::var_os(FOLDER), std::env::var_os(PLUGIN)) {
        return open_many(Path::new(&folder), Path::new(&plugin));
    }
    let folder = tempfile::tempdir().unwrap();
    for i in 0..FILES {
        fs::write(folder.path().join(i.to_string()), [1; PAGE_BYTES]).unwrap();
    }
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kept_files_give_their_descriptors_up_when_there_are_no_more"])
        .env(FOLDER, folder.path())
        .env(PLUGIN, built::plugin("vnode"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn open_many(folder: &Path, plugin: &Path) {
    let (rig, vnode) = (Rig::new(SoftConfig::default()), load(plugin));
    for i in 0..FILES {
        let object = open(&rig, &vnode, &folder.join(i.to_string())).unwrap();
        assert_eq!(first_byte(&rig, &object, None), 1);
        object.release().unwrap();
    }
    let kept = rig.engine.kept_count();
    assert!(kept > 1 && kept < DESCRIPTORS, "{kept} are kept");
    rig.assert_nothing_left();
}
