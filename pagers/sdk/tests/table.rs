//! Drives exported tables as a host would: through raw calls, and through the SDK's test host.

#![allow(clippy::cast_possible_truncation, reason = "sizes of small structs")]

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestHost};
use quire_pager::{
    Accounting, Cancel, Caps, Durable, Error, Extent, FreeSpace, GetRun, HasPage, Host, Level, Object, OpenRequest,
    Opened, Pager, PendingGet, Populate, PopulateRun, Populated, PrepareWrite, Put, PutRun, Reserve, Resize, Result,
    Size, Threads,
};

/// A pager whose one object does what its name says; "pend" hands requests to a thread.
struct Actor {
    host: Host,
    sender: Option<Sender<(Todo, PendingGet)>>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Todo {
    Fill,
    Drop,
    Fail,
}

struct Role {
    name: String,
    sender: Sender<(Todo, PendingGet)>,
    state: Mutex<Vec<String>>,
}

fn work(requests: Receiver<(Todo, PendingGet)>) {
    for (todo, mut request) in requests {
        match todo {
            Todo::Fill => {
                for page in request.pages() {
                    page.fill(b"late");
                }
                request.complete(Ok(()));
            }
            Todo::Drop => drop(request),
            Todo::Fail => request.complete(Err(Error::errno(5, "the line is cut"))),
        }
    }
}

impl Pager for Actor {
    const NAME: &'static CStr = c"actor";
    const DESCRIPTION: &'static CStr = c"Plays what it is told";
    const THREADS: Threads = Threads::SerializeObject;
    const CAPS: Caps = Caps::ASYNC.and(Caps::STAY_RESIDENT);
    type Object = Role;

    fn init(host: Host, config: Option<&str>) -> Result<Self> {
        match config {
            Some("refuse") => return Err(Error::invalid("told to refuse")),
            Some("panic") => panic!("told to panic"),
            _ => {}
        }
        let (sender, receiver) = channel();
        let worker = std::thread::spawn(move || work(receiver));
        host.log(Level::Info, format_args!("pages of {}\0 bytes", host.page_size()));
        Ok(Self {
            host,
            sender: Some(sender),
            worker: Some(worker),
        })
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Role>> {
        let name = request.text()?.to_owned();
        if name == "missing" {
            return Err(Error::from(std::io::Error::from_raw_os_error(2)));
        }
        let sender = self.sender.clone().expect("the worker runs until fini");
        let role = Role {
            name,
            sender,
            state: Mutex::default(),
        };
        Ok(Opened::new(role, 10_000)
            .identity([1, 2])
            .granule(512)
            .max_run(16)
            .populate())
    }

    fn fini(mut self) {
        drop(self.sender.take());
        self.worker.take().expect("a worker").join().expect("the worker ends");
        self.host.log(Level::Info, "fini");
    }
}

impl Object for Role {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        let late = |run: &mut GetRun<'_>, todo| {
            let request = run.pend().ok_or_else(|| Error::again("may not pend"))?;
            assert_eq!(run.pages().count(), 0);
            assert!(run.pend().is_none());
            self.sender.send((todo, request)).map_err(|_| Error::new("no worker"))
        };
        match self.name.as_str() {
            "panic" => panic!("page {} is cursed", run.first()),
            "pend" => late(run, Todo::Fill),
            "pend and drop" => late(run, Todo::Drop),
            "pend and fail" => late(run, Todo::Fail),
            "pend and panic" => {
                late(run, Todo::Fill)?;
                panic!("too late to matter")
            }
            "pend, complete, return" => {
                let mut request = run.pend().expect("may pend");
                request.pages().for_each(|page| page.fill(b"early"));
                request.complete(Ok(()));
                Ok(())
            }
            "pend and unwind" => {
                let _request = run.pend().expect("may pend");
                panic!("with the request in hand")
            }
            "forget" => Ok(()),
            "neighbours fail" => {
                for page in run.pages() {
                    if page.required() {
                        page.fill(&[7; PAGE_SIZE])
                    } else {
                        page.fail(Error::fail("not mine"))
                    }
                }
                Ok(())
            }
            "required fails" => {
                run.pages().for_each(|page| page.fail(Error::fail("gone")));
                Ok(())
            }
            _ => {
                for mut page in run.pages() {
                    page.data().fill(b'x');
                    page.filled();
                }
                Ok(())
            }
        }
    }

    fn close(self) -> Result<()> {
        if self.name == "panic" {
            panic!("in close")
        } else {
            Ok(())
        }
    }
}

impl Put for Role {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        for (i, page) in run.pages().enumerate() {
            self.state
                .lock()?
                .push(format!("{}+{}", page.offset(), page.data().len()));
            match (self.name.as_str(), i) {
                ("put half", 1) => return Err(Error::errno(28, "full")),
                ("put forgets", 1) => {}
                _ => page.written(),
            }
        }
        Ok(())
    }
}

