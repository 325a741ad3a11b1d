/* Files are replaced whole or not at all. */
#define _GNU_SOURCE
#include "files.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void write_new(Context *c, const char *path)
{
    file_write(c, path, "new", 3);
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    ck_assert_int_eq(lstat(path, &info), 0);
    return info.st_mode;
}

START_TEST(reads_whole)
{
    size_t length;
    put(in_folder("x"), "a\0b", 3);
    unsigned char *data = file_read(files_context(), in_folder("x"), &length);
    ck_assert_uint_eq(length, 3);
    ck_assert_mem_eq(data, "a\0b\0", 4);
    put(in_folder("x"), "", 0);
    data = file_read(files_context(), in_folder("x"), &length);
    ck_assert_uint_eq(length, 0);
    ck_assert_uint_eq(data[0], 0);
    data = file_read(files_context(), "/proc/self/cmdline", &length);      /* its size is given as 0 */
    ck_assert_uint_gt(length, 0);
}
END_TEST

/* More than a pipe holds, to standard input. */
START_TEST(reads_a_pipe)
{
    enum { SIZE = 300000 };
    int end[2];
    ck_assert_int_eq(pipe(end), 0);
    unsigned char *sent = arena_alloc(files_context(), SIZE, 1);
    for (int i = 0; i < SIZE; i++)
        sent[i] = (unsigned char)(i * 7 / 3);
    pid_t child = fork();
    if (child == 0) {
        close(end[0]);
        for (ssize_t at = 0, put; at < SIZE; at += put)
            if ((put = write(end[1], sent + at, SIZE - (size_t)at)) < 0)
                _exit(1);
        _exit(0);
    }
    close(end[1]);
    dup2(end[0], STDIN_FILENO);
    close(end[0]);
    size_t length;
    unsigned char *got = file_read(files_context(), "-", &length);
    ck_assert_uint_eq(length, SIZE);
    ck_assert_mem_eq(got, sent, SIZE);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

START_TEST(replaces)
{
    const char *path = in_folder("x");
    assert_reads(write_new, path);
    assert_holds(path, "new", 3);
    put(path, "older", 5);
    chmod(path, 0640);
    assert_reads(write_new, path);
    assert_holds(path, "new", 3);
    ck_assert_int_eq(mode_of(path) & 07777, 0640);
    ck_assert_int_eq(files_in(in_folder("")), 1);
}
END_TEST

START_TEST(new_files_obey_umask)
{
    umask(027);
    assert_reads(write_new, in_folder("x"));
    ck_assert_int_eq(mode_of(in_folder("x")) & 07777, 0640);
}
END_TEST

START_TEST(keeps_symbolic_links)
{
    mkdir(in_folder("there"), 0777);
    put(in_folder("there/x"), "old", 3);
    ck_assert_int_eq(symlink("there/x", in_folder("link")), 0);
    assert_reads(write_new, in_folder("link"));
    ck_assert(S_ISLNK(mode_of(in_folder("link"))));
    assert_holds(in_folder("there/x"), "new", 3);
}
END_TEST

START_TEST(writes_to_devices_and_pipes)
{
    assert_reads(write_new, "/dev/null");
    ck_assert(S_ISCHR(mode_of("/dev/null")));
    const char *path = in_folder("pipe");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    int end = open(path, O_RDONLY | O_NONBLOCK);
    assert_reads(write_new, path);
    char got[4] = "";
    ck_assert_int_eq(read(end, got, 4), 3);
    ck_assert_str_eq(got, "new");
    ck_assert(S_ISFIFO(mode_of(path)));
    assert_refuses(write_new, "/dev/full", "No space left");
}
END_TEST

START_TEST(writes_to_standard_output)
{
    int out = open(in_folder("out"), O_WRONLY | O_CREAT, 0600), kept = dup(STDOUT_FILENO);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    printf("before ");
    file_write(files_context(), "-", "new", 3);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    assert_holds(in_folder("out"), "before new", 10);
}
END_TEST

START_TEST(refuses)
{
    put(in_folder("file"), "old", 3);
    mkdir(in_folder("folder"), 0777);
    assert_refuses(write_new, in_folder("file/x"), "cannot write: Not a directory");
    assert_refuses(write_new, in_folder("none/x"), "cannot write: No such file or directory");
    assert_refuses(write_new, in_folder("folder"), "cannot write: Is a directory");
    assert_refuses(write_new, in_folder("folder/"), "cannot write: Is a directory");
    assert_refuses(write_new, in_folder("none/"), "cannot write: No such file or directory");
    assert_refuses(write_new, "", "cannot write: No such file or directory");
    assert_holds(in_folder("file"), "old", 3);
    ck_assert_int_eq(files_in(in_folder("folder")), 0);
    ck_assert_int_eq(files_in(in_folder("")), 2);
}
END_TEST

/* ---- disks that take no more; each in a mount namespace of its own */

/* False, with a line that says so, when the test may not mount. */
static bool mount_private(const char *test, const char *source, const char *target, const char *type,
                          unsigned long flags, const char *options)
{
    mkdir(target, 0777);
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", "", MS_REC | MS_PRIVATE, "") == 0
        && mount(source, target, type, flags, options) == 0)
        return true;
    printf("skipped: %s: cannot mount: %s\n", test, strerror(errno));
    return false;
}

