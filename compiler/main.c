/* The command line: arguments to CommandOptions, failures to messages and exit
 * statuses.  Results go to stdout, messages to stderr. */
#include "../runtime/runtime.h"
#include "command/command.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const Command commands[] = {
    {COMPILE, NULL, "NETWORK -o net.c|net.h|net.o|net.a|net.so",
     "C source and its header; other kinds by the system's C compiler",
     "cnnc net.lua --weights net.safetensors -o net.c"},
    {SUMMARY, "summary", "NETWORK", "shapes, parameters, work and memory of each layer",
     "cnnc summary net.lua"},
    {PACK, "pack", "NETWORK --weights w.safetensors -o net.blob", "new parameters for a compiled net.c",
     "cnnc pack net.lua --weights new.safetensors -o net.blob"},
    {PREDICT, "predict", "NETWORK --input x.npy|x.png [--output y.npy]", "compiled in memory and run",
     "cnnc predict net.lua --weights net.safetensors --input picture.png"},
    {GRADCHECK, "gradcheck", "NETWORK", "every gradient against finite differences, in double",
     "cnnc gradcheck net.lua"},
    {BENCH, "bench", "NETWORK", "latency and throughput, forward or --train; each kernel by --layers",
     "cnnc bench net.lua --layers"},
    {RUN, "run", "EXPERIMENT.lua [ARG...]", "an experiment in Lua: reads data, trains, looks at tensors",
     "cnnc run train.lua"},
    {NEW, "new", "NAME", "a folder with a network, an experiment and a C program that work at once",
     "cnnc new bars && make -C bars run"},
    {HELP, "help", "[COMMAND|OPERATION]", "what a command takes, or an operation of the network language",
     "cnnc help conv2d"},
};

enum {
    KEY_WEIGHTS = 256, KEY_SEED, KEY_BATCH, KEY_TRAIN, KEY_TARGET, KEY_JIT, KEY_NAME, KEY_THREADS, KEY_EMIT,
    KEY_SCHEDULE, KEY_TUNE, KEY_WINOGRAD, KEY_INPUT, KEY_INPUT_GRAD, KEY_JSON, KEY_RUNS, KEY_LAYERS, KEY_HELP,
    KEY_VERSION, KEY_MEMORY, KEY_MAX_WORKSPACE, KEY_MAX_PARAMS, KEY_MAX_CODE, KEY_WATCH, KEY_SELF_TEST,
    KEY_MAN, KEY_BASH, KEY_ZSH, KEY_LUALS, KEY_REFERENCE, KEY_STORE, KEY_OPTIMIZE
};

