//! Threads that read faults from userfaultfds and resolve them.
//!
//! Each userfaultfd has readers of its own. As long as faults are resolved quickly, one reads: the kernel wakes all that wait for a
//! fault, and those that find none only take time from the others. Where faults take long, another reader is called before
//! the last one resolves its fault. And a watch, which ticks while faults come, calls one when the last is
//! taken up by a single fault for a whole tick. So a fault whose pager is slow keeps one thread, and nobody else's fault for
//! long.
//!
//! A reader sleeps in `read` and nowhere else, so that a fault costs no other system call. To end it, one page that
//! belongs to the userfaultfd and shows nothing, the *bell*, is touched: the reader that gets that fault goes.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quire_core::error::{Error, Result};
use quire_core::types::{Access, AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};

use super::Shared;
use crate::arena;
use crate::layout::{Channel, retry, span};
use crate::lock::lock;
use crate::sys::{self, Event, FaultFlags, Install, Message, Modes};
use crate::thread;

/// Readers of one userfaultfd, at most: faults that wait for pagers at the same time.
const MOST_READERS: usize = 64;
/// A fault that takes longer is a slow one: more than it costs to call another reader.
const SLOW: Duration = Duration::from_micros(100);
/// A reader that is taken up by one fault over a whole tick of the watch is replaced.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without a fault after which the watch sleeps.
const QUIET_TICKS: u32 = 50;
/// How long a failure stays at an address where nobody handles `SIGBUS`: a system call that got `EFAULT` may ask again then.
const FAILURE_STAYS: Duration = Duration::from_millis(20);

/// The threads of one service.
#[derive(Debug)]
pub(crate) struct Crew {
    state: Mutex<State>,
    changed: Condvar,
    /// The watch is awake.
    watching: AtomicBool,
    /// For the watch, to wake it.
    faults: Condvar,
}

#[derive(Debug, Default)]
struct State {
    readers: usize,
    posts: Vec<Arc<Post>>,
    ending: bool,
    /// A thread clears failures after a while.
    sweeping: bool,
    /// A thread sees that somebody reads.
    watched: bool,
}

/// A userfaultfd, and who reads it.
#[derive(Debug)]
struct Post {
    channel: Arc<Channel>,
    bell: VirtAddr,
    idle: AtomicUsize,
    /// All of its readers.
    readers: AtomicUsize,
    ringing: AtomicBool,
    /// Faults that were read.
    taken: AtomicU64,
    /// Nanoseconds that a fault takes at present, about.
    usual: AtomicU64,
    resting: Mutex<Resting>,
    called: Condvar,
}

/// Readers that are not needed at present.
#[derive(Debug, Default)]
struct Resting {
    readers: usize,
    /// So many of them are to read again; counted as idle already.
    called: usize,
    ending: bool,
}

impl Crew {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            watching: AtomicBool::new(false),
            faults: Condvar::new(),
        }
    }

    /// Ends all threads, and waits for them at most for `patience`. Answers whether they ended.
    pub(super) fn stop(&self, patience: Duration) -> bool {
        let until = Instant::now().checked_add(patience);
        let mut state = lock(&self.state);
        state.ending = true;
        self.changed.notify_all();
        self.faults.notify_all();
        for post in &state.posts {
            lock(&post.resting).ending = true;
            post.called.notify_all();
            if !post.ringing.swap(true, Ordering::AcqRel) {
                let its = post.clone();
                let rings = thread::start(c"quire-bell", move || its.ring_until_all_have_gone());
                if !rings {
                    // Without a thread the readers stay; whoever calls again tries again.
                    post.ringing.store(false, Ordering::Release);
                }
            }
        }
        while state.readers > 0 || state.sweeping || state.watched {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = wait(&self.changed, state, Some(left));
        }
        state.posts.clear();
        true
    }
}

/// Serves a userfaultfd with a first reader.
pub(super) fn serve(shared: &Arc<Shared>, channel: &Arc<Channel>) -> Result<()> {
    let bell = make_bell(channel).map_err(|_| Error::NoMemory)?;
    let post = Arc::new(Post {
        channel: channel.clone(),
        bell,
        idle: AtomicUsize::new(0),
        readers: AtomicUsize::new(0),
        ringing: AtomicBool::new(false),
        taken: AtomicU64::new(0),
        usual: AtomicU64::new(0),
        resting: Mutex::default(),
        called: Condvar::new(),
    });
    lock(&shared.crew.state).posts.push(post.clone());
    if start_reader(shared, &post) {
        Ok(())
    } else {
        Err(Error::NoMemory)
    }
}

