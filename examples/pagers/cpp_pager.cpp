/*
 * A pager in C++ that keeps pages in memory, and whose exceptions become statuses.
 *
 * The name given to open is a number of pages, and after a blank the index of a page that cannot be had: "64 13".
 * Every operation runs inside guard(), which lets no exception out.
 */
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "quire_pager.h"

namespace {

const quire_pager_host_api *host; // From init to fini.

/* An error with a status of its own. Other exceptions are faults of the pager. */
struct error : std::runtime_error {
    error(int32_t status, const std::string &text) : std::runtime_error(text), status(status) {}
    int32_t status;
};

int32_t report(uint64_t token, int32_t status, const char *text) noexcept
{
    host->set_error(host->host, token, text);
    return status;
}

/* Runs an operation; whatever it throws becomes a status, and its text goes to the host. */
template <typename Operation> int32_t guard(uint64_t token, Operation operation) noexcept
{
    try {
        operation();
        return QUIRE_PAGER_OK;
    } catch (const error &e) {
        return report(token, e.status, e.what());
    } catch (const std::bad_alloc &) {
        return report(token, QUIRE_PAGER_NOMEM, "cpp: out of memory");
    } catch (const std::exception &e) {
        return report(token, QUIRE_PAGER_FAULTED, e.what());
    } catch (...) {
        return report(token, QUIRE_PAGER_FAULTED, "cpp: an exception that says nothing");
    }
}

struct object {
    uint64_t count;
    uint64_t cursed;
    std::unordered_map<uint64_t, std::vector<char>> pages;

    /* The page's contents, or NULL while it is all zeros. */
    const std::vector<char> *find(uint64_t index) const
    {
        if (index == cursed)
            throw std::out_of_range("cpp: page " + std::to_string(index) + " is cursed");
        auto found = pages.find(index);
        return found == pages.end() ? nullptr : &found->second;
    }
};

int32_t init(const quire_pager_host_api *api, const char *, void **) noexcept
{
    host = api;
    return QUIRE_PAGER_OK;
}

int32_t open(void *, const quire_pager_open_args *args, quire_pager_open_result *out) noexcept
{
    return guard(args->token, [&] {
        std::istringstream name(args->name ? args->name : "");
        std::unique_ptr<object> made(new object{0, UINT64_MAX, {}});
        if (!(name >> made->count))
            throw error(QUIRE_PAGER_INVALID, "cpp: open: the name is not a number of pages");
        if (made->count > UINT64_MAX / args->page_size)
            throw error(QUIRE_PAGER_INVALID, "cpp: open: so many pages have no size in bytes; name fewer");
        if (!(name >> made->cursed))
            made->cursed = UINT64_MAX;
        out->size = made->count * args->page_size;
        out->object = made.release();
    });
}

int32_t get(void *handle, quire_pager_io *io) noexcept
{
    return guard(io->token, [&] {
        const object &store = *static_cast<const object *>(handle);
        /* The required page first: what it throws is the answer, and its neighbours may be left alone. */
        for (uint32_t n = 0; n < io->count; n++) {
            const uint32_t i = (io->required + n) % io->count;
            if (n > 0 && io->first + i == store.cursed)
                continue;
            quire_pager_io_page *page = QUIRE_IO_PAGE(io, i);
            const std::vector<char> *data = store.find(io->first + i);
            if (data)
                std::copy(data->begin(), data->end(), static_cast<char *>(page->bytes));
            else
                std::memset(page->bytes, 0, io->page_size);
            page->status = QUIRE_PAGER_OK;
        }
    });
}

int32_t put(void *handle, quire_pager_io *io) noexcept
{
    return guard(io->token, [&] {
        object &store = *static_cast<object *>(handle);
        for (uint32_t i = 0; i < io->count; i++) {
            quire_pager_io_page *page = QUIRE_IO_PAGE(io, i);
            const char *bytes = static_cast<const char *>(page->bytes);
            store.pages[io->first + i].assign(bytes, bytes + io->page_size);
            page->status = QUIRE_PAGER_OK;
        }
    });
}

int32_t close(void *, void *handle) noexcept
{
    delete static_cast<object *>(handle);
    return QUIRE_PAGER_OK;
}

/* C++ before 20 has no designated initialisers. Assigned by name, members stay right when a later header has more. */
quire_pager_module make_module() noexcept
{
    quire_pager_module m = quire_pager_module();
    m.magic = QUIRE_PAGER_MAGIC;
    m.abi_version = QUIRE_PAGER_ABI_VERSION;
    m.struct_size = sizeof m;
    m.thread_model = QUIRE_THREADS_SERIALIZE_OBJECT;
    m.name = "cpp";
    m.version = "1";
    m.description = "Pages in memory, in C++";
    m.init = init;
    m.open = open;
    m.close = close;
    m.get = get;
    m.put = put;
    return m;
}

const quire_pager_module module = make_module();

} // namespace

QUIRE_PAGER_EXPORT(module);
