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
fn a_producer_and_a_consumer_share_a_ring_that_has_no_end() {
    let folder = c_support::folder("c_frames-ring");
    let driver = c_support::example_driver("ring.cpp", &folder);
    let expected = ring_says();
    let program = folder.join("ring");
    c_support::link("c++11", "examples/ring.cpp", &program);
    for machine in ["soft", "linux"] {
        let said = c_support::printed(&c_support::run(&program, &[&driver, Path::new(machine)]));
        assert_eq!(said, expected, "{machine}");
    }
    for standard in c_support::CPP_STANDARDS {
        let source = c_support::repository().join("examples/ring.cpp");
        c_support::compile(standard, &source, &["-fsyntax-only"]);
    }
}

/// How many of the ring's records lie across its end follows from their lengths alone.
fn ring_says() -> String {
    let (mut at, mut across) = (0_u64, 0);
    for n in 0..20_000_u32 {
        let length = u64::from(4 + n.wrapping_mul(2_654_435_761).wrapping_add(1) % 3000);
        across += u64::from(at % (4 * 4096) + length > 4 * 4096);
        at += length;
    }
    format!("20000 records, {across} of them across the end, {at} bytes\n")
}
