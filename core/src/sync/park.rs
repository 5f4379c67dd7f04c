//! Parking a thread on a word, and waking everyone who is parked on it.
//!
//! The contract is that of a futex: [`park`] sleeps only if the word still holds the expected value at the moment of
//! going to sleep, and may return for no reason at all. Callers loop. A waker changes the word first, then calls
//! [`unpark_all`]. [`park_until`] also returns when a deadline has passed, where there is a clock.

use super::Deadline;
use super::atomic::{AtomicU32, Ordering};

#[cfg(any(feature = "std", loom))]
mod imp {
    use super::{AtomicU32, Deadline, Ordering};
    use core::time::Duration;

    #[cfg(loom)]
    use loom::sync::{Condvar, Mutex};
    #[cfg(not(loom))]
    use std::sync::{Condvar, Mutex};

    /// Words share a bucket by their address; sharing costs a spurious wake-up, never a lost one.
    struct Bucket {
        /// How many sleep here: where nobody does, a wake-up costs no system call.
        gate: Mutex<u32>,
        sleepers: Condvar,
    }

    impl Bucket {
        #[cfg(not(loom))]
        const fn new() -> Self {
            Self {
                gate: Mutex::new(0),
                sleepers: Condvar::new(),
            }
        }
        #[cfg(loom)]
        fn new() -> Self {
            Self {
                gate: Mutex::new(0),
                sleepers: Condvar::new(),
            }
        }
    }

    #[cfg(not(loom))]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "where addresses have 32 bits, half of the multiplier will do"
    )]
    fn bucket(word: &AtomicU32) -> &'static Bucket {
        const BUCKETS: usize = 256;
        static TABLE: [Bucket; BUCKETS] = [const { Bucket::new() }; BUCKETS];
        // The low bits of an address say little; this spreads neighbouring pages over the table.
        let hash = (core::ptr::from_ref(word).addr() >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize);
        &TABLE[(hash >> (usize::BITS - 8)) % BUCKETS]
    }

    #[cfg(loom)]
    loom::lazy_static! {
        static ref ONE: Bucket = Bucket::new();
    }
    #[cfg(loom)]
    fn bucket(_word: &AtomicU32) -> &'static Bucket {
        &ONE
    }

    pub(crate) fn park_until(word: &AtomicU32, expected: u32, deadline: &Deadline) {
        let bucket = bucket(word);
        let mut gate = bucket.gate.lock().unwrap_or_else(|e| e.into_inner());
        // The waker takes the gate after it changed the word: either this load sees the change, or the wake-up sees us.
        if word.load(Ordering::SeqCst) != expected {
            return;
        }
        *gate += 1;
        let mut gate = match deadline.left() {
            None => bucket.sleepers.wait(gate).unwrap_or_else(|e| e.into_inner()),
            Some(Duration::ZERO) => gate,
            Some(left) => {
                let (gate, _) = bucket
                    .sleepers
                    .wait_timeout(gate, left)
                    .unwrap_or_else(|e| e.into_inner());
                gate
            }
        };
        *gate -= 1;
    }

    pub(crate) fn unpark_all(word: &AtomicU32) {
        let bucket = bucket(word);
        let anyone = *bucket.gate.lock().unwrap_or_else(|e| e.into_inner()) > 0;
        if anyone {
            bucket.sleepers.notify_all();
        }
    }
}

#[cfg(not(any(feature = "std", loom)))]
mod imp {
    use super::{AtomicU32, Deadline, Ordering, host};

    pub(crate) fn park_until(word: &AtomicU32, expected: u32, _no_clock: &Deadline) {
        match host() {
            Some(host) => (host.park)(word, expected),
            // Without a host there is one thread, which must not wait for itself; the caller's loop finds the word changed.
            None => core::hint::spin_loop(),
        }
        let _ = Ordering::SeqCst;
    }

    pub(crate) fn unpark_all(word: &AtomicU32) {
        if let Some(host) = host() {
            (host.unpark_all)(word);
        }
    }
}

pub(crate) use imp::{park_until, unpark_all};

pub(crate) fn park(word: &AtomicU32, expected: u32) {
    park_until(word, expected, &Deadline::NEVER);
}

/// What a host without the standard library supplies.
#[cfg(any(not(feature = "std"), doc))]
#[cfg(not(loom))]
#[derive(Debug)]
pub struct HostServices {
    /// Sleeps while the word holds the expected value, as a futex wait; may return early.
    pub park: fn(word: &AtomicU32, expected: u32),
    /// Wakes every thread that is parked on the word.
    pub unpark_all: fn(word: &AtomicU32),
    /// The calling thread as a number that is not 0.
    pub current_thread: fn() -> u64,
}

#[cfg(any(not(feature = "std"), doc))]
#[cfg(not(loom))]
static HOST: core::sync::atomic::AtomicPtr<HostServices> = core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());

/// Tells the engine how to park threads. To be called once, before anything else.
#[cfg(any(not(feature = "std"), doc))]
#[cfg(not(loom))]
pub fn install_host_services(services: &'static HostServices) {
    HOST.store(core::ptr::from_ref(services).cast_mut(), Ordering::Release);
}

#[cfg(not(any(feature = "std", loom)))]
pub(super) fn host() -> Option<&'static HostServices> {
    // SAFETY: HOST holds null or a pointer made from a `&'static HostServices`, which is never written through.
    unsafe { HOST.load(Ordering::Acquire).as_ref() }
}
