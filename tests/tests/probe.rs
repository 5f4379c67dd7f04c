//! `quire probe`: what it prints and answers for good plugins, refused ones, and those that take their process along.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_tests::built;
use tempfile::TempDir;

/// What the command printed, and its exit status. A signal would be -1.
struct Answer {
    status: i32,
    out: String,
    err: String,
}

fn quire(arguments: &[&dyn AsRef<OsStr>]) -> Answer {
    let output = Command::new(built::command())
        .args(arguments)
        .output()
        .expect("the command runs");
    Answer {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn probe(plugin: &Path, arguments: &[&str]) -> Answer {
    let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"probe", &plugin];
    all.extend(arguments.iter().map(|argument| argument as &dyn AsRef<OsStr>));
    quire(&all)
}

/// `tests/c/crasher.c` compiled with these options.
struct Crasher {
    folder: TempDir,
}

impl Crasher {
    fn new(options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let source = built::repository().join("tests/c/crasher.c");
        built::c_library(&source, options, &folder.path().join("crasher.so"));
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("crasher.so")
    }
}

/// A plugin crashes like this, and the command lives to tell.
fn assert_crash(option: &str, arguments: &[&str], sentence: &str) {
    let answer = probe(&Crasher::new(&[option]).path(), arguments);
    assert_eq!(answer.status, 3, "{option}: {}", answer.err);
    assert!(
        answer.err.lines().any(|line| line == sentence),
        "{option}: {}",
        answer.err
    );
}

/// Nothing went wrong: at most the plugin told how it works.
fn assert_good(answer: &Answer) {
    let told = |line: &str| line.contains(": info: ");
    assert!(
        answer.status == 0 && answer.err.lines().all(told),
        "{}{}",
        answer.out,
        answer.err
    );
}

#[test]
fn a_good_rust_plugin_is_described() {
    let answer = probe(&built::plugin("vnode"), &[]);
    assert_good(&answer);
    for line in [
        "name          vnode",
        "description   Regular files and block devices, by path or by file descriptor",
        "plugin ABI    1.0 ",
        "calls         any number at a time",
        "operations    open close get ",
        "type layout   checked",
    ] {
        assert!(answer.out.contains(line), "no \"{line}\" in:\n{}", answer.out);
    }
}

#[test]
fn a_driver_is_described_as_one() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let driver = folder.path().join("framebuffer.so");
    built::c_library(
        &built::repository().join("examples/drivers/framebuffer.c"),
        &[],
        &driver,
    );
    let answer = probe(&driver, &[]);
    assert_good(&answer);
    for line in [
        "name          framebuffer",
        "plugin ABI    1.0 ",
        "capabilities  driver",
        "operations    get_extension",
        "absent        init fini\n",
    ] {
        assert!(answer.out.contains(line), "no \"{line}\" in:\n{}", answer.out);
    }
}

#[test]
fn a_plugin_is_found_by_its_name() {
    let vnode = built::plugin("vnode");
    let output = Command::new(built::command())
        .args(["probe", "vnode"])
        .env("QUIRE_PAGER_PATH", vnode.parent().expect("a folder"))
        .output()
        .expect("the command runs");
    assert!(output.status.success());
    let answer = quire(&[&"probe", &"no such name"]);
    assert_eq!(answer.status, 1);
    assert!(answer.err.contains("cannot be the name of a pager"), "{}", answer.err);
}

#[test]
fn a_good_c_plugin_is_described_and_its_page_is_read() {
    let folder = TempDir::new().expect("a folder");
    let plugin = folder.path().join("file_pager.so");
    let source = built::repository().join("examples/pagers/file_pager.c");
    built::c_library(&source, &["-std=c99"], &plugin);
    let file = folder.path().join("data");
    fs::write(&file, "hello, pager\n").expect("writes");
    for plugin in [plugin, built::plugin("vnode")] {
        let answer = probe(&plugin, &["--open", file.to_str().expect("UTF-8")]);
        assert_good(&answer);
        let page = "first page    read; begins with \"hello, pager\\n\"";
        assert!(answer.out.contains(page), "{}", answer.out);
        assert!(answer.out.contains("size          13 bytes"), "{}", answer.out);
    }
}

