//! A pager that the test drives: it keeps its bytes in memory, counts and records what it is asked, fails when told, and
//! leaves requests pending until the test completes them, in the order the test likes. It never sleeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use quire_core::error::{Cause, PagerError};
use quire_core::io::{Direction, Io};
use quire_core::pager::{Answer, Change, Extent, Pager, PagerOps, Populated};
use quire_core::populate::Populate;
use quire_core::types::{ByteOff, PAGE_BYTES, PAGE_SIZE, PageIndex, pages_of};

/// One call that the pager received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// A get of so many pages from an index.
    Get(u64, usize),
    /// A put of so many pages from an index.
    Put(u64, usize),
    /// A populate for a fault at an index.
    Populate(u64),
    /// A question whether so many pages from an index may be written.
    PrepareWrite(u64, u64),
    /// The notice that so many pages from an index will not be read again.
    FreeSpace(u64, u64),
    /// A sync.
    Sync,
    /// A question for the size.
    Size,
    /// A question for the contents.
    Change,
    /// A change of the size.
    Resize(u64),
    /// A wish that the request for pages from this index end.
    Cancel(u64),
    /// The close.
    Close,
}

/// What the pager does when it is asked to cancel a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnCancel {
    /// Completes it as cancelled, before it answers.
    #[default]
    Complete,
    /// Nothing: the request goes on.
    GoOn,
    /// Does what the request asks, and completes it.
    Finish,
    /// Answers that it cannot be cancelled.
    Refuse,
}

/// What to do with the next get or put, in place of doing it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Twist {
    /// Do it, as always.
    Obey,
    /// Fail with this cause.
    Fail(Cause),
    /// Leave it pending; the test completes it.
    Defer,
    /// Say it is done, and leave the required page untouched.
    ClaimUnfilled,
    /// Fill only the first half of each page, and say that all is done.
    FillHalf,
    /// Leave it pending without leave; the test may complete it.
    Stray,
    /// Leave it pending, and answer so only after [`Script::let_go`].
    DeferLate,
    /// Leave it pending until [`Script::let_go`], and then answer that it goes on without leave.
    DeferThenStray,
    /// Complete it through the request, and then answer as well.
    CompleteFirst,
}

type Hook = Box<dyn FnMut(Call) + Send>;
type Chooser = Box<dyn FnMut(Direction) -> Twist + Send>;
type PopulateScript = Arc<dyn Fn(&Arc<Populate>) -> Populated + Send + Sync>;

#[derive(Default)]
struct State {
    pages: BTreeMap<u64, Vec<u8>>,
    calls: Vec<Call>,
    gets: VecDeque<Twist>,
    puts: VecDeque<Twist>,
    always_get: Option<Twist>,
    always_put: Option<Twist>,
    chooser: Option<Chooser>,
    completer: Option<Sender<(Script, Arc<Io>)>>,
    sync_fails: Option<Cause>,
    prepare_write_fails: Option<Cause>,
    resize_fails: Option<Cause>,
    size: u64,
    change: Change,
    hook: Option<Hook>,
    pending: Vec<Arc<Io>>,
    populate: Option<PopulateScript>,
    before_puts: Option<Arc<dyn Fn() + Send + Sync>>,
    let_go: bool,
    extent: Extent,
    bad: BTreeSet<u64>,
    on_cancel: OnCancel,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The test's end of a scripted pager.
#[derive(Clone, Default)]
pub struct Script(Arc<Shared>);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

/// The engine's end.
#[derive(Debug)]
pub struct ScriptedPager {
    script: Script,
    ops: PagerOps,
    max_run: u32,
}

impl Script {
    /// A pager that can write, of any size: page `i` reads as [`pattern`] until it is written.
    #[must_use]
    pub fn new() -> (Self, Box<ScriptedPager>) {
        Self::with(PagerOps::PUT | PagerOps::SYNC, 256)
    }

    /// A pager with these operations and this longest run.
    #[must_use]
    pub fn with(ops: PagerOps, max_run: u32) -> (Self, Box<ScriptedPager>) {
        let script = Self::default();
        (script.clone(), Box::new(ScriptedPager { script, ops, max_run }))
    }

