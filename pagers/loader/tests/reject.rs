//! What is refused, in which words; and what is not.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use quire_loader::{LoadError, Plugin, Released, probe};
use support::c_plugin;

/// The sentence that the file at `path` is refused with, without the path it begins with.
fn refusal(path: &Path) -> String {
    let error = Plugin::load(path).expect_err("must be refused");
    assert!(error.status() < 0);
    let text = error.to_string();
    let begin = format!("{}: ", path.display());
    assert!(text.starts_with(&begin), "{text}");
    assert!(!text.contains('\n'));
    text[begin.len()..].to_owned()
}

fn refusal_of(options: &[&str]) -> String {
    refusal(&c_plugin(options).path)
}

#[test]
fn a_good_plugin_loads_and_tells_who_it_is() {
    let built = c_plugin(&[]);
    let plugin = Plugin::load(&built.path).unwrap();
    assert_eq!((plugin.name(), plugin.version()), ("bent", Some("1.2.3")));
    assert_eq!(plugin.description(), Some("A plugin for tests."));
    assert_eq!(plugin.abi_version().to_string(), "1.0");
    assert!(!plugin.layout_checked());
    assert!(plugin.module().put.is_some());
    assert!(plugin.module().has_page.is_none());
    assert_eq!(Plugin::unload(plugin).unwrap(), Released);
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    assert_eq!(
        refusal_of(&["-DVERSION=0x20000"]),
        "built for plugin ABI 2.0, this host has 1.0: the major numbers must be the same; rebuild it with this host's header"
    );
    assert_eq!(
        refusal_of(&["-DVERSION=1"]),
        "built for plugin ABI 0.1, this host has 1.0: the major numbers must be the same; rebuild it with this host's header"
    );
}

#[test]
fn another_minor_number_loads() {
    let built = c_plugin(&["-DVERSION=0x10007"]);
    let plugin = Plugin::load(&built.path).unwrap();
    assert_eq!(plugin.abi_version().to_string(), "1.7");
    assert_eq!(Plugin::unload(plugin).unwrap(), Released);
}

#[test]
fn a_table_that_is_too_small_is_refused() {
    assert_eq!(
        refusal_of(&["-DSIZE=87"]),
        "its table has 87 bytes, and every one of its version has at least 88; set struct_size to \
         sizeof(struct quire_pager_module)"
    );
    assert_eq!(
        refusal_of(&["-DSIZE=0"]),
        "its table has 0 bytes, and every one of its version has at least 88; set struct_size to \
         sizeof(struct quire_pager_module)"
    );
}

#[test]
fn a_table_that_ends_inside_a_member_is_refused() {
    for size in [89, 92, 95, 207] {
        let text = refusal_of(&[&format!("-DSIZE={size}")]);
        let begin = format!("its table is not valid: struct_size {size} ends inside a member, ");
        assert!(text.starts_with(&begin), "{text}");
    }
    for size in [88, 96, 192, 200, 208, 209, 216] {
        let built = c_plugin(&[&format!("-DSIZE={size}"), "-DFUTURE"]);
        Plugin::load(&built.path).unwrap();
    }
}

#[test]
fn a_name_in_capitals_is_refused_as_the_header_says() {
    assert_eq!(
        refusal_of(&["-DNAME=\"Bent\""]),
        "its table is not valid: name \"Bent\" is not made of lower-case letters, digits, '-' and '_'; give it another"
    );
}

#[test]
fn members_beyond_the_size_that_a_plugin_tells_are_absent() {
    let built = c_plugin(&["-DSIZE=88"]);
    assert!(Plugin::load(&built.path).unwrap().module().put.is_none());
}

#[test]
fn a_table_from_the_future_loads() {
    let built = c_plugin(&["-DFUTURE"]);
    let plugin = Plugin::load(&built.path).unwrap();
    assert!(plugin.module().struct_size as usize > size_of_val(plugin.module()));
}

#[test]
fn each_missing_operation_is_named() {
    assert_eq!(
        refusal_of(&["-DOPEN=0"]),
        "the mandatory operation open is missing; add it to the table"
    );
    assert_eq!(
        refusal_of(&["-DCLOSE=0"]),
        "the mandatory operation close is missing; add it to the table"
    );
    assert_eq!(
        refusal_of(&["-DGET=0"]),
        "the mandatory operation get is missing; add it to the table"
    );
}

