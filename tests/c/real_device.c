/* Memory of devices, followed by plain pointers: what is shown, and what the program meets where it cannot be. */
#include "real.h"
#include "aperture_pager.h"

#include <sys/socket.h>

/* The program's pointer to what the device shows, `window` pages at a time. */
static volatile unsigned char *begin_with_a_device(const struct quire_aperture *what, uint64_t window, uint32_t prot)
{
    struct quire_map_request request;
    uint64_t addr = 0;
    show(what, window);
    begin(4 * MIB);
    pager = frames_register(engine);
    OK(quire_object_open(pager, "device", -1, WRITABLE, &object));
    request = request_of(frames_pages * PAGE, prot);
    request.max_prot = RW;
    request.flags = in_thread ? QUIRE_MAP_IN_THREAD : 0;
    OK(quire_map(map, object, &request, &addr));
    return (volatile unsigned char *)(uintptr_t)addr;
}

static void end_with_a_device(void)
{
    end();
    OK(quire_aperture_remove(frames_aperture));
}

static void use(volatile unsigned char *bytes, volatile unsigned char *device)
{
    uint64_t page;
    for (page = 0; page < frames_pages; page++) {
        CHECK(bytes[page * PAGE] == (unsigned char)(page + 1));
        bytes[page * PAGE + 1] = (unsigned char)(page + 7);
        CHECK(device[page * PAGE + 1] == (unsigned char)(page + 7));
        device[page * PAGE + 2] = (unsigned char)(page + 9);
        CHECK(bytes[page * PAGE + 2] == (unsigned char)(page + 9));
    }
    CHECK(got == 0 && populates == (frames_pages + frames_window - 1) / frames_window);
}

static void the_devices_own_memory_is_behind_the_pointer(void)
{
    int fd = memory_file(64);
    struct quire_aperture what = aperture_of(NULL, fd, 64);
    volatile unsigned char *device = seen_by_the_device(fd, 64, MAP_SHARED), *bytes;
    int ends[2];
    unsigned char byte = 0;
    bytes = begin_with_a_device(&what, 16, RW);
    CHECK(close(fd) == 0);
    use(bytes, device);
    /* Mapped once, it serves system calls as well, in either way. */
    CHECK(pipe(ends) == 0 && write(ends[1], (const void *)(bytes + 5 * PAGE), 1) == 1);
    CHECK(read(ends[0], (void *)(bytes + 6 * PAGE + 3), 1) == 1);
    CHECK(device[6 * PAGE + 3] == 6);
    OK(quire_read(map, address_of(bytes + 5 * PAGE), &byte, 1, NULL));
    CHECK(byte == 6);
    OK(quire_wire(map, address_of(bytes), 64 * PAGE));
    OK(quire_object_put(object, 0, 64 * PAGE, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, NULL));
    CHECK(bytes[9 * PAGE] == 10 && populates == 4);
    OK(quire_unwire(map, address_of(bytes), 64 * PAGE));
    end_with_a_device();
    CHECK(device[6 * PAGE + 3] == 6);
}

static void windows_of_two_mebibytes_lie_where_a_large_page_would(void)
{
    int fd = memory_file(1024);
    struct quire_aperture what = aperture_of(NULL, fd, 1024);
    volatile unsigned char *bytes = begin_with_a_device(&what, 512, RW);
    uint64_t page;
    CHECK(address_of(bytes) % (2 * MIB) == 0);
    for (page = 0; page < 1024; page++)
        bytes[page * PAGE] = 1;
    CHECK(populates == 2);
    /* A fault that others resolve is counted when the access has gone on. */
    CHECK(!in_thread || stats_of(engine).faults == 2);
    end_with_a_device();
    close(fd);
}

static void a_shared_mapping_is_shown_a_second_time(void)
{
    volatile unsigned char *device = seen_by_the_device(-1, 32, MAP_SHARED);
    struct quire_aperture what = aperture_of((void *)device, -1, 32);
    use(begin_with_a_device(&what, 8, RW), device);
    end_with_a_device();
}

