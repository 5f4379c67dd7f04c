//! Reading ahead of a program that reads in sequence.
//!
//! Every object remembers the last few places where it was read ([`Streams`], N18), and by whom: readers are told apart by
//! their mapping. An access directly behind what one of them has mapped continues it, and the third access in a row makes it
//! a *sequence*. In a sequence
//!
//! - a page that is missing brings those behind it along, as far as the pager's `has_page` offers them (F4);
//! - a fault maps those that are there already, twice as many as the last one, up to [`MOST_ALONG`];
//! - as soon as less than half of a window is left in memory ahead of the program, the next window is asked for, twice as
//!   long as the last one, up to [`MOST_AHEAD`] (F11). Nobody waits for it.
//!
//! An access anywhere else brings in its own page and no other: random access costs what it asks for. Advice is taken: with
//! [`Advice::Sequential`] the first access is a sequence already, with [`Advice::Random`] nothing ever is.
//!
//! Over pages that are there, every fault maps neighbours, and one who steps over just as many looks like one who reads them.
//! So the second access of a row maps one page less: who reads comes to that page, and who strides does not.
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
use crate::machine::Pmap;
use crate::object::{Object, Transfer};
use crate::page_index::PageIndexTree;
use crate::pager::PagerOps;
use crate::sync::FrameLock;
use crate::types::{Advice, ObjectId, PAGE_SIZE, PageIndex, VirtAddr, pages_of};

/// The longest window, in pages: 1 MiB.
pub const MOST_AHEAD: u32 = 256;
/// The most pages that one fault in a sequence maps behind its own.
pub const MOST_ALONG: u64 = 64;
/// How many the first fault of a sequence maps behind its own; it doubles from there.
const FIRST_ALONG: u64 = 16;
/// The first window of a sequence, in pages; it doubles from there.
const FIRST_WINDOW: u32 = 8;
/// Places remembered for each object: as many sequences can be read at the same time.
const PLACES: usize = 8;
/// Accesses in a row, after the first, that make a sequence. Two at random places are neighbours now and then.
const ENOUGH: u32 = 2;
/// How often a sequence is passed over, since its last access, when a place is wanted for another reader. So it outlives
/// more than a hundred accesses elsewhere between two of its own.
const CHANCES: u32 = 16;

/// Who reads: a mapping of the object, of which nothing is asked but whether it is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reader {
    /// The address space.
    pmap: usize,
    /// Where the object's first page would be, modulo 2^64. It stays the same when an entry is split.
    base: u64,
}

impl Reader {
    /// The one who sees page `index` at `va`.
    #[inline]
    pub(crate) fn new(pmap: &dyn Pmap, va: VirtAddr, index: PageIndex) -> Self {
        Self {
            pmap: core::ptr::from_ref(pmap).cast::<()>().addr(),
            base: va.0.wrapping_sub(index.0.wrapping_mul(PAGE_SIZE)),
        }
    }
}

/// One place where an object was read.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    reader: Reader,
    /// The page of the last access.
    last: u64,
    /// The first page behind those that it mapped.
    next: u64,
    /// The first page that has not been asked for.
    ahead: u64,
    /// How many pages the next fault maps along.
    along: u64,
    /// The last window.
    window: u32,
    /// Accesses in a row.
    row: u32,
    /// How often it is still passed over.
    chances: u32,
}

/// The places where an object was read last. Guarded by the object's lock.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The pager can say what comes cheaply: without that nothing is read ahead.
    reads_ahead: bool,
    oldest: usize,
    streams: [Stream; PLACES],
}

