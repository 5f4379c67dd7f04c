//! Flush by the BSDs' flags. On every kind of soft machine.

use std::ops::Range;
use std::thread;

use quire_core::error::{Cause, Error};
use quire_core::flush::{FlushFlags, Put, PutFlags};
use quire_core::object::Object;
use quire_core::page::Dirtiness;
use quire_core::types::{PAGE_SIZE, PageIndex, VirtAddr};
use quire_tests::{Call, Rig, Twist, in_all_modes, page_at, pattern};

fn dirty(rig: &Rig, va: VirtAddr, pages: impl IntoIterator<Item = u64>) {
    for i in pages {
        rig.map.store(page_at(va, i), &[0xd1]).unwrap();
    }
}

fn touch(rig: &Rig, va: VirtAddr, pages: impl IntoIterator<Item = u64>) {
    for i in pages {
        rig.map.load(page_at(va, i), &mut [0]).unwrap();
    }
}

const fn pages(range: Range<u64>) -> Range<PageIndex> {
    PageIndex(range.start)..PageIndex(range.end)
}

fn resident(object: &Object, pages: Range<u64>) -> Vec<u64> {
    pages.filter(|i| object.lookup(PageIndex(*i)).is_some()).collect()
}

#[test]
fn n2_the_numbers_are_those_of_the_bsds() {
    let bits = [
        PutFlags::CLEANIT,
        PutFlags::SYNCIO,
        PutFlags::DEACTIVATE,
        PutFlags::FREE,
        PutFlags::ALLPAGES,
    ]
    .map(|flag| flag.bits());
    assert_eq!(bits, [1, 2, 4, 8, 0x10]);
}

