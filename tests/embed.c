#define _GNU_SOURCE
#include "embed.h"

#include <stdlib.h>
#include <string.h>

static void write_samples(void *argument)
{
    Embedded *e = argument;
    Context *c = e->c;
    Network *network;
    Text all = {.c = c}, few = {.c = c};
    e->networks = sample_networks(c, &network);
    for (int i = 0; i < e->networks; i++)
        for (int train = 0; train < 2; train++) {
            Program *p = trial_compile(c, &network[i], train, target_find(e->target),
                                       format(c, "%s%d", train ? "train" : "infer", i), 1);
            const char *header = format(c, "%s.h", p->prefix);
            text_write(format(c, "%s/%s.c", e->folder, p->prefix), print_source(p, header, PRINT_FILE));
            text_write(format(c, "%s/%s", e->folder, header), print_header(p));
            text_add(&all, "#include \"%s.c\"\n", p->prefix);
            if (i % 5 == 0)
                text_add(&few, "#include \"%s.c\"\n", p->prefix);
        }
    text_write(format(c, "%s/all.c", e->folder), all.data);
    text_write(format(c, "%s/few.c", e->folder), few.data);
}

Embedded embed_samples(Context *c, const char *topic, const char *target)
{
    context_init(c);
    Embedded e = {.c = c, .folder = scratch_folder(topic), .target = target};
    ck_assert_msg(attempt(c, write_samples, &e), "%s", c->message);
    return e;
}

char *output_of(const char *command, ...)
{
    char *line;
    va_list args;
    va_start(args, command);
    ck_assert_int_ge(vasprintf(&line, command, args), 0);
    va_end(args);
    Run r = run("%s", line);
    ck_assert_msg(r.status == 0, "%s: exit status %d\n%.3000s%.1000s", line, r.status, r.err, r.out);
    free(line);
    free(r.err);
    return r.out;
}

long macro_value(const char *header, const char *prefix, const char *name)
{
    char *definition;
    ck_assert_int_ge(asprintf(&definition, "#define %s_%s ", prefix, name), 0);
    const char *at = strcasestr(header, definition);
    long value = at ? strtol(at + strlen(definition), NULL, 10) : -1;
    free(definition);
    return value;
}
