/* For tests of generated files as a program takes them in: many of them in a folder, and the
 * commands that compile and look at them. */
#ifndef EMBED_H
#define EMBED_H

#include "tests.h"
#include "trial.h"

/* Every sample of every op, for inference as infer0.c, infer1.c ... and for training as train0.c ...;
 * "all.c" includes them all, "few.c" those of every fifth network. */
typedef struct Embedded {
    Context *c;                /* opened here; the test frees it */
    const char *folder, *target;
    int networks;
} Embedded;
Embedded embed_samples(Context *c, const char *topic, const char *target);

/* What a command prints that must succeed; freed by the caller. */
char *output_of(const char *command, ...) __attribute__((format(printf, 1, 2)));

/* The number that a header gives a macro of a prefix; -1: none. */
long macro_value(const char *header, const char *prefix, const char *name);

#endif