/// One access, and what it is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// In a sequence: how many pages behind this one are to be mapped if they are there. Otherwise 0.
    pub(crate) along: u64,
    /// One page less is to be mapped behind this one than usual.
    pub(crate) shorter: bool,
    /// The stream.
    at: usize,
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
            reads_ahead: ops.contains(PagerOps::HAS_PAGE),
            oldest: 0,
            streams: [Stream::default(); PLACES],
        }
    }

    /// Page `index` is used. Nothing, if the advice is that this tells nothing.
    #[inline]
    pub(crate) fn used(&mut self, reader: Reader, index: PageIndex, advice: Advice) -> Option<Step> {
        (advice != Advice::Random).then(|| self.note(reader, index.0, advice))
    }

    fn note(&mut self, reader: Reader, index: u64, advice: Advice) -> Step {
        let at = self
            .continued(reader, index)
            .unwrap_or_else(|| self.begin(reader, index));
        let stream = &mut self.streams[at];
        if index != stream.last {
            stream.row = stream.row.saturating_add(1);
        }
        if advice == Advice::Sequential {
            stream.row = stream.row.max(ENOUGH);
            stream.along = MOST_ALONG;
        }
        stream.last = index;
        stream.reached(index + 1);
        let sequence = stream.row >= ENOUGH;
        // One that may become a sequence is passed over once.
        stream.chances = if sequence { CHANCES } else { stream.row };
        Step {
            along: if sequence { stream.along } else { 0 },
            shorter: stream.row == 1,
            at,
        }
    }

    /// That access maps the pages before `next`.
    #[inline]
    pub(crate) fn reached(&mut self, step: Step, next: u64) {
        self.streams[step.at].reached(next);
    }

    /// The reader's stream in which `index` comes next, or came last.
    fn continued(&self, reader: Reader, index: u64) -> Option<usize> {
        self.streams
            .iter()
            .position(|stream| (stream.last..=stream.next).contains(&index) && stream.reader == reader)
    }

    fn begin(&mut self, reader: Reader, index: u64) -> usize {
        let at = self.give_way();
        self.streams[at] = Stream {
            reader,
            last: index,
            along: FIRST_ALONG,
            ..Stream::default()
        };
        at
    }

    /// A place for another stream: they give way in turns, but sequences are passed over for a while.
    fn give_way(&mut self) -> usize {
        for _ in 0..PLACES {
            let at = self.turn();
            let stream = &mut self.streams[at];
            if stream.chances == 0 {
                return at;
            }
            stream.chances -= 1;
        }
        self.turn()
    }

    fn turn(&mut self) -> usize {
        let at = self.oldest;
        self.oldest = (at + 1) % PLACES;
        at
    }

    /// How many pages behind a missing one are wanted along with it.
    pub(crate) fn missed(&mut self, reader: Reader, index: PageIndex, advice: Advice) -> u32 {
        let step = self.used(reader, index, advice).filter(|step| step.along > 0);
        let Some(step) = step.filter(|_| self.reads_ahead) else {
            return 0;
        };
        let stream = &mut self.streams[step.at];
        stream.window = grown(stream.window);
        stream.ahead = index.0 + u64::from(stream.window);
        stream.window - 1
    }

    /// The sequence at `index` is mapped up to `next`: the window that is to be read ahead now, if any.
    pub(crate) fn mapped(&mut self, reader: Reader, index: PageIndex, next: u64) -> Option<Plan> {
        let at = self.continued(reader, index.0)?;
        let stream = &mut self.streams[at];
        stream.reached(next);
        stream.along = (stream.along * 2).min(MOST_ALONG);
        if !self.reads_ahead || stream.ahead - stream.next > u64::from(stream.window / 2) {
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

impl Stream {
    fn reached(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.ahead = self.ahead.max(self.next);
    }
}

impl Plan {
    /// What is left of it without the pages at its beginning that are in memory and those behind the object's `end`: nobody is
    /// to be woken for nothing.
    pub(crate) fn missing(self, pages: &PageIndexTree, end: u64) -> Option<Self> {
        let behind = end.min(self.first.0 + u64::from(self.pages));
        let first = (self.first.0..behind).find(|i| pages.get(PageIndex(*i)).is_none())?;
        let pages = u32::try_from(behind - first).unwrap_or(self.pages);
        Some(Self {
            first: PageIndex(first),
            pages,
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
            self.read_ahead_later(object, plan);
        }
    }

    /// A window is wanted from whoever [steps](Engine::read_ahead_step) next. Calls no pager.
    pub(crate) fn read_ahead_later(&self, object: &Object, plan: Plan) {
        self.plans().add(object.id(), plan);
        self.requests().bell().ring();
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
        while at < end && self.engine().requests().has_room() {
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
        let most = self
            .engine()
            .frames_to_spare(most.min(usize::try_from(end - at).unwrap_or(most)), false);
        let mut run = Vec::new();
        try_reserve(&mut run, most)?;
        while run.len() < most && at < end {
            match self.insert_missing(PageIndex(at)) {
                Ok(busy) => run.push(busy),
                Err(_) => break,
            }
            at += 1;
        }
        if run.is_empty() {
            // Somebody else has it in hand, or memory is short: then it is not the time to read ahead.
            return Ok(if most == 0 { end } else { at + 1 });
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

    const READER: Reader = Reader { pmap: 1, base: 0 };
    const ANOTHER: Reader = Reader { pmap: 2, base: 0 };

    fn streams() -> Streams {
        Streams::new(PagerOps::HAS_PAGE)
    }

    /// A fault that finds `behind` neighbours behind its page, if it may map so many. How many it maps along behind them.
    fn fault(streams: &mut Streams, reader: Reader, index: u64, behind: u64) -> u64 {
        let step = streams.used(reader, PageIndex(index), Advice::Normal).unwrap();
        streams.reached(step, index + 1 + behind - u64::from(step.shorter && behind > 0));
        step.along
    }

    /// Reads every page from `from` on over resident pages, until so many faults were taken. Where it is then.
    fn scan(streams: &mut Streams, reader: Reader, from: u64, faults: u32) -> u64 {
        let mut at = from;
        for _ in 0..faults {
            let along = fault(streams, reader, at, 4);
            if along > 0 {
                let _ = streams.mapped(reader, PageIndex(at), at + 1 + along);
            }
            at = streams
                .streams
                .iter()
                .find(|s| s.reader == reader && s.last == at)
                .unwrap()
                .next;
        }
        at
    }

    #[test]
    fn the_third_access_in_a_row_wants_pages_along_and_the_window_doubles() {
        let mut streams = streams();
        let at = |i| PageIndex(i);
        assert_eq!(streams.missed(READER, at(10), Advice::Normal), 0);
        assert_eq!(streams.missed(READER, at(11), Advice::Normal), 0);
        assert_eq!(streams.missed(READER, at(12), Advice::Normal), FIRST_WINDOW - 1);
        assert_eq!(
            streams.mapped(READER, at(12), 16),
            Some(Plan {
                first: at(20),
                pages: 16
            })
        );
        assert_eq!(streams.mapped(READER, at(16), 20), None, "half of a window is left");
        assert!(streams.used(READER, at(20), Advice::Normal).unwrap().along > 0);
        assert_eq!(
            streams.mapped(READER, at(20), 30),
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
        assert_eq!(
            streams.missed(READER, PageIndex(7), Advice::Sequential),
            FIRST_WINDOW - 1
        );
        for i in 100..120 {
            assert_eq!(streams.missed(READER, PageIndex(i), Advice::Random), 0);
        }
    }

    #[test]
    fn several_sequences_at_the_same_time_are_told_apart() {
        let mut streams = streams();
        for i in 0..3 {
            for base in [0, 1000, 2000, 3000] {
                let wanted = streams.missed(READER, PageIndex(base + i), Advice::Normal);
                assert_eq!(wanted > 0, i == 2, "page {i} of the sequence at {base}");
            }
        }
    }

    #[test]
    fn places_far_apart_are_no_sequence() {
        let mut streams = streams();
        for i in 0..1000 {
            assert_eq!(streams.missed(READER, PageIndex(i * 7919 % 100_003), Advice::Normal), 0);
        }
    }

    #[test]
    fn over_resident_pages_the_row_goes_on_behind_the_neighbours_and_what_is_mapped_along_doubles() {
        let mut streams = streams();
        let mut at = 0;
        for end in [5, 9, 26, 59, 124, 189] {
            at = scan(&mut streams, READER, at, 1);
            assert_eq!(at, end);
        }
    }

    #[test]
    fn no_stride_over_resident_pages_is_a_sequence() {
        for stride in 2..100 {
            let (mut streams, mut mapped) = (streams(), 0);
            for index in (0..5000).step_by(stride) {
                if index >= mapped {
                    assert_eq!(fault(&mut streams, READER, index, 4), 0, "stride {stride}");
                    mapped = streams.streams.iter().map(|s| s.next).max().unwrap();
                }
            }
        }
    }

    #[test]
    fn readers_of_the_same_pages_are_told_apart() {
        let mut streams = streams();
        for i in 0..2 {
            assert_eq!(streams.missed(READER, PageIndex(i), Advice::Normal), 0);
        }
        assert_eq!(
            streams.missed(ANOTHER, PageIndex(2), Advice::Normal),
            0,
            "its first access"
        );
        assert!(streams.missed(READER, PageIndex(2), Advice::Normal) > 0);
    }

    #[test]
    fn a_sequence_outlives_many_accesses_elsewhere_and_makes_room_in_the_end() {
        let mut streams = streams();
        let at = scan(&mut streams, READER, 0, 3);
        for i in 0..100 {
            fault(&mut streams, ANOTHER, 10_000 + 100 * i, 4);
        }
        assert!(fault(&mut streams, READER, at, 4) > 0);
        for i in 0..1000 {
            fault(&mut streams, ANOTHER, 10_000 + 100 * i, 4);
        }
        assert!(streams.streams.iter().all(|s| s.reader == ANOTHER));
    }

    #[test]
    fn without_has_page_pages_are_mapped_along_and_none_is_read() {
        let mut streams = Streams::new(PagerOps::PUT);
        for i in 0..10 {
            assert_eq!(streams.missed(READER, PageIndex(i), Advice::Normal), 0);
            assert_eq!(streams.mapped(READER, PageIndex(i), i + 1), None);
        }
        assert_eq!(fault(&mut streams, READER, 10, 4), MOST_ALONG);
    }
}
