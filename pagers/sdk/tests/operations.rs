//! Drives a pager's operations through its table, as a host would.

mod actor;

use std::ffi::CStr;

use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestHost};
use quire_pager::{Error, Extent, GetRun, Host, Object, OpenRequest, Opened, Pager, Result};

use actor::{Actor, actor};

/// A pager with nothing optional.
struct Plain;

impl Pager for Plain {
    const NAME: &'static CStr = c"plain";
    type Object = Plain;
    fn init(_: Host, _: Option<&str>) -> Result<Self> {
        Ok(Plain)
    }
    fn open(&self, _: &OpenRequest<'_>) -> Result<Opened<Plain>> {
        Ok(Opened::new(Plain, 4096))
    }
}

impl Object for Plain {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        if run.pend().is_some() {
            return Err(Error::new("pended without ASYNC"));
        }
        run.pages().for_each(|page| page.fill(b"plain"));
        Ok(())
    }
}

#[test]
fn an_operation_is_in_the_table_exactly_when_its_trait_is_implemented() {
    const PLAIN: Module = quire_pager::module!(Plain);
    const FULL: Module = quire_pager::module!(Actor);
    macro_rules! slots {
        ($($slot:ident),*) => {$(
            assert!(PLAIN.$slot.is_none(), concat!(stringify!($slot), " of the plain pager"));
            assert!(FULL.$slot.is_some(), concat!(stringify!($slot), " of the full pager"));
        )*};
    }
    slots!(
        put,
        has_page,
        populate,
        get_size,
        resize,
        sync,
        prepare_write,
        cancel,
        reserve,
        free_space
    );
    slots!(page_inserted, page_removed);
    assert!(PLAIN.open.is_some() && PLAIN.close.is_some() && PLAIN.get.is_some());
    assert!(PLAIN.version.is_null() && PLAIN.description.is_null());
    assert_eq!(PLAIN.thread_model, QUIRE_THREADS_PARALLEL);
    assert_eq!((PLAIN.caps, FULL.caps), (0, QUIRE_CAP_ASYNC | QUIRE_CAP_STAY_RESIDENT));
    assert_eq!(FULL.thread_model, QUIRE_THREADS_SERIALIZE_OBJECT);
    assert_eq!(
        (FULL.magic, FULL.abi_version),
        (QUIRE_PAGER_MAGIC, QUIRE_PAGER_ABI_VERSION)
    );
    assert_eq!(FULL.struct_size as usize, size_of::<Module>());
}

#[test]
fn a_get_fills_pages_and_zeros_what_lies_past_the_size() {
    let host = actor();
    let object = host.open("x").expect("opens");
    assert_eq!(object.opened.identity, [1, 2]);
    assert_eq!(
        (object.opened.size, object.opened.granule, object.opened.max_run),
        (10_000, 512, 16)
    );
    assert_eq!(object.opened.flags, QUIRE_OBJECT_POPULATE);
    let answer = object.get(2, 1);
    assert_eq!(
        (answer.status, answer.pages[0].status),
        (QUIRE_PAGER_OK, QUIRE_PAGER_OK)
    );
    let data = 10_000 - 2 * PAGE_SIZE;
    assert!(answer.pages[0].bytes[..data].iter().all(|&b| b == b'x'));
    assert!(answer.pages[0].bytes[data..].iter().all(|&b| b == 0));
}

#[test]
fn s115_pages_beyond_the_size_are_bad_and_never_reach_the_pager() {
    let host = actor();
    let object = host.open("x").expect("opens");
    let answer = object.get(3, 1);
    assert_eq!(answer.status, QUIRE_PAGER_BAD);
    assert_eq!(
        answer.text,
        "actor: get of x: page 3 lies beyond the object's 10000 bytes"
    );
    let answer = object.get(2, 3);
    let statuses: Vec<i32> = answer.pages.iter().map(|page| page.status).collect();
    assert_eq!(
        (answer.status, statuses),
        (QUIRE_PAGER_OK, vec![QUIRE_PAGER_OK, QUIRE_PAGER_BAD, QUIRE_PAGER_BAD])
    );
    assert!(answer.pages[1].bytes.iter().all(|&b| b == 0xAA));
}

