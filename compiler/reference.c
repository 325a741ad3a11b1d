/* The op table as text: for a terminal, for docs/language.md, for editors. */
#include "cnnc.h"

#include <string.h>

static const char *default_text(Context *c, const ArgSpec *a)
{
    if (a->required)
        return "required";
    switch (a->kind) {
    case ARG_BOOL: case ARG_BIAS:
        return a->standard != 0 ? "true" : "false";
    case ARG_NAME: case ARG_INPUT_NAME: case ARG_LITERAL: case ARG_SHAPE: case ARG_END:
        return "";
    case ARG_DIMS:
        if (a->standard < a->low)
            return "";                           /* the doc says what it is then */
        break;
    case ARG_INT: case ARG_NUMBER: case ARG_PADS:
        break;
    }
    return format(c, "%g", a->standard);
}

static const char *kind_text(const ArgSpec *a)
{
    switch (a->kind) {
    case ARG_INT:        return "whole number";
    case ARG_NUMBER:     return "number";
    case ARG_BOOL:       return "true or false";
    case ARG_NAME: case ARG_INPUT_NAME: return "text";
    case ARG_DIMS:       return "whole number, or one per spatial dim";
    case ARG_PADS:       return "whole number, one per dim, all begins then all ends, or \"same\"";
    case ARG_SHAPE:      return "whole numbers";
    case ARG_LITERAL:    return "nested table of numbers";
    case ARG_BIAS:       return "true, false or a table of numbers";
    case ARG_END:        break;
    }
    return "";
}

static void add_methods(Text *t, const Op *op)
{
    for (int i = 0; i < 4 && op->method[i].name; i++)
        text_add(t, "%s%s", i ? ", " : "", op->method[i].name);
}

static bool has_args(const Op *op)
{
    return op->args && op->args->kind != ARG_END;
}

/* ------------------------------------------------------------------- a terminal */

/* x:conv2d { out, kernel = ..., ... }: what must be given. */
static void add_call(Text *t, const Op *op, const char *method)
{
    bool table = has_args(op), any = false;
    if (op->operands == 2) {
        text_add(t, "a:%s(b)", method);
        return;
    }
    text_add(t, op->operands < 0 ? "%s { a, b, ..." : "x:%s", method);
    if (op->operands < 0) {
        text_add(t, " }");
        return;
    }
    text_add(t, table ? " {" : "()");
    for (const ArgSpec *a = op->args; table && a->kind != ARG_END; a++) {
        if (!a->required)
            continue;
        text_add(t, "%s%s%s", any ? ", " : " ", a->kind == ARG_SHAPE ? "sizes ..." : a->name,
                 a->positional ? "" : " = ...");
        any = true;
    }
    text_add(t, table ? " }" : "");
}

void reference_op(Text *t, const Op *op)
{
    add_methods(t, op);
    text_add(t, ": %s\n\n", op->doc);
    for (int i = 0; i < 4 && op->method[i].name; i++) {
        text_add(t, "    ");
        add_call(t, op, op->method[i].name);
        text_add(t, "\n");
    }
    if (has_args(op))
        text_add(t, "\n");
    for (const ArgSpec *a = op->args; has_args(op) && a->kind != ARG_END; a++) {
        const char *standard = default_text(t->c, a), *of = kind_text(a);
        text_add(t, "  %-18s %s (%s%s%s%s)\n", a->kind == ARG_SHAPE ? "..." : a->name, a->doc, of,
                 *standard ? "; " : "", *standard && !a->required ? "default " : "", standard);
    }
    if (op->samples && op->samples[0])
        text_add(t, "\nExample:   %s\n", op->samples[0]);
}

/* ---------------------------------------------------------------------- Markdown */

static void add_markdown(Text *t, const Op *op)
{
    text_add(t, "\n### ");
    add_methods(t, op);
    text_add(t, "\n\n%s\n", op->doc);
    if (!has_args(op))
        return;
    static const char *const place[] = {" or first", " or second", " or third"};
    int places = 0;
    text_add(t, "\n| option | value | default | |\n| --- | --- | --- | --- |\n");
    for (const ArgSpec *a = op->args; a->kind != ARG_END; a++)
        text_add(t, "| `%s`%s | %s | %s | %s |\n", a->kind == ARG_SHAPE ? "..." : a->name,
                 a->positional && a->kind != ARG_SHAPE ? place[places++] : "", kind_text(a),
                 default_text(t->c, a), a->doc);
}

