//! Where a plugin is looked for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::LoadError;

/// The environment variable with more folders, separated by colons. Ignored in a program that runs with more rights than its caller.
pub const PATH_VARIABLE: &str = "QUIRE_PAGER_PATH";

/// The folder that the build was told plugins are installed in (`QUIRE_PAGER_DIR` while compiling).
const INSTALLED: Option<&str> = option_env!("QUIRE_PAGER_DIR");

/// The folders to look in, in this order: those given by the caller, `QUIRE_PAGER_PATH`, the installation's, beside the executable.
#[derive(Clone, Debug)]
pub struct SearchPath {
    folders: Vec<PathBuf>,
}

impl SearchPath {
    /// The search path of this process, behind the folders `first`. Reads the environment once.
    #[must_use]
    pub fn new(first: &[PathBuf]) -> Self {
        Self::with_environment(first, from_environment())
    }

    fn with_environment(first: &[PathBuf], environment: Vec<PathBuf>) -> Self {
        let mut folders: Vec<PathBuf> = first.to_vec();
        folders.extend(environment);
        folders.extend(INSTALLED.map(PathBuf::from));
        folders.extend(beside_library());
        folders.extend(beside_executable());
        Self::of(folders)
    }

    /// These folders and no other. An empty one is left out: it would mean "wherever the program happens to stand".
    #[must_use]
    pub fn of(folders: Vec<PathBuf>) -> Self {
        let mut kept: Vec<PathBuf> = Vec::new();
        for folder in folders {
            if !folder.as_os_str().is_empty() && !kept.contains(&folder) {
                kept.push(folder);
            }
        }
        Self { folders: kept }
    }

    /// The folders, in the order they are looked in.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The file of the plugin `name`. A name with a '/' in it is a path, and taken as it is; another is looked for as
    /// `libquire_pager_<name>.so`, also with '_' for '-' (cargo names libraries so). The first file found is the answer,
    /// whether it can be loaded or not.
    ///
    /// # Errors
    /// [`LoadError::BadName`], and [`LoadError::NotFound`] with every file that was tried.
    pub fn find(&self, name: &str) -> Result<PathBuf, LoadError> {
        if name.contains('/') && !name.contains('\0') {
            return Ok(PathBuf::from(name));
        }
        if !is_name(name) {
            return Err(LoadError::BadName { name: name.into() });
        }
        let mut spellings = vec![name.to_owned()];
        if name.contains('-') {
            spellings.push(name.replace('-', "_"));
        }
        let places: Vec<PathBuf> = self
            .folders
            .iter()
            .flat_map(|folder| {
                spellings
                    .iter()
                    .map(move |s| folder.join(format!("libquire_pager_{s}.so")))
            })
            .collect();
        match places.iter().find(|p| p.exists()) {
            Some(found) => Ok(found.clone()),
            None => Err(LoadError::NotFound {
                name: name.into(),
                places,
            }),
        }
    }
}

/// Lower-case letters, digits, '-' and '_', at most [`MAX_NAME`] of them.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// The longest name of a plugin in bytes; a file name has 255, and `libquire_pager_.so` takes some.
pub(crate) const MAX_NAME: usize = 64;

fn from_environment() -> Vec<PathBuf> {
    // A set-user-id program must not load code that its caller names.
    // SAFETY: reads a number that the kernel gave to the process; any argument is allowed.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Vec::new();
    }
    env::var_os(PATH_VARIABLE)
        .map(|v| env::split_paths(&v).collect())
        .unwrap_or_default()
}

/// `quire/pagers` beside the file this code was loaded from, and under the `lib` next to it: finds an installation that
/// was moved as a whole, from `lib/libquire.so` as well as from `bin/quire`.
fn beside_library() -> Vec<PathBuf> {
    let Some(folder) = own_file().and_then(|f| f.parent().map(Path::to_owned)) else {
        return Vec::new();
    };
    let mut folders = vec![folder.join("quire/pagers")];
    folders.extend(folder.parent().map(|prefix| prefix.join("lib/quire/pagers")));
    folders
}

