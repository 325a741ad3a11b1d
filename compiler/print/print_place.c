/* Where a build wants things: macros that -D sets, for linkers with more than one memory. */
#include "print.h"

/* What has a value of its own unless the build gives another. */
static void overridable(Text *t, const Program *p, const char *name, const char *meaning)
{
    print_named(t, p, format(p->c, "#ifndef $_%s  /* %s */\n#define $_%s\n#endif\n", name, meaning, name));
}

void print_places(Text *t, const Program *p)
{
    size_t bytes;
    text_add(t, "/* -D overrides: attributes that place what stands behind them, such as\n"
                " * __attribute__((section(\".itcm\"))), and what pointers to memory apart are. */\n");
    overridable(t, p, "CODE_SECTION", "what a call runs");
    if (p->weights && !print_weights_file(p, &bytes))
        overridable(t, p, "WEIGHTS_SECTION", "the constants");
    print_named(t, p,
                "#ifndef $_RESTRICT\n#ifdef __cplusplus\n#define $_RESTRICT __restrict\n"
                "#else\n#define $_RESTRICT restrict\n#endif\n#endif\n");
}
