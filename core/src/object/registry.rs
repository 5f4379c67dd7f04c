//! What an engine has: its objects by age, the named ones by name, and those that are only kept.
//!
//! Under the registry's lock an object is found by its name and taken, or put among the kept ones if nobody uses it; so that
//! of those who attach and detach at the same time each sees the other's step whole.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::life::Gone;
use super::{Identity, Object};
use crate::alloc_fallible::try_reserve;
use crate::error::{Error, Result};
use crate::pager::Change;
use crate::types::ObjectId;

/// How many objects without users are kept unless somebody says otherwise. Each may hold a file open.
const CACHE_LIMIT: usize = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    /// In ascending order of id. Those that were removed leave gaps, of which there are no more than objects: so that to remove one
    /// of very many costs little.
    objects: Vec<(ObjectId, Option<Arc<Object>>)>,
    gaps: usize,
    named: HashMap<(u64, Identity), ObjectId>,
    /// Kept objects, oldest first, each with its stamp. Of those whose object has another stamp by now nothing is meant.
    kept: VecDeque<(u64, ObjectId)>,
    /// How many are meant.
    kept_count: usize,
    limit: usize,
    /// The last stamp given.
    clock: u64,
}

/// What is there under a name.
pub(super) enum Look {
    Nothing,
    /// Found, and one use taken.
    Taken(Arc<Object>),
    /// Only kept, with a size or contents that are not those it has now.
    Outdated(Arc<Object>),
    Dying(Arc<Object>),
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            objects: Vec::new(),
            gaps: 0,
            named: HashMap::new(),
            kept: VecDeque::new(),
            kept_count: 0,
            limit: CACHE_LIMIT,
            clock: 0,
        }
    }

    /// The objects, oldest first.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter().filter_map(|(_, object)| object.as_ref())
    }

    pub(crate) fn kept_count(&self) -> usize {
        self.kept_count
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The oldest object younger than `id`.
    pub(crate) fn after(&self, id: ObjectId) -> Option<&Arc<Object>> {
        let younger = &self.objects[self.objects.partition_point(|(other, _)| *other <= id)..];
        younger.iter().find_map(|(_, object)| object.as_ref())
    }

    /// Makes room for one more.
    pub(super) fn reserve(&mut self) -> Result<()> {
        try_reserve(&mut self.objects, 1)?;
        self.named.try_reserve(1).map_err(|_| Error::NoMemory)
    }

    /// Puts in an object, for which room was made.
    pub(super) fn insert(&mut self, object: Arc<Object>) {
        if let Some(name) = object.full_name() {
            self.named.insert(name, object.id);
        }
        let at = self.objects.partition_point(|(other, _)| *other < object.id);
        self.objects.insert(at, (object.id, Some(object)));
    }

    /// Takes out a dead object.
    pub(crate) fn remove(&mut self, object: &Arc<Object>) {
        self.remove_name(object);
        if let Ok(at) = self.position(object.id)
            && self.objects[at].1.take().is_some()
        {
            self.gaps += 1;
            if 2 * self.gaps > self.objects.len() {
                self.objects.retain(|(_, object)| object.is_some());
                self.gaps = 0;
            }
        }
    }

    /// Nobody finds it by its name any more.
    pub(crate) fn remove_name(&mut self, object: &Object) {
        self.take_from_kept(object);
        if let Some(name) = object.full_name()
            && self.named.get(&name) == Some(&object.id)
        {
            self.named.remove(&name);
        }
    }

    /// The object of that name.
    pub(super) fn find(&self, name: (u64, Identity)) -> Option<Arc<Object>> {
        let at = self.position(*self.named.get(&name)?).ok()?;
        self.objects[at].1.clone()
    }

    /// Looks for an object of which an opening of today says `size` and `change`, and takes a use of it.
    pub(super) fn take(&mut self, name: (u64, Identity), size: u64, change: Option<Change>) -> Look {
        let Some(object) = self.find(name) else {
            return Look::Nothing;
        };
        if object.is_kept() && (object.size() != size || object.pager.has_changed(change)) {
            self.take_from_kept(&object);
            return Look::Outdated(object);
        }
        match object.life.try_take() {
            Ok(()) => {
                self.take_from_kept(&object);
                Look::Taken(object)
            }
            Err(Gone::Dying) => Look::Dying(object),
            Err(Gone::Dead) => Look::Nothing,
        }
    }

    /// Keeps an object that nobody uses. False when memory to remember it is short.
    pub(crate) fn keep(&mut self, object: &Object) -> bool {
        if object.kept_since.load(Ordering::Acquire) != 0 || object.reference_count() > 0 || !object.life.is_live() {
            return true;
        }
        if self.kept.len() > 2 * self.kept_count + 16 {
            let mut kept = core::mem::take(&mut self.kept);
            kept.retain(|entry| self.is_meant(*entry).is_some());
            self.kept = kept;
        }
        if self.kept.try_reserve(1).is_err() {
            return false;
        }
        self.clock += 1;
        self.kept.push_back((self.clock, object.id));
        self.kept_count += 1;
        object.kept_since.store(self.clock, Ordering::Release);
        true
    }

    /// Takes the oldest out of the kept ones if there are too many.
    pub(crate) fn one_too_many(&mut self) -> Option<Arc<Object>> {
        (self.kept_count > self.limit).then(|| self.oldest_kept()).flatten()
    }

    /// Takes the oldest out of the kept ones.
    pub(super) fn oldest_kept(&mut self) -> Option<Arc<Object>> {
        loop {
            let entry = self.kept.pop_front()?;
            if let Some(object) = self.is_meant(entry).cloned() {
                self.take_from_kept(&object);
                return Some(object);
            }
        }
    }

    fn take_from_kept(&mut self, object: &Object) {
        if object.kept_since.swap(0, Ordering::AcqRel) != 0 {
            self.kept_count -= 1;
        }
    }

    fn is_meant(&self, (stamp, id): (u64, ObjectId)) -> Option<&Arc<Object>> {
        let object = self.objects[self.position(id).ok()?].1.as_ref()?;
        (object.kept_since.load(Ordering::Acquire) == stamp).then_some(object)
    }

    fn position(&self, id: ObjectId) -> Result<usize, usize> {
        self.objects.binary_search_by_key(&id, |(other, _)| *other)
    }
}
