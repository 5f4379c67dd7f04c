//! Reading and writing through a map: as a copy, and as a processor does, beside other mappings. On every kind of soft machine.

use quire_core::error::FaultError;
use quire_core::map::MapRequest;
use quire_core::types::{PAGE_SIZE, VirtAddr};
use quire_tests::{in_all_modes, page_at};

#[test]
fn copies_through_a_map_fault_and_make_dirty_but_map_nothing() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(3);
        let text: Vec<u8> = (0..9000_u32).map(|i| (i % 251) as u8).collect();
        let at = VirtAddr(va.0 + 1000);
        rig.map.copy_in(at, &text).unwrap();
        let mut back = vec![0; text.len()];
        rig.map.copy_out(at, &mut back).unwrap();
        assert_eq!(back, text);
        assert!((0..3).all(|i| rig.map.pmap().extract(page_at(va, i)).is_none()));
        assert_eq!(object.dirty_pages(), 3);
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(script.stored(0)[1000..], text[..3096]);
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn a_copy_that_runs_off_the_mapping_tells_how_far_it_came() {
    in_all_modes(|rig| {
        let (_script, object, va) = rig.mapped(1);
        let stopped = rig.map.copy_in(VirtAddr(va.0 + 4000), &[1; 200]).unwrap_err();
        assert_eq!(
            (stopped.done, stopped.error),
            (96, FaultError::NotMapped(page_at(va, 1)))
        );
        drop(object);
        rig.assert_nothing_left();
    });
}

#[test]
fn two_mappings_of_one_object_see_each_others_stores_at_once() {
    in_all_modes(|rig| {
        let (script, object, va) = rig.mapped(1);
        let other = rig.map.map(&object, &MapRequest::read_write(PAGE_SIZE)).unwrap().start;
        let _ = (rig.load_page(va), rig.load_page(other));
        rig.map.store(va, b"one").unwrap();
        let mut seen = [0; 3];
        rig.map.load(other, &mut seen).unwrap();
        assert_eq!(&seen, b"one");
        object.object().flush_all(Default::default()).unwrap();
        rig.map.store(other, b"two").unwrap();
        object.object().flush_all(Default::default()).unwrap();
        assert_eq!(
            &script.stored(0)[..3],
            b"two",
            "a store through either mapping is found"
        );
        drop(object);
        rig.assert_nothing_left();
    });
}
