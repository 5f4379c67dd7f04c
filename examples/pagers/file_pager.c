/* A file pager: an object is a regular file, named by its path. Past the end of its data a page holds zeros. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "quire_pager.h"
#define FD(object) ((int)(intptr_t)(object))
static const struct quire_pager_host_api *host; /* from init on */
static int32_t file_init(const struct quire_pager_host_api *api, const char *config, void **ctx)
{ return (void)config, (void)ctx, host = api, QUIRE_PAGER_OK; }
static int32_t file_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    struct stat st = {0};
    int flags = (args->flags & QUIRE_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = args->name == NULL ? -1 : open(args->name, flags);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int32_t status = args->name == NULL ? QUIRE_PAGER_INVALID : st.st_mode != 0 ? QUIRE_PAGER_UNSUPPORTED : -errno;
        host->set_error(host->host, args->token, "file: open: give it the path of a regular file that may be opened");
        return (void)ctx, fd < 0 ? 0 : close(fd), status;
    }
    out->object = (void *)(intptr_t)fd;
    out->identity[0] = st.st_dev, out->identity[1] = st.st_ino, out->size = (uint64_t)st.st_size;
    return QUIRE_PAGER_OK;
}
static int32_t move(int fd, struct quire_pager_io *io, uint32_t i, int put)
{
    struct stat st = {0};
    char *bytes = QUIRE_IO_PAGE(io, i)->bytes;
    uint64_t at = (io->first + i) * io->page_size, end = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0, want, done = 0;
    if (at >= (end = end < io->object_size ? end : io->object_size))
        return QUIRE_PAGER_BAD; /* also for a put: who cut the file short does not want it back */
    want = end - at < io->page_size ? end - at : io->page_size;
    for (ssize_t n = 1; done < want && n != 0; done += n > 0 ? (size_t)n : 0) {
        n = put ? pwrite(fd, bytes + done, want - done, (off_t)(at + done))
                : pread(fd, bytes + done, want - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) return -errno;
    }
    if (!put) memset(bytes + done, 0, io->page_size - done);
    return done < want ? QUIRE_PAGER_ERROR : QUIRE_PAGER_OK;
}
static int32_t run(void *object, struct quire_pager_io *io, int put)
{
    int32_t status, answer = QUIRE_PAGER_OK;
    for (uint32_t i = 0; i < io->count; i++)
        if ((status = QUIRE_IO_PAGE(io, i)->status = move(FD(object), io, i, put)) != 0 && (put || i == io->required))
            answer = status;
    return answer;
}
static int32_t file_get(void *object, struct quire_pager_io *io) { return run(object, io, 0); }
static int32_t file_put(void *object, struct quire_pager_io *io) { return run(object, io, 1); }
static int32_t file_sync(void *object) { return fsync(FD(object)) == 0 ? QUIRE_PAGER_OK : -errno; }
static int32_t file_close(void *ctx, void *object) { return (void)ctx, close(FD(object)) == 0 ? QUIRE_PAGER_OK : -errno; }

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC, .abi_version = QUIRE_PAGER_ABI_VERSION, .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_PARALLEL, .name = "file", .version = "1", .description = "Files, in sixty lines of C",
    .init = file_init, .open = file_open, .get = file_get, .put = file_put, .sync = file_sync, .close = file_close};
QUIRE_PAGER_EXPORT(module);
