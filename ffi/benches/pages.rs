//! Busying and unbusying a page by hand, across the border of the C API: alone, and by two threads on one page.
//! Goal: 10 ns or less for each call that nobody contends for.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};

use quire::c::{EngineHandle, EngineOptions, ObjectHandle, PageC, QUIRE_MACHINE_SOFT};
use quire::engine::quire_engine_create;
use quire::object::quire_object_create_anonymous;
use quire::page::*;

type Step = unsafe extern "C" fn(page: *mut PageC) -> i32;

/// A filled page, unbusied. Its engine stays for ever.
fn page() -> *mut PageC {
    let mut options = EngineOptions {
        struct_size: 0,
        machine: QUIRE_MACHINE_SOFT,
        memory: 0,
        reserve: 0,
        flags: 0,
        kept_objects: 0,
        policy: 0,
        reserved: 0,
        free_min: 0,
        free_target: 0,
        free_enough: 0,
        fault_timeout: 0,
        overdue_after: 0,
    };
    options.struct_size = u32::try_from(size_of_val(&options)).expect("some bytes");
    let mut engine: *mut EngineHandle = std::ptr::null_mut();
    let mut object: *mut ObjectHandle = std::ptr::null_mut();
    let mut page: *mut PageC = std::ptr::null_mut();
    // SAFETY: the struct has its size in it, and every place is writable.
    unsafe {
        assert_eq!(quire_engine_create(&raw const options, &raw mut engine), 0);
        assert_eq!(quire_object_create_anonymous(engine, 4096, &raw mut object), 0);
        let contents = quire_abi::QUIRE_GRAB_CONTENTS;
        assert_eq!(
            quire_page_grab(object, 0, 1, contents, &raw mut page, std::ptr::null_mut()),
            0
        );
        assert_eq!(quire_page_xunbusy(page), 0);
    }
    page
}

/// Busies, again and again until it can, and unbusies.
fn pair(page: *mut PageC, busy: Step, unbusy: Step) {
    // SAFETY: the handle of a page.
    unsafe {
        while busy(page) != 1 {
            std::hint::spin_loop();
        }
        assert_eq!(unbusy(page), 0);
    }
}

fn bench(c: &mut Criterion) {
    quire_set_checking(0);
    let page = page();
    let exclusive: (Step, Step) = (quire_page_tryxbusy, quire_page_xunbusy);
    let shared: (Step, Step) = (quire_page_trysbusy, quire_page_sunbusy);
    for (name, (busy, unbusy)) in [("exclusive", exclusive), ("shared", shared)] {
        // Through pointers, as a program that opened the library calls.
        let (busy, unbusy) = (black_box(busy), black_box(unbusy));
        c.bench_function(&format!("page/{name}: busy and unbusy"), |b| {
            b.iter(|| pair(page, busy, unbusy))
        });
        let stop = AtomicBool::new(false);
        let address = page.expose_provenance();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    pair(std::ptr::with_exposed_provenance_mut(address), busy, unbusy);
                }
            });
            c.bench_function(&format!("page/{name}: busy and unbusy, against another thread"), |b| {
                b.iter(|| pair(page, busy, unbusy));
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    let question: Step = black_box(quire_page_busied);
    // SAFETY: the handle of a page.
    c.bench_function("page/busied", |b| b.iter(|| unsafe { question(page) }));
}

criterion_group!(benches, bench);
criterion_main!(benches);
