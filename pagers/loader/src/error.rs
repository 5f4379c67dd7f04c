//! Why a plugin was not loaded or not unloaded, each in one sentence that begins with the path it speaks of.

use std::fmt;
use std::io;
use std::path::PathBuf;

use quire_core::error::{Cause, PagerError};

/// An ABI version, `major << 16 | minor`, written as `major.minor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbiVersion(pub u32);

impl AbiVersion {
    /// The number that must be equal for a plugin to load at all.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The number that tells how much of the tables a plugin knows.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// Why a plugin was refused, or could not be let go. Nothing of a refused plugin stays in use.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file of that name in any folder of the search path.
    #[error("no pager plugin \"{name}\": {}", looked_in(.places))]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// Every file that was tried.
        places: Vec<PathBuf>,
    },
    /// The name can be neither a plugin's name nor a path.
    #[error(
        "\"{name}\" cannot be the name of a pager: use lower-case letters, digits, '-' and '_', or a path with a '/' in it"
    )]
    BadName {
        /// The name that was asked for.
        name: String,
    },
    /// The system does not let us read the file.
    #[error("{}: cannot be read: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{}: is {what}, not a regular file", .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// The file does not begin as ELF files do.
    #[error("{}: not an ELF file; give the path of a plugin's shared library", .path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// An ELF file, and of another kind than a shared library.
    #[error("{}: an ELF file, but {what}, not a shared library; link it with -shared", .path.display())]
    NotLibrary {
        /// The file.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// Built for another machine.
    #[error("{}: for another machine: {what}; rebuild it for this one", .path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The file is shorter than its own headers say.
    #[error("{}: truncated: {what}; copy or build it again", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is cut off.
        what: String,
    },
    /// The ELF headers contradict themselves; the dynamic linker might crash on them.
    #[error("{}: a damaged ELF file: {what}; copy or build it again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A shared library, and no plugin of ours.
    #[error("{}: not a pager plugin: it has no symbol quire_pager_entry; add QUIRE_PAGER_EXPORT or export_pager!", .path.display())]
    NoEntry {
        /// The file.
        path: PathBuf,
    },
    /// The dynamic linker could not load it.
    #[error("{}: the dynamic linker refuses it: {reason}", .path.display())]
    Linker {
        /// The file.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The entry function answered NULL.
    #[error("{}: refuses this host (plugin ABI {host})", .path.display())]
    RefusesHost {
        /// The file.
        path: PathBuf,
        /// The version it was told.
        host: AbiVersion,
    },
    /// The table does not begin with the magic number.
    #[error("{}: its table does not begin as a pager module: magic is {magic:#010x}; set it to QUIRE_PAGER_MAGIC", .path.display())]
    BadMagic {
        /// The file.
        path: PathBuf,
        /// The number found.
        magic: u32,
    },
    /// Built for an ABI that this host does not load.
    #[error("{}: built for plugin ABI {plugin}, this host has {host}: {}; rebuild it with this host's header", .path.display(), version_rule(*.host))]
    Version {
        /// The file.
        path: PathBuf,
        /// The plugin's version.
        plugin: AbiVersion,
        /// The host's version.
        host: AbiVersion,
    },
    /// The table is shorter than any of its major version.
    #[error("{}: its table has {size} bytes, and every one of its version has at least {min}; set struct_size to sizeof(struct quire_pager_module)", .path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Bytes the table says it has.
        size: u32,
        /// Bytes it must have.
        min: u32,
    },
    /// Something in the table is not as the header demands.
    #[error("{}: its table is not valid: {what}", .path.display())]
    BadModule {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A Rust plugin whose types are laid out differently.
    #[error("{}: a Rust plugin with another type layout: {what}; build it with the same quire-abi", .path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// The first difference, in words.
        what: String,
    },
    /// An operation that every pager has is missing.
    #[error("{}: the mandatory operation {operation} is missing; add it to the table", .path.display())]
    MissingOperation {
        /// The file.
        path: PathBuf,
        /// Its name in the table.
        operation: &'static str,
    },
    /// The plugin asked to stay until the process ends.
    #[error("{}: the plugin must stay loaded until the process ends", .path.display())]
    StaysResident {
        /// The file.
        path: PathBuf,
    },
    /// The plugin's `init` answered an error.
    #[error("{}: the plugin could not be initialised: {error}", .path.display())]
    Init {
        /// The file.
        path: PathBuf,
        /// The plugin's answer.
        error: PagerError,
    },
    /// The module of a driver, whose driver's table is not as the header demands.
    #[error("{}: the table of its driver {name} is not valid: {what}", .path.display())]
    BadDriver {
        /// The file.
        path: PathBuf,
        /// The driver.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The plugin is loaded already, and was told another configuration then.
    #[error("{}: loaded already with another configuration; unload it first", .path.display())]
    OtherConfig {
        /// The file.
        path: PathBuf,
    },
    /// `init` or `fini` of the plugin came back to the loader for the same plugin, or would wait for what waits for it.
    #[error("{}: {what}; do it after init or fini has returned", .path.display())]
    Reentered {
        /// The file.
        path: PathBuf,
        /// Who came back.
        what: &'static str,
    },
    /// Objects, or other users, still need the plugin.
    #[error("{}: still in use ({what}); close what uses it and try again", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// By what.
        what: String,
    },
}

impl LoadError {
    /// The error as a status: a negated `errno` number of Linux, the same on every machine.
    ///
    /// `-2` (ENOENT) not found · `-5` (EIO) unreadable · `-8` (ENOEXEC) not a loadable plugin · `-22` (EINVAL) a bad name ·
    /// `-71` (EPROTO) another ABI version or layout, or a plugin that refuses this host · `-16` (EBUSY) in use ·
    /// `-1` (EPERM) must stay · `-35` (EDEADLK) loaded from inside its own `init` or `fini` · what `init` answered, `-12` (ENOMEM) or `-5`.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self {
            Self::NotFound { .. } => -2,
            Self::Unreadable { error, .. } => error.raw_os_error().map_or(-5, |n| -n),
            Self::BadName { .. } => -22,
            Self::NotRegular { .. }
            | Self::NotElf { .. }
            | Self::NotLibrary { .. }
            | Self::OtherMachine { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::NoEntry { .. }
            | Self::Linker { .. }
            | Self::BadMagic { .. }
            | Self::TooSmall { .. }
            | Self::BadModule { .. }
            | Self::BadDriver { .. }
            | Self::MissingOperation { .. } => -8,
            Self::RefusesHost { .. } | Self::Version { .. } | Self::Layout { .. } => -71,
            Self::StaysResident { .. } => -1,
            Self::InUse { .. } | Self::OtherConfig { .. } => -16,
            Self::Reentered { .. } => -35,
            Self::Init { error, .. } => match error.cause {
                Cause::Errno(n) => -n,
                Cause::NoMemory => -12,
                _ => -5,
            },
        }
    }
}

fn looked_in(places: &[PathBuf]) -> String {
    if places.is_empty() {
        return "there is no folder to look in; set QUIRE_PAGER_PATH".into();
    }
    let list: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
    format!(
        "looked for {}; set QUIRE_PAGER_PATH to its folder, or give a path with a '/' in it",
        list.join(", ")
    )
}

fn version_rule(host: AbiVersion) -> &'static str {
    if host.major() == 0 {
        "while the ABI is 0.x both must be the same"
    } else {
        "the major numbers must be the same"
    }
}