static const OptionRow option_rows[] = {
    {'o', "output", "[NAME=]FILE", COMPILE | PREDICT | PACK, "where the result goes; - is standard output"},
    {KEY_INPUT, "input", "[NAME=]FILE", PREDICT, "samples (.npy) or one picture (PNG, PGM, JPEG)"},
    {KEY_WEIGHTS, "weights", "FILE", NETWORK, "parameters from a .safetensors file"},
    {KEY_STORE, "store", "FORM", COMPILE | PACK, "constant parameters as f32, f16 or bf16 (f32)"},
    {KEY_SEED, "seed", "N", NETWORK, "of initial parameters (0)"},
    {KEY_BATCH, "batch", "N", NETWORK, "samples of one call (1)"},
    {KEY_TRAIN, "train", NULL, NETWORK, "with loss, backward and optimisers"},
    {KEY_INPUT_GRAD, "input-grad", NULL, COMPILE, "backward also yields the gradients of the inputs"},
    {KEY_TARGET, "target", "NAME", NETWORK, "processor to compile for (native)"},
    {KEY_JIT, "jit", "NAME", NETWORK, "how to run in memory: tcc, cc or eval (tcc)"},
    {KEY_NAME, "name", "PREFIX", NETWORK, "of C names (the model's name)"},
    {KEY_THREADS, "threads", "N", NETWORK, "threads of one call, at most one a processor (1)"},
    {KEY_SCHEDULE, "schedule", "FILE", COMPILE | PREDICT | BENCH | PACK, "inner loops as --tune found them"},
    {KEY_TUNE, "tune", NULL, COMPILE | PREDICT | BENCH, "time inner loops here first; --schedule keeps them"},
    {KEY_WINOGRAD, "winograd", "TILE", NETWORK,
     "of 3x3 convolutions: off, f2, f4, f6, auto (auto)"},
    {KEY_OPTIMIZE, "optimize", "FOR", NETWORK, "speed, size or memory (speed); scalar targets"},
    {KEY_MAX_WORKSPACE, "max-workspace", "BYTES", COMPILE, "fail if a call needs more memory (64K, 1M)"},
    {KEY_MAX_PARAMS, "max-params", "BYTES", COMPILE, "fail if the parameters take more"},
    {KEY_MAX_CODE, "max-code", "BYTES", COMPILE, "fail if the machine code takes more"},
    {KEY_SELF_TEST, "self-test", "N", COMPILE, "with a function that checks N calls on the device"},
    {KEY_EMIT, "emit", "FORM", NETWORK, "print ir, ir:PASS, plan or dot"},
    {KEY_RUNS, "runs", "N", GRADCHECK | BENCH, "bench: calls to time; gradcheck: points per tensor"},
    {KEY_LAYERS, "layers", NULL, BENCH, "time of each kernel, beside the machine's limits"},
    {KEY_MEMORY, "memory", NULL, SUMMARY, "what is alive in the workspace, step by step"},
    {KEY_JSON, "json", NULL, SUMMARY | BENCH, "for programs"},
    {KEY_WATCH, "watch", NULL, RUN, "run again whenever the script or one of its networks changes"},
    {KEY_MAN, "man", NULL, HELP, "print the manual page"},
    {KEY_BASH, "bash", NULL, HELP, "print the completions of bash"},
    {KEY_ZSH, "zsh", NULL, HELP, "print the completions of zsh"},
    {KEY_LUALS, "luals", NULL, HELP, "print the definitions for the Lua language server of editors"},
    {KEY_REFERENCE, "reference", NULL, HELP, "print the reference of all operations as Markdown"},
    {KEY_HELP, "help", NULL, EVERY, "this text"},
    {KEY_VERSION, "version", NULL, EVERY, "the version"},
};
enum { OPTIONS = sizeof option_rows / sizeof *option_rows };

/* Options with a few values, for completions and hints; "targets": those of target_list. */
static const OptionValues values[] = {
    {"target", VALUES_TARGETS}, {"jit", "tcc cc eval"}, {"winograd", "off f2 f4 f6 auto"},
    {"store", "f32 f16 bf16"}, {"optimize", "speed size memory"}, {"emit", "ir plan dot"}, {NULL, NULL}};

static const CommandTable table = {
    commands, sizeof commands / sizeof *commands, option_rows, OPTIONS, values};

typedef struct CommandLine {
    Context *c;
    int argc;
    char **argv;
    const Command *command;
    CommandOptions options;
    bool help, version;
    int form;                 /* of what help prints: KEY_MAN ..., 0: text */
    char **rest;              /* arguments of an experiment */
    int rests;
    int status;
} CommandLine;

/* ------------------------------------------------------------------- parsing */

/* A whole number without sign, blanks or leftovers. */
static uint64_t parse_number(Context *c, const char *option, const char *text, uint64_t low, uint64_t high)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    if (!end || *end || errno || value < low || value > high)
        fail(c, STATUS_USAGE, "--%s: found '%s', expected a whole number from %llu to %llu", option, text,
             (unsigned long long)low, (unsigned long long)high);
    return value;
}

/* "65536", "64K", "1M". */
static int64_t parse_bytes(Context *c, const char *option, const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    int shift = end && *end == 'K' ? 10 : end && *end == 'M' ? 20 : 0;
    if (!end || end[shift != 0] || errno || value < 1 || value > (uint64_t)INT64_MAX >> shift)
        fail(c, STATUS_USAGE, "--%s: found '%s', expected bytes: 65536, 64K, 1M", option, text);
    return (int64_t)value << shift;
}

static const char *parse_prefix(Context *c, const char *text)
{
    bool good = isalpha((unsigned char)*text) || *text == '_';
    for (const char *p = text; *p; p++)
        good = good && (isalnum((unsigned char)*p) || *p == '_');
    if (!good)
        fail(c, STATUS_USAGE, "--name: found '%s', expected letters, digits and _ as in a C name", text);
    return text;
}

static const Target *parse_target(Context *c, const char *text)
{
    const Target *target = target_find(text);
    if (!target)
        fail(c, STATUS_USAGE, "--target: unknown target '%s' (see cnnc --help)", text);
    return target;
}