    /// Another opening of the same bytes, with these operations; calls of all openings are recorded together.
    #[must_use]
    pub fn again(&self, ops: PagerOps) -> Box<ScriptedPager> {
        Box::new(ScriptedPager {
            script: self.clone(),
            ops,
            max_run: 256,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no test panics with the script locked")
    }

    /// What to do with the next gets, one after the other.
    pub fn next_gets(&self, twists: impl IntoIterator<Item = Twist>) {
        self.state().gets.extend(twists);
    }

    /// What to do with the next puts.
    pub fn next_puts(&self, twists: impl IntoIterator<Item = Twist>) {
        self.state().puts.extend(twists);
    }

    /// What to do with every get for which nothing else was said; `None` ends it.
    pub fn all_gets(&self, twist: Option<Twist>) {
        self.state().always_get = twist;
    }

    /// What to do with every put for which nothing else was said; `None` ends it.
    pub fn all_puts(&self, twist: Option<Twist>) {
        self.state().always_put = twist;
    }

    /// Who decides what to do with each get and put for which nothing else was said.
    pub fn choose(&self, chooser: impl FnMut(Direction) -> Twist + Send + 'static) {
        self.state().chooser = Some(Box::new(chooser));
    }

    /// Where requests go that [`Twist::Defer`] leaves pending: to whoever [settles](Self::settle) them.
    pub fn defer_to(&self, completer: Sender<(Self, Arc<Io>)>) {
        self.state().completer = Some(completer);
    }

    /// Whether sync fails.
    pub fn sync_fails(&self, cause: Option<Cause>) {
        self.state().sync_fails = cause;
    }

    /// Writes are refused from now on.
    pub fn prepare_write_fails(&self, cause: Option<Cause>) {
        self.state().prepare_write_fails = cause;
    }

    /// Whether resize fails.
    pub fn resize_fails(&self, cause: Option<Cause>) {
        self.state().resize_fails = cause;
    }

    /// What the pager answers when it is asked for the size.
    pub fn set_size(&self, size: u64) {
        self.state().size = size;
    }

    /// The size that the pager has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state().size
    }

    /// Which contents there are now: other ones after every put, and after [`Script::rewrite`].
    #[must_use]
    pub fn change(&self) -> Change {
        self.state().change
    }

    /// Somebody else writes a page, every byte of it.
    pub fn rewrite(&self, index: u64, byte: u8) {
        let mut state = self.state();
        state.pages.insert(index, vec![byte; PAGE_BYTES]);
        state.change[0] += 1;
    }

    /// Makes the bytes `size` long, as a resize by the engine does: what is cut off is forgotten, and the last page is zeros
    /// behind the end.
    pub fn truncate(&self, size: u64) {
        truncate(&mut self.state(), size);
    }

    /// What to do, on the engine's thread and in the pager, before each sync and resize is carried out.
    pub fn on_call(&self, hook: impl FnMut(Call) + Send + 'static) {
        self.state().hook = Some(Box::new(hook));
    }

    /// What `has_page` offers with any page.
    pub fn offers(&self, before: u32, after: u32) {
        self.state().extent = Extent { before, after };
    }

    /// Pages that every get and put leaves out; a get that requires such a page fails, and a put of one.
    pub fn bad_pages(&self, pages: impl IntoIterator<Item = u64>) {
        self.state().bad = pages.into_iter().collect();
    }

    /// What populate does.
    pub fn on_populate(&self, script: impl Fn(&Arc<Populate>) -> Populated + Send + Sync + 'static) {
        self.state().populate = Some(Arc::new(script));
    }

    /// What is done first in every put.
    pub fn before_puts(&self, action: impl Fn() + Send + Sync + 'static) {
        self.state().before_puts = Some(Arc::new(action));
    }

    /// Lets go of what [`Twist::DeferThenStray`] holds.
    pub fn let_go(&self) {
        self.state().let_go = true;
        self.0.changed.notify_all();
    }

    /// What a cancel does.
    pub fn on_cancel(&self, does: OnCancel) {
        self.state().on_cancel = does;
    }

    /// How many times it was asked to cancel.
    #[must_use]
    pub fn cancels(&self) -> usize {
        let state = self.state();
        state
            .calls
            .iter()
            .filter(|call| matches!(call, Call::Cancel(_)))
            .count()
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How many gets came so far.
    #[must_use]
    pub fn gets(&self) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|call| matches!(call, Call::Get(..)))
            .count()
    }

