//! The ledger of behaviours is whole, and the tests it names exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FREE: std::ops::RangeInclusive<u32> = 157..=170;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Row, state and proof of every line of the table.
fn ledger() -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(root().join("tests/CHECKLIST.md")).expect("the ledger");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    text.lines()
        .map(cells)
        .filter(|cells| cells.len() == 6 && cells[1].starts_with(['S', 'D', 'N', 'F']))
        .map(|cells| {
            (
                cells[1].clone(),
                (cells[2].clone(), cells[4].trim_matches('`').to_owned()),
            )
        })
        .collect()
}

/// Names of all functions that are marked as tests, anywhere in the sources.
fn tests_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir()
            && !name.to_string_lossy().starts_with(['.', '_'])
            && !name.to_string_lossy().starts_with("target")
        {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line == "#[test]";
                if let Some(rest) = line.strip_prefix("fn ")
                    && std::mem::take(&mut marked)
                {
                    names.insert(rest.split('(').next().unwrap_or_default().to_owned());
                }
            }
        }
    }
}

#[test]
fn every_row_has_a_line_and_a_known_state() {
    let ledger = ledger();
    let rows = (1..=250)
        .map(|n| format!("S{n}"))
        .chain((1..=12).map(|n| format!("D{n}")))
        .chain([1, 2, 3, 5, 6, 7, 8, 11, 12, 13].map(|n| format!("N{n}")))
        .chain([19, 20, 21].map(|n| format!("F{n}")));
    for row in rows {
        let (state, _) = ledger.get(&row).unwrap_or_else(|| panic!("row {row} has no line"));
        let free = row
            .strip_prefix('S')
            .and_then(|n| n.parse().ok())
            .is_some_and(|n: u32| FREE.contains(&n));
        let known = if free {
            &["free"][..]
        } else {
            &["held", "docs", "superseded", "open"][..]
        };
        assert!(known.contains(&state.as_str()), "row {row} has the state `{state}`");
    }
}

#[test]
fn every_held_row_names_a_test_that_exists() {
    let mut names = BTreeSet::new();
    tests_in(&root(), &mut names);
    for (row, (state, proof)) in ledger() {
        if state == "held" {
            assert!(
                names.contains(&proof),
                "row {row} names the test `{proof}`, which does not exist"
            );
        }
    }
}
