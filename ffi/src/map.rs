//! Maps: address spaces, and what is mapped in them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quire_core::engine::Engine;
use quire_core::error::Error;
use quire_core::machine::Serve;
use quire_core::map::{Map, MapRequest, Sharing};
use quire_core::map_ops::Place;
use quire_core::mapped::{Residency, SyncFlags};
use quire_core::types::{AddrRange, Advice, ByteOff, Inherit, PAGE_SIZE, Prot, VirtAddr, pages_of};

use crate::access::access_kind;
use crate::c::*;
use crate::engine::{EngineState, Shared};
use crate::fail::{Fail, Result, guard};
use crate::handle::{self, NotEnded};
use crate::machine::ServedMap;
use crate::object::ObjectState;
use crate::status::QUIRE_ERR_UNSUPPORTED;

/// What a map's handle stands for.
pub(crate) struct MapState {
    pub(crate) map: Arc<Map>,
    served: ServedMap,
    shared: Arc<Shared>,
}

impl Drop for MapState {
    fn drop(&mut self) {
        self.shared.maps.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The lowest address of a map that was created without a range.
pub const QUIRE_MAP_START: u64 = 0x10000;
/// The first address behind a map that was created without a range.
pub const QUIRE_MAP_END: u64 = 0x8000_0000_0000;

impl MapState {
    /// The handle of a map that was just made.
    pub(crate) fn open(shared: Arc<Shared>, map: Map) -> Result<*mut MapHandle> {
        let served = ServedMap::new(map)?;
        shared.maps.fetch_add(1, Ordering::AcqRel);
        let map = served.map.clone();
        handle::open(Self { map, served, shared })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Makes an empty address space for the addresses from `start` to below `end`, both page aligned; 0 and 0: from
/// `QUIRE_MAP_START` to `QUIRE_MAP_END`. Stores its handle in `out`, to be ended with `quire_map_destroy`. Does not
/// block. INVALID (a range that is empty, not aligned, or above what the machine has: 2^48 on the soft machine);
/// NOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_create(
    engine: *mut EngineHandle,
    start: u64,
    end: u64,
    out: *mut *mut MapHandle,
) -> i32 {
    // SAFETY: this function's contract is the callee's.
    unsafe { create(engine, start, end, out, Map::new) }
}

/// Makes an empty address space for memory that interrupt handlers use: for kernels. A fault in it takes no lock and fails at once with
/// `QUIRE_FAULT_INTERRUPT_SAFE`, so whatever is mapped there has to be wired (`quire_wire`, `quire_wire_all`) before it is used. Its
/// whole range is on the list that `quire_engine_is_interrupt_safe` asks. Otherwise as `quire_map_create`. NOMEM: also when the engine has
/// 64 of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_create_interrupt_safe(
    engine: *mut EngineHandle,
    start: u64,
    end: u64,
    out: *mut *mut MapHandle,
) -> i32 {
    // SAFETY: this function's contract is the callee's.
    unsafe { create(engine, start, end, out, Map::new_interrupt_safe) }
}

/// # Safety
/// `out` is NULL or writable.
unsafe fn create(
    engine: *mut EngineHandle,
    start: u64,
    end: u64,
    out: *mut *mut MapHandle,
    new: impl FnOnce(Arc<Engine>, AddrRange) -> Result<Map, Error>,
) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let shared = handle::get::<EngineState>(engine)?.shared.clone();
        let (start, end) = if (start, end) == (0, 0) {
            (QUIRE_MAP_START, QUIRE_MAP_END)
        } else {
            (start, end)
        };
        if start >= end {
            return Err(Fail::invalid(
                "the map's range is empty; its end has to lie above its start",
            ));
        }
        let range = AddrRange {
            start: VirtAddr(start),
            end: VirtAddr(end),
        };
        let map = new(shared.engine.clone(), range)?;
        let handle = MapState::open(shared, map)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, handle) };
        Ok(())
    })
}

/// Stores in `answer` 1 if `addr` lies in an interrupt-safe map of the engine (`quire_map_create_interrupt_safe`), and else 0: what the
/// fault handler of a kernel asks first, because a fault there cannot be resolved, and the code that was interrupted may hold any lock.
/// Looks at the maps' ranges only, and takes no lock of the engine. On the Linux machine a map may count for a moment after it was destroyed.
/// Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_is_interrupt_safe(engine: *mut EngineHandle, addr: u64, answer: *mut u32) -> i32 {
    guard(|| {
        check_out(answer, "answer")?;
        let state = handle::get::<EngineState>(engine)?;
        let is = state.shared.engine.is_interrupt_safe(VirtAddr(addr));
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(answer, u32::from(is)) };
        Ok(())
    })
}