static int parse_winograd(Context *c, const char *text)
{
    static const struct { const char *name; int tile; } tiles[] = {
        {"auto", WINOGRAD_AUTO}, {"off", WINOGRAD_OFF}, {"f2", 2}, {"f4", 4}, {"f6", 6}};
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        if (!strcmp(text, tiles[i].name))
            return tiles[i].tile;
    fail(c, STATUS_USAGE, "--winograd: found '%s', expected off, f2, f4, f6 or auto", text);
}

static Store16 parse_store(Context *c, const char *text)
{
    for (Store16 s = STORE_F32; s <= STORE_BF16; s++)
        if (!strcmp(text, store_name(s)))
            return s;
    fail(c, STATUS_USAGE, "--store: found '%s', expected f32, f16 or bf16", text);
}

static Optimize parse_optimize(Context *c, const char *text)
{
    static const char *const name[] = {"speed", "size", "memory"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, name[i]))
            return (Optimize)i;
    fail(c, STATUS_USAGE, "--optimize: found '%s', expected speed, size or memory", text);
}

static void parse_emit(Context *c, Options *o, const char *text)
{
    if (strncmp(text, "ir:", 3) == 0 && text[3]) {
        o->emit = "ir";
        o->emit_after = text + 3;
    } else if (!strcmp(text, "ir") || !strcmp(text, "plan") || !strcmp(text, "dot")) {
        o->emit = text;
    } else {
        fail(c, STATUS_USAGE, "--emit: found '%s', expected ir, ir:PASS, plan or dot", text);
    }
}

/* More threads than processors would wait for each other: as many as there are must do. */
static int parse_threads(Context *c, const char *text)
{
    int threads = (int)parse_number(c, "threads", text, 1, 1024);
    return threads < processors() ? threads : processors();
}

static void add_file(Context *c, const char *option, const char **list, int *count, int room)
{
    if (*count == room)
        fail(c, STATUS_USAGE, "--%s: given more than %d times", option, room);
    list[(*count)++] = optarg;
}

static void take_option(CommandLine *line, int key)
{
    Context *c = line->c;
    CommandOptions *o = &line->options;
    enum { ROOM = sizeof o->input / sizeof *o->input };
    switch (key) {
    case 'o':            add_file(c, "output", o->outputs, &o->n_outputs, ROOM); break;
    case KEY_INPUT:      add_file(c, "input", o->input, &o->inputs, ROOM); break;
    case KEY_WEIGHTS:    o->weights = optarg; break;
    case KEY_SELF_TEST:  o->compile.self_test = (int)parse_number(c, "self-test", optarg, 1, 1000); break;
    case KEY_SEED:       o->seed = o->compile.seed = parse_number(c, "seed", optarg, 0, UINT64_MAX); break;
    case KEY_BATCH:      o->compile.batch = (int)parse_number(c, "batch", optarg, 1, INT_MAX); break;
    case KEY_TRAIN:      o->train = o->compile.train = true; break;
    case KEY_INPUT_GRAD: o->compile.input_grad = true; break;
    case KEY_TARGET:     o->compile.target = parse_target(c, optarg); break;
    case KEY_JIT:        o->jit = jit_find(c, optarg); break;
    case KEY_NAME:       o->compile.prefix = parse_prefix(c, optarg); break;
    case KEY_THREADS:    o->compile.threads = parse_threads(c, optarg); break;
    case KEY_SCHEDULE:   o->schedule = optarg; break;
    case KEY_TUNE:       o->tune = true; break;
    case KEY_WINOGRAD:   o->compile.winograd = parse_winograd(c, optarg); break;
    case KEY_EMIT:       parse_emit(c, &o->compile, optarg); break;
    case KEY_MAX_WORKSPACE: o->compile.max_workspace = parse_bytes(c, "max-workspace", optarg); break;
    case KEY_MAX_PARAMS: o->compile.max_params = parse_bytes(c, "max-params", optarg); break;
    case KEY_MAX_CODE:   o->max_code = parse_bytes(c, "max-code", optarg); break;
    case KEY_STORE:      o->compile.store = parse_store(c, optarg); break;
    case KEY_OPTIMIZE:   o->compile.optimize = parse_optimize(c, optarg); break;
    case KEY_MEMORY:     o->memory = true; break;
    case KEY_JSON:       o->json = true; break;
    case KEY_LAYERS:     o->layers = true; break;
    case KEY_WATCH:      o->watch = true; break;
    case KEY_MAN: case KEY_BASH: case KEY_ZSH: case KEY_LUALS: case KEY_REFERENCE:
        line->form = key;
        break;
    case KEY_HELP:       line->help = true; break;
    case KEY_VERSION:    line->version = true; break;
    case KEY_RUNS:       o->runs = (int)parse_number(c, "runs", optarg, 1, 1000000); break;
    }
}

