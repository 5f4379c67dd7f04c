/*
 * Writes numbered records into a mapped file until it is killed. Usage: kill FILE FIRST
 *
 * Record n is two words, n and its check, in place n * 7919 modulo the number of places: they lie far apart. After each
 * durable flush the last number that it covered goes to standard output, eight bytes. Memory is far smaller than the file, and
 * a second thread has everything written all the time: so a kill nearly always hits write-back.
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <pthread.h>
#include <unistd.h>

#define RECORD 16u

static struct quire_engine *engine;

static void *write_back(void *unused)
{
    for (;;)
        OK(quire_engine_sync(engine, 0));
    return unused;
}

int main(int argc, char **argv)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_pager *pager;
    struct quire_object *object;
    struct quire_map *map;
    uint64_t base, size, places, n;
    pthread_t thread;

    CHECK(argc == 3);
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.memory = 64 * (uint64_t)QUIRE_PAGE_SIZE;
    OK(quire_engine_create(&options, &engine));
    OK(quire_pager_load(engine, "vnode", NULL, &pager));
    OK(quire_object_open(pager, argv[1], -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &object));
    OK(quire_object_size(object, &size));
    request = request_of(size, QUIRE_PROT_READ | QUIRE_PROT_WRITE);
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_map(map, object, &request, &base));
    CHECK(pthread_create(&thread, NULL, write_back, NULL) == 0);

    places = size / RECORD;
    for (n = strtoull(argv[2], NULL, 10);; n++) {
        uint64_t record[2];
        record[0] = n;
        record[1] = ~n * 0x9e3779b97f4a7c15u;
        OK(quire_store(map, base + n * 7919 % places * RECORD, record, RECORD, NULL));
        if (n % 61 == 0) {
            OK(quire_object_flush(object, 0, 0, QUIRE_DURABLE));
            CHECK(write(STDOUT_FILENO, &n, sizeof n) == (ssize_t)sizeof n);
        }
    }
}
