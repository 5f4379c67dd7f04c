//! From traits to the table: which optional operations a pager has, and the symbols that a plugin exports.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use quire_abi::{Extent, Io, Populate};

use crate::pager::{self, Extensions, Pager};
use crate::table;

/// Looks which optional traits a pager implements.
///
/// For each there is an associated constant twice: `Some` on the type itself, where the trait is implemented, and `None` in
/// [`Absent`], which every pager has. The compiler prefers the first wherever it exists.
#[derive(Debug)]
pub struct Probe<P>(PhantomData<P>);

macro_rules! probe {
    ($($constant:ident: $type:ty = $function:ident if $trait:ident;)*) => {
        /// The answer for every operation that is not there.
        pub trait Absent {
            $(
                /// The slot of this name, absent.
                const $constant: Option<$type> = None;
            )*
        }
        impl<P: Pager> Absent for Probe<P> {}
        $(
            impl<P: Pager> Probe<P> where P::Object: pager::$trait {
                /// The slot of this name, present.
                pub const $constant: Option<$type> = Some(table::$function::<P>);
            }
        )*
    };
}

probe! {
    PUT: unsafe extern "C" fn(*mut c_void, *mut Io) -> i32 = put if Put;
    HAS_PAGE: unsafe extern "C" fn(*mut c_void, u64, *mut Extent) -> i32 = has_page if HasPage;
    POPULATE: unsafe extern "C" fn(*mut c_void, *mut Populate) -> i32 = populate if Populate;
    GET_SIZE: unsafe extern "C" fn(*mut c_void, *mut u64) -> i32 = get_size if Size;
    GET_CHANGE: unsafe extern "C" fn(*mut c_void, *mut u64) -> i32 = get_change if Change;
    RESIZE: unsafe extern "C" fn(*mut c_void, u64) -> i32 = resize if Resize;
    SYNC: unsafe extern "C" fn(*mut c_void) -> i32 = sync if Durable;
    PREPARE_WRITE: unsafe extern "C" fn(*mut c_void, u64, u64) -> i32 = prepare_write if PrepareWrite;
    CANCEL: unsafe extern "C" fn(*mut c_void, u64) -> i32 = cancel if Cancel;
    RESERVE: unsafe extern "C" fn(*mut c_void, u64, u64) -> i32 = reserve if Reserve;
    FREE_SPACE: unsafe extern "C" fn(*mut c_void, u64, u64) -> i32 = free_space if FreeSpace;
    PAGE_INSERTED: unsafe extern "C" fn(*mut c_void, u64) = page_inserted if Accounting;
    PAGE_REMOVED: unsafe extern "C" fn(*mut c_void, u64) = page_removed if Accounting;
}

/// As [`Probe`], for what the pager itself implements.
#[derive(Debug)]
pub struct ModuleProbe<P>(PhantomData<P>);

/// As [`Absent`], for what the pager itself implements.
pub trait ModuleAbsent {
    /// The slot of this name, absent.
    const GET_EXTENSION: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void> = None;
}

impl<P: Pager> ModuleAbsent for ModuleProbe<P> {}

impl<P: Extensions> ModuleProbe<P> {
    /// The slot of this name, present.
    pub const GET_EXTENSION: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void> =
        Some(table::get_extension::<P>);
}

/// The pager's table, a constant [`Module`](crate::abi::Module) with every operation that the pager implements.
///
/// For tests, and for programs that link a pager and register its table instead of loading a library. The type must be a
/// concrete one.
#[macro_export]
macro_rules! module {
    ($pager:ty) => {{
        #[allow(unused_imports, reason = "unused when every operation is there")]
        use $crate::__private::{Absent as _, ModuleAbsent as _};
        type Probe = $crate::__private::Probe<$pager>;
        const MODULE: $crate::abi::Module = $crate::abi::Module {
            put: Probe::PUT,
            has_page: Probe::HAS_PAGE,
            populate: Probe::POPULATE,
            get_size: Probe::GET_SIZE,
            resize: Probe::RESIZE,
            sync: Probe::SYNC,
            prepare_write: Probe::PREPARE_WRITE,
            cancel: Probe::CANCEL,
            reserve: Probe::RESERVE,
            free_space: Probe::FREE_SPACE,
            page_inserted: Probe::PAGE_INSERTED,
            page_removed: Probe::PAGE_REMOVED,
            get_change: Probe::GET_CHANGE,
            get_extension: $crate::__private::ModuleProbe::<$pager>::GET_EXTENSION,
            ..$crate::__private::base::<$pager>()
        };
        MODULE
    }};
}

