//! The vnode pager: regular files and block devices.
//!
//! An object is a file, named by its path or by a descriptor that the caller has open; the pager keeps a descriptor of its
//! own. Opening the same file twice gives the same identity: device and inode, or the device's number for a block device.
//!
//! # What is read and written
//!
//! - Bytes past the end of the file read as zeros (S121), and nothing at or beyond the object's size is ever written (S117).
//! - A page that lies wholly beyond the object's size (S115), or beyond the end that the file has by now because somebody
//!   cut it short, is answered with `QUIRE_PAGER_BAD`; what touches it gets a bus error. A put answers the same and does
//!   not bring the file's old end back; the engine keeps the page dirty until the caller discards it. Of a page in which the
//!   file ends, the bytes before the end are written. A file grows through `resize` only, which comes before the puts.
//! - Reads and writes that are interrupted or come back short are continued. A read that gets nothing where the file has
//!   bytes is tried once more, because the file may have been cut and have grown again; twice nothing, and a write that
//!   takes nothing, are errors (S120, D10).
//! - A descriptor of the caller's with `O_DIRECT` is refused: `direct=1` is the way past the page cache.
//!
//! # Requests that complete later
//!
//! Operations run in parallel. A get or a put that the host allows to complete later is handed to the module's engine, one
//! of three, and completes from there, in any order:
//!
//! - **uring**: one io_uring and one thread that submits to it and reaps it;
//! - **threads**: a pool of threads, where the kernel refuses io_uring;
//! - **sync**: none; no thread is started, and every request is done on the thread that asks.
//!
//! Before a get is handed over, the page cache is asked for what it has without waiting: pages that are there cost a system
//! call and no change of threads. A put into the page cache is a copy, and done on the thread that asks, unless `later=1`:
//! handing it over costs more than the copy. A request is also done at once when too many are in flight. Size, resize and sync are
//! always done at once.
//!
//! # In a signal handler
//!
//! A get or a put with `QUIRE_IO_IN_SIGNAL` allocates nothing, takes no lock, starts nothing on another thread, and says nothing when it fails:
//! it makes system calls (`preadv`, `pwritev`, `fstat`) and counts. It takes some 5 KiB of stack, and may change `errno`.
//!
//! # What others write
//!
//! For a regular file, `change` is its times of modification and of status change, in nanoseconds. Whoever writes to it through
//! a descriptor sets both; so a file that was written while nobody had it open here is seen to be another. Not seen are: two
//! writes within the file system's granularity of time, which is as long as a tick of the kernel (1 to 10 ms) with most
//! of them; what a program writes through a mapping until the kernel notes it; and changes of the device below a mounted
//! file. A change of owner, mode or links is taken for one of the contents. Of a block device nothing is told.
//!
//! # Configuration
//!
//! `name=value` pairs, separated by commas or white space; anything else refuses the load with a sentence.
//!
//! | name | value | default |
//! |---|---|---|
//! | `io` | `auto` (uring, else threads), `uring` (or refuse the load), `threads`, `sync` | `auto` |
//! | `direct` | `1`: move past the page cache (`O_DIRECT`) what is aligned as the file system wants it; the rest, such as the tail of a file, goes through the page cache by a second descriptor. A file that cannot be opened so is served through the page cache, and the log says so | `0` |
//! | `depth` | the most requests in flight, 1 to 4096; each takes some 4 KiB of memory, all of it at load | `128` |
//! | `threads` | threads of the pool, 1 to 256 | `16` |
//! | `later` | `1`: hand puts into the page cache over as well, for file systems on which a write may wait long (FUSE, NFS) | `0` |
//!
//! # Statistics
//!
//! The engine is logged at load. The extension [`STATS_ID`], `quire.stats/1`, is a [`StatsTable`], whose `read` writes
//! [`StatsCounters`]: the engine, requests, bytes, how many are in flight, short transfers.
//!
//! # Threads, fork and unloading
//!
//! No signal for the process is delivered to the threads, and no request is submitted from a thread of the program: the kernel would interrupt
//! that thread's system calls, and cancel requests when it ends. `close` waits for the object's requests, `fini` joins the
//! threads; afterwards nothing of the library runs, and it can be unloaded. After a fork the child has neither the threads
//! nor the ring's memory (it is not inherited), so the pager is not fork-safe: the child calls no operation of it, not even
//! close, as the ABI says.
//!
//! Layers: `open` decides what may be paged, `transfer` moves runs step by step, `engine` takes the steps elsewhere, this
//! file puts them into the ABI.

mod backing;
mod config;
mod engine;
mod open;
mod stats;
mod transfer;

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use quire_pager::abi::Module;
use quire_pager::{
    Caps, Change, Durable, Error, Extensions, Extent, GetRun, HasPage, Host, Object, OpenRequest, Opened, Pager, Put,
    PutRun, Resize, Result, Size, version,
};
use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

