//! The host's services, safe to keep and to share.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use quire_abi::{
    HostApi, QUIRE_LOG_DEBUG, QUIRE_LOG_ERROR, QUIRE_LOG_INFO, QUIRE_LOG_WARN, QUIRE_PAGER_STALE,
    QUIRE_PAGER_UNSUPPORTED,
};

use crate::border;
use crate::error::{Error, Result};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong and somebody must look at it.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// For the pager's author.
    Debug,
}

impl Level {
    fn to_abi(self) -> u32 {
        match self {
            Self::Error => QUIRE_LOG_ERROR,
            Self::Warn => QUIRE_LOG_WARN,
            Self::Info => QUIRE_LOG_INFO,
            Self::Debug => QUIRE_LOG_DEBUG,
        }
    }
}

/// The host that loaded this pager. Cheap to clone; every service may be called on any thread, and none runs an operation
/// of a pager.
///
/// Once the pager has been finalised the host is gone: a clone that outlives it does nothing.
#[derive(Debug, Clone)]
pub struct Host {
    page_size: u32,
    abi_version: u32,
    // Invariant: `Some` exactly from `init` until `fini`, when the table's services may be called. `fini` takes the write
    // lock, so it waits for services that are under way on other threads.
    api: Arc<RwLock<Option<HostApi>>>,
}

impl Host {
    /// Takes over the host's table. A member that an older host does not have is absent.
    ///
    /// # Safety
    /// `api` is NULL, or points to a table of `struct_size` bytes that stays valid until [`Host::retire`] has returned.
    pub(crate) unsafe fn adopt(api: *const HostApi) -> Result<Self> {
        // SAFETY: the caller's promise.
        let own = unsafe { border::read(api) }?;
        if !own.page_size.is_power_of_two() {
            return Err(Error::invalid(format!(
                "the host's page size {} is no power of two",
                own.page_size
            )));
        }
        Ok(Self {
            page_size: own.page_size,
            abi_version: own.abi_version,
            api: Arc::new(RwLock::new(Some(own))),
        })
    }

    /// After this no clone calls the host any more.
    pub(crate) fn retire(&self) {
        *self.api.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Bytes in a page; a power of two.
    pub fn page_size(&self) -> usize {
        self.page_size as usize
    }

    /// The host's version of the ABI, `major << 16 | minor`.
    pub fn abi_version(&self) -> u32 {
        self.abi_version
    }

    /// Writes a line to the host's log. Zero bytes in `text` are dropped.
    pub fn log(&self, level: Level, text: impl std::fmt::Display) {
        let line = c_string(&text.to_string());
        self.with(|api| {
            let log = api.log?;
            // SAFETY: the table is valid (see `api`), `line` ends in a zero and lives through the call.
            unsafe { log(api.host, level.to_abi(), line.as_ptr()) };
            Some(())
        });
    }

    /// The host's extension table of this name, or `None`. What it points to is between the host and the extension's
    /// author; it is valid as long as the host is.
    pub fn extension(&self, id: &CStr) -> Option<ptr::NonNull<c_void>> {
        let table = self.with(|api| {
            let get = api.get_extension?;
            // SAFETY: the table is valid (see `api`), `id` ends in a zero and lives through the call.
            Some(unsafe { get(api.host, id.as_ptr()) })
        })?;
        ptr::NonNull::new(table.cast_mut())
    }

    /// Says in words what went wrong with the request `token`; 0 is the operation that runs on this thread.
    pub(crate) fn set_error(&self, token: u64, text: &str) {
        let text = c_string(text);
        self.with(|api| {
            let set_error = api.set_error?;
            // SAFETY: the table is valid (see `api`), `text` ends in a zero and the host copies it before it returns.
            unsafe { set_error(api.host, token, text.as_ptr()) };
            Some(())
        });
    }

    /// Completes the request `token`, whose pages have their statuses. The host's answer; `STALE` when it is gone.
    pub(crate) fn complete(&self, token: u64, status: i32) -> i32 {
        self.with(|api| {
            let complete = api.complete?;
            // SAFETY: the table is valid (see `api`).
            Some(unsafe { complete(api.host, token, status) })
        })
        .unwrap_or(QUIRE_PAGER_STALE)
    }

    /// Inserts pages from `first` on during the populate request `token`: the host's status, and for `OK` how many were, whose bytes
    /// are then in `bytes`.
    pub(crate) fn page_insert(&self, token: u64, first: u64, bytes: &mut [*mut c_void]) -> (i32, usize) {
        let (mut inserted, count) = (0, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let status = self.with(|api| {
            let insert = api.page_insert?;
            // SAFETY: the table is valid (see `api`), and both are places for the answer.
            Some(unsafe { insert(api.host, token, first, count, bytes.as_mut_ptr(), &mut inserted) })
        });
        let inserted = bytes.len().min(inserted as usize);
        (status.unwrap_or(QUIRE_PAGER_UNSUPPORTED), inserted)
    }

    /// Says that `count` inserted pages from `first` on are filled.
    pub(crate) fn page_ready(&self, token: u64, first: u64, count: u32) -> i32 {
        self.with(|api| {
            let ready = api.page_ready?;
            // SAFETY: the table is valid (see `api`).
            Some(unsafe { ready(api.host, token, first, count) })
        })
        .unwrap_or(QUIRE_PAGER_UNSUPPORTED)
    }

    /// Busies pages that are in memory, from `first` on: the host's status, and for `OK` how many.
    pub(crate) fn page_take(&self, token: u64, first: u64, count: u32) -> (i32, u32) {
        let mut taken = 0;
        let status = self.with(|api| {
            let take = api.page_take?;
            // SAFETY: the table is valid (see `api`), `taken` is a place for the answer.
            Some(unsafe { take(api.host, token, first, count, &mut taken) })
        });
        (status.unwrap_or(QUIRE_PAGER_UNSUPPORTED), taken.min(count))
    }

    /// Installs pages that show an aperture, from `first` on: the host's status, and for `OK` how many.
    pub(crate) fn frame_insert(&self, token: u64, first: u64, count: u32, aperture: u64, offset: u64) -> (i32, u32) {
        let mut inserted = 0;
        let status = self.with(|api| {
            let insert = api.frame_insert?;
            // SAFETY: the table is valid (see `api`), `inserted` is a place for the answer.
            Some(unsafe { insert(api.host, token, first, count, aperture, offset, &mut inserted) })
        });
        (status.unwrap_or(QUIRE_PAGER_UNSUPPORTED), inserted.min(count))
    }

    /// Runs `service` while the host's table is valid; `None` when it is gone or lacks the service.
    fn with<T>(&self, service: impl FnOnce(&HostApi) -> Option<T>) -> Option<T> {
        let api = self.api.read().unwrap_or_else(PoisonError::into_inner);
        service(api.as_ref()?)
    }
}

/// `text` with a zero at its end and none inside.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
