/* Networks to try the compiler on: random ones, and the samples of the op table. */
#ifndef NETWORKS_H
#define NETWORKS_H

#include "../compiler/cnnc.h"

typedef struct Network {
    const char *text;          /* a Lua file with a loss */
    int batch;
    uint64_t seed;             /* of the text if it is random, and of the values to run it with */
} Network;

/* A network of two to twelve layers.  The same seed, the same text. */
Network random_network(Context *c, uint64_t seed);
/* Every sample of every op, with a loss behind those that have none. */
int sample_networks(Context *c, Network **network);
/* `count` random networks behind the samples. */
int all_networks(Context *c, int count, Network **network);

/* $CNNC_SEED, or a fixed one: random network i has the seed base_seed() + i. */
uint64_t base_seed(void);

#endif
