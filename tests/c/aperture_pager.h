/*
 * A device in memory, and a pager whose populate shows it: what the tests of device frames share. Included after check.h. Compiles as C
 * and as C++.
 */
#ifndef APERTURE_PAGER_H
#define APERTURE_PAGER_H

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the pager shows: `window` pages of the aperture at a time, aligned to that. */
static uint64_t frames_aperture, frames_pages, frames_window;
static unsigned populates, got;
static const struct quire_pager_host_api *frames_host;
/* Called in each populate before anything else is inserted, unless it is NULL; answers how many pages of the window it has inserted. */
static uint64_t (*in_populate)(const struct quire_pager_host_api *host, struct quire_pager_populate *request);

static int32_t frames_init(const struct quire_pager_host_api *host, const char *config, void **ctx)
{
    (void)config;
    *ctx = NULL;
    frames_host = host;
    return QUIRE_PAGER_OK;
}

static int32_t frames_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    (void)args;
    out->size = frames_pages * QUIRE_PAGE_SIZE;
    out->flags = QUIRE_OBJECT_POPULATE;
    out->granule = 2 << 20;
    return QUIRE_PAGER_OK;
}

static int32_t frames_close(void *ctx, void *object)
{
    (void)ctx;
    (void)object;
    return QUIRE_PAGER_OK;
}

static int32_t frames_get(void *object, struct quire_pager_io *io)
{
    (void)object;
    (void)io;
    got++;
    return QUIRE_PAGER_FAIL;
}

static int32_t frames_put(void *object, struct quire_pager_io *io)
{
    (void)object;
    (void)io;
    return QUIRE_PAGER_ERROR;
}

static int32_t frames_resize(void *object, uint64_t size)
{
    (void)object;
    (void)size;
    return QUIRE_PAGER_OK;
}

static int32_t frames_populate(void *object, struct quire_pager_populate *request)
{
    const struct quire_pager_host_api *host = request->host;
    uint64_t at = request->index / frames_window * frames_window, end = at + frames_window;
    uint32_t had = 0;
    int32_t status;
    (void)object;
    __sync_fetch_and_add(&populates, 1);
    if (end > frames_pages)
        end = frames_pages;
    request->first = at;
    request->last = end - 1;
    if (in_populate != NULL)
        at += in_populate(host, request);
    while (at < end) {
        status = host->frame_insert(host->host, request->token, at, (uint32_t)(end - at), frames_aperture,
                                    at * QUIRE_PAGE_SIZE, &had);
        if (status == QUIRE_PAGER_AGAIN)
            status = host->page_take(host->host, request->token, at, 1, &had);
        /* Somebody has the page in hand: a revoke, which waits for nobody. */
        if (status == QUIRE_PAGER_AGAIN)
            continue;
        if (status != QUIRE_PAGER_OK)
            return status;
        at += had;
    }
    return QUIRE_PAGER_OK;
}

static struct quire_pager *frames_register(struct quire_engine *engine)
{
    static struct quire_pager_module table;
    struct quire_pager *pager = NULL;
    table.magic = QUIRE_PAGER_MAGIC;
    table.abi_version = QUIRE_PAGER_ABI_VERSION;
    table.struct_size = sizeof table;
    table.thread_model = QUIRE_THREADS_PARALLEL;
    table.name = "frames";
    table.init = frames_init;
    table.open = frames_open;
    table.close = frames_close;
    table.get = frames_get;
    table.put = frames_put;
    table.populate = frames_populate;
    table.resize = frames_resize;
    OK(quire_pager_register(engine, &table, NULL, &pager));
    return pager;
}

static struct quire_aperture aperture_of(void *memory, int fd, uint64_t pages)
{
    struct quire_aperture what;
    memset(&what, 0, sizeof what);
    what.struct_size = sizeof what;
    what.memory = memory;
    what.fd = fd;
    what.length = pages * QUIRE_PAGE_SIZE;
    return what;
}

/* The pager shows this from now on. */
static void show(const struct quire_aperture *what, uint64_t window)
{
    OK(quire_aperture_add(what, &frames_aperture));
    frames_pages = what->length / QUIRE_PAGE_SIZE;
    frames_window = window;
    populates = got = 0;
}

/* A file in memory, of so many pages. */
static int memory_file(uint64_t pages)
{
    int fd = (int)syscall(SYS_memfd_create, "device", 1u);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)(pages * QUIRE_PAGE_SIZE)) == 0);
    return fd;
}

/* The device's own view of its memory. */
static volatile unsigned char *seen_by_the_device(int fd, uint64_t pages, int how)
{
    int flags = fd < 0 ? how | MAP_ANONYMOUS : how;
    void *at = mmap(NULL, (size_t)(pages * QUIRE_PAGE_SIZE), PROT_READ | PROT_WRITE, flags, fd, 0);
    uint64_t i;
    CHECK(at != MAP_FAILED);
    for (i = 0; i < pages; i++)
        ((unsigned char *)at)[i * QUIRE_PAGE_SIZE] = (unsigned char)(i + 1);
    return (volatile unsigned char *)at;
}

#endif
