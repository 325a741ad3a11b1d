/* `cnnc new NAME`: a folder with a network, an experiment, a Makefile and a C program.
 * The files stand in runtime/embedded/new/ and are linked into cnnc. */
#define _GNU_SOURCE
#include "runtime.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

EMBED(new_network, "runtime/embedded/new/net.lua")
EMBED(new_experiment, "runtime/embedded/new/train.lua")
EMBED(new_makefile, "runtime/embedded/new/Makefile")
EMBED(new_program, "runtime/embedded/new/main.c")
EMBED(new_gitignore, "runtime/embedded/new/gitignore")

static const struct { const char *name, *text; } files[] = {
    {"@name@.lua", new_network}, {"train.lua", new_experiment}, {"Makefile", new_makefile},
    {"main.c", new_program}, {".gitignore", new_gitignore}};
enum { FILES = sizeof files / sizeof *files };

typedef struct New { Context *c; const char *folder, *name, *cnnc; } New;

/* The text with @name@, @NAME@ and @cnnc@ filled in. */
static const char *fill_in(const New *n, const char *text)
{
    const struct { const char *mark, *value; } marks[] = {
        {"@name@", n->name}, {"@NAME@", n->name}, {"@cnnc@", n->cnnc}};
    Text t = {.c = n->c};
    while (*text) {
        size_t i = 0;
        while (i < 3 && strncmp(text, marks[i].mark, strlen(marks[i].mark)))
            i++;
        if (i == 3) {
            text_add(&t, "%c", *text++);
            continue;
        }
        for (const char *p = marks[i].value; *p; p++)
            text_add(&t, "%c", i == 1 ? toupper((unsigned char)*p) : *p);
        text += strlen(marks[i].mark);
    }
    return t.data;
}

/* How the folder's Makefile calls cnnc: by its whole path unless it is installed. */
static const char *own_name(Context *c)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0 || length == (ssize_t)sizeof path)
        return "cnnc";
    const char *found = format(c, "%.*s", (int)length, path);
    return !strcmp(found, "/usr/bin/cnnc") || !strcmp(found, "/usr/local/bin/cnnc") ? "cnnc" : found;
}

static void write_files(void *argument)
{
    const New *n = argument;
    for (int i = 0; i < FILES; i++) {
        const char *text = fill_in(n, files[i].text);
        file_write(n->c, format(n->c, "%s/%s", n->folder, fill_in(n, files[i].name)), text, strlen(text));
    }
}

void command_new(Context *c, const char *folder)
{
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    const char *path = format(c, "%.*s", (int)length, folder), *slash = strrchr(path, '/');
    New n = {c, path, slash ? slash + 1 : path, own_name(c)};
    bool good = isalpha((unsigned char)n.name[0]);
    for (const char *p = n.name; *p; p++)
        good = good && (isalnum((unsigned char)*p) || *p == '_');
    if (!good)
        fail(c, STATUS_USAGE, "new: found '%s', expected a name of letters, digits and _ as in C", n.name);
    if (mkdir(path, 0777) != 0)
        fail(c, STATUS_INPUT, "%s: cannot be made: %s", path, strerror(errno));
    if (!attempt(c, write_files, &n)) {
        for (int i = 0; i < FILES; i++)
            unlink(format(c, "%s/%s", path, fill_in(&n, files[i].name)));
        rmdir(path);
        fail(c, c->status, "%s", c->message);
    }
    const struct { const char *name, *what; } shown[] = {
        {format(c, "%s.lua", n.name), "the network"}, {"train.lua", "trains it"}, {"main.c", "uses it"}};
    for (int i = 0; i < 3; i++)
        printf("%s/%-*s %s\n", path, (int)strlen(n.name) + 10, shown[i].name, shown[i].what);
    printf("\nNext:  make -C %s run\n", path);
}
