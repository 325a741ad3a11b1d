/* `cnnc run`, and `cnnc run --watch`: again whenever the script or one of its networks
 * changes.  The script runs in a process of its own, which tells by a pipe what it reads. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char PIPE[] = "CNNC_WATCH_PIPE";
enum { LOOK_MS = 100 };

typedef struct Seen { const char *path; struct timespec changed; off_t size; ino_t inode; } Seen;

typedef struct Watch {
    Context *c;
    const char *script;
    int args;
    char *const *arg;
    Seen *seen; int files;
    pid_t child;              /* 0: it has ended */
    int pipe;                 /* what it reads comes out here */
    char line[4096];          /* of the pipe, so far */
    size_t length;
} Watch;

/* --------------------------------------------------------------- in the child */

void watch_note(const char *path)
{
    const char *pipe = getenv(PIPE);
    if (!pipe)
        return;
    int file = atoi(pipe);
    if (dprintf(file, "%s\n", path) < 0)
        unsetenv(PIPE);                          /* nobody listens any longer */
}

/* -------------------------------------------------------------- in the parent */

static Seen look(const char *path)
{
    struct stat now = {0};
    if (stat(path, &now) != 0)
        return (Seen){.path = path};
    return (Seen){path, now.st_mtim, now.st_size, now.st_ino};
}

/* Editors replace files: for a moment there may be none, which is no change yet. */
static bool changed(const Seen *before, const Seen *now)
{
    return now->inode && (before->inode != now->inode || before->size != now->size ||
                          before->changed.tv_sec != now->changed.tv_sec ||
                          before->changed.tv_nsec != now->changed.tv_nsec);
}

static void add_file(Watch *w, const char *path)
{
    for (int i = 0; i < w->files; i++)
        if (!strcmp(w->seen[i].path, path))
            return;
    PUSH(w->c, w->seen, w->files) = look(format(w->c, "%s", path));
}

static void take_notes(Watch *w)
{
    ssize_t count;
    while ((count = read(w->pipe, w->line + w->length, sizeof w->line - 1 - w->length)) > 0) {
        w->length += (size_t)count;
        w->line[w->length] = 0;
        for (char *end; (end = strchr(w->line, '\n')) != NULL;) {
            *end = 0;
            add_file(w, w->line);
            w->length -= (size_t)(end + 1 - w->line);
            memmove(w->line, end + 1, w->length + 1);
        }
        if (w->length == sizeof w->line - 1)
            w->length = 0;                       /* no path is that long */
    }
}

static void start(Watch *w)
{
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0)
        fail(w->c, STATUS_INPUT, "--watch: no pipe: %s", strerror(errno));
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    setenv(PIPE, format(w->c, "%d", ends[1]), 1);
    char **argument = NEW_ARRAY(w->c, char *, w->args + 4);
    argument[0] = (char *)"cnnc";
    argument[1] = (char *)"run";
    argument[2] = (char *)w->script;
    memcpy(argument + 3, w->arg, (size_t)w->args * sizeof *argument);
    int error = posix_spawn(&w->child, "/proc/self/exe", NULL, NULL, argument, environ);
    close(ends[1]);
    w->pipe = ends[0];
    w->length = 0;
    if (error)
        fail(w->c, STATUS_INPUT, "--watch: cannot run itself: %s", strerror(error));
}

static void stop(Watch *w)
{
    if (w->child) {
        kill(w->child, SIGTERM);
        waitpid(w->child, NULL, 0);
    }
    take_notes(w);
    close(w->pipe);
    w->child = 0;
}

/* The first file that has changed; all are looked at anew. */
static const char *find_change(Watch *w)
{
    const char *path = NULL;
    for (int i = 0; i < w->files; i++) {
        Seen now = look(w->seen[i].path);
        if (!changed(&w->seen[i], &now))
            continue;
        w->seen[i] = now;
        path = path ? path : now.path;
    }
    return path;
}

static int watch(Context *c, const char *script, int args, char *const *arg)
{
    Watch w = {.c = c, .script = script, .args = args, .arg = arg};
    if (!strcmp(script, "-"))
        fail(c, STATUS_USAGE, "--watch: standard input does not change");
    add_file(&w, script);
    if (!w.seen[0].inode)
        fail(c, STATUS_INPUT, "%s: cannot read: %s", script, strerror(errno));
    for (;;) {
        start(&w);
        const char *path = NULL;
        while (!path) {
            usleep(LOOK_MS * 1000);
            take_notes(&w);
            if (w.child && waitpid(w.child, NULL, WNOHANG) == w.child)
                w.child = 0;
            path = find_change(&w);
        }
        stop(&w);
        fprintf(stderr, "--- %s has changed\n", path);
    }
}

int command_experiment(Context *c, const CommandOptions *o, int args, char *const *arg)
{
    if (o->watch)
        return watch(c, o->network, args, arg);
    if (getenv(PIPE))
        prctl(PR_SET_PDEATHSIG, SIGTERM);        /* no run outlives its watcher */
    return experiment_run(c, o->network, args, arg);
}
