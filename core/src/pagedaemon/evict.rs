//! Taking pages: which go together, and their way out.
//!
//! The machine and the locks cost much once and little for each further page, so pages go in batches of up to 64. The policy names a
//! victim. With it go those neighbours, in the aligned block of 64 around it, that the policy would let go as well: on the
//! inactive queue, looked at once, not used since, not dirty, busied by nobody. Hot neighbours stay, so there may be holes. Then the policy
//! names the next victim, until the batch is full. On a machine that does not tell of the use of mapped pages all neighbours go:
//! pages are then taken first in, first out, and to unmap one of a block costs nearly what it costs to unmap all.
//!
//! The batch is sorted, and what it has of an object is unmapped by one call of the machine and freed by another. Nothing here
//! allocates, calls a pager, or waits but for locks.

use alloc::sync::Arc;

use super::{AtWork, Count};
use crate::engine::Engine;
use crate::few::Few;
use crate::object::{BATCH, Object, free_pages};
use crate::page::{Dirtiness, PageRef, Queue};
use crate::page_queues::{Found, name_of};
use crate::policy::PageName;
use crate::stats::Counter;
use crate::types::{ObjectId, Prot};

/// Pages looked at under one hold of the queues' lock.
const LOOKS_AT_ONCE: u64 = 64;
/// Looks at each page, at most, in one search: it may be found used on probation, once more there, and on the main queue.
const LOOKS_A_PAGE: u64 = 4;

/// A page that was chosen: exclusively busied, and off the queue it was on.
#[derive(Clone, Copy, Debug)]
struct Victim {
    name: PageName,
    page: PageRef,
    from: Queue,
}

type Victims = Few<Victim, BATCH>;

/// One search for pages that may go.
struct Search<'a> {
    engine: &'a Engine,
    looks: u64,
    free_target: u64,
    /// The object that was looked up last: often the next one's as well.
    object: Option<Arc<Object>>,
    /// The block that was searched for neighbours last.
    block: Option<(ObjectId, u64)>,
    /// Victims to come whose neighbours are not looked for.
    pass: u32,
    /// What `pass` was set to last.
    passed: u32,
    /// Pages that went to the laundry.
    dirty: u64,
}

/// A search for neighbours looks at up to 64 pages. After one in vain the next victim goes without, after two the next three, up to this.
const MOST_PASSED: u32 = 15;

impl Engine {
    /// Frees up to `want` clean pages that the policy gives up; dirty ones among those go to the laundry, and the search ends when they
    /// are so many: to go on would be to take pages only because they are clean, which those are that were read last. Calls no pager.
    pub(super) fn reclaim(&self, want: u64) -> u64 {
        self.search(want, want)
    }

    /// As [`Engine::reclaim`], past any number of dirty pages: when those cannot be written.
    pub(super) fn reclaim_past_dirty(&self, want: u64) -> u64 {
        self.search(want, u64::MAX)
    }

    fn search(&self, want: u64, most_dirty: u64) -> u64 {
        let lengths = self.queue_lengths();
        let mut search = Search {
            engine: self,
            looks: LOOKS_A_PAGE * (lengths.active + lengths.inactive),
            free_target: self.daemon_targets().free_target,
            object: None,
            block: None,
            pass: 0,
            passed: 0,
            dirty: 0,
        };
        let mut freed = 0;
        let mut work = AtWork::begin(&self.memory);
        while freed < want && search.dirty < most_dirty {
            let most = usize::try_from(want - freed).unwrap_or(BATCH).min(BATCH);
            let mut victims = search.choose(most);
            if victims.is_empty() {
                break;
            }
            victims.sort_unstable_by_key(|victim| victim.name);
            for of_one in victims.chunk_by(|one, next| one.name.0 == next.name.0) {
                freed += search.take(of_one);
            }
        }
        if freed > 0 {
            self.stats().add(Counter::PagesReclaimed, freed);
            work.progressed();
        }
        freed
    }

    fn was_used(&self, page: PageRef) -> bool {
        page.take_referenced() | self.machine().page_referenced(page)
    }
}

