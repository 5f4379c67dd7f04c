//! Pagers in C and C++, good and bad, through libquire.so: tests/c/pagers.c, one test for each of its cases.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/pagers.c";

/// The program, and the folder with the example pagers, all compiled once.
fn program(case: &str) -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, Vec<PathBuf>)> = OnceLock::new();
    let (program, pagers) = BUILT.get_or_init(|| {
        let folder = c_support::folder("c_pagers");
        let program = folder.join("pagers");
        c_support::link("c99", SOURCE, &program);
        let pagers = ["villain.c", "file_pager.c", "cpp_pager.cpp"];
        let pagers = pagers.map(|pager| c_support::example_pager(pager, &folder));
        (program, pagers.to_vec())
    });
    let folder = c_support::folder(&format!("c_pagers-{case}"));
    for pager in pagers {
        std::os::unix::fs::symlink(pager, folder.join(pager.file_name().expect("a name"))).expect("a link");
    }
    (program.clone(), folder)
}

c_cases! {
    program:
    a_good_villain_is_a_pager_like_others,
    an_unknown_status_quarantines,
    an_unknown_page_status_quarantines,
    claiming_what_was_not_filled_quarantines,
    answering_after_completing_quarantines,
    a_caught_panic_quarantines,
    populate_without_the_page_quarantines,
    populate_that_leaves_the_page_unready_quarantines,
    populate_elsewhere_quarantines,
    populate_backwards_quarantines,
    populate_outside_quarantines,
    half_filled_pages_cannot_be_told_from_whole_ones,
    completing_twice_is_logged_and_ignored,
    a_strangers_token_is_logged_and_ignored,
    a_broken_promise_is_logged,
    errors_with_a_cause_carry_it,
    every_status_of_the_list_has_its_fault,
    a_failure_passes_and_the_next_try_works,
    a_request_that_is_never_completed_is_listed_and_keeps_nobody_else,
    a_put_that_answers_after_completing_quarantines,
    completing_a_populate_is_logged_and_ignored,
    a_fault_waits_for_a_late_completion,
    a_late_failure_fails_the_fault,
    pages_that_cannot_be_written_are_kept_until_they_can_be,
    pages_that_cannot_be_written_can_be_given_up,
    a_handle_that_is_null_is_the_pagers_own_affair,
    a_pager_in_sixty_lines_of_c_reads_and_writes_files,
    exceptions_of_a_pager_in_cpp_become_statuses,
    a_plugin_is_unloaded_and_loaded_again,
}
