//! Handles: numbers in the shape of pointers.
//!
//! A handle is never followed. It names a slot, says of which kind it is, and which of the slot's tenants it means:
//!
//! | bits | |
//! |---|---|
//! | 60 to 63 | kind, from 1 |
//! | 22 to 59 | generation: how often the slot has been let, from 1 |
//! | 0 to 21 | slot |
//!
//! No pointer of a program has its top bits set on the machines we run on, so anything that is not a handle has kind
//! 0 and is caught, as are NULL, a closed handle (another generation) and a handle of another kind; no freed memory
//! is read.
//!
//! # The life of a slot
//!
//! | from | to | when |
//! |---|---|---|
//! | free | open | [`open`] |
//! | open | closing | [`close`] begins; only when no call is under way with this handle |
//! | closing | open | what it stands for refuses to close |
//! | closing | free | it is closed; the generation rises |

use std::collections::VecDeque;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::fail::{Fail, Result};
use crate::status::{QUIRE_ERR_HANDLE, QUIRE_ERR_IN_USE, QUIRE_ERR_NOMEM};

const _: () = assert!(usize::BITS == 64, "handles need 64 bits");

const SLOT_BITS: u32 = 22;
const GENERATION_BITS: u32 = 38;
const KIND_SHIFT: u32 = SLOT_BITS + GENERATION_BITS;
/// Slots are made this many at a time, and never freed or moved.
const CHUNK: usize = 1 << 10;
const CHUNKS: usize = 1 << (SLOT_BITS - 10);

/// What handles can stand for.
pub(crate) enum Tenant {
    Engine(Arc<crate::engine::EngineState>),
    Pager(Arc<crate::pager::PagerState>),
    Object(Arc<crate::object::ObjectState>),
    Map(Arc<crate::map::MapState>),
}

/// One kind of handle.
pub(crate) trait Kind: Sized {
    /// What C calls it.
    type C;
    const KIND: usize;
    fn into_tenant(this: Arc<Self>) -> Tenant;
    fn of(tenant: &Tenant) -> Option<&Arc<Self>>;
}

macro_rules! kinds {
    ($($state:ty, $c:ty => $variant:ident = $kind:literal, $name:literal;)*) => {
        $(impl Kind for $state {
            type C = $c;
            const KIND: usize = $kind;
            fn into_tenant(this: Arc<Self>) -> Tenant {
                Tenant::$variant(this)
            }
            fn of(tenant: &Tenant) -> Option<&Arc<Self>> {
                match tenant {
                    Tenant::$variant(state) => Some(state),
                    _ => None,
                }
            }
        })*

        fn name_of(kind: usize) -> Option<&'static str> {
            match kind {
                $($kind => Some($name),)*
                _ => None,
            }
        }
    };
}

kinds! {
    crate::engine::EngineState, crate::c::EngineHandle => Engine = 1, "engine";
    crate::pager::PagerState, crate::c::PagerHandle => Pager = 2, "pager";
    crate::object::ObjectState, crate::c::ObjectHandle => Object = 3, "object";
    crate::map::MapState, crate::c::MapHandle => Map = 4, "map";
}

enum State {
    Free,
    Open(Tenant),
    Closing,
}

struct Slot {
    generation: usize,
    state: State,
}

type Slots = Box<[RwLock<Slot>]>;
static SLOTS: [OnceLock<Slots>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];
/// Free slots, the longest free first, and how many there are altogether.
static FREE: Mutex<(VecDeque<usize>, usize)> = Mutex::new((VecDeque::new(), 0));

/// A handle taken apart.
#[derive(Clone, Copy)]
struct Parts {
    kind: usize,
    generation: usize,
    slot: usize,
}

impl Parts {
    fn of<C>(handle: *mut C) -> Self {
        let number = handle.addr();
        Self {
            kind: number >> KIND_SHIFT,
            generation: number >> SLOT_BITS & ((1 << GENERATION_BITS) - 1),
            slot: number & ((1 << SLOT_BITS) - 1),
        }
    }

    fn handle<C>(self) -> *mut C {
        ptr::without_provenance_mut(self.kind << KIND_SHIFT | self.generation << SLOT_BITS | self.slot)
    }