    /// How many puts came so far.
    #[must_use]
    pub fn puts(&self) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|call| matches!(call, Call::Put(..)))
            .count()
    }

    /// The bytes that the pager has for a page.
    #[must_use]
    pub fn stored(&self, index: u64) -> Vec<u8> {
        self.state()
            .pages
            .get(&index)
            .cloned()
            .unwrap_or_else(|| pattern(index))
    }

    /// Waits until so many requests are pending, and takes them.
    #[must_use]
    pub fn take_pending(&self, n: usize) -> Vec<Arc<Io>> {
        let mut state = self.state();
        while state.pending.len() < n {
            state = self
                .0
                .changed
                .wait(state)
                .expect("no test panics with the script locked");
        }
        std::mem::take(&mut state.pending)
    }

    /// Waits until so many requests are pending, and leaves them so.
    pub fn wait_for_pending(&self, n: usize) {
        let mut state = self.state();
        while state.pending.len() < n {
            state = self
                .0
                .changed
                .wait(state)
                .expect("no test panics with the script locked");
        }
    }

    /// Does what a request asks, and completes it.
    pub fn finish(&self, io: &Io) {
        move_pages(&mut self.state(), io);
        assert!(io.complete(Ok(())), "somebody else completed the request");
    }

    /// Does what a request asks, as far as pages are not [bad](Self::bad_pages), and completes it.
    pub fn settle(&self, io: &Io) {
        let mut state = self.state();
        let answer = obey(&mut state, io);
        drop(state);
        assert!(io.complete(answer), "somebody else completed the request");
    }

    /// Fails a request.
    pub fn fail(&self, io: &Io, cause: Cause) {
        assert!(
            io.complete(Err(PagerError::bare(cause))),
            "somebody else completed the request"
        );
    }
}

/// What page `index` holds before it is written: its own number in every eight bytes.
#[must_use]
pub fn pattern(index: u64) -> Vec<u8> {
    (index ^ 0x5157_4952_4500_0000).to_le_bytes().repeat(PAGE_BYTES / 8)
}

fn move_pages(state: &mut State, io: &Io) {
    for i in 0..io.len() {
        let index = io.first().0 + i as u64;
        if state.bad.contains(&index) {
            continue;
        }
        // Past the end there is nothing to read, and nothing may be written.
        let live = usize::try_from(io.object_size().saturating_sub(index * PAGE_SIZE))
            .unwrap_or(usize::MAX)
            .min(PAGE_BYTES);
        match io.direction() {
            Direction::Get => {
                let bytes = state.pages.get(&index).cloned().unwrap_or_else(|| pattern(index));
                io.fill(i, &bytes[..live]);
            }
            Direction::Put => {
                assert!(live > 0, "page {index} lies behind the end, and is put");
                let mut bytes = vec![0; PAGE_BYTES];
                io.copy_to(i, &mut bytes[..live]);
                state.pages.insert(index, bytes);
                state.change[0] += 1;
                io.page_done(i);
            }
        }
    }
}

/// A get is done when the required page is there, a put when every page is written.
fn obey(state: &mut State, io: &Io) -> Result<(), PagerError> {
    let first = io.first().0;
    let needed = match io.direction() {
        Direction::Get => first + io.required() as u64..first + io.required() as u64 + 1,
        Direction::Put => first..first + io.len() as u64,
    };
    move_pages(state, io);
    if state.bad.range(needed).next().is_some() {
        return Err(PagerError::bare(Cause::Io));
    }
    Ok(())
}

fn truncate(state: &mut State, size: u64) {
    state.size = size;
    state.pages.retain(|index, _| *index < pages_of(size));
    let (last, live) = (ByteOff(size).page().0, ByteOff(size).in_page());
    if live > 0 {
        let bytes = state.pages.entry(last).or_insert_with(|| pattern(last));
        bytes[live..].fill(0);
    }
}

