//! The headers and the example pagers in C and C++: they compile without a warning under every standard, and they work.
//!
//! The compilers are `CC` and `CXX` from the environment, or `cc` and `c++`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestHost};
use tempfile::TempDir;

const C_STANDARDS: &[&str] = &["c99", "c11", "c17"];
const CPP_STANDARDS: &[&str] = &["c++11", "c++17", "c++20"];
const PAGE: u64 = PAGE_SIZE as u64;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compiles with every warning an error.
fn compile(standard: &str, source: &Path, arguments: &[&str]) {
    let (variable, default) = if standard.starts_with("c++") {
        ("CXX", "c++")
    } else {
        ("CC", "cc")
    };
    let compiler = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let output = Command::new(&compiler)
        .arg(format!("-std={standard}"))
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(repository().join("include"))
        .args(arguments)
        .arg(source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler} does not run: {error}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} as {standard}:\n{complaints}",
        source.display()
    );
}

#[test]
fn headers_compile_under_every_standard() {
    let folder = TempDir::new().expect("a folder");
    for header in ["quire_pager.h"] {
        for (standards, extension) in [(C_STANDARDS, "c"), (CPP_STANDARDS, "cc")] {
            let source = folder.path().join(format!("{header}.{extension}"));
            // Twice: the include guard holds.
            let text = format!("#include \"{header}\"\n#include \"{header}\"\nextern int unused;\nint unused;\n");
            fs::write(&source, text).expect("writes");
            for standard in standards {
                compile(standard, &source, &["-fsyntax-only"]);
            }
        }
    }
}

#[test]
fn c_agrees_with_the_golden_table() {
    for standard in &C_STANDARDS[1..] {
        compile(standard, &repository().join("tests/c/golden.c"), &["-fsyntax-only"]);
    }
}

#[test]
fn example_pagers_and_drivers_compile_under_every_standard() {
    for source in [
        "pagers/file_pager.c",
        "pagers/villain.c",
        "pagers/warm_pager.c",
        "pagers/cpp_pager.cpp",
        "drivers/framebuffer.c",
        "drivers/villain.c",
        "drivers/wrap.c",
        "drivers/ring.cpp",
    ] {
        let standards = if source.ends_with(".c") {
            C_STANDARDS
        } else {
            CPP_STANDARDS
        };
        for standard in standards {
            compile(
                standard,
                &repository().join("examples").join(source),
                &["-fsyntax-only"],
            );
        }
    }
}

#[test]
fn the_small_pagers_stay_small() {
    let root = repository();
    for (path, limit) in [
        ("examples/pagers/file_pager.c", 60),
        ("examples/ram-pager/src/lib.rs", 50),
    ] {
        let lines = fs::read_to_string(root.join(path)).expect("is there").lines().count();
        assert!(lines <= limit, "{path} has {lines} lines, and promises at most {limit}");
    }
}

/// Builds an example and loads it into a test host. The library stays loaded.
fn load(source: &str) -> TestHost {
    load_with(source, &[])
}

/// The same with options of the compiler.
fn load_with(source: &str, options: &[&str]) -> TestHost {
    let folder = TempDir::new().expect("a folder");
    let library = folder.path().join("pager.so");
    let standard = if source.ends_with(".c") { "c99" } else { "c++11" };
    let out = library.to_str().expect("UTF-8");
    compile(
        standard,
        &repository().join("examples/pagers").join(source),
        &[&["-shared", "-fPIC", "-pthread", "-o", out], options].concat(),
    );
    // SAFETY: our own example: its loading runs no code of its own, and its entry is as the ABI says.
    let module = unsafe {
        let library = Library::open(Some(&library), RTLD_NOW | RTLD_LOCAL).expect("loads");
        let entry = *library.get::<Entry>(QUIRE_PAGER_ENTRY).expect("exports its entry");
        std::mem::forget(library);
        *entry(QUIRE_PAGER_ABI_VERSION)
    };
    assert_eq!(module.magic, QUIRE_PAGER_MAGIC);
    assert_eq!(module.struct_size as usize, size_of::<Module>());
    TestHost::load(module, None).expect("init succeeds")
}

#[test]
fn the_c_file_pager_reads_and_writes_files() {
    let host = load("file_pager.c");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), vec![b'q'; PAGE_SIZE + 10]).expect("writes");
    let name = file.path().to_str().expect("UTF-8");
    {
        let object = host.open(name).expect("opens");
        assert_eq!(object.opened.size, PAGE + 10);
        let answer = object.get(0, 2);
        assert_eq!(answer.status, QUIRE_PAGER_OK);
        assert!(answer.pages[0].bytes.iter().all(|&byte| byte == b'q'));
        assert!(answer.pages[1].bytes[..10].iter().all(|&byte| byte == b'q'));
        assert!(answer.pages[1].bytes[10..].iter().all(|&byte| byte == 0));
        assert_eq!(object.put(0, &[b'w'; 2 * PAGE_SIZE]).status, QUIRE_PAGER_OK);
        assert_eq!(object.sync(), Ok(()));
        assert!(fs::read(file.path()).expect("reads") == vec![b'w'; PAGE_SIZE + 10]);
        file.as_file().set_len(0).expect("is cut");
        assert_eq!(object.get(0, 1).status, QUIRE_PAGER_BAD);
        assert_eq!(object.put(0, &[b'w'; PAGE_SIZE]).status, QUIRE_PAGER_BAD);
        assert_eq!(fs::read(file.path()).expect("reads"), b"");
        assert_eq!(object.get(7, 1).status, QUIRE_PAGER_BAD);
    }
    use std::os::unix::fs::MetadataExt as _;
    let metadata = file.as_file().metadata().expect("is there");
    assert_eq!(
        host.open(name).expect("opens").opened.identity,
        [metadata.dev(), metadata.ino()]
    );
    assert_eq!(host.open("/no/such/file").expect_err("missing").status, -2);
    assert_eq!(
        host.open_with(None, -1, QUIRE_OPEN_READ).expect_err("nameless").status,
        QUIRE_PAGER_INVALID
    );
    let descriptors = || fs::read_dir("/proc/self/fd").expect("Linux").count();
    let before = descriptors();
    for (name, status) in [("/", QUIRE_PAGER_UNSUPPORTED), ("/dev/null", QUIRE_PAGER_UNSUPPORTED)] {
        let failure = host.open_with(Some(name), -1, QUIRE_OPEN_READ).expect_err("no file");
        assert_eq!(failure.status, status);
        assert!(failure.text.contains("the path of a regular file"), "{failure}");
    }
    // Other tests open files too: only a loss of one each time is told apart from theirs.
    for _ in 0..200 {
        host.open_with(Some("/"), -1, QUIRE_OPEN_READ).expect_err("no file");
    }
    assert!(descriptors() < before + 100, "descriptors are lost");
}

