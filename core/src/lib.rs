//! The engine of Quire: maps, memory objects, pages with a busy protocol, and the faults that tie them together.
#![cfg_attr(not(any(feature = "std", loom)), no_std)]

extern crate alloc;

pub mod busy;
pub mod sync;

#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod machine;
#[cfg(not(loom))]
pub mod page;
#[cfg(not(loom))]
pub mod types;
