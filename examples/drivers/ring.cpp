/*
 * A driver of ring buffers, in C++: the pages of a ring appear twice in a row, so that what is written across its end, and read there, is in one
 * piece. The name given to open is the number of pages of the ring; the device has twice as many. ../ring.cpp uses it.
 */
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

#include "quire_pager.h"

namespace {

/* Memory that both halves show; closing the file leaves it with the host, which has its own descriptor. */
class ring {
public:
    ring(const quire_pager_host_api *host, uint64_t pages, uint64_t page_size)
        : host(host), pages(pages), page_size(page_size)
    {
    }
    ring(const ring &) = delete;
    ring &operator=(const ring &) = delete;

    ~ring()
    {
        if (aperture != 0 && host->aperture_remove(host->host, aperture) != QUIRE_PAGER_OK)
            host->log(host->host, QUIRE_LOG_ERROR, "ring: dtor: pages still show the memory; it stays registered");
    }

    int32_t make() noexcept
    {
        const int fd = memfd_create("quire ring", MFD_CLOEXEC);
        if (fd < 0)
            return -errno;
        int32_t status = ftruncate(fd, static_cast<off_t>(pages * page_size)) == 0 ? QUIRE_PAGER_OK : -errno;
        if (status == QUIRE_PAGER_OK) {
            quire_aperture what = quire_aperture();
            what.struct_size = sizeof what;
            what.cache = QUIRE_CACHE_WRITE_BACK;
            what.length = pages * page_size;
            what.fd = fd;
            status = host->aperture_add(host->host, &what, &aperture);
        }
        close(fd);
        return status;
    }

    void show(quire_driver_fault &request) const noexcept
    {
        request.aperture = aperture;
        request.offset = request.index % pages * page_size;
    }

private:
    const quire_pager_host_api *host;
    const uint64_t pages, page_size;
    uint64_t aperture = 0;
};

int32_t refuse(const quire_pager_open_args &args, int32_t status, const char *text) noexcept
{
    args.host->set_error(args.host->host, args.token, text);
    return status;
}

int32_t ring_ctor(void *, const quire_pager_open_args *args, quire_pager_open_result *out)
{
    if (!QUIRE_HAS(args->host, quire_pager_host_api, aperture_add))
        return refuse(*args, QUIRE_PAGER_UNSUPPORTED, "ring: ctor: this host cannot show a device's own memory");
    const uint64_t pages = args->name != nullptr ? std::strtoull(args->name, nullptr, 10) : 0;
    if (pages == 0 || pages > 1 << 20)
        return refuse(*args, QUIRE_PAGER_INVALID, "ring: ctor: the name is not a number of pages from 1 to 1048576");
    std::unique_ptr<ring> made(new (std::nothrow) ring(args->host, pages, args->page_size));
    if (!made)
        return QUIRE_PAGER_NOMEM;
    const int32_t status = made->make();
    if (status != QUIRE_PAGER_OK)
        return refuse(*args, status, "ring: ctor: there is no memory to be shared");
    out->object = made.release();
    out->size = 2 * pages * args->page_size;
    return QUIRE_PAGER_OK;
}

void ring_dtor(void *, void *device)
{
    delete static_cast<ring *>(device);
}

int32_t ring_fault(void *device, quire_driver_fault *request)
{
    static_cast<const ring *>(device)->show(*request);
    return QUIRE_PAGER_OK;
}

const quire_driver driver = {sizeof(quire_driver), QUIRE_DRIVER_UNMANAGED, ring_ctor, ring_dtor, ring_fault,
                             nullptr, nullptr, nullptr, nullptr};

} // namespace

QUIRE_DRIVER_EXPORT("ring", QUIRE_THREADS_PARALLEL, driver);
