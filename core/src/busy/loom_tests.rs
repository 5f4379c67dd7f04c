//! The busy word under every order of its steps. A data race, a deadlock (which is what a lost wake-up comes to) and a
//! failed assertion in any of them fail the test.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;

use super::*;
use crate::sync::explore;

/// A busy word and what it protects.
struct Page {
    busy: BusyWord,
    identity: AtomicU32,
    contents: UnsafeCell<u32>,
}

impl Page {
    /// Exclusively busied.
    fn new() -> Arc<Self> {
        let page = Self {
            busy: BusyWord::new(),
            identity: AtomicU32::new(7),
            contents: UnsafeCell::new(0),
        };
        page.busy.claim();
        Arc::new(page)
    }

    fn take(&self, mode: BusyMode) {
        let taken = || match mode {
            BusyMode::Exclusive => self.busy.try_exclusive(),
            BusyMode::Shared => self.busy.try_shared(),
        };
        while !taken() {
            self.busy.sleep(mode);
        }
    }

    fn write(&self) {
        // SAFETY: the caller has the page exclusively busied; loom reports an access that is not excluded.
        self.contents.with_mut(|contents| unsafe { *contents += 1 });
    }

    fn read(&self) -> u32 {
        // SAFETY: the caller has the page busied; loom reports an access that is not excluded.
        self.contents.with(|contents| unsafe { *contents })
    }
}

fn beside(page: &Arc<Page>, act: impl FnOnce(&Page) + Send + 'static) -> thread::JoinHandle<()> {
    let page = page.clone();
    thread::spawn(move || act(&page))
}

