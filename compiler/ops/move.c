/* Ops that only move elements: flatten, reshape, broadcast, slice, concat, reverse. */
#include "ops.h"

#include <string.h>

/* -- reshape -- */

typedef struct ReshapeAttrs { Shape shape; int batched; } ReshapeAttrs;

static void reshape_infer(Graph *g, Node *n)
{
    const ReshapeAttrs *at = n->attrs;
    (void)g;
    n->shape = at->shape;
    n->dtype = n->in[0]->dtype;
    n->batched = at->batched;
}

static void reshape_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)n, (void)b;
    memcpy(out->data, in[0]->data, (size_t)shape_count(&out->shape) * sizeof *out->data);
}

/* The elements stay in their order: so do their gradients. */
static Node *reshape_gradient(Graph *g, Node *n, Node *dy, int i)
{
    return reshape(g, dy, n->in[i]->shape, n->in[i]->batched);
}

Node *reshape(Graph *g, Node *x, Shape shape, bool batched)
{
    if (shape_equal(&shape, &x->shape) && batched == x->batched)
        return x;
    ReshapeAttrs at = {shape, batched};
    return node_new(g, &op_reshape, 1, &x, &at);
}

/* A view of a sample in another shape. */
static Node *view(Call *call, int rank, const int *dim)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    Shape shape = {.rank = rank + 1, .dim = {g->batch}};
    memcpy(shape.dim + 1, dim, (size_t)rank * sizeof *dim);
    int64_t count = 1;
    for (int d = 0; d < shape.rank && count <= INT32_MAX; d++)
        count *= shape.dim[d];
    if (!x->batched || count != shape_count(&x->shape))
        refuse(call, "%s cannot become %s: the numbers of elements differ",
               shape_text(g->c, &x->shape, x->batched), shape_text(g->c, &shape, true));
    return reshape(g, x, shape, true);
}

static Node *reshape_build(Call *call)
{
    const Arg *to = &call->arg[0];
    if (to->count >= MAX_RANK)
        refuse(call, "%d dimensions are too many: at most %d", to->count, MAX_RANK - 1);
    return view(call, to->count, to->dim);
}

static Node *flatten_build(Call *call)
{
    const Shape *s = &call->tensor[0]->shape;
    int features = 1;
    for (int d = 1; d < s->rank; d++)
        features *= s->dim[d];
    return view(call, 1, &features);
}

const Op op_flatten = {
    .name = "flatten", .doc = "all elements of a sample in one row", .method = {{"flatten", 0}},
    .kind = "flatten", .operands = 1, .build = flatten_build,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:flatten()", "return input { 2, 7 }:tanh():flatten():linear { 3 }",
        "return input { 2, 2, 3, 2 }:flatten()", NULL},
};

const Op op_reshape = {
    .name = "reshape", .doc = "the same elements in another shape", .traits = OP_ALIAS,
    .attrs_size = sizeof(ReshapeAttrs), .method = {{"reshape", 0}}, .kind = "reshape", .operands = 1,
    .args = (const ArgSpec[]){
        {"shape", ARG_SHAPE, .positional = true, .required = true, .low = 1,
          .doc = "sizes behind the batch"},
        {.kind = ARG_END}},
    .build = reshape_build, .infer = reshape_infer, .eval = reshape_eval, .gradient = reshape_gradient,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:reshape { 6, 10 }",
        "return input { 12 }:tanh():reshape { 3, 2, 2 }:sigmoid()",
        "return input { 2, 2, 3, 2 }:exp():reshape { 4, 6 }:softmax()", NULL},
};

/* -- broadcast -- */

typedef struct BroadcastAttrs {
    Shape shape;
    int batched;
    int map[MAX_RANK];        /* out dim -> x's dim, -1 for none */
} BroadcastAttrs;

/* Does out dim d repeat what it reads? */
static bool repeats(const Node *n, int d)
{
    const BroadcastAttrs *at = n->attrs;
    return at->map[d] < 0 || (n->in[0]->shape.dim[at->map[d]] == 1 && at->shape.dim[d] > 1);
}

