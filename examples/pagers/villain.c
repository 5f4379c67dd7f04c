/*
 * A pager that misbehaves on purpose: the host must notice, say so, and live.
 *
 * The name given to open chooses what it does wrong. An object has 16 pages; every byte of page n is n + 1.
 *   "good"                      nothing
 *   "unknown-status"            answers a status that does not exist
 *   "unknown-page-status"       gives the required page such a status, and answers OK
 *   "claims-unfilled"           answers OK and leaves the pages untouched
 *   "half-filled"               fills half of each page, and says that it is whole
 *   "completes-twice"           pends, and completes the request twice
 *   "completes-and-answers"     completes the request, and then answers OK as well
 *   "strangers-token"           completes a request that it was never given, and then does its work
 *   "pend-without-leave"        pends where the request does not allow it, and forgets it: compile it with
 *                               -DNO_ASYNC, or every request allows it
 *   "pend-completed"            completes the request, and then pends where the request does not allow it
 *   "never"                     pends, and never completes
 *   "late"                      pends; completes from a thread, when told by sync or by the extension below
 *   "late-failure"              as "late", and completes with -EIO
 *   "fails:N"                   fails the first N gets and puts with -EIO, and then works
 *   "status:N"                  answers every get and put with the status N
 *   "open-null"                 opens with success, and without a handle
 *   "populate-nothing"          says that it installed the faulting page, and did not
 *   "populate-unready"          installs the faulting page and never makes it ready
 *   "populate-elsewhere"        answers a range without the faulting page
 *   "populate-backwards"        answers a range that ends before it begins
 *   "populate-outside"          answers a range that goes beyond the object
 *   "populate-refault"          wants every fault to start over, for ever
 *   "populate-completes"        completes the populate's token, which cannot be completed, and then is honest
 *   "put-completes"             completes a put's request, and then answers OK as well
 *
 * The extension "villain.release" is a `void (*)(void)`: it lets every late request complete, from a thread, and returns
 * when they have. So do sync of any object, and fini.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "quire_pager.h"

#define PAGES 16
#define NO_SUCH_STATUS 4242

struct object {
    char name[64];
    int failures; /* "fails:N": how many are left; "status:N": the status */
};

/* A request that waits for its release. */
struct late {
    struct late *next;
    struct quire_pager_io *io;
    int32_t status;
};

static const struct quire_pager_host_api *host; /* from init to fini */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct late *waiting; /* under lock */

static int is(const struct object *object, const char *name)
{
    return strcmp(object->name, name) == 0;
}

static int starts(const struct object *object, const char *prefix)
{
    return strncmp(object->name, prefix, strlen(prefix)) == 0;
}

static int32_t complain(uint64_t token, int32_t status, const char *text)
{
    host->set_error(host->host, token, text);
    return status;
}

static int32_t villain_init(const struct quire_pager_host_api *api, const char *config, void **ctx)
{
    (void)config;
    (void)ctx;
    host = api;
    return QUIRE_PAGER_OK;
}

static int32_t villain_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    if (args->name == NULL || strlen(args->name) >= sizeof((struct object *)0)->name)
        return complain(args->token, QUIRE_PAGER_INVALID, "villain: open: the name says what to do wrong");
    out->size = (uint64_t)PAGES * args->page_size;
    if (strcmp(args->name, "open-null") == 0)
        return QUIRE_PAGER_OK;
    struct object *object = calloc(1, sizeof *object);
    if (object == NULL)
        return QUIRE_PAGER_NOMEM;
    strcpy(object->name, args->name);
    const char *number = strchr(args->name, ':');
    object->failures = number == NULL ? 0 : atoi(number + 1);
    out->object = object;
    out->flags = starts(object, "populate-") ? QUIRE_OBJECT_POPULATE : 0;
    return QUIRE_PAGER_OK;
}

static int32_t villain_close(void *ctx, void *object)
{
    (void)ctx;
    free(object);
    return QUIRE_PAGER_OK;
}

