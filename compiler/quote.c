/* The line that a message speaks of, with a caret under the place.
 *
 * Lua knows lines but no columns.  The column is found by what the message names: the
 * operation, an option of it, a value in quotes.  What is not found is not guessed: the
 * caret then stands under the first character of the line. */
#include "cnnc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 30, MOST_COLUMNS = 96 };

/* Lua source from the line that the message names. */
typedef struct Search {
    const char *source, *begin, *end;    /* begin, end: of the lines searched */
    const char *place;                   /* what was found; NULL: nothing */
    int width;                           /* of it */
} Search;

static bool is_word(char ch)
{
    return isalnum((unsigned char)ch) || ch == '_';
}

static bool word_at(const Search *s, const char *at, const char *word, size_t length)
{
    if ((size_t)(s->end - at) < length || memcmp(at, word, length))
        return false;
    if (!is_word(*word))
        return true;                             /* an operator or a symbol */
    bool begins = at == s->source || !is_word(at[-1]);
    return begins && (at + length == s->end || !is_word(at[length]));
}

/* Behind a comment that begins at `at`, else `at`. */
static const char *skip_comment(const Search *s, const char *at)
{
    if (s->end - at < 2 || memcmp(at, "--", 2))
        return at;
    const char *newline = memchr(at, '\n', (size_t)(s->end - at));
    return newline ? newline : s->end;
}

/* The first such word in from .. to, outside comments. */
static const char *find_word(const Search *s, const char *from, const char *to, const char *word,
                             size_t length)
{
    for (const char *at = from; at < to; at++) {
        at = skip_comment(s, at);
        if (at < to && word_at(s, at, word, length))
            return at;
    }
    return NULL;
}

static const char *line_end(const Search *s, const char *at)
{
    const char *newline = memchr(at, '\n', (size_t)(s->end - at));
    return newline ? newline : s->end;
}

/* The call that comes as number `repeats` of those of this name on its line. */
static const char *find_call(const Search *s, const char *name, size_t length, int repeats)
{
    const char *first = find_word(s, s->begin, s->end, name, length);
    if (!first)
        return NULL;
    const char *end = line_end(s, first), *at = first;
    int calls = 0;
    for (const char *next = first; next; next = find_word(s, next + length, end, name, length))
        calls++;
    for (int i = repeats % calls; i > 0; i--)
        at = find_word(s, at + length, end, name, length);
    return at;
}

/* The end of the brackets behind a call's name; without any, of the line. */
static const char *call_end(const Search *s, const char *at)
{
    const char *open = at;
    while (open < s->end && isspace((unsigned char)*open))
        open++;
    if (open == s->end || !strchr("({", *open))
        return line_end(s, at);
    int depth = 0;
    for (const char *p = open; p < s->end; p++) {
        p = skip_comment(s, p);
        depth += p < s->end && strchr("({[", *p) ? 1 : 0;
        depth -= p < s->end && strchr(")}]", *p) ? 1 : 0;
        if (depth == 0)
            return p;
    }
    return s->end;
}

static bool found(Search *s, const char *place, size_t width)
{
    if (place) {
        s->place = place;
        s->width = (int)width;
    }
    return place != NULL;
}

/* The next text in quotes of the message, 'x' or "x"; NULL: none. */
static const char *next_quoted(const char *message, size_t *length)
{
    for (const char *open = message; (open = strpbrk(open, "'\"")) != NULL; open++) {
        const char *close = strchr(open + 1, *open);
        if (close && close > open + 1) {
            *length = (size_t)(close - open - 1);
            return open + 1;
        }
    }
    return NULL;
}

/* What the message has in quotes. */
static bool find_quoted(Search *s, const char *message, const char *from, const char *to)
{
    size_t length;
    for (const char *rest = message, *name; (name = next_quoted(rest, &length)); rest = name + length + 1)
        if (found(s, find_word(s, from, to, name, length), length))
            return true;
    return false;
}

/* The option that the message begins with, as it is given: kernel = 5. */
static bool find_option(Search *s, const char *message, const char *from, const char *to)
{
    size_t length = 0;
    while (is_word(message[length]))
        length++;
    for (const char *at = from; length && (at = find_word(s, at, to, message, length)); at += length) {
        const char *sign = at + length;
        while (sign < to && *sign == ' ')
            sign++;
        if (sign < to && *sign == '=')
            return found(s, at, length);
    }
    return false;
}

