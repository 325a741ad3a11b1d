/* Runs every suite; Check's summary is the last line of a good run. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SUITE(topic) Suite *topic##_suite(void);
#include "suites.h"
#undef SUITE

int main(void)
{
    if (access("compiler/cnnc.h", R_OK) != 0) {
        fprintf(stderr, "tests: run them in the project's folder: make test\n");
        return EXIT_FAILURE;
    }
    setenv("CK_DEFAULT_TIMEOUT", "120", 0);      /* seconds a test may take that says nothing else */
    SRunner *runner = srunner_create(NULL);
#define SUITE(topic) srunner_add_suite(runner, topic##_suite());
#include "suites.h"
#undef SUITE
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
