//! Memory of a device in real memory, hammered through plain pointers while it is taken away again and again: nobody dies of a false signal,
//! nobody ever sees a page that the engine did not give, and every write is in the device.

mod devices;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use devices::{By, Device, WAYS};
use quire_core::aperture::{self, ApertureId};
use quire_core::error::Cause;
use quire_core::machine::Serve;
use quire_core::map::MapRequest;
use quire_core::object::{Dirty, ObjectRef};
use quire_core::pager::{PagerOps, Populated};
use quire_core::populate::NotInserted;
use quire_core::types::{PAGE_SIZE, PageIndex, Prot, VirtAddr};
use quire_tests::{Mode, Rig, Script, Twist, page_at};

const PAGES: u64 = 16;

fn on_real_memory(test: impl Fn(Rig)) {
    for mode in Mode::all().into_iter().filter(Mode::is_linux) {
        eprintln!("mode: {mode:?}");
        test(Rig::new(mode));
    }
}

/// An object whose populate installs the faulting page, and those behind it as far as nobody has them.
fn object(rig: &Rig, aperture: ApertureId) -> ObjectRef {
    // Without get: a page that comes in another way is an error.
    let (script, pager) = Script::with(PagerOps::POPULATE | PagerOps::PUT, 16);
    script.all_gets(Some(Twist::Fail(Cause::Io)));
    let object = rig.engine.create_object(pager, PAGES * PAGE_SIZE).unwrap();
    script.on_populate(move |request| {
        let first = request.plan().index.0;
        let insert = |page, count| request.insert_frames(PageIndex(page), count, aperture, page);
        let count = loop {
            match insert(first, (PAGES - first).min(4)) {
                Ok(count) => break count,
                // It came meanwhile, or is going: whoever has it waits for nobody.
                Err(NotInserted::Present) if request.take(PageIndex(first), 1).is_ok() => break 1,
                Err(NotInserted::Present) => thread::yield_now(),
                Err(why) => panic!("page {first}: {why:?}"),
            }
        };
        Populated::Range(PageIndex(first), PageIndex(first + count - 1))
    });
    object
}

/// A word of the memory, through the program's pointer.
fn word(va: VirtAddr, page: u64, word: u64) -> &'static AtomicU64 {
    let at = usize::try_from(page_at(va, page).0 + 8 * word).unwrap();
    // SAFETY: mapped for as long as the test's threads run; it belongs to a device, and is accessed by atomics only.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(at) }
}

#[test]
fn f22_threads_hammer_while_another_takes_the_memory_away() {
    const ROUNDS: u64 = 3000;
    on_real_memory(|rig| {
        for by in WAYS {
            let device = Device::new(PAGES);
            let aperture = device.register(by);
            let object = object(&rig, aperture);
            let request = MapRequest::read_write(PAGES * PAGE_SIZE);
            let va = rig.map.map(&object, &request).unwrap().start;
            let elsewhere = rig.map.map(&object, &request).unwrap().start;
            let done = AtomicBool::new(false);
            let counts = thread::scope(|scope| {
                let hammer = |thread: u64, va: VirtAddr| {
                    let mut count = 0;
                    while !done.load(Ordering::Relaxed) {
                        let page = (count * 7 + thread) % PAGES;
                        let seen = word(va, page, 9).load(Ordering::Relaxed);
                        assert_eq!(seen, Device::first(page), "a page that the engine did not give");
                        word(va, thread, 1).fetch_add(1, Ordering::Relaxed);
                        count += 1;
                    }
                    count
                };
                let hammers = [(0, va), (1, va), (2, elsewhere)];
                let hammers = hammers.map(|(thread, va)| scope.spawn(move || hammer(thread, va)));
                let began = |thread| device.word(thread, 1).load(Ordering::Relaxed) != Device::first(thread);
                for round in (0..).take_while(|round| *round < ROUNDS || !(0..3).all(began)) {
                    let first = round * 5 % PAGES;
                    let range = PageIndex(first)..PageIndex(first + 1 + round % 7);
                    object.object().revoke(range, Dirty::Write).unwrap();
                }
                done.store(true, Ordering::Relaxed);
                hammers.map(|hammer| hammer.join().unwrap())
            });
            for (thread, count) in (0..).zip(counts) {
                let counted = device.word(thread, 1).load(Ordering::Relaxed) - Device::first(thread);
                assert_eq!(counted, count, "every write is in the device");
                assert!(count > 0);
            }
            rig.map.clear().unwrap();
            drop(object);
            aperture::remove(aperture).unwrap();
        }
        rig.assert_nothing_left();
    });
}

