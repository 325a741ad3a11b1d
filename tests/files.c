#include "files.h"

#include "tests.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* Check's fixtures have no argument: what they share has to be static. */
static Context context;
static const char *folder;

void files_setup(void)
{
    context_init(&context);
    /* its own: two runs of the tests may go on at the same time */
    folder = scratch_folder(format(&context, "files-%ld", (long)getpid()));
}

void files_teardown(void)
{
    Run r = run("rm -rf %s", folder);
    run_free(&r);
    context_free(&context);
}

Context *files_context(void)
{
    return &context;
}

char *in_folder(const char *name)
{
    return format(&context, "%s/%s", folder, name);
}

void put(const char *path, const void *data, size_t length)
{
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "%s: cannot be made", path);
    ck_assert_uint_eq(fwrite(data, 1, length, file), length);
    ck_assert_int_eq(fclose(file), 0);
}

void put_gz(const char *path, const void *data, size_t length, const char *mode)
{
    gzFile file = gzopen(path, mode);
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(gzwrite(file, data, (unsigned)length), (int)length);
    ck_assert_int_eq(gzclose(file), Z_OK);
}

void assert_holds(const char *path, const void *data, size_t length)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: is not there", path);
    unsigned char *found = malloc(length + 1);
    size_t got = fread(found, 1, length + 1, file);
    fclose(file);
    bool equal = got == length && memcmp(found, data, length) == 0;
    free(found);
    ck_assert_msg(equal, "%s: other bytes than expected (%zu, expected %zu)", path, got, length);
}

int files_in(const char *path)
{
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    int entries = -2;                      /* . and .. */
    while (readdir(d))
        entries++;
    closedir(d);
    return entries;
}

typedef struct Try { Context *c; Reader *reader; const char *path; } Try;

static void try_body(void *argument)
{
    Try *t = argument;
    t->reader(t->c, t->path);
}

/* In a context of its own; the message of a failure, or "".  No file stays open. */
static void try_reader(Reader *reader, const char *path, char message[sizeof context.message])
{
    Context c;
    int open_files = files_in("/proc/self/fd");
    context_init(&c);
    message[0] = '\0';
    if (!attempt(&c, try_body, &(Try){&c, reader, path})) {
        ck_assert_msg(c.status == STATUS_INPUT, "status %d: %s", c.status, c.message);
        ck_assert_msg(strstr(c.message, path) != NULL, "no file in: %s", c.message);
        strcpy(message, c.message);
    }
    context_free(&c);
    ck_assert_int_eq(files_in("/proc/self/fd"), open_files);
}

void assert_reads(Reader *reader, const char *path)
{
    char message[sizeof context.message];
    try_reader(reader, path, message);
    ck_assert_str_eq(message, "");
}

void assert_refuses(Reader *reader, const char *path, const char *part)
{
    char message[sizeof context.message];
    try_reader(reader, path, message);
    ck_assert_msg(message[0] != '\0', "%s: was read, expected \"%s\"", path, part);
    ck_assert_msg(strstr(message, part) != NULL, "found \"%s\", expected \"%s\"", message, part);
}

void assert_survives(Reader *reader, const void *data, size_t length)
{
    static const unsigned char flip[] = {0x01, 0x10, 0x80, 0xff};
    char message[sizeof context.message];
    const char *path = in_folder("survives");
    put(path, data, length);
    assert_reads(reader, path);
    for (size_t cut = 0; cut < length; cut++) {
        put(path, data, cut);
        try_reader(reader, path, message);
        ck_assert_msg(message[0] != '\0', "cut after %zu of %zu bytes, but read", cut, length);
    }
    unsigned char *changed = malloc(length);
    memcpy(changed, data, length);
    for (size_t i = 0; i < length; i++) {
        for (size_t f = 0; f < sizeof flip; f++) {
            changed[i] ^= flip[f];
            put(path, changed, length);
            try_reader(reader, path, message);
            changed[i] ^= flip[f];
        }
    }
    free(changed);
}
