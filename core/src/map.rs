//! An address space: entries that show objects, and the pmap that holds their translations.
//!
//! Operations change the entries under the map's lock and the pmap along with them, raise the version, and let go of
//! objects only after the lock is dropped, because the last use of an object writes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::amap::Amap;
use crate::engine::Engine;
use crate::entering::Entering;
use crate::error::{Error, Result};
use crate::fault::entry_is_gone;
use crate::interrupt_safe::Listed;
use crate::machine::{Pmap, Serve};
use crate::map_entry::{Attributes, MapEntry};
use crate::map_ops::{Entries, Place};
use crate::object::ObjectRef;
use crate::shown::{Shown, Upper};
use crate::sync::{MapLock, MapReadGuard, MapWriteGuard, assert_no_locks_held};
use crate::types::{AddrRange, Advice, ByteOff, Inherit, PAGE_SIZE, Prot, VirtAddr};

/// Where writes to a mapping go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Sharing {
    /// To the object, for all to see.
    #[default]
    Shared,
    /// To memory of the mapping's own: a page is copied before it is written.
    Private,
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
    /// Where writes go.
    pub sharing: Sharing,
    /// The rights.
    pub prot: Prot,
    /// The most that the rights may be raised to.
    pub max_prot: Prot,
    /// What a fork does with it. A copy is the default, also of what is shared: who wants what mmap does says [`Inherit::Share`] there.
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
            sharing: Sharing::default(),
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

    fn attributes(&self) -> Attributes {
        Attributes {
            wired: 0,
            prot: self.prot,
            max_prot: self.max_prot,
            inherit: self.inherit,
            advice: self.advice,
        }
    }
}

/// An address space.
#[derive(Debug)]
pub struct Map {
    engine: Arc<Engine>,
    pmap: Arc<dyn Pmap>,
    entries: MapLock<Entries<Shown>>,
    version: AtomicU64,
    /// Its place on the engine's list, if it is interrupt-safe.
    interrupt_safe: Option<Listed>,
    /// What is mapped from now on is wired at once.
    wires_all: AtomicBool,
}

impl Map {
    /// An empty map for addresses in `range`, whose ends are page aligned.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that is empty or not page aligned, or which the machine cannot translate; [`Error::NoMemory`].
    pub fn new(engine: Arc<Engine>, range: AddrRange) -> Result<Self> {
        let entries = Entries::new(range)?;
        let pmap = engine.machine().clone().pmap_create(range)?;
        Ok(Self::with_entries(engine, pmap, entries))
    }

    /// A map with these entries, of which nothing is mapped yet.
    pub(crate) fn with_entries(engine: Arc<Engine>, pmap: Arc<dyn Pmap>, entries: Entries<Shown>) -> Self {
        Self {
            engine,
            pmap,
            entries: MapLock::new(entries),
            version: AtomicU64::new(0),
            interrupt_safe: None,
            wires_all: AtomicBool::new(false),
        }
    }

    /// An empty map for memory that interrupt handlers use: a fault in it fails at once and takes no lock ([`InterruptSafe`](crate::error::FaultError::InterruptSafe)), so that
    /// whatever is mapped there has to be wired ([`Map::wire`]) before it is used. Its range is on the list that
    /// [`Engine::is_interrupt_safe`] asks.
    ///
    /// # Errors
    /// As [`Map::new`]; [`Error::NoMemory`] also when the engine has 64 such maps.
    pub fn new_interrupt_safe(engine: Arc<Engine>, range: AddrRange) -> Result<Self> {
        let mut map = Self::new(engine, range)?;
        map.interrupt_safe = Some(map.engine.interrupt_safe().list(range)?);
        Ok(map)
    }

    /// Whether faults in it fail at once.
    #[must_use]
    pub fn is_interrupt_safe(&self) -> bool {
        self.interrupt_safe.is_some()
    }

    pub(crate) fn wires_all(&self) -> &AtomicBool {
        &self.wires_all
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

    pub(crate) fn write(&self) -> MapWriteGuard<'_, Entries<Shown>> {
        self.entries.write()
    }