/// Unmaps everything and ends the address space. May block, as `quire_unmap`. On the Linux machine a thread that touches
/// what was mapped gets SIGSEGV from then on, also one whose fault was being resolved; such faults are waited for, for as
/// long as their pagers need and at most ten seconds. IN_USE: a call with this map has not returned, or a fault still
/// waits for its pager then; the map stays, with nothing mapped: terminate the objects that keep it, and call again. After
/// any other error, which are those of `quire_object_release`, the map has ended all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_destroy(map: *mut MapHandle) -> i32 {
    guard(|| {
        handle::close(map, |state: MapState| {
            let cleared = state.map.clear();
            if let Err(fail) = state.served.stop() {
                return Err(NotEnded::Kept(Box::new(state), fail));
            }
            cleared.map_err(|error| NotEnded::Gone(error.into()))
        })
    })
}

/// Maps a part of an object, as `request` says, and stores the address in `addr`. The mapping is a use of the object
/// of its own: the object's handle may be closed. Nothing is read yet, unless the map wires what is mapped from now on (`quire_wire_all`).
/// Does not block, but for that, and for what a fixed mapping replaces (see `quire_unmap`). INVALID (length 0, an address or an offset that is not page aligned, overflow,
/// unknown flags or protection, a protection above its maximum, object and map of different engines); OCCUPIED (also by
/// memory that is not this map's: the Linux machine never replaces what the program has mapped otherwise);
/// NO_SPACE; UNSUPPORTED (write access to an object that cannot be written, unless `QUIRE_MAP_PRIVATE` is set); NOMEM; those of `quire_wire`,
/// if the map wires what is mapped: then nothing is mapped. WRITE_BACK: the mapping was made, though `addr` is not stored, and what it
/// replaced could not be written.
///
/// On the Linux machine the address is a pointer into memory of this process, and a page comes in when it is first touched:
///
/// - By default threads of the engine resolve the faults, and a system call, a debugger or a guest of KVM may be given such
///   memory like any other. With `QUIRE_MAP_IN_THREAD` the thread that touches a page resolves its own fault. If this
///   process may have userfaultfd for user mode only (it is neither privileged nor allowed to open /dev/userfaultfd, and
///   vm.unprivileged_userfaultfd is 0), system calls get EFAULT in the one mode as in the other; `quire_linux_limits` says so.
/// - An access that fails is a signal of the thread that makes it, with the address in `si_addr`. SIGBUS: the pager failed, or the
///   object ends before the address or was terminated, or there was no memory. SIGSEGV: nothing is mapped there, or the
///   protection forbids it. A system call gets EFAULT. The next access asks again. With threads of the engine a failure stays at its
///   page until its SIGBUS was delivered, if the engine has its handler installed, and otherwise for 20 ms.
/// - Never more than `quire_engine_options.memory` bytes of pages are held, private and anonymous ones included: when that is too little, these
///   go to swap (`quire_swap_add`). Without room there they stay in memory, and when it is full of them an access to a page that is not
///   there fails. Beside them the engine needs up to 8 MiB for
///   its buffers and threads, and 8 bytes for each page of addresses that was ever mapped in.
/// - Memory that a device writes, not a system call (O_DIRECT, fixed buffers of io_uring, VFIO), has to be wired before with
///   `quire_wire`: of a page that is taken away meanwhile the device's write is lost.
/// - A child of `fork` has none of it, and gets SIGSEGV there; in the parent nothing changes. No handle of the parent's may be
///   used in the child.
/// - While a fixed mapping replaces another one, accesses to it may get SIGSEGV.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map(
    map: *mut MapHandle,
    object: *mut ObjectHandle,
    request: *const MapRequestC,
    addr: *mut u64,
) -> i32 {
    guard(|| {
        check_out(addr, "addr")?;
        let map = handle::get::<MapState>(map)?;
        let object = handle::get::<ObjectState>(object)?;
        // SAFETY: the caller's struct, with its size in it.
        let request = map_request(&unsafe { read_sized(request) }?)?;
        if request.sharing == Sharing::Shared && request.max_prot.contains(Prot::WRITE) && !object.writable {
            let text = "the object was opened for reading only; open it with QUIRE_OPEN_WRITE, map it with QUIRE_MAP_PRIVATE, or map it without QUIRE_PROT_WRITE";
            return Err(Fail::new(QUIRE_ERR_UNSUPPORTED, text));
        }
        let range = map.map.map(&object.object, &request)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(addr, range.start.0) };
        Ok(())
    })
}

