//! What happens when the kernel allows no more memory areas: a clear error or nothing at all, and no thread that hangs.
//! On its own, because the limit is the process's.

#![allow(clippy::cast_possible_truncation, reason = "pages and addresses of this process")]

mod common;

use quire_core::error::Error;
use quire_core::machine::Serve;
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, Prot, VirtAddr};
use quire_tests::{Script, pattern};

use common::{Rig, load, own_place, page_at, peek, store};

/// Uses up every memory area but `left`; dropping it gives them back.
struct Areas(VirtAddr, usize);

impl Areas {
    fn all_but(left: usize) -> Self {
        let most: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let bytes = 2 * most * PAGE_BYTES;
        // SAFETY: new memory, whose every second page then gets another protection, until the kernel refuses.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            let page = |i: usize| at.cast::<u8>().add(i * PAGE_BYTES).cast();
            let mut last = 1;
            while libc::mprotect(page(last), PAGE_BYTES, libc::PROT_READ) == 0 {
                last += 2;
            }
            assert!(last > 64, "the limit was reached at once");
            // Each gives two areas back.
            for i in 0..left.div_ceil(2) {
                assert_eq!(libc::mprotect(page(last - 2 * (i + 1)), PAGE_BYTES, libc::PROT_NONE), 0);
            }
            Self(VirtAddr(at as u64), bytes)
        }
    }
}

impl Drop for Areas {
    fn drop(&mut self) {
        // SAFETY: mapped by `all_but`.
        unsafe { libc::munmap(self.0.0 as usize as *mut libc::c_void, self.1) };
    }
}

#[test]
fn without_memory_areas_calls_fail_and_nobody_hangs() {
    for serve in [Serve::Threads, Serve::InThread] {
        let rig = Rig::new(serve, 256);
        let (script, pager) = Script::new();
        let object = rig.engine.create_object(pager, 64 * PAGE_SIZE).unwrap();
        let at = own_place();
        rig.map.map(&object, &rig.at(at, 64)).unwrap();
        for page in 0..64 {
            store(page_at(at, page), 7);
        }
        let frames = |rig: &Rig| rig.engine.machine().frame_counts().free;
        let free = frames(&rig);
        let none = Areas::all_but(0);
        let map = rig.map.map(&object, &rig.read_write(8));
        let protect = rig.map.protect(page_at(at, 3), PAGE_SIZE, Prot::READ);
        let unmap = rig.map.unmap(page_at(at, 20), 8 * PAGE_SIZE);
        // A pipe is no memory area; but what this thread says needs some, so it is said later.
        let looked = (serve == Serve::Threads).then(|| peek(page_at(at, 21)));
        let others = load(page_at(at, 19));
        drop(none);
        assert!(
            matches!(map, Err(Error::NoMemory | Error::NoSpace(_))),
            "mapping: {map:?}"
        );
        assert_eq!(protect, Err(Error::NoMemory));
        assert_eq!(unmap, Ok(()));
        assert!(
            matches!(looked, None | Some(None)),
            "what is unmapped was read: {looked:?}"
        );
        assert_eq!(others, 7);
        // The right was not taken, and the page is still served.
        store(page_at(at, 3), 8);
        // What was owed to the kernel is done by now: the addresses can be had again.
        let (_, other) = Script::new();
        let other = rig.engine.create_object(other, 8 * PAGE_SIZE).unwrap();
        rig.map.map(&other, &rig.at(page_at(at, 20), 8)).unwrap();
        assert_eq!(load(page_at(at, 21)), pattern(1)[0]);
        assert_eq!(frames(&rig), free - 1, "frames: one page was read since");
        rig.map.clear().unwrap();
        other.release().unwrap();
        object.release().unwrap();
        assert_eq!(script.stored(3)[0], 8);
        assert_eq!(script.stored(21)[0], 7);
        rig.end();
    }
}
