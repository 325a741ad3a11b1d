/* What the test suites share.  tests/test_<topic>.c defines <topic>_suite(), which
 * the Makefile enrols by the file's name; one suite alone: CK_RUN_SUITE=<topic>.
 * Tests run in the project's folder. */
#ifndef TESTS_H
#define TESTS_H

#include <check.h>
#undef fail                   /* Check's old macro; the project has a function of that name */

/* A shell command's result; the texts are freed by run_free. */
typedef struct Run { int status; char *out, *err; } Run;
Run run(const char *command, ...) __attribute__((format(printf, 1, 2)));
void run_free(Run *r);

/* An empty folder for a topic's files, made anew: "build/test/tmp/<topic>". */
const char *scratch_folder(const char *topic);

/* Whole files as text; the result is freed by the caller.  NULL: no such file. */
char *text_read(const char *path);
void text_write(const char *path, const char *text);

#endif
