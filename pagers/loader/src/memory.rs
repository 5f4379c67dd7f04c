//! Memory of devices, as this system has it: what is mapped at an address, and what a file descriptor maps.

use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use quire_bridge::Wanted;
use quire_core::aperture::{DeviceFile, DeviceMemory};
use quire_core::error::{Cause, PagerError};

/// Finds out what memory is like, or maps it: shared, to be read and written if the file allows that. The file's descriptor is duplicated, and
/// kept with the answer. Blocks for a read of `/proc/self/maps`.
///
/// # Errors
/// [`Cause::Invalid`] for memory that is not mapped, or not to be read, throughout, and for a file that ends before; the system's
/// number for a file that cannot be mapped.
///
/// # Safety
/// Memory that is named stays as it is until the answer is dropped.
pub unsafe fn open_memory(wanted: &Wanted) -> Result<DeviceMemory, PagerError> {
    let file = wanted.file.map(duplicate).transpose()?;
    match (wanted.memory, file) {
        (Some(start), file) => {
            let found = look_at(start, wanted.len)?;
            // SAFETY: this function's contract, and looked at above.
            let mut memory = unsafe { DeviceMemory::new(start, wanted.len) };
            if !found.writable {
                memory = memory.read_only();
            }
            memory.shared = found.shared;
            keep_file(&mut memory, file, wanted.file);
            Ok(memory)
        }
        (None, Some(file)) => map(file, wanted),
        (None, None) => Err(invalid(format_args!("there is neither memory nor a file to be mapped"))),
    }
}

fn invalid(what: fmt::Arguments<'_>) -> PagerError {
    PagerError::new(Cause::Invalid, what)
}

fn system(doing: &str) -> PagerError {
    let error = io::Error::last_os_error();
    let cause = match error.raw_os_error() {
        Some(libc::ENOMEM) => Cause::NoMemory,
        Some(errno) => Cause::Errno(errno),
        None => Cause::Io,
    };
    PagerError::new(cause, format_args!("{doing}: {error}"))
}

fn duplicate(file: DeviceFile) -> Result<OwnedFd, PagerError> {
    // SAFETY: a number that is borrowed for one system call, which says so if it is no descriptor.
    let duplicate = unsafe { BorrowedFd::borrow_raw(file.fd) }.try_clone_to_owned();
    duplicate.map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EBADF);
        let what = format_args!("the aperture's file descriptor {} cannot be used: {error}", file.fd);
        PagerError::new(Cause::Errno(errno), what)
    })
}

/// Has a machine map the file by our own descriptor.
fn keep_file(memory: &mut DeviceMemory, file: Option<OwnedFd>, wanted: Option<DeviceFile>) {
    if let (Some(file), Some(wanted)) = (file, wanted) {
        memory.file = Some(DeviceFile {
            fd: file.as_raw_fd(),
            offset: wanted.offset,
        });
        memory.keeper = Some(Box::new(file));
    }
}

/// A mapping of ours, and its file.
struct Mapping {
    start: *mut c_void,
    len: usize,
    _file: OwnedFd,
}

// SAFETY: an address, unmapped by whoever drops it.
unsafe impl Send for Mapping {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `map`, and by the contract of apertures nobody accesses it any more.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

fn map(file: OwnedFd, wanted: &Wanted) -> Result<DeviceMemory, PagerError> {
    let begins = wanted.file.map_or(0, |file| file.offset);
    check_length(&file, begins, wanted.len)?;
    let (Ok(len), Ok(offset)) = (usize::try_from(wanted.len), libc::off_t::try_from(begins)) else {
        return Err(invalid(format_args!(
            "the aperture is longer than this process has addresses"
        )));
    };
    let map = |prot| {
        // SAFETY: a new mapping where nothing is.
        let start = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        (start != libc::MAP_FAILED).then_some(start)
    };
    let (mut start, mut writable) = (map(libc::PROT_READ | libc::PROT_WRITE), true);
    if start.is_none() && io::Error::last_os_error().raw_os_error() == Some(libc::EACCES) {
        (start, writable) = (map(libc::PROT_READ), false);
    }
    let Some(start) = start else {
        return Err(system("the aperture's file cannot be mapped"));
    };
    let fd = file.as_raw_fd();
    let mapping = Mapping {
        start,
        len,
        _file: file,
    };
    let bytes = NonNull::new(start.cast()).ok_or_else(|| invalid(format_args!("the system mapped it at address 0")))?;
    // SAFETY: the mapping stays until the keeper is dropped.
    let mut memory = unsafe { DeviceMemory::new(bytes, wanted.len) };
    if !writable {
        memory = memory.read_only();
    }
    memory.shared = true;
    memory.file = Some(DeviceFile { fd, offset: begins });
    memory.keeper = Some(Box::new(mapping));
    Ok(memory)
}

/// Whether a file that has a length goes on for long enough: behind its end an access ends the process.
fn check_length(file: &OwnedFd, offset: u64, len: u64) -> Result<(), PagerError> {
    // SAFETY: zeros are a valid `stat`, which the call fills in.
    let (answer, stat) = unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        (libc::fstat(file.as_raw_fd(), &raw mut stat), stat)
    };
    if answer != 0 {
        return Err(system("the aperture's file cannot be looked at"));
    }
    let end = offset.saturating_add(len);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if stat.st_mode & libc::S_IFMT == libc::S_IFREG && size.next_multiple_of(4096) < end {
        return Err(invalid(format_args!(
            "the aperture's file has {size} bytes, and the aperture ends at {end}; make the file longer first"
        )));
    }
    Ok(())
}

/// What a range of addresses is like.
struct Found {
    writable: bool,
    /// Shared, and one piece of one file, so that it can be shown elsewhere in one piece.
    shared: bool,
}

/// Looks the range up among the mappings of this process. Where the system does not list them, it is taken for what it is said to be.
fn look_at(start: NonNull<u8>, len: u64) -> Result<Found, PagerError> {
    let mut found = Found {
        writable: true,
        shared: true,
    };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        found.shared = false;
        return Ok(found);
    };
    let (mut at, end) = (start.addr().get() as u64, start.addr().get() as u64 + len);
    let mut before: Option<Line<'_>> = None;
    for line in maps.lines().filter_map(Line::parse) {
        if line.end <= at || at >= end {
            continue;
        }
        if line.start > at || !line.rights.starts_with('r') {
            break;
        }
        found.writable &= line.rights.as_bytes().get(1) == Some(&b'w');
        found.shared &= line.rights.ends_with('s') && before.as_ref().is_none_or(|before| before.goes_on_in(&line));
        at = line.end;
        before = Some(line);
    }
    if at < end {
        return Err(invalid(format_args!(
            "nothing that can be read is mapped at {at:#x}, where the aperture's memory is said to be"
        )));
    }
    Ok(found)
}

/// A line of the list of mappings.
struct Line<'a> {
    start: u64,
    end: u64,
    rights: &'a str,
    offset: u64,
    device: &'a str,
    inode: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            rights: words.next()?,
            offset: u64::from_str_radix(words.next()?, 16).ok()?,
            device: words.next()?,
            inode: words.next()?,
        })
    }

    /// Whether the other one shows what comes next in the same file.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.device == next.device && self.inode == next.inode && self.offset + (self.end - self.start) == next.offset
    }
}
