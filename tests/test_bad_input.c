/* What is wrong outside cnnc, met by the command as a process: it says what is wrong,
 * exits with status 1, and every file is as it was.  What each reader refuses is
 * tested with the reader; what is used wrongly, in test_command.c. */
#define _GNU_SOURCE
#include "files.h"
#include "tests.h"

#include <errno.h>
#include <glob.h>
#include <png.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* ------------------------------------------------------------ a folder of bad files */

enum { SIDE = 6, PIXELS = SIDE * SIDE };

static const char small[] =
    "local x = input { 1, 6, 6, name = 'image' }\n"
    "local y = x:conv2d { 2, kernel = 3, pad = 1 }:relu():flatten():linear { 4, name = 'scores' }\n"
    "return model { output = { map = x:relu(), scores = y }, loss = y:cross_entropy() }\n";
static const char wide[] = "return input { 700 }:linear { 700 }\n";      /* weights that get a file */
static const char save[] = "load_model(arg[1]):compile { batch = 1 }:save(arg[2])\n";
static const char train[] =
    "local pictures, labels, log = table.unpack(arg)\n"
    "local m = load_model('small.lua'):compile { batch = 2 }\n"
    "local d = data.idx(pictures, labels)\n"
    "for epoch = 1, log and 10000 or 1 do\n"
    "  m:fit(d, { optimizer = sgd { lr = 0.1 }, log = log }) end\n";

static void put_text(const char *name, const char *text)
{
    put(in_folder(name), text, strlen(text));
}

/* The file, and name.cut without its last byte. */
static void put_both(const char *name, const void *data, size_t length)
{
    put(in_folder(name), data, length);
    put(in_folder(format(files_context(), "%s.cut", name)), data, length - 1);
}

static void put_png(const char *name, unsigned width, unsigned height)
{
    static const unsigned char pixel[PIXELS];
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height};
    image.format = PNG_FORMAT_GRAY;
    ck_assert(png_image_write_to_file(&image, in_folder(name), 0, pixel, 0, NULL));
}

static void put_arrays(void)
{
    Context *c = files_context();
    static float sample[2 * PIXELS];
    static const unsigned char no_pictures[] = {0, 0, 8, 3, 0, 0, 0, 0};
    unsigned char pictures[16 + 2 * PIXELS] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 2};
    size_t length;
    npy_write(c, in_folder("x.npy"), &(Array){2 + 2, {2, 1, SIDE, SIDE}, 2 * PIXELS, ARRAY_F32, sample});
    const void *data = file_read(c, in_folder("x.npy"), &length);
    put_both("x.npy", data, length);
    put_both("pictures", pictures, sizeof pictures);
    put_both("labels", labels, sizeof labels);
    put(in_folder("no_pictures"), no_pictures, sizeof no_pictures);
    pictures[7] = 3;
    put(in_folder("pictures.lie"), pictures, sizeof pictures);
    labels[9] = 4;
    put(in_folder("labels.lie"), labels, sizeof labels);
    put_gz(in_folder("pictures.gz"), labels, sizeof labels, "wb");
    data = file_read(c, in_folder("pictures.gz"), &length);
    put(in_folder("pictures.gz.cut"), data, length - 1);
}

static void set_up(void)
{
    Context *c = files_context();
    size_t length;
    put_text("small.lua", small);
    put_text("wide.lua", wide);
    put_text("save.lua", save);
    put_text("train.lua", train);
    put_text("empty", "");
    put_text("net.c", "old");
    put_text("net.h", "old");
    put_text("net.weights", "old");
    ck_assert_int_eq(mkdir(in_folder("folder"), 0777), 0);
    put_arrays();
    put_png("x.png", SIDE, SIDE);
    const void *data = file_read(c, in_folder("x.png"), &length);
    put_both("x.png", data, length);
    put_png("narrow.png", SIDE - 1, SIDE);
    for (int i = 0; i < 2; i++) {
        const char *net = i ? "wide" : "small", *weights = format(c, "%s.safetensors", net);
        Run r = run("cd %s && $OLDPWD/build/cnnc run save.lua %s.lua %s", in_folder(""), net, weights);
        ck_assert_msg(r.status == 0, "%s", r.err);
        run_free(&r);
        data = file_read(c, in_folder(weights), &length);
        put_both(weights, data, length);
    }
}

static void tear_down(void)
{
    while (umount(in_folder("disk")) == 0)
        continue;                                /* as often as this test has mounted it */
}

/* Names, sizes and checksums of all files below the folder. */
static Run inventory(void)
{
    return run("cd %s && find . -printf '%%p %%y\\n' | sort && find . -type f -exec cksum {} + | sort",
               in_folder(""));
}

