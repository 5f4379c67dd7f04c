//! What a page by hand is: filled, dirty, wired, held.

use super::*;

#[test]
fn pages_made_by_hand_are_seen_through_a_map_and_reach_their_pager() {
    on_every_machine(|rig| {
        let (script, object, va) = rig.mapped(4);
        let page = grab(&object, 1, GrabFlags::empty()).unwrap();
        assert_eq!(bytes(page), vec![0; PAGE_BYTES], "never anybody else's");
        page.write(0, &[7; PAGE_BYTES], Caller::Program).unwrap();
        page.set_valid().unwrap();
        assert!(!page.is_dirty().unwrap(), "its pager has just that, says who filled it");
        page.set_dirty(Caller::Program).unwrap();
        page.release_exclusive().unwrap();
        assert_eq!(rig.load_page(page_at(va, 1)), vec![7; PAGE_BYTES]);
        assert!(!script.calls().contains(&Call::Get(1, 1)));
        rig.map.store(page_at(va, 1), &[8]).unwrap();
        page.shared("read").unwrap();
        assert_eq!(bytes(page)[..2], [8, 7]);
        page.write(1, &[9], Caller::Program).unwrap();
        page.release_shared().unwrap();
        assert_eq!(rig.load_page(page_at(va, 1))[..3], [8, 9, 7]);
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[..3], [8, 9, 7]);
        page.exclusive("clean").unwrap();
        page.write(2, &[1], Caller::Program).unwrap();
        assert!(page.is_dirty().unwrap());
        page.set_clean().unwrap();
        assert!(!page.is_dirty().unwrap());
        page.release_exclusive().unwrap();
        object.object().flush_all(FlushFlags::empty()).unwrap();
        assert_eq!(script.stored(1)[2], 7, "it was said to be there");
        is_misuse(page.read(0, &mut [0]));
        page.exclusive("bounds").unwrap();
        is_misuse(page.read(4095, &mut [0; 2]));
        is_misuse(page.write(usize::MAX, &[0; 2], Caller::Program));
        page.read(4096, &mut []).unwrap();
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn a_pager_that_wants_to_be_asked_before_a_write_is_asked_for_programs_and_can_refuse() {
    on_every_machine(|rig| {
        let (script, pager) = Script::with(PagerOps::PUT | PagerOps::PREPARE_WRITE, 256);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let page = resident(&object, 0);
        page.exclusive("write").unwrap();
        script.prepare_write_fails(Some(quire_core::error::Cause::Errno(28)));
        assert!(matches!(
            page.write(0, b"x", Caller::Program),
            Err(PageError::Failed(Error::Pager(_)))
        ));
        assert_eq!((page.is_dirty(), bytes(page)), (Ok(false), pattern(0)));
        page.write(0, b"x", Caller::Pager).unwrap();
        page.set_clean().unwrap();
        script.prepare_write_fails(None);
        page.set_dirty(Caller::Program).unwrap();
        let asked = script
            .calls()
            .iter()
            .filter(|call| **call == Call::PrepareWrite(0, 1))
            .count();
        assert_eq!(asked, 2);
        page.release_exclusive().unwrap();
        done(rig, object);
    });
}

#[test]
fn pages_of_an_object_that_cannot_be_written_are_not_dirty() {
    on_every_machine(|rig| {
        let (_script, pager) = Script::with(PagerOps::empty(), 256);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        let page = resident(&object, 0);
        page.exclusive("write").unwrap();
        for refused in [page.write(0, b"x", Caller::Program), page.set_dirty(Caller::Pager)] {
            assert!(matches!(refused, Err(PageError::Failed(Error::Unsupported(_)))));
        }
        assert_eq!((page.is_dirty(), bytes(page)), (Ok(false), pattern(0)));
        // A new one is filled by hand, with what its pager has.
        let new = grab(&object, 1, GrabFlags::empty()).unwrap();
        new.write(0, &pattern(1), Caller::Pager).unwrap();
        new.set_valid().unwrap();
        for page in [page, new] {
            page.release_exclusive().unwrap();
        }
        done(rig, object);
    });
}

#[test]
fn a_wired_page_stays_and_its_wirings_are_its_own() {
    on_every_machine(|rig| {
        let (script, object, va) = rig.mapped(4);
        let page = resident(&object, 1);
        is_misuse(page.wire());
        page.shared("wire").unwrap();
        page.wire().unwrap();
        page.wire().unwrap();
        page.release_shared().unwrap();
        rig.map.wire(page_at(va, 1), PAGE_SIZE).unwrap();
        assert_eq!(page.wire_count(), Ok(3));
        page.exclusive("free").unwrap();
        is_misuse(page.free());
        is_misuse(page.remove(Caller::Program));
        page.release_exclusive().unwrap();
        rig.map.unwire(page_at(va, 1), PAGE_SIZE).unwrap();
        rig.want_all_free();
        rig.engine.daemon_step();
        assert_eq!(page.wire_count(), Ok(2), "it is in memory still");
        page.unwire().unwrap();
        page.unwire().unwrap();
        is_misuse(page.unwire());
        rig.engine.daemon_step();
        rig.engine.daemon_step();
        assert_eq!(page.wire_count(), Err(PageError::Stale));
        drop(script);
        done(rig, object);
    });
}

#[test]
fn a_held_page_that_its_object_loses_makes_its_handle_stale_and_owes_nothing() {
    on_every_machine(|rig| {
        let (_script, object, va) = rig.mapped(4);
        let page = resident(&object, 3);
        page.shared("hold").unwrap();
        page.wire().unwrap();
        page.release_shared().unwrap();
        rig.map.wire(page_at(va, 3), PAGE_SIZE).unwrap();
        object.object().set_size(2 * PAGE_SIZE).unwrap();
        assert_eq!(page.unwire(), Err(PageError::Stale));
        object.object().set_size(4 * PAGE_SIZE).unwrap();
        // One wiring was lost, that of the entry, and not two: the other map's is not taken instead.
        let other = rig.another_map();
        let there = other
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        other.wire(page_at(there, 3), PAGE_SIZE).unwrap();
        let new = PageHandle::lookup(object.object(), PageIndex(3)).unwrap();
        assert_eq!(new.wire_count(), Ok(1));
        rig.map.unwire(page_at(va, 3), PAGE_SIZE).unwrap();
        assert_eq!(new.wire_count(), Ok(1), "that was the lost one");
        other.unwire(page_at(there, 3), PAGE_SIZE).unwrap();
        assert_eq!(new.wire_count(), Ok(0));
        other.clear().unwrap();
        drop(other);
        done(rig, object);
    });
}
