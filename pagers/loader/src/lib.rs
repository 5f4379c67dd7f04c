//! Finds, checks, loads and unloads pager plugins. The only crate that calls `dlopen`.
//!
//! A plugin is a shared library with one function, `quire_pager_entry`, as `quire-abi` describes it. Getting from a name to
//! operations that may be called takes these steps, each with its own refusals ([`LoadError`], one sentence each):
//!
//! | step | where | refuses |
//! |---|---|---|
//! | find the file | [`SearchPath`] | names that cannot be one, names without a file |
//! | look into it | `elf` | what is not a whole shared library for this machine with the entry symbol |
//! | load it | [`Plugin::load`] | what the dynamic linker refuses |
//! | shake hands | `handshake` | NULL, another magic, version, size, thread model, texts |
//! | compare layouts | `layout` | Rust plugins built on other types |
//! | look for operations | `handshake` | a table without open, close or get; a driver's without get_extension |
//! | put it to work | [`Loaded`] | what `init` refuses; a driver whose table is no good |
//!
//! Nothing of a plugin runs before its file was looked into. A plugin is trusted code all the same: it runs in this
//! process, and one that crashes takes the process along.

mod elf;
mod error;
mod handshake;
mod layout;
mod loaded;
mod memory;
mod plugin;
mod report;
mod search;

pub use error::{AbiVersion, LoadError};
pub use loaded::{Loaded, NotUnloaded};
pub use memory::open_memory;
pub use plugin::{NotReleased, Plugin, Released};
pub use report::{Report, probe};
pub use search::{PATH_VARIABLE, SearchPath};
