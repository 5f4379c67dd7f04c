//! Memory of devices: apertures, whose pages come into objects as they are.
//!
//! An aperture is a range of memory that belongs to a device, registered for the whole process: plugins serve several engines. A page
//! over it is valid at once. Accesses go to that memory on every machine, so that nothing is copied, written back or taken away
//! to make room, and no frame of the machine's is used.
//!
//! # Invariants
//!
//! 1. An aperture stands in its place of the table from [`add`] until [`remove`] has answered well, and does not change.
//! 2. It counts the pages that show it, those that are about to be made included. As long as that count is not 0 it is not removed. So
//!    whoever has such a page busied, or mapped, finds its memory without a lock ([`of`]).
//! 3. A page gives its count back when nothing maps it any more, as the last thing that is done with its frame.

use alloc::boxed::Box;
use core::any::Any;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::alloc_fallible::try_box;
use crate::error::{Error, Result};
use crate::sync::FrameLock;
use crate::types::{CacheMode, Frame, PAGE_BYTES, PAGE_SHIFT, PAGE_SIZE};

/// Apertures that a process can have at the same time.
pub const MOST_APERTURES: usize = 1024;
/// Pages of the longest aperture: 4 PiB.
const MOST_PAGES: u64 = 1 << Frame::DEVICE_PAGE_BITS;

/// Names an aperture: never 0, and never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ApertureId(pub u64);

impl ApertureId {
    /// The aperture's place in the table.
    #[allow(clippy::cast_possible_truncation, reason = "less than MOST_APERTURES")]
    fn place(self) -> usize {
        (self.0 % MOST_APERTURES as u64) as usize
    }
}

/// Where a file has the memory of an aperture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceFile {
    /// An open file descriptor that can be mapped.
    pub fd: i32,
    /// Where the memory begins, in bytes; a multiple of the page size.
    pub offset: u64,
}

/// The memory of a device.
pub struct DeviceMemory {
    start: NonNull<u8>,
    len: u64,
    writable: bool,
    /// It is a shared mapping, so that a machine can show it at other addresses as well.
    pub shared: bool,
    /// What it is a mapping of, for a machine that maps that anew.
    pub file: Option<DeviceFile>,
    /// Whatever keeps memory and file as they are, dropped when the aperture has been removed.
    pub keeper: Option<Box<dyn Any + Send + Sync>>,
}

impl DeviceMemory {
    /// `len` bytes at `start`, which can be read and written, and are not known to be shared.
    ///
    /// # Safety
    /// Until this value is dropped, the bytes can be read, and written unless [`DeviceMemory::read_only`] says otherwise, by any thread. No
    /// reference of Rust's to them is used meanwhile but to atomics.
    #[must_use]
    pub unsafe fn new(start: NonNull<u8>, len: u64) -> Self {
        Self {
            start,
            len,
            writable: true,
            shared: false,
            file: None,
            keeper: None,
        }
    }

    /// The same, which cannot be written.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            writable: false,
            ..self
        }
    }

    fn pages(&self) -> u64 {
        self.len >> PAGE_SHIFT
    }
}

// SAFETY: an address and a length; the memory behind them may be accessed by any thread, which `new` asks for.
unsafe impl Send for DeviceMemory {}
// SAFETY: as for Send.
unsafe impl Sync for DeviceMemory {}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory")
            .field("start", &self.start)
            .field("len", &self.len)
            .field("writable", &self.writable)
            .field("shared", &self.shared)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A registered aperture.
#[derive(Debug)]
pub struct Aperture {
    id: ApertureId,
    memory: DeviceMemory,
    cache: CacheMode,
    /// Pages that show it.
    shown: AtomicU64,
}

/// The apertures, each in its place. Changed with [`LAST_NUMBER`] locked.
static TABLE: [AtomicPtr<Aperture>; MOST_APERTURES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MOST_APERTURES];

/// How many apertures there were.
static LAST_NUMBER: FrameLock<u64> = FrameLock::new(0);

