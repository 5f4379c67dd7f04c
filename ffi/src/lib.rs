//! The C API of Quire: `libquire.so`, `libquire.a`, and `include/quire.h`, which is made from this crate.
//!
//! Nothing is decided here. Each function is a border: it catches panics, turns handles and pointers into safe types,
//! makes one call into the engine or the loader, and turns the answer into a status with a sentence. The comments of
//! the exported functions are the C header's, and speak to a C author.
//!
//! | file | holds |
//! |---|---|
//! | `status` | the status numbers and their names |
//! | `fail` | an error on its way out; the panic guard; the last error's text |
//! | `handle` | handles, and how a wrong one is caught |
//! | `c` | the structs and numbers |
//! | `pointers` | how pointers from C are read and written |
//! | `machine` | what an engine runs on |
//! | `engine`, `daemon`, `requests`, `pager`, `aperture`, `object`, `swap`, `map`, `fork`, `wire`, `page`, `access` | the functions |
//! | `log` | where log lines go |
//! | `heap` | where the library's own memory comes from |
//! | `api` | all functions as one table |
#![allow(
    clippy::missing_safety_doc,
    reason = "what pointers a function takes is in its comment, and the rules for all of them in the header's opening"
)]

pub mod access;
pub mod aperture;
pub mod api;
pub mod c;
pub mod daemon;
pub mod engine;
pub mod fail;
pub mod fork;
mod handle;
#[cfg(feature = "heap")]
mod heap;
pub mod log;
pub mod machine;
pub mod map;
pub mod object;
pub mod page;
pub mod pager;
mod pointers;
pub mod requests;
pub mod status;
pub mod swap;
pub mod wire;
