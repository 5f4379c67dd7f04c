//! One opened object of a plugin, as the engine's [`Pager`].

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::ffi::{c_char, c_void};
use core::fmt;
use core::ptr::NonNull;

use quire_abi as abi;
use quire_core::alloc_fallible::try_reserve;
use quire_core::error::{Cause, PagerError, Result, words_or_nothing};
use quire_core::io::{Direction, Io};
use quire_core::machine::MOST_ENTERED;
use quire_core::object::Object;
use quire_core::pager::{Answer, Change, Extent, Pager, PagerOps, Populated};
use quire_core::populate::Populate;
use quire_core::sync::FrameLock;
use quire_core::types::{Access, PageIndex, Prot};

use crate::host::{HostState, PAGE_SIZE};
use crate::judge::{broke_by_pending, judge};
use crate::module::{OpenObject, call_with, known, log_unheard, plain_call, size_u32};
use crate::name::Subject;
use crate::requests::{Begun, Returned, Token, Work};
use crate::serial::{Closing, Serial, enter};

type RunOperation = unsafe extern "C" fn(*mut c_void, *mut abi::Io) -> i32;

/// An object that a plugin opened. Closed by [`Pager::close`], or else when dropped.
pub struct PluginObject {
    /// The plugin's own.
    handle: *mut c_void,
    use_of: Arc<OpenObject>,
    /// Plugin and thing, for people.
    name: Arc<str>,
    ops: PagerOps,
    max_run: u32,
    has_large_pages: bool,
    /// Where the thread model is one operation at a time on an object.
    serial: Option<Serial>,
    /// Taken by whoever closes it.
    closing: FrameLock<Option<Box<Closing>>>,
}

// SAFETY: the handle is opaque here, and the plugin takes it on any thread by the ABI.
unsafe impl Send for PluginObject {}
// SAFETY: as for Send; calls at the same time are kept apart as the plugin's thread model asks.
unsafe impl Sync for PluginObject {}

