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
//!   bytes, and a write that takes nothing, are errors (S120, D10).
//!
//! Operations run in parallel; the pager holds no lock and no memory beyond the descriptor and the name.
//!
//! Layers: `open` decides what may be paged, `transfer` moves runs, this file puts them into the ABI.

mod open;
mod transfer;

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use quire_pager::abi::Module;
use quire_pager::{
    Durable, Error, Extent, GetRun, HasPage, Host, Object, OpenRequest, Opened, Pager, Put, PutRun, Resize, Result,
    Size, version,
};
use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

/// The pager. Files need nothing in common.
#[derive(Debug)]
pub struct Vnode;

/// An open file.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    kind: Kind,
    writable: bool,
    page_size: u64,
}

/// What can be paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    BlockDevice,
}

impl Pager for Vnode {
    const NAME: &'static CStr = c"vnode";
    const VERSION: &'static CStr = version!();
    const DESCRIPTION: &'static CStr = c"Regular files and block devices, by path or by file descriptor";
    type Object = File;

    fn init(_host: Host, _config: Option<&str>) -> Result<Self> {
        Ok(Self)
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<File>> {
        open::open(request)
    }
}

impl Object for File {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        transfer::read(self, run)
    }
}

impl Put for File {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        self.check_writable()?;
        transfer::write(self, run)
    }
}

impl HasPage for File {
    /// Every page below the file's present end is there; holes are pages of zeros.
    fn has_page(&self, index: u64) -> Result<Option<Extent>> {
        let pages = self.length()?.div_ceil(self.page_size);
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
        self.length()
    }
}

impl Resize for File {
    fn resize(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        if self.kind == Kind::BlockDevice {
            return Err(Error::unsupported("a block device's size is fixed"));
        }
        retry_on_intr(|| fs::ftruncate(&self.fd, size)).map_err(system("ftruncate"))
    }
}

impl Durable for File {
    fn sync(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        retry_on_intr(|| fs::fdatasync(&self.fd)).map_err(system("fdatasync"))
    }
}

impl File {
    /// The size in bytes as it is now.
    fn length(&self) -> Result<u64> {
        open::length(&self.fd, self.kind)
    }

    /// Nothing at or beyond this byte may be written.
    fn end_for_writes(&self) -> Result<u64> {
        match self.kind {
            Kind::Regular => self.length(),
            // Its size does not change, and nothing makes it longer.
            Kind::BlockDevice => Ok(u64::MAX),
        }
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(system("write")(Errno::BADF).context("it was opened for reading only; open it with QUIRE_OPEN_WRITE"))
    }
}

/// Keeps the system's number and text, and says which call failed.
fn system(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::from(std::io::Error::from(errno)).context(call)
}

/// The pager's table, for a program that links it.
pub const fn module() -> Module {
    quire_pager::module!(Vnode)
}

#[cfg(feature = "plugin")]
quire_pager::export_pager!(Vnode);
