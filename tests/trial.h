/* A network, values to run it with, and what the reference interpreter makes of them:
 * compiled code is tried against that. */
#ifndef TRIAL_H
#define TRIAL_H

#include "../runtime/runtime.h"
#include "networks.h"

/* What code computes.  Gradients and parameters are in the order of state_dict. */
typedef struct Results {
    float **output;
    float loss, trained_loss;  /* at inference; of backward */
    float *grad, **in_grad;
    float *after;              /* the parameters after backward: running statistics move */
} Results;

typedef struct Trial {
    Context c;                 /* owns the oracle and the values; knows no fault */
    Network network;
    Code *oracle;
    float *flat;               /* parameters */
    void **in;                 /* all inputs, in order of declaration */
    Results expected;
} Trial;

/* Draws values at which no ReLU and no maximum is so near to a tie that rounding could
 * decide it.  NULL, or what went wrong. */
const char *trial_open(Trial *t, const Network *network);
void trial_close(Trial *t);

/* The values, for evaluating graphs made from the network; c: of the memory. */
Bindings trial_bindings(const Trial *t, Context *c);

/* The network once more, in another context, which may have a fault.  However little there
 * is to do, threads share it. */
Program *trial_compile(Context *c, const Network *network, bool train, const Target *target,
                       const char *prefix, int threads);

/* Runs all that code can do; NULL, or the first difference, with seed and text.  c: of
 * the message and the memory. */
const char *trial_train(const Trial *t, Context *c, Code *code);      /* compiled with train and input_grad */
const char *trial_infer(const Trial *t, Context *c, Code *code);      /* compiled for inference alone */

/* What code computes; NULL, or where it is not the same bits as `expected`. */
Results trial_run(const Trial *t, Context *c, Code *code);
const char *trial_same(const Trial *t, Context *c, Code *code, const Results *expected);

/* The largest difference in units of the largest expected entry; not a number, no match. */
typedef struct Distance { double difference, largest; } Distance;
void distance_add(Distance *d, const float *found, const float *expected, int64_t count);
double distance(const Distance *d);

#endif