/* The fault says why, and the pointer is SIGBUS; the engine itself reaches it. */
static void refused(volatile unsigned char *bytes, const char *words)
{
    unsigned char byte = 0;
    EXPECT(QUIRE_FAULT_DEVICE, words, quire_fault(map, address_of(bytes), QUIRE_ACCESS_READ, NULL));
    MEETS(SIGBUS, bytes + 5, reading(bytes + 5));
    OK(quire_read(map, address_of(bytes), &byte, 1, NULL));
    CHECK(byte == 1);
}

static void private_memory_cannot_be_seen_at_two_addresses(void)
{
    volatile unsigned char *device = seen_by_the_device(-1, 4, MAP_PRIVATE);
    struct quire_aperture what = aperture_of((void *)device, -1, 4);
    refused(begin_with_a_device(&what, 4, RW), "register a shared mapping or a file descriptor");
    end_with_a_device();
}

static void a_descriptor_that_cannot_be_mapped_is_an_error_with_words(void)
{
    volatile unsigned char *device = seen_by_the_device(-1, 4, MAP_SHARED);
    int ends[2];
    struct quire_aperture what;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    what = aperture_of((void *)device, ends[0], 4);
    refused(begin_with_a_device(&what, 4, RW), "its file descriptor cannot be mapped");
    end_with_a_device();
}

static void rights_hold_and_the_programs_handler_gets_its_signals(void)
{
    int fd = memory_file(8);
    struct quire_aperture what = aperture_of(NULL, fd, 8);
    volatile unsigned char *device = seen_by_the_device(fd, 8, MAP_SHARED), *bytes;
    bytes = begin_with_a_device(&what, 8, READ);
    CHECK(bytes[3 * PAGE] == 4);
    MEETS(SIGSEGV, bytes + 3 * PAGE, writing(bytes + 3 * PAGE, 1));
    MEETS(SIGSEGV, bytes + 3 * PAGE, writing(bytes + 3 * PAGE, 1));
    OK(quire_protect(map, address_of(bytes + 2 * PAGE), 2 * PAGE, RW));
    MAKES(writing(bytes + 3 * PAGE, 1));
    CHECK(device[3 * PAGE] == 1);
    MEETS(SIGSEGV, bytes + 4 * PAGE, writing(bytes + 4 * PAGE, 1));
    OK(quire_protect(map, address_of(bytes), 8 * PAGE, 0));
    MEETS(SIGSEGV, bytes + 3 * PAGE, reading(bytes + 3 * PAGE));
    OK(quire_protect(map, address_of(bytes), 8 * PAGE, READ));
    MAKES(reading(bytes + 3 * PAGE));
    OK(quire_unmap(map, address_of(bytes + 5 * PAGE), PAGE));
    MEETS(SIGSEGV, bytes + 5 * PAGE, reading(bytes + 5 * PAGE));
    CHECK(bytes[6 * PAGE] == 7 && populates == 1);
    /* What is none of the engine's comes through as well. */
    MEETS(SIGSEGV, (unsigned char *)16, reading((unsigned char *)16));
    end_with_a_device();
    close(fd);
}

static void a_descriptor_to_be_read_is_read_and_not_written(void)
{
    int fd = memory_file(2), reader;
    volatile unsigned char *device = seen_by_the_device(fd, 2, MAP_SHARED), *bytes;
    struct quire_aperture what;
    char name[64];
    unsigned char byte = 5;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    reader = open(name, O_RDONLY);
    CHECK(reader >= 0);
    what = aperture_of(NULL, reader, 2);
    bytes = begin_with_a_device(&what, 2, RW);
    CHECK(bytes[PAGE] == 2);
    MEETS(SIGSEGV, bytes + PAGE, writing(bytes + PAGE, 1));
    EXPECT(QUIRE_FAULT_DEVICE, "not written", quire_write(map, address_of(bytes), &byte, 1, NULL));
    OK(quire_protect(map, address_of(bytes), 2 * PAGE, READ));
    OK(quire_protect(map, address_of(bytes), 2 * PAGE, RW));
    CHECK(bytes[0] == 1 && device[0] == 1);
    end_with_a_device();
    close(reader);
    close(fd);
}

