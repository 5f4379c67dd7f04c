//! Pages that show memory of a device: on every kind of soft machine, and in real memory (F5, F6, S213).

mod devices;

use std::sync::atomic::Ordering;

use devices::{By, Device, WAYS, map, register};
use quire_bridge::Wanted;
use quire_core::aperture::{self, ApertureId, DeviceFile};
use quire_core::error::{Cause, Error, FaultError};
use quire_core::flush::{FlushFlags, PutFlags};
use quire_core::map::{MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::mapped::Residency;
use quire_core::object::{Dirty, ObjectRef, Opening};
use quire_core::page::Dirtiness;
use quire_core::page_services::{Caller, GrabFlags, PageError, PageHandle};
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::NotInserted;
use quire_core::types::{Access, CacheMode, Inherit, PAGE_BYTES, PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Call, Rig, Script, in_all_modes, in_all_modes_with_frames, in_soft_modes, page_at, pattern};

/// An object whose populate installs all of an aperture, page by page of it.
fn shows(rig: &Rig, aperture: ApertureId, pages: u64) -> (Script, ObjectRef) {
    let ops = PagerOps::POPULATE | PagerOps::PUT | PagerOps::RESIZE;
    let (script, pager) = Script::with(ops, 16);
    let object = rig.engine.create_object(pager, pages * PAGE_SIZE).unwrap();
    installs(&script, aperture, pages);
    (script, object)
}

fn installs(script: &Script, aperture: ApertureId, pages: u64) {
    script.on_populate(move |request| {
        let mut at = 0;
        while at < pages {
            match request.insert_frames(PageIndex(at), pages - at, aperture, at) {
                Ok(inserted) => at += inserted,
                Err(NotInserted::Present) => at += request.take(PageIndex(at), 1).unwrap(),
                Err(why) => panic!("page {at}: {why:?}"),
            }
        }
        Populated::Range(PageIndex(0), PageIndex(pages - 1))
    });
}

fn mapped(rig: &Rig, aperture: ApertureId, pages: u64) -> (Script, ObjectRef, VirtAddr) {
    let (script, object) = shows(rig, aperture, pages);
    let va = rig
        .map
        .map(&object, &MapRequest::read_write(pages * PAGE_SIZE))
        .unwrap();
    (script, object, va.start)
}

fn load(rig: &Rig, va: VirtAddr) -> u64 {
    let mut word = [0; 8];
    rig.map.load(va, &mut word).unwrap();
    u64::from_ne_bytes(word)
}

fn store(rig: &Rig, va: VirtAddr, word: u64) {
    rig.map.store(va, &word.to_ne_bytes()).unwrap();
}

/// Everything is given back: the frames, the pages, and the aperture.
fn ends(rig: Rig, aperture: ApertureId) {
    rig.assert_nothing_left();
    aperture::remove(aperture).expect("no page shows it any more");
}

#[test]
fn what_is_written_through_the_pointer_is_in_the_device_and_the_other_way() {
    in_all_modes(|rig| {
        for by in WAYS {
            let rig = Rig::new(rig.mode);
            let device = Device::new(8);
            let aperture = device.register(by);
            let (script, object, va) = mapped(&rig, aperture, 8);
            for page in 0..8 {
                assert_eq!(load(&rig, page_at(va, page)), Device::first(page), "{by:?}");
                store(&rig, VirtAddr(page_at(va, page).0 + 8 * page), 900 + page);
                assert_eq!(device.word(page, page).load(Ordering::Relaxed), 900 + page, "at once");
                device.word(page, 100).store(77 + page, Ordering::Relaxed);
                assert_eq!(load(&rig, VirtAddr(page_at(va, page).0 + 800)), 77 + page);
            }
            assert_eq!(script.calls(), [Call::Populate(0)], "one call, and no get");
            drop(object);
            ends(rig, aperture);
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn s213_a_device_page_is_never_dirty_put_or_taken_and_uses_no_frame() {
    in_all_modes_with_frames(64, |rig| {
        let device = Device::new(128);
        let aperture = device.register(By::File);
        let (script, object, va) = mapped(&rig, aperture, 128);
        let free = rig.engine.machine().frame_counts().free;
        for page in 0..128 {
            store(&rig, page_at(va, page), page);
        }
        assert_eq!(object.resident(), 128, "more than the machine has frames");
        assert_eq!(rig.engine.machine().frame_counts().free, free);
        // Pressure beside it.
        let (_other, object2, va2) = rig.mapped(200);
        for page in 0..200 {
            assert_eq!(rig.load_page(page_at(va2, page)), pattern(page));
        }
        rig.want_all_free();
        rig.engine.daemon_step();
        assert_eq!(object.resident(), 128, "nothing of it was taken");
        assert!(object.lookup(PageIndex(5)).unwrap().queue().is_none());
        object.object().flush_all(FlushFlags::DURABLE).unwrap_or(());
        assert_eq!(object.dirty_pages(), 0);
        for page in 0..128 {
            assert_eq!(object.lookup(PageIndex(page)).unwrap().dirtiness(), Dirtiness::Clean);
            assert_eq!(device.word(page, 0).load(Ordering::Relaxed), page);
        }
        let mut shown = [Residency::default(); 2];
        rig.map.residency(va, 2 * PAGE_SIZE, &mut shown).unwrap();
        assert_eq!(shown, [Residency::RESIDENT | Residency::MAPPED; 2]);
        assert!(!script.calls().iter().any(|call| matches!(call, Call::Put(..))));
        drop((object, object2));
        ends(rig, aperture);
    });
}

#[test]
fn an_aperture_is_not_removed_while_pages_show_it_and_all_ends_give_it_back() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::Address);
        type End = fn(&Rig, &ObjectRef, VirtAddr);
        let ways: [End; 4] = [
            |_, object, _| object.object().resize(0).unwrap(),
            |_, object, _| object.object().terminate(Dirty::Write).unwrap(),
            |rig, object, va| {
                rig.map.unmap(va, 4 * PAGE_SIZE).unwrap();
                object
                    .object()
                    .put(PageIndex(0)..PageIndex(4), PutFlags::FREE)
                    .map(drop)
                    .unwrap();
            },
            |_, object, _| {
                object
                    .object()
                    .put(PageIndex(0)..PageIndex(4), PutFlags::CLEANIT | PutFlags::FREE)
                    .map(drop)
                    .unwrap()
            },
        ];
        for end in ways {
            let (_script, object, va) = mapped(&rig, aperture, 4);
            assert_eq!(load(&rig, page_at(va, 3)), Device::first(3));
            assert!(matches!(aperture::remove(aperture), Err(Error::InUse(_))));
            end(&rig, &object, va);
            assert_eq!(object.resident(), 0);
            rig.map.clear().unwrap();
            let again = device.register(By::Address);
            aperture::remove(again).unwrap();
        }
        aperture::remove(aperture).expect("every way gave all of its pages back");
        assert!(matches!(aperture::remove(aperture), Err(Error::Invalid(_))), "once");
        rig.assert_nothing_left();
        assert_eq!(
            device.word(3, 5).load(Ordering::Relaxed),
            Device::first(3),
            "zeroed by nobody"
        );
    });
}

#[test]
fn after_a_removal_the_next_access_faults_again() {
    in_all_modes(|rig| {
        let device = Device::new(8);
        let aperture = device.register(By::File);
        let (script, object, va) = mapped(&rig, aperture, 8);
        store(&rig, page_at(va, 2), 1);
        object
            .object()
            .put(PageIndex(2)..PageIndex(5), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!(object.resident(), 5);
        assert!(rig.map.pmap().extract(page_at(va, 3)).is_none());
        assert!(rig.map.pmap().extract(page_at(va, 5)).is_some(), "its neighbours stay");
        // Another device comes in its place.
        let other = Device::new(8);
        let second = other.register(By::Address);
        installs(&script, second, 8);
        store(&rig, page_at(va, 3), 2);
        assert_eq!(other.word(3, 0).load(Ordering::Relaxed), 2);
        assert_eq!(device.word(3, 0).load(Ordering::Relaxed), Device::first(3));
        assert_eq!(load(&rig, page_at(va, 6)), Device::first(6));
        assert_eq!(script.calls(), [Call::Populate(2), Call::Populate(3)]);
        drop(object);
        rig.assert_nothing_left();
        aperture::remove(aperture).unwrap();
        aperture::remove(second).unwrap();
    });
}

#[test]
fn a_size_within_a_page_of_a_device_leaves_its_memory_alone() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let aperture = device.register(By::File);
        let (_script, object, va) = mapped(&rig, aperture, 2);
        load(&rig, page_at(va, 1));
        object.object().resize(PAGE_SIZE + 100).unwrap();
        object.object().resize(2 * PAGE_SIZE).unwrap();
        object.object().resize(100).unwrap();
        assert_eq!(object.resident(), 1);
        for page in 0..2 {
            assert_eq!(device.word(page, 500).load(Ordering::Relaxed), Device::first(page));
        }
        assert!(matches!(
            rig.map.fault(page_at(va, 1), Access::Read),
            Err(FaultError::BeyondObject(_))
        ));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn protection_is_lowered_and_raised_and_unmapping_takes_a_part() {
    in_all_modes(|rig| {
        let device = Device::new(8);
        let aperture = device.register(By::File);
        let (script, object, va) = mapped(&rig, aperture, 8);
        store(&rig, page_at(va, 3), 5);
        rig.map.protect(page_at(va, 2), 3 * PAGE_SIZE, Prot::READ).unwrap();
        assert_eq!(load(&rig, page_at(va, 3)), 5);
        assert!(matches!(
            rig.map.store(page_at(va, 3), &[1]).map_err(|stopped| stopped.error),
            Err(FaultError::Denied(_))
        ));
        store(&rig, page_at(va, 5), 6);
        rig.map.protect(va, 8 * PAGE_SIZE, Prot::empty()).unwrap();
        assert!(rig.map.pmap().extract(page_at(va, 3)).is_none());
        assert!(matches!(
            rig.map.load(page_at(va, 3), &mut [0]).map_err(|stopped| stopped.error),
            Err(FaultError::Denied(_))
        ));
        rig.map.protect(va, 8 * PAGE_SIZE, Prot::READ | Prot::WRITE).unwrap();
        store(&rig, page_at(va, 3), 7);
        assert_eq!(device.word(3, 0).load(Ordering::Relaxed), 7);
        rig.map.unmap(page_at(va, 2), 2 * PAGE_SIZE).unwrap();
        assert!(matches!(
            rig.map.load(page_at(va, 3), &mut [0]).map_err(|stopped| stopped.error),
            Err(FaultError::NotMapped(_))
        ));
        assert_eq!(load(&rig, page_at(va, 4)), Device::first(4));
        assert_eq!(script.calls(), [Call::Populate(3)], "the pages were there all the time");
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn a_private_mapping_copies_what_the_device_holds_at_that_moment_and_never_writes_to_it() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (script, object, va) = mapped(&rig, aperture, 4);
        load(&rig, va);
        let mut request = MapRequest::read_write(4 * PAGE_SIZE);
        request.sharing = Sharing::Private;
        let own = rig.map.map(&object, &request).unwrap().start;
        device.word(1, 0).store(11, Ordering::Relaxed);
        assert_eq!(load(&rig, page_at(own, 1)), 11, "what is there is read");
        device.word(2, 0).store(12, Ordering::Relaxed);
        device.word(2, 1).store(13, Ordering::Relaxed);
        store(&rig, page_at(own, 2), 99);
        device.word(2, 1).store(14, Ordering::Relaxed);
        assert_eq!(
            load(&rig, VirtAddr(page_at(own, 2).0 + 8)),
            13,
            "as it was when it was copied"
        );
        assert_eq!(device.word(2, 0).load(Ordering::Relaxed), 12);
        assert_eq!((load(&rig, page_at(own, 2)), load(&rig, page_at(va, 2))), (99, 12));
        // What is not in memory is asked for by get: populate is for mappings that show the object (S213, S220).
        object
            .object()
            .put(PageIndex(3)..PageIndex(4), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!(rig.load_page(page_at(own, 3)), pattern(3));
        assert_eq!(script.calls(), [Call::Populate(0), Call::Get(3, 1)]);
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn reading_and_writing_through_the_map_goes_to_the_device() {
    in_all_modes(|rig| {
        let device = Device::new(3);
        let aperture = device.register(By::Address);
        let (_script, object, va) = mapped(&rig, aperture, 3);
        let bytes: Vec<u8> = (0..PAGE_BYTES + 9).map(|i| i.to_le_bytes()[0]).collect();
        rig.map.copy_in(VirtAddr(va.0 + 4091), &bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        rig.map.copy_out(VirtAddr(va.0 + 4091), &mut back).unwrap();
        assert_eq!(back, bytes);
        assert_eq!(device.word(1, 0).load(Ordering::Relaxed).to_ne_bytes(), bytes[5..13]);
        assert_eq!(object.dirty_pages(), 0);
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn wired_pages_of_a_device_stay_and_are_let_go_of() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (_script, object, va) = mapped(&rig, aperture, 4);
        rig.map.wire(va, 2 * PAGE_SIZE).unwrap();
        assert_eq!(object.lookup(PageIndex(1)).unwrap().wire_count(), 1);
        assert!(rig.map.pmap().extract(page_at(va, 1)).unwrap().wired);
        let put = object
            .object()
            .put(PageIndex(0)..PageIndex(4), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!(put.kept, 2);
        store(&rig, page_at(va, 1), 3);
        rig.map.unwire(va, 2 * PAGE_SIZE).unwrap();
        let page = object.lookup(PageIndex(1)).unwrap();
        assert_eq!((page.wire_count(), page.queue()), (0, None));
        assert!(!rig.map.pmap().extract(page_at(va, 1)).unwrap().wired);
        assert_eq!(device.word(1, 0).load(Ordering::Relaxed), 3);
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn a_fork_of_the_map_shows_the_device_too() {
    in_soft_modes("real memory has no fork of a map", |rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (_script, object, va) = mapped(&rig, aperture, 4);
        store(&rig, va, 1);
        rig.map.inherit(va, 4 * PAGE_SIZE, Inherit::Share).unwrap();
        let child = rig.map.fork().unwrap();
        let mut word = [0; 8];
        child.load(va, &mut word).unwrap();
        assert_eq!(u64::from_ne_bytes(word), 1);
        child.store(page_at(va, 2), &5_u64.to_ne_bytes()).unwrap();
        assert_eq!(
            (device.word(2, 0).load(Ordering::Relaxed), load(&rig, page_at(va, 2))),
            (5, 5)
        );
        drop(child);
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn a_copy_of_a_range_is_a_copy_of_what_the_device_holds() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (_script, object, va) = mapped(&rig, aperture, 4);
        store(&rig, va, 1);
        let copy = rig.map.copied(va, 4 * PAGE_SIZE).unwrap();
        assert_eq!(load(&rig, copy), 1);
        store(&rig, page_at(copy, 1), 6);
        assert_eq!(device.word(1, 0).load(Ordering::Relaxed), Device::first(1));
        assert_eq!(load(&rig, page_at(va, 1)), Device::first(1));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn two_pages_may_show_the_same_memory() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let aperture = device.register(By::File);
        let (script, object) = shows(&rig, aperture, 4);
        script.on_populate(move |request| {
            request.insert_frames(PageIndex(0), 2, aperture, 0).unwrap();
            request.insert_frames(PageIndex(2), 2, aperture, 0).unwrap();
            Populated::Range(PageIndex(0), PageIndex(3))
        });
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(4 * PAGE_SIZE))
            .unwrap()
            .start;
        // A ring: what is written at its end goes on at its start.
        store(&rig, VirtAddr(page_at(va, 2).0 - 8), 1);
        store(&rig, page_at(va, 2), 2);
        assert_eq!((load(&rig, va), load(&rig, VirtAddr(page_at(va, 4).0 - 8))), (2, 1));
        object
            .object()
            .put(PageIndex(2)..PageIndex(3), PutFlags::CLEANIT | PutFlags::FREE)
            .unwrap();
        assert_eq!((object.resident(), load(&rig, va)), (3, 2));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn memory_that_can_only_be_read_is_read_and_a_write_is_an_error_with_words() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let aperture = device.register_to_read();
        let (_script, object, va) = mapped(&rig, aperture, 2);
        assert_eq!(load(&rig, va), Device::first(0));
        for answer in [
            rig.map.fault(va, Access::Write).map(drop),
            rig.map.store(va, &[1]).map_err(|stopped| stopped.error),
            rig.map.copy_in(va, &[1]).map_err(|stopped| stopped.error),
        ] {
            let error = answer.unwrap_err();
            assert!(matches!(error, FaultError::Device { .. }), "{error}");
            assert_eq!(
                error.to_string(),
                "page 0x0 is memory of a device: it can be read, and not written"
            );
        }
        assert_eq!(rig.map.pmap().extract(va).unwrap().prot, Prot::READ);
        for prot in [Prot::READ | Prot::WRITE, Prot::READ, Prot::READ | Prot::WRITE] {
            rig.map.protect(va, 2 * PAGE_SIZE, prot).unwrap();
            assert_eq!(load(&rig, page_at(va, 1)), Device::first(1));
        }
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn private_memory_works_where_it_is_accessed_in_place_and_is_refused_in_words_elsewhere() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let start = map(&device.file, 2, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        let wanted = Wanted {
            memory: Some(start),
            len: 2 * PAGE_SIZE,
            file: None,
        };
        let aperture = register(&wanted, CacheMode::WriteBack).unwrap();
        let (_script, object, va) = mapped(&rig, aperture, 2);
        if rig.mode.is_linux() {
            let error = rig.map.fault(va, Access::Write).unwrap_err().to_string();
            assert!(error.contains("is memory of a device: it is private memory"), "{error}");
            // Where nothing is mapped it can be reached.
            rig.map.copy_in(va, &7_u64.to_ne_bytes()).unwrap();
        } else {
            store(&rig, va, 7);
        }
        // SAFETY: mapped above, and only accessed by volatile accesses.
        assert_eq!(unsafe { start.cast::<u64>().read_volatile() }, 7);
        assert_eq!(device.word(0, 0).load(Ordering::Relaxed), Device::first(0));
        drop(object);
        ends(rig, aperture);
        // SAFETY: mapped above; the aperture is gone.
        unsafe { libc::munmap(start.as_ptr().cast(), 2 * PAGE_BYTES) };
    });
}

#[test]
fn the_cache_mode_is_told_to_the_machine_and_a_run_never_mixes_modes() {
    in_all_modes(|rig| {
        let device = Device::new(6);
        let modes = [CacheMode::Uncached, CacheMode::WriteCombining, CacheMode::WriteBack];
        let apertures = modes.map(|mode| register(&device.wanted(By::File), mode).unwrap());
        let (script, object) = shows(&rig, apertures[0], 8);
        script.on_populate(move |request| {
            for (i, aperture) in apertures.into_iter().enumerate() {
                let at = 2 * i as u64;
                request.insert_frames(PageIndex(at), 2, aperture, at).unwrap();
            }
            for index in [6, 7] {
                let bytes = request.insert_one(PageIndex(index)).unwrap();
                // SAFETY: lent until the page is ready.
                unsafe { bytes.as_ptr().write_bytes(1, PAGE_BYTES) };
            }
            assert!(request.ready(PageIndex(6), 2));
            Populated::Range(PageIndex(0), PageIndex(7))
        });
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(8 * PAGE_SIZE))
            .unwrap()
            .start;
        let told = |i| rig.map.pmap().extract(page_at(va, i)).map(|there| there.cache);
        let (uc, wc, wb) = (
            Some(CacheMode::Uncached),
            Some(CacheMode::WriteCombining),
            Some(CacheMode::WriteBack),
        );
        // By what populate installed at once, and by the window of a fault on resident pages.
        for _ in 0..2 {
            load(&rig, page_at(va, 3));
            assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(told), [uc, uc, wc, wc, wb, wb, wb, wb]);
            rig.map.dont_need(va, 8 * PAGE_SIZE).unwrap();
            assert_eq!(told(3), None);
        }
        drop(object);
        rig.assert_nothing_left();
        apertures
            .into_iter()
            .for_each(|aperture| aperture::remove(aperture).unwrap());
    });
}

#[test]
fn f6_a_window_of_512_pages_is_one_enter_of_the_machine() {
    in_all_modes(|rig| {
        let device = Device::new(1024);
        let aperture = device.register(By::File);
        let (script, object) = shows(&rig, aperture, 1024);
        let mut request = MapRequest::read_write(1024 * PAGE_SIZE);
        request.place = Place::Anywhere {
            hint: VirtAddr(0),
            align: 2 << 20,
        };
        let va = rig.map.map(&object, &request).unwrap().start;
        assert!(va.0.is_multiple_of(2 << 20));
        let before = enters(&rig);
        assert_eq!(load(&rig, page_at(va, 700)), Device::first(700));
        let (calls, pages) = enters(&rig);
        assert_eq!(
            (calls - before.0, pages - before.1),
            (2, 1024),
            "two windows, each entered at once"
        );
        for page in 0..1024 {
            assert_eq!(load(&rig, page_at(va, page)), Device::first(page));
        }
        assert_eq!(script.calls(), [Call::Populate(700)]);
        drop(object);
        ends(rig, aperture);
    });
}

fn enters(rig: &Rig) -> (u64, u64) {
    if rig.mode.is_linux() {
        let calls = rig.linux().calls();
        (calls.enters, calls.pages_entered)
    } else {
        let calls = rig.soft().calls();
        (calls.enters, calls.pages_entered)
    }
}

#[test]
fn bad_apertures_and_bad_frames_are_refused_in_words() {
    let device = Device::new(4);
    let good = device.wanted(By::Address);
    let refused = |wanted: &Wanted| register(wanted, CacheMode::WriteBack).unwrap_err();
    let start = device.address();
    let is_about = |error: quire_core::error::PagerError, what: &str| {
        assert!(error.to_string().contains(what), "{error}");
    };
    is_about(refused(&Wanted { len: 0, ..good }), "no bytes");
    is_about(refused(&Wanted { len: 100, ..good }), "multiples of the page size");
    // SAFETY: inside the mapping.
    let odd = Some(unsafe { start.add(8) });
    is_about(
        refused(&Wanted {
            memory: odd,
            len: PAGE_SIZE,
            ..good
        }),
        "multiples of the page size",
    );
    let nowhere = std::ptr::NonNull::new(0x1000 as *mut u8);
    is_about(
        refused(&Wanted {
            memory: nowhere,
            ..good
        }),
        "nothing that can be read is mapped at 0x1000",
    );
    let file = |fd, offset| Wanted {
        memory: None,
        len: 4 * PAGE_SIZE,
        file: Some(DeviceFile { fd, offset }),
    };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&device.file);
    is_about(refused(&file(fd, PAGE_SIZE)), "make the file longer");
    assert_eq!(refused(&file(987_654, 0)).cause, Cause::Errno(libc::EBADF));
    let (pipe, _other) = std::io::pipe().unwrap();
    let error = refused(&file(std::os::fd::AsRawFd::as_raw_fd(&pipe), 0));
    assert_eq!(error.cause, Cause::Errno(libc::ENODEV));
    is_about(error, "the aperture's file cannot be mapped");
    in_soft_modes("the request is the same on every machine", |rig| {
        let aperture = device.register(By::Address);
        let gone = device.register(By::Address);
        aperture::remove(gone).unwrap();
        let (script, object) = shows(&rig, aperture, 8);
        script.on_populate(move |request| {
            let insert =
                |first, count, aperture, frame| request.insert_frames(PageIndex(first), count, aperture, frame);
            assert_eq!(
                insert(0, 5, aperture, 0),
                Err(NotInserted::NoFrames),
                "beyond the aperture"
            );
            assert_eq!(insert(0, 1, aperture, u64::MAX), Err(NotInserted::NoFrames));
            assert_eq!(insert(0, 1, gone, 0), Err(NotInserted::NoFrames), "removed");
            assert_eq!(
                insert(0, 1, ApertureId(3), 0),
                Err(NotInserted::NoFrames),
                "never there"
            );
            assert_eq!(insert(8, 1, aperture, 0), Err(NotInserted::OutOfRange));
            assert_eq!(insert(6, 4, aperture, 0), Ok(2), "cut at the object's end");
            assert_eq!(insert(7, 1, aperture, 0), Err(NotInserted::Present));
            assert_eq!(insert(4, 4, aperture, 0), Ok(2), "up to the first that is there");
            Populated::Range(PageIndex(4), PageIndex(7))
        });
        let va = rig
            .map
            .map(&object, &MapRequest::read_only(8 * PAGE_SIZE))
            .unwrap()
            .start;
        rig.map.fault(page_at(va, 5), Access::Read).unwrap();
        assert_eq!((object.resident(), load(&rig, page_at(va, 7))), (4, Device::first(1)));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn a_populate_that_fails_after_it_installed_frames_leaves_them_as_cache() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (script, object) = shows(&rig, aperture, 4);
        script.on_populate(move |request| {
            request.insert_frames(PageIndex(1), 2, aperture, 1).unwrap();
            Populated::Failed(quire_core::error::PagerError::bare(Cause::Io))
        });
        let va = rig
            .map
            .map(&object, &MapRequest::read_only(4 * PAGE_SIZE))
            .unwrap()
            .start;
        assert!(matches!(rig.map.fault(va, Access::Read), Err(FaultError::Pager { .. })));
        assert_eq!(object.resident(), 2);
        assert!(!object.lookup(PageIndex(1)).unwrap().is_busied());
        assert_eq!(load(&rig, page_at(va, 2)), Device::first(2));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn a_pager_that_is_told_of_writes_is_not_told_of_those_to_a_device() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let aperture = device.register(By::File);
        let ops = PagerOps::POPULATE | PagerOps::PUT | PagerOps::PREPARE_WRITE;
        let (script, pager) = Script::with(ops, 16);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        installs(&script, aperture, 2);
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        assert_eq!(load(&rig, va), Device::first(0));
        store(&rig, va, 4);
        store(&rig, page_at(va, 1), 5);
        assert_eq!(device.word(1, 0).load(Ordering::Relaxed), 5);
        assert_eq!(script.calls(), [Call::Populate(0)]);
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn pages_of_a_device_in_hand_are_read_written_and_freed_and_never_moved() {
    in_all_modes(|rig| {
        let device = Device::new(4);
        let aperture = device.register(By::File);
        let (_script, object, va) = mapped(&rig, aperture, 4);
        load(&rig, va);
        let grab = |index| {
            let mut page = None;
            PageHandle::grab(
                object.object(),
                PageIndex(index),
                1,
                GrabFlags::NOCREAT,
                Caller::Program,
                |got| page = Some(got),
            )
            .unwrap();
            page.unwrap()
        };
        let page = grab(2);
        page.write(16, &5_u64.to_ne_bytes(), Caller::Program).unwrap();
        let mut back = [0; 8];
        page.read(16, &mut back).unwrap();
        assert_eq!(
            (device.word(2, 2).load(Ordering::Relaxed), u64::from_ne_bytes(back)),
            (5, 5)
        );
        page.set_dirty(Caller::Program).unwrap();
        assert_eq!((page.is_dirty(), object.dirty_pages()), (Ok(false), 0));
        let moved = page.rename(object.object(), PageIndex(9), Caller::Program);
        assert!(matches!(moved, Err(PageError::Failed(Error::Unsupported(_)))));
        let removed = page.remove(Caller::Program);
        assert!(matches!(removed, Err(PageError::Failed(Error::Unsupported(_)))));
        page.wire().unwrap();
        page.unwire().unwrap();
        page.release_exclusive().unwrap();
        grab(1).free().unwrap();
        assert_eq!((object.resident(), load(&rig, page_at(va, 2))), (3, Device::first(2)));
        drop(object);
        ends(rig, aperture);
    });
}

#[test]
fn who_opens_a_device_for_writing_that_is_open_for_reading_can_write_it() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let (to_read, to_write) = (device.register_to_read(), device.register(By::File));
        let open = |ops: PagerOps, aperture: ApertureId| {
            let (script, pager) = Script::with(PagerOps::POPULATE | ops, 16);
            installs(&script, aperture, 2);
            let opening = Opening {
                identity: Some([1, 2]),
                ..quire_tests::opening(pager, 2)
            };
            rig.engine.attach(opening).unwrap()
        };
        let reader = open(PagerOps::empty(), to_read);
        let seen = rig
            .map
            .map(&reader, &MapRequest::read_only(2 * PAGE_SIZE))
            .unwrap()
            .start;
        assert_eq!(load(&rig, seen), Device::first(0));
        let writer = open(PagerOps::FRAMES, to_write);
        assert!(std::sync::Arc::ptr_eq(reader.object(), writer.object()));
        let written = rig
            .map
            .map(&writer, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        store(&rig, written, 7);
        assert_eq!(device.word(0, 0).load(Ordering::Relaxed), 7);
        assert_eq!(load(&rig, seen), 7);
        drop((reader, writer));
        rig.map.clear().unwrap();
        rig.engine.set_cache_limit(0);
        aperture::remove(to_read).unwrap();
        ends(rig, to_write);
    });
}

#[test]
fn a_page_that_nothing_would_write_back_is_not_inserted() {
    in_all_modes(|rig| {
        let device = Device::new(2);
        let aperture = device.register(By::File);
        let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::FRAMES, 16);
        let object = rig.engine.create_object(pager, 2 * PAGE_SIZE).unwrap();
        script.on_populate(move |request| {
            let index = request.plan().index;
            assert_eq!(request.insert_one(index), Err(NotInserted::NoPut));
            request.insert_frames(index, 1, aperture, index.0).unwrap();
            Populated::Range(index, index)
        });
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(2 * PAGE_SIZE))
            .unwrap()
            .start;
        store(&rig, va, 9);
        assert_eq!(device.word(0, 0).load(Ordering::Relaxed), 9);
        let grabbed = PageHandle::grab(
            object.object(),
            PageIndex(1),
            1,
            GrabFlags::ZERO,
            Caller::Program,
            |_| {},
        );
        assert!(
            matches!(grabbed, Err(PageError::Failed(Error::Unsupported(_)))),
            "{grabbed:?}"
        );
        drop((script, object));
        ends(rig, aperture);
    });
}
