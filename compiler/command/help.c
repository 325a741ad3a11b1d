/* What `cnnc --help` and `cnnc help TOPIC` print, and which name was meant. */
#include "command.h"

#include <string.h>

const char *command_name(const Command *command)
{
    return command->name ? command->name : "compile";
}

const Command *command_find(const CommandTable *table, const char *name)
{
    for (int i = 0; i < table->commands; i++)
        if (table->command[i].name && !strcmp(table->command[i].name, name))
            return &table->command[i];
    return NULL;
}

const char *option_values(Context *c, const CommandTable *table, const OptionRow *row)
{
    const OptionValues *v = table->values;
    while (v->name && strcmp(v->name, row->name))
        v++;
    if (!v->values || strcmp(v->values, VALUES_TARGETS))
        return v->values;
    int count;
    const Target *target = target_list(&count);
    Text t = {.c = c};
    for (int i = 0; i < count; i++)
        text_add(&t, "%s%s", i ? " " : "", target[i].name);
    return t.data;
}

/* ------------------------------------------------------------------- the texts */

static void print_options(const CommandTable *table, const Command *only)
{
    printf("\nOptions:\n");
    for (int i = 0; i < table->options; i++) {
        const OptionRow *row = &table->option[i];
        if (only && !(row->takes & only->bit))
            continue;
        if (!only && row->takes == HELP)
            continue;                            /* for those who package cnnc: cnnc help --help */
        char left[40];
        snprintf(left, sizeof left, "%s--%s %s", row->key == 'o' ? "-o, " : "", row->name,
                 row->argument ? row->argument : "");
        printf("  %-26s %s\n", left, row->doc);
    }
}

static void print_targets(void)
{
    int count;
    const Target *target = target_list(&count);
    printf("\nTargets:\n");
    for (int i = 0; i < count; i++)
        printf("  %-12s %s\n", target[i].name, target[i].doc);
}

static void print_usage(const Command *command, bool first)
{
    printf("%s cnnc %s%s%s\n           %s\n", first ? "Usage:" : "      ", command->name ? command->name : "",
           command->name ? " " : "", command->usage, command->doc);
}

void help_print(const CommandTable *table, const Command *only)
{
    if (!only)
        printf("cnnc: a network in Lua becomes C that trains it and runs it.\n\n");
    for (int i = 0; i < table->commands; i++)
        if (!only || only == &table->command[i])
            print_usage(&table->command[i], i == 0 || only);
    if (only)
        printf("\nExample:   %s\n", only->example);
    else
        printf("\nTo begin:  cnnc new bars && make -C bars run\n");
    print_options(table, only);
    if (!only || only->bit & NETWORK)
        print_targets();
    printf("\nExit status: 0 done, 1 bad input, 2 bad usage, 3 a fault of cnnc.\n");
}

/* -------------------------------------------------------------------- topics */

static const Op *find_method(const char *name)
{
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->method[i].name; i++)
            if (!strcmp((*op)->method[i].name, name))
                return *op;
    return NULL;
}

void help_topic(Context *c, const CommandTable *table, const char *topic)
{
    const Command *command = !topic ? NULL : strcmp(topic, "compile") ? command_find(table, topic)
                                                                      : &table->command[0];
    const Op *op = topic && !command ? find_method(topic) : NULL;
    if (topic && !command && !op)
        fail(c, STATUS_USAGE, "help: found '%s', expected a command or an operation", topic);
    if (!op) {
        help_print(table, command);
        return;
    }
    Text t = {.c = c};
    reference_op(&t, op);
    fputs(t.data, stdout);
}

/* ----------------------------------------------------------- what was meant */

static void try_commands(Nearest *n, const CommandTable *table)
{
    for (int i = 0; i < table->commands; i++)
        if (table->command[i].name)
            nearest_try(n, table->command[i].name, strlen(table->command[i].name));
}

static void try_words(Nearest *n, const char *words)
{
    for (size_t length; *words; words += length + strspn(words + length, " ")) {
        length = strcspn(words, " ");
        nearest_try(n, words, length);
    }
}

/* The values of the option that the message begins with: "--jit: ...". */
static void try_values(Context *c, Nearest *n, const CommandTable *table)
{
    for (int i = 0; i < table->options; i++) {
        const char *begins = format(c, "--%s:", table->option[i].name);
        const char *values = option_values(c, table, &table->option[i]);
        bool named = !strncmp(c->message, begins, strlen(begins)) ||
                     !strncmp(c->message, begins + 2, strlen(begins) - 2);
        if (values && named)
            try_words(n, values);
    }
}

const char *help_advice(Context *c, const CommandTable *table)
{
    static const char unknown[] = "unknown option --";
    if (!strcmp(c->message, "no network file"))
        return "cnnc new NAME makes a folder with a network to begin with";
    const char *option = strstr(c->message, unknown), *word = strpbrk(c->message, "'\"");
    const char *dashes = option ? "--" : "";
    Nearest n = {.word = option ? option + strlen(unknown) : word ? word + 1 : ""};
    n.word_length = strcspn(n.word, option ? "= " : "'\"");
    if (option)
        for (int i = 0; i < table->options; i++)
            nearest_try(&n, table->option[i].name, strlen(table->option[i].name));
    else if (!strncmp(c->message, "unknown command", 15) || !strncmp(c->message, "help:", 5))
        try_commands(&n, table);
    else
        try_values(c, &n, table);
    if (!strncmp(c->message, "help:", 5))
        for (const Op *const *op = op_table(); *op; op++)
            for (int i = 0; i < 4 && (*op)->method[i].name; i++)
                nearest_try(&n, (*op)->method[i].name, strlen((*op)->method[i].name));
    return n.name[0] ? format(c, "did you mean '%s%s'?", dashes, n.name) : NULL;
}
