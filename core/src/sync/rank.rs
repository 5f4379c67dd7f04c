//! Which lock ranks the calling thread holds. Kept and checked in debug builds of hosted engines only.

/// Where a kind of lock stands in the order. See the table in [the module](super).
#[cfg(not(loom))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table in the module's documentation says what each is")]
pub enum Rank {
    Sweep = 0,
    Registry = 1,
    Map = 2,
    Amap = 3,
    Object = 4,
    Queues = 5,
    Pmap = 6,
    Mappings = 7,
    Frames = 8,
}

#[cfg(all(debug_assertions, feature = "std", not(loom)))]
mod held {
    use super::Rank;
    use core::cell::Cell;

    std::thread_local! {
        static HELD: Cell<u16> = const { Cell::new(0) };
    }

    pub(in crate::sync) fn acquiring(rank: Rank, blocking: bool) {
        HELD.with(|held| {
            let bit = 1u16 << rank as u8;
            // A try-lock cannot deadlock, so it may go against the order; it still must not be taken twice.
            let forbidden = if blocking { !(bit - 1) } else { bit };
            assert!(
                held.get() & forbidden == 0,
                "lock order: taking {rank:?} while holding {:#b}",
                held.get()
            );
        });
    }

    pub(in crate::sync) fn acquired(rank: Rank) {
        HELD.with(|held| held.set(held.get() | 1u16 << rank as u8));
    }

    pub(in crate::sync) fn released(rank: Rank) {
        HELD.with(|held| held.set(held.get() & !(1u16 << rank as u8)));
    }

    pub(super) fn any() -> u16 {
        HELD.with(Cell::get)
    }
}

#[cfg(not(any(all(debug_assertions, feature = "std"), loom)))]
mod held {
    use super::Rank;

    pub(in crate::sync) fn acquiring(_rank: Rank, _blocking: bool) {}
    pub(in crate::sync) fn acquired(_rank: Rank) {}
    pub(in crate::sync) fn released(_rank: Rank) {}
    pub(super) fn any() -> u16 {
        0
    }
}

#[cfg(not(loom))]
pub(super) use held::{acquired, acquiring, released};

/// Panics, in debug builds, if the calling thread holds a lock of the engine (rule 1 of the design).
pub fn assert_no_locks_held(doing: &str) {
    #[cfg(not(loom))]
    debug_assert!(held::any() == 0, "{doing} with engine locks held: {:#b}", held::any());
    let _ = doing;
}
