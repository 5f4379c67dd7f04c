//! Engines: who asks the system to move the bytes of a request that completes later.
//!
//! One for a loaded module. All of them work on [`job::Job`]s, step by step; a ring hands the steps to the kernel, a pool of
//! threads makes the calls itself, and without an engine every request is done on the thread that asks.

mod job;
mod ring;
mod threads;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use quire_pager::{Error, Host, Level, Result};

use crate::backing::Backing;
use crate::config::{Config, Io};
use crate::stats::{ENGINE_SYNC, ENGINE_THREADS, ENGINE_URING, Stats, add};
use crate::transfer::Cursor;
use job::{Job, Spares};

pub(crate) use job::Work;

/// Moves the bytes of a module's pending requests.
pub(crate) struct Engine {
    kind: Kind,
    spares: Arc<Spares>,
    /// Puts into the page cache are handed over too.
    takes_copies: bool,
}

enum Kind {
    Ring(ring::Ring),
    Threads(threads::Pool),
    Sync,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Ring(_) => "Engine(uring)",
            Kind::Threads(_) => "Engine(threads)",
            Kind::Sync => "Engine(sync)",
        })
    }
}

/// A place in an engine for one request.
pub(crate) struct Place<'a> {
    engine: &'a Engine,
    job: Box<Job>,
}

impl Engine {
    /// Starts what the configuration asks for, and says in the log what that is.
    pub(crate) fn start(host: &Host, config: &Config, stats: &Stats) -> Result<Self> {
        Self::start_with(host, config, stats, ring::Ring::start)
    }

    /// As [`Engine::start`], with a way to start a ring that may be refused.
    fn start_with(
        host: &Host,
        config: &Config,
        stats: &Stats,
        start_ring: impl FnOnce(usize, &Arc<Spares>) -> Result<ring::Ring>,
    ) -> Result<Self> {
        let depth = if config.io == Io::Sync { 0 } else { config.depth };
        let spares = Arc::new(Spares::new(depth));
        let threads = || threads::Pool::start(config.threads, depth, &spares).map(Kind::Threads);
        let kind = match config.io {
            Io::Sync => Kind::Sync,
            Io::Threads => threads()?,
            Io::Uring => Kind::Ring(
                start_ring(depth, &spares)
                    .map_err(|error| error.context("io=uring cannot be had; use io=auto, io=threads or io=sync"))?,
            ),
            Io::Auto => match start_ring(depth, &spares) {
                Ok(ring) => Kind::Ring(ring),
                Err(error) => {
                    host.log(Level::Info, format!("vnode: no io_uring, so threads: {error}"));
                    threads()?
                }
            },
        };
        let (number, text) = match &kind {
            Kind::Ring(_) => (ENGINE_URING, format!("io_uring, up to {depth} requests in flight")),
            Kind::Threads(_) => (
                ENGINE_THREADS,
                format!("{} threads, up to {depth} requests in flight", config.threads),
            ),
            Kind::Sync => (ENGINE_SYNC, "synchronous".to_owned()),
        };
        stats.engine.store(number, Relaxed);
        host.log(Level::Info, format!("vnode: I/O is {text}"));
        Ok(Self {
            kind,
            spares,
            takes_copies: config.later,
        })
    }

    /// Whether requests may pend at all.
    pub(crate) fn pends(&self) -> bool {
        !matches!(self.kind, Kind::Sync)
    }

    /// Whether a put into the page cache is handed over. It is a copy, and as a rule done before another thread has heard of it; so
    /// it is only where the configuration says so.
    pub(crate) fn takes_copies(&self) -> bool {
        self.takes_copies
    }

    /// A place for one request; `None` when it must be done at once, for want of an engine or of room.
    pub(crate) fn place(&self, stats: &Stats) -> Option<Place<'_>> {
        if !self.pends() {
            return None;
        }
        let job = self.spares.take();
        if job.is_none() {
            add(&stats.crowded_out, 1);
        }
        Some(Place {
            engine: self,
            job: job?,
        })
    }

    /// Ends the threads. No request is under way.
    pub(crate) fn stop(&self) {
        match &self.kind {
            Kind::Ring(ring) => ring.stop(),
            Kind::Threads(pool) => pool.stop(),
            Kind::Sync => {}
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Place<'_> {
    /// Starts the request, of which `cursor` may have moved a part already.
    pub(crate) fn start(mut self, backing: &Arc<Backing>, work: Work, cursor: Cursor) {
        self.job.load(backing, work, cursor);
        match &self.engine.kind {
            Kind::Ring(ring) => ring.submit(self.job),
            Kind::Threads(pool) => pool.submit(self.job),
            Kind::Sync => unreachable!("there is no place without an engine"),
        }
    }

    /// Gives the place back unused.
    pub(crate) fn give_back(self) {
        self.engine.spares.give(self.job);
    }
}

/// Starts a thread that no signal for the process is delivered to: a handler of the program's must not run on it. Signals
/// that a thread causes itself stay as they are.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    const OWN: [libc::c_int; 6] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGSYS,
    ];
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both are places for a set; `sigfillset` fills in the one that is changed and read.
    unsafe {
        libc::sigfillset(mask.as_mut_ptr());
        for signal in OWN {
            libc::sigdelset(mask.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, mask.as_ptr(), before.as_mut_ptr());
    }
    // A new thread has its maker's mask.
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    // SAFETY: the call above filled `before` in.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread.map_err(|error| Error::from(error).context("a thread cannot be started"))
}
