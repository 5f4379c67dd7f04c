//! Plugins at work: loaded, checked and initialised, each once in this process.
//!
//! A library's variables are the process's, so its `init` runs once however many engines use it: loading it again gives the
//! same [`Loaded`]. It stays until [`Loaded::unload`] succeeds; dropping every handle lets nothing go.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use quire_abi::Module;
use quire_bridge::{Log, NotStarted, Open, Opened, PluginModule};
use quire_core::error::PagerError;

use crate::error::LoadError;
use crate::memory::open_memory;
use crate::plugin::{Plugin, Released};

/// Every plugin at work, starting or ending. The lock is never held while code of a plugin runs.
static EVERYONE: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
/// An entry of [`EVERYONE`] is not what it was: somebody who waits for it looks again.
static CHANGED: Condvar = Condvar::new();

/// What is known of one plugin.
struct Entry {
    plugin: Arc<Plugin>,
    stage: Stage,
}

/// # Edges
/// nothing → starting: [`Loaded::load`] or [`Loaded::register`], which then calls `init` · starting → ready, or nothing: `init`
/// has returned · ready → ending: [`Loaded::unload`], which then calls `fini` if nothing uses the plugin · ending → ready, or nothing.
enum Stage {
    /// `init` runs, on this thread.
    Starting(ThreadId),
    Ready(Arc<Loaded>),
    /// `fini` runs, or is about to, on this thread.
    Ending(ThreadId),
}

/// A plugin at work.
#[derive(Debug)]
pub struct Loaded {
    plugin: Arc<Plugin>,
    module: Arc<PluginModule>,
    config: Option<CString>,
}

/// What [`Loaded::unload`] gives when it cannot: why, and the plugin.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotUnloaded {
    /// Why.
    pub error: LoadError,
    /// The plugin, which works as before.
    pub loaded: Arc<Loaded>,
}

impl Loaded {
    /// Loads the plugin at `path` and calls its `init` with `config`; one that is at work already is taken as it is, and keeps
    /// the log it has. `path` comes from [`SearchPath::find`](crate::SearchPath::find). Blocks for file reads and for `init`.
    ///
    /// Waits while another thread starts or ends the same plugin. An `init` may load other plugins; its own, on the same
    /// thread, is refused.
    ///
    /// # Errors
    /// As [`Plugin::load`]; [`LoadError::Init`]; [`LoadError::OtherConfig`]; [`LoadError::InUse`] while it is being unloaded;
    /// [`LoadError::Reentered`].
    pub fn load(path: &Path, config: Option<&CStr>, log: Log) -> Result<Arc<Self>, LoadError> {
        Self::start(Plugin::load(path)?, config, log)
    }

    /// The same with a table of the program's own. See [`Plugin::from_table`].
    ///
    /// # Errors
    /// As [`Loaded::load`].
    ///
    /// # Safety
    /// As for [`Plugin::from_table`], until unloaded; for ever if `init` fails.
    pub unsafe fn register(
        name: &Path,
        table: *const Module,
        config: Option<&CStr>,
        log: Log,
    ) -> Result<Arc<Self>, LoadError> {
        // SAFETY: this function's contract is the callee's.
        let plugin = unsafe { Plugin::from_table(name, table) }?;
        Self::start(plugin, config, log)
    }

    fn start(plugin: Arc<Plugin>, config: Option<&CStr>, log: Log) -> Result<Arc<Self>, LoadError> {
        let path = plugin.path().to_owned();
        let starting = match Turn::take(&plugin) {
            Ok(starting) => starting,
            Err(answer) => {
                // The library was loaded a second time only to find that out.
                let _stays = Plugin::unload(plugin);
                return answer.and_then(|there| there.shared(path, config));
            }
        };
        let keeper = Box::new(plugin.clone());
        // SAFETY: a `Plugin` holds a checked table that stays valid as long as it lives, and the keeper is a share of it. No other
        // module is ready for it: the turn to start it is ours alone.
        let started = unsafe { PluginModule::start(*plugin.module(), config, keeper, log, open_memory) };
        match started {
            Ok(module) => {
                let loaded = Arc::new(Self {
                    plugin,
                    module,
                    config: config.map(CStr::to_owned),
                });
                starting.end(Some(loaded.clone()));
                Ok(loaded)
            }
            Err(error) => {
                starting.end(None);
                let name = plugin.name().to_owned();
                // The bridge keeps a share of it for ever, if `init` was called and failed: what that started may still run.
                let _stays = Plugin::unload(plugin);
                Err(match error {
                    NotStarted::Init(error) => LoadError::Init { path, error },
                    NotStarted::Driver(error) => LoadError::BadDriver {
                        path,
                        name,
                        what: error.to_string(),
                    },
                })
            }
        }
    }

    /// A plugin that is at work already, for one more user.
    fn shared(self: Arc<Self>, path: PathBuf, config: Option<&CStr>) -> Result<Arc<Self>, LoadError> {
        if !self.module.is_ready() {
            Err(LoadError::InUse {
                path,
                what: "it is being unloaded".into(),
            })
        } else if self.config.as_deref() == config {
            Ok(self)
        } else {
            Err(LoadError::OtherConfig { path })
        }
    }

    /// What is known of the plugin.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// The plugin as the engine sees it.
    #[must_use]
    pub fn module(&self) -> &Arc<PluginModule> {
        &self.module
    }

    /// Opens an object. See [`PluginModule::open`].
    ///
    /// # Errors
    /// The plugin's answer.
    pub fn open(&self, what: &Open<'_>) -> Result<Opened, PagerError> {
        self.module.open(what)
    }

