/* A file pager: an object is a file, named by its path. Past the end of its data a page holds zeros. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "quire_pager.h"
#define FD(object) ((int)(intptr_t)(object) - 1)

static int32_t file_open(void *ctx, const struct quire_pager_open_args *args, struct quire_pager_open_result *out)
{
    struct stat st;
    int fd = args->name == NULL ? -1 : open(args->name, args->flags & QUIRE_OPEN_WRITE ? O_RDWR : O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        return (void)ctx, args->name == NULL ? QUIRE_PAGER_INVALID : -errno;
    out->object = (void *)(intptr_t)(fd + 1);
    out->size = (uint64_t)st.st_size;
    return QUIRE_PAGER_OK;
}
static int32_t move(int fd, struct quire_pager_io *io, uint32_t i, int put)
{
    char *bytes = io->pages[i].bytes;
    uint64_t at = (io->first + i) * io->page_size, left = at < io->object_size ? io->object_size - at : 0;
    size_t done = 0, want = left < io->page_size ? (size_t)left : io->page_size;
    for (ssize_t n = 1; done < want && n != 0; done += n > 0 ? (size_t)n : 0) {
        n = put ? pwrite(fd, bytes + done, want - done, (off_t)(at + done))
                : pread(fd, bytes + done, want - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR)
            return -errno;
    }
    if (put)
        return done < want ? QUIRE_PAGER_ERROR : QUIRE_PAGER_OK;
    memset(bytes + done, 0, io->page_size - done);
    return done > 0 ? QUIRE_PAGER_OK : QUIRE_PAGER_BAD;
}
static int32_t file_get(void *object, struct quire_pager_io *io)
{
    for (uint32_t i = 0; i < io->count; i++)
        io->pages[i].status = move(FD(object), io, i, 0);
    return io->pages[io->required].status;
}
static int32_t file_put(void *object, struct quire_pager_io *io)
{
    int32_t answer = QUIRE_PAGER_OK;
    for (uint32_t i = 0; i < io->count; i++)
        if ((io->pages[i].status = move(FD(object), io, i, 1)) != QUIRE_PAGER_OK)
            answer = io->pages[i].status;
    return answer;
}
static int32_t file_sync(void *object) { return fsync(FD(object)) == 0 ? QUIRE_PAGER_OK : -errno; }
static int32_t file_close(void *ctx, void *object) { return (void)ctx, close(FD(object)) == 0 ? QUIRE_PAGER_OK : -errno; }

static const struct quire_pager_module module = {
    .magic = QUIRE_PAGER_MAGIC, .abi_version = QUIRE_PAGER_ABI_VERSION, .struct_size = sizeof module,
    .thread_model = QUIRE_THREADS_PARALLEL, .name = "file", .version = "1", .description = "Files, in sixty lines of C",
    .open = file_open, .get = file_get, .put = file_put, .sync = file_sync, .close = file_close};
QUIRE_PAGER_EXPORT(module);
