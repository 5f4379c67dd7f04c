//! Threads that read faults from userfaultfds and resolve them.
//!
//! Each userfaultfd has readers of its own. When the last idle one takes a fault, another is started first, up to a limit: a
//! fault whose pager is slow keeps one thread, and nobody else's fault.
//!
//! A reader sleeps in `read` and nowhere else, so that a fault costs no other system call. To end it, one page that
//! belongs to the userfaultfd and shows nothing, the *bell*, is touched: the reader that gets that fault goes.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use quire_core::error::{Error, Result};
use quire_core::types::{Access, AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};

use super::Shared;
use crate::arena;
use crate::layout::{Channel, retry, span};
use crate::lock::lock;
use crate::sys::{self, Event, FaultFlags, Install, Message, Modes};

/// Readers of one userfaultfd, at most: faults that wait for pagers at the same time.
const MOST_READERS: usize = 64;
/// How long a failure stays at an address where nobody handles `SIGBUS`: a system call that got `EFAULT` may ask again then.
const FAILURE_STAYS: Duration = Duration::from_millis(20);

/// The threads of one service.
#[derive(Debug)]
pub(crate) struct Crew {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    readers: usize,
    posts: Vec<Arc<Post>>,
    ending: bool,
    /// A thread clears failures after a while.
    sweeping: bool,
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
}

impl Crew {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Ends all threads, and waits for them at most for `patience`. Answers whether they ended.
    pub(super) fn stop(&self, patience: Duration) -> bool {
        let until = Instant::now().checked_add(patience);
        let mut state = lock(&self.state);
        state.ending = true;
        self.changed.notify_all();
        for post in &state.posts {
            if !post.ringing.swap(true, Ordering::AcqRel) {
                let its = post.clone();
                let rings = std::thread::Builder::new()
                    .name("quire-bell".into())
                    .spawn(move || its.ring_until_all_have_gone());
                if rings.is_err() {
                    // Without a thread the readers stay; whoever calls again tries again.
                    post.ringing.store(false, Ordering::Release);
                }
            }
        }
        while state.readers > 0 || state.sweeping {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
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
    let started = std::thread::Builder::new()
        .name("quire-fault".into())
        .spawn(move || {
            read_faults(&its_shared, &its_post);
        })
        .is_ok();
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
            if last {
                start_reader(shared, post);
            }
            let access = if flags.contains(FaultFlags::WRITE) {
                Access::Write
            } else {
                Access::Read
            };
            shared.resolve(va, access, &post.channel);
        }
        post.idle.fetch_add(1, Ordering::AcqRel);
    }
}

impl Post {
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
    state.sweeping = std::thread::Builder::new()
        .name("quire-sweep".into())
        .spawn(move || sweep(&its))
        .is_ok();
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
        state = shared
            .crew
            .changed
            .wait_timeout(state, FAILURE_STAYS)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0;
        // Under the lock: whoever leaves another failure comes before this, or finds nobody sweeping.
        let any = shared.pmap().is_some_and(crate::pmap::LinuxPmap::clear_poisons);
        if state.ending || !any {
            state.sweeping = false;
            shared.crew.changed.notify_all();
            return;
        }
    }
}
