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
/* Writes beside `path`, fsyncs, renames: the old file or the new one, never a part.
 * "-": stdout.  Fails without a trace when the disk is full. */
void file_write(Context *c, const char *path, const void *data, size_t length);

/* ---------------------------------------------------------------------- npy.c */

typedef struct Array {         /* a dense C-order array */
    int rank;
    int dim[8];
    int64_t count;
    enum { ARRAY_F32, ARRAY_I32, ARRAY_I64 } type;
    void *data;
} Array;

Array npy_read(Context *c, const char *path);
void npy_write(Context *c, const char *path, const Array *a);

/* --------------------------------------------------------------- safetensors.c
 * Weights by state_dict name.  F32; shapes must match the network's parameters. */

/* Fills flat (params_count floats).  Every parameter must be present with its
 * shape; entries "*.num_batches_tracked" are ignored, other unknown ones refused. */
void safetensors_load(const Graph *net, const char *path, float *flat);
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

Dataset *data_idx(Context *c, const char *images, const char *labels);    /* plain or .gz */
Dataset *data_npy(Context *c, const char *values, const char *labels);
Dataset *data_cifar(Context *c, int files, const char *const *file);      /* CIFAR-10 binary */
Dataset *data_images(Context *c, const char *folder);                     /* one folder a class, sorted */
/* One PNG, JPEG or PGM/PPM picture as channels x height x width in 0..1. */
float *picture_read(Context *c, const char *path, int channels, int height, int width);
/* As above, of the file's own size. */
float *picture_read_any(Context *c, const char *path, int channels, int *height, int *width);

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

/* Backends, called by code_open alone. */
void jit_tcc_open(Code *code);
void jit_cc_open(Code *code);
void jit_eval_open(Code *code);

/* jit_cc.c also serves `-o net.o|a|so`: compiles C text with the system's compiler
 * ($CC, cc) and the target's flags.  kind: "o", "a", "so". */
void cc_build(Context *c, const char *source, const char *header, const char *header_name,
              const Target *target, const char *kind, const char *output);

/* -------------------------------------------------------------------- model.c
 * A network with parameters that can be run for any number of samples. */

typedef struct Model Model;

typedef struct ModelOptions {
    int batch;
    Jit jit;
    bool train;
    const Target *target;
    uint64_t seed;
} ModelOptions;

Model *model_open(Context *c, const char *network, ModelOptions options);
void model_close(Model *m);                        /* unloads code; memory goes with the context */
void model_init(Model *m, uint64_t seed);
void model_load(Model *m, const char *safetensors);
void model_save(Model *m, const char *safetensors);
Graph *model_net(const Model *m);
Program *model_program(const Model *m);
Code *model_code(Model *m, int batch);             /* compiles a batch size on first use */

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
} Fit;

double model_fit(Model *m, const Dataset *d, const Fit *fit);        /* mean loss of the epoch */
double model_accuracy(Model *m, const Dataset *d);                   /* fraction */
void labels_check(Context *c, const Model *m, const Dataset *d);     /* shape, dtype, classes */

/* ---------------------------------------------------------------- experiment.c
 * `cnnc run`: the Lua API of experiments. */

int experiment_run(Context *c, const char *script, int args, char *const *arg);

/* ----------------------------------------------------------- commands (main.c calls) */

typedef struct CommandOptions {
    Options compile;
    Jit jit;
    const char *network, *weights, *output;
    const char *input[16];  int inputs;            /* --input [name=]file */
    const char *outputs[16]; int n_outputs;        /* --output [name=]file */
    uint64_t seed;
    bool json, train;
    int runs;
} CommandOptions;

int command_predict(Context *c, const CommandOptions *o);
int command_gradcheck(Context *c, const CommandOptions *o);
int command_bench(Context *c, const CommandOptions *o);

#endif
