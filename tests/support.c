/* Files, folders and commands for the suites. */
#define _GNU_SOURCE
#include "tests.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char *text_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *text = NULL, part[4096];
    size_t length, count;
    FILE *memory = open_memstream(&text, &length);
    while ((count = fread(part, 1, sizeof part, file)) > 0)
        fwrite(part, 1, count, memory);
    fclose(memory);                              /* ends the text with a zero byte */
    fclose(file);
    return text;
}

void text_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file && fputs(text, file) >= 0 && fclose(file) == 0, "cannot write %s", path);
}

static char *temporary(void)
{
    char *path = strdup("/tmp/cnnc-test-XXXXXX");
    int file = mkstemp(path);
    ck_assert_msg(file >= 0, "no temporary file");
    close(file);
    return path;
}

static char *take(char *path)
{
    char *text = text_read(path);
    unlink(path);
    free(path);
    return text;
}

Run run(const char *command, ...)
{
    char *line, *whole, *out = temporary(), *err = temporary();
    va_list args;
    va_start(args, command);
    ck_assert_int_ge(vasprintf(&line, command, args), 0);
    va_end(args);
    ck_assert_int_ge(asprintf(&whole, "{ %s\n} >%s 2>%s </dev/null", line, out, err), 0);
    int status = system(whole);
    Run r = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), take(out), take(err)};
    free(line);
    free(whole);
    return r;
}

void run_free(Run *r)
{
    free(r->out);
    free(r->err);
    *r = (Run){0};
}

const char *scratch_folder(const char *topic)
{
    static char path[256];                       /* a test process uses one folder at a time */
    snprintf(path, sizeof path, "build/test/tmp/%s", topic);
    Run r = run("rm -rf %s && mkdir -p %s", path, path);
    ck_assert_int_eq(r.status, 0);
    run_free(&r);
    return path;
}
