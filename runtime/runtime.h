/* runtime/: what executes beside generated code -- libtcc, the system's C
 * compiler, weights and data files, the training loop, experiments in Lua.
 *
 * As in the compiler, a failure goes to fail() with the context; a message names
 * the file, what was found and what was expected.  Memory is the context's arena
 * unless a function says otherwise; files, mappings and handles that are open when
 * fail() is called are closed by the function that opened them.
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include "../compiler/cnnc.h"

/* ---------------------------------------------------------------------- file.c */

/* The whole file ("-": stdin), one zero byte behind it.  *length without that byte. */
unsigned char *file_read(Context *c, const char *path, size_t *length);
/* The same, inflated when it starts with the gzip magic. */
unsigned char *file_read_gz(Context *c, const char *path, size_t *length);
/* data inflated when it starts with the gzip magic, else data itself.  Stops
 * after `limit` bytes, so that a header can be read before the rest is believed. */
unsigned char *gunzip(Context *c, const char *path, unsigned char *data, size_t *length, size_t limit);
/* Writes beside `path`, fsyncs, renames: the old file or the new one, never a part;
 * an existing file's mode is kept.  "-" is stdout; pipes and devices are written
 * directly.  Fails without a trace when the disk is full. */
void file_write(Context *c, const char *path, const void *data, size_t length);

/* ------------------------------------------------------------------ together.c
 * body writes the files at `path` (NULL: none); when it fails all are as they were. */
void write_together(Context *c, int count, const char *const *path, void (*body)(void *), void *argument);

/* A network file ("-": stdin) as a graph. */
Graph *network_load(Context *c, const char *path, int batch);

/* ---------------------------------------------------------------------- npy.c */

typedef struct Array {         /* a dense C-order array */
    int rank;
    int dim[8];
    int64_t count;
    enum { ARRAY_F32, ARRAY_I32, ARRAY_I64 } type;
    void *data;
} Array;

/* Versions 1 to 3; C order; '<f4', '<i4' and '<i8'.  The file must end with the data. */
Array npy_read(Context *c, const char *path);
/* The bytes that numpy.save writes. */
void npy_write(Context *c, const char *path, const Array *a);

/* --------------------------------------------------------------- safetensors.c
 * Weights by state_dict name.  F32; shapes must match the network's parameters. */

/* Fills flat (params_count floats).  Every parameter must be present with its
 * shape; entries "*.num_batches_tracked" are ignored, other unknown ones refused. */
void safetensors_load(const Graph *net, const char *path, float *flat);
/* From here on the file's values are the parameters' initial ones, as literal weights of the
 * network file would be (output.c). */
void take_weights(Graph *net, const char *path);
void safetensors_save(const Graph *net, const char *path, const float *flat);

/* --------------------------------------------------------------------- data.c
 * Labelled samples. */

typedef struct Dataset {
    const char *name;          /* the file or folder, for messages */
    int count;
    Shape sample;              /* without the batch: 1x28x28 */
    float *value;              /* count * sample, bytes scaled to 0..1 */
    int32_t *label;            /* count; NULL without labels */
    int classes;               /* 1 + the largest label */
} Dataset;

Dataset *data_npy(Context *c, const char *values, const char *labels);    /* labels may be NULL */

/* For the readers: room for count samples, of which there must be one at least. */
Dataset *dataset_new(Context *c, const char *name, int64_t count, Shape sample, bool labelled);
void dataset_count_classes(Dataset *d);
void unit_from_bytes(float *unit, const unsigned char *byte, size_t count);      /* 0..255 to 0..1 */

/* idx.c, cifar.c, images.c: unsigned bytes. */
Dataset *data_idx(Context *c, const char *images, const char *labels);    /* or .gz; labels may be NULL */
Dataset *data_cifar(Context *c, int files, const char *const *file);      /* CIFAR-10 binary, or .gz */
Dataset *data_images(Context *c, const char *folder);                     /* one folder a class, sorted */

