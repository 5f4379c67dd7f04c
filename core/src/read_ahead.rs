//! Reading ahead of a program that reads in sequence.
//!
//! Every object remembers the last few places where it was read ([`Streams`], N18). An access directly behind one of them
//! continues it, and the third access in a row makes it a *sequence*. In a sequence
//!
//! - a page that is missing brings those behind it along, as far as the pager's `has_page` offers them (F4);
//! - a fault maps those that are there already, up to [`MOST_ALONG`];
//! - as soon as less than half of a window is left in memory ahead of the program, the next window is asked for, twice as
//!   long as the last one, up to [`MOST_AHEAD`] (F11). Nobody waits for it.
//!
//! An access anywhere else brings in its own page and no other: random access costs what it asks for. Advice is taken: with
//! [`Advice::Sequential`] the first access is a sequence already, with [`Advice::Random`] nothing ever is.
//!
//! Who asks: a pager that can leave requests pending is asked by the faulting thread, after its fault. For one that cannot,
//! the window is left to a [`Worker`] or to an embedder's [`Engine::read_ahead_step`]; where nobody takes it up, the
//! program runs into the first missing page, which then brings the whole window along.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::alloc_fallible::try_reserve;
use crate::engine::Engine;
use crate::error::Error;
use crate::io::Direction;
use crate::machine::Reserve;
use crate::object::{ExclusiveBusy, Object, Transfer};
use crate::pager::PagerOps;
use crate::sync::FrameLock;
use crate::types::{Advice, ObjectId, PageIndex, pages_of};

/// The longest window, in pages: 1 MiB.
pub const MOST_AHEAD: u32 = 256;
/// The most pages that one fault in a sequence maps behind its own.
pub const MOST_ALONG: u64 = 64;
/// The first window of a sequence, in pages; it doubles from there.
const FIRST_WINDOW: u32 = 8;
/// Places remembered for each object: as many sequences can be read at the same time.
const PLACES: usize = 4;
/// Accesses in a row, after the first, that make a sequence. Two at random places are neighbours now and then.
const ENOUGH: u32 = 2;

/// One place where an object was read.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The page of the last access.
    last: u64,
    /// The first page behind those that it mapped.
    next: u64,
    /// The first page that has not been asked for.
    ahead: u64,
    /// The last window.
    window: u32,
    /// Accesses in a row.
    row: u32,
}

/// The places where an object was read last. Guarded by the object's lock.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The pager can say what comes cheaply.
    enabled: bool,
    oldest: usize,
    streams: [Stream; PLACES],
}

/// A window to be read ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) first: PageIndex,
    pub(crate) pages: u32,
}

impl Streams {
    pub(crate) fn new(ops: PagerOps) -> Self {
        Self {
            enabled: ops.contains(PagerOps::HAS_PAGE),
            oldest: 0,
            streams: [Stream::default(); PLACES],
        }
    }

    /// Page `index` was used. Whether that was in a sequence.
    #[inline]
    pub(crate) fn used(&mut self, index: PageIndex, advice: Advice) -> bool {
        self.enabled && advice != Advice::Random && self.note(index.0, advice)
    }

    fn note(&mut self, index: u64, advice: Advice) -> bool {
        let at = self.continued(index).unwrap_or_else(|| self.begin(index, advice));
        let stream = &mut self.streams[at];
        if index != stream.last {
            stream.row += 1;
        }
        stream.last = index;
        stream.next = stream.next.max(index + 1);
        stream.ahead = stream.ahead.max(stream.next);
        stream.row >= ENOUGH
    }

    /// The stream in which `index` comes next, or came last.
    fn continued(&self, index: u64) -> Option<usize> {
        self.streams
            .iter()
            .position(|stream| (stream.last..=stream.next).contains(&index) && stream.next > 0)
    }

    fn begin(&mut self, index: u64, advice: Advice) -> usize {
        let at = self.oldest;
        self.oldest = (at + 1) % PLACES;
        self.streams[at] = Stream {
            last: index,
            next: index + 1,
            ahead: index + 1,
            window: 0,
            row: if advice == Advice::Sequential { ENOUGH } else { 0 },
        };
        at
    }

    /// How many pages behind a missing one are wanted along with it.
    pub(crate) fn missed(&mut self, index: PageIndex, advice: Advice) -> u32 {
        if !self.used(index, advice) {
            return 0;
        }
        let Some(at) = self.continued(index.0) else { return 0 };
        let stream = &mut self.streams[at];
        stream.window = grown(stream.window);
        stream.ahead = index.0 + u64::from(stream.window);
        stream.window - 1
    }

