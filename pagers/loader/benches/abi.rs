//! What the plugin ABI costs: one request to a pager, directly and across the table; and loading and checking a plugin.
//!
//! A request here is a `get` of one page, as the engine makes it, without the engine around it. Each pager is measured
//! twice: filling the page with 4 KiB, which is the least that a real one does, and answering at once, which shows the call alone.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "../../../tests/src/built.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a module of the tests, of which a part is used"
)]
mod built;

use std::ffi::{CStr, CString, c_void};
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use quire_abi as abi;
use quire_bridge::Open;
use quire_core::io::{Direction, Io, IoPlan};
use quire_core::pager::{Answer, Pager, PagerOps};
use quire_core::types::{PAGE_BYTES, PAGE_SIZE, PageIndex};
use quire_loader::{Loaded, Plugin};
use quire_pager::{GetRun, Host, Object, OpenRequest, Opened, Result};

/// The same pager three times: `FILLS` says whether it moves bytes.
#[derive(Debug)]
struct Direct<const FILLS: bool>;

impl<const FILLS: bool> Pager for Direct<FILLS> {
    fn describe(&self) -> String {
        "direct".to_owned()
    }

    fn ops(&self) -> PagerOps {
        PagerOps::empty()
    }

    fn max_run(&self) -> u32 {
        64
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        for i in 0..io.len() {
            if FILLS {
                // SAFETY: the request is under way, so the page's bytes are ours to write.
                unsafe { io.bytes(i).write_bytes(0x51, PAGE_BYTES) };
            }
            io.page_done(i);
        }
        Answer::Done(Ok(()))
    }
}

unsafe extern "C" fn open(_: *mut c_void, _: *const abi::OpenArgs, out: *mut abi::OpenResult) -> i32 {
    // SAFETY: the host lends a struct for the time of the call.
    let out = unsafe { &mut *out };
    out.object = NonNull::<c_void>::dangling().as_ptr();
    out.size = 64 * PAGE_SIZE;
    abi::QUIRE_PAGER_OK
}

unsafe extern "C" fn close(_: *mut c_void, _: *mut c_void) -> i32 {
    abi::QUIRE_PAGER_OK
}

unsafe extern "C" fn get<const FILLS: bool>(_: *mut c_void, io: *mut abi::Io) -> i32 {
    // SAFETY: the host lends the request, and as many pages as it says, until the answer.
    let pages = unsafe { std::slice::from_raw_parts_mut((*io).pages, (*io).count as usize) };
    for page in pages {
        if FILLS {
            // SAFETY: the host lends a page of bytes to be filled.
            unsafe { page.bytes.cast::<u8>().write_bytes(0x51, PAGE_BYTES) };
        }
        page.status = abi::QUIRE_PAGER_OK;
    }
    abi::QUIRE_PAGER_OK
}

#[allow(clippy::cast_possible_truncation, reason = "the table has some hundreds of bytes")]
const fn table<const FILLS: bool>(name: &'static CStr) -> abi::Module {
    abi::Module {
        thread_model: abi::QUIRE_THREADS_PARALLEL,
        name: name.as_ptr(),
        open: Some(open),
        close: Some(close),
        get: Some(get::<FILLS>),
        ..abi::Module::EMPTY
    }
}

static BARE_FILLING: abi::Module = table::<true>(c"bare-filling");
static BARE_IDLE: abi::Module = table::<false>(c"bare-idle");

/// The pager in safe Rust, through the SDK: every call is guarded against panics.
struct Sdk<const FILLS: bool>;

struct SdkObject<const FILLS: bool>;

impl<const FILLS: bool> quire_pager::Pager for Sdk<FILLS> {
    const NAME: &'static CStr = if FILLS { c"sdk-filling" } else { c"sdk-idle" };
    type Object = SdkObject<FILLS>;

    fn init(_host: Host, _config: Option<&str>) -> Result<Self> {
        Ok(Self)
    }

    fn open(&self, _request: &OpenRequest<'_>) -> Result<Opened<SdkObject<FILLS>>> {
        Ok(Opened::new(SdkObject, 64 * PAGE_SIZE))
    }
}

impl<const FILLS: bool> Object for SdkObject<FILLS> {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        for mut page in run.pages() {
            if FILLS {
                page.data().fill(0x51);
            }
            page.filled();
        }
        Ok(())
    }
}

static SDK_FILLING: abi::Module = quire_pager::module!(Sdk<true>);
static SDK_IDLE: abi::Module = quire_pager::module!(Sdk<false>);