void reference_markdown(Text *t)
{
    for (const Op *const *op = op_table(); *op; op++)
        add_markdown(t, *op);
    text_add(t, "\n");
}

/* --------------------------------------------- the Lua language server's annotations */

static const char *lua_type(const ArgSpec *a)
{
    switch (a->kind) {
    case ARG_INT: case ARG_SHAPE: return "integer";
    case ARG_NUMBER:     return "number";
    case ARG_BOOL:       return "boolean";
    case ARG_NAME: case ARG_INPUT_NAME: return "string";
    case ARG_DIMS:       return "integer|integer[]";
    case ARG_PADS:       return "integer|integer[]|\"same\"";
    case ARG_LITERAL:    return "table";
    case ARG_BIAS:       return "boolean|number[]";
    case ARG_END:        break;
    }
    return "";
}

static void add_option_class(Text *t, const Op *op)
{
    int place = 0;
    text_add(t, "---@class cnnc.%s.options\n", op->method[0].name);
    for (const ArgSpec *a = op->args; a->kind != ARG_END; a++) {
        const char *standard = default_text(t->c, a);
        if (a->kind == ARG_SHAPE)
            text_add(t, "---@field [integer] integer %s\n", a->doc);
        else if (a->positional)
            text_add(t, "---@field [%d]? %s `%s`: %s\n", ++place, lua_type(a), a->name, a->doc);
        if (a->kind != ARG_SHAPE)
            text_add(t, "---@field %s%s %s %s%s%s%s\n", a->name, a->required && !a->positional ? "" : "?",
                     lua_type(a), a->doc, *standard && !a->required ? " (default " : "",
                     a->required ? "" : standard, *standard && !a->required ? ")" : "");
    }
    if (op->operands < 0)
        text_add(t, "---@field [integer] cnnc.Node\n");
    text_add(t, "\n");
}

static void add_luals_op(Text *t, const Op *op)
{
    if (has_args(op))
        add_option_class(t, op);
    for (int i = 0; i < 4 && op->method[i].name; i++) {
        bool first = op->operands < 0;
        text_add(t, "---%s\n", op->doc);
        if (op->operands == 2)
            text_add(t, "---@param other cnnc.Node|number\n");
        else if (first)
            text_add(t, "---@param first cnnc.%s.options|cnnc.Node\n---@param ... cnnc.Node\n",
                     op->method[0].name);
        else if (has_args(op))
            text_add(t, "---@param options? cnnc.%s.options\n", op->method[0].name);
        const char *takes = op->operands == 2 ? "other" : first ? "first, ..."
                          : has_args(op) ? "options" : "";
        text_add(t, "---@return cnnc.Node\nfunction %s%s(%s) end\n\n", first ? "" : "Node:",
                 op->method[i].name, takes);
    }
}

void reference_luals(Text *t)
{
    static const char *const operators[] = {"add", "sub", "mul", "div"};
    text_add(t, "---@meta cnnc\n-- What network files and experiments call, for the Lua language server.\n"
             "-- Printed by cnnc help --luals.\n\n"
             "---A tensor of a network: the value that a layer computes.\n---@class cnnc.Node\n"
             "---@field shape integer[] sizes, without the batch\n---@field channels integer\n"
             "---@field length integer\n---@field height integer\n---@field width integer\n"
             "---@field depth integer\n");
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        text_add(t, "---@operator %s(cnnc.Node|number): cnnc.Node\n", operators[i]);
    text_add(t, "---@operator unm: cnnc.Node\nlocal Node = {}\n\n"
             "---What the caller passes in: { channels, height, width, name = \"image\" }\n"
             "---@param sizes { [integer]: integer, name: string? }\n---@return cnnc.Node\n"
             "function input(sizes) end\n\n---@class cnnc.Model\n\n"
             "---What the file returns.\n"
             "---@param parts { output: cnnc.Node|table<string, cnnc.Node>, loss: cnnc.Node?, name: string? }"
             "\n"
             "---@return cnnc.Model\nfunction model(parts) end\n\n");
    for (const Op *const *op = op_table(); *op; op++)
        add_luals_op(t, *op);
}
