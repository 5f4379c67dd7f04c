/*
 * A frame buffer as memory: draws into a device's pages and writes what is on the screen as a picture, to look at.
 *
 *     cc -shared -fPIC drivers/framebuffer.c $(pkg-config --cflags quire) -o framebuffer.so
 *     cc framebuffer.c $(pkg-config --cflags --libs quire) -o framebuffer && ./framebuffer ./framebuffer.so window linux screen.png
 *
 * The third argument says how many pages a touched one brings along: one, window, all, get (see drivers/framebuffer.c). The fourth is the
 * machine: linux draws through the pointer, soft where there is none. The picture is the same. Compiles as C and as C++.
 */
#include <quire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 640
#define HEIGHT 480
#define STRIDE ((size_t)WIDTH * 4)

static void check(int32_t status, const char *what)
{
    if (status == QUIRE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, quire_status_name(status), quire_last_error());
    exit(1);
}

/* The screen: a pointer where there is one, and otherwise an address that loads and stores go to. */
static struct quire_map *map;
static uint64_t screen;
static int has_pointer;

static void read_row(uint32_t y, uint32_t *row)
{
    if (has_pointer)
        memcpy(row, (const char *)(uintptr_t)screen + y * STRIDE, STRIDE);
    else
        check(quire_load(map, screen + y * STRIDE, row, STRIDE, NULL), "load");
}

static void write_row(uint32_t y, const uint32_t *row)
{
    if (has_pointer)
        memcpy((char *)(uintptr_t)screen + y * STRIDE, row, STRIDE);
    else
        check(quire_store(map, screen + y * STRIDE, row, STRIDE, NULL), "store");
}

/* Rings around the middle, over what the device shows by itself, which stays to be seen between them. */
static void draw(void)
{
    uint32_t row[WIDTH], y;
    for (y = 0; y < HEIGHT; y++) {
        uint32_t x;
        read_row(y, row);
        for (x = 0; x < WIDTH; x++) {
            const int32_t dx = (int32_t)x - WIDTH / 2, dy = (int32_t)y - HEIGHT / 2;
            const uint32_t square = (uint32_t)(dx * dx + dy * dy);
            if (square < 200 * 200 && square / 4000 % 2 == 0)
                row[x] = (255 - square / 160) << 16 | (x * 255 / WIDTH) << 8 | y * 255 / HEIGHT;
        }
        write_row(y, row);
    }
}

/* A PNG without compression: each chunk has a checksum, and so have the pixels. */
static uint32_t crc(uint32_t sum, const unsigned char *bytes, size_t length)
{
    size_t i;
    int bit;
    for (i = 0; i < length; i++) {
        sum ^= bytes[i];
        for (bit = 0; bit < 8; bit++)
            sum = (sum & 1) != 0 ? sum >> 1 ^ 0xedb88320u : sum >> 1;
    }
    return sum;
}

static unsigned char *big_endian(unsigned char *at, uint32_t number)
{
    int shift;
    for (shift = 24; shift >= 0; shift -= 8)
        *at++ = (unsigned char)(number >> shift);
    return at;
}

static void chunk(FILE *file, const char *kind, const unsigned char *bytes, size_t length)
{
    unsigned char word[4];
    uint32_t sum = crc(0xffffffffu, (const unsigned char *)kind, 4);
    sum = ~crc(sum, bytes, length);
    fwrite(word, 1, (size_t)(big_endian(word, (uint32_t)length) - word), file);
    fwrite(kind, 1, 4, file);
    fwrite(bytes, 1, length, file);
    fwrite(word, 1, (size_t)(big_endian(word, sum) - word), file);
}

/* One stored block a row: a row is a filter byte, here none, and three bytes a pixel. */
#define ROW (1 + WIDTH * 3)

static void write_png(const char *path)
{
    static unsigned char data[2 + HEIGHT * (5 + ROW) + 4];
    unsigned char header[13] = {0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0}, *at = data;
    uint32_t y, a = 1, b = 0;
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    *at++ = 0x78;
    *at++ = 0x01;
    for (y = 0; y < HEIGHT; y++) {
        uint32_t pixels[WIDTH], x;
        const unsigned char *row = at + 5;
        *at++ = y == HEIGHT - 1;
        *at++ = ROW & 0xff;
        *at++ = ROW >> 8;
        *at++ = (unsigned char)~(ROW & 0xff);
        *at++ = (unsigned char)~(ROW >> 8);
        *at++ = 0;
        read_row(y, pixels);
        for (x = 0; x < WIDTH; x++) {
            *at++ = (unsigned char)(pixels[x] >> 16);
            *at++ = (unsigned char)(pixels[x] >> 8);
            *at++ = (unsigned char)pixels[x];
        }
        for (; row < at; row++) {
            a = (a + *row) % 65521;
            b = (b + a) % 65521;
        }
    }
    at = big_endian(at, b << 16 | a);
    big_endian(big_endian(header, WIDTH), HEIGHT);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, file);
    chunk(file, "IHDR", header, sizeof header);
    chunk(file, "IDAT", data, (size_t)(at - data));
    chunk(file, "IEND", header, 0);
    if (ferror(file) || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct quire_engine_options options;
    struct quire_map_request request;
    struct quire_stats stats;
    struct quire_engine *engine;
    struct quire_pager *devices, *driver;
    struct quire_object *device;
    uint64_t size;

    if (argc != 5 || (strcmp(argv[3], "linux") != 0 && strcmp(argv[3], "soft") != 0)) {
        fprintf(stderr, "usage: %s DRIVER one|window|all|get linux|soft PICTURE\n", argv[0]);
        return 2;
    }
    has_pointer = strcmp(argv[3], "linux") == 0;

    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.machine = has_pointer ? QUIRE_MACHINE_LINUX : QUIRE_MACHINE_SOFT;
    options.memory = 8 << 20;
    check(quire_engine_create(&options, &engine), "engine");
    check(quire_pager_load(engine, "device", NULL, &devices), "device pager");
    check(quire_pager_load(engine, argv[1], NULL, &driver), "driver");
    check(quire_object_open_device(devices, driver, argv[2], -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &device), "device");
    check(quire_object_size(device, &size), "size");

    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.length = size;
    request.prot = QUIRE_PROT_READ | QUIRE_PROT_WRITE;
    check(quire_map_create(engine, 0, 0, &map), "map");
    check(quire_map(map, device, &request, &screen), "mapping");

    draw();
    /* The device has all of it now, and memory has none: the picture comes back from the device. */
    check(quire_object_put(device, 0, 0, QUIRE_PGO_CLEANIT | QUIRE_PGO_FREE, NULL), "writing back");
    write_png(argv[4]);

    memset(&stats, 0, sizeof stats);
    stats.struct_size = sizeof stats;
    check(quire_engine_stats(engine, &stats), "stats");
    printf("%llu pages out; in: %llu pages by %llu populates, %llu by %llu gets\n", (unsigned long long)stats.pages_out,
           (unsigned long long)stats.pages_populated, (unsigned long long)stats.populates,
           (unsigned long long)stats.pages_in, (unsigned long long)stats.gets);

    check(quire_map_destroy(map), "unmap");
    check(quire_object_release(device), "release");
    check(quire_engine_destroy(engine, 0), "end");
    return 0;
}
