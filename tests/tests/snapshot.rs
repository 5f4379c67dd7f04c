//! Drivers in Rust at work: the snapshot driver as a plugin, below the engine.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use quire_bridge::Open;
use quire_core::error::{Cause, PagerError};
use quire_core::map::{Map, MapRequest};
use quire_core::object::{ObjectRef, Opening};
use quire_core::soft::SoftConfig;
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_loader::Loaded;
use quire_tests::{Rig, built};

const PAGES: u64 = 50;
/// Eight pages.
const BLOCK: u64 = 8 * PAGE_SIZE;

struct World {
    rig: Rig,
    devices: Arc<Loaded>,
    driver: Arc<Loaded>,
    folder: tempfile::TempDir,
}

fn contents() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..PAGES * PAGE_SIZE - 100)
        .map(|i| (i ^ i >> 12).to_le_bytes()[0])
        .collect();
    // A block of zeros.
    bytes[16 * PAGE_BYTES..24 * PAGE_BYTES].fill(0);
    bytes
}

impl World {
    fn new() -> Self {
        let load = |path: &Path| Loaded::load(path, None, Box::new(|_, _, _| {})).expect("loads");
        let snapshot = built::folder();
        Self {
            rig: Rig::new(SoftConfig {
                frames: 256,
                ..SoftConfig::default()
            }),
            devices: load(&built::plugin("device")),
            driver: load(&snapshot.join("libquire_pager_snapshot.so")),
            folder: tempfile::TempDir::new().expect("a folder"),
        }
    }

    /// An image of `contents`, made by the tool.
    fn image(&self, block: u64) -> PathBuf {
        let (file, image) = (self.folder.path().join("file"), self.folder.path().join("image"));
        fs::write(&file, contents()).expect("writes");
        let tool = built::folder().join("quire-snapshot");
        let output = Command::new(tool)
            .args([&file, &image])
            .arg(block.to_string())
            .output()
            .expect("the tool runs");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaints}");
        image
    }

    fn open(&self, path: &Path, write: bool) -> Result<ObjectRef, PagerError> {
        let name = CString::new(path.as_os_str().as_bytes()).expect("a path");
        let opened = self.devices.open(&Open {
            name: Some(&name),
            write,
            driver: Some(self.driver.module()),
            ..Open::default()
        })?;
        let object = self.rig.engine.attach(Opening {
            pager: opened.pager,
            source: self.driver.module().number(),
            identity: opened.identity,
            size: opened.size,
            change: opened.change,
        });
        Ok(object.expect("attaches"))
    }
}

fn mapped(world: &World, object: &ObjectRef) -> (Map, VirtAddr) {
    let bounds = AddrRange {
        start: VirtAddr(1 << 30),
        end: VirtAddr(1 << 31),
    };
    let map = Map::new(world.rig.engine.clone(), bounds).expect("a map");
    let range = map.map(object, &MapRequest::read_only(object.size())).expect("maps");
    (map, range.start)
}

#[test]
fn a_snapshot_shows_its_image_and_a_touched_page_brings_in_its_block() {
    let world = World::new();
    let object = world.open(&world.image(BLOCK), false).expect("opens");
    assert_eq!(object.size(), contents().len() as u64);
    let (map, at) = mapped(&world, &object);
    let mut byte = [0];
    map.load(VirtAddr(at.0 + 11 * PAGE_SIZE), &mut byte).expect("loads");
    assert_eq!(byte[0], contents()[11 * PAGE_BYTES]);
    let counts = world.rig.engine.stats().counts();
    assert_eq!((counts.populates, counts.pages_populated, counts.gets), (1, 8, 0));
    assert_eq!(object.resident(), 8);

    let mut bytes = vec![0; contents().len() + 100];
    map.load(at, &mut bytes).expect("loads");
    let contents = contents();
    assert!(bytes[..contents.len()] == contents);
    assert!(bytes[contents.len()..].iter().all(|byte| *byte == 0));
    // Seven blocks, the last of two pages.
    let counts = world.rig.engine.stats().counts();
    assert_eq!((counts.populates, counts.pages_populated, counts.gets), (7, PAGES, 0));
    map.clear().expect("unmaps");
}

#[test]
fn a_snapshot_is_read_only_and_named_by_its_driver() {
    let world = World::new();
    let object = world.open(&world.image(BLOCK), true).expect("opens");
    assert!(!object.takes_writes());
    let name = object.describe();
    assert!(
        name.starts_with("device:snapshot /") && name.ends_with("/image"),
        "{name}"
    );
}

#[test]
fn the_same_image_is_one_object_and_another_file_of_its_name_is_not() {
    let world = World::new();
    let image = world.image(BLOCK);
    let (first, second) = (world.open(&image, false).unwrap(), world.open(&image, false).unwrap());
    assert_eq!(first.id(), second.id());
    drop(second);
    world.image(2 * BLOCK);
    assert_ne!(world.open(&image, false).unwrap().id(), first.id());
}

#[test]
fn damaged_images_are_refused_with_their_names() {
    let world = World::new();
    let image = world.image(BLOCK);
    let whole = fs::read(&image).expect("reads");
    let refusal = |bytes: &[u8]| {
        fs::write(&image, bytes).expect("writes");
        world.open(&image, false).expect_err("must be refused")
    };
    let begin = format!("snapshot: ctor: {}: ", image.display());
    for (bytes, words) in [
        (&whole[..20], "no snapshot"),
        (&whole[..60], "cut short"),
        (&whole[..whole.len() - 1], "cut short"),
        (
            &[&whole[..40], &[0xff], &whole[41..]].concat(),
            "damaged: the checksum of its index",
        ),
        (b"just a file, which is long enough", "no snapshot of this version"),
    ] {
        let error = refusal(bytes);
        assert!(error.text.starts_with(&begin) && error.text.contains(words), "{error}");
    }
    let absent = world
        .open(&world.folder.path().join("absent"), false)
        .expect_err("is not there");
    assert_eq!(absent.cause, Cause::Errno(2), "{absent}");
}

#[test]
fn a_damaged_block_fails_its_own_pages_and_can_be_tried_again() {
    let world = World::new();
    let image = world.image(BLOCK);
    let whole = fs::read(&image).expect("reads");
    let object = world.open(&image, false).expect("opens");
    // Block 1: the index says where.
    let at = usize::try_from(u64::from_le_bytes(whole[40..48].try_into().unwrap())).unwrap();
    let mut bent = whole.clone();
    bent[at + 9] ^= 0x10;
    fs::write(&image, &bent).expect("writes");
    let (map, start) = mapped(&world, &object);
    let mut byte = [0];
    let stopped = map
        .load(VirtAddr(start.0 + 8 * PAGE_SIZE), &mut byte)
        .expect_err("damaged");
    let text = stopped.error.to_string();
    assert!(text.contains("block 1, at bytes") && text.contains("damaged"), "{text}");
    map.load(VirtAddr(start.0 + 24 * PAGE_SIZE), &mut byte)
        .expect("another block");
    fs::write(&image, &whole).expect("writes");
    map.load(VirtAddr(start.0 + 8 * PAGE_SIZE), &mut byte)
        .expect("it is whole again");
    assert_eq!(byte[0], contents()[8 * PAGE_BYTES]);
    map.clear().expect("unmaps");
}
