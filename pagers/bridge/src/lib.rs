//! A plugin's table behind the engine's [`Pager`](quire_core::pager::Pager) trait.
//!
//! Here the two columns of the house meet: below is `quire-abi`, which a plugin was built on, above is `quire-core`, which
//! knows nothing of plugins. A [`PluginModule`] is a plugin that has been initialised; it opens [`PluginObject`]s, and the
//! engine takes each as the pager of one object.
//!
//! # What happens to a request
//!
//! 1. The engine calls `get` or `put` of the object, holding no lock.
//! 2. A record with a token that was never used before is taken from the plugin's table (`requests`).
//! 3. The lock that the plugin's thread model asks for is taken for the time of the call.
//! 4. The plugin answers, or pends and completes later, on any thread, even before it returns.
//! 5. Its answer is held against its promise (`judge`), once, on one path for both. A broken promise becomes an error that
//!    names the pager, the object, the operation and what it did, and the engine quarantines the object.
//! 6. The record is given back when the operation has returned *and* the request has completed.
//!
//! The crate has no locks, threads or parking of its own: they are the engine's, and so it runs where the engine runs.
#![no_std]

extern crate alloc;

pub mod aperture;
mod driver;
mod host;
mod judge;
mod module;
mod name;
mod named;
mod object;
mod page;
mod requests;
mod revoke;
mod serial;
mod status;

pub use aperture::{OpenMemory, Wanted, only_addresses};
pub use host::{Level, Log};
pub use module::{Keeper, NotStarted, Open, Opened, PluginModule, StillInUse};
pub use object::PluginObject;
