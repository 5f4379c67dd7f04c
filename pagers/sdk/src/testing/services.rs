//! What the test host's services do, and what they were told.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use quire_abi::{
    Aperture, Host, HostApi, QUIRE_PAGER_ABI_VERSION, QUIRE_PAGER_AGAIN, QUIRE_PAGER_BAD, QUIRE_PAGER_INVALID,
    QUIRE_PAGER_OK, QUIRE_PAGER_STALE, QUIRE_REVOKE_DISCARD, QUIRE_REVOKE_FAIL,
};

use super::{Failure, PAGE_BYTES, PAGE_SIZE};
use crate::border;
use crate::revoke::HostObject;
use crate::table::abi_size;

/// One call of `revoke` that was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Whose pages.
    pub object: HostObject,
    /// The first of them.
    pub first: u64,
    /// How many; 0: to the end.
    pub count: u64,
    /// A set of `QUIRE_REVOKE_…`.
    pub flags: u32,
}

/// A registered aperture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// One of `QUIRE_CACHE_…`.
    pub cache: u32,
    /// Where its memory is; 0 if only a file was given.
    pub address: usize,
    /// Its length in bytes.
    pub length: u64,
    /// Whether a file was given.
    pub has_file: bool,
    /// Where in the file it begins.
    pub offset: u64,
}

/// What the host's services have been told. Behind the `host` pointer of the table.
#[derive(Default)]
pub(super) struct Ledger {
    told: Mutex<Told>,
    pub(super) completed: Condvar,
    next_token: AtomicU64,
}

#[derive(Default)]
pub(super) struct Told {
    pub(super) log: Vec<String>,
    pub(super) error: String,
    /// Requests under way, and what became of those that have completed.
    pub(super) requests: BTreeMap<u64, Progress>,
    /// Requests that completed, so far.
    pub(super) completions: u64,
    /// Pages inserted by the populate that runs: their bytes, and whether they are ready.
    pub(super) inserted: BTreeMap<u64, (Box<[u8]>, bool)>,
    /// Pages that somebody else has.
    pub(super) taken: Vec<u64>,
    /// The first index behind the object that is populated.
    pub(super) end: u64,
    /// Pages that show a device's own memory since the populate that runs: aperture and offset.
    pub(super) frames: BTreeMap<u64, (u64, u64)>,
    /// The same of each object's last populate, by the object's name. The names that are good are there.
    pub(super) shown: BTreeMap<u64, BTreeMap<u64, (u64, u64)>>,
    pub(super) apertures: BTreeMap<u64, Registered>,
    pub(super) revoked: Vec<Revoked>,
    pub(super) revoke_answer: i32,
}

impl Told {
    /// Those of `count` pages from `first` on that are inside the object which a populate under way works on.
    fn pages(&self, token: u64, first: u64, count: u32) -> std::result::Result<Range<u64>, i32> {
        if !self.requests.contains_key(&token) {
            return Err(QUIRE_PAGER_STALE);
        }
        if first >= self.end {
            return Err(QUIRE_PAGER_BAD);
        }
        Ok(first..self.end.min(first.saturating_add(count.into())))
    }
}

/// What the ledger knows of one request.
#[derive(Default)]
pub(super) struct Progress {
    /// The status that it completed with.
    pub(super) status: Option<i32>,
    /// How many requests completed before it.
    pub(super) order: u64,
    /// What was said of it.
    pub(super) text: String,
}

impl Ledger {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Turns a status into a result, taking the text that came with it.
    pub(super) fn outcome(&self, status: i32) -> Result<(), Failure> {
        let text = std::mem::take(&mut self.told().error);
        if status == QUIRE_PAGER_OK {
            Ok(())
        } else {
            Err(Failure { status, text })
        }
    }
}

