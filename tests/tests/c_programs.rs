//! The library as a file, and the programs that use it: examples in C, and a test in Python.

mod c_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use c_support::{compile, folder, libraries, link, printed, repository, run};

#[test]
fn the_header_compiles_alone_under_every_standard() {
    let folder = folder("c_programs-header");
    let source = folder.join("header.c");
    fs::write(&source, "#include \"quire.h\"\n").unwrap();
    for standard in c_support::C_STANDARDS.iter().chain(c_support::CPP_STANDARDS) {
        compile(standard, &source, &["-fsyntax-only"]);
    }
}

/// The symbols that the library defines for others.
fn exported() -> BTreeSet<String> {
    let nm = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(libraries().join("libquire.so"))
        .output()
        .expect("nm");
    assert!(nm.status.success());
    let names = String::from_utf8_lossy(&nm.stdout).into_owned();
    names
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_library_exports_its_api_and_nothing_else() {
    let strangers: Vec<_> = exported()
        .into_iter()
        .filter(|name| !name.starts_with("quire_"))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn every_exported_function_is_in_the_header_and_in_the_table() {
    let header = fs::read_to_string(repository().join("include/quire.h")).unwrap();
    let members = header.lines().filter_map(|line| {
        let (_, member) = line.split_once("(*")?;
        Some(format!("quire_{}", member.split_once(')')?.0))
    });
    let mut table: BTreeSet<_> = members.filter(|name| header.contains(&format!("{name}("))).collect();
    assert!(table.insert("quire_api".to_owned()), "the table does not hold itself");
    assert_eq!(table, exported());
}

#[test]
fn the_library_is_bound_by_its_major_number() {
    let readelf = Command::new("readelf")
        .arg("-d")
        .arg(libraries().join("libquire.so"))
        .output()
        .expect("readelf");
    assert!(printed(&readelf).contains("soname: [libquire.so.0]"));
}

#[test]
fn a_program_that_links_changes_a_file() {
    for standard in ["c99", "c++11"] {
        let folder = folder(&format!("c_programs-link-{standard}"));
        let (program, file) = (folder.join("link"), folder.join("file"));
        link(standard, "examples/link.c", &program);
        fs::write(&file, "every letter\n").unwrap();
        let said = printed(&run(&program, &[&file]));
        assert_eq!(fs::read_to_string(&file).unwrap(), "EVERY LETTER\n");
        assert!(
            said.starts_with("vnode ") && said.ends_with("1 faults, 1 pages in, 1 pages out\n"),
            "{said}"
        );
    }
}

#[test]
fn a_program_that_uses_the_pointer_turns_a_file_round() {
    for standard in ["c99", "c++11"] {
        let folder = folder(&format!("c_programs-pointer-{standard}"));
        let (program, file) = (folder.join("pointer"), folder.join("file"));
        link(standard, "examples/pointer.c", &program);
        // More than the program's engine has memory for, and no whole page at the end.
        let mut bytes: Vec<u8> = (0..3_000_001_u32)
            .map(|i| i.to_le_bytes()[0] ^ (i >> 12).to_le_bytes()[0])
            .collect();
        fs::write(&file, &bytes).unwrap();
        run(&program, &[&file]);
        bytes.reverse();
        assert!(fs::read(&file).unwrap() == bytes);
    }
}

#[test]
fn a_program_takes_snapshots_of_memory_that_is_written() {
    for standard in ["c99", "c++11"] {
        let program = folder(&format!("c_programs-snapshot-{standard}")).join("snapshot");
        link(standard, "examples/snapshot.c", &program);
        let said = printed(&run(&program, &[]));
        let lines: Vec<_> = (0..3)
            .map(|i| format!("snapshot {i}: nothing is lost, and it stays as it was"))
            .collect();
        assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    }
}

#[test]
fn a_program_uses_more_memory_than_there_is() {
    for standard in ["c99", "c++11"] {
        let folder = folder(&format!("c_programs-larger-{standard}"));
        let program = folder.join("larger-than-memory");
        link(standard, "examples/larger-than-memory.c", &program);
        let said = printed(&run(&program, &[&folder.join("swap")]));
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("2063689 primes below 33554432"));
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(
            matches!(numbers[..], [_, _, out, back] if out > 24 && back > 24),
            "{said}"
        );
    }
}

#[test]
fn a_program_that_dlopens_brings_a_pager_of_its_own() {
    for standard in ["c99", "c++11"] {
        let program = folder(&format!("c_programs-dlopen-{standard}")).join("dlopen");
        let out = program.display().to_string();
        compile(standard, &repository().join("examples/dlopen.c"), &["-o", &out, "-ldl"]);
        let said = run(&program, &[&libraries().join("libquire.so.0")]);
        assert_eq!(printed(&said), "1 2 4 8 16 32 64 128\n");
    }
}

/// The README's example, as it is printed there.
#[test]
fn the_readmes_program_prints_the_first_bytes_of_a_file() {
    let folder = folder("c_programs-readme");
    let (program, file) = (folder.join("readme"), folder.join("file"));
    link("c99", "examples/readme.c", &program);
    fs::write(&file, "the first bytes").unwrap();
    assert_eq!(printed(&run(&program, &[&file])), "the first bytes\n");
}

#[test]
fn a_program_links_the_static_library() {
    let folder = folder("c_programs-static");
    let program = folder.join("readme");
    let (out, library) = (
        program.display().to_string(),
        libraries().join("libquire.a").display().to_string(),
    );
    let source = repository().join("examples/readme.c");
    compile("c99", &source, &["-o", &out, &library, "-lpthread", "-ldl", "-lm"]);
    let file = folder.join("file");
    fs::write(&file, "linked for good").unwrap();
    assert_eq!(printed(&run(&program, &[&file])), "linked for good\n");
}

#[test]
fn the_demo_reads_a_file_through_faults_and_compares_it() {
    let folder = folder("c_programs-demo");
    let (program, file) = (folder.join("demo"), folder.join("file"));
    let out = program.display().to_string();
    compile(
        "c99",
        &repository().join("examples/demo/demo.c"),
        &["-O1", "-o", &out, "-ldl"],
    );
    let bytes: Vec<u8> = (0..3_000_001_u32)
        .map(|i| i.to_le_bytes()[0] ^ (i >> 12).to_le_bytes()[0])
        .collect();
    fs::write(&file, bytes).unwrap();
    let said = printed(&run(&program, &[&libraries().join("libquire.so"), &file]));
    // Read in sequence: at most one fault in 16 pages.
    let faults = said.lines().find_map(|line| {
        let (faults, rest) = line.strip_prefix("first touch")?.trim().split_once(' ')?;
        rest.starts_with("faults, all of case 2A")
            .then(|| faults.parse::<u32>().ok())?
    });
    assert!(faults.is_some_and(|faults| (1..=733 / 16).contains(&faults)), "{said}");
    assert!(said.contains("733 pages in"), "{said}");
    assert!(
        said.contains("compared 3000001 bytes twice with plain reads: all equal"),
        "{said}"
    );
    assert!(
        said.contains("machine linux") || said.contains("no real memory here"),
        "{said}"
    );
    // Not on a terminal: lines, and no bar.
    assert!(said.contains("100%") && !said.contains('\r'), "{said}");
}

#[test]
fn python_drives_the_library() {
    let python = ["python3", "python"]
        .into_iter()
        .find(|name| c_support::there_is(name))
        .expect("Python");
    let test = repository().join("tests/python/test_quire.py");
    let output = Command::new(python)
        .arg(&test)
        .env("LIBQUIRE", libraries().join("libquire.so"))
        .env("QUIRE_PAGER_PATH", libraries())
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(Path::new(&test).exists() && said.contains("OK"), "{said}");
}

#[test]
fn the_readme_prints_that_program_as_it_is() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let program = fs::read_to_string(repository().join("examples/readme.c")).unwrap();
    assert!(
        readme.contains(&format!("```c\n{program}```\n")),
        "the C example in README.md is not examples/readme.c; copy it there"
    );
}
