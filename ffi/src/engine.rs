//! Engines.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quire_core::engine::Engine;
use quire_core::flush::FlushFlags;
use quire_core::pagedaemon::Targets;
use quire_core::policy::PolicyKind;
use quire_core::read_ahead::Worker;
use quire_core::stats::Counts;
use quire_core::watchdog::Watchdog;

use crate::c::*;
use crate::daemon;
use crate::fail::{Fail, Result, guard};
use crate::handle::{self, NotEnded};
use crate::log::{engine_log, page_report};
use crate::machine;
use crate::pager::{self, PagerState};
use crate::status::{QUIRE_ERR_IN_USE, QUIRE_ERR_NOMEM};

/// `quire_engine_destroy`: gives up what is dirty instead of writing it.
pub const QUIRE_DISCARD: u32 = 1;
/// `quire_engine_sync`, `quire_object_flush`: what was written is durable before the call returns.
pub const QUIRE_DURABLE: u32 = 1;

/// `quire_engine_options`: objects that nobody uses are closed at once.
pub const QUIRE_KEEP_NONE: u32 = u32::MAX;

/// What an engine's handle stands for.
pub(crate) struct EngineState {
    pub(crate) shared: Arc<Shared>,
}

/// An engine and what belongs to it, shared by all handles made in it.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    threads: Threads,
    /// Open handles of maps.
    pub(crate) maps: AtomicUsize,
    /// Open handles of pagers.
    pub(crate) pagers: Mutex<Vec<PagerAt>>,
}

/// A pager's handle, as a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PagerAt(pub(crate) usize);

/// The version of the library as text, such as "0.1.0". Static; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn quire_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Makes an engine. `options` may be NULL: all defaults. Stores its handle in `out`, to be ended with
/// `quire_engine_destroy`. Unless `options` say otherwise three threads work for it, which keep memory free, read ahead, and
/// report requests that pagers do not complete; they end with it. Does not block. INVALID (an unknown machine or policy, unknown flags, no room for one page above the
/// reserve, thresholds in disorder or above what there is); NOMEM (no memory, or no thread).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_create(options: *const EngineOptions, out: *mut *mut EngineHandle) -> i32 {
    guard(|| {
        check_out(out, "out")?;
        let options = if options.is_null() {
            DEFAULTS
        } else {
            // SAFETY: the caller's struct, with its size in it.
            unsafe { read_sized(options) }?
        };
        quire_core::page_services::set_reporter(page_report);
        let shared = make(&options)?;
        shared.start_threads()?;
        let handle = handle::open(EngineState { shared: shared.clone() }).inspect_err(|_| shared.stop_threads())?;
        // SAFETY: not NULL, and writable by contract.
        unsafe { store(out, handle) };
        Ok(())
    })
}

/// What an engine has that was made without options.
pub(crate) const DEFAULTS: EngineOptions = EngineOptions {
    struct_size: 0,
    machine: QUIRE_MACHINE_AUTO,
    memory: 0,
    reserve: 0,
    flags: 0,
    kept_objects: 0,
    policy: QUIRE_POLICY_DEFAULT,
    reserved: 0,
    free_min: 0,
    free_target: 0,
    free_enough: 0,
    fault_timeout: 0,
    overdue_after: 0,
};

/// An engine without threads, yet.
fn make(options: &EngineOptions) -> Result<Arc<Shared>> {
    if options.reserved != 0 {
        return Err(Fail::invalid(
            "reserved of quire_engine_options is not 0; clear the struct before use",
        ));
    }
    let machine = machine::choose(options)?;
    let frames = machine.frame_counts();
    let of_free = [options.free_min, options.free_target, options.free_enough];
    let engine = Engine::with_options(
        machine,
        &quire_core::pagedaemon::EngineOptions {
            policy: policy(options.policy)?,
            targets: Some(daemon::targets(Targets::of(frames), of_free, frames)?),
            daemon_thread: false,
            fault_timeout: milliseconds(options.fault_timeout),
            overdue_after: milliseconds(options.overdue_after),
            log: Some(engine_log()),
        },
    )?;
    match options.kept_objects {
        0 => {}
        QUIRE_KEEP_NONE => engine.set_cache_limit(0),
        // At most u32::MAX, which fits.
        kept => engine.set_cache_limit(kept as usize),
    }
    Ok(Arc::new(Shared {
        engine,
        threads: Threads {
            daemon: options.flags & QUIRE_NO_DAEMON_THREAD == 0,
            read_ahead: options.flags & QUIRE_NO_READ_AHEAD_THREAD == 0,
            watchdog: options.flags & QUIRE_NO_WATCHDOG_THREAD == 0,
            worker: Mutex::new(None),
            watching: Mutex::new(None),
        },
        maps: AtomicUsize::new(0),
        pagers: Mutex::new(Vec::new()),
    }))
}

