/* The documents tell the truth: every fenced block of README.md and docs/ is tried,
 * and the reference of operations is what the op table says.
 *
 * A document's commands run in a fresh copy of the project.  The word behind the
 * language of a block says what becomes of it:
 *
 *   file=NAME    is written to that file
 *   run          commands, which must succeed; run=N: must end with status N
 *   output       what the last commands printed, errors too, to the letter
 *   similar      the same, but numbers may differ: they depend on the machine
 *   part=NAME    lines that stand in that file, one behind the other
 *   shown        is only shown (takes long, or needs the network)
 *
 * A line "..." in output, similar and part stands for lines left out. */
#define _GNU_SOURCE
#include "tests.h"

#include <ctype.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../compiler/cnnc.h"

static const char *const documents[] = {
    "README.md", "docs/language.md", "docs/embedding.md", "docs/architecture.md", "docs/performance.md",
    "docs/embedded.md",
    "docs/1-images.md", "docs/2-filters.md", "docs/3-architecture.md", "docs/4-backpropagation.md",
    "docs/5-beyond.md", "docs/6-training.md"
};
enum { DOCUMENTS = sizeof documents / sizeof *documents };

/* ---------------------------------------------------------------------- blocks */

typedef struct Block {
    const char *document;
    int line;                 /* of its fence */
    char word[16], value[100];
    char *text;
} Block;

typedef struct Reader { const char *folder; Run last; int blocks; } Reader;

static void in_copy(char *path, size_t size, const Reader *r, const char *name)
{
    ck_assert_int_lt(snprintf(path, size, "%s/%s", r->folder, name), (int)size);
}

/* One line of text, without its end; NULL behind the last one. */
static char *next_line(char **rest)
{
    return *rest && **rest ? strsep(rest, "\n") : NULL;
}

/* Every number becomes #, blanks in a row one: what is left does not depend on the
 * machine. */
static void blur(char *line)
{
    char *to = line;
    for (const char *at = line; *at;) {
        bool first = at == line || isspace((unsigned char)at[-1]);
        if (isdigit((unsigned char)at[*at == '-' && first])) {
            char *end;
            strtod(at, &end);
            at = end;
            *to++ = '#';
        } else if (isspace((unsigned char)*at)) {
            at += strspn(at, " \t");
            *to++ = ' ';
        } else {
            *to++ = *at++;
        }
    }
    *to = 0;
}

typedef struct Lines { char **line; int count; } Lines;

/* Without blanks at the ends of lines and blank lines at the end. */
static Lines split(const char *text, bool blurred)
{
    Lines l = {0};
    char *rest = strdup(text), *line;
    while ((line = next_line(&rest))) {
        for (size_t n = strlen(line); n && line[n - 1] == ' '; n--)
            line[n - 1] = 0;
        l.line = realloc(l.line, (size_t)(l.count + 1) * sizeof *l.line);
        if (blurred)
            blur(line);
        l.line[l.count++] = line;
    }
    while (l.count && !*l.line[l.count - 1])
        l.count--;
    return l;
}

typedef struct Comparison {
    Lines shown, found;
    bool whole;               /* shown begins and ends where found does */
    int furthest;             /* the first line of shown that could not be placed */
} Comparison;

/* Whether shown, from line i, stands in found, from line k; loose: or further down. */
static bool stands(Comparison *c, int i, int k, bool loose)
{
    const Lines *shown = &c->shown, *found = &c->found;
    c->furthest = i > c->furthest ? i : c->furthest;
    if (i == shown->count)
        return loose || !c->whole || k == found->count;
    if (!strcmp(shown->line[i], "..."))
        return stands(c, i + 1, k, true);
    for (int last = loose ? found->count - 1 : k; k <= last && k < found->count; k++)
        if (!strcmp(shown->line[i], found->line[k]) && stands(c, i + 1, k + 1, false))
            return true;
    return false;
}

static void compare(const Block *b, const char *found, bool blurred, bool whole)
{
    Comparison c = {split(b->text, blurred), split(found, blurred), .whole = whole};
    bool same = stands(&c, 0, 0, !whole);
    ck_assert_msg(same, "%s:%d: %s\nfound:\n%s", b->document, b->line + 1 + c.furthest,
                  c.furthest < c.shown.count ? c.shown.line[c.furthest] : "(there is more)", found);
}

/* As if typed in the copy; a status other than 0 is wanted where the block says so. */
static void run_block(Reader *r, const Block *b)
{
    run_free(&r->last);
    r->last = run("cd %s && export MAKEFLAGS= && set -e && exec 2>&1\n%s", r->folder, b->text);
    ck_assert_msg(r->last.status == atoi(b->value), "%s:%d: exit status %d: %s", b->document, b->line,
                  r->last.status, r->last.out);
}