    /// The sequence at `index` is mapped up to `next`: the window that is to be read ahead now, if any.
    pub(crate) fn mapped(&mut self, index: PageIndex, next: u64) -> Option<Plan> {
        let at = self.continued(index.0)?;
        let stream = &mut self.streams[at];
        stream.next = stream.next.max(next);
        stream.ahead = stream.ahead.max(stream.next);
        if stream.ahead - stream.next > u64::from(stream.window / 2) {
            return None;
        }
        stream.window = grown(stream.window);
        let first = PageIndex(stream.ahead);
        stream.ahead += u64::from(stream.window);
        Some(Plan {
            first,
            pages: stream.window,
        })
    }
}

fn grown(window: u32) -> u32 {
    (window * 2).clamp(FIRST_WINDOW, MOST_AHEAD)
}

/// Windows that wait for somebody to ask for them.
#[derive(Debug)]
pub(crate) struct Plans(FrameLock<Ring>);

#[derive(Debug)]
struct Ring {
    plans: [Option<(ObjectId, Plan)>; MOST_PLANS],
    /// Where the next one goes: the oldest, if it is still there, gives way.
    at: usize,
}

/// A plan that waited for so many others is out of date.
const MOST_PLANS: usize = 16;

impl Plans {
    pub(crate) fn new() -> Self {
        Self(FrameLock::new(Ring {
            plans: [None; MOST_PLANS],
            at: 0,
        }))
    }

    fn add(&self, object: ObjectId, plan: Plan) {
        let mut ring = self.0.lock();
        let at = ring.at;
        ring.plans[at] = Some((object, plan));
        ring.at = (at + 1) % MOST_PLANS;
    }

    /// The oldest.
    fn take(&self) -> Option<(ObjectId, Plan)> {
        let mut ring = self.0.lock();
        let at = ring.at;
        (0..MOST_PLANS).find_map(|i| ring.plans[(at + i) % MOST_PLANS].take())
    }
}

impl Engine {
    /// A window is wanted. No lock may be held. Does not block if the pager keeps its word.
    pub(crate) fn read_ahead(&self, object: &Arc<Object>, plan: Plan) {
        self.settle_requests();
        if object.ops().contains(PagerOps::ASYNC) {
            object.read_ahead(plan);
        } else {
            self.plans().add(object.id(), plan);
            self.requests().bell().ring();
        }
    }

    /// One step of what goes on beside the program: settles requests that nobody waits for, and reads one window ahead.
    /// Blocks as long as that pager's `get` does; no lock may be held. Whether there was a window.
    pub fn read_ahead_step(&self) -> bool {
        self.settle_requests();
        let Some((id, plan)) = self.plans().take() else {
            return false;
        };
        if let Some(object) = self.object_of(id) {
            object.read_ahead(plan);
        }
        true
    }
}

impl Object {
    /// Asks for those pages of a window that are not in memory, and waits for none of them. Whatever goes wrong is no error.
    fn read_ahead(self: &Arc<Self>, plan: Plan) {
        let end = (plan.first.0 + u64::from(plan.pages)).min(pages_of(self.size()));
        let mut at = plan.first.0;
        while at < end && self.engine().requests().has_room() && self.engine().has_frames_to_spare() {
            match self.read_hole_ahead(at, end) {
                Ok(next) => at = next,
                Err(_) => return,
            }
        }
    }

    /// Asks for the first run of pages in `at..end` that are not in memory. Answers where to go on.
    fn read_hole_ahead(self: &Arc<Self>, mut at: u64, end: u64) -> Result<u64, Error> {
        {
            let state = self.lock();
            while at < end && state.pages.get(PageIndex(at)).is_some() {
                at += 1;
            }
        }
        if at == end {
            return Ok(end);
        }
        let paging = self.begin_paging()?;
        let Some(offered) = self.pager().has_page(PageIndex(at))? else {
            return Ok(end);
        };
        let most = self.longest_run().min(offered.after as usize + 1);
        let mut run = Vec::new();
        try_reserve(&mut run, most)?;
        while run.len() < most && at < end {
            match ExclusiveBusy::insert_new(self.clone(), PageIndex(at), Reserve::Ordinary) {
                Ok(busy) => run.push(busy),
                Err(_) => break,
            }
            at += 1;
        }
        if run.is_empty() {
            // Somebody else has it in hand, or memory is short.
            return Ok(at + 1);
        }
        Transfer::new(paging, Direction::Get, run, 0)?.run_detached()?;
        Ok(at)
    }

