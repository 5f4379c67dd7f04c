//! Processors that store, against an evictor, a flusher and an unmapper: no store is ever lost.
//!
//! Each writer owns one word of every page and remembers what it stored there last. Before each store it loads the word:
//! a page that was taken for clean though it was not comes back from the store with an older value. In the end
//! everything is flushed, and the store must hold every last word. Loads map writable, so that often nothing but the
//! mapping's modified bit tells of a store.
//!
//! The second map moves its pages to other addresses now and then, so that a mapping which the flusher is after may show
//! another page by the time it gets there.

use std::sync::Mutex;
use std::thread;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::busy::BusyMode;
use crate::machine::Purpose;
use crate::page::Dirtiness;
use crate::sync::MapLock;

const PAGES: usize = 4;
const WRITERS: usize = 2;
const STORES: u64 = 20_000;

struct World {
    machine: Arc<SoftMachine>,
    /// One for each writer. The lock stands for the map's, and has how far its pages are moved.
    maps: Vec<(MapLock<usize>, SoftPmap)>,
    pages: Vec<PageRef>,
    /// What a pager would have.
    stored: Vec<Mutex<[u8; 4096]>>,
    puts: AtomicU64,
    done: AtomicBool,
}

/// The map whose pages move.
const MOVING: usize = 1;

fn va(page: usize, moved: usize) -> u64 {
    ((page + moved) % PAGES) as u64 * PAGE_SIZE
}

/// A page that is exclusively busied until this is dropped, by a panic too: the others must not wait for ever.
struct Busied(PageRef);

impl Drop for Busied {
    fn drop(&mut self) {
        self.0.busy.release_exclusive();
    }
}

impl World {
    fn new(mode: SoftConfig) -> Self {
        let machine = SoftMachine::new(SoftConfig { frames: 32, ..mode }).unwrap();
        let pages: Vec<PageRef> = (0..PAGES).map(|index| valid_page(&machine, index as u64)).collect();
        pages.iter().for_each(|page| page.busy.release_exclusive());
        Self {
            maps: (0..WRITERS).map(|_| (MapLock::new(0), pmap(&machine))).collect(),
            pages,
            stored: (0..PAGES).map(|_| Mutex::new([0; 4096])).collect(),
            puts: AtomicU64::new(0),
            done: AtomicBool::new(false),
            machine,
        }
    }

    /// As the engine does it: under the map's lock, with the page busied, sleeping with nothing held.
    fn fault(&self, map: usize, page: usize, access: Access) {
        let one = [self.pages[page]];
        loop {
            let (lock, pmap) = &self.maps[map];
            let held = lock.read();
            if one[0].busy.try_shared() {
                one[0].note_writable();
                if access == Access::Write {
                    one[0].note_modified();
                }
                let run = EnterRun {
                    accessed: Some((0, access)),
                    ..run(va(page, *held), &one, RW)
                };
                assert_eq!(pmap.enter(&run), (1, None));
                drop(held);
                one[0].busy.release_shared();
                return;
            }
            drop(held);
            one[0].busy.sleep(BusyMode::Shared);
        }
    }

    /// Tries, and faults, until it succeeds.
    fn access<T>(
        &self,
        map: usize,
        page: usize,
        kind: Access,
        act: impl Fn(&SoftPmap, u64) -> Result<T, CpuStop>,
    ) -> T {
        let (lock, pmap) = &self.maps[map];
        loop {
            let held = lock.read();
            let va = va(page, *held);
            // Where pages stay where they are, a program can be in the middle of an access whatever happens to the map.
            let held = (map == MOVING).then_some(held);
            let done = act(pmap, va);
            drop(held);
            match done {
                Ok(value) => return value,
                Err(_) => self.fault(map, page, kind),
            }
        }
    }

