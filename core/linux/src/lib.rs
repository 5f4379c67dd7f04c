//! The Linux machine: the engine's pages in real memory of this process.
//!
//! It stands below the machine line, beside the software machine: the engine says which pages to enter, protect and remove,
//! and this crate does so with `userfaultfd` on shared mappings of one memfd, so that a program follows plain pointers.
//!
//! - [`LinuxMachine`]: the frames, under a budget, in one file in memory. An engine is made with it, on a system that was
//!   [asked](support::Support::probe) what it allows.
//! - [`Server`]: who resolves the faults of one map; without it nothing can be mapped there.
//! - [`Heap`]: the allocator of a library that stands on this machine in somebody else's program. [`Calls`]: how often the kernel was called.
//! - [`sys`]: every ioctl, constant and structure of the kernel that the crates below lack, as thin typed calls.
//! - [`support`]: what this kernel and this process's rights allow, or a sentence saying what is missing.
//!
//! # Ordering rules
//!
//! What was written through a mapping is known only from the kernel's marks, so the order of steps decides whether a write is lost.
//!
//! - A page is entered protected, and without protection only for a write that has marked it dirty.
//! - Its slot in the table of what is entered where is filled before the kernel maps it, and emptied only when what was written has been collected.
//! - To evict: every mapping goes, then the marks are read, then the page is written, then its frame is freed.
//! - To flush: every mapping is protected and read in one step, then the page is copied, then the copy is written.
//! - A range is in its object's list of layouts for as long as its addresses are the machine's: it is taken off the list before
//!   it is unmapped, so that nobody takes pages from what the program maps there next.
//! - A failure is left at an address only while nobody can enter a page there.
//!
//! # Replacing
//!
//! A mapping that replaces others at its place is first there without any right, and gets its own when its faults are sent here: in
//! between an access is `SIGSEGV`, where the kernel's `MAP_FIXED` is one step. A program that replaces memory which its
//! other threads use at that moment has to keep them off.
//!
//! # Fork
//!
//! A forked child has none of the served ranges (`MADV_DONTFORK`): touching one there is `SIGSEGV`, and never silent zeros. There
//! is no option for a working mapping in the child, because it cannot be made lossless for every way to fork:
//!
//! - The kernel's marks are per process and are gone with it. So a child's writes would have to be told before they
//!   happen (no `WP_ASYNC`), in the parent's mappings of the same range as well, at the price of a fault for each.
//! - With `UFFD_FEATURE_EVENT_FORK` a reader gets the child's userfaultfd by `read`, and the child runs from that moment on. It
//!   has copies of the parent's page tables, in which dirty pages are writable. Until the reader has listed the
//!   child, a flush or an eviction does not know of these, and what the child writes to a page that is being written back is lost. A reader
//!   cannot hold them off before it reads, because only the message tells that somebody forks.
//! - `pthread_atfork` could hold them off, but neither `clone` nor `vfork` calls it.
//! - Pages are taken from another process only by freeing them: `MADV_DONTNEED` works on one's own memory.
//!
//! A child that needs the data opens the object through an engine of its own.
//!
//! # Devices
//!
//! Memory that a device writes (`O_DIRECT`, fixed buffers of io_uring, VFIO) has to be wired first. The kernel marks such a page as
//! written when the device gets it, and not when it writes: after an eviction in between the device writes to memory that is
//! no longer the object's.

mod addresses;
mod arena;
mod bounce;
mod budget;
mod calls;
mod device;
mod heap;
mod layout;
mod lock;
mod machine;
mod pmap;
mod serve;
mod slots;
mod space;
mod store;
pub mod support;
pub mod sys;
mod thread;

pub use calls::Calls;
pub use heap::Heap;
pub use machine::{LinuxConfig, LinuxMachine};
pub use serve::Server;
