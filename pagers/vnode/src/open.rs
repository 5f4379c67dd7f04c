//! What may be paged, and how it is opened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quire_pager::{Error, Level, OpenRequest, Opened, Result};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::ioctl::{Getter, ioctl, opcode};

use crate::backing::{Backing, Direct, Kind};
use crate::{File, Vnode, system};

/// Opens what the request names: its descriptor if it has one, else its path.
pub(crate) fn open(vnode: &Vnode, request: &OpenRequest<'_>) -> Result<Opened<File>> {
    let fd = match (request.fd(), request.path()) {
        (Some(fd), _) => adopt(fd, request.write())?,
        (None, Some(path)) => open_path(path, request.write())?,
        (None, None) => {
            return Err(Error::invalid(
                "neither a path nor a file descriptor was given; pass one",
            ));
        }
    };
    let stat = fs::fstat(&fd).map_err(system("fstat"))?;
    let kind = kind(&stat)?;
    let size = length(&fd, kind)?;
    // A block device has many inodes, one number, and no inode of its own.
    let identity = match kind {
        Kind::Regular => [stat.st_dev, stat.st_ino],
        Kind::BlockDevice => [stat.st_rdev, 0],
    };
    let name = name(request, &fd);
    let backing = Backing {
        direct: direct(vnode, &fd, request.write(), &name)?,
        fd,
        kind,
        writable: request.write(),
        page_size: request.page_size() as u64,
        peeks: AtomicBool::new(true),
        stats: vnode.stats.clone(),
        under_way: Arc::default(),
    };
    let file = File {
        backing: Arc::new(backing),
        engine: vnode.engine.clone(),
    };
    let opened = Opened::new(file, size).identity(identity).named(name);
    let opened = opened.granule(u32::try_from(stat.st_blksize).unwrap_or(0));
    let opened = opened.change(change(&stat, kind));
    Ok(if request.write() { opened } else { opened.read_only() })
}

/// The second descriptor, which goes past the page cache, if that is configured. A file that cannot have one is served
/// through the page cache, and the log says so. An error when there are no descriptors left.
fn direct(vnode: &Vnode, fd: &OwnedFd, write: bool, name: &str) -> Result<Option<Direct>> {
    if !vnode.config.direct {
        return Ok(None);
    }
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    // The same file, whatever has become of its name.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::DIRECT;
    match retry_on_intr(|| fs::open(&path, flags, Mode::empty())) {
        Ok(direct) => {
            let (memory, offset) = alignment(&direct);
            Ok(Some(Direct {
                fd: direct,
                memory,
                offset,
            }))
        }
        // Not the file's fault: the host may be able to close others.
        Err(errno @ (Errno::MFILE | Errno::NFILE)) => Err(system("open with O_DIRECT")(errno)),
        Err(errno) => {
            let why = system("open with O_DIRECT")(errno);
            let text = format!("vnode: {name} goes through the page cache in spite of direct=1: {why}");
            vnode.host.log(Level::Warn, text);
            Ok(None)
        }
    }
}

/// What a descriptor with `O_DIRECT` wants addresses, and offsets and lengths, to be multiples of.
fn alignment(fd: &OwnedFd) -> (usize, u64) {
    // The largest block that devices have; whoever takes less says so, from Linux 6.1 on.
    const CAUTIOUS: u32 = 4096;
    let asked = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let (memory, offset) = match asked {
        Ok(told) if told.stx_dio_mem_align > 0 && told.stx_dio_offset_align > 0 => {
            (told.stx_dio_mem_align, told.stx_dio_offset_align)
        }
        _ => (CAUTIOUS, CAUTIOUS),
    };
    (memory as usize, offset.into())
}

/// Opens a path, after a look at what it is: opening some things has effects, or blocks.
fn open_path(path: &Path, write: bool) -> Result<OwnedFd> {
    kind(&retry_on_intr(|| fs::stat(path)).map_err(system("stat"))?)?;
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    // NONBLOCK: should the path have become a fifo meanwhile, this does not wait for its other end.
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = retry_on_intr(|| fs::open(path, flags, Mode::empty())).map_err(system("open"))?;
    // A ring would not wait for such a descriptor's device.
    fs::fcntl_setfl(&fd, OFlags::empty()).map_err(system("fcntl"))?;
    Ok(fd)
}

