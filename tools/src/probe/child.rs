//! The child's side: everything that may crash.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use quire_bridge::{Level, Log, Open};
use quire_core::engine::Engine;
use quire_core::map::{Map, MapRequest};
use quire_core::soft::{SoftConfig, SoftMachine};
use quire_core::types::{AddrRange, PAGE_BYTES, PAGE_SIZE, VirtAddr};
use quire_loader::{Loaded, Plugin, Report, SearchPath};
use serde_json::{Value, json};

use super::Request;
use super::finding::plugin_line;

/// Why the plugin is no good, in a sentence.
type Refusal = Box<dyn std::error::Error>;

/// Tries the plugin and writes the finding to what the parent gave as the standard output. The exit status only says that
/// the finding is whole.
pub(crate) fn try_it(request: &Request) -> ExitCode {
    match Notes::take_stdout().and_then(|mut notes| {
        let last = match try_all(request, &mut notes) {
            Ok(()) => json!({ "loadable": true }),
            Err(refusal) => json!({ "refused": refusal.to_string() }),
        };
        notes.write(&last)?;
        // Destructors of a library that stays loaded run when the process ends.
        notes.doing("its process was ending")
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quire probe: cannot write to the process that started this one: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_all(request: &Request, notes: &mut Notes) -> Result<(), Refusal> {
    let path = SearchPath::new(&[]).find(&request.plugin)?;
    notes.doing("it was being loaded")?;
    let plugin = Plugin::load(&path)?;
    notes.write(&plugin_line(&Report::of(&plugin)))?;
    notes.doing("it was being initialised")?;
    let loaded = Loaded::load(&path, request.config.as_deref(), log())?;
    // The library stays, as it is in use; without this it would stay for ever.
    let _stays = Plugin::unload(plugin);
    if request.open.is_some() {
        use_it(request, &loaded, notes)?;
    }
    notes.doing("it was being unloaded")?;
    // One that must stay stays; that is its right.
    let _stays = Loaded::unload(loaded);
    Ok(())
}

/// Opens the object, reads its first page as a program would, and closes it.
fn use_it(request: &Request, loaded: &Loaded, notes: &mut Notes) -> Result<(), Refusal> {
    notes.doing("it was opening an object")?;
    let open = Open {
        name: request.open.as_deref(),
        ..Open::default()
    };
    let opened = loaded.open(&open)?;
    let size = opened.size;
    let engine = Engine::new(SoftMachine::new(SoftConfig::default())?);
    let object = engine.create_object(opened.pager, size)?;
    let mut told = json!({
        "name": request.open.as_ref().map(|name| name.to_string_lossy()),
        "size": size,
        "first_page": "none: the object is empty",
    });
    if size > 0 {
        notes.doing("it was getting a page")?;
        let everywhere = AddrRange {
            start: VirtAddr(1 << 20),
            end: VirtAddr(1 << 40),
        };
        let map = Map::new(engine.clone(), everywhere)?;
        let range = map.map(&object, &MapRequest::read_only(PAGE_SIZE))?;
        let mut page = vec![0; PAGE_BYTES];
        map.copy_out(range.start, &mut page).map_err(|stopped| stopped.error)?;
        let live = usize::try_from(size).unwrap_or(usize::MAX);
        told["first_page"] = beginning(&page[..live.min(PAGE_BYTES)]).into();
        map.clear()?;
    }
    notes.write(&json!({ "opened": told }))?;
    notes.doing("it was closing an object")?;
    object.release()?;
    engine.shut_down()?;
    Ok(())
}

/// The first bytes, for people: enough to see whether it is the right thing.
fn beginning(page: &[u8]) -> String {
    format!("read; begins with \"{}\"", page[..page.len().min(16)].escape_ascii())
}

/// Lines of the plugin's log go to the standard error.
fn log() -> Log {
    Box::new(|level, plugin, text| {
        let level = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        eprintln!("{plugin}: {level}: {text}");
    })
}

/// Where the finding is written, unbuffered: what was written stays written if the next step crashes.
struct Notes(File);

impl Notes {
    /// Takes the standard output for the finding. What the plugin prints there goes to the standard error from now on.
    fn take_stdout() -> io::Result<Self> {
        let own = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
        rustix::stdio::dup2_stdout(io::stderr())?;
        Ok(Self(own.into()))
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes())
    }

    /// Says what comes next, in words that follow "while".
    fn doing(&mut self, step: &str) -> io::Result<()> {
        self.write(&json!({ "doing": step }))
    }
}
