//! Reads the table that a plugin's entry function returned, and checks everything a header demands of it.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use quire_abi::golden::Described;
use quire_abi::{
    Module, QUIRE_CAP_DEVICES, QUIRE_CAP_DRIVER, QUIRE_PAGER_ABI_VERSION, QUIRE_PAGER_MAGIC,
    QUIRE_PAGER_MODULE_MIN_SIZE, QUIRE_THREADS_PARALLEL, QUIRE_THREADS_SERIALIZE_ALL, QUIRE_THREADS_SERIALIZE_OBJECT,
};

use crate::error::{AbiVersion, LoadError};
use crate::search::{MAX_NAME, is_name};

/// The version of the ABI that this host speaks.
pub(crate) const HOST: AbiVersion = AbiVersion(QUIRE_PAGER_ABI_VERSION);

/// The longest text for people that is taken from a table, in bytes.
const MAX_TEXT: usize = 1024;

/// Copies the table at `raw`: the smaller of the two sizes, the rest zero, that is, absent. The first words are read
/// before anything else is believed.
///
/// # Safety
/// `raw` is what the entry function of a loaded plugin returned, not NULL: the first twelve bytes are readable, and if
/// they are those of a module, then so are `struct_size` bytes, and they do not change.
pub(crate) unsafe fn read_module(path: &Path, raw: *const Module) -> Result<Module, LoadError> {
    // SAFETY: the first three words are readable by contract; nothing is said of their alignment.
    let (magic, version, size) = unsafe {
        (
            ptr::read_unaligned(ptr::addr_of!((*raw).magic)),
            ptr::read_unaligned(ptr::addr_of!((*raw).abi_version)),
            ptr::read_unaligned(ptr::addr_of!((*raw).struct_size)),
        )
    };
    if magic != QUIRE_PAGER_MAGIC {
        return Err(LoadError::BadMagic {
            path: path.into(),
            magic,
        });
    }
    let plugin = AbiVersion(version);
    if !loads(HOST, plugin) {
        return Err(LoadError::Version {
            path: path.into(),
            plugin,
            host: HOST,
        });
    }
    if size < QUIRE_PAGER_MODULE_MIN_SIZE {
        return Err(LoadError::TooSmall {
            path: path.into(),
            size,
            min: QUIRE_PAGER_MODULE_MIN_SIZE,
        });
    }
    let cut = usize::try_from(size)
        .ok()
        .and_then(|size| Module::GOLDEN.cut_member(size));
    if let Some(member) = cut {
        return Err(LoadError::BadModule {
            path: path.into(),
            what: format!(
                "struct_size {size} ends inside a member, {member}; use sizeof(struct quire_pager_module) and rebuild it"
            ),
        });
    }
    let mut module = MaybeUninit::<Module>::zeroed();
    let len = usize::try_from(size).map_or(size_of::<Module>(), |n| n.min(size_of::<Module>()));
    // SAFETY: `struct_size` bytes are readable by contract, and no more than the copy holds are taken.
    unsafe { ptr::copy_nonoverlapping(raw.cast::<u8>(), module.as_mut_ptr().cast::<u8>(), len) };
    // SAFETY: all bytes are set; integers, raw pointers and nullable function pointers are valid for any bits, zeros included.
    Ok(unsafe { module.assume_init() })
}

/// Whether a plugin of that version loads in a host of that version. From 1.0 on the major number decides; before, nothing is promised.
fn loads(host: AbiVersion, plugin: AbiVersion) -> bool {
    host.major() == plugin.major() && (host.major() != 0 || host.minor() == plugin.minor())
}

/// The words of a table, copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Texts {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) description: Option<String>,
}