/// Registers memory of a device.
///
/// # Errors
/// [`Error::Invalid`] for memory that is empty, or not made of whole pages; [`Error::InUse`] when there are [`MOST_APERTURES`];
/// [`Error::NoMemory`]. The memory is dropped then.
pub fn add(memory: DeviceMemory, cache: CacheMode) -> Result<ApertureId> {
    check(&memory)?;
    let mut aperture = try_box(Aperture {
        id: ApertureId(0),
        memory,
        cache,
        shown: AtomicU64::new(0),
    })?;
    let mut last = LAST_NUMBER.lock();
    let Some(place) = TABLE.iter().position(|place| place.load(Ordering::Relaxed).is_null()) else {
        // Dropped where no lock is held: what keeps the memory may be anybody's.
        drop(last);
        return Err(Error::InUse(
            "the process has as many apertures as it can have; remove one first",
        ));
    };
    *last += 1;
    let id = ApertureId(*last * MOST_APERTURES as u64 + place as u64);
    aperture.id = id;
    TABLE[place].store(Box::into_raw(aperture), Ordering::Release);
    Ok(id)
}

fn check(memory: &DeviceMemory) -> Result<()> {
    if memory.len == 0 {
        return Err(Error::Invalid("an aperture of no bytes shows nothing; give its length"));
    }
    if !memory.len.is_multiple_of(PAGE_SIZE) || !memory.start.addr().get().is_multiple_of(PAGE_BYTES) {
        return Err(Error::Invalid(
            "an aperture begins and ends at multiples of the page size; widen it, or cut it",
        ));
    }
    if memory.pages() > MOST_PAGES {
        return Err(Error::Invalid("an aperture has at most 2^52 bytes"));
    }
    Ok(())
}

/// Ends what [`add`] began: the memory is the caller's again.
///
/// # Errors
/// [`Error::Invalid`] when there is no such aperture; [`Error::InUse`] while pages show it: it stays registered.
pub fn remove(id: ApertureId) -> Result<()> {
    let removed = {
        let _changing = LAST_NUMBER.lock();
        let aperture = find(id)?;
        // Acquire: all that was done with its pages is done.
        if aperture.shown.load(Ordering::Acquire) > 0 {
            return Err(Error::InUse(
                "pages of objects still show the aperture; revoke them, or close their objects, first",
            ));
        }
        TABLE[id.place()].swap(core::ptr::null_mut(), Ordering::AcqRel)
    };
    // SAFETY: made by `add`, and taken from the table here: nobody shows it, and nobody finds it any more.
    drop(unsafe { Box::from_raw(removed) });
    Ok(())
}

/// The table is locked.
fn find<'a>(id: ApertureId) -> Result<&'a Aperture> {
    // SAFETY: null, or a box that stays as long as the table is locked, or shown.
    let aperture = unsafe { TABLE[id.place()].load(Ordering::Relaxed).as_ref() };
    aperture
        .filter(|aperture| aperture.id == id)
        .ok_or(Error::Invalid("there is no such aperture, or it has been removed"))
}

/// The aperture of a frame.
///
/// # Safety
/// The frame is that of a page that the caller has busied, or of a translation that cannot go away as long as the answer is used.
///
/// # Panics
/// For a frame of no aperture.
#[must_use]
pub unsafe fn of<'a>(frame: Frame) -> &'a Aperture {
    assert!(frame.is_device(), "frame {frame} is none of a device");
    // SAFETY: null, or an aperture that the page counts for (invariant 2). Acquire: it is seen as it was registered.
    let aperture = unsafe { TABLE[frame.aperture()].load(Ordering::Acquire).as_ref() };
    aperture.unwrap_or_else(|| panic!("frame {frame} belongs to an aperture that has been removed"))
}

/// Frames of one aperture in one piece, counted as shown: pages are made of them one by one, from the first on. What is left is given back
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    next: Frame,
    left: u64,
}

impl Taken {
    /// `count` frames from page `first` of the aperture on.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such aperture, or it ends before.
    pub(crate) fn new(id: ApertureId, first: u64, count: u64) -> Result<Self> {
        let _changing = LAST_NUMBER.lock();
        let aperture = find(id)?;
        if first.checked_add(count).is_none_or(|end| end > aperture.memory.pages()) {
            return Err(Error::Invalid("the pages do not lie in the aperture"));
        }
        aperture.shown.fetch_add(count, Ordering::Relaxed);
        Ok(Self {
            next: Frame::device(id.place(), first),
            left: count,
        })
    }

    /// The next one, for a page that is about to be made, which will give it back with [`give_back`].
    pub(crate) fn take(&mut self) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        let frame = self.next;
        self.next.0 += 1;
        Some(frame)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: counted by `new`.
            unsafe { of(self.next) }.shown.fetch_sub(self.left, Ordering::Release);
        }
    }
}

