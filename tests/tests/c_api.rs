//! The C API on files: tests/c/api.c, one test for each of its cases. What each refuses or promises is written there.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/api.c";

fn program(case: &str) -> (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = c_support::folder("c_api").join("api");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_api-{case}")))
}

c_cases! {
    program:
    map_refuses_a_length_of_zero,
    map_refuses_what_is_not_page_aligned,
    map_refuses_overflow,
    map_refuses_unknown_flags_and_numbers,
    map_refuses_a_protection_above_its_maximum,
    map_refuses_places_that_are_taken_or_not_there,
    map_refuses_objects_of_another_engine,
    an_object_opened_for_reading_is_not_mapped_for_writing,
    protect_refuses_bad_ranges_and_rights,
    what_is_mapped_can_be_synced_brought_in_and_let_go,
    the_other_calls_on_ranges_refuse_the_same,
    a_range_for_a_map_makes_sense,
    null_is_refused_wherever_a_pointer_must_be,
    a_handle_that_is_null_is_caught,
    a_handle_of_another_kind_is_caught,
    a_closed_handle_is_caught_also_after_others_were_opened,
    files_that_cannot_be_paged_are_refused_with_the_systems_words,
    a_file_that_is_truncated_while_mapped_gives_bus_errors_and_the_rest_works,
    an_open_descriptor_is_enough,
    faults_tell_their_reasons_apart,
    what_is_stored_reaches_the_file_and_nothing_beyond_its_end,
    destroying_everything_writes_what_is_dirty,
    opening_a_file_twice_gives_one_object,
    ends_are_refused_while_something_is_in_use_and_everything_works_on,
    discard_gives_up_what_is_dirty,
    two_engines_share_a_plugin_and_nothing_else,
    a_file_larger_than_memory_is_read_whole,
    options_are_checked,
    answers_are_cut_to_what_the_caller_knows,
    the_table_is_the_same_api,
    the_last_error_belongs_to_its_thread,
    threads_fault_on_one_map,
    plugins_that_cannot_be_loaded_are_refused_with_a_status_of_their_own,
    a_table_is_checked_as_a_plugin_is,
}

#[test]
fn the_same_program_runs_as_cpp() {
    let folder = c_support::folder("c_api-cpp");
    let program = folder.join("api");
    c_support::link("c++11", SOURCE, &program);
    for case in [
        "what_is_stored_reaches_the_file_and_nothing_beyond_its_end",
        "the_table_is_the_same_api",
    ] {
        c_support::run(&program, &[case.as_ref(), &folder]);
    }
}
