/*
 * quire.h: drive Quire, a virtual-memory pager framework.
 *
 * Generated from ffi/src; do not edit.
 *
 * Link with -lquire, or dlopen libquire.so and take one symbol, quire_api, which answers all functions as a table.
 *
 * Rules for every function:
 *
 * - It answers a status: QUIRE_OK, or a negative QUIRE_ERR_... or QUIRE_FAULT_.... The sentence to it is
 *   quire_last_error().
 * - Any thread may call it, several at once, with the same handles. None may be called from a signal handler, nor in a
 *   child after fork. A pager's operation may call those that do not block.
 * - A handle is owned by whoever it was given to, until the function that its comment names has closed it. It is not an
 *   address: a closed handle, one of another kind, NULL or a wild pointer is answered with QUIRE_ERR_HANDLE. While a
 *   call with a handle has not returned, closing it is answered with QUIRE_ERR_IN_USE.
 * - Every other pointer is borrowed until the call returns. An out-parameter is written only on success, unless its
 *   comment says otherwise.
 * - Bytes, addresses, offsets and lengths are in bytes; a page has QUIRE_PAGE_SIZE of them.
 * - Each function may answer, besides the errors in its comment, QUIRE_ERR_HANDLE, QUIRE_ERR_INVALID for a NULL that is
 *   not allowed or an unknown flag, and QUIRE_ERR_PANIC. After an error nothing was changed, unless its comment says
 *   otherwise.
 */

#ifndef QUIRE_H
#define QUIRE_H

#include <stddef.h>
#include <stdint.h>
#include "quire_pager.h"

/**
 * Done.
 */
#define QUIRE_OK 0

/**
 * An argument makes no sense; nothing was changed.
 */
#define QUIRE_ERR_INVALID (-1)

/**
 * A handle is NULL, closed, of another kind, or no handle at all; nothing was changed.
 */
#define QUIRE_ERR_HANDLE (-2)

/**
 * Memory could not be had.
 */
#define QUIRE_ERR_NOMEM (-3)

/**
 * The range, or a part of it, is not mapped; nothing was changed.
 */
#define QUIRE_ERR_NOT_MAPPED (-4)

/**
 * The protection asked for is above the mapping's maximum; nothing was changed.
 */
#define QUIRE_ERR_ABOVE_MAXIMUM (-5)

/**
 * Something is mapped in the range already, and it was asked not to replace it; or there is a page in memory at that index already.
 */
#define QUIRE_ERR_OCCUPIED (-6)

/**
 * No free range of that length is left in the map.
 */
#define QUIRE_ERR_NO_SPACE (-7)

/**
 * The pager answered an error; `quire_last_errno` has its number, if it gave one.
 */
#define QUIRE_ERR_PAGER (-8)

/**
 * Dirty pages could not be written. They are kept, dirty.
 */
#define QUIRE_ERR_WRITE_BACK (-9)

/**
 * The object takes no more requests, because its pager broke its contract.
 */
#define QUIRE_ERR_QUARANTINED (-10)

/**
 * What was asked to end, or to change, is still in use; nothing was changed.
 */
#define QUIRE_ERR_IN_USE (-11)

/**
 * This machine, pager or object cannot do that.
 */
#define QUIRE_ERR_UNSUPPORTED (-12)

/**
 * There is no such thing: no pager plugin of that name, no page in memory at that index.
 */
#define QUIRE_ERR_NOT_FOUND (-13)

/**
 * A bug in Quire: a panic was caught. What the call worked on should not be used further.
 */
#define QUIRE_ERR_PANIC (-14)

/**
 * The page was freed since its handle was given; look it up again.
 */
#define QUIRE_ERR_STALE (-15)

/**
 * The rules for pages were broken: one is not busied in the mode that the call needs, say. Nothing was changed.
 */
#define QUIRE_ERR_MISUSE (-16)

/**
 * The page is busied by others, or would have to be waited for, and the caller asked not to wait.
 */
#define QUIRE_ERR_BUSY (-17)

/**
 * A plugin is refused: the name can be neither a plugin's nor a path.
 */
#define QUIRE_ERR_LOAD_NAME (-32)

/**
 * A plugin is refused: the file cannot be read.
 */
#define QUIRE_ERR_LOAD_UNREADABLE (-33)

/**
 * A plugin is refused: a directory, a pipe, a device.
 */
#define QUIRE_ERR_LOAD_NOT_REGULAR (-34)

/**
 * A plugin is refused: not an ELF file.
 */
#define QUIRE_ERR_LOAD_NOT_ELF (-35)

/**
 * A plugin is refused: an ELF file, but not a shared library.
 */
#define QUIRE_ERR_LOAD_NOT_LIBRARY (-36)

/**
 * A plugin is refused: built for another machine.
 */
#define QUIRE_ERR_LOAD_MACHINE (-37)

/**
 * A plugin is refused: the file is shorter than its own headers say.
 */
#define QUIRE_ERR_LOAD_TRUNCATED (-38)

/**
 * A plugin is refused: its ELF headers contradict themselves.
 */
#define QUIRE_ERR_LOAD_DAMAGED (-39)

/**
 * A plugin is refused: a shared library without `quire_pager_entry`.
 */
#define QUIRE_ERR_LOAD_NO_ENTRY (-40)

/**
 * A plugin is refused: by the dynamic linker.
 */
#define QUIRE_ERR_LOAD_LINKER (-41)

/**
 * A plugin is refused: it refuses this host itself.
 */
#define QUIRE_ERR_LOAD_REFUSES_HOST (-42)

/**
 * A plugin is refused: its table does not begin as one.
 */
#define QUIRE_ERR_LOAD_MAGIC (-43)

/**
 * A plugin is refused: built for another version of the plugin ABI.
 */
#define QUIRE_ERR_LOAD_VERSION (-44)

/**
 * A plugin is refused: its table is too small.
 */
#define QUIRE_ERR_LOAD_SIZE (-45)

/**
 * A plugin is refused: something in its table is not as the header demands.
 */
#define QUIRE_ERR_LOAD_MODULE (-46)

/**
 * A plugin is refused: a Rust plugin whose types are laid out differently.
 */
#define QUIRE_ERR_LOAD_LAYOUT (-47)

/**
 * A plugin is refused: a mandatory operation is missing.
 */
#define QUIRE_ERR_LOAD_OPERATION (-48)

/**
 * A plugin is refused: its `init` answered an error.
 */
#define QUIRE_ERR_LOAD_INIT (-49)

/**
 * An access failed: nothing is mapped at the address. To a program: SIGSEGV with SEGV_MAPERR.
 */
#define QUIRE_FAULT_SEGV_MAPERR (-64)

/**
 * An access failed: the mapping does not allow it. To a program: SIGSEGV with SEGV_ACCERR.
 */
#define QUIRE_FAULT_SEGV_ACCERR (-65)

/**
 * An access failed: the object ends before the address. To a program: SIGBUS with BUS_OBJERR.
 */
#define QUIRE_FAULT_BUS_OBJERR (-66)

/**
 * An access failed: the pager could not bring the page, or refused to have it written. To a program: SIGBUS with BUS_OBJERR.
 */
#define QUIRE_FAULT_PAGER (-67)

/**
 * An access failed: the object takes no more faults. To a program: SIGBUS with BUS_OBJERR.
 */
#define QUIRE_FAULT_QUARANTINED (-68)

/**
 * An access failed: no memory, and none could be freed. To a program: SIGBUS.
 */
#define QUIRE_FAULT_NOMEM (-69)

/**
 * An access failed: the object was terminated. To a program: SIGBUS with BUS_OBJERR.
 */
#define QUIRE_FAULT_TERMINATED (-70)

/**
 * An access failed: the engine's `fault_timeout` is over, and the pager still has the request. To a program: SIGBUS with
 * BUS_OBJERR. Try again later.
 */
#define QUIRE_FAULT_TIMEDOUT (-71)

/**
 * An access failed: the map is interrupt-safe, and the page was not wired. No lock was taken. A defect of whoever made the access: a
 * kernel stops. To a program: SIGBUS.
 */
#define QUIRE_FAULT_INTERRUPT_SAFE (-72)

/**
 * An access failed: the object's pager has taken it back for good; its device is gone. To a program: SIGBUS with BUS_OBJERR.
 */
#define QUIRE_FAULT_REVOKED (-73)

/**
 * An access failed: the page is memory of a device, which the machine cannot show there, or which is written and can only be read. To a
 * program: SIGBUS with BUS_OBJERR; for a write to what is mapped to be read, SIGSEGV with SEGV_ACCERR.
 */
#define QUIRE_FAULT_DEVICE (-74)

/**
 * The version of this API, `major << 16 | minor`: what `quire_api` is asked for. A larger minor number only adds.
 */
#define QUIRE_API_VERSION 1

/**
 * Bytes in a page.
 */
#define QUIRE_PAGE_SIZE 4096

/**
 * `quire_engine_options.machine`: the Linux machine where it can be had, and else the soft one; `quire_stats` says which. With
 * `QUIRE_SOFT_…` among the flags, the soft one.
 */
#define QUIRE_MACHINE_AUTO 0

/**
 * `quire_engine_options.machine`: a software MMU in ordinary memory. Mapped memory is reached through `quire_load` and `quire_store`.
 */
#define QUIRE_MACHINE_SOFT 1

/**
 * `quire_engine_options.machine`: real memory of this process, through `userfaultfd`. What `quire_map` answers is a
 * pointer to be used. Linux 6.7 or later; see `quire_linux_supported`.
 */
#define QUIRE_MACHINE_LINUX 2

/**
 * `quire_engine_options.flags`: on the soft machine a frame belongs to the page it was first given to. For tests.
 */
#define QUIRE_SOFT_FIXED_FRAMES 1

/**
 * `quire_engine_options.flags`: the soft machine lends pagers copies of the bytes. For tests.
 */
#define QUIRE_SOFT_LEND_COPIES 2

/**
 * `quire_engine_options.flags`: the soft machine learns of modifications only by removing mappings. For tests.
 */
#define QUIRE_SOFT_MODIFIED_BY_REMOVAL 4

/**
 * `quire_engine_options.flags`: no thread keeps memory free. Whoever finds none makes room itself; see
 * `quire_engine_daemon_step`.
 */
#define QUIRE_NO_DAEMON_THREAD 16

/**
 * `quire_engine_options.flags`: no thread reads ahead for pagers that cannot leave requests pending; see
 * `quire_engine_read_ahead_step`.
 */
#define QUIRE_NO_READ_AHEAD_THREAD 32

/**
 * `quire_engine_options`: no thread watches for requests that pagers do not complete; see `quire_engine_overdue`.
 */
#define QUIRE_NO_WATCHDOG_THREAD 64

/**
 * `quire_engine_options.policy`: what is best in general. At present S3-FIFO.
 */
#define QUIRE_POLICY_DEFAULT 0

/**
 * `quire_engine_options.policy`: a clock with two hands.
 */
#define QUIRE_POLICY_CLOCK 1

/**
 * `quire_engine_options.policy`: S3-FIFO, which loses nothing to a single long scan.
 */
#define QUIRE_POLICY_S3_FIFO 2

/**
 * Rights: none.
 */
#define QUIRE_PROT_NONE 0

/**
 * Rights: loads.
 */
#define QUIRE_PROT_READ 1

/**
 * Rights: stores.
 */
#define QUIRE_PROT_WRITE 2

/**
 * Rights: instruction fetches.
 */
#define QUIRE_PROT_EXEC 4

/**
 * `quire_map_request.flags`: to exactly `addr`; what is mapped there is replaced.
 */
#define QUIRE_MAP_FIXED 1

/**
 * `quire_map_request.flags`: to exactly `addr`, and only if nothing is mapped there.
 */
#define QUIRE_MAP_FIXED_NOREPLACE 2

