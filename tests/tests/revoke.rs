//! Revoking: a device takes pages back from whoever has them mapped, wired, or in hand. On every machine.

use std::thread;

use quire_core::error::{Cause, Error, FaultError};
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, Object};
use quire_core::types::{Access, PAGE_SIZE, PageIndex};
use quire_tests::{Twist, in_all_modes, page_at, pattern};

const ALL: std::ops::Range<PageIndex> = PageIndex(0)..PageIndex(u64::MAX);

#[test]
fn f22_what_is_revoked_is_written_unmapped_everywhere_and_faults_again() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(4);
        let other = rig.another_map();
        let elsewhere = other.map(&object, &MapRequest::read_only(4 * PAGE_SIZE)).unwrap().start;
        rig.map.store(page_at(va, 1), &[71]).unwrap();
        rig.map.store(page_at(va, 2), &[72]).unwrap();
        other.fault(page_at(elsewhere, 1), Access::Read).unwrap();
        let gone = object
            .object()
            .revoke(PageIndex(1)..PageIndex(2), Dirty::Write)
            .unwrap();
        assert_eq!(gone, 1);
        assert_eq!(script.stored(1)[0], 71);
        assert!(rig.map.pmap().extract(page_at(va, 1)).is_none());
        assert!(other.pmap().extract(page_at(elsewhere, 1)).is_none());
        assert!(object.lookup(PageIndex(2)).is_some(), "others stay");
        // What the device has by now is what the next access sees.
        script.rewrite(1, 90);
        assert_eq!(rig.load_page(page_at(va, 1))[0], 90);
        other.clear().unwrap();
        drop((other, script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_wired_pages_go_as_well_and_are_unwired_without_harm() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        object.object().revoke(ALL, Dirty::Write).unwrap();
        assert_eq!(object.resident(), 0);
        assert_eq!(rig.load_page(va), pattern(0));
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(object.lookup(PageIndex(0)).unwrap().wire_count(), 0);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_a_busied_page_is_waited_for() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.load_page(va).fill(0);
        let busied = Object::busy_resident(object.object(), PageIndex(0)).unwrap();
        thread::scope(|scope| {
            let revoke = scope.spawn(|| object.object().revoke(ALL, Dirty::Discard));
            assert!(object.lookup(PageIndex(0)).is_some());
            drop(busied);
            revoke.join().unwrap().unwrap();
        });
        assert_eq!(object.resident(), 0);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_nothing_is_lost_when_the_writing_fails() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.store(va, &[7]).unwrap();
        script.all_puts(Some(Twist::Fail(Cause::Io)));
        let error = object.object().revoke(ALL, Dirty::Write).unwrap_err();
        assert!(matches!(error, Error::WriteBack { pages: 1, .. }), "{error}");
        assert_eq!(rig.load_page(va)[0], 7);
        script.all_puts(None);
        object.object().revoke(ALL, Dirty::Write).unwrap();
        assert_eq!(script.stored(0)[0], 7);
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_what_is_discarded_is_not_written() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        rig.map.store(va, &[7]).unwrap();
        object.object().revoke(ALL, Dirty::Discard).unwrap();
        assert_eq!(script.puts(), 0);
        assert_eq!(rig.load_page(va), pattern(0));
        drop((script, object));
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_after_a_revoke_for_good_accesses_fail_and_the_object_can_be_closed() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(2);
        rig.map.store(va, &[7]).unwrap();
        object.object().revoke_for_good(Dirty::Write).unwrap();
        assert_eq!(script.stored(0)[0], 7);
        for access in [Access::Read, Access::Write] {
            assert_eq!(rig.map.fault(va, access), Err(FaultError::Revoked));
        }
        assert!(rig.map.wire(va, PAGE_SIZE).is_err());
        rig.map.unmap(va, 2 * PAGE_SIZE).unwrap();
        object.release().unwrap();
        drop(script);
        rig.assert_nothing_left();
    });
}

#[test]
fn f22_of_an_object_without_a_pager_only_what_is_given_up_is_revoked() {
    in_all_modes(|rig| {
        let object = rig.engine.create_anonymous(2 * PAGE_SIZE).unwrap();
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        rig.map.store(va, &[7]).unwrap();
        for revoked in [
            object.object().revoke(ALL, Dirty::Write),
            object.object().revoke_for_good(Dirty::Write),
        ] {
            assert!(matches!(revoked, Err(Error::Unsupported(_))), "{revoked:?}");
        }
        assert_eq!(rig.load_page(va)[0], 7, "nothing is lost, and nothing was taken");
        object.object().revoke(ALL, Dirty::Discard).unwrap();
        assert_eq!(rig.load_page(va)[0], 0);
        drop(object);
        rig.assert_nothing_left();
    });
}
