/* Accesses that fail: which signal, at which address, and that they succeed when the cause is gone. */
#include "real.h"

#include <sys/prctl.h>

/* A pager whose object has as many pages as are to be had, and fails where it is told to. */
static const uint64_t PAGES = 64;
static volatile int broken, lying;

static int32_t moody_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    (void)ctx;
    out->size = PAGES * args->page_size;
    out->object = out; /* Any pointer will do: this pager keeps nothing. */
    return QUIRE_PAGER_OK;
}

static int32_t moody_close(void *ctx, void *closed)
{
    (void)ctx, (void)closed;
    return QUIRE_PAGER_OK;
}

static int32_t moody_get(void *asked, struct quire_pager_io *io)
{
    uint32_t i;
    (void)asked;
    for (i = 0; i < io->count; i++) {
        if (!lying)
            memset(io->pages[i].bytes, (int)(io->first + i + 1), io->page_size);
        io->pages[i].status = broken ? -EIO : QUIRE_PAGER_OK;
    }
    return broken ? -EIO : QUIRE_PAGER_OK;
}

static int32_t moody_put(void *asked, struct quire_pager_io *io)
{
    uint32_t i;
    (void)asked;
    for (i = 0; i < io->count; i++)
        io->pages[i].status = QUIRE_PAGER_OK;
    return QUIRE_PAGER_OK;
}

static struct quire_pager_module moody;

static unsigned char *moody_memory(void)
{
    begin(4 * MIB);
    moody.magic = QUIRE_PAGER_MAGIC;
    moody.abi_version = QUIRE_PAGER_ABI_VERSION;
    moody.struct_size = sizeof moody;
    moody.thread_model = QUIRE_THREADS_PARALLEL;
    moody.name = "moody";
    moody.open = moody_open;
    moody.close = moody_close;
    moody.get = moody_get;
    moody.put = moody_put;
    OK(quire_pager_register(engine, &moody, NULL, &pager));
    OK(quire_object_open(pager, "some pages", -1, WRITABLE, &object));
    return mapped(PAGES * PAGE, RW);
}

static void a_failing_pager_is_sigbus_at_the_address_until_it_works(void)
{
    unsigned char *bytes = moody_memory();
    uint64_t page;
    MAKES(reading(bytes));
    broken = 1;
    for (page = 1; page < 9; page++) {
        MEETS(SIGBUS, bytes + page * PAGE + 77, reading(bytes + page * PAGE + 77));
        MEETS(SIGBUS, bytes + page * PAGE + 5, writing(bytes + page * PAGE + 5, 1));
    }
    /* What was there before is there. */
    CHECK(bytes[5] == 1);
    broken = 0;
    for (page = 1; page < 9; page++) {
        SOON_MAKES(reading(bytes + page * PAGE));
        CHECK(bytes[page * PAGE + 77] == page + 1 && bytes[page * PAGE + 5] == page + 1);
        MAKES(writing(bytes + page * PAGE, 99));
    }
    CHECK(stats_of(engine).faults_failed >= 8);
    end();
}

#define THREADS 6

struct reader {
    pthread_t thread;
    unsigned char *at;
    struct met met;
};

static void *read_one(void *argument)
{
    struct reader *reader = (struct reader *)argument;
    reader->met = reading(reader->at);
    return NULL;
}

static void every_thread_gets_the_failure_of_its_own_access(void)
{
    unsigned char *bytes = moody_memory();
    struct reader readers[THREADS];
    int i, round;
    broken = 1;
    for (round = 0; round < 20; round++) {
        for (i = 0; i < THREADS; i++) {
            /* Two threads a page. */
            readers[i].at = bytes + (uint64_t)(i / 2) * PAGE + (uint64_t)i;
            CHECK(pthread_create(&readers[i].thread, NULL, read_one, &readers[i]) == 0);
        }
        for (i = 0; i < THREADS; i++) {
            CHECK(pthread_join(readers[i].thread, NULL) == 0);
            CHECK(readers[i].met.signal == SIGBUS && readers[i].met.address == readers[i].at);
        }
    }
    broken = 0;
    for (i = 0; i < THREADS; i++)
        SOON_MAKES(reading(readers[i].at));
    end();
}

