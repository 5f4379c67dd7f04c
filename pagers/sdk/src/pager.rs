//! What an author implements: a pager, its objects, and the optional operations.
//!
//! An optional operation is a trait of its own. [`export_pager!`](crate::export_pager) looks which of them the object
//! implements: an operation is in the table exactly when its trait is implemented, and there is no list to forget.

use std::ffi::{CStr, OsStr, c_void};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use quire_abi::{
    HostApi, OpenArgs, OpenResult, QUIRE_CAP_ASYNC, QUIRE_CAP_DEVICES, QUIRE_CAP_FORK_SAFE, QUIRE_CAP_SIGNAL_SAFE,
    QUIRE_CAP_STAY_RESIDENT, QUIRE_OBJECT_FRAMES, QUIRE_OBJECT_POPULATE, QUIRE_OBJECT_READ_ONLY,
    QUIRE_THREADS_PARALLEL, QUIRE_THREADS_SERIALIZE_ALL, QUIRE_THREADS_SERIALIZE_OBJECT,
};

use crate::driver::GivenDriver;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::populate::{PopulateRun, Populated};
use crate::revoke::HostObject;
use crate::run::{GetRun, PutRun};

/// A pager: one value a loaded module, made by `init` and dropped by `fini`.
///
/// The host calls no operation with a lock of its own held; each may block. A panic in any of them is caught, reported
/// with its message, and answered with `QUIRE_PAGER_FAULTED`; the host then quarantines the object.
pub trait Pager: Sized + Send + Sync + 'static {
    /// Short name: lower-case letters, digits, `-` and `_`. Anything else does not compile.
    const NAME: &'static CStr;
    /// The pager's own version, for people; may be empty.
    const VERSION: &'static CStr = c"";
    /// One sentence, for people; may be empty.
    const DESCRIPTION: &'static CStr = c"";
    /// Which operations may run at the same time. The host enforces it.
    const THREADS: Threads = Threads::Parallel;
    /// What else the host must know.
    const CAPS: Caps = Caps::NONE;

    /// What `open` makes.
    type Object: Object;

    /// Called once, before anything else. `config` is the host's text for this pager. An error refuses the load.
    fn init(host: Host, config: Option<&str>) -> Result<Self>;

    /// Opens what `request` names.
    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Self::Object>>;

    /// Called once, after the last close, when no request is under way. Threads that the pager started must have ended
    /// when it returns: the host may unload the code they run. The default drops the pager.
    fn fini(self) {}
}

/// An open object. The host calls no operation after `close`, and `close` only when no request is under way.
pub trait Object: Sized + Send + Sync + 'static {
    /// Fills the pages of a run. The required page must be filled for an `Ok`; a neighbour may be left alone or fail, and
    /// fails nobody.
    ///
    /// Pages that begin at or beyond the object's size are not in the run: the SDK answers them with `QUIRE_PAGER_BAD`.
    /// After [`GetRun::pend`] the answer is the pending request's, whatever is returned here.
    fn get(&self, run: &mut GetRun<'_>) -> Result<()>;

    /// Ends the object. An error is reported to whoever released it; it is closed all the same. The default drops it.
    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// The object can be written. Without it, it is read-only.
pub trait Put: Sized + Send + Sync + 'static {
    /// Writes the pages of a run, whose bytes do not change meanwhile. Every page must be marked
    /// [`written`](crate::Page::written) or failed; an `Err` fails those that are neither.
    fn put(&self, run: &mut PutRun<'_>) -> Result<()>;
}

/// Pages around one that could come along with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Pages directly before it.
    pub before: u32,
    /// Pages directly after it.
    pub after: u32,
}

/// The object knows which pages its backing has. Without it, every page below the size is there.
pub trait HasPage: Object {
    /// How many pages before and after `index` could come in the same request; `None` when the page is not there.
    fn has_page(&self, index: u64) -> Result<Option<Extent>>;
}

/// A device: the object installs pages itself. Called for objects that were opened with [`Opened::populate`].
pub trait Populate: Sized + Send + Sync + 'static {
    /// Installs as many pages as the pager thinks right, through [`PopulateRun::insert`] and [`PopulateRun::ready`].
    fn populate(&self, run: &mut PopulateRun<'_>) -> Result<Populated>;
}

/// The object's size can change behind the host's back. Without it, the size given by `open` stands.
pub trait Size: Object {
    /// The size in bytes as it is now.
    fn size(&self) -> Result<u64>;
}

/// The object's own puts and resizes change what [`Opened::change`] tells. Without it, they do not.
pub trait Change: Object {
    /// Which contents the object has now; both 0: not known.
    fn change(&self) -> Result<[u64; 2]>;
}

