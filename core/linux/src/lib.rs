//! The Linux machine: the engine's pages in real memory of this process.
//!
//! It stands below the machine line, beside the software machine: the engine says which pages to enter, protect and remove,
//! and this crate does so with `userfaultfd` on shared mappings of one memfd, so that a program follows plain pointers.
//!
//! - [`sys`]: every ioctl, constant and structure of the kernel that the crates below lack, as thin typed calls.
//! - [`support`]: what this kernel and this process's rights allow, or a sentence saying what is missing.

mod arena;
mod bounce;
mod budget;
mod calls;
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

pub use calls::Calls;
pub use heap::Heap;
pub use machine::{LinuxConfig, LinuxMachine};
pub use serve::Server;
