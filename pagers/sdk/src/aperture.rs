//! Memory of devices, from which pages are made.

use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use quire_abi::{
    QUIRE_CACHE_UNCACHED, QUIRE_CACHE_WRITE_BACK, QUIRE_CACHE_WRITE_COMBINING, QUIRE_PAGER_AGAIN, QUIRE_PAGER_INVALID,
    QUIRE_PAGER_NOMEM, QUIRE_PAGER_OK, QUIRE_PAGER_STALE, QUIRE_PAGER_UNSUPPORTED,
};

use crate::error::{Error, NotDone, Result};
use crate::host::{Host, Level};
use crate::table::abi_size;

/// How a device wants its memory to be accessed. A machine with page tables of its own obeys; in a process the mapping that the device's file
/// gives decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Ordinary memory.
    #[default]
    WriteBack,
    /// Stores may be gathered and reordered, loads are not cached: frame buffers.
    WriteCombining,
    /// Every access reaches the device, in order: registers.
    Uncached,
}

impl CacheMode {
    fn to_abi(self) -> u32 {
        match self {
            Self::WriteBack => QUIRE_CACHE_WRITE_BACK,
            Self::WriteCombining => QUIRE_CACHE_WRITE_COMBINING,
            Self::Uncached => QUIRE_CACHE_UNCACHED,
        }
    }
}

/// What [`Host::add_aperture`] is to register: memory of a device, by a file that can be mapped, by its addresses in this process, or both.
#[derive(Debug, Clone, Copy)]
pub struct Aperture<'a> {
    what: quire_abi::Aperture,
    fd: PhantomData<BorrowedFd<'a>>,
}

impl<'a> Aperture<'a> {
    /// What a file maps: `length` bytes from `offset` on, both multiples of the page size, and the length not 0. The host duplicates the
    /// descriptor; the caller's may be closed afterwards. A file that is made shorter ends accesses to what it has lost with `SIGBUS`.
    pub fn of_file(fd: BorrowedFd<'a>, offset: u64, length: u64) -> Self {
        Self {
            what: quire_abi::Aperture {
                fd: fd.as_raw_fd(),
                offset,
                ..nothing(length)
            },
            fd: PhantomData,
        }
    }

    /// `length` bytes of this process from `memory` on: both multiples of the page size, and the length not 0.
    ///
    /// # Safety
    /// Until [`ApertureGuard::remove`] has answered `Ok` the memory stays mapped, and may be read and written by the host and by whoever maps
    /// a page that shows it, at any time and from any thread: there are no references to it but to atomics, and what others write to it is
    /// volatile. Dropping the guard does not end that, as it may fail; without an `Ok` it lasts until the process ends. On the Linux machine
    /// it must be a shared mapping (`MAP_SHARED`), as it is shown at other addresses too.
    pub unsafe fn of_memory(memory: NonNull<c_void>, length: u64) -> Self {
        Self {
            what: quire_abi::Aperture {
                memory: memory.as_ptr(),
                ..nothing(length)
            },
            fd: PhantomData,
        }
    }

    /// The file is mapped at `memory` already, with all of the aperture's length.
    ///
    /// # Safety
    /// As [`Aperture::of_memory`].
    #[must_use]
    pub unsafe fn mapped_at(self, memory: NonNull<c_void>) -> Self {
        Self {
            what: quire_abi::Aperture {
                memory: memory.as_ptr(),
                ..self.what
            },
            ..self
        }
    }

    /// How it wants to be accessed; [`CacheMode::WriteBack`] unless this is called.
    #[must_use]
    pub fn cache(self, cache: CacheMode) -> Self {
        Self {
            what: quire_abi::Aperture {
                cache: cache.to_abi(),
                ..self.what
            },
            ..self
        }
    }
}

fn nothing(length: u64) -> quire_abi::Aperture {
    quire_abi::Aperture {
        struct_size: abi_size::<quire_abi::Aperture>(),
        cache: QUIRE_CACHE_WRITE_BACK,
        memory: ptr::null_mut(),
        length,
        fd: -1,
        reserved: 0,
        offset: 0,
    }
}

