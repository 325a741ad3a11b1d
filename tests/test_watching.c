/* Seeing a run, and going on with one: the page, the CSV file, TensorBoard's events, checkpoints
 * that survive SIGKILL, and --watch. */
#define _GNU_SOURCE
#include "files.h"
#include "tests.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char net[] =
    "local x = input { 1, 6, 6, name = 'image' }\n"
    "local y = x:conv2d { 3, kernel = 3, pad = 1 }:batchnorm():relu():dropout { 0.3 }\n"
    "y = y:flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n";

/* Bright pictures are of class 1. */
static const char data[] =
    "local x, y = {}, {}\n"
    "for i = 1, 203 do\n"
    "  local row, picture = {}, {}\n"
    "  for k = 1, 6 do row[k] = (i * k % 7) / 7 + i % 2 / 2 end\n"
    "  for k = 1, 6 do picture[k] = row end\n"
    "  x[i], y[i] = { picture }, i % 2\n"
    "end\n"
    "local d = data.tensor(x, y)\n"
    "local m = load_model 'net.lua':compile { batch = 4 }\n"
    "m:init(5)\n";

static void put_text(const char *name, const char *text)
{
    put(in_folder(name), text, strlen(text));
}

static void set_up(void)
{
    put_text("net.lua", net);
}

static Run run_script(const char *tail)
{
    put_text("script.lua", format(files_context(), "%s%s", data, tail));
    Run r = run("cd %s && $OLDPWD/build/cnnc run script.lua", in_folder(""));
    ck_assert_msg(r.status == 0, "%s", r.err);
    return r;
}

/* ------------------------------------------------------------------------- the page */

static const char watched[] =
    "for epoch = 1, 3 do\n"
    "  m:fit(d, { optimizer = adam { lr = 0.01 }, shuffle = true, report = 'run.html', csv = 'run.csv',\n"
    "             tensorboard = 'board', log = 'run.log' })\n"
    "  if epoch == 2 then\n"
    "    local page = io.open 'run.html':read 'a'\n"
    "    assert(page:find 'http%-equiv=\"refresh\"', 'does not reload itself')\n"
    "    assert(page:find 'Running after 102 steps')\n"
    "  end\n"
    "  print(m:accuracy(d:slice(1, 100)))\n"
    "end\n";

START_TEST(the_page_shows_the_run)
{
    Run r = run_script(watched);
    char *page = text_read(in_folder("run.html"));
    ck_assert_ptr_nonnull(page);
    static const char *const has[] = {
        "Ended after 153 steps", "aria-label=\"loss\"", "aria-label=\"accuracy\"",
        "aria-label=\"learning rate\"",
        "aria-label=\"samples a second\"", "layer by layer", ">conv1<", ">batchnorm1<", ">linear1<",
        "Confusion",
        "prefers-color-scheme: dark"};
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        ck_assert_msg(strstr(page, has[i]) != NULL, "the page lacks %s", has[i]);
    ck_assert_msg(!strstr(page, "refresh") && !strstr(page, "<script") && !strstr(page, "http:"),
                  "the page reloads itself, runs scripts or needs the network");
    ck_assert_msg(!strstr(page, "nan") && !strstr(page, "inf"), "the page has numbers that are none");
    /* every sample of the confusion matrix is one of the hundred */
    int sum = 0;
    for (const char *at = page; (at = strstr(at, "<td style")); at++)
        sum += atoi(strchr(at, '>') + 1);
    ck_assert_int_eq(sum, 100);
    free(page);
    run_free(&r);
}
END_TEST

START_TEST(mistakes_are_pictures)
{
    /* labels turned round: nearly everything is a mistake */
    Run r = run_script("m:fit(d, { optimizer = adam { lr = 0.05 }, report = 'run.html' })\n"
                       "for i = 1, 203 do y[i] = 1 - y[i] end\n"
                       "print(m:accuracy(data.tensor(x, y)))\n");
    ck_assert_double_lt(atof(r.out), 0.4);
    char *page = text_read(in_folder("run.html")), *at = page;
    int pictures = 0;
    for (; (at = strstr(at, "src=\"data:image/png;base64,iVBORw0KGgo")); at++)
        pictures++;
    ck_assert_int_eq(pictures, 12);
    /* the worst in front */
    double before = 0;
    for (at = strstr(page, "class=\"mistakes\""); (at = strstr(at, "<br>")); at++) {
        double right = atof(at + 4);
        ck_assert_msg(right >= before, "%g %% behind %g %%", right, before);
        before = right;
    }
    free(page);
    run_free(&r);
}
END_TEST

