/* A pager that takes its process along, or keeps it: where, is chosen with -D. Without any it is a good one of 3 pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "quire_pager.h"

static int *volatile nowhere;
static inline void crash(void) { *nowhere = 0; }

#ifdef CONSTRUCTOR_ABORTS
__attribute__((constructor)) static void constructor(void) { abort(); }
#endif
#ifdef DESTRUCTOR_CRASHES
__attribute__((destructor)) static void destructor(void) { crash(); }
#endif

static int32_t init(const struct quire_pager_host_api *host, const char *config, void **ctx)
{
    (void)host;
    (void)ctx;
    printf("chatter on the standard output\n{\"refused\":\"chatter is not the finding\"}\n");
    fflush(stdout);
    if (config != NULL && strcmp(config, "refuse") == 0)
        return -13;
#ifdef INIT_CRASHES
    crash();
#endif
#ifdef INIT_HANGS
    for (;;)
        pause();
#endif
#ifdef INIT_EXITS
    exit(0);
#endif
    return QUIRE_PAGER_OK;
}

static int32_t open_object(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    if (args->name == NULL || args->name[0] == '-')
        return QUIRE_PAGER_INVALID;
    out->object = (void *)1;
    out->size = strcmp(args->name, "empty") == 0 ? 0 : 3 * 4096;
    return (void)ctx, QUIRE_PAGER_OK;
}

static int32_t close_object(void *ctx, void *object) { return (void)ctx, (void)object, QUIRE_PAGER_OK; }

static int32_t get(void *object, struct quire_pager_io *io)
{
    (void)object;
#ifdef GET_CRASHES
    crash();
#endif
    for (uint32_t i = 0; i < io->count; i++) {
        memset(io->pages[i].bytes, 'q', io->page_size);
        io->pages[i].status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC, .abi_version = QUIRE_PAGER_ABI_VERSION, .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_SERIALIZE_ALL, .name = "crasher", .init = init,
    .open = open_object, .close = close_object, .get = get};
#ifndef NO_ENTRY
QUIRE_PAGER_EXPORT(module);
#else
const void *keeps_the_table = &module;
#endif