static void write_megabyte(Context *c, const char *path)
{
    file_write(c, path, arena_alloc(c, 1 << 20, 1), 1 << 20);
}

START_TEST(full_disk)
{
    if (!mount_private("full_disk", "none", in_folder("disk"), "tmpfs", 0, "size=256k"))
        return;
    put(in_folder("disk/x"), "old", 3);
    assert_refuses(write_megabyte, in_folder("disk/x"), "cannot write: No space left on device");
    assert_refuses(write_megabyte, in_folder("disk/y"), "cannot write: No space left on device");
    assert_holds(in_folder("disk/x"), "old", 3);
    ck_assert_int_eq(files_in(in_folder("disk")), 1);
    assert_reads(write_new, in_folder("disk/x"));
    assert_holds(in_folder("disk/x"), "new", 3);
    umount(in_folder("disk"));
}
END_TEST

START_TEST(read_only_disk)
{
    const char *disk = in_folder("disk");
    if (!mount_private("read_only_disk", "none", disk, "tmpfs", 0, "size=256k"))
        return;
    put(in_folder("disk/x"), "old", 3);
    ck_assert_int_eq(mount("none", disk, "", MS_REMOUNT | MS_RDONLY, ""), 0);
    assert_refuses(write_new, in_folder("disk/x"), "cannot write: Read-only file system");
    assert_refuses(write_new, in_folder("disk/y"), "cannot write: Read-only file system");
    assert_holds(in_folder("disk/x"), "old", 3);
    umount(disk);
}
END_TEST

/* ---- killed while saving */

enum { FLOATS = 1 << 18 };

/* Saves weights that are all `first`, then all one more, ... without end. */
static _Noreturn void save_forever(const char *path, int first)
{
    Param weight = {.name = "w", .shape = {1, {FLOATS}}, .count = FLOATS};
    Param *params[] = {&weight};
    Graph g = {.c = files_context(), .param = params, .params = 1};
    float *flat = malloc(FLOATS * sizeof(float));
    for (float value = (float)first;; value++) {
        for (int i = 0; i < FLOATS; i++)
            flat[i] = value;
        safetensors_save(&g, path, flat);
    }
}

/* The number that the file is full of. */
static float uniform_value(const char *path)
{
    Context c;
    context_init(&c);
    Param weight = {.name = "w", .shape = {1, {FLOATS}}, .count = FLOATS};
    Param *params[] = {&weight};
    Graph g = {.c = &c, .param = params, .params = 1};
    float *flat = NEW_ARRAY(&c, float, FLOATS), value;
    safetensors_load(&g, path, flat);
    value = flat[0];
    for (int i = 0; i < FLOATS; i++)
        ck_assert_float_eq(flat[i], value);
    context_free(&c);
    return value;
}

START_TEST(killed_while_saving)
{
    const char *path = in_folder("w.safetensors"), *given = getenv("CNNC_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    float last = 0;
    int changed = 0;
    srand(seed);
    printf("killed_while_saving: CNNC_SEED=%u\n", seed);
    for (int round = 0; round < 30 || (changed < 2 && round < 300); round++) {
        pid_t child = fork();
        if (child == 0)
            save_forever(path, 10000 * round + 1);
        while (round == 0 && access(path, R_OK) != 0)
            usleep(1000);
        usleep((unsigned)rand() % (unsigned)(20000 + 1000 * round));     /* a disk may be slow */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        float value = uniform_value(path);
        ck_assert_float_ge(value, 1);
        changed += value != last;
        last = value;
    }
    ck_assert_int_gt(changed, 1);                      /* the kills hit a program at work */
}
END_TEST

Suite *files_suite(void)
{
    Suite *s = suite_create("files");
    TCase *t = tcase_create("whole");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, reads_whole);
    tcase_add_test(t, reads_a_pipe);
    tcase_add_test(t, replaces);
    tcase_add_test(t, new_files_obey_umask);
    tcase_add_test(t, keeps_symbolic_links);
    tcase_add_test(t, writes_to_devices_and_pipes);
    tcase_add_test(t, writes_to_standard_output);
    tcase_add_test(t, refuses);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, read_only_disk);
    tcase_add_test(t, killed_while_saving);
    suite_add_tcase(s, t);
    return s;
}
