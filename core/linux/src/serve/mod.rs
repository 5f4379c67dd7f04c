//! Who resolves the faults of a map.
//!
//! - [`threads`]: threads of ours read them from a userfaultfd. Right for every fault, also one that is taken inside a
//!   system call or by a guest of KVM.
//! - [`in_thread`]: the thread that faults resolves its fault itself, in a handler of `SIGBUS`. Several times faster, but a
//!   system call that touches a page which is not there fails with `EFAULT`.
//!
//! An access to memory of a device that is being taken away waits for the end of that ([`moving`]), whoever serves.
//!
//! Both end in [`Map::fault`]. What it answers is final for that access: a failure becomes `SIGBUS` at the address, and the
//! next access asks again.

mod in_thread;
pub(crate) mod moving;
mod signals;
mod threads;
mod workers;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use quire_core::error::{Error, FaultError, Result};
use quire_core::fault::Resolved;
use quire_core::machine::Serve;
use quire_core::map::Map;
use quire_core::types::{Access, VirtAddr};

use crate::layout::Channel;
use crate::pmap::LinuxPmap;
use threads::Crew;
use workers::Workers;

/// The service of one map. Ended with [`Server::stop`], after the map was cleared; dropping it does so without waiting.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What the threads of a service and its pmap know of it.
#[derive(Debug)]
pub(crate) struct Shared {
    map: Arc<Map>,
    crew: Crew,
    workers: Workers,
}

impl Server {
    /// Serves a map of a [`LinuxMachine`](crate::LinuxMachine) from now on; a map that is not served takes no mappings.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a map of another machine, or one that is served.
    pub fn start(map: Arc<Map>) -> Result<Self> {
        let shared = Arc::new(Shared {
            map,
            crew: Crew::new(),
            workers: Workers::new(),
        });
        let pmap = shared
            .pmap()
            .ok_or(Error::Invalid("the map is not one of the Linux machine"))?;
        if !pmap.set_server(Arc::downgrade(&shared)) {
            return Err(Error::Invalid("the map is served already"));
        }
        if !in_thread::enlist(&shared) {
            return Err(Error::Unsupported(
                "too many maps are served in this process; destroy some first",
            ));
        }
        Ok(Self { shared })
    }

    /// Ends the service and waits for its threads. Nothing may be mapped in the map any more. Blocks for as long as faults that are
    /// being resolved need, and at most for `patience`.
    ///
    /// # Errors
    /// [`Error::InUse`] when something is mapped: nothing was changed then; and when faults still wait for their pager: terminate their objects, and call again.
    pub fn stop(&self, patience: Duration) -> Result<()> {
        if self.shared.map.entry_count() > 0 {
            // Threads that touch what is mapped would wait for ever.
            return Err(Error::InUse("the map still has mappings; clear it first"));
        }
        let until = Instant::now().checked_add(patience);
        let left = || until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        // Handlers wait for workers, and workers for pagers: in this order.
        let ended = in_thread::dismiss(&self.shared, patience)
            && self.shared.workers.stop(left())
            && self.shared.crew.stop(left());
        if ended {
            Ok(())
        } else {
            Err(Error::InUse(
                "faults of the map still wait for a pager; terminate its objects and try again",
            ))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Faults that wait for ever keep their thread and what it needs; nobody else is kept.
        let _ = self.stop(Duration::ZERO);
    }
}

impl Shared {
    fn pmap(&self) -> Option<&LinuxPmap> {
        self.map.pmap().as_any().downcast_ref()
    }

    /// Serves a userfaultfd that was made for a layout.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when no thread can be had.
    pub(crate) fn serve(self: &Arc<Self>, channel: &Arc<Channel>) -> Result<()> {
        match channel.serve {
            Serve::Threads => threads::serve(self, channel),
            Serve::InThread => {
                workers::start_first(self)?;
                in_thread::listen()
            }
        }
    }

    /// Resolves a fault that a thread waits for. A failure is left at the address.
    fn resolve(self: &Arc<Self>, va: VirtAddr, access: Access, channel: &Channel) {
        let Some(pmap) = self.pmap() else { return };
        match self.settled(va, access) {
            // What was entered has woken whoever waits, unless it was laid out anew meanwhile, to be served otherwise.
            Some(Ok(_)) if pmap.comes_to(va, channel) => {}
            Some(Ok(_)) | None => channel.wake(va),
            Some(Err(_)) => self.leave_failure(va, channel),
        }
    }

    /// An access that a thread waits for fails.
    fn leave_failure(self: &Arc<Self>, va: VirtAddr, channel: &Channel) {
        if self.pmap().is_some_and(|pmap| pmap.poison(va, channel)) {
            threads::sweep_later(self);
        }
    }

    /// Resolves a fault, unless the map was changed so that the kernel itself knows what to do with the access: then nothing.
    fn settled(&self, va: VirtAddr, access: Access) -> Option<std::result::Result<Resolved, FaultError>> {
        let answer = self.map.fault(va, access);
        if !matches!(answer, Err(FaultError::NotMapped(_) | FaultError::Denied(_))) {
            return Some(answer);
        }
        let pmap = self.pmap()?;
        if pmap.is_owed(va) {
            return Some(answer);
        }
        // Asked again: rights may have come since. If they are still too few, the kernel knows fewer rights than the engine.
        pmap.kernel_allows(va, access).then(|| self.map.fault(va, access))
    }
}

/// How a pmap finds its service.
pub(crate) type ServerRef = Weak<Shared>;
