//! Requests that are made in a signal handler, and those that the page cache answers: they allocate nothing, also when they
//! fail.

#[path = "../../../tests/tests/counting/mod.rs"]
mod counting;

use std::io::Write as _;

use counting::{Counting, allocations_of};
use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestHost, TestObject};
use tempfile::NamedTempFile;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAGES: usize = 64;

/// A page's bytes, aligned as the ABI wants them.
#[repr(align(4096))]
#[derive(Clone)]
struct Frame([u8; PAGE_SIZE]);

type Operation = unsafe extern "C" fn(*mut std::ffi::c_void, *mut Io) -> i32;

/// What one call answers, having allocated nothing, and the pages afterwards.
fn quietly(
    object: &TestObject<'_>,
    operation: Option<Operation>,
    flags: u32,
    first: u64,
    pages: usize,
) -> (i32, Vec<Frame>) {
    let mut frames = vec![Frame([0xAA; PAGE_SIZE]); pages];
    let mut list: Vec<_> = frames
        .iter_mut()
        .map(|frame| IoPage {
            bytes: frame.0.as_mut_ptr().cast(),
            status: QUIRE_PAGER_UNTOUCHED,
            reserved: 0,
        })
        .collect();
    let mut io = Io {
        struct_size: u32::try_from(size_of::<Io>()).unwrap(),
        flags,
        token: 7,
        first,
        count: u32::try_from(pages).unwrap(),
        required: 0,
        page_size: u32::try_from(PAGE_SIZE).unwrap(),
        page_stride: u32::try_from(size_of::<IoPage>()).unwrap(),
        object_size: object.opened.size,
        pages: list.as_mut_ptr(),
    };
    let operation = operation.expect("is there");
    let mut status = QUIRE_PAGER_UNTOUCHED;
    // SAFETY: the handle is open; request and pages outlive the call, and a request that pends fails the test below.
    let allocations = allocations_of(|| status = unsafe { operation(object.opened.object, &raw mut io) });
    assert_ne!(status, QUIRE_PAGER_PEND);
    assert_eq!(allocations, 0, "status {status}");
    (status, frames)
}

fn file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&vec![0x51; PAGES * PAGE_SIZE]).unwrap();
    file
}

fn open<'a>(host: &'a TestHost, file: &NamedTempFile, flags: u32) -> TestObject<'a> {
    host.open_with(file.path().to_str(), -1, flags).unwrap()
}

#[test]
fn what_the_page_cache_has_is_answered_at_once_and_without_an_allocation() {
    let file = file();
    for config in ["io=auto", "io=threads"] {
        let host = TestHost::load(quire_pager_vnode::module(), Some(config)).unwrap();
        let object = open(&host, &file, QUIRE_OPEN_READ);
        let (status, frames) = quietly(&object, host.module().get, QUIRE_IO_MAY_PEND, 0, PAGES);
        assert_eq!(status, QUIRE_PAGER_OK);
        assert!(frames.iter().all(|frame| frame.0 == [0x51; PAGE_SIZE]));
    }
}

#[test]
fn in_a_signal_handler_nothing_is_allocated_whatever_becomes_of_the_request() {
    let host = TestHost::load(quire_pager_vnode::module(), None).unwrap();
    let module = host.module();
    assert!(module.caps & QUIRE_CAP_SIGNAL_SAFE != 0);
    let (file, flags) = (file(), QUIRE_IO_IN_SIGNAL);
    let object = open(&host, &file, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE);
    let (status, frames) = quietly(&object, module.get, flags, 0, PAGES);
    assert_eq!((status, frames[PAGES - 1].0[0]), (QUIRE_PAGER_OK, 0x51));
    assert_eq!(quietly(&object, module.put, flags, 0, PAGES).0, QUIRE_PAGER_OK);
    assert_eq!(std::fs::read(file.path()).unwrap(), vec![0xAA; PAGES * PAGE_SIZE]);

    assert_eq!(
        quietly(&object, module.get, flags, PAGES as u64, 1).0,
        QUIRE_PAGER_BAD,
        "beyond the object"
    );
    file.as_file().set_len(PAGE_SIZE as u64).unwrap();
    assert_eq!(
        quietly(&object, module.get, flags, 1, 2).0,
        QUIRE_PAGER_BAD,
        "cut short"
    );
    assert_eq!(
        quietly(&object, module.put, flags, 1, 2).0,
        QUIRE_PAGER_BAD,
        "not made longer"
    );

    let object = open(&host, &file, QUIRE_OPEN_READ);
    assert_eq!(quietly(&object, module.put, flags, 0, 1).0, -libc::EBADF);

    // Nothing is mapped at its first pages.
    let mut object = host.open_with(Some("/proc/self/mem"), -1, QUIRE_OPEN_READ).unwrap();
    object.opened.size = 1 << 40;
    assert_eq!(quietly(&object, module.get, flags, 0, 2).0, -libc::EIO);
}
