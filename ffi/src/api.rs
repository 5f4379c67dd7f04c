//! The whole API as one table, for programs that open the library while they run and look up one symbol.

use crate::access::*;
use crate::aperture::*;
use crate::c::QUIRE_API_VERSION;
use crate::daemon::*;
use crate::engine::*;
use crate::fail::*;
use crate::fork::*;
use crate::log::*;
use crate::machine::*;
use crate::map::*;
use crate::object::*;
use crate::page::*;
use crate::pager::*;
use crate::requests::*;
use crate::status::*;
use crate::swap::*;
use crate::wire::*;

macro_rules! api_table {
    ($($function:ident,)*) => {
        /// The functions of the table, in its order.
        pub const FUNCTIONS: &[&str] = &[$(stringify!($function)),*];

        static TABLE: ApiTable = ApiTable {
            struct_size: TABLE_SIZE,
            api_version: QUIRE_API_VERSION,
            functions: [$($function as *const ()),*],
        };
    };
}

// The members of `struct quire_api_table`, by the functions they point at: quire-headers reads this list and takes
// their types from the functions themselves, so that the table and the functions cannot differ. New ones go to the
// end.
api_table! {
    quire_version,
    quire_last_error,
    quire_last_errno,
    quire_status_name,
    quire_pager_errno,
    quire_set_log,
    quire_engine_create,
    quire_engine_destroy,
    quire_engine_sync,
    quire_engine_stats,
    quire_pager_load,
    quire_pager_register,
    quire_pager_info,
    quire_pager_unload,
    quire_object_open,
    quire_object_reference,
    quire_object_release,
    quire_object_discard,
    quire_object_size,
    quire_object_resident,
    quire_object_describe,
    quire_object_flush,
    quire_map_create,
    quire_map_destroy,
    quire_map_version,
    quire_map,
    quire_unmap,
    quire_protect,
    quire_inherit,
    quire_advise,
    quire_fault,
    quire_read,
    quire_write,
    quire_load,
    quire_store,
    quire_object_resize,
    quire_object_refresh,
    quire_object_uncache,
    quire_object_terminate,
    quire_object_put,
    quire_wire,
    quire_unwire,
    quire_engine_set_targets,
    quire_engine_daemon_step,
    quire_engine_read_ahead_step,
    quire_engine_overdue,
    quire_engine_cancel_overdue,
    quire_sync,
    quire_prefetch,
    quire_populate,
    quire_residency,
    quire_linux_supported,
    quire_linux_limits,
    quire_map_create_interrupt_safe,
    quire_engine_is_interrupt_safe,
    quire_map_anonymous,
    quire_object_create_anonymous,
    quire_map_fork,
    quire_map_copy,
    quire_wire_all,
    quire_unwire_all,
    quire_swap_add,
    quire_swap_remove,
    quire_swap_areas,
    quire_swap_stats,
    quire_object_revoke,
    quire_set_checking,
    quire_object_id,
    quire_object_lock,
    quire_object_trylock,
    quire_object_unlock,
    quire_page_lookup,
    quire_page_grab,
    quire_page_busied,
    quire_page_xbusied,
    quire_page_sbusied,
    quire_page_tryxbusy,
    quire_page_trysbusy,
    quire_page_xbusy,
    quire_page_sbusy,
    quire_page_xunbusy,
    quire_page_sunbusy,
    quire_page_busy_downgrade,
    quire_page_busy_tryupgrade,
    quire_page_busy_sleep,
    quire_page_sleep_if_busy,
    quire_page_sleepers,
    quire_page_assert_sbusied,
    quire_page_assert_unbusied,
    quire_page_assert_xbusied,
    quire_page_is_valid,
    quire_page_set_valid,
    quire_page_is_dirty,
    quire_page_set_dirty,
    quire_page_set_clean,
    quire_page_wire,
    quire_page_unwire,
    quire_page_wire_count,
    quire_page_hold,
    quire_page_unhold,
    quire_page_read,
    quire_page_write,
    quire_page_place,
    quire_page_remove,
    quire_page_insert,
    quire_page_rename,
    quire_page_free,
    quire_aperture_add,
    quire_aperture_remove,
    quire_object_open_device,
    quire_fault_hold,
}

/// The whole API as a table; its members are at the end of this header.
#[cfg_attr(all(), repr(C))]
#[derive(Debug)]
pub struct ApiTable {
    struct_size: u32,
    api_version: u32,
    functions: [*const (); FUNCTIONS.len()],
}

// SAFETY: addresses of functions, which never change.
unsafe impl Sync for ApiTable {}

#[allow(clippy::cast_possible_truncation, reason = "some hundreds of bytes")]
const TABLE_SIZE: u32 = size_of::<ApiTable>() as u32;

/// The whole API as a table, for a program that opens the library while it runs: this is the one symbol that it looks
/// up. `version` is the `QUIRE_API_VERSION` that the program was compiled with. Answers NULL when the library has
/// another major number, or, while that is 0, another minor number; otherwise a constant table that lives as long as
/// the library is loaded. Its members are the functions without `quire_`; a program that also runs with older
/// libraries asks `QUIRE_HAS` for the newer ones. Never fails otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn quire_api(version: u32) -> *const ApiTable {
    let ours = QUIRE_API_VERSION;
    let same_major = version >> 16 == ours >> 16;
    if same_major && (ours >> 16 != 0 || version == ours) {
        &raw const TABLE
    } else {
        std::ptr::null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_gets_no_table() {
        assert!(!quire_api(QUIRE_API_VERSION).is_null());
        assert!(quire_api(QUIRE_API_VERSION + 1).is_null());
        assert!(quire_api(1 << 16).is_null());
        assert!(quire_api(0).is_null());
    }
}
