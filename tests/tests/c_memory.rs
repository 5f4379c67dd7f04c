//! Memory, by the C API: tests/c/memory.c, one test for each of its cases. What each refuses or promises is written there.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/memory.c";

fn program(case: &str) -> (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = c_support::folder("c_memory").join("memory");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_memory-{case}")))
}

c_cases! {
    program:
    resize_shrinks_and_grows_the_file,
    resize_refuses_readers_and_sizes_that_cannot_be,
    refresh_follows_a_file_that_others_changed,
    uncache_closes_the_object_with_its_last_use,
    terminate_takes_the_object_from_its_users,
    terminate_can_give_up_what_is_dirty,
    as_many_objects_are_kept_as_was_asked_for,
    put_writes_deactivates_and_frees,
    put_without_cleaning_gives_up_what_is_dirty,
    put_refuses_what_makes_no_sense,
    wired_pages_stay_until_every_wiring_is_taken_back,
    wire_refuses_bad_ranges_and_leaves_nothing_wired,
    a_step_of_the_daemon_frees_as_much_as_was_asked_for,
    bad_thresholds_and_steps_are_refused,
    the_policy_is_chosen_and_named,
    new_options_are_checked_and_old_programs_need_none,
    an_engines_threads_are_gone_when_it_is,
    an_engine_that_cannot_end_yet_keeps_its_threads,
    the_daemons_thread_frees_memory,
    a_request_that_takes_long_is_listed,
    a_fault_gives_up_and_what_is_overdue_is_reported_and_cancelled,
    without_a_thread_windows_are_read_ahead_by_steps,
    the_read_ahead_thread_reads_ahead,
    put_keeps_what_cannot_be_written,
    a_step_counts_what_it_could_not_write,
    an_engine_whose_pages_cannot_be_written_goes_on_with_its_threads,
    an_engine_whose_pager_is_in_use_gets_its_threads_back,
}