#[test]
fn a_plugin_may_refuse_the_host() {
    assert_eq!(refusal_of(&["-DREFUSES"]), "refuses this host (plugin ABI 1.0)");
}

#[test]
fn what_a_table_says_is_checked() {
    assert_eq!(
        refusal_of(&["-DMAGIC=7"]),
        "its table does not begin as a pager module: magic is 0x00000007; set it to QUIRE_PAGER_MAGIC"
    );
    assert_eq!(
        refusal_of(&["-DTHREADS=3"]),
        "its table is not valid: thread_model 3 is unknown; use one of QUIRE_THREADS_..."
    );
    assert_eq!(
        refusal_of(&["-DNAME=0"]),
        "its table is not valid: name is NULL; give it one"
    );
    assert_eq!(
        refusal_of(&["-DNAME=\"\""]),
        "its table is not valid: name \"\" is not made of lower-case letters, digits, '-' and '_'; give it another"
    );
    assert_eq!(
        refusal_of(&["-DNAME=\"\\377\""]),
        "its table is not valid: name is not UTF-8"
    );
    let long = format!("-DNAME=\"{}\"", "x".repeat(65));
    assert_eq!(
        refusal_of(&[&long]),
        "its table is not valid: name is longer than 64 bytes"
    );
    assert_eq!(
        refusal_of(&["-DDESCRIPTION=\"\\377\""]),
        "its table is not valid: description is not UTF-8"
    );
}

#[test]
fn unknown_capabilities_are_ignored() {
    let built = c_plugin(&["-DCAPS=0x8000000000000001u"]);
    assert_eq!(probe(&built.path).unwrap().capabilities, ["async"]);
}

#[test]
fn a_library_without_the_entry_symbol_is_refused_before_its_constructors_run() {
    let sentence = "not a pager plugin: it has no symbol quire_pager_entry; add \
         QUIRE_PAGER_EXPORT or export_pager!";
    assert_eq!(refusal_of(&["-DENTRY=other", "-DCONSTRUCTOR_ABORTS"]), sentence);
    assert_eq!(
        refusal_of(&["-DENTRY=quire_pager_entry2", "-DCONSTRUCTOR_ABORTS"]),
        sentence
    );
    assert_eq!(refusal_of(&["-DENTRY_IS_DATA", "-DCONSTRUCTOR_ABORTS"]), sentence);
    assert_eq!(refusal_of(&["-DENTRY_IS_IMPORTED", "-DCONSTRUCTOR_ABORTS"]), sentence);
    assert_eq!(refusal_of(&["-fvisibility=hidden", "-DCONSTRUCTOR_ABORTS"]), sentence);
    assert_eq!(
        refusal_of(&["-fvisibility=hidden", "-Wl,--hash-style=sysv", "-DCONSTRUCTOR_ABORTS"]),
        sentence
    );
}

#[test]
fn the_entry_symbol_is_found_by_either_hash_table_and_without_section_headers() {
    for style in ["-Wl,--hash-style=sysv", "-Wl,--hash-style=gnu", "-Wl,--hash-style=both"] {
        let built = c_plugin(&[style, "-s"]);
        let mut bytes = fs::read(&built.path).unwrap();
        // e_shoff, e_shnum and e_shstrndx of a 64-bit header.
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        fs::write(&built.path, bytes).unwrap();
        assert_eq!(Plugin::load(&built.path).unwrap().name(), "bent", "{style}");
    }
}

#[test]
fn a_missing_symbol_is_told_in_the_linkers_words() {
    let text = refusal_of(&["-DUNRESOLVED"]);
    assert!(
        text.starts_with("the dynamic linker refuses it: ") && text.contains("nobody_defines_this"),
        "{text}"
    );
}

#[test]
fn what_is_no_file_of_this_machine_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.so");
    assert_eq!(refusal(folder.path()), "is a directory, not a regular file");
    assert_eq!(refusal(&file), "cannot be read: No such file or directory (os error 2)");
    for text in ["", "\x7fEL", "#!/bin/sh\nexit 0\n"] {
        fs::write(&file, text).unwrap();
        assert_eq!(
            refusal(&file),
            "not an ELF file; give the path of a plugin's shared library",
            "{text:?}"
        );
    }
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(refusal(&pipe), "is a pipe, not a regular file");
    assert_eq!(refusal(Path::new("/dev/null")), "is a device, not a regular file");
}

