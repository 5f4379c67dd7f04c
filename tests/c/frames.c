/*
 * Devices whose memory is their own: examples/drivers/wrap.c, driven through libquire.so on both machines. Usage: frames CASE FOLDER
 * FOLDER holds the driver, compiled: wrap.so. Compiles as C and as C++.
 */
#define _XOPEN_SOURCE 700
#include "devices.h"

#include <fcntl.h>
#include <unistd.h>

static void begin(uint32_t machine)
{
    begin_on(machine);
    driver = load("wrap");
}

static void on_both_machines(void (*run)(uint32_t machine))
{
    run(QUIRE_MACHINE_SOFT);
    run(QUIRE_MACHINE_LINUX);
}

static unsigned char letter(uint64_t page)
{
    return (unsigned char)('a' + page % 26);
}

/* A file of so many bytes, in which every page has a letter of its own. */
static int file_of(uint64_t size)
{
    char path[4096], bytes[QUIRE_PAGE_SIZE];
    uint64_t at;
    int fd;
    snprintf(path, sizeof path, "%s/wrapped", folder);
    unlink(path);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    for (at = 0; at < size; at += PAGE) {
        const size_t length = (size_t)(size - at < PAGE ? size - at : PAGE);
        memset(bytes, letter(at / PAGE), sizeof bytes);
        CHECK(write(fd, bytes, length) == (ssize_t)length);
    }
    return fd;
}

static void wrap(int fd, uint32_t prot)
{
    struct quire_map_request request;
    uint64_t size = 0;
    OK(quire_object_open_device(devices, driver, NULL, fd, WRITABLE, &device));
    OK(quire_object_size(device, &size));
    request = request_of(size, prot);
    OK(quire_map(map, device, &request, &base));
}

static unsigned char byte_at(uint64_t at)
{
    unsigned char byte = 0;
    OK(quire_read(map, base + at, &byte, 1, NULL));
    return byte;
}

static void shown_and_written(uint32_t machine)
{
    const unsigned char byte = '!';
    unsigned char seen = 0;
    struct quire_stats stats;
    const int fd = file_of(3 * PAGE + 100);
    begin(machine);
    wrap(fd, RW);
    CHECK(byte_at(0) == 'a' && byte_at(2 * PAGE) == 'c' && byte_at(3 * PAGE + 99) == 'd' && byte_at(3 * PAGE + 100) == 0);
    OK(quire_write(map, base + PAGE, &byte, 1, NULL));
    CHECK(pread(fd, &seen, 1, (off_t)PAGE) == 1 && seen == '!');
    CHECK(pwrite(fd, "?", 1, (off_t)PAGE + 1) == 1 && byte_at(PAGE + 1) == '?');
    stats = stats_of(engine);
    CHECK(stats.populates == 1 && stats.gets == 0 && stats.pages_in == 0);
    OK(quire_object_flush(device, 0, 0, QUIRE_DURABLE));
    CHECK(stats_of(engine).puts == 0);
    end();
    close(fd);
}

static void a_wrapped_file_is_shown_and_written_in_place(void)
{
    on_both_machines(shown_and_written);
}

static void windows(uint32_t machine)
{
    uint64_t resident = 0, page;
    const int fd = file_of(1100 * PAGE);
    begin(machine);
    wrap(fd, READ);
    CHECK(byte_at(600 * PAGE) == letter(600));
    OK(quire_object_resident(device, &resident));
    CHECK(resident == 512 && stats_of(engine).populates == 1);
    for (page = 0; page < 1100; page++)
        CHECK(byte_at(page * PAGE) == letter(page));
    CHECK(stats_of(engine).populates == 3 && stats_of(engine).gets == 0);
    OK(quire_object_resident(device, &resident));
    CHECK(resident == 1100);
    end();
    close(fd);
}

static void windows_of_512_pages_come_at_once(void)
{
    on_both_machines(windows);
}