    fn slot(self) -> Option<&'static RwLock<Slot>> {
        SLOTS.get(self.slot / CHUNK)?.get()?.get(self.slot % CHUNK)
    }
}

/// Lets a slot to `state`.
pub(crate) fn open<T: Kind>(state: T) -> Result<*mut T::C> {
    let index = free_slot()?;
    let mut parts = Parts {
        kind: T::KIND,
        generation: 0,
        slot: index,
    };
    let Some(slot) = parts.slot() else {
        unreachable!("free slots exist")
    };
    let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
    parts.generation = slot.generation;
    slot.state = State::Open(T::into_tenant(Arc::new(state)));
    Ok(parts.handle())
}

/// What a handle stands for. It stays alive as long as the answer does, and cannot be closed meanwhile.
pub(crate) fn get<T: Kind>(handle: *mut T::C) -> Result<Arc<T>> {
    let (parts, slot) = find::<T>(handle)?;
    let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
    match &slot.state {
        State::Open(tenant) if slot.generation == parts.generation => {
            T::of(tenant).cloned().ok_or_else(|| closed::<T>())
        }
        State::Closing if slot.generation == parts.generation => Err(busy::<T>("is being closed by another thread")),
        _ => Err(closed::<T>()),
    }
}

/// How something failed to end.
pub(crate) enum NotEnded<T> {
    /// It cannot end, and goes on.
    Kept(Box<T>, Fail),
    /// It ended, and something about that went wrong.
    Gone(Fail),
}

/// Closes a handle: `end` gets what it stands for, and gives it back if it cannot end. Other calls with this handle
/// fail meanwhile.
///
/// # Errors
/// `QUIRE_ERR_IN_USE` while a call is under way with the handle, or what `end` says.
pub(crate) fn close<T: Kind>(handle: *mut T::C, end: impl FnOnce(T) -> Result<(), NotEnded<T>>) -> Result {
    let (parts, slot) = find::<T>(handle)?;
    let state = begin_closing::<T>(parts, slot)?;
    // Whatever happens in `end`, the slot is let again or free afterwards.
    let mut closing = Closing {
        slot,
        parts,
        back: None,
    };
    match end(state) {
        Ok(()) => Ok(()),
        Err(NotEnded::Kept(state, fail)) => {
            closing.back = Some(T::into_tenant(Arc::from(state)));
            Err(fail)
        }
        Err(NotEnded::Gone(fail)) => Err(fail),
    }
}

fn begin_closing<T: Kind>(parts: Parts, slot: &RwLock<Slot>) -> Result<T> {
    let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
    if slot.generation != parts.generation {
        return Err(closed::<T>());
    }
    let tenant = match std::mem::replace(&mut slot.state, State::Closing) {
        State::Open(tenant) => tenant,
        State::Closing => return Err(busy::<T>("is being closed by another thread")),
        State::Free => {
            slot.state = State::Free;
            return Err(closed::<T>());
        }
    };
    let Some(state) = T::of(&tenant).cloned() else {
        slot.state = State::Open(tenant);
        return Err(closed::<T>());
    };
    drop(tenant);
    // Shares are only made through the slot, which is locked: the count is exact, or falling.
    Arc::try_unwrap(state).map_err(|state| {
        slot.state = State::Open(T::into_tenant(state));
        busy::<T>("is used by a call that has not returned; let it return first")
    })
}

struct Closing {
    slot: &'static RwLock<Slot>,
    parts: Parts,
    back: Option<Tenant>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = self.back.take() {
            slot.state = State::Open(tenant);
            return;
        }
        slot.state = State::Free;
        // Once round after 2^38 lettings; 0 is never used, so that no handle is a small number.
        slot.generation = (slot.generation % ((1 << GENERATION_BITS) - 1)) + 1;
        drop(slot);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.0.push_back(self.parts.slot);
    }
}

