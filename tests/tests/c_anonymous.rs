//! Anonymous memory, private mappings, copies and forks, by the C API: tests/c/anonymous.c, one test for each of its cases. What each refuses or promises is written there.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/anonymous.c";

fn program(case: &str) -> (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = c_support::folder("c_anonymous").join("anonymous");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_anonymous-{case}")))
}

c_cases! {
    program:
    anonymous_memory_may_be_larger_than_the_memory_there_is,
    anonymous_mappings_refuse_what_makes_no_sense,
    a_private_mapping_keeps_its_writes_to_itself,
    an_anonymous_object_is_memory_that_mappings_share,
    a_fork_leaves_to_a_child_what_was_said,
    a_fork_shares_files_and_copies_private_mappings_unless_told_otherwise,
    a_child_is_a_map_like_others,
    a_copy_shows_the_range_as_it_was,
    a_copy_of_an_objects_pages_is_a_private_mapping_of_it,
    what_is_wired_is_copied_at_once,
    copies_refuse_what_makes_no_sense,
    snapshots_of_memory_that_is_written_show_one_moment,
    everything_is_wired_now_and_from_now_on,
    what_is_freed_is_zeros_again,
    in_an_interrupt_safe_map_nothing_faults,
}