static void pointers(void)
{
    volatile unsigned char *bytes;
    unsigned char seen = 0;
    const int fd = file_of(4 * PAGE);
    begin(QUIRE_MACHINE_LINUX);
    wrap(fd, RW);
    bytes = (volatile unsigned char *)(uintptr_t)base;
    CHECK(bytes[2 * PAGE] == 'c');
    bytes[2 * PAGE] = 'C';
    CHECK(pread(fd, &seen, 1, (off_t)(2 * PAGE)) == 1 && seen == 'C');
    end();
    close(fd);
}

static void the_pointer_goes_to_the_files_own_memory(void)
{
    pointers();
}

/* A descriptor that can only be read shows memory that can only be read. */
static void read_only(uint32_t machine)
{
    char path[4096];
    const unsigned char byte = '!';
    int fd;
    close(file_of(2 * PAGE));
    snprintf(path, sizeof path, "%s/wrapped", folder);
    fd = open(path, O_RDONLY);
    begin(machine);
    wrap(fd, RW);
    CHECK(byte_at(PAGE) == 'b');
    CHECK(quire_write(map, base + PAGE, &byte, 1, NULL) != QUIRE_OK && strlen(quire_last_error()) > 12);
    CHECK(byte_at(PAGE) == 'b');
    end();
    close(fd);
}

static void a_file_that_can_only_be_read_is_not_written(void)
{
    on_both_machines(read_only);
}

static void what_cannot_be_mapped_is_refused(void)
{
    int fd;
    begin(QUIRE_MACHINE_SOFT);
    EXPECT(QUIRE_ERR_PAGER, "there is no file descriptor", quire_object_open_device(devices, driver, "4096", -1, 0, &device));
    fd = file_of(0);
    EXPECT(QUIRE_ERR_PAGER, "it is empty, or no file", quire_object_open_device(devices, driver, NULL, fd, 0, &device));
    close(fd);
    fd = open("/dev/null", O_RDWR);
    EXPECT(QUIRE_ERR_PAGER, "it is empty, or no file", quire_object_open_device(devices, driver, NULL, fd, 0, &device));
    EXPECT(QUIRE_ERR_PAGER, "cannot be mapped", quire_object_open_device(devices, driver, "4096", fd, 0, &device));
    close(fd);
    CHECK(info_of(driver).open_objects == 0);
    OK(quire_map_destroy(map));
    OK(quire_engine_destroy(engine, 0));
}

static int lines;

static void count_line(void *ctx, uint32_t level, const char *who, const char *text)
{
    (void)ctx;
    (void)level;
    printf("log: %s: %s\n", who, text);
    lines++;
}

/* The memory is registered as long as the device is open, and no longer: a thousand of them find room. */
static void again_and_again(uint32_t machine)
{
    int i;
    const int fd = file_of(8 * PAGE);
    OK(quire_set_log(count_line, NULL));
    begin(machine);
    for (i = 0; i < 1500; i++) {
        wrap(fd, READ);
        CHECK(byte_at(7 * PAGE) == 'h');
        OK(quire_unmap(map, base, 8 * PAGE));
        OK(quire_object_release(device));
    }
    CHECK(lines == 0);
    wrap(fd, READ);
    end();
    OK(quire_set_log(NULL, NULL));
    close(fd);
}

static void a_device_that_ends_lets_go_of_its_memory(void)
{
    on_both_machines(again_and_again);
}

static const struct test_case cases[] = {
    CASE(a_wrapped_file_is_shown_and_written_in_place),
    CASE(windows_of_512_pages_come_at_once),
    CASE(the_pointer_goes_to_the_files_own_memory),
    CASE(a_file_that_can_only_be_read_is_not_written),
    CASE(what_cannot_be_mapped_is_refused),
    CASE(a_device_that_ends_lets_go_of_its_memory),
};

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    folder = argv[2];
    return run_case(cases, sizeof cases / sizeof *cases, argv[1]);
}
