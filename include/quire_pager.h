/*
 * quire_pager.h: write a pager for Quire.
 *
 * Generated from pagers/abi/src; do not edit.
 *
 * A pager is a shared library, libquire_pager_<name>.so, that exports one function:
 *
 *     static const struct quire_pager_module module = { .magic = QUIRE_PAGER_MAGIC, ... };
 *     QUIRE_PAGER_EXPORT(module);
 *
 * C++ before 20 has no such initialisers. There a function fills in the members by name, so that one more member in a
 * later header is no warning and no error:
 *
 *     static quire_pager_module make()
 *     {
 *         quire_pager_module m = quire_pager_module();
 *         m.magic = QUIRE_PAGER_MAGIC;
 *         ...
 *         return m;
 *     }
 *     static const quire_pager_module module = make();
 *     QUIRE_PAGER_EXPORT(module);
 *
 * A driver of devices is such a module too, with a narrower table, and without operations of its own:
 *
 *     static const struct quire_driver driver = { .struct_size = sizeof driver, .kind = QUIRE_DRIVER_MANAGED, ... };
 *     QUIRE_DRIVER_EXPORT("framebuffer", QUIRE_THREADS_PARALLEL, driver);
 *
 * Every operation answers a status: QUIRE_PAGER_OK, another QUIRE_PAGER_..., or a negated errno value. The numbers 0 to 5
 * are those of FreeBSD's VM_PAGER_ codes, 6 and 7 are UVM's two further ones, 64 and up are Quire's own. Text that says
 * what went wrong goes to the host's set_error. Pointers are borrowed until the call returns unless their comment says
 * otherwise, and an out-parameter is written only on success. No operation is called with a lock of the host held.
 */

#ifndef QUIRE_PAGER_H
#define QUIRE_PAGER_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define QUIRE_PAGER_VISIBLE __declspec(dllexport)
#elif defined(__GNUC__)
#define QUIRE_PAGER_VISIBLE __attribute__((visibility("default")))
#else
#define QUIRE_PAGER_VISIBLE
#endif

#ifdef __cplusplus
#define QUIRE_PAGER_C extern "C"
#else
#define QUIRE_PAGER_C extern
#endif

/** Name of the one symbol that a plugin exports. */
#define QUIRE_PAGER_ENTRY "quire_pager_entry"

/** Defines the entry function of a plugin: it answers the address of `module`, a constant `struct quire_pager_module`. Needs a `;`. */
#define QUIRE_PAGER_EXPORT(module)                                                                          \
    QUIRE_PAGER_C QUIRE_PAGER_VISIBLE const struct quire_pager_module *quire_pager_entry(uint32_t version); \
    const struct quire_pager_module *quire_pager_entry(uint32_t version)                                    \
    {                                                                                                       \
        (void)version;                                                                                      \
        return &(module);                                                                                   \
    }                                                                                                       \
    struct quire_pager_module

/** The name to which the module of a driver answers its `struct quire_driver`. */
#define QUIRE_DRIVER_EXTENSION "quire.driver.1"

/**
 * Defines `module`, a static constant `struct quire_pager_module` of the driver whose table is `driver`, a constant `struct quire_driver`, for
 * a program that registers a driver of its own. `name` is its short name, `threads` one of QUIRE_THREADS_... Needs a `;`. A driver that
 * wants `init`, `fini`, a version or a description writes the table out.
 */
