/*
 * A program that knows nothing of libquire when it is linked: it opens the library while it runs and takes one symbol.
 *
 *     cc dlopen.c -ldl -o dlopen && ./dlopen [libquire.so.0]
 *
 * It brings a pager of its own, made of a table in this file, whose pages hold the powers of two. Compiles as C and as C++.
 */
#include <dlfcn.h>
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct quire_api_table *quire;

static void check(int32_t status, const char *what)
{
    if (status == QUIRE_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, quire->last_error());
    exit(1);
}

static const struct quire_api_table *find_quire(const char *library)
{
    const struct quire_api_table *(*api)(uint32_t);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *symbol = handle == NULL ? NULL : dlsym(handle, "quire_api");
    if (symbol == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    memcpy(&api, &symbol, sizeof api); /* C has no cast from a data pointer to a function pointer. */
    return api(QUIRE_API_VERSION);
}

/* The pager: an object of eight pages, and page n is full of 2^n. */
static int32_t powers_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    out->size = 8 * (uint64_t)args->page_size;
    out->object = out; /* Any pointer will do: this pager keeps nothing. */
    return QUIRE_PAGER_OK;
}

static int32_t powers_close(void *ctx, void *object)
{
    (void)ctx;
    (void)object;
    return QUIRE_PAGER_OK;
}

static int32_t powers_get(void *object, struct quire_pager_io *io)
{
    uint32_t i;
    (void)object;
    for (i = 0; i < io->count; i++) {
        memset(io->pages[i].bytes, 1 << (io->first + i), io->page_size);
        io->pages[i].status = QUIRE_PAGER_OK;
    }
    return QUIRE_PAGER_OK;
}

int main(int argc, char **argv)
{
    struct quire_pager_module powers;
    struct quire_map_request request;
    struct quire_engine *engine;
    struct quire_pager *pager;
    struct quire_object *object;
    struct quire_map *map;
    uint64_t addr;
    int page;

    quire = find_quire(argc > 1 ? argv[1] : "libquire.so.0");
    if (quire == NULL) {
        fprintf(stderr, "the library has another version of the API\n");
        return 1;
    }

    memset(&powers, 0, sizeof powers);
    powers.magic = QUIRE_PAGER_MAGIC;
    powers.abi_version = QUIRE_PAGER_ABI_VERSION;
    powers.struct_size = sizeof powers;
    powers.thread_model = QUIRE_THREADS_PARALLEL;
    powers.name = "powers";
    powers.open = powers_open;
    powers.close = powers_close;
    powers.get = powers_get;

    check(quire->engine_create(NULL, &engine), "engine");
    check(quire->pager_register(engine, &powers, NULL, &pager), "register");
    check(quire->object_open(pager, "the powers of two", -1, QUIRE_OPEN_READ, &object), "open");
    check(quire->map_create(engine, 0, 0, &map), "map");
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = 8 * QUIRE_PAGE_SIZE;
    request.prot = QUIRE_PROT_READ;
    check(quire->map(map, object, &request, &addr), "mapping");

    for (page = 0; page < 8; page++) {
        unsigned char byte;
        check(quire->load(map, addr + (uint64_t)page * QUIRE_PAGE_SIZE, &byte, 1, NULL), "load");
        printf("%d%s", byte, page < 7 ? " " : "\n");
    }

    check(quire->map_destroy(map), "unmap");
    check(quire->object_release(object), "release");
    check(quire->engine_destroy(engine, 0), "end");
    return 0;
}
