//! `quire probe`: what a plugin is and can do, found out in a process of its own.
//!
//! | file | whose |
//! |---|---|
//! | `parent` | starts the other process, waits, and tells how it ended |
//! | `child` | loads the plugin, uses it, and writes down what it is about to do before it does it |
//! | `finding` | what the child writes for the parent, and how it is shown |

mod child;
mod finding;
mod parent;
mod signal;

use std::ffi::{CString, OsString};
use std::time::Duration;

use clap::Args;

pub(crate) use child::try_it;
pub(crate) use parent::probe;

/// The hidden subcommand that the other process runs.
pub(crate) const CHILD: &str = "probe-child";

/// What to try.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The plugin: a path with a '/' in it, or a name to look for (`vnode`; see QUIRE_PAGER_PATH)
    plugin: String,
    /// The configuration to initialise it with
    #[arg(long, value_name = "TEXT", value_parser = text_without_nul)]
    config: Option<CString>,
    /// Also open this, read its first page through an engine, and close it
    #[arg(long, value_name = "NAME", value_parser = text_without_nul)]
    open: Option<CString>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for it
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    time_limit: Duration,
}

impl Request {
    /// The same request as arguments of the other process, which writes its finding for the parent to read.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![CHILD.into()];
        for (flag, value) in [("--config", &self.config), ("--open", &self.open)] {
            if let Some(value) = value {
                // In one word: the value may begin with a dash.
                arguments.push(format!("{flag}={}", value.to_string_lossy()).into());
            }
        }
        arguments.extend(["--".into(), (&self.plugin).into()]);
        arguments
    }
}

fn text_without_nul(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "it has a zero byte in it".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(limit) if !limit.is_zero() => Ok(limit),
        _ => Err("it must be more than nothing, and not for ever".into()),
    }
}
