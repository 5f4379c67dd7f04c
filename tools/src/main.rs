//! The `quire` command.

mod probe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Quire, a virtual-memory pager framework: its tool.
#[derive(Debug, Parser)]
#[command(name = "quire", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells what a pager plugin is and can do, or why it is refused.
    ///
    /// The plugin is tried in a process of its own, so that one that crashes or hangs does no harm.
    ///
    /// Exit status: 0 it can be loaded, 1 it is refused, 2 wrong usage, 3 it crashed, ended its process or did not come back.
    Probe(probe::Request),
    /// What `probe` runs in the other process.
    #[command(name = probe::CHILD, hide = true)]
    ProbeChild(probe::Request),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Probe(request) => probe::probe(&request),
        Command::ProbeChild(request) => probe::try_it(&request),
    }
}
