//! Making room: one step of taking pages back.
//!
//! There is no thread here. Whoever finds no memory calls [`Engine::make_room`] from the fault's waiting place, holding
//! nothing. Clean pages that were not used lately go first; if there are none, dirty ones are written and then go.

use alloc::sync::Arc;

use crate::engine::Engine;
use crate::error::FaultError;
use crate::object::{ExclusiveBusy, Object};
use crate::page::Dirtiness;
use crate::stats::Counter;
use crate::sync::{assert_no_locks_held, in_pager};
use crate::types::{ObjectId, PageIndex, Prot};

/// Where the sweep over all pages stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sweep {
    object: ObjectId,
    index: PageIndex,
}

/// Victims of one step: enough to spread its cost, few enough to keep on the stack.
const BATCH: usize = 32;
/// Pages looked at under one hold of an object's lock.
const LOOK: usize = 128;

impl Engine {
    /// Frees some pages, or finds that it cannot. May block; no lock may be held.
    ///
    /// # Errors
    /// [`FaultError::NoMemory`] when nothing could be freed.
    pub fn make_room(&self) -> Result<(), FaultError> {
        assert_no_locks_held("making room");
        self.stats().count(Counter::MemoryWaits);
        let reclaimed = self.stats().counts().pages_reclaimed;
        // The first round may only clear referenced bits; the second finds what the first let pass.
        if self.take_clean() > 0 || self.take_clean() > 0 {
            return Ok(());
        }
        self.for_each_object(Object::launder);
        // Our own puts have ended: what succeeds from here on are those of others.
        let successes = self.puts.successes();
        if self.take_clean() > 0 || self.take_clean() > 0 {
            return Ok(());
        }
        // Somebody else may have freed what was to be had, and used it: that is contention, not the end of memory.
        if self.stats().counts().pages_reclaimed != reclaimed {
            return Ok(());
        }
        // Or be writing it at the moment. A pager's operation does not wait for that: it may be what is being waited for.
        if !in_pager::is_in() && self.puts.wait_since(successes) {
            return Ok(());
        }
        Err(FaultError::NoMemory)
    }

    /// One round over all pages, from where the last one stopped, until a batch of clean pages has been freed. One thread at a
    /// time: two would find each other's victims busy, and take that for the end of memory.
    fn take_clean(&self) -> u64 {
        let reclaimed = self.stats().counts().pages_reclaimed;
        let mut place = self.sweep.lock();
        let freed_by_others = self.stats().counts().pages_reclaimed - reclaimed;
        if freed_by_others > 0 {
            return freed_by_others;
        }
        let start = *place;
        let mut at = start;
        let mut wrapped = false;
        loop {
            let (freed, next) = self.take_clean_from(at);
            if freed > 0 {
                *place = next.unwrap_or_default();
                self.stats().add(Counter::PagesReclaimed, freed);
                return freed;
            }
            match next {
                Some(next) => at = next,
                None if wrapped => return 0,
                None => {
                    wrapped = true;
                    at = Sweep::default();
                }
            }
            if wrapped && (at.object, at.index) > (start.object, start.index) {
                return 0;
            }
        }
    }

    /// A few pages of one object: how many were freed, and where to go on.
    fn take_clean_from(&self, at: Sweep) -> (u64, Option<Sweep>) {
        // `object_after` is exclusive, so that the sweep's object is the one after its id less one.
        let Some(object) = self.object_after(ObjectId(at.object.0.saturating_sub(1))) else {
            return (0, None);
        };
        let from = if object.id() == at.object {
            at.index
        } else {
            PageIndex(0)
        };
        let (freed, next) = object.take_clean(from);
        let next = next.map_or(
            Sweep {
                object: ObjectId(object.id().0 + 1),
                index: PageIndex(0),
            },
            |index| Sweep {
                object: object.id(),
                index,
            },
        );
        (freed, Some(next))
    }
}

impl Object {
    /// Frees clean pages that were not used since the last look, among the next few from `from`.
    fn take_clean(self: &Arc<Self>, from: PageIndex) -> (u64, Option<PageIndex>) {
        let mut victims = [const { None }; BATCH];
        let (found, next) = self.choose_victims(from, &mut victims);
        let mut freed = 0;
        for victim in victims.into_iter().take(found).flatten() {
            // First the mappings go, and only then the modified bit is read (S184, S187).
            self.engine()
                .machine()
                .page_protect(victim.page(), Prot::empty())
                .record(victim.page());
            victim.page().settle();
            if victim.page().dirtiness() == Dirtiness::Clean {
                victim.free();
                freed += 1;
            }
        }
        (freed, next)
    }

    fn choose_victims<'a>(
        &'a self,
        from: PageIndex,
        victims: &mut [Option<ExclusiveBusy<&'a Self>>; BATCH],
    ) -> (usize, Option<PageIndex>) {
        let state = self.lock();
        let mut found = 0;
        let mut at = from;
        for _ in 0..LOOK {
            let Some((index, page)) = state.pages.next(at) else {
                return (found, None);
            };
            at = PageIndex(index.0 + 1);
            if page.wire_count() > 0 || page.dirtiness() == Dirtiness::Dirty {
                continue;
            }
            let Some(busy) = ExclusiveBusy::try_resident(self, &state, index) else {
                continue;
            };
            if !(page.take_referenced() | self.engine().machine().page_referenced(page)) {
                victims[found] = Some(busy);
                found += 1;
            }
            if found == BATCH {
                break;
            }
        }
        (found, Some(at))
    }
}
