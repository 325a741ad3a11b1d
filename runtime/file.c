/* Whole files in, whole files out.
 *
 * Writing is all or nothing: the bytes go to a new file in the same directory,
 * reach the disk (fsync), and only then take the old file's name (rename, which
 * POSIX makes atomic). */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAM_LIMIT ((size_t)1 << 32)     /* of what has no size of its own: pipes, /dev/zero */
#define CALL_LIMIT ((size_t)1 << 30)       /* bytes for one read or write */

static const char *shown(const char *path, const char *stream)
{
    return strcmp(path, "-") == 0 ? stream : path;
}

/* ---- reading */

typedef struct Reading {
    Context *c;
    const char *name;
    int file;
    unsigned char *data;
    size_t length;
} Reading;

/* Up to `room` bytes; 0 at the end. */
static size_t read_some(Reading *r, size_t room)
{
    ssize_t got;
    do
        got = read(r->file, r->data + r->length, room < CALL_LIMIT ? room : CALL_LIMIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        fail(r->c, STATUS_INPUT, "%s: cannot read: %s", r->name, strerror(errno));
    return (size_t)got;
}

static void read_to_end(void *argument)
{
    Reading *r = argument;
    struct stat info;
    if (fstat(r->file, &info) != 0)
        fail(r->c, STATUS_INPUT, "%s: cannot read: %s", r->name, strerror(errno));
    if (S_ISDIR(info.st_mode))
        fail(r->c, STATUS_INPUT, "%s: cannot read: found a directory, expected a file", r->name);

    bool sized = S_ISREG(info.st_mode);
    size_t capacity = sized ? (size_t)info.st_size + 1 : 1 << 16;    /* 1 more: to see the end */
    r->data = arena_alloc(r->c, capacity + 1, 1);
    for (size_t got; (got = read_some(r, capacity - r->length)) > 0;) {
        r->length += got;
        if (r->length < capacity)
            continue;
        if (capacity >= STREAM_LIMIT)
            fail(r->c, STATUS_INPUT, "%s: found no end, expected at most %zu bytes", r->name, STREAM_LIMIT);
        unsigned char *larger = arena_alloc(r->c, 2 * capacity + 1, 1);
        memcpy(larger, r->data, r->length);
        r->data = larger;
        capacity *= 2;
    }
}

static void reading_release(void *argument)
{
    Reading *r = argument;
    if (r->file != STDIN_FILENO)
        close(r->file);
}

unsigned char *file_read(Context *c, const char *path, size_t *length)
{
    Reading r = {.c = c, .name = shown(path, "standard input"), .file = STDIN_FILENO};
    if (strcmp(path, "-") != 0)
        r.file = open(path, O_RDONLY | O_CLOEXEC);
    if (r.file < 0)
        fail(c, STATUS_INPUT, "%s: cannot open: %s", path, strerror(errno));
    guard(c, read_to_end, reading_release, &r);
    *length = r.length;
    return r.data;
}

/* ---- writing; these return 0 or an errno, so that nothing is left open or behind */

static int write_all(int file, const unsigned char *data, size_t length)
{
    while (length > 0) {
        ssize_t put = write(file, data, length < CALL_LIMIT ? length : CALL_LIMIT);
        if (put < 0 && errno != EINTR)
            return errno;
        if (put > 0) {
            data += put;
            length -= (size_t)put;
        }
    }
    return 0;
}

/* Puts data into a file just opened and closes it. */
static int fill(int file, mode_t mode, const void *data, size_t length)
{
    int error = write_all(file, data, length);
    if (!error && mode && fchmod(file, mode & 07777) != 0)
        error = errno;
    if (!error && fsync(file) != 0)
        error = errno;
    if (close(file) != 0 && !error)
        error = errno;
    return error;
}

/* A new file's name lasts only once its directory is on the disk too.  By now the
 * new file is in place, so a file system that cannot do this is not an error. */
static void sync_directory(const char *directory)
{
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return;
    fsync(file);
    close(file);
}

static int replace(const char *path, const char *directory, const char *temporary, mode_t mode,
                   const void *data, size_t length)
{
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0)
        return errno;
    int error = fill(file, mode, data, length);
    if (!error && rename(temporary, path) != 0)
        error = errno;
    if (error)
        unlink(temporary);
    else
        sync_directory(directory);
    return error;
}

/* mode: st_mode of the existing file, 0 for none. */
static int write_beside(Context *c, const char *path, mode_t mode, const void *data, size_t length)
{
    enum { TRIES = 100 };                  /* names may be taken by runs that were killed */
    char real[PATH_MAX];
    if (mode && access(path, W_OK) != 0)
        return errno;
    if (mode && realpath(path, real))
        path = real;                       /* a symbolic link stays one */
    const char *slash = strrchr(path, '/');
    const char *directory = slash ? format(c, "%.*s", (int)(slash - path + 1), path) : "./";
    int error = EEXIST;
    for (int i = 0; error == EEXIST && i < TRIES; i++) {
        const char *temporary = format(c, "%s.cnnc-%ld-%d.tmp", directory, (long)getpid(), i);
        error = replace(path, directory, temporary, mode, data, length);
    }
    return error;
}

static int write_directly(const char *path, const void *data, size_t length)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    int error = write_all(file, data, length);
    if (close(file) != 0 && !error)
        error = errno;
    return error;
}

void file_write(Context *c, const char *path, const void *data, size_t length)
{
    struct stat old;
    int error;
    if (strcmp(path, "-") == 0) {
        fflush(stdout);
        error = write_all(STDOUT_FILENO, data, length);
    } else if (stat(path, &old) != 0) {
        error = write_beside(c, path, 0, data, length);
    } else if (S_ISDIR(old.st_mode)) {
        error = EISDIR;
    } else if (S_ISREG(old.st_mode)) {
        error = write_beside(c, path, old.st_mode, data, length);
    } else {
        error = write_directly(path, data, length);
    }
    if (error)
        fail(c, STATUS_INPUT, "%s: cannot write: %s", shown(path, "standard output"), strerror(error));
}

Graph *network_load(Context *c, const char *path, int batch)
{
    size_t length;
    const char *text = (const char *)file_read(c, path, &length);
    return frontend_load_text(c, text, length, path, batch);
}
