//! Swap areas, by the C API: tests/c/swap.c, one test for each of its cases. What each refuses or promises is written there.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/swap.c";

fn program(case: &str) -> (PathBuf, PathBuf) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = c_support::folder("c_swap").join("swap");
        c_support::link("c99", SOURCE, &program);
        program
    });
    (program.clone(), c_support::folder(&format!("c_swap-{case}")))
}

c_cases! {
    program:
    areas_are_listed_and_filled_by_priority,
    what_makes_no_sense_is_refused,
    what_cannot_be_swap_is_refused_with_a_sentence,
    when_swap_is_full_nothing_is_lost_and_an_area_mends_it,
    an_area_that_fails_is_told_and_used_again_when_it_works,
    an_area_whose_pager_lies_is_broken,
    a_removed_area_gives_back_what_is_in_it,
    an_area_is_removed_while_others_look,
    what_cannot_be_read_keeps_its_area,
    a_pager_is_kept_while_it_has_areas,
    swap_may_be_packed_and_in_memory,
}