impl ScriptedPager {
    /// Records a call and runs the hook, with nothing of the script locked.
    fn called(&self, call: Call) -> MutexGuard<'_, State> {
        let mut hook = {
            let mut state = self.script.state();
            state.calls.push(call);
            state.hook.take()
        };
        if let Some(hook) = &mut hook {
            hook(call);
        }
        let mut state = self.script.state();
        state.hook = state.hook.take().or(hook);
        state
    }

    fn defer_until_let_go<'s>(&'s self, mut state: MutexGuard<'s, State>, io: &Arc<Io>) -> MutexGuard<'s, State> {
        state.pending.push(io.clone());
        self.script.0.changed.notify_all();
        while !state.let_go {
            state = self
                .script
                .0
                .changed
                .wait(state)
                .expect("no test panics with the script locked");
        }
        state
    }

    fn run(&self, io: &Arc<Io>) -> Answer {
        let before = self.script.state().before_puts.clone();
        if let (Direction::Put, Some(before)) = (io.direction(), before) {
            before();
        }
        let mut state = self.script.state();
        let (call, twist) = match io.direction() {
            Direction::Get => (
                Call::Get(io.first().0, io.len()),
                state.gets.pop_front().or_else(|| state.always_get.clone()),
            ),
            Direction::Put => (
                Call::Put(io.first().0, io.len()),
                state.puts.pop_front().or_else(|| state.always_put.clone()),
            ),
        };
        state.calls.push(call);
        let twist = twist.or_else(|| state.chooser.as_mut().map(|choose| choose(io.direction())));
        match twist.unwrap_or(Twist::Obey) {
            Twist::Obey => Answer::Done(obey(&mut state, io)),
            Twist::Fail(cause) => Answer::Done(Err(PagerError::new(
                cause,
                format_args!("scripted failure of {call:?}"),
            ))),
            Twist::Defer => {
                if let Some(completer) = &state.completer {
                    let deferred = (self.script.clone(), io.clone());
                    completer.send(deferred).expect("the completer outlives the objects");
                } else {
                    state.pending.push(io.clone());
                    self.script.0.changed.notify_all();
                }
                Answer::Pending
            }
            Twist::Stray => {
                state.pending.push(io.clone());
                self.script.0.changed.notify_all();
                Answer::Stray(PagerError::new(
                    Cause::BrokenPromise,
                    format_args!("{call:?} pends without leave"),
                ))
            }
            Twist::DeferLate => {
                drop(self.defer_until_let_go(state, io));
                Answer::Pending
            }
            Twist::DeferThenStray => {
                drop(self.defer_until_let_go(state, io));
                Answer::Stray(PagerError::new(
                    Cause::Io,
                    format_args!("{call:?} goes on without leave"),
                ))
            }
            Twist::ClaimUnfilled => Answer::Done(Ok(())),
            Twist::FillHalf => {
                for i in 0..io.len() {
                    // SAFETY: the request is under way, so the page's bytes are ours to write.
                    unsafe { io.bytes(i).as_ptr().write_bytes(0x11, PAGE_BYTES / 2) };
                    io.page_done(i);
                }
                Answer::Done(Ok(()))
            }
            Twist::CompleteFirst => {
                move_pages(&mut state, io);
                assert!(io.complete(Ok(())));
                Answer::Pending
            }
        }
    }
}

impl Pager for ScriptedPager {
    fn describe(&self) -> String {
        "scripted pager".to_owned()
    }

    fn ops(&self) -> PagerOps {
        self.ops
    }

    fn max_run(&self) -> u32 {
        self.max_run
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        self.run(io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        self.run(io)
    }

    fn has_page(&self, _index: PageIndex) -> Result<Option<Extent>, PagerError> {
        Ok(Some(self.script.state().extent))
    }

    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let script = {
            let mut state = self.script.state();
            state.calls.push(Call::Populate(request.plan().index.0));
            state.populate.clone()
        };
        script.map_or(Populated::UseGet, |script| script(request))
    }

    fn sync(&self) -> Result<(), PagerError> {
        let state = self.called(Call::Sync);
        state.sync_fails.map_or(Ok(()), |cause| Err(PagerError::bare(cause)))
    }

    fn prepare_write(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        let call = Call::PrepareWrite(first.0, count);
        let state = self.called(call);
        state.prepare_write_fails.map_or(Ok(()), |cause| {
            Err(PagerError::new(cause, format_args!("scripted failure of {call:?}")))
        })
    }

    fn free_space(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        drop(self.called(Call::FreeSpace(first.0, count)));
        Ok(())
    }

    fn size(&self) -> Result<u64, PagerError> {
        Ok(self.called(Call::Size).size)
    }

    fn change(&self) -> Result<Option<Change>, PagerError> {
        let change = self.called(Call::Change).change;
        Ok((change != [0; 2]).then_some(change))
    }

    fn resize(&self, size: u64) -> Result<(), PagerError> {
        let mut state = self.called(Call::Resize(size));
        if let Some(cause) = state.resize_fails {
            return Err(PagerError::bare(cause));
        }
        truncate(&mut state, size);
        Ok(())
    }

    fn cancel(&self, io: &Arc<Io>) -> Result<bool, PagerError> {
        let (does, pending) = {
            let mut state = self.script.state();
            state.calls.push(Call::Cancel(io.first().0));
            let at = state.pending.iter().position(|other| Arc::ptr_eq(other, io));
            let ends = matches!(state.on_cancel, OnCancel::Complete | OnCancel::Finish);
            let pending = at.filter(|_| ends).map(|at| state.pending.swap_remove(at));
            (state.on_cancel, pending)
        };
        match (does, pending) {
            (OnCancel::Refuse, _) => return Err(PagerError::bare(Cause::Unsupported)),
            (OnCancel::Complete, Some(io)) => self.script.fail(&io, Cause::Cancelled),
            (OnCancel::Finish, Some(io)) => self.script.finish(&io),
            _ => {}
        }
        Ok(true)
    }

    fn close(&self) -> Result<(), PagerError> {
        self.script.state().calls.push(Call::Close);
        Ok(())
    }
}