/* ------------------------------------------------------------------- picture.c
 * PNG, JPEG, PGM and PPM.  A grey picture fills all three channels where colour is
 * asked for, a coloured one becomes its luma where grey is.  16 bits are scaled to
 * 8; an alpha channel must be opaque, since nothing says what lies behind it.
 * Colour profiles, orientation tags and bytes after the picture's end are ignored. */

typedef struct Picture {
    int channels, height, width;       /* 1 or 3 channels */
    unsigned char *pixel;              /* channels of a pixel side by side, rows downwards */
} Picture;

/* Checked against height and width before anything is decoded, unless they are 0. */
Picture picture_decode(Context *c, const char *path, int height, int width);
/* As planes: unit (channels, height, width) in 0..1; channels 1 or 3. */
void picture_planes(const Picture *p, int channels, float *unit);
/* Of known size, as channels x height x width in 0..1. */
float *picture_read(Context *c, const char *path, int channels, int height, int width);
/* As above, of the file's own size. */
float *picture_read_any(Context *c, const char *path, int channels, int *height, int *width);

/* What a decoder gets: a file's bytes and the size to insist on, or 0. */
typedef struct PictureFile {
    const char *path;
    unsigned char *data;
    size_t length;
    int height, width;
} PictureFile;

Picture png_decode(Context *c, const PictureFile *f);
Picture jpeg_decode(Context *c, const PictureFile *f);
Picture pnm_decode(Context *c, const PictureFile *f);
/* For the decoders, before they decode: checks the size and makes room. */
Picture picture_new(Context *c, const PictureFile *f, int64_t height, int64_t width, int channels);

/* ------------------------------------------------------------------ threads.c
 * Threads that share the work of one call. */

/* One thread of a team; code that libtcc compiles knows the first two fields. */
typedef struct Team { int thread, threads; struct Threads *pool; } Team;

typedef struct Threads Threads;
/* count - 1 threads that wait for work; NULL for a count below two. */
Threads *threads_open(Context *c, int count);
void threads_close(Threads *t);
/* Lets all threads, the caller as the first of them, call work; returns when all have
 * finished. */
void threads_run(Threads *t, void (*work)(void *argument, const Team *team), void *argument);
/* Waits until the whole team waits here. */
void team_meet(const Team *team);
int processors(void);                  /* that this process may use */

/* --------------------------------------------------------------------- code.c
 * A Program as something to call.  jit_tcc.c, jit_cc.c, jit_eval.c make one. */

typedef enum Jit { JIT_TCC, JIT_CC, JIT_EVAL } Jit;

typedef struct Code Code;
struct Code {
    Program *program;
    int64_t params_bytes;              /* of params, grad and optimiser state */
    int64_t workspace_bytes;           /* of forward and loss */
    int64_t train_workspace_bytes;     /* of backward */
    double compile_ms;                 /* the C compiler's share alone */

    /* io: inputs that forward needs, in order of declaration, then outputs. */
    void (*forward)(Code *code, const void *params, void *const *io, void *workspace);
    /* With profile: the same, and tick(user, k) after the k-th kernel of the program's forward;
     * with train too: of its backward, whose arguments it takes, adding to grad. */
    void (*profile)(Code *code, void *params, void *const *io, void *grad, void *const *in_grad,
                    void *workspace, uint64_t seed, void (*tick)(void *user, int kernel), void *user);
    void (*pack)(Code *code, void *params, const float *flat);
    void (*init)(Code *code, void *params, uint64_t seed);
    /* with train: */
    void (*unpack)(Code *code, float *flat, const void *params);
    /* in: all inputs in order of declaration; in_grad: one per input that is not
     * loss_only, or NULL without input_grad.  Mean loss. */
    float (*backward)(Code *code, void *params, void *const *in, void *grad, void *const *in_grad,
                      void *workspace, uint64_t seed, bool accumulate);
    float (*loss)(Code *code, const void *params, void *const *in, void *workspace);
    void (*sgd)(Code *code, void *params, const void *grad, void *velocity,
                float lr, float momentum, float weight_decay);
    void (*adam)(Code *code, void *params, const void *grad, void *m, void *v, int step,
                 float lr, float beta1, float beta2, float eps, float weight_decay);