    /// The longest run of one request.
    pub(crate) fn longest_run(&self) -> usize {
        usize::try_from(self.pager().max_run())
            .unwrap_or(crate::flush::MAX_RUN)
            .clamp(1, crate::flush::MAX_RUN)
    }
}

impl Engine {
    /// Whether pages that nobody asked for yet may take frames: an eighth of all is left to those that are asked for.
    pub(crate) fn has_frames_to_spare(&self) -> bool {
        let counts = self.machine().frame_counts();
        counts.free > counts.reserved + counts.total / 8
    }
}

#[cfg(feature = "std")]
pub use worker::Worker;

#[cfg(feature = "std")]
mod worker {
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use crate::engine::Engine;
    use crate::requests::Bell;

    /// A thread that does the engine's [steps](Engine::read_ahead_step) as they come up. Dropping it ends the thread and waits
    /// for it: at most as long as one `get` takes.
    #[derive(Debug)]
    pub struct Worker {
        bell: Arc<Bell>,
        stop: Arc<AtomicBool>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Worker {
        /// Starts the thread. It does not keep the engine.
        ///
        /// # Errors
        /// The host's, when it gives no thread.
        pub fn spawn(engine: &Arc<Engine>) -> std::io::Result<Self> {
            let bell = engine.requests().bell();
            let stop = Arc::new(AtomicBool::new(false));
            let thread = {
                let (bell, stop, engine) = (bell.clone(), stop.clone(), Arc::downgrade(engine));
                thread::Builder::new().name("quire-ahead".into()).spawn(move || {
                    loop {
                        let rung = bell.rung();
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                        match engine.upgrade() {
                            None => return,
                            Some(engine) if engine.read_ahead_step() => {}
                            Some(engine) => {
                                drop(engine);
                                bell.wait(rung);
                            }
                        }
                    }
                })?
            };
            Ok(Self {
                bell,
                stop,
                thread: Some(thread),
            })
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Release);
            self.bell.ring();
            if let Some(thread) = self.thread.take() {
                // A panic of the thread was reported by the thread.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        Streams::new(PagerOps::HAS_PAGE)
    }

    #[test]
    fn the_third_access_in_a_row_wants_pages_along_and_the_window_doubles() {
        let mut streams = streams();
        let at = |i| PageIndex(i);
        assert_eq!(streams.missed(at(10), Advice::Normal), 0);
        assert_eq!(streams.missed(at(11), Advice::Normal), 0);
        assert_eq!(streams.missed(at(12), Advice::Normal), FIRST_WINDOW - 1);
        assert_eq!(
            streams.mapped(at(12), 16),
            Some(Plan {
                first: at(20),
                pages: 16
            })
        );
        assert_eq!(streams.mapped(at(16), 20), None, "half of a window is left");
        assert!(streams.used(at(20), Advice::Normal));
        assert_eq!(
            streams.mapped(at(20), 30),
            Some(Plan {
                first: at(36),
                pages: 32
            })
        );
    }

    #[test]
    fn the_window_ends_growing() {
        let mut window = 0;
        for _ in 0..20 {
            window = grown(window);
        }
        assert_eq!(window, MOST_AHEAD);
    }

    #[test]
    fn advice_begins_a_sequence_at_once_or_never() {
        let mut streams = streams();
        assert_eq!(streams.missed(PageIndex(7), Advice::Sequential), FIRST_WINDOW - 1);
        for i in 100..120 {
            assert_eq!(streams.missed(PageIndex(i), Advice::Random), 0);
        }
    }

    #[test]
    fn several_sequences_at_the_same_time_are_told_apart() {
        let mut streams = streams();
        for i in 0..3 {
            for base in [0, 1000, 2000, 3000] {
                let wanted = streams.missed(PageIndex(base + i), Advice::Normal);
                assert_eq!(wanted > 0, i == 2, "page {i} of the sequence at {base}");
            }
        }
    }

    #[test]
    fn places_far_apart_are_no_sequence() {
        let mut streams = streams();
        for i in 0..1000 {
            assert_eq!(streams.missed(PageIndex(i * 7919 % 100_003), Advice::Normal), 0);
        }
    }
}