impl PluginObject {
    pub(crate) fn new(
        use_of: Arc<OpenObject>,
        mut closing: Box<Closing>,
        opened: &abi::OpenResult,
        write: bool,
        thing: &str,
    ) -> Self {
        let by_object = use_of.threads().table().thread_model == abi::QUIRE_THREADS_SERIALIZE_OBJECT;
        let mut this = Self {
            handle: opened.object,
            name: use_of.opener().clone(),
            ops: operations(use_of.module().table(), opened.flags, write),
            max_run: if opened.max_run == 0 { u32::MAX } else { opened.max_run },
            has_large_pages: u64::from(opened.granule) >= MOST_ENTERED as u64 * u64::from(PAGE_SIZE),
            serial: by_object.then(Serial::default),
            closing: FrameLock::new(None),
            use_of,
        };
        let told = this.told_name();
        let thing = told.as_deref().unwrap_or(thing);
        let separator = if thing.is_empty() { "" } else { " " };
        this.name = words_or_nothing(format_args!("{}{separator}{thing}", this.name)).into();
        closing.name = this.name.clone();
        *this.closing.get_mut() = Some(closing);
        this
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name that the plugin's `path` gives, where it has one.
    fn told_name(&self) -> Option<String> {
        let path = self.table().path?;
        let mut text = [0_u8; 1024];
        let room = text.len() - 1;
        // SAFETY: the handle is open; the buffer is ours and has `room` bytes, and a zero behind them.
        self.call("path", |_| unsafe {
            path(self.handle, text.as_mut_ptr().cast::<c_char>(), room)
        })
        .ok()?;
        let end = text.iter().position(|b| *b == 0)?;
        core::str::from_utf8(&text[..end])
            .ok()
            .filter(|t| !t.is_empty())
            .map(|t| words_or_nothing(format_args!("{t}")))
    }

    fn table(&self) -> &abi::Module {
        self.use_of.module().table()
    }

    fn host(&self) -> &HostState {
        self.use_of.module().host()
    }

    fn subject(&self, operation: &'static str) -> Subject {
        Subject::new(operation, &self.name).on(self.use_of.name())
    }

    fn lock(&self) -> Option<&Serial> {
        self.serial.as_ref().or_else(|| self.use_of.threads().serial())
    }

    /// Calls an operation that cannot pend, under the lock that the thread model asks for.
    fn call(&self, operation: &'static str, call: impl FnOnce(Token) -> i32) -> Result<(), PagerError> {
        let subject = self.subject(operation);
        let _serial = enter(self.lock(), &subject)?;
        plain_call(self.host(), subject, call)
    }

    /// Hands a run to the plugin. It may answer at once, or later through `complete`.
    fn move_run(&self, operation: &'static str, function: RunOperation, io: &Arc<Io>) -> Answer {
        self.try_move_run(operation, function, io)
            .unwrap_or_else(|error| Answer::Done(Err(error)))
    }

    fn try_move_run(
        &self,
        operation: &'static str,
        function: RunOperation,
        io: &Arc<Io>,
    ) -> Result<Answer, PagerError> {
        let requests = &self.host().requests;
        let may_pend = self.ops.contains(PagerOps::ASYNC) && !io.is_in_signal();
        let subject = self.subject(operation);
        let _serial = enter(self.lock(), &subject)?;
        let begun = requests.begin(subject, Work::Run(io.clone()))?;
        let status = match write_run(&begun, io, may_pend) {
            // SAFETY: the handle is open; the run stays as it is until the record is given back, after return and completion.
            Some(run) => unsafe { function(self.handle, run) },
            None => abi::QUIRE_PAGER_NOMEM,
        };
        match requests.returned(begun.token, status, status == abi::QUIRE_PAGER_PEND) {
            Returned::Pending if may_pend => Ok(Answer::Pending),
            // It works on, with or without leave: the bytes stay lent, and its completion is still heard.
            Returned::Pending => {
                let words = requests.take_text(begun.token);
                let error = broke_by_pending(self.host(), &self.subject(operation), &words, io.is_in_signal());
                Ok(Answer::Stray(error))
            }
            // It completed before it returned; that it pended is a broken promise all the same.
            Returned::Ended(ended) if status == abi::QUIRE_PAGER_PEND && !may_pend => {
                let error = broke_by_pending(self.host(), &self.subject(operation), &ended.text, io.is_in_signal());
                Ok(Answer::Done(Err(error)))
            }
            Returned::Ended(mut ended) => Ok(Answer::Done(judge(self.host(), &mut ended))),
        }
    }

    fn close_once(&self) -> Result<(), PagerError> {
        let closing = self.closing.lock().take();
        closing.map_or(Ok(()), |closing| closing.close(self.lock()))
    }
}

impl Pager for PluginObject {
    fn describe(&self) -> String {
        words_or_nothing(format_args!("{}", self.name))
    }

    fn ops(&self) -> PagerOps {
        self.ops
    }

    fn max_run(&self) -> u32 {
        self.max_run
    }

    fn has_large_pages(&self) -> bool {
        self.has_large_pages
    }

    fn get(&self, io: &Arc<Io>) -> Answer {
        let Some(get) = self.table().get else {
            unreachable!("get is there by the contract of `PluginModule::start`")
        };
        self.move_run("get", get, io)
    }

    fn put(&self, io: &Arc<Io>) -> Answer {
        match self.table().put {
            Some(put) => self.move_run("put", put, io),
            None => Answer::Done(Err(absent())),
        }
    }

    fn has_page(&self, index: PageIndex) -> Result<Option<Extent>, PagerError> {
        let has_page = self.table().has_page.ok_or_else(absent)?;
        let mut out = abi::Extent {
            struct_size: size_u32::<abi::Extent>(),
            before: 0,
            after: 0,
        };
        let mut there = true;
        self.call("has_page", |_| {
            // SAFETY: the handle is open, and `out` outlives the call.
            let status = unsafe { has_page(self.handle, index.0, &raw mut out) };
            // An ordinary answer, and no error that wants words.
            there = status != abi::QUIRE_PAGER_FAIL;
            if there { status } else { abi::QUIRE_PAGER_OK }
        })?;
        Ok(there.then_some(Extent {
            before: out.before,
            after: out.after,
        }))
    }

