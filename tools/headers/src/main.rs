//! Writes every generated C file of the repository: `quire-headers` writes, `quire-headers --check` only compares.
//!
//! The files are committed, so that a C author needs no Rust; the check, run by the tests, fails when one is stale. One
//! more header is one more row in [`HEADERS`].

mod api_table;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use quire_abi::golden;

/// A header and where it comes from, relative to the repository.
struct Header {
    /// The file to write.
    output: &'static str,
    /// cbindgen's configuration.
    config: &'static str,
    /// The sources, in the order in which their items appear. A folder stands for its `.rs` files, sorted by name.
    sources: &'static [&'static str],
    /// The source with the list of functions that become the members of `struct quire_api_table`.
    table: Option<&'static str>,
}

const HEADERS: &[Header] = &[
    Header {
        output: "include/quire_pager.h",
        config: "include/cbindgen-pager.toml",
        sources: &[
            "pagers/abi/src/lib.rs",
            "pagers/abi/src/status.rs",
            "pagers/abi/src/request.rs",
            "pagers/abi/src/page.rs",
            "pagers/abi/src/host.rs",
            "pagers/abi/src/driver.rs",
            "pagers/abi/src/module.rs",
        ],
        table: None,
    },
    Header {
        output: "include/quire.h",
        config: "include/cbindgen-quire.toml",
        sources: &[
            "ffi/src/status.rs",
            "ffi/src/c.rs",
            "ffi/src/fail.rs",
            "ffi/src/log.rs",
            "ffi/src/machine.rs",
            "ffi/src/engine.rs",
            "ffi/src/daemon.rs",
            "ffi/src/requests.rs",
            "ffi/src/pager.rs",
            "ffi/src/aperture.rs",
            "ffi/src/object.rs",
            "ffi/src/swap.rs",
            "ffi/src/map.rs",
            "ffi/src/fork.rs",
            "ffi/src/wire.rs",
            "ffi/src/page.rs",
            "ffi/src/access.rs",
            "ffi/src/api.rs",
        ],
        table: Some("ffi/src/api.rs"),
    },
];

/// The C side of the golden table.
const GOLDEN: &str = "tests/c/golden.c";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quire-headers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: quire-headers [--check]".into()),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut stale = false;
    for (output, text) in generate(&root)? {
        let path = root.join(output);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            continue;
        }
        if check {
            eprintln!("{output} is stale: run `cargo run -p quire-headers` and commit the result");
            stale = true;
        } else {
            fs::create_dir_all(path.parent().ok_or("an output needs a folder")?)?;
            fs::write(&path, text)?;
            println!("wrote {output}");
        }
    }
    Ok(if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every generated file: its path and its text.
fn generate(root: &Path) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for header in HEADERS {
        files.push((header.output, generate_header(root, header)?));
    }
    files.push((GOLDEN, golden_table()));
    Ok(files)
}

fn generate_header(root: &Path, header: &Header) -> Result<String, Box<dyn Error>> {
    let config = cbindgen::Config::from_file(root.join(header.config))?;
    let renamed = config.export.rename.clone();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in expand(root, header.sources)? {
        builder = builder.with_src(source);
    }
    let mut text = Vec::new();
    builder.generate()?.write(&mut text);
    let text = parenthesise(&plain_links(&String::from_utf8(text)?, &renamed));
    match header.table {
        None => Ok(text),
        Some(list) => api_table::insert(&text, &fs::read_to_string(root.join(list))?),
    }
}

/// Replaces folders by the sources in them.
fn expand(root: &Path, sources: &[&str]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for source in sources {
        let path = root.join(source);
        if !path.is_dir() {
            paths.push(path);
            continue;
        }
        let mut files = fs::read_dir(&path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
        files.sort();
        paths.append(&mut files);
    }
    Ok(paths)
}

/// Turns rustdoc's links into plain text with C names: [`Type::member`] becomes `member`, [`Type`] its name in C.
fn plain_links(text: &str, renamed: &HashMap<String, String>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        plain.push_str(before);
        let Some((name, after)) = link.split_once("`]") else {
            plain.push_str("[`");
            rest = link;
            continue;
        };
        let last = name.rsplit("::").next().unwrap_or(name);
        plain.push_str(&format!("`{}`", renamed.get(last).map_or(last, String::as_str)));
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Puts negative constants in parentheses, which cbindgen does not.
fn parenthesise(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        match line.rsplit_once(" -") {
            Some((name, digits)) if name.starts_with("#define ") && digits.bytes().all(|b| b.is_ascii_digit()) => {
                lines.push_str(&format!("{name} (-{digits})\n"));
            }
            _ => lines.push_str(&format!("{line}\n")),
        }
    }
    lines
}

/// The golden table as a C file that fails to compile when C disagrees with Rust.
fn golden_table() -> String {
    let mut text = String::from(
        "/* Sizes and offsets of the plugin ABI on a 64-bit machine. Generated from pagers/abi/src/golden.rs; do not edit. */\n\
         #include \"quire_pager.h\"\n\n\
         #define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), \"size of \" #type)\n\
         #define OFFSET(type, member, at) \\\n    \
         _Static_assert(offsetof(struct type, member) == (at), \"offset of \" #type \".\" #member)\n",
    );
    for golden in golden::STRUCTS {
        text.push_str(&format!("\nSIZE({}, {});\n", golden.c_name, golden.size));
        for (member, offset) in golden.members {
            text.push_str(&format!("OFFSET({}, {member}, {offset});\n", golden.c_name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_files_are_what_the_sources_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (output, text) in generate(&root).expect("the sources parse") {
            let present = fs::read_to_string(root.join(output)).unwrap_or_default();
            assert!(
                present == text,
                "{output} is stale: run `cargo run -p quire-headers` and commit the result"
            );
        }
    }

    #[test]
    fn links_become_plain_names() {
        let renamed = HashMap::from([("Module".to_owned(), "quire_pager_module".to_owned())]);
        let text = plain_links("see [`Module::put`], [`X`], [`Module`] and a[`0", &renamed);
        assert_eq!(text, "see `put`, `X`, `quire_pager_module` and a[`0");
    }

    #[test]
    fn negative_constants_are_parenthesised() {
        assert_eq!(
            parenthesise("#define MIN -4095\nint f(void); // -1\n"),
            "#define MIN (-4095)\nint f(void); // -1\n"
        );
    }
}