#[test]
fn s61_s85_cleanit_writes_dirty_pages_which_are_clean_then() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(8);
        dirty(&rig, va, [1, 2, 5]);
        touch(&rig, va, [3]);
        let done = object.object().put(pages(0..8), PutFlags::CLEANIT).unwrap();
        assert_eq!(
            done,
            Put {
                written: 3,
                ..Put::default()
            }
        );
        assert_eq!(object.dirty_pages(), 0);
        assert!([1, 2, 5].iter().all(|i| script.stored(*i)[0] == 0xd1));
        object.object().put(pages(0..8), PutFlags::CLEANIT).unwrap();
        assert_eq!(script.puts(), 2, "clean pages are not written");
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s62_without_cleanit_a_put_waits_for_no_page_and_asks_no_pager() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        touch(&rig, va, 0..3);
        let calls = script.calls();
        let busy = Object::busy_resident(object.object(), PageIndex(1)).unwrap();
        let done = object.object().put(pages(0..4), PutFlags::FREE).unwrap();
        assert_eq!(
            done,
            Put {
                freed: 2,
                kept: 1,
                ..Put::default()
            },
            "S65: the busy page stays"
        );
        assert_eq!(
            object
                .object()
                .put(pages(0..4), PutFlags::DEACTIVATE)
                .unwrap()
                .deactivated,
            0,
            "S91"
        );
        assert_eq!(script.calls(), calls);
        drop(busy);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s63_syncio_has_one_put_under_way_at_a_time() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(8);
        dirty(&rig, va, [0, 2, 4]);
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let put = scope.spawn(|| object.object().put(pages(0..8), PutFlags::CLEANIT | PutFlags::SYNCIO));
            for n in 1..=3 {
                let ios = script.take_pending(1);
                assert_eq!((ios.len(), script.puts()), (1, n));
                script.finish(&ios[0]);
            }
            assert_eq!(put.join().unwrap().unwrap().written, 3);
        });
        script.all_puts(None);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s64_s66_s92_deactivate_comes_before_free_and_leaves_wired_pages() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(4);
        touch(&rig, va, 0..4);
        rig.map.wire(page_at(va, 2), PAGE_SIZE).unwrap();
        let done = object
            .object()
            .put(pages(0..4), PutFlags::DEACTIVATE | PutFlags::FREE)
            .unwrap();
        assert_eq!(
            done,
            Put {
                deactivated: 3,
                ..Put::default()
            }
        );
        assert_eq!(object.resident(), 4);
        rig.map.unwire(page_at(va, 2), PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s65_free_with_cleanit_writes_first_and_frees_all_but_wired_pages() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(8);
        touch(&rig, va, 0..8);
        dirty(&rig, va, 2..4);
        rig.map.wire(page_at(va, 6), PAGE_SIZE).unwrap();
        let done = object
            .object()
            .put(pages(1..7), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!(
            done,
            Put {
                written: 2,
                freed: 5,
                kept: 1,
                deactivated: 0
            }
        );
        assert_eq!(resident(&object, 0..8), [0, 6, 7]);
        rig.map.unwire(page_at(va, 6), PAGE_SIZE).unwrap();
        let mut byte = [0];
        rig.map.load(page_at(va, 2), &mut byte).unwrap();
        assert_eq!(
            (byte[0], script.stored(3)[0]),
            (0xd1, 0xd1),
            "it comes back from the pager"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s74_free_without_cleanit_discards_what_is_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, 0..2);
        let done = object.object().put(pages(0..2), PutFlags::FREE).unwrap();
        assert_eq!((done.freed, script.puts()), (2, 0));
        assert_eq!(rig.load_page(va), pattern(0));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s67_allpages_means_all_whatever_the_range() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(6);
        dirty(&rig, va, 0..6);
        let done = object
            .object()
            .put(pages(3..3), PutFlags::CLEANIT | PutFlags::ALLPAGES)
            .unwrap();
        assert_eq!((done.written, script.puts()), (6, 1));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s68_d9_a_range_that_ends_beyond_the_object_ends_with_it() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(6);
        dirty(&rig, va, 0..6);
        let done = object
            .object()
            .put(pages(4..u64::MAX), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!((done.written, done.freed), (2, 2));
        assert_eq!(
            object.object().put(pages(100..200), PutFlags::CLEANIT | PutFlags::FREE),
            Ok(Put::default())
        );
        assert_eq!(resident(&object, 0..6), [0, 1, 2, 3]);
        assert_eq!(script.puts(), 1);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s69_what_is_done_does_not_depend_on_how_full_the_object_is() {
    in_all_modes(|rig| {
        for filled in [0..1, 0..64, 0..512] {
            let (script, object, va) = rig.mapped(512);
            touch(&rig, va, filled.clone());
            dirty(&rig, va, [0, 200, 201, 400]);
            let done = object.object().put(pages(200..401), PutFlags::CLEANIT).unwrap();
            assert_eq!(done.written, 3);
            let puts: Vec<_> = script
                .calls()
                .into_iter()
                .filter(|call| matches!(call, Call::Put(..)))
                .collect();
            assert_eq!(
                puts,
                [Call::Put(200, 2), Call::Put(400, 1)],
                "with {filled:?} in memory"
            );
            assert_eq!(
                object.object().put(pages(0..512), PutFlags::CLEANIT).unwrap().written,
                1
            );
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn s77_s78_a_page_that_is_dirty_by_its_modified_bit_alone_is_not_freed_unwritten() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        // Mapped writable along with the page that is written, and then written without a fault, where the machine allows it.
        dirty(&rig, va, [0]);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        touch(&rig, va, [0, 1]);
        dirty(&rig, va, [1]);
        rig.map.store(page_at(va, 0), &[0xee]).unwrap();
        let done = object
            .object()
            .put(pages(0..2), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!((done.written, done.freed), (2, 2));
        assert_eq!((script.stored(0)[0], script.stored(1)[0]), (0xee, 0xd1));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s89_d4_a_page_that_could_not_be_written_is_neither_freed_nor_clean() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        dirty(&rig, va, [0, 2]);
        touch(&rig, va, [3]);
        script.next_puts([Twist::Fail(Cause::Errno(28))]);
        let error = object
            .object()
            .put(pages(0..4), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap_err();
        assert!(matches!(error, Error::WriteBack { pages: 1, .. }), "{error}");
        assert_eq!(resident(&object, 0..4), [0], "the others were dealt with");
        assert_eq!(object.lookup(PageIndex(0)).unwrap().dirtiness(), Dirtiness::Dirty);
        assert_eq!(rig.engine.stats().counts().writes_failed, 1);
        let done = object
            .object()
            .put(pages(0..4), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!((done.written, done.freed), (1, 1));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn d4_every_caller_whose_pages_failed_is_told() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, 0..2);
        script.all_puts(Some(Twist::Fail(Cause::Io)));
        for _ in 0..3 {
            object.object().put(pages(0..2), PutFlags::CLEANIT).unwrap_err();
        }
        assert_eq!(rig.engine.stats().counts().writes_failed, 3);
        script.all_puts(None);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn d5_each_page_of_a_run_is_judged_by_its_own_state() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        dirty(&rig, va, 0..4);
        rig.map.wire(page_at(va, 1), PAGE_SIZE).unwrap();
        let done = object
            .object()
            .put(pages(0..4), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!(script.puts(), 1, "one run");
        assert_eq!(
            done,
            Put {
                written: 4,
                freed: 3,
                kept: 1,
                deactivated: 0
            }
        );
        assert_eq!(resident(&object, 0..4), [1], "the wired one of the run");
        rig.map.unwire(page_at(va, 1), PAGE_SIZE).unwrap();
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s151_s152_an_empty_object_and_no_flags_change_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        let all = PutFlags::all();
        assert_eq!(object.object().put(pages(0..4), all), Ok(Put::default()));
        dirty(&rig, va, 0..2);
        let calls = script.calls();
        assert_eq!(object.object().put(pages(0..4), PutFlags::empty()), Ok(Put::default()));
        assert_eq!((script.calls(), object.dirty_pages()), (calls, 2));
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn s75_a_busy_page_is_waited_for_and_then_judged_anew() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        dirty(&rig, va, [0, 2]);
        let busy = Object::busy_resident(object.object(), PageIndex(2)).unwrap();
        thread::scope(|scope| {
            let put = scope.spawn(|| object.object().put(pages(0..4), PutFlags::CLEANIT));
            while rig.engine.stats().counts().busy_waits == 0 {
                thread::yield_now();
            }
            assert!(
                !object.lookup(PageIndex(0)).unwrap().is_busied(),
                "it sleeps with no page busied"
            );
            drop(busy);
            assert_eq!(put.join().unwrap().unwrap().written, 2);
        });
        assert_eq!(script.puts(), 2);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn n5_a_page_that_is_modified_while_it_is_written_stays_dirty() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        dirty(&rig, va, [0, 1]);
        script.all_puts(Some(Twist::Defer));
        thread::scope(|scope| {
            let flush = scope.spawn(|| object.object().put(pages(0..2), PutFlags::CLEANIT));
            let put = script.take_pending(1).remove(0);
            // As a machine does that finds a store of which nobody was told.
            object.lookup(PageIndex(1)).unwrap().note_modified();
            script.finish(&put);
            flush.join().unwrap().unwrap();
        });
        let page = |index| object.lookup(PageIndex(index)).unwrap().dirtiness();
        assert_eq!((page(0), page(1)), (rig.written_and_mapped(), Dirtiness::Dirty));
        script.all_puts(None);
        object.object().put(pages(0..2), PutFlags::CLEANIT).unwrap();
        assert_eq!(script.calls().last(), Some(&Call::Put(1, 1)));
        drop(object);
        rig.assert_nothing_left();
    });
}