/// 0 says nothing.
fn milliseconds(number: u64) -> Option<Duration> {
    (number != 0).then(|| Duration::from_millis(number))
}

fn policy(number: u32) -> Result<PolicyKind> {
    match number {
        QUIRE_POLICY_DEFAULT => Ok(PolicyKind::default()),
        QUIRE_POLICY_CLOCK => Ok(PolicyKind::Clock),
        QUIRE_POLICY_S3_FIFO => Ok(PolicyKind::S3Fifo),
        _ => Err(Fail::invalid(format!("policy {number} is unknown"))),
    }
}

/// The threads that work for an engine.
struct Threads {
    /// Whether one keeps memory free.
    daemon: bool,
    /// Whether one reads ahead.
    read_ahead: bool,
    /// That one, while it is there.
    worker: Mutex<Option<Worker>>,
    /// Whether one watches for requests that do not complete.
    watchdog: bool,
    /// That one, while it is there.
    watching: Mutex<Option<Watchdog>>,
}

impl Shared {
    /// Starts those threads that are wanted and not there. After an error there are none.
    fn start_threads(&self) -> Result {
        self.try_start_threads().inspect_err(|_| self.stop_threads())
    }

    fn try_start_threads(&self) -> Result {
        if self.threads.daemon {
            self.engine.start_daemon()?;
        }
        let mut worker = self.threads.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if self.threads.read_ahead && worker.is_none() {
            let started = Worker::spawn(&self.engine).map_err(|error| no_thread("to read ahead", &error))?;
            *worker = Some(started);
        }
        let mut watching = self.threads.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if self.threads.watchdog && watching.is_none() {
            let started = Watchdog::spawn(&self.engine).map_err(|error| no_thread("to watch requests", &error))?;
            *watching = Some(started);
        }
        Ok(())
    }

    /// Ends the threads and waits for them.
    fn stop_threads(&self) {
        self.engine.stop_daemon();
        let worker = self
            .threads
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let watchdog = self
            .threads
            .watching
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Outside the locks: they are joined.
        drop((worker, watchdog));
    }
}

fn no_thread(purpose: &str, error: &std::io::Error) -> Fail {
    let text = format!("no thread {purpose} could be started: {error}; free some resources and try again");
    Fail::new(QUIRE_ERR_NOMEM, text)
}

/// Ends an engine: writes what is dirty, closes its objects and its swap areas, ends its threads and waits for them, ends its pagers and
/// closes their handles. Its maps must
/// have been destroyed and its objects released before. With `QUIRE_DISCARD` in `flags` dirty pages are given up and
/// not written. May block for as long as its pagers do. IN_USE (maps or objects are open); WRITE_BACK (dirty pages
/// could not be written, and are kept); QUARANTINED (an object with a broken pager still has pages; discard). After
/// an error the engine goes on and can be used: mend the cause and call again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_destroy(engine: *mut EngineHandle, flags: u32) -> i32 {
    guard(|| {
        check_flags(flags, QUIRE_DISCARD, "flags")?;
        handle::close(engine, |state: EngineState| match end(&state.shared, flags) {
            Ok(()) => Ok(()),
            Err(fail) => Err(NotEnded::Kept(Box::new(state), fail)),
        })
    })
}

fn end(shared: &Shared, flags: u32) -> Result {
    let maps = shared.maps.load(Ordering::Acquire);
    if maps != 0 {
        let text = format!("the engine still has {maps} map(s); destroy them first");
        return Err(Fail::new(QUIRE_ERR_IN_USE, text));
    }
    if flags & QUIRE_DISCARD != 0 {
        shared.engine.discard_all()?;
    } else {
        shared.engine.shut_down()?;
    }
    // Their last steps are over before the pagers are.
    shared.stop_threads();
    end_pagers(shared).inspect_err(|_| {
        // The engine goes on, without threads if none can be had: then whoever needs memory makes room itself.
        let _without = shared.start_threads();
    })
}

