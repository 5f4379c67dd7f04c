/*
 * Devices that take their pages back, through the host's service and through quire_object_revoke. Usage: revoke CASE FOLDER
 * Compiles as C and as C++. A driver of this program's own: four pages, each filled with the number of the last
 * switch of the device.
 */
#define _XOPEN_SOURCE 700
#include "check.h"
#include <quire_pager.h>

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((uint64_t)QUIRE_PAGE_SIZE)
#define PAGES 4

static struct quire_engine *engine;
static struct quire_pager *devices, *driver;
static struct quire_object *object;
static struct quire_map *map;
static uint64_t base;

/* The device. */
static const struct quire_pager_host_api *host;
static uint64_t host_object, victim;
static unsigned char shows = 1, stored[PAGES];
static int ctors, dtors, populates, puts_done;
static int32_t put_fails, inside = 12345;
static uint32_t revoke_inside; /* flags; only when `inside` is 0, of `victim` */

static int32_t ctor(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    host = args->host;
    /* The host has no object of this name before this has returned. */
    CHECK(host->revoke(host->host, args->host_object, 0, 0, 0) == QUIRE_PAGER_STALE);
    if (args->name != NULL && strcmp(args->name, "fails") == 0)
        return -ENXIO;
    host_object = victim = args->host_object;
    ctors++;
    out->object = &ctors;
    out->size = PAGES * PAGE;
    return QUIRE_PAGER_OK;
}

static void dtor(void *ctx, void *device)
{
    (void)ctx;
    CHECK(device == &ctors);
    /* Its pages are gone, and this is still an operation of it. */
    CHECK(host->revoke(host->host, host_object, 0, 0, 0) == -EDEADLK);
    dtors++;
}

static int32_t populate(void *device, struct quire_pager_populate *req)
{
    void *bytes[PAGES];
    uint32_t got = 0;
    int32_t status;
    (void)device;
    populates++;
    status = host->page_insert(host->host, req->token, req->index, 1, bytes, &got);
    if (status != QUIRE_PAGER_OK)
        return status == QUIRE_PAGER_AGAIN ? QUIRE_PAGER_REFAULT : status;
    memset(bytes[0], shows, (size_t)PAGE);
    CHECK(host->page_ready(host->host, req->token, req->index, 1) == QUIRE_PAGER_OK);
    if (inside == 0)
        inside = host->revoke(host->host, victim, 0, 0, revoke_inside);
    req->first = req->last = req->index;
    return QUIRE_PAGER_OK;
}

static int32_t put(void *device, struct quire_pager_io *io)
{
    (void)device;
    for (uint32_t i = 0; i < io->count; i++) {
        if (put_fails == 0) {
            stored[io->first + i] = *(unsigned char *)QUIRE_IO_PAGE(io, i)->bytes;
            puts_done++;
        }
        QUIRE_IO_PAGE(io, i)->status = put_fails;
    }
    return put_fails;
}

static const struct quire_driver table = {sizeof table, QUIRE_DRIVER_MANAGED, ctor, dtor, NULL, populate, put, NULL, NULL};

QUIRE_DRIVER_MODULE(module, "revoking", QUIRE_THREADS_PARALLEL, table);

static void begin(void)
{
    struct quire_engine_options options = on_the_soft_machine();
    struct quire_map_request request = request_of(PAGES * PAGE, QUIRE_PROT_READ | QUIRE_PROT_WRITE);
    OK(quire_engine_create(&options, &engine));
    OK(quire_map_create(engine, 0, 0, &map));
    OK(quire_pager_load(engine, "device", NULL, &devices));
    OK(quire_pager_register(engine, &module, NULL, &driver));
    OK(quire_object_open_device(devices, driver, "screen", -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &object));
    OK(quire_map(map, object, &request, &base));
}

static void end(void)
{
    OK(quire_map_destroy(map));
    OK(quire_object_release(object));
    OK(quire_engine_destroy(engine, 0));
    CHECK(ctors == dtors);
}

static int32_t load(uint64_t page, unsigned char *byte)
{
    return quire_load(map, base + page * PAGE, byte, 1, NULL);
}

static unsigned char byte_of(uint64_t page)
{
    unsigned char byte = 0;
    OK(load(page, &byte));
    return byte;
}