/* Operators are called by their ops' names. */
static const char *called_by(const char *name, size_t *length)
{
    static const char signs[] = "+-*/";
    for (const char *sign = signs; *sign; sign++) {
        const char *op = op_arithmetic(*sign)->name;
        if (strlen(op) == *length && !memcmp(op, name, *length)) {
            *length = 1;
            return sign;
        }
    }
    return name;
}

static void find_place(Search *s, const char *message, int repeats)
{
    const char *near = strstr(message, " near '");
    if (near) {                                  /* a syntax error names what it could not read */
        const char *token = near + strlen(" near '"), *end = strrchr(token, '\'');
        size_t width = end ? (size_t)(end - token) : 0;
        if (width && found(s, find_word(s, s->begin, s->end, token, width), width))
            return;
    }
    size_t length = 0;
    while (is_word(message[length]))
        length++;
    if (length && message[length] == ':') {
        const char *rest = message + length + 1 + (message[length + 1] == ' ');
        const char *name = called_by(message, &length), *call = find_call(s, name, length, repeats);
        const char *end = call ? call_end(s, call + length) : NULL;
        if (call && (find_option(s, rest, call, end) || find_quoted(s, rest, call + length, end)))
            return;
        if (found(s, call, length))
            return;
    }
    find_quoted(s, message, s->begin, line_end(s, s->begin));
}

/* ---------------------------------------------------------------------- showing */

/* Columns from `from` to `to`: bytes that begin a UTF-8 character. */
static int columns(const char *from, const char *to)
{
    int count = 0;
    for (; from < to; from++)
        count += ((unsigned char)*from & 0xC0) != 0x80;
    return count;
}

static void show(char *text, size_t room, const Search *s, int line)
{
    const char *begin = s->place, *end = line_end(s, s->place);
    while (begin > s->source && begin[-1] != '\n')
        begin--;
    if (end > begin && end[-1] == '\r')
        end--;
    for (const char *p = s->begin; p < begin; p++)
        line += *p == '\n';
    while (begin < s->place && isspace((unsigned char)*begin))
        begin++;
    while (columns(begin, end) > MOST_COLUMNS && columns(begin, s->place) > MOST_COLUMNS / 2)
        begin++;
    while (begin < s->place && ((unsigned char)*begin & 0xC0) == 0x80)
        begin++;
    while (columns(begin, end) > MOST_COLUMNS)
        end--;
    char shown[4 * MOST_COLUMNS + 1] = "";
    int length = 0, bar = s->place + s->width > end ? (int)(end - s->place) : s->width;
    for (const char *p = begin; p < end && length < (int)sizeof shown - 1; p++)
        shown[length++] = iscntrl((unsigned char)*p) ? ' ' : *p;
    bar = columns(s->place, s->place + bar);
    snprintf(text, room, "%5d | %.*s\n      | %*s^%.*s\n", line, length, shown, columns(begin, s->place), "",
             bar > 1 ? bar - 1 : 0,
             "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~");
}

void quote_source(Context *c, const char *message, const char *file, const char *source, size_t length,
                  int repeats)
{
    size_t name = strlen(file);
    if (strncmp(message, file, name) || message[name] != ':')
        return;
    char *rest;
    long line = strtol(message + name + 1, &rest, 10);
    if (line < 1 || *rest != ':')
        return;
    Search s = {.source = source, .begin = source, .end = source + length};
    for (long i = 1; i < line; i++) {
        const char *newline = memchr(s.begin, '\n', (size_t)(s.end - s.begin));
        if (!newline)
            return;
        s.begin = newline + 1;
    }
    const char *end = s.begin;
    for (int i = 0; i < MOST_LINES && end < s.end; i++)
        end = line_end(&s, end) + 1;
    s.end = end < s.end ? end : s.end;
    find_place(&s, rest + 1 + (rest[1] == ' '), repeats);
    if (!s.place) {
        s.place = s.begin;
        while (s.place < s.end && (*s.place == ' ' || *s.place == '\t'))
            s.place++;
        s.width = 1;
    }
    if (s.place == s.end || *s.place == '\n')
        return;                                  /* nothing stands there */
    snprintf(c->quote.message, sizeof c->quote.message, "%s", message);
    show(c->quote.text, sizeof c->quote.text, &s, (int)line);
}

const char *quote_text(const Context *c)
{
    return c->quote.message[0] && strstr(c->message, c->quote.message) ? c->quote.text : "";
}