impl Populate for Role {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        assert!(run.access().read() && !run.access().write() && run.max_protection().write());
        match self.name.as_str() {
            "use get" => return Ok(Populated::UseGet),
            "elsewhere" => return Ok(Populated::Pages(run.index() + 1..=run.index() + 1)),
            _ => {}
        }
        let (mut first, mut last) = (run.index(), run.index());
        for index in run.window() {
            let Some(bytes) = run.insert(index)? else { continue };
            bytes.fill(index as u8);
            run.ready(index)?;
            (first, last) = (first.min(index), last.max(index));
        }
        Ok(Populated::Pages(first..=last))
    }
}

/// Everything optional, so that the table is full.
macro_rules! notes {
    ($($trait:ident: $method:ident($($argument:ident),*) -> $result:ty = $value:expr;)*) => {$(
        impl $trait for Role {
            fn $method(&self $(, $argument: u64)*) -> $result {
                self.state.lock()?.push(stringify!($method).to_owned());
                $(let _ = $argument;)*
                $value
            }
        }
    )*};
}

notes! {
    HasPage: has_page(index) -> Result<Option<Extent>> = Ok((index < 2).then_some(Extent { before: 1, after: 2 }));
    Size: size() -> Result<u64> = Ok(77);
    Resize: resize(size) -> Result<()> = Err(Error::unsupported("fixed"));
    Durable: sync() -> Result<()> = Ok(());
    PrepareWrite: prepare_write(first, count) -> Result<()> = Ok(());
    Cancel: cancel(token) -> Result<()> = Ok(());
    Reserve: reserve(first, count) -> Result<()> = Ok(());
    FreeSpace: free_space(first, count) -> Result<()> = Ok(());
}

impl Accounting for Role {
    fn page_inserted(&self, index: u64) {
        self.state.lock().expect("lock").push(format!("+{index}"));
    }
    fn page_removed(&self, index: u64) {
        panic!("notice {index}")
    }
}

fn actor() -> TestHost {
    TestHost::load(quire_pager::module!(Actor), None).expect("the actor loads")
}

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

#[test]
fn errors_of_open_and_init_carry_the_name_and_the_systems_text() {
    let host = actor();
    let failure = host.open("missing").expect_err("missing");
    assert_eq!(failure.status, -2);
    assert!(
        failure.text.starts_with("actor: open: missing: No such file"),
        "{}",
        failure.text
    );
    assert_eq!(
        host.open_with(None, -1, QUIRE_OPEN_READ).expect_err("nameless").status,
        QUIRE_PAGER_INVALID
    );
    let failure = host.open_with(Some("x"), -1, 0x80).expect_err("unknown flag");
    assert_eq!(
        (failure.status, failure.text.as_str()),
        (QUIRE_PAGER_INVALID, "actor: open: unknown open flags 0x80")
    );
    let failure = TestHost::load(quire_pager::module!(Actor), Some("refuse")).expect_err("refused");
    assert_eq!(
        (failure.status, failure.text.as_str()),
        (QUIRE_PAGER_INVALID, "actor: init: told to refuse")
    );
    assert_eq!(host.log_lines(), ["pages of 4096 bytes"]);
}

