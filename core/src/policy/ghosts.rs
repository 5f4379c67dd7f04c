//! Names of pages that went a short while ago, in a table of fixed size.

use alloc::vec::Vec;

use super::PageName;
use crate::alloc_fallible::try_reserve;

/// Ghosts that share a place in the table.
const WAYS: usize = 4;
/// Places at most: 8 MiB of table, for memories of 4 GiB and more.
const MOST_PLACES: u64 = 1 << 18;

/// A name, shortened, and when it was put down; 0 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Ghost {
    mark: u32,
    when: u32,
}

/// The last names that were put down, about as many as asked for. Two names may be taken for each other, once in billions.
#[derive(Debug)]
pub(super) struct Ghosts {
    /// A power of two of them; none when there was no memory.
    places: Vec<[Ghost; WAYS]>,
    /// How long a ghost is remembered, in names put down.
    span: u32,
    now: u32,
}

impl Ghosts {
    /// A memory of `names` names. Without memory for it, nothing is ever remembered.
    pub(super) fn new(names: u64) -> Self {
        // Twice the room, so that few are pushed out before their time.
        let wanted = names
            .div_ceil(WAYS as u64 / 2)
            .clamp(1, MOST_PLACES)
            .next_power_of_two();
        let mut places = Vec::new();
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if try_reserve(&mut places, wanted).is_ok() {
            places.resize(wanted, [Ghost::default(); WAYS]);
        }
        Self {
            places,
            span: u32::try_from(names).unwrap_or(u32::MAX).min(u32::MAX / 2),
            now: 0,
        }
    }

    /// Puts a name down. The oldest one in its place makes room.
    pub(super) fn remember(&mut self, page: PageName) {
        self.now = self.now.wrapping_add(1);
        let now = self.now;
        let (place, mark) = spread(page);
        let Some(ghosts) = self.at(place) else { return };
        if let Some(oldest) = ghosts.iter_mut().max_by_key(|ghost| {
            if ghost.mark == 0 {
                u32::MAX
            } else {
                now.wrapping_sub(ghost.when)
            }
        }) {
            *oldest = Ghost { mark, when: now };
        }
    }

    /// Whether the name was put down lately; it is forgotten then.
    pub(super) fn recall(&mut self, page: PageName) -> bool {
        let (now, span) = (self.now, self.span);
        let (place, mark) = spread(page);
        let Some(found) = self
            .at(place)
            .and_then(|ghosts| ghosts.iter_mut().find(|ghost| ghost.mark == mark))
        else {
            return false;
        };
        let ghost = core::mem::take(found);
        now.wrapping_sub(ghost.when) < span
    }

    fn at(&mut self, place: usize) -> Option<&mut [Ghost; WAYS]> {
        let last = self.places.len().checked_sub(1)?;
        self.places.get_mut(place & last)
    }
}

/// Where a name belongs, and what it is shortened to, which is never 0.
#[allow(clippy::cast_possible_truncation, reason = "two halves of a hash")]
fn spread((object, index): PageName) -> (usize, u32) {
    // A multiplication spreads upwards only; the shift brings the high bits back down.
    let mut hash = object.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.0;
    for _ in 0..2 {
        hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    hash ^= hash >> 32;
    ((hash & 0xffff_ffff) as usize, (hash >> 32) as u32 | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ObjectId, PageIndex};

    fn name(n: u64) -> PageName {
        (ObjectId(n % 3 + 1), PageIndex(n / 3))
    }

    #[test]
    fn the_last_names_are_known_once_and_older_ones_are_not() {
        let mut ghosts = Ghosts::new(1000);
        for n in 0..5000 {
            ghosts.remember(name(n));
        }
        assert!(!(0..4000).any(|n| ghosts.recall(name(n))), "longer ago than the span");
        let known = (4000..5000).filter(|n| ghosts.recall(name(*n))).count();
        assert!(known > 950, "{known} of 1000");
        assert!(!(0..5000).any(|n| ghosts.recall(name(n))), "each is recalled once");
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        crate::alloc_fallible::failing::after(Some(0));
        let mut ghosts = Ghosts::new(1000);
        crate::alloc_fallible::failing::after(None);
        ghosts.remember(name(1));
        assert!(!ghosts.recall(name(1)));
    }
}