/// Makes the crate a plugin: exports `quire_pager_entry`, and with the SDK's feature `layout` the description of the ABI's
/// types that the loader compares with its own. Once a library; a program that links two pagers uses [`module!`] instead.
#[macro_export]
macro_rules! export_pager {
    ($pager:ty) => {
        /// The plugin's one entry: answers its table, whatever the host's version; the host decides whether they fit.
        #[unsafe(no_mangle)]
        pub extern "C" fn quire_pager_entry(_host_abi_version: u32) -> *const $crate::abi::Module {
            static MODULE: $crate::abi::Module = $crate::module!($pager);
            &raw const MODULE
        }

        $crate::__export_layout!(quire_pager_entry);
    };
}

/// A driver's table, a constant [`Driver`](crate::abi::Driver) with everything that its device implements. The type must be a concrete one.
#[macro_export]
macro_rules! driver {
    ($driver:ty) => {{
        #[allow(unused_imports, reason = "unused when every function is there")]
        use $crate::__private::DriverAbsent as _;
        type Probe = $crate::__private::DriverProbe<$driver>;
        const DRIVER: $crate::abi::Driver = $crate::__private::checked($crate::abi::Driver {
            populate: Probe::POPULATE,
            put: Probe::PUT,
            sync: Probe::SYNC,
            ..$crate::__private::driver_base::<$driver>()
        });
        DRIVER
    }};
}

/// The table of a driver's module, a constant [`Module`](crate::abi::Module).
///
/// For tests, and for programs that link a driver and register its table instead of loading a library. The type must be a
/// concrete one.
#[macro_export]
macro_rules! driver_module {
    ($driver:ty) => {{
        static DRIVER: $crate::abi::Driver = $crate::driver!($driver);
        unsafe extern "C" fn get_extension(
            _ctx: *mut ::core::ffi::c_void,
            id: *const ::core::ffi::c_char,
        ) -> *const ::core::ffi::c_void {
            // SAFETY: the host passes zero-terminated text.
            unsafe { $crate::__private::driver_extension(id, &DRIVER) }
        }
        const MODULE: $crate::abi::Module = $crate::__private::driver_module_base::<$driver>(get_extension);
        MODULE
    }};
}

/// Makes the crate a driver, as [`export_pager!`] makes one a pager. Once a library.
#[macro_export]
macro_rules! export_driver {
    ($driver:ty) => {
        /// The plugin's one entry: answers its table, whatever the host's version; the host decides whether they fit.
        #[unsafe(no_mangle)]
        pub extern "C" fn quire_pager_entry(_host_abi_version: u32) -> *const $crate::abi::Module {
            static MODULE: $crate::abi::Module = $crate::driver_module!($driver);
            &raw const MODULE
        }

        $crate::__export_layout!(quire_pager_entry);
    };
}

#[cfg(feature = "layout")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_layout {
    ($entry:ident) => {
        const _: () = {
            struct Plugin;
            impl $crate::__private::Exported for Plugin {
                const ENTRY: $crate::abi::Entry = $entry;
            }
            // What abi_stable's own attribute would write, if abi_stable were among the plugin's dependencies.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static LAYOUT: $crate::__private::LibHeader = $crate::__private::layout_header::<Plugin>();
        };
    };
}

#[cfg(not(feature = "layout"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_layout {
    ($entry:ident) => {};
}

/// The version text of a crate, as the `VERSION` of a [`Pager`]. Use [`version!`](crate::version).
#[doc(hidden)]
pub const fn version(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a version holds no zero byte"),
    }
}

/// The version of the crate that calls it, for [`Pager::VERSION`](crate::Pager::VERSION).
#[macro_export]
macro_rules! version {
    () => {
        $crate::__private::version(concat!(env!("CARGO_PKG_VERSION"), "\0"))
    };
}
