//! One object for one thing: what is open in an engine, by pager and identity.
//!
//! Two objects over one file would each have pages of their own, and one would not see what is written through the
//! other. So whatever opens with the same identity is the same object, also when that one is only kept for pages that
//! could not be written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use quire_bridge::{Open, Opened, PluginModule};
use quire_core::engine::Engine;
use quire_core::object::{Object, ObjectRef};
use quire_core::types::ObjectId;

use crate::fail::{Fail, Result};
use crate::status::QUIRE_ERR_IN_USE;

/// The objects of one engine.
#[derive(Debug, Default)]
pub(crate) struct OpenedList(Mutex<HashMap<Key, Known>>);

/// Which pager, by the address of its module, and which thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    module: usize,
    thing: Thing,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Thing {
    Identity([u64; 2]),
    /// Its pager gives no identity: every opening is a thing of its own.
    Object(ObjectId),
}

#[derive(Debug)]
struct Known {
    object: Weak<Object>,
    writable: bool,
}

impl OpenedList {
    /// Opens something through a pager, or finds it open. May block for as long as the pager does.
    pub(crate) fn open(&self, engine: &Arc<Engine>, module: &Arc<PluginModule>, what: &Open<'_>) -> Result<ObjectRef> {
        let mut opened = module.open(what)?;
        loop {
            match self.enter(engine, module, what.write, opened)? {
                Entered::Object(object) => return Ok(object),
                // Another thread writes the last pages of the same thing. It must not be read before that is done.
                Entered::Closing(again) => opened = again,
            }
            thread::yield_now();
        }
    }

    fn enter(&self, engine: &Arc<Engine>, module: &Arc<PluginModule>, write: bool, opened: Opened) -> Result<Entered> {
        let module = Arc::as_ptr(module).addr();
        let mut known = self.lock();
        if let Some(identity) = opened.identity {
            let thing = Thing::Identity(identity);
            match known.get(&Key { module, thing }).and_then(Known::look) {
                Some(Look::Open(object, writable)) => {
                    // The second opening is closed again, and an object let go, without the lock: both call the pager.
                    drop(known);
                    if write && !writable {
                        return Err(Fail::new(
                            QUIRE_ERR_IN_USE,
                            format!("{} is open for reading only; release that first", object.describe()),
                        ));
                    }
                    return Ok(Entered::Object(object));
                }
                Some(Look::Closing) => return Ok(Entered::Closing(opened)),
                None => {}
            }
        }
        let identity = opened.identity;
        let object = engine.create_object(opened.pager, opened.size)?;
        let thing = identity.map_or(Thing::Object(object.id()), Thing::Identity);
        // Now and then, so that looking through all costs little an opening.
        if known.len().is_power_of_two() {
            known.retain(|_, known| known.is_open());
        }
        let object_known = Known {
            object: Arc::downgrade(object.object()),
            writable: object.is_writable(),
        };
        known.insert(Key { module, thing }, object_known);
        Ok(Entered::Object(object))
    }

    /// How many objects are open through a pager.
    pub(crate) fn count(&self, module: &Arc<PluginModule>) -> usize {
        let module = Arc::as_ptr(module).addr();
        let known = self.lock();
        known
            .iter()
            .filter(|(key, known)| key.module == module && known.is_open())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        // Changed in single steps; a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    Object(ObjectRef),
    Closing(Opened),
}

enum Look {
    Open(ObjectRef, bool),
    Closing,
}

impl Known {
    fn look(&self) -> Option<Look> {
        let object = self.object.upgrade()?;
        match object.try_reference() {
            Some(used) => Some(Look::Open(used, self.writable)),
            None if object.is_closed() => None,
            None => Some(Look::Closing),
        }
    }

    fn is_open(&self) -> bool {
        self.object.upgrade().is_some_and(|object| !object.is_closed())
    }
}
