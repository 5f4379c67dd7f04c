//! Packing pages, and the buffers and tables that it takes.
//!
//! A put packs on the thread that asks, with a [`Bench`] of its own: what packing needs, so that neither a put nor a get
//! allocates for it. Benches are made when they are needed, 16 at most; more threads than that wait for one.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
use quire_pager::{Error, Result};
use zstd_safe::{CCtx, CParameter, DCtx};

use crate::slots::filled_box;

/// How pages are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Lz4,
    Zstd,
}

enum Codec {
    None,
    /// One table, in a list so that its memory can be asked for.
    Lz4(Vec<CompressTable>),
    Zstd(CCtx<'static>, DCtx<'static>),
}

/// The fastest level: on pages of 4 KiB higher ones gain a few per cent and take many times as long.
const ZSTD_LEVEL: i32 = 1;

impl Codec {
    fn new(packing: Packing) -> Result<Self> {
        let no_memory = || Error::nomem("there is no memory to pack pages with");
        match packing {
            Packing::None => Ok(Self::None),
            Packing::Lz4 => {
                let mut table = Vec::new();
                table.try_reserve_exact(1).map_err(|_| no_memory())?;
                table.push(CompressTable::small());
                Ok(Self::Lz4(table))
            }
            Packing::Zstd => {
                let mut packer = CCtx::try_create().ok_or_else(no_memory)?;
                let parameters = [
                    CParameter::CompressionLevel(ZSTD_LEVEL),
                    // Every page unpacks to the same size.
                    CParameter::ContentSizeFlag(false),
                ];
                for parameter in parameters {
                    packer
                        .set_parameter(parameter)
                        .map_err(|code| zstd_error("setup", code))?;
                }
                let unpacker = DCtx::try_create().ok_or_else(no_memory)?;
                Ok(Self::Zstd(packer, unpacker))
            }
        }
    }
}

fn zstd_error(what: &str, code: usize) -> Error {
    Error::new(format!("zstd: {what}: {}", zstd_safe::get_error_name(code)))
}

/// What one thread packs and unpacks with.
pub(crate) struct Bench {
    codec: Codec,
    /// As long as a packed page may be to be worth keeping.
    packed: Box<[u8]>,
    /// Room for an entry of the pool.
    pub(crate) entry: Box<[u8]>,
    /// Room for the page that an entry unpacks to.
    pub(crate) page: Box<[u8]>,
}

impl Bench {
    fn new(packing: Packing, page_size: usize) -> Result<Self> {
        Ok(Self {
            codec: Codec::new(packing)?,
            // A page that saves less than a quarter is better off in the file: an entry costs memory of its own, and time.
            packed: filled_box(page_size / 4 * 3, || 0)?,
            entry: filled_box(page_size, || 0)?,
            page: filled_box(page_size, || 0)?,
        })
    }

    /// The page packed, if that is worth it.
    pub(crate) fn pack(&mut self, page: &[u8]) -> Option<&[u8]> {
        let len = match &mut self.codec {
            Codec::None => None,
            Codec::Lz4(table) => compress_into_with_table(page, &mut self.packed, table.first_mut()?).ok(),
            Codec::Zstd(packer, _) => packer.compress2(&mut *self.packed, page).ok(),
        }?;
        self.packed.get(..len)
    }

    /// Unpacks the first `len` bytes of [`Bench::entry`] into `page`, which they fill exactly, or are damaged.
    pub(crate) fn unpack_into(&mut self, len: usize, page: &mut [u8]) -> Result<()> {
        unpack(&mut self.codec, &self.entry[..len], page)
    }

    /// As [`Bench::unpack_into`], into [`Bench::page`].
    pub(crate) fn unpack(&mut self, len: usize) -> Result<()> {
        unpack(&mut self.codec, &self.entry[..len], &mut self.page)
    }
}

fn unpack(codec: &mut Codec, entry: &[u8], page: &mut [u8]) -> Result<()> {
    if entry.len() == page.len() {
        page.copy_from_slice(entry);
        return Ok(());
    }
    let len = match codec {
        Codec::None => entry.len(),
        Codec::Lz4(_) => decompress_into(entry, page).map_err(|error| damaged(format!("lz4: {error}")))?,
        Codec::Zstd(_, unpacker) => unpacker
            .decompress(page, entry)
            .map_err(|code| damaged(zstd_error("unpacking", code)))?,
    };
    if len == page.len() {
        Ok(())
    } else {
        Err(damaged(format!(
            "it unpacks to {len} bytes, and a page has {}",
            page.len()
        )))
    }
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::errno(
        rustix::io::Errno::IO.raw_os_error(),
        format!("its entry in the pool is damaged ({why}); something overwrote this process's memory"),
    )
}

/// More threads than this would take turns on the processors anyway.
const MOST: usize = 16;

/// The benches of an area.
pub(crate) struct Workshop {
    packing: Packing,
    page_size: usize,
    benches: Mutex<Benches>,
    returned: Condvar,
}

struct Benches {
    // Invariant: room for `MOST`, so that giving one back allocates nothing.
    idle: Vec<Bench>,
    /// Idle or lent; from 1 to `MOST`.
    made: usize,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop")
            .field("packing", &self.packing)
            .finish_non_exhaustive()
    }
}

impl Workshop {
    /// A workshop with one bench, so that later on there is always one to wait for.
    pub(crate) fn new(packing: Packing, page_size: usize) -> Result<Self> {
        let mut idle = Vec::new();
        let no_memory = |_| Error::nomem("there is no memory for a swap area");
        idle.try_reserve_exact(MOST).map_err(no_memory)?;
        idle.push(Bench::new(packing, page_size)?);
        Ok(Self {
            packing,
            page_size,
            benches: Mutex::new(Benches { idle, made: 1 }),
            returned: Condvar::new(),
        })
    }

    /// A bench for the calling thread, which has none. May wait for one.
    pub(crate) fn bench(&self) -> Lent<'_> {
        let mut benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(bench) = benches.idle.pop() {
                return Lent::new(self, bench);
            }
            if benches.made < MOST {
                benches.made += 1;
                drop(benches);
                if let Ok(bench) = Bench::new(self.packing, self.page_size) {
                    return Lent::new(self, bench);
                }
                // No memory for another: those that there are will do.
                benches = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
                benches.made -= 1;
                if !benches.idle.is_empty() {
                    continue;
                }
            }
            benches = self.returned.wait(benches).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A bench in use.
pub(crate) struct Lent<'a> {
    workshop: &'a Workshop,
    // `None` only while it is dropped.
    bench: Option<Bench>,
}

impl<'a> Lent<'a> {
    fn new(workshop: &'a Workshop, bench: Bench) -> Self {
        Self {
            workshop,
            bench: Some(bench),
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        self.bench
            .as_ref()
            .unwrap_or_else(|| unreachable!("it is dropped only once"))
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Bench {
        self.bench
            .as_mut()
            .unwrap_or_else(|| unreachable!("it is dropped only once"))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut benches = self.workshop.benches.lock().unwrap_or_else(PoisonError::into_inner);
        benches.idle.extend(self.bench.take());
        drop(benches);
        self.workshop.returned.notify_one();
    }
}