    fn populate(&self, request: &Arc<Populate>) -> Populated {
        let Some(populate) = self.table().populate else {
            return Populated::UseGet;
        };
        let subject = self.subject("populate");
        let _serial = match enter(self.lock(), &subject) {
            Ok(guard) => guard,
            Err(error) => return Populated::Failed(error),
        };
        let mut arguments = populate_arguments(request, self.host());
        // Ordinary answers, and no errors that want words.
        let (mut refault, mut use_get) = (false, false);
        let answer = call_with(self.host(), subject, Work::Populate(request.clone()), |token| {
            arguments.token = token.0;
            // SAFETY: the handle is open, and `arguments` outlives the call.
            let status = unsafe { populate(self.handle, &raw mut arguments) };
            refault = status == abi::QUIRE_PAGER_REFAULT;
            use_get = status == abi::QUIRE_PAGER_BAD;
            if refault || use_get {
                abi::QUIRE_PAGER_OK
            } else {
                status
            }
        });
        match answer {
            Ok(()) if refault => Populated::Restart,
            Ok(()) if use_get => Populated::UseGet,
            Ok(()) => Populated::Range(PageIndex(arguments.first), PageIndex(arguments.last)),
            Err(error) => Populated::Failed(error),
        }
    }

    fn size(&self) -> Result<u64, PagerError> {
        let get_size = self.table().get_size.ok_or_else(absent)?;
        let mut size = 0;
        // SAFETY: the handle is open, and `size` outlives the call.
        self.call("get_size", |_| unsafe { get_size(self.handle, &raw mut size) })?;
        Ok(size)
    }

    fn change(&self) -> Result<Option<Change>, PagerError> {
        let get_change = self.table().get_change.ok_or_else(absent)?;
        let mut change = [0; 2];
        // SAFETY: the handle is open, and `change`, two words, outlives the call.
        self.call("get_change", |_| unsafe {
            get_change(self.handle, change.as_mut_ptr())
        })?;
        Ok(known(change))
    }

    fn resize(&self, size: u64) -> Result<(), PagerError> {
        let resize = self.table().resize.ok_or_else(absent)?;
        // SAFETY: the handle is open.
        self.call("resize", |_| unsafe { resize(self.handle, size) })
    }

    fn prepare_write(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        match self.table().prepare_write {
            // SAFETY: the handle is open.
            Some(prepare) => self.call("prepare_write", |_| unsafe { prepare(self.handle, first.0, count) }),
            None => Ok(()),
        }
    }

