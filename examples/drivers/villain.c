/*
 * A driver that misbehaves on purpose: the host must notice, say so, and live. The pager of that kind is ../pagers/villain.c.
 *
 * The name given to open chooses what it does wrong. A device has 16 pages; every byte of page n is n + 1.
 *   "good"                      nothing; its sync lets go of what waits in others
 *   "ctor-fails"                fails half-way, with -EIO
 *   "ctor-unknown-status"       answers a status that does not exist
 *   "ctor-unknown-flag"         opens with a flag that must be known, and does not exist
 *   "ctor-without-size"         answers OK, and no size
 *   "populate-empty"            answers a range that ends before it begins, by one page
 *   "populate-reversed"         answers a range whose ends are exchanged
 *   "populate-elsewhere"        answers a range without the faulting page
 *   "populate-outside"          answers a range that goes beyond the device
 *   "populate-hole"             leaves a page out in the middle of the range
 *   "populate-resident"         answers with the page before, too, which is in memory already and was not taken
 *   "populate-unready"          inserts the page, and never says that it is ready
 *   "populate-unfilled"         says that it is ready, and has not filled it
 *   "populate-stale"            inserts the page under the token of an older request, which was another device's
 *   "populate-lends"            waits in populate until "populate-steals" has come
 *   "populate-steals"           inserts its page under the token of the one that waits, which is another device's
 *   "populate-busied"           page 4 waits in populate; page 3 answers with page 4 as well, which is the other request's
 *   "populate-status"           answers a status that does not exist
 *   "populate-pends"            answers PEND
 *   "fault-status"              answers BAD to populate, and a status that does not exist to fault
 *   "fault-pends"               answers BAD to populate, and PEND to fault, and completes it when it is let go
 *   "fault-fails"               answers BAD to populate, and -EIO to fault
 *   "put-pends"                 answers PEND to put, and completes it when it is let go
 *   "put-unknown-page-status"   gives a page a status that does not exist
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "quire_pager.h"

#define PAGES 16
#define NO_SUCH_STATUS 4242

struct device {
    const struct quire_pager_host_api *host;
    char name[32];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Under lock: the last token of a populate, the token that is lent, whether those who wait may go, and a request that pends. */
static uint64_t last_token, lent_token, pending_token;
static int let_go, page_4_waits;
static const struct quire_pager_host_api *pending_host;

static int is(const struct device *device, const char *name)
{
    return strcmp(device->name, name) == 0;
}

static int32_t complain(const struct quire_pager_host_api *host, uint64_t token, int32_t status, const char *text)
{
    host->set_error(host->host, token, text);
    return status;
}

static int32_t villain_ctor(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    if (args->name == NULL || strlen(args->name) >= sizeof((struct device *)0)->name)
        return complain(args->host, args->token, QUIRE_PAGER_INVALID, "villain: ctor: the name says what to do wrong");
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL)
        return QUIRE_PAGER_NOMEM;
    device->host = args->host;
    strcpy(device->name, args->name);
    out->object = device;
    out->size = (uint64_t)PAGES * args->page_size;
    if (is(device, "ctor-fails")) {
        free(device);
        return complain(args->host, args->token, -EIO, "villain: ctor: fails half-way, as it was told");
    }
    if (is(device, "ctor-unknown-status")) {
        free(device);
        return NO_SUCH_STATUS;
    }
    if (is(device, "ctor-unknown-flag"))
        out->flags = 0x40000000;
    if (is(device, "ctor-without-size"))
        out->size = 0;
    return QUIRE_PAGER_OK;
}

static void villain_dtor(void *ctx, void *device)
{
    (void)ctx;
    free(device);
}

/* Pends, with or without leave. */
static int32_t pend(const struct device *device, uint64_t token)
{
    pthread_mutex_lock(&lock);
    pending_token = token;
    pending_host = device->host;
    pthread_mutex_unlock(&lock);
    return complain(device->host, token, QUIRE_PAGER_PEND, "villain: wait for it");
}

static int32_t villain_fault(void *handle, struct quire_driver_fault *req)
{
    struct device *device = handle;
    if (is(device, "fault-status"))
        return NO_SUCH_STATUS;
    if (is(device, "fault-pends"))
        return pend(device, req->token);
    if (is(device, "fault-fails"))
        return complain(device->host, req->token, -EIO, "villain: fault: fails as it was told");
    memset(req->bytes, (int)req->index + 1, req->page_size);
    return QUIRE_PAGER_OK;
}

static int32_t install_for(const struct quire_pager_populate *req, uint64_t token, uint64_t index)
{
    void *bytes;
    int32_t status = req->host->page_insert(req->host->host, token, index, 1, &bytes, NULL);
    if (status != QUIRE_PAGER_OK)
        return status;
    memset(bytes, (int)index + 1, req->page_size);
    return req->host->page_ready(req->host->host, token, index, 1);
}

