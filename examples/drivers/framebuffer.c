/*
 * A driver of a frame buffer, 640 by 480 pixels of 32 bits. The name given to open says how much comes in with a page that is touched:
 * "one" that page, "window" eight around it, "all" the whole screen, "get" that page by the driver's fault.
 */
#include <stdlib.h>
#include <string.h>

#include "quire_pager.h"

#define WIDTH 640
#define HEIGHT 480
#define PAGE 4096
#define PAGES (WIDTH * HEIGHT * 4 / PAGE)

struct screen { uint64_t window; uint32_t pixels[WIDTH * HEIGHT]; };

static int32_t ctor(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    static const struct { const char *name; uint64_t window; } policies[] = {{"one", 1}, {"window", 8}, {"all", PAGES}, {"get", 0}};
    (void)ctx;
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (args->page_size != PAGE || args->name == NULL || strcmp(args->name, policies[i].name) != 0)
            continue;
        struct screen *screen = malloc(sizeof *screen);
        if (screen == NULL)
            return QUIRE_PAGER_NOMEM;
        screen->window = policies[i].window;
        for (uint32_t at = 0; at < WIDTH * HEIGHT; at++) /* what it shows when it is switched on */
            screen->pixels[at] = ((at % WIDTH ^ at / WIDTH) & 32) != 0 ? 0x202830 : 0x182028;
        out->object = screen;
        out->size = sizeof screen->pixels;
        return QUIRE_PAGER_OK;
    }
    args->host->set_error(args->host->host, args->token, "framebuffer: the name is none of one, window, all, get, or pages have not 4096 bytes");
    return QUIRE_PAGER_INVALID;
}

static void dtor(void *ctx, void *device)
{
    (void)ctx;
    free(device);
}

static void *bytes_of(void *device, uint64_t page)
{
    return (char *)((struct screen *)device)->pixels + page * PAGE;
}

static int32_t fault(void *device, struct quire_driver_fault *req)
{
    memcpy(req->bytes, bytes_of(device, req->index), PAGE);
    return QUIRE_PAGER_OK;
}

/* Installs pages from `first` on, up to one that is in memory already, and says how many. */
static int32_t install(void *device, const struct quire_pager_populate *req, uint64_t first, uint64_t count, uint32_t *got)
{
    void *bytes[PAGES];
    const struct quire_pager_host_api *host = req->host;
    int32_t status = host->page_insert(host->host, req->token, first, (uint32_t)count, bytes, got);
    if (status != QUIRE_PAGER_OK)
        return status;
    for (uint32_t i = 0; i < *got; i++)
        memcpy(bytes[i], bytes_of(device, first + i), PAGE);
    return host->page_ready(host->host, req->token, first, *got);
}

/* The page that is touched and those behind it, and then those before it: the range has no gap. */
static int32_t populate(void *device, struct quire_pager_populate *req)
{
    const uint64_t index = req->index, window = ((struct screen *)device)->window;
    if (window == 0)
        return QUIRE_PAGER_BAD;
    const uint64_t low = index / window * window;
    const uint64_t high = low + window < PAGES ? low + window : PAGES;
    uint32_t got = 0;
    const int32_t status = install(device, req, index, high - index, &got);
    if (status != QUIRE_PAGER_OK) /* AGAIN: somebody else has brought it in, so look again */
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    req->last = index + got - 1;
    for (req->first = index; req->first > low; req->first--)
        if (install(device, req, req->first - 1, 1, &got) != QUIRE_PAGER_OK)
            break;
    return QUIRE_PAGER_OK;
}

static int32_t put(void *device, struct quire_pager_io *io)
{
    for (uint32_t i = 0; i < io->count; i++) {
        memcpy(bytes_of(device, io->first + i), QUIRE_IO_PAGE(io, i)->bytes, PAGE);
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

static const struct quire_driver driver = {
    .struct_size = sizeof driver,
    .kind = QUIRE_DRIVER_MANAGED,
    .ctor = ctor,
    .dtor = dtor,
    .fault = fault,
    .populate = populate,
    .put = put,
};

QUIRE_DRIVER_EXPORT("framebuffer", QUIRE_THREADS_PARALLEL, driver);
