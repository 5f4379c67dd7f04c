//! Memory of a mapping's own: private mappings, anonymous memory, copies, and the cases of a fault that make them.

use std::thread;

use quire_core::error::{Error, FaultError};
use quire_core::fault::FaultCase;
use quire_core::fork::CopyRequest;
use quire_core::map::{Map, MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::pager::PagerOps;
use quire_core::types::{Access, Advice, ByteOff, Inherit, PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use quire_tests::{Mode, Rig, Script, Twist, in_all_modes, in_soft_modes, page_at, pattern};

const NO_FORK: &str = "a fork wants two maps with the same addresses";

fn private(pages: u64) -> MapRequest {
    MapRequest {
        sharing: Sharing::Private,
        ..MapRequest::read_write(pages * PAGE_SIZE)
    }
}

fn anonymous(rig: &Rig, pages: u64) -> VirtAddr {
    rig.map
        .map_anonymous(&MapRequest::read_write(pages * PAGE_SIZE))
        .expect("a mapping")
        .start
}

fn byte(map: &Map, va: VirtAddr) -> u8 {
    let mut byte = [0];
    map.load(va, &mut byte).expect("a load");
    byte[0]
}

fn case(map: &Map, va: VirtAddr, access: Access) -> FaultCase {
    map.fault(va, access).expect("a fault that is resolved").case
}

#[test]
fn case_1a_a_page_of_the_mappings_own_is_mapped_as_it_is() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 4);
        rig.map.store(va, &[7]).unwrap();
        let faults = rig.engine.stats().counts();
        rig.map.dont_need(va, PAGE_SIZE).unwrap();
        assert_eq!(case(&rig.map, va, Access::Read), FaultCase::OneA);
        assert_eq!(byte(&rig.map, va), 7);
        assert_eq!(case(&rig.map, va, Access::Write), FaultCase::OneA);
        let counts = rig.engine.stats().counts();
        assert_eq!(counts.faults_1a - faults.faults_1a, 2);
        assert_eq!(
            (counts.faults_2b, counts.zero_fills),
            (faults.faults_2b, faults.zero_fills)
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn case_1b_a_page_that_others_share_is_copied_before_it_is_written() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 2);
        rig.map.store(va, &[1; 64]).unwrap();
        let copy = rig.map.copied(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(case(&rig.map, va, Access::Write), FaultCase::OneB);
        rig.map.store(va, &[2; 64]).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (2, 1));
        rig.map.store(copy, &[3; 64]).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (2, 3));
        assert!(rig.engine.stats().counts().faults_1b >= 1);
        rig.assert_nothing_left();
    });
}

#[test]
fn case_1b_the_last_one_who_refers_to_a_page_writes_it_in_place() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 1);
        rig.map.store(va, &[1]).unwrap();
        let copy = rig.map.copied(va, PAGE_SIZE).unwrap();
        assert_eq!(byte(&rig.map, copy), 1);
        rig.map.unmap(copy, PAGE_SIZE).unwrap();
        let frames = rig.engine.machine().frame_counts().free;
        assert_eq!(case(&rig.map, va, Access::Write), FaultCase::OneA);
        assert_eq!(rig.engine.machine().frame_counts().free, frames, "nothing was copied");
        rig.assert_nothing_left();
    });
}