static void a_device_that_is_gone_is_sigbus(void)
{
    int fd = memory_file(8);
    struct quire_aperture what = aperture_of(NULL, fd, 8);
    volatile unsigned char *device = seen_by_the_device(fd, 8, MAP_SHARED), *bytes;
    bytes = begin_with_a_device(&what, 8, RW);
    bytes[6 * PAGE] = 66;
    OK(quire_object_resize(object, 4 * PAGE));
    MEETS(SIGBUS, bytes + 6 * PAGE, reading(bytes + 6 * PAGE));
    OK(quire_object_resize(object, 8 * PAGE));
    SOON_MAKES(reading(bytes + 6 * PAGE));
    CHECK(bytes[6 * PAGE] == 66);
    OK(quire_object_revoke(object, 0, 0, QUIRE_REVOKE_FAIL, NULL));
    MEETS(SIGBUS, bytes + 2 * PAGE, writing(bytes + 2 * PAGE, 1));
    CHECK(device[2 * PAGE] == 3);
    OK(quire_object_terminate(object, 0));
    OK(quire_aperture_remove(frames_aperture));
    end();
    close(fd);
}

static void what_the_devices_file_has_lost_is_sigbus_until_it_is_back(void)
{
    int fd = memory_file(8);
    struct quire_aperture what = aperture_of(NULL, fd, 8);
    volatile unsigned char *bytes = begin_with_a_device(&what, 8, RW);
    int i;
    bytes[5 * PAGE] = 1;
    CHECK(ftruncate(fd, (off_t)(4 * PAGE)) == 0);
    for (i = 0; i < 3; i++)
        MEETS(SIGBUS, bytes + 5 * PAGE, reading(bytes + 5 * PAGE));
    MAKES(writing(bytes + 3 * PAGE, 1));
    CHECK(ftruncate(fd, (off_t)(8 * PAGE)) == 0);
    MAKES(writing(bytes + 5 * PAGE, 2));
    CHECK(bytes[5 * PAGE] == 2 && populates == 1);
    end_with_a_device();
    close(fd);
}

static void a_forked_child_has_none_of_it(void)
{
    int fd = memory_file(4), status = 0;
    struct quire_aperture what = aperture_of(NULL, fd, 4);
    volatile unsigned char *device = seen_by_the_device(fd, 4, MAP_SHARED), *bytes;
    pid_t child;
    bytes = begin_with_a_device(&what, 4, RW);
    bytes[0] = 11;
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(reading(bytes).signal == SIGSEGV ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    bytes[1] = 12;
    CHECK(device[0] == 11 && device[1] == 12);
    end_with_a_device();
    close(fd);
}

static volatile int enough;

static void *hammer(void *at)
{
    volatile unsigned char *bytes = (volatile unsigned char *)at;
    uint64_t count;
    for (count = 0; !enough; count++)
        CHECK(bytes[count % 16 * PAGE] == (unsigned char)(count % 16 + 1));
    return NULL;
}

static void memory_is_revoked_under_threads_whose_handler_expects_no_signal(void)
{
    int fd = memory_file(16), round;
    struct quire_aperture what = aperture_of(NULL, fd, 16);
    volatile unsigned char *device = seen_by_the_device(fd, 16, MAP_SHARED), *bytes;
    pthread_t threads[3];
    size_t i;
    bytes = begin_with_a_device(&what, 4, RW);
    for (i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, (void *)bytes) == 0);
    for (round = 0; round < 3000; round++)
        OK(quire_object_revoke(object, (uint64_t)(round * 3 % 16) * PAGE, 5 * PAGE, 0, NULL));
    enough = 1;
    for (i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(got == 0 && device[0] == 1);
    end_with_a_device();
    close(fd);
}

static const struct test_case cases[] = {
    CASE(the_devices_own_memory_is_behind_the_pointer),
    CASE(windows_of_two_mebibytes_lie_where_a_large_page_would),
    CASE(a_shared_mapping_is_shown_a_second_time),
    CASE(private_memory_cannot_be_seen_at_two_addresses),
    CASE(a_descriptor_that_cannot_be_mapped_is_an_error_with_words),
    CASE(rights_hold_and_the_programs_handler_gets_its_signals),
    CASE(a_descriptor_to_be_read_is_read_and_not_written),
    CASE(a_device_that_is_gone_is_sigbus),
    CASE(what_the_devices_file_has_lost_is_sigbus_until_it_is_back),
    CASE(a_forked_child_has_none_of_it),
    CASE(memory_is_revoked_under_threads_whose_handler_expects_no_signal),
};

int main(int argc, char **argv)
{
    return real_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
