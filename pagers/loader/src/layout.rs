//! The layout proof of plugins written in Rust.
//!
//! Such a plugin exports, beside its C entry function, a description of every type of the ABI as its compiler laid it out.
//! Comparing it with ours finds what version numbers cannot: a changed member that nobody counted up for. A plugin in
//! another language has no description, and is taken at its word.

use std::path::Path;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME_WITH_NUL};
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};
use libloading::os::unix::Library;
use quire_abi::layout::RustRootRef;

use crate::error::LoadError;

/// The longest report of a difference, in bytes.
const MAX_REPORT: usize = 200;

/// Compares the plugin's description of the ABI's types with ours. `Ok(false)`: it has none.
///
/// `check_layout_compatibility` is not used: it keeps pointers into the plugin in a static, and they would dangle once the
/// plugin is unloaded. Nothing of the plugin outlives this call; the report is text.
pub(crate) fn check(path: &Path, library: &Library) -> Result<bool, LoadError> {
    let differs = |what| LoadError::Layout {
        path: path.into(),
        what,
    };
    // SAFETY: the symbol, where it exists, is the static header that abi_stable's `export_root_module` emits, and an
    // `AbiHeaderRef` is a reference to it; its first member is a magic text that `upgrade` compares before using the rest.
    let Ok(header) = (unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) }) else {
        return Ok(false);
    };
    let header = (*header)
        .upgrade()
        .map_err(|_| differs("built with another abi_stable".into()))?;
    let Some(found) = header.layout() else { return Ok(false) };
    let ours = <RustRootRef as StableAbi>::LAYOUT;
    // One direction allows the plugin to have more members, the other the host. A changed member fails both.
    let result = compare(ours, found).or_else(|errors| compare(found, ours).map_err(|_| errors));
    result.map(|()| true).map_err(|errors| differs(condense(&errors)))
}

fn compare(interface: &'static TypeLayout, implementation: &'static TypeLayout) -> Result<(), AbiInstabilityErrors> {
    check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new())
}

/// The first difference as "at `member.member`: expected …, found …". The full report fills screens.
fn condense(errors: &AbiInstabilityErrors) -> String {
    let Some((error, first)) = errors
        .errors
        .iter()
        .find_map(|e| e.errs.first().map(|first| (e, first)))
    else {
        return "the descriptions differ".into();
    };
    let place = member_path(error);
    let difference = in_words(first);
    cut(if place.is_empty() {
        difference
    } else {
        format!("at {place}: {difference}")
    })
}

fn member_path(error: &AbiInstabilityError) -> String {
    let names: Vec<&str> = error
        .stack_trace
        .iter()
        .map(|step| match &step.expected {
            TLFieldOrFunction::Field(field) => field.name(),
            TLFieldOrFunction::Function(function) => function.name.as_str(),
        })
        .collect();
    names.join(".")
}

fn in_words(difference: &AbiInstability) -> String {
    use AbiInstability as D;
    match difference {
        D::Name(v) => format!("expected type {}, found {}", v.expected, v.found),
        D::Size(v) => format!("expected a size of {} bytes, found {}", v.expected, v.found),
        D::Alignment(v) => format!("expected an alignment of {} bytes, found {}", v.expected, v.found),
        D::FieldCountMismatch(v) => format!("expected {} members, found {}", v.expected, v.found),
        D::MismatchedPrefixSize(v) => format!("expected {} mandatory members, found {}", v.expected, v.found),
        D::UnexpectedField(v) => format!("expected member {}, found {}", v.expected.name(), v.found.name()),
        D::Package(v) => format!("expected a type of package {}, found {}", v.expected, v.found),
        D::PackageVersion(v) => format!("expected quire-abi {}, found {}", v.expected, v.found),
        D::MismatchedPrimitive(v) => format!("expected {:?}, found {:?}", v.expected, v.found),
        other => {
            let text = format!("{other:?}");
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_REPORT {
        let end = (0..=MAX_REPORT - '…'.len_utf8())
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("ä".repeat(300));
        assert!(long.len() <= MAX_REPORT && long.ends_with('…'));
    }
}
