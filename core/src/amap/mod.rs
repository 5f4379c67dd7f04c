//! Amaps: the anonymous memory that lies over what an entry shows.
//!
//! An amap has, for each page of a range, an *anon* or none. An anon is a page of memory that belongs to nobody but the amaps that
//! refer to it: after a fork two amaps refer to the same one, until one of them writes. Where there is no anon, what lies below
//! shows: the page of an object, or zeros.
//!
//! # Where an anon's page is
//!
//! Pages are in objects, so that the code which busies, waits for, evicts and writes all others does so for anons. Every amap has
//! a *store*, an anonymous object of its own, and the page of slot `n` is page `n` of the store: its *home*. So
//! a machine whose frames are fixed to their places shows all of an amap by one layout. Two cases are left:
//!
//! - An anon that came from another amap by a fork has its page in that one's store. It is shown where the machine can do so, and
//!   else copied.
//! - An amap that writes to an anon at home which others share keeps the page, and the others get the copy, which goes to the
//!   *attic*, a store that is nobody's home. So at a home there is never a stranger as long as the slot is somebody's.
//!
//! An anon whose page is not in memory, and which has no swap slot either, was never written: what lies below shows. So a page that was
//! only copied because a machine could not show it in another place costs no swap, and zeros that were only read cost none.
//!
//! # The lock
//!
//! Amaps that may share anons are a *family*, under one lock (rank 3, between a map's and an object's). Shared, it keeps all slots and
//! all counts as they are, and is held while a page is entered, so that nobody shows what has just been replaced. Exclusive, to
//! change them. It is never held while a page is waited for or freed. Nothing else touches what it guards (S191, S198).

mod change;
mod copy;
mod coverage;
mod family;
mod release;
#[cfg(test)]
mod tests;

pub(crate) use change::{Change, Old};
pub(crate) use family::{Amap, Anon, Look};
pub(crate) use release::{Left, ToFree};
