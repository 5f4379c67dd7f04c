//! Anonymous objects and swap.

use quire_core::flush::FlushFlags;
use quire_core::map::MapRequest;
use quire_core::object::ObjectRef;
use quire_core::types::{MAX_OBJECT_SIZE, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_tests::{Rig, in_all_modes, page_at};

/// An anonymous object, mapped from its start to its end to be read and written.
fn mapped(rig: &Rig, pages: u64) -> (ObjectRef, VirtAddr) {
    let object = rig.engine.create_anonymous(pages * PAGE_SIZE).expect("an object");
    let range = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .expect("a mapping");
    (object, range.start)
}

#[test]
fn anonymous_memory_begins_as_zeros_keeps_what_is_stored_and_is_not_written_when_it_ends() {
    in_all_modes(|rig| {
        let (object, va) = mapped(&rig, 8);
        assert!(object.is_anonymous() && !object.has_slot(quire_core::types::PageIndex(0)));
        assert_eq!(rig.load_page(page_at(va, 3)), [0; PAGE_BYTES]);
        rig.map.store(page_at(va, 3), &[7; 100]).expect("a store");
        assert_eq!(rig.load_page(page_at(va, 3))[..101], [&[7; 100][..], &[0]].concat());
        rig.engine.sync(FlushFlags::empty()).expect("memory is not synced");
        object
            .object()
            .flush_all(FlushFlags::DURABLE)
            .expect("memory is not synced");
        assert_eq!(rig.engine.stats().counts().puts, 0);
        object.release().expect("mapped still");
        rig.assert_nothing_left();
    });
}

#[test]
fn an_anonymous_object_may_be_as_large_as_any_and_no_larger() {
    in_all_modes(|rig| {
        let object = rig.engine.create_anonymous(MAX_OBJECT_SIZE).expect("an object");
        assert_eq!(object.size(), MAX_OBJECT_SIZE);
        rig.engine.create_anonymous(MAX_OBJECT_SIZE + 1).unwrap_err();
        object.release().expect("nothing to write");
        rig.assert_nothing_left();
    });
}
