/* What experiments call, for the Lua language server: written by hand beside the
 * functions' definitions; tests/test_person.c compares. */
#include "runtime.h"

EMBED(luals_experiment, "runtime/embedded/experiment.lua")

void experiment_luals(Text *t)
{
    text_add(t, "%s", luals_experiment);
}
