//! Device frames, by the C API: tests/c/apertures.c, one test for each of its cases. What each refuses or promises is written there.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/apertures.c";

fn program(case: &str) -> (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = c_support::folder("c_apertures").join("apertures");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_apertures-{case}")))
}

c_cases! {
    program:
    a_descriptor_is_mapped_and_accessed_in_place,
    a_part_of_a_file_is_shown_by_its_offset,
    an_address_is_enough_shared_or_not,
    pages_go_when_the_object_shrinks_ends_or_is_revoked_and_the_memory_stays,
    a_private_mapping_is_a_copy_and_asks_by_get,
    memory_that_can_only_be_read_is_not_written,
    an_object_with_large_pages_is_placed_for_them,
    bad_apertures_are_refused_and_nothing_is_stored,
    a_process_has_so_many_apertures_and_no_more,
    a_plugin_has_the_same_services,
}
