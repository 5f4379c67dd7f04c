//! A plugin that was found good: its library, and a checked copy of its table.
//!
//! The life of one:
//! 1. *file*: looked into ([`crate::elf`]); nothing of it runs.
//! 2. *loaded*: the dynamic linker mapped it and ran its constructors; its entry function gave the table.
//! 3. *checked*: a [`Plugin`]. Whoever uses an operation of it holds an `Arc` of it, and so pins it.
//! 4. *released* by [`Plugin::unload`], once nobody else holds it. Without that it stays until the process ends: code that a
//!    thread or a thread-local destructor may still run is not taken away by accident.

use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use quire_abi::{Entry, Module, QUIRE_CAP_STAY_RESIDENT, QUIRE_PAGER_ABI_VERSION, QUIRE_PAGER_ENTRY};

use crate::error::{AbiVersion, LoadError};
use crate::handshake::{self, HOST, Texts};
use crate::{elf, layout};

/// A loaded and checked pager plugin. `init` has not been called for it.
///
/// # Invariants
/// - The pointers and functions of `module` are those of `library`, and stay valid as long as this value lives.
/// - `library` is let go in [`Plugin::unload`] only, which consumes the last owner.
pub struct Plugin {
    path: PathBuf,
    module: Module,
    texts: Texts,
    layout_checked: bool,
    /// Where the plugin keeps its table: the same for the same library, however often it is loaded.
    address: usize,
    /// Nothing for a table of the program's own.
    library: Option<ManuallyDrop<Library>>,
}

/// What [`Plugin::unload`] achieved: the library was given back to the dynamic linker. Whether its code is gone from memory
/// is the dynamic linker's decision and cannot be told: a thread-local destructor of a Rust plugin, or a second user of the
/// same library, keeps it mapped. Loading the same path again may therefore give the old code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released;

/// What [`Plugin::unload`] gives when it cannot: why, and the plugin, loaded as before.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotReleased {
    /// Why.
    pub error: LoadError,
    /// The plugin.
    pub plugin: Arc<Plugin>,
}