/// Bells of services that are gone. Addresses of the engine's are never given back.
static BELLS: Mutex<Vec<VirtAddr>> = Mutex::new(Vec::new());

impl Drop for Post {
    fn drop(&mut self) {
        if self.channel.uffd.unregister(span(bell_page(self.bell))).is_ok() {
            lock(&BELLS).push(self.bell);
        }
    }
}

/// A page without anything in it, whose faults come to the channel.
fn make_bell(channel: &Channel) -> std::result::Result<VirtAddr, rustix::io::Errno> {
    let used_before = lock(&BELLS).pop();
    let at = match used_before {
        Some(bell) => bell,
        None => VirtAddr(arena::reserve(PAGE_BYTES)?.as_ptr().expose_provenance() as u64),
    };
    // SAFETY: the page was reserved for this.
    unsafe {
        sys::dont_fork(span(bell_page(at)))?;
        retry(|| channel.uffd.register(span(bell_page(at)), Modes::MISSING))?;
    }
    Ok(at)
}

fn bell_page(at: VirtAddr) -> AddrRange {
    AddrRange {
        start: at,
        end: VirtAddr(at.0 + PAGE_SIZE),
    }
}

fn start_reader(shared: &Arc<Shared>, post: &Arc<Post>) -> bool {
    let mut state = lock(&shared.crew.state);
    if state.ending || post.readers.load(Ordering::Acquire) >= MOST_READERS {
        return false;
    }
    state.readers += 1;
    post.readers.fetch_add(1, Ordering::AcqRel);
    post.idle.fetch_add(1, Ordering::AcqRel);
    drop(state);
    let (its_shared, its_post) = (shared.clone(), post.clone());
    let started = thread::start(c"quire-fault", move || {
        read_faults(&its_shared, &its_post);
    });
    if !started {
        post.idle.fetch_sub(1, Ordering::AcqRel);
        reader_goes(shared, post);
    }
    started
}

/// The caller, which is no longer counted as idle, reads no more.
fn reader_goes(shared: &Shared, post: &Post) {
    let mut state = lock(&shared.crew.state);
    state.readers -= 1;
    post.readers.fetch_sub(1, Ordering::AcqRel);
    shared.crew.changed.notify_all();
}

/// What a reader does. It was counted as idle by whoever started it.
fn read_faults(shared: &Arc<Shared>, post: &Arc<Post>) {
    loop {
        let mut messages = [Message::EMPTY];
        let read = retry(|| post.channel.uffd.read(&mut messages));
        let last = post.idle.fetch_sub(1, Ordering::AcqRel) == 1;
        let Ok(1) = read else {
            // The userfaultfd does not work any more: nobody can be served by it.
            return reader_goes(shared, post);
        };
        let [message] = &mut messages;
        if let Event::Fault { address, flags, .. } = message.take() {
            let va = VirtAddr(address as u64);
            if bell_page(post.bell).contains(va) {
                // Gone before the bell is answered, so that whoever rings counts right.
                reader_goes(shared, post);
                let _ = retry(|| {
                    post.channel
                        .uffd
                        .zero(span(bell_page(post.bell)), Install::empty())
                        .all()
                });
                return;
            }
            post.taken.fetch_add(1, Ordering::Relaxed);
            if last && !post.is_quick() {
                one_more(shared, post);
            } else if last {
                watch(shared);
            }
            let began = Instant::now();
            let access = if flags.contains(FaultFlags::WRITE) {
                Access::Write
            } else {
                Access::Read
            };
            // A pager that panics takes its own fault with it, and neither this thread nor who waits for it.
            let resolve = AssertUnwindSafe(|| shared.resolve(va, access, &post.channel));
            if std::panic::catch_unwind(resolve).is_err() {
                shared.leave_failure(va, &post.channel);
            }
            post.note(began.elapsed());
        }
        if post.idle.load(Ordering::Acquire) == 0 || !post.is_quick() {
            post.idle.fetch_add(1, Ordering::AcqRel);
        } else {
            post.rest();
        }
    }
}

/// Sees that one reader more reads.
fn one_more(shared: &Arc<Shared>, post: &Arc<Post>) {
    if !post.call() {
        start_reader(shared, post);
    }
}

/// Sees that somebody watches whether the last reader comes back. While faults come this is one load.
fn watch(shared: &Arc<Shared>) {
    let crew = &shared.crew;
    if crew.watching.load(Ordering::Acquire) {
        return;
    }
    let mut state = lock(&crew.state);
    if state.ending || crew.watching.swap(true, Ordering::AcqRel) {
        return;
    }
    if state.watched {
        crew.faults.notify_all();
        return;
    }
    let its = shared.clone();
    let started = thread::start(c"quire-watch", move || keep_watch(&its));
    state.watched = started;
    // Without the thread the next fault tries again.
    crew.watching.store(state.watched, Ordering::Release);
}