static void a_system_call_gets_efault_where_an_access_fails(void)
{
    unsigned char *bytes = moody_memory();
    int ends[2];
    CHECK(pipe(ends) == 0);
    broken = 1;
    errno = 0;
    CHECK(write(ends[1], bytes + 3 * PAGE, 10) == -1 && errno == EFAULT);
    CHECK(quire_populate(map, address_of(bytes + 3 * PAGE), PAGE, QUIRE_ACCESS_READ) == QUIRE_FAULT_PAGER);
    broken = 0;
    if (in_thread)
        OK(quire_populate(map, address_of(bytes + 3 * PAGE), PAGE, QUIRE_ACCESS_READ));
    /* Forgotten after a moment, with nobody's help. */
    while (write(ends[1], bytes + 3 * PAGE, 10) != 10)
        CHECK(errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    end();
}

static void a_file_that_others_truncated_is_sigbus_until_it_is_long_again(void)
{
    unsigned char *bytes;
    begin(4 * MIB);
    make_file("file", 16 * PAGE);
    open_file(WRITABLE);
    bytes = mapped(16 * PAGE, RW);
    MAKES(reading(bytes));
    CHECK(truncate(path, (off_t)(2 * PAGE)) == 0);
    MEETS(SIGBUS, bytes + 9 * PAGE + 1, reading(bytes + 9 * PAGE + 1));
    MEETS(SIGBUS, bytes + 9 * PAGE + 2, writing(bytes + 9 * PAGE + 2, 1));
    CHECK(truncate(path, (off_t)(16 * PAGE)) == 0);
    OK(quire_object_refresh(object, NULL));
    SOON_MAKES(reading(bytes + 9 * PAGE + 1));
    CHECK(bytes[9 * PAGE + 1] == 0);
    end();
}

static void behind_the_objects_end_is_sigbus_until_it_grows(void)
{
    unsigned char *bytes;
    begin(4 * MIB);
    make_file("file", 4 * PAGE + 10);
    open_file(WRITABLE);
    bytes = mapped(16 * PAGE, RW);
    MAKES(reading(bytes + 5 * PAGE - 1));
    CHECK(bytes[5 * PAGE - 1] == 0);
    MEETS(SIGBUS, bytes + 5 * PAGE, reading(bytes + 5 * PAGE));
    MEETS(SIGBUS, bytes + 15 * PAGE + 9, writing(bytes + 15 * PAGE + 9, 1));
    OK(quire_object_resize(object, 12 * PAGE));
    SOON_MAKES(writing(bytes + 5 * PAGE, 7));
    MEETS(SIGBUS, bytes + 12 * PAGE, reading(bytes + 12 * PAGE));
    /* And pages that were there are not, once the object has shrunk. */
    MAKES(writing(bytes + 3 * PAGE, 8));
    OK(quire_object_resize(object, PAGE));
    MEETS(SIGBUS, bytes + 3 * PAGE, reading(bytes + 3 * PAGE));
    MEETS(SIGBUS, bytes + 5 * PAGE + 3, reading(bytes + 5 * PAGE + 3));
    MAKES(writing(bytes, 9));
    OK(quire_object_resize(object, 16 * PAGE));
    SOON_MAKES(reading(bytes + 3 * PAGE));
    CHECK(bytes[3 * PAGE] == 0 && bytes[0] == 9);
    end();
}

static void an_object_that_was_terminated_is_sigbus(void)
{
    unsigned char *bytes, written = 0;
    begin(4 * MIB);
    make_file("file", 4 * PAGE);
    open_file(WRITABLE);
    bytes = mapped(4 * PAGE, RW);
    MAKES(writing(bytes, 3));
    OK(quire_object_terminate(object, 0));
    MEETS(SIGBUS, bytes, reading(bytes));
    MEETS(SIGBUS, bytes + PAGE, writing(bytes + PAGE, 3));
    read_file(&written, 1, 0);
    CHECK(written == 3);
    end();
}

static void what_the_protection_forbids_is_sigsegv(void)
{
    unsigned char *bytes;
    begin(4 * MIB);
    make_file("file", 8 * PAGE);
    open_file(WRITABLE);
    bytes = mapped(8 * PAGE, RW);
    MAKES(writing(bytes, 1));
    OK(quire_protect(map, address_of(bytes), 4 * PAGE, READ));
    /* Resident and not. */
    MEETS(SIGSEGV, bytes, writing(bytes, 2));
    MEETS(SIGSEGV, bytes + 2 * PAGE + 1, writing(bytes + 2 * PAGE + 1, 2));
    MAKES(reading(bytes + 2 * PAGE));
    OK(quire_protect(map, address_of(bytes), 2 * PAGE, QUIRE_PROT_NONE));
    MEETS(SIGSEGV, bytes, reading(bytes));
    MEETS(SIGSEGV, bytes + PAGE, reading(bytes + PAGE));
    MAKES(reading(bytes + 2 * PAGE));
    OK(quire_protect(map, address_of(bytes), 8 * PAGE, RW));
    MAKES(writing(bytes + PAGE, 4));
    CHECK(bytes[0] == 1 && bytes[PAGE] == 4);
    OK(quire_unmap(map, address_of(bytes), PAGE));
    MEETS(SIGSEGV, bytes, reading(bytes));
    CHECK(bytes[PAGE] == 4);
    end();
}

static void a_quarantined_object_is_sigbus_and_a_fresh_one_is_not(void)
{
    unsigned char *bytes = moody_memory(), *fresh;
    MAKES(writing(bytes + 2 * PAGE, 7));
    lying = 1;
    MEETS(SIGBUS, bytes + 30 * PAGE + 9, reading(bytes + 30 * PAGE + 9));
    lying = 0;
    /* It is not asked any more, and what was there is there. */
    MEETS(SIGBUS, bytes + 30 * PAGE + 8, writing(bytes + 30 * PAGE + 8, 1));
    MEETS(SIGBUS, bytes + 50 * PAGE, reading(bytes + 50 * PAGE));
    CHECK(quire_populate(map, address_of(bytes + 50 * PAGE), PAGE, QUIRE_ACCESS_READ) == QUIRE_FAULT_QUARANTINED);
    CHECK(bytes[2 * PAGE] == 7);
    OK(quire_object_terminate(object, QUIRE_DISCARD));
    MEETS(SIGBUS, bytes + 2 * PAGE, reading(bytes + 2 * PAGE));
    OK(quire_object_release(object));
    OK(quire_object_open(pager, "some pages", -1, WRITABLE, &object));
    fresh = mapped(PAGES * PAGE, RW);
    MAKES(writing(fresh + 30 * PAGE, 3));
    CHECK(fresh[30 * PAGE] == 3 && fresh[30 * PAGE + 9] == 31 && fresh[2 * PAGE] == 3);
    MEETS(SIGBUS, bytes + 30 * PAGE, reading(bytes + 30 * PAGE));
    end();
}

static int root_became_nobody(void)
{
    return geteuid() != 0 || (setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 &&
                              prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

static void for_user_mode_only_the_pointer_works_and_a_system_call_gets_efault(void)
{
    unsigned char *bytes, filled = 0;
    int ends[2];
    CHECK(root_became_nobody());
    if (quire_linux_supported() != QUIRE_OK) {
        CHECK(quire_linux_limits() == NULL);
        printf("NOT TESTED: without privileges: %s\n", quire_last_error());
        return;
    }
    CHECK((quire_linux_limits() == NULL) == serves_the_kernel());
    if (serves_the_kernel()) {
        printf("NOT TESTED: any process may have all of userfaultfd here\n");
        return;
    }
    CHECK(strstr(quire_linux_limits(), "/dev/userfaultfd") != NULL);
    bytes = moody_memory();
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], bytes + 3 * PAGE, 10) == -1 && errno == EFAULT);
    MAKES(reading(bytes + 5 * PAGE));
    MAKES(writing(bytes + 3 * PAGE, 7));
    /* What is there needs nobody. */
    CHECK(write(ends[1], bytes + 3 * PAGE, 10) == 10);
    CHECK(read(ends[0], &filled, 1) == 1 && filled == 7);
    /* And what the engine is asked for is brought in. */
    OK(quire_populate(map, address_of(bytes + 9 * PAGE), PAGE, QUIRE_ACCESS_READ));
    CHECK(write(ends[1], bytes + 9 * PAGE, 10) == 10);
    close(ends[0]);
    close(ends[1]);
    end();
}

static const struct test_case cases[] = {
    CASE(a_failing_pager_is_sigbus_at_the_address_until_it_works),
    CASE(every_thread_gets_the_failure_of_its_own_access),
    CASE(a_system_call_gets_efault_where_an_access_fails),
    CASE(a_file_that_others_truncated_is_sigbus_until_it_is_long_again),
    CASE(behind_the_objects_end_is_sigbus_until_it_grows),
    CASE(an_object_that_was_terminated_is_sigbus),
    CASE(what_the_protection_forbids_is_sigsegv),
    CASE(a_quarantined_object_is_sigbus_and_a_fresh_one_is_not),
    CASE(for_user_mode_only_the_pointer_works_and_a_system_call_gets_efault),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
