/* What helps with a usual mistake, said below the message: the nearest name, or what
 * people who write this mostly want.  Found by the message's own words. */
#include "cnnc.h"

#include <ctype.h>
#include <string.h>

/* -------------------------------------------------------------- the nearest name */

enum { LONGEST = 40 };

/* In small letters, without what is no letter or digit: Conv_2d is conv2d. */
static int plain(char *to, const char *name, size_t length)
{
    int n = 0;
    for (size_t i = 0; i < length && n < LONGEST; i++)
        if (isalnum((unsigned char)name[i]))
            to[n++] = (char)tolower((unsigned char)name[i]);
    return n;
}

/* Letters to change, insert, leave out or swap with their neighbour (Damerau 1964,
 * in the restricted form that edits no place twice). */
static int distance(const char *a, int na, const char *b, int nb)
{
    int cost[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= na; i++)
        for (int k = 0; k <= nb; k++) {
            int least = i == 0 ? k : k == 0 ? i : cost[i - 1][k - 1] + (a[i - 1] != b[k - 1]);
            if (i && k && cost[i - 1][k] + 1 < least)
                least = cost[i - 1][k] + 1;
            if (i && k && cost[i][k - 1] + 1 < least)
                least = cost[i][k - 1] + 1;
            bool swapped = i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1];
            if (swapped && cost[i - 2][k - 2] + 1 < least)
                least = cost[i - 2][k - 2] + 1;
            cost[i][k] = least;
        }
    return cost[na][nb];
}

void nearest_try(Nearest *n, const char *name, size_t length)
{
    char a[LONGEST], b[LONGEST];
    int na = plain(a, n->word, n->word_length), nb = plain(b, name, length), shorter = na < nb ? na : nb;
    if (na == 0 || nb == 0 || length > sizeof n->name - 1)
        return;
    int far = distance(a, na, b, nb), near = na <= 1 ? 0 : na <= 5 ? 1 : na / 3;
    bool begins = shorter >= 3 && !memcmp(a, b, (size_t)shorter);      /* padding and pad, conv and conv2d */
    if (begins && far > 1)
        far = 1;
    if ((far <= near || begins) && (!n->name[0] || far < n->far)) {
        n->far = far;
        snprintf(n->name, sizeof n->name, "%.*s", (int)length, name);
    }
}

/* -------------------------------------------------------------- from the message */

/* The names that the message lists behind `behind`. */
static void try_listed(Nearest *n, const char *message, const char *behind)
{
    const char *list = strstr(message, behind);
    for (const char *at = list ? list + strlen(behind) : ""; *at;) {
        size_t length = 0;
        while (isalnum((unsigned char)at[length]) || at[length] == '_')
            length++;
        if (length)
            nearest_try(n, at, length);
        at += length ? length : 1;
    }
}

/* What a network file can call: a misspelt name is nil for Lua. */
static void try_callable(Nearest *n)
{
    static const char *const names[] = {
        "input", "model", "math", "string", "table", "ipairs", "pairs", "assert", "error", "print", "type",
        "load_model", "data", "sgd", "adam", "arg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        nearest_try(n, names[i], strlen(names[i]));
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->method[i].name; i++)
            nearest_try(n, (*op)->method[i].name, strlen((*op)->method[i].name));
}

static const char *advise_name(Context *c, const char *message)
{
    static const struct { const char *begins, *lists; char end; } kinds[] = {
        {"unknown option \"", "it knows ", '"'}, {"a tensor has no \"", "it has ", '"'},
        {"a nil value (global '", NULL, '\''}, {"a nil value (method '", NULL, '\''}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *word = strstr(message, kinds[i].begins);
        if (!word)
            continue;
        word += strlen(kinds[i].begins);
        Nearest n = {.word = word, .word_length = strcspn(word, "\"'")};
        if (kinds[i].lists)
            try_listed(&n, message, kinds[i].lists);
        else
            try_callable(&n);
        return n.name[0] && strncmp(n.name, word, n.word_length + 1) ? format(c, "did you mean '%s'?", n.name)
                                                                       : NULL;
    }
    return NULL;
}

/* A message has the first, and the second if there is one; `summary`, not `run`, or the reverse. */
static const struct { const char *has, *too; const char *advice; } usual[] = {
    {"attempt to call a nil value (global 'input')", NULL,
     "a network file is no experiment: cnnc summary FILE, or load_model(FILE) in an experiment"},
    {"a nil value (global 'data')", NULL, "experiments read data and train: cnnc run FILE"},
    {"a nil value (global 'load_model')", NULL, "experiments load networks: cnnc run FILE"},
    {"a nil value (global 'arg')", NULL, "experiments have arguments: cnnc run FILE ARG..."},
    {"a nil value (global 'io')", NULL, "a network file reaches no files; an experiment does: cnnc run FILE"},
    {"a nil value (global 'os')", NULL, "a network file reaches no process; experiments do: cnnc run FILE"},
    {"a nil value (global 'require')", NULL, "a network is one file; blocks are functions in it"},
    {"a nil value (global 'load')", NULL, "a network file runs no other text"},
    {"a nil value (field 'random')", NULL, "a file is always the same network; --seed draws its parameters"},
    {"does not fit the", "input: ", "pad = \"same\" keeps the size; or take a smaller kernel"},
    {"expected channels x", NULL, "a picture is input { channels, height, width }, and flatten() ends that"},
    {"spatial dimensions behind the channels", NULL, "a picture is input { channels, height, width }"},
    {"expected a row of features", NULL, "x:flatten():linear { ... }"},
    {"do not broadcast", NULL, "one number for each channel: reshape { channels, 1, 1 }"},
    {"is missing (window size)", NULL, "kernel = 3 is a usual size"},
    {"is missing (output channels)", NULL, "conv2d { 16, kernel = 3 } has 16 filters, each makes a channel"},
    {"is missing (neurons)", NULL, "linear { 10 } has ten neurons"},
    {"cannot become", NULL, "x.shape shows what there is"},
    {"needs a loss", NULL, "return model { output = y, loss = y:cross_entropy() }"},
};

const char *advice(Context *c)
{
    const char *message = c->message;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (strstr(message, usual[i].has) && (!usual[i].too || strstr(message, usual[i].too)))
            return usual[i].advice;
    return advise_name(c, message);
}
