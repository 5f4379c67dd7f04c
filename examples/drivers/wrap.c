/*
 * A driver that shows what a file descriptor maps: a file, or a character device that can be mapped. Its memory itself is shown, and
 * nothing is copied. What the name given to open says, if there is one, is how many bytes there are: a character device cannot tell.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quire_pager.h"

#define WINDOW 512 /* pages that come at once: as much as a large page of a processor's shows */

struct wrapped {
    const struct quire_pager_host_api *host; /* until dtor */
    uint64_t aperture, pages;
    int fd;
};

static int32_t refuse(const struct quire_pager_open_args *args, int32_t status, const char *text)
{
    args->host->set_error(args->host->host, args->token, text);
    return status;
}

/* In whole pages: the part of one behind a file's end is zeros. */
static uint64_t length_of(const struct quire_pager_open_args *args)
{
    struct stat about;
    const uint64_t page = args->page_size;
    uint64_t length = args->name != NULL ? strtoull(args->name, NULL, 10) : 0;
    if (length == 0 && fstat(args->fd, &about) == 0 && S_ISREG(about.st_mode))
        length = (uint64_t)about.st_size;
    return length > UINT64_MAX - page ? 0 : (length + page - 1) / page * page;
}

static int32_t wrap_ctor(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    const struct quire_pager_host_api *host = args->host;
    struct quire_aperture what;
    (void)ctx;
    if (!QUIRE_HAS(host, struct quire_pager_host_api, aperture_add) || !QUIRE_HAS(host, struct quire_pager_host_api, frame_insert))
        return refuse(args, QUIRE_PAGER_UNSUPPORTED, "wrap: ctor: this host cannot show a device's own memory");
    if (args->fd < 0)
        return refuse(args, QUIRE_PAGER_INVALID, "wrap: ctor: there is no file descriptor; pass one that can be mapped");
    memset(&what, 0, sizeof what);
    what.struct_size = sizeof what;
    what.cache = QUIRE_CACHE_WRITE_BACK;
    what.fd = args->fd;
    what.length = length_of(args);
    if (what.length == 0)
        return refuse(args, QUIRE_PAGER_INVALID, "wrap: ctor: it is empty, or no file; pass its length in bytes as the name");
    struct wrapped *wrapped = malloc(sizeof *wrapped);
    if (wrapped == NULL)
        return QUIRE_PAGER_NOMEM;
    wrapped->host = host;
    wrapped->pages = what.length / args->page_size;
    wrapped->fd = fcntl(args->fd, F_DUPFD_CLOEXEC, 0);
    const int32_t status = wrapped->fd < 0 ? -errno : host->aperture_add(host->host, &what, &wrapped->aperture);
    if (status != QUIRE_PAGER_OK) {
        if (wrapped->fd >= 0)
            close(wrapped->fd);
        free(wrapped);
        return refuse(args, status, "wrap: ctor: the descriptor cannot be mapped");
    }
    out->object = wrapped;
    out->size = what.length;
    return QUIRE_PAGER_OK;
}

/* Nothing shows the aperture any more: the host has let go of all pages before. */
static void wrap_dtor(void *ctx, void *device)
{
    struct wrapped *wrapped = device;
    (void)ctx;
    if (wrapped->host->aperture_remove(wrapped->host->host, wrapped->aperture) != QUIRE_PAGER_OK)
        wrapped->host->log(wrapped->host->host, QUIRE_LOG_ERROR, "wrap: dtor: pages still show the memory; it stays registered");
    close(wrapped->fd);
    free(wrapped);
}

/* What was written in place is on the disk; where there is no disk, nothing is to be done. */
static int32_t wrap_sync(void *device)
{
    const struct wrapped *wrapped = device;
    return fsync(wrapped->fd) == 0 || errno == EINVAL || errno == EROFS ? QUIRE_PAGER_OK : -errno;
}

/* The aligned window around the page, or what of it is not there already: from the page up, and then from the window's start. */
static int32_t wrap_populate(void *device, struct quire_pager_populate *req)
{
    const struct wrapped *wrapped = device;
    const struct quire_pager_host_api *host = req->host;
    const uint64_t page = req->page_size, low = req->index / WINDOW * WINDOW;
    const uint64_t high = low + WINDOW < wrapped->pages ? low + WINDOW : wrapped->pages;
    uint32_t got = 0;
    int32_t status =
        host->frame_insert(host->host, req->token, low, (uint32_t)(high - low), wrapped->aperture, low * page, &got);
    req->first = low;
    if (status != QUIRE_PAGER_OK || low + got <= req->index) {
        status = host->frame_insert(host->host, req->token, req->index, (uint32_t)(high - req->index), wrapped->aperture,
                                    req->index * page, &got);
        req->first = req->index;
    }
    if (status != QUIRE_PAGER_OK) /* AGAIN: somebody else was faster */
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    req->last = req->first + got - 1;
    return QUIRE_PAGER_OK;
}

static const struct quire_driver driver = {
    .struct_size = sizeof driver,
    .kind = QUIRE_DRIVER_PHYS,
    .ctor = wrap_ctor,
    .dtor = wrap_dtor,
    .populate = wrap_populate,
    .sync = wrap_sync,
};

QUIRE_DRIVER_EXPORT("wrap", QUIRE_THREADS_PARALLEL, driver);