    void (*close)(Code *code);         /* unloads it */
    void *state;                       /* of the backend */
};

Code *code_open(Program *p, Jit jit);
Jit jit_find(Context *c, const char *name);        /* fails with STATUS_USAGE on others */

/* The sizes alone, for who compiles print_source's text and calls code_bind. */
Code *code_new(Program *p);

/* leaves.c: the leaves of a target in this program, a name of NULL ends them; NULL: none. */
typedef struct HostLeaf { const char *name; const void *address; } HostLeaf;
const HostLeaf *host_leaves(const Target *target);
const HostLeaf *host_strips(const Target *target);

/* Backends, called by code_open alone. */
void jit_tcc_open(Code *code);
void jit_cc_open(Code *code);
void jit_eval_open(Code *code);

/* Compiled C text in memory, whoever compiled it. */
typedef struct Library Library;
struct Library {
    void *(*symbol)(Library *l, const char *name);    /* NULL if there is none */
    void (*unload)(Library *l);
    void *handle;
};

/* Looks up the uniform entry points (cnnc_forward ...) and makes them code's
 * functions, called by all threads (NULL: by the caller alone).  Owns the library and
 * the threads from now on, also when it fails. */
void code_bind(Code *code, Library library, Threads *threads);

/* Zeroed memory for parameters and workspaces: 64-byte aligned. */
void *aligned_memory(Context *c, int64_t bytes);
double milliseconds(void);             /* of a clock that never goes back */

/* The generated files, with the names by which they find each other. */
typedef struct Files {
    const char *source;
    const char *header, *header_name;          /* NULL: the source includes none */
    const void *weights;                       /* NULL: there are none, or the source has them */
    size_t weights_bytes;
    const char *weights_name;
} Files;

/* jit_cc.c also serves `-o net.o|a|so`: compiles C text with the system's compiler
 * ($CC, cc) and the target's flags, with OpenMP for several threads.  kind: "o", "a", "so". */
void cc_build(Context *c, const Files *files, const Options *o, const char *kind, const char *output);
/* Bytes of machine code that the same compiler makes of the text; the largest functions, for a
 * message: "lenet5_forward_conv2 1200, ...". */
int64_t cc_code_bytes(Context *c, const Files *files, const Options *o, const char **largest);
/* code_size.c: of an object file. */
int64_t code_bytes(Context *c, const char *path, const char **largest);

/* -------------------------------------------------------------------- model.c
 * A network with parameters that can be run for any number of samples. */

typedef struct ModelOptions {
    int batch;
    Jit jit;
    bool train, profile;
    const Target *target;
    uint64_t seed;
    int threads;                       /* of a call; 0: one */
    const LeafShapes *shapes;            /* of --schedule, or NULL */
    int candidate;                     /* of --tune */
    int winograd;                      /* as in Options */
    Optimize optimize;
} ModelOptions;

typedef struct Model {
    Context *c;
    ModelOptions options;
    const char *network;               /* its file, read once: every batch size loads the text again */
    const char *text;
    size_t length;
    Code **code;                       /* one a batch size; [0]: options.batch */
    int codes;
    float *flat;                       /* parameters as last initialised, loaded or unpacked */
    void *params;
    void *workspace;                   /* enough for every code so far */
    int64_t workspace_bytes;
    void **io;                         /* room for the pointers of one call */
    /* with train */
    void *grad;                        /* of the last backward */
    void *moment[2];                   /* of the optimiser: velocity, or Adam's m and v */
    bool adam;                         /* whose moments these are */
    int optimizer_steps;               /* since the moments were zero */
    int64_t steps, epochs;             /* since the parameters were initialised or loaded */
    struct Record *record;             /* NULL: nobody asked for one */
    struct Checkpoint *checkpoint;     /* likewise */
} Model;

