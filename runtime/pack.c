/* `cnnc pack NETWORK --weights w.safetensors -o net.blob`: new parameters for a program that
 * has been compiled before. */
#include "runtime.h"

int command_pack(Context *c, const CommandOptions *o)
{
    if (!o->weights || o->n_outputs != 1)
        fail(c, STATUS_USAGE, "pack: expected --weights FILE.safetensors and -o FILE.blob");
    Graph *net = network_load(c, o->network, o->compile.batch);
    take_weights(net, o->weights);
    Program *p = compile(net, &o->compile, NULL);
    if (!p->fields)
        fail(c, STATUS_INPUT, "%s: no parameters to pack", o->network);
    StoreError error = store_error(p);
    size_t size;
    const unsigned char *blob = blob_make(p, &size);
    file_write(c, o->outputs[0], blob, size);
    if (o->compile.store != STORE_F32)
        fprintf(stderr, "stored as %s: parameters are off by at most %.2g, %.2g of their size\n",
                store_name(o->compile.store), error.absolute, error.relative);
    return STATUS_OK;
}