static void store(uint64_t page, unsigned char byte)
{
    OK(quire_store(map, base + page * PAGE, &byte, 1, NULL));
}

static int32_t revoke(uint64_t first, uint64_t count, uint32_t flags)
{
    return host->revoke(host->host, host_object, first, count, flags);
}

static uint64_t resident(void)
{
    uint64_t pages = 0;
    OK(quire_object_resident(object, &pages));
    return pages;
}

static void f22_the_next_access_faults_again(void)
{
    CHECK(byte_of(0) == 1 && byte_of(1) == 1);
    shows = 2;
    CHECK(byte_of(0) == 1);
    CHECK(revoke(0, 1, 0) == QUIRE_PAGER_OK);
    CHECK(resident() == 1);
    CHECK(byte_of(0) == 2 && byte_of(1) == 1);
    CHECK(revoke(0, 0, 0) == QUIRE_PAGER_OK);
    CHECK(resident() == 0 && byte_of(1) == 2 && populates == 4);
}

static void f22_what_is_dirty_is_written_or_given_up(void)
{
    store(2, 9);
    CHECK(revoke(2, 1, 0) == QUIRE_PAGER_OK);
    CHECK(stored[2] == 9 && puts_done == 1);
    store(2, 8);
    CHECK(revoke(2, 1, QUIRE_REVOKE_DISCARD) == QUIRE_PAGER_OK);
    CHECK(stored[2] == 9 && puts_done == 1 && byte_of(2) == 1);
}

static void f22_what_cannot_be_written_stays(void)
{
    store(3, 7);
    put_fails = -ENOSPC;
    CHECK(revoke(0, 0, 0) == -ENOSPC);
    CHECK(byte_of(3) == 7 && resident() == 1);
    put_fails = 0;
    CHECK(revoke(0, 0, 0) == QUIRE_PAGER_OK);
    CHECK(stored[3] == 7 && resident() == 0);
}

static void f22_after_revoke_fail_every_access_fails(void)
{
    unsigned char byte = 0;
    store(0, 5);
    CHECK(revoke(0, 0, QUIRE_REVOKE_FAIL) == QUIRE_PAGER_OK);
    CHECK(stored[0] == 5);
    EXPECT(QUIRE_FAULT_REVOKED, "taken it back", load(0, &byte));
    EXPECT(QUIRE_FAULT_REVOKED, "taken it back", quire_store(map, base, &byte, 1, NULL));
    CHECK(populates == 1);
}

/* One that revokes what it is populating would wait for itself. */
static void a_revoke_inside_an_operation_of_the_object_is_refused(void)
{
    inside = 0;
    CHECK(byte_of(1) == 1);
    CHECK(inside == -EDEADLK);
    CHECK(resident() == 1);
    CHECK(revoke(1, 1, 0) == QUIRE_PAGER_OK);
}

/* What a device is called says nothing: it may take the pages of another one, which goes by the same words. */
static void a_device_may_revoke_another_one_from_inside_an_operation(void)
{
    const uint64_t first = host_object;
    struct quire_map_request request = request_of(PAGES * PAGE, QUIRE_PROT_READ);
    struct quire_object *other;
    unsigned char byte = 0;
    uint64_t seen;
    CHECK(byte_of(1) == 1);
    OK(quire_object_open_device(devices, driver, "screen", -1, QUIRE_OPEN_READ, &other));
    OK(quire_map(map, other, &request, &seen));
    victim = first;
    inside = 0;
    OK(quire_load(map, seen, &byte, 1, NULL));
    CHECK(byte == 1 && inside == QUIRE_PAGER_OK && resident() == 0);
    OK(quire_unmap(map, seen, PAGES * PAGE));
    OK(quire_object_release(other));
    host_object = first;
}

static void *revoke_all(void *unused)
{
    (void)unused;
    CHECK(revoke(0, 0, 0) == QUIRE_PAGER_OK);
    return NULL;
}

static void f22_a_busied_page_is_waited_for(void)
{
    struct quire_page *page;
    pthread_t thread;
    CHECK(byte_of(0) == 1);
    OK(quire_page_lookup(object, 0, &page));
    OK(quire_page_xbusy(page));
    CHECK(pthread_create(&thread, NULL, revoke_all, NULL) == 0);
    CHECK(resident() == 1);
    OK(quire_page_xunbusy(page));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(resident() == 0);
    CHECK(quire_page_busied(page) == QUIRE_ERR_STALE);
}