static void broadcast_infer(Graph *g, Node *n)
{
    const BroadcastAttrs *at = n->attrs;
    n->shape = at->shape;
    n->dtype = n->in[0]->dtype;
    n->batched = at->batched;
    for (int d = 0; d < n->shape.rank; d++)
        if (!repeats(n, d) && n->in[0]->shape.dim[at->map[d]] != n->shape.dim[d])
            fail(g->c, STATUS_FAULT, "broadcast: %s does not fit %s",
                 shape_text(g->c, &n->in[0]->shape, false), shape_text(g->c, &n->shape, false));
}

static void broadcast_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const BroadcastAttrs *at = n->attrs;
    int to[MAX_RANK] = {0}, from[MAX_RANK] = {0}, i = 0;
    do {
        for (int d = 0; d < n->shape.rank; d++)
            if (!repeats(n, d))
                from[at->map[d]] = to[d];
        out->data[i++] = in[0]->data[index_flat(&in[0]->shape, from)];
    } while (index_next(&n->shape, to));
}

/* An element read many times gets the sum of its readers' gradients. */
static Node *broadcast_gradient(Graph *g, Node *n, Node *dy, int i)
{
    Node *x = n->in[i];
    unsigned axes = 0;
    for (int d = 0; d < n->shape.rank; d++)
        axes |= (unsigned)repeats(n, d) << d;
    Node *dx = reshape(g, reduce_sum(g, dy, axes), x->shape, x->batched);
    return FAULT(g->c, FAULT_NO_BIAS_GRADIENT) && channel_vector(n) ? mul_scalar(g, dx, 0) : dx;
}

static Expr *broadcast_element(Lower *l, Node *n, const Affine *index)
{
    const BroadcastAttrs *at = n->attrs;
    Affine from[MAX_RANK] = {0};
    for (int d = 0; d < n->shape.rank; d++)
        if (!repeats(n, d))
            from[at->map[d]] = index[d];
    return element(l, n->in[0], from);
}

static void broadcast_print(const Node *n, Text *t)
{
    const BroadcastAttrs *at = n->attrs;
    for (int d = 0; d < n->shape.rank; d++)
        text_add(t, at->map[d] < 0 ? "%s*" : "%s%d", d ? "," : " ", at->map[d]);
}

const Op op_broadcast = {
    .name = "broadcast", .doc = "x repeated along the dims that it lacks", .traits = OP_INDEX_MAP,
    .attrs_size = sizeof(BroadcastAttrs), .infer = broadcast_infer, .eval = broadcast_eval,
    .gradient = broadcast_gradient, .element = broadcast_element, .print_attrs = broadcast_print,
};

Node *broadcast(Graph *g, Node *x, Shape shape, bool batched, const int *map)
{
    BroadcastAttrs at = {.shape = shape, .batched = batched};
    memcpy(at.map, map, (size_t)shape.rank * sizeof *map);
    return node_new(g, &op_broadcast, 1, &x, &at);
}

static Node *along_dim(Graph *g, Node *x, const Node *like, int along)
{
    int map[MAX_RANK] = {0};
    for (int d = 0; d < like->shape.rank; d++)
        map[d] = d == along ? 0 : -1;
    return broadcast(g, x, like->shape, like->batched, map);
}

Node *along_channels(Graph *g, Node *x, const Node *like)
{
    return along_dim(g, x, like, 1);
}

Node *scaled_along(Graph *g, Node *w, int d, Node *factor)
{
    return mul(g, w, along_dim(g, factor, w, d));
}

Node *unreduce(Graph *g, Node *x, const Node *like, unsigned axes)
{
    int map[MAX_RANK] = {0}, next = 0;
    for (int d = 0; d < like->shape.rank; d++)
        map[d] = axes >> d & 1 ? -1 : next++;
    return broadcast(g, x, like->shape, like->batched, map);
}

Node *constant_like(Graph *g, double value, const Node *like)
{
    Node *scalar = scalar_new(g, value);
    return like->shape.rank ? unreduce(g, scalar, like, ~0u) : scalar;
}

Node *exchanged(Graph *g, Node *x)
{
    Shape shape = x->shape;
    int map[MAX_RANK] = {0};
    for (int d = 0; d < shape.rank; d++)
        map[d] = d < 2 ? 1 - d : d;
    shape.dim[0] = x->shape.dim[1];
    shape.dim[1] = x->shape.dim[0];
    return broadcast(g, x, shape, x->batched, map);
}