#[test]
fn rights_change_and_memory_goes_at_the_same_time_and_the_last_rights_hold() {
    on_real_memory(|rig| {
        let device = Device::new(PAGES);
        let aperture = device.register(By::File);
        let object = object(&rig, aperture);
        let request = MapRequest::read_write(PAGES * PAGE_SIZE);
        let va = rig.map.map(&object, &request).unwrap().start;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for page in 0..PAGES {
                        assert_eq!(word(va, page, 3).load(Ordering::Relaxed), Device::first(page));
                    }
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let all = PageIndex(0)..PageIndex(PAGES);
                    object.object().revoke(all, Dirty::Write).unwrap();
                }
            });
            for round in 0..2000 {
                let prot = if round % 2 == 0 {
                    Prot::READ
                } else {
                    Prot::READ | Prot::WRITE
                };
                rig.map.protect(page_at(va, 4), 8 * PAGE_SIZE, prot).unwrap();
                if prot.contains(Prot::WRITE) {
                    // The rights are there however often it was taken away meanwhile: a wrong one is a signal.
                    word(va, 5, 0).store(round, Ordering::Relaxed);
                    assert_eq!(device.word(5, 0).load(Ordering::Relaxed), round);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        rig.map.clear().unwrap();
        drop(object);
        aperture::remove(aperture).unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn an_object_of_a_device_that_ends_under_an_access_leaves_an_error_and_no_page() {
    on_real_memory(|rig| {
        let device = Device::new(PAGES);
        let aperture = device.register(By::Address);
        let object = object(&rig, aperture);
        let va = rig
            .map
            .map(&object, &MapRequest::read_write(PAGES * PAGE_SIZE))
            .unwrap()
            .start;
        word(va, 1, 0).store(3, Ordering::Relaxed);
        let before = rig.linux().calls().pages_entered;
        assert!(before >= 1);
        object.object().terminate(Dirty::Discard).unwrap();
        let mut byte = [0];
        assert!(rig.map.load(page_at(va, 1), &mut byte).is_err());
        assert_eq!(device.word(1, 0).load(Ordering::Relaxed), 3);
        rig.map.clear().unwrap();
        drop(object);
        aperture::remove(aperture).unwrap();
        rig.assert_nothing_left();
    });
}

#[test]
fn ranges_served_in_both_ways_show_one_device() {
    on_real_memory(|rig| {
        if rig.mode.serve() == Serve::InThread {
            return;
        }
        let device = Arc::new(Device::new(PAGES));
        let aperture = device.register(By::Both);
        let object = object(&rig, aperture);
        let request = |serve| MapRequest {
            serve,
            ..MapRequest::read_write(PAGES * PAGE_SIZE)
        };
        // The rig's own map serves as its mode says; below it is told otherwise.
        let map: &quire_core::map::Map = &rig.map;
        let ways = [Serve::Threads, Serve::InThread].map(|serve| map.map(&object, &request(serve)).unwrap().start);
        for (i, va) in ways.into_iter().enumerate() {
            word(va, 2, i as u64).store(40 + i as u64, Ordering::Relaxed);
        }
        assert_eq!(word(ways[0], 2, 1).load(Ordering::Relaxed), 41);
        assert_eq!(word(ways[1], 2, 0).load(Ordering::Relaxed), 40);
        rig.map.clear().unwrap();
        drop(object);
        aperture::remove(aperture).unwrap();
        rig.assert_nothing_left();
    });
}