START_TEST(the_csv_file_has_what_the_page_shows)
{
    Run r = run_script(watched);
    char *csv = text_read(in_folder("run.csv")), *rest = csv, *line;
    ck_assert_str_eq(strsep(&rest, "\n"), "step,epoch,loss,lr,samples_per_second,accuracy,"
                     "gradient:conv1,gradient:batchnorm1,gradient:linear1,"
                     "weights:conv1,weights:batchnorm1,weights:linear1");
    int rows = 0, scores = 0, step = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        double value[12];
        char *field, *fields = line;
        for (int i = 0; i < 12; i++) {
            ck_assert_ptr_nonnull((field = strsep(&fields, ",")));
            value[i] = *field ? atof(field) : NAN;
            ck_assert_msg(i == 5 || value[i] >= 0, "%d: %s", i, field);
        }
        ck_assert_ptr_null(fields);
        ck_assert_msg(value[0] > step, "step %g behind %d", value[0], step);
        step = (int)value[0];
        scores += !isnan(value[5]);
        rows++;
    }
    ck_assert_int_ge(rows, 70);
    ck_assert_int_eq(scores, 3);
    free(csv);
    run_free(&r);
}
END_TEST

START_TEST(watching_changes_nothing)
{
    Run r = run_script("for e = 1, 2 do m:fit(d, { optimizer = adam {}, shuffle = true }) end m:save 'a'\n");
    run_free(&r);
    r = run_script("for e = 1, 2 do m:fit(d, { optimizer = adam {}, shuffle = true, report = 'r',\n"
                   "  csv = 'c', tensorboard = 't', checkpoint = 'k' }) end m:save 'b'\n");
    run_free(&r);
    r = run("cmp %s/a %s/b", in_folder(""), in_folder(""));
    ck_assert_msg(r.status == 0, "%s", r.out);
    run_free(&r);
}
END_TEST

/* ----------------------------------------------------------------------- TensorBoard */

START_TEST(checksums_are_castagnoli)
{
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283u);       /* the catalogues' check value */
    ck_assert_uint_eq(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xE3069283u);
    ck_assert_uint_eq(crc32c(0, (char[32]){0}, 32), 0x8A9136AAu);    /* RFC 3720, B.4 */
}
END_TEST

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static void check_masked(const unsigned char *data, size_t length, const unsigned char *crc)
{
    uint32_t turned = (uint32_t)number(crc, 4) - 0xA282EAD8u;
    ck_assert_uint_eq((turned >> 17 | turned << 15), crc32c(0, data, length));
}

START_TEST(events_are_framed_scalars)
{
    Run r = run_script(watched);
    run_free(&r);
    r = run("ls %s/board/events.out.tfevents.*", in_folder(""));
    r.out[strcspn(r.out, "\n")] = 0;
    size_t length, at = 0;
    const unsigned char *file = file_read(files_context(), r.out, &length);
    int frames = 0, losses = 0, scores = 0;
    float last = NAN;
    while (at < length) {
        size_t size = (size_t)number(file + at, 8);
        ck_assert_uint_le(at + 16 + size, length);
        check_masked(file + at, 8, file + at + 8);
        check_masked(file + at + 12, size, file + at + 12 + size);
        const unsigned char *event = file + at + 12, *tag = memmem(event, size, "\x0a\x04loss\x15", 7);
        ck_assert_int_eq(event[0], 0x09);        /* wall_time */
        if (frames++ == 0)
            ck_assert_ptr_nonnull(memmem(event, size, "brain.Event:2", 13));
        if (tag) {
            memcpy(&last, tag + 7, 4);
            losses++;
        }
        scores += memmem(event, size, "\x0a\x08" "accuracy\x15", 11) != NULL;
        at += 16 + size;
    }
    ck_assert_int_ge(losses, 70);
    ck_assert_int_eq(scores, 3);
    ck_assert_msg(last > 0 && last < 1, "loss %g", (double)last);
    run_free(&r);
}
END_TEST

/* ------------------------------------------------------------------------ checkpoints */

static const char long_run[] =
    "for epoch = 1, 99 do\n"
    "  local loss = m:fit(d, { optimizer = adam { lr = 0.002 }, shuffle = true, log = arg[1] .. '.log',\n"
    "                          checkpoint = arg[1] .. '.ckpt', checkpoint_every = 7 })\n"
    "  print(epoch, string.format('%a', loss))\n"
    "end\n"
    "m:save(arg[1])\n";

