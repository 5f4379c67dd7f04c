//! The page queues: every page that can be taken stands on one of three, oldest first.
//!
//! # Invariants
//!
//! 1. A page is on a queue if it is filled, in an object and not wired (S188), but for moments in which whoever has it exclusively
//!    busied is taking it. A page that is freed has left its queue before (see `unlink` in `object/busy_guard.rs`); so a
//!    page that is found here, with the lock held, still is what it says it is.
//! 2. A page comes on a queue when it has been filled and its busy guard is let go of, and moves when it is looked at. A
//!    fault on a resident page only leaves a referenced bit and never comes here.
//!    Pages of devices are on none: to take them would free nothing.
//! 3. Wiring counts change only here, so that "wired" and "on no queue" change together.
//!
//! The links are in the pages; nothing here allocates. Moving a page does not clear its referenced mark (S182): looking does.

use alloc::boxed::Box;

use crate::page::{PageRef, Queue};
use crate::policy::{Lengths, Look, PageName, Policy, Verdict};

/// One queue.
#[derive(Debug, Default)]
struct List {
    oldest: Option<PageRef>,
    youngest: Option<PageRef>,
    len: u64,
}

/// The queues of an engine, and the policy that orders them. Under the engine's queue lock.
#[derive(Debug)]
pub(crate) struct PageQueues {
    active: List,
    inactive: List,
    laundry: List,
    policy: Box<dyn Policy>,
    /// The page that was passed over last because it was busy.
    passed_over: Option<PageRef>,
}

/// How many pages are on each queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueLengths {
    /// Pages that have proved useful.
    pub active: u64,
    /// Pages that are the next to go.
    pub inactive: u64,
    /// Pages that have to be written before they go.
    pub laundry: u64,
}

/// What a look at the oldest pages came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A page that may go: exclusively busied, and off its queue, which is named.
    Victim(PageRef, Queue),
    /// None of the pages looked at may go; there are more.
    NotYet,
    /// There is no page to look at.
    Nothing,
}

impl List {
    fn push_youngest(&mut self, page: PageRef) {
        page.set_older(self.youngest);
        page.set_younger(None);
        match self.youngest {
            Some(before) => before.set_younger(Some(page)),
            None => self.oldest = Some(page),
        }
        self.youngest = Some(page);
        self.len += 1;
    }

    fn push_oldest(&mut self, page: PageRef) {
        page.set_older(None);
        page.set_younger(self.oldest);
        match self.oldest {
            Some(behind) => behind.set_older(Some(page)),
            None => self.youngest = Some(page),
        }
        self.oldest = Some(page);
        self.len += 1;
    }

    fn remove(&mut self, page: PageRef) {
        let (older, younger) = page.neighbours();
        match older {
            Some(older) => older.set_younger(younger),
            None => self.oldest = younger,
        }
        match younger {
            Some(younger) => younger.set_older(older),
            None => self.youngest = older,
        }
        page.set_older(None);
        page.set_younger(None);
        self.len -= 1;
    }
}