/// The table of services, all of which write to `ledger`.
pub(super) fn table(ledger: &Ledger) -> HostApi {
    HostApi {
        abi_version: QUIRE_PAGER_ABI_VERSION,
        struct_size: abi_size::<HostApi>(),
        host: ptr::from_ref(ledger).cast_mut().cast(),
        page_size: PAGE_BYTES,
        reserved: 0,
        log: Some(log),
        set_error: Some(set_error),
        complete: Some(complete),
        get_extension: None,
        page_insert: Some(page_insert),
        page_ready: Some(page_ready),
        page_take: Some(page_take),
        frame_insert: Some(frame_insert),
        aperture_add: Some(aperture_add),
        aperture_remove: Some(aperture_remove),
        revoke: Some(revoke),
        pages: ptr::null(),
        page_lookup: None,
        page_grab: None,
        page_move: None,
        object_lock: None,
        object_unlock: None,
    }
}

/// The ledger behind the table.
///
/// # Safety
/// `host` is the pointer of a table made by [`TestHost::load`], whose host lives.
unsafe fn ledger<'a>(host: *mut Host) -> &'a Ledger {
    // SAFETY: the caller's promise.
    unsafe { &*host.cast::<Ledger>() }
}

unsafe extern "C" fn log(host: *mut Host, _level: u32, text: *const c_char) {
    // SAFETY: the pager passes the table's host, and a zero-terminated text.
    let (ledger, text) = unsafe { (ledger(host), CStr::from_ptr(text)) };
    ledger.told().log.push(text.to_string_lossy().into_owned());
}

unsafe extern "C" fn set_error(host: *mut Host, token: u64, text: *const c_char) {
    // SAFETY: as in `log`.
    let (ledger, text) = unsafe { (ledger(host), CStr::from_ptr(text)) };
    let text = text.to_string_lossy().into_owned();
    let mut told = ledger.told();
    match told.requests.get_mut(&token) {
        Some(progress) => progress.text = text,
        None => told.error = text,
    }
}

unsafe extern "C" fn complete(host: *mut Host, token: u64, status: i32) -> i32 {
    // SAFETY: as in `log`.
    let ledger = unsafe { ledger(host) };
    let mut told = ledger.told();
    let order = told.completions;
    let answer = match told.requests.get_mut(&token) {
        Some(progress) if progress.status.is_none() => {
            (progress.status, progress.order) = (Some(status), order);
            told.completions += 1;
            QUIRE_PAGER_OK
        }
        _ => QUIRE_PAGER_STALE,
    };
    drop(told);
    ledger.completed.notify_all();
    answer
}

/// # Safety
/// As the host's table says.
unsafe extern "C" fn page_insert(
    host: *mut Host,
    token: u64,
    first: u64,
    count: u32,
    bytes: *mut *mut c_void,
    inserted: *mut u32,
) -> i32 {
    // SAFETY: as in `log`.
    let mut told = unsafe { ledger(host) }.told();
    let pages = match told.pages(token, first, count) {
        Ok(pages) => pages,
        Err(status) => return status,
    };
    let mut done = 0;
    for index in pages {
        if told.taken.contains(&index) || told.inserted.contains_key(&index) {
            break;
        }
        let (page, _) = told
            .inserted
            .entry(index)
            .or_insert((vec![0xAA; PAGE_SIZE].into(), false));
        // SAFETY: the pager passes `count` places; the boxed bytes stay where they are until populate ends.
        unsafe { bytes.add(done as usize).write(page.as_mut_ptr().cast()) };
        done += 1;
    }
    // SAFETY: NULL, or a place for a number.
    unsafe { answer_count(done, inserted) }
}

/// # Safety
/// As the host's table says.
unsafe extern "C" fn page_take(host: *mut Host, token: u64, first: u64, count: u32, taken: *mut u32) -> i32 {
    // SAFETY: as in `log`.
    let told = unsafe { ledger(host) }.told();
    let there = match told.pages(token, first, count) {
        Ok(pages) => pages.take_while(|index| told.taken.contains(index)),
        Err(status) => return status,
    };
    let there = u32::try_from(there.count()).unwrap_or(u32::MAX);
    // SAFETY: NULL, or a place for a number.
    unsafe { answer_count(there, taken) }
}

