//! Devices and their drivers, good and bad, through libquire.so: tests/c/devices.c, one test for each of its cases.

mod c_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/devices.c";

/// The program, and the folder with the example drivers, all compiled once.
fn program(case: &str) -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, Vec<PathBuf>)> = OnceLock::new();
    let (program, drivers) = BUILT.get_or_init(|| {
        let folder = c_support::folder("c_devices");
        let program = folder.join("devices");
        c_support::link("c99", SOURCE, &program);
        let drivers = ["framebuffer.c", "villain.c"];
        let drivers = drivers.map(|driver| c_support::example_driver(driver, &folder));
        (program, drivers.to_vec())
    });
    let folder = c_support::folder(&format!("c_devices-{case}"));
    for driver in drivers {
        std::os::unix::fs::symlink(driver, folder.join(driver.file_name().expect("a name"))).expect("a link");
    }
    (program.clone(), folder)
}

c_cases! {
    program:
    a_driver_of_the_programs_own_makes_devices,
    a_driver_with_init_is_given_what_it_stored,
    ctor_and_dtor_balance,
    a_device_needs_neither_name_nor_descriptor,
    a_driver_is_no_pager_and_a_pager_is_no_driver,
    a_driver_stays_as_long_as_a_device_of_it_is_open,
    devices_of_different_drivers_are_different_things,
    the_thread_model_is_the_drivers,
    driver_tables_that_are_no_good_are_refused,
    s213_an_unmanaged_driver_with_populate_is_refused,
    s235_a_driver_without_fault_fails_the_page,
    s236_each_get_of_a_device_has_one_page,
    a_managed_device_without_put_is_read_only,
    an_unmanaged_device_can_be_mapped_for_writing,
    a_device_in_c_populates,
    what_is_drawn_is_in_the_device,
    a_good_villain_is_a_driver_like_others,
    a_ctor_that_fails_leaves_nothing,
    an_empty_range_quarantines,
    a_reversed_range_quarantines,
    a_range_without_the_index_quarantines,
    a_range_beyond_the_device_quarantines,
    a_hole_quarantines,
    a_page_that_was_resident_and_not_taken_quarantines,
    an_unready_page_quarantines,
    an_unfilled_page_quarantines,
    an_unknown_status_of_populate_quarantines,
    a_populate_that_pends_quarantines,
    an_unknown_status_of_fault_quarantines,
    an_older_devices_token_is_logged_and_gives_no_page,
    a_page_under_another_devices_token_is_that_devices,
    a_page_that_somebody_else_has_busied_quarantines,
    a_fault_that_pends_quarantines,
    a_put_that_pends_quarantines,
    an_unknown_status_of_a_put_page_quarantines,
    a_fault_that_fails_fails_the_access_and_no_more,
}

/// What the frame buffer's program says, and the picture that it leaves.
fn picture(program: &Path, driver: &Path, policy: &str, machine: &str) -> (String, PathBuf) {
    let file = program.with_file_name(format!("{machine}-{policy}.png"));
    let output = c_support::run(program, &[driver, policy.as_ref(), machine.as_ref(), &file]);
    (c_support::printed(&output), file)
}

#[test]
fn the_frame_buffer_shows_the_same_picture_whatever_comes_in_at_once_and_on_both_machines() {
    let mut all = Vec::new();
    for standard in ["c99", "c++11"] {
        let folder = c_support::folder(&format!("c_devices-picture-{standard}"));
        let program = folder.join("framebuffer");
        c_support::link(standard, "examples/framebuffer.c", &program);
        let driver = c_support::example_driver("framebuffer.c", &folder);
        for machine in ["soft", "linux"] {
            // All 300 pages are drawn on, written to the device, and brought in once more.
            for (policy, populates) in [("one", 600), ("window", 76), ("all", 2)] {
                let (said, file) = picture(&program, &driver, policy, machine);
                let wanted = format!("300 pages out; in: 600 pages by {populates} populates, 0 by 0 gets\n");
                assert_eq!(said, wanted, "{policy} on {machine}");
                all.push(file);
            }
            let (said, file) = picture(&program, &driver, "get", machine);
            assert_eq!(said, "300 pages out; in: 0 pages by 600 populates, 600 by 600 gets\n");
            all.push(file);
        }
    }
    let first = fs::read(&all[0]).expect("a picture");
    for other in &all[1..] {
        assert!(fs::read(other).expect("a picture") == first, "{}", other.display());
    }
    let decoded = Command::new("python3")
        .arg(c_support::repository().join("tests/python/picture.py"))
        .arg(&all[0])
        .output()
        .expect("Python");
    let complaints = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success(), "{complaints}");
}