/* `environment cnnc arguments`, run in the folder, fails as it should. */
static void expect_refusal_in(const char *environment, const char *arguments, const char *says)
{
    Run before = inventory();
    Run r = run("cd %s && %s $OLDPWD/build/cnnc %s", in_folder(""), environment, arguments);
    Run after = inventory();
    ck_assert_msg(r.status == STATUS_INPUT, "cnnc %s: status %d: %s", arguments, r.status, r.err);
    ck_assert_msg(!*r.out, "cnnc %s: failed, but printed: %s", arguments, r.out);
    ck_assert_msg(!strncmp(r.err, "cnnc: ", 6) && strstr(r.err, says), "cnnc %s: said: %s", arguments, r.err);
    ck_assert_str_eq(before.out, after.out);
    run_free(&before);
    run_free(&r);
    run_free(&after);
}

static void expect_refusal(const char *arguments, const char *says)
{
    expect_refusal_in("", arguments, says);
}

/* -------------------------------------------------------------------- bad files */

/* The messages are compared by test_language.c. */
START_TEST(wrong_networks)
{
    glob_t wrong;
    ck_assert_int_eq(glob("tests/data/wrong/*.lua", 0, NULL, &wrong), 0);
    ck_assert_uint_ge(wrong.gl_pathc, 40);
    for (size_t i = 0; i < wrong.gl_pathc; i++) {
        const char *path = wrong.gl_pathv[i];
        expect_refusal(format(files_context(), "$OLDPWD/%s -o net.c", path), strrchr(path, '/') + 1);
    }
    globfree(&wrong);
}
END_TEST

static const struct { const char *arguments, *says; } bad_files[] = {
    /* networks */
    {"summary folder", "folder: cannot read: found a directory"},
    {"gradcheck empty", "empty:1: the file must end with one result"},
    {"bench x.npy", "x.npy: found a zero byte at offset"},
    {"predict x.png --input x.npy --output y.npy", "x.png: found a zero byte"},
    {"run folder", "folder"},
    {"run x.png", "x.png"},
    {"run small.lua", "small.lua:1: attempt to call a nil value (global 'input')"},
    /* weights */
    {"small.lua --weights small.safetensors.cut -o net.c", "small.safetensors.cut: "},
    {"small.lua --weights wide.safetensors -o net.o", "wide.safetensors: found 2 parameters unknown"},
    {"small.lua --weights x.npy -o net.c", "x.npy: safetensors header: found a length of"},
    {"small.lua --weights empty -o net.c", "empty: not a safetensors file: found 0 bytes"},
    {"small.lua --weights folder -o net.c", "folder: cannot read: found a directory"},
    {"predict small.lua --weights small.safetensors.cut --input x.npy --output scores=y.npy",
     "small.safetensors.cut: "},
    {"bench small.lua --weights missing", "missing: cannot open: No such file"},
    {"gradcheck small.lua --weights missing", "missing: cannot open: No such file"},
    /* samples */
    {"predict small.lua --input x.npy.cut --output scores=y.npy", "x.npy.cut: npy data: found 287 bytes"},
    {"predict small.lua --input small.safetensors --output scores=y.npy", "not a .npy file"},
    {"predict small.lua --input x.png.cut --output scores=y.npy", "x.png.cut: "},
    {"predict small.lua --input narrow.png", "narrow.png: picture: found 6 x 5 (height x width)"},
    {"predict wide.lua --input x.png", "x.png: a picture has 1 or 3 channels"},
    {"predict small.lua --input folder", "folder: cannot read: found a directory"},
    {"predict small.lua --input empty", "empty: not a .npy file: found 0 bytes"},
    /* data of experiments */
    {"run train.lua missing labels", "train.lua:3: missing: cannot open: No such file"},
    {"run train.lua pictures missing", "train.lua:3: missing: cannot open: No such file"},
    {"run train.lua pictures.cut labels", "train.lua:3: pictures.cut: "},
    {"run train.lua pictures labels.cut", "train.lua:3: labels.cut: "},
    {"run train.lua pictures.lie labels", "train.lua:3: pictures.lie: "},
    {"run train.lua pictures.gz.cut labels", "train.lua:3: pictures.gz.cut: gzip: "},
    {"run train.lua no_pictures labels", "train.lua:3: no_pictures: "},
    {"run train.lua labels labels", "train.lua:3: labels: IDX dimensions: found 1, expected 2 to 4"},
    {"run train.lua pictures labels.lie", "train.lua:5: pictures: label of sample 1: found 4"},
    {"run save.lua missing.lua net.c", "save.lua:1: missing.lua: cannot open: No such file"},
};

START_TEST(bad_file)
{
    expect_refusal(bad_files[_i].arguments, bad_files[_i].says);
}
END_TEST

/* ------------------------------------------------------------------ bad outputs */

/* Results in the folder `disk`; the first ones are several files each. */
static const char *const writers[] = {
    "small.lua --train -o disk/net.c",
    "small.lua -o disk/net.o",
    "small.lua -o disk/net.a",
    "small.lua -o disk/net.so",
    "wide.lua --weights wide.safetensors -o disk/net.c",
    "predict small.lua --input x.npy --output map=disk/map.npy --output scores=disk/scores.npy",
    "small.lua --train -o disk/net.h",
    "run save.lua small.lua disk/saved",
};
enum { WRITERS = COUNT(writers), SEVERAL = 6 };