#[test]
fn case_2a_a_private_mapping_shows_the_objects_pages_until_they_are_written() {
    in_soft_modes("a machine with real addresses copies what it reads", |rig| {
        let (script, object) = rig.object(4);
        let va = rig.map.map(&object, &private(4)).unwrap().start;
        assert_eq!(case(&rig.map, page_at(va, 1), Access::Read), FaultCase::TwoA);
        assert_eq!(rig.load_page(page_at(va, 1)), pattern(1));
        assert_eq!(rig.map.entry_count(), 1);
        let seen = rig.map.pmap().extract(page_at(va, 1)).unwrap();
        assert_eq!(seen.prot, Prot::READ, "a write has to fault");
        assert_eq!(script.gets(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn case_2b_what_is_written_to_a_private_mapping_never_reaches_the_object() {
    in_all_modes(|rig| {
        let (script, object) = rig.object(4);
        let va = rig.map.map(&object, &private(4)).unwrap().start;
        let other = rig
            .map
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        assert_eq!(case(&rig.map, page_at(va, 2), Access::Write), FaultCase::TwoB);
        rig.map.store(page_at(va, 2), &[9; 8]).unwrap();
        let own = rig.load_page(page_at(va, 2));
        assert_eq!(own[..8], [9; 8]);
        assert_eq!(own[8..], pattern(2)[8..]);
        assert_eq!(rig.load_page(page_at(other, 2)), pattern(2));
        rig.map.sync(va, 4 * PAGE_SIZE, Default::default()).unwrap();
        assert_eq!(script.puts(), 0);
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.puts(), 0);
    });
}

#[test]
fn case_2b_memory_that_was_never_written_is_zeros_and_costs_a_page_when_it_is_touched() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 1 << 20);
        let free = || rig.engine.machine().frame_counts().free;
        let before = free();
        assert_eq!(case(&rig.map, page_at(va, 77), Access::Read), FaultCase::TwoB);
        assert_eq!(rig.load_page(page_at(va, 77)), [0; PAGE_BYTES]);
        assert_eq!(case(&rig.map, page_at(va, 1 << 19), Access::Write), FaultCase::TwoB);
        assert_eq!((before - free(), rig.engine.stats().counts().zero_fills), (2, 2));
        rig.map.unmap(va, PAGE_SIZE << 20).unwrap();
        assert_eq!(free(), before, "what is unmapped is given up at once");
        rig.assert_nothing_left();
    });
}

#[test]
fn a_private_mapping_of_an_object_that_cannot_be_written_can_be() {
    in_all_modes(|rig| {
        let (_script, object) = rig.object(2);
        let all = private(2);
        let va = rig.map.map(&object, &all).unwrap().start;
        rig.map.copy_in(va, b"own").unwrap();
        let mut back = [0; 3];
        rig.map.copy_out(va, &mut back).unwrap();
        assert_eq!(&back, b"own");
        assert_eq!(
            rig.map.fault(page_at(va, 2), Access::Read),
            Err(FaultError::NotMapped(page_at(va, 2)))
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn what_is_copied_in_through_the_engine_is_seen_through_a_mapping_that_was_there_before() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 1);
        rig.map.store(va, &[1]).unwrap();
        let copy = rig.map.copied(va, PAGE_SIZE).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (1, 1));
        rig.map.copy_in(copy, &[5]).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (1, 5));
        rig.map.copy_in(va, &[6]).unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (6, 5));
        rig.assert_nothing_left();
    });
}