/// What the watch does.
fn keep_watch(shared: &Arc<Shared>) {
    let crew = &shared.crew;
    let mut quiet = 0;
    let mut before: Vec<u64> = Vec::new();
    let mut state = lock(&crew.state);
    while !state.ending {
        let posts = state.posts.clone();
        drop(state);
        quiet += 1;
        before.resize(posts.len(), 0);
        for (post, before) in posts.iter().zip(&mut before) {
            let taken = post.taken.load(Ordering::Relaxed);
            let idle = post.idle.load(Ordering::Acquire) > 0;
            if taken != *before || !idle {
                quiet = 0;
            }
            if taken == *before && !idle {
                one_more(shared, post);
            }
            *before = taken;
        }
        state = lock(&crew.state);
        if quiet >= QUIET_TICKS {
            crew.watching.store(false, Ordering::Release);
            while !state.ending && !crew.watching.load(Ordering::Acquire) {
                state = wait(&crew.faults, state, None);
            }
            quiet = 0;
        } else if !state.ending {
            state = wait(&crew.faults, state, Some(TICK));
        }
    }
    state.watched = false;
    crew.changed.notify_all();
}

fn wait<'a>(condition: &Condvar, guard: MutexGuard<'a, State>, most: Option<Duration>) -> MutexGuard<'a, State> {
    use std::sync::PoisonError;
    match most {
        None => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(most) => {
            condition
                .wait_timeout(guard, most)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
    }
}

impl Post {
    /// Whether faults are resolved so quickly at present that one reader is best.
    fn is_quick(&self) -> bool {
        u128::from(self.usual.load(Ordering::Relaxed)) < SLOW.as_nanos()
    }

    /// A fault took so long. Two at once may forget one of them.
    fn note(&self, took: Duration) {
        let usual = self.usual.load(Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / 8;
        self.usual.store(usual - usual / 8 + took, Ordering::Relaxed);
    }

    /// The calling reader waits until it is called, or the service ends, which it learns by reading. It is counted as idle then.
    fn rest(&self) {
        let mut resting = lock(&self.resting);
        resting.readers += 1;
        while resting.called == 0 && !resting.ending {
            resting = self
                .called
                .wait(resting)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        resting.readers -= 1;
        if resting.called > 0 {
            resting.called -= 1;
        } else {
            self.idle.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Calls a resting reader. Answers whether there is one.
    fn call(&self) -> bool {
        let mut resting = lock(&self.resting);
        let any = resting.readers > resting.called;
        if any {
            resting.called += 1;
            self.idle.fetch_add(1, Ordering::AcqRel);
            self.called.notify_one();
        }
        any
    }

    /// Each touch ends one reader, as soon as one is idle.
    fn ring_until_all_have_gone(&self) {
        while self.readers.load(Ordering::Acquire) > 0 {
            let bell = core::ptr::with_exposed_provenance::<u8>(crate::layout::address(self.bell));
            // SAFETY: the page was reserved for this and is never unmapped. Reading it waits until a reader has gone.
            unsafe { bell.read_volatile() };
            // SAFETY: nothing is in it.
            let _ = unsafe { sys::dont_need(span(bell_page(self.bell))) };
        }
    }
}

/// Sees that failures left at addresses of the map are forgotten after a while.
pub(super) fn sweep_later(shared: &Arc<Shared>) {
    let mut state = lock(&shared.crew.state);
    if state.sweeping || state.ending {
        return;
    }
    let its = shared.clone();
    state.sweeping = thread::start(c"quire-sweep", move || sweep(&its));
    if !state.sweeping {
        drop(state);
        // No thread can be had: forgotten at once, so that an access asks again and again.
        if let Some(pmap) = shared.pmap() {
            pmap.clear_poisons();
        }
    }
}

/// Forgets failures until there are none for a while.
fn sweep(shared: &Shared) {
    let mut state = lock(&shared.crew.state);
    loop {
        state = wait(&shared.crew.changed, state, Some(FAILURE_STAYS));
        // Under the lock: whoever leaves another failure comes before this, or finds nobody sweeping.
        let any = shared.pmap().is_some_and(crate::pmap::LinuxPmap::clear_poisons);
        if state.ending || !any {
            state.sweeping = false;
            shared.crew.changed.notify_all();
            return;
        }
    }
}
