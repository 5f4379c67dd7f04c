//! Interrupt-safe maps: kernel memory that interrupt handlers use, every page of which is wired as long as it is mapped.
//!
//! A fault there is a defect of whoever made it, and cannot be resolved: the code that was interrupted may hold any lock. So it fails
//! at once, without any (S206). The engine has a list of the ranges of all such maps, which a kernel's fault handler asks before
//! it looks for a map at all (S207).

use core::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::types::{AddrRange, VirtAddr};

/// The most such maps of one engine at a time.
const MOST: usize = 64;
/// No address.
const NONE: u64 = u64::MAX;

/// The ranges of one engine's interrupt-safe maps. Asked without a lock.
#[derive(Debug)]
pub(crate) struct InterruptSafe([Place; MOST]);

/// One range. It begins nowhere while `end` changes.
#[derive(Debug)]
struct Place {
    start: AtomicU64,
    end: AtomicU64,
}

/// A range that is on the list until this is dropped.
#[derive(Debug)]
pub(crate) struct Listed(usize);

impl InterruptSafe {
    pub(crate) fn new() -> Self {
        Self(
            [const {
                Place {
                    start: AtomicU64::new(NONE),
                    end: AtomicU64::new(0),
                }
            }; MOST],
        )
    }

    /// Puts a range on the list.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when there are [`MOST`] already.
    pub(crate) fn list(&self, range: AddrRange) -> Result<Listed> {
        for (at, place) in self.0.iter().enumerate() {
            let end = &place.end;
            if end
                .compare_exchange(0, range.end.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                place.start.store(range.start.0, Ordering::Release);
                return Ok(Listed(at));
            }
        }
        Err(Error::NoMemory)
    }

    pub(crate) fn forget(&self, listed: &Listed) {
        let place = &self.0[listed.0];
        place.start.store(NONE, Ordering::Release);
        place.end.store(0, Ordering::Release);
    }

    fn contains(&self, va: VirtAddr) -> bool {
        self.0.iter().any(|place| {
            loop {
                let start = place.start.load(Ordering::Acquire);
                if start > va.0 {
                    return false;
                }
                let end = place.end.load(Ordering::Acquire);
                if place.start.load(Ordering::Acquire) == start {
                    return va.0 < end;
                }
            }
        })
    }
}

impl Engine {
    /// Whether an address lies in an interrupt-safe map ([`Map::new_interrupt_safe`](crate::map::Map::new_interrupt_safe)): a fault there cannot
    /// be resolved. Takes no lock, and may be asked anywhere: what a kernel's fault handler asks first.
    #[must_use]
    pub fn is_interrupt_safe(&self, va: VirtAddr) -> bool {
        self.interrupt_safe().contains(va)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FaultError;
    use crate::map::Map;
    use crate::soft::{SoftConfig, SoftMachine};
    use crate::types::Access;

    #[test]
    fn s206_a_fault_takes_no_lock() {
        let machine = SoftMachine::new(SoftConfig::default()).unwrap();
        let engine = Engine::new(machine);
        let map = Map::new_interrupt_safe(engine.clone(), range(0x1000, 0x9000)).unwrap();
        let va = VirtAddr(0x2000);
        // Every lock there is; one that was taken would be waited for, and debug builds know the order besides.
        let (_registry, _map) = (engine.registry(), map.write());
        assert!(engine.is_interrupt_safe(va));
        assert_eq!(map.fault(va, Access::Write), Err(FaultError::InterruptSafe(va)));
        assert_eq!(
            map.fault_in_signal(va, Access::Read),
            Some(Err(FaultError::InterruptSafe(va)))
        );
    }

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange {
            start: VirtAddr(start),
            end: VirtAddr(end),
        }
    }

    #[test]
    fn s207_ranges_come_and_go_and_their_places_are_used_again() {
        let list = InterruptSafe::new();
        let first = list.list(range(0x1000, 0x3000)).unwrap();
        let second = list.list(range(0x8000, 0x9000)).unwrap();
        let has = |va| list.contains(VirtAddr(va));
        assert!(!has(0xfff) && has(0x1000) && has(0x2fff) && !has(0x3000) && has(0x8000) && !has(u64::MAX));
        list.forget(&first);
        assert!(!has(0x1000) && has(0x8fff));
        let all: alloc::vec::Vec<_> = (1..MOST).map(|_| list.list(range(0x1000, 0x2000)).unwrap()).collect();
        assert_eq!(list.list(range(0, 1)).unwrap_err(), Error::NoMemory);
        all.iter().chain([&second]).for_each(|listed| list.forget(listed));
        assert!(!has(0x1000) && !has(0x8000));
    }
}
