/* Which kernels of a function are one C function.  Kernels of equal geometry differ in the
 * names of their arguments alone: called by their part, one text serves all of them.
 * Kernels of pack, which need no constants to be fast, may differ in numbers too: these
 * become arguments. */
#include "print.h"

#include <ctype.h>
#include <string.h>

typedef struct Word { const char *at; int length; bool number; } Word;
typedef struct Words { Word *word; int words; } Words;

/* The kernels with the text of kernel `first`, but for numbers. */
typedef struct Group {
    const Words *words;       /* of all kernels */
    const int *first;         /* of all kernels: the first of their group */
    int kernels;
    int leader;
} Group;

/* A text's names and numbers, and the signs between them one by one; where lines break
 * is of no account. */
static Words split(Context *c, const char *text)
{
    Words w = {0};
    while (*(text += strspn(text, " \n"))) {
        int length = 0;
        while (isalnum((unsigned char)text[length]) || strchr("_.", text[length]))
            length++;
        bool number = length && (int)strspn(text, "0123456789") == length;
        length += length == 0;
        PUSH(c, w.word, w.words) = (Word){text, length, number};
        text += length;
    }
    return w;
}

static bool same_word(const Word *a, const Word *b)
{
    return a->length == b->length && !memcmp(a->at, b->at, (size_t)a->length);
}

static bool alike(const Words *a, const Words *b, bool but_for_numbers)
{
    if (a->words != b->words)
        return false;
    for (int i = 0; i < a->words; i++)
        if (!same_word(&a->word[i], &b->word[i]) &&
            !(but_for_numbers && a->word[i].number && b->word[i].number))
            return false;
    return true;
}

/* Whether words i and j of each member are the same; words i of all if j is -1. */
static bool agree(const Group *g, int i, int j)
{
    for (int k = g->leader; k < g->kernels; k++)
        if (g->first[k] == g->leader &&
            !same_word(&g->words[k].word[i], j < 0 ? &g->words[g->leader].word[i] : &g->words[k].word[j]))
            return false;
    return true;
}

/* The leader's text with a name for every number that differs in the group; numbers
 * that go together have one name.  argument: the words that it stands for. */
static const char *generalise(Context *c, const Group *g, const char *text, int **argument, int *arguments)
{
    const Words *w = &g->words[g->leader];
    Text out = {.c = c}, list = {.c = c};
    const char *body = strchr(text, ')'), *rest = body;
    for (int i = 0; i < w->words; i++) {
        if (agree(g, i, -1))
            continue;
        int n = 0;
        while (n < *arguments && !agree(g, i, (*argument)[n]))
            n++;
        const char *name = format(c, n ? "size%d" : "size", n + 1);
        if (n == *arguments) {
            PUSH(c, *argument, *arguments) = i;
            printer_argument_list(&list, 4, format(c, "int %s", name));
        }
        text_add(&out, "%.*s%s", (int)(w->word[i].at - rest), rest, name);
        rest = w->word[i].at + w->word[i].length;
    }
    if (!*arguments)
        return text;
    return format(c, "%.*s,\n    %s%s%s", (int)(body - text), text, list.data, out.data, rest);
}

static void merge(Context *c, const Group *g, const char *text, Share *share)
{
    int *argument = NULL, arguments = 0;
    text = generalise(c, g, text, &argument, &arguments);
    for (int k = g->leader; k < g->kernels; k++) {
        if (g->first[k] != g->leader)
            continue;
        share[k].text = text;
        share[k].number = NEW_ARRAY(c, const char *, arguments);
        share[k].numbers = arguments;
        for (int i = 0; i < arguments; i++) {
            const Word *w = &g->words[k].word[argument[i]];
            share[k].number[i] = format(c, "%.*s", w->length, w->at);
        }
    }
}

Share *print_shares(Context *c, const Leaves *like, const char *prefix, const Function *f)
{
    Share *share = NEW_ARRAY(c, Share, f->kernels);
    Words *words = NEW_ARRAY(c, Words, f->kernels);
    const char **text = NEW_ARRAY(c, const char *, f->kernels);
    int *first = NEW_ARRAY(c, int, f->kernels);
    /* The file's leaves are numbered when it is printed. */
    Leaves trial = {.hosted = like->hosted, .strips = like->strips};
    for (int k = 0; k < f->kernels; k++) {
        text[k] = print_kernel(&trial, c, prefix, f, f->kernel[k], true);
        words[k] = split(c, text[k]);
        while (first[k] < k && !alike(&words[first[k]], &words[k], f->packs))
            first[k]++;
        share[first[k]].others += first[k] < k;
    }
    for (int k = 0; k < f->kernels; k++) {
        share[k].by_part = share[first[k]].others > 0;
        if (f->packs && share[k].others)
            merge(c, &(Group){words, first, f->kernels, k}, text[k], share);
    }
    return share;
}