/**
 * `quire_map_request.flags`: a thread that faults there resolves its fault itself, in a handler of SIGBUS, and none is handed to a
 * thread of the engine: several times faster. A system call, or KVM, that touches a page which is not mapped fails with
 * EFAULT: `quire_populate` the range before, or `quire_wire` it to be sure. The handler is installed by the first such mapping of the
 * process, and stays. It calls the handler that it found there, or does what would have been done without one, for every
 * SIGBUS that is not the engine's and for accesses that fail. A handler that the program installs later has to do likewise: pass on
 * every SIGBUS that is not its own to the handler that `sigaction` gave it, with all three arguments, and have SA_SIGINFO and
 * SA_NODEFER. A pager with `QUIRE_CAP_SIGNAL_SAFE` may be called in the handler, on the stack of the thread. A thread that has
 * SIGBUS blocked must not touch such memory: the kernel ends the process. Only machines with real addresses differ in it.
 */
#define QUIRE_MAP_IN_THREAD 4

/**
 * `quire_map_request.flags`: what is written goes to memory of the mapping's own, and never to the object: a page is copied before it is
 * written. The object need not be writable. A page that was not copied shows the object, also what others write to it later. On the
 * Linux machine a page is copied when it is first touched, also by a read, unless `max_prot` has no `QUIRE_PROT_WRITE`; what others write
 * to the object afterwards may be seen there or not, until the mapping itself writes the page. Copies that were written are anonymous
 * memory (`quire_map_anonymous`): when memory is short they go to swap. Others are dropped, and made anew.
 */
#define QUIRE_MAP_PRIVATE 8

/**
 * `quire_map_request.inherit` only: `QUIRE_INHERIT_SHARE`, and for private and anonymous mappings `QUIRE_INHERIT_COPY`.
 */
#define QUIRE_INHERIT_DEFAULT 0

/**
 * A fork of the map shares the memory: what either writes both see.
 */
#define QUIRE_INHERIT_SHARE 1

/**
 * A fork of the map gets a copy. No page is copied before one of the two writes it. What showed an object is a private mapping of it.
 */
#define QUIRE_INHERIT_COPY 2

/**
 * A fork of the map gets nothing there.
 */
#define QUIRE_INHERIT_NONE 3

/**
 * A fork of the map gets zeros: anonymous memory.
 */
#define QUIRE_INHERIT_ZERO 4

/**
 * Nothing is known of future accesses: a fault maps up to 3 resident pages before its own and 4 behind.
 */
#define QUIRE_ADVICE_NORMAL 0

/**
 * Accesses follow no pattern: a fault maps its own page alone.
 */
#define QUIRE_ADVICE_RANDOM 1

/**
 * Accesses ascend: a fault maps up to 8 resident pages before its own and 7 behind.
 */
#define QUIRE_ADVICE_SEQUENTIAL 2

/**
 * For `quire_advise` only: the range will be used. What is missing is read in beside the program, as far as memory is
 * to spare, and not more than 16 MiB; `quire_prefetch` waits for it.
 */
#define QUIRE_ADVICE_WILLNEED 3

/**
 * For `quire_advise` only: the range is not needed for now. Its mappings go, and its pages are the next to be taken.
 * Nothing is lost: what is dirty is written before. Wired parts stay as they are.
 */
#define QUIRE_ADVICE_DONTNEED 4

/**
 * For `quire_advise` only: the range will not be used soon. Its pages are the next to be taken, and mapped until then.
 */
#define QUIRE_ADVICE_COLD 5

/**
 * For `quire_advise` only: what the range holds is not needed any more. Memory of the mapping's own that nobody else shows is given up there
 * and then, with its room in swap: it is zeros again, or shows the object again. Of all other memory this says no more than
 * `QUIRE_ADVICE_DONTNEED`. Wired parts stay as they are.
 */
#define QUIRE_ADVICE_FREE 6

/**
 * `quire_sync`: what was written is durable before the call returns.
 */
#define QUIRE_SYNC_DURABLE 1

/**
 * `quire_sync`: the pages are freed afterwards, so that the next access asks the pager anew. Wired ones stay.
 */
#define QUIRE_SYNC_INVALIDATE 2

/**
 * `quire_residency`: the page is in memory, filled.
 */
#define QUIRE_PAGE_RESIDENT 1

/**
 * `quire_residency`: it has to be written, or is mapped writable and may have been written unseen.
 */
#define QUIRE_PAGE_DIRTY 2

/**
 * `quire_residency`: it is wired, by this mapping or another one.
 */
#define QUIRE_PAGE_WIRED 4

/**
 * `quire_residency`: it is mapped at this address.
 */
#define QUIRE_PAGE_MAPPED 8

/**
 * `quire_fault_info.fault_case`: the page is anonymous memory, and is mapped as it is.
 */
#define QUIRE_CASE_1A 1

/**
 * `quire_fault_info.fault_case`: the page is anonymous memory that others share, and was copied.
 */
#define QUIRE_CASE_1B 2

/**
 * `quire_fault_info.fault_case`: the page is the object's, and is mapped as it is.
 */
#define QUIRE_CASE_2A 3

/**
 * `quire_fault_info.fault_case`: the page is the mapping's own from now on, a copy of the object's or zeros.
 */
#define QUIRE_CASE_2B 4

/**
 * Bytes that `quire_request.name` has room for, its terminating zero included.
 */
#define QUIRE_REQUEST_NAME 128

/**
 * `quire_request.operation`: it is to fill pages.
 */
#define QUIRE_REQUEST_GET 0

/**
 * `quire_request.operation`: it is to write pages.
 */
#define QUIRE_REQUEST_PUT 1

/**
 * `quire_request.operation`: it is to install pages around a fault. Cannot be cancelled.
 */
#define QUIRE_REQUEST_POPULATE 2

/**
 * `quire_engine_destroy`: gives up what is dirty instead of writing it.
 */
#define QUIRE_DISCARD 1

/**
 * `quire_engine_sync`, `quire_object_flush`: what was written is durable before the call returns.
 */
#define QUIRE_DURABLE 1

/**
 * `quire_engine_options`: objects that nobody uses are closed at once.
 */
#define QUIRE_KEEP_NONE UINT32_MAX

/**
 * `quire_object_put`: write dirty pages. Only with this the call waits, for pages in use and for the pager.
 */
#define QUIRE_PGO_CLEANIT 1

/**
 * `quire_object_put`: one request to the pager at a time. Without it several are under way.
 */
#define QUIRE_PGO_SYNCIO 2

/**
 * `quire_object_put`: the pages are the next to go when memory is short. Wired ones stay where they are.
 */
#define QUIRE_PGO_DEACTIVATE 4

/**
 * `quire_object_put`: free the pages, unless `QUIRE_PGO_DEACTIVATE` is given as well. With `QUIRE_PGO_CLEANIT` those that
 * are clean then; without it what is dirty is given up. Wired ones stay.
 */
#define QUIRE_PGO_FREE 8

/**
 * `quire_object_put`: all pages of the object, whatever the range.
 */
#define QUIRE_PGO_ALLPAGES 16

/**
 * Bytes that `quire_swap_area.name` has room for, its terminating zero included.
 */
#define QUIRE_SWAP_NAME 128

/**
 * Bytes that sentences about swap have room for, their terminating zero included.
 */
#define QUIRE_SWAP_SENTENCE 160

/**
 * `quire_swap_area.flags`: it is being removed, and takes nothing any more.
 */
#define QUIRE_SWAP_LEAVING 1

/**
 * `quire_swap_area.flags`: its pager broke a promise, and it takes nothing any more; `broken` says which.
 */
#define QUIRE_SWAP_BROKEN 2

/**
 * `quire_swap_stats.refusal`: nothing was refused since the last area was added.
 */
#define QUIRE_SWAP_NOT_REFUSED 0

/**
 * `quire_swap_stats.refusal`: there is no area, or none that can be used.
 */
#define QUIRE_SWAP_NO_AREA 1

/**
 * `quire_swap_stats.refusal`: all areas are full.
 */
#define QUIRE_SWAP_FULL 2

/**
 * `quire_swap_stats.refusal`: areas that have room answered with errors; `refusal_errno` has the last one.
 */
#define QUIRE_SWAP_FAILED 3

/**
 * The lowest address of a map that was created without a range.
 */
#define QUIRE_MAP_START 65536

/**
 * The first address behind a map that was created without a range.
 */
#define QUIRE_MAP_END 140737488355328

/**
 * `quire_wire_all`: what is mapped.
 */
#define QUIRE_WIRE_CURRENT 1

/**
 * `quire_wire_all`: what is mapped from now on, as soon as it is. A mapping that cannot be wired is not made.
 */
#define QUIRE_WIRE_FUTURE 2

/**
 * `quire_set_checking`: wrong use of a page (`QUIRE_ERR_MISUSE`, and what is no handle) is said in a sentence, in the log, and ends the
 * process; and the `quire_page_assert_…` functions check.
 */
#define QUIRE_CHECK_ABORT 1

/**
 * `quire_set_checking`: the object's lock (`quire_object_lock`) must be held to busy a page, to unbusy it, and to grab one.
 */
#define QUIRE_CHECK_STRICT 2

/**
 * Bytes that `quire_page_sleeper.message` has room for, its terminating zero included.
 */
#define QUIRE_SLEEPER_MESSAGE 32

/**
 * Memory of a device, which quire_pager.h defines.
 */
struct quire_aperture;

/**
 * The whole API as a table; its members are at the end of this header.
 */
struct quire_api_table;

/**
 * An engine: a machine with memory of its own, and everything that is opened and mapped on it. Several may live in one
 * process. From `quire_engine_create` to `quire_engine_destroy`.
 */
struct quire_engine;

/**
 * An address space. From `quire_map_create` to `quire_map_destroy`.
 */
struct quire_map;

/**
 * One use of an object. From `quire_object_open` or `quire_object_reference` to `quire_object_release` or
 * `quire_object_discard`.
 */
struct quire_object;

/**
 * A page's handle, which quire_pager.h describes.
 */
struct quire_page;

/**
 * A pager at work, in one engine. From `quire_pager_load` or `quire_pager_register` to `quire_pager_unload`, or to
 * the end of its engine, which closes it.
 */
struct quire_pager;

/**
 * The table of a pager, which quire_pager.h defines.
 */
struct quire_pager_module;

/**
 * What an engine is made with. Everything 0 but `struct_size` is the default.
 */
struct quire_engine_options {
    /**
     * `sizeof(struct quire_engine_options)`.
     */
    uint32_t struct_size;
    /**
     * One of `QUIRE_MACHINE_…`.
     */
    uint32_t machine;
    /**
     * The most memory for pages, in bytes; rounded down to whole pages. 0: 256 MiB. Taken as it is used.
     */
    uint64_t memory;
    /**
     * Of that, bytes that only making room may use; rounded up to whole pages. 0: 12 pages.
     */
    uint64_t reserve;
    /**
     * A set of `QUIRE_SOFT_…` and `QUIRE_NO_…`.
     */
    uint32_t flags;
    /**
     * How many objects that nobody uses are kept with their pages, for the next to open them; each may hold a file
     * open. 0: 128. `QUIRE_KEEP_NONE`: none.
     */
    uint32_t kept_objects;
    /**
     * Which pages go first when memory is short: one of `QUIRE_POLICY_…`.
     */
    uint32_t policy;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * With fewer bytes free above the reserve, the page daemon's thread is woken. This and the next two are rounded down
     * to whole pages; for what is 0, see `quire_stats` for what was chosen.
     */
    uint64_t free_min;
    /**
     * With as many bytes free, the page daemon has nothing to do. At least `free_min`.
     */
    uint64_t free_target;
    /**
     * Once at work, the page daemon goes on until so many bytes are free, or being written. At least `free_target`.
     */
    uint64_t free_enough;
    /**
     * For how many milliseconds, altogether, a fault waits for pagers; then it fails with `QUIRE_FAULT_TIMEDOUT`, and what it
     * asked for is cancelled unless somebody else waits for it. 0: for ever. A pager that blocks in place of leaving its
     * request pending is waited for by the thread that asked all the same.
     */
    uint64_t fault_timeout;
    /**
     * For how many milliseconds a pager may have a request before it is reported in the log, once. 0: 30 seconds.
     */
    uint64_t overdue_after;
};

/**
 * The counters of an engine. Each is exact; all together are not a snapshot.
 */