use backing::{Backing, Kind};
use config::Config;
use engine::{Engine, Work};
pub use stats::{ENGINE_SYNC, ENGINE_THREADS, ENGINE_URING, STATS_ID, StatsCounters, StatsTable};
use stats::{Stats, add};
use transfer::Cursor;

/// The pager: what its files have in common.
#[derive(Debug)]
pub struct Vnode {
    host: Host,
    config: Config,
    engine: Arc<Engine>,
    stats: Arc<Stats>,
    table: OnceLock<&'static StatsTable>,
}

/// An open file.
#[derive(Debug)]
pub struct File {
    backing: Arc<Backing>,
    engine: Arc<Engine>,
}

impl Pager for Vnode {
    const NAME: &'static CStr = c"vnode";
    const VERSION: &'static CStr = version!();
    const DESCRIPTION: &'static CStr = c"Regular files and block devices, by path or by file descriptor";
    const CAPS: Caps = Caps::ASYNC.and(Caps::SIGNAL_SAFE);
    type Object = File;

    fn init(host: Host, config: Option<&str>) -> Result<Self> {
        let config = Config::parse(config)?;
        let stats = Arc::<Stats>::default();
        let engine = Arc::new(Engine::start(&host, &config, &stats)?);
        Ok(Self {
            host,
            config,
            engine,
            stats,
            table: OnceLock::new(),
        })
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<File>> {
        open::open(self, request)
    }

    fn fini(self) {
        self.engine.stop();
    }
}

impl Extensions for Vnode {
    fn extension(&self, id: &CStr) -> Option<NonNull<c_void>> {
        let table = (id == STATS_ID).then(|| *self.table.get_or_init(|| self.stats.table()))?;
        Some(NonNull::from(table).cast())
    }
}

impl Object for File {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        add(&self.backing.stats.requests, 1);
        let mut cursor = Cursor::default();
        let may_pend = self.engine.pends() && run.may_pend();
        if may_pend {
            transfer::from_cache(&self.backing, run, &mut cursor);
        }
        if may_pend
            && !cursor.at_end(run)
            && let Some(place) = self.engine.place(&self.backing.stats)
        {
            match run.pend() {
                Some(pending) => {
                    place.start(&self.backing, Work::Get(pending), cursor);
                    return Ok(());
                }
                None => place.give_back(),
            }
        }
        transfer::now(&self.backing, run, &mut cursor);
        Ok(())
    }

    /// Waits for the requests that are under way; the host says that there is none.
    fn close(self) -> Result<()> {
        self.backing.under_way.drain();
        Ok(())
    }
}

impl Put for File {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        self.backing.check_writable()?;
        add(&self.backing.stats.requests, 1);
        let mut cursor = Cursor::default();
        if run.may_pend()
            && (self.backing.direct.is_some() || self.engine.takes_copies())
            && let Some(place) = self.engine.place(&self.backing.stats)
        {
            match run.pend() {
                Some(pending) => {
                    place.start(&self.backing, Work::Put(pending), cursor);
                    return Ok(());
                }
                None => place.give_back(),
            }
        }
        transfer::now(&self.backing, run, &mut cursor);
        Ok(())
    }
}

impl HasPage for File {
    /// Every page below the file's present end is there; holes are pages of zeros.
    fn has_page(&self, index: u64) -> Result<Option<Extent>> {
        let pages = self.backing.length()?.div_ceil(self.backing.page_size);
        if index >= pages {
            return Ok(None);
        }
        let clamp = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Some(Extent {
            before: clamp(index),
            after: clamp(pages - 1 - index),
        }))
    }
}

impl Size for File {
    fn size(&self) -> Result<u64> {
        self.backing.length()
    }
}

impl Change for File {
    fn change(&self) -> Result<[u64; 2]> {
        let stat = fs::fstat(&self.backing.fd).map_err(system("fstat"))?;
        Ok(open::change(&stat, self.backing.kind))
    }
}

impl Resize for File {
    fn resize(&self, size: u64) -> Result<()> {
        self.backing.check_writable()?;
        if self.backing.kind == Kind::BlockDevice {
            return Err(Error::unsupported("a block device's size is fixed"));
        }
        retry_on_intr(|| fs::ftruncate(&self.backing.fd, size)).map_err(system("ftruncate"))
    }
}

impl Durable for File {
    fn sync(&self) -> Result<()> {
        if !self.backing.writable {
            return Ok(());
        }
        retry_on_intr(|| fs::fdatasync(&self.backing.fd)).map_err(system("fdatasync"))
    }
}

impl Backing {
    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Error::errno(
            Errno::BADF.raw_os_error(),
            "write: it was opened for reading only; open it with QUIRE_OPEN_WRITE",
        ))
    }
}

/// Keeps the system's number and text, and says which call failed. Allocates nothing.
fn system(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(call, errno.raw_os_error())
}

/// The pager's table, for a program that links it.
pub const fn module() -> Module {
    quire_pager::module!(Vnode)
}

#[cfg(feature = "plugin")]
quire_pager::export_pager!(Vnode);
