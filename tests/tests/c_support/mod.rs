//! Compiling C and C++ against the headers, and running what comes out with the library that this build made.
//!
//! The compilers are `CC` and `CXX` from the environment, or `cc` and `c++`.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub(crate) use quire_tests::built::repository;

pub(crate) const C_STANDARDS: &[&str] = &["c99", "c11", "c17"];
pub(crate) const CPP_STANDARDS: &[&str] = &["c++11", "c++17", "c++20"];

/// A fresh folder for one test, under cargo's. It stays, to be looked into after a failure, until the next run.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A folder with libquire.so under both its names, libquire.a, and the plugins vnode, anon and device. Copies: what one test builds
/// does not change under another's feet.
pub(crate) fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let name = std::env::current_exe().expect("this program");
        let name = name.file_name().expect("a name").to_string_lossy();
        // Without the number that cargo gives to each build.
        let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name);
        let folder = folder(&format!("{name}-libraries"));
        let copy = |from: &Path, name: &str| fs::copy(from, folder.join(name)).map(|_bytes| ()).expect("a copy");
        let library = quire_tests::built::library();
        copy(&library, "libquire.so");
        copy(&library, "libquire.so.0");
        copy(&library.with_extension("a"), "libquire.a");
        for plugin in ["vnode", "anon", "device"] {
            copy(
                &quire_tests::built::plugin(plugin),
                &format!("libquire_pager_{plugin}.so"),
            );
        }
        folder
    })
}

fn compiler(cpp: bool) -> Command {
    let (variable, default) = if cpp { ("CXX", "c++") } else { ("CC", "cc") };
    let mut compiler = Command::new(std::env::var_os(variable).unwrap_or_else(|| default.into()));
    compiler.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-I"]);
    compiler.arg(repository().join("include"));
    compiler
}

/// Compiles with every warning an error. C is compiled as C++ where the standard is one of C++.
pub(crate) fn compile(standard: &str, source: &Path, arguments: &[&str]) {
    let cpp = standard.starts_with("c++");
    let mut command = compiler(cpp);
    command.arg(format!("-std={standard}"));
    if cpp {
        command.args(["-x", "c++"]);
    }
    let output = command
        .arg(source)
        .args(["-x", "none"])
        .args(arguments)
        .output()
        .expect("a compiler");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} as {standard}:\n{text}", source.display());
}

/// Compiles a source of the repository and links it with libquire.so.
pub(crate) fn link(standard: &str, source: &str, program: &Path) {
    let libraries = libraries().display().to_string();
    let out = program.display().to_string();
    let rpath = format!("-Wl,-rpath,{libraries}");
    let arguments = ["-o", &out, "-L", &libraries, "-lquire", "-lpthread", "-ldl", &rpath];
    compile(standard, &repository().join(source), &arguments);
}

/// Compiles one of the example pagers into `folder`.
pub(crate) fn example_pager(file: &str, folder: &Path) -> PathBuf {
    example_plugin(&format!("pagers/{file}"), folder)
}

/// Compiles one of the example drivers into `folder`.
pub(crate) fn example_driver(file: &str, folder: &Path) -> PathBuf {
    example_plugin(&format!("drivers/{file}"), folder)
}

fn example_plugin(file: &str, folder: &Path) -> PathBuf {
    let source = repository().join("examples").join(file);
    let name = source.file_name().expect("a name");
    let plugin = folder.join(Path::new(name).with_extension("so"));
    let out = plugin.display().to_string();
    let standard = if file.ends_with(".cpp") { "c++17" } else { "c11" };
    compile(standard, &source, &["-shared", "-fPIC", "-o", &out, "-lpthread"]);
    plugin
}

/// Runs a program that finds its plugins where this build put them.
pub(crate) fn run(program: &Path, arguments: &[&Path]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("QUIRE_PAGER_PATH", libraries());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}: {}\n{out}{err}",
        program.display(),
        output.status
    );
    output
}

/// What a program printed.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program can be run.
pub(crate) fn there_is(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// One test for each case of a C program, so that each is counted and named. `$program` answers the compiled program and the folder
/// that a case is to work in. A case may have attributes.
#[macro_export]
macro_rules! c_cases {
    ($program:path: $($(#[$attribute:meta])* $case:ident,)*) => {
        $(#[test]
        $(#[$attribute])*
        fn $case() {
            let (program, folder) = $program(stringify!($case));
            let output = c_support::run(&program, &[stringify!($case).as_ref(), &folder]);
            print!("{}", c_support::printed(&output));
        })*

        #[test]
        fn every_case_of_the_program_is_run() {
            const HERE: &[&str] = &[$(stringify!($case)),*];
            let source = std::fs::read_to_string(c_support::repository().join(SOURCE)).expect("the source");
            let cases = source.lines().filter_map(|line| line.trim().strip_prefix("CASE(")?.strip_suffix("),"));
            assert_eq!(cases.collect::<Vec<_>>(), HERE);
        }

        #[test]
        fn the_same_program_compiles_as_every_c_and_cpp() {
            for standard in c_support::C_STANDARDS.iter().chain(c_support::CPP_STANDARDS) {
                c_support::compile(standard, &c_support::repository().join(SOURCE), &["-fsyntax-only"]);
            }
        }
    };
}
