//! The proof of layout for plugins written in Rust (feature `layout`).
//!
//! `abi_stable` describes every type of this crate; the loader compares its own description with the plugin's before it
//! calls anything. The proof stands beside the C entry function and replaces nothing: no signature mentions it. A Rust
//! plugin exports it through the SDK, a C plugin has none.
//!
//! The crate's own version is part of the description: its major number is the ABI's, so that 1.0 and 1.1 match and 2.0 does not.

use core::marker::PhantomData;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;

use crate::{
    Aperture, DriverFault, DriverHandle, DriverPrefix, DriverRef, Extent, HostApiPrefix, HostApiRef, Io, Module,
    ModulePrefix, ModuleRef, OpenArgs, OpenResult, PageApiPrefix, PageApiRef, Populate,
};

/// Every type of the ABI.
type Types = (
    HostApiRef,
    ModuleRef,
    DriverRef,
    OpenArgs,
    OpenResult,
    Io,
    Extent,
    Populate,
    Aperture,
    DriverHandle,
    DriverFault,
    PageApiRef,
);

/// The root module that a Rust plugin exports: its entry function, and the types that the layout check is to compare.
#[repr(C)]
#[derive(Debug, StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RustRootRef, prefix_fields = RustRootPrefix)))]
pub struct RustRoot {
    /// The same function that the plugin exports as `quire_pager_entry`.
    #[sabi(unsafe_change_type = unsafe extern "C" fn(host_abi_version: u32) -> ModuleRef)]
    pub entry: unsafe extern "C" fn(host_abi_version: u32) -> *const Module,
    /// No data: it draws every type of the ABI into the comparison.
    #[sabi(last_prefix_field)]
    pub types: PhantomData<Types>,
}

// SAFETY: what makes `Module` and `HostApi` Sync and Send: constant tables whose services may be called on any thread. The
// prefix types hold the same members; `RustRoot` holds a function pointer and no data.
unsafe impl Sync for ModulePrefix {}
// SAFETY: as above.
unsafe impl Send for ModulePrefix {}
// SAFETY: as above.
unsafe impl Sync for HostApiPrefix {}
// SAFETY: as above.
unsafe impl Send for HostApiPrefix {}
// SAFETY: as above.
unsafe impl Sync for DriverPrefix {}
// SAFETY: as above.
unsafe impl Send for DriverPrefix {}
// SAFETY: as above.
unsafe impl Sync for PageApiPrefix {}
// SAFETY: as above.
unsafe impl Send for PageApiPrefix {}
// SAFETY: as above.
unsafe impl Sync for RustRootPrefix {}
// SAFETY: as above.
unsafe impl Send for RustRootPrefix {}

impl RootModule for RustRootRef {
    abi_stable::declare_root_module_statics! {RustRootRef}
    const BASE_NAME: &'static str = "quire_pager";
    const NAME: &'static str = "quire_pager";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostApi;

    /// The text in `unsafe_change_type` repeats a signature; this pins the signature it must repeat.
    #[test]
    fn the_repeated_signatures_are_those_of_the_tables() {
        type Init = unsafe extern "C" fn(*const HostApi, *const core::ffi::c_char, *mut *mut core::ffi::c_void) -> i32;
        fn init(module: &Module) -> Option<Init> {
            module.init
        }
        fn entry(root: &RustRoot) -> crate::Entry {
            root.entry
        }
        let (_, _) = (init, entry);
    }

    #[test]
    fn every_type_of_the_abi_describes_itself() {
        let layout = <RustRootRef as StableAbi>::LAYOUT;
        let globals = abi_stable::abi_stability::abi_checking::CheckingGlobals::new();
        abi_stable::abi_stability::abi_checking::check_layout_compatibility_with_globals(layout, layout, &globals)
            .expect("a layout matches itself");
    }
}
