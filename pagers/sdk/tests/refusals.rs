//! What a table answers to arguments that no host should pass, and to hosts that are smaller than this one.

#![allow(clippy::cast_possible_truncation, reason = "sizes of small structs")]

mod actor;

use std::ffi::{CStr, c_void};
use std::ptr;

use quire_pager::abi::*;
use quire_pager::testing::{PAGE_SIZE, TestHost};

use actor::{Actor, actor};

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
    let failure = host
        .open_with(Some("x"), -1, 0x2_0080)
        .expect_err("a flag that must be understood");
    assert_eq!(
        (failure.status, failure.text.as_str()),
        (
            QUIRE_PAGER_INVALID,
            "actor: open: open has the flags 0x20000, which this pager must know and does not; build it with a newer quire-pager"
        )
    );
    drop(host.open_with(Some("x"), -1, QUIRE_OPEN_READ | 0x80).expect("a hint"));
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
        page_stride: size_of::<IoPage>() as u32,
        object_size: 10_000,
        pages: ptr::null_mut(),
    };
    let get = |handle: *mut c_void, io: *mut Io| {
        // SAFETY: what is wrong with the arguments is what the function must refuse; the rest is as the ABI says.
        unsafe { module.get.expect("get")(handle, io) }
    };
    assert_eq!(get(ptr::null_mut(), &mut good()), QUIRE_PAGER_INVALID);
    assert_eq!(get(handle, ptr::null_mut()), QUIRE_PAGER_INVALID);
    assert_eq!(
        host.take_error(),
        "actor: get of x: the host passed no struct quire_pager_io"
    );
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
        Io {
            struct_size: QUIRE_PAGER_IO_MIN_SIZE - 1,
            ..good()
        },
        Io {
            page_stride: 12,
            ..good()
        },
        Io {
            page_stride: 20,
            ..good()
        },
        Io {
            flags: 1 << 16,
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
        // Half of `complete`.
        let cut = HostApi {
            struct_size: std::mem::offset_of!(HostApi, complete) as u32 + 4,
            ..*host.api()
        };
        assert_eq!(init(&cut, ptr::null(), &mut ctx), QUIRE_PAGER_INVALID);
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
            host_object: 0,
            host: host.api(),
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
            host: host.api(),
        };
        assert_eq!(
            module.populate.expect("populate")(out.object, &mut request),
            QUIRE_PAGER_UNSUPPORTED
        );
        assert_eq!(module.close.expect("close")(ctx, out.object), QUIRE_PAGER_OK);
        module.fini.expect("fini")(ctx);
    }
}

/// A host whose structs have a member more: what it does not know is left alone, and what lies behind is not touched.
#[test]
fn structs_that_a_newer_host_makes_longer_are_read_and_written_as_far_as_they_are_known() {
    #[repr(C)]
    struct Longer<T> {
        known: T,
        more: u64,
    }
    fn longer<T>(known: T) -> Longer<T> {
        Longer { known, more: 0xfeed }
    }
    const PAGES: usize = 3;
    let host = actor();
    let module = host.module();
    let mut memory = vec![0xAA_u8; PAGES * PAGE_SIZE];
    let mut pages: Vec<_> = memory
        .chunks_mut(PAGE_SIZE)
        .map(|bytes| {
            longer(IoPage {
                bytes: bytes.as_mut_ptr().cast(),
                status: QUIRE_PAGER_UNTOUCHED,
                reserved: 0,
            })
        })
        .collect();
    let mut args = longer(OpenArgs {
        struct_size: size_of::<Longer<OpenArgs>>() as u32,
        flags: QUIRE_OPEN_READ,
        token: 1,
        name: c"x".as_ptr(),
        fd: -1,
        page_size: PAGE_SIZE as u32,
        driver: ptr::null(),
        host_object: 0,
        host: host.api(),
    });
    // SAFETY: zeros are a valid result.
    let mut out: Longer<OpenResult> = longer(unsafe { std::mem::zeroed() });
    out.known.struct_size = size_of::<Longer<OpenResult>>() as u32;
    // SAFETY: as the ABI says: each struct is as long as it states, the pages as far apart.
    unsafe {
        assert_eq!(
            module.open.expect("open")(host.ctx(), (&raw mut args).cast(), (&raw mut out).cast()),
            QUIRE_PAGER_OK
        );
        let mut io = longer(Io {
            struct_size: size_of::<Longer<Io>>() as u32,
            flags: 0,
            token: 2,
            first: 0,
            count: PAGES as u32,
            required: 2,
            page_size: PAGE_SIZE as u32,
            page_stride: size_of::<Longer<IoPage>>() as u32,
            object_size: 10_000,
            pages: pages.as_mut_ptr().cast(),
        });
        assert_eq!(
            module.get.expect("get")(out.known.object, (&raw mut io).cast()),
            QUIRE_PAGER_OK
        );
        let mut extent = longer(quire_pager::abi::Extent {
            struct_size: size_of::<Longer<quire_pager::abi::Extent>>() as u32,
            before: 0,
            after: 0,
        });
        assert_eq!(
            module.has_page.expect("has_page")(out.known.object, 0, (&raw mut extent).cast()),
            QUIRE_PAGER_OK
        );
        assert_eq!((extent.known.before, extent.known.after, extent.more), (1, 2, 0xfeed));
        assert_eq!(extent.known.struct_size as usize, size_of_val(&extent));
        module.close.expect("close")(host.ctx(), out.known.object);
    }
    assert_eq!(out.known.struct_size as usize, size_of_val(&out));
    assert_eq!((args.more, out.more), (0xfeed, 0xfeed));
    assert!(
        pages
            .iter()
            .all(|page| page.known.status == QUIRE_PAGER_OK && page.more == 0xfeed)
    );
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
