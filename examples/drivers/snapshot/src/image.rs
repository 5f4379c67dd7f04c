//! The file format of a snapshot, and reading it.
//!
//! Numbers are little-endian. The image's bytes are cut into blocks of equal size, but for the last.
//!
//! | from | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `QSNAP`, a zero, and the format's version in two bytes: 1 |
//! | 8 | 8 | size of a block in bytes: a power of two from 4096 to 16 MiB |
//! | 16 | 8 | size of the image in bytes, not 0 |
//! | 24 | 8 | FNV-1a of what is before, and of the index |
//! | 32 | 8 (n + 1) | the index: where in the file each of the n blocks begins, and where the last one ends |
//! | | | the blocks, in order: each a zstd frame with a checksum; none at all where a block is zeros |
//!
//! Everything that the header and the index say is checked when an image is opened, so that a truncated or damaged one is refused
//! there; a block that is damaged fails those who touch its pages, and nobody else.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use quire_pager::{Error, Result};
use zstd_safe::DCtx;

pub(crate) const MAGIC: [u8; 8] = *b"QSNAP\0\x01\0";
pub(crate) const HEADER: usize = 32;
pub(crate) const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 4096..=16 << 20;

/// An image, open.
#[derive(Debug)]
pub struct Image {
    file: File,
    block_size: u64,
    size: u64,
    /// One more than there are blocks. Ascending, and within the file as it was when it was opened.
    index: Vec<u64>,
}

/// Room for a block, and which is in it. Used again and again.
#[derive(Default)]
pub struct Unpacked {
    number: Option<u64>,
    bytes: Vec<u8>,
    packed: Vec<u8>,
    unpacker: Option<DCtx<'static>>,
}

impl fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Reads the header and the index, and checks them.
    ///
    /// # Errors
    /// With a sentence, when the file is no image, damaged or cut short; the system's.
    pub fn open(file: File) -> Result<Self> {
        let length = file.metadata()?.len();
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Err(Error::new(format!(
                "no snapshot: it has {length} bytes, and every image has more"
            )));
        }
        file.read_exact_at(&mut header, 0)?;
        if header[..8] != MAGIC {
            return Err(Error::new(
                "no snapshot of this version: it does not begin as one; make it with quire-snapshot",
            ));
        }
        let (block_size, size, sum) = (number(&header, 8), number(&header, 16), number(&header, 24));
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) || size == 0 {
            return Err(damaged(format_args!(
                "its header tells {size} bytes in blocks of {block_size}"
            )));
        }
        // No more than the file has: what a damaged header says is not taken for a number of bytes to allocate.
        let entries = size.div_ceil(block_size) + 1;
        let begin = entries
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(HEADER as u64));
        let Some(begin) = begin.filter(|begin| *begin <= length) else {
            return Err(cut_short(length, "its index ends behind that"));
        };
        let mut raw = vec![0; usize::try_from(entries * 8).map_err(|_| Error::nomem("the index is too large"))?];
        file.read_exact_at(&mut raw, HEADER as u64)?;
        if sum != checksum(&header[..24], &raw) {
            return Err(damaged(format_args!("the checksum of its index does not fit")));
        }
        let index: Vec<u64> = (0..raw.len() / 8).map(|i| number(&raw, i * 8)).collect();
        if index.first() != Some(&begin) || !index.is_sorted() {
            return Err(damaged(format_args!("its index is out of order")));
        }
        if let Some(end) = index.last().filter(|end| **end > length) {
            return Err(cut_short(length, &format!("its last block ends at byte {end}")));
        }
        Ok(Self {
            file,
            block_size,
            size,
            index,
        })
    }

    /// Bytes in a block; a power of two.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Bytes in the image.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Block `block`, whole; taken as it is if it is in `room` already.
    ///
    /// # Errors
    /// When it is damaged, or cannot be read any more, with its number and its place in the file.
    pub fn unpack<'a>(&self, block: u64, room: &'a mut Unpacked) -> Result<&'a [u8]> {
        if room.number != Some(block) {
            room.number = None;
            let place = self.place(block)?;
            self.unpack_into(block, &place, room)
                .map_err(|error| error.context(format_args!("block {block}, at bytes {place:?} of the image")))?;
            room.number = Some(block);
        }
        Ok(&room.bytes)
    }

    fn place(&self, block: u64) -> Result<Range<u64>> {
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        match (self.index.get(at), self.index.get(at.saturating_add(1))) {
            (Some(from), Some(to)) => Ok(*from..*to),
            _ => Err(Error::bad(format!("the image has no block {block}"))),
        }
    }

    fn unpack_into(&self, block: u64, place: &Range<u64>, room: &mut Unpacked) -> Result<()> {
        let len = self.block_size.min(self.size - block * self.block_size);
        let len = usize::try_from(len).map_err(|_| Error::nomem("a block is too large"))?;
        room.bytes.clear();
        room.bytes.resize(len, 0);
        if place.is_empty() {
            return Ok(());
        }
        let packed = usize::try_from(place.end - place.start).map_err(|_| Error::nomem("a block is too large"))?;
        // A frame is at most a little longer than what is in it.
        if packed > zstd_safe::compress_bound(len) {
            return Err(damaged(format_args!("{packed} bytes cannot be the {len} of a block")));
        }
        room.packed.resize(packed, 0);
        self.file.read_exact_at(&mut room.packed, place.start)?;
        let unpacker = match &mut room.unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(DCtx::try_create().ok_or_else(|| Error::nomem("no memory to unpack with"))?),
        };
        match unpacker.decompress(&mut room.bytes[..], &room.packed) {
            Ok(got) if got == len => Ok(()),
            Ok(got) => Err(damaged(format_args!("it unpacks to {got} bytes instead of {len}"))),
            Err(code) => Err(damaged(format_args!("{}", zstd_safe::get_error_name(code)))),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

pub(crate) fn checksum(header: &[u8], index: &[u8]) -> u64 {
    header.iter().chain(index).fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn damaged(what: fmt::Arguments<'_>) -> Error {
    Error::new(format!("damaged: {what}; make the image again"))
}

fn cut_short(length: u64, what: &str) -> Error {
    Error::new(format!(
        "cut short: the file has {length} bytes, and {what}; copy or make the image again"
    ))
}
