//! The description of the ABI's types that a plugin exports for the loader's check.

use abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, ROOT_MODULE_LOADER_NAME, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use quire_abi::Entry;
use quire_abi::layout::{RustRoot, RustRootRef};
use std::marker::PhantomData;

/// The symbol under which `export_pager!` exports the description. An attribute takes a literal only, so the macro repeats it.
const SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

const _: () = {
    let (ours, theirs) = (SYMBOL.as_bytes(), ROOT_MODULE_LOADER_NAME.as_bytes());
    assert!(ours.len() == theirs.len());
    let mut i = 0;
    while i < ours.len() {
        assert!(ours[i] == theirs[i]);
        i += 1;
    }
};

/// A plugin, by its entry function.
pub trait Exported {
    /// The function that the plugin exports as `quire_pager_entry`.
    const ENTRY: Entry;
}

/// The description that a plugin exports.
pub const fn layout_header<E: Exported>() -> LibHeader {
    // SAFETY: `constructor` answers a `RustRootRef`, the root module named here.
    unsafe { LibHeader::from_constructor::<RustRootRef>(constructor::<E>, CheckTypeLayout::Yes) }
}

extern "C" fn constructor<E: Exported>() -> RootModuleResult {
    __call_root_module_loader(root::<E>)
}

fn root<E: Exported>() -> RustRootRef {
    RustRoot {
        entry: E::ENTRY,
        types: PhantomData,
    }
    .leak_into_prefix()
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi_stable::StableAbi;
    use abi_stable::abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals};
    use quire_abi::Module;

    struct Plugin;

    impl Exported for Plugin {
        const ENTRY: Entry = entry;
    }

    unsafe extern "C" fn entry(_: u32) -> *const Module {
        std::ptr::null()
    }

    #[test]
    fn the_exported_description_is_the_abis() {
        let header = layout_header::<Plugin>();
        let found = header.layout().expect("a layout is exported");
        check_layout_compatibility_with_globals(<RustRootRef as StableAbi>::LAYOUT, found, &CheckingGlobals::new())
            .expect("the layouts match");
        assert_eq!(root::<Plugin>().entry() as usize, entry as *const () as usize);
    }
}
