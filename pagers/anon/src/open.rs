//! What can hold swap, and how it is opened.

use std::os::fd::OwnedFd;
use std::path::Path;

use quire_pager::{Error, Host, OpenRequest, Opened, Result};
use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::area::Area;
use crate::codec::Packing;
use crate::name::{Name, Place};
use crate::pool::ENTRY_COST;
use crate::store::{Kind, Store};

/// What packed pages may take when nothing is said: some 20,000 pages of text, and little beside what a machine has that swaps.
const POOL: usize = 64 << 20;

/// Opens the area that the request names.
pub(crate) fn open(host: &Host, request: &OpenRequest<'_>) -> Result<Opened<Area>> {
    if request.fd().is_some() {
        return Err(Error::invalid(
            "a swap area is opened by its name; pass a path, and no file descriptor",
        ));
    }
    if !request.write() {
        return Err(Error::invalid(
            "a swap area that cannot be written is of no use; open it with QUIRE_OPEN_WRITE",
        ));
    }
    let text = request.name().map_or(&b""[..], |name| name.to_bytes());
    let name = Name::parse(text)?;
    match name.place {
        Place::Memory => in_memory(host, request.page_size(), &name),
        Place::Path(path) => in_file(host, request.page_size(), &name, path),
    }
}

fn in_memory(host: &Host, page_size: usize, name: &Name<'_>) -> Result<Opened<Area>> {
    let count = slots(name.size.unwrap_or(0), page_size)?;
    // Without a limit of its own it has room for every slot, whatever the pages are like.
    let all = (page_size + ENTRY_COST).saturating_mul(count as usize);
    let limit = name
        .pool
        .map_or(all, |pool| usize::try_from(pool).unwrap_or(usize::MAX));
    let area = Area::new(host, page_size, count, None, Some((limit, name.packing)))?;
    Ok(Opened::new(area, size(count, page_size)).named("memory"))
}

fn in_file(host: &Host, page_size: usize, name: &Name<'_>, path: &Path) -> Result<Opened<Area>> {
    // Before anything is made or made longer.
    let asked = name.size.map(|size| slots(size, page_size)).transpose()?;
    let found = Found::at(path, name.size)?;
    let created = found.created;
    found
        .into_area(host, page_size, name, asked)
        .map(|opened| opened.named(path.to_string_lossy()))
        .inspect_err(|_| {
            if created {
                // The error that is on its way says enough; an empty file stays at worst.
                let _ = fs::unlink(path);
            }
        })
}

/// Whole pages in so many bytes.
fn slots(bytes: u64, page_size: usize) -> Result<u32> {
    match u32::try_from(bytes / page_size as u64) {
        Ok(0) => Err(Error::invalid(format!(
            "{bytes} bytes are too small for a swap area, which has at least one page of {page_size}; say a larger size="
        ))),
        Ok(count) => Ok(count),
        Err(_) => Err(Error::invalid(format!(
            "{bytes} bytes are too large for one swap area, which has at most {} pages of {page_size}; say a smaller size=, and \
             open several",
            u32::MAX
        ))),
    }
}

fn size(count: u32, page_size: usize) -> u64 {
    u64::from(count) * page_size as u64
}

/// A file or device that is open.
struct Found {
    fd: OwnedFd,
    stat: Stat,
    kind: Kind,
    created: bool,
}

impl Found {
    /// Opens what is at the path, or makes a file there if a size is said.
    fn at(path: &Path, size: Option<u64>) -> Result<Self> {
        // Looked at first: opening some things has effects, or blocks.
        let (flags, created) = match retry_on_intr(|| fs::stat(path)) {
            // Refuses a device that is mounted or in use as swap of the system.
            Ok(stat) if kind(&stat)? == Kind::BlockDevice => (OFlags::EXCL, false),
            Ok(_) => (OFlags::empty(), false),
            Err(Errno::NOENT) if size.is_some() => (OFlags::CREATE | OFlags::EXCL, true),
            Err(Errno::NOENT) => {
                let text = "there is no such file; say size= and it is made";
                return Err(refusal(Errno::NOENT, text));
            }
            Err(errno) => return Err(system("stat", errno)),
        };
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = retry_on_intr(|| fs::open(path, flags, mode)).map_err(cannot_open)?;
        let stat = fs::fstat(&fd).map_err(|errno| system("fstat", errno))?;
        let kind = kind(&stat)?;
        Ok(Self {
            fd,
            stat,
            kind,
            created,
        })
    }

    /// The area in it: of so many slots, or of as many as it has room for.
    fn into_area(self, host: &Host, page_size: usize, name: &Name<'_>, asked: Option<u32>) -> Result<Opened<Area>> {
        let length = self.take(name.size)?;
        let count = asked.map_or_else(|| slots(length, page_size), Ok)?;
        let limit = name
            .pool
            .map_or(POOL, |pool| usize::try_from(pool).unwrap_or(usize::MAX));
        let memory = (name.packing != Packing::None).then_some((limit, name.packing));
        let granule = u32::try_from(self.stat.st_blksize).unwrap_or(0);
        let store = Store::new(self.fd, self.kind, page_size);
        let area = Area::new(host, page_size, count, Some(store), memory)?;
        Ok(Opened::new(area, size(count, page_size)).granule(granule))
    }

    /// Makes it ours, and large enough for `size`. Its length in bytes.
    fn take(&self, size: Option<u64>) -> Result<u64> {
        match retry_on_intr(|| fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let text =
                    "it is in use as swap already (somebody has a lock on it); close it there, or name another file";
                return Err(refusal(Errno::BUSY, text));
            }
            Err(errno) => return Err(system("flock", errno)),
        }
        let length = fs::seek(&self.fd, SeekFrom::End(0)).map_err(|errno| system("lseek", errno))?;
        match (size, self.kind) {
            (Some(size), Kind::BlockDevice) if size > length => Err(Error::invalid(format!(
                "size= says {size} bytes, and the device has {length}; say no more than that"
            ))),
            (Some(size), Kind::Regular) if size > length => {
                retry_on_intr(|| fs::ftruncate(&self.fd, size))
                    .map_err(|errno| system("ftruncate", errno).context(format_args!("it cannot have {size} bytes")))?;
                Ok(size)
            }
            _ => Ok(length),
        }
    }
}

/// What a file is, or why it cannot hold swap.
fn kind(stat: &Stat) -> Result<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Kind::Regular),
        FileType::BlockDevice => Ok(Kind::BlockDevice),
        FileType::Directory => Err(refusal(Errno::ISDIR, "it is a directory; name a file in it")),
        _ => Err(refusal(
            Errno::OPNOTSUPP,
            "it is neither a regular file nor a block device, and only these can hold swap",
        )),
    }
}

fn cannot_open(errno: Errno) -> Error {
    let advice = match errno {
        Errno::ACCESS | Errno::PERM => {
            "swap is read and written, and this process may not do both; change the file's mode or owner"
        }
        Errno::ROFS => "swap is written, and the file system is mounted for reading only; name a file in another",
        Errno::BUSY => "the device is mounted or in use; name another",
        Errno::TXTBSY => "it is a program that runs, and cannot be written; name another file",
        _ => return system("open", errno),
    };
    system("open", errno).context(advice)
}

fn refusal(errno: Errno, text: &'static str) -> Error {
    Error::errno(errno.raw_os_error(), text)
}

fn system(call: &'static str, errno: Errno) -> Error {
    Error::system(call, errno.raw_os_error())
}
