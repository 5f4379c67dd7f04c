//! The engine of Quire: maps, memory objects, pages with a busy protocol, and the faults that tie them together.
//!
//! Modules in order of dependency, lower ones first:
//!
//! | | |
//! |---|---|
//! | [`types`], [`error`], [`sync`], [`stats`], `log` | numbers, words, locks, counters, lines for people |
//! | [`busy`], [`page`] | the busy protocol, and the page it protects |
//! | [`aperture`] | memory of devices |
//! | [`machine`], `soft` | what is needed from below; the software MMU |
//! | [`pager`], [`io`], [`populate`] | what is asked of a pager |
//! | [`object`], [`flush`] | pages by index; writing them back |
//! | [`map_entry`], [`map_tree`], [`map_ops`], [`map`] | address spaces |
//! | [`fault`], [`access`] | resolving faults; reading and writing through a map |
//! | [`page_queues`], [`policy`] | pages that can be taken, and which goes first |
//! | [`read_ahead`], [`requests`], `watchdog` | reading in sequence; the requests under way, and who watches them |
//! | [`pagedaemon`], [`engine`] | making room; everything together |
//!
//! Under `--cfg loom` only what loom models is compiled: [`busy`], [`sync`] and the life of an object.
#![cfg_attr(not(any(feature = "std", loom)), no_std)]

extern crate alloc;

pub mod busy;
pub mod sync;

#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod access;
#[cfg(not(loom))]
pub mod alloc_fallible;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod amap;
#[cfg(not(loom))]
pub mod aperture;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod engine;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod entering;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod fault;
#[cfg(not(loom))]
mod few;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod flush;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod fork;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod interrupt_safe;
#[cfg(not(loom))]
pub mod io;
#[cfg(all(feature = "std", not(loom)))]
#[deny(unsafe_code)]
pub mod log;
#[cfg(not(loom))]
pub mod machine;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod map;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod map_entry;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod map_ops;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod map_tree;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod mapped;
#[cfg(all(test, not(loom)))]
mod memory_pager;
#[cfg(not(loom))]
pub mod object;
#[cfg(loom)]
#[path = "object/life.rs"]
pub mod object_life;
#[cfg(not(loom))]
pub mod page;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod page_index;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod page_queues;
#[cfg(not(loom))]
pub mod page_services;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod pagedaemon;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod pager;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod policy;
#[cfg(not(loom))]
pub mod populate;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod radix;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod read_ahead;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod requests;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod shown;
#[cfg(not(loom))]
#[deny(unsafe_code)]
mod slab;
#[cfg(not(loom))]
pub mod soft;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod stats;
#[cfg(not(loom))]
pub mod swap;
#[cfg(not(loom))]
pub mod types;
#[cfg(not(loom))]
mod unfilled;
#[cfg(all(feature = "std", not(loom)))]
#[deny(unsafe_code)]
pub mod watchdog;
#[cfg(not(loom))]
#[deny(unsafe_code)]
pub mod wire_all;
