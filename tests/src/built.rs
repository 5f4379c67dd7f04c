//! What other packages build, for tests that need it as a file: the `quire` command, `libquire.so`, plugins.
//!
//! Cargo builds a test's own dependencies and no other package's programs and libraries. So a test asks for them here: cargo
//! is run once a process, in the target folder and the profile that the test itself was built in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository's folder.
#[must_use]
pub fn repository() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    root.into_iter()
        .find(|folder| folder.join("Cargo.lock").exists())
        .expect("packages lie in the repository")
}

/// The plugin `name` of this workspace, built by cargo: `vnode`.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    folder().join(format!("libquire_pager_{}.so", name.replace('-', "_")))
}

/// The `quire` command.
#[must_use]
pub fn command() -> PathBuf {
    folder().join("quire")
}

/// The library `libquire.so`. The static one lies beside it.
#[must_use]
pub fn library() -> PathBuf {
    folder().join("libquire.so")
}

/// A shared library made from a C source by `CC`, or `cc`, with the headers of this repository at hand. `out` is the file to write.
///
/// # Panics
/// With the compiler's words if there is no compiler, or if it complains at all.
pub fn c_library(source: &Path, options: &[&str], out: &Path) {
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&cc)
        .args([
            "-shared", "-fPIC", "-O2", "-pthread", "-Wall", "-Wextra", "-Werror", "-I",
        ])
        .arg(repository().join("include"))
        .args(options)
        .arg("-o")
        .args([out, source])
        .output()
        .unwrap_or_else(|error| panic!("{} does not run: {error}", cc.display()));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{complaints}", source.display());
}

/// The folder where the files of the workspace's packages are, which are built first, if they are not.
///
/// # Panics
/// With cargo's words if they do not build.
#[must_use]
pub fn folder() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

/// All packages at once, as `cargo build --workspace` does before the tests: built one by one, cargo would choose other features for what they
/// share, and build that again for each.
fn build() -> PathBuf {
    let folder = own_folder();
    let (target, profile) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()));
    let (Some(target), Some(profile)) = (target, profile) else {
        panic!("tests do not run in {}", folder.display());
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--profile"])
        .arg(if profile == "debug" { "dev" } else { profile })
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the workspace does not build:\n{complaints}");
    folder
}

/// `<target>/<profile>`: tests and benches run from the folder `deps` in it.
fn own_folder() -> PathBuf {
    let mut folder = std::env::current_exe().expect("a program has a file");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder
}
