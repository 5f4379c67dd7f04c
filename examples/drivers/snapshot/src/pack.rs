//! Making an image.

use std::io::{self, Read, Seek, SeekFrom, Write};

use zstd_safe::{CCtx, CParameter};

use crate::image::{BLOCK_SIZES, HEADER, MAGIC, checksum};

/// The size of a block unless somebody chooses another: large enough to pack well, and small enough to be unpacked for one page.
pub const BLOCK_SIZE: u64 = 64 << 10;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Bytes that the image shows.
    pub size: u64,
    /// Bytes that it takes.
    pub length: u64,
}

/// Packs the `size` bytes of `from` into an image, which begins at the start of `to`.
///
/// # Errors
/// `InvalidInput` for a block size that no image has, and for 0 bytes; `UnexpectedEof` when `from` has fewer; the system's.
pub fn pack(mut from: impl Read, size: u64, block_size: u64, mut to: impl Write + Seek) -> io::Result<Packed> {
    if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) || size == 0 {
        let text = format!(
            "{size} bytes in blocks of {block_size}: an image has at least a byte, and blocks of a power of two from 4096 to 16 MiB"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let blocks = size.div_ceil(block_size);
    let mut at = HEADER as u64 + 8 * (blocks + 1);
    let mut index = at.to_le_bytes().to_vec();
    let mut packer = Packer::new()?;
    let mut block = Vec::new();
    to.seek(SeekFrom::Start(at))?;
    for number in 0..blocks {
        let len = block_size.min(size - number * block_size);
        block.clear();
        if from.by_ref().take(len).read_to_end(&mut block)? as u64 != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let packed = packer.pack(&block)?;
        to.write_all(packed)?;
        at += packed.len() as u64;
        index.extend_from_slice(&at.to_le_bytes());
    }
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&block_size.to_le_bytes());
    header.extend_from_slice(&size.to_le_bytes());
    header.extend_from_slice(&checksum(&header, &index).to_le_bytes());
    // Last, so that what was left half done is no image.
    to.seek(SeekFrom::Start(0))?;
    to.write_all(&header)?;
    to.write_all(&index)?;
    to.flush()?;
    Ok(Packed { size, length: at })
}

struct Packer {
    zstd: CCtx<'static>,
    packed: Vec<u8>,
}

impl Packer {
    fn new() -> io::Result<Self> {
        let mut zstd = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true)).map_err(zstd_error)?;
        let packed = Vec::new();
        Ok(Self { zstd, packed })
    }

    /// Nothing for zeros.
    fn pack(&mut self, block: &[u8]) -> io::Result<&[u8]> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(&[]);
        }
        self.packed.resize(zstd_safe::compress_bound(block.len()), 0);
        let len = self.zstd.compress2(&mut self.packed[..], block).map_err(zstd_error)?;
        Ok(&self.packed[..len])
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}