Model *model_open(Context *c, const char *network, ModelOptions options);
void model_close(Model *m);                        /* unloads code; memory goes with the context */
void model_init(Model *m, uint64_t seed);
void model_load(Model *m, const char *safetensors);
void model_save(Model *m, const char *safetensors);
Graph *model_net(const Model *m);
Program *model_program(const Model *m);
Code *model_code(Model *m, int batch);             /* compiles a batch size on first use */
Code *model_code_input_grad(Model *m, int batch);  /* the same with the gradients of the inputs */
const float *model_flat(Model *m);                 /* the parameters as state_dict orders them */

/* n samples, in chunks of the batch and one shorter program for the rest.
 * in: forward inputs; out: as model_program()->output. */
void model_forward(Model *m, int n, const float *const *in, float *const *out);

/* -------------------------------------------------------------------- train.c */

typedef struct Optimizer { bool adam; float lr, momentum, weight_decay, beta1, beta2, eps; } Optimizer;

typedef struct Fit {
    Optimizer optimizer;
    bool shuffle;              /* by Fisher-Yates from the counter-based generator */
    uint64_t shuffle_seed;
    const char *log;           /* CSV file to append to, or NULL */
    const char *report, *csv, *tensorboard;        /* see record.c; NULL: none */
    const char *checkpoint;    /* file from which an interrupted run goes on, or NULL */
    int checkpoint_every;      /* steps; 0: by time */
} Fit;

double model_fit(Model *m, const Dataset *d, const Fit *fit);        /* mean loss of the epoch */
double model_accuracy(Model *m, const Dataset *d);                   /* fraction */
void labels_check(Context *c, const Model *m, const Dataset *d);     /* shape, dtype, classes */

/* -------------------------------------------------------------------- record.c
 * A run for people: report.c makes it a page, events.c files for TensorBoard. */

enum { MOST_CLASSES = 40, WORST = 12 };            /* of a confusion matrix; mistakes shown */

/* loss: the mean since the point before; norm: of each layer's gradient, then of its weights. */
typedef struct Point { int64_t step; double epoch, loss, lr, rate, *norm; } Point;
typedef struct Score { int64_t step; double epoch, accuracy; } Score;
typedef struct Mistake { const float *sample; int label, answer; double right; } Mistake;

typedef struct Record {
    Context *c;
    const char *network, *report, *csv;
    FILE *tensorboard;                             /* NULL: none */
    const char **layer;  int layers;               /* those that learn */
    Point *point;        int points;
    Score *score;        int scores;
    const char *data;                              /* of the last score; its samples' shape */
    Shape sample;
    int *confusion, classes;                       /* rows: the label */
    Mistake mistake[WORST]; int mistakes;          /* the worst first */
    int every, steps;                              /* steps a point, steps so far */
    double sum, samples, began, last, written;     /* since the last point; milliseconds */
    float *flat;
} Record;

/* NULL when the fit asks for nothing of this. */
Record *record_open(Model *m, const Fit *fit, int samples);
void record_step(Record *r, Model *m, double loss, int samples, double epoch, double lr);
void record_epoch(Record *r);
void record_score_begin(Record *r, const Dataset *d, int classes);
void record_sample(Record *r, const float *sample, const float *score, int label, int answer);
void record_score_end(Record *r, Model *m, double accuracy);
void record_close(Record *r);                      /* the page is final */
/* Euclidean norms over what each layer learns, from numbers in the order of state_dict; returns
 * how many layers those are, at most one a parameter. */
int layer_norms(const Graph *net, const float *flat, const char **name, double *norm);

const char *report_text(const Record *r, bool running);
FILE *events_open(Context *c, const char *folder);
void events_point(const Record *r, const Point *p);
void events_score(const Record *r, const Score *s);
uint32_t crc32c(uint32_t crc, const void *data, size_t length);        /* crc: of what came before */