#[test]
fn what_is_no_plugin_is_refused_in_a_sentence() {
    let folder = TempDir::new().expect("a folder");
    let text = folder.path().join("text.so");
    fs::write(&text, "no ELF file").expect("writes");
    let answer = probe(&text, &[]);
    let sentence = format!(
        "refused: {}: not an ELF file; give the path of a plugin's shared library\n",
        text.display()
    );
    assert_eq!((answer.status, answer.err, answer.out), (1, sentence, String::new()));

    let without = Crasher::new(&["-DNO_ENTRY"]);
    let answer = probe(&without.path(), &[]);
    let sentence = format!(
        "refused: {}: not a pager plugin: it has no symbol quire_pager_entry; add QUIRE_PAGER_EXPORT or \
         export_pager!\n",
        without.path().display()
    );
    assert_eq!((answer.status, answer.err), (1, sentence));
}

#[test]
fn what_a_plugin_refuses_is_said_in_its_words_after_what_it_is() {
    let crasher = Crasher::new(&[]);
    let answer = probe(&crasher.path(), &["--config", "refuse"]);
    assert_eq!(answer.status, 1);
    assert!(answer.out.contains("name          crasher"), "{}", answer.out);
    assert!(
        answer.err.contains("the plugin could not be initialised"),
        "{}",
        answer.err
    );

    let answer = probe(&built::plugin("vnode"), &["--open", "/no/such/file"]);
    assert_eq!(answer.status, 1);
    assert!(answer.err.contains("No such file or directory"), "{}", answer.err);

    // A name that looks like a flag reaches the plugin, and an object without pages is no failure.
    let answer = probe(&crasher.path(), &["--open=--json"]);
    assert_eq!(answer.status, 1, "{}", answer.err);
    let answer = probe(&crasher.path(), &["--open", "empty"]);
    assert_eq!(answer.status, 0, "{}", answer.err);
    assert!(
        answer.out.contains("first page    none: the object is empty"),
        "{}",
        answer.out
    );
}

#[test]
fn what_a_plugin_prints_does_not_mix_with_the_answer() {
    let answer = probe(&Crasher::new(&[]).path(), &[]);
    assert_eq!(answer.status, 0);
    assert!(!answer.out.contains("chatter"), "{}", answer.out);
    assert!(answer.err.contains("chatter on the standard output"), "{}", answer.err);
}

#[test]
fn a_plugin_that_crashes_costs_only_the_child_and_the_step_is_named() {
    assert_crash(
        "-DCONSTRUCTOR_ABORTS",
        &[],
        "the plugin crashed with signal 6 (SIGABRT) while it was being loaded",
    );
    assert_crash(
        "-DINIT_CRASHES",
        &[],
        "the plugin crashed with signal 11 (SIGSEGV) while it was being initialised",
    );
    assert_crash(
        "-DGET_CRASHES",
        &["--open", "x"],
        "the plugin crashed with signal 11 (SIGSEGV) while it was getting a page",
    );
    assert_crash(
        "-DDESTRUCTOR_CRASHES",
        &[],
        "the plugin crashed with signal 11 (SIGSEGV) while it was being unloaded",
    );
}

#[test]
fn a_plugin_that_ends_its_process_is_not_taken_for_a_good_one() {
    assert_crash(
        "-DINIT_EXITS",
        &[],
        "the plugin ended its process with status 0 while it was being initialised",
    );
}

#[test]
fn a_plugin_that_hangs_is_killed_when_the_time_is_up() {
    assert_crash(
        "-DINIT_HANGS",
        &["--time-limit", "0.5"],
        "the plugin did not come back within 0.5 s while it was being initialised; its process was killed",
    );
}

#[test]
fn json_says_the_same() {
    let answer = probe(&built::plugin("vnode"), &["--json"]);
    assert_eq!(answer.status, 0);
    for piece in [
        "\"verdict\": \"loadable\"",
        "\"name\": \"vnode\"",
        "\"layout_checked\": true",
    ] {
        assert!(answer.out.contains(piece), "{}", answer.out);
    }
    let answer = probe(&Crasher::new(&["-DINIT_CRASHES"]).path(), &["--json"]);
    assert_eq!(answer.status, 3);
    assert!(answer.out.contains("\"verdict\": \"crashed\""), "{}", answer.out);
    assert!(answer.out.contains("SIGSEGV"), "{}", answer.out);
}

#[test]
fn wrong_usage_is_told_apart() {
    assert_eq!(quire(&[]).status, 2);
    assert_eq!(quire(&[&"probe"]).status, 2);
    assert_eq!(quire(&[&"probe", &"./x.so", &"--time-limit", &"soon"]).status, 2);
    assert_eq!(quire(&[&"--help"]).status, 0);
}