    fn write(&self, writer: usize) -> [u64; PAGES] {
        let word = 8 * writer as u64;
        let mut last = [0; PAGES];
        for n in 1..=STORES {
            let page = usize::try_from(n * 7 % 5).unwrap() % PAGES;
            let before = self.access(writer, page, Access::Read, |pmap, va| load(pmap, va + word));
            assert_eq!(
                u64::from_ne_bytes(before),
                last[page],
                "a store to page {page} was lost"
            );
            self.access(writer, page, Access::Write, |pmap, va| {
                store(pmap, va + word, &n.to_ne_bytes())
            });
            last[page] = n;
        }
        last
    }

    /// Writes a page out if it is dirty, and, to evict, forgets its bytes and brings them in again.
    fn flush(&self, number: usize, evict: bool) {
        let page = self.pages[number];
        while !page.busy.try_exclusive() {
            page.busy.sleep(BusyMode::Exclusive);
        }
        let _busied = Busied(page);
        let left = if evict { Prot::empty() } else { Prot::READ };
        self.machine.page_protect(&[page], left);
        page.settle();
        let mut stored = self.stored[number].lock().unwrap();
        if page.dirtiness() == Dirtiness::Dirty {
            page.put_begins();
            let loan = self.machine.lend(&[page], Purpose::Read).unwrap();
            // SAFETY: lent for reading; the page is write-protected and exclusively busied.
            stored.copy_from_slice(unsafe { core::slice::from_raw_parts(loan.bytes()[0].as_ptr(), 4096) });
            self.machine.take_back(&[page], loan, &|_| false).unwrap();
            page.put_succeeded();
            self.puts.fetch_add(1, Ordering::Relaxed);
        }
        if evict {
            let loan = self.machine.lend(&[page], Purpose::Fill).unwrap();
            // SAFETY: lent for filling; the page is not mapped and exclusively busied.
            unsafe { core::slice::from_raw_parts_mut(loan.bytes()[0].as_ptr(), 4096) }.copy_from_slice(&*stored);
            self.machine.take_back(&[page], loan, &|_| true).unwrap();
        }
    }

    fn until_done(&self, step: impl Fn(usize)) {
        let mut n = 0;
        while !self.done.load(Ordering::Acquire) {
            step(n);
            n += 1;
        }
    }

    fn unmap(&self, n: usize) {
        let map = n % WRITERS;
        let (lock, pmap) = &self.maps[map];
        let range = pages(va(n % PAGES, 0), 1);
        let mut moved = lock.write();
        match n % 5 {
            0 => pmap.protect(range, Prot::READ).unwrap(),
            1 | 2 if map == MOVING => {
                pmap.remove(pages(0, PAGES as u64));
                *moved += 1;
            }
            _ => pmap.remove(range),
        }
    }
}

#[test]
fn stores_are_never_lost_to_eviction_flushing_or_unmapping() {
    for mode in SoftConfig::awkward_modes() {
        let world = World::new(mode);
        let last: Vec<[u64; PAGES]> = thread::scope(|scope| {
            let world = &world;
            scope.spawn(|| world.until_done(|n| world.flush(n % PAGES, n % 3 != 0)));
            scope.spawn(|| world.until_done(|n| world.unmap(n)));
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || world.write(writer)))
                .collect();
            let last = writers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect::<Vec<_>>();
            world.done.store(true, Ordering::Release);
            last.into_iter().map(Result::unwrap).collect()
        });
        for page in 0..PAGES {
            world.flush(page, true);
            let stored = world.stored[page].lock().unwrap();
            for (writer, last) in last.iter().enumerate() {
                let word: [u8; 8] = stored[8 * writer..][..8].try_into().unwrap();
                assert_eq!(
                    u64::from_ne_bytes(word),
                    last[page],
                    "writer {writer}, page {page}, {mode:?}"
                );
            }
        }
        assert!(world.puts.load(Ordering::Relaxed) >= PAGES as u64);
        world.pages.iter().for_each(|page| assert!(page.busy.try_exclusive()));
        finish(
            &world.machine,
            world.maps.into_iter().map(|map| map.1).collect(),
            &world.pages,
        );
    }
}