/* ---------------------------------------------------------------- checkpoint.c */

/* Within an epoch: samples done, their losses, the seed of their order, bytes of the log. */
typedef struct Position { int position, samples; double sum; uint64_t order; int64_t log; } Position;

typedef struct Checkpoint {
    const char *path;
    double *loss; int epochs;                      /* of the epochs that the file has */
    Position place;                                  /* in the epoch after those, as it was read */
    int every;
    double saved, took;                            /* milliseconds */
} Checkpoint;

/* Reads the file if there is one.  NULL when the fit asks for none. */
Checkpoint *checkpoint_open(Model *m, const Fit *fit, int samples);
void checkpoint_step(Checkpoint *k, Model *m, const Position *place);     /* saves if it is time */
void checkpoint_save(Checkpoint *k, Model *m, const Position *place);
void checkpoint_epoch(Checkpoint *k, Model *m, double loss, int samples, int64_t log);

/* ------------------------------------------------------------------ progress.c
 * A line that tells how far a long run is; on a terminal only. */

typedef struct Progress { bool shown; int64_t total; double start, drawn; } Progress;

Progress progress_start(int64_t total);                              /* in samples, or other steps */
/* After a second, at most ten times a second.  loss NAN: there is none. */
void progress_show(Progress *p, int64_t done, double loss);
void progress_clear(Progress *p);                                    /* erases the line */

/* ---------------------------------------------------------------- experiment.c
 * `cnnc run`: the Lua API of experiments.  experiment_tensor.c, experiment_data.c,
 * experiment_model.c and experiment_pass.c hold the types that scripts see. */

/* Runs the script; its error, with its position, becomes a failure of c. */
int experiment_run(Context *c, const char *script, int args, char *const *arg);

/* The definitions of experiments for the Lua language server. */
void experiment_luals(Text *t);

struct lua_State;
/* attempt() for functions that Lua calls: a failure becomes a Lua error at the
 * script's line.  Nothing inside body may call Lua, whose errors would not
 * restore c's handler. */
void guarded(struct lua_State *L, Context *c, void (*body)(void *), void *argument);

/* The option table of a call, at a stack index; nothing there is an empty one. */
typedef struct OptionTable { struct lua_State *L; int index; const char *call; } OptionTable;
/* Refuses what is not a table and keys that are not in `known`, which NULL ends. */
OptionTable options_open(struct lua_State *L, int index, const char *call, const char *const *known);
/* standard NAN: the option is required. */
double option_number(const OptionTable *o, const char *key, double standard, double low, double high);
int option_whole(const OptionTable *o, const char *key, int standard, int low, int high);
const char *option_text(const OptionTable *o, const char *key, const char *standard);
bool option_flag(const OptionTable *o, const char *key, bool standard);

/* Pushes a new tensor of zeros that the script's collector owns. */
Tensor *script_tensor_push(struct lua_State *L, const Shape *shape);
/* The tensor at a stack index; a number or nested table there is replaced by one. */
Tensor *script_tensor_at(struct lua_State *L, int index);
void script_shape_push(struct lua_State *L, const Shape *shape);      /* as {1, 28, 28} */
const char *script_shape_text(struct lua_State *L, const Shape *shape);      /* pushed: "1x28x28" */
const Dataset *script_dataset_at(struct lua_State *L, int index);
Model *script_model_at(struct lua_State *L, int index);

/* Methods of models. */
int script_forward(struct lua_State *L);
int script_backward(struct lua_State *L);

/* Each registers its types and globals. */
void experiment_tensor(struct lua_State *L);
void experiment_data(struct lua_State *L);
void experiment_model(struct lua_State *L);

/* ----------------------------------------------------------------- gradcheck.c
 * The gradients that autodiff derives against central differences. */

typedef struct GradientCheck {
    const float *flat;         /* parameters; NULL: their initial values */
    uint64_t seed;             /* of these, of the inputs and of dropout */
    int points;                /* to check of a tensor; 0: a few dozen */
} GradientCheck;

