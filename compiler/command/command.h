/* The command line as tables (main.c has them), and the texts that follow from them: help,
 * the manual page, completions. */
#ifndef COMMAND_H
#define COMMAND_H

#include "../cnnc.h"

enum {
    COMPILE = 1, SUMMARY = 2, PREDICT = 4, GRADCHECK = 8, BENCH = 16, RUN = 32, NEW = 64, HELP = 128,
    PACK = 256,
    NETWORK = COMPILE | SUMMARY | PREDICT | GRADCHECK | BENCH | PACK,   /* those that take a network file */
    EVERY = NETWORK | RUN | NEW | HELP
};

typedef struct Command {
    int bit;
    const char *name;         /* NULL: no word, the network file comes first */
    const char *usage, *doc, *example;
} Command;

typedef struct OptionRow {
    int key;                  /* a letter is also the short form */
    const char *name, *argument;       /* argument NULL: a switch */
    int takes;                /* the commands that take it */
    const char *doc;
} OptionRow;

/* What an option may be, separated by blanks. */
typedef struct OptionValues { const char *name, *values; } OptionValues;

#define VALUES_TARGETS "targets"       /* as values: the names of target_list */

typedef struct CommandTable {
    const Command *command; int commands;
    const OptionRow *option; int options;
    const OptionValues *values;        /* a name of NULL ends them */
} CommandTable;

/* ------------------------------------------------------------------------ help.c */

const char *command_name(const Command *command);
const Command *command_find(const CommandTable *table, const char *name);      /* NULL: unknown */
/* NULL: any value will do. */
const char *option_values(Context *c, const CommandTable *table, const OptionRow *row);
void help_print(const CommandTable *table, const Command *only);               /* only NULL: all */
/* A command or an operation of the network language; NULL: everything. */
void help_topic(Context *c, const CommandTable *table, const char *topic);
/* The name that was meant, for messages on commands, options and their values; or NULL. */
const char *help_advice(Context *c, const CommandTable *table);

/* --------------------------------------------------------------- man.c, completion.c */

void help_man(Text *t, const CommandTable *table);
void help_bash(Text *t, const CommandTable *table);
void help_zsh(Text *t, const CommandTable *table);

#endif