    pub(crate) fn read(&self) -> MapReadGuard<'_, Entries<Shown>> {
        self.entries.read()
    }

    /// Maps a part of an object and answers with its range. The entry takes a use of its own of the object.
    ///
    /// # Errors
    /// Those of [`Entries::enter`]; [`Error::Unsupported`] for write access to an object that cannot be written, unless the mapping is
    /// private; on a machine
    /// with real addresses [`Error::Occupied`] also for what the process uses otherwise. Nothing was changed then, but when such a
    /// machine has no memory to show the object where it replaces something: that has been unmapped. With [`Place::Fixed`],
    /// [`Error::WriteBack`] tells that the mapping was made and what it replaced could not be written.
    pub fn map(&self, object: &ObjectRef, request: &MapRequest) -> Result<AddrRange> {
        let is_shared = request.sharing == Sharing::Shared;
        if is_shared && request.max_prot.contains(Prot::WRITE) && !object.takes_writes() {
            return Err(Error::Unsupported(
                "the object is read-only; leave write access out of the protection and its maximum, or map it privately",
            ));
        }
        if !Arc::ptr_eq(object.engine(), &self.engine) {
            return Err(Error::Invalid("the object and the map belong to different engines"));
        }
        let shown = if is_shared {
            Shown::shared(object.clone())
        } else {
            Shown::private(Some(object.clone()), None)
        };
        self.request(shown, request)
    }

    /// Maps memory that begins as zeros and belongs to this mapping alone. The request's offset and sharing have no meaning. Next to memory
    /// of the same kind and with the same attributes it becomes one entry with it.
    ///
    /// # Errors
    /// As [`Map::map`].
    pub fn map_anonymous(&self, request: &MapRequest) -> Result<AddrRange> {
        let offset = ByteOff(0);
        self.request(Shown::private(None, None), &MapRequest { offset, ..*request })
    }

    fn request(&self, mut shown: Shown, request: &MapRequest) -> Result<AddrRange> {
        let may_be_written = request.max_prot.contains(Prot::WRITE);
        if shown.as_private().is_some() && self.pmap.is_linear() && (may_be_written || shown.below.is_none()) {
            shown = Shown::private(shown.below, Some(Amap::alone(&self.engine)?));
        }
        self.enter([Entering {
            place: request.place,
            len: request.len,
            offset: request.offset,
            attr: request.attributes(),
            serve: request.serve,
            shown,
            is_counted: false,
            unused: None,
        }])
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

    /// Unmaps what was mapped a moment ago, and is not to stay: without memory as well, as far as no neighbour has become one with it.
    pub(crate) fn take_back(&self, range: AddrRange) {
        if self.unmap(range.start, range.len()).is_ok() {
            return;
        }
        loop {
            let mut entries = self.entries.write();
            let Some(entry) = entries.pop_inside(range) else { break };
            // As for a map that goes, there is nobody to hear of what could not be written; it stands on the engine's list.
            let _ = self.let_go_of(entries, entry);
        }
    }

    /// Unmaps an entry that has been taken out.
    fn let_go_of(&self, entries: MapWriteGuard<'_, Entries<Shown>>, entry: MapEntry<Shown>) -> Result<()> {
        self.pmap.remove(entry.range);
        self.pmap.give_back(entry.range);
        entry_is_gone(&entry);
        self.changed(entries);
        release_entry(entry)
    }

    /// Gives `len` bytes from `start` another protection. Rights that go are taken at once; rights that come are found by the next fault.
    ///
    /// # Errors
    /// Those of [`Entries::protect`]; nothing was changed then. Only when the machine itself has no memory for it, which
    /// [`Error::NoMemory`] says as well, the first part of the range may have been changed; the rest is as it was.
    pub fn protect(&self, start: VirtAddr, len: u64, prot: Prot) -> Result<()> {
        let mut entries = self.entries.write();
        let outcome = entries.protect(start, len, prot, |range, _| self.pmap.protect(range, prot));
        if prot.contains(Prot::WRITE) && self.pmap.is_linear() {
            self.note_writable(&entries, start, len);
        }
        self.changed(entries);
        outcome
    }

    /// What is mapped in the range can be written from now on, without a fault that would say so: on a machine that lays ranges
    /// out. After the right was given, so that whoever finds a page clean meanwhile does not have the last word.
    fn note_writable(&self, entries: &Entries<Shown>, start: VirtAddr, len: u64) {
        let Some(range) = AddrRange::sized(start, len) else {
            return;
        };
        for entry in entries.iter(range) {
            if let (Upper::Shared, Some(object)) = (&entry.backing.upper, &entry.backing.below) {
                object.object().note_all_writable(entry.places_in(range));
            }
        }
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
            if let Err(error) = self.let_go_of(entries, entry) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    pub(crate) fn remove_translations(&self, removed: &[MapEntry<Shown>]) {
        for entry in removed {
            self.pmap.remove(entry.range);
            entry_is_gone(entry);
        }
    }

    /// Ends a change: the version rises before anyone else sees the entries.
    pub(crate) fn changed(&self, entries: MapWriteGuard<'_, Entries<Shown>>) {
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(entries);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // What could not be written stands on the engine's list; `clear` is the way to hear of it.
        let _ = self.clear();
        if let Some(listed) = &self.interrupt_safe {
            self.engine.interrupt_safe().forget(listed);
        }
    }
}

/// Gives the uses of removed entries back, all of them; the first failure is the answer.
pub(crate) fn release(removed: Vec<MapEntry<Shown>>) -> Result<()> {
    let mut failure = None;
    for entry in removed {
        if let Err(error) = release_entry(entry) {
            failure.get_or_insert(error);
        }
    }
    failure.map_or(Ok(()), Err)
}

fn release_entry(entry: MapEntry<Shown>) -> Result<()> {
    let places = entry.places();
    entry.backing.release(&places)
}