impl Plugin {
    /// Loads the plugin at `path` and checks it. Blocks for file reads. The plugin's constructors and its entry function run.
    ///
    /// Short, clear refusals come first: the file, the version, the size; then the layout; then the operations.
    ///
    /// # Errors
    /// Any [`LoadError`] that speaks of a file. Nothing of the plugin stays in use then.
    pub fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
        elf::check(path)?;
        let library = open(path)?;
        let raw = entry(path, &library)?;
        // SAFETY: `raw` is what the plugin's entry function returned; by the ABI it is a constant module table, which stays
        // as long as the library does, and the library goes in `unload` only, or with an error, when nothing is kept.
        unsafe { Self::check(path, raw, Some(library)) }
    }

    /// Checks a table that the program has itself, statically linked or filled in by hand, in the same way. It is called a
    /// plugin of the path `name` in errors. Unloading it lets go of the table.
    ///
    /// # Errors
    /// Any [`LoadError`] that speaks of a table.
    ///
    /// # Safety
    /// `raw` is NULL or points at the first three words of a module table, and if they are those of a module then at
    /// `struct_size` bytes of it. Those and all that they point at stay valid and unchanged as long as this value lives.
    pub unsafe fn from_table(name: &Path, raw: *const Module) -> Result<Arc<Self>, LoadError> {
        if raw.is_null() {
            return Err(LoadError::BadModule {
                path: name.into(),
                what: "the table is NULL".into(),
            });
        }
        // SAFETY: this function's own contract.
        unsafe { Self::check(name, raw, None) }
    }

    /// # Safety
    /// As for [`Plugin::from_table`], as long as `library` is loaded.
    unsafe fn check(path: &Path, raw: *const Module, library: Option<Library>) -> Result<Arc<Self>, LoadError> {
        // SAFETY: this function's contract is the callee's.
        let module = unsafe { handshake::read_module(path, raw) }?;
        handshake::check_members(path, &module)?;
        // SAFETY: the texts of a module table of this version are NULL or zero-terminated and static.
        let texts = unsafe { handshake::read_texts(path, &module) }?;
        let layout_checked = library
            .as_ref()
            .map_or(Ok(false), |library| layout::check(path, library))?;
        handshake::check_operations(path, &module)?;
        let library = library.map(ManuallyDrop::new);
        Ok(Arc::new(Self {
            path: path.into(),
            module,
            texts,
            layout_checked,
            address: raw.addr(),
            library,
        }))
    }

    /// The file it came from, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host's copy of its table: members that the plugin does not know are absent. Open, close and get are there, or
    /// of a driver get_extension. The
    /// functions may be called only while this plugin is alive.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Its short name: letters, digits, '-' and '_'.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.texts.name
    }

    /// Its own version, for people.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.texts.version.as_deref()
    }

    /// One sentence about it, for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.texts.description.as_deref()
    }

    /// The ABI version it was built for.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        AbiVersion(self.module.abi_version)
    }

    /// Whether it is a Rust plugin whose types were compared with the host's.
    #[must_use]
    pub fn layout_checked(&self) -> bool {
        self.layout_checked
    }

    /// Whether both stand for the same plugin. A library is known by where its table lies. A program may use the same
    /// memory for another table, after it has forgotten that the first is in use: that is another plugin.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let both_libraries = self.library.is_some() && other.library.is_some();
        self.address == other.address && (both_libraries || self.has_contents_of(other))
    }

    fn has_contents_of(&self, other: &Self) -> bool {
        let words = |module: &Module| {
            // SAFETY: a module has no padding, so all its bytes are set; pointers are compared as numbers.
            unsafe { std::mem::transmute_copy::<Module, [u64; size_of::<Module>() / 8]>(module) }
        };
        self.texts == other.texts && words(&self.module) == words(&other.module)
    }

    /// Whether it refuses to be unloaded.
    #[must_use]
    pub fn stays_resident(&self) -> bool {
        self.module.caps & QUIRE_CAP_STAY_RESIDENT != 0
    }

    /// Gives the library back to the dynamic linker. The library's destructors may run.
    ///
    /// `this` must be the last owner: whoever could still call into the plugin holds another. The plugin's threads must
    /// have ended, which `fini` promises; call it before, where `init` was called.
    ///
    /// # Errors
    /// [`LoadError::StaysResident`], [`LoadError::InUse`]; the plugin is handed back and works as before. Linker: the
    /// dynamic linker's own complaint is no error here, since nobody holds the library any more either way.
    pub fn unload(this: Arc<Self>) -> Result<Released, Box<NotReleased>> {
        if this.stays_resident() {
            let error = LoadError::StaysResident {
                path: this.path.clone(),
            };
            return Err(Box::new(NotReleased { error, plugin: this }));
        }
        match Arc::try_unwrap(this) {
            Ok(mut plugin) => {
                if let Some(library) = plugin.library.take() {
                    let _complaint = ManuallyDrop::into_inner(library).close();
                }
                Ok(Released)
            }
            Err(plugin) => {
                let error = LoadError::InUse {
                    path: plugin.path.clone(),
                    what: "somebody else has it loaded".into(),
                };
                Err(Box::new(NotReleased { error, plugin }))
            }
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("path", &self.path)
            .field("name", &self.texts.name)
            .finish_non_exhaustive()
    }
}

/// Everything is bound now, so that a missing symbol is an error here and not a crash in a fault; and nothing of the plugin
/// is seen by other libraries.
fn open(path: &Path) -> Result<Library, LoadError> {
    // dlopen searches the system's folders for a name without a slash; ours is always the file that was checked.
    let file = if path.components().count() > 1 {
        path.to_owned()
    } else {
        Path::new(".").join(path)
    };
    // SAFETY: loading runs the constructors of the file; that it is a pager plugin was checked, and plugins are trusted code.
    unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| linker_error(path, &e))
}

/// Calls the entry function, whose signature never changes: it may be called before the version is known.
fn entry(path: &Path, library: &Library) -> Result<*const Module, LoadError> {
    // SAFETY: a function of that name has that signature: the ABI reserves the name, and the file was seen to define a function.
    let entry = unsafe { library.get::<Entry>(QUIRE_PAGER_ENTRY) }.map_err(|e| linker_error(path, &e))?;
    // SAFETY: by the ABI the entry function is pure and may be called with any number.
    let module = unsafe { entry(QUIRE_PAGER_ABI_VERSION) };
    if module.is_null() {
        Err(LoadError::RefusesHost {
            path: path.into(),
            host: HOST,
        })
    } else {
        Ok(module)
    }
}

/// libloading keeps what the dynamic linker said in the error's source.
fn linker_error(path: &Path, error: &libloading::Error) -> LoadError {
    let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    LoadError::Linker {
        path: path.into(),
        reason,
    }
}
