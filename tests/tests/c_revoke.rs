//! Devices that take their pages back, through libquire.so: tests/c/revoke.c, one test for each of its cases.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/revoke.c";

/// The program, compiled once, and a folder of the case's own.
fn program(case: &str) -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let program = BUILT.get_or_init(|| {
        let program = c_support::folder("c_revoke").join("revoke");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_revoke-{case}")))
}

c_cases! {
    program:
    f22_the_next_access_faults_again,
    f22_what_is_dirty_is_written_or_given_up,
    f22_what_cannot_be_written_stays,
    f22_after_revoke_fail_every_access_fails,
    a_revoke_inside_an_operation_of_the_object_is_refused,
    a_device_may_revoke_another_one_from_inside_an_operation,
    f22_a_busied_page_is_waited_for,
    wrong_arguments_are_answered,
    the_program_can_revoke_as_well,
    a_fault_can_hold_its_page,
    a_process_may_end_through_the_middle,
    a_ctor_that_fails_has_no_dtor,
}

#[test]
fn it_is_cpp_as_well() {
    c_support::link("c++11", SOURCE, &c_support::folder("c_revoke-cpp").join("revoke"));
}