/// An object opened through the table, as the engine sees it.
fn open_through(table: &'static abi::Module) -> Box<dyn Pager> {
    // SAFETY: a static table whose functions keep the ABI's contract.
    let loaded = unsafe { Loaded::register(Path::new("built-in"), table, None, Box::new(|_, _, _| {})) };
    loaded
        .expect("a good table")
        .open(&Open::default())
        .expect("opens")
        .pager
}

fn calls(c: &mut Criterion) {
    let pagers: [(&str, Box<dyn Pager>); 6] = [
        ("idle/direct", Box::new(Direct::<false>)),
        ("idle/table", open_through(&BARE_IDLE)),
        ("idle/sdk", open_through(&SDK_IDLE)),
        ("4_KiB/direct", Box::new(Direct::<true>)),
        ("4_KiB/table", open_through(&BARE_FILLING)),
        ("4_KiB/sdk", open_through(&SDK_FILLING)),
    ];
    let mut page = vec![0_u64; PAGE_BYTES / 8];
    let bytes = NonNull::from(&mut page[..]).cast::<u8>();
    let plan = IoPlan {
        direction: Direction::Get,
        first: PageIndex(3),
        required: 0,
        object_size: 64 * PAGE_SIZE,
        reclaiming: false,
        in_signal: false,
    };
    for (name, pager) in pagers {
        c.bench_function(&format!("abi/get/{name}"), |b| {
            b.iter_batched_ref(
                // SAFETY: the page outlives every request, which is answered before the next one is made.
                || Arc::new(unsafe { Io::detached(plan, vec![bytes]) }.expect("memory")),
                |io| black_box(pager.get(io)),
                BatchSize::SmallInput,
            );
        });
    }
}

/// A page of a file that the system has in memory, through the table and the pager of files: one request at a time, each
/// of another page, until it has completed.
fn files(c: &mut Criterion) {
    const PAGES: u64 = 4096;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let bytes = vec![0x51; usize::try_from(PAGES * PAGE_SIZE).expect("fits")];
    std::fs::write(file.path(), bytes).expect("room for 16 MiB");
    let name = CString::new(file.path().as_os_str().as_bytes()).expect("no zero in it");
    let mut page = vec![0_u64; PAGE_BYTES / 8];
    let bytes = NonNull::from(&mut page[..]).cast::<u8>();
    let vnode = built::plugin("vnode");
    for config in [c"io=auto", c"io=threads", c"io=sync"] {
        let loaded = Loaded::load(&vnode, Some(config), Box::new(|_, _, _| {})).expect("loads");
        let what = Open {
            name: Some(&name),
            write: true,
            ..Open::default()
        };
        let pager = loaded.open(&what).expect("opens").pager;
        for direction in [Direction::Get, Direction::Put] {
            let mut next = 0;
            let name = format!("abi/vnode/{direction:?}/{}", config.to_string_lossy());
            c.bench_function(&name, |b| {
                b.iter_batched_ref(
                    || {
                        // A step that is coprime to the number of pages meets them all.
                        next = (next + 1009) % PAGES;
                        let plan = IoPlan {
                            direction,
                            first: PageIndex(next),
                            required: 0,
                            object_size: PAGES * PAGE_SIZE,
                            reclaiming: false,
                            in_signal: false,
                        };
                        // SAFETY: the page outlives every request, which has completed before the next one is made.
                        Arc::new(unsafe { Io::detached(plan, vec![bytes]) }.expect("memory"))
                    },
                    |io| {
                        let answer = match direction {
                            Direction::Get => pager.get(io),
                            Direction::Put => pager.put(io),
                        };
                        if matches!(answer, Answer::Pending) {
                            io.wait().expect("moves");
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        drop(pager);
        Loaded::unload(loaded).expect("unloads");
    }
}

/// Reading and checking the file, the dynamic linker's work, the handshake, for Rust the comparison of types, and unloading.
fn load(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let c_plugin = folder.path().join("file_pager.so");
    built::c_library(
        &built::repository().join("examples/pagers/file_pager.c"),
        &["-std=c99"],
        &c_plugin,
    );
    let vnode = built::plugin("vnode");
    for (name, path) in [("c", &c_plugin), ("rust", &vnode)] {
        c.bench_function(&format!("load/{name}"), |b| {
            b.iter(|| Plugin::unload(Plugin::load(path).expect("loads")).expect("unloads"));
        });
        let kept = Plugin::load(path).expect("loads");
        c.bench_function(&format!("load/{name}/in_memory_already"), |b| {
            b.iter(|| Plugin::unload(Plugin::load(path).expect("loads")).expect("unloads"));
        });
        drop(kept);
    }
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20)
}

criterion_group! { name = abi_costs; config = short(); targets = calls, files, load }
criterion_main!(abi_costs);