impl Search<'_> {
    /// Chooses up to `most` pages, a batch at most.
    fn choose(&mut self, most: usize) -> Victims {
        let (engine, mut victims) = (self.engine, Victims::new());
        while victims.len() < most && self.looks > 0 {
            let looks = self.looks.min(LOOKS_AT_ONCE);
            let (found, looked) = engine
                .memory
                .queues
                .lock()
                .next_victim(self.free_target, looks, |page| engine.was_used(page));
            self.looks -= looked;
            match found {
                Found::Victim(page, from) => {
                    // Busied, the page stays in its object.
                    let Some(name) = name_of(page) else {
                        unreachable!("a page that is in no object is on no queue")
                    };
                    victims.push(Victim { name, page, from });
                    if victims.len() < most && self.is_worth_a_search(name) {
                        let alone = victims.len();
                        self.add_neighbours(name, most, &mut victims);
                        let in_vain = victims.len() == alone;
                        self.passed = if in_vain {
                            (2 * self.passed + 1).min(MOST_PASSED)
                        } else {
                            0
                        };
                        self.pass = self.passed;
                    }
                }
                Found::NotYet => {}
                Found::Nothing => break,
            }
        }
        victims
    }

    /// Whether to look for neighbours of a victim: not in a block that has just been searched, nor where it was in vain lately.
    fn is_worth_a_search(&mut self, (id, index): PageName) -> bool {
        let block = Some((id, index.0 / BATCH as u64));
        if self.block == block {
            return false;
        }
        if self.pass > 0 {
            self.pass -= 1;
            return false;
        }
        self.block = block;
        true
    }

    /// Adds those pages of the block around a victim that may go with it.
    fn add_neighbours(&mut self, (id, index): PageName, most: usize, victims: &mut Victims) {
        let tells_use = self.engine.machine().tells_use();
        let mut busied = Few::<PageRef, BATCH>::new();
        let room = most - victims.len();
        {
            let Some(object) = self.object(id) else { return };
            let state = object.lock();
            let may_go = state.pages.block(index).filter(|page| {
                if tells_use {
                    page.may_go_early()
                } else {
                    page.may_go_along()
                }
            });
            for page in may_go.filter(|page| page.busy.try_exclusive()).take(room) {
                busied.push(page);
            }
        }
        if busied.is_empty() {
            return;
        }
        let mut queues = self.engine.memory.queues.lock();
        for page in &*busied {
            let from = if tells_use {
                let goes = queues.take_along(page, |page| self.engine.was_used(page));
                goes.then_some(Queue::Inactive)
            } else {
                queues.take_along_unasked(page)
            };
            match from {
                Some(from) => victims.push(Victim {
                    name: (id, page.index()),
                    page,
                    from,
                }),
                None => page.busy.release_exclusive(),
            }
        }
    }

    /// Frees what can go of a batch's pages of one object, and puts the others where they belong. Returns how many were freed.
    ///
    /// See "A page's way out" in [`pagedaemon`](super).
    fn take(&mut self, victims: &[Victim]) -> u64 {
        let engine = self.engine;
        let (mut clean, mut gone) = (Victims::new(), Victims::new());
        let mut stay = Few::<(PageRef, Queue), BATCH>::new();
        let object = self.object(victims[0].name.0).cloned();
        debug_assert!(object.is_some(), "a page was on a queue without an object");
        for victim in victims {
            if object.is_none() {
                stay.push((victim.page, victim.from));
            } else if victim.page.dirtiness() == Dirtiness::Dirty {
                stay.push((victim.page, Queue::Laundry));
            } else {
                clean.push(*victim);
            }
        }
        if !clean.is_empty() {
            engine.machine().page_protect(&pages_of(&clean), Prot::empty());
        }
        for victim in &*clean {
            let page = victim.page;
            page.settle();
            if page.take_referenced() {
                engine.memory.count(Count::Reactivated, 1);
                stay.push((page, Queue::Active));
            } else if page.dirtiness() == Dirtiness::Dirty {
                stay.push((page, Queue::Laundry));
            } else {
                gone.push(*victim);
            }
        }
        {
            let mut queues = engine.memory.queues.lock();
            gone.iter().for_each(|victim| queues.evicted(victim.name, victim.from));
            stay.iter().for_each(|(page, queue)| queues.put(page, *queue));
        }
        self.dirty += stay.iter().filter(|(_, queue)| *queue == Queue::Laundry).count() as u64;
        stay.iter().for_each(|(page, _)| page.busy.release_exclusive());
        if let Some(object) = object.filter(|_| !gone.is_empty()) {
            debug_assert!(
                gone.iter().all(|victim| object.can_be_had_again(victim.page)),
                "a clean page of an anonymous object is neither zeros nor in swap"
            );
            free_pages(&object, &pages_of(&gone));
        }
        gone.len() as u64
    }

    /// The object with this id, of which the caller has a page busied: so it has not ended, and is on the list.
    fn object(&mut self, id: ObjectId) -> Option<&Arc<Object>> {
        if self.object.as_ref().is_none_or(|object| object.id() != id) {
            self.object = self.engine.object(id);
        }
        self.object.as_ref()
    }
}

fn pages_of(victims: &[Victim]) -> Few<PageRef, BATCH> {
    victims.iter().map(|victim| victim.page).collect()
}