impl PageQueues {
    pub(crate) fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            active: List::default(),
            inactive: List::default(),
            laundry: List::default(),
            policy,
            passed_over: None,
        }
    }

    pub(crate) fn lengths(&self) -> QueueLengths {
        QueueLengths {
            active: self.active.len,
            inactive: self.inactive.len,
            laundry: self.laundry.len,
        }
    }

    pub(crate) fn policy_name(&self) -> &'static str {
        self.policy.name()
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        match queue {
            Queue::Active => &mut self.active,
            Queue::Inactive => &mut self.inactive,
            Queue::Laundry => &mut self.laundry,
        }
    }

    /// A page that has been filled comes on the queue where the policy begins. One that is wired, or on a queue already, stays as it is.
    pub(crate) fn admit(&mut self, page: PageRef) {
        if comes_on_a_queue(page)
            && let Some(name) = name_of(page)
        {
            let queue = self.policy.admit(name);
            self.put(page, queue);
        }
    }

    /// Puts a page at the young end of a queue, whichever it was on. Not wired.
    pub(crate) fn put(&mut self, page: PageRef, queue: Queue) {
        debug_assert!(page.wire_count() == 0, "a wired page is on no queue");
        self.take_off(page);
        self.list(queue).push_youngest(page);
        page.set_queue(Some(queue));
    }

    /// Puts a page at the old end of a queue, to be looked at next. Not wired.
    pub(crate) fn put_first(&mut self, page: PageRef, queue: Queue) {
        debug_assert!(page.wire_count() == 0, "a wired page is on no queue");
        self.take_off(page);
        self.list(queue).push_oldest(page);
        page.set_queue(Some(queue));
    }

    fn take_off(&mut self, page: PageRef) {
        if let Some(queue) = page.queue() {
            self.list(queue).remove(page);
            page.set_queue(None);
        }
    }

    /// The page is not the object's any more: it leaves its queue, and its wirings are void.
    pub(crate) fn forget(&mut self, page: PageRef) {
        self.take_off(page);
        page.set_wire_count(0);
    }

    /// Wires a page once more: it is on no queue from here on. Busied in either mode, so that nobody is taking it.
    pub(crate) fn wire(&mut self, page: PageRef) {
        self.take_off(page);
        page.set_wire_count(page.wire_count() + 1);
    }

    /// Takes one wiring back (S211); after the last one the page is active. A page without wirings, because it was freed and read
    /// again meanwhile, stays as it is. The page's object is locked.
    pub(crate) fn unwire(&mut self, page: PageRef) {
        let count = page.wire_count();
        if count == 0 {
            return;
        }
        page.set_wire_count(count - 1);
        if count == 1 && page.is_valid() && !page.is_device() {
            self.put(page, Queue::Active);
        }
    }

    /// Looks at the oldest pages, as the policy has it, until one may go or `looks` are used up. `used` tells whether a page was
    /// used since it was asked last. Busy pages are passed over.
    pub(crate) fn next_victim(
        &mut self,
        free_target: u64,
        looks: u64,
        mut used: impl FnMut(PageRef) -> bool,
    ) -> (Found, u64) {
        for looked in 1..=looks {
            let lengths = Lengths {
                active: self.active.len,
                inactive: self.inactive.len,
                free_target,
            };
            let wanted = self.policy.hand(lengths);
            let Some((page, queue)) = self.oldest(wanted) else {
                return (Found::Nothing, looked);
            };
            if !page.busy.try_exclusive() {
                self.passed_over = Some(page);
                self.put(page, queue);
                continue;
            }
            let look = Look {
                queue,
                referenced: used(page),
                again: page.was_looked_at(),
            };
            match self.policy.judge(look) {
                Verdict::Keep => {
                    self.put(page, queue);
                    page.note_looked_at();
                }
                Verdict::Activate => self.put(page, Queue::Active),
                Verdict::Deactivate => self.put(page, Queue::Inactive),
                Verdict::Evict => {
                    self.take_off(page);
                    return (Found::Victim(page, queue), looked);
                }
            }
            page.busy.release_exclusive();
        }
        (Found::NotYet, looks)
    }

    /// Takes a neighbour of a victim, which the caller has exclusively busied, off the inactive queue, if the policy would let it
    /// go now. Which is known only of pages that it has looked at there and kept once: one that was read or deactivated a moment ago, and
    /// may be needed soon, stays. `used` as above; a mark that it found is left for the policy's own look.
    pub(crate) fn take_along(&mut self, page: PageRef, used: impl FnOnce(PageRef) -> bool) -> bool {
        if !page.may_go_early() {
            return false;
        }
        if used(page) {
            page.note_referenced();
            return false;
        }
        let look = Look {
            queue: Queue::Inactive,
            referenced: false,
            again: true,
        };
        let goes = self.policy.judge(look) == Verdict::Evict;
        if goes {
            self.take_off(page);
        }
        goes
    }

    /// Takes a neighbour of a victim, on a machine that does not tell of its use. Exclusively busied. Answers which queue it was on,
    /// if it goes.
    pub(crate) fn take_along_unasked(&mut self, page: PageRef) -> Option<Queue> {
        let queue = page.queue().filter(|_| page.may_go_along())?;
        self.take_off(page);
        Some(queue)
    }

    /// The oldest page of a queue, or of the other one if it is empty.
    fn oldest(&mut self, wanted: Queue) -> Option<(PageRef, Queue)> {
        let other = if wanted == Queue::Active {
            Queue::Inactive
        } else {
            Queue::Active
        };
        [wanted, other]
            .into_iter()
            .find_map(|queue| Some((self.list(queue).oldest?, queue)))
    }

    /// A page that may go has gone.
    pub(crate) fn evicted(&mut self, name: PageName, from: Queue) {
        self.policy.evicted(name, from);
    }

    /// The page that was passed over last because it was busy; asked once.
    pub(crate) fn take_passed_over(&mut self) -> Option<PageRef> {
        self.passed_over.take()
    }

    /// The oldest page of the laundry, which goes to the young end.
    pub(crate) fn next_to_wash(&mut self) -> Option<PageRef> {
        let page = self.laundry.oldest?;
        if page.busy.is_busied() {
            self.passed_over = Some(page);
        }
        self.put(page, Queue::Laundry);
        Some(page)
    }
}

/// Whether a page that is filled is to be put on a queue: it is on none, and can be taken. A hint without the queues' lock.
pub(crate) fn comes_on_a_queue(page: PageRef) -> bool {
    page.queue().is_none() && page.wire_count() == 0 && !page.is_device()
}

