//! Pages by hand through libquire.so, and from a pager in C: tests/c/pages.c, one test for each of its cases.

mod c_support;

use std::path::PathBuf;
use std::sync::OnceLock;

const SOURCE: &str = "tests/c/pages.c";

/// The program, and the folder with the pager, both compiled once.
fn program(case: &str) -> (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (program, pager) = BUILT.get_or_init(|| {
        let folder = c_support::folder("c_pages");
        let program = folder.join("pages");
        c_support::link("c99", SOURCE, &program);
        (program, c_support::example_pager("warm_pager.c", &folder))
    });
    let folder = c_support::folder(&format!("c_pages-{case}"));
    std::os::unix::fs::symlink(pager, folder.join("warm_pager.so")).expect("a link");
    (program.clone(), folder)
}

c_cases! {
    program:
    s239_to_s245_the_modes_as_the_manual_has_them,
    s242_the_wrong_mode_is_answered_with_a_status_and_a_sentence,
    what_is_no_page_is_answered,
    s246_s247_s249_sleepers_are_seen_and_woken,
    f17_every_flag_of_grab,
    what_a_page_holds_is_seen_through_a_map,
    pages_leave_enter_and_move,
    an_engine_does_not_end_while_a_page_of_it_is_in_no_object,
    s242_s248_wrong_use_ends_the_process_where_that_is_asked_for_and_nowhere_else,
    the_sentence_is_in_the_log_before_the_process_ends,
    s241_s246_s247_the_strict_rule,
    a_pagers_thread_fills_the_cache_by_hand,
    a_populate_fills_its_neighbour_by_hand,
}

#[test]
fn the_same_program_runs_as_cpp() {
    let folder = c_support::folder("c_pages-cpp");
    let program = folder.join("pages");
    c_support::link("c++11", SOURCE, &program);
    for case in ["f17_every_flag_of_grab", "pages_leave_enter_and_move"] {
        c_support::run(&program, &[case.as_ref(), &folder]);
    }
}