Node *channel_vector(Node *n)
{
    if (n->op != &op_broadcast || !n->batched || n->in[0]->shape.rank != 1 || !params_only(n->in[0]))
        return NULL;
    const BroadcastAttrs *at = n->attrs;
    return n->shape.rank > 1 && at->map[1] == 0 && !repeats(n, 1) ? n->in[0] : NULL;
}

/* -- slice -- */

typedef struct SliceAttrs { int axis, begin, length; } SliceAttrs;

static void slice_infer(Graph *g, Node *n)
{
    (void)g;
    const SliceAttrs *at = n->attrs;
    n->shape = n->in[0]->shape;
    n->shape.dim[at->axis] = at->length;
}

static void slice_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const SliceAttrs *at = n->attrs;
    int to[MAX_RANK] = {0}, i = 0;
    do {
        int from[MAX_RANK];
        memcpy(from, to, sizeof from);
        from[at->axis] += at->begin;
        out->data[i++] = in[0]->data[index_flat(&in[0]->shape, from)];
    } while (index_next(&n->shape, to));
}

static Expr *slice_element(Lower *l, Node *n, const Affine *index)
{
    const SliceAttrs *at = n->attrs;
    Affine from[MAX_RANK];
    memcpy(from, index, sizeof(Affine) * (size_t)n->shape.rank);
    from[at->axis] = affine_sum(from[at->axis], affine_constant(at->begin));
    return element(l, n->in[0], from);
}

static void slice_print(const Node *n, Text *t)
{
    const SliceAttrs *at = n->attrs;
    text_add(t, " axis %d from %d", at->axis, at->begin);
}

const Op op_slice = {
    .name = "slice", .doc = "a range of one axis (gradient of concat)", .traits = OP_INDEX_MAP,
    .attrs_size = sizeof(SliceAttrs), .infer = slice_infer, .eval = slice_eval, .element = slice_element,
    .print_attrs = slice_print,
};

/* -- concat -- */

typedef struct ConcatAttrs { int axis; } ConcatAttrs;

/* Where input i starts along the axis. */
static int concat_begin(const Node *n, int i)
{
    const ConcatAttrs *at = n->attrs;
    int begin = 0;
    for (int k = 0; k < i; k++)
        begin += n->in[k]->shape.dim[at->axis];
    return begin;
}

static void concat_infer(Graph *g, Node *n)
{
    (void)g;
    const ConcatAttrs *at = n->attrs;
    n->shape = n->in[0]->shape;
    n->shape.dim[at->axis] = concat_begin(n, n->ins);
}

static void concat_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const ConcatAttrs *at = n->attrs;
    for (int k = 0; k < n->ins; k++) {
        int from[MAX_RANK] = {0}, i = 0;
        do {
            int to[MAX_RANK];
            memcpy(to, from, sizeof to);
            to[at->axis] += concat_begin(n, k);
            out->data[index_flat(&n->shape, to)] = in[k]->data[i++];
        } while (index_next(&in[k]->shape, from));
    }
}

/* Each input gets the gradient of its own part. */
static Node *concat_gradient(Graph *g, Node *n, Node *dy, int i)
{
    const ConcatAttrs *at = n->attrs;
    SliceAttrs part = {at->axis, concat_begin(n, i), n->in[i]->shape.dim[at->axis]};
    return node_new(g, &op_slice, 1, &dy, &part);
}

static int concat_part(const Node *n, int i, int *dim)
{
    *dim = ((const ConcatAttrs *)n->attrs)->axis;
    return concat_begin(n, i);
}

/* One nest per input that lies elsewhere: nothing to sum, a place to store. */
static void concat_lower(Lower *l, Node *n)
{
    const ConcatAttrs *at = n->attrs;
    for (int k = 0; k < n->ins; k++) {
        if (n->in[k]->joined == n)
            continue;
        Nest *nest = nest_open(l);
        Affine index[MAX_RANK];
        nest_axes(nest, n->in[k], index);
        Expr *value = element(l, n->in[k], index);
        index[at->axis] = affine_sum(index[at->axis], affine_constant(concat_begin(n, k)));
        nest_close(l, n, nest, REDUCE_SUM, value, NULL, index);
    }
}