/// # Safety
/// As the host's table says.
unsafe extern "C" fn frame_insert(
    host: *mut Host,
    token: u64,
    first: u64,
    count: u32,
    aperture: u64,
    offset: u64,
    inserted: *mut u32,
) -> i32 {
    // SAFETY: as in `log`.
    let mut told = unsafe { ledger(host) }.told();
    let pages = match told.pages(token, first, count) {
        Ok(pages) => pages,
        Err(status) => return status,
    };
    let mut done = 0;
    for index in pages {
        if told.taken.contains(&index) || told.frames.contains_key(&index) {
            break;
        }
        let at = offset + u64::from(done) * u64::from(PAGE_BYTES);
        told.frames.insert(index, (aperture, at));
        done += 1;
    }
    // SAFETY: NULL, or a place for a number.
    unsafe { answer_count(done, inserted) }
}

/// # Safety
/// `place` is NULL or a place for a number.
unsafe fn answer_count(done: u32, place: *mut u32) -> i32 {
    if done == 0 {
        return QUIRE_PAGER_AGAIN;
    }
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write(done) };
    }
    QUIRE_PAGER_OK
}

unsafe extern "C" fn page_ready(host: *mut Host, token: u64, first: u64, count: u32) -> i32 {
    // SAFETY: as in `log`.
    let mut told = unsafe { ledger(host) }.told();
    if !told.requests.contains_key(&token) {
        return QUIRE_PAGER_STALE;
    }
    for index in first..first + u64::from(count) {
        match told.inserted.get_mut(&index) {
            Some((_, ready)) => *ready = true,
            None => return QUIRE_PAGER_INVALID,
        }
    }
    QUIRE_PAGER_OK
}

/// # Safety
/// As the host's table says.
unsafe extern "C" fn aperture_add(host: *mut Host, what: *const Aperture, aperture: *mut u64) -> i32 {
    // SAFETY: as in `log`; the pager passes a struct of the size that it says, and a place for a number.
    let (ledger, what) = unsafe { (ledger(host), border::read(what)) };
    let Ok(what) = what else { return QUIRE_PAGER_INVALID };
    let address = what.memory.addr();
    let aligned = [what.length, what.offset, address as u64].map(|number| number.is_multiple_of(u64::from(PAGE_BYTES)));
    if what.length == 0 || aligned.contains(&false) || (address == 0 && what.fd < 0) {
        return QUIRE_PAGER_INVALID;
    }
    let number = ledger.token();
    let registered = Registered {
        cache: what.cache,
        address,
        length: what.length,
        has_file: what.fd >= 0,
        offset: what.offset,
    };
    ledger.told().apertures.insert(number, registered);
    // SAFETY: as above.
    unsafe { aperture.write(number) };
    QUIRE_PAGER_OK
}

unsafe extern "C" fn aperture_remove(host: *mut Host, aperture: u64) -> i32 {
    // SAFETY: as in `log`.
    let mut told = unsafe { ledger(host) }.told();
    let shows = |frames: &BTreeMap<u64, (u64, u64)>| frames.values().any(|(shown, _)| *shown == aperture);
    if told.shown.values().any(shows) || shows(&told.frames) {
        return QUIRE_PAGER_AGAIN;
    }
    match told.apertures.remove(&aperture) {
        Some(_) => QUIRE_PAGER_OK,
        None => QUIRE_PAGER_INVALID,
    }
}

unsafe extern "C" fn revoke(host: *mut Host, object: u64, first: u64, count: u64, flags: u32) -> i32 {
    // SAFETY: as in `log`.
    let mut told = unsafe { ledger(host) }.told();
    if !told.shown.contains_key(&object) {
        return QUIRE_PAGER_STALE;
    }
    let known = QUIRE_REVOKE_DISCARD | QUIRE_REVOKE_FAIL;
    if flags & !known != 0 || (flags & QUIRE_REVOKE_FAIL != 0 && (first, count) != (0, 0)) {
        return QUIRE_PAGER_INVALID;
    }
    told.revoked.push(Revoked {
        object: HostObject::of(object),
        first,
        count,
        flags,
    });
    let answer = told.revoke_answer;
    if let (QUIRE_PAGER_OK, Some(frames)) = (answer, told.shown.get_mut(&object)) {
        frames.retain(|index, _| *index < first || (count > 0 && *index - first >= count));
    }
    answer
}
