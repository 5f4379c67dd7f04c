//! An address space: entries that show objects, and the pmap that holds their translations.
//!
//! Operations change the entries under the map's lock and the pmap along with them, raise the version, and let go of
//! objects only after the lock is dropped, because the last use of an object writes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fault::entry_is_gone;
use crate::machine::{Layout, Pmap, Serve};
use crate::map_entry::{Attributes, Backing, MapEntry};
use crate::map_ops::{Entries, NewEntry, Place};
use crate::object::ObjectRef;
use crate::sync::{MapLock, MapReadGuard, MapWriteGuard, assert_no_locks_held};
use crate::types::{AddrRange, Advice, ByteOff, Inherit, PAGE_SIZE, Prot, VirtAddr};

impl Backing for ObjectRef {
    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

/// A mapping to be made.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Where.
    pub place: Place,
    /// Bytes; rounded up to whole pages.
    pub len: u64,
    /// Which byte of the object comes first. Page aligned.
    pub offset: ByteOff,
    /// The rights.
    pub prot: Prot,
    /// The most that the rights may be raised to.
    pub max_prot: Prot,
    /// What a fork does with it.
    pub inherit: Inherit,
    /// What is known of future accesses.
    pub advice: Advice,
    /// Who resolves its faults, on a machine with real addresses.
    pub serve: Serve,
}

impl MapRequest {
    /// `len` bytes from the object's start, anywhere, to be read.
    #[must_use]
    pub fn read_only(len: u64) -> Self {
        Self {
            place: Place::Anywhere {
                hint: VirtAddr(0),
                align: PAGE_SIZE,
            },
            len,
            offset: ByteOff(0),
            prot: Prot::READ,
            max_prot: Prot::READ,
            inherit: Inherit::default(),
            advice: Advice::default(),
            serve: Serve::default(),
        }
    }

    /// `len` bytes from the object's start, anywhere, to be read and written.
    #[must_use]
    pub fn read_write(len: u64) -> Self {
        let prot = Prot::READ | Prot::WRITE;
        Self {
            prot,
            max_prot: prot,
            ..Self::read_only(len)
        }
    }
}

/// An address space.
#[derive(Debug)]
pub struct Map {
    engine: Arc<Engine>,
    pmap: Arc<dyn Pmap>,
    entries: MapLock<Entries<ObjectRef>>,
    version: AtomicU64,
}

impl Map {
    /// An empty map for addresses in `range`, whose ends are page aligned.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that is empty or not page aligned, or which the machine cannot translate; [`Error::NoMemory`].
    pub fn new(engine: Arc<Engine>, range: AddrRange) -> Result<Self> {
        let entries = Entries::new(range)?;
        let pmap = engine.machine().clone().pmap_create(range)?;
        Ok(Self {
            engine,
            pmap,
            entries: MapLock::new(entries),
            version: AtomicU64::new(0),
        })
    }

    /// The engine it belongs to.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Its translations.
    #[must_use]
    pub fn pmap(&self) -> &dyn Pmap {
        &*self.pmap
    }