static int32_t install(const struct quire_pager_populate *req, uint64_t index)
{
    return install_for(req, req->token, index);
}

/* Both wait for the other with the lock held, and nothing else. */
static void wait_to_be_let_go(void)
{
    while (!let_go)
        pthread_cond_wait(&changed, &lock);
    let_go = 0;
}

static void lend(uint64_t token)
{
    pthread_mutex_lock(&lock);
    lent_token = token;
    pthread_cond_broadcast(&changed);
    wait_to_be_let_go();
    pthread_mutex_unlock(&lock);
}

static void steal(const struct quire_pager_populate *req)
{
    pthread_mutex_lock(&lock);
    while (lent_token == 0)
        pthread_cond_wait(&changed, &lock);
    install_for(req, lent_token, req->index);
    lent_token = 0;
    let_go = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_with_page_4(void)
{
    pthread_mutex_lock(&lock);
    page_4_waits = 1;
    pthread_cond_broadcast(&changed);
    wait_to_be_let_go();
    pthread_mutex_unlock(&lock);
}

static void wait_for_page_4(void)
{
    pthread_mutex_lock(&lock);
    while (!page_4_waits)
        pthread_cond_wait(&changed, &lock);
    page_4_waits = 0;
    pthread_mutex_unlock(&lock);
}

static uint64_t exchange_token(uint64_t token)
{
    pthread_mutex_lock(&lock);
    const uint64_t last = last_token;
    last_token = token;
    pthread_mutex_unlock(&lock);
    return last;
}

static int32_t villain_populate(void *handle, struct quire_pager_populate *req)
{
    struct device *device = handle;
    const uint64_t older = exchange_token(req->token);
    void *bytes;
    int32_t status;
    req->first = req->index;
    req->last = req->index;
    if (strncmp(device->name, "populate-", 9) != 0 && !is(device, "good"))
        return QUIRE_PAGER_BAD;
    if (is(device, "populate-status"))
        return NO_SUCH_STATUS;
    if (is(device, "populate-pends"))
        return QUIRE_PAGER_PEND;
    if (is(device, "populate-stale")) {
        install_for(req, older, req->index);
        return QUIRE_PAGER_OK;
    }
    if (is(device, "populate-steals")) {
        steal(req);
        return QUIRE_PAGER_OK;
    }
    if (is(device, "populate-unready") || is(device, "populate-unfilled")) {
        status = req->host->page_insert(req->host->host, req->token, req->index, 1, &bytes, NULL);
        if (status == QUIRE_PAGER_OK && is(device, "populate-unfilled"))
            status = req->host->page_ready(req->host->host, req->token, req->index, 1);
        return status;
    }
    status = install(req, req->index);
    if (status != QUIRE_PAGER_OK)
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    if (is(device, "populate-empty")) {
        req->first = req->index + 1;
    } else if (is(device, "populate-reversed")) {
        req->first = req->index + 2;
        req->last = req->index - 1;
    } else if (is(device, "populate-elsewhere")) {
        req->first = req->index + 1;
        req->last = req->index + 1;
    } else if (is(device, "populate-outside")) {
        req->last = PAGES;
    } else if (is(device, "populate-hole")) {
        install(req, req->index + 2);
        req->last = req->index + 2;
    } else if (is(device, "populate-resident") && req->index > 2) {
        req->first = req->index - 1;
    } else if (is(device, "populate-lends")) {
        lend(req->token);
    } else if (is(device, "populate-busied") && req->index == 4) {
        wait_with_page_4();
    } else if (is(device, "populate-busied")) {
        wait_for_page_4();
        req->last = req->index + 1;
    }
    return QUIRE_PAGER_OK;
}

/* Takes pages and forgets them. */
static int32_t villain_put(void *handle, struct quire_pager_io *io)
{
    struct device *device = handle;
    for (uint32_t i = 0; i < io->count; i++)
        QUIRE_IO_PAGE(io, i)->status = is(device, "put-unknown-page-status") ? NO_SUCH_STATUS : QUIRE_PAGER_OK;
    return is(device, "put-pends") ? pend(device, io->token) : QUIRE_PAGER_OK;
}

static int32_t villain_sync(void *handle)
{
    if (!is(handle, "good"))
        return QUIRE_PAGER_OK;
    pthread_mutex_lock(&lock);
    const uint64_t token = pending_token;
    pending_token = 0;
    let_go = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (token != 0)
        pending_host->complete(pending_host->host, token, QUIRE_PAGER_OK);
    return QUIRE_PAGER_OK;
}

static const struct quire_driver driver = {
    .struct_size = sizeof driver,
    .kind = QUIRE_DRIVER_MANAGED,
    .ctor = villain_ctor,
    .dtor = villain_dtor,
    .fault = villain_fault,
    .populate = villain_populate,
    .put = villain_put,
    .sync = villain_sync,
};

QUIRE_DRIVER_EXPORT("villain-driver", QUIRE_THREADS_PARALLEL, driver);
