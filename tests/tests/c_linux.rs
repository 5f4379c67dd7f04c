//! Real memory in C: programs that use the pointer which `quire_map` answers, one test for each of their cases. Each case runs with faults
//! served by threads, compiled as C, and resolved in the thread that takes them, compiled as C++. What each proves is written there.

mod c_support;

use std::path::PathBuf;

/// A program, compiled as the one and the other language.
struct Programs {
    c: PathBuf,
    cpp: PathBuf,
}

fn compiled(name: &str, source: &str) -> Programs {
    let folder = c_support::folder(&format!("c_linux-{name}"));
    let programs = Programs {
        c: folder.join("as-c"),
        cpp: folder.join("as-cpp"),
    };
    c_support::link("c99", source, &programs.c);
    c_support::link("c++11", source, &programs.cpp);
    programs
}

fn in_both_modes(programs: &Programs, case: &str) {
    for (program, mode) in [(&programs.c, "threads"), (&programs.cpp, "in-thread")] {
        let folder = c_support::folder(&format!("c_linux-{case}-{mode}"));
        let output = c_support::run(program, &[case.as_ref(), &folder, mode.as_ref()]);
        print!("{mode}: {}", c_support::printed(&output));
    }
}

macro_rules! cases {
    ($name:ident, $source:literal: $($case:ident,)*) => {
        mod $name {
            use std::sync::OnceLock;

            fn programs() -> &'static super::Programs {
                static PROGRAMS: OnceLock<super::Programs> = OnceLock::new();
                PROGRAMS.get_or_init(|| super::compiled(stringify!($name), $source))
            }

            $(#[test]
            fn $case() {
                super::in_both_modes(programs(), stringify!($case));
            })*

            #[test]
            fn every_case_of_the_program_is_run() {
                assert_eq!(super::cases_of($source), [$(stringify!($case)),*]);
            }

            #[test]
            fn the_same_program_compiles_as_every_c_and_cpp() {
                for standard in super::c_support::C_STANDARDS.iter().chain(super::c_support::CPP_STANDARDS) {
                    super::c_support::compile(standard, &super::c_support::repository().join($source), &["-fsyntax-only"]);
                }
            }
        }
    };
}

fn cases_of(source: &str) -> Vec<String> {
    let source = std::fs::read_to_string(c_support::repository().join(source)).expect("the source");
    let cases = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("CASE(")?.strip_suffix("),"));
    cases.map(str::to_owned).collect()
}

cases! {
    memory, "tests/c/real_memory.c":
    the_checksum_of_a_whole_file_is_that_of_a_plain_read,
    a_file_larger_than_memory_is_sorted_in_place,
    eight_threads_read_and_write_what_a_model_says,
    system_calls_read_from_and_write_into_served_memory,
    two_mappings_of_one_file_see_each_others_writes_at_once,
    memory_stays_within_the_budget_and_what_is_stated_beside_it,
    a_device_reads_into_wired_memory,
}

cases! {
    faults, "tests/c/real_faults.c":
    a_failing_pager_is_sigbus_at_the_address_until_it_works,
    every_thread_gets_the_failure_of_its_own_access,
    a_system_call_gets_efault_where_an_access_fails,
    a_file_that_others_truncated_is_sigbus_until_it_is_long_again,
    behind_the_objects_end_is_sigbus_until_it_grows,
    an_object_that_was_terminated_is_sigbus,
    what_the_protection_forbids_is_sigsegv,
    a_quarantined_object_is_sigbus_and_a_fresh_one_is_not,
    for_user_mode_only_the_pointer_works_and_a_system_call_gets_efault,
}

cases! {
    signals, "tests/c/real_signals.c":
    the_programs_handlers_get_its_own_faults,
    a_plain_handler_gets_signals_that_were_sent,
    a_later_handler_passes_on_what_is_ours,
    without_a_handler_of_the_program_a_failed_access_kills,
    a_signal_that_is_sent_does_what_it_did_before,
    a_fork_has_none_of_the_range_and_the_parent_goes_on,
}

cases! {
    edges, "tests/c/real_edges.c":
    requests_that_make_no_sense_change_nothing,
    memory_of_the_program_is_never_taken,
    a_mapping_replaces_a_part_of_another,
    mappings_may_be_long_and_aligned,
    engines_that_cannot_be_are_refused,
    where_userfaultfd_is_refused_linux_says_why_and_auto_is_soft,
    unmapping_under_faults_ends_them_with_sigsegv,
    a_map_is_destroyed_under_faults,
    what_is_in_use_does_not_end,
}

cases! {
    anonymous, "tests/c/real_anonymous.c":
    anonymous_memory_may_be_larger_than_the_memory_there_is,
    without_swap_an_access_fails_and_an_area_mends_it,
    what_is_written_to_a_private_mapping_stays_there,
    a_private_mapping_shows_an_object_until_a_page_is_copied,
    snapshots_of_memory_that_is_written_show_one_moment,
    copies_of_copies_go_to_swap_and_come_back,
    a_copy_goes_where_it_is_asked_to,
    a_copy_of_a_file_keeps_its_writes_to_itself,
    what_is_wired_is_copied_at_once,
    swap_goes_to_a_plain_file_by_its_descriptor,
    a_map_of_real_addresses_is_not_forked,
    memory_is_shared_by_mapping_an_anonymous_object_twice,
    what_is_freed_is_zeros_and_gives_its_room_in_swap_back,
    everything_that_is_mapped_and_will_be_is_wired,
    in_an_interrupt_safe_map_only_what_is_wired_can_be_touched,
    an_area_is_removed_while_threads_use_what_is_in_it,
}

cases! {
    device, "tests/c/real_device.c":
    the_devices_own_memory_is_behind_the_pointer,
    windows_of_two_mebibytes_lie_where_a_large_page_would,
    a_shared_mapping_is_shown_a_second_time,
    private_memory_cannot_be_seen_at_two_addresses,
    a_descriptor_that_cannot_be_mapped_is_an_error_with_words,
    rights_hold_and_the_programs_handler_gets_its_signals,
    a_descriptor_to_be_read_is_read_and_not_written,
    a_device_that_is_gone_is_sigbus,
    what_the_devices_file_has_lost_is_sigbus_until_it_is_back,
    a_forked_child_has_none_of_it,
    memory_is_revoked_under_threads_whose_handler_expects_no_signal,
}

cases! {
    guest, "tests/c/real_guest.c":
    a_guest_faults_every_page_of_its_memory_once,
}

cases! {
    heap, "tests/c/real_heap.c":
    the_programs_malloc_is_not_called_in_the_handler,
    holes_that_the_program_makes_and_fills_destroy_nothing_of_ours,
    a_child_of_a_fork_does_not_wait_for_the_librarys_memory,
}
