//! Plugins for tests, really compiled.

#![allow(unreachable_pub, reason = "a module of each test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder with one compiled plugin in it; the file goes with the folder.
pub struct Built {
    _folder: TempDir,
    pub path: PathBuf,
}

/// Compiles `fixtures/plugin.c` with these options of the C compiler (`-DMAGIC=1`, `-Wl,--hash-style=sysv`).
pub fn c_plugin(options: &[&str]) -> Built {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("plugin.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugin.c");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .arg(&path)
        .arg(&source)
        .args(options);
    let output = cc.output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Built { _folder: folder, path }
}
