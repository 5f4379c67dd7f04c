//! The rows of the busy protocol, in one thread or with real ones. `loom_tests` has the orders of steps.

extern crate std;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::sync::ObjectLock;

fn unbusied() -> BusyWord {
    let word = BusyWord::new();
    word.claim();
    word.release_exclusive();
    word
}

fn exclusive() -> BusyWord {
    let word = unbusied();
    assert!(word.try_exclusive());
    word
}

fn shared(sharers: usize) -> BusyWord {
    let word = unbusied();
    (0..sharers).for_each(|_| assert!(word.try_shared()));
    word
}

/// Unbusied, exclusive, shared.
fn state(word: &BusyWord) -> [bool; 3] {
    [!word.is_busied(), word.is_exclusive(), word.is_shared()]
}

const UNBUSIED_STATE: [bool; 3] = [true, false, false];
const EXCLUSIVE_STATE: [bool; 3] = [false, true, false];
const SHARED_STATE: [bool; 3] = [false, false, true];

/// The panic's words; nothing when there was none. The word must be as it was after it.
fn complaint(word: &BusyWord, act: impl FnOnce(&BusyWord)) -> Option<String> {
    let before = word.word.load(Ordering::Relaxed);
    let panic = catch_unwind(AssertUnwindSafe(|| act(word))).err()?;
    assert_eq!(
        word.word.load(Ordering::Relaxed),
        before,
        "a refused call changed the word"
    );
    Some(match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => String::from(*panic.downcast::<&str>().unwrap()),
    })
}

proptest! {
    /// Random steps against a count of sharers and one flag.
    #[test]
    fn s239_a_page_is_unbusied_or_one_partys_or_shared_and_never_a_mixture(steps in proptest::collection::vec(0..6_u8, 0..60)) {
        let word = unbusied();
        let (mut alone, mut sharers) = (false, 0_u32);
        for step in steps {
            match step {
                0 => {
                    let taken = word.try_exclusive();
                    prop_assert_eq!(taken, !alone && sharers == 0);
                    alone |= taken;
                }
                1 => {
                    let taken = word.try_shared();
                    prop_assert_eq!(taken, !alone);
                    sharers += u32::from(taken);
                }
                2 if alone => {
                    word.release_exclusive();
                    alone = false;
                }
                3 if alone => {
                    word.downgrade();
                    (alone, sharers) = (false, 1);
                }
                4 if sharers > 0 => {
                    word.release_shared();
                    sharers -= 1;
                }
                5 if sharers > 0 => {
                    let won = word.try_upgrade();
                    prop_assert_eq!(won, sharers == 1);
                    if won {
                        (alone, sharers) = (true, 0);
                    }
                }
                _ => {}
            }
            prop_assert_eq!(state(&word), [!alone && sharers == 0, alone, sharers > 0]);
        }
    }
}

#[test]
fn s240_while_a_page_is_busied_nobody_else_gets_the_right_to_change_it() {
    for word in [exclusive(), shared(1), shared(3)] {
        let before = state(&word);
        assert!(!word.try_exclusive());
        assert_eq!(state(&word), before);
    }
    let word = shared(2);
    assert!(!word.try_upgrade(), "the other sharer relies on what the page is");
}

#[test]
fn s241_s246_no_lock_is_needed_to_busy_and_none_may_be_held_to_sleep() {
    let (word, lock) = (exclusive(), ObjectLock::new(()));
    let held = lock.lock();
    word.downgrade();
    word.release_shared();
    assert!(word.try_shared(), "a lock that is held does not matter");
    if cfg!(debug_assertions) {
        let words = complaint(&word, |word| _ = word.sleep(BusyMode::Exclusive));
        assert!(
            words
                .unwrap()
                .contains("waiting for a busy page with engine locks held")
        );
    }
    drop(held);
}

#[test]
fn s242_releasing_in_the_wrong_mode_panics_and_changes_nothing() {
    let refused = |word: &BusyWord, act: fn(&BusyWord)| complaint(word, act).is_some();
    for word in [unbusied(), shared(1), shared(2), BusyWord::new()] {
        assert!(refused(&word, BusyWord::release_exclusive));
        assert!(refused(&word, BusyWord::downgrade));
        assert!(refused(&word, BusyWord::free));
    }
    for word in [unbusied(), exclusive(), BusyWord::new()] {
        assert!(refused(&word, BusyWord::release_shared));
        assert!(refused(&word, |word| _ = word.try_upgrade()));
    }
}

#[test]
fn s243_trying_succeeds_or_fails_at_once() {
    assert!(unbusied().try_exclusive());
    assert!(!exclusive().try_exclusive());
    assert!(!shared(1).try_exclusive());
    assert!(unbusied().try_shared());
    assert!(shared(1).try_shared());
    assert!(!exclusive().try_shared());
    let freed = BusyWord::new();
    assert!(!freed.try_exclusive() && !freed.try_shared());
}

#[test]
fn s244_the_questions_tell_the_modes_apart() {
    assert_eq!(state(&unbusied()), UNBUSIED_STATE);
    assert_eq!(state(&exclusive()), EXCLUSIVE_STATE);
    assert_eq!(state(&shared(1)), SHARED_STATE);
    assert_eq!(state(&shared(5)), SHARED_STATE);
}

