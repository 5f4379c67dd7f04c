//! What a plugin is and can do, in words: what `quire probe` prints.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_abi::{
    Module, QUIRE_CAP_ASYNC, QUIRE_CAP_DEVICES, QUIRE_CAP_DRIVER, QUIRE_CAP_FORK_SAFE, QUIRE_CAP_PANIC_ABORT,
    QUIRE_CAP_SIGNAL_SAFE, QUIRE_CAP_STAY_RESIDENT, QUIRE_THREADS_SERIALIZE_ALL, QUIRE_THREADS_SERIALIZE_OBJECT,
};

use crate::error::{AbiVersion, LoadError};
use crate::plugin::Plugin;

/// What is known of a plugin without opening anything through it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its short name.
    pub name: String,
    /// Its own version, for people.
    pub version: Option<String>,
    /// One sentence about it.
    pub description: Option<String>,
    /// The ABI version it was built for.
    pub abi_version: AbiVersion,
    /// Bytes that its table says it has.
    pub table_size: u32,
    /// How its operations are serialised: "module", "object" or "none".
    pub serialized: &'static str,
    /// What it can or wants, by name.
    pub capabilities: Vec<&'static str>,
    /// The operations it has, by their names in the table.
    pub operations: Vec<&'static str>,
    /// The operations it has not.
    pub absent: Vec<&'static str>,
    /// Whether it is a Rust plugin whose types were compared with the host's.
    pub layout_checked: bool,
}

/// Loads the plugin at `path`, describes it and lets it go again. Nothing but its constructors, its entry function and its
/// destructors runs; they may crash, so a careful caller does this in a child process.
///
/// # Errors
/// As [`Plugin::load`].
pub fn probe(path: &Path) -> Result<Report, LoadError> {
    let plugin = Plugin::load(path)?;
    let report = Report::of(&plugin);
    // One that must stay stays; that is its right and no failure of the probe.
    let _stays = Plugin::unload(plugin);
    Ok(report)
}

impl Report {
    /// Describes a loaded plugin.
    #[must_use]
    pub fn of(plugin: &Arc<Plugin>) -> Self {
        let module = plugin.module();
        let is_driver = module.caps & QUIRE_CAP_DRIVER != 0;
        // What else a driver can do stands in a table of its own, which it tells once it runs.
        let of_drivers = |name: &str| ["init", "fini", "get_extension"].contains(&name);
        let (there, absent): (Vec<_>, Vec<_>) = operations(module)
            .into_iter()
            .filter(|(name, _)| !is_driver || of_drivers(name))
            .partition(|(_, there)| *there);
        let names = |ops: Vec<(&'static str, bool)>| ops.into_iter().map(|(name, _)| name).collect();
        Self {
            path: plugin.path().into(),
            name: plugin.name().into(),
            version: plugin.version().map(Into::into),
            description: plugin.description().map(Into::into),
            abi_version: plugin.abi_version(),
            table_size: module.struct_size,
            serialized: match module.thread_model {
                QUIRE_THREADS_SERIALIZE_ALL => "module",
                QUIRE_THREADS_SERIALIZE_OBJECT => "object",
                _ => "none",
            },
            capabilities: capabilities(module.caps),
            operations: names(there),
            absent: names(absent),
            layout_checked: plugin.layout_checked(),
        }
    }
}

fn capabilities(caps: u64) -> Vec<&'static str> {
    [
        (QUIRE_CAP_ASYNC, "async"),
        (QUIRE_CAP_STAY_RESIDENT, "stay-resident"),
        (QUIRE_CAP_PANIC_ABORT, "panic-abort"),
        (QUIRE_CAP_FORK_SAFE, "fork-safe"),
        (QUIRE_CAP_SIGNAL_SAFE, "signal-safe"),
        (QUIRE_CAP_DRIVER, "driver"),
        (QUIRE_CAP_DEVICES, "devices"),
    ]
    .into_iter()
    .filter(|(bit, _)| caps & bit != 0)
    .map(|(_, name)| name)
    .collect()
}

fn operations(m: &Module) -> [(&'static str, bool); 20] {
    [
        ("open", m.open.is_some()),
        ("close", m.close.is_some()),
        ("get", m.get.is_some()),
        ("init", m.init.is_some()),
        ("fini", m.fini.is_some()),
        ("put", m.put.is_some()),
        ("has_page", m.has_page.is_some()),
        ("populate", m.populate.is_some()),
        ("get_size", m.get_size.is_some()),
        ("resize", m.resize.is_some()),
        ("sync", m.sync.is_some()),
        ("prepare_write", m.prepare_write.is_some()),
        ("cancel", m.cancel.is_some()),
        ("reserve", m.reserve.is_some()),
        ("free_space", m.free_space.is_some()),
        ("page_inserted", m.page_inserted.is_some()),
        ("page_removed", m.page_removed.is_some()),
        ("path", m.path.is_some()),
        ("get_extension", m.get_extension.is_some()),
        ("get_change", m.get_change.is_some()),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[&str]| {
            if names.is_empty() {
                "none".into()
            } else {
                names.join(" ")
            }
        };
        writeln!(f, "path          {}", self.path.display())?;
        writeln!(f, "name          {}", self.name)?;
        writeln!(f, "version       {}", self.version.as_deref().unwrap_or("not told"))?;
        writeln!(f, "description   {}", self.description.as_deref().unwrap_or("none"))?;
        writeln!(
            f,
            "plugin ABI    {} (a table of {} bytes)",
            self.abi_version, self.table_size
        )?;
        writeln!(
            f,
            "calls         {}",
            match self.serialized {
                "module" => "one at a time",
                "object" => "one at a time on each object",
                _ => "any number at a time",
            }
        )?;
        writeln!(f, "capabilities  {}", list(&self.capabilities))?;
        writeln!(f, "operations    {}", list(&self.operations))?;
        writeln!(f, "absent        {}", list(&self.absent))?;
        write!(
            f,
            "type layout   {}",
            if self.layout_checked {
                "checked"
            } else {
                "not described by the plugin"
            }
        )
    }
}