struct quire_stats {
    /**
     * `sizeof(struct quire_stats)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Faults that were asked for.
     */
    uint64_t faults;
    /**
     * Faults resolved as case 2A, a page of an object as it is, for a read.
     */
    uint64_t faults_2a_read;
    /**
     * Faults resolved as case 2A, a page of an object as it is, for a write.
     */
    uint64_t faults_2a_write;
    /**
     * Faults that found their page resident at the first try.
     */
    uint64_t faults_resident;
    /**
     * Faults that failed.
     */
    uint64_t faults_failed;
    /**
     * Times a fault started over after it had waited.
     */
    uint64_t fault_restarts;
    /**
     * Resident neighbours mapped along.
     */
    uint64_t neighbours_mapped;
    /**
     * Calls of a pager's get.
     */
    uint64_t gets;
    /**
     * Pages brought in by get.
     */
    uint64_t pages_in;
    /**
     * Calls of a pager's put.
     */
    uint64_t puts;
    /**
     * Pages written by put.
     */
    uint64_t pages_out;
    /**
     * Calls of a pager's populate.
     */
    uint64_t populates;
    /**
     * Pages brought in by populate.
     */
    uint64_t pages_populated;
    /**
     * Waits for a busy page.
     */
    uint64_t busy_waits;
    /**
     * Waits for memory.
     */
    uint64_t memory_waits;
    /**
     * Clean pages given up to make room.
     */
    uint64_t pages_reclaimed;
    /**
     * Errors that pagers answered.
     */
    uint64_t pager_errors;
    /**
     * Promises that pagers broke.
     */
    uint64_t broken_promises;
    /**
     * Pages of memory there are.
     */
    uint64_t frames_total;
    /**
     * Pages of memory not in use.
     */
    uint64_t frames_free;
    /**
     * Pages of memory held back for making room.
     */
    uint64_t frames_reserved;
    /**
     * Objects there are.
     */
    uint64_t objects;
    /**
     * Of those, objects that nobody uses and that only stay because their last write-back failed.
     */
    uint64_t objects_unwritten;
    /**
     * Pages brought in that nobody had asked for yet.
     */
    uint64_t pages_read_ahead;
    /**
     * Read-aheads that failed; nobody was told.
     */
    uint64_t read_aheads_failed;
    /**
     * Runs of dirty pages that a flush could not write.
     */
    uint64_t writes_failed;
    /**
     * Objects that nobody uses and that are kept with their pages.
     */
    uint64_t objects_kept;
    /**
     * Pages that have proved useful.
     */
    uint64_t pages_active;
    /**
     * Pages that are the next to go.
     */
    uint64_t pages_inactive;
    /**
     * Pages that have to be written before they go.
     */
    uint64_t pages_laundry;
    /**
     * Steps of the page daemon that had something to do.
     */
    uint64_t daemon_steps;
    /**
     * Pages that were to go, and turned out to be in use.
     */
    uint64_t daemon_reactivated;
    /**
     * Pages written so that they could be freed.
     */
    uint64_t daemon_washed;
    /**
     * Runs of pages that could not be written so that they could be freed.
     */
    uint64_t daemon_wash_failures;
    /**
     * Pages of memory taken from the reserve so that others could be written.
     */
    uint64_t daemon_rescues;
    /**
     * With fewer pages free above the reserve, the page daemon's thread is woken.
     */
    uint64_t free_min;
    /**
     * With as many pages free, the page daemon has nothing to do.
     */
    uint64_t free_target;
    /**
     * Once at work, the page daemon goes on until so many pages are free, or being written.
     */
    uint64_t free_enough;
    /**
     * What the replacement policy is called, such as "S3-FIFO". Static.
     */
    const char *policy;
    /**
     * Requests that pagers were asked to cancel.
     */
    uint64_t requests_cancelled;
    /**
     * Requests that were reported as overdue.
     */
    uint64_t requests_overdue;
    /**
     * Faults that gave up waiting for a pager.
     */
    uint64_t faults_timed_out;
    /**
     * What the engine runs on: "soft" or "linux". Static.
     */
    const char *machine;
    /**
     * Faults of case 0: nothing is mapped at the address, or the access is not allowed.
     */
    uint64_t faults_0;
    /**
     * Faults resolved as case 1A, the page of anonymous memory as it is.
     */
    uint64_t faults_1a;
    /**
     * Faults resolved as case 1B, the page of anonymous memory that others share, copied.
     */
    uint64_t faults_1b;
    /**
     * Faults resolved as case 2B, memory of the mapping's own, filled from the object or with zeros.
     */
    uint64_t faults_2b;
    /**
     * Pages filled with zeros, by faults of case 2B and by copying into memory that was never touched.
     */
    uint64_t zero_fills;
    /**
     * Times the bookkeeping of anonymous memory was copied because one of two that shared it was about to write.
     */
    uint64_t amap_copies;
};

/**
 * What one step of the page daemon did.
 */
struct quire_step {
    /**
     * `sizeof(struct quire_step)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Pages freed.
     */
    uint64_t freed;
    /**
     * Pages written.
     */
    uint64_t written;
    /**
     * Runs of pages that could not be written, and stay dirty.
     */
    uint64_t failed;
};

/**
 * A request that a pager has. May grow at its end: `quire_engine_overdue` is told its size.
 */
struct quire_request {
    /**
     * The object's name for people, cut to fit.
     */
    char name[QUIRE_REQUEST_NAME];
    /**
     * Where in the object it begins, in bytes.
     */
    uint64_t offset;
    /**
     * How many pages it has.
     */
    uint64_t pages;
    /**
     * For how long the pager has had it, in milliseconds.
     */
    uint64_t age;
    /**
     * What the pager is to do: one of `QUIRE_REQUEST_…`. Of a populate one page is told, the faulting one.
     */
    uint32_t operation;
    /**
     * 0.
     */
    uint32_t reserved;
};

/**
 * What a pager is.
 */
struct quire_pager_info {
    /**
     * `sizeof(struct quire_pager_info)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * The plugin ABI that it was built for, `major << 16 | minor`.
     */
    uint32_t abi_version;
    /**
     * A set of `QUIRE_CAP_…`, of quire_pager.h.
     */
    uint64_t caps;
    /**
     * One of `QUIRE_THREADS_…`, of quire_pager.h.
     */
    uint32_t thread_model;
    /**
     * Objects open through it, in all engines.
     */
    uint32_t open_objects;
    /**
     * Completions, and other calls of the pager with a token, that named nothing under way and were ignored.
     */
    uint64_t stale_calls;
    /**
     * Its short name. This and the other texts are valid until the pager's handle is closed.
     */
    const char *name;
    /**
     * Its own version; "" when it tells none.
     */
    const char *version;
    /**
     * One sentence about it; "" when it tells none.
     */
    const char *description;
    /**
     * The file it came from, or the name it was registered under.
     */
    const char *path;
};

/**
 * What `quire_object_put` did, in pages.
 */
struct quire_put {
    /**
     * `sizeof(struct quire_put)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Written.
     */
    uint64_t written;
    /**
     * Made the next to be taken.
     */
    uint64_t deactivated;
    /**
     * Freed.
     */
    uint64_t freed;
    /**
     * To be freed, but wired, or in use in a call that does not wait, or written to meanwhile.
     */
    uint64_t kept;
};

/**
 * A swap area. May grow at its end: `quire_swap_areas` is told its size.
 */
struct quire_swap_area {
    /**
     * Its name for people, as its pager says it, cut to fit.
     */
    char name[QUIRE_SWAP_NAME];
    /**
     * The promise that its pager broke, cut to fit; "" if it broke none.
     */
    char broken[QUIRE_SWAP_SENTENCE];
    /**
     * What `quire_swap_remove` knows it by. Never 0.
     */
    uint64_t id;
    /**
     * Pages that it has room for.
     */
    uint64_t pages;
    /**
     * Pages that are in it.
     */
    uint64_t used;
    /**
     * Pages of it that could not be read or written, and are not used again.
     */
    uint64_t bad;
    /**
     * Areas with a higher one are used first, equal ones in turns.
     */
    int32_t priority;
    /**
     * A set of `QUIRE_SWAP_LEAVING` and `BROKEN`.
     */
    uint32_t flags;
};

/**
 * What went to swap and came from it since the engine was made, and what is there. Each number is exact; all together are
 * not a snapshot.
 */
struct quire_swap_stats {
    /**
     * `sizeof(struct quire_swap_stats)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * Areas.
     */
    uint32_t areas;
    /**
     * Pages that they have room for.
     */
    uint64_t pages;
    /**
     * Pages that are in them.
     */
    uint64_t used;
    /**
     * Pages of them that could not be read or written, and are not used again.
     */
    uint64_t bad;
    /**
     * Calls of their pagers' get.
     */
    uint64_t gets;
    /**
     * Pages brought in from them.
     */
    uint64_t pages_in;
    /**
     * Calls of their pagers' put.
     */
    uint64_t puts;
    /**
     * Pages written to them.
     */
    uint64_t pages_out;
    /**
     * Times that pages could not be written, because no area took them. When there is no room at all, it is not tried.
     */
    uint64_t refused;
    /**
     * Why pages were not written the last time that they should have been: one of `QUIRE_SWAP_NOT_REFUSED`, `NO_AREA`, `FULL` and
     * `FAILED`. Forgotten when an area is added.
     */
    uint32_t refusal;
    /**
     * The system's `errno` value behind `QUIRE_SWAP_FAILED`, or 0.
     */
    int32_t refusal_errno;
    /**
     * A sentence to it: what happened, and what to do. "" if nothing was refused.
     */
    char refusal_text[QUIRE_SWAP_SENTENCE];
};

/**
 * A mapping to be made. Members that are 0 have their defaults.
 */
struct quire_map_request {
    /**
     * `sizeof(struct quire_map_request)`.
     */
    uint32_t struct_size;
    /**
     * A set of `QUIRE_MAP_…`. 0: anywhere, preferably at or above `addr`.
     */
    uint32_t flags;
    /**
     * Page aligned.
     */
    uint64_t addr;
    /**
     * Bytes, at least 1; rounded up to whole pages.
     */
    uint64_t length;
    /**
     * Which byte of the object comes first. Page aligned.
     */
    uint64_t offset;
    /**
     * The address is to be a multiple of it; a multiple of the page size. 0: the page size. Not with a fixed address.
     */
    uint64_t align;
    /**
     * A set of `QUIRE_PROT_…`.
     */
    uint32_t prot;
    /**
     * The most that `prot` can be raised to. 0: `prot`.
     */
    uint32_t max_prot;
    /**
     * One of `QUIRE_INHERIT_…`: what a fork of the map does with it.
     */
    uint32_t inherit;
    /**
     * `QUIRE_ADVICE_NORMAL`, `RANDOM` or `SEQUENTIAL`.
     */
    uint32_t advice;
};

/**
 * Where a copy goes. Members that are 0 have their defaults.
 */
struct quire_copy_request {
    /**
     * `sizeof(struct quire_copy_request)`.
     */
    uint32_t struct_size;
    /**
     * A set of `QUIRE_MAP_FIXED`, `FIXED_NOREPLACE`, `IN_THREAD`, and `PRIVATE`, which is meant in any case. 0: anywhere, preferably at
     * or above `addr`.
     */
    uint32_t flags;
    /**
     * Page aligned.
     */
    uint64_t addr;
    /**
     * The address is to be a multiple of it; a multiple of the page size. 0: the page size. Not with a fixed address.
     */
    uint64_t align;
};

/**
 * A thread that sleeps on a page, by a call of this API or of a pager. May grow at its end: `quire_page_sleepers` is told its size.
 */
struct quire_page_sleeper {
    /**
     * What it sleeps for, as it said, cut to fit; or the name of the call.
     */
    char message[QUIRE_SLEEPER_MESSAGE];
    /**
     * The object of the page, as `quire_object_id` numbers it.
     */
    uint64_t object;
    /**
     * The index of the page in it.
     */
    uint64_t index;
    /**
     * The thread: another number for each that runs.
     */
    uint64_t thread;
};

/**
 * How a fault was resolved.
 */