#[test]
fn s245_a_downgrade_makes_one_sharer_and_lets_waiting_sharers_in() {
    let word = exclusive();
    thread::scope(|scope| {
        let sharer = scope.spawn(|| {
            while !word.try_shared() {
                word.sleep(BusyMode::Shared);
            }
        });
        word.downgrade();
        // The one who downgraded does not leave: the sharer gets in nonetheless.
        sharer.join().unwrap();
    });
    assert_eq!(word.word.load(Ordering::Relaxed) & !WAITERS, SHARED + 2 * SHARER);
}

#[test]
fn s247_sleeping_tells_whether_it_slept() {
    assert!(!unbusied().sleep(BusyMode::Exclusive));
    assert!(!unbusied().sleep(BusyMode::Shared));
    assert!(
        !shared(2).sleep(BusyMode::Shared),
        "sharers are not in the way of a sharer"
    );
    assert!(
        !BusyWord::new().sleep(BusyMode::Exclusive),
        "a freed page is nothing to wait for"
    );
    let word = exclusive();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while word.is_exclusive() {
                assert!(word.sleep(BusyMode::Exclusive) || !word.is_exclusive());
            }
        });
        while word.word.load(Ordering::Relaxed) & WAITERS == 0 {
            thread::yield_now();
        }
        word.release_exclusive();
        sleeper.join().unwrap();
    });
}

#[test]
fn nobody_sleeps_on_a_page_whose_sleepers_were_dismissed_until_it_is_released() {
    let word = exclusive();
    word.dismiss_sleepers();
    assert_eq!(state(&word), EXCLUSIVE_STATE);
    assert!(!word.sleep(BusyMode::Exclusive) && !word.sleep(BusyMode::Shared));
    assert!(!word.try_exclusive() && !word.try_shared());
    word.release_exclusive();
    assert!(word.try_shared());
}

#[test]
fn s248_the_assertions_panic_in_checking_builds_only() {
    let asserts: [fn(&BusyWord); 3] = [
        BusyWord::assert_unbusied,
        BusyWord::assert_exclusive,
        BusyWord::assert_shared,
    ];
    for (holds, word) in [unbusied(), exclusive(), shared(2)].iter().enumerate() {
        for (i, assert) in asserts.iter().enumerate() {
            let refused = complaint(word, assert).is_some();
            assert_eq!(refused, cfg!(debug_assertions) && i != holds);
        }
    }
}

#[test]
fn s249_no_wake_up_is_lost_under_contention() {
    let word = unbusied();
    let inside = AtomicU32::new(0);
    const ALONE: u32 = 1 << 16;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let (word, inside) = (&word, &inside);
                scope.spawn(move || {
                    for n in 0..3_000 {
                        if (n + thread) % 3 == 0 {
                            while !word.try_exclusive() {
                                word.sleep(BusyMode::Exclusive);
                            }
                            assert_eq!(inside.fetch_add(ALONE, Ordering::Relaxed), 0);
                            inside.fetch_sub(ALONE, Ordering::Relaxed);
                            word.release_exclusive();
                        } else {
                            while !word.try_shared() {
                                word.sleep(BusyMode::Shared);
                            }
                            assert!(inside.fetch_add(1, Ordering::Relaxed) < ALONE);
                            inside.fetch_sub(1, Ordering::Relaxed);
                            word.release_shared();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(state(&word), UNBUSIED_STATE);
}

#[test]
fn s250_only_who_has_the_page_alone_can_free_it_and_then_nobody_can_busy_it() {
    for word in [unbusied(), shared(1)] {
        assert!(
            complaint(&word, BusyWord::free)
                .unwrap()
                .contains("not exclusively busied")
        );
    }
    let word = exclusive();
    assert!(complaint(&word, |word| assert!(word.try_exclusive())).is_some());
    word.free();
    assert!(!word.is_busied() && !word.try_exclusive() && !word.try_shared());
    word.claim();
    assert_eq!(state(&word), EXCLUSIVE_STATE);
}

#[test]
fn a_page_that_the_pool_gives_out_twice_is_caught() {
    for word in [unbusied(), exclusive(), shared(1)] {
        let panic = catch_unwind(AssertUnwindSafe(|| word.claim()));
        assert!(panic.is_err());
    }
}

#[test]
fn d12_busied_means_by_anyone_and_checking_builds_record_who_has_it_alone() {
    let word = unbusied();
    thread::scope(|scope| {
        scope.spawn(|| assert!(word.try_exclusive())).join().unwrap();
        assert!(
            word.is_busied() && word.is_exclusive(),
            "we did not busy it, and yet it is"
        );
        let me = crate::sync::current_thread();
        assert_ne!(word.owner(), Some(me));
        assert_eq!(word.owner().is_some(), cfg!(debug_assertions));
        word.release_exclusive();
        assert_eq!(word.owner(), None);
        assert!(word.try_exclusive());
        assert_eq!(word.owner(), cfg!(debug_assertions).then_some(me));
        word.downgrade();
        assert_eq!(word.owner(), None, "nobody has it alone");
        assert!(word.try_upgrade());
        assert_eq!(word.owner().is_some(), cfg!(debug_assertions));
    });
}