#[test]
fn another_machine_and_another_kind_are_told_apart() {
    let built = c_plugin(&[]);
    let good = fs::read(&built.path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        fs::write(&built.path, bytes).unwrap();
        refusal(&built.path)
    };
    assert_eq!(
        with(4, 1),
        "for another machine: its word size differs; rebuild it for this one"
    );
    assert_eq!(
        with(5, 2),
        "for another machine: its byte order differs; rebuild it for this one"
    );
    let other = with(18, 8);
    assert!(
        other.starts_with("for another machine: its machine number is "),
        "{other}"
    );
    assert_eq!(
        with(16, 1),
        "an ELF file, but an object file, not a shared library; link it with -shared"
    );
    assert_eq!(
        with(16, 2),
        "an ELF file, but a program, not a shared library; link it with -shared"
    );
}

#[test]
fn a_plugin_cut_short_anywhere_is_refused_or_loads_but_never_crashes() {
    let built = c_plugin(&["-s"]);
    let good = fs::read(&built.path).unwrap();
    let mut loaded = 0;
    // Every length in the headers, and then one in each 64 bytes.
    for len in (0..1024).chain((1024..good.len()).step_by(64)).chain([good.len()]) {
        // A file of its own each time: the dynamic linker would take one it knows for loaded.
        let path = built.path.with_extension(len.to_string());
        fs::write(&path, &good[..len.min(good.len())]).unwrap();
        match Plugin::load(&path) {
            Ok(_) => loaded += 1,
            Err(LoadError::NotElf { .. }) => assert!(len < 4),
            Err(LoadError::Truncated { .. }) => assert!(len < good.len()),
            Err(e) => panic!("{len} bytes: {e}"),
        }
        fs::remove_file(&path).unwrap();
    }
    assert!(loaded >= 1);
    fs::write(&built.path, &good[..good.len() / 2]).unwrap();
    let text = refusal(&built.path);
    assert!(
        text.starts_with("truncated: segment ")
            && text.ends_with(" ends past the end of the file; copy or build it again"),
        "{text}"
    );
}

#[test]
fn the_look_into_a_file_survives_any_damaged_byte_of_its_headers_and_tables() {
    let built = c_plugin(&["-s", "-DENTRY=other"]);
    let good = fs::read(&built.path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&built.path).unwrap();
    // The library lacks the entry symbol, so that whatever is damaged, nothing is ever loaded: this tries the look alone.
    for (at, own) in good.iter().enumerate().take(1024) {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff, *own] {
            file.write_all_at(&[byte], at as u64).unwrap();
            assert!(Plugin::load(&built.path).is_err());
        }
    }
}

#[test]
fn a_plugin_in_use_is_not_let_go_and_works_on() {
    let built = c_plugin(&[]);
    let plugin = Plugin::load(&built.path).unwrap();
    let user = Arc::clone(&plugin);
    let kept = Plugin::unload(plugin).unwrap_err();
    assert!(matches!(kept.error, LoadError::InUse { .. }));
    assert_eq!(kept.plugin.name(), "bent");
    drop(user);
    assert_eq!(Plugin::unload(kept.plugin).unwrap(), Released);
}

#[test]
fn a_plugin_that_must_stay_stays() {
    let built = c_plugin(&["-DCAPS=2"]);
    let kept = Plugin::unload(Plugin::load(&built.path).unwrap()).unwrap_err();
    assert!(matches!(kept.error, LoadError::StaysResident { .. }));
    assert_eq!(kept.plugin.name(), "bent");
}

#[test]
fn a_probe_tells_what_the_plugin_can_do() {
    let built = c_plugin(&["-DCAPS=9", "-DTHREADS=1"]);
    let report = probe(&built.path).unwrap();
    assert_eq!(report.serialized, "object");
    assert_eq!(report.capabilities, ["async", "fork-safe"]);
    assert_eq!(report.operations, ["open", "close", "get", "put"]);
    assert!(report.absent.contains(&"populate"));
    let text = report.to_string();
    assert!(text.contains("plugin ABI    1.0 (a table of 200 bytes)"), "{text}");
    assert!(text.contains("operations    open close get put\n"), "{text}");
}