static void check_block(Reader *r, const Block *b)
{
    char path[300];
    if (!strcmp(b->word, "file")) {
        in_copy(path, sizeof path, r, b->value);
        text_write(path, b->text);
    } else if (!strcmp(b->word, "run")) {
        run_block(r, b);
    } else if (!strcmp(b->word, "output") || !strcmp(b->word, "similar")) {
        ck_assert_msg(r->last.out != NULL, "%s:%d: output of what?", b->document, b->line);
        compare(b, r->last.out, b->word[0] == 's', true);
    } else if (!strcmp(b->word, "part")) {
        in_copy(path, sizeof path, r, b->value);
        char *text = text_read(path);
        ck_assert_msg(text != NULL, "%s:%d: no file %s", b->document, b->line, b->value);
        compare(b, text, false, false);
        free(text);
    } else {
        ck_assert_msg(!strcmp(b->word, "shown"), "%s:%d: a block that is '%s', which means nothing",
                      b->document, b->line, b->word);
    }
    r->blocks++;
}

/* Takes the lines up to the closing fence. */
static char *block_text(char **rest, int *number)
{
    char *text, *line;
    size_t length;
    FILE *memory = open_memstream(&text, &length);
    while ((line = strsep(rest, "\n")) && strcmp(line, "```")) {
        fprintf(memory, "%s\n", line);
        ++*number;
    }
    ++*number;
    fclose(memory);
    return text;
}

static void check_document(Reader *r, const char *document)
{
    char *text = text_read(document), *rest = text, *line;
    ck_assert_msg(text != NULL, "%s: not there", document);
    for (int number = 1; (line = strsep(&rest, "\n")); number++) {
        if (strncmp(line, "```", 3))
            continue;
        Block b = {.document = document, .line = number};
        int read = sscanf(line, "```%*s %15[a-z]=%99s", b.word, b.value);
        ck_assert_msg(read >= 1, "%s:%d: a block that does not say what it is", document, number);
        b.text = block_text(&rest, &number);
        check_block(r, &b);
        free(b.text);
    }
    free(text);
}

START_TEST(documents_tell_the_truth)
{
    Reader r = {.folder = scratch_folder("readme")};
    Run copy = run("cp -a Makefile compiler runtime graphs %s && mkdir %s/build && "
                   "cp -a build/.ready build/cnnc build/family build/compiler build/runtime build/leaves "
                   "%s/build", r.folder, r.folder, r.folder);
    ck_assert_msg(copy.status == 0, "%s", copy.err);
    run_free(&copy);
    check_document(&r, documents[_i]);
    Run fences = run("grep -c '^```' %s", documents[_i]);
    ck_assert_int_eq(2 * r.blocks, atoi(fences.out));
    run_free(&fences);
    run_free(&r.last);
}
END_TEST

START_TEST(every_document_is_read)
{
    glob_t found;
    glob("README.md", 0, NULL, &found);
    glob("docs/*.md", GLOB_APPEND, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        bool listed = false;
        for (int k = 0; k < DOCUMENTS; k++)
            listed |= !strcmp(documents[k], found.gl_pathv[i]);
        ck_assert_msg(listed, "%s is in no test", found.gl_pathv[i]);
    }
    globfree(&found);
}
END_TEST

/* ------------------------------------------------------- the reference of operations */

/* On a mismatch, what the section has to be is left in build/test/tmp/readme. */
START_TEST(reference_is_the_op_table)
{
    static const char begin[] = "<!-- operations -->\n", end[] = "<!-- end of operations -->\n";
    Context c;
    context_init(&c);
    Text t = {.c = &c};
    reference_markdown(&t);
    char *text = text_read("docs/language.md"), path[300];
    ck_assert_ptr_nonnull(text);
    char *from = strstr(text, begin), *to = strstr(text, end);
    ck_assert_msg(from && to, "docs/language.md: the marks around the operations are missing");
    from += strlen(begin);
    bool same = (size_t)(to - from) == t.length && !memcmp(from, t.data, t.length);
    if (!same) {
        snprintf(path, sizeof path, "%s/operations.md", scratch_folder("readme"));
        text_write(path, t.data);
    }
    ck_assert_msg(same, "docs/language.md: the operations are not those of the op table, see %s", path);
    free(text);
    context_free(&c);
}
END_TEST

Suite *readme_suite(void)
{
    Suite *s = suite_create("readme");
    TCase *t = tcase_create("documents");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, documents_tell_the_truth, 0, DOCUMENTS);
    tcase_add_test(t, every_document_is_read);
    tcase_add_test(t, reference_is_the_op_table);
    suite_add_tcase(s, t);
    return s;
}
