//! Objects by the names that their plugin was told (`quire_pager_open_args.host_object`).
//!
//! A name is given when an opening begins, and is no other opening's ever after, of any plugin in the process. It stands for the
//! engine's object from when the engine has taken the opening until the plugin's `close` has returned.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use quire_core::alloc_fallible::try_reserve;
use quire_core::error::{Cause, PagerError};
use quire_core::object::Object;
use quire_core::sync::FrameLock;

/// Names an opening to its plugin. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ObjectName(pub(crate) u64);

/// The names of one plugin's openings, in their order, and what they stand for: nothing yet, if nothing can be got from it.
#[derive(Debug, Default)]
pub(crate) struct Named(FrameLock<Vec<(ObjectName, Weak<Object>)>>);

impl Named {
    /// A new name, and room for what it will stand for: [`Named::set`] does not fail.
    ///
    /// # Errors
    /// [`Cause::NoMemory`].
    pub(crate) fn begin(&self) -> Result<ObjectName, PagerError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut names = self.0.lock();
        try_reserve(&mut names, 1).map_err(|_| PagerError::bare(Cause::NoMemory))?;
        // Drawn under the lock: the names of a plugin come in order.
        let name = ObjectName(NEXT.fetch_add(1, Ordering::Relaxed));
        names.push((name, Weak::new()));
        Ok(name)
    }

    /// The object that was made of the opening, or that it has joined.
    pub(crate) fn set(&self, name: ObjectName, object: &Arc<Object>) {
        let mut names = self.0.lock();
        if let Ok(at) = find(&names, name) {
            names[at].1 = Arc::downgrade(object);
        }
    }

    /// What it stands for: nothing before the engine has the opening, and after its close.
    pub(crate) fn get(&self, name: ObjectName) -> Option<Arc<Object>> {
        let names = self.0.lock();
        let at = find(&names, name).ok()?;
        names[at].1.upgrade()
    }

    /// All names that stand for an object.
    ///
    /// # Errors
    /// [`Cause::NoMemory`].
    pub(crate) fn all_of(&self, object: &Arc<Object>) -> Result<Vec<ObjectName>, PagerError> {
        let names = self.0.lock();
        let its = names
            .iter()
            .filter(|entry| ptr::eq(entry.1.as_ptr(), Arc::as_ptr(object)));
        let mut all = Vec::new();
        try_reserve(&mut all, its.clone().count()).map_err(|_| PagerError::bare(Cause::NoMemory))?;
        all.extend(its.map(|entry| entry.0));
        Ok(all)
    }

    /// The opening is closed. Once more is no harm.
    pub(crate) fn forget(&self, name: ObjectName) {
        let mut names = self.0.lock();
        let forgotten = find(&names, name).ok().map(|at| names.remove(at));
        drop(names);
        drop(forgotten);
    }
}

fn find(names: &[(ObjectName, Weak<Object>)], name: ObjectName) -> Result<usize, usize> {
    names.binary_search_by_key(&name, |entry| entry.0)
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::String;

    use quire_core::engine::Engine;
    use quire_core::io::Io;
    use quire_core::pager::{Answer, Pager, PagerOps};
    use quire_core::soft::{SoftConfig, SoftMachine};

    use super::*;

    /// A pager that enters itself, as a plugin's object does.
    #[derive(Debug)]
    struct Entering(Arc<Named>, ObjectName);

    impl Pager for Entering {
        fn describe(&self) -> String {
            "entering".into()
        }

        fn ops(&self) -> PagerOps {
            PagerOps::empty()
        }

        fn max_run(&self) -> u32 {
            1
        }

        fn get(&self, _io: &Arc<Io>) -> Answer {
            Answer::Done(Ok(()))
        }

        fn attached(&self, object: &Arc<Object>) {
            self.0.set(self.1, object);
        }

        fn close(&self) -> Result<(), PagerError> {
            self.0.forget(self.1);
            Ok(())
        }
    }

    #[test]
    fn a_name_stands_for_its_object_from_attaching_to_closing_and_never_again() {
        let named = Arc::new(Named::default());
        let engine = Engine::new(SoftMachine::new(SoftConfig::default()).unwrap());
        let (first, second) = (named.begin().unwrap(), named.begin().unwrap());
        assert!(first < second && first.0 != 0);
        assert!(named.get(first).is_none(), "the engine has it not yet");
        let object = engine
            .create_object(Box::new(Entering(named.clone(), first)), 4096)
            .unwrap();
        assert!(Arc::ptr_eq(&named.get(first).unwrap(), object.object()));
        assert!(named.get(second).is_none());
        object.release().unwrap();
        assert!(named.get(first).is_none(), "closed");
        named.forget(second);
        assert!(named.begin().unwrap() > second);
    }
}