#[test]
fn anonymous_memory_beside_anonymous_memory_is_one_entry_forward_backward_and_both() {
    in_all_modes(|rig| {
        let at = |pages| Place::FixedNoReplace(page_at(rig.map.base(), pages));
        let map = |first, pages| {
            let request = MapRequest {
                place: at(first),
                ..MapRequest::read_write(pages * PAGE_SIZE)
            };
            rig.map.map_anonymous(&request).unwrap().start
        };
        let va = map(10, 10);
        rig.map.store(va, &[1]).unwrap();
        map(20, 10);
        assert_eq!(rig.map.entry_count(), 1, "forward");
        map(0, 10);
        assert_eq!(rig.map.entry_count(), 1, "backward");
        rig.map.unmap(page_at(va, 5), 5 * PAGE_SIZE).unwrap();
        assert_eq!(rig.map.entry_count(), 2);
        map(15, 5);
        assert_eq!(rig.map.entry_count(), 1, "both");
        for i in 0..30_u8 {
            rig.map.store(page_at(rig.map.base(), i.into()), &[i]).unwrap();
        }
        for i in 0..30_u8 {
            assert_eq!(byte(&rig.map, page_at(rig.map.base(), i.into())), i);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn what_was_unmapped_is_zeros_when_it_is_mapped_again() {
    in_all_modes(|rig| {
        let base = rig.map.base();
        let request = |first, pages| MapRequest {
            place: Place::Fixed(page_at(base, first)),
            ..MapRequest::read_write(pages * PAGE_SIZE)
        };
        rig.map.map_anonymous(&request(0, 8)).unwrap();
        for i in 0..8_u8 {
            rig.map.store(page_at(base, i.into()), &[i + 1]).unwrap();
        }
        rig.map.unmap(page_at(base, 3), 2 * PAGE_SIZE).unwrap();
        rig.map.map_anonymous(&request(3, 2)).unwrap();
        rig.map.map_anonymous(&request(6, 1)).unwrap();
        let seen: Vec<u8> = (0..8).map(|i| byte(&rig.map, page_at(base, i))).collect();
        assert_eq!(seen, [1, 2, 3, 0, 0, 6, 0, 8]);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_fork_on_real_addresses_says_what_to_do_instead() {
    in_all_modes(|rig| {
        let forked = rig.map.fork();
        match forked {
            Err(Error::Unsupported(text)) => assert!(rig.mode.is_linux() && text.contains("other addresses"), "{text}"),
            forked => assert!(!rig.mode.is_linux() && forked.is_ok()),
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn a_child_sees_what_its_parent_had_and_neither_sees_what_the_other_writes() {
    in_soft_modes(NO_FORK, |rig| {
        let (_script, object) = rig.object(8);
        let va = anonymous(&rig, 8);
        let file = rig.map.map(&object, &private(8)).unwrap().start;
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[10]).unwrap();
            rig.map.store(page_at(file, i), &[20]).unwrap();
        }
        let child = rig.map.fork().unwrap();
        assert_eq!(child.entry_count(), rig.map.entry_count());
        child.store(page_at(va, 1), &[11]).unwrap();
        rig.map.store(page_at(va, 2), &[12]).unwrap();
        child.store(page_at(file, 5), &[21]).unwrap();
        let bytes = |map: &Map, va: VirtAddr| [0, 1, 2, 3, 5].map(|i| byte(map, page_at(va, i)));
        assert_eq!(bytes(&rig.map, va), [10, 10, 12, 10, 0]);
        assert_eq!(bytes(&child, va), [10, 11, 10, 10, 0]);
        assert_eq!(bytes(&rig.map, file), [20, 20, 20, 20, pattern(5)[0]]);
        assert_eq!(bytes(&child, file), [20, 20, 20, 20, 21]);
        drop(object);
        drop(child);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_fork_copies_no_page_and_what_only_the_child_has_ends_with_it() {
    in_soft_modes(NO_FORK, |rig| {
        let va = anonymous(&rig, 64);
        for i in 0..64 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        let free = || rig.engine.machine().frame_counts().free;
        let before = free();
        let child = rig.map.fork().unwrap();
        assert_eq!(free(), before);
        for i in 0..8 {
            child.store(page_at(va, i), &[2]).unwrap();
        }
        assert_eq!(before - free(), 8);
        drop(child);
        assert_eq!(free(), before);
        assert_eq!(
            case(&rig.map, va, Access::Write),
            FaultCase::OneA,
            "nobody shares it any more"
        );
        rig.assert_nothing_left();
    });
}

#[test]
fn n12_resident_neighbours_of_anonymous_memory_are_mapped_along() {
    in_soft_modes(NO_FORK, |rig| {
        let va = anonymous(&rig, 16);
        for i in 0..16 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        let child = rig.map.fork().unwrap();
        let resolved = child.fault(page_at(va, 8), Access::Read).unwrap();
        assert_eq!((resolved.case, resolved.neighbours), (FaultCase::OneA, 7));
        child.advise(va, 16 * PAGE_SIZE, Advice::Random).unwrap();
        assert_eq!(child.fault(page_at(va, 1), Access::Read).unwrap().neighbours, 0);
        drop(child);
        rig.assert_nothing_left();
    });
}

#[test]
fn inheritance_says_what_a_child_gets() {
    in_soft_modes(NO_FORK, |rig| {
        let va = anonymous(&rig, 4);
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[1]).unwrap();
        }
        for (i, inherit) in [Inherit::Share, Inherit::Copy, Inherit::None, Inherit::Zero]
            .into_iter()
            .enumerate()
        {
            rig.map.inherit(page_at(va, i as u64), PAGE_SIZE, inherit).unwrap();
        }
        let child = rig.map.fork().unwrap();
        for (i, map) in [(0, &child), (1, &child), (3, &child)] {
            map.store(page_at(va, i), &[2]).unwrap();
        }
        assert_eq!(
            child.fault(page_at(va, 2), Access::Read),
            Err(FaultError::NotMapped(page_at(va, 2)))
        );
        assert_eq!([0, 1, 2, 3].map(|i| byte(&rig.map, page_at(va, i))), [2, 1, 1, 1]);
        rig.map.store(va, &[3]).unwrap();
        assert_eq!([0, 1, 3].map(|i| byte(&child, page_at(va, i))), [3, 2, 2]);
        drop(child);
        rig.assert_nothing_left();
    });
}

/// A swap area whose pager the test drives.
fn swap(rig: &Rig, pages: u64) -> Script {
    rig.swap(PagerOps::PUT | PagerOps::ASYNC, 64, pages)
}

/// Has the page daemon write what it can, in a thread of its own.
fn squeeze(rig: &Rig) -> thread::JoinHandle<()> {
    rig.want_all_free();
    let engine = rig.engine.clone();
    thread::spawn(move || {
        for _ in 0..4 {
            engine.daemon_step();
        }
    })
}

#[test]
fn a_page_that_is_being_written_to_swap_is_copied_when_the_write_has_ended() {
    in_all_modes(|rig| {
        let script = swap(&rig, 64);
        let va = anonymous(&rig, 2);
        rig.map.store(va, &[1; 16]).unwrap();
        let copy = rig.map.copied(va, 2 * PAGE_SIZE).unwrap();
        script.next_puts([Twist::Defer]);
        let daemon = squeeze(&rig);
        script.wait_for_pending(1);
        thread::scope(|scope| {
            let writer = scope.spawn(|| rig.map.copy_in(va, &[2; 16]));
            while rig.engine.stats().counts().busy_waits == 0 && !writer.is_finished() {
                thread::yield_now();
            }
            assert!(
                !writer.is_finished(),
                "the page was copied or written under its pager's hands"
            );
            script.take_pending(1).iter().for_each(|io| script.finish(io));
            writer.join().unwrap().unwrap();
        });
        daemon.join().unwrap();
        assert_eq!((byte(&rig.map, va), byte(&rig.map, copy)), (2, 1));
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(byte(&rig.map, copy), 1);
        rig.assert_nothing_left();
    });
}

#[test]
fn memory_that_is_freed_is_zeros_or_the_object_again_and_leaves_swap() {
    in_all_modes(|rig| {
        let _script = swap(&rig, 64);
        let (_file, object) = rig.object(4);
        let file = rig.map.map(&object, &private(4)).unwrap().start;
        let va = anonymous(&rig, 4);
        for i in 0..4 {
            rig.map.store(page_at(va, i), &[7]).unwrap();
            rig.map.store(page_at(file, i), &[8]).unwrap();
        }
        squeeze(&rig).join().unwrap();
        assert_eq!(rig.engine.swap_counts().used, 8);
        rig.map.free(va, 2 * PAGE_SIZE).unwrap();
        rig.map.free(file, 2 * PAGE_SIZE).unwrap();
        assert_eq!(rig.engine.swap_counts().used, 4);
        assert_eq!([0, 1, 2].map(|i| byte(&rig.map, page_at(va, i))), [0, 0, 7]);
        assert_eq!(
            [0, 1].map(|i| byte(&rig.map, page_at(file, i))),
            [pattern(0)[0], pattern(1)[0]]
        );
        assert_eq!(byte(&rig.map, page_at(file, 2)), 8);
        // What others share is not freed for them.
        let copy = rig.map.copied(page_at(va, 2), 2 * PAGE_SIZE).unwrap();
        rig.map.free(page_at(va, 2), 2 * PAGE_SIZE).unwrap();
        assert_eq!(byte(&rig.map, copy), 7);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn protection_is_not_raised_above_its_maximum_and_what_may_be_raised_is_private_still() {
    in_all_modes(|rig| {
        let (script, object) = rig.object(2);
        let request = MapRequest {
            prot: Prot::READ,
            ..private(2)
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        assert_eq!(rig.load_page(va), pattern(0));
        assert_eq!(rig.map.fault(va, Access::Write), Err(FaultError::Denied(va)));
        rig.map.protect(va, 2 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        rig.map.store(va, &[1]).unwrap();
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        assert_eq!(rig.map.protect(va, PAGE_SIZE, all), Err(Error::AboveMaximum(va)));
        let fixed = MapRequest {
            sharing: Sharing::Private,
            ..MapRequest::read_only(2 * PAGE_SIZE)
        };
        let other = rig.map.map(&object, &fixed).unwrap().start;
        assert_eq!(rig.load_page(other), pattern(0));
        assert_eq!(
            rig.map.protect(other, PAGE_SIZE, Prot::READ | Prot::WRITE),
            Err(Error::AboveMaximum(other))
        );
        drop(object);
        rig.assert_nothing_left();
        assert_eq!(script.puts(), 0);
    });
}

#[test]
fn a_copy_of_a_copy_of_a_copy_may_go_in_any_order() {
    in_all_modes(|rig| {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut copies = vec![anonymous(&rig, 4)];
            for page in 0..4 {
                rig.map.store(page_at(copies[0], page), &[1]).unwrap();
            }
            for level in 1..4_u8 {
                let copy = rig.map.copied(*copies.last().unwrap(), 4 * PAGE_SIZE).unwrap();
                rig.map.store(page_at(copy, level.into()), &[level + 1]).unwrap();
                copies.push(copy);
            }
            for (gone, level) in order.into_iter().enumerate() {
                rig.map.unmap(copies[level], 4 * PAGE_SIZE).unwrap();
                for left in &order[gone + 1..] {
                    for page in 0..4_u8 {
                        let was_written = page > 0 && usize::from(page) <= *left;
                        let expected = if was_written { page + 1 } else { 1 };
                        assert_eq!(byte(&rig.map, page_at(copies[*left], page.into())), expected);
                    }
                }
            }
            let counts = rig.engine.machine().frame_counts();
            assert_eq!(counts.free, counts.total, "after order {order:?} in {:?}", rig.mode);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn what_cannot_be_copied_is_refused_with_a_sentence_and_nothing_is_mapped() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 4);
        rig.map.store(va, &[1]).unwrap();
        rig.map.unmap(page_at(va, 2), PAGE_SIZE).unwrap();
        let entries = rig.map.entry_count();
        assert_eq!(rig.map.copied(va, 4 * PAGE_SIZE), Err(Error::NotMapped(page_at(va, 2))));
        assert!(matches!(rig.map.copied(va, 0), Err(Error::Invalid(_))));
        assert!(matches!(rig.map.copied(VirtAddr(va.0 + 1), 1), Err(Error::Invalid(_))));
        assert!(matches!(rig.map.copied(va, u64::MAX), Err(Error::Invalid(_))));
        let other = Rig::new(rig.mode);
        let request = CopyRequest {
            start: va,
            len: PAGE_SIZE,
            place: Place::Fixed(other.map.base()),
            serve: rig.mode.serve(),
        };
        assert!(matches!(rig.map.copy_to(&other.map, &request), Err(Error::Invalid(_))));
        for (len, offset) in [(0, 0), (PAGE_SIZE, 1), (u64::MAX, 0)] {
            let request = MapRequest {
                len,
                offset: ByteOff(offset),
                ..private(1)
            };
            let (_script, object) = rig.object(1);
            assert!(matches!(rig.map.map(&object, &request), Err(Error::Invalid(_))));
            if offset == 0 {
                assert!(matches!(rig.map.map_anonymous(&request), Err(Error::Invalid(_))));
            }
        }
        assert_eq!(rig.map.entry_count(), entries);
        rig.assert_nothing_left();
        other.assert_nothing_left();
    });
}

#[test]
fn memory_that_was_given_up_or_only_read_can_be_touched_again() {
    in_all_modes(|rig| {
        let va = anonymous(&rig, 3);
        // Clean zeros, taken away, leave a slot with an anon and nothing in it; so does giving up.
        assert_eq!(byte(&rig.map, va), 0);
        rig.map.store(page_at(va, 1), &[1]).unwrap();
        let _ = byte(&rig.map, page_at(va, 2));
        rig.map.free(va, 3 * PAGE_SIZE).unwrap();
        assert_eq!([0, 1].map(|i| byte(&rig.map, page_at(va, i))), [0, 0]);
        rig.map.store(page_at(va, 2), &[3]).unwrap();
        rig.map.store(va, &[2]).unwrap();
        assert_eq!([0, 1, 2].map(|i| byte(&rig.map, page_at(va, i))), [2, 0, 3]);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_copy_that_nobody_wrote_is_taken_away_and_had_from_the_object_again() {
    in_all_modes(|rig| {
        let (_script, object) = rig.object(4);
        let va = rig.map.map(&object, &private(4)).unwrap().start;
        rig.want_all_free();
        for _ in 0..2 {
            for i in 0..4 {
                assert_eq!(rig.load_page(page_at(va, i)), pattern(i), "in {:?}", rig.mode);
            }
            while rig.engine.daemon_step().freed > 0 {}
            let counts = rig.engine.machine().frame_counts();
            assert_eq!(counts.free, counts.total);
        }
        drop(object);
        rig.assert_nothing_left();
    });
}

/// With so few frames every page that is needed pushes another one out, perhaps one that is needed as well.
#[test]
fn n14_with_hardly_any_memory_every_case_of_a_fault_ends() {
    for (frames, mode) in (2..=4).flat_map(|frames| Mode::exact().into_iter().map(move |mode| (frames, mode))) {
        let rig = Rig::new(mode.with_frames(frames, 0));
        let _swap = rig.swap(PagerOps::PUT, 64, 64);
        let (_script, object) = rig.object(4);
        let own = anonymous(&rig, 4);
        let file = rig.map.map(&object, &private(4)).unwrap().start;
        let mut ends = [0, 0];
        let mut access = |va: VirtAddr, access: Access| match rig.map.fault(va, access) {
            Ok(_) => ends[0] += 1,
            Err(FaultError::NoMemory) => ends[1] += 1,
            Err(error) => panic!("{frames} frames in {mode:?}: {error}"),
        };
        let mut all = vec![own, file];
        for round in 0..3 {
            for va in &all {
                for page in 0..4 {
                    access(page_at(*va, page), Access::Write);
                    access(page_at(*va, (page + round) % 4), Access::Read);
                }
            }
            all.extend(rig.map.copied(own, 4 * PAGE_SIZE));
            all.extend(rig.map.copied(file, 4 * PAGE_SIZE));
            access(own, Access::Write);
            access(file, Access::Write);
        }
        assert!(ends[0] > ends[1], "{ends:?} with {frames} frames in {mode:?}");
        drop(object);
        rig.assert_nothing_left();
    }
}

#[test]
fn a_copy_over_its_own_source_is_what_was_there_before() {
    in_all_modes(|rig| {
        for pieces in [1, 3] {
            let base = rig.map.base();
            let request = MapRequest {
                place: Place::Fixed(base),
                ..MapRequest::read_write(8 * PAGE_SIZE)
            };
            rig.map.map_anonymous(&request).unwrap();
            for page in 0..8_u8 {
                rig.map.store(page_at(base, page.into()), &[page + 1]).unwrap();
            }
            if pieces > 1 {
                rig.map.advise(page_at(base, 2), 2 * PAGE_SIZE, Advice::Random).unwrap();
                rig.map.wire(page_at(base, 1), PAGE_SIZE).unwrap();
            }
            let copy = |start, pages, to| {
                let request = CopyRequest {
                    start: page_at(base, start),
                    len: pages * PAGE_SIZE,
                    place: Place::Fixed(page_at(base, to)),
                    serve: rig.mode.serve(),
                };
                rig.map.copy_to(&rig.map, &request).unwrap();
                (0..8)
                    .map(|page| byte(&rig.map, page_at(base, page)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(copy(0, 6, 1), [1, 1, 2, 3, 4, 5, 6, 8]);
            assert_eq!(copy(2, 6, 0), [2, 3, 4, 5, 6, 8, 6, 8]);
            assert_eq!(copy(0, 8, 0), [2, 3, 4, 5, 6, 8, 6, 8]);
            rig.map.store(base, &[9; 8 * PAGE_BYTES]).unwrap();
            rig.map.unmap(base, 8 * PAGE_SIZE).unwrap();
        }
        rig.assert_nothing_left();
    });
}