/// A registered aperture. Dropping it removes it, if no page shows it any more; otherwise it stays registered, and the host's log says so.
/// Drop it in `dtor` or `close`, when the object's pages are gone.
#[must_use = "dropping it removes the aperture"]
pub struct ApertureGuard {
    host: Host,
    number: u64,
    /// Not once it was removed.
    registered: bool,
}

impl fmt::Debug for ApertureGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApertureGuard").field(&self.number).finish()
    }
}

impl ApertureGuard {
    /// Its number: what [`PopulateRun::insert_frames`](crate::PopulateRun::insert_frames) and
    /// [`DeviceFault::frame`](crate::DeviceFault::frame) are given.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Removes it. On `Ok` nothing of the host's refers to the memory any more.
    ///
    /// # Errors
    /// `AGAIN` while pages show it: [`Host::revoke`] them, or have their objects closed, and try again with the guard that is given back.
    /// `STALE`: the host is gone.
    pub fn remove(mut self) -> Result<(), NotDone<Self>> {
        match self.end() {
            Ok(()) => Ok(()),
            Err(error) => Err(NotDone { guard: self, error }),
        }
    }

    fn end(&mut self) -> Result<()> {
        let (call, remove) = self.host.service("aperture_remove", |api| api.aperture_remove)?;
        // SAFETY: the call's service, with its host.
        let status = unsafe { remove(call.host(), self.number) };
        match status {
            QUIRE_PAGER_OK => {
                self.registered = false;
                Ok(())
            }
            QUIRE_PAGER_AGAIN => Err(Error::again(format!(
                "pages show aperture {}; revoke them, or close their objects, and remove it then",
                self.number
            ))),
            _ => Err(Error::with_status(
                status,
                format!(
                    "the host did not remove aperture {}: status {status}; its log says why",
                    self.number
                ),
            )),
        }
    }
}

impl Drop for ApertureGuard {
    fn drop(&mut self) {
        if !self.registered {
            return;
        }
        if let Err(error) = self.end() {
            self.host.log(
                Level::Error,
                format_args!("aperture {} was dropped, and stays registered: {error}", self.number),
            );
        }
    }
}

impl Host {
    /// Registers memory of a device. At any time from `init` (for a driver: from `ctor`) until the host is gone.
    ///
    /// # Errors
    /// `INVALID`: the length is 0, or a number is no multiple of the page size; `NOMEM`; `UNSUPPORTED`: the host has no such service, or cannot
    /// map files; a negated `errno` of the mapping.
    pub fn add_aperture(&self, what: &Aperture<'_>) -> Result<ApertureGuard> {
        let (call, add) = self.service("aperture_add", |api| api.aperture_add)?;
        // What is not removed by somebody would be there for ever.
        self.service("aperture_remove", |api| api.aperture_remove)?;
        let mut number = 0;
        // SAFETY: the call's service, with its host; the struct has the size that it says and lives through the call, `number` is a place for
        // the answer, and who named addresses has promised that their memory stays.
        let status = unsafe { add(call.host(), &raw const what.what, &raw mut number) };
        drop(call);
        let text = match status {
            QUIRE_PAGER_OK => {
                return Ok(ApertureGuard {
                    host: self.clone(),
                    number,
                    registered: true,
                });
            }
            QUIRE_PAGER_INVALID => {
                "its length, offset or address does not fit: multiples of the page size, and not 0 bytes"
            }
            QUIRE_PAGER_NOMEM => "there is no memory for it",
            QUIRE_PAGER_UNSUPPORTED => "this host cannot map such a file; give the memory by its address",
            QUIRE_PAGER_STALE => "the host is gone",
            status => {
                return Err(Error::with_status(
                    status,
                    format!("the aperture was not registered: status {status}; the host's log says why"),
                ));
            }
        };
        Err(Error::with_status(
            status,
            format!("the aperture was not registered: {text}"),
        ))
    }
}