/// Maps memory that begins as zeros and is this mapping's alone, as `request` says, and stores the address in `addr`. `offset` is 0, and
/// `QUIRE_MAP_PRIVATE` is meant in any case. It takes no memory before it is touched; what it holds ends with it. When memory is short its
/// pages go to swap (`quire_swap_add`); without room there they stay in memory, and an access for which no memory is left fails with
/// `QUIRE_FAULT_NOMEM`, on the Linux machine by SIGBUS. For memory that several mappings share see `quire_object_create_anonymous`.
/// Otherwise as `quire_map`, with its errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_anonymous(map: *mut MapHandle, request: *const MapRequestC, addr: *mut u64) -> i32 {
    guard(|| {
        check_out(addr, "addr")?;
        let map = handle::get::<MapState>(map)?;
        // SAFETY: the caller's struct, with its size in it.
        let mut request = unsafe { read_sized(request) }?;
        if request.offset != 0 {
            return Err(Fail::invalid(
                "anonymous memory has no offset; leave it 0, or map an object of quire_object_create_anonymous",
            ));
        }
        request.flags |= QUIRE_MAP_PRIVATE;
        let range = map.map.map_anonymous(&map_request(&request)?)?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(addr, range.start.0) };
        Ok(())
    })
}

fn map_request(request: &MapRequestC) -> Result<MapRequest> {
    let sharing = match request.flags & QUIRE_MAP_PRIVATE {
        0 => Sharing::Shared,
        _ => Sharing::Private,
    };
    let (place, serve) = place(request.flags, request.addr, request.align)?;
    let prot = prot(request.prot)?;
    Ok(MapRequest {
        place,
        len: request.length,
        offset: ByteOff(request.offset),
        sharing,
        prot,
        max_prot: if request.max_prot == 0 {
            prot
        } else {
            self::prot(request.max_prot)?
        },
        inherit: match (request.inherit, sharing) {
            (QUIRE_INHERIT_DEFAULT, Sharing::Shared) => Inherit::Share,
            (QUIRE_INHERIT_DEFAULT, Sharing::Private) => Inherit::Copy,
            (number, _) => inherit(number)?,
        },
        advice: advice(request.advice)?,
        serve,
    })
}

/// Where a mapping goes, and who resolves its faults, by a set of `QUIRE_MAP_…`.
pub(crate) fn place(flags: u32, addr: u64, align: u64) -> Result<(Place, Serve)> {
    let at = VirtAddr(addr);
    let serve = match flags & QUIRE_MAP_IN_THREAD {
        0 => Serve::Threads,
        _ => Serve::InThread,
    };
    let place = match flags & !(QUIRE_MAP_IN_THREAD | QUIRE_MAP_PRIVATE) {
        0 => Place::Anywhere {
            hint: at,
            align: if align == 0 { PAGE_SIZE } else { align },
        },
        QUIRE_MAP_FIXED => Place::Fixed(at),
        QUIRE_MAP_FIXED_NOREPLACE => Place::FixedNoReplace(at),
        flags => {
            check_flags(flags, QUIRE_MAP_FIXED | QUIRE_MAP_FIXED_NOREPLACE, "flags")?;
            return Err(Fail::invalid(
                "QUIRE_MAP_FIXED and QUIRE_MAP_FIXED_NOREPLACE contradict each other; choose one",
            ));
        }
    };
    if !matches!(place, Place::Anywhere { .. }) && align != 0 && !addr.is_multiple_of(align) {
        return Err(Fail::invalid("the fixed address is not a multiple of the alignment"));
    }
    Ok((place, serve))
}

