//! `make install` into a folder of its own, and programs that are built against what it installed.

mod c_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use c_support::{folder, printed, repository};

const PREFIX: &str = "/opt/quire";

/// The folder under which everything was installed, once for all tests here.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let destination = folder("c_install");
        let build = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_install-build");
        let output = Command::new("make")
            .args(["--no-print-directory", "install", "PROFILE=dev"])
            .arg(format!("PREFIX={PREFIX}"))
            .arg(format!("DESTDIR={}", destination.display()))
            // Make's own variables, of the `make test` that this may run in, are not for this one.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .env("CARGO_TARGET_DIR", build)
            .current_dir(repository())
            .output()
            .expect("make");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        destination
    })
}

fn prefix() -> PathBuf {
    installed().join(PREFIX.trim_start_matches('/'))
}

#[test]
fn everything_is_where_it_belongs() {
    let prefix = prefix();
    let link = |name: &str| fs::read_link(prefix.join("lib").join(name)).expect("a link");
    assert_eq!(link("libquire.so"), Path::new("libquire.so.0"));
    assert_eq!(link("libquire.so.0"), Path::new("libquire.so.0.1.0"));
    for (file, mode) in [
        ("lib/libquire.so.0.1.0", 0o755),
        ("lib/libquire.a", 0o644),
        ("lib/quire/pagers/libquire_pager_vnode.so", 0o755),
        ("lib/quire/pagers/libquire_pager_anon.so", 0o755),
        ("lib/quire/pagers/libquire_pager_device.so", 0o755),
        ("lib/pkgconfig/quire.pc", 0o644),
        ("include/quire.h", 0o644),
        ("include/quire_pager.h", 0o644),
        ("bin/quire", 0o755),
    ] {
        let metadata = fs::metadata(prefix.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(metadata.is_file(), "{file}");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
    }
    let pc = fs::read_to_string(prefix.join("lib/pkgconfig/quire.pc")).unwrap();
    assert!(
        pc.starts_with("prefix=/opt/quire\n") && pc.contains("Version: 0.1.0\n") && !pc.contains('@'),
        "{pc}"
    );
}

/// The flags of a program that uses the installation, as pkg-config gives them.
fn flags(of: &[&str]) -> Vec<String> {
    assert!(
        c_support::there_is("pkg-config"),
        "pkg-config is missing, so that quire.pc cannot be tried; install it (apt-get install pkg-config)"
    );
    let output = Command::new("pkg-config")
        .args(of)
        .arg("quire")
        .env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"))
        // The files say /opt/quire, and are somewhere else in this test.
        .env("PKG_CONFIG_SYSROOT_DIR", installed())
        .output()
        .expect("pkg-config");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    printed(&output).split_whitespace().map(str::to_owned).collect()
}

/// Compiles the README's program outside the repository, and has it read a file through the installed plugin.
fn builds_and_runs(folder: &Path, flags: &[String]) {
    let (source, program, file) = (folder.join("readme.c"), folder.join("readme"), folder.join("file"));
    fs::copy(repository().join("examples/readme.c"), &source).unwrap();
    let mut compiler = Command::new("cc");
    let output = compiler
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .args(flags)
        .output()
        .expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&file, "through the installed plugin").unwrap();
    let output = Command::new(&program)
        .arg(&file)
        .env_remove("QUIRE_PAGER_PATH")
        .env("LD_LIBRARY_PATH", prefix().join("lib"))
        .output()
        .expect("the program runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed(&output), "through the installed plugin\n", "{complaints}");
}

#[test]
fn a_program_is_built_with_pkg_config_and_finds_the_plugins() {
    builds_and_runs(&folder("c_install-shared"), &flags(&["--cflags", "--libs"]));
}

#[test]
fn a_program_is_linked_with_the_static_library() {
    let folder = folder("c_install-static");
    let mut flags = flags(&["--cflags", "--libs", "--static"]);
    for flag in flags.iter_mut().filter(|flag| *flag == "-lquire") {
        "-l:libquire.a".clone_into(flag);
    }
    // Such a program looks for plugins in the final place of the installation, which is not there, and beside itself.
    let plugin = "libquire_pager_vnode.so";
    fs::copy(prefix().join("lib/quire/pagers").join(plugin), folder.join(plugin)).unwrap();
    builds_and_runs(&folder, &flags);
}

#[test]
fn the_installed_command_runs() {
    let output = Command::new(prefix().join("bin/quire"))
        .arg("--version")
        .output()
        .expect("quire runs");
    assert_eq!(printed(&output), "quire 0.1.0\n");
}
