/* The networks that bear torchvision's names have its state_dict: the same parameters in the
 * same order, so that its weights fit by name and by position.  The lists in
 * tests/data/torchvision/ were printed by torchvision 0.14.1. */
#include "../runtime/runtime.h"
#include "tests.h"

#include <stdlib.h>

static const char *const network[] = {"squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "vgg16"};
enum { NETWORKS = sizeof network / sizeof *network };

static void load(void *argument)
{
    Graph *g = argument;
    *g = *network_load(g->c, format(g->c, "graphs/%s.lua", g->name), 1);
}

START_TEST(parameters_are_torchvisions)
{
    Context c;
    context_init(&c);
    Graph g = {.c = &c, .name = network[_i]};
    ck_assert_msg(attempt(&c, load, &g), "%s", c.message);
    Text list = {.c = &c};
    for (int p = 0; p < g.params; p++)
        text_add(&list, "%s %s\n", g.param[p]->name, shape_text(&c, &g.param[p]->shape, false));
    char *expected = text_read(format(&c, "tests/data/torchvision/%s.txt", network[_i]));
    ck_assert_ptr_nonnull(expected);
    ck_assert_str_eq(list.data, expected);
    free(expected);
    context_free(&c);
}
END_TEST

START_TEST(pictures_become_logits)
{
    Context c;
    context_init(&c);
    Graph g = {.c = &c, .name = network[_i]};
    ck_assert_msg(attempt(&c, load, &g), "%s", c.message);
    ck_assert_str_eq(g.input[0]->name, "image");
    ck_assert_str_eq(shape_text(&c, &g.input[0]->shape, true), "3x224x224");
    ck_assert_int_eq(g.roots, 2);                /* and the loss */
    ck_assert_str_eq(g.root[0].name, "logits");
    ck_assert_str_eq(shape_text(&c, &g.root[0].node->shape, true), "1000");
    context_free(&c);
}
END_TEST

Suite *torchvision_suite(void)
{
    Suite *suite = suite_create("torchvision");
    TCase *networks = tcase_create("networks");
    tcase_add_loop_test(networks, parameters_are_torchvisions, 0, NETWORKS);
    tcase_add_loop_test(networks, pictures_become_logits, 0, NETWORKS);
    suite_add_tcase(suite, networks);
    return suite;
}
