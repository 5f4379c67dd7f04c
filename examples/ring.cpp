/*
 * A producer and a consumer that share a ring buffer, each through a map of its own. The ring's pages appear twice in a row, so that no record
 * is ever cut in two where the ring ends.
 *
 *     c++ -shared -fPIC drivers/ring.cpp $(pkg-config --cflags quire) -o ring.so
 *     c++ ring.cpp $(pkg-config --cflags --libs quire) -pthread -o ring && ./ring ./ring.so linux
 *
 * On the soft machine there are no pointers, and quire_load and quire_store access the maps. The ring is the same.
 */
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <quire.h>

namespace {

const uint64_t ring_pages = 4, ring_bytes = ring_pages * QUIRE_PAGE_SIZE;
const uint32_t records = 20000, longest = 3000;

void check(int32_t status, const char *what)
{
    if (status != QUIRE_OK)
        throw std::runtime_error(std::string(what) + ": " + quire_status_name(status) + ": " + quire_last_error());
}

/* The ring in one map. Positions only grow; what lies at one is in one piece, for up to a whole ring. */
class view {
public:
    view(quire_engine *engine, quire_object *ring, bool has_pointer) : has_pointer(has_pointer)
    {
        quire_map_request request = quire_map_request();
        request.struct_size = sizeof request;
        request.length = 2 * ring_bytes;
        request.prot = QUIRE_PROT_READ | QUIRE_PROT_WRITE;
        check(quire_map_create(engine, 0, 0, &map), "map");
        check(quire_map(map, ring, &request, &start), "mapping");
    }
    view(const view &) = delete;
    view &operator=(const view &) = delete;
    ~view() { quire_map_destroy(map); }

    void write(uint64_t position, const void *bytes, size_t length) const
    {
        const uint64_t at = start + position % ring_bytes;
        if (has_pointer)
            std::memcpy(reinterpret_cast<void *>(static_cast<uintptr_t>(at)), bytes, length);
        else
            check(quire_store(map, at, bytes, length, nullptr), "store");
    }

    void read(uint64_t position, void *bytes, size_t length) const
    {
        const uint64_t at = start + position % ring_bytes;
        if (has_pointer)
            std::memcpy(bytes, reinterpret_cast<const void *>(static_cast<uintptr_t>(at)), length);
        else
            check(quire_load(map, at, bytes, length, nullptr), "load");
    }

private:
    struct quire_map *map = nullptr;
    uint64_t start = 0;
    const bool has_pointer;
};

/* How far each side has come: they are the two ends of what is in the ring. */
std::atomic<uint64_t> written(0), taken(0);

/* Record n, as both sides know it: its length, and bytes that follow from n. */
std::vector<unsigned char> record(uint32_t n)
{
    uint32_t noise = n * 2654435761u + 1;
    std::vector<unsigned char> bytes(4 + noise % longest);
    const uint32_t length = static_cast<uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &length, 4);
    for (size_t i = 4; i < bytes.size(); i++) {
        noise = noise * 1664525 + 1013904223;
        bytes[i] = static_cast<unsigned char>(noise >> 24);
    }
    return bytes;
}

void produce(const view &ring)
{
    for (uint32_t n = 0; n < records; n++) {
        const std::vector<unsigned char> bytes = record(n);
        const uint64_t at = written.load(std::memory_order_relaxed);
        while (at + bytes.size() - taken.load(std::memory_order_acquire) > ring_bytes)
            std::this_thread::yield();
        ring.write(at, bytes.data(), bytes.size());
        written.store(at + bytes.size(), std::memory_order_release);
    }
}

/* How many records lay across the ring's end. */
uint32_t consume(const view &ring)
{
    uint32_t across = 0;
    std::vector<unsigned char> bytes;
    for (uint32_t n = 0; n < records; n++) {
        const uint64_t at = taken.load(std::memory_order_relaxed);
        while (written.load(std::memory_order_acquire) == at)
            std::this_thread::yield();
        uint32_t length = 0;
        ring.read(at, &length, sizeof length);
        bytes.resize(length);
        ring.read(at, bytes.data(), length);
        if (bytes != record(n))
            throw std::runtime_error("record " + std::to_string(n) + " is not what was written");
        across += at % ring_bytes + length > ring_bytes;
        taken.store(at + length, std::memory_order_release);
    }
    return across;
}

void run(const char *driver_path, bool has_pointer)
{
    quire_engine *engine;
    quire_pager *devices, *driver;
    quire_object *ring;
    quire_engine_options options = quire_engine_options();
    options.struct_size = sizeof options;
    options.machine = has_pointer ? QUIRE_MACHINE_LINUX : QUIRE_MACHINE_SOFT;
    options.memory = 1 << 20;
    check(quire_engine_create(&options, &engine), "engine");
    check(quire_pager_load(engine, "device", nullptr, &devices), "device pager");
    check(quire_pager_load(engine, driver_path, nullptr, &driver), "driver");
    const std::string pages = std::to_string(ring_pages);
    check(quire_object_open_device(devices, driver, pages.c_str(), -1, QUIRE_OPEN_READ | QUIRE_OPEN_WRITE, &ring), "ring");
    {
        const view mine(engine, ring, has_pointer), theirs(engine, ring, has_pointer);
        std::thread producer([&] {
            try {
                produce(mine);
            } catch (const std::exception &e) {
                std::cerr << e.what() << "\n";
                std::exit(1); /* the consumer would wait for ever */
            }
        });
        const uint32_t across = consume(theirs);
        producer.join();
        std::cout << records << " records, " << across << " of them across the end, " << written << " bytes\n";
    }
    check(quire_object_release(ring), "release");
    check(quire_engine_destroy(engine, 0), "end");
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3 || (std::strcmp(argv[2], "linux") != 0 && std::strcmp(argv[2], "soft") != 0)) {
        std::cerr << "usage: " << argv[0] << " DRIVER linux|soft\n";
        return 2;
    }
    try {
        run(argv[1], std::strcmp(argv[2], "linux") == 0);
    } catch (const std::exception &e) {
        std::cerr << e.what() << "\n";
        std::exit(1); /* the producer may be at work */
    }
    return 0;
}
