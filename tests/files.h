/* For tests that read and write files: a folder and a context for each test. */
#ifndef FILES_H
#define FILES_H

#include "../runtime/runtime.h"

#include <check.h>

/* The checked fixture; the folder is empty at the start of each test. */
void files_setup(void);
void files_teardown(void);
Context *files_context(void);              /* of the running test */

char *in_folder(const char *name);         /* "build/test/tmp/files-.../name" */
void put(const char *path, const void *data, size_t length);
void put_gz(const char *path, const void *data, size_t length, const char *mode);      /* gzopen's mode */
void assert_holds(const char *path, const void *data, size_t length);
int files_in(const char *folder);          /* entries, hidden ones too */

/* A reader under test, with everything but the file's path fixed. */
typedef void Reader(Context *c, const char *path);

void assert_reads(Reader *reader, const char *path);
/* The reader fails with STATUS_INPUT, and its message has the path and `part`. */
void assert_refuses(Reader *reader, const char *path, const char *part);
/* A valid file is read; it is refused when cut anywhere; with any byte changed
 * it is read or refused, and nothing worse. */
void assert_survives(Reader *reader, const void *data, size_t length);

#endif
