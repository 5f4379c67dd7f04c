//! The host's services, safe to keep and to share.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use quire_abi::{
    HostApi, PageApi, QUIRE_LOG_DEBUG, QUIRE_LOG_ERROR, QUIRE_LOG_INFO, QUIRE_LOG_WARN, QUIRE_PAGER_STALE,
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
/// of a pager, but for [`Host::revoke`], which has dirty pages put.
///
/// Once the pager has been finalised the host is gone: a clone that outlives it does nothing. So does a driver's once its `dtor` has returned.
#[derive(Debug, Clone)]
pub struct Host {
    page_size: u32,
    abi_version: u32,
    services: Arc<Services>,
}

/// The host's tables, and who is calling them.
#[derive(Debug)]
struct Services {
    api: HostApi,
    pages: PageApi,
    // Calls under way, and `GONE`. Invariant: the tables' functions are called only by those whom this counts, of whom there are none
    // once `retire` has returned. A lock would not do: a service that blocks, such as `revoke`, may need others to go on.
    calls: AtomicU64,
    ended: Mutex<()>,
    none_left: Condvar,
}

/// In `Services::calls`: nobody begins a call any more.
const GONE: u64 = 1 << 63;

/// A call of a service under way: as long as it lives, the tables' functions may be called.
pub(crate) struct Call<'a>(&'a Services);

impl Call<'_> {
    /// The first argument of every service.
    pub(crate) fn host(&self) -> *mut quire_abi::Host {
        self.0.api.host
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::Release) == GONE | 1 {
            let _ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.none_left.notify_all();
        }
    }
}

impl Services {
    fn begin(&self) -> Option<Call<'_>> {
        let before = self.calls.fetch_add(1, Ordering::Acquire);
        let call = Call(self);
        (before & GONE == 0).then_some(call)
    }
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
        let pages = if own.pages.is_null() {
            border::absent()
        } else {
            // SAFETY: not NULL, so a table that is static as long as the host is.
            unsafe { border::read(own.pages) }?
        };
        Ok(Self {
            page_size: own.page_size,
            abi_version: own.abi_version,
            services: Arc::new(Services {
                api: own,
                pages,
                calls: AtomicU64::new(0),
                ended: Mutex::new(()),
                none_left: Condvar::new(),
            }),
        })
    }

    /// After this no clone calls the host any more. Waits for services that are under way on other threads.
    pub(crate) fn retire(&self) {
        let services = &*self.services;
        services.calls.fetch_or(GONE, Ordering::Relaxed);
        let mut ended = services.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while services.calls.load(Ordering::Acquire) != GONE {
            ended = services.none_left.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
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
        let _call = self.services.begin()?;
        service(&self.services.api)
    }

    /// A service that older hosts lack, and the call in which it may be called. `name` is the table's member.
    pub(crate) fn service<F>(&self, name: &str, of: impl FnOnce(&HostApi) -> Option<F>) -> Result<(Call<'_>, F)> {
        self.found(name, of(&self.services.api))
    }

    /// As [`Host::service`], of the table for pages.
    pub(crate) fn page_service<F>(&self, name: &str, of: impl FnOnce(&PageApi) -> Option<F>) -> Result<(Call<'_>, F)> {
        self.found(name, of(&self.services.pages))
    }

    fn found<F>(&self, name: &str, function: Option<F>) -> Result<(Call<'_>, F)> {
        let function =
            function.ok_or_else(|| Error::unsupported(format!("this host has no service {name}; use a newer host")))?;
        let gone = || {
            Error::with_status(
                QUIRE_PAGER_STALE,
                format!("{name} came after the end: the host is gone"),
            )
        };
        Ok((self.services.begin().ok_or_else(gone)?, function))
    }
}

/// `text` with a zero at its end and none inside.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
