/* Prints the leaves that are linked into cnnc; runs while cnnc is built.
 *
 *     family TARGET           the C file
 *     family --flags TARGET   what its compiler is told */
#include "../../compiler/cnnc.h"

#include <string.h>

int main(int argc, char **argv)
{
    bool flags = argc == 3 && !strcmp(argv[1], "--flags");
    const Target *target = argc == 2 || flags ? target_find(argv[argc - 1]) : NULL;
    if (!target || target->lanes < 2) {
        fprintf(stderr, "usage: family [--flags] TARGET, a target with vectors\n");
        return STATUS_USAGE;
    }
    if (flags)
        return puts(target->cflags) < 0;
    Context c;
    context_init(&c);
    Text t = {.c = &c};
    print_leaf_family(&t, target);
    int failed = fputs(t.data, stdout) < 0;
    context_free(&c);
    return failed;
}