#[test]
fn a_neighbours_failure_fails_nobody() {
    let host = actor();
    let object = host.open("neighbours fail").expect("opens");
    let mut transfer = object.transfer(0, vec![vec![0; PAGE_SIZE]; 3]);
    transfer.required = 1;
    let answer = object.get_with(transfer);
    let statuses: Vec<i32> = answer.pages.iter().map(|page| page.status).collect();
    assert_eq!(
        (answer.status, statuses),
        (0, vec![QUIRE_PAGER_FAIL, 0, QUIRE_PAGER_FAIL])
    );
    assert_eq!(answer.text, "");
    let answer = host.open("required fails").expect("opens").get(1, 1);
    assert_eq!(answer.status, QUIRE_PAGER_FAIL);
    assert_eq!(answer.text, "actor: get of required fails at byte 4096: gone");
}

#[test]
fn a_get_that_leaves_its_required_page_untouched_is_an_error() {
    let host = actor();
    let answer = host.open("forget").expect("opens").get(0, 2);
    assert_eq!(
        (answer.status, answer.pages[0].status),
        (QUIRE_PAGER_ERROR, QUIRE_PAGER_ERROR)
    );
    assert!(
        answer.text.contains("without saying what became of a page"),
        "{}",
        answer.text
    );
}

#[test]
fn a_panic_becomes_a_status_with_its_message() {
    let host = actor();
    let object = host.open("panic").expect("opens");
    let answer = object.get(1, 2);
    assert_eq!(
        (answer.status, answer.pages[0].status),
        (QUIRE_PAGER_FAULTED, QUIRE_PAGER_FAULTED)
    );
    assert_eq!(
        answer.text,
        "actor: get of panic at byte 4096 (2 pages): the pager panicked: page 1 is cursed"
    );
    let close = host.module().close.expect("close");
    let handle = object.opened.object;
    std::mem::forget(object);
    // SAFETY: the handle is open, and nobody else will close it.
    assert_eq!(unsafe { close(host.ctx(), handle) }, QUIRE_PAGER_FAULTED);
    assert!(
        host.take_error()
            .contains("close of panic: the pager panicked: in close")
    );
    let failure = TestHost::load(quire_pager::module!(Actor), Some("panic")).expect_err("refused");
    assert_eq!(failure.status, QUIRE_PAGER_FAULTED);
}

#[test]
fn a_request_that_pends_completes_from_another_thread() {
    let host = actor();
    let object = host.open("pend").expect("opens");
    let answer = object.get(0, 2);
    assert!(answer.pended);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert!(answer.pages[1].bytes.starts_with(b"late\0\0"));
    let answer = host.open("pend and fail").expect("opens").get(0, 1);
    assert_eq!((answer.status, answer.pages[0].status), (-5, -5));
    assert_eq!(
        answer.text,
        "actor: get of pend and fail at byte 0 (1 page): the line is cut"
    );
}

#[test]
fn a_request_may_complete_before_the_operation_returns() {
    let host = actor();
    let answer = host.open("pend, complete, return").expect("opens").get(0, 1);
    assert!(answer.pended);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert!(answer.pages[0].bytes.starts_with(b"early"));
}

#[test]
fn a_dropped_request_completes_with_an_error() {
    let host = actor();
    let answer = host.open("pend and drop").expect("opens").get(0, 1);
    assert!(answer.pended);
    assert_eq!(
        (answer.status, answer.pages[0].status),
        (QUIRE_PAGER_ERROR, QUIRE_PAGER_ERROR)
    );
    assert!(answer.text.contains("dropped the pending request"), "{}", answer.text);
    let answer = host.open("pend and unwind").expect("opens").get(0, 1);
    assert!(answer.pended);
    assert_eq!(answer.status, QUIRE_PAGER_FAULTED);
}

#[test]
fn a_panic_after_pending_leaves_the_answer_to_the_pending_request() {
    let host = actor();
    let answer = host.open("pend and panic").expect("opens").get(0, 1);
    assert!(answer.pended);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    assert!(
        host.log_lines().iter().any(|line| line.contains("too late to matter")),
        "{:?}",
        host.log_lines()
    );
}

