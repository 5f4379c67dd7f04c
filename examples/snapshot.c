/*
 * A snapshot of memory while it is written: a ledger of accounts goes on being changed by a thread, and is added up as it was at one
 * moment. No page is copied before somebody writes it.
 *
 *     cc snapshot.c $(pkg-config --cflags --libs quire) -lpthread -o snapshot && ./snapshot
 *
 * Compiles as C and as C++.
 */
#include <pthread.h>
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACCOUNTS ((uint64_t)1 << 20)
#define EACH 1000

static void check(int32_t status, const char *what)
{
    if (status == QUIRE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, quire_status_name(status), quire_last_error());
    exit(1);
}

/* The part that matters: a copy of a range, where it may be, as it is now. It is unmapped like any mapping. */
static const int64_t *snapshot(struct quire_map *map, const volatile int64_t *live, uint64_t bytes)
{
    uint64_t copy;
    check(quire_map_copy(map, (uint64_t)(uintptr_t)live, bytes, map, NULL, &copy), "copy");
    return (const int64_t *)(uintptr_t)copy;
}

static volatile int64_t *ledger;
static volatile int stop;

/* Money goes from one account to the next one, back and forth. At any moment one unit at most is under way. */
static void *transfer(void *unused)
{
    uint64_t i, step;
    for (step = 0; !stop; step += 4099) {
        i = step % (ACCOUNTS - 1);
        ledger[i] -= 1;
        ledger[i + 1] += 1;
    }
    return unused;
}

static int64_t sum_of(const int64_t *accounts)
{
    int64_t sum = 0;
    uint64_t i;
    for (i = 0; i < ACCOUNTS; i++)
        sum += accounts[i];
    return sum;
}

int main(void)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_engine *engine;
    struct quire_map *map;
    pthread_t thread;
    uint64_t addr, i, bytes = ACCOUNTS * sizeof *ledger;
    int taken;

    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = QUIRE_MACHINE_LINUX;
    check(quire_engine_create(&options, &engine), "engine");
    check(quire_map_create(engine, 0, 0, &map), "map");
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = bytes;
    request.prot = QUIRE_PROT_READ | QUIRE_PROT_WRITE;
    check(quire_map_anonymous(map, &request, &addr), "mapping");

    ledger = (volatile int64_t *)(uintptr_t)addr;
    for (i = 0; i < ACCOUNTS; i++)
        ledger[i] = EACH;
    if (pthread_create(&thread, NULL, transfer, NULL) != 0)
        return 1;
    for (taken = 0; taken < 3; taken++) {
        const int64_t *then = snapshot(map, ledger, bytes);
        int64_t first = sum_of(then), missing = (int64_t)ACCOUNTS * EACH - first;
        printf("snapshot %d: %s, %s\n", taken, missing == 0 || missing == 1 ? "nothing is lost" : "WRONG",
               sum_of(then) == first ? "and it stays as it was" : "BUT IT CHANGED");
        check(quire_unmap(map, (uint64_t)(uintptr_t)then, bytes), "unmap");
    }
    stop = 1;
    pthread_join(thread, NULL);

    check(quire_map_destroy(map), "destroy");
    check(quire_engine_destroy(engine, 0), "end");
    return 0;
}