/* Kills the process at some places in the middle of epochs, the last time near the end. */
START_TEST(an_interrupted_run_ends_with_the_same_bits)
{
    put_text("script.lua", format(files_context(), "%s%s", data, long_run));
    Run r = run("cd %s && cnnc=$OLDPWD/build/cnnc && $cnnc run script.lua whole >whole.out && "
                "for epochs in '[3-9]|[1-9][0-9]' '[3-9][0-9]' '[6-9][0-9]'; do\n"
                "  $cnnc run script.lua parts >parts.out 2>>parts.err &\n"
                "  pid=$!\n"
                "  until grep -aqE '\"position\":[1-9].*\"epochs\":('$epochs'),' parts.ckpt; do\n"
                "    kill -0 $pid || exit 9; done\n"
                "  kill -KILL $pid; wait $pid; [ $? = 137 ] || exit 8; [ ! -e parts ] || exit 7\n"
                "done 2>/dev/null\n"
                "$cnnc run script.lua parts >parts.out 2>>parts.err && grep -c 'going on' parts.err && "
                "cmp whole parts && cmp whole.out parts.out && cmp whole.log parts.log", in_folder(""));
    ck_assert_msg(r.status == 0, "status %d: %s%s", r.status, r.out, r.err);
    ck_assert_str_eq(r.out, "3\n");
    run_free(&r);
}
END_TEST

static const struct { const char *change, *says; } others[] = {
    {"m:init(6)", "seed: found 5, expected 6"},
    {"d = d:slice(1, 200)", "samples: found 203, expected 200"},
    {"m = load_model 'net.lua':compile { batch = 8 } m:init(5)", "batch: found 4, expected 8"},
    {"local f = io.open('k', 'r+') f:seek('end', -9) f:write 'x' f:close()", "is damaged"},
    {"local f = io.open('k', 'w') f:write 'nonsense' f:close()", "is no checkpoint"},
    {"m:fit(d, { optimizer = sgd { lr = 0 } })", "from the first epoch on"},
};

START_TEST(another_run_is_refused)
{
    Run r = run_script("m:fit(d, { optimizer = adam {}, checkpoint = 'k' })\n");
    run_free(&r);
    static const char again[] = "m:fit(d, { optimizer = adam {}, checkpoint = 'k' })\n";
    put_text("script.lua", format(files_context(), "%s%s\n%s", data, others[_i].change, again));
    r = run("cd %s && $OLDPWD/build/cnnc run script.lua", in_folder(""));
    ck_assert_msg(r.status == STATUS_INPUT && strstr(r.err, others[_i].says), "%s", r.err);
    run_free(&r);
}
END_TEST

/* ----------------------------------------------------------------------------- --watch */

START_TEST(watch_runs_again)
{
    put_text("script.lua", "print(load_model 'net.lua':compile {})\n");
    Run r = run("cd %s && { timeout 20 $OLDPWD/build/cnnc run --watch script.lua >out 2>err & pid=$!; }\n"
                "wait_for() { for i in $(seq 100); do\n"
                "  [ $(wc -l <out) -ge $1 ] && return; sleep 0.1; done; exit 9; }\n"
                "wait_for 1; sleep 0.3; sed -i 's/linear { 2 }/linear { 7 }/' net.lua; wait_for 2\n"
                "sleep 0.3; echo 'print \"the third\"' >>script.lua; wait_for 4\n"
                "kill $pid; cat out; cat err >&2", in_folder(""));
    ck_assert_msg(r.status == 0, "%d: %s%s", r.status, r.out, r.err);
    ck_assert_str_eq(r.out, "net.lua: batch 1, 260 parameters\nnet.lua: batch 1, 805 parameters\n"
                            "net.lua: batch 1, 805 parameters\nthe third\n");
    bool both = strstr(r.err, "--- net.lua has changed\n") && strstr(r.err, "--- script.lua has changed\n");
    ck_assert_msg(both, "%s", r.err);
    run_free(&r);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

Suite *watching_suite(void)
{
    Suite *s = suite_create("watching");
    TCase *t = tcase_create("watching");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, the_page_shows_the_run);
    tcase_add_test(t, mistakes_are_pictures);
    tcase_add_test(t, the_csv_file_has_what_the_page_shows);
    tcase_add_test(t, watching_changes_nothing);
    tcase_add_test(t, checksums_are_castagnoli);
    tcase_add_test(t, events_are_framed_scalars);
    tcase_add_test(t, an_interrupted_run_ends_with_the_same_bits);
    tcase_add_loop_test(t, another_run_is_refused, 0, COUNT(others));
    tcase_add_test(t, watch_runs_again);
    suite_add_tcase(s, t);
    return s;
}
