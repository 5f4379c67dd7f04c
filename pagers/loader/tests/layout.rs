//! Rust plugins and the layout of their types: the ABI's sources are copied, in one copy a member gets another type, and a
//! plugin is built on each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_abi::QUIRE_PAGER_ABI_MAJOR;
use quire_loader::{LoadError, Plugin};

const PLUGIN: &str = r#"
use core::ffi::c_void;
use quire_abi::layout::{RustRoot, RustRootRef};
use quire_abi::*;
use abi_stable::prefix_type::PrefixTypeTrait;

unsafe extern "C" fn open(_: *mut c_void, _: *const OpenArgs, _: *mut OpenResult) -> i32 { QUIRE_PAGER_UNSUPPORTED }
unsafe extern "C" fn close(_: *mut c_void, _: *mut c_void) -> i32 { QUIRE_PAGER_OK }
unsafe extern "C" fn get(_: *mut c_void, _: *mut Io) -> i32 { QUIRE_PAGER_ERROR }

static MODULE: Module = Module {
    thread_model: QUIRE_THREADS_PARALLEL, name: c"rusty".as_ptr(), open: Some(open), close: Some(close), get: Some(get), ..Module::EMPTY
};

#[unsafe(no_mangle)]
unsafe extern "C" fn quire_pager_entry(_: u32) -> *const Module { &raw const MODULE }

#[abi_stable::export_root_module]
fn root() -> RustRootRef {
    RustRoot { entry: quire_pager_entry, types: core::marker::PhantomData }.leak_into_prefix()
}
"#;

/// Builds a plugin named `name` on a copy of quire-abi in which `change` was made.
fn rust_plugin(name: &str, change: fn(&str, String) -> String) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    // With our own build products and by the same profile, so that abi_stable is not compiled once more.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layout").join(name);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder");
    // Cargo tells packages in one target folder apart by their path inside the workspace: two named "abi" would be one.
    let abi_folder = format!("abi-{name}");
    let (abi, src) = (folder.join(&abi_folder), folder.join("src"));
    fs::create_dir_all(abi.join("src")).unwrap();
    fs::create_dir_all(&src).unwrap();
    for entry in fs::read_dir(here.join("../abi/src")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let text = change(file, fs::read_to_string(&path).unwrap());
        write_if_changed(&abi.join("src").join(file), &text);
    }
    let manifest = |package: &str, rest: &str| {
        format!(
            "[package]\nname = \"{package}\"\nversion = \"{QUIRE_PAGER_ABI_MAJOR}.0.0\"\nedition = \"2024\"\n{rest}"
        )
    };
    let abi_stable = "abi_stable = { version = \"0.11.3\", default-features = false";
    write_if_changed(
        &abi.join("Cargo.toml"),
        &manifest(
            "quire-abi",
            &format!("[features]\nlayout = [\"dep:abi_stable\"]\n[dependencies]\n{abi_stable}, optional = true }}\n"),
        ),
    );
    write_if_changed(
        &folder.join("Cargo.toml"),
        &manifest(
            name,
            &format!(
                "[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\n{abi_stable} }}\n\
                 quire-abi = {{ path = \"{abi_folder}\", features = [\"layout\"] }}\n[workspace]\n\
                 [profile.dev]\ndebug = \"line-tables-only\"\n"
            ),
        ),
    );
    write_if_changed(&src.join("lib.rs"), PLUGIN);
    // The same versions as the host's, and nothing to ask the registry for.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(format!("lib{name}.so"))
}

fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).unwrap();
    }
}

/// The text with `from` replaced by `to` in one file; it must be there.
fn replace(file: &str, in_file: &str, text: String, from: &str, to: &str) -> String {
    if file != in_file {
        return text;
    }
    assert!(text.contains(from), "{in_file} no longer has `{from}`");
    text.replacen(from, to, 1)
}

#[test]
fn rust_plugins_are_compared_type_by_type() {
    let good = Plugin::load(&rust_plugin("unchanged", |_, text| text)).unwrap();
    assert!(good.layout_checked());
    assert_eq!(good.name(), "rusty");

    let changed = rust_plugin("changed", |file, text| {
        replace(file, "request.rs", text, "pub object_size: u64", "pub object_size: i64")
    });
    let error = Plugin::load(&changed).unwrap_err();
    assert!(matches!(error, LoadError::Layout { .. }));
    let text = error.to_string();
    let report = text.strip_prefix(&format!("{}: ", changed.display())).unwrap();
    assert!(report.len() < 300 && !report.contains('\n'), "{report}");
    assert!(
        report.starts_with("a Rust plugin with another type layout: at "),
        "{report}"
    );
    assert!(report.contains("object_size: expected type u64, found i64"), "{report}");
}
