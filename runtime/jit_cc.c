/* Compiles C text with the system's compiler: $CC, or cc.
 *
 * All work happens in a fresh directory under $TMPDIR, which is gone when these
 * functions return or fail.  No shell takes part, so no file name needs quoting. */
#define _GNU_SOURCE
#include "runtime.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ------------------------------------------------------ the working directory */

static const char *directory_make(Context *c)
{
    const char *parent = getenv("TMPDIR");
    char *path = format(c, "%s/cnnc-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(path))
        fail(c, STATUS_INPUT, "%s: cannot make a temporary directory: %s", path, strerror(errno));
    return path;
}

/* Removes the directory and the plain files in it. */
static void directory_remove(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(path);
}

/* ------------------------------------------------------------------- programs */

typedef struct Command { Context *c; char **word; int words; } Command;

static void command_add(Command *command, const char *word)
{
    PUSH(command->c, command->word, command->words) = word ? format(command->c, "%s", word) : NULL;
}

/* Flags and $CC may hold several words ("ccache gcc"): separated by blanks. */
static void command_add_words(Command *command, const char *words)
{
    char *copy = format(command->c, "%s", words ? words : ""), *rest;
    for (char *word = strtok_r(copy, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest))
        command_add(command, word);
}

/* The first lines that the program wrote; closes the log. */
static const char *log_take(Context *c, int log)
{
    char text[1024];
    ssize_t length = pread(log, text, sizeof text, 0);
    close(log);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    return format(c, "%.*s", length > 0 ? (int)length : 0, text);
}

/* Starts the command with its messages going to the log. */
static pid_t command_start(Command *command, int log)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, log, 1);
    posix_spawn_file_actions_adddup2(&files, log, 2);
    pid_t child;
    int error = posix_spawnp(&child, command->word[0], &files, NULL, command->word, environ);
    posix_spawn_file_actions_destroy(&files);
    if (error) {
        close(log);
        fail(command->c, STATUS_INPUT, "%s: cannot be run: %s", command->word[0], strerror(error));
    }
    return child;
}

/* Runs the command to its end.  `ours`: it is our own text that it works on, so its
 * refusal is our fault, unless the disk is full; the log is in memory and tells. */
static void command_run(Command *command, bool ours)
{
    Context *c = command->c;
    const char *name = command->word[0];
    command_add(command, NULL);
    int log = memfd_create("cnnc-log", MFD_CLOEXEC), status = 0, error = 0;
    if (log < 0)
        fail(c, STATUS_INPUT, "%s: no room for its messages: %s", name, strerror(errno));
    pid_t child = command_start(command, log);
    while (waitpid(child, &status, 0) < 0 && (error = errno) == EINTR)
        error = 0;
    const char *says = log_take(c, log);
    if (error)
        fail(c, STATUS_INPUT, "%s: lost: %s", name, strerror(error));
    if (WIFSIGNALED(status))
        fail(c, STATUS_INPUT, "%s: killed by signal %d", name, WTERMSIG(status));
    bool full = strstr(says, strerror(ENOSPC)) != NULL;
    if (WEXITSTATUS(status))
        fail(c, ours && !full ? STATUS_FAULT : STATUS_INPUT, "%s: exit status %d:\n%s", name,
             WEXITSTATUS(status), says);
}

/* ------------------------------------------------------------------ compiling */

typedef struct Build {
    Context *c;
    const char *directory;
    const Files *files;
    const Target *target;
    int threads;
    const char *kind;             /* "o", "a", "so" */
    const char *output;           /* cc_build: the file to write */
    int64_t code_bytes;           /* cc_code_bytes: what is found */
    const char *largest;
    Code *code;                   /* jit_cc_open: the code to bind */
} Build;