/// Copies and checks the texts.
///
/// # Safety
/// The text pointers of `module` are NULL or name zero-terminated text that does not change.
pub(crate) unsafe fn read_texts(path: &Path, module: &Module) -> Result<Texts, LoadError> {
    let bad = |what: String| LoadError::BadModule {
        path: path.into(),
        what,
    };
    // SAFETY: as this function's.
    let read = |text, max, member| unsafe { read_text(text, max) }.map_err(|why| bad(format!("{member} {why}")));
    let name = read(module.name, MAX_NAME, "name")?.ok_or_else(|| bad("name is NULL; give it one".into()))?;
    if !is_name(&name) {
        return Err(bad(format!(
            "name {name:?} is not made of lower-case letters, digits, '-' and '_'; give it another"
        )));
    }
    Ok(Texts {
        name,
        version: read(module.version, MAX_TEXT, "version")?,
        description: read(module.description, MAX_TEXT, "description")?,
    })
}

/// # Safety
/// `text` is NULL or zero-terminated.
unsafe fn read_text(text: *const c_char, max: usize) -> Result<Option<String>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // Bounded, so that a text whose zero was forgotten is most likely a sentence, and not a crash.
    // SAFETY: no byte behind the terminating zero is read, and those up to it are readable by contract.
    if !(0..=max).any(|i| unsafe { *text.add(i) } == 0) {
        return Err(format!("is longer than {max} bytes"));
    }
    // SAFETY: a zero was found.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map(|t| Some(t.to_owned()))
        .map_err(|_| "is not UTF-8".into())
}

/// What needs no pointer followed: the thread model, and what the module says that it is.
pub(crate) fn check_members(path: &Path, module: &Module) -> Result<(), LoadError> {
    let bad = |what: &str| {
        let (path, what) = (path.into(), what.into());
        Err(LoadError::BadModule { path, what })
    };
    let devices = module.caps & QUIRE_CAP_DEVICES != 0;
    match module.thread_model {
        _ if devices && is_driver(module) => bad(
            "a module cannot be a driver and open the devices of drivers; leave QUIRE_CAP_DRIVER or QUIRE_CAP_DEVICES out of caps",
        ),
        QUIRE_THREADS_PARALLEL => Ok(()),
        QUIRE_THREADS_SERIALIZE_ALL | QUIRE_THREADS_SERIALIZE_OBJECT if devices => bad(
            "a pager with QUIRE_CAP_DEVICES has the thread models of its drivers; use QUIRE_THREADS_PARALLEL for its own",
        ),
        QUIRE_THREADS_SERIALIZE_ALL | QUIRE_THREADS_SERIALIZE_OBJECT => Ok(()),
        other => bad(&format!(
            "thread_model {other} is unknown; use one of QUIRE_THREADS_..."
        )),
    }
}

fn is_driver(module: &Module) -> bool {
    module.caps & QUIRE_CAP_DRIVER != 0
}

/// The operations without which nothing can be paged, or without which a driver is none.
pub(crate) fn check_operations(path: &Path, module: &Module) -> Result<(), LoadError> {
    let of_pagers = [
        ("open", module.open.is_some()),
        ("close", module.close.is_some()),
        ("get", module.get.is_some()),
    ];
    let of_drivers = [("get_extension", module.get_extension.is_some())];
    let mandatory: &[_] = if is_driver(module) { &of_drivers } else { &of_pagers };
    match mandatory.iter().find(|(_, there)| !there) {
        Some((operation, _)) => Err(LoadError::MissingOperation {
            path: path.into(),
            operation,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_1_0_only_the_same_version_loads_and_after_it_the_major_decides() {
        let v = |major: u32, minor: u32| AbiVersion(major << 16 | minor);
        assert!(loads(v(0, 1), v(0, 1)));
        assert!(!loads(v(0, 1), v(0, 2)));
        assert!(!loads(v(0, 2), v(0, 1)));
        assert!(!loads(v(0, 1), v(1, 1)));
        assert!(loads(v(1, 0), v(1, 3)));
        assert!(loads(v(1, 3), v(1, 0)));
        assert!(!loads(v(1, 0), v(2, 0)));
        assert_eq!(v(1, 3).to_string(), "1.3");
    }
}