/// The object's size can be set. Without it, the size is fixed.
pub trait Resize: Object {
    /// Makes the backing `size` bytes long.
    fn resize(&self, size: u64) -> Result<()>;
}

/// A put alone is not durable. Without it, a put is durable when it completes.
pub trait Durable: Sized + Send + Sync + 'static {
    /// Makes everything that was put durable before it returns.
    fn sync(&self) -> Result<()>;
}

/// The object wants to be asked before clean pages are written. Without it, writing is always allowed.
pub trait PrepareWrite: Object {
    /// Allows writing to `count` pages from `first`; an error denies it.
    fn prepare_write(&self, first: u64, count: u64) -> Result<()>;
}

/// Pending requests can be cancelled. Without it, they cannot.
pub trait Cancel: Object {
    /// Asks that the request `token`, which was left pending, end soon; does not wait for that. It still completes, exactly once:
    /// with [`Error::cancelled`](crate::Error::cancelled), or with whatever it came to. A token that has completed meanwhile is to be
    /// ignored. An error: it cannot be cancelled now, and goes on.
    fn cancel(&self, token: u64) -> Result<()>;
}

/// Backing can be reserved. Without it, a put finds room or fails.
pub trait Reserve: Object {
    /// Reserves backing for `count` pages from `first`, which will be put.
    fn reserve(&self, first: u64, count: u64) -> Result<()>;
}

/// Backing can be given back. Without it, the notice is dropped.
pub trait FreeSpace: Object {
    /// `count` pages from `first` will not be read again until they are put. No put or get of these pages is under way, and
    /// none begins before this has returned. An error is reported, and the pages count as given back all the same.
    fn free_space(&self, first: u64, count: u64) -> Result<()>;
}

/// The object counts its resident pages. Both are notices, delivered later and outside every lock of the host.
pub trait Accounting: Object {
    /// The page became resident.
    fn page_inserted(&self, index: u64);
    /// The page is no longer resident.
    fn page_removed(&self, index: u64);
}

/// The pager offers extension tables.
pub trait Extensions: Pager {
    /// The extension table of this name. It is static: it outlives the pager.
    fn extension(&self, id: &CStr) -> Option<NonNull<c_void>>;
}

/// Which operations may run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// No two operations of the pager.
    SerializeAll,
    /// No two operations on one object.
    SerializeObject,
    /// Any, but for open and close of the same object, init and fini.
    Parallel,
}

impl Threads {
    pub(crate) const fn to_abi(self) -> u32 {
        match self {
            Self::SerializeAll => QUIRE_THREADS_SERIALIZE_ALL,
            Self::SerializeObject => QUIRE_THREADS_SERIALIZE_OBJECT,
            Self::Parallel => QUIRE_THREADS_PARALLEL,
        }
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps(u64);

impl Caps {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// `get` and `put` may pend. Without it `pend` always answers `None`.
    pub const ASYNC: Self = Self(QUIRE_CAP_ASYNC);
    /// The library must not be unloaded before the process ends.
    pub const STAY_RESIDENT: Self = Self(QUIRE_CAP_STAY_RESIDENT);
    /// Operations may be called in a child after fork.
    pub const FORK_SAFE: Self = Self(QUIRE_CAP_FORK_SAFE);

    /// `get` and `put` of a request with [`Request::in_signal`](crate::Request::in_signal), and `has_page` always, do only what is
    /// async-signal-safe.
    /// The SDK's own part is: it allocates nothing then, as long as the operation makes no [`Error`] that does.
    pub const SIGNAL_SAFE: Self = Self(QUIRE_CAP_SIGNAL_SAFE);

    /// The pager opens devices: [`OpenRequest::driver`] has a driver, always. Its [`Pager::THREADS`] are `Parallel`; the driver's are kept.
    pub const DEVICES: Self = Self(QUIRE_CAP_DEVICES);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every capability of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn to_abi(self) -> u64 {
        self.0
    }
}

/// What is to be opened. Borrowed until `open` returns.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    pub(crate) name: Option<&'a CStr>,
    pub(crate) fd: Option<BorrowedFd<'a>>,
    pub(crate) flags: u32,
    pub(crate) page_size: usize,
    pub(crate) host: Host,
    pub(crate) host_api: *const HostApi,
    pub(crate) driver: Option<GivenDriver>,
    pub(crate) host_object: HostObject,
    // The host's own struct, lent for `'a`.
    pub(crate) args: *const OpenArgs,
}

impl<'a> OpenRequest<'a> {
    /// What to open, as bytes; what it means is the pager's business.
    pub fn name(&self) -> Option<&'a CStr> {
        self.name
    }

