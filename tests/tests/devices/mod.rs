//! A device for tests: some pages of memory, which the test sees as the device does, registered as an aperture in one way or another.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use quire_bridge::Wanted;
use quire_core::aperture::{self, ApertureId, DeviceFile};
use quire_core::error::{PagerError, Result};
use quire_core::types::{CacheMode, PAGE_BYTES, PAGE_SIZE};

/// How the memory is registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// By a file descriptor, which is mapped.
    File,
    /// By the address of a shared mapping.
    Address,
    /// By both.
    Both,
}

pub(crate) const WAYS: [By; 3] = [By::File, By::Address, By::Both];

/// The device's own view of its memory, a shared mapping of a file in memory.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) file: File,
    start: NonNull<u8>,
    pages: u64,
}

// SAFETY: an address; the bytes are accessed by atomics.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Memory whose every word tells its page.
    pub(crate) fn new(pages: u64) -> Self {
        // SAFETY: a new descriptor, or -1.
        let file = unsafe {
            let fd = libc::memfd_create(c"device".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from_raw_fd(fd)
        };
        file.set_len(pages * PAGE_SIZE).unwrap();
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let start = map(&file, pages, rights, libc::MAP_SHARED);
        let device = Self { file, start, pages };
        for page in 0..pages {
            for word in 0..PAGE_SIZE / 8 {
                device.word(page, word).store(Self::first(page), Ordering::Relaxed);
            }
        }
        device
    }

    /// What each word of a page holds at first.
    pub(crate) fn first(page: u64) -> u64 {
        0x5eed_0000_0000_0000 | page << 16 | 0x77
    }

    /// A word of the memory, as the device sees it.
    pub(crate) fn word(&self, page: u64, word: u64) -> &AtomicU64 {
        assert!(page < self.pages && word < PAGE_SIZE / 8);
        let at = usize::try_from(page * PAGE_SIZE + word * 8).unwrap();
        // SAFETY: inside the mapping, aligned, and nobody accesses it by plain loads and stores of Rust's.
        unsafe { self.start.add(at).cast::<AtomicU64>().as_ref() }
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn wanted(&self, by: By) -> Wanted {
        let file = DeviceFile {
            fd: self.file.as_raw_fd(),
            offset: 0,
        };
        Wanted {
            memory: (by != By::File).then_some(self.start),
            len: self.pages * PAGE_SIZE,
            file: (by != By::Address).then_some(file),
        }
    }

    pub(crate) fn register(&self, by: By) -> ApertureId {
        register(&self.wanted(by), CacheMode::WriteBack).unwrap()
    }

    /// Registers it by a file descriptor that can only be read.
    pub(crate) fn register_to_read(&self) -> ApertureId {
        let read_only = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap();
        let fd = read_only.as_raw_fd();
        let wanted = Wanted {
            file: Some(DeviceFile { fd, offset: 0 }),
            ..self.wanted(By::File)
        };
        register(&wanted, CacheMode::WriteBack).unwrap()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; the tests have removed their apertures.
        unsafe {
            libc::munmap(
                self.start.as_ptr().cast(),
                usize::try_from(self.pages).unwrap() * PAGE_BYTES,
            )
        };
    }
}

pub(crate) fn map(file: &File, pages: u64, rights: i32, how: i32) -> NonNull<u8> {
    let len = usize::try_from(pages * PAGE_SIZE).unwrap();
    // SAFETY: a new mapping where nothing is.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, how, file.as_raw_fd(), 0) };
    assert_ne!(start, libc::MAP_FAILED);
    NonNull::new(start.cast()).unwrap()
}

/// Registers memory as the C API does.
pub(crate) fn register(wanted: &Wanted, cache: CacheMode) -> Result<ApertureId, PagerError> {
    // SAFETY: the tests keep the memory until the aperture has been removed.
    let memory = unsafe { quire_loader::open_memory(wanted) }?;
    aperture::add(memory, cache).map_err(|error| match error {
        quire_core::error::Error::Pager(error) => error,
        error => PagerError::new(quire_core::error::Cause::Invalid, format_args!("{error}")),
    })
}
