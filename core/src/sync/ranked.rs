//! The locks the engine uses: the word algorithms behind `lock_api`'s guards, with the rank in the type.

use core::marker::PhantomData;

use lock_api::{RawMutex, RawRwLock};

use super::rank::{self, Rank};
use super::word_lock::{WordMutex, WordRwLock};

const fn rank_of(n: u8) -> Rank {
    match n {
        1 => Rank::Registry,
        2 => Rank::Map,
        3 => Rank::Amap,
        4 => Rank::Object,
        5 => Rank::Queues,
        6 => Rank::Pmap,
        7 => Rank::Mappings,
        _ => Rank::Frames,
    }
}

/// Proof that a lock is held. Stays on its thread, because the record of held ranks does.
#[derive(Debug)]
pub struct Held(PhantomData<*mut ()>);

const HELD: Held = Held(PhantomData);

/// The word mutex with a rank.
#[derive(Debug)]
pub struct RawRanked<const RANK: u8>(WordMutex);

// SAFETY: WordMutex gives mutual exclusion: only one caller's lock or try_lock succeeds until unlock (modelled with loom).
unsafe impl<const RANK: u8> RawMutex for RawRanked<RANK> {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api asks for it")]
    const INIT: Self = Self(WordMutex::new());
    type Guard = Held;

    #[inline]
    fn lock(&self) -> Held {
        rank::acquiring(rank_of(RANK), true);
        self.0.lock();
        rank::acquired(rank_of(RANK));
        HELD
    }

    #[inline]
    fn try_lock(&self) -> Option<Held> {
        rank::acquiring(rank_of(RANK), false);
        let locked = self.0.try_lock();
        if locked {
            rank::acquired(rank_of(RANK));
        }
        locked.then_some(HELD)
    }

    #[inline]
    unsafe fn unlock(&self, _held: Held) {
        rank::released(rank_of(RANK));
        self.0.unlock();
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// The word reader-writer lock with a rank.
#[derive(Debug)]
pub struct RawRankedRw<const RANK: u8>(WordRwLock);

// SAFETY: WordRwLock admits readers or one writer, never both (modelled with loom).
unsafe impl<const RANK: u8> RawRwLock for RawRankedRw<RANK> {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api asks for it")]
    const INIT: Self = Self(WordRwLock::new());
    type SharedGuard = Held;
    type ExclusiveGuard = Held;

    #[inline]
    fn lock_shared(&self) -> Held {
        rank::acquiring(rank_of(RANK), true);
        self.0.read();
        rank::acquired(rank_of(RANK));
        HELD
    }

    #[inline]
    fn try_lock_shared(&self) -> Option<Held> {
        rank::acquiring(rank_of(RANK), false);
        let locked = self.0.try_read();
        if locked {
            rank::acquired(rank_of(RANK));
        }
        locked.then_some(HELD)
    }

    #[inline]
    unsafe fn unlock_shared(&self, _held: Held) {
        rank::released(rank_of(RANK));
        self.0.unlock_read();
    }

    #[inline]
    fn lock_exclusive(&self) -> Held {
        rank::acquiring(rank_of(RANK), true);
        self.0.write();
        rank::acquired(rank_of(RANK));
        HELD
    }

    #[inline]
    fn try_lock_exclusive(&self) -> Option<Held> {
        rank::acquiring(rank_of(RANK), false);
        let locked = self.0.try_write();
        if locked {
            rank::acquired(rank_of(RANK));
        }
        locked.then_some(HELD)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, _held: Held) {
        rank::released(rank_of(RANK));
        self.0.unlock_write();
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.0.is_locked_exclusive()
    }
}

/// A mutex of a given rank.
pub type RankedMutex<T, const RANK: u8> = lock_api::Mutex<RawRanked<RANK>, T>;

/// Rank 1: the engine's list of objects.
pub type RegistryLock<T> = RankedMutex<T, { Rank::Registry as u8 }>;
/// Rank 1, held.
pub type RegistryGuard<'a, T> = lock_api::MutexGuard<'a, RawRanked<{ Rank::Registry as u8 }>, T>;
/// Rank 2: the entries of one map.
pub type MapLock<T> = lock_api::RwLock<RawRankedRw<{ Rank::Map as u8 }>, T>;
/// Rank 2, held shared.
pub type MapReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRankedRw<{ Rank::Map as u8 }>, T>;
/// Rank 2, held exclusively.
pub type MapWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRankedRw<{ Rank::Map as u8 }>, T>;
/// Rank 3: the amaps and anons of one family.
pub type AmapLock<T> = lock_api::RwLock<RawRankedRw<{ Rank::Amap as u8 }>, T>;
/// Rank 3, held shared.
pub type AmapReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRankedRw<{ Rank::Amap as u8 }>, T>;
/// Rank 3, held exclusively.
pub type AmapWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRankedRw<{ Rank::Amap as u8 }>, T>;
/// Rank 4: the page index and the state of one object.
pub type ObjectLock<T> = RankedMutex<T, { Rank::Object as u8 }>;
/// Rank 4, held.
pub type ObjectGuard<'a, T> = lock_api::MutexGuard<'a, RawRanked<{ Rank::Object as u8 }>, T>;
/// Rank 5: the page queues.
pub type QueueLock<T> = RankedMutex<T, { Rank::Queues as u8 }>;
/// Rank 6: translations of one address space.
pub type PmapLock<T> = RankedMutex<T, { Rank::Pmap as u8 }>;
/// Rank 7: the mappings of one frame.
pub type MappingLock<T> = RankedMutex<T, { Rank::Mappings as u8 }>;
/// Rank 8: a free list.
pub type FrameLock<T> = RankedMutex<T, { Rank::Frames as u8 }>;

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "lock order")]
    fn taking_a_map_under_an_object_is_caught() {
        let object = ObjectLock::new(());
        let map = MapLock::new(());
        let _object = object.lock();
        let _map = map.read();
    }

    #[test]
    #[should_panic(expected = "with engine locks held")]
    fn calling_out_with_a_lock_held_is_caught() {
        let object = ObjectLock::new(());
        let _object = object.lock();
        super::super::assert_no_locks_held("calling a pager");
    }
}
