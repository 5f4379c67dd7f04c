//! Plugins that were built against released versions of the plugin ABI, and are never built again: each loads, and pages, in C, in
//! C++ and in Rust, pagers and drivers. On the soft machine and in real memory.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_bridge::Open;
use quire_core::map::MapRequest;
use quire_core::object::{ObjectRef, Opening};
use quire_core::types::{PAGE_BYTES, PAGE_SIZE};
use quire_loader::Loaded;
use quire_tests::{Mode, Rig, built, page_at};

fn versions() -> Vec<PathBuf> {
    let folder = built::repository().join("tests/old-plugins");
    let entries = fs::read_dir(folder).expect("plugins of old versions are kept");
    let mut versions: Vec<_> = entries
        .map(|entry| entry.expect("a folder").path())
        .filter(|path| path.is_dir())
        .collect();
    versions.sort();
    versions
}

fn load(path: &Path) -> Arc<Loaded> {
    Loaded::load(path, None, Box::new(|_, _, _| {})).unwrap_or_else(|error| panic!("{error}"))
}

/// What every plugin is tried with.
struct Bench<'a> {
    rig: &'a Rig,
    devices: &'a Arc<Loaded>,
    folder: &'a Path,
}

impl Bench<'_> {
    fn open(&self, plugin: &Arc<Loaded>, name: &str) -> ObjectRef {
        let name = CString::new(name).expect("no zero");
        let is_driver = plugin.plugin().module().caps & quire_pager_caps::DRIVER != 0;
        let what = Open {
            name: Some(&name),
            write: true,
            driver: is_driver.then(|| plugin.module()),
            ..Open::default()
        };
        let pager = if is_driver { self.devices } else { plugin };
        let opened = pager.open(&what).unwrap_or_else(|error| panic!("{error}"));
        let opening = Opening {
            pager: opened.pager,
            source: plugin.module().number(),
            identity: opened.identity,
            size: opened.size,
            change: opened.change,
        };
        self.rig.engine.attach(opening).expect("an object")
    }

    /// Reads pages by touching them, writes one if that can be, and closes.
    fn use_it(&self, object: ObjectRef, writable: bool, expected: impl Fn(u64, &[u8])) {
        let len = object.size();
        let request = if writable {
            MapRequest::read_write(len)
        } else {
            MapRequest::read_only(len)
        };
        let va = self.rig.map.map(&object, &request).expect("room").start;
        for page in 0..len / PAGE_SIZE {
            expected(page, &self.rig.load_page(page_at(va, page)));
        }
        if writable {
            self.rig.map.store(page_at(va, 1), &[0xA5; 8]).expect("a store");
            self.rig.map.unmap(va, len).expect("it is written");
            let va = self.rig.map.map(&object, &request).expect("room").start;
            assert_eq!(self.rig.load_page(page_at(va, 1))[..8], [0xA5; 8]);
        }
        self.rig.map.clear().expect("it is written");
        object.release().expect("it is closed");
    }

    fn page_in(&self, plugin: &Arc<Loaded>, file: &str) {
        match file {
            "file" => {
                let scratch = tempfile::NamedTempFile::new().expect("a file");
                fs::write(scratch.path(), vec![7; 3 * PAGE_BYTES]).expect("writes");
                let object = self.open(plugin, scratch.path().to_str().expect("a name"));
                self.use_it(object, true, |_, bytes| assert!(bytes.iter().all(|byte| *byte == 7)));
                let _closed = self.rig.engine.uncache_all_from(plugin.module().number());
                let written = fs::read(scratch.path()).expect("reads");
                assert_eq!(written[PAGE_BYTES..PAGE_BYTES + 8], [0xA5; 8]);
            }
            "cpp" => {
                let object = self.open(plugin, "4");
                self.use_it(object, true, |_, _| {});
            }
            "ram" => {
                let object = self.open(plugin, "16384");
                self.use_it(object, true, |_, bytes| assert!(bytes.iter().all(|byte| *byte == 0)));
            }
            "framebuffer" => {
                for policy in ["one", "window", "all", "get"] {
                    let object = self.open(plugin, policy);
                    self.use_it(object, true, |_, bytes| {
                        let pixels = bytes.chunks_exact(4);
                        assert!(
                            pixels
                                .into_iter()
                                .all(|p| p == 0x20_2830_u32.to_le_bytes() || p == 0x18_2028_u32.to_le_bytes())
                        );
                    });
                }
            }
            "ring" => {
                let object = self.open(plugin, "2");
                let len = object.size();
                let va = self
                    .rig
                    .map
                    .map(&object, &MapRequest::read_write(len))
                    .expect("room")
                    .start;
                self.rig.map.store(page_at(va, 1), &[3; 8]).expect("a store");
                assert_eq!(
                    self.rig.load_page(page_at(va, 3))[..8],
                    [3; 8],
                    "both halves are the same memory"
                );
                self.rig.map.clear().expect("nothing is dirty");
                object.release().expect("it is closed");
            }
            "snapshot" => {
                let object = self.open(plugin, self.folder.join("image").to_str().expect("a name"));
                self.use_it(object, false, |page, bytes| {
                    let counted = |i: u64| (i ^ i >> 12).to_le_bytes()[0];
                    let at = page * PAGE_SIZE;
                    assert!(
                        bytes.iter().zip(at..).all(|(byte, i)| *byte == counted(i)),
                        "page {page}"
                    );
                });
            }
            other => panic!("{other} was kept, and no test knows what it does"),
        }
    }
}

mod quire_pager_caps {
    /// QUIRE_CAP_DRIVER of quire_pager.h.
    pub(super) const DRIVER: u64 = 32;
}

#[test]
fn plugins_of_every_released_version_load_and_page() {
    let devices = load(&built::plugin("device"));
    let versions = versions();
    assert!(versions.iter().any(|version| version.ends_with("1.0")));
    for version in versions {
        let mut plugins: Vec<_> = fs::read_dir(&version)
            .expect("a folder")
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "so"))
            .collect();
        plugins.sort();
        let of: Vec<_> = plugins
            .iter()
            .map(|path| path.file_stem().expect("a name").to_owned())
            .collect();
        for language in ["file", "cpp", "ram", "framebuffer", "ring", "snapshot"] {
            assert!(
                of.iter().any(|name| name == language),
                "{language} is kept in {}",
                version.display()
            );
        }
        for path in plugins {
            for mode in Mode::exact() {
                let plugin = load(&path);
                let spoken = plugin.plugin().abi_version().to_string();
                assert_eq!(
                    Path::new(&spoken).file_name(),
                    version.file_name(),
                    "{}",
                    path.display()
                );
                let rig = Rig::new(mode);
                let bench = Bench {
                    rig: &rig,
                    devices: &devices,
                    folder: &version,
                };
                let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                bench.page_in(&plugin, name);
                rig.assert_nothing_left();
            }
        }
    }
}
