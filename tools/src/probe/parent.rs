//! The parent's side: it never touches the plugin.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use wait_timeout::ChildExt;

use super::finding::{Finding, Verdict};
use super::{Request, signal};

/// Tries the plugin in another process and prints what came out. The answer is the exit status.
pub(crate) fn probe(request: &Request) -> ExitCode {
    let (finding, verdict) = match run(request) {
        Ok(result) => result,
        Err(error) => {
            eprintln!("quire probe: cannot try the plugin in a process of its own: {error}");
            return ExitCode::from(2);
        }
    };
    if request.json {
        finding.print_json(&verdict);
    } else {
        finding.print(&verdict);
    }
    ExitCode::from(verdict.exit_status())
}

fn run(request: &Request) -> io::Result<(Finding, Verdict)> {
    // A file and no pipe: whatever the plugin leaves behind cannot keep it open for us, nor fill it up.
    let mut file = tempfile::tempfile()?;
    let ended = run_child(request, &file)?;
    file.rewind()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let finding = Finding::read(&String::from_utf8_lossy(&text));
    let verdict = judge(request, &finding, ended);
    Ok((finding, verdict))
}

/// How the child ended; nothing if it had to be killed because the time was up.
fn run_child(request: &Request, finding: &File) -> io::Result<Option<ExitStatus>> {
    let mut child = Command::new(env::current_exe()?)
        .args(request.arguments())
        .stdin(Stdio::null())
        .stdout(finding.try_clone()?)
        .spawn()?;
    let ended = child.wait_timeout(request.time_limit)?;
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(ended)
}

fn judge(request: &Request, finding: &Finding, ended: Option<ExitStatus>) -> Verdict {
    let step = finding.doing.as_deref().unwrap_or("its process was started");
    let Some(status) = ended else {
        let limit = request.time_limit.as_secs_f64();
        return Verdict::Crashed(format!(
            "the plugin did not come back within {limit} s while {step}; its process was killed"
        ));
    };
    if let Some(number) = status.signal() {
        let signal = signal::name(number);
        return Verdict::Crashed(format!("the plugin crashed with {signal} while {step}"));
    }
    match finding.conclusion() {
        Some(verdict) if status.success() => verdict,
        _ => {
            let code = status.code().unwrap_or_default();
            Verdict::Crashed(format!("the plugin ended its process with status {code} while {step}"))
        }
    }
}
