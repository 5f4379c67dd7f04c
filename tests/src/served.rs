//! A map that works on every machine: on real memory it has a service, and what is mapped is served as the test's mode says.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quire_core::engine::Engine;
use quire_core::error::Result;
use quire_core::fork::CopyRequest;
use quire_core::map::{Map, MapRequest};
use quire_core::map_ops::Place;
use quire_core::object::ObjectRef;
use quire_core::types::{AddrRange, PAGE_SIZE, VirtAddr};
use quire_linux::Server;

use crate::{BASE, Mode, TOP};

/// A map and who serves it.
#[derive(Debug)]
pub struct ServedMap {
    map: Arc<Map>,
    server: Option<Server>,
    mode: Mode,
    base: VirtAddr,
}

/// What a test has to itself for fixed places, in the process that it shares with others.
const FIXED: u64 = 1 << 34;

impl ServedMap {
    /// A map for all addresses.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, mode: Mode) -> Self {
        let (start, end) = (VirtAddr(BASE), VirtAddr(TOP));
        let base = if mode.is_linux() { Self::own_addresses() } else { start };
        let mut map = Self::with_range(engine, mode, AddrRange { start, end });
        map.base = base;
        map
    }

    /// The map itself, for a pager's script that works on it while it is used.
    #[must_use]
    pub fn shared(&self) -> Arc<Map> {
        self.map.clone()
    }

    /// A map that has so many bytes of addresses and no more.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn of_len(engine: &Arc<Engine>, mode: Mode, len: u64) -> Self {
        let start = if mode.is_linux() {
            Self::own_addresses()
        } else {
            VirtAddr(BASE)
        };
        let end = VirtAddr(start.0 + len);
        Self::with_range(engine, mode, AddrRange { start, end })
    }

    /// Addresses that no other test of the process uses.
    fn own_addresses() -> VirtAddr {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Far from where the kernel puts programs and what they map; used in turns.
        VirtAddr((1 << 44) + NEXT.fetch_add(1, Ordering::Relaxed) % 2048 * FIXED)
    }

    fn with_range(engine: &Arc<Engine>, mode: Mode, range: AddrRange) -> Self {
        let map = Arc::new(Map::new(engine.clone(), range).expect("a map"));
        let server = mode.is_linux().then(|| Server::start(map.clone()).expect("a service"));
        Self {
            map,
            server,
            mode,
            base: range.start,
        }
    }

    /// Where fixed places may lie that nobody else uses.
    #[must_use]
    pub fn base(&self) -> VirtAddr {
        self.base
    }

    /// As [`Map::map`], served as the mode says.
    ///
    /// # Errors
    /// Those of [`Map::map`].
    pub fn map(&self, object: &ObjectRef, request: &MapRequest) -> Result<AddrRange> {
        let serve = self.mode.serve();
        self.map.map(object, &MapRequest { serve, ..*request })
    }
}

impl ServedMap {
    /// As [`Map::map_anonymous`], served as the mode says.
    ///
    /// # Errors
    /// Those of [`Map::map_anonymous`].
    pub fn map_anonymous(&self, request: &MapRequest) -> Result<AddrRange> {
        let serve = self.mode.serve();
        self.map.map_anonymous(&MapRequest { serve, ..*request })
    }

    /// A copy of `len` bytes from `start`, somewhere else in this map, served as the mode says.
    ///
    /// # Errors
    /// Those of [`Map::copy_to`].
    pub fn copied(&self, start: VirtAddr, len: u64) -> Result<VirtAddr> {
        let place = Place::Anywhere {
            hint: VirtAddr(0),
            align: PAGE_SIZE,
        };
        let serve = self.mode.serve();
        let request = CopyRequest {
            start,
            len,
            place,
            serve,
        };
        self.map.copy_to(&self.map, &request).map(|range| range.start)
    }
}

impl Deref for ServedMap {
    type Target = Map;

    fn deref(&self) -> &Map {
        &self.map
    }
}

impl Drop for ServedMap {
    fn drop(&mut self) {
        // Who wants to know what could not be written has cleared it.
        let _ = self.map.clear();
        let Some(server) = self.server.take() else { return };
        let stopped = server.stop(Duration::from_secs(10));
        if !std::thread::panicking() {
            stopped.expect("no fault waits any more");
        }
    }
}
