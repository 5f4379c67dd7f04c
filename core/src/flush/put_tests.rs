//! Pages that were busied to be written, when their object shrinks before its pager is asked.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::thread;

use crate::engine::Engine;
use crate::error::PagerError;
use crate::io::Io;
use crate::map::{Map, MapRequest};
use crate::object::Object;
use crate::pager::{Answer, Pager, PagerOps};
use crate::soft::{SoftConfig, SoftMachine};
use crate::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, PageIndex, VirtAddr};

/// Of each put, the first page, how many, and the size that the pager was told.
type Puts = Arc<Mutex<Vec<(u64, usize, u64)>>>;

#[derive(Debug)]
struct Store(Puts);

impl Pager for Store {
    fn describe(&self) -> String {
        "store".into()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::PUT | PagerOps::RESIZE
    }

    fn max_run(&self) -> u32 {
        256
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            io.fill(i, &[0; PAGE_BYTES]);
        }
        Answer::Done(Ok(()))
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        let put = (io.first().0, io.len(), io.object_size());
        self.0.lock().unwrap().push(put);
        for i in 0..io.len() {
            io.page_done(i);
        }
        Answer::Done(Ok(()))
    }

    fn resize(&self, _size: u64) -> Result<(), PagerError> {
        Ok(())
    }

    fn close(&self) -> Result<(), PagerError> {
        Ok(())
    }
}

#[test]
fn s131_pages_that_were_busied_before_the_object_shrank_are_not_put_behind_its_end() {
    for size in [0, 1, 2 * PAGE_SIZE, 2 * PAGE_SIZE + 1] {
        let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
        let puts = Puts::default();
        let object = engine
            .create_object(Box::new(Store(puts.clone())), 4 * PAGE_SIZE)
            .unwrap();
        let bounds = AddrRange {
            start: VirtAddr(PAGE_SIZE),
            end: VirtAddr(64 * PAGE_SIZE),
        };
        let map = Map::new(engine.clone(), bounds).unwrap();
        let va = map.map(&object, &MapRequest::read_write(4 * PAGE_SIZE)).unwrap().start;
        map.store(va, &vec![1; 4 * PAGE_BYTES]).unwrap();
        let run = (0..4)
            .map(|i| Object::busy_resident(object.object(), PageIndex(i)).unwrap())
            .collect();
        thread::scope(|scope| {
            let shrink = scope.spawn(|| object.object().resize(size));
            // Its end has come down; to free what is behind it, it waits for us.
            while object.size() != size {
                thread::yield_now();
            }
            object.object().put_dirty(run, false).unwrap();
            shrink.join().unwrap().unwrap();
        });
        let live = size.div_ceil(PAGE_SIZE);
        let expected: Vec<_> = (live > 0)
            .then(|| (0, usize::try_from(live).unwrap(), size))
            .into_iter()
            .collect();
        assert_eq!(*puts.lock().unwrap(), expected, "shrunk to {size}");
        assert_eq!((object.resident(), object.dirty_pages()), (live, 0));
        map.clear().unwrap();
        object.release().unwrap();
        engine.shut_down().unwrap();
    }
}

#[test]
fn a_page_that_looks_clean_while_its_writes_are_being_found_out_is_not_passed_by() {
    let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
    let puts = Puts::default();
    let object = engine.create_object(Box::new(Store(puts.clone())), PAGE_SIZE).unwrap();
    let first = PageIndex(0);
    let bounds = AddrRange {
        start: VirtAddr(PAGE_SIZE),
        end: VirtAddr(64 * PAGE_SIZE),
    };
    let map = Map::new(engine.clone(), bounds).unwrap();
    let va = map.map(&object, &MapRequest::read_write(PAGE_SIZE)).unwrap().start;
    map.load(va, &mut [0]).unwrap();
    {
        let busy = Object::busy_resident(object.object(), first).unwrap();
        busy.page().settle();
        // Another flush comes by, before the machine has told.
        let met = object.lock().next_unclean(first, PageIndex(1));
        assert_eq!(met.map(|(index, _)| index), Some(first));
        busy.page().note_modified();
    }
    object.object().flush_all(crate::flush::FlushFlags::empty()).unwrap();
    assert_eq!(puts.lock().unwrap().len(), 1);
    map.clear().unwrap();
    object.release().unwrap();
    engine.shut_down().unwrap();
}