    /// Ends the plugin and gives its library back, if nothing uses it: calls `fini` first, and may block for as long as that
    /// does. It is *released*; whether its code leaves memory is the dynamic linker's decision (see [`Released`]).
    ///
    /// # Errors
    /// [`LoadError::InUse`] while an object is open, a request is under way, or somebody else has the plugin loaded;
    /// [`LoadError::StaysResident`]. The plugin is handed back and works as before.
    pub fn unload(this: Arc<Self>) -> Result<Released, Box<NotUnloaded>> {
        let ending = {
            let mut all = everyone();
            match this.check_unloadable() {
                Ok(()) => Turn::to_end(&mut all, &this),
                Err(error) => return Err(Box::new(NotUnloaded { error, loaded: this })),
            }
        };
        match this.end() {
            Ok(()) => Ok(this.remove(ending)),
            Err(error) => {
                ending.end(Some(this.clone()));
                Err(Box::new(NotUnloaded { error, loaded: this }))
            }
        }
    }

    /// As [`Loaded::unload`], but refuses new opens and waits until the last object is closed. Waits for ever if the caller
    /// itself keeps one open.
    ///
    /// # Errors
    /// [`LoadError::StaysResident`]; [`LoadError::InUse`] when somebody else has the plugin loaded.
    pub fn unload_when_unused(this: Arc<Self>) -> Result<Released, Box<NotUnloaded>> {
        {
            let _all = everyone();
            if let Err(error) = this.check_unloadable() {
                return Err(Box::new(NotUnloaded { error, loaded: this }));
            }
            // From here on nobody can load it, so that this stays the last handle.
            this.module.drain();
        }
        loop {
            this.module.wait_until_unused();
            let ending = Turn::to_end(&mut everyone(), &this);
            if this.end().is_ok() {
                return Ok(this.remove(ending));
            }
            ending.end(Some(this.clone()));
        }
    }

    /// To be called with the list locked: apart from the list, this must be the only handle.
    fn check_unloadable(self: &Arc<Self>) -> Result<(), LoadError> {
        let path = || self.plugin.path().to_owned();
        if self.plugin.stays_resident() {
            Err(LoadError::StaysResident { path: path() })
        } else if Arc::strong_count(self) > 2 {
            Err(LoadError::InUse {
                path: path(),
                what: "somebody else has it loaded".into(),
            })
        } else {
            Ok(())
        }
    }

    fn end(&self) -> Result<(), LoadError> {
        self.module.try_shut_down().map_err(|e| LoadError::InUse {
            path: self.plugin.path().to_owned(),
            what: e.to_string(),
        })
    }

    /// After `fini`: nothing can call into the plugin any more, and the keeper is gone.
    fn remove(self: Arc<Self>, ending: Turn) -> Released {
        let plugin = self.plugin.clone();
        drop(self);
        ending.end(None);
        // Somebody who only looks at the `Plugin` keeps the library until the process ends; the plugin has ended all the same.
        let _stays = Plugin::unload(plugin);
        Released
    }
}

/// The right to start or end one plugin: nobody else does meanwhile. Ends with [`Turn::end`], and if that is never called
/// the plugin is neither.
struct Turn {
    plugin: Arc<Plugin>,
}

impl Turn {
    /// The turn to start `plugin`, as soon as nobody else starts or ends it.
    ///
    /// # Errors
    /// Not an error where it is at work already: then the answer is that one.
    fn take(plugin: &Arc<Plugin>) -> Result<Self, Result<Arc<Loaded>, LoadError>> {
        let me = thread::current().id();
        let refused = |what| {
            let path = plugin.path().to_owned();
            Err(Err(LoadError::Reentered { path, what }))
        };
        let mut all = everyone();
        loop {
            let Some(entry) = all.iter().find(|e| e.plugin.is_same_as(plugin)) else {
                all.push(Entry {
                    plugin: plugin.clone(),
                    stage: Stage::Starting(me),
                });
                return Ok(Self { plugin: plugin.clone() });
            };
            match entry.stage {
                Stage::Ready(ref there) => return Err(Ok(there.clone())),
                Stage::Starting(thread) if thread == me => return refused("its own init wants to load it"),
                Stage::Ending(thread) if thread == me => return refused("its own fini wants to load it"),
                // Two that start each other would wait for ever.
                _ if all.iter().any(|e| e.stage.is_run_by(me)) => {
                    return refused("another thread starts or ends it, and an init or a fini does not wait for that");
                }
                _ => all = CHANGED.wait(all).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The turn to end a plugin that is ready.
    fn to_end(all: &mut [Entry], loaded: &Loaded) -> Self {
        let Some(entry) = all.iter_mut().find(|e| Arc::ptr_eq(&e.plugin, &loaded.plugin)) else {
            unreachable!("what is loaded is in the list")
        };
        entry.stage = Stage::Ending(thread::current().id());
        Self {
            plugin: loaded.plugin.clone(),
        }
    }

    /// The plugin is at work now, or gone.
    fn end(self, now: Option<Arc<Loaded>>) {
        let mut all = everyone();
        match now {
            Some(loaded) => {
                let entry = all.iter_mut().find(|e| Arc::ptr_eq(&e.plugin, &self.plugin));
                if let Some(entry) = entry {
                    entry.stage = Stage::Ready(loaded);
                }
            }
            None => all.retain(|e| !Arc::ptr_eq(&e.plugin, &self.plugin)),
        }
        CHANGED.notify_all();
    }
}

impl Stage {
    fn is_run_by(&self, thread: ThreadId) -> bool {
        matches!(self, Self::Starting(by) | Self::Ending(by) if *by == thread)
    }
}

fn everyone() -> MutexGuard<'static, Vec<Entry>> {
    // The list is changed in single steps; a panic elsewhere leaves it whole.
    EVERYONE.lock().unwrap_or_else(PoisonError::into_inner)
}