struct quire_fault_info {
    /**
     * `sizeof(struct quire_fault_info)`. Stored by the caller; only members within it are written.
     */
    uint32_t struct_size;
    /**
     * One of `QUIRE_CASE_…`.
     */
    uint32_t fault_case;
    /**
     * 1: the page was resident, so that nothing was waited for. 0: it was brought in.
     */
    uint32_t resident;
    /**
     * Resident neighbours that were mapped along, in pages.
     */
    uint32_t neighbours;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The name of a status, such as "QUIRE_ERR_INVALID"; "QUIRE_?" for a number that is none. Static text; never fails.
 */
const char *quire_status_name(int32_t status);

/**
 * The `errno` value that a pager's status stands for: 0 for `QUIRE_PAGER_OK` and `QUIRE_PAGER_PEND` (started, and
 * the caller owes nothing), EIO for ERROR, EAGAIN for AGAIN, EBUSY for UNLOCK, ERESTART (85) for REFAULT; a negated
 * `errno` value is turned round. `QUIRE_PAGER_BAD` and `QUIRE_PAGER_FAIL` have none in the tables this follows and
 * give EFAULT and ENOENT, so that no error reads as success. Quire's own: EOPNOTSUPP for UNSUPPORTED, EINVAL for
 * INVALID, ENOMEM for NOMEM, ECANCELED for CANCELLED. All other numbers: EPROTO. Never fails.
 */
int32_t quire_pager_errno(int32_t status);

/**
 * What went wrong in the last call that failed on this thread: a sentence, or "" if none has failed. Never NULL. The
 * text is valid until the next failing call on the same thread. Never fails.
 */
const char *quire_last_error(void);

/**
 * The system's `errno` value behind the last error on this thread, or 0 when there is none: for `QUIRE_ERR_PAGER`,
 * `QUIRE_FAULT_PAGER`, `QUIRE_ERR_WRITE_BACK` and refused plugins. Never fails.
 */
int32_t quire_last_errno(void);

/**
 * Says where log lines go, for the whole process. `callback` gets `ctx`, a level (one of `QUIRE_LOG_…` of
 * quire_pager.h), the pager's name, which is "" if an engine says it, and the line, both borrowed until it returns. It is called on any thread, also on
 * those of pagers and on several at once, and must call neither Quire nor a pager. A callback that was replaced may
 * still be running on another thread. NULL: errors and warnings go to standard error, as at the start. Never blocks.
 * Answers `QUIRE_OK`.
 */
int32_t quire_set_log(void (*callback)(void *ctx, uint32_t level, const char *pager, const char *text),
                      void *ctx);

/**
 * Says whether the Linux machine can be had by this process: OK, or UNSUPPORTED, and then `quire_last_error` says what is
 * missing and what to do about it. Does not block. What cannot be done all the same is told by `quire_linux_limits`.
 */
int32_t quire_linux_supported(void);

/**
 * What the Linux machine cannot do for this process although it can be had, and what to do about it: a sentence, which lives as
 * long as the library is loaded. There is one where userfaultfd is to be had for user mode only. NULL: it can do everything, or it
 * cannot be had (see `quire_linux_supported`). Does not block. Never fails.
 */
const char *quire_linux_limits(void);

/**
 * The version of the library as text, such as "0.1.0". Static; never fails.
 */
const char *quire_version(void);

/**
 * Makes an engine. `options` may be NULL: all defaults. Stores its handle in `out`, to be ended with
 * `quire_engine_destroy`. Unless `options` say otherwise three threads work for it, which keep memory free, read ahead, and
 * report requests that pagers do not complete; they end with it. Does not block. INVALID (an unknown machine or policy, unknown flags, no room for one page above the
 * reserve, thresholds in disorder or above what there is); NOMEM (no memory, or no thread).
 */
int32_t quire_engine_create(const struct quire_engine_options *options,
                            struct quire_engine **out);

/**
 * Ends an engine: writes what is dirty, closes its objects and its swap areas, ends its threads and waits for them, ends its pagers and
 * closes their handles. Its maps must
 * have been destroyed and its objects released before. With `QUIRE_DISCARD` in `flags` dirty pages are given up and
 * not written. May block for as long as its pagers do. IN_USE (maps or objects are open); WRITE_BACK (dirty pages
 * could not be written, and are kept); QUARANTINED (an object with a broken pager still has pages; discard). After
 * an error the engine goes on and can be used: mend the cause and call again.
 */
int32_t quire_engine_destroy(struct quire_engine *engine,
                             uint32_t flags);

/**
 * Writes what is dirty in every object, and closes those that only stayed because their last write-back failed.
 * `flags`: 0 or `QUIRE_DURABLE`. All objects are tried. May block for as long as their pagers do. WRITE_BACK (what
 * could not be written is kept, dirty); QUARANTINED; PAGER (a pager could not make it durable).
 */
int32_t quire_engine_sync(struct quire_engine *engine, uint32_t flags);

/**
 * Stores the engine's counters in `out`, whose `struct_size` the caller has set. Does not block. INVALID.
 */
int32_t quire_engine_stats(struct quire_engine *engine, struct quire_stats *out);

/**
 * Sets when the page daemon works, in bytes, rounded down to whole pages; see `quire_engine_options`. What is 0 stays as
 * it is. Does not block. INVALID (thresholds in disorder, or above the memory there is): nothing was changed.
 */
int32_t quire_engine_set_targets(struct quire_engine *engine,
                                 uint64_t free_min,
                                 uint64_t free_target,
                                 uint64_t free_enough);

/**
 * One step of the page daemon, on the calling thread: if too little memory is free, frees pages until enough is, clean ones
 * first, and writes dirty ones. For programs that want no thread (`QUIRE_NO_DAEMON_THREAD`), and for tests. Stores what
 * it did in `out`, which may be NULL, and whose `struct_size` the caller has set otherwise. Pages that cannot be written
 * are no error of the step: they are counted, and stay dirty. May block for as long as pagers do. INVALID.
 */
int32_t quire_engine_daemon_step(struct quire_engine *engine,
                                 struct quire_step *out);

/**
 * One step of reading ahead, on the calling thread: settles the requests that have completed and that nobody waits for, and
 * reads one window ahead. For programs that want no thread (`QUIRE_NO_READ_AHEAD_THREAD`). Stores in `more`, which may be
 * NULL, 1 if there was a window to read, so that there may be another, or 0. May block for as long as a pager does.
 */
int32_t quire_engine_read_ahead_step(struct quire_engine *engine,
                                     uint32_t *more);

/**
 * Lists the requests that pagers have had for at least so many milliseconds without completing them: for a watchdog. Stores
 * the first `room` of them in `requests`, an array of that length, which may be NULL when `room` is 0; and how many
 * there are altogether in `found`. `request_size` is the `sizeof(struct quire_request)` that the program was compiled
 * with. May block for as long as it takes pagers to describe their objects. INVALID; NOMEM.
 */
int32_t quire_engine_overdue(struct quire_engine *engine,
                             uint64_t milliseconds,
                             struct quire_request *requests,
                             size_t request_size,
                             size_t room,
                             size_t *found);

/**
 * Asks pagers to end those requests soon that they have had for at least so many milliseconds, and stores in `asked`, which
 * may be NULL, how many were asked now: not those that were asked before, nor those of pagers that cannot cancel. A fault
 * whose request is cancelled fails with `QUIRE_FAULT_PAGER` and may be tried again; a flush fails with `QUIRE_ERR_WRITE_BACK`, and its
 * pages stay dirty. Waits for no request. INVALID.
 */
int32_t quire_engine_cancel_overdue(struct quire_engine *engine,
                                    uint64_t milliseconds,
                                    size_t *asked);

/**
 * Loads a pager plugin, or takes one that is at work in this process already. `name` is a short name such as
 * "vnode", which is looked for as libquire_pager_<name>.so in the folders of the environment variable
 * QUIRE_PAGER_PATH, in the installation's, and beside the library and the executable; with a '/' in it, it is the
 * path of a file. `config` is handed to the plugin's `init` and may be NULL; a plugin at work must have been given
 * the same. Both texts are borrowed until return. Stores a handle in `out`, to be closed with `quire_pager_unload`.
 * Runs code of the plugin, and may block for as long as that does and for file reads, and while another thread loads or
 * ends the same plugin. NOT_FOUND; one of `QUIRE_ERR_LOAD_…`; IN_USE (at work with another configuration, being
 * unloaded, or loaded from inside its own `init` or `fini`; these may load other plugins).
 */
int32_t quire_pager_load(struct quire_engine *engine, const char *name, const char *config, struct quire_pager **out);

/**
 * Puts a pager to work that the program has itself: `table` is its `struct quire_pager_module`, which must stay
 * valid and unchanged, with all that it points at, until its last handle in this process has been closed by
 * `quire_pager_unload` or with its engine; for ever when its `init` failed, and when it asked to stay. A table is known by its
 * address and its contents: the same one registered again is the same pager. It is checked as a plugin's is. Otherwise
 * as `quire_pager_load`.
 */
int32_t quire_pager_register(struct quire_engine *engine,
                             const struct quire_pager_module *table,
                             const char *config,
                             struct quire_pager **out);

/**
 * Stores what a pager is in `out`, whose `struct_size` the caller has set. The texts in it are valid until the
 * handle is closed. Does not block. INVALID.
 */
int32_t quire_pager_info(struct quire_pager *pager, struct quire_pager_info *out);

/**
 * Closes a pager's handle. OK says that, and no more: the pager works on while another handle of it is open in this
 * process, while a request of it is under way that has not completed, and if it asked to stay. Otherwise this was the
 * last handle, and the pager is ended: `fini` is called, and its library is released to the dynamic linker; whether its
 * code leaves memory is the dynamic linker's decision. Objects that are only kept are closed before. May block for as
 * long as the pager does. IN_USE: objects, devices of it if it is a driver, or swap areas are open through it in this engine; release, or remove,
 * them first. WRITE_BACK, PAGER: a
 * kept object could not be closed.
 */
int32_t quire_pager_unload(struct quire_pager *pager);

/**
 * Registers memory of a device for the whole process, and stores its number in `out`: pagers of every engine make pages of it
 * during populate (`frame_insert`). `what` is a `struct quire_aperture` of quire_pager.h with its `struct_size` set, and
 * borrowed until return; its memory must stay as it is until `quire_aperture_remove` has answered OK, and its file
 * descriptor is duplicated. A process has 1024 apertures at most. On the Linux machine the memory itself is mapped where such pages are,
 * so it must be a shared mapping, or what `fd` maps; a machine that cannot show it fails the access (`QUIRE_FAULT_DEVICE`). There
 * the first such page installs a handler of SIGSEGV, as `QUIRE_MAP_IN_THREAD` does one of SIGBUS: accesses wait in it while
 * pages are taken away, and everything else is passed on to the handler that was there. A handler that the program installs later has
 * to pass on what is not its own, with all three arguments. A system call that comes to such memory at that moment fails with EFAULT. May block for a look at the process's
 * mappings. INVALID (no bytes, not whole pages, nothing mapped there, a file that ends before; the last error has the words);
 * UNSUPPORTED for a file descriptor that cannot be used or mapped (`quire_last_errno`); NOMEM, also when there are 1024.
 */
int32_t quire_aperture_add(const struct quire_aperture *what,
                           uint64_t *out);

/**
 * Ends what `quire_aperture_add` began: the memory is the caller's alone again, and what was mapped and duplicated for it is
 * given back. Does not block. INVALID (no such aperture); IN_USE while pages of objects show it: revoke them, or close their
 * objects, first.
 */
int32_t quire_aperture_remove(uint64_t aperture);

/**
 * Opens an object through a pager. What `name` means is the pager's business (for vnode: a path); it may be NULL
 * when `fd`, an open file descriptor, says it all; otherwise `fd` is -1. Both stay the caller's. `flags`:
 * `QUIRE_OPEN_READ`, with `QUIRE_OPEN_WRITE` if the object is to be written; 0 is READ. What is open already, by the
 * pager's identity, is the same object, also when it is only kept with its pages, unless its pager tells that others
 * have changed it since; opening it for writing makes it writable if it was not. When memory or file descriptors have
 * run out, objects that are only kept are closed, oldest first, and it is tried again. Stores a handle in `out`, to be closed with `quire_object_release`. May block for as long
 * as the pager does, and until the same thing has been closed if that is under way. INVALID (also for a driver, whose devices
 * `quire_object_open_device` opens); PAGER (`quire_last_errno` says why); NOMEM.
 */
int32_t quire_object_open(struct quire_pager *pager,
                          const char *name,
                          int32_t fd,
                          uint32_t flags,
                          struct quire_object **out);

/**
 * Opens a device of `driver` through `pager`, the device pager (which is loaded as "device"). Both are handles of `quire_pager_load` or
 * `quire_pager_register`; both must be of the same engine, and neither can be unloaded as long as the device is open. What `name` and `fd` mean
 * is the driver's business, and it may need neither: NULL and -1. Otherwise as `quire_object_open`. INVALID also when `driver` is no driver,
 * or `pager` none that takes drivers.
 */
int32_t quire_object_open_device(struct quire_pager *pager,
                                 struct quire_pager *driver,
                                 const char *name,
                                 int32_t fd,
                                 uint32_t flags,
                                 struct quire_object **out);

/**
 * Makes an object of `size` bytes that begins as zeros and belongs to no pager: memory to be shared, by mapping it several times. What it
 * holds ends with its last use, and nothing is written then. It takes no memory before it is touched; when memory is short its pages go
 * to swap (`quire_swap_add`). Stores a handle in `out`, to be closed with `quire_object_release`; it can do what one can that was
 * opened for writing. Does not block. INVALID (above 2^64 - 4096 bytes); NOMEM.
 */
int32_t quire_object_create_anonymous(struct quire_engine *engine,
                                      uint64_t size,
                                      struct quire_object **out);

/**
 * Stores one more handle of the same object in `out`, to be closed on its own. Does not block. NOMEM.
 */
int32_t quire_object_reference(struct quire_object *object, struct quire_object **out);

/**
 * Closes an object's handle. The last use of an object, mappings included, writes its dirty pages. Then an object
 * whose pager tells its identity is kept with its pages, for the next to open it, and closed when too many are kept
 * (`quire_engine_options`); any other one is closed. That may block for as long as its pager does. The handle is closed also when this answers
 * WRITE_BACK (also if no page is dirty and a sync that failed is owed), QUARANTINED or PAGER; in the first two cases the object is kept with its pages until
 * `quire_engine_sync` succeeds, the engine ends with `QUIRE_DISCARD`, or somebody opens it again. IN_USE: a call
 * with this handle has not returned, and it stays open; or the pager keeps pages that it has no right to: then the handle is closed,
 * and the object kept until the pager gives them back.
 */
int32_t quire_object_release(struct quire_object *object);

/**
 * Closes an object's handle and gives the object up, with what is dirty in it: for objects that cannot be written.
 * May block for as long as its pager does. IN_USE: there are mappings or other handles of it; this handle stays
 * open. PAGER: its pager failed to close it; it is gone all the same.
 */
int32_t quire_object_discard(struct quire_object *object);

/**
 * Stores the object's size in bytes in `size`. Does not block.
 */
int32_t quire_object_size(struct quire_object *object, uint64_t *size);

/**
 * Stores in `pages` how many pages of the object are in memory. Does not block.
 */
int32_t quire_object_resident(struct quire_object *object, uint64_t *pages);

/**
 * Writes the object's name for people, such as "vnode /etc/hosts", into `text`: zero-terminated and cut to `len`
 * bytes. Does not block.
 */
int32_t quire_object_describe(struct quire_object *object, char *text, size_t len);

/**
 * Writes the dirty pages that have bytes in the `length` bytes from `offset`, and waits for it; `length` 0: to the
 * end. `flags`: 0 or `QUIRE_DURABLE`. Pages that fail do not keep others from being written. May block for as long
 * as the pager does. WRITE_BACK (what failed is kept, dirty, and tried again by the next flush); QUARANTINED; PAGER
 * (it could not make it durable; a sync is owed then, and the object does not end before one succeeds, unless it is given up); IN_USE (a durable flush
 * from inside the pager's own sync of this object); INVALID (the object has ended); NOMEM.
 */
int32_t quire_object_flush(struct quire_object *object,
                           uint64_t offset,
                           uint64_t length,
                           uint32_t flags);

/**
 * Does with the pages that have bytes in the `length` bytes from `offset` what `flags` say, a set of `QUIRE_PGO_…`: writes,
 * deactivates, frees; 0 does nothing. It makes nothing durable: a sync that is owed stays owed. `length` 0: to the end. Bytes behind the object's end are no error. Stores what it
 * did in `out`, which may be NULL, and whose `struct_size` the caller has set otherwise. With `QUIRE_PGO_CLEANIT` it
 * may block for as long as the pager does; without, it does not block. To give up what is dirty, the handle must have been
 * opened with `QUIRE_OPEN_WRITE`. INVALID; WRITE_BACK (what failed is kept, dirty, also if it was to be freed; all other
 * pages were dealt with); QUARANTINED; NOMEM.
 */
int32_t quire_object_put(struct quire_object *object,
                         uint64_t offset,
                         uint64_t length,
                         uint32_t flags,
                         struct quire_put *out);

/**
 * Makes an object `size` bytes long, at its pager and in memory. Pages behind the new end are given up, with what is
 * dirty in them, and accesses there get BUS_OBJERR. The handle must have been opened with `QUIRE_OPEN_WRITE`. May block
 * for as long as the pager does. INVALID; UNSUPPORTED (the pager cannot do that); PAGER; QUARANTINED. After an
 * error the size is as it was.
 */
int32_t quire_object_resize(struct quire_object *object, uint64_t size);

/**
 * Asks the pager for an object's size as it is now, follows it as `quire_object_resize` does, and stores it in `size`,
 * which may be NULL. May block for as long as the pager does. UNSUPPORTED (the pager cannot tell); PAGER; WRITE_BACK;
 * QUARANTINED. After an error the size is as it was.
 */
int32_t quire_object_refresh(struct quire_object *object, uint64_t *size);

/**
 * The object is not kept when its last use goes, but closed. Does not block.
 */
int32_t quire_object_uncache(struct quire_object *object);

/**
 * Takes an object from all who use it: writes its dirty pages, or with `QUIRE_DISCARD` in `flags` gives them up,
 * removes its mappings, frees its pages and closes it at its pager. Accesses get QUIRE_FAULT_QUARANTINED from then on, and
 * handles can only be closed; opening the same thing again gives a fresh object. May block for as long as the pager does.
 * WRITE_BACK, QUARANTINED: what is dirty cannot be written, and the object goes on. PAGER: its pager failed to close
 * it; it is gone all the same. IN_USE: its pager keeps pages it has no right to.
 */
int32_t quire_object_terminate(struct quire_object *object,
                               uint32_t flags);

/**
 * Takes the pages that have bytes in the `length` bytes from `offset` away from all who have them mapped: writes what is dirty,
 * removes the mappings and frees the pages, wired or not, waiting for those that are in use. `length` 0: to the end. The next access faults
 * again. `flags` is a set of `QUIRE_REVOKE_…`, of quire_pager.h: with `QUIRE_REVOKE_DISCARD` what is dirty is given up; with
 * `QUIRE_REVOKE_FAIL`, for the whole object only, every later access to it fails with QUIRE_FAULT_REVOKED. Stores in `pages`, which may be NULL, how many
 * went. The handle must have been opened with `QUIRE_OPEN_WRITE` to give up what is dirty. May block for as long as the pager does; not to be
 * called by the pager from inside an operation of this object. INVALID (also: the object has ended); UNSUPPORTED: without
 * `QUIRE_REVOKE_DISCARD`, of an object without a pager; WRITE_BACK, QUARANTINED: what is dirty cannot be written, and is still there; NOMEM.
 */
int32_t quire_object_revoke(struct quire_object *object,
                            uint64_t offset,
                            uint64_t length,
                            uint32_t flags,
                            uint64_t *pages);

/**
 * Opens something through a pager for writing, as `quire_object_open` does by `name` and `fd`, and gives it to the pager's engine as a
 * swap area: room for pages of private and anonymous memory when memory is short. With the anon pager `name` is
 * "PATH[,size=SIZE][,compress=none|lz4|zstd][,pool=SIZE]": PATH names a file or a block device, or is `memory`; SIZE is a number of bytes,
 * or of K, M, G or T. What was in it is overwritten, and what is written to it is worthless once it is closed. `length`: so many
 * bytes of it from its start, and no more; 0: all. A part of a page at the end is not used. Areas with a higher `priority` are filled
 * first, equal ones in turns. There are at most 32 areas, with less than 16 TiB altogether. Stores in `id`, which may be NULL, what
 * `quire_swap_remove` knows it by. It is closed by that, or with the engine, and its pager cannot be unloaded before. May block for as
 * long as the pager does to open it. INVALID (no whole page, `length` above its size, too many areas); PAGER (it cannot be opened;
 * `quire_last_errno` says why: EBUSY, if the anon pager finds it in use); UNSUPPORTED (its pager cannot write); IN_USE (it is a swap area
 * of this engine already); NOMEM.
 */
int32_t quire_swap_add(struct quire_pager *pager,
                       const char *name,
                       int32_t fd,
                       uint64_t length,
                       int32_t priority,
                       uint64_t *id);

/**
 * Removes a swap area, by the `id` that `quire_swap_add` stored: brings back what is in it while the program goes on, and closes it. What
 * memory has no room for goes to other areas. May block for as long as pagers do. INVALID: there is no such area. NOMEM: what is in it fits
 * neither in memory nor in other areas. PAGER: pages in it cannot be read, and stay there until their owners end. IN_USE: it is being removed
 * by another thread, or its pager goes on with requests against its promise. After these the area is used as before. PAGER also when its
 * pager failed to close it; then it is gone all the same (`quire_swap_areas` tells).
 */
int32_t quire_swap_remove(struct quire_engine *engine,
                          uint64_t id);

/**
 * Lists the swap areas of an engine. Stores the first `room` of them in `areas`, an array of that length, which may be NULL when `room`
 * is 0; and how many there are altogether in `found`: at most 32. `area_size` is the `sizeof(struct quire_swap_area)` that the program was
 * compiled with. May block for as long as it takes pagers to describe them. INVALID; NOMEM.
 */
int32_t quire_swap_areas(struct quire_engine *engine,
                         struct quire_swap_area *areas,
                         size_t area_size,
                         size_t room,
                         size_t *found);

/**
 * Stores in `out`, whose `struct_size` the caller has set, what went to swap, what is there, and why not more. Does not block. INVALID.
 */
int32_t quire_swap_stats(struct quire_engine *engine,
                         struct quire_swap_stats *out);

/**
 * Makes an empty address space for the addresses from `start` to below `end`, both page aligned; 0 and 0: from
 * `QUIRE_MAP_START` to `QUIRE_MAP_END`. Stores its handle in `out`, to be ended with `quire_map_destroy`. Does not
 * block. INVALID (a range that is empty, not aligned, or above what the machine has: 2^48 on the soft machine);
 * NOMEM.
 */
int32_t quire_map_create(struct quire_engine *engine, uint64_t start, uint64_t end, struct quire_map **out);

/**
 * Makes an empty address space for memory that interrupt handlers use: for kernels. A fault in it takes no lock and fails at once with
 * `QUIRE_FAULT_INTERRUPT_SAFE`, so whatever is mapped there has to be wired (`quire_wire`, `quire_wire_all`) before it is used. Its
 * whole range is on the list that `quire_engine_is_interrupt_safe` asks. Otherwise as `quire_map_create`. NOMEM: also when the engine has
 * 64 of them.
 */
int32_t quire_map_create_interrupt_safe(struct quire_engine *engine,
                                        uint64_t start,
                                        uint64_t end,
                                        struct quire_map **out);

/**
 * Stores in `answer` 1 if `addr` lies in an interrupt-safe map of the engine (`quire_map_create_interrupt_safe`), and else 0: what the
 * fault handler of a kernel asks first, because a fault there cannot be resolved, and the code that was interrupted may hold any lock.
 * Looks at the maps' ranges only, and takes no lock of the engine. On the Linux machine a map may count for a moment after it was destroyed.
 * Does not block.
 */
int32_t quire_engine_is_interrupt_safe(struct quire_engine *engine,
                                       uint64_t addr,
                                       uint32_t *answer);

/**
 * Unmaps everything and ends the address space. May block, as `quire_unmap`. On the Linux machine a thread that touches
 * what was mapped gets SIGSEGV from then on, also one whose fault was being resolved; such faults are waited for, for as
 * long as their pagers need and at most ten seconds. IN_USE: a call with this map has not returned, or a fault still
 * waits for its pager then; the map stays, with nothing mapped: terminate the objects that keep it, and call again. After
 * any other error, which are those of `quire_object_release`, the map has ended all the same.
 */
int32_t quire_map_destroy(struct quire_map *map);

/**
 * Maps a part of an object, as `request` says, and stores the address in `addr`. The mapping is a use of the object
 * of its own: the object's handle may be closed. Nothing is read yet, unless the map wires what is mapped from now on (`quire_wire_all`).
 * Does not block, but for that, and for what a fixed mapping replaces (see `quire_unmap`). INVALID (length 0, an address or an offset that is not page aligned, overflow,
 * unknown flags or protection, a protection above its maximum, object and map of different engines); OCCUPIED (also by
 * memory that is not this map's: the Linux machine never replaces what the program has mapped otherwise);
 * NO_SPACE; UNSUPPORTED (write access to an object that cannot be written, unless `QUIRE_MAP_PRIVATE` is set); NOMEM; those of `quire_wire`,
 * if the map wires what is mapped: then nothing is mapped. WRITE_BACK: the mapping was made, though `addr` is not stored, and what it
 * replaced could not be written.
 *
 * On the Linux machine the address is a pointer into memory of this process, and a page comes in when it is first touched:
 *
 * - By default threads of the engine resolve the faults, and a system call, a debugger or a guest of KVM may be given such
 *   memory like any other. With `QUIRE_MAP_IN_THREAD` the thread that touches a page resolves its own fault. If this
 *   process may have userfaultfd for user mode only (it is neither privileged nor allowed to open /dev/userfaultfd, and
 *   vm.unprivileged_userfaultfd is 0), system calls get EFAULT in the one mode as in the other; `quire_linux_limits` says so.
 * - An access that fails is a signal of the thread that makes it, with the address in `si_addr`. SIGBUS: the pager failed, or the
 *   object ends before the address or was terminated, or there was no memory. SIGSEGV: nothing is mapped there, or the
 *   protection forbids it. A system call gets EFAULT. The next access asks again. With threads of the engine a failure stays at its
 *   page until its SIGBUS was delivered, if the engine has its handler installed, and otherwise for 20 ms.
 * - Never more than `quire_engine_options.memory` bytes of pages are held, private and anonymous ones included: when that is too little, these
 *   go to swap (`quire_swap_add`). Without room there they stay in memory, and when it is full of them an access to a page that is not
 *   there fails. Beside them the engine needs up to 8 MiB for
 *   its buffers and threads, and 8 bytes for each page of addresses that was ever mapped in.
 * - Memory that a device writes, not a system call (O_DIRECT, fixed buffers of io_uring, VFIO), has to be wired before with
 *   `quire_wire`: of a page that is taken away meanwhile the device's write is lost.
 * - A child of `fork` has none of it, and gets SIGSEGV there; in the parent nothing changes. No handle of the parent's may be
 *   used in the child.
 * - While a fixed mapping replaces another one, accesses to it may get SIGSEGV.
 */
int32_t quire_map(struct quire_map *map,
                  struct quire_object *object,
                  const struct quire_map_request *request,
                  uint64_t *addr);

/**
 * Maps memory that begins as zeros and is this mapping's alone, as `request` says, and stores the address in `addr`. `offset` is 0, and
 * `QUIRE_MAP_PRIVATE` is meant in any case. It takes no memory before it is touched; what it holds ends with it. When memory is short its
 * pages go to swap (`quire_swap_add`); without room there they stay in memory, and an access for which no memory is left fails with
 * `QUIRE_FAULT_NOMEM`, on the Linux machine by SIGBUS. For memory that several mappings share see `quire_object_create_anonymous`.
 * Otherwise as `quire_map`, with its errors.
 */
int32_t quire_map_anonymous(struct quire_map *map,
                            const struct quire_map_request *request,
                            uint64_t *addr);

/**
 * Unmaps `length` bytes from `addr`, rounded up to whole pages; parts that are not mapped, or not by this map, are no error and stay
 * as they are. On the Linux machine the addresses are the process's again, for whoever asks next. The last use
 * of an object writes its dirty pages, and may block for as long as its pager does. INVALID (length 0, not aligned,
 * overflow, outside the map), NOMEM: nothing was changed. WRITE_BACK, QUARANTINED, PAGER: as for
 * `quire_object_release`; the range is unmapped.
 */
int32_t quire_unmap(struct quire_map *map,
                    uint64_t addr,
                    uint64_t length);

/**
 * Gives `length` bytes from `addr` the rights `prot`, a set of `QUIRE_PROT_…`. Rights that go are taken at once.
 * Does not block. INVALID; NOT_MAPPED (a hole in the range); ABOVE_MAXIMUM; NOMEM: nothing was changed.
 */
int32_t quire_protect(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t prot);

/**
 * Says what a fork of the map (`quire_map_fork`) does with `length` bytes from `addr`: one of `QUIRE_INHERIT_…`, but not DEFAULT. Does
 * not block. INVALID; NOT_MAPPED; NOMEM: nothing was changed.
 */
int32_t quire_inherit(struct quire_map *map,
                      uint64_t addr,
                      uint64_t length,
                      uint32_t inherit);

/**
 * Says what is known of future accesses to `length` bytes from `addr`: one of `QUIRE_ADVICE_…`. NORMAL, RANDOM and
 * SEQUENTIAL are kept with the mapping; WILLNEED, DONTNEED, COLD and FREE are done once. Does not block, but for FREE, which may wait for
 * pages that are in use, and calls the pagers of swap areas that want to hear of it. INVALID; NOT_MAPPED; NOMEM: nothing was changed.
 */
int32_t quire_advise(struct quire_map *map,
                     uint64_t addr,
                     uint64_t length,
                     uint32_t advice);

/**
 * Writes what is dirty in the objects that `length` bytes from `addr` show, as far as they are shown there, and waits for
 * it; there is no way to begin it and not to wait. Memory of a mapping's own, private or anonymous, belongs to no file: nothing is written for
 * it. `flags`: a set of `QUIRE_SYNC_…`. May block for as long as the pagers do. INVALID; NOT_MAPPED (a hole in the
 * range); NOMEM: nothing was written. WRITE_BACK, QUARANTINED, PAGER: as for `quire_object_flush`, the first failure;
 * everything else was written.
 */
int32_t quire_sync(struct quire_map *map,
                   uint64_t addr,
                   uint64_t length,
                   uint32_t flags);

/**
 * Reads in what is not in memory of `length` bytes from `addr`, and maps nothing. What lies behind an object's end is
 * passed over. Waits for the pagers. INVALID; NOT_MAPPED; NOMEM; one of `QUIRE_FAULT_…`: a page could not be brought
 * in; those before it were.
 */
int32_t quire_prefetch(struct quire_map *map, uint64_t addr, uint64_t length);

/**
 * Maps every page of `length` bytes from `addr` for `access`, one of `QUIRE_ACCESS_…` of quire_pager.h, as if it had
 * been accessed: for buffers that are handed to system calls, and to have the faults at a time of the caller's choice.
 * Pages that are mapped for writing count as dirty until they have been written back. Only `quire_wire` keeps them
 * mapped. May block for as long as the pagers do. INVALID; NOT_MAPPED; NOMEM; one of `QUIRE_FAULT_…`: a page could
 * not be mapped; those before it were.
 */
int32_t quire_populate(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t access);

/**
 * Tells what is known of each page of `length` bytes from `addr`: stores a set of `QUIRE_PAGE_…` in `pages`, one byte a page,
 * `count` of which there is room for. It may have changed when the call returns. Does not block. INVALID (also when
 * there is too little room); NOT_MAPPED. After an error a part may have been stored.
 */
int32_t quire_residency(struct quire_map *map,
                        uint64_t addr,
                        uint64_t length,
                        uint8_t *pages,
                        size_t count);

/**
 * Stores a number in `version` that every change of the map's entries raises. Does not block.
 */
int32_t quire_map_version(struct quire_map *map, uint64_t *version);

/**
 * Makes a map of the same range with what each part of this one leaves to a child (`quire_inherit`): the same memory, a copy of it as it
 * is now, nothing, or zeros. `flags` is 0. Stores its handle in `child`: a map of the same engine like any other, to be ended with
 * `quire_map_destroy`, before its parent or after. Nothing in it is wired, nor will be by itself, and it is not interrupt-safe.
 * Takes time for mappings and for pages of memory, not for addresses; no page is copied, but for wired ones, before one of the two writes
 * it (`QUIRE_CASE_1B`). May block for as long as pagers do. UNSUPPORTED on the Linux machine, where two maps cannot have the same
 * addresses: `quire_map_copy` copies ranges there. NOMEM; one of `QUIRE_FAULT_…`: a page that is wired could not be copied. After an error
 * there is no child.
 */
int32_t quire_map_fork(struct quire_map *map,
                       uint32_t flags,
                       struct quire_map **child);

/**
 * Maps a copy of `length` bytes from `start` of the map `from`, as they are at this moment, in the map `to`, which may be the same one or
 * another one of the engine; stores the copy's address in `addr`. `start` is page aligned, `length` is rounded up to whole pages; the range
 * is mapped throughout. `request` says where the copy goes; NULL: anywhere. Rights, inheritance and advice are the range's; nothing is
 * wired, unless `to` wires what is mapped (`quire_wire_all`). Threads may go on writing to the range: what they write from this moment on
 * is not in the copy. Only if another map writes the same memory (`QUIRE_INHERIT_SHARE`) is that one moment for each page. Takes time for
 * mappings and for pages of memory, but copies no page, but for wired ones, before one of the two sides writes it; on the Linux machine
 * also when the copy is first read. Both sides' pages go to swap when memory is short.
 *
 * All this is so for private and anonymous memory. A page that is an object's still, because it is mapped shared or was never written in a
 * private mapping, is mapped privately: until the copy has its own, what others write to the object is seen in it as well.
 *
 * May block for as long as pagers do. INVALID (as for `quire_map`, or maps of two engines); NOT_MAPPED (a hole in the range); OCCUPIED;
 * NO_SPACE; NOMEM; one of `QUIRE_FAULT_…`: a page that is wired could not be copied. After an error nothing of the copy is mapped; what it
 * was to replace may have been unmapped.
 */
int32_t quire_map_copy(struct quire_map *from,
                       uint64_t start,
                       uint64_t length,
                       struct quire_map *to,
                       const struct quire_copy_request *request,
                       uint64_t *addr);

/**
 * Wires `length` bytes from `addr` once more: their pages are brought in, and neither they nor their mappings are taken
 * away until each wiring has been taken back, or the range is unmapped. Whole pages are wired that have bytes in the
 * range; `addr` is page aligned. May block for as long as the pager does. INVALID; NOT_MAPPED; NOMEM; one of
 * `QUIRE_FAULT_…`: a page could not be brought in, or the mapping allows no access. After an error nothing is wired that
 * was not.
 */
int32_t quire_wire(struct quire_map *map,
                   uint64_t addr,
                   uint64_t length);

/**
 * Takes one wiring of `length` bytes from `addr` back. Does not block. INVALID (also when a part of the range is not
 * wired); NOT_MAPPED; NOMEM: nothing was changed.
 */
int32_t quire_unwire(struct quire_map *map, uint64_t addr, uint64_t length);

/**
 * Wires everything in a map once more, as `flags` say, a set of `QUIRE_WIRE_…` that is not empty. Parts that allow no access are passed
 * over. May block for as long as pagers do. The errors are those of `quire_wire`: nothing is wired then that was not, and what is mapped
 * from now on is treated as before.
 */
int32_t quire_wire_all(struct quire_map *map,
                       uint32_t flags);

/**
 * Takes one wiring back from everything in a map that is wired, and what is mapped from now on is not wired by itself any more. What was
 * wired more than once stays wired. Does not block. NOMEM: a part may have been unwired.
 */
int32_t quire_unwire_all(struct quire_map *map);

/**
 * Says what becomes of wrong use of pages, for the whole process: `flags` is a set of `QUIRE_CHECK_…`. Without a call, and in a library that was
 * built for debugging, it is `ABORT`; otherwise nothing: wrong use is answered with a status, and changes nothing. Does not block.
 */
int32_t quire_set_checking(uint32_t flags);

/**
 * Stores the number of an object in `out`: the same for all handles of it, and for all its pages (`quire_page_place`), and never that of
 * another one. Does not block.
 */
int32_t quire_object_id(struct quire_object *object,
                        uint64_t *out);

/**
 * Takes an object's lock: a plain one, for callers who want to exclude each other or who test against the older rule that a page is busied
 * under it. Quire itself never takes it, so that it may be held over any call. May block for as long as another thread
 * has it. MISUSE: this thread has it.
 */
int32_t quire_object_lock(struct quire_object *object);

/**
 * Takes an object's lock if nobody has it: 1; otherwise 0, or a negative status. Does not block. MISUSE: this thread has it.
 */
int32_t quire_object_trylock(struct quire_object *object);

/**
 * Lets go of an object's lock. Does not block. MISUSE: this thread does not have it.
 */
int32_t quire_object_unlock(struct quire_object *object);

/**
 * Stores the handle of page `index` of an object in `out`, if it is in memory. The page is not busied by that, and may be gone a moment
 * later. Does not block. NOT_FOUND; NOMEM.
 */
int32_t quire_page_lookup(struct quire_object *object,
                          uint64_t index,
                          struct quire_page **out);

/**
 * Grabs `count` pages of an object from `first` on: each is looked up, or made, and busied, as `flags`, a set of `QUIRE_GRAB_…` (quire_pager.h), has
 * it; without any, a missing page is made, unfilled, and each is exclusively busied. Stops at the first page that cannot be had. Stores their
 * handles in `pages`, an array of `count`, and in `grabbed`, which may be NULL when `count` is 1, how many there are. With `CONTENTS`
 * their pager brings them in, in runs as far as it offers them. OK if one was had; otherwise why the first was not: BUSY (with `NOWAIT`, `WAITFAIL`); NOT_FOUND (with `NOCREAT`); INVALID (the
 * object ends before it; `count` is 0); PAGER; NOMEM; QUARANTINED; MISUSE (flags that exclude each other). May block, without `NOWAIT`, for as long as
 * others have the page, for as long as its pager does, and until there is memory.
 */
int32_t quire_page_grab(struct quire_object *object,
                        uint64_t first,
                        size_t count,
                        uint32_t flags,
                        struct quire_page **pages,
                        size_t *grabbed);

/**
 * Whether a page is busied in either mode, by anyone: 1 or 0, or a negative status. Does not block. STALE.
 */
int32_t quire_page_busied(struct quire_page *page);

/**
 * Whether a page is exclusively busied, by anyone: 1 or 0, or a negative status. Does not block. STALE.
 */
int32_t quire_page_xbusied(struct quire_page *page);

/**
 * Whether a page is shared busied, by anyone: 1 or 0, or a negative status. Does not block. STALE.
 */
int32_t quire_page_sbusied(struct quire_page *page);

/**
 * Busies a page exclusively if it is unbusied: 1; otherwise 0, at once, or a negative status. Takes no lock and allocates nothing. STALE; MISUSE (strict
 * checking: the object is not locked).
 */
int32_t quire_page_tryxbusy(struct quire_page *page);

/**
 * Shares a page unless it is exclusively busied, or shared 2047 times: 1; otherwise 0, at once, or a negative status. Takes no lock and allocates
 * nothing. STALE; MISUSE (strict checking: the object is not locked).
 */
int32_t quire_page_trysbusy(struct quire_page *page);

/**
 * Busies a page exclusively. May block for as long as others have it busied; the object's lock, if this thread has it, is let go of
 * meanwhile. STALE (also if it was freed meanwhile); QUARANTINED (its pager may never let go of it); MISUSE as `quire_page_tryxbusy`.
 */
int32_t quire_page_xbusy(struct quire_page *page);

/**
 * Shares a page. May block for as long as somebody has it exclusively busied; otherwise as `quire_page_xbusy`.
 */
int32_t quire_page_sbusy(struct quire_page *page);

/**
 * Unbusies a page that is exclusively busied, and wakes all who sleep on it. A page that is not filled is freed by that, as nobody may see
 * it: its handle is stale then. Waits for no more than locks. MISUSE: it is not exclusively busied by a caller of this API (what Quire itself has busied it
 * lets go of itself), or is in no object; strict checking: the object is not locked. STALE.
 */
int32_t quire_page_xunbusy(struct quire_page *page);

/**
 * Gives one share of a page back; the last one wakes all who sleep on it. Does not block. MISUSE: no caller shares it; strict checking: the object is not
 * locked. STALE.
 */
int32_t quire_page_sunbusy(struct quire_page *page);

/**
 * Makes a page that is exclusively busied shared by this caller alone, with no moment in between; those who want to share it can proceed. Waits for
 * no more than locks. MISUSE: it is not exclusively busied by a caller, not filled, or in no object. STALE.
 */
int32_t quire_page_busy_downgrade(struct quire_page *page);

/**
 * Makes a page that this caller alone shares exclusively busied: 1; with other sharers 0, and it is still shared; or a negative status. Does not
 * block. MISUSE: no caller shares it. STALE.
 */
int32_t quire_page_busy_tryupgrade(struct quire_page *page);

/**
 * Sleeps, if a page is busied, until that changes: once; it may be busied again, or be freed, afterwards. `message` says for tools what is slept
 * for (`quire_page_sleepers`), cut to 31 bytes; NULL is "". The object's lock, if this thread has it, is let go of, for good. STALE; QUARANTINED; MISUSE (strict
 * checking: the object is not locked).
 */
int32_t quire_page_busy_sleep(struct quire_page *page,
                              const char *message);

/**
 * As `quire_page_busy_sleep`, but the object's lock is held again afterwards, if it was before: 1 if it slept, 0 if the page was not busied, or a
 * negative status.
 */
int32_t quire_page_sleep_if_busy(struct quire_page *page,
                                 const char *message);

/**
 * Lists the threads that sleep on pages, in the whole process, by this API and by pagers; the longest first. Stores the first `room` of them in `sleepers`, an array
 * of that length, which may be NULL when `room` is 0; and how many there are altogether in `found`. `sleeper_size` is the `sizeof(struct
 * quire_page_sleeper)` that the program was compiled with. Does not block. INVALID; NOMEM.
 */
int32_t quire_page_sleepers(struct quire_page_sleeper *sleepers,
                            size_t sleeper_size,
                            size_t room,
                            size_t *found);

/**
 * Where wrong use ends the process (`quire_set_checking`): ends it unless the page is shared busied. Otherwise does nothing. STALE.
 */
int32_t quire_page_assert_sbusied(struct quire_page *page);

/**
 * Where wrong use ends the process (`quire_set_checking`): ends it if the page is busied. Otherwise does nothing. STALE.
 */
int32_t quire_page_assert_unbusied(struct quire_page *page);

/**
 * Where wrong use ends the process (`quire_set_checking`): ends it unless the page is exclusively busied. Otherwise does nothing. STALE.
 */
int32_t quire_page_assert_xbusied(struct quire_page *page);

/**
 * Whether a page is filled: 1 or 0, or a negative status. Does not block. STALE.
 */
int32_t quire_page_is_valid(struct quire_page *page);

/**
 * A page, exclusively busied, is filled, whole, with what its pager has; one of an anonymous object is dirty with that. Does not block. MISUSE: it is not
 * exclusively busied by a caller. STALE.
 */
int32_t quire_page_set_valid(struct quire_page *page);

/**
 * Whether a page is dirty, or may be, as it is mapped for writing: 1 or 0, or a negative status. Does not block. STALE.
 */
int32_t quire_page_is_dirty(struct quire_page *page);

/**
 * A page, busied in either mode and filled, has to be written before it goes. A pager that is to be asked before a clean page is written
 * (`prepare_write`) is asked. May block for as long as that takes. MISUSE: not busied by a caller, or not filled. UNSUPPORTED: the object cannot be
 * written. PAGER: it may not be. STALE.
 */
int32_t quire_page_set_dirty(struct quire_page *page);

/**
 * A page, exclusively busied, is what its pager has, as the caller knows: it need not be written. Its mappings go. MISUSE: it is not exclusively busied by a
 * caller; or its object is anonymous, and nobody else has what it holds. STALE.
 */
int32_t quire_page_set_clean(struct quire_page *page);

/**
 * Wires a page, busied in either mode, once more: it stays in memory until each wiring was taken back, or its object loses it, by shrinking or by
 * its end. Does not block. MISUSE: not busied by a caller. NOMEM; STALE.
 */
int32_t quire_page_wire(struct quire_page *page);

/**
 * Takes one wiring back that was made by `quire_page_wire`, `quire_page_hold` or a grab. The page need not be busied. Does not block. MISUSE: there is
 * none. STALE: it was freed meanwhile, and there is nothing to take back.
 */
int32_t quire_page_unwire(struct quire_page *page);

/**
 * How often a page is wired, by hand and by maps, or a negative status. Does not block. STALE.
 */
int32_t quire_page_wire_count(struct quire_page *page);

/**
 * What older systems call to hold a page: the same as `quire_page_wire`.
 */
int32_t quire_page_hold(struct quire_page *page);

/**
 * The same as `quire_page_unwire`.
 */
int32_t quire_page_unhold(struct quire_page *page);

/**
 * Copies `length` bytes of a page, busied in either mode, from `offset` on into `bytes`. Does not block. MISUSE: not busied by a caller, or the bytes are not
 * all inside the page. STALE.
 */
int32_t quire_page_read(struct quire_page *page,
                        size_t offset,
                        void *bytes,
                        size_t length);

/**
 * Copies `length` bytes from `bytes` into a page, busied in either mode, from `offset` on. A filled page is dirty then: as by `quire_page_set_dirty`, whose
 * answers are possible. One that is not filled is as before.
 */
int32_t quire_page_write(struct quire_page *page,
                         size_t offset,
                         const void *bytes,
                         size_t length);

/**
 * Stores the number of the object that a page is in (`quire_object_id`) in `object`, and its index there in `index`; either may be NULL: 1; or 0, and
 * nothing is stored, for a page that was removed from its object; or a negative status. Stable while it is busied. Does not block. STALE.
 */
int32_t quire_page_place(struct quire_page *page,
                         uint64_t *object,
                         uint64_t *index);

/**
 * Takes a page, exclusively busied, out of its object: its mappings go, and its place is empty. It stays exclusively busied, with its bytes and the wirings
 * made by hand, and is in no object until `quire_page_insert`, or until it is freed; as long as it is out its engine cannot end. May block until there is memory. MISUSE: it is
 * not exclusively busied by a caller, is wired by a map, or is out already. NOMEM; STALE.
 */
int32_t quire_page_remove(struct quire_page *page);

/**
 * Puts a page that is in no object (`quire_page_remove`) into one, at an index where there is none. It stays exclusively busied; a filled page is
 * dirty, as the object's pager has not what it holds. May block until there is memory. OCCUPIED: there is a page; INVALID: the object ends before
 * the index, or is of another engine; UNSUPPORTED: the page is filled, and the object cannot be written; MISUSE: the page is not exclusively busied by a caller, or is in an object. NOMEM; STALE.
 */
int32_t quire_page_insert(struct quire_page *page,
                          struct quire_object *object,
                          uint64_t index);

/**
 * Moves a page, exclusively busied, to another index of its object or into another object: as `quire_page_remove` and `quire_page_insert` in one, with their answers.
 */
int32_t quire_page_rename(struct quire_page *page,
                          struct quire_object *object,
                          uint64_t index);

/**
 * Frees a page, exclusively busied, and gives up what it holds; its mappings go, and the handle is stale. Waits for no more than locks. MISUSE: it is not
 * exclusively busied by a caller, or is wired. STALE.
 */
int32_t quire_page_free(struct quire_page *page);

/**
 * Resolves a fault at `addr`: what a trap handler calls. Afterwards the access can be tried again. `access` is one
 * of `QUIRE_ACCESS_…` of quire_pager.h. How it was resolved goes to `info`, whose `struct_size` the caller has set,
 * and which may be NULL. May block for as long as a pager does. One of `QUIRE_FAULT_…`: nothing was mapped. INVALID.
 */
int32_t quire_fault(struct quire_map *map, uint64_t addr, uint32_t access, struct quire_fault_info *info);

/**
 * As `quire_fault`, and holds the page at `addr`, that one and no neighbour, as `quire_page_hold` does: stores its handle in `page`, for
 * `quire_page_unhold`. The page stays in memory until then, or until its object loses it; it need not stay mapped. As `quire_fault`.
 */
int32_t quire_fault_hold(struct quire_map *map,
                         uint64_t addr,
                         uint32_t access,
                         struct quire_fault_info *info,
                         struct quire_page **page);

/**
 * Copies `length` bytes from mapped memory at `addr` into `buffer`. Pages are brought in as a fault would, but
 * nothing is mapped. `done`, which may be NULL, gets the number of bytes that were copied, also after an error. May
 * block for as long as a pager does. One of `QUIRE_FAULT_…`; INVALID.
 */
int32_t quire_read(struct quire_map *map, uint64_t addr, void *buffer, size_t length, size_t *done);

/**
 * Copies `length` bytes from `buffer` into mapped memory at `addr`; the pages are dirty afterwards. As `quire_read`.
 */
int32_t quire_write(struct quire_map *map, uint64_t addr, const void *buffer, size_t length, size_t *done);

/**
 * Loads `length` bytes at `addr` into `buffer` as a processor does: through the translations, with a fault where
 * there is none. For the soft machine, which has no other processor. On the Linux machine, where the pointer does the same, the kernel
 * makes the access, and an error comes as a status in place of a signal; UNSUPPORTED if it refuses that. As `quire_read`.
 */
int32_t quire_load(struct quire_map *map,
                   uint64_t addr,
                   void *buffer,
                   size_t length,
                   size_t *done);

/**
 * Stores `length` bytes from `buffer` at `addr` as a processor does. As `quire_load`.
 */
int32_t quire_store(struct quire_map *map, uint64_t addr, const void *buffer, size_t length, size_t *done);

/**
 * The whole API as a table, for a program that opens the library while it runs: this is the one symbol that it looks
 * up. `version` is the `QUIRE_API_VERSION` that the program was compiled with. Answers NULL when the library has
 * another major number, or, while that is 0, another minor number; otherwise a constant table that lives as long as
 * the library is loaded. Its members are the functions without `quire_`; a program that also runs with older
 * libraries asks `QUIRE_HAS` for the newer ones. Never fails otherwise.
 */
const struct quire_api_table *quire_api(uint32_t version);

/**
 * The whole API: what `quire_api` answers. Each member is the function of the same name with `quire_` before it.
 */
struct quire_api_table {
    /**
     * The size of this struct in bytes, as the library has it. Members beyond it do not exist.
     */
    uint32_t struct_size;
    /**
     * The library's `QUIRE_API_VERSION`.
     */
    uint32_t api_version;
    const char *(*version)(void);
    const char *(*last_error)(void);
    int32_t (*last_errno)(void);
    const char *(*status_name)(int32_t status);
    int32_t (*pager_errno)(int32_t status);
    int32_t (*set_log)(void (*callback)(void *ctx, uint32_t level, const char *pager, const char *text), void *ctx);
    int32_t (*engine_create)(const struct quire_engine_options *options, struct quire_engine **out);
    int32_t (*engine_destroy)(struct quire_engine *engine, uint32_t flags);
    int32_t (*engine_sync)(struct quire_engine *engine, uint32_t flags);
    int32_t (*engine_stats)(struct quire_engine *engine, struct quire_stats *out);
    int32_t (*pager_load)(struct quire_engine *engine, const char *name, const char *config, struct quire_pager **out);
    int32_t (*pager_register)(struct quire_engine *engine, const struct quire_pager_module *table, const char *config,
        struct quire_pager **out);
    int32_t (*pager_info)(struct quire_pager *pager, struct quire_pager_info *out);
    int32_t (*pager_unload)(struct quire_pager *pager);
    int32_t (*object_open)(struct quire_pager *pager, const char *name, int32_t fd, uint32_t flags,
        struct quire_object **out);
    int32_t (*object_reference)(struct quire_object *object, struct quire_object **out);
    int32_t (*object_release)(struct quire_object *object);
    int32_t (*object_discard)(struct quire_object *object);
    int32_t (*object_size)(struct quire_object *object, uint64_t *size);
    int32_t (*object_resident)(struct quire_object *object, uint64_t *pages);
    int32_t (*object_describe)(struct quire_object *object, char *text, size_t len);
    int32_t (*object_flush)(struct quire_object *object, uint64_t offset, uint64_t length, uint32_t flags);
    int32_t (*map_create)(struct quire_engine *engine, uint64_t start, uint64_t end, struct quire_map **out);
    int32_t (*map_destroy)(struct quire_map *map);
    int32_t (*map_version)(struct quire_map *map, uint64_t *version);
    int32_t (*map)(struct quire_map *map, struct quire_object *object, const struct quire_map_request *request,
        uint64_t *addr);
    int32_t (*unmap)(struct quire_map *map, uint64_t addr, uint64_t length);
    int32_t (*protect)(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t prot);
    int32_t (*inherit)(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t inherit);
    int32_t (*advise)(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t advice);
    int32_t (*fault)(struct quire_map *map, uint64_t addr, uint32_t access, struct quire_fault_info *info);
    int32_t (*read)(struct quire_map *map, uint64_t addr, void *buffer, size_t length, size_t *done);
    int32_t (*write)(struct quire_map *map, uint64_t addr, const void *buffer, size_t length, size_t *done);
    int32_t (*load)(struct quire_map *map, uint64_t addr, void *buffer, size_t length, size_t *done);
    int32_t (*store)(struct quire_map *map, uint64_t addr, const void *buffer, size_t length, size_t *done);
    int32_t (*object_resize)(struct quire_object *object, uint64_t size);
    int32_t (*object_refresh)(struct quire_object *object, uint64_t *size);
    int32_t (*object_uncache)(struct quire_object *object);
    int32_t (*object_terminate)(struct quire_object *object, uint32_t flags);
    int32_t (*object_put)(struct quire_object *object, uint64_t offset, uint64_t length, uint32_t flags,
        struct quire_put *out);
    int32_t (*wire)(struct quire_map *map, uint64_t addr, uint64_t length);
    int32_t (*unwire)(struct quire_map *map, uint64_t addr, uint64_t length);
    int32_t (*engine_set_targets)(struct quire_engine *engine, uint64_t free_min, uint64_t free_target,
        uint64_t free_enough);
    int32_t (*engine_daemon_step)(struct quire_engine *engine, struct quire_step *out);
    int32_t (*engine_read_ahead_step)(struct quire_engine *engine, uint32_t *more);
    int32_t (*engine_overdue)(struct quire_engine *engine, uint64_t milliseconds, struct quire_request *requests,
        size_t request_size, size_t room, size_t *found);
    int32_t (*engine_cancel_overdue)(struct quire_engine *engine, uint64_t milliseconds, size_t *asked);
    int32_t (*sync)(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t flags);
    int32_t (*prefetch)(struct quire_map *map, uint64_t addr, uint64_t length);
    int32_t (*populate)(struct quire_map *map, uint64_t addr, uint64_t length, uint32_t access);
    int32_t (*residency)(struct quire_map *map, uint64_t addr, uint64_t length, uint8_t *pages, size_t count);
    int32_t (*linux_supported)(void);
    const char *(*linux_limits)(void);
    int32_t (*map_create_interrupt_safe)(struct quire_engine *engine, uint64_t start, uint64_t end,
        struct quire_map **out);
    int32_t (*engine_is_interrupt_safe)(struct quire_engine *engine, uint64_t addr, uint32_t *answer);
    int32_t (*map_anonymous)(struct quire_map *map, const struct quire_map_request *request, uint64_t *addr);
    int32_t (*object_create_anonymous)(struct quire_engine *engine, uint64_t size, struct quire_object **out);
    int32_t (*map_fork)(struct quire_map *map, uint32_t flags, struct quire_map **child);
    int32_t (*map_copy)(struct quire_map *from, uint64_t start, uint64_t length, struct quire_map *to,
        const struct quire_copy_request *request, uint64_t *addr);
    int32_t (*wire_all)(struct quire_map *map, uint32_t flags);
    int32_t (*unwire_all)(struct quire_map *map);
    int32_t (*swap_add)(struct quire_pager *pager, const char *name, int32_t fd, uint64_t length, int32_t priority,
        uint64_t *id);
    int32_t (*swap_remove)(struct quire_engine *engine, uint64_t id);
    int32_t (*swap_areas)(struct quire_engine *engine, struct quire_swap_area *areas, size_t area_size, size_t room,
        size_t *found);
    int32_t (*swap_stats)(struct quire_engine *engine, struct quire_swap_stats *out);
    int32_t (*object_revoke)(struct quire_object *object, uint64_t offset, uint64_t length, uint32_t flags,
        uint64_t *pages);
    int32_t (*set_checking)(uint32_t flags);
    int32_t (*object_id)(struct quire_object *object, uint64_t *out);
    int32_t (*object_lock)(struct quire_object *object);
    int32_t (*object_trylock)(struct quire_object *object);
    int32_t (*object_unlock)(struct quire_object *object);
    int32_t (*page_lookup)(struct quire_object *object, uint64_t index, struct quire_page **out);
    int32_t (*page_grab)(struct quire_object *object, uint64_t first, size_t count, uint32_t flags,
        struct quire_page **pages, size_t *grabbed);
    int32_t (*page_busied)(struct quire_page *page);
    int32_t (*page_xbusied)(struct quire_page *page);
    int32_t (*page_sbusied)(struct quire_page *page);
    int32_t (*page_tryxbusy)(struct quire_page *page);
    int32_t (*page_trysbusy)(struct quire_page *page);
    int32_t (*page_xbusy)(struct quire_page *page);
    int32_t (*page_sbusy)(struct quire_page *page);
    int32_t (*page_xunbusy)(struct quire_page *page);
    int32_t (*page_sunbusy)(struct quire_page *page);
    int32_t (*page_busy_downgrade)(struct quire_page *page);
    int32_t (*page_busy_tryupgrade)(struct quire_page *page);
    int32_t (*page_busy_sleep)(struct quire_page *page, const char *message);
    int32_t (*page_sleep_if_busy)(struct quire_page *page, const char *message);
    int32_t (*page_sleepers)(struct quire_page_sleeper *sleepers, size_t sleeper_size, size_t room, size_t *found);
    int32_t (*page_assert_sbusied)(struct quire_page *page);
    int32_t (*page_assert_unbusied)(struct quire_page *page);
    int32_t (*page_assert_xbusied)(struct quire_page *page);
    int32_t (*page_is_valid)(struct quire_page *page);
    int32_t (*page_set_valid)(struct quire_page *page);
    int32_t (*page_is_dirty)(struct quire_page *page);
    int32_t (*page_set_dirty)(struct quire_page *page);
    int32_t (*page_set_clean)(struct quire_page *page);
    int32_t (*page_wire)(struct quire_page *page);
    int32_t (*page_unwire)(struct quire_page *page);
    int32_t (*page_wire_count)(struct quire_page *page);
    int32_t (*page_hold)(struct quire_page *page);
    int32_t (*page_unhold)(struct quire_page *page);
    int32_t (*page_read)(struct quire_page *page, size_t offset, void *bytes, size_t length);
    int32_t (*page_write)(struct quire_page *page, size_t offset, const void *bytes, size_t length);
    int32_t (*page_place)(struct quire_page *page, uint64_t *object, uint64_t *index);
    int32_t (*page_remove)(struct quire_page *page);
    int32_t (*page_insert)(struct quire_page *page, struct quire_object *object, uint64_t index);
    int32_t (*page_rename)(struct quire_page *page, struct quire_object *object, uint64_t index);
    int32_t (*page_free)(struct quire_page *page);
    int32_t (*aperture_add)(const struct quire_aperture *what, uint64_t *out);
    int32_t (*aperture_remove)(uint64_t aperture);
    int32_t (*object_open_device)(struct quire_pager *pager, struct quire_pager *driver, const char *name, int32_t fd,
        uint32_t flags, struct quire_object **out);
    int32_t (*fault_hold)(struct quire_map *map, uint64_t addr, uint32_t access, struct quire_fault_info *info,
        struct quire_page **page);
};

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QUIRE_H */
