/* The manual page, as man(7) macros. */
#include "command.h"

#include <string.h>

/* Text that roff takes literally: hyphens as typed, no macro at the beginning of a line. */
static void add_plain(Text *t, const char *text)
{
    if (*text == '.' || *text == '\'')
        text_add(t, "\\&");
    for (; *text; text++)
        if (*text == '-')
            text_add(t, "\\-");
        else if (*text == '\\')
            text_add(t, "\\e");
        else
            text_add(t, "%c", *text);
}

static void add_commands(Text *t, const CommandTable *table)
{
    text_add(t, ".SH SYNOPSIS\n");
    for (int i = 0; i < table->commands; i++) {
        const Command *command = &table->command[i];
        text_add(t, "%s.B cnnc%s%s\n.RI \"", i ? ".br\n" : "", command->name ? " " : "",
                 command->name ? command->name : "");
        add_plain(t, command->usage);
        text_add(t, "\"\n");
    }
    text_add(t, ".SH DESCRIPTION\ncnnc compiles convolutional networks.\n"
             "A network file in Lua declares the layers; cnnc infers every shape, derives the\n"
             "gradients and writes one C file and its header, or runs the same C in memory.\n.SH COMMANDS\n");
    for (int i = 0; i < table->commands; i++) {
        text_add(t, ".TP\n.B %s\n", command_name(&table->command[i]));
        add_plain(t, table->command[i].doc);
        text_add(t, "\n.br\nExample:\n.B ");
        add_plain(t, table->command[i].example);
        text_add(t, "\n");
    }
}

static void add_options(Text *t, const CommandTable *table)
{
    text_add(t, ".SH OPTIONS\n");
    for (int i = 0; i < table->options; i++) {
        const OptionRow *row = &table->option[i];
        text_add(t, ".TP\n.B %s\\-\\-", row->key == 'o' ? "\\-o, " : "");
        add_plain(t, row->name);
        text_add(t, "%s%s\n", row->argument ? " " : "", row->argument ? row->argument : "");
        add_plain(t, row->doc);
        text_add(t, ".\n");
        if (row->takes == EVERY)
            continue;
        text_add(t, "Taken by");
        for (int k = 0, found = 0; k < table->commands; k++)
            if (row->takes & table->command[k].bit)
                text_add(t, "%s %s", found++ ? "," : "", command_name(&table->command[k]));
        text_add(t, ".\n");
    }
}

static void add_targets(Text *t)
{
    int count;
    const Target *target = target_list(&count);
    text_add(t, ".SH TARGETS\n");
    for (int i = 0; i < count; i++) {
        text_add(t, ".TP\n.B ");
        add_plain(t, target[i].name);
        text_add(t, "\n");
        add_plain(t, target[i].doc);
        text_add(t, "\n");
    }
}

void help_man(Text *t, const CommandTable *table)
{
    text_add(t, ".TH CNNC 1 2026-11-25 \"cnnc %s\" \"User Commands\"\n"
             ".SH NAME\ncnnc \\- graph compiler for convolutional networks\n", CNNC_VERSION);
    add_commands(t, table);
    add_options(t, table);
    add_targets(t);
    text_add(t, ".SH ENVIRONMENT\n.TP\n.B CC\n"
             "The C compiler of \\-o net.o, net.a, net.so and of \\-\\-jit cc (cc).\n"
             ".TP\n.B CNNC_DEBUG\nWhat happens inside, on standard error.\n1: the passes with their times,\n"
             "2: the sizes of graphs and kernels too,\n3: schedules,\n4: the graph after each pass.\n"
             ".SH EXIT STATUS\n0 done, 1 bad input, 2 bad usage, 3 a fault of cnnc.\n"
             "A command that fails leaves every existing file as it was.\n"
             ".SH FILES\n.TP\n.I /usr/share/cnnc/graphs\nNetworks and experiments to begin with.\n"
             ".SH SEE ALSO\n.BR gcc (1),\n.BR lua (1)\n");
}