/* The word that says what to do.  A network file is known by its dot or slash; a
 * bare word is a command or a mistake. */
static const Command *choose_command(Context *c, const char *word)
{
    const Command *command = command_find(&table, word);
    if (!command && strcmp(word, "-") && !strpbrk(word, "./"))
        fail(c, STATUS_USAGE, "unknown command '%s'", word);
    return command ? command : &commands[0];
}

/* One getopt scan.  Options before the command are kept in `seen` until the
 * command that must take them is known. */
static void scan_options(CommandLine *line, int argc, char **argv, const char *letters, uint64_t *seen)
{
    struct option table[OPTIONS + 1] = {{0}};
    for (int i = 0; i < OPTIONS; i++)
        table[i] = (struct option){.name = option_rows[i].name, .val = option_rows[i].key,
                                   .has_arg = option_rows[i].argument ? required_argument : no_argument};
    optind = 0;                                  /* glibc: start over */
    opterr = 0;
    for (int key, row; (key = getopt_long(argc, argv, letters, table, &row)) != -1;) {
        if (key == ':')
            fail(line->c, STATUS_USAGE, "%s needs a value", argv[optind - 1]);
        if (key == '?' && optopt && optopt < 256)
            fail(line->c, STATUS_USAGE, "unknown option -%c", optopt);
        if (key == '?')
            fail(line->c, STATUS_USAGE, "%s %s", optopt ? "no value is taken by" : "unknown option",
                 argv[optind - 1]);
        for (int i = 0; i < OPTIONS; i++)
            if (option_rows[i].key == key)
                *seen |= (uint64_t)1 << i;
        take_option(line, key);
    }
}

/* True when there is something to execute. */
static bool parse(CommandLine *line)
{
    Context *c = line->c;
    uint64_t seen = 0;
    int argc = line->argc;
    char **argv = line->argv;
    scan_options(line, argc, argv, "+:o:", &seen);
    int first = optind;
    if (first < argc) {
        line->command = choose_command(c, argv[first]);
        if (!line->command->name)
            first--;                             /* the word is the network file: leave it as an operand */
        bool whole = line->command->bit != RUN;  /* what follows an experiment belongs to it */
        scan_options(line, argc - first, argv + first, whole ? ":o:" : "+:o:", &seen);
        first += optind;
    }
    if (line->help)
        help_print(&table, line->command);
    else if (line->version)
        printf("cnnc %s\n", CNNC_VERSION);
    if (line->help || line->version)
        return false;
    if (!line->command)
        fail(c, STATUS_USAGE, "no network file");
    for (int i = 0; i < OPTIONS; i++)
        if (seen & (uint64_t)1 << i && !(option_rows[i].takes & line->command->bit))
            fail(c, STATUS_USAGE, "%s does not take --%s", command_name(line->command), option_rows[i].name);
    bool alone = line->command->bit == HELP;     /* may stand without a word behind it */
    if (first >= argc && !alone)
        fail(c, STATUS_USAGE, "%s: which %s?", command_name(line->command),
             line->command->bit == NEW ? "name" : "file");
    if (first >= argc)
        return true;
    line->options.network = argv[first];
    line->rest = argv + first + 1;
    line->rests = argc - first - 1;
    if (line->command->bit != RUN && line->rests)
        fail(c, STATUS_USAGE, "one %s at a time: '%s' is one too many",
             line->command->bit & NETWORK ? "file" : "name", line->rest[0]);
    return true;
}

/* ------------------------------------------------------------------ execution */

static void check_network(Context *c, const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && !strcmp(dot, ".onnx"))
        fail(c, STATUS_INPUT, "%s: ONNX networks are not supported, only Lua network files", path);
}

