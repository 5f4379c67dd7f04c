//! Mappings as programs use them: parts that go, are replaced or protected, long ones, several of one object.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

mod common;

use quire_core::error::Error;
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::map_ops::Place;
use quire_core::mapped::{Residency, SyncFlags};
use quire_core::pager::PagerOps;
use quire_core::types::{Access, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Script, Twist, pattern};

use common::{Rig, both, in_a_process, is_mapped, load, own_place, page_at, peek, poke, store};

#[test]
fn the_middle_is_unmapped_and_the_rest_goes_on() {
    both(|serve| {
        let rig = Rig::new(serve, 1024);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 100 * PAGE_SIZE).unwrap();
        let at = own_place();
        rig.map.map(&object, &rig.at(at, 100)).unwrap();
        for page in 0..100 {
            store(page_at(at, page), 1 + page as u8);
        }
        rig.map.unmap(page_at(at, 40), 20 * PAGE_SIZE).unwrap();
        for page in 0..100 {
            if (40..60).contains(&page) {
                assert_eq!(peek(page_at(at, page)), None, "page {page}");
            } else {
                assert_eq!(load(page_at(at, page)), 1 + page as u8);
                store(page_at(at, page), 101 + page as u8);
            }
        }
        let (_, other) = Script::new();
        let other = rig.engine.create_object(other, 20 * PAGE_SIZE).unwrap();
        rig.map.map(&other, &rig.at(page_at(at, 40), 20)).unwrap();
        for page in 0..20 {
            assert_eq!(load(page_at(at, 40 + page)), pattern(page)[0]);
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        for page in 0..100 {
            let plus = if (40..60).contains(&page) { 1 } else { 101 };
            assert_eq!(script.stored(page)[0], plus + page as u8, "page {page}");
        }
        other.release().unwrap();
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_part_is_replaced_and_served_otherwise() {
    both(|serve| {
        let rig = Rig::new(serve, 1024);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 64 * PAGE_SIZE).unwrap();
        let (other_script, other) = Script::new();
        let other = rig.engine.create_object(other, 64 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(64)).unwrap().start;
        for page in 0..64 {
            store(page_at(at, page), 7);
        }
        let otherwise = if serve == Serve::Threads {
            Serve::InThread
        } else {
            Serve::Threads
        };
        for round in 0..8 {
            let request = MapRequest {
                serve: if round % 2 == 0 { otherwise } else { serve },
                ..rig.at(page_at(at, 16 + round), 32)
            };
            rig.map.map(&other, &request).unwrap();
            for page in 0..32 {
                store(page_at(at, 16 + round + page), 0x40 + round as u8);
            }
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        other.object().flush_all(FlushFlags::empty()).unwrap();
        for page in 0..64 {
            assert_eq!(script.stored(page)[0], 7, "page {page}");
        }
        for page in 0..32 {
            assert_eq!(other_script.stored(page)[0], 0x47, "page {page}");
        }
        other.release().unwrap();
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn protection_of_parts_goes_down_and_up_with_the_data_kept() {
    both(|serve| {
        let rig = Rig::new(serve, 1024);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 64 * PAGE_SIZE).unwrap();
        let read_only = MapRequest {
            prot: Prot::READ,
            ..rig.read_write(64)
        };
        let at = rig.map.map(&object, &read_only).unwrap().start;
        assert_eq!(load(page_at(at, 3)), pattern(3)[0]);
        assert!(!poke(at, 1), "a mapping without the right cannot be written");
        rig.map.protect(at, 64 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        for page in 0..64 {
            store(page_at(at, page), 0x80 + page as u8);
        }
        rig.map.protect(page_at(at, 10), 20 * PAGE_SIZE, Prot::READ).unwrap();
        rig.map.protect(page_at(at, 15), 10 * PAGE_SIZE, Prot::empty()).unwrap();
        for page in 0..64 {
            let va = page_at(at, page);
            let (readable, writable) = (!(15..25).contains(&page), !(10..30).contains(&page));
            assert_eq!(peek(va), readable.then_some(0x80 + page as u8), "page {page}");
            assert_eq!(poke(va, 0x80 + page as u8), writable, "page {page}");
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        for page in 0..64 {
            assert_eq!(script.stored(page)[0], 0x80 + page as u8, "page {page}");
        }
        rig.map.protect(at, 64 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        for page in 0..64 {
            assert_eq!(load(page_at(at, page)), 0x80 + page as u8, "page {page}");
            store(page_at(at, page), 0x11);
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        for page in 0..64 {
            assert_eq!(script.stored(page)[0], 0x11, "page {page}");
        }
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_mapping_lies_at_the_address_of_the_callers_choice_unless_something_is_there() {
    both(|serve| {
        let rig = Rig::new(serve, 256);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 16 * PAGE_SIZE).unwrap();
        let free = own_place();
        let request = rig.at(page_at(free, 8), 16);
        assert_eq!(rig.map.map(&object, &request).unwrap().start, page_at(free, 8));
        assert_eq!(load(page_at(free, 9)), pattern(1)[0]);

        // What is the program's own is left alone, whatever of the range it covers.
        let own = vec![0x5a_u8; 8 * PAGE_BYTES];
        let inside = VirtAddr(own.as_ptr() as u64).page_floor();
        for place in [
            Place::Fixed(page_at(inside, 2)),
            Place::FixedNoReplace(page_at(inside, 2)),
        ] {
            let request = MapRequest { place, ..request };
            let error = rig.map.map(&object, &request).unwrap_err();
            assert!(matches!(error, Error::Occupied(_)), "{error}");
        }
        assert!(own.iter().all(|byte| *byte == 0x5a));
        assert_eq!(rig.map.entry_count(), 1);
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn an_object_of_64_tib_is_mapped_whole_and_costs_what_is_touched() {
    both(|serve| {
        let rig = Rig::new(serve, 256);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 1 << 46).unwrap();
        let at = rig
            .map
            .map(&object, &rig.read_write((1 << 46) / PAGE_SIZE))
            .unwrap()
            .start;
        let pages = || (0..640).map(|i| i * ((1 << 34) / 640) + i % 7);
        for page in pages() {
            store(page_at(at, page), 0x77);
        }
        for page in pages() {
            assert_eq!(load(page_at(at, page)), 0x77);
        }
        rig.map.unmap(at, 1 << 46).unwrap();
        object.release().unwrap();
        for page in pages() {
            assert_eq!(script.stored(page)[0], 0x77);
        }
        rig.end();
    });
}

#[test]
fn every_mapping_of_an_object_shows_the_same_bytes_and_tells_of_its_writes() {
    both(|serve| {
        let rig = Rig::new(serve, 256);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 32 * PAGE_SIZE).unwrap();
        let one = rig.map.map(&object, &rig.read_write(32)).unwrap().start;
        let two = rig.map.map(&object, &rig.read_write(32)).unwrap().start;
        let read_only = MapRequest {
            serve,
            ..MapRequest::read_only(32 * PAGE_SIZE)
        };
        let three = rig.map.map(&object, &read_only).unwrap().start;
        for page in 0..32 {
            assert_eq!(load(page_at(three, page)), pattern(page)[0]);
            assert_eq!(load(page_at(two, page)), pattern(page)[0]);
        }
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.puts(), 0, "what was only read is not written");
        for round in 1..6u8 {
            for page in 0..32 {
                let through = if (page + u64::from(round)).is_multiple_of(2) {
                    one
                } else {
                    two
                };
                store(page_at(through, page), round);
                for mapping in [one, two, three] {
                    assert_eq!(load(page_at(mapping, page)), round);
                }
            }
            object.object().flush_all(FlushFlags::empty()).unwrap();
            for page in 0..32 {
                assert_eq!(script.stored(page)[0], round, "page {page}");
            }
            let puts = script.puts();
            object.object().flush_all(FlushFlags::empty()).unwrap();
            assert_eq!(script.puts(), puts, "what was written is clean");
        }
        rig.map.unmap(one, 32 * PAGE_SIZE).unwrap();
        store(two, 0xaa);
        assert_eq!(load(three), 0xaa);
        rig.map.unmap(two, 32 * PAGE_SIZE).unwrap();
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(0)[0], 0xaa);
        assert!(!poke(three, 1));
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn the_smallest_budget_is_enough_to_go_on() {
    both(|serve| {
        let rig = Rig::new(serve, 25);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 200 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(200)).unwrap().start;
        for round in 1..4u8 {
            for page in 0..200 {
                assert_eq!(
                    load(page_at(at, page)),
                    if round == 1 { pattern(page)[0] } else { round - 1 }
                );
                store(page_at(at, page), round);
            }
        }
        rig.map.clear().unwrap();
        object.release().unwrap();
        assert!((0..200).all(|page| script.stored(page)[0] == 3));
        rig.end();
    });
}

#[test]
fn two_engines_serve_one_process() {
    both(|serve| {
        let otherwise = if serve == Serve::Threads {
            Serve::InThread
        } else {
            Serve::Threads
        };
        let rigs = [Rig::new(serve, 128), Rig::new(otherwise, 128)];
        let objects = rigs.each_ref().map(|rig| {
            let (script, pager) = Script::new();
            let object = rig.engine.create_object(pager, 300 * PAGE_SIZE).unwrap();
            let at = rig.map.map(&object, &rig.read_write(300)).unwrap().start;
            (script, object, at)
        });
        std::thread::scope(|scope| {
            for (number, (_, _, at)) in objects.iter().enumerate() {
                scope.spawn(move || {
                    for page in 0..600 {
                        store(page_at(*at, page % 300), 1 + number as u8);
                    }
                });
            }
        });
        let [first, second] = rigs;
        let [(one, its, _), (two, others, _)] = objects;
        its.release().unwrap();
        first.end();
        assert!((0..300).all(|page| one.stored(page)[0] == 1));
        others.release().unwrap();
        second.end();
        assert!((0..300).all(|page| two.stored(page)[0] == 2));
    });
}

#[test]
fn two_threads_at_one_page_ask_its_pager_once() {
    both(|serve| {
        let rig = Rig::new(serve, 128);
        let (script, pager) = Script::new();
        script.next_gets([Twist::Defer]);
        let object = rig.engine.create_object(pager, PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(1)).unwrap().start;
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| scope.spawn(move || load(at)));
            let pending = script.take_pending(1);
            script.finish(&pending[0]);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), pattern(0)[0]);
            }
        });
        assert_eq!(script.gets(), 1);
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn the_kernel_agrees_about_what_is_mapped() {
    both(|serve| {
        let rig = Rig::new(serve, 256);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 16 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(16)).unwrap().start;
        let check = |resident: bool, mapped: bool, what: &str| {
            let mut seen = [Residency::empty(); 16];
            rig.map.residency(at, 16 * PAGE_SIZE, &mut seen).unwrap();
            for (page, seen) in seen.iter().enumerate() {
                assert_eq!(seen.contains(Residency::RESIDENT), resident, "{what}: page {page}");
                assert_eq!(seen.contains(Residency::MAPPED), mapped, "{what}: page {page}");
                assert_eq!(is_mapped(page_at(at, page as u64)), mapped, "{what}: page {page}");
            }
        };
        let len = 16 * PAGE_SIZE;
        check(false, false, "untouched");
        rig.map.prefetch(at, len).unwrap();
        check(true, false, "prefetched");
        rig.map.populate(at, len, Access::Read).unwrap();
        check(true, true, "populated");
        rig.map.cold(at, len).unwrap();
        check(true, true, "cold");
        rig.map.dont_need(at, len).unwrap();
        check(true, false, "not needed");
        rig.map.populate(at, len, Access::Write).unwrap();
        check(true, true, "populated to be written");
        for page in 0..16 {
            assert!(poke(page_at(at, page), 9), "a populated page serves a system call");
        }
        rig.map.sync(at, len, SyncFlags::INVALIDATE).unwrap();
        check(false, false, "invalidated");
        assert!((0..16).all(|page| script.stored(page)[0] == 9));
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn copies_and_the_pointer_see_the_same() {
    both(|serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 200 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(200)).unwrap().start;
        for page in 0..200 {
            let va = VirtAddr(page_at(at, page).0 + 4090);
            let len = if page == 199 { 6 } else { 12 };
            rig.map.copy_in(va, &[page as u8; 12][..len]).unwrap();
            assert_eq!(load(va), page as u8);
            store(va, 0xf0);
            let mut seen = [0; 2];
            rig.map.copy_out(va, &mut seen).unwrap();
            assert_eq!(seen, [0xf0, page as u8]);
        }
        rig.map.sync(at, 200 * PAGE_SIZE, SyncFlags::INVALIDATE).unwrap();
        assert!((0..200).all(|page| script.stored(page)[4090..4092] == [0xf0, page as u8]));
        object.release().unwrap();
        rig.end();
    });
}

/// Trap 2: whoever copies does not hold a page while it touches the caller's buffer, which may be that page.
#[test]
fn a_buffer_for_copies_may_be_served_memory_itself() {
    both(|serve| {
        let rig = Rig::new(serve, 64);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 100 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(100)).unwrap().start;
        let again = rig.map.map(&object, &rig.read_write(100)).unwrap().start;
        for page in 0..100 {
            for from in [page, (page + 37) % 100] {
                // SAFETY: mapped above; no Rust object lies there.
                let buffer =
                    unsafe { std::slice::from_raw_parts_mut(page_at(again, page).0 as usize as *mut u8, PAGE_BYTES) };
                rig.map.copy_out(page_at(at, from), buffer).unwrap();
                let want = load(page_at(at, from));
                assert_eq!(buffer[0], want);
                rig.map.copy_in(page_at(at, from), buffer).unwrap();
            }
        }
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_pager_that_asks_is_told_before_the_first_write() {
    both(|serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::with(PagerOps::PUT | PagerOps::PREPARE_WRITE, 16);
        let object = rig.engine.create_object(pager, 32 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(32)).unwrap().start;
        let again = rig.map.map(&object, &rig.read_write(32)).unwrap().start;
        let asked = || {
            let calls = script.calls();
            calls
                .iter()
                .filter(|call| matches!(call, quire_tests::Call::PrepareWrite(..)))
                .count()
        };
        for page in 0..32 {
            load(page_at(at, page));
            load(page_at(again, page));
        }
        assert_eq!(asked(), 0);
        for round in 1..4u8 {
            for page in 0..32 {
                store(page_at(at, page), round);
                assert_eq!(
                    asked(),
                    usize::from(round - 1) * 32 + page as usize + 1,
                    "{:?}",
                    script.calls()
                );
                store(page_at(again, page), round + 100);
                store(page_at(at, page), round + 50);
                assert_eq!(asked(), usize::from(round - 1) * 32 + page as usize + 1, "asked once");
            }
            object.object().flush_all(FlushFlags::empty()).unwrap();
            assert!((0..32).all(|page| script.stored(page)[0] == round + 50));
        }
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn locked_memory_is_evicted_and_loses_nothing() {
    both(|serve| {
        let rig = Rig::new(serve, 64);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
        rig.map.populate(at, 8 * PAGE_SIZE, Access::Write).unwrap();
        // SAFETY: mapped above.
        let locked = unsafe { libc::mlock(at.0 as usize as *const libc::c_void, 8 * PAGE_BYTES) };
        assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
        for round in 1..20u8 {
            for page in 0..8 {
                store(page_at(at, page), round);
            }
            let freed = PutFlags::CLEANIT | PutFlags::FREE;
            object.object().put(PageIndex(0)..PageIndex(8), freed).unwrap();
            for page in 0..8 {
                assert!(!is_mapped(page_at(at, page)), "page {page} is still mapped");
                assert_eq!(script.stored(page)[0], round, "page {page}");
            }
        }
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_forked_child_has_none_of_the_range() {
    both(|serve| {
        let rig = Rig::new(serve, 64);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
        store(at, 1);
        rig.map.protect(page_at(at, 4), PAGE_SIZE, Prot::READ).unwrap();
        let (resident, hole, protected) = (at, page_at(at, 7), page_at(at, 4));
        for va in [resident, hole, protected] {
            // SAFETY: the child does nothing but look at the address, and end.
            let child = unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                    load(va);
                    libc::_exit(0);
                }
                child
            };
            let mut status = 0;
            // SAFETY: the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFSIGNALED(status), "the child read something at {va}");
            assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
        }
        assert_eq!(load(at), 1);
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn what_was_unmapped_is_sigsegv() {
    let signals = in_a_process("what_was_unmapped_is_sigsegv", |serve| {
        let rig = Rig::new(serve, 64);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = own_place();
        rig.map.map(&object, &rig.at(at, 8)).unwrap();
        store(at, 1);
        rig.map.unmap(at, PAGE_SIZE).unwrap();
        load(page_at(at, 1));
        load(at);
    });
    assert_eq!(signals, [Some(libc::SIGSEGV); 2]);
}

#[test]
fn a_write_without_the_right_is_sigsegv() {
    let signals = in_a_process("a_write_without_the_right_is_sigsegv", |serve| {
        let rig = Rig::new(serve, 64);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(8)).unwrap().start;
        store(at, 1);
        rig.map.protect(at, PAGE_SIZE, Prot::READ).unwrap();
        load(at);
        store(at, 2);
    });
    assert_eq!(signals, [Some(libc::SIGSEGV); 2]);
}

#[test]
fn behind_the_object_is_sigbus() {
    let signals = in_a_process("behind_the_object_is_sigbus", |serve| {
        let rig = Rig::new(serve, 64);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(16)).unwrap().start;
        load(page_at(at, 7));
        load(page_at(at, 8));
    });
    assert_eq!(signals, [Some(libc::SIGBUS); 2]);
}
