/* Text of the generated file that several printers need: names with the model's prefix,
 * lists of arguments. */
#include "print.h"

#include <ctype.h>
#include <string.h>

const char *print_upper(Context *c, const char *name)
{
    char *out = format(c, "%s", name);
    for (char *s = out; *s; s++)
        *s = (char)toupper((unsigned char)*s);
    return out;
}

const char *print_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void print_prefixed(Text *t, const char *prefix, const char *text)
{
    const char *upper = strchr(text, '$') ? print_upper(t->c, prefix) : NULL;
    for (;;) {
        size_t plain = strcspn(text, "@$");
        text_add(t, "%.*s", (int)plain, text);
        if (!text[plain])
            return;
        text_add(t, "%s", text[plain] == '@' ? prefix : upper);
        text += plain + 1;
    }
}

/* The names come first: what is formatted in may have an @ or a $ of its own, while a
 * prefix, being a C identifier, has no %. */
void print_named(Text *t, const Program *p, const char *text, ...)
{
    Text named = {.c = t->c};
    print_prefixed(&named, p->prefix, text);
    va_list args;
    va_start(args, text);
    text_add(t, "%s", vformat(t->c, named.data, args));
    va_end(args);
}

void printer_argument_list(Text *t, int indent, const char *argument)
{
    const char *line = t->length ? strrchr(t->data, '\n') : NULL;
    size_t used = t->length ? strlen(line ? line : t->data) : 0;
    if (t->length && used + strlen(argument) > LINE - 8)
        text_add(t, ",\n%*s%s", indent, "", argument);
    else
        text_add(t, "%s%s", t->length ? ", " : "", argument);
}