/// Duplicates the caller's descriptor, if it can do what is asked for.
fn adopt(fd: BorrowedFd<'_>, write: bool) -> Result<OwnedFd> {
    let flags = fs::fcntl_getfl(fd).map_err(system("fcntl"))?;
    let access = flags & OFlags::RWMODE;
    if flags.contains(OFlags::PATH) || access == OFlags::WRONLY {
        return Err(refusal(
            Errno::ACCESS,
            "the file descriptor was not opened for reading; open the file for reading",
        ));
    }
    if write && access != OFlags::RDWR {
        return Err(refusal(
            Errno::ACCESS,
            "the file descriptor was not opened for writing; open the file with O_RDWR",
        ));
    }
    if flags.contains(OFlags::DIRECT) {
        return Err(refusal(
            Errno::INVAL,
            "the file descriptor has O_DIRECT, which moves whole aligned blocks only; open the file without it, and \
             configure direct=1 to go past the page cache where that can be done",
        ));
    }
    if write && flags.contains(OFlags::APPEND) {
        return Err(refusal(
            Errno::INVAL,
            "the file descriptor has O_APPEND, which sends every write to the end; open the file without it",
        ));
    }
    fcntl_dupfd_cloexec(fd, 0).map_err(system("fcntl"))
}

/// What a file is, or why it cannot be paged.
fn kind(stat: &Stat) -> Result<Kind> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(Kind::Regular),
        FileType::BlockDevice => return Ok(Kind::BlockDevice),
        FileType::Directory => return Err(refusal(Errno::ISDIR, "it is a directory; name a file in it")),
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        _ => "neither a file nor a block device",
    };
    Err(refusal(
        Errno::OPNOTSUPP,
        format!("it is {what}, and only regular files and block devices can be paged"),
    ))
}

fn refusal(errno: Errno, text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::errno(errno.raw_os_error(), text)
}

/// Two words that are others when the file's contents are, as far as its times tell. A block device's tell nothing.
pub(crate) fn change(stat: &Stat, kind: Kind) -> [u64; 2] {
    // What matters is that different times give different words: seconds may wrap.
    let word = |seconds: i64, nanoseconds: u64| {
        let whole = seconds.cast_unsigned().wrapping_mul(1_000_000_000);
        whole.wrapping_add(nanoseconds)
    };
    match kind {
        Kind::Regular => [
            word(stat.st_mtime, stat.st_mtime_nsec),
            word(stat.st_ctime, stat.st_ctime_nsec),
        ],
        Kind::BlockDevice => [0; 2],
    }
}

/// The size in bytes as it is now. Does not move the descriptor's position, which the caller may share.
pub(crate) fn length(fd: &OwnedFd, kind: Kind) -> Result<u64> {
    match kind {
        Kind::Regular => {
            let size = fs::fstat(fd).map_err(system("fstat"))?.st_size;
            u64::try_from(size).map_err(|_| Error::new(format!("fstat says that the size is {size}")))
        }
        Kind::BlockDevice => block_device_size(fd.as_fd()).map_err(system("BLKGETSIZE64")),
    }
}

fn block_device_size(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    // The request's number is made with the size of a `size_t`, and its answer is 64 bits wide all the same.
    const BLKGETSIZE64: rustix::ioctl::Opcode = opcode::read::<usize>(0x12, 114);
    // SAFETY: BLKGETSIZE64 writes one u64, for which the getter has room.
    unsafe { ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// A name for people: the path, or what the system knows the descriptor by.
fn name(request: &OpenRequest<'_>, fd: &OwnedFd) -> String {
    let link = || std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    match request.path().map(Path::to_path_buf).or_else(link) {
        Some(path) => path.to_string_lossy().into_owned(),
        None => "a file given by its descriptor".to_owned(),
    }
}