    /// What to open, as text. An error when there is no name or when it is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        let name = self.name.ok_or_else(|| Error::invalid("no name was given; pass one"))?;
        name.to_str().map_err(|_| Error::invalid("the name is not UTF-8"))
    }

    /// What to open, as a path.
    pub fn path(&self) -> Option<&'a Path> {
        self.name.map(|name| Path::new(OsStr::from_bytes(name.to_bytes())))
    }

    /// An open file descriptor to use. It stays the caller's: a pager that wants to keep it duplicates it.
    pub fn fd(&self) -> Option<BorrowedFd<'a>> {
        self.fd
    }

    /// Whether the object will be written.
    pub fn write(&self) -> bool {
        self.flags & quire_abi::QUIRE_OPEN_WRITE != 0
    }

    /// Whether the object will be read.
    pub fn read(&self) -> bool {
        self.flags & quire_abi::QUIRE_OPEN_READ != 0
    }

    /// Bytes in a page; a power of two.
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// The host, for a driver, which has no `init` to be told it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The host's services as the ABI has them, for a driver. Valid until the object's close has returned; NULL with a host that is older than
    /// drivers are.
    pub fn host_api(&self) -> *const HostApi {
        self.host_api
    }

    /// The driver of the device that is to be opened; nothing unless the pager has [`Caps::DEVICES`].
    pub fn driver(&self) -> Option<&GivenDriver> {
        self.driver.as_ref()
    }

    /// The object's name in the host's services that take one, such as [`Host::revoke`]. It may be kept, and used on any thread; the
    /// services know the object from when `open` has answered until its close has returned, and answer with an error before and afterwards.
    pub fn host_object(&self) -> HostObject {
        self.host_object
    }

    /// The host's own struct, for other code that speaks the ABI, such as a driver. Valid until `open` returns.
    pub fn as_abi(&self) -> *const OpenArgs {
        self.args
    }
}

/// What was opened: the object, and what the host must know about it.
#[derive(Debug)]
#[must_use]
pub struct Opened<O> {
    pub(crate) object: O,
    pub(crate) flags: u32,
    pub(crate) identity: [u64; 2],
    pub(crate) size: u64,
    pub(crate) granule: u32,
    pub(crate) max_run: u32,
    pub(crate) change: [u64; 2],
    pub(crate) name: Option<String>,
}

impl<O> Opened<O> {
    /// An object of `size` bytes, which need not be a multiple of the page size.
    pub fn new(object: O, size: u64) -> Self {
        Self {
            object,
            flags: 0,
            identity: [0; 2],
            size,
            granule: 0,
            max_run: 0,
            change: [0; 2],
            name: None,
        }
    }

    /// As other code that speaks the ABI answered, such as a driver: all but the handle, in whose place is `object`.
    pub fn from_abi(object: O, answer: &OpenResult) -> Self {
        Self {
            object,
            flags: answer.flags,
            identity: answer.identity,
            size: answer.size,
            granule: answer.granule,
            max_run: answer.max_run,
            change: answer.change,
            name: None,
        }
    }

    /// Two words that are the same whenever the same thing is opened, so that the host keeps one object for it.
    pub fn identity(self, identity: [u64; 2]) -> Self {
        Self { identity, ..self }
    }

    /// Bytes that the backing moves best in.
    pub fn granule(self, granule: u32) -> Self {
        Self { granule, ..self }
    }

    /// The longest run of pages that one request may have.
    pub fn max_run(self, max_run: u32) -> Self {
        Self { max_run, ..self }
    }

    /// Which contents the object has: two words that are others whenever the contents may have changed other than through
    /// this object. When the thing is opened again and they are others, the host shows none of the pages that it kept.
    pub fn change(self, change: [u64; 2]) -> Self {
        Self { change, ..self }
    }

    /// The object cannot be written, whatever was asked for.
    pub fn read_only(self) -> Self {
        Self {
            flags: self.flags | QUIRE_OBJECT_READ_ONLY,
            ..self
        }
    }

    /// The same of another object, which `make` makes of this one.
    pub fn map<P>(self, make: impl FnOnce(O) -> P) -> Opened<P> {
        let Self {
            object,
            flags,
            identity,
            size,
            granule,
            max_run,
            change,
            name,
        } = self;
        Opened {
            object: make(object),
            flags,
            identity,
            size,
            granule,
            max_run,
            change,
            name,
        }
    }

    /// The object's pages are frames of a device: they need no put to be written.
    pub fn frames(self) -> Self {
        Self {
            flags: self.flags | QUIRE_OBJECT_FRAMES,
            ..self
        }
    }

    /// A name for people, for dumps and error texts. The default is the name that was given to open.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }
}

impl<O: Populate> Opened<O> {
    /// Pages come through [`Populate::populate`] first.
    pub fn populate(self) -> Self {
        Self {
            flags: self.flags | QUIRE_OBJECT_POPULATE,
            ..self
        }
    }
}