static int command_summary(Context *c, const CommandOptions *o)
{
    Graph *net = network_load(c, o->network, o->compile.batch);
    if (o->weights)
        safetensors_load(net, o->weights, NEW_ARRAY(c, float, params_count(net)));    /* only checked */
    bool has_loss = false;
    for (int i = 0; i < net->roots; i++)
        has_loss = has_loss || net->root[i].kind == ROOT_LOSS;
    Options options = o->compile;
    options.train = false;
    Program *inference = compile(net, &options, NULL);
    options.train = true;
    Program *training = has_loss ? compile(net, &options, NULL) : NULL;
    if (o->memory && o->json)
        fail(c, STATUS_USAGE, "summary: --memory draws for people, --json is for programs: one of both");
    if (o->memory)
        memory_print(inference, o->train ? training : NULL, stdout);
    else
        (o->json ? summary_json : summary_print)(inference, training, stdout);
    return STATUS_OK;
}

/* Commands that run a network print its form first when asked to. */
static void emit_form(Context *c, const CommandOptions *o)
{
    CommandOptions form = *o;
    form.n_outputs = 0;
    if (o->compile.emit)
        command_compile(c, &form);
}

/* From the file, or by timing into the file. */
static void choose_shapes(Context *c, CommandOptions *o)
{
    if (o->tune && !o->schedule)
        fail(c, STATUS_USAGE, "--tune: which file keeps what it finds? --schedule FILE");
    if (o->schedule && (o->train || o->jit == JIT_EVAL))
        fail(c, STATUS_USAGE, "--schedule: shapes inference by tcc or cc, found %s",
             o->train ? "--train" : "--jit eval");
    if (o->schedule)
        o->compile.shapes = o->tune ? tune(c, o) : schedule_read(c, o->schedule, o->compile.target);
}

static void command_help(Context *c, const char *topic, int form)
{
    Text t = {.c = c};
    switch (form) {
    case KEY_MAN:       help_man(&t, &table); break;
    case KEY_BASH:      help_bash(&t, &table); break;
    case KEY_ZSH:       help_zsh(&t, &table); break;
    case KEY_LUALS:     reference_luals(&t); experiment_luals(&t); break;
    case KEY_REFERENCE: reference_markdown(&t); break;
    default:            help_topic(c, &table, topic); return;
    }
    fputs(t.data, stdout);
}

static void execute(void *argument)
{
    CommandLine *line = argument;
    Context *c = line->c;
    CommandOptions *o = &line->options;
    if (!parse(line))
        return;
    switch (line->command->bit) {
    case RUN:  line->status = command_experiment(c, o, line->rests, line->rest); return;
    case NEW:  command_new(c, o->network); return;
    case HELP: command_help(c, o->network, line->form); return;
    }
    check_network(c, o->network);
    choose_shapes(c, o);
    if (line->command->bit != COMPILE)
        emit_form(c, o);
    switch (line->command->bit) {
    case COMPILE:   line->status = command_compile(c, o); break;
    case SUMMARY:   line->status = command_summary(c, o); break;
    case PACK:      line->status = command_pack(c, o); break;
    case PREDICT:   line->status = command_predict(c, o); break;
    case GRADCHECK: line->status = command_gradcheck(c, o); break;
    case BENCH:     line->status = command_bench(c, o); break;
    }
}

/* What a person reads below the message. */
static void explain(Context *c)
{
    fputs(quote_text(c), stderr);
    const char *hint = c->status == STATUS_USAGE ? help_advice(c, &table) : advice(c);
    if (hint)
        fprintf(stderr, "hint: %s\n", hint);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);                    /* a closed pipe is a failed write, seen below */
    Context c;
    context_init(&c);
    CommandLine line = {.c = &c, .argc = argc, .argv = argv};
    line.options.compile.batch = 1;
    line.options.compile.target = target_find("native");
    if (!attempt(&c, execute, &line)) {
        fflush(stdout);
        fprintf(stderr, "cnnc: %s\n", c.message);
        explain(&c);
        if (c.status == STATUS_USAGE)
            fprintf(stderr, "try: cnnc%s%s --help\n", line.command && line.command->name ? " " : "",
                    line.command && line.command->name ? line.command->name : "");
        if (c.status == STATUS_FAULT)
            fprintf(stderr, "This is a fault of cnnc itself; please report it with the network file.\n");
        line.status = c.status;
    }
    context_free(&c);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno != EPIPE)                      /* whoever closed the pipe has read enough */
            fprintf(stderr, "cnnc: standard output: %s\n", strerror(errno));
        return line.status ? line.status : STATUS_INPUT;
    }
    return line.status;
}
