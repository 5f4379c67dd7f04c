//! The budget as the kernel sees it, and how the machine calls the kernel while it evicts. On its own, because the kernel counts
//! for the whole process.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quire_core::flush::FlushFlags;
use quire_core::types::PAGE_SIZE;
use quire_tests::Script;

use common::{Rig, both, load, page_at, store};

/// One at a time: what is measured is the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes that the kernel counts as mapped shared memory of this process.
fn mapped_shared() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes that the files of frames have in memory.
fn in_files() -> u64 {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let ours = links.filter(|link| {
        std::fs::read_link(link.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:quire"))
    });
    ours.map(|link| std::fs::metadata(link.path()).unwrap().blocks() * 512)
        .sum()
}

#[test]
fn memory_stays_within_the_budget_whatever_is_touched() {
    let _alone = ALONE.lock().unwrap();
    both(|serve| {
        const BUDGET: u64 = 512;
        let rig = Rig::new(serve, BUDGET);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 4 * BUDGET * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(4 * BUDGET)).unwrap().start;
        let again = rig.map.map(&object, &rig.read_write(4 * BUDGET)).unwrap().start;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut files, mut mapped, mut looks) = (0, 0, 0);
                while !stop.load(Ordering::Relaxed) {
                    files = in_files().max(files);
                    mapped = mapped_shared().max(mapped);
                    looks += 1;
                }
                (files, mapped, looks)
            });
            let touchers = [(at, 1u64), (again, 3)].map(|(mapping, step)| {
                scope.spawn(move || {
                    for i in 0..12 * BUDGET {
                        let va = page_at(mapping, i * step % (4 * BUDGET));
                        if i % 3 == 0 { store(va, 1) } else { _ = load(va) }
                    }
                })
            });
            for toucher in touchers {
                toucher.join().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            let (files, mapped, looks) = watcher.join().unwrap();
            eprintln!("{looks} looks: at most {files} bytes in the file, {mapped} mapped");
            assert!(files <= BUDGET * PAGE_SIZE, "{files} bytes are in the file of frames");
            assert!(files > BUDGET / 2 * PAGE_SIZE, "the budget was used");
            // Two mappings count twice; and the kernel counts in batches, by thread.
            assert!(mapped <= (2 * BUDGET + 512) * PAGE_SIZE, "{mapped} bytes are mapped");
        });
        object.release().unwrap();
        rig.end();
        assert_eq!(in_files(), 0);
    });
}

#[test]
fn eviction_takes_pages_away_in_runs() {
    let _alone = ALONE.lock().unwrap();
    both(|serve| {
        let rig = Rig::new(serve, 2048);
        let (_, pager) = Script::new();
        let object = rig.engine.create_object(pager, 8192 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(8192)).unwrap().start;
        for page in 0..8192 {
            load(page_at(at, page));
        }
        let calls = rig.machine.calls();
        eprintln!("{calls:?}");
        assert!(calls.pages_unmapped >= 6000, "{calls:?}");
        assert!(calls.pages_unmapped >= 32 * calls.unmaps, "{calls:?}");
        assert!(calls.frames_freed >= 32 * calls.punches, "{calls:?}");
        object.release().unwrap();
        rig.end();
    });
}

#[test]
fn a_fault_costs_no_call_but_the_necessary_ones() {
    let _alone = ALONE.lock().unwrap();
    both(|serve| {
        let rig = Rig::new(serve, 1024);
        let (_, pager) = Script::with(quire_core::pager::PagerOps::PUT, 1);
        let object = rig.engine.create_object(pager, 512 * PAGE_SIZE).unwrap();
        let at = rig.map.map(&object, &rig.read_write(512)).unwrap().start;
        let before = rig.machine.calls();
        for i in 0..128 {
            // Far apart and backwards, so that each stands for itself.
            store(page_at(at, 4 * (127 - i)), 1);
        }
        let after = rig.machine.calls();
        assert_eq!(after.enters - before.enters, 128, "one call enters a page");
        assert_eq!(after.file_writes - before.file_writes, 128, "one call fills it");
        assert_eq!(after.wakes, before.wakes, "to enter wakes");
        assert_eq!(
            (after.scans, after.unmaps, after.punches),
            (before.scans, before.unmaps, before.punches)
        );
        assert_eq!(after.write_protects, before.write_protects);
        for i in 0..128 {
            store(page_at(at, 4 * i), 2);
        }
        assert_eq!(rig.machine.calls(), after, "a page that is there costs nothing");
        object.object().flush_all(FlushFlags::empty()).unwrap();
        let flushed = rig.machine.calls();
        for i in 0..128 {
            store(page_at(at, 4 * i), 3);
        }
        assert_eq!(
            rig.machine.calls(),
            flushed,
            "the kernel notes a write to a clean page by itself"
        );
        object.release().unwrap();
        rig.end();
    });
}
