/*
 * A pager in C that fills the cache of its own object before anybody asks, by hand: with the page services of the host's table.
 *
 * Every 64-bit word of the object holds its own byte offset. The name given to open says who warms:
 *   "thread"    a thread of the pager's own, from the first get on: all pages
 *   "populate"  each populate, the page behind the one that faulted
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "quire_pager.h"

#define PAGES 64

struct thing {
    const struct quire_pager_host_api *host;
    uint64_t name; /* of the object, in the host's services */
    int by_thread;
    pthread_t thread;
    int running;
};

static void fill(uint64_t *words, uint64_t index, uint32_t page_size)
{
    for (uint32_t i = 0; i < page_size / sizeof *words; i++)
        words[i] = index * page_size + i * sizeof *words;
}

/* One page, unless it is there, or somebody is at it. A page that cannot be had now is brought in when it is asked for. */
static void warm(const struct thing *thing, uint64_t index)
{
    const struct quire_pager_host_api *host = thing->host;
    const struct quire_page_api *pages = host->pages;
    struct quire_page *page;
    uint64_t *words;
    if (host->page_lookup(host->host, thing->name, index, &page) == QUIRE_PAGER_OK)
        return;
    if (host->page_grab(host->host, thing->name, index, 1, QUIRE_GRAB_NOWAIT, &page, NULL) != QUIRE_PAGER_OK)
        return;
    words = malloc(host->page_size);
    /* Grabbed although it was filled meanwhile: leave it. */
    if (words != NULL && pages->is_valid(page) == 0) {
        fill(words, index, host->page_size);
        if (pages->write(page, 0, words, host->page_size) == QUIRE_PAGER_OK)
            pages->set_valid(page);
    }
    free(words);
    pages->xunbusy(page); /* not filled: freed by this */
}

static void *warm_all(void *arg)
{
    const struct thing *thing = arg;
    for (uint64_t index = 0; index < PAGES; index++)
        warm(thing, index);
    return NULL;
}

static int32_t warm_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    struct thing *thing;
    (void)ctx;
    if (args->host == NULL || !QUIRE_HAS(args->host, struct quire_pager_host_api, page_grab))
        return QUIRE_PAGER_UNSUPPORTED;
    thing = calloc(1, sizeof *thing);
    if (thing == NULL)
        return QUIRE_PAGER_NOMEM;
    thing->host = args->host;
    thing->name = args->host_object;
    thing->by_thread = args->name != NULL && strcmp(args->name, "thread") == 0;
    out->object = thing;
    out->size = (uint64_t)PAGES * args->page_size;
    out->flags = QUIRE_OBJECT_POPULATE | QUIRE_OBJECT_READ_ONLY;
    return QUIRE_PAGER_OK;
}

static int32_t warm_close(void *ctx, void *object)
{
    struct thing *thing = object;
    (void)ctx;
    if (thing->running)
        pthread_join(thing->thread, NULL);
    free(thing);
    return QUIRE_PAGER_OK;
}

static int32_t warm_get(void *object, struct quire_pager_io *io)
{
    struct thing *thing = object;
    for (uint32_t i = 0; i < io->count; i++) {
        fill(QUIRE_IO_PAGE(io, i)->bytes, io->first + i, io->page_size);
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    }
    if (thing->by_thread && !thing->running)
        thing->running = pthread_create(&thing->thread, NULL, warm_all, thing) == 0;
    return QUIRE_PAGER_OK;
}

static int32_t warm_populate(void *object, struct quire_pager_populate *req)
{
    const struct thing *thing = object;
    if (!thing->by_thread && req->index + 1 < PAGES)
        warm(thing, req->index + 1);
    return QUIRE_PAGER_BAD; /* and the page itself by get */
}

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC,
    .abi_version = QUIRE_PAGER_ABI_VERSION,
    .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_SERIALIZE_OBJECT,
    .name = "warm",
    .version = "1",
    .description = "A pager that warms its own cache, page by page",
    .open = warm_open,
    .close = warm_close,
    .get = warm_get,
    .populate = warm_populate,
};

QUIRE_PAGER_EXPORT(module);