START_TEST(no_such_folder)
{
    expect_refusal(writers[_i], "No such file or directory");
}
END_TEST

START_TEST(output_is_a_folder)
{
    static const char *const name[] = {"disk", "disk/net.c", "disk/net.h", "disk/net.o", "disk/net.a",
                                       "disk/net.so", "disk/scores.npy", "disk/saved"};
    for (int i = 0; i < COUNT(name); i++)
        ck_assert_int_eq(mkdir(in_folder(name[i]), 0777), 0);
    expect_refusal(writers[_i], "Is a directory");
}
END_TEST

enum { USED = 16 };           /* kilobytes of the disk: a page for each old result */

/* A disk at folder/disk for this test's process alone, with old results and some free
 * kilobytes.  False, with a line that says so, when the test may not mount. */
static bool mount_disk(int kilobytes)
{
    const char *disk = in_folder("disk");
    mkdir(disk, 0777);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
        || mount("none", disk, "tmpfs", 0, format(files_context(), "size=%dk", USED + kilobytes)) != 0) {
        printf("skipped: bad_input: cannot mount: %s\n", strerror(errno));
        return false;
    }
    static const char *const old[] = {"disk/net.c", "disk/net.o", "disk/net.weights", "disk/map.npy"};
    for (int i = 0; i < COUNT(old); i++)
        put_text(old[i], "old");
    return true;
}

START_TEST(full_disk)
{
    if (mount_disk(0))
        expect_refusal(writers[_i], "No space left on device");
}
END_TEST

/* The first file is small enough. */
START_TEST(full_disk_in_between)
{
    if (mount_disk(4))
        expect_refusal(writers[_i], "No space left on device");
}
END_TEST

START_TEST(full_disk_under_the_compiler)
{
    static const char *const arguments[] = {"small.lua --train -o net.o", "small.lua --train -o net.so",
                                            "bench --runs 1 --jit cc small.lua"};
    static const int room[] = {0, 8, 24, 40};
    for (int i = 0; i < COUNT(arguments); i++)
        if (mount_disk(room[_i]))
            expect_refusal_in("TMPDIR=disk", arguments[i], "No space left on device");
}
END_TEST

/* It grows line by line, and all lines are whole. */
START_TEST(full_disk_under_a_log)
{
    if (!mount_disk(8))
        return;
    Run r = run("cd %s && $OLDPWD/build/cnnc run train.lua pictures labels disk/log.csv", in_folder(""));
    ck_assert_int_eq(r.status, STATUS_INPUT);
    ck_assert_ptr_nonnull(strstr(r.err, "disk/log.csv: cannot be written: No space left on device"));
    run_free(&r);
    r = run("grep -Evn '^([0-9]+,[0-9]+,[-+.e0-9]+,0.100000001|step,epoch,loss,lr)$' %s",
            in_folder("disk/log.csv"));
    ck_assert_str_eq(r.out, "");
    ck_assert_int_eq(r.status, 1);
    run_free(&r);
    char *log = text_read(in_folder("disk/log.csv"));
    ck_assert_uint_gt(strlen(log), 8000);
    ck_assert_int_eq(log[strlen(log) - 1], '\n');
    free(log);
}
END_TEST

START_TEST(read_only_disk)
{
    if (!mount_disk(0))
        return;
    ck_assert_int_eq(mount("none", in_folder("disk"), "", MS_REMOUNT | MS_RDONLY, ""), 0);
    expect_refusal(writers[_i], "Read-only file system");
}
END_TEST

/* Results on standard output. */
START_TEST(full_device)
{
    static const char *const arguments[] = {
        "small.lua -o -", "small.lua --emit plan", "summary small.lua", "summary --json small.lua",
        "predict small.lua --input x.npy", "predict small.lua --input x.npy --output scores=-",
        "gradcheck small.lua", "bench --runs 1 small.lua", "bench --runs 1 --json small.lua"
    };
    for (int i = 0; i < COUNT(arguments); i++)
        expect_refusal(format(files_context(), "%s >/dev/full", arguments[i]), "No space left on device");
}
END_TEST

Suite *bad_input_suite(void)
{
    Suite *s = suite_create("bad_input");
    TCase *t = tcase_create("bad_input");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, wrong_networks);
    tcase_add_loop_test(t, bad_file, 0, COUNT(bad_files));
    tcase_add_loop_test(t, no_such_folder, 0, WRITERS);
    tcase_add_loop_test(t, output_is_a_folder, 0, WRITERS);
    tcase_add_loop_test(t, full_disk, 0, WRITERS);
    tcase_add_loop_test(t, full_disk_in_between, 0, SEVERAL);
    tcase_add_loop_test(t, full_disk_under_the_compiler, 0, 4);
    tcase_add_test(t, full_disk_under_a_log);
    tcase_add_loop_test(t, read_only_disk, 0, WRITERS);
    tcase_add_test(t, full_device);
    suite_add_tcase(s, t);
    return s;
}
