//! Panics in a plugin written in Rust, really built and loaded: the process lives, and the words come through.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use quire_bridge::{Log, Open};
use quire_core::error::Cause;
use quire_core::pager::Pager;
use quire_loader::{LoadError, Loaded, Released};

/// The configuration, or the object's name, says which operation panics.
const PLUGIN: &str = r#"
use quire_pager::{GetRun, Host, Object, OpenRequest, Opened, Pager, Result, export_pager};
use std::ffi::CStr;

struct Panics(bool);
struct Thing(bool);

impl Pager for Panics {
    const NAME: &'static CStr = c"panics";
    type Object = Thing;

    fn init(_host: Host, config: Option<&str>) -> Result<Self> {
        assert_ne!(config, Some("init"), "init has had enough");
        Ok(Self(config == Some("fini")))
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Thing>> {
        Ok(Opened::new(Thing(request.text()? == "close"), 4096))
    }

    fn fini(self) {
        assert!(!self.0, "fini has had enough");
    }
}

impl Object for Thing {
    fn get(&self, _run: &mut GetRun<'_>) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        assert!(!self.0, "close has had enough");
        Ok(())
    }
}

export_pager!(Panics);
"#;

fn plugin() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside our own build products, so that what it depends on is compiled once and not in each run.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panics");
    fs::create_dir_all(target.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"panics\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\nquire-pager = {{ path = {:?} }}\n[workspace]\n",
        here.join("../sdk")
    );
    fs::write(target.join("Cargo.toml"), manifest).unwrap();
    fs::write(target.join("src/lib.rs"), PLUGIN).unwrap();
    // The same versions as the host's, and nothing to ask the registry for.
    fs::copy(here.join("../../Cargo.lock"), target.join("Cargo.lock")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--manifest-path"])
        .arg(target.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("target/debug/libpanics.so")
}

#[test]
fn a_panic_in_init_close_or_fini_of_a_rust_plugin_is_told_and_the_process_lives() {
    let path = plugin();
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = || -> Log {
        let lines = lines.clone();
        Box::new(move |_, _, text: &str| lines.lock().unwrap().push(text.to_owned()))
    };

    let error = Loaded::load(&path, Some(c"init"), log()).unwrap_err();
    assert!(matches!(error, LoadError::Init { .. }));
    assert!(error.to_string().contains("init has had enough"), "{error}");

    let loaded = Loaded::load(&path, Some(c"fini"), log()).expect("it may be tried again");
    assert!(loaded.plugin().layout_checked());
    let open = |name| Open {
        name: Some(name),
        ..Open::default()
    };
    let opened = loaded.open(&open(c"close")).unwrap();
    let error = opened.pager.close().unwrap_err();
    assert_eq!(error.cause, Cause::BrokenPromise);
    assert!(error.text.contains("close has had enough"), "{error}");
    drop(opened);
    loaded.open(&open(c"good")).unwrap().pager.close().unwrap();

    assert_eq!(Loaded::unload(loaded).unwrap(), Released);
    let lines = lines.lock().unwrap();
    assert!(
        lines.iter().any(|line| line.contains("fini has had enough")),
        "{lines:?}"
    );
}
