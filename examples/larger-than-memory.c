/*
 * An allocation larger than the memory there is, used by plain pointers: what does not fit goes to a swap file, packed, and comes back
 * when it is touched.
 *
 *     cc larger-than-memory.c $(pkg-config --cflags --libs quire) -o larger-than-memory && ./larger-than-memory SWAPFILE
 *
 * Counts primes by a sieve of 32 MiB, with 4 MiB of memory for pages. Compiles as C and as C++.
 */
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)
#define NUMBERS (32 * MIB)

static void check(int32_t status, const char *what)
{
    if (status == QUIRE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, quire_status_name(status), quire_last_error());
    exit(1);
}

/* Strikes multiples out, piece by piece, so that a piece is in memory while it is worked on. */
static uint64_t count_primes(char *is_struck)
{
    uint64_t count = 0, n, from, multiple;
    for (from = 0; from < NUMBERS; from += MIB)
        for (n = 2; n * n < from + MIB; n++) {
            if (is_struck[n])
                continue;
            multiple = n * n > from ? n * n : (from + n - 1) / n * n;
            for (; multiple < from + MIB; multiple += n)
                is_struck[multiple] = 1;
        }
    for (n = 2; n < NUMBERS; n++)
        count += !is_struck[n];
    return count;
}

int main(int argc, char **argv)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_swap_stats swap;
    struct quire_engine *engine;
    struct quire_pager *anon;
    struct quire_map *map;
    char area[4096];
    uint64_t addr;

    if (argc != 2) {
        fprintf(stderr, "usage: %s SWAPFILE\n", argv[0]);
        return 2;
    }

    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    options.memory = 4 * MIB;
    check(quire_engine_create(&options, &engine), "engine");

    /* The file is made if it is not there. A page that does not pack goes to it at once, and others when 2 MiB of them are full. */
    snprintf(area, sizeof area, "%s,size=48M,compress=lz4,pool=2M", argv[1]);
    check(quire_pager_load(engine, "anon", NULL, &anon), "load");
    check(quire_swap_add(anon, area, -1, 0, 0, NULL), "swap");

    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = NUMBERS;
    request.prot = QUIRE_PROT_READ | QUIRE_PROT_WRITE;
    check(quire_map_create(engine, 0, 0, &map), "map");
    check(quire_map_anonymous(map, &request, &addr), "mapping");

    printf("%llu primes below %llu\n", (unsigned long long)count_primes((char *)(uintptr_t)addr), (unsigned long long)NUMBERS);

    memset(&swap, 0, sizeof swap);
    swap.struct_size = sizeof swap;
    check(quire_swap_stats(engine, &swap), "stats");
    printf("%llu MiB went out, %llu MiB came back\n", (unsigned long long)(swap.pages_out * QUIRE_PAGE_SIZE / MIB),
           (unsigned long long)(swap.pages_in * QUIRE_PAGE_SIZE / MIB));

    check(quire_map_destroy(map), "unmap");
    check(quire_engine_destroy(engine, 0), "end");
    return 0;
}