/* What an honest pager does. */
static int32_t fill(struct quire_pager_io *io)
{
    for (uint32_t i = 0; i < io->count; i++) {
        memset(QUIRE_IO_PAGE(io, i)->bytes, (int)(io->first + i + 1), io->page_size);
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

static int32_t defer(struct quire_pager_io *io, int32_t status)
{
    struct late *late = malloc(sizeof *late);
    if (late == NULL)
        return QUIRE_PAGER_NOMEM;
    late->io = io;
    late->status = status;
    pthread_mutex_lock(&lock);
    late->next = waiting;
    waiting = late;
    pthread_mutex_unlock(&lock);
    return QUIRE_PAGER_PEND;
}

static void *complete_all(void *list)
{
    for (struct late *late = list, *next; late != NULL; late = next) {
        /* Once it is complete, the request is the host's again: nothing of it is read afterwards. */
        uint64_t token = late->io->token;
        if (late->status == QUIRE_PAGER_OK)
            fill(late->io);
        else
            complain(token, late->status, "villain: get: late, and a failure");
        host->complete(host->host, token, late->status);
        next = late->next;
        free(late);
    }
    return NULL;
}

static void release(void)
{
    pthread_t thread;
    pthread_mutex_lock(&lock);
    struct late *list = waiting;
    waiting = NULL;
    pthread_mutex_unlock(&lock);
    if (list != NULL && pthread_create(&thread, NULL, complete_all, list) == 0)
        pthread_join(thread, NULL);
    else
        complete_all(list);
}

static int32_t villain_get(void *handle, struct quire_pager_io *io)
{
    struct object *object = handle;
    const int may_pend = (io->flags & QUIRE_IO_MAY_PEND) != 0;
    if (is(object, "unknown-status"))
        return NO_SUCH_STATUS;
    if (is(object, "claims-unfilled"))
        return QUIRE_PAGER_OK;
    if (is(object, "late") && may_pend)
        return defer(io, QUIRE_PAGER_OK);
    if (is(object, "late-failure") && may_pend)
        return defer(io, -EIO);
    if (is(object, "pend-without-leave") && !may_pend)
        return complain(io->token, QUIRE_PAGER_PEND, "villain: get: wait for it");
    if (is(object, "pend-completed") && !may_pend) {
        const uint64_t token = io->token;
        fill(io);
        host->complete(host->host, token, QUIRE_PAGER_OK);
        return QUIRE_PAGER_PEND;
    }
    if (is(object, "never") && may_pend)
        return QUIRE_PAGER_PEND;
    if (starts(object, "status:"))
        return complain(io->token, object->failures, "villain: get: the status that was asked for");
    if (starts(object, "fails:") && object->failures > 0) {
        object->failures--;
        return complain(io->token, -EIO, "villain: get: fails as it was told");
    }
    if (is(object, "strangers-token"))
        host->complete(host->host, io->token + 1, QUIRE_PAGER_OK);

    const uint64_t token = io->token;
    const uint32_t required = io->required;
    fill(io);
    if (is(object, "unknown-page-status"))
        QUIRE_IO_PAGE(io, required)->status = NO_SUCH_STATUS;
    if (is(object, "half-filled"))
        for (uint32_t i = 0; i < io->count; i++)
            memset((char *)QUIRE_IO_PAGE(io, i)->bytes + io->page_size / 2, 0xEE, io->page_size / 2);
    if (is(object, "completes-twice") && may_pend) {
        host->complete(host->host, token, QUIRE_PAGER_OK);
        host->complete(host->host, token, QUIRE_PAGER_OK);
        return QUIRE_PAGER_PEND;
    }
    if (is(object, "completes-and-answers") && may_pend)
        host->complete(host->host, token, QUIRE_PAGER_OK);
    return QUIRE_PAGER_OK;
}

/* Takes pages and forgets them; the failures are those of get. */
static int32_t villain_put(void *handle, struct quire_pager_io *io)
{
    struct object *object = handle;
    if (is(object, "unknown-status"))
        return NO_SUCH_STATUS;
    if (is(object, "claims-unfilled"))
        return QUIRE_PAGER_OK;
    if (starts(object, "status:"))
        return complain(io->token, object->failures, "villain: put: the status that was asked for");
    if (starts(object, "fails:") && object->failures > 0) {
        object->failures--;
        return complain(io->token, -EIO, "villain: put: fails as it was told");
    }
    for (uint32_t i = 0; i < io->count; i++)
        QUIRE_IO_PAGE(io, i)->status = QUIRE_PAGER_OK;
    if (is(object, "put-completes"))
        host->complete(host->host, io->token, QUIRE_PAGER_OK);
    return QUIRE_PAGER_OK;
}

static int32_t villain_populate(void *handle, struct quire_pager_populate *req)
{
    struct object *object = handle;
    void *bytes;
    req->first = req->index;
    req->last = req->index;
    if (is(object, "populate-nothing"))
        return QUIRE_PAGER_OK;
    if (is(object, "populate-refault"))
        return QUIRE_PAGER_REFAULT;
    if (is(object, "populate-completes"))
        host->complete(host->host, req->token, QUIRE_PAGER_OK);
    int32_t status = host->page_insert(host->host, req->token, req->index, 1, &bytes, NULL);
    if (status != QUIRE_PAGER_OK)
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    memset(bytes, (int)req->index + 1, req->page_size);
    if (is(object, "populate-unready"))
        return QUIRE_PAGER_OK;
    host->page_ready(host->host, req->token, req->index, 1);
    if (is(object, "populate-elsewhere")) {
        req->first = req->index + 1;
        req->last = req->index + 1;
    } else if (is(object, "populate-backwards")) {
        req->first = req->index + 1;
    } else if (is(object, "populate-outside")) {
        req->last = PAGES;
    }
    return QUIRE_PAGER_OK;
}

static int32_t villain_sync(void *object)
{
    (void)object;
    release();
    return QUIRE_PAGER_OK;
}

static void villain_fini(void *ctx)
{
    (void)ctx;
    release();
}

/* A function's address, as an object in memory: C has no conversion from one to the other. */
static void (*const release_function)(void) = release;

static const void *villain_extension(void *ctx, const char *id)
{
    (void)ctx;
    return strcmp(id, "villain.release") == 0 ? (const void *)&release_function : NULL;
}

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC,
    .abi_version = QUIRE_PAGER_ABI_VERSION,
    .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_SERIALIZE_OBJECT,
#ifndef NO_ASYNC
    .caps = QUIRE_CAP_ASYNC,
#endif
    .name = "villain",
    .version = "1",
    .description = "Breaks every promise that it can",
    .init = villain_init,
    .fini = villain_fini,
    .open = villain_open,
    .close = villain_close,
    .get = villain_get,
    .put = villain_put,
    .populate = villain_populate,
    .sync = villain_sync,
    .get_extension = villain_extension,
};

QUIRE_PAGER_EXPORT(module);