    /// Raised by every change of its entries.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How many entries it has.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.read().len()
    }

    /// The rights and the rest at an address; nothing where nothing is mapped.
    #[must_use]
    pub fn attributes_at(&self, va: VirtAddr) -> Option<Attributes> {
        self.entries.read().lookup(va).map(|entry| entry.attr)
    }

    pub(crate) fn write(&self) -> MapWriteGuard<'_, Entries<ObjectRef>> {
        self.entries.write()
    }

    pub(crate) fn read(&self) -> MapReadGuard<'_, Entries<ObjectRef>> {
        self.entries.read()
    }

    /// Maps a part of an object and answers with its range. The entry takes a use of its own of the object.
    ///
    /// # Errors
    /// Those of [`Entries::enter`]; [`Error::Unsupported`] for write access to an object that cannot be written; on a machine
    /// with real addresses [`Error::Occupied`] also for what the process uses otherwise. Nothing was changed then, but when such a
    /// machine has no memory to show the object where it replaces something: that has been unmapped. With [`Place::Fixed`],
    /// [`Error::WriteBack`] tells that the mapping was made and what it replaced could not be written.
    pub fn map(&self, object: &ObjectRef, request: &MapRequest) -> Result<AddrRange> {
        assert_no_locks_held("mapping");
        if request.max_prot.contains(Prot::WRITE) && !object.is_writable() {
            return Err(Error::Unsupported(
                "the object is read-only; leave write access out of the protection and its maximum",
            ));
        }
        if !Arc::ptr_eq(object.engine(), &self.engine) {
            return Err(Error::Invalid("the object and the map belong to different engines"));
        }
        let attr = Attributes {
            wired: 0,
            prot: request.prot,
            max_prot: request.max_prot,
            inherit: request.inherit,
            advice: request.advice,
        };
        let new = NewEntry {
            place: request.place,
            len: request.len,
            backing: object,
            offset: request.offset,
            attr,
        };
        let len = new.check()?;
        let mut removed = Vec::new();
        let mut entries = self.entries.write();
        let range = self.claim(&entries, &new, len)?;
        if let Err(error) = entries.make_way(range, &mut removed) {
            self.give_holes_back(&entries, range);
            return Err(error);
        }
        self.remove_translations(&removed);
        // Before the entry, so that there is nothing to undo in the entries; who faults there already waits for the lock.
        let laid = self.pmap.lay(&Layout {
            range,
            owner: object.id(),
            first: request.offset.page(),
            prot: request.prot,
            told_of_writes: object.asks_for_leave(),
            serve: request.serve,
        });
        match &laid {
            Ok(()) => entries.insert(range, &new),
            Err(_) => self.pmap.give_back(range),
        }
        self.changed(entries);
        let released = release(removed);
        laid.and(released).map(|()| range)
    }

    /// Chooses the range of a mapping of `len` bytes, and claims what is not mapped of it.
    fn claim(&self, entries: &Entries<ObjectRef>, new: &NewEntry<'_, ObjectRef>, len: u64) -> Result<AddrRange> {
        if let Place::Anywhere { hint, align } = new.place
            && let Some(start) = self.pmap.find(len, align, hint)?
        {
            let place = Place::FixedNoReplace(start);
            return entries.choose(&NewEntry { place, ..*new }).inspect_err(|_| {
                if let Some(found) = AddrRange::sized(start, len) {
                    self.pmap.give_back(found);
                }
            });
        }
        let range = entries.choose(new)?;
        let mut claimed = range.start;
        let outcome = entries.each_hole(range, |hole| {
            self.pmap.claim(hole)?;
            claimed = hole.end;
            Ok(())
        });
        if let Err(error) = outcome {
            let (start, end) = (range.start, claimed);
            self.give_holes_back(entries, AddrRange { start, end });
            return Err(error);
        }
        Ok(range)
    }

    /// Gives back what was claimed in a range, which is everything that is not mapped.
    fn give_holes_back(&self, entries: &Entries<ObjectRef>, range: AddrRange) {
        let _cannot_fail = entries.each_hole(range, |hole| {
            self.pmap.give_back(hole);
            Ok(())
        });
    }

    /// Unmaps `len` bytes from `start`, rounded up to whole pages; parts that are not mapped are no error. The last use of an
    /// object writes its dirty pages, so this may block.
    ///
    /// # Errors
    /// Those of [`Entries::remove`]; nothing was changed then. [`Error::WriteBack`]: the range is unmapped, and dirty pages of an object whose last use this was are kept on the engine's list.
    pub fn unmap(&self, start: VirtAddr, len: u64) -> Result<()> {
        assert_no_locks_held("unmapping");
        let mut removed = Vec::new();
        let mut entries = self.entries.write();
        entries.remove(start, len, &mut removed)?;
        self.remove_translations(&removed);
        for entry in &removed {
            self.pmap.give_back(entry.range);
        }
        self.changed(entries);
        release(removed)
    }

    /// Gives `len` bytes from `start` another protection. Rights that go are taken at once; rights that come are found by the next fault.
    ///
    /// # Errors
    /// Those of [`Entries::protect`]; nothing was changed then. Only when the machine itself has no memory for it, which
    /// [`Error::NoMemory`] says as well, the first part of the range may have been changed; the rest is as it was.
    pub fn protect(&self, start: VirtAddr, len: u64, prot: Prot) -> Result<()> {
        let mut entries = self.entries.write();
        let outcome = entries.protect(start, len, prot, |range, _| self.pmap.protect(range, prot));
        self.changed(entries);
        outcome
    }

    /// Says what a fork does with `len` bytes from `start`.
    ///
    /// # Errors
    /// Those of [`Entries::inherit`]; nothing was changed then.
    pub fn inherit(&self, start: VirtAddr, len: u64, inherit: Inherit) -> Result<()> {
        let mut entries = self.entries.write();
        entries.inherit(start, len, inherit)?;
        self.changed(entries);
        Ok(())
    }

    /// Says what is known of future accesses to `len` bytes from `start`.
    ///
    /// # Errors
    /// Those of [`Entries::advise`]; nothing was changed then.
    pub fn advise(&self, start: VirtAddr, len: u64, advice: Advice) -> Result<()> {
        let mut entries = self.entries.write();
        entries.advise(start, len, advice)?;
        self.changed(entries);
        Ok(())
    }

    /// Unmaps everything. May block, as [`Map::unmap`].
    ///
    /// # Errors
    /// The first [`Error::WriteBack`]; everything is unmapped all the same.
    pub fn clear(&self) -> Result<()> {
        assert_no_locks_held("clearing a map");
        let mut failure = None;
        loop {
            let mut entries = self.entries.write();
            let Some(entry) = entries.pop_first() else { break };
            self.pmap.remove(entry.range);
            self.pmap.give_back(entry.range);
            entry_is_gone(&entry);
            self.changed(entries);
            if let Err(error) = entry.backing.release() {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn remove_translations(&self, removed: &[MapEntry<ObjectRef>]) {
        for entry in removed {
            self.pmap.remove(entry.range);
            entry_is_gone(entry);
        }
    }

    /// Ends a change: the version rises before anyone else sees the entries.
    pub(crate) fn changed(&self, entries: MapWriteGuard<'_, Entries<ObjectRef>>) {
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(entries);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // What could not be written stands on the engine's list; `clear` is the way to hear of it.
        let _ = self.clear();
    }
}

/// Gives the uses of removed entries back, all of them; the first failure is the answer.
fn release(removed: Vec<MapEntry<ObjectRef>>) -> Result<()> {
    let mut failure = None;
    for entry in removed {
        if let Err(error) = entry.backing.release() {
            failure.get_or_insert(error);
        }
    }
    failure.map_or(Ok(()), Err)
}
