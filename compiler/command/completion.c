/* Completions for bash and zsh, from the tables of commands and options. */
#include "command.h"

#include <string.h>

static bool takes_file(const OptionRow *row)
{
    return row->argument && strstr(row->argument, "FILE");
}

static void add_names(Text *t, const CommandTable *table, const char *between)
{
    for (int i = 0, found = 0; i < table->commands; i++)
        if (table->command[i].name)
            text_add(t, "%s%s", found++ ? between : "", table->command[i].name);
}

static void add_operations(Text *t)
{
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->method[i].name; i++)
            text_add(t, " %s", (*op)->method[i].name);
}

/* ------------------------------------------------------------------------ bash */

static void add_bash_values(Text *t, const CommandTable *table)
{
    for (int i = 0; i < table->options; i++) {
        const OptionRow *row = &table->option[i];
        const char *values = option_values(t->c, table, row);
        if (!row->argument)
            continue;
        text_add(t, "        %s--%s) ", row->key == 'o' ? "-o|" : "", row->name);
        if (values)
            text_add(t, "COMPREPLY=($(compgen -W '%s' -- \"$word\"))", values);
        else if (takes_file(row))
            text_add(t, "COMPREPLY=($(compgen -f -- \"$word\"))");
        text_add(t, "%sreturn ;;\n", values || takes_file(row) ? "; " : "");
    }
}

static void add_bash_options(Text *t, const CommandTable *table)
{
    for (int k = 0; k < table->commands; k++) {
        const Command *command = &table->command[k];
        text_add(t, "        %s) options='", command->name ? command->name : "compile|''");
        for (int i = 0, found = 0; i < table->options; i++)
            if (table->option[i].takes & command->bit)
                text_add(t, "%s--%s", found++ ? " " : "", table->option[i].name);
        text_add(t, "' ;;\n");
    }
}

void help_bash(Text *t, const CommandTable *table)
{
    text_add(t, "# Completions of cnnc for bash, printed by cnnc help --bash\n_cnnc()\n{\n"
             "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
             "    local command= options= i\n"
             "    COMPREPLY=()\n"
             "    if [[ $word == = ]]; then\n        word=\n"
             "    elif [[ $before == = ]]; then\n        before=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n"
             "    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n            ");
    add_names(t, table, "|");
    text_add(t, ") command=${COMP_WORDS[i]}; break ;;\n            *.lua|-) command=compile; break ;;\n"
             "        esac\n    done\n    case $before in\n");
    add_bash_values(t, table);
    text_add(t, "    esac\n    case $command in\n");
    add_bash_options(t, table);
    text_add(t, "    esac\n    if [[ $word == -* ]]; then\n"
             "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
             "    elif [[ $command == help ]]; then\n        COMPREPLY=($(compgen -W '");
    add_names(t, table, " ");
    add_operations(t);
    text_add(t, "' -- \"$word\"))\n    elif [[ $command != new ]]; then\n"
             "        COMPREPLY=($(compgen -f -X '!*.lua' -- \"$word\") $(compgen -d -- \"$word\"))\n"
             "        [[ $command ]] || COMPREPLY+=($(compgen -W '");
    add_names(t, table, " ");
    text_add(t, "' -- \"$word\"))\n    fi\n}\ncomplete -o filenames -F _cnnc cnnc\n");
}

/* ------------------------------------------------------------------------- zsh */

/* Inside '...' and before a colon or bracket of _arguments. */
static void add_zsh_text(Text *t, const char *text)
{
    for (; *text; text++)
        if (*text == '\'')
            text_add(t, "'\\''");
        else
            text_add(t, "%s%c", strchr("[]:", *text) ? "\\" : "", *text);
}

static void add_zsh_option(Text *t, const CommandTable *table, const OptionRow *row)
{
    const char *values = option_values(t->c, table, row), *forms[] = {"--", "-o"};
    for (int i = 0; i < (row->key == 'o' ? 2 : 1); i++) {
        text_add(t, " \\\n        '%s%s[", forms[i], i ? "" : row->name);
        add_zsh_text(t, row->doc);
        text_add(t, "]");
        if (row->argument) {
            text_add(t, ":");
            add_zsh_text(t, row->argument);
            text_add(t, ":%s%s%s", values ? "(" : takes_file(row) ? "_files" : "", values ? values : "",
                     values ? ")" : "");
        }
        text_add(t, "'");
    }
}

void help_zsh(Text *t, const CommandTable *table)
{
    text_add(t, "#compdef cnnc\n# Completions of cnnc for zsh, printed by cnnc help --zsh\n_cnnc()\n{\n"
             "    local -a commands=(");
    for (int i = 0; i < table->commands; i++)
        if (table->command[i].name) {
            text_add(t, "\n        '%s:", table->command[i].name);
            add_zsh_text(t, table->command[i].doc);
            text_add(t, "'");
        }
    text_add(t, ")\n    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then\n"
             "        _describe command commands\n        _files -g '*.lua'\n        return\n    fi\n"
             "    case $words[2] in\n");
    for (int k = table->commands - 1; k >= 0; k--) {
        const Command *command = &table->command[k];
        text_add(t, "    %s) _arguments '2: :_files'", command->name ? command->name : "*");
        for (int i = 0; i < table->options; i++)
            if (table->option[i].takes & command->bit)
                add_zsh_option(t, table, &table->option[i]);
        if (command->bit == HELP) {
            text_add(t, " \\\n        '*:topic:(");
            add_names(t, table, " ");
            add_operations(t);
            text_add(t, ")'");
        } else {
            text_add(t, " \\\n        '*:file:_files'");
        }
        text_add(t, " ;;\n");
    }
    text_add(t, "    esac\n}\n_cnnc \"$@\"\n");
}
