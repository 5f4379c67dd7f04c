//! The plugin ABI of Quire: what crosses the border between the engine and a pager.
//!
//! This crate holds `repr(C)` types and plain constants, and nothing that runs. Both sides are built on it: the SDK
//! (`quire-pager`) for pagers written in Rust, the bridge and the loader for the host. The same text, through cbindgen,
//! is the C header `include/quire_pager.h`; comments here therefore speak to a C author too.
//!
//! # The rules of this ABI
//!
//! 1. One entry function, [`QUIRE_PAGER_ENTRY`], whose signature never changes. It returns a pointer to a constant
//!    [`Module`] and has no side effect.
//! 2. The first words of [`Module`] and [`HostApi`] never move. Tables grow at the end only; the reader copies the
//!    smaller of the two sizes and takes the rest as zero, that is, as absent.
//! 3. Tables in both directions: a plugin needs no symbol of the host.
//! 4. Operations answer with an `int32_t` status (see [`status`]). Text goes through [`HostApi::set_error`] and is copied
//!    by the host at once.
//! 5. Every pointer says who owns it and until when. Out-parameters are written only on success.
//! 6. The host calls operations with no lock of its own held. A pager may block, call back, or use its own threads.
//! 7. No Rust enum crosses the border: an unknown number must stay a number.
//! 8. Structs that may grow begin with their size. A reader takes the smaller of the two sizes and holds the rest for
//!    zero; it refuses a size below the struct's `…_MIN_SIZE`, and one that ends inside a member. A writer writes no more
//!    than the size it was given.
//! 9. In a word of flags the low 16 bits may be ignored by who does not know them; the high 16 bits
//!    ([`QUIRE_PAGER_FLAGS_MUST_KNOW`]) must be understood, or the call is answered with `QUIRE_PAGER_INVALID`.
//! 10. An operation must not wait for another of the same pager. What comes back to a serialised pager on the same
//!     thread is refused (see [`QUIRE_THREADS_SERIALIZE_ALL`]).
//!
//! # Where the slots of the older vectors went (rows S1 to S9)
//!
//! | slot in UVM's vector (S1) | here |
//! |---|---|
//! | `init` | [`Module::init`], once a loaded module, before any open (S5) |
//! | `attach` | [`Module::open`]; identity and the one-object rule are the engine's |
//! | `reference`, `detach` | the engine counts references; the last one ends in [`Module::close`] |
//! | `fault` (S2) | [`Module::populate`], used when the opened object asks for it; absent means the ordinary path |
//! | `flush` | the engine's; it calls [`Module::put`] with runs |
//! | `get`, `asyncget` | [`Module::get`]; a request that carries [`QUIRE_IO_MAY_PEND`] may complete later |
//! | `put` | [`Module::put`]; absent means read-only |
//! | `cluster`, `mk_pcluster` (S3) | the engine's; the pager states [`OpenResult::granule`] and [`OpenResult::max_run`], and a `max_run` of 1 means single pages |
//! | `shareprot` | gone: there are no share maps |
//! | `aiodone` (S4) | [`HostApi::complete`]; a module without [`QUIRE_CAP_ASYNC`] never pends |
//! | `releasepg` | the engine's: the party that unbusies a released page frees it |
//! | writeable list, its lock, the sync queue (S5, S6) | the engine's, one a sync call |
//! | object embedded in the vnode (S7) | [`OpenResult::object`], an opaque handle given back in every operation |
//!
//! | slot in FreeBSD's vector (S8) | here |
//! |---|---|
//! | `init`, `alloc`, `dealloc` | `init`, `open`, `close` |
//! | `getpages`, `getpages_async`, `putpages`, `haspage` | `get`, `get` that pends, `put`, `has_page` |
//! | `populate` | `populate`, optional (absent = never called) |
//! | `pageunswapped` | [`Module::free_space`] |
//! | a driver's `ctor`, `dtor`, `fault`, `populate` (S9) | [`Driver`], which the device pager calls |
#![no_std]

mod driver;
mod empty;
pub mod golden;
mod host;
#[cfg(feature = "layout")]
pub mod layout;
mod module;
mod page;
mod request;
pub mod status;

pub use driver::*;
pub use host::*;
pub use module::*;
pub use page::*;
pub use request::*;
pub use status::*;

/// The first word of every [`Module`]: the bytes `QPGR` as a big-endian number.
pub const QUIRE_PAGER_MAGIC: u32 = 0x5150_4752;

/// Major number of the ABI in this header. A module of another major number is refused.
pub const QUIRE_PAGER_ABI_MAJOR: u32 = 1;

/// Minor number of the ABI in this header. Larger and smaller minors load: what a module does not have is absent, and what the host
/// does not know is left alone.
pub const QUIRE_PAGER_ABI_MINOR: u32 = 0;

/// The ABI version of this header, `major << 16 | minor`: what belongs in [`Module::abi_version`].
pub const QUIRE_PAGER_ABI_VERSION: u32 = 0x0001_0000;

const _: () = assert!(QUIRE_PAGER_ABI_VERSION == (QUIRE_PAGER_ABI_MAJOR << 16 | QUIRE_PAGER_ABI_MINOR));

/// The flags that a reader must understand: in every word of flags of this ABI, an unknown one of these is answered with
/// `QUIRE_PAGER_INVALID` by a pager, and refused by the host. Unknown ones below may be ignored.
pub const QUIRE_PAGER_FLAGS_MUST_KNOW: u32 = 0xffff_0000;

/// The name of the one symbol that a plugin exports, with its terminating zero.
pub const QUIRE_PAGER_ENTRY: &[u8] = b"quire_pager_entry\0";

/// The type of the entry function.
///
/// `host_abi_version` is the host's [`QUIRE_PAGER_ABI_VERSION`]. The function is pure: no side effect, no allocation. It
/// returns a table that is constant and lives as long as the library is loaded, or NULL, which says "I refuse this host".
pub type Entry = unsafe extern "C" fn(host_abi_version: u32) -> *const Module;