fn prot(bits: u32) -> Result<Prot> {
    check_flags(
        bits,
        QUIRE_PROT_READ | QUIRE_PROT_WRITE | QUIRE_PROT_EXEC,
        "the protection",
    )?;
    let rights = [
        (QUIRE_PROT_READ, Prot::READ),
        (QUIRE_PROT_WRITE, Prot::WRITE),
        (QUIRE_PROT_EXEC, Prot::EXEC),
    ];
    Ok(rights
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, right)| right)
        .collect())
}

fn inherit(number: u32) -> Result<Inherit> {
    match number {
        QUIRE_INHERIT_SHARE => Ok(Inherit::Share),
        QUIRE_INHERIT_COPY => Ok(Inherit::Copy),
        QUIRE_INHERIT_NONE => Ok(Inherit::None),
        QUIRE_INHERIT_ZERO => Ok(Inherit::Zero),
        QUIRE_INHERIT_DEFAULT => Err(Fail::invalid(
            "QUIRE_INHERIT_DEFAULT is for new mappings; say which inheritance is meant",
        )),
        _ => Err(Fail::invalid(format!("inheritance {number} is unknown"))),
    }
}

fn advice(number: u32) -> Result<Advice> {
    match number {
        QUIRE_ADVICE_NORMAL => Ok(Advice::Normal),
        QUIRE_ADVICE_RANDOM => Ok(Advice::Random),
        QUIRE_ADVICE_SEQUENTIAL => Ok(Advice::Sequential),
        _ => Err(Fail::invalid(format!("advice {number} is unknown"))),
    }
}

/// Unmaps `length` bytes from `addr`, rounded up to whole pages; parts that are not mapped, or not by this map, are no error and stay
/// as they are. On the Linux machine the addresses are the process's again, for whoever asks next. The last use
/// of an object writes its dirty pages, and may block for as long as its pager does. INVALID (length 0, not aligned,
/// overflow, outside the map), NOMEM: nothing was changed. WRITE_BACK, QUARANTINED, PAGER: as for
/// `quire_object_release`; the range is unmapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_unmap(map: *mut MapHandle, addr: u64, length: u64) -> i32 {
    guard(|| Ok(handle::get::<MapState>(map)?.map.unmap(VirtAddr(addr), length)?))
}

/// Gives `length` bytes from `addr` the rights `prot`, a set of `QUIRE_PROT_…`. Rights that go are taken at once.
/// Does not block. INVALID; NOT_MAPPED (a hole in the range); ABOVE_MAXIMUM; NOMEM: nothing was changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_protect(map: *mut MapHandle, addr: u64, length: u64, prot: u32) -> i32 {
    guard(|| {
        Ok(handle::get::<MapState>(map)?
            .map
            .protect(VirtAddr(addr), length, self::prot(prot)?)?)
    })
}

/// Says what a fork of the map (`quire_map_fork`) does with `length` bytes from `addr`: one of `QUIRE_INHERIT_…`, but not DEFAULT. Does
/// not block. INVALID; NOT_MAPPED; NOMEM: nothing was changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_inherit(map: *mut MapHandle, addr: u64, length: u64, inherit: u32) -> i32 {
    guard(|| {
        Ok(handle::get::<MapState>(map)?
            .map
            .inherit(VirtAddr(addr), length, self::inherit(inherit)?)?)
    })
}

/// Says what is known of future accesses to `length` bytes from `addr`: one of `QUIRE_ADVICE_…`. NORMAL, RANDOM and
/// SEQUENTIAL are kept with the mapping; WILLNEED, DONTNEED, COLD and FREE are done once. Does not block, but for FREE, which may wait for
/// pages that are in use, and calls the pagers of swap areas that want to hear of it. INVALID; NOT_MAPPED; NOMEM: nothing was changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_advise(map: *mut MapHandle, addr: u64, length: u64, advice: u32) -> i32 {
    guard(|| {
        let state = handle::get::<MapState>(map)?;
        let (map, addr) = (&state.map, VirtAddr(addr));
        match advice {
            QUIRE_ADVICE_WILLNEED => map.will_need(addr, length)?,
            QUIRE_ADVICE_DONTNEED => map.dont_need(addr, length)?,
            QUIRE_ADVICE_COLD => map.cold(addr, length)?,
            QUIRE_ADVICE_FREE => map.free(addr, length)?,
            _ => map.advise(addr, length, self::advice(advice)?)?,
        }
        Ok(())
    })
}