#define QUIRE_DRIVER_MODULE(module, name, threads, driver)                                                  \
    static const void *module##_extension(void *ctx, const char *id)                                        \
    {                                                                                                       \
        const char *ours = QUIRE_DRIVER_EXTENSION;                                                          \
        (void)ctx;                                                                                          \
        for (; *id != 0 && *id == *ours; id++)                                                              \
            ours++;                                                                                         \
        return *id == *ours ? (const void *)&(driver) : (const void *)0;                                    \
    }                                                                                                       \
    static const struct quire_pager_module module = {                                                       \
        QUIRE_PAGER_MAGIC, QUIRE_PAGER_ABI_VERSION, sizeof(struct quire_pager_module), threads,             \
        QUIRE_CAP_DRIVER, name, NULL, NULL,                                                                 \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,     \
        NULL, NULL, module##_extension, NULL};                                                              \
    struct quire_pager_module

/** Makes the library a driver: QUIRE_DRIVER_MODULE, and the entry function. Needs a `;`. */
#define QUIRE_DRIVER_EXPORT(name, threads, driver)                                                          \
    QUIRE_DRIVER_MODULE(quire_driver_module, name, threads, driver);                                        \
    QUIRE_PAGER_EXPORT(quire_driver_module)

/**
 * Whether `p`, a pointer to a struct of this ABI, knows `member` and has it: members newer than the first version of a
 * major number are absent in an older host.
 */
#define QUIRE_HAS(p, type, member) \
    ((p)->struct_size >= offsetof(type, member) + sizeof((p)->member) && (p)->member != 0)

/**
 * The page at position `i` of the request `io`, as a `struct quire_pager_io_page *`. In a newer host these structs are
 * longer, and so `io->pages[i]` finds the first of them only.
 */
#define QUIRE_IO_PAGE(io, i) \
    ((struct quire_pager_io_page *)(void *)((char *)(io)->pages + (size_t)(i) * (io)->page_stride))

struct quire_pager_host_api;
struct quire_pager_open_args;
struct quire_pager_open_result;
struct quire_pager_populate;
struct quire_pager_io;

/**
 * The first word of every `quire_pager_module`: the bytes `QPGR` as a big-endian number.
 */
#define QUIRE_PAGER_MAGIC 1364215634

/**
 * Major number of the ABI in this header. A module of another major number is refused.
 */
#define QUIRE_PAGER_ABI_MAJOR 1

/**
 * Minor number of the ABI in this header. Larger and smaller minors load: what a module does not have is absent, and what the host
 * does not know is left alone.
 */
#define QUIRE_PAGER_ABI_MINOR 0

/**
 * The ABI version of this header, `major << 16 | minor`: what belongs in `abi_version`.
 */
#define QUIRE_PAGER_ABI_VERSION 65536

/**
 * The flags that a reader must understand: in every word of flags of this ABI, an unknown one of these is answered with
 * `QUIRE_PAGER_INVALID` by a pager, and refused by the host. Unknown ones below may be ignored.
 */
#define QUIRE_PAGER_FLAGS_MUST_KNOW 4294901760

/**
 * `quire_driver.kind`: the frames are the device's own, and each fault is answered with one of them. The host neither writes them out nor
 * takes them away to make room. Such a driver has no `populate` (S213).
 */
#define QUIRE_DRIVER_UNMANAGED 1

/**
 * `quire_driver.kind`: the pages are the host's, filled by the driver: the host can take them back, have them written
 * with `put`, and the driver can revoke them.
 */
#define QUIRE_DRIVER_MANAGED 2

/**
 * `quire_driver.kind`: the frames are the device's own, and `populate` installs large contiguous windows of them.
 */
#define QUIRE_DRIVER_PHYS 3

/**
 * The size every driver of this major version has at least: up to and including `dtor`.
 */
#define QUIRE_DRIVER_MIN_SIZE 24

/**
 * The smallest `struct_size` of `struct quire_driver_handle`.
 */
#define QUIRE_DRIVER_HANDLE_MIN_SIZE 32

/**
 * The smallest `struct_size` of `struct quire_driver_fault`.
 */
#define QUIRE_DRIVER_FAULT_MIN_SIZE 64

/**
 * `log` level: something is wrong and somebody must look at it.
 */
#define QUIRE_LOG_ERROR 1

/**
 * `log` level: something is odd.
 */
#define QUIRE_LOG_WARN 2

/**
 * `log` level: worth knowing.
 */
#define QUIRE_LOG_INFO 3

/**
 * `log` level: for the pager's author.
 */
#define QUIRE_LOG_DEBUG 4

/**
 * `revoke` flags: what is dirty is given up.
 */
#define QUIRE_REVOKE_DISCARD 1

/**
 * `revoke` flags: from now on every access to the object that finds no mapping fails, as long as it is open. The whole object only.
 */
#define QUIRE_REVOKE_FAIL 2

/**
 * `quire_aperture.cache`: ordinary memory.
 */
#define QUIRE_CACHE_WRITE_BACK 0

/**
 * `quire_aperture.cache`: stores may be gathered and reordered, loads are not cached: frame buffers.
 */
#define QUIRE_CACHE_WRITE_COMBINING 1

/**
 * `quire_aperture.cache`: every access reaches the device, in order: registers.
 */
#define QUIRE_CACHE_UNCACHED 2

/**
 * The smallest `struct_size` of `struct quire_aperture`.
 */
#define QUIRE_APERTURE_MIN_SIZE 40

/**
 * The smallest `struct_size` of `struct quire_pager_host_api`: the words before the services.
 */
#define QUIRE_PAGER_HOST_API_MIN_SIZE 24

/**
 * `thread_model`: no two operations of the module run at the same time. The host holds a lock around each call; the time a request is pending is not covered.
 *
 * The lock is taken with none of the host's held, and a thread waits for it as long as the call inside takes. An
 * operation that comes back to its own pager on the same thread (it touches memory that the pager backs, or drives the
 * engine) does not wait for itself: the inner call fails with `-EDEADLK`, which is an ordinary error and quarantines
 * nobody. The close of an object that is released in there is put off until the outer operation has returned.
 */
#define QUIRE_THREADS_SERIALIZE_ALL 0

/**
 * `thread_model`: no two operations on one object run at the same time. Opens are not covered, as there is no object yet:
 * several may run at once, also beside operations on other objects. Otherwise as `QUIRE_THREADS_SERIALIZE_ALL`.
 */
#define QUIRE_THREADS_SERIALIZE_OBJECT 1

/**
 * `thread_model`: any operations may run at the same time, but for open and close of the same object, init and fini.
 */
#define QUIRE_THREADS_PARALLEL 2

/**
 * `caps`: `get` and `put` may answer `QUIRE_PAGER_PEND` where the request allows it.
 */
#define QUIRE_CAP_ASYNC 1

/**
 * `caps`: the library must not be unloaded before the process ends.
 */
#define QUIRE_CAP_STAY_RESIDENT 2

/**
 * `caps`: built so that a panic ends the process (Rust `panic = "abort"`). Told to people; changes nothing.
 */
#define QUIRE_CAP_PANIC_ABORT 4

/**
 * `caps`: operations may be called in a child after fork. Without it a child calls none of them, not even close or fini.
 */
#define QUIRE_CAP_FORK_SAFE 8

/**
 * `caps`: `get` and `put` of a request with `QUIRE_IO_IN_SIGNAL`, and `has_page` at any time, do only what is async-signal-safe
 * (POSIX), whatever becomes of the request.
 */
#define QUIRE_CAP_SIGNAL_SAFE 16

/**
 * `caps`: the module is a driver of devices, and no pager: `open`, `close` and `get` are absent, and `get_extension` answers its
 * `struct quire_driver` to the name `QUIRE_DRIVER_EXTENSION`. Devices of it are opened through the device pager.
 */
#define QUIRE_CAP_DRIVER 32

/**
 * `caps`: the pager opens devices: its `open` is given a driver, and without this bit it never is. Its `thread_model` is `QUIRE_THREADS_PARALLEL`:
 * operations on a device are kept apart as the driver's module asks.
 */
#define QUIRE_CAP_DEVICES 64

/**
 * The size every module of this major version has at least: up to and including `get`.
 */
#define QUIRE_PAGER_MODULE_MIN_SIZE 88

/**
 * Page services: the rules were broken (EPERM): the page is not busied in the mode that the call needs, or is wired, or in no object; nothing was
 * changed, and the host's log says what was wrong. In checking builds that ends the process.
 */
#define QUIRE_PAGE_MISUSE (-1)

/**
 * Page services: the page is not in memory, and was not to be made (ENOENT).
 */
#define QUIRE_PAGE_ABSENT (-2)

/**
 * Page services: something failed below (EIO).
 */
#define QUIRE_PAGE_FAILED (-5)

/**
 * Page services: what was passed as a page is NULL, or no handle of one (EBADF). In checking builds that ends the process.
 */
#define QUIRE_PAGE_NO_HANDLE (-9)

/**
 * Page services: memory could not be had (ENOMEM).
 */
#define QUIRE_PAGE_NOMEM (-12)

/**
 * Page services: it is busied by others, or would have to be waited for (EBUSY).
 */
#define QUIRE_PAGE_BUSY (-16)

/**
 * Page services: there is a page at that place already (EEXIST).
 */
#define QUIRE_PAGE_OCCUPIED (-17)

/**
 * Page services: an argument makes no sense (EINVAL).
 */
#define QUIRE_PAGE_INVALID (-22)

/**
 * Page services: the object ends before that page (ERANGE).
 */
#define QUIRE_PAGE_BEYOND (-34)

/**
 * Page services: the object cannot do that: it cannot be written, say (EOPNOTSUPP).
 */
#define QUIRE_PAGE_UNSUPPORTED (-95)

/**
 * Page services: the page was freed since its handle was given, or the object's name is none of an open object (ESTALE).
 */
#define QUIRE_PAGE_STALE (-116)

/**
 * Grabbing: a page that is not in memory is not made.
 */
#define QUIRE_GRAB_NOCREAT 1

/**
 * Grabbing: nothing is waited for.
 */
#define QUIRE_GRAB_NOWAIT 2

/**
 * Grabbing: what has to be waited for is waited for once, and then answered as if it had not been.
 */
#define QUIRE_GRAB_WAITFAIL 4

/**
 * Grabbing: shared busied, not exclusively. Only a filled page is shared: a new one by `ZERO` or `CONTENTS`. Implies `IGN_SBUSY`.
 */
#define QUIRE_GRAB_SBUSY 8

/**
 * Grabbing: with `NOBUSY`, those who share the page are not waited for.
 */
#define QUIRE_GRAB_IGN_SBUSY 16

/**
 * Grabbing: not busied afterwards, as from a lookup. Only a filled page, as with `SBUSY`.
 */
#define QUIRE_GRAB_NOBUSY 32

/**
 * Grabbing: wired as well, to be unwired by the caller.
 */
#define QUIRE_GRAB_WIRED 64

/**
 * Grabbing: a new page is zeros, and filled with that. (Without it a new page is zeros, too, but not filled.)
 */
#define QUIRE_GRAB_ZERO 128

/**
 * Grabbing: a page that is not in memory is brought in by its pager. Not for pagers, which bring it.
 */
#define QUIRE_GRAB_CONTENTS 256

/**
 * The smallest `struct_size` of `struct quire_pager_open_args`.
 */
#define QUIRE_PAGER_OPEN_ARGS_MIN_SIZE 56

/**
 * The smallest `struct_size` of `struct quire_pager_open_result`.
 */
#define QUIRE_PAGER_OPEN_RESULT_MIN_SIZE 64

/**
 * The smallest `page_stride` of a request: the size of `struct quire_pager_io_page`.
 */
#define QUIRE_PAGER_IO_PAGE_MIN_SIZE 16

/**
 * The smallest `struct_size` of `struct quire_pager_io`.
 */
#define QUIRE_PAGER_IO_MIN_SIZE 56

/**
 * The smallest `struct_size` of `struct quire_pager_extent`.
 */
#define QUIRE_PAGER_EXTENT_MIN_SIZE 12

/**
 * The smallest `struct_size` of `struct quire_pager_populate`.
 */
#define QUIRE_PAGER_POPULATE_MIN_SIZE 64

/**
 * `quire_pager_open_args.flags`: the object will be read.
 */
#define QUIRE_OPEN_READ 1

/**
 * `quire_pager_open_args.flags`: the object will be written.
 */
#define QUIRE_OPEN_WRITE 2

/**
 * `quire_pager_open_result.flags`: pages come through `populate` first (S212: opt-in).
 */
#define QUIRE_OBJECT_POPULATE 1

/**
 * `quire_pager_open_result.flags`: the object cannot be written, whatever was asked for.
 */
#define QUIRE_OBJECT_READ_ONLY 2

/**
 * `quire_pager_open_result.flags`: the object's pages are frames of a device, installed with `frame_insert`. They need no `put` to be
 * written: a write goes to the device's memory, and `put` is never called.
 */
#define QUIRE_OBJECT_FRAMES 4

/**
 * `quire_pager_io.flags`: the operation may answer `QUIRE_PAGER_PEND` and complete later.
 */
#define QUIRE_IO_MAY_PEND 1

/**
 * `quire_pager_io.flags`: the host is short of memory and this request frees some: do not allocate if it can be helped.
 */
#define QUIRE_IO_RECLAIMING 2

/**
 * `quire_pager_io.flags`: the operation is called in a signal handler, which may have interrupted anything: do nothing that is
 * not async-signal-safe. Allocate nothing, wait for no lock that the interrupted thread could hold, and call no service of
 * the host, not even `set_error`. Never together with `QUIRE_IO_MAY_PEND`, and only for a module with `QUIRE_CAP_SIGNAL_SAFE`.
 */
#define QUIRE_IO_IN_SIGNAL 4

/**
 * The access that a populate request is for: a read.
 */
#define QUIRE_ACCESS_READ 1

/**
 * The access that a populate request is for: a write.
 */
#define QUIRE_ACCESS_WRITE 2

/**
 * The access that a populate request is for: an instruction fetch.
 */
#define QUIRE_ACCESS_EXEC 4

/**
 * Done.
 */
#define QUIRE_PAGER_OK 0

/**
 * Out of the accepted range: the index lies outside the object. From `populate`: use the ordinary path.
 */
#define QUIRE_PAGER_BAD 1

/**
 * In range, but the page is not there and cannot be made.
 */
#define QUIRE_PAGER_FAIL 2

/**
 * Started; `complete` will follow, exactly once. Only allowed when the request carries `QUIRE_IO_MAY_PEND`.
 */
#define QUIRE_PAGER_PEND 3

/**
 * An input or output error.
 */
#define QUIRE_PAGER_ERROR 4

/**
 * Short of some resource at the moment; the same request may succeed later.
 */
#define QUIRE_PAGER_AGAIN 5

/**
 * UVM's "could not do it with the object locked" (EBUSY). Kept for its number; no operation of this ABI answers it.
 */
#define QUIRE_PAGER_UNLOCK 6

/**
 * UVM's "start the fault again" (ERESTART). From `populate`: the fault starts over.
 */
#define QUIRE_PAGER_REFAULT 7

/**
 * This pager does not do that.
 */
#define QUIRE_PAGER_UNSUPPORTED 64

/**
 * A panic or an exception was caught at the border. The object is quarantined.
 */
#define QUIRE_PAGER_FAULTED 65

/**
 * What the status of a page says before the pager has touched it. Never a correct answer of an operation.
 */
#define QUIRE_PAGER_UNTOUCHED 66

/**
 * From a host service: the token names no request that is under way (it has completed, or was never one).
 */
#define QUIRE_PAGER_STALE 67

/**
 * An argument of the call was wrong (a size too small, an unknown flag, a NULL pointer).
 */
#define QUIRE_PAGER_INVALID 68

/**
 * Memory could not be had.
 */
#define QUIRE_PAGER_NOMEM 69

/**
 * The request was cancelled: the answer to one whose `cancel` came in time. The same request may succeed later.
 */
#define QUIRE_PAGER_CANCELLED 70

/**
 * The smallest negative status: `-4095`, as the smallest negated `errno` value.
 */
#define QUIRE_PAGER_ERRNO_MIN (-4095)

/**
 * The host, opaque to a plugin. Passed back as the first argument of every service.
 */
struct quire_pager_host;

/**
 * A page's handle. Not an address: 64 bits that name a page as it was when it was looked up or grabbed. It may be kept for ever, and needs no
 * closing; once the page was freed every call with it is answered with `QUIRE_PAGE_STALE` (in the API of quire.h: `QUIRE_ERR_STALE`). NULL and what is not
 * aligned as a handle are answered, too; other numbers that were never one must not be passed. A handle alone keeps
 * nothing in memory: busying the page does, and wiring it.
 */
struct quire_page;

/**
 * What was opened. The host zeroes it and fills in `struct_size`; the pager fills in the rest.
 */
struct quire_pager_open_result {
    /**
     * Size of this struct in bytes, as the host knows it. Members beyond it do not exist.
     */
    uint32_t struct_size;
    /**
     * A set of `QUIRE_OBJECT_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
     */
    uint32_t flags;
    /**
     * The handle that every operation on this object is given; the pager's own.
     */
    void *object;
    /**
     * The object's identity: opening the same thing twice gives the same two words (for files: device and inode). Both 0: no identity.
     */
    uint64_t identity[2];
    /**
     * Size in bytes; need not be a multiple of the page size. More than `2^64 - 4096` is logged and taken for that.
     */
    uint64_t size;
    /**
     * Bytes that the backing moves best in; 0: a page. With 2 MiB or more, a mapping whose place is left to the host, of 2 MiB at least
     * and from a multiple of that on, is placed at such a multiple if there is room: populate's windows are then entered as
     * large pages where the machine has them.
     */
    uint32_t granule;
    /**
     * The longest run of pages that one request may have; 0: no limit.
     */
    uint32_t max_run;
    /**
     * Which contents the object has at the moment: other words whenever they may have changed, other than through this
     * object, since words were told before (for a file: its times of change). Both 0: not known.
     *
     * The host keeps pages of an object that nobody uses. When the same identity is opened again and tells other words, they
     * are not shown: clean ones are freed, dirty ones, which are newer, are written first. Own puts and resizes may
     * change the words, if there is `get_change` to ask for the new ones afterwards.
     */
    uint64_t change[2];
};

/**
 * Memory of a device: a range of addresses of this process, or what a file descriptor maps. Borrowed until return.
 */
struct quire_aperture {
    /**
     * Size of this struct in bytes, as the caller knows it.
     */
    uint32_t struct_size;
    /**
     * One of `QUIRE_CACHE_…`: how the device wants to be accessed. A machine with page tables of its own obeys; in a process the mapping
     * that the device's file gives decides.
     */
    uint32_t cache;
    /**
     * The memory, page aligned; NULL when `fd` is to be mapped. It stays the caller's. On the Linux machine it must be a
     * shared mapping (`MAP_SHARED`), as it is shown at other addresses too.
     */
    void *memory;
    /**
     * Its length in bytes: a multiple of the page size, not 0.
     */
    uint64_t length;
    /**
     * An open file descriptor that can be mapped, or -1. It is duplicated, and stays the caller's. With `memory` as well, that is where it is mapped already.
     */
    int32_t fd;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Where in the file the memory begins, in bytes; a multiple of the page size.
     */
    uint64_t offset;
};

/**
 * What can be done with a page by hand. Append-only, and static as long as the host is: part of `struct quire_pager_host_api`.
 *
 * A page is unbusied, exclusively busied by one, or shared busied by one or more (S239). Busying is the caller's own: what the engine has
 * busied (a page that is being brought in or written, or was taken for a running populate) cannot be unbusied or changed here. A
 * page that is busied for long keeps faults, write-back and the end of its object waiting; what is in the way of a
 * thread's own call it waits for in vain.
 *
 * The functions answer `QUIRE_PAGER_OK` or a negative `QUIRE_PAGE_…`; questions answer 1 or 0, or a negative one. Each may answer `NO_HANDLE`
 * and `STALE`. Any thread, with any locks of the pager's; those that may block say so, and none calls a pager.
 */
struct quire_page_api {
    /**
     * `sizeof(struct quire_page_api)`, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Whether it is busied in either mode, by anyone.
     */
    int32_t (*busied)(struct quire_page *page);
    /**
     * Whether it is exclusively busied, by anyone.
     */
    int32_t (*xbusied)(struct quire_page *page);
    /**
     * Whether it is shared busied, by anyone.
     */
    int32_t (*sbusied)(struct quire_page *page);
    /**
     * Busies it exclusively if it is unbusied: 1; otherwise 0, at once. Takes no lock and allocates nothing.
     */
    int32_t (*tryxbusy)(struct quire_page *page);
    /**
     * Shares it unless it is exclusively busied: 1; otherwise 0, at once. Takes no lock and allocates nothing.
     */
    int32_t (*trysbusy)(struct quire_page *page);
    /**
     * Busies it exclusively. May block for as long as others have it.
     */
    int32_t (*xbusy)(struct quire_page *page);
    /**
     * Shares it. May block for as long as somebody has it exclusively busied.
     */
    int32_t (*sbusy)(struct quire_page *page);
    /**
     * Unbusies what is exclusively busied, and wakes all sleepers. A page that is not filled is freed by that, and the handle is
     * stale. `MISUSE`: it is not exclusively busied by hand, or is in no object.
     */
    int32_t (*xunbusy)(struct quire_page *page);
    /**
     * Gives one share back; the last one wakes all sleepers. `MISUSE`: nobody shares it by hand.
     */
    int32_t (*sunbusy)(struct quire_page *page);
    /**
     * Exclusively busied to shared by the caller alone, with no moment in between. `MISUSE`: it is not exclusively busied by hand, not filled,
     * or in no object.
     */
    int32_t (*busy_downgrade)(struct quire_page *page);
    /**
     * Shared by the caller alone to exclusively busied: 1; with other sharers 0, and still shared. `MISUSE`: nobody shares it by hand.
     */
    int32_t (*busy_tryupgrade)(struct quire_page *page);
    /**
     * Sleeps once, if the page is busied, until that changes; it may be busied again afterwards. `message`, zero-terminated and borrowed, is
     * for tools, and cut to 31 bytes; NULL is "". The object's lock, if the caller holds it, is let go of.
     */
    int32_t (*busy_sleep)(struct quire_page *page, const char *message);
    /**
     * As `busy_sleep`, but the object's lock is held again afterwards: 1 if it slept, 0 if the page was not busied.
     */
    int32_t (*sleep_if_busy)(struct quire_page *page, const char *message);
    /**
     * In checking builds, ends the process unless the page is shared busied. Nothing otherwise.
     */
    int32_t (*assert_sbusied)(struct quire_page *page);
    /**
     * In checking builds, ends the process if the page is busied. Nothing otherwise.
     */
    int32_t (*assert_unbusied)(struct quire_page *page);
    /**
     * In checking builds, ends the process unless the page is exclusively busied. Nothing otherwise.
     */
    int32_t (*assert_xbusied)(struct quire_page *page);
    /**
     * Whether it is filled.
     */
    int32_t (*is_valid)(struct quire_page *page);
    /**
     * It is filled, whole, with what its pager has. Exclusively busied.
     */
    int32_t (*set_valid)(struct quire_page *page);
    /**
     * Whether it is dirty, or may be: mapped for writing, and not looked at since.
     */
    int32_t (*is_dirty)(struct quire_page *page);
    /**
     * It has to be written before it goes. Busied in either mode, and filled. `UNSUPPORTED`: the object cannot be written.
     */
    int32_t (*set_dirty)(struct quire_page *page);
    /**
     * Its pager has these very bytes. Its mappings go. Exclusively busied.
     */
    int32_t (*set_clean)(struct quire_page *page);
    /**
     * It stays in memory until each wiring was taken back, or its object loses it: by shrinking, by its end. Busied in either mode. `NOMEM`.
     */
    int32_t (*wire)(struct quire_page *page);
    /**
     * Takes one wiring back that was made by hand. It need not be busied. `MISUSE`: there is none.
     */
    int32_t (*unwire)(struct quire_page *page);
    /**
     * How often it is wired, by hand and by maps.
     */
    int32_t (*wire_count)(struct quire_page *page);
    /**
     * What older systems call to hold a page: the same as `wire`.
     */
    int32_t (*hold)(struct quire_page *page);
    /**
     * The same as `unwire`.
     */
    int32_t (*unhold)(struct quire_page *page);
    /**
     * Copies `length` of its bytes from `offset` on into `bytes`. Busied in either mode. `MISUSE` also if they are not all inside the page.
     */
    int32_t (*read)(struct quire_page *page, size_t offset, void *bytes, size_t length);
    /**
     * Copies `length` bytes from `bytes` into it from `offset` on. Busied in either mode. A filled page is dirty then, as by `set_dirty`.
     */
    int32_t (*write)(struct quire_page *page, size_t offset, const void *bytes, size_t length);
    /**
     * Stores the number of the object it is in, the same for all pages of one object and otherwise without meaning, and its
     * index there; each may be NULL. 1, or 0 and nothing stored for a page in no object. Stable while it is busied.
     */
    int32_t (*place)(struct quire_page *page, uint64_t *object, uint64_t *index);
    /**
     * Takes it out of its object: its mappings go, its place is empty. It stays exclusively busied, with its bytes and wirings, and must be
     * put into an object, or freed. `NOMEM`; `MISUSE`: it is not exclusively busied by hand, is wired by a map, or out already.
     */
    int32_t (*remove)(struct quire_page *page);
    /**
     * Frees it, and gives up what it holds; its mappings go. The handle is stale. `MISUSE`: it is not exclusively busied by hand, or is wired.
     */
    int32_t (*free)(struct quire_page *page);
};

/**
 * Services of the host. Valid from `init` until `fini` has returned. Append-only. Every host has those up to and including
 * `page_take`. Those behind it are had by hosts that can do such things, as this one; a plugin that wants one, or a member newer than
 * the first version of its major number, checks `QUIRE_HAS` first.
 *
 * Every service may be called on any thread, also one of the pager's own, and with locks of the pager's held: none of them
 * blocks for a pager operation, or runs one on the caller's stack, but for `revoke`, which says so. Those of populate are for as long as
 * the populate whose token they name runs; another thread may call them for it meanwhile.
 */
struct quire_pager_host_api {
    /**
     * The host's `QUIRE_PAGER_ABI_VERSION`.
     */
    uint32_t abi_version;
    /**
     * Size of this struct in bytes, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * The first argument of every service.
     */
    struct quire_pager_host *host;
    /**
     * Bytes in a page; a power of two.
     */
    uint32_t page_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Writes a line, zero-terminated UTF-8, borrowed until return, to the host's log. `level` is one of `QUIRE_LOG_…`.
     */
    void (*log)(struct quire_pager_host *host, uint32_t level, const char *text);
    /**
     * Says in words what went wrong: operation, place, name and the system's text. `token` is that of the request; 0 means
     * the operation that runs on this thread. `text` is copied before the call returns, 1024 bytes of it at most. The
     * last call before the operation's end counts.
     */
    void (*set_error)(struct quire_pager_host *host, uint64_t token, const char *text);
    /**
     * Completes a request that pended, or is about to (it may come before the operation returns `PEND`). `status` as an
     * operation's answer, and not `PEND`; the pages' statuses must be stored before. Any thread. Records and wakes, and calls no pager
     * operation. Answers `OK`, or `STALE` when the token is not that of a request under way: that is logged and ignored.
     */
    int32_t (*complete)(struct quire_pager_host *host, uint64_t token, int32_t status);
    /**
     * Answers an extension table of the host by its name, or NULL.
     */
    const void *(*get_extension)(struct quire_pager_host *host, const char *id);
    /**
     * During populate: takes new pages of the object, `count` of them from `first` on, exclusively busied, and stores the
     * address of each one's bytes in `bytes`, an array of `count`. The bytes are lent until `page_ready` or the end of
     * populate, aligned to the page size, and come with any contents. Stops at the first page that cannot be had, and stores in
     * `inserted`, which may be NULL when `count` is 1, how many were. `OK` if one was; otherwise why the first was not: `AGAIN`: it is in memory
     * already, or busy (`page_take` may have it); `BAD`: outside the object, or the object ends; `UNSUPPORTED`: it can be written and has
     * `QUIRE_OBJECT_FRAMES`, so that nothing would write the page back; `NOMEM`; `STALE`; `INVALID`: `count` is 0.
     */
    int32_t (*page_insert)(struct quire_pager_host *host,
                           uint64_t token,
                           uint64_t first,
                           uint32_t count,
                           void **bytes,
                           uint32_t *inserted);
    /**
     * During populate: `count` pages from `first` on, which were inserted, are filled, whole. A page that is not made
     * ready by the end of populate is freed. `INVALID`: one of them was not inserted; those before it are ready.
     */
    int32_t (*page_ready)(struct quire_pager_host *host, uint64_t token, uint64_t first, uint32_t count);
    /**
     * During populate: busies pages that are in memory already, `count` of them from `first` on, so that they can be part of
     * the answer. Waits for nobody: stops at the first page that is not there, or that somebody else has busied, and stores in
     * `taken`, which may be NULL when `count` is 1, how many were had. `OK` if one was; otherwise `AGAIN`, `BAD`, `NOMEM`, `STALE`, `INVALID` as from
     * `page_insert`.
     */
    int32_t (*page_take)(struct quire_pager_host *host, uint64_t token, uint64_t first, uint32_t count, uint32_t *taken);
    /**
     * During populate: installs pages whose memory is the device's own: `count` pages from `first` on show the aperture's bytes
     * from `offset` on, which is a multiple of the page size. They are ready at once: accesses go to that memory, and nothing
     * is copied, written back or taken away to make room. Otherwise as `page_insert`. `INVALID` also when the pages do not lie
     * in the aperture.
     */
    int32_t (*frame_insert)(struct quire_pager_host *host,
                            uint64_t token,
                            uint64_t first,
                            uint32_t count,
                            uint64_t aperture,
                            uint64_t offset,
                            uint32_t *inserted);
    /**
     * Registers memory of a device, from which `frame_insert` makes pages, and stores its number in `aperture`. It must stay
     * as it is until `aperture_remove` has answered `OK`. At any time between `init` and `fini`. `INVALID`, `NOMEM`, `UNSUPPORTED`, a negated `errno`.
     */
    int32_t (*aperture_add)(struct quire_pager_host *host, const struct quire_aperture *what, uint64_t *aperture);
    /**
     * Ends what `aperture_add` began. `AGAIN` while pages show it: `revoke` them, or close their objects, first. `INVALID`: no such aperture.
     */
    int32_t (*aperture_remove)(struct quire_pager_host *host, uint64_t aperture);
    /**
     * Takes pages of an object back, `count` of them from `first` on, `count` 0: to the end: removes their mappings in every
     * map and frees them, waiting for those that others have busied. `object` is `quire_pager_open_args.host_object`. `flags` is a set of
     * `QUIRE_REVOKE_…`; without any, what is dirty is written first, and the next access faults again. On any thread, but not
     * inside an operation of the same object, where it answers `-EDEADLK`. `STALE`: no such object, or it is closed; otherwise an
     * error of the writing, after which what is dirty is still there.
     */
    int32_t (*revoke)(struct quire_pager_host *host, uint64_t object, uint64_t first, uint64_t count, uint32_t flags);
    /**
     * What can be done with a page by hand. It answers, as the services below do, `OK` or a negative `QUIRE_PAGE_…`.
     */
    const struct quire_page_api *pages;
    /**
     * Stores the handle of page `index` of an object in `page`, if it is in memory. It is not busied by that, and may be gone a moment later.
     * `object` is `quire_pager_open_args.host_object`, here and below. `ABSENT`; `STALE`: no such object, or it is closed; `NOMEM`.
     */
    int32_t (*page_lookup)(struct quire_pager_host *host, uint64_t object, uint64_t index, struct quire_page **page);
    /**
     * Grabs `count` pages of an object from `first` on: each is looked up, or made, and busied, as `flags`, a set of
     * `QUIRE_GRAB_…`, has it; without any, a missing page is made, unfilled, and each is exclusively busied. Stops at the first that cannot be
     * had. Stores their handles in `pages`, an array of `count`, and in `grabbed`, which may be NULL when `count` is 1, how many
     * there are. `OK` if one was had; otherwise why the first was not: `BUSY` (with `NOWAIT`, `WAITFAIL`), `ABSENT` (with `NOCREAT`), `BEYOND`,
     * `NOMEM` (which is not waited for), `STALE`, `FAILED`; `INVALID`: `count` is 0, an unknown flag; `MISUSE`: flags that exclude each other. May block for as long as others have
     * the page; so a pager that grabs a page which it has to bring itself waits in vain, unless it says `NOWAIT`.
     */
    int32_t (*page_grab)(struct quire_pager_host *host,
                         uint64_t object,
                         uint64_t first,
                         uint32_t count,
                         uint32_t flags,
                         struct quire_page **pages,
                         uint32_t *grabbed);
    /**
     * Moves a page, exclusively busied by hand, to page `index` of an object, where there is none: out of the object that it is in, or from
     * outside all objects (`remove`). Its mappings go. It stays the same page, busied, with its bytes and wirings by hand; a filled one is
     * dirty, as its new pager has not what it holds. `OCCUPIED`, `BEYOND`, `NOMEM`, `STALE`; `UNSUPPORTED`: it is filled, and
     * the object cannot be written; `INVALID`: an object of another engine; `MISUSE`: not busied so, or wired by a map.
     */
    int32_t (*page_move)(struct quire_pager_host *host, struct quire_page *page, uint64_t object, uint64_t index);
    /**
     * Takes an object's lock, a plain one for callers who want to exclude each other, or who test against the rule that a page is busied under
     * it; the engine never takes it. May block for as long as others have it. `MISUSE`: this thread has it; `STALE`.
     */
    int32_t (*object_lock)(struct quire_pager_host *host, uint64_t object);
    /**
     * Lets go of it. `MISUSE`: this thread does not have it; `STALE`.
     */
    int32_t (*object_unlock)(struct quire_pager_host *host, uint64_t object);
};

/**
 * A fault that a driver is to answer with one page. Borrowed until return.
 */
struct quire_driver_fault {
    /**
     * Size of this struct in bytes, as the caller knows it.
     */
    uint32_t struct_size;
    /**
     * Zero for now. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
     */
    uint32_t flags;
    /**
     * Names the request in `set_error`.
     */
    uint64_t token;
    /**
     * The page index.
     */
    uint64_t index;
    /**
     * Managed devices: the page's bytes, to be filled whole; they come with any contents. NULL otherwise.
     */
    void *bytes;
    /**
     * Out, for `OK`, where `bytes` is NULL: the aperture that has the frame.
     */
    uint64_t aperture;
    /**
     * Out, likewise: where in the aperture the frame begins; a multiple of the page size.
     */
    uint64_t offset;
    /**
     * Bytes in a page.
     */
    uint32_t page_size;
    /**
     * The access: one of `QUIRE_ACCESS_…`. Managed devices are always told a read (S237).
     */
    uint32_t access;
    /**
     * The host's services.
     */
    const struct quire_pager_host_api *host;
};

/**
 * A request to install pages around a faulting index (S216 to S223). Borrowed until return.
 *
 * There is no promise of a second call when a read is followed by a write (S237): pages are to be prepared for `max_prot`.
 */
struct quire_pager_populate {
    /**
     * Size of this struct in bytes, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * Zero for now. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
     */
    uint32_t flags;
    /**
     * Names the request in the host's page services and in `set_error`.
     */
    uint64_t token;
    /**
     * The faulting page index.
     */
    uint64_t index;
    /**
     * In: the first index that is mapped. Out, for `OK`: the first page that was installed.
     */
    uint64_t first;
    /**
     * In: the last index that is mapped. Out, for `OK`: the last page that was installed. `first <= index <= last`.
     */
    uint64_t last;
    /**
     * One of `QUIRE_ACCESS_…`.
     */
    uint32_t access;
    /**
     * The most that the mapping may ever be allowed, as a set of `QUIRE_ACCESS_…`.
     */
    uint32_t max_prot;
    /**
     * Bytes in a page.
     */
    uint32_t page_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The host's services, for this request's token.
     */
    const struct quire_pager_host_api *host;
};

/**
 * One page of a run. May grow at its end: go from one to the next by `page_stride` (`QUIRE_IO_PAGE`), not as in an array.
 */
struct quire_pager_io_page {
    /**
     * The page's bytes, `page_size` of them and aligned to that, lent until the request completes. For `get` they come
     * with any contents; for `put` they must not be written.
     */
    void *bytes;
    /**
     * Comes as `QUIRE_PAGER_UNTOUCHED`; the pager stores what became of this page: `OK`, or an error as an operation may answer it.
     */
    int32_t status;
    /**
     * Zero.
     */
    uint32_t reserved;
};

/**
 * A request to move a run of pages of one object.
 *
 * The struct and `pages` stay valid until the operation has returned *and* the request has completed. The bytes are
 * lent until completion: afterwards they are the host's, and a pager keeps no pointer to them.
 * A request completes when the operation answers anything but `QUIRE_PAGER_PEND`, or else by `complete`.
 */
struct quire_pager_io {
    /**
     * Size of this struct in bytes, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * A set of `QUIRE_IO_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
     */
    uint32_t flags;
    /**
     * Names the request in `complete`, `set_error` and `cancel`. Carries a generation: it is never used twice.
     */
    uint64_t token;
    /**
     * Page index, in the object, of `pages[0]`.
     */
    uint64_t first;
    /**
     * Number of pages, at least 1.
     */
    uint32_t count;
    /**
     * The page that must be moved, as an index into `pages`.
     */
    uint32_t required;
    /**
     * Bytes in a page; a power of two.
     */
    uint32_t page_size;
    /**
     * Bytes from one `struct quire_pager_io_page` in `pages` to the next, as the host knows it.
     */
    uint32_t page_stride;
    /**
     * The object's size in bytes as the host knows it. Bytes at and beyond it read as zeros and are never written.
     */
    uint64_t object_size;
    /**
     * The pages, `count` of them, `page_stride` bytes apart. `QUIRE_IO_PAGE(io, i)` finds one.
     */
    struct quire_pager_io_page *pages;
};

/**
 * The table of a driver: constant, and alive as long as its module is. Append-only: members after `dtor` are optional, NULL or beyond
 * `struct_size` means absent. `ctx` is what the module's `init` stored, `device` what `ctor` stored.
 *
 * The rules of `quire_pager_module` hold for its functions: statuses, text by `set_error`, no lock of the host held, the module's
 * thread model. Each may block.
 */
struct quire_driver {
    /**
     * `sizeof(struct quire_driver)`; as the host copies it, the size of the copy.
     */
    uint32_t struct_size;
    /**
     * One of `QUIRE_DRIVER_…`.
     */
    uint32_t kind;
    /**
     * Makes a device of what `args` names; the name may be NULL and the descriptor -1. Of `out`, `object` is the device, and `size` must be
     * set, not to 0; all else as from a pager's `open`, but that the device pager sets `QUIRE_OBJECT_POPULATE` and `QUIRE_OBJECT_FRAMES`, and
     * that a request has one page, whatever `max_run` says. `identity` need differ from those of the same driver's other devices only. A `ctor` that fails is followed by no `dtor`. Mandatory.
     */
    int32_t (*ctor)(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out);
    /**
     * Ends a device, exactly once for each `ctor` that answered `OK`; no call for it is under way, and none follows. Not called
     * when the process ends before. Mandatory.
     */
    void (*dtor)(void *ctx, void *device);
    /**
     * Answers one page. It must not pend. Absent: the page cannot be had that way (`FAIL`, S235).
     */
    int32_t (*fault)(void *device, struct quire_driver_fault *req);
    /**
     * Installs as many pages as the driver thinks right; as a pager's. `BAD`: one page, by `fault`. Absent: always so. Not of unmanaged devices.
     */
    int32_t (*populate)(void *device, struct quire_pager_populate *req);
    /**
     * Writes pages back; as a pager's, but that it must not pend. Of managed devices only. Absent: the device cannot be written.
     */
    int32_t (*put)(void *device, struct quire_pager_io *io);
    /**
     * Writes a name for people, zero-terminated and cut to `len` bytes, into `text`. Absent: the name given to open.
     */
    int32_t (*path)(void *device, char *text, size_t len);
    /**
     * Makes everything that was put durable before it returns. Absent: a put is durable when it returns.
     */
    int32_t (*sync)(void *device);
};

/**
 * A driver, as it is handed to the device pager: its table, and what its module's `init` stored.
 */
struct quire_driver_handle {
    /**
     * Size of this struct in bytes, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The table.
     */
    const struct quire_driver *table;
    /**
     * The first argument of `ctor` and `dtor`.
     */
    void *ctx;
    /**
     * The driver's short name: that of its module.
     */
    const char *name;
};

/**
 * What is to be opened. Borrowed until `open` returns.
 */
struct quire_pager_open_args {
    /**
     * Size of this struct in bytes, as the host knows it.
     */
    uint32_t struct_size;
    /**
     * A set of `QUIRE_OPEN_…`. Unknown flags: see `QUIRE_PAGER_FLAGS_MUST_KNOW`.
     */
    uint32_t flags;
    /**
     * Names this call in `set_error`.
     */
    uint64_t token;
    /**
     * What to open, zero-terminated; what it means is the pager's business (a path, an address). NULL when `fd` says it all.
     */
    const char *name;
    /**
     * An open file descriptor to use, or -1. It stays the caller's; a pager that wants to keep it duplicates it.
     */
    int32_t fd;
    /**
     * Bytes in a page; a power of two.
     */
    uint32_t page_size;
    /**
     * A driver for the pager: for device pagers, NULL otherwise. Valid until the object's `close` has returned.
     */
    const struct quire_driver_handle *driver;
    /**
     * The object's name in the host's services that take an object, from when `open` has answered `OK` until `close`
     * returns; they answer `STALE` before and afterwards.
     */
    uint64_t host_object;
    /**
     * The host's services, as `init` was given them; for drivers, which need no `init`. Valid until the object's `close` has returned.
     */
    const struct quire_pager_host_api *host;
};

/**
 * What `has_page` answers. The host zeroes it and fills in `struct_size`; the pager fills in the rest.
 */
struct quire_pager_extent {
    /**
     * Size of this struct in bytes, as the host knows it. Members beyond it do not exist.
     */
    uint32_t struct_size;
    /**
     * Pages directly before the index that could come in the same request.
     */
    uint32_t before;
    /**
     * Pages directly after it.
     */
    uint32_t after;
};

/**
 * What a pager is and can do: the table that its entry function returns.
 *
 * Constant, and alive as long as the library is loaded. Append-only: members after `get` are optional, NULL or beyond
 * `struct_size` means absent. Strings are UTF-8, end in a zero, and are static.
 *
 * No operation is called with a lock of the host held, other than that of `thread_model`; each may block. A pager's own
 * locks are its own affair, as long as it holds none of them while it waits for the host to call it. `ctx` is what `init` stored, `object` what
 * `open` stored; both are the pager's own and opaque to the host, and may be NULL.
 *
 * # Answers
 *
 * Every operation may answer `OK`, `FAULTED`, `ERROR`, `AGAIN`, `NOMEM`, `INVALID`, `UNSUPPORTED`, `BAD`, `FAIL`,
 * `CANCELLED` and a negated `errno`. `PEND` only `get` and `put` of a request with `QUIRE_IO_MAY_PEND`; `REFAULT` only `populate`. Anything
 * else is a broken promise. The host retries nothing by itself, not even `AGAIN`: whoever asked gets the error, and may ask again.
 */
struct quire_pager_module {
    /**
     * `QUIRE_PAGER_MAGIC`.
     */
    uint32_t magic;
    /**
     * `QUIRE_PAGER_ABI_VERSION` of the header this module was built with.
     */
    uint32_t abi_version;
    /**
     * `sizeof(struct quire_pager_module)` of that header, in bytes.
     */
    uint32_t struct_size;
    /**
     * One of `QUIRE_THREADS_…`. Enforced by the host.
     */
    uint32_t thread_model;
    /**
     * A set of `QUIRE_CAP_…`. All 64 bits are hints: unknown ones are ignored.
     */
    uint64_t caps;
    /**
     * Short name: lower-case letters, digits, `-` and `_`, at most 64 of them; not NULL.
     */
    const char *name;
    /**
     * The pager's own version, for people; may be NULL.
     */
    const char *version;
    /**
     * One sentence, for people; may be NULL.
     */
    const char *description;
    /**
     * Called once, before anything else. `host` stays valid until `fini` has returned. `config` is borrowed until return
     * and may be NULL. Optional: without it `ctx` is NULL. Answers `OK` or an error, with which the load is refused.
     *
     * No `fini` follows an init that fails, so nothing it started may still run. The host keeps the library and its own
     * table for ever then, in case something does; `init` may be called again when the plugin is loaded again.
     * May load other plugins. To load its own, or to wait for a thread that does, is refused or never ends.
     */
    int32_t (*init)(const struct quire_pager_host_api *host, const char *config, void **ctx);
    /**
     * Called once, after the last close, when no request is under way. The pager's threads must have ended when it
     * returns, and the host's table is not used afterwards. Must not load its own plugin. Optional.
     */
    void (*fini)(void *ctx);
    /**
     * Opens what `args` names. `out` comes zeroed with its `struct_size` filled in, is borrowed until return and is read
     * only when the answer is `OK`. The handle stored there is the pager's until `close`; NULL is as good as any. Mandatory.
     */
    int32_t (*open)(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out);
    /**
     * Closes an object. No request of it is under way, and none follows. Called once for each object, in any case. An
     * error is reported to whoever released the object; the object is closed all the same. Mandatory.
     */
    int32_t (*close)(void *ctx, void *object);
    /**
     * Fills the pages of a run. The page `io->required` must be filled for an `OK`; each page that was filled gets the
     * status `OK`, whole: past the end of the data it holds zeros. A neighbour may be left untouched or get an error,
     * which fails nobody. The bytes come with any contents, and are not zeroed. When the answer is an error, pages that
     * got the status `OK` are kept all the same. `BAD` for a page beyond the end of the data. Mandatory.
     */
    int32_t (*get)(void *object, struct quire_pager_io *io);
    /**
     * Writes the pages of a run, whose bytes do not change meanwhile. Every page needs a status; `OK` as the answer says
     * that all pages are written. Nothing at or beyond `io->object_size` may be written. When the answer is an error,
     * pages with the status `OK` count as written, and the others stay dirty. A backing that has become shorter
     * than `io->object_size` behind the host's back must not grow again because of a put: `BAD` for pages beyond its end. It grows by
     * `resize`. Absent: read-only.
     */
    int32_t (*put)(void *object, struct quire_pager_io *io);
    /**
     * Says whether the backing has the page, and how many pages before and after it could come in the same request.
     * `OK` and `out` filled in (it comes zeroed with its `struct_size`): it has; `FAIL`: in range, and not there. Absent:
     * every page below the size is there.
     */
    int32_t (*has_page)(void *object, uint64_t index, struct quire_pager_extent *out);
    /**
     * Installs as many pages as the pager thinks right, through the host's page services, and stores the contiguous
     * range in `req->first` and `req->last`. Called only for objects opened with `QUIRE_OBJECT_POPULATE`. `BAD`: use
     * `get`. `REFAULT`: start the fault over, for something has changed meanwhile; a fault that is started over again and
     * again without progress takes the way through `get`. Pages that were made ready are kept, whatever the answer is.
     */
    int32_t (*populate)(void *object, struct quire_pager_populate *req);
    /**
     * Stores the size in bytes as it is now. Absent: the size given by `open` stands.
     */
    int32_t (*get_size)(void *object, uint64_t *size);
    /**
     * Makes the backing `size` bytes long. Absent: the size is fixed.
     */
    int32_t (*resize)(void *object, uint64_t size);
    /**
     * Makes everything that was put durable before it returns. Absent: a put is durable when it completes.
     */
    int32_t (*sync)(void *object);
    /**
     * Asked before clean pages are written, by any way: `count` pages from `first`, which were filled. They are dirty once it
     * has agreed, and are put some time later; after that the next write asks again. An error denies the write: the access
     * fails with it. May block, but not pend. Absent: always allowed. Never called for objects opened for reading.
     */
    int32_t (*prepare_write)(void *object, uint64_t first, uint64_t count);
    /**
     * Asks that the request `token`, to which an operation of this object answered `PEND`, end soon. Called at most once for
     * a request, never before that answer, on any thread; the thread model holds for it as for every operation. It must not wait for the
     * request. The request still completes, exactly once, by `complete`, before, during or after this call: with
     * `CANCELLED`, or with whatever it came to. A token that has completed meanwhile is ignored, with `OK`. Any other
     * answer: it cannot be cancelled now, and goes on. Absent: requests cannot be cancelled.
     */
    int32_t (*cancel)(void *object, uint64_t token);
    /**
     * Reserves backing for pages that will be put. Absent: a put finds room or fails. This host does not call it yet.
     */
    int32_t (*reserve)(void *object, uint64_t first, uint64_t count);
    /**
     * `count` pages from `first` will not be read again until they are put: their backing may be given back. No put or get
     * of these pages is under way, and none begins before this has returned. An error is reported and changes nothing for the host: the
     * pages count as given back, whatever became of their backing. May block, but not pend. Absent: nothing to do. Never called
     * for objects opened for reading.
     */
    int32_t (*free_space)(void *object, uint64_t first, uint64_t count);
    /**
     * A notice, for accounting: a page became resident. Delivered later, and outside every lock of the host. This host
     * does not call it yet.
     */
    void (*page_inserted)(void *object, uint64_t index);
    /**
     * A notice, for accounting: a page is no longer resident. This host does not call it yet.
     */
    void (*page_removed)(void *object, uint64_t index);
    /**
     * Writes a name for people (a path), zero-terminated and cut to `len` bytes, into `text`. Absent: the name given to open.
     */
    int32_t (*path)(void *object, char *text, size_t len);
    /**
     * Answers an extension table by its name, or NULL. The table is static. May be absent. The host asks a module with
     * `QUIRE_CAP_DRIVER` for its driver, after `init`, and nothing else.
     */
    const void *(*get_extension)(void *ctx, const char *id);
    /**
     * Stores two words: which contents the object has now, as `quire_pager_open_result.change` tells at open; both 0: not
     * known. Asked when the last user of an object goes that was written, after the writes. Absent: own puts and
     * resizes do not change the words.
     */
    int32_t (*get_change)(void *object, uint64_t *change);
};

/**
 * The type of the entry function.
 *
 * `host_abi_version` is the host's `QUIRE_PAGER_ABI_VERSION`. The function is pure: no side effect, no allocation. It
 * returns a table that is constant and lives as long as the library is loaded, or NULL, which says "I refuse this host".
 */
typedef const struct quire_pager_module *(*quire_pager_entry_fn)(uint32_t host_abi_version);

#endif  /* QUIRE_PAGER_H */
