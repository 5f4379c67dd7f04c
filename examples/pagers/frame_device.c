/*
 * A device in C: a frame buffer whose pages the driver installs itself, several at a time, through the host's services.
 *
 * Every 64-bit word of the device holds its own byte offset. The name given to open says how much populate installs:
 *   "one"     the page that faulted
 *   "window"  the aligned eight pages around it, as far as they are mapped
 *   "all"     the whole device, mapped or not: the host maps what it needs
 *   "get"     nothing: populate answers BAD, and the host takes the ordinary path
 */
#include <stdlib.h>
#include <string.h>

#include "quire_pager.h"

#define DEVICE_SIZE ((uint64_t)1 << 20)
#define WINDOW 8

enum policy { ONE, ALIGNED, ALL, GET };

struct device {
    enum policy policy;
    uint64_t pages;
};

static const struct quire_pager_host_api *host; /* from init to fini */

static int32_t device_init(const struct quire_pager_host_api *api, const char *config, void **ctx)
{
    (void)config;
    (void)ctx;
    if (!QUIRE_HAS(api, struct quire_pager_host_api, page_insert) ||
        !QUIRE_HAS(api, struct quire_pager_host_api, page_ready))
        return QUIRE_PAGER_UNSUPPORTED;
    host = api;
    return QUIRE_PAGER_OK;
}

static int32_t device_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    static const char *const names[] = {"one", "window", "all", "get"};
    (void)ctx;
    for (int policy = ONE; policy <= GET; policy++) {
        if (args->name == NULL || strcmp(args->name, names[policy]) != 0)
            continue;
        struct device *device = malloc(sizeof *device);
        if (device == NULL)
            return QUIRE_PAGER_NOMEM;
        device->policy = (enum policy)policy;
        device->pages = DEVICE_SIZE / args->page_size;
        out->object = device;
        out->size = DEVICE_SIZE;
        out->flags = QUIRE_OBJECT_POPULATE | QUIRE_OBJECT_READ_ONLY;
        return QUIRE_PAGER_OK;
    }
    host->set_error(host->host, args->token, "frame: open: the name is none of one, window, all, get");
    return QUIRE_PAGER_INVALID;
}

static int32_t device_close(void *ctx, void *object)
{
    (void)ctx;
    free(object);
    return QUIRE_PAGER_OK;
}

static void fill(void *bytes, uint64_t index, uint32_t page_size)
{
    uint64_t *words = bytes;
    for (uint32_t i = 0; i < page_size / sizeof *words; i++)
        words[i] = index * page_size + i * sizeof *words;
}

/* Pages arrive here one by one where populate said BAD, and when the page was shadowed by a private copy. */
static int32_t device_get(void *object, struct quire_pager_io *io)
{
    (void)object;
    for (uint32_t i = 0; i < io->count; i++) {
        fill(QUIRE_IO_PAGE(io, i)->bytes, io->first + i, io->page_size);
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

static int32_t install(const struct quire_pager_populate *req, uint64_t index)
{
    void *bytes;
    int32_t status = host->page_insert(host->host, req->token, index, 1, &bytes, NULL);
    if (status != QUIRE_PAGER_OK)
        return status;
    fill(bytes, index, req->page_size);
    return host->page_ready(host->host, req->token, index, 1);
}

/* The faulting page first; then its neighbours on either side, up to one that somebody else has: the range has no gap. */
static int32_t device_populate(void *object, struct quire_pager_populate *req)
{
    const struct device *device = object;
    uint64_t low = req->index, high = req->index, first = req->index, last = req->index;
    if (device->policy == GET)
        return QUIRE_PAGER_BAD;
    if (device->policy == ALIGNED) {
        low = req->index / WINDOW * WINDOW;
        high = low + WINDOW - 1;
        low = low > req->first ? low : req->first;
        high = high < req->last ? high : req->last;
    } else if (device->policy == ALL) {
        low = 0;
        high = device->pages - 1;
    }
    int32_t status = install(req, req->index);
    if (status != QUIRE_PAGER_OK)
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    while (last < high && install(req, last + 1) == QUIRE_PAGER_OK)
        last++;
    while (first > low && install(req, first - 1) == QUIRE_PAGER_OK)
        first--;
    req->first = first;
    req->last = last;
    return QUIRE_PAGER_OK;
}

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC,
    .abi_version = QUIRE_PAGER_ABI_VERSION,
    .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_PARALLEL,
    .name = "frame",
    .version = "1",
    .description = "A frame buffer that installs its own pages",
    .init = device_init,
    .open = device_open,
    .close = device_close,
    .get = device_get,
    .populate = device_populate,
};

QUIRE_PAGER_EXPORT(module);
