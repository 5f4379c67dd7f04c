//! Packing pages, and the buffers and tables that it takes.
//!
//! A put packs on the thread that asks, with a [`Bench`] of its own: what packing needs, so that neither a put nor a get
//! allocates for it. Benches are made when they are needed, 16 at most; more threads than that wait for one.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
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
    /// Room for a page that was packed, and became no smaller.
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
            // Lz4 refuses to begin with less.
            packed: filled_box(get_maximum_output_size(page_size), || 0)?,
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
        // A page that saves less than a quarter is better off in the file: an entry costs memory of its own, and time.
        self.packed.get(..len).filter(|_| len <= page.len() / 4 * 3)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 4096;

    fn text() -> Vec<u8> {
        (0..)
            .flat_map(|line: u32| format!("line {line}\n").into_bytes())
            .take(PAGE)
            .collect()
    }

    /// The page packed, and at the front of the bench's room for entries.
    fn pack(bench: &mut Bench, page: &[u8]) -> Option<usize> {
        let packed = bench.pack(page)?.to_vec();
        bench.entry[..packed.len()].copy_from_slice(&packed);
        Some(packed.len())
    }

    #[test]
    fn a_page_that_packs_well_comes_back_whole() {
        for packing in [Packing::Lz4, Packing::Zstd] {
            let mut bench = Bench::new(packing, PAGE).expect("memory");
            // Again and again, as a bench is used.
            for _ in 0..3 {
                let len = pack(&mut bench, &text()).expect("packs");
                assert!(len < PAGE / 2, "{packing:?}: {len} bytes");
                assert_eq!(bench.unpack(len), Ok(()));
                assert!(*bench.page == *text());
            }
        }
    }

    #[test]
    fn a_page_that_saves_less_than_a_quarter_is_not_packed() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let noise: Vec<u8> = (0..PAGE).map(|_| noise()).collect();
        for packing in [Packing::Lz4, Packing::Zstd] {
            let mut bench = Bench::new(packing, PAGE).expect("memory");
            let mut of = |noisy: usize| {
                bench
                    .pack(&[&noise[..noisy], &text()[noisy..]].concat())
                    .map(<[u8]>::len)
            };
            assert_eq!(of(PAGE), None);
            assert_eq!(of(PAGE * 3 / 4), None);
            assert!(of(PAGE / 2).is_some_and(|len| len > PAGE / 2 && len <= PAGE * 3 / 4));
        }
        assert!(Bench::new(Packing::None, PAGE).expect("memory").pack(&text()).is_none());
    }

    proptest! {
        #[test]
        fn whatever_an_entry_holds_it_is_a_page_or_an_error(
            at in 0..400_usize, change in 1..=255_u8, cut in 0..400_usize, noise in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            for packing in [Packing::Lz4, Packing::Zstd] {
                let mut bench = Bench::new(packing, PAGE).expect("memory");
                let len = pack(&mut bench, &text()).expect("packs");
                // One byte is another; whether the method notices is its affair.
                bench.entry[at % len] ^= change;
                let _ = bench.unpack(len);
                bench.entry[at % len] ^= change;
                prop_assert!(bench.unpack(cut % len).is_err());
                prop_assert_eq!(bench.unpack(len), Ok(()));
                bench.entry[..noise.len()].copy_from_slice(&noise);
                prop_assert!(bench.unpack(noise.len()).is_err());
            }
        }
    }

    #[test]
    fn more_threads_than_benches_take_turns() {
        let workshop = Workshop::new(Packing::Lz4, PAGE).expect("memory");
        let lent: Vec<_> = (0..MOST).map(|_| workshop.bench()).collect();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| workshop.bench().pack(&text()).is_some()))
                .collect();
            drop(lent);
            assert!(waiting.into_iter().all(|thread| thread.join().expect("no panic")));
        });
        let benches = workshop.benches.lock().expect("no panic");
        assert_eq!((benches.made, benches.idle.len()), (MOST, MOST));
    }
}