typedef struct Verdict {
    const char *name;          /* of the parameter or input */
    int elements, points, ties;        /* ties: points left out, where there is no derivative */
    double error;              /* the largest, relative */
    bool right;
} Verdict;

/* A verdict on every parameter's and every input's gradient; returns their number. */
int gradients_check(Context *c, Graph *net, const GradientCheck *check, Verdict **verdict);

/* -------------------------------------------------------------------- limits.c
 * What one thread does at best on this machine with a target's vectors: measured by the
 * functions that compiler/print/print_probes.c adds to the host's leaves. */

enum { TRAFFICS = 7 };
typedef struct Traffic { int64_t bytes; double copy_gbs, read_gbs; } Traffic;      /* at a working set */

typedef struct Limits {
    double peak_gflops;        /* 0: the target has no probes, nothing is known */
    Traffic traffic[TRAFFICS]; /* the working set growing; copies read one half, write the other */
} Limits;

void limits_measure(Context *c, const Target *target, Limits *l);
/* The peak once more: the larger counts, since a machine's clock drifts. */
void limits_measure_peak(const Target *target, Limits *l);
/* The least time that so many bytes take from where a working set of that size lies: what is
 * written with as much of what is read at the rate of copying, the rest at that of reading. */
double limits_traffic_ms(const Limits *l, int64_t working_set, int64_t read, int64_t written);

/* ----------------------------------------------------------- commands (main.c calls) */

typedef struct CommandOptions {
    Options compile;
    Jit jit;
    const char *network, *weights, *output;
    const char *input[16];  int inputs;            /* --input [name=]file */
    const char *outputs[16]; int n_outputs;        /* --output [name=]file */
    uint64_t seed;
    const char *schedule;
    bool tune;
    bool json, train, layers, memory, watch;
    int64_t max_code;                              /* bytes of machine code; 0: any */
    int runs;
} CommandOptions;

/* tune.c: shapes from a file for the target; shapes by timing, which o->schedule keeps. */
const LeafShapes *schedule_read(Context *c, const char *path, const Target *target);
const LeafShapes *tune(Context *c, const CommandOptions *o);

int command_compile(Context *c, const CommandOptions *o);      /* output.c */
int command_pack(Context *c, const CommandOptions *o);         /* pack.c: a blob for @_load */
int command_predict(Context *c, const CommandOptions *o);
int command_gradcheck(Context *c, const CommandOptions *o);
int command_bench(Context *c, const CommandOptions *o);

/* watch.c: an experiment, once or whenever what it reads changes. */
int command_experiment(Context *c, const CommandOptions *o, int args, char *const *arg);
void watch_note(const char *path);                 /* a network is read: --watch watches it, too */
/* new.c: a folder to begin with. */
void command_new(Context *c, const char *folder);

/* Makes `name` the text of a file of the sources, linked into cnnc. */
#define EMBED(name, path)                                                                         \
    extern const char name[];                                                                     \
    __asm__(".pushsection .rodata\n.globl " #name "\n" #name ":\n.incbin \"" path "\"\n.byte 0\n" \
            ".popsection");

/* bench.c, bench_layers.c: `bench --layers`, a row a kernel of forward. */
typedef struct BenchLayers BenchLayers;
struct json_t;
enum { BENCH_WARM_UP = 3, BENCH_MS = 1000 };       /* runs before the first that counts; enough of those */
void bench_sort(double *time, int count);
/* Inputs with random values, then room for outputs; for training all inputs. */
void **bench_io(const Model *m);
/* Median milliseconds of each kernel of forward, or of backward if m trains; m has been opened
 * with profile. */
void kernels_time(Model *m, int runs, void *const *io, double *ms);
BenchLayers *bench_layers(Model *m, int runs, void *const *io);    /* runs 0: for about a second */
void bench_layers_print(const BenchLayers *b);
void bench_layers_json(const BenchLayers *b, struct json_t *to);

#endif