/// Which page it is; nothing if it is in no object. Certain while it is on a queue with the lock held, or busied.
pub(crate) fn name_of(page: PageRef) -> Option<PageName> {
    Some((page.object()?, page.index()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;
    use crate::policy::PolicyKind;
    use crate::types::{ObjectId, PageIndex};

    fn queues(kind: PolicyKind) -> PageQueues {
        PageQueues::new(kind.make(100))
    }

    /// A filled page of an object that does not exist.
    fn page(index: u64) -> PageRef {
        let page = page::allocate().expect("memory");
        page.enter_object(ObjectId(u64::MAX), PageIndex(index));
        page.mark_valid();
        page.busy.release_exclusive();
        page
    }

    fn give_back(queues: &mut PageQueues, page: PageRef) {
        if !page.busy.is_exclusive() {
            assert!(page.busy.try_exclusive());
        }
        page.leave_object();
        queues.forget(page);
        page::free(page);
    }

    fn indices(list: &List) -> alloc::vec::Vec<u64> {
        let (mut there, mut at) = (alloc::vec::Vec::new(), list.oldest);
        while let Some(page) = at {
            there.push(page.index().0);
            at = page.neighbours().1;
        }
        assert_eq!(there.len() as u64, list.len);
        there
    }

    fn victims(queues: &mut PageQueues, n: usize) -> alloc::vec::Vec<PageRef> {
        core::iter::from_fn(|| match queues.next_victim(0, 100, |page| page.take_referenced()) {
            (Found::Victim(page, _), _) => Some(page),
            _ => None,
        })
        .take(n)
        .collect()
    }

    #[test]
    fn s188_a_wired_page_is_on_no_queue_and_s211_needs_as_many_unwirings() {
        let mut queues = queues(PolicyKind::Clock);
        let pages = [0, 1, 2].map(page);
        pages.iter().for_each(|page| queues.admit(page));
        queues.wire(pages[1]);
        queues.wire(pages[1]);
        assert_eq!((pages[1].queue(), indices(&queues.active)), (None, vec![0, 2]));
        queues.admit(pages[1]);
        queues.unwire(pages[1]);
        assert_eq!((pages[1].queue(), pages[1].wire_count()), (None, 1));
        queues.unwire(pages[1]);
        assert_eq!(indices(&queues.active), [0, 2, 1]);
        queues.unwire(pages[1]);
        assert_eq!(pages[1].wire_count(), 0, "one too many changes nothing");
        pages.iter().for_each(|page| give_back(&mut queues, page));
        assert_eq!(queues.lengths(), QueueLengths::default());
    }

    #[test]
    fn s182_moving_a_page_does_not_clear_its_referenced_mark() {
        let mut queues = queues(PolicyKind::Clock);
        let page = page(0);
        page.note_referenced();
        queues.admit(page);
        queues.put(page, Queue::Inactive);
        assert!(page.take_referenced());
        give_back(&mut queues, page);
    }

    #[test]
    fn s185_a_used_active_page_is_not_deactivated_and_s183_a_used_inactive_one_is_reactivated() {
        let mut queues = queues(PolicyKind::Clock);
        let pages: alloc::vec::Vec<_> = (0..6).map(page).collect();
        for page in &pages {
            queues.admit(page);
        }
        pages[0].note_referenced();
        queues.put(pages[5], Queue::Inactive);
        pages[5].note_referenced();
        // A third of six is one: page 5 is looked at, and goes back; 0 goes round; 1 becomes inactive, and goes.
        let victims = victims(&mut queues, 1);
        assert_eq!(victims[0].index().0, 1);
        assert_eq!(indices(&queues.active), [2, 3, 4, 5, 0]);
        for page in pages {
            give_back(&mut queues, page);
        }
    }

    #[test]
    fn s3_fifo_promotes_what_is_used_again_on_probation_and_welcomes_back_what_it_turned_away() {
        let mut queues = queues(PolicyKind::S3Fifo);
        let pages: alloc::vec::Vec<_> = (0..4).map(page).collect();
        for page in &pages {
            page.note_referenced();
            queues.admit(page);
        }
        assert!(matches!(
            queues.next_victim(0, 4, |page| page.take_referenced()),
            (Found::NotYet, 4)
        ));
        assert_eq!(
            indices(&queues.inactive),
            [0, 1, 2, 3],
            "the first use is the one that brought it in"
        );
        pages[0].note_referenced();
        let victim = victims(&mut queues, 1)[0];
        assert_eq!((victim.index().0, indices(&queues.active)), (1, vec![0]));
        queues.evicted(name_of(victim).expect("in an object"), Queue::Inactive);
        victim.busy.release_exclusive();
        queues.admit(victim);
        assert_eq!(indices(&queues.active), [0, 1]);
        for page in pages {
            give_back(&mut queues, page);
        }
    }

    #[test]
    fn busy_pages_are_passed_over() {
        let mut queues = queues(PolicyKind::Clock);
        let pages = [0, 1, 2].map(page);
        pages.iter().for_each(|page| queues.put(page, Queue::Inactive));
        assert!(pages[0].busy.try_shared());
        assert_eq!(victims(&mut queues, 1)[0].index().0, 1);
        assert_eq!(indices(&queues.inactive), [2, 0]);
        pages[0].busy.release_shared();
        pages.iter().for_each(|page| give_back(&mut queues, page));
    }
}
