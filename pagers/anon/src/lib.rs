//! The anon pager: where pages of anonymous memory go when memory is short.
//!
//! An object is a *swap area*, and its page index is the slot: the engine says which anonymous page has which slot, this
//! pager keeps the slot's bytes. Nothing here is durable. What an area holds is worthless when it is closed, and there is no `sync`.
//!
//! # Names
//!
//! `PLACE[,size=SIZE][,compress=none|lz4|zstd][,pool=SIZE]`, where `SIZE` is a number of bytes, or of `K`, `M`, `G` or `T`.
//!
//! | part | what it says |
//! |---|---|
//! | `PLACE` | the path of a regular file or a block device, or `memory`: no file at all (a file of that name is `./memory`). It ends at the first comma |
//! | `size` | bytes of the area, of which it has the whole pages. A file is made longer if it is shorter, and made if there is none, for its owner alone; a device must have as much. The default is what there is; `memory` needs it. At most 2^32 - 1 pages |
//! | `compress` | pages are packed and kept in memory, the *pool*, and go to the file when the pool is full. The default is `none`: straight to the file |
//! | `pool` | the most memory that kept pages may take, in bytes, with the 48 that each costs beside its own. The default is 64 MiB; for `memory`, what all slots take at most |
//!
//! A file or device is used by one area at a time: the second to open it, here or in another process that takes `flock`s, is refused with
//! `EBUSY`. Therefore an area tells no identity: there is never a second opening to find it by, and it is not to be kept once nobody uses it.
//! What the file contained is overwritten without a question.
//!
//! # Where a page is
//!
//! - A page that is one word of four bytes again and again, such as zeros, is kept as that word and takes no other memory or I/O.
//! - With `compress`, a page that packs to three quarters or less goes to the pool, any other one to the file.
//! - When the pool is over its limit, the pages that were put first go, unpacked, to their places in the file until there is
//!   room. If the oldest cannot be written, it stays, and the log says so once; the new page then tries its own place in the file. So a put fails
//!   exactly if its own page was stored nowhere.
//! - With `memory`, there is no file to go to: a full pool is `ENOSPC`. Pages that do not pack are kept as they are.
//! - A slot that was never put, or was freed since, reads as zeros.
//!
//! Each slot of the 4 MiB around one that was ever used takes 8 bytes of memory; a slot elsewhere takes next to nothing.
//!
//! # Errors
//!
//! A put that fails leaves the slot's older copy as it was if that was in memory; in the file, a write that fails may have
//! overwritten a part of it, as always. A file that somebody makes shorter loses pages: to get them is `EIO`, with the slot's
//! number, and a put does not bring the file's old end back (`QUIRE_PAGER_BAD`). An entry of the pool that does not unpack to exactly a page is `EIO`.
//!
//! # Operations
//!
//! All run in parallel, on the thread that asks; none pends. `free_space` drops pages from memory and punches holes into the file, as far as
//! its file system can; to block devices nothing is said. There are no threads of its own. A get takes a lock and may wait for memory, so
//! that none may run in a signal handler. A child after fork shares its parent's file, so the pager is not fork-safe; the file stays in
//! use until the child has ended too, or runs another program.
//!
//! Layers: `name` and `open` decide what an area is, `area` what is done with a page, `slots` knows where each page is, `pool`
//! and `codec` keep pages in memory, `store` moves them to and from the file.

mod area;
mod codec;
mod name;
mod open;
mod pool;
mod slots;
mod store;

use std::ffi::CStr;

use quire_pager::abi::Module;
use quire_pager::{Error, Host, OpenRequest, Opened, Pager, Result, version};

pub use area::Area;

/// The pager: its areas have nothing in common but the host.
#[derive(Debug)]
pub struct Anon {
    host: Host,
}

impl Pager for Anon {
    const NAME: &'static CStr = c"anon";
    const VERSION: &'static CStr = version!();
    const DESCRIPTION: &'static CStr = c"Swap slots in a file, on a block device or in memory, compressed on request";
    type Object = Area;

    fn init(host: Host, config: Option<&str>) -> Result<Self> {
        match config.map(str::trim) {
            None | Some("") => Ok(Self { host }),
            Some(text) => Err(Error::invalid(format!(
                "`{text}` in the configuration; this pager has none, and takes its options with each area's name"
            ))),
        }
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Area>> {
        open::open(&self.host, request)
    }
}

/// The pager's table, for a program that links it.
pub const fn module() -> Module {
    quire_pager::module!(Anon)
}

#[cfg(feature = "plugin")]
quire_pager::export_pager!(Anon);