static Node *concat_build(Call *call)
{
    Graph *g = call->g;
    const Node *first = call->tensor[0];
    ConcatAttrs at = {axis_of(call, &call->arg[0], first)};
    int64_t size = first->shape.dim[at.axis];
    for (int i = 1; i < call->tensors; i++) {
        Shape other = call->tensor[i]->shape, expected = first->shape;
        size += at.axis < other.rank ? other.dim[at.axis] : 0;
        expected.dim[at.axis] = at.axis < other.rank ? other.dim[at.axis] : 0;
        if (!call->tensor[i]->batched || !shape_equal(&other, &expected))
            refuse(call, "tensor %d: found shape %s, expected that of tensor 1, %s, but for axis %d", i + 1,
                   shape_text(g->c, &other, call->tensor[i]->batched), shape_text(g->c, &first->shape, true),
                   at.axis);
    }
    if (size > INT32_MAX)
        refuse(call, "axis %d has more than 2^31 - 1 entries", at.axis);
    return call->tensors == 1 ? call->tensor[0] : node_new(g, &op_concat, call->tensors, call->tensor, &at);
}

static void concat_print(const Node *n, Text *t)
{
    text_add(t, " axis %d", ((const ConcatAttrs *)n->attrs)->axis);
}

const Op op_concat = {
    .name = "concat", .doc = "tensors one after the other along an axis", .attrs_size = sizeof(ConcatAttrs),
    .method = {{"concat", 0}}, .kind = "concat", .operands = -1,
    .args = (const ArgSpec[]){
        {"axis", ARG_INT, .standard = 1, .low = 1, .doc = "1 = channels"},
        {.kind = ARG_END}},
    .build = concat_build, .infer = concat_infer, .eval = concat_eval, .gradient = concat_gradient,
    .lower = concat_lower, .part = concat_part, .print_attrs = concat_print,
    .samples = (const char *const[]){
        "local x = input { 3, 4, 5 }; return concat(x, x:tanh(), x * 2)",
        "local x = input { 2, 7 }; return concat { x:sigmoid(), x, axis = 2 }",
        "local x = input { 5 }; return concat(x:linear { 3 }, x)",
        "local x = input { 2, 2, 3, 2 }; return concat { x, x:exp(), axis = 3 }", NULL},
};

/* -- reverse -- */

typedef struct ReverseAttrs { unsigned axes; } ReverseAttrs;

static void reverse_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const ReverseAttrs *at = n->attrs;
    int to[MAX_RANK] = {0}, i = 0;
    do {
        int from[MAX_RANK] = {0};
        for (int d = 0; d < n->shape.rank; d++)
            from[d] = at->axes >> d & 1 ? n->shape.dim[d] - 1 - to[d] : to[d];
        out->data[i++] = in[0]->data[index_flat(&n->shape, from)];
    } while (index_next(&n->shape, to));
}

/* Reversing is its own inverse. */
static Node *reverse_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return reverse(g, dy, ((const ReverseAttrs *)n->attrs)->axes);
}

static Expr *reverse_element(Lower *l, Node *n, const Affine *index)
{
    const ReverseAttrs *at = n->attrs;
    Affine from[MAX_RANK];
    for (int d = 0; d < n->shape.rank; d++)
        from[d] = at->axes >> d & 1
            ? affine_sum(affine_constant(n->shape.dim[d] - 1), affine_times(index[d], -1)) : index[d];
    return element(l, n->in[0], from);
}

static void reverse_print(const Node *n, Text *t)
{
    for (int d = 0; d < n->shape.rank; d++)
        if (((const ReverseAttrs *)n->attrs)->axes >> d & 1)
            text_add(t, " %d", d);
}

const Op op_reverse = {
    .name = "reverse", .doc = "some axes run backwards (flip = true)", .traits = OP_INDEX_MAP,
    .attrs_size = sizeof(ReverseAttrs), .infer = same_shape, .eval = reverse_eval,
    .gradient = reverse_gradient, .element = reverse_element, .print_attrs = reverse_print,
};

Node *reverse(Graph *g, Node *x, unsigned axes)
{
    ReverseAttrs at = {axes};
    return node_new(g, &op_reverse, 1, &x, &at);
}
