//! The engine: a machine, the objects on it, and the counters.
//!
//! An engine owns nothing global: several may live in one process. It keeps every object on its list until that object
//! is closed, so that nothing dirty is ever out of reach.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::alloc_fallible::try_reserve;
use crate::error::{Error, Result};
use crate::flush::FlushFlags;
use crate::machine::Machine;
use crate::object::{Detached, Object, ObjectRef};
use crate::pagedaemon::Sweep;
use crate::pager::Pager;
use crate::stats::Stats;
use crate::sync::{RegistryLock, SweepLock, Transit};
use crate::types::ObjectId;

/// An engine.
#[derive(Debug)]
pub struct Engine {
    machine: Arc<dyn Machine>,
    stats: Stats,
    /// In ascending order of id.
    objects: RegistryLock<Vec<Arc<Object>>>,
    pub(crate) sweep: SweepLock<Sweep>,
    /// Puts under way, whose pages can be taken afterwards.
    pub(crate) puts: Transit,
}

impl Engine {
    /// An engine on `machine`, with no objects.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine>) -> Arc<Self> {
        Arc::new(Self {
            machine,
            stats: Stats::new(),
            objects: RegistryLock::new(Vec::new()),
            sweep: SweepLock::new(Sweep::default()),
            puts: Transit::new(),
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

    /// A new object of `size` bytes over `pager`, and its first use.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the pager is dropped then, and not closed.
    pub fn create_object(self: &Arc<Self>, pager: Box<dyn Pager>, size: u64) -> Result<ObjectRef> {
        let object = Arc::new(Object::new(self.clone(), pager, size));
        let mut objects = self.objects.lock();
        try_reserve(&mut objects, 1)?;
        let at = objects.partition_point(|other| other.id() < object.id());
        // Counted before it is on the list: nobody who finds it there takes it for unused.
        let first_use = ObjectRef::new(object.clone());
        objects.insert(at, object);
        Ok(first_use)
    }

    /// Writes what is dirty in every object, and closes those that only stayed because their last writing failed. All
    /// objects are tried. May block.
    ///
    /// # Errors
    /// The first failure; what could not be written is kept, dirty.
    pub fn sync(&self, flags: FlushFlags) -> Result<()> {
        let mut failure = None;
        self.for_each_object(|object| {
            let written = match object.reference_count() {
                0 => object.detach(flags),
                _ => Ok(Detached::InUse),
            };
            let written = match written {
                Ok(Detached::InUse) => object.flush_all(flags),
                Ok(Detached::Gone) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                failure.get_or_insert(error);
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// Ends the engine's work: writes everything and closes every object. May block.
    ///
    /// # Errors
    /// [`Error::InUse`] while a map or a handle refers to an object; nothing is changed. [`Error::WriteBack`] when dirty pages could not be
    /// written: the engine goes on, with those pages, so that the cause can be mended and the call repeated; or see [`Engine::discard_all`].
    pub fn shut_down(&self) -> Result<()> {
        self.check_unused()?;
        self.sync(FlushFlags::empty())
    }

    /// Closes every object, with what is dirty in them.
    ///
    /// # Errors
    /// [`Error::InUse`] as for [`Engine::shut_down`]. A pager's answer to close; the objects are gone all the same.
    pub fn discard_all(&self) -> Result<()> {
        self.check_unused()?;
        let mut failure = None;
        self.for_each_object(|object| {
            if let Err(error) = object.discard() {
                failure.get_or_insert(error);
            }
        });
        failure.map_or(Ok(()), Err)
    }

    /// How many objects are on the list, and how many of them stay only because their last writing failed.
    #[must_use]
    pub fn object_counts(&self) -> (usize, usize) {
        let objects = self.objects.lock();
        (
            objects.len(),
            objects.iter().filter(|object| object.reference_count() == 0).count(),
        )
    }

    fn check_unused(&self) -> Result<()> {
        let objects = self.objects.lock();
        if objects.iter().any(|object| object.reference_count() != 0) {
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
        let objects = self.objects.lock();
        objects
            .get(objects.partition_point(|object| object.id() <= id))
            .cloned()
    }

    /// Takes a closed object off the list.
    pub(crate) fn forget(object: &Arc<Object>) {
        let mut objects = object.engine().objects.lock();
        let at = objects.partition_point(|other| other.id() < object.id());
        if objects.get(at).is_some_and(|found| Arc::ptr_eq(found, object)) {
            objects.remove(at);
        }
    }
}