static void wrong_arguments_are_answered(void)
{
    CHECK(revoke(0, 1, QUIRE_REVOKE_FAIL) == QUIRE_PAGER_INVALID);
    CHECK(revoke(0, 0, 1u << 20) == QUIRE_PAGER_INVALID);
    CHECK(host->revoke(host->host, host_object + 1000, 0, 0, 0) == QUIRE_PAGER_STALE);
    CHECK(host->revoke(host->host, 0, 0, 0, 0) == QUIRE_PAGER_STALE);
    CHECK(host->revoke(NULL, host_object, 0, 0, 0) == QUIRE_PAGER_INVALID);
    CHECK(revoke(PAGES + 5, UINT64_MAX, 0) == QUIRE_PAGER_OK);
}

static void the_program_can_revoke_as_well(void)
{
    uint64_t pages = 0;
    unsigned char byte = 0;
    store(0, 4);
    CHECK(byte_of(1) == 1);
    OK(quire_object_revoke(object, PAGE, PAGE, 0, &pages));
    CHECK(pages == 1 && resident() == 1);
    EXPECT(QUIRE_ERR_INVALID, "whole object", quire_object_revoke(object, 0, PAGE, QUIRE_REVOKE_FAIL, NULL));
    EXPECT(QUIRE_ERR_INVALID, "flags", quire_object_revoke(object, 0, 0, 64, NULL));
    OK(quire_object_revoke(object, 0, 0, QUIRE_REVOKE_FAIL | QUIRE_REVOKE_DISCARD, NULL));
    CHECK(puts_done == 0);
    EXPECT(QUIRE_FAULT_REVOKED, "taken it back", load(0, &byte));
}

static void a_fault_can_hold_its_page(void)
{
    struct quire_page *page = NULL;
    struct quire_fault_info info;
    info.struct_size = sizeof info;
    OK(quire_fault_hold(map, base + 2 * PAGE + 17, QUIRE_ACCESS_READ, &info, &page));
    CHECK(info.fault_case == QUIRE_CASE_2A && quire_page_wire_count(page) == 1);
    OK(quire_unmap(map, base, PAGES * PAGE));
    CHECK(quire_page_wire_count(page) == 1);
    OK(quire_page_unhold(page));
    EXPECT(QUIRE_FAULT_SEGV_MAPERR, "nothing is mapped", quire_fault_hold(map, base, QUIRE_ACCESS_READ, NULL, &page));
    EXPECT(QUIRE_ERR_INVALID, "page", quire_fault_hold(map, base, QUIRE_ACCESS_READ, NULL, NULL));
}

/* In a child: what leaves through the middle calls no dtor, and disturbs nobody. */
static void a_process_may_end_through_the_middle(void)
{
    int status = 0;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        exit(dtors == 0 ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(ctors == 1 && dtors == 0 && byte_of(0) == 1);
}

static void a_ctor_that_fails_has_no_dtor(void)
{
    struct quire_object *other;
    EXPECT(QUIRE_ERR_PAGER, "", quire_object_open_device(devices, driver, "fails", -1, QUIRE_OPEN_READ, &other));
    CHECK(quire_last_errno() == ENXIO && ctors == 1 && dtors == 0);
}

static const struct test_case cases[] = {
    CASE(f22_the_next_access_faults_again),
    CASE(f22_what_is_dirty_is_written_or_given_up),
    CASE(f22_what_cannot_be_written_stays),
    CASE(f22_after_revoke_fail_every_access_fails),
    CASE(a_revoke_inside_an_operation_of_the_object_is_refused),
    CASE(a_device_may_revoke_another_one_from_inside_an_operation),
    CASE(f22_a_busied_page_is_waited_for),
    CASE(wrong_arguments_are_answered),
    CASE(the_program_can_revoke_as_well),
    CASE(a_fault_can_hold_its_page),
    CASE(a_process_may_end_through_the_middle),
    CASE(a_ctor_that_fails_has_no_dtor),
};

int main(int argc, char **argv)
{
    int status;
    CHECK(argc == 3);
    begin();
    status = run_case(cases, sizeof cases / sizeof *cases, argv[1]);
    end();
    return status;
}