/// The file that this function's code is mapped from: libquire.so, or the program it is linked into.
fn own_file() -> Option<PathBuf> {
    let here = (own_file as fn() -> Option<PathBuf> as *const ()).addr();
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let contains = usize::from_str_radix(start, 16).ok()? <= here && here < usize::from_str_radix(end, 16).ok()?;
        // The path is the last of six fields, and the only one with a slash in front of it.
        contains.then(|| rest.find('/').map(|at| PathBuf::from(&rest[at..])))?
    })
}

/// The executable's folder and its `deps`; for a program in `deps`, `examples` or the like also the folder above.
/// That is how cargo lays out what it builds.
fn beside_executable() -> Vec<PathBuf> {
    let Some(folder) = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)) else {
        return Vec::new();
    };
    let mut folders = vec![folder.clone()];
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folders.extend(folder.parent().map(Path::to_owned));
    }
    let built: Vec<_> = folders
        .iter()
        .filter(|f| !f.ends_with("deps"))
        .map(|f| f.join("deps"))
        .collect();
    folders.extend(built);
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        let path = SearchPath::of(vec![]);
        assert_eq!(path.find("./x.so").unwrap(), PathBuf::from("./x.so"));
    }

    #[test]
    fn names_cannot_climb_out_of_the_folders() {
        let path = SearchPath::of(vec!["/tmp".into()]);
        for name in ["", "..", "a\0b", "a b", "x\n", "./a\0", "Vnode"] {
            assert!(matches!(path.find(name), Err(LoadError::BadName { .. })), "{name:?}");
        }
    }

    #[test]
    fn the_error_lists_every_place() {
        let path = SearchPath::of(vec![
            "/nowhere/a".into(),
            "".into(),
            "/nowhere/b".into(),
            "/nowhere/a".into(),
        ]);
        let text = path.find("no-such").unwrap_err().to_string();
        assert_eq!(
            text,
            "no pager plugin \"no-such\": looked for /nowhere/a/libquire_pager_no-such.so, \
             /nowhere/a/libquire_pager_no_such.so, /nowhere/b/libquire_pager_no-such.so, \
             /nowhere/b/libquire_pager_no_such.so; set QUIRE_PAGER_PATH to its folder, or give a path with a '/' in it"
        );
    }

    #[test]
    fn the_first_folder_wins() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = SearchPath::of(vec![a.path().into(), b.path().into()]);
        let (in_a, in_b) = (
            a.path().join("libquire_pager_x.so"),
            b.path().join("libquire_pager_x.so"),
        );
        fs::write(&in_b, "").unwrap();
        assert_eq!(path.find("x").unwrap(), in_b);
        fs::write(&in_a, "").unwrap();
        assert_eq!(path.find("x").unwrap(), in_a);
    }

    #[test]
    fn the_environments_folders_come_after_the_callers_and_before_all_others() {
        let environment: Vec<_> = env::split_paths("/e/one::/e/two:/given").collect();
        let path = SearchPath::with_environment(&["/given".into()], environment);
        assert_eq!(
            path.folders()[..3],
            ["/given", "/e/one", "/e/two"].map(PathBuf::from),
            "an empty folder and one that is there already are left out"
        );
        let bare = SearchPath::with_environment(&[], Vec::new());
        assert_eq!(path.folders()[3..], bare.folders()[..]);
        assert!(!bare.folders().is_empty());
    }

    #[test]
    fn this_process_looks_beside_itself() {
        let exe = env::current_exe().unwrap();
        let deps = exe.parent().unwrap();
        let path = SearchPath::new(&["/given".into()]);
        assert_eq!(path.folders()[0], PathBuf::from("/given"));
        assert!(path.folders().contains(&deps.to_owned()));
        assert!(path.folders().contains(&deps.parent().unwrap().to_owned()));
        assert_eq!(own_file().unwrap(), exe);
    }
}
