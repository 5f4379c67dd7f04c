//! The engine: a machine, the objects on it, and the counters.
//!
//! An engine owns nothing global: several may live in one process. It keeps every object on its list until that object
//! is closed, so that nothing dirty is ever out of reach.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::error::{Error, Result};
use crate::flush::FlushFlags;
use crate::interrupt_safe::InterruptSafe;
use crate::machine::Machine;
use crate::object::{Object, ObjectRef, Opening, Registry};
use crate::pagedaemon::{EngineOptions, Memory};
use crate::pager::Pager;
use crate::read_ahead::Plans;
use crate::requests::Requests;
use crate::stats::Stats;
use crate::swap::Swap;
use crate::sync::{CallLock, RegistryGuard, RegistryLock};
use crate::types::ObjectId;

/// An engine.
#[derive(Debug)]
pub struct Engine {
    machine: Arc<dyn Machine>,
    stats: Stats,
    registry: RegistryLock<Registry>,
    /// One sync at a time (S133).
    syncing: CallLock,
    /// Which pages can be taken, and who waits for memory.
    pub(crate) memory: Memory,
    requests: Requests,
    plans: Plans,
    interrupt_safe: InterruptSafe,
    swap: Arc<Swap>,
}

impl Engine {
    /// An engine on `machine`, with no objects, and without a thread.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine>) -> Arc<Self> {
        Self::make(machine, &EngineOptions::default())
    }

    /// An engine on `machine`, with no objects.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when the page daemon's thread cannot be had; [`Error::Unsupported`] when there are no threads here.
    pub fn with_options(machine: Arc<dyn Machine>, options: &EngineOptions) -> Result<Arc<Self>> {
        if cfg!(not(feature = "std")) && options.fault_timeout.is_some() {
            return Err(Error::Unsupported(
                "an engine without the standard library has no clock for a time-out",
            ));
        }
        let engine = Self::make(machine, options);
        if options.daemon_thread {
            engine.start_daemon()?;
        }
        Ok(engine)
    }

    fn make(machine: Arc<dyn Machine>, options: &EngineOptions) -> Arc<Self> {
        Arc::new_cyclic(|engine| Self {
            memory: Memory::new(machine.frame_counts(), options),
            machine,
            stats: Stats::new(),
            registry: RegistryLock::new(Registry::new()),
            syncing: CallLock::new(),
            requests: Requests::new(options),
            plans: Plans::new(),
            swap: Swap::new(engine.clone()),
            interrupt_safe: InterruptSafe::new(),
        })
    }

    /// The machine it runs on.
    #[must_use]
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(crate) fn interrupt_safe(&self) -> &InterruptSafe {
        &self.interrupt_safe
    }

    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    pub(crate) fn swap(&self) -> &Arc<Swap> {
        &self.swap
    }

    /// A new object of `size` bytes over `pager`, without a name, and its first use.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the pager has been closed then.
    pub fn create_object(self: &Arc<Self>, pager: Box<dyn Pager>, size: u64) -> Result<ObjectRef> {
        self.attach(Opening {
            pager,
            source: 0,
            identity: None,
            size,
            change: None,
        })
    }

    /// Writes what is dirty in every object that can be written, one object after the other, and tries those again that
    /// only stayed because they could not be closed. Objects that are being closed by somebody else are left to them
    /// (S135). All others are tried. One sync runs at a time; a second caller waits for the first (S133). May block.
    ///
    /// # Errors
    /// The first failure; what could not be written is kept, dirty. [`Error::InUse`] when called by a pager from inside a sync.
    pub fn sync(&self, flags: FlushFlags) -> Result<()> {
        let Some(_one) = self.syncing.enter() else {
            return Err(Error::InUse(
                "a pager called for a sync from inside a sync; it has to return first",
            ));
        };
        let mut failure = None;
        self.for_each_object(|object| {
            if let Err(error) = sync_object(object, flags) {
                failure.get_or_insert(error);
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Ends the engine's work: writes everything, closes every object, kept ones as well, and every swap area, and ends the page
    /// daemon's thread.
    /// May block.
    ///
    /// # Errors
    /// [`Error::InUse`] while a map or a handle refers to an object; nothing is changed. [`Error::WriteBack`] when dirty pages could not be
    /// written: the engine goes on, with those pages, so that the cause can be mended and the call repeated; or see [`Engine::discard_all`].
    pub fn shut_down(&self) -> Result<()> {
        self.check_unused()?;
        self.sync(FlushFlags::empty())?;
        let mut failure = None;
        self.for_each_object(|object| {
            if let Err(error) = object.end_unused_for_certain() {
                failure.get_or_insert(error);
            }
        });
        self.end(failure)
    }

    /// Closes every object, with what is dirty in them, and every swap area, and ends the page daemon's thread.
    ///
    /// # Errors
    /// [`Error::InUse`] as for [`Engine::shut_down`]. A pager's answer to close; the objects are gone all the same, and the
    /// thread goes on.
    pub fn discard_all(&self) -> Result<()> {
        self.check_unused()?;
        let mut failure = None;
        self.for_each_object(|object| {
            if let Err(error) = object.discard() {
                failure.get_or_insert(error);
            }
        });
        self.end(failure)
    }

    /// What comes when every object is closed, unless one could not be.
    fn end(&self, failure: Option<Error>) -> Result<()> {
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.memory.stop_daemon();
        self.swap.close_all()
    }

    /// How many objects without users are kept with their pages, for whoever attaches them next. 0 keeps none. What is too
    /// many is closed at once, oldest first; that may block. Without this call it is 128.
    pub fn set_cache_limit(&self, objects: usize) {
        self.registry().set_limit(objects);
        self.trim_cache();
    }

    /// How many objects without users are kept.
    #[must_use]
    pub fn kept_count(&self) -> usize {
        self.registry().kept_count()
    }

    /// How many objects are on the list, and how many of them stay only because their last writing failed.
    #[must_use]
    pub fn object_counts(&self) -> (usize, usize) {
        let registry = self.registry();
        let waiting = registry.objects().filter(|object| object.waits_for_its_end()).count();
        (registry.objects().count(), waiting)
    }

    fn check_unused(&self) -> Result<()> {
        let registry = self.registry();
        if registry.objects().any(|object| object.reference_count() != 0) {
            return Err(Error::InUse(
                "the engine still has mapped or open objects; unmap and release them first",
            ));
        }
        Ok(())
    }

    /// Calls `visit` for every object that is on the list, in order of age, holding nothing.
    pub(crate) fn for_each_object(&self, mut visit: impl FnMut(&Arc<Object>)) {
        let mut last = ObjectId(0);
        while let Some(object) = self.object_after(last) {
            last = object.id();
            visit(&object);
        }
    }

    /// The oldest object younger than `id`.
    pub(crate) fn object_after(&self, id: ObjectId) -> Option<Arc<Object>> {
        self.registry().after(id).cloned()
    }

    pub(crate) fn registry(&self) -> RegistryGuard<'_, Registry> {
        self.registry.lock()
    }

    /// Keeps an object that nobody uses, or closes it when that cannot be.
    pub(crate) fn keep(object: &Arc<Object>) {
        let engine = object.engine();
        object.remember_contents();
        if !engine.registry().keep(object) {
            end_quietly(object);
        }
        engine.trim_cache();
    }

    fn trim_cache(&self) {
        loop {
            let oldest = self.registry().one_too_many();
            match oldest {
                Some(object) => end_quietly(&object),
                None => return,
            }
        }
    }

    /// A dead object is not to be found by its name.
    pub(crate) fn forget_name(object: &Arc<Object>) {
        object.engine().registry().remove_name(object);
    }

    /// Takes a dead object off the list.
    pub(crate) fn forget(object: &Arc<Object>) {
        object.engine().registry().remove(object);
    }
}

/// Closes an object whose user has gone and does not wait for the answer. If it cannot be written, it stays listed; the
/// next sync tells.
fn end_quietly(object: &Arc<Object>) {
    let _ = object.end_unused(FlushFlags::empty());
}

fn sync_object(object: &Arc<Object>, flags: FlushFlags) -> Result<()> {
    if object.waits_for_its_end() {
        return object.detach(flags);
    }
    // Nothing in it can be dirty (S134), or whoever closes it writes it.
    let Some(used) = object.takes_writes().then(|| object.try_use()).flatten() else {
        return Ok(());
    };
    match object.flush_all(flags) {
        Ok(()) => used.release(),
        Err(_) if !object.is_live() => used.release(),
        Err(error) => {
            // Not `release`: as the last use it would try the same once more.
            used.give_back();
            Err(error)
        }
    }
}