/// Writes what is dirty in the objects that `length` bytes from `addr` show, as far as they are shown there, and waits for
/// it; there is no way to begin it and not to wait. Memory of a mapping's own, private or anonymous, belongs to no file: nothing is written for
/// it. `flags`: a set of `QUIRE_SYNC_…`. May block for as long as the pagers do. INVALID; NOT_MAPPED (a hole in the
/// range); NOMEM: nothing was written. WRITE_BACK, QUARANTINED, PAGER: as for `quire_object_flush`, the first failure;
/// everything else was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_sync(map: *mut MapHandle, addr: u64, length: u64, flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, QUIRE_SYNC_DURABLE | QUIRE_SYNC_INVALIDATE, "flags")?;
        let mut how = SyncFlags::empty();
        how.set(SyncFlags::DURABLE, flags & QUIRE_SYNC_DURABLE != 0);
        how.set(SyncFlags::INVALIDATE, flags & QUIRE_SYNC_INVALIDATE != 0);
        Ok(handle::get::<MapState>(map)?.map.sync(VirtAddr(addr), length, how)?)
    })
}

/// Reads in what is not in memory of `length` bytes from `addr`, and maps nothing. What lies behind an object's end is
/// passed over. Waits for the pagers. INVALID; NOT_MAPPED; NOMEM; one of `QUIRE_FAULT_…`: a page could not be brought
/// in; those before it were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_prefetch(map: *mut MapHandle, addr: u64, length: u64) -> i32 {
    guard(|| Ok(handle::get::<MapState>(map)?.map.prefetch(VirtAddr(addr), length)?))
}

/// Maps every page of `length` bytes from `addr` for `access`, one of `QUIRE_ACCESS_…` of quire_pager.h, as if it had
/// been accessed: for buffers that are handed to system calls, and to have the faults at a time of the caller's choice.
/// Pages that are mapped for writing count as dirty until they have been written back. Only `quire_wire` keeps them
/// mapped. May block for as long as the pagers do. INVALID; NOT_MAPPED; NOMEM; one of `QUIRE_FAULT_…`: a page could
/// not be mapped; those before it were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_populate(map: *mut MapHandle, addr: u64, length: u64, access: u32) -> i32 {
    guard(|| {
        let access = access_kind(access)?;
        Ok(handle::get::<MapState>(map)?
            .map
            .populate(VirtAddr(addr), length, access)?)
    })
}

/// Tells what is known of each page of `length` bytes from `addr`: stores a set of `QUIRE_PAGE_…` in `pages`, one byte a page,
/// `count` of which there is room for. It may have changed when the call returns. Does not block. INVALID (also when
/// there is too little room); NOT_MAPPED. After an error a part may have been stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_residency(
    map: *mut MapHandle,
    addr: u64,
    length: u64,
    pages: *mut u8,
    count: usize,
) -> i32 {
    guard(|| {
        check_out(pages, "pages")?;
        let state = handle::get::<MapState>(map)?;
        let mut stored = 0;
        let all = usize::try_from(pages_of(length)).unwrap_or(usize::MAX);
        if all > count {
            return Err(Fail::invalid(format!(
                "the range has {all} pages, and there is room for {count}"
            )));
        }
        // Nothing is known of a range of no bytes; the engine says so.
        let mut seen = [Residency::empty(); 256];
        loop {
            let now = (all - stored).min(seen.len());
            let from = (stored as u64)
                .checked_mul(PAGE_SIZE)
                .and_then(|done| addr.checked_add(done));
            let from =
                from.ok_or_else(|| Fail::invalid("the range overflows: address and length together exceed 64 bits"))?;
            state
                .map
                .residency(VirtAddr(from), now as u64 * PAGE_SIZE, &mut seen[..now])?;
            for is in &seen[..now] {
                // SAFETY: not NULL, and writable for `count` bytes by contract, of which fewer are stored.
                unsafe { store(pages.add(stored), is.bits()) };
                stored += 1;
            }
            if stored == all {
                return Ok(());
            }
        }
    })
}

/// Stores a number in `version` that every change of the map's entries raises. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_map_version(map: *mut MapHandle, version: *mut u64) -> i32 {
    guard(|| {
        check_out(version, "version")?;
        let now = handle::get::<MapState>(map)?.map.version();
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(version, now) };
        Ok(())
    })
}