#[test]
fn null_and_short_arguments_are_refused() {
    let host = actor();
    let object = host.open("x").expect("opens");
    let (module, handle) = (host.module(), object.opened.object);
    let mut page = IoPage {
        bytes: ptr::null_mut(),
        status: QUIRE_PAGER_UNTOUCHED,
        reserved: 0,
    };
    let good = || Io {
        struct_size: size_of::<Io>() as u32,
        flags: 0,
        token: 1,
        first: 0,
        count: 1,
        required: 0,
        page_size: PAGE_SIZE as u32,
        reserved: 0,
        object_size: 10_000,
        pages: ptr::null_mut(),
    };
    let get = |handle: *mut c_void, io: *mut Io| {
        // SAFETY: what is wrong with the arguments is what the function must refuse; the rest is as the ABI says.
        unsafe { module.get.expect("get")(handle, io) }
    };
    assert_eq!(get(ptr::null_mut(), &mut good()), QUIRE_PAGER_INVALID);
    assert_eq!(get(handle, ptr::null_mut()), QUIRE_PAGER_INVALID);
    assert_eq!(host.take_error(), "actor: get of x: the host passed no request");
    assert_eq!(get(handle, &mut good()), QUIRE_PAGER_INVALID);
    assert_eq!(
        get(
            handle,
            &mut Io {
                pages: &mut page,
                ..good()
            }
        ),
        QUIRE_PAGER_INVALID
    );
    let mut bytes = [0_u8; PAGE_SIZE];
    page.bytes = bytes.as_mut_ptr().cast();
    for wrong in [
        Io {
            struct_size: 8,
            ..good()
        },
        Io { count: 0, ..good() },
        Io { required: 1, ..good() },
        Io { page_size: 0, ..good() },
        Io {
            page_size: 1000,
            ..good()
        },
        Io {
            first: u64::MAX,
            ..good()
        },
        Io {
            first: 1 << 52,
            ..good()
        },
    ] {
        let status = get(
            handle,
            &mut Io {
                pages: &mut page,
                ..wrong
            },
        );
        assert_eq!(status, QUIRE_PAGER_INVALID);
        assert_ne!(host.take_error(), "");
    }
    assert_eq!(
        get(
            handle,
            &mut Io {
                pages: &mut page,
                ..good()
            }
        ),
        QUIRE_PAGER_OK
    );

    // SAFETY: as above, for each of these.
    unsafe {
        let (open, init) = (module.open.expect("open"), module.init.expect("init"));
        assert_eq!(open(ptr::null_mut(), ptr::null(), ptr::null_mut()), QUIRE_PAGER_INVALID);
        assert_eq!(open(host.ctx(), ptr::null(), ptr::null_mut()), QUIRE_PAGER_INVALID);
        let mut ctx = ptr::null_mut();
        assert_eq!(init(ptr::null(), ptr::null(), &mut ctx), QUIRE_PAGER_INVALID);
        assert_eq!(init(host.api(), ptr::null(), ptr::null_mut()), QUIRE_PAGER_INVALID);
        let short = HostApi {
            struct_size: 8,
            ..*host.api()
        };
        assert_eq!(init(&short, ptr::null(), &mut ctx), QUIRE_PAGER_INVALID);
        module.fini.expect("fini")(ptr::null_mut());
        assert_eq!(
            module.close.expect("close")(host.ctx(), ptr::null_mut()),
            QUIRE_PAGER_INVALID
        );
        assert_eq!(
            module.has_page.expect("has_page")(handle, 0, ptr::null_mut()),
            QUIRE_PAGER_INVALID
        );
        assert_eq!(
            module.get_size.expect("get_size")(handle, ptr::null_mut()),
            QUIRE_PAGER_INVALID
        );
        assert_eq!(
            module.populate.expect("populate")(handle, ptr::null_mut()),
            QUIRE_PAGER_INVALID
        );
        assert_eq!(
            module.path.expect("path")(handle, ptr::null_mut(), 9),
            QUIRE_PAGER_INVALID
        );
    }
}

#[test]
fn services_that_a_smaller_host_lacks_are_absent() {
    let host = actor();
    // As a host whose table ended before `complete`: what follows in memory must not be called.
    let small = HostApi {
        struct_size: std::mem::offset_of!(HostApi, complete) as u32,
        ..*host.api()
    };
    let (mut ctx, module) = (ptr::null_mut(), host.module());
    // SAFETY: a table of the size it states, and arguments as the ABI says.
    unsafe {
        assert_eq!(
            module.init.expect("init")(&small, ptr::null(), &mut ctx),
            QUIRE_PAGER_OK
        );
        let args = OpenArgs {
            struct_size: size_of::<OpenArgs>() as u32,
            flags: QUIRE_OPEN_READ,
            token: 1,
            name: c"x".as_ptr(),
            fd: -1,
            page_size: PAGE_SIZE as u32,
            driver: ptr::null(),
        };
        let mut out: OpenResult = std::mem::zeroed();
        out.struct_size = size_of::<OpenResult>() as u32;
        assert_eq!(module.open.expect("open")(ctx, &args, &mut out), QUIRE_PAGER_OK);
        let mut request = quire_pager::abi::Populate {
            struct_size: size_of::<quire_pager::abi::Populate>() as u32,
            flags: 0,
            token: 1,
            index: 0,
            first: 0,
            last: 0,
            access: QUIRE_ACCESS_READ,
            max_prot: QUIRE_ACCESS_READ | QUIRE_ACCESS_WRITE,
            page_size: PAGE_SIZE as u32,
            reserved: 0,
        };
        assert_eq!(
            module.populate.expect("populate")(out.object, &mut request),
            QUIRE_PAGER_UNSUPPORTED
        );
        assert_eq!(module.close.expect("close")(ctx, out.object), QUIRE_PAGER_OK);
        module.fini.expect("fini")(ctx);
    }
}

#[test]
fn fini_joins_the_pagers_threads_and_retires_the_host() {
    let host = actor();
    drop(host.open("pend").expect("opens"));
    let (fini, ctx) = (host.module().fini.expect("fini"), host.ctx());
    // SAFETY: every object is closed; the host below never calls it again.
    unsafe { fini(ctx) };
    assert_eq!(host.log_lines().last().map(String::as_str), Some("fini"));
    std::mem::forget(host);
}

quire_pager::export_pager!(Actor);

#[test]
fn the_entry_answers_the_table() {
    let module = quire_pager_entry(QUIRE_PAGER_ABI_VERSION);
    // SAFETY: the entry answers a constant table.
    let module = unsafe { &*module };
    assert_eq!(module.magic, QUIRE_PAGER_MAGIC);
    // SAFETY: a zero-terminated constant.
    assert_eq!(unsafe { CStr::from_ptr(module.name) }, c"actor");
}