/// A page over the frame is not mapped any more, and goes.
pub(crate) fn give_back(frame: Frame) {
    // SAFETY: the page still counts.
    unsafe { of(frame) }.shown.fetch_sub(1, Ordering::Release);
}

impl Aperture {
    /// How its device wants to be accessed.
    #[must_use]
    pub fn cache(&self) -> CacheMode {
        self.cache
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.memory.writable
    }

    /// What it is a mapping of, if a file.
    #[must_use]
    pub fn file(&self) -> Option<DeviceFile> {
        self.memory.file
    }

    /// Whether a machine can show its memory at other addresses.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.memory.shared
    }

    /// How many pages show it, or are about to.
    #[must_use]
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    /// Where the bytes of a frame are. What is accessed there is the device's: not by plain loads and stores.
    #[must_use]
    pub fn address(&self, frame: Frame) -> NonNull<u8> {
        let page = frame.page_in_aperture();
        assert!(
            page < self.memory.pages() && frame.aperture() == self.id.place(),
            "frame {frame} lies outside of its aperture"
        );
        #[allow(clippy::cast_possible_truncation, reason = "memory of this process")]
        let offset = page as usize * PAGE_BYTES;
        // SAFETY: inside the memory, checked above.
        unsafe { self.memory.start.add(offset) }
    }

    /// Reads from `offset` in a frame on; does not cross it. Each access is as wide as its address and the rest allow, and is made once.
    pub fn read(&self, frame: Frame, offset: usize, to: &mut [u8]) {
        each_access(offset, to.len(), |at, done, width| {
            // SAFETY: inside the frame, which `each_access` checks, aligned, and readable by the contract of `DeviceMemory`. Volatile:
            // whoever else accesses it, this is memory that Rust knows nothing of.
            unsafe {
                let from = self.address(frame).add(at);
                match width {
                    8 => to[done..done + 8].copy_from_slice(&from.cast::<u64>().read_volatile().to_ne_bytes()),
                    4 => to[done..done + 4].copy_from_slice(&from.cast::<u32>().read_volatile().to_ne_bytes()),
                    2 => to[done..done + 2].copy_from_slice(&from.cast::<u16>().read_volatile().to_ne_bytes()),
                    _ => to[done] = from.read_volatile(),
                }
            }
        });
    }

    /// Writes from `offset` in a frame on, likewise. The aperture can be written.
    pub fn write(&self, frame: Frame, offset: usize, from: &[u8]) {
        assert!(
            self.memory.writable,
            "memory of a device was written that can only be read"
        );
        each_access(offset, from.len(), |at, done, width| {
            // SAFETY: as in `read`, and writable, checked above.
            unsafe {
                let to = self.address(frame).add(at);
                match width {
                    8 => to
                        .cast::<u64>()
                        .write_volatile(u64::from_ne_bytes(array(&from[done..]))),
                    4 => to
                        .cast::<u32>()
                        .write_volatile(u32::from_ne_bytes(array(&from[done..]))),
                    2 => to
                        .cast::<u16>()
                        .write_volatile(u16::from_ne_bytes(array(&from[done..]))),
                    _ => to.write_volatile(from[done]),
                }
            }
        });
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    core::array::from_fn(|i| bytes[i])
}

/// Cuts `len` bytes from `offset` in a page on into aligned accesses of 8, 4, 2 or 1 bytes: where in the page, how many bytes came before, how wide.
fn each_access(offset: usize, len: usize, mut access: impl FnMut(usize, usize, usize)) {
    assert!(offset + len <= PAGE_BYTES, "a copy crosses the page");
    let mut done = 0;
    while done < len {
        let (at, rest) = (offset + done, len - done);
        let fits = |width: &usize| at.is_multiple_of(*width) && *width <= rest;
        let width = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        access(at, done, width);
        done += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn an_access_is_as_wide_as_its_address_and_the_rest_allow() {
        let cut = |offset, len| {
            let mut all = Vec::new();
            each_access(offset, len, |at, done, width| all.push((at, done, width)));
            all
        };
        assert_eq!(cut(4, 4), [(4, 0, 4)], "a register of 4 bytes is written in one piece");
        assert_eq!(cut(1, 16), [(1, 0, 1), (2, 1, 2), (4, 3, 4), (8, 7, 8), (16, 15, 1)]);
        assert_eq!(cut(PAGE_BYTES - 8, 8), [(PAGE_BYTES - 8, 0, 8)]);
        assert_eq!(cut(5, 0), []);
    }
}