fn end_pagers(shared: &Shared) -> Result {
    let pagers = shared.pagers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for pager in pagers {
        handle::close(std::ptr::without_provenance_mut(pager.0), |state: PagerState| {
            pager::end(state, pager)
        })?;
    }
    Ok(())
}

/// Writes what is dirty in every object, and closes those that only stayed because their last write-back failed.
/// `flags`: 0 or `QUIRE_DURABLE`. All objects are tried. May block for as long as their pagers do. WRITE_BACK (what
/// could not be written is kept, dirty); QUARANTINED; PAGER (a pager could not make it durable).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_sync(engine: *mut EngineHandle, flags: u32) -> i32 {
    guard(|| {
        let flags = flush_flags(flags)?;
        Ok(handle::get::<EngineState>(engine)?.shared.engine.sync(flags)?)
    })
}

pub(crate) fn flush_flags(flags: u32) -> Result<FlushFlags> {
    check_flags(flags, QUIRE_DURABLE, "flags")?;
    Ok(if flags & QUIRE_DURABLE == 0 {
        FlushFlags::empty()
    } else {
        FlushFlags::DURABLE
    })
}

/// Stores the engine's counters in `out`, whose `struct_size` the caller has set. Does not block. INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_stats(engine: *mut EngineHandle, out: *mut EngineStats) -> i32 {
    guard(|| {
        let state = handle::get::<EngineState>(engine)?;
        // SAFETY: the caller's struct, with its size in it.
        unsafe { write_sized(out, &stats(&state.shared.engine)) }
    })
}

fn stats(engine: &Engine) -> EngineStats {
    // Taken apart whole, so that a new counter cannot be forgotten here.
    let Counts {
        faults,
        faults_0,
        faults_1a,
        faults_1b,
        faults_2a_read,
        faults_2a_write,
        faults_2b,
        zero_fills,
        amap_copies,
        faults_resident,
        faults_failed,
        fault_restarts,
        neighbours_mapped,
        gets,
        pages_in,
        puts,
        pages_out,
        populates,
        pages_populated,
        busy_waits,
        memory_waits,
        pages_read_ahead,
        read_aheads_failed,
        writes_failed,
        pages_reclaimed,
        requests_cancelled,
        requests_overdue,
        faults_timed_out,
        pager_errors,
        broken_promises,
    } = engine.stats().counts();
    let frames = engine.machine().frame_counts();
    let (objects, unwritten) = engine.object_counts();
    let queues = engine.queue_lengths();
    let daemon = engine.daemon_counts();
    let targets = engine.daemon_targets();
    EngineStats {
        struct_size: 0,
        reserved: 0,
        faults,
        faults_2a_read,
        faults_2a_write,
        faults_resident,
        faults_failed,
        fault_restarts,
        neighbours_mapped,
        gets,
        pages_in,
        puts,
        pages_out,
        populates,
        pages_populated,
        busy_waits,
        memory_waits,
        pages_reclaimed,
        pager_errors,
        broken_promises,
        frames_total: frames.total,
        frames_free: frames.free,
        frames_reserved: frames.reserved,
        objects: objects as u64,
        objects_unwritten: unwritten as u64,
        pages_read_ahead,
        read_aheads_failed,
        writes_failed,
        objects_kept: engine.kept_count() as u64,
        pages_active: queues.active,
        pages_inactive: queues.inactive,
        pages_laundry: queues.laundry,
        daemon_steps: daemon.steps,
        daemon_reactivated: daemon.reactivated,
        daemon_washed: daemon.washed,
        daemon_wash_failures: daemon.wash_failures,
        daemon_rescues: daemon.rescues,
        free_min: targets.free_min,
        free_target: targets.free_target,
        free_enough: targets.free_enough,
        policy: policy_name(engine).as_ptr(),
        requests_cancelled,
        requests_overdue,
        faults_timed_out,
        machine: machine::name(engine).as_ptr(),
        faults_0,
        faults_1a,
        faults_1b,
        faults_2b,
        zero_fills,
        amap_copies,
    }
}

/// With a terminating zero, for C.
fn policy_name(engine: &Engine) -> &'static CStr {
    match engine.policy_name() {
        "clock" => c"clock",
        "S3-FIFO" => c"S3-FIFO",
        _ => c"unknown",
    }
}
