//! A driver of snapshots: a device shows, read-only, what a compressed image holds. `quire-snapshot FILE IMAGE` makes one ([`pack`]).
//!
//! The image is packed block by block ([`image`]), and a touched page brings in its whole block: it had to be unpacked anyway. The
//! name given to open is the image's path; an open descriptor does as well.

pub mod image;
pub mod pack;

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use quire_pager::{
    Device, DeviceFault, DeviceKind, Driver, Error, OpenRequest, Opened, Populate, PopulateRun, Populated, Result,
    version,
};

use image::{Image, Unpacked};

/// The driver.
#[derive(Debug)]
pub struct Snapshots;

/// One image, open.
#[derive(Debug)]
pub struct Snapshot {
    image: Image,
    page_size: u64,
    /// The block that was unpacked last, for those who want its pages one by one.
    last: Mutex<Unpacked>,
}

impl Driver for Snapshots {
    const NAME: &'static CStr = c"snapshot";
    const VERSION: &'static CStr = version!();
    const DESCRIPTION: &'static CStr = c"Compressed images, read-only";
    const KIND: DeviceKind = DeviceKind::Managed;
    type Device = Snapshot;

    fn ctor(request: &OpenRequest<'_>) -> Result<Opened<Snapshot>> {
        let file = match (request.fd(), request.path()) {
            (Some(fd), _) => File::from(fd.try_clone_to_owned()?),
            (None, Some(path)) => File::open(path)?,
            (None, None) => {
                return Err(Error::invalid(
                    "no image was given; pass its path, or a descriptor of it",
                ));
            }
        };
        let about = file.metadata()?;
        let image = Image::open(file)?;
        let page_size = request.page_size() as u64;
        if !image.block_size().is_multiple_of(page_size) {
            return Err(Error::unsupported(format!(
                "the image has blocks of {} bytes, which is no number of whole pages of {page_size}; pack it with larger ones",
                image.block_size()
            )));
        }
        let size = image.size();
        let snapshot = Snapshot {
            image,
            page_size,
            last: Mutex::default(),
        };
        let changed = [about.ctime().cast_unsigned(), about.ctime_nsec().cast_unsigned()];
        Ok(Opened::new(snapshot, size)
            .identity([about.dev(), about.ino()])
            .change(changed))
    }
}

impl Device for Snapshot {
    fn fault(&self, fault: &mut DeviceFault<'_>) -> Result<()> {
        let mut last = self.last.lock()?;
        fault.fill(self.page(&mut last, fault.index())?)
    }
}

impl Populate for Snapshot {
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated> {
        let in_block = self.image.block_size() / self.page_size;
        let first = run.index() / in_block * in_block;
        let end = self.image.size().div_ceil(self.page_size).min(first + in_block);
        let mut last = self.last.lock()?;
        run.fill(first..=end - 1, |index, bytes| {
            let data = self.page(&mut last, index)?;
            bytes[..data.len()].copy_from_slice(data);
            bytes[data.len()..].fill(0);
            Ok(())
        })
    }
}

impl Snapshot {
    /// What the image has of page `index`: less than a page where it ends.
    fn page<'a>(&self, last: &'a mut Unpacked, index: u64) -> Result<&'a [u8]> {
        let at = index * self.page_size;
        let block = self.image.unpack(at / self.image.block_size(), last)?;
        let from = usize::try_from(at % self.image.block_size()).unwrap_or(usize::MAX);
        let rest = block
            .get(from..)
            .ok_or_else(|| Error::bad(format!("page {index} lies behind the image's end")))?;
        let len = usize::try_from(self.page_size).unwrap_or(usize::MAX).min(rest.len());
        Ok(&rest[..len])
    }
}

quire_pager::export_driver!(Snapshots);