/// The slot that a handle names, if it can be a handle of this kind.
fn find<T: Kind>(handle: *mut T::C) -> Result<(Parts, &'static RwLock<Slot>)> {
    let wanted = name_of(T::KIND).unwrap_or_default();
    if handle.is_null() {
        return Err(Fail::new(
            QUIRE_ERR_HANDLE,
            format!("the {wanted} is NULL; pass the handle of one"),
        ));
    }
    let parts = Parts::of(handle);
    match name_of(parts.kind) {
        Some(_) if parts.kind == T::KIND => {}
        Some(other) => {
            return Err(Fail::new(
                QUIRE_ERR_HANDLE,
                format!("a handle of kind {other} was passed where one of kind {wanted} is wanted"),
            ));
        }
        None => return Err(strange::<T>()),
    }
    parts.slot().map(|slot| (parts, slot)).ok_or_else(strange::<T>)
}

fn strange<T: Kind>() -> Fail {
    let wanted = name_of(T::KIND).unwrap_or_default();
    Fail::new(
        QUIRE_ERR_HANDLE,
        format!("what was passed as the {wanted} is no handle of Quire"),
    )
}

fn closed<T: Kind>() -> Fail {
    let wanted = name_of(T::KIND).unwrap_or_default();
    Fail::new(QUIRE_ERR_HANDLE, format!("the handle of the {wanted} has been closed"))
}

fn busy<T: Kind>(what: &str) -> Fail {
    let wanted = name_of(T::KIND).unwrap_or_default();
    Fail::new(QUIRE_ERR_IN_USE, format!("the {wanted} {what}"))
}

/// A slot for a new handle: the one that has been free longest, or a new one.
fn free_slot() -> Result<usize> {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = free.0.pop_front() {
        return Ok(slot);
    }
    let slot = free.1;
    let chunk = SLOTS
        .get(slot / CHUNK)
        .ok_or_else(|| Fail::new(QUIRE_ERR_NOMEM, "too many handles are open; close some"))?;
    chunk.get_or_init(|| {
        (0..CHUNK)
            .map(|_| {
                RwLock::new(Slot {
                    generation: 1,
                    state: State::Free,
                })
            })
            .collect()
    });
    free.1 += 1;
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c::{EngineHandle, QUIRE_NO_DAEMON_THREAD, QUIRE_NO_READ_AHEAD_THREAD, QUIRE_NO_WATCHDOG_THREAD};
    use crate::engine::{EngineState, quire_engine_create, quire_engine_destroy};
    use crate::status::QUIRE_OK;

    fn engine() -> *mut EngineHandle {
        let mut handle = ptr::null_mut();
        let mut options = crate::engine::DEFAULTS;
        options.struct_size = u32::try_from(size_of_val(&options)).unwrap();
        options.flags = QUIRE_NO_DAEMON_THREAD | QUIRE_NO_READ_AHEAD_THREAD | QUIRE_NO_WATCHDOG_THREAD;
        assert_eq!(
            // SAFETY: `options` has its size in it, and `handle` is writable.
            unsafe { quire_engine_create(&raw const options, &raw mut handle) },
            QUIRE_OK
        );
        handle
    }

    fn end(handle: *mut EngineHandle) -> i32 {
        // SAFETY: takes no pointer but the handle, which is never followed.
        unsafe { quire_engine_destroy(handle, 0) }
    }

    #[test]
    fn a_handle_that_a_call_is_using_is_not_closed() {
        let handle = engine();
        let call = get::<EngineState>(handle).map_err(|_| ()).unwrap();
        assert_eq!(end(handle), QUIRE_ERR_IN_USE);
        drop(call);
        assert_eq!(end(handle), QUIRE_OK);
        assert_eq!(end(handle), QUIRE_ERR_HANDLE);
    }

    #[test]
    fn while_a_handle_is_being_closed_others_are_turned_away_and_it_can_come_back() {
        let handle = engine();
        let kept = close::<EngineState>(handle, |state| {
            assert_eq!(end(handle), QUIRE_ERR_IN_USE);
            assert!(get::<EngineState>(handle).is_err());
            Err(NotEnded::Kept(Box::new(state), Fail::invalid("not now")))
        });
        assert!(kept.is_err());
        assert!(get::<EngineState>(handle).is_ok());
        assert_eq!(end(handle), QUIRE_OK);
    }

    #[test]
    fn no_handle_is_used_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..5000 {
            let handle = engine();
            assert!(seen.insert(handle.addr()));
            assert_eq!(end(handle), QUIRE_OK);
        }
    }
}
