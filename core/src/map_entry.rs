//! One entry of a map: a range of addresses, what stands behind it, and what may be done with it.
//!
//! An entry knows nothing of the tree it is kept in ([`map_tree`](crate::map_tree)) and nothing of objects: what stands
//! behind it is any [`Backing`].

use crate::types::{AddrRange, Advice, ByteOff, Inherit, Prot, VirtAddr};

/// What an entry shows: in the engine, a counted reference to an object.
///
/// A clone is one reference more, and a drop one less. The operations clone where they split an entry. They drop only
/// where they join two, and then the neighbour goes on holding the same thing: the last reference is never dropped inside
/// them, but handed to the caller.
pub trait Backing: Clone {
    /// Whether the two show the same bytes, so that neighbours with continuing offsets can be one entry.
    fn same(&self, other: &Self) -> bool;
}

/// What may be done with an entry's memory, and what becomes of it. Equal in neighbours that are joined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes {
    /// How often the entry was wired; 0 means its pages may be taken.
    pub wired: u32,
    /// The rights now; never more than `max_prot`.
    pub prot: Prot,
    /// The most that `prot` can be raised to.
    pub max_prot: Prot,
    /// What a fork of the map does with it.
    pub inherit: Inherit,
    /// What is known of future accesses.
    pub advice: Advice,
}

/// A range of addresses that shows a part of one backing. The range is not empty and its ends are page aligned.
///
/// A lookup answers with a view, [`EntryRef`], that borrows the backing and copies the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapEntry<B> {
    /// The addresses.
    pub range: AddrRange,
    /// What stands behind them.
    pub backing: B,
    /// Which byte of the backing the first address shows. Page aligned; offset and length together never exceed
    /// [`MAX_OBJECT_SIZE`](crate::types::MAX_OBJECT_SIZE).
    pub offset: ByteOff,
    /// Rights, inheritance, advice and wiring.
    pub attr: Attributes,
}

/// A view of an entry that stays in its map.
pub type EntryRef<'a, B> = MapEntry<&'a B>;

impl<B> MapEntry<B> {
    /// Which byte of the backing the address shows; nothing for an address outside the entry.
    #[must_use]
    pub fn offset_of(&self, va: VirtAddr) -> Option<ByteOff> {
        if !self.range.contains(va) {
            return None;
        }
        self.offset.checked_add(va.0 - self.range.start.0)
    }
}

impl<B: Backing> EntryRef<'_, B> {
    /// The entry with a reference of its own to the backing.
    #[must_use]
    pub fn owned(&self) -> MapEntry<B> {
        MapEntry {
            range: self.range,
            backing: self.backing.clone(),
            offset: self.offset,
            attr: self.attr,
        }
    }

    /// Whether `next` begins where this entry ends, in addresses and in the backing, and equals it in all else.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.attr == next.attr
            && self.offset.checked_add(self.range.len()) == Some(next.offset)
            && self.backing.same(next.backing)
    }
}