#[test]
fn exceptions_of_the_cpp_pager_become_statuses() {
    let host = load("cpp_pager.cpp");
    let object = host.open("16 13").expect("opens");
    assert_eq!(object.put(2, &[5; 2 * PAGE_SIZE]).status, QUIRE_PAGER_OK);
    let answer = object.get(2, 3);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert_eq!((answer.pages[1].bytes[0], answer.pages[2].bytes[0]), (5, 0));
    let answer = object.get(12, 2);
    assert_eq!(
        (answer.status, answer.pages[1].status),
        (QUIRE_PAGER_OK, QUIRE_PAGER_UNTOUCHED)
    );
    let answer = object.get(13, 1);
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (QUIRE_PAGER_FAULTED, "cpp: page 13 is cursed")
    );
    let failure = host.open("many").expect_err("no number");
    assert_eq!(failure.status, QUIRE_PAGER_INVALID);
    assert!(failure.text.contains("not a number of pages"), "{failure}");
    let failure = host.open("4503599627370496").expect_err("2^52 pages are 2^64 bytes");
    assert!(failure.text.contains("have no size in bytes"), "{failure}");
}

/// What the engine makes of the rest is the engine's tests' business; here, that the villain does what it says.
#[test]
fn the_villain_does_what_its_names_say() {
    let host = load("villain.c");
    let get = |name: &str| {
        let answer = host.open(name).expect("opens").get(1, 2);
        (
            answer.status,
            answer.pended,
            answer.pages[0].status,
            answer.pages[0].bytes[PAGE_SIZE - 1],
        )
    };
    assert_eq!(get("good"), (QUIRE_PAGER_OK, false, QUIRE_PAGER_OK, 2));
    assert_eq!(get("unknown-status"), (4242, false, QUIRE_PAGER_UNTOUCHED, 0xAA));
    assert_eq!(get("unknown-page-status"), (QUIRE_PAGER_OK, false, 4242, 2));
    assert_eq!(
        get("claims-unfilled"),
        (QUIRE_PAGER_OK, false, QUIRE_PAGER_UNTOUCHED, 0xAA)
    );
    assert_eq!(get("half-filled"), (QUIRE_PAGER_OK, false, QUIRE_PAGER_OK, 0xEE));
    assert_eq!(get("completes-twice"), (QUIRE_PAGER_OK, true, QUIRE_PAGER_OK, 2));
    assert_eq!(get("strangers-token"), (QUIRE_PAGER_OK, false, QUIRE_PAGER_OK, 2));
    assert_eq!(get("status:-28").0, -28);
    let failing = host.open("fails:2").expect("opens");
    assert_eq!([0; 3].map(|_| failing.get(0, 1).status), [-5, -5, QUIRE_PAGER_OK]);
    let late = host.open("late").expect("opens");
    let answer = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| late.get(3, 1));
        while !waiting.is_finished() {
            late.sync().expect("releases");
            std::thread::yield_now();
        }
        waiting.join().expect("does not panic")
    });
    assert_eq!(
        (answer.status, answer.pended, answer.pages[0].bytes[0]),
        (QUIRE_PAGER_OK, true, 4)
    );
    assert!(host.open("open-null").expect("opens").opened.object.is_null());
    let unready = host
        .open("populate-unready")
        .expect("opens")
        .populate(3, 0..=15, &[])
        .expect("claims success");
    assert!(unready.1.is_empty());
    let refault = host.open("populate-refault").expect("opens");
    assert_eq!(
        refault.populate(3, 0..=15, &[]).expect_err("never").status,
        QUIRE_PAGER_REFAULT
    );
    // Its module has leave to pend for every request, unless it is compiled without.
    assert_eq!(get("pend-without-leave"), (QUIRE_PAGER_OK, false, QUIRE_PAGER_OK, 2));
    let host = load_with("villain.c", &["-DNO_ASYNC"]);
    assert_eq!(host.module().caps, 0);
    let object = host.open("pend-completed").expect("opens");
    let mut transfer = object.transfer(0, vec![vec![0; PAGE_SIZE]]);
    transfer.flags = 0;
    let answer = object.get_with(transfer);
    assert_eq!((answer.status, answer.pended), (QUIRE_PAGER_OK, true));
}
