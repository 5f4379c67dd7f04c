//! Devices whose memory is their own, through libquire.so: tests/c/frames.c, one test for each of its cases, and the ring buffer in C++.

mod c_support;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/frames.c";

/// The program, and the folder with the driver, both compiled once.
fn program(case: &str) -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (program, driver) = BUILT.get_or_init(|| {
        let folder = c_support::folder("c_frames");
        let program = folder.join("frames");
        c_support::link("c99", SOURCE, &program);
        (program, c_support::example_driver("wrap.c", &folder))
    });
    let folder = c_support::folder(&format!("c_frames-{case}"));
    std::os::unix::fs::symlink(driver, folder.join("wrap.so")).expect("a link");
    (program.clone(), folder)
}

c_cases! {
    program:
    a_wrapped_file_is_shown_and_written_in_place,
    windows_of_512_pages_come_at_once,
    the_pointer_goes_to_the_files_own_memory,
    a_file_that_can_only_be_read_is_not_written,
    what_cannot_be_mapped_is_refused,
    a_device_that_ends_lets_go_of_its_memory,
}

#[test]
fn the_same_program_compiles_as_every_c_and_cpp() {
    for standard in c_support::C_STANDARDS.iter().chain(c_support::CPP_STANDARDS) {
        c_support::compile(standard, &c_support::repository().join(SOURCE), &["-fsyntax-only"]);
    }
}

#[test]
fn a_producer_and_a_consumer_share_a_ring_that_has_no_end() {
    let folder = c_support::folder("c_frames-ring");
    let driver = c_support::example_driver("ring.cpp", &folder);
    for standard in c_support::CPP_STANDARDS {
        let program = folder.join(standard);
        c_support::link(standard, "examples/ring.cpp", &program);
        for machine in ["soft", "linux"] {
            let said = c_support::printed(&c_support::run(&program, &[&driver, Path::new(machine)]));
            // Both sides know every record; how many lie across the end follows from their lengths alone.
            assert_eq!(
                said, "20000 records, 1841 of them across the end, 30110868 bytes\n",
                "{machine}"
            );
        }
    }
}
