//! What the child found, line by line: each line is a JSON object with one member.
//!
//! `doing` comes before each step, so that the parent can tell where a child ended that ended early; `plugin` and `opened`
//! are what is known by then; `refused` is the last line of a plugin that is not loadable, `loadable` of one that is.

use quire_loader::Report;
use serde_json::{Value, json};

/// What is known of a plugin at the end.
#[derive(Debug, Default)]
pub(super) struct Finding {
    /// The step that began last, in words that follow "while".
    pub(super) doing: Option<String>,
    plugin: Option<Value>,
    opened: Option<Value>,
    refused: Option<String>,
    loadable: bool,
}

/// How the matter stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Loadable,
    /// Why.
    Refused(String),
    /// It took the process along; how and when.
    Crashed(String),
}

impl Verdict {
    pub(super) fn exit_status(&self) -> u8 {
        match self {
            Self::Loadable => 0,
            Self::Refused(_) => 1,
            Self::Crashed(_) => 3,
        }
    }
}

/// The line that says what a plugin is.
pub(super) fn plugin_line(report: &Report) -> Value {
    json!({ "plugin": {
        "path": report.path.to_string_lossy(),
        "name": report.name,
        "version": report.version,
        "description": report.description,
        "abi_version": report.abi_version.to_string(),
        "table_size": report.table_size,
        "serialized": report.serialized,
        "capabilities": report.capabilities,
        "operations": report.operations,
        "absent": report.absent,
        "layout_checked": report.layout_checked,
        "text": report.to_string(),
    } })
}

impl Finding {
    /// Reads what a child wrote. A child may end in the middle of a line, which then does not count.
    pub(super) fn read(text: &str) -> Self {
        let mut finding = Self::default();
        for line in text.lines() {
            let Ok(Value::Object(members)) = serde_json::from_str(line) else {
                continue;
            };
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("doing", Value::String(step)) => finding.doing = Some(step),
                    ("plugin", plugin) => finding.plugin = Some(plugin),
                    ("opened", opened) => finding.opened = Some(opened),
                    ("refused", Value::String(why)) => finding.refused = Some(why),
                    ("loadable", _) => finding.loadable = true,
                    _ => {}
                }
            }
        }
        finding
    }

    /// What the child itself concluded, if it came that far.
    pub(super) fn conclusion(&self) -> Option<Verdict> {
        match &self.refused {
            Some(why) => Some(Verdict::Refused(why.clone())),
            None => self.loadable.then_some(Verdict::Loadable),
        }
    }

    /// Prints everything for people: what is known to the standard output, what is wrong to the standard error.
    pub(super) fn print(&self, verdict: &Verdict) {
        if let Some(text) = self.plugin.as_ref().and_then(|plugin| plugin["text"].as_str()) {
            println!("{text}");
        }
        if let Some(opened) = &self.opened {
            let text = |name: &str| opened[name].as_str().unwrap_or("").to_owned();
            println!("opened        {}", text("name"));
            println!("size          {} bytes", opened["size"]);
            println!("first page    {}", text("first_page"));
        }
        match verdict {
            Verdict::Loadable => {}
            Verdict::Refused(why) => eprintln!("refused: {why}"),
            Verdict::Crashed(how) => eprintln!("{how}"),
        }
    }

    /// Prints everything as one JSON object, also what is wrong.
    pub(super) fn print_json(&self, verdict: &Verdict) {
        let mut plugin = self.plugin.clone();
        if let Some(Value::Object(members)) = &mut plugin {
            members.remove("text");
        }
        let (word, why) = match verdict {
            Verdict::Loadable => ("loadable", None),
            Verdict::Refused(why) => ("refused", Some(why)),
            Verdict::Crashed(how) => ("crashed", Some(how)),
        };
        let all = json!({ "verdict": word, "why": why, "plugin": plugin, "opened": self.opened });
        println!("{all:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_in_the_middle_of_a_line_has_said_what_it_said_before() {
        let finding = Finding::read("{\"doing\":\"being loaded\"}\n{\"doing\":\"being init");
        assert_eq!(finding.doing.as_deref(), Some("being loaded"));
        assert_eq!(finding.conclusion(), None);
    }

    #[test]
    fn the_reason_of_a_refusal_is_the_conclusion() {
        let finding = Finding::read("{\"doing\":\"x\"}\n{\"refused\":\"not an ELF file\"}\n");
        assert_eq!(finding.conclusion(), Some(Verdict::Refused("not an ELF file".into())));
    }
}