    fn free_space(&self, first: PageIndex, count: u64) -> Result<(), PagerError> {
        match self.table().free_space {
            // SAFETY: the handle is open.
            Some(free) => self.call("free_space", |_| unsafe { free(self.handle, first.0, count) }),
            None => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), PagerError> {
        match self.table().sync {
            // SAFETY: the handle is open.
            Some(sync) => self.call("sync", |_| unsafe { sync(self.handle) }),
            None => Ok(()),
        }
    }

    fn cancel(&self, io: &Arc<Io>) -> Result<bool, PagerError> {
        let cancel = self.table().cancel.ok_or_else(absent)?;
        let Some(token) = self.host().requests.pending(io, &self.name) else {
            return Ok(false);
        };
        // SAFETY: the handle is open. The request may complete before, during or after: a token that is no longer under way
        // is nothing to the plugin, and is never used again.
        self.call("cancel", |_| unsafe { cancel(self.handle, token.0) })?;
        Ok(true)
    }

    fn attached(&self, object: &Arc<Object>) {
        self.host().named.set(self.use_of.name(), object);
    }

    fn relies_on(&self, source: u64) -> bool {
        self.use_of.module().number() == source || self.use_of.threads().number() == source
    }

    fn close(&self) -> Result<(), PagerError> {
        self.close_once()
    }
}

impl Drop for PluginObject {
    fn drop(&mut self) {
        if let Err(error) = self.close_once() {
            log_unheard(self.host(), "closing an object that nobody uses", &error);
        }
    }
}

impl fmt::Debug for PluginObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginObject")
            .field("name", &self.name)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}

fn operations(table: &abi::Module, flags: u32, write: bool) -> PagerOps {
    let writable = write && flags & abi::QUIRE_OBJECT_READ_ONLY == 0;
    let populates = flags & abi::QUIRE_OBJECT_POPULATE != 0;
    let frames = flags & abi::QUIRE_OBJECT_FRAMES != 0;
    [
        (PagerOps::PUT, writable && !frames && table.put.is_some()),
        (PagerOps::FRAMES, writable && frames),
        (PagerOps::HAS_PAGE, table.has_page.is_some()),
        (PagerOps::POPULATE, populates && table.populate.is_some()),
        (PagerOps::SIZE, table.get_size.is_some()),
        (PagerOps::RESIZE, writable && table.resize.is_some()),
        (PagerOps::SYNC, table.sync.is_some()),
        (PagerOps::PREPARE_WRITE, writable && table.prepare_write.is_some()),
        (PagerOps::FREE_SPACE, writable && table.free_space.is_some()),
        (PagerOps::ASYNC, table.caps & abi::QUIRE_CAP_ASYNC != 0),
        (PagerOps::CANCEL, table.cancel.is_some()),
        (PagerOps::CHANGE, table.get_change.is_some()),
        (PagerOps::SIGNAL_SAFE, table.caps & abi::QUIRE_CAP_SIGNAL_SAFE != 0),
    ]
    .into_iter()
    .filter(|(_, there)| *there)
    .fold(PagerOps::empty(), |ops, (op, _)| ops | op)
}

fn absent() -> PagerError {
    PagerError::bare(Cause::Unsupported)
}

/// Writes the request into its record. Nothing when memory for a longer run than any before is short.
fn write_run(begun: &Begun, io: &Io, may_pend: bool) -> Option<*mut abi::Io> {
    let run: NonNull<_> = begun.run;
    // SAFETY: the record is ours until the operation is called, and nobody else looks at its run.
    let run = unsafe { &mut *run.as_ptr() };
    run.pages.clear();
    try_reserve(&mut run.pages, io.len()).ok()?;
    run.pages.extend((0..io.len()).map(|i| abi::IoPage {
        bytes: io.bytes(i).as_ptr().cast(),
        status: abi::QUIRE_PAGER_UNTOUCHED,
        reserved: 0,
    }));
    let pend = if may_pend { abi::QUIRE_IO_MAY_PEND } else { 0 };
    let reclaiming = if io.is_reclaiming() {
        abi::QUIRE_IO_RECLAIMING
    } else {
        0
    };
    let in_signal = if io.is_in_signal() { abi::QUIRE_IO_IN_SIGNAL } else { 0 };
    run.io = abi::Io {
        struct_size: size_u32::<abi::Io>(),
        flags: pend | reclaiming | in_signal,
        token: begun.token.0,
        first: io.first().0,
        count: u32::try_from(io.len()).ok()?,
        required: u32::try_from(io.required()).ok()?,
        page_size: PAGE_SIZE,
        page_stride: size_u32::<abi::IoPage>(),
        object_size: io.object_size(),
        pages: run.pages.as_mut_ptr(),
    };
    debug_assert!(io.direction() == Direction::Get || io.len() > 0);
    Some(&raw mut run.io)
}

fn populate_arguments(request: &Populate, host: &HostState) -> abi::Populate {
    let plan = request.plan();
    abi::Populate {
        struct_size: size_u32::<abi::Populate>(),
        flags: 0,
        token: 0,
        index: plan.index.0,
        first: plan.first.0,
        last: plan.last.0,
        access: match plan.access {
            Access::Read => abi::QUIRE_ACCESS_READ,
            Access::Write => abi::QUIRE_ACCESS_WRITE,
            Access::Exec => abi::QUIRE_ACCESS_EXEC,
        },
        max_prot: rights(plan.max_prot),
        page_size: PAGE_SIZE,
        reserved: 0,
        host: &raw const host.api,
    }
}

fn rights(prot: Prot) -> u32 {
    [
        (Prot::READ, abi::QUIRE_ACCESS_READ),
        (Prot::WRITE, abi::QUIRE_ACCESS_WRITE),
        (Prot::EXEC, abi::QUIRE_ACCESS_EXEC),
    ]
    .into_iter()
    .filter(|(right, _)| prot.contains(*right))
    .fold(0, |all, (_, bit)| all | bit)
}
