//! Plugins at work: loaded, checked and initialised, each once in this process.
//!
//! A library's variables are the process's, so its `init` runs once however many engines use it: loading it again gives the
//! same [`Loaded`]. It stays until [`Loaded::unload`] succeeds; dropping every handle lets nothing go.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quire_abi::Module;
use quire_bridge::{Log, Open, Opened, PluginModule};
use quire_core::error::PagerError;

use crate::error::LoadError;
use crate::plugin::{Plugin, Released};

/// Every plugin at work. The lock is held while one is loaded and initialised, or ended and unloaded: so `init` and `fini`
/// must not load or unload plugins themselves.
static LOADED: Mutex<Vec<Arc<Loaded>>> = Mutex::new(Vec::new());

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
    /// # Errors
    /// As [`Plugin::load`]; [`LoadError::Init`]; [`LoadError::OtherConfig`]; [`LoadError::InUse`] while it is being unloaded.
    pub fn load(path: &Path, config: Option<&CStr>, log: Log) -> Result<Arc<Self>, LoadError> {
        let mut all = everyone();
        Self::start(&mut all, Plugin::load(path)?, config, log)
    }

    /// The same with a table of the program's own. See [`Plugin::from_table`].
    ///
    /// # Errors
    /// As [`Loaded::load`].
    ///
    /// # Safety
    /// As for [`Plugin::from_table`], for ever or until unloaded.
    pub unsafe fn register(
        name: &Path,
        table: *const Module,
        config: Option<&CStr>,
        log: Log,
    ) -> Result<Arc<Self>, LoadError> {
        let mut all = everyone();
        // SAFETY: this function's contract is the callee's.
        let plugin = unsafe { Plugin::from_table(name, table) }?;
        Self::start(&mut all, plugin, config, log)
    }

    fn start(
        all: &mut Vec<Arc<Self>>,
        plugin: Arc<Plugin>,
        config: Option<&CStr>,
        log: Log,
    ) -> Result<Arc<Self>, LoadError> {
        let path = plugin.path().to_owned();
        if let Some(there) = all.iter().find(|l| l.plugin.address() == plugin.address()) {
            // The library was loaded a second time only to find that out.
            let _stays = Plugin::unload(plugin);
            if !there.module.is_ready() {
                return Err(LoadError::InUse {
                    path,
                    what: "it is being unloaded".into(),
                });
            }
            return if there.config.as_deref() == config {
                Ok(there.clone())
            } else {
                Err(LoadError::OtherConfig { path })
            };
        }
        let keeper = Box::new(plugin.clone());
        // SAFETY: a `Plugin` holds a checked table that stays valid as long as it lives, and the keeper is a share of it. No other
        // module is ready for it: the list, which we hold locked, has none.
        let module = match unsafe { PluginModule::start(*plugin.module(), config, keeper, log) } {
            Ok(module) => module,
            Err(error) => {
                let _stays = Plugin::unload(plugin);
                return Err(LoadError::Init { path, error });
            }
        };
        let loaded = Arc::new(Self {
            plugin,
            module,
            config: config.map(CStr::to_owned),
        });
        all.push(loaded.clone());
        Ok(loaded)
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
        let mut all = everyone();
        match this.check_unloadable().and_then(|()| this.end()) {
            Ok(()) => Ok(this.remove(&mut all)),
            Err(error) => Err(Box::new(NotUnloaded { error, loaded: this })),
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
            let mut all = everyone();
            if this.end().is_ok() {
                return Ok(this.remove(&mut all));
            }
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
    fn remove(self: Arc<Self>, all: &mut Vec<Arc<Self>>) -> Released {
        all.retain(|other| !Arc::ptr_eq(other, &self));
        let plugin = self.plugin.clone();
        drop(self);
        // Somebody who only looks at the `Plugin` keeps the library until the process ends; the plugin has ended all the same.
        let _stays = Plugin::unload(plugin);
        Released
    }
}

fn everyone() -> MutexGuard<'static, Vec<Arc<Loaded>>> {
    // The list is changed in single steps; a panic elsewhere leaves it whole.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}