static void compile_to(Build *b, const char *made)
{
    Context *c = b->c;
    const char *source = format(c, "%s/net.c", b->directory), *compiler = getenv("CC");
    const Files *f = b->files;
    file_write(c, source, f->source, strlen(f->source));
    if (f->header)
        file_write(c, format(c, "%s/%s", b->directory, f->header_name), f->header, strlen(f->header));
    if (f->weights)
        file_write(c, format(c, "%s/%s", b->directory, f->weights_name), f->weights, f->weights_bytes);

    Command command = { .c = c };
    if (b->target->here)
        command_add_words(&command, compiler && *compiler ? compiler : "cc");
    else
        command_add_words(&command, target_compiler(b->target));
    command_add_words(&command, format(c, "%s -std=gnu11", target_optimise(b->target)));
    command_add_words(&command, b->target->hosted ? "-fPIC" : NULL);
    command_add_words(&command, b->target->cflags);
    if (b->threads > 1)
        command_add(&command, "-fopenmp");
    command_add(&command, format(c, "-I%s", b->directory));      /* for the assembler's .incbin */
    command_add(&command, strcmp(b->kind, "so") ? "-c" : "-shared");
    command_add(&command, "-o");
    command_add(&command, made);
    command_add(&command, source);
    if (!strcmp(b->kind, "so"))
        command_add(&command, "-lm");
    command_run(&command, true);
}

static void build(void *argument)
{
    Build *b = argument;
    Context *c = b->c;
    const char *made = format(c, "%s/net.%s", b->directory, !strcmp(b->kind, "so") ? "so" : "o");
    compile_to(b, made);
    if (!strcmp(b->kind, "a")) {
        const char *archive = format(c, "%s/net.a", b->directory);
        Command ar = { .c = c };
        command_add_words(&ar, b->target->here ? "ar" : b->target->archiver);
        command_add(&ar, "rcsD");                /* D: the same bytes every time */
        command_add(&ar, archive);
        command_add(&ar, made);
        command_run(&ar, false);
        made = archive;
    }
    size_t length;
    const void *data = file_read(c, made, &length);
    file_write(c, b->output, data, length);
}

static void cleanup(void *argument)
{
    directory_remove(((Build *)argument)->directory);
}

/* Runs the body with b->directory made for it, and removes that in any case. */
static void in_directory(Build *b, void (*body)(void *))
{
    b->directory = directory_make(b->c);
    guard(b->c, body, cleanup, b);
}

void cc_build(Context *c, const Files *files, const Options *o, const char *kind, const char *output)
{
    bool shared = !strcmp(kind, "so"), team = o->threads > 1;
    if (!o->target->hosted && (shared || team))
        fail(c, STATUS_INPUT, "%s: target %s has no %s", output, o->target->name,
             shared ? "shared libraries: expected .o or .a" : "threads: found --threads");
    in_directory(&(Build){ .c = c, .files = files, .target = o->target, .threads = o->threads, .kind = kind,
                           .output = output }, build);
}

static void measure(void *argument)
{
    Build *b = argument;
    const char *made = format(b->c, "%s/net.o", b->directory);
    compile_to(b, made);
    b->code_bytes = code_bytes(b->c, made, &b->largest);
}

int64_t cc_code_bytes(Context *c, const Files *files, const Options *o, const char **largest)
{
    Build b = { .c = c, .files = files, .target = o->target, .threads = o->threads, .kind = "o" };
    in_directory(&b, measure);
    *largest = b.largest;
    return b.code_bytes;
}

/* -------------------------------------------------------------------- loading */

static void *symbol(Library *l, const char *name)
{
    return dlsym(l->handle, name);
}

static void unload(Library *l)
{
    dlclose(l->handle);
}

static void load(void *argument)
{
    Build *b = argument;
    const char *made = format(b->c, "%s/net.so", b->directory);
    compile_to(b, made);
    /* OpenMP's threads outlive a call: its library must not go with ours. */
    void *handle = dlopen(made, RTLD_NOW | RTLD_LOCAL | (b->threads > 1 ? RTLD_NODELETE : 0));
    if (!handle)
        fail(b->c, STATUS_INPUT, "%s", dlerror());
    code_bind(b->code, (Library){ symbol, unload, handle }, NULL);      /* its threads are OpenMP's */
}

void jit_cc_open(Code *code)
{
    Program *p = code->program;
    Files files = { .source = print_source(p, NULL, PRINT_LIBRARY) };
    Build b = { .c = p->c, .files = &files, .target = p->options.target, .threads = p->options.threads,
                .kind = "so", .code = code };
    if (b.threads > 1)                           /* for libgomp, read when it is loaded: a processor each */
        setenv("OMP_PROC_BIND", "true", 0);
    double start = milliseconds();
    in_directory(&b, load);
    code->compile_ms = milliseconds() - start;
}
