/* Files that change together or not at all. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Former {
    const char *path;         /* with symbolic links followed; NULL: nothing to restore */
    const char *saved;        /* a second name of the former file; NULL: there was none */
} Former;

/* A second link costs no space, so that restoring cannot fail on a full disk;
 * where the file system has no links a copy must do. */
static Former remember(Context *c, const char *path)
{
    struct stat old;
    bool exists = path && stat(path, &old) == 0;
    if (!path || !strcmp(path, "-") || (exists && !S_ISREG(old.st_mode)))
        return (Former){NULL, NULL};             /* a stream or device has no former state */
    if (!exists)
        return (Former){path, NULL};
    char *real = realpath(path, NULL);
    const char *file = format(c, "%s", real ? real : path);
    free(real);
    const char *saved = format(c, "%s.cnnc-%ld.old", file, (long)getpid());
    if (link(file, saved) != 0) {
        size_t length;
        const void *data = file_read(c, file, &length);
        file_write(c, saved, data, length);
    }
    return (Former){file, saved};
}

static void restore(const Former *former)
{
    if (former->path && former->saved)
        rename(former->saved, former->path);     /* does nothing when both are still one file */
    else if (former->path)
        unlink(former->path);
}

typedef struct Together {
    Context *c;
    int count, remembered;
    const char *const *path;
    Former *former;
    void (*body)(void *);
    void *argument;
} Together;

static void remember_and_write(void *argument)
{
    Together *t = argument;
    for (; t->remembered < t->count; t->remembered++)
        t->former[t->remembered] = remember(t->c, t->path[t->remembered]);
    t->body(t->argument);
}

void write_together(Context *c, int count, const char *const *path, void (*body)(void *), void *argument)
{
    Together t = {.c = c, .count = count, .path = path, .body = body, .argument = argument};
    t.former = NEW_ARRAY(c, Former, count);
    bool done = attempt(c, remember_and_write, &t);
    for (int i = 0; i < t.remembered; i++) {
        if (!done)
            restore(&t.former[i]);
        if (t.former[i].saved)
            unlink(t.former[i].saved);
    }
    if (!done)
        fail(c, c->status, "%s", c->message);
}
