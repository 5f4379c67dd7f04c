//! Accesses to memory of a device that is being taken away.
//!
//! The kernel cannot put a range that a userfaultfd serves into the place of a mapping in one step. So for some system calls nothing may be
//! accessed there, and whoever does gets `SIGSEGV`. The handler here lets it wait until the range is *settled*, and make the access again.
//! It is installed when the first page of a device is mapped, and passes on what is not ours. A system call that comes to such an
//! address at that moment fails with `EFAULT`.
//!
//! Nothing is locked here, and nothing of the engine's is looked at but two tables of atomics: an access that goes wrong anywhere in the process
//! comes by.

use core::sync::atomic::{AtomicU64, Ordering};

use quire_core::error::Result;
use quire_core::types::{AddrRange, VirtAddr};

use super::signals::{Before, address_of, is_access, is_first_time, keeping_errno};
use crate::slots::Slots;

/// Ranges that can be moving at the same time; whoever comes then waits.
const MOST: usize = 64;
/// The place is taken, and its range not known yet: no address.
const TAKEN: u64 = 1;

struct Place {
    start: AtomicU64,
    end: AtomicU64,
}

static PLACES: [Place; MOST] = [const {
    Place {
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
    }
}; MOST];

/// How many ranges have settled.
static SETTLED: AtomicU64 = AtomicU64::new(0);

static BEFORE: Before = Before::new();

/// A range that nothing may be accessed in, as long as this lives.
pub(crate) struct Moving(&'static Place);

impl Moving {
    pub(crate) fn begin(range: AddrRange) -> Self {
        loop {
            let free = |place: &&Place| {
                place
                    .start
                    .compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            };
            if let Some(place) = PLACES.iter().find(free) {
                place.end.store(range.end.0, Ordering::Release);
                place.start.store(range.start.0, Ordering::SeqCst);
                return Self(place);
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        // Counted first: who finds nothing moving, and an unchanged count, has not been kept from anything since.
        SETTLED.fetch_add(1, Ordering::SeqCst);
        self.0.start.store(0, Ordering::SeqCst);
    }
}

fn is_moving(va: VirtAddr) -> bool {
    PLACES.iter().any(|place| {
        let start = place.start.load(Ordering::SeqCst);
        start > TAKEN && (start..place.end.load(Ordering::Acquire)).contains(&va.0)
    })
}

/// Sees that the handler is installed.
pub(crate) fn listen() -> Result<()> {
    // Where the handler before was: one for overflows of the stack needs a stack of its own.
    BEFORE.install(
        libc::SIGSEGV,
        on_sigsegv,
        true,
        "the signal SIGSEGV cannot be handled here",
    )
}

/// A thread touched something that it may not.
extern "C" fn on_sigsegv(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if is_access(info) && keeping_errno(|| may_go_on(address_of(info))) {
        return;
    }
    BEFORE.pass_on(signal, info, context);
}

/// Whether the access is to be made again.
fn may_go_on(va: VirtAddr) -> bool {
    if !Slots::were_used_at(va) {
        return false;
    }
    let mut waited = false;
    while is_moving(va) {
        // Whoever moves it has some system calls to make.
        waited = true;
        std::thread::yield_now();
    }
    waited || is_first_time(va, SETTLED.load(Ordering::SeqCst))
}