#[test]
fn loom_exclusive_busy_excludes_and_its_release_wakes_who_wants_it() {
    explore(|| {
        let page = Page::new();
        let other = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        page.write();
        page.busy.release_exclusive();
        page.take(BusyMode::Exclusive);
        page.write();
        page.busy.release_exclusive();
        other.join().unwrap();
        assert_eq!(page.read(), 3);
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_releasing_exclusive_busy_wakes_sleepers_of_both_modes() {
    explore(|| {
        let page = Page::new();
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        let reader = beside(&page, |page| {
            page.take(BusyMode::Shared);
            page.read();
            page.busy.release_shared();
        });
        page.write();
        page.busy.release_exclusive();
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(page.read(), 2);
    });
}

#[test]
fn loom_shared_busy_admits_sharers_at_any_moment() {
    explore(|| {
        let page = Page::new();
        page.busy.downgrade();
        let other = beside(&page, |page| {
            assert!(page.busy.try_shared());
            page.read();
            page.busy.release_shared();
        });
        page.read();
        other.join().unwrap();
        page.busy.release_shared();
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_the_last_sharer_wakes_who_wants_the_page_alone() {
    explore(|| {
        let page = Page::new();
        page.busy.downgrade();
        assert!(page.busy.try_shared());
        let sharer = beside(&page, |page| {
            page.read();
            page.busy.release_shared();
        });
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        page.read();
        page.busy.release_shared();
        sharer.join().unwrap();
        writer.join().unwrap();
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_a_downgrade_lets_nobody_in_between_and_wakes_sharers() {
    explore(|| {
        let page = Page::new();
        // The other one looks, and sleeps, while we still have the page: the downgrade alone has to let it in.
        let sharer = beside(&page, |page| {
            page.take(BusyMode::Shared);
            page.read();
        });
        let intruder = beside(&page, |page| {
            // The sharer never leaves, so this can only succeed if the page is unbusied for a moment.
            assert!(!page.busy.try_exclusive(), "the page was unbusied in a downgrade");
        });
        page.write();
        page.busy.downgrade();
        page.read();
        sharer.join().unwrap();
        intruder.join().unwrap();
        assert!(page.busy.is_shared());
    });
}

#[test]
fn loom_a_downgrade_leaves_those_who_want_the_page_alone_waiting_and_not_forgotten() {
    explore(|| {
        let page = Page::new();
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        page.write();
        page.busy.downgrade();
        page.read();
        page.busy.release_shared();
        writer.join().unwrap();
        assert_eq!(page.read(), 2);
    });
}

#[test]
fn loom_a_page_freed_while_waited_for_wakes_the_sleeper_who_finds_another_one() {
    explore(|| {
        let page = Page::new();
        let sleeper = beside(&page, |page| {
            loop {
                if page.identity.load(Ordering::Acquire) != 7 {
                    return;
                }
                if page.busy.try_exclusive() {
                    // Taken in between: the identity is the other one, and only now it is sure to stay.
                    assert_ne!(page.identity.load(Ordering::Acquire), 7);
                    page.busy.release_exclusive();
                    return;
                }
                page.busy.sleep(BusyMode::Exclusive);
            }
        });
        page.identity.store(0, Ordering::Release);
        page.busy.free();
        // Used again at once, for something else.
        page.busy.claim();
        page.identity.store(8, Ordering::Release);
        page.busy.release_exclusive();
        sleeper.join().unwrap();
    });
}

#[test]
fn loom_a_page_freed_for_good_leaves_nobody_asleep() {
    explore(|| {
        let page = Page::new();
        let sleepers = [BusyMode::Exclusive, BusyMode::Shared].map(|mode| {
            beside(&page, move |page| {
                while page.identity.load(Ordering::Acquire) == 7 {
                    page.busy.sleep(mode);
                }
                assert!(!page.busy.try_exclusive() && !page.busy.try_shared());
            })
        });
        page.identity.store(0, Ordering::Release);
        page.busy.free();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

#[test]
fn loom_of_two_upgraders_at_most_one_wins() {
    explore(|| {
        let page = Page::new();
        page.busy.downgrade();
        assert!(page.busy.try_shared());
        let wins = Arc::new(AtomicU32::new(0));
        let upgrade = |wins: &AtomicU32, page: &Page| {
            if page.busy.try_upgrade() {
                // Keeps it, so that nobody can win after it.
                page.write();
                wins.fetch_add(1, Ordering::Relaxed);
            } else {
                page.read();
                page.busy.release_shared();
            }
        };
        let other = {
            let wins = wins.clone();
            beside(&page, move |page| upgrade(&wins, page))
        };
        upgrade(&wins, &page);
        other.join().unwrap();
        assert!(wins.load(Ordering::Relaxed) <= 1);
    });
}

#[test]
fn loom_an_upgrade_keeps_the_sleepers_in_mind() {
    explore(|| {
        let page = Page::new();
        page.busy.downgrade();
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        page.read();
        assert!(page.busy.try_upgrade(), "a sleeper is no sharer");
        page.write();
        page.busy.release_exclusive();
        writer.join().unwrap();
        assert_eq!(page.read(), 2);
    });
}

#[test]
fn loom_sleepers_who_are_dismissed_do_not_sleep_on_though_the_page_stays_busied() {
    explore(|| {
        let page = Page::new();
        let sleepers = [BusyMode::Exclusive, BusyMode::Shared].map(|mode| {
            beside(&page, move |page| {
                // The reason for not waiting, as an object that is quarantined.
                while page.identity.load(Ordering::Acquire) == 7 {
                    page.busy.sleep(mode);
                }
            })
        });
        page.identity.store(0, Ordering::Release);
        page.busy.dismiss_sleepers();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert!(page.busy.is_exclusive());
    });
}

#[test]
fn loom_by_hand_a_downgrade_with_sleepers_of_both_modes_lets_the_sharer_in_and_then_the_writer() {
    explore(|| {
        let page = Page::new();
        page.busy.give_to_hand();
        let sharer = beside(&page, |page| {
            while !page.busy.try_shared_by_hand() {
                page.busy.sleep(BusyMode::Shared);
            }
            page.read();
            assert!(page.busy.release_shared_by_hand());
        });
        // A sleeper of the engine's.
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        page.write();
        assert!(page.busy.downgrade_by_hand());
        page.read();
        assert!(page.busy.release_shared_by_hand());
        sharer.join().unwrap();
        writer.join().unwrap();
        assert!(!page.busy.is_busied());
        assert_eq!(page.read(), 2);
    });
}

#[test]
fn loom_by_hand_an_upgrade_against_an_engines_sharer_and_a_sleeper_loses_no_wake_up() {
    explore(|| {
        let page = Page::new();
        page.busy.downgrade();
        assert!(page.busy.try_shared_by_hand());
        let sharer = beside(&page, |page| {
            page.read();
            page.busy.release_shared();
        });
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        match page.busy.try_upgrade_by_hand() {
            Some(true) => {
                page.write();
                assert!(page.busy.release_exclusive_by_hand());
            }
            Some(false) => {
                page.read();
                assert!(page.busy.release_shared_by_hand());
            }
            None => panic!("it is shared by hand"),
        }
        sharer.join().unwrap();
        writer.join().unwrap();
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_by_hand_nothing_ends_a_right_of_the_engines() {
    explore(|| {
        let page = Page::new();
        let wrong = beside(&page, |page| {
            assert!(!page.busy.release_exclusive_by_hand());
            assert!(!page.busy.downgrade_by_hand());
            assert!(!page.busy.release_shared_by_hand());
            assert!(!page.busy.take_from_hand());
            assert_ne!(page.busy.try_upgrade_by_hand(), Some(true));
        });
        page.write();
        page.busy.downgrade();
        page.read();
        page.busy.release_shared();
        wrong.join().unwrap();
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_by_hand_of_two_who_let_go_one_does_and_sleepers_wake() {
    explore(|| {
        let page = Page::new();
        page.busy.give_to_hand();
        let writer = beside(&page, |page| {
            page.take(BusyMode::Exclusive);
            page.write();
            page.busy.release_exclusive();
        });
        let other = beside(&page, |page| {
            if page.busy.take_from_hand() {
                page.write();
                page.busy.release_exclusive();
            }
        });
        page.busy.release_exclusive_by_hand();
        other.join().unwrap();
        writer.join().unwrap();
        assert!(!page.busy.is_busied());
    });
}

#[test]
fn loom_who_sleeps_on_a_page_that_moves_wakes_though_it_stays_busied() {
    explore(|| {
        let page = Page::new();
        let sleepers = [BusyMode::Exclusive, BusyMode::Shared].map(|mode| {
            beside(&page, move |page| {
                let still = || page.identity.load(Ordering::Acquire) == 7;
                while still() {
                    page.busy.sleep_if(mode, still, &Deadline::NEVER);
                }
            })
        });
        page.identity.store(8, Ordering::Release);
        page.busy.rouse();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert!(page.busy.is_exclusive());
    });
}