#[test]
fn nothing_pends_without_permission_or_capability() {
    let host = actor();
    let object = host.open("pend").expect("opens");
    let mut transfer = object.transfer(0, vec![vec![0; PAGE_SIZE]]);
    transfer.flags = 0;
    let answer = object.get_with(transfer);
    assert_eq!((answer.status, answer.pended), (QUIRE_PAGER_AGAIN, false));
    let plain = TestHost::load(quire_pager::module!(Plain), None).expect("loads");
    assert_eq!(plain.open("any").expect("opens").get(0, 1).status, QUIRE_PAGER_OK);
}

#[test]
fn a_put_is_given_the_bytes_below_the_size_only() {
    let host = actor();
    let object = host.open("x").expect("opens");
    let answer = object.put(1, &[1; 2 * PAGE_SIZE]);
    assert_eq!(answer.status, QUIRE_PAGER_OK);
    let answer = object.put(1, &[1; 3 * PAGE_SIZE]);
    assert_eq!(
        (answer.status, answer.pages[1].status, answer.pages[2].status),
        (0, 0, QUIRE_PAGER_BAD)
    );
    assert_eq!(object.put(3, &[1; 1]).status, QUIRE_PAGER_BAD);
}

#[test]
fn a_put_that_fails_or_forgets_a_page_says_so() {
    let host = actor();
    let answer = host.open("put half").expect("opens").put(0, &[1; 3 * PAGE_SIZE]);
    let statuses: Vec<i32> = answer.pages.iter().map(|page| page.status).collect();
    assert_eq!((answer.status, statuses), (-28, vec![QUIRE_PAGER_OK, -28, -28]));
    assert_eq!(answer.text, "actor: put of put half at byte 0 (3 pages): full");
    let answer = host.open("put forgets").expect("opens").put(0, &[1; 2 * PAGE_SIZE]);
    assert_eq!(
        (answer.status, answer.pages[1].status),
        (QUIRE_PAGER_ERROR, QUIRE_PAGER_ERROR)
    );
}

#[test]
fn populate_installs_pages_through_the_host() {
    let host = actor();
    let object = host.open("x").expect("opens");
    let (range, pages) = object.populate(1, 0..=2, &[]).expect("populates");
    assert_eq!(range, 0..=2);
    assert_eq!(pages.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(pages[&2].iter().all(|&b| b == 2));
    let (_, pages) = object.populate(1, 0..=2, &[2]).expect("populates");
    assert_eq!(pages.keys().copied().collect::<Vec<_>>(), [0, 1]);
    let use_get = host
        .open("use get")
        .expect("opens")
        .populate(1, 0..=2, &[])
        .expect_err("BAD");
    assert_eq!((use_get.status, use_get.text.as_str()), (QUIRE_PAGER_BAD, ""));
    let elsewhere = host
        .open("elsewhere")
        .expect("opens")
        .populate(1, 0..=2, &[])
        .expect_err("an error");
    assert_eq!(elsewhere.status, QUIRE_PAGER_ERROR);
}

#[test]
fn the_other_operations_pass_values_and_errors_through() {
    let host = actor();
    let mut object = host.open("x").expect("opens");
    assert_eq!(
        object.has_page(1).expect("has_page"),
        Some(Extent { before: 1, after: 2 })
    );
    assert_eq!(object.has_page(2).expect("has_page"), None);
    assert_eq!(object.size().expect("size"), 77);
    assert_eq!(object.sync(), Ok(()));
    assert_eq!(object.free_space(0, 7), Ok(()));
    let failure = object.free_space(2, 3).expect_err("fails");
    assert_eq!(
        (failure.status, failure.text.as_str()),
        (-5, "actor: free_space of x: 3 pages from 2 are gone")
    );
    let failure = object.resize(1).expect_err("fixed");
    assert_eq!(
        (failure.status, failure.text.as_str()),
        (QUIRE_PAGER_UNSUPPORTED, "actor: resize of x: fixed")
    );
    let removed = host.module().page_removed.expect("page_removed");
    // SAFETY: the handle is open.
    unsafe { removed(object.opened.object, 9) };
    assert!(
        host.log_lines().iter().any(|line| line.contains("notice 9")),
        "{:?}",
        host.log_lines()
    );
    assert_eq!(object.path(64).expect("path"), "x");
    let named = host.open("größe").expect("opens");
    assert_eq!(named.path(4).expect("path"), "gr");
    assert_eq!(named.path(1).expect("path"), "");
    assert_eq!(named.path(0).expect_err("no place").status, QUIRE_PAGER_INVALID);
}
