/* A model architecture in C: what ../wit/plugin.wit says, as the canonical ABI of the component model lays it out on
 * wasm32. One header, no C library; include it in one file of the plugin and define
 *
 *     const char *ap_schema(void);                            the hyper-parameters, a JSON Schema object
 *     const char *ap_build(ap_hyper hyper, ap_dimensions d);  NULL, or why it can't be built
 *
 * Build (any clang with wasm-ld, from version 16 on):
 *
 *     clang --target=wasm32-unknown-unknown -O2 -nostdlib -ffreestanding -mbulk-memory \
 *           -Wl,--no-entry -o plugin.module.wasm plugin.c
 *     alphaplus plugin wrap plugin.module.wasm --name my-plugin --out my-plugin.wasm
 *
 * A graph function gives a node. One that the host refuses gives AP_NONE, and so does each that is given AP_NONE; the
 * first refusal is kept and ends the build as its error, so results need no checks of their own. Memory is never given
 * back: an instance lives for one call.
 */
#ifndef ALPHAPLUS_ARCHITECTURE_H
#define ALPHAPLUS_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t ap_node;
#define AP_NONE UINT32_MAX

typedef struct {
    uint32_t window, features, outputs;
} ap_dimensions;

/* The hyper-parameters, a JSON object with a checked value for every property of the schema. */
typedef struct {
    const char *text;
    size_t bytes;
} ap_hyper;

const char *ap_schema(void);
const char *ap_build(ap_hyper hyper, ap_dimensions dimensions);

/* -- memory and text -- */

extern unsigned char __heap_base;
static size_t ap_heap;

/* Bytes aligned to `align`, a power of two. Traps where the host allows no more. */
static void *ap_allocate(size_t align, size_t bytes) {
    if (ap_heap == 0) ap_heap = (size_t)&__heap_base;
    size_t start = (ap_heap + align - 1) & ~(align - 1);
    size_t end = start + bytes, have = __builtin_wasm_memory_size(0) << 16;
    if (start < ap_heap || end < start) __builtin_trap();
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (size_t)-1) __builtin_trap();
    ap_heap = end;
    return (void *)start;
}

/* How the host makes room for what it hands over. */
__attribute__((export_name("cabi_realloc"))) void *ap_reallocate(void *old, size_t old_bytes, size_t align,
                                                                   size_t bytes) {
    if (bytes == 0) return (void *)align;
    unsigned char *fresh = ap_allocate(align, bytes);
    size_t kept = old_bytes < bytes ? old_bytes : bytes;
    for (size_t i = 0; i < kept; i++) fresh[i] = ((unsigned char *)old)[i];
    return fresh;
}

static size_t ap_length(const char *text) {
    size_t bytes = 0;
    while (text[bytes]) bytes++;
    return bytes;
}

/* -- hyper-parameters -- */

/* What stands behind "name": in the object, or NULL. */
static const char *ap_value(ap_hyper hyper, const char *name) {
    size_t bytes = ap_length(name);
    for (size_t i = 0; i + bytes + 3 <= hyper.bytes; i++) {
        const char *at = hyper.text + i;
        if (at[0] != '"' || at[bytes + 1] != '"') continue;
        size_t same = 0;
        while (same < bytes && at[1 + same] == name[same]) same++;
        size_t next = i + bytes + 2;
        while (next < hyper.bytes && hyper.text[next] == ' ') next++;
        if (same < bytes || next >= hyper.bytes || hyper.text[next] != ':') continue;
        for (next++; next < hyper.bytes && hyper.text[next] == ' ';) next++;
        return hyper.text + next;
    }
    return NULL;
}

/* A whole number that is not negative; false where the object has none of that name. */
static bool ap_count(ap_hyper hyper, const char *name, uint32_t *count) {
    const char *at = ap_value(hyper, name), *end = hyper.text + hyper.bytes;
    uint64_t value = 0;
    if (at == NULL || at == end || *at < '0' || *at > '9') return false;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > UINT32_MAX) return false;
    }
    *count = (uint32_t)value;
    return true;
}

/* -- the log -- */

enum ap_level { AP_DEBUG, AP_INFO, AP_WARN, AP_ERROR };

__attribute__((import_module("alphaplus:plugin/log@0.1.1"), import_name("write"))) void ap_log_write(
    int32_t level, const char *text, size_t bytes);

static inline void ap_log(enum ap_level level, const char *text) { ap_log_write(level, text, ap_length(text)); }

/* -- the graph -- */

/* `result<node, string>`, and `result<_, string>` without the node. */
typedef struct {
    uint8_t refused;
    union {
        uint32_t node;
        struct {
            const char *text;
            size_t bytes;
        } why;
    };
} ap_result;

static int32_t ap_builder;
static struct {
    const char *text;
    size_t bytes;
} ap_refusal;

static ap_node ap_taken(ap_result result) {
    if (!result.refused) return result.node;
    if (ap_refusal.text == NULL) {
        ap_refusal.text = result.why.text;
        ap_refusal.bytes = result.why.bytes;
    }
    return AP_NONE;
}

#define AP_GRAPH(name) __attribute__((import_module("alphaplus:plugin/graph@0.1.1"), import_name(name)))
#define AP_METHOD(name) AP_GRAPH("[method]builder." name)

AP_GRAPH("[resource-drop]builder") void ap_drop_builder(int32_t);
AP_METHOD("input") ap_node ap_call_input(int32_t);
AP_METHOD("parameter") void ap_call_parameter(int32_t, const char *, size_t, const uint32_t *, size_t, const char *,
                                              size_t, ap_result *);
AP_METHOD("constant") void ap_call_constant(int32_t, const uint32_t *, size_t, const float *, size_t, ap_result *);
AP_METHOD("unary") void ap_call_unary(int32_t, const char *, size_t, ap_node, ap_result *);
AP_METHOD("binary") void ap_call_binary(int32_t, const char *, size_t, ap_node, ap_node, ap_result *);
AP_METHOD("select") void ap_call_select(int32_t, ap_node, ap_node, ap_node, ap_result *);
AP_METHOD("dropout") void ap_call_dropout(int32_t, ap_node, float, ap_result *);
AP_METHOD("broadcast") void ap_call_broadcast(int32_t, ap_node, const int64_t *, size_t, ap_result *);
AP_METHOD("reshape") void ap_call_reshape(int32_t, ap_node, const int64_t *, size_t, ap_result *);
AP_METHOD("transpose") void ap_call_transpose(int32_t, ap_node, const uint32_t *, size_t, ap_result *);
AP_METHOD("slice") void ap_call_slice(int32_t, ap_node, uint32_t, uint32_t, uint32_t, ap_result *);
AP_METHOD("pad") void ap_call_pad(int32_t, ap_node, uint32_t, uint32_t, uint32_t, ap_result *);
AP_METHOD("concat") void ap_call_concat(int32_t, const ap_node *, size_t, uint32_t, ap_result *);
AP_METHOD("matmul") void ap_call_matmul(int32_t, ap_node, ap_node, int32_t, int32_t, ap_result *);
AP_METHOD("reduce") void ap_call_reduce(int32_t, const char *, size_t, ap_node, const uint32_t *, size_t, int32_t,
                                        ap_result *);
AP_METHOD("softmax") void ap_call_softmax(int32_t, ap_node, uint32_t, ap_result *);
AP_METHOD("log-softmax") void ap_call_log_softmax(int32_t, ap_node, uint32_t, ap_result *);
AP_METHOD("layer-norm") void ap_call_layer_norm(int32_t, ap_node, ap_node, ap_node, float, ap_result *);
AP_METHOD("lstm") void ap_call_lstm(int32_t, ap_node, ap_node, ap_node, ap_node, int32_t, ap_result *);
AP_METHOD("gru") void ap_call_gru(int32_t, ap_node, ap_node, ap_node, ap_node, ap_node, int32_t, ap_result *);
AP_METHOD("conv1d") void ap_call_conv1d(int32_t, ap_node, ap_node, ap_node, uint32_t, ap_result *);
AP_METHOD("attention") void ap_call_attention(int32_t, ap_node, ap_node, ap_node, uint32_t, int32_t, ap_result *);
AP_METHOD("attention-weights") void ap_call_attention_weights(int32_t, ap_node, ap_node, uint32_t, int32_t,
                                                              ap_result *);
AP_METHOD("scope") void ap_call_scope(int32_t, const char *, size_t);
AP_METHOD("output") void ap_call_output(int32_t, const char *, size_t, ap_node, ap_result *);

/* Calls unless something was refused before. */
#define AP_CALL(call)                               \
    do {                                            \
        if (ap_refusal.text != NULL) return AP_NONE; \
        ap_result result;                           \
        call;                                       \
        return ap_taken(result);                    \
    } while (0)

/* Arrays are given as (count, values…): ap_parameter("w", "glorot", 2, (uint32_t[]){8, 16}). */
static inline ap_node ap_input(void) { return ap_call_input(ap_builder); }
static inline ap_node ap_parameter(const char *name, const char *initial, size_t rank, const uint32_t *dims) {
    AP_CALL(ap_call_parameter(ap_builder, name, ap_length(name), dims, rank, initial, ap_length(initial), &result));
}
static inline ap_node ap_constant(size_t rank, const uint32_t *dims, size_t count, const float *values) {
    AP_CALL(ap_call_constant(ap_builder, dims, rank, values, count, &result));
}
static inline ap_node ap_unary(const char *op, ap_node x) {
    AP_CALL(ap_call_unary(ap_builder, op, ap_length(op), x, &result));
}
static inline ap_node ap_binary(const char *op, ap_node a, ap_node b) {
    AP_CALL(ap_call_binary(ap_builder, op, ap_length(op), a, b, &result));
}
static inline ap_node ap_select(ap_node c, ap_node a, ap_node b) {
    AP_CALL(ap_call_select(ap_builder, c, a, b, &result));
}
static inline ap_node ap_dropout(ap_node x, float rate) { AP_CALL(ap_call_dropout(ap_builder, x, rate, &result)); }
static inline ap_node ap_broadcast(ap_node x, size_t rank, const int64_t *shape) {
    AP_CALL(ap_call_broadcast(ap_builder, x, shape, rank, &result));
}
static inline ap_node ap_reshape(ap_node x, size_t rank, const int64_t *shape) {
    AP_CALL(ap_call_reshape(ap_builder, x, shape, rank, &result));
}
static inline ap_node ap_transpose(ap_node x, size_t rank, const uint32_t *axes) {
    AP_CALL(ap_call_transpose(ap_builder, x, axes, rank, &result));
}
static inline ap_node ap_slice(ap_node x, uint32_t axis, uint32_t start, uint32_t end) {
    AP_CALL(ap_call_slice(ap_builder, x, axis, start, end, &result));
}
static inline ap_node ap_pad(ap_node x, uint32_t axis, uint32_t before, uint32_t after) {
    AP_CALL(ap_call_pad(ap_builder, x, axis, before, after, &result));
}
static inline ap_node ap_concat(size_t count, const ap_node *xs, uint32_t axis) {
    AP_CALL(ap_call_concat(ap_builder, xs, count, axis, &result));
}
static inline ap_node ap_matmul(ap_node a, ap_node b, bool transpose_a, bool transpose_b) {
    AP_CALL(ap_call_matmul(ap_builder, a, b, transpose_a, transpose_b, &result));
}
static inline ap_node ap_reduce(const char *op, ap_node x, size_t count, const uint32_t *axes, bool keep) {
    AP_CALL(ap_call_reduce(ap_builder, op, ap_length(op), x, axes, count, keep, &result));
}
static inline ap_node ap_softmax(ap_node x, uint32_t axis) { AP_CALL(ap_call_softmax(ap_builder, x, axis, &result)); }
static inline ap_node ap_log_softmax(ap_node x, uint32_t axis) {
    AP_CALL(ap_call_log_softmax(ap_builder, x, axis, &result));
}
static inline ap_node ap_layer_norm(ap_node x, ap_node gamma, ap_node beta, float epsilon) {
    AP_CALL(ap_call_layer_norm(ap_builder, x, gamma, beta, epsilon, &result));
}
static inline ap_node ap_lstm(ap_node x, ap_node w, ap_node u, ap_node b, bool sequence) {
    AP_CALL(ap_call_lstm(ap_builder, x, w, u, b, sequence, &result));
}
static inline ap_node ap_gru(ap_node x, ap_node w, ap_node u, ap_node b, ap_node c, bool sequence) {
    AP_CALL(ap_call_gru(ap_builder, x, w, u, b, c, sequence, &result));
}
static inline ap_node ap_conv1d(ap_node x, ap_node w, ap_node b, uint32_t dilation) {
    AP_CALL(ap_call_conv1d(ap_builder, x, w, b, dilation, &result));
}
static inline ap_node ap_attention(ap_node q, ap_node k, ap_node v, uint32_t heads, bool causal) {
    AP_CALL(ap_call_attention(ap_builder, q, k, v, heads, causal, &result));
}
static inline ap_node ap_attention_weights(ap_node q, ap_node k, uint32_t heads, bool causal) {
    AP_CALL(ap_call_attention_weights(ap_builder, q, k, heads, causal, &result));
}
static inline void ap_scope(const char *name) { ap_call_scope(ap_builder, name, ap_length(name)); }
static inline void ap_output(const char *name, ap_node x) {
    if (ap_refusal.text != NULL) return;
    ap_result result;
    ap_call_output(ap_builder, name, ap_length(name), x, &result);
    ap_taken(result);
}

/* -- the exports -- */

static struct {
    const char *text;
    size_t bytes;
} ap_schema_reply;

__attribute__((export_name("alphaplus:plugin/model@0.1.1#schema"))) void *ap_export_schema(void) {
    ap_schema_reply.text = ap_schema();
    ap_schema_reply.bytes = ap_length(ap_schema_reply.text);
    return &ap_schema_reply;
}

static struct {
    uint8_t refused;
    const char *text;
    size_t bytes;
} ap_build_reply;

__attribute__((export_name("alphaplus:plugin/model@0.1.1#build"))) void *ap_export_build(
    const char *hyper, size_t bytes, uint32_t window, uint32_t features, uint32_t outputs, int32_t builder) {
    ap_builder = builder;
    const char *why = ap_build((ap_hyper){hyper, bytes}, (ap_dimensions){window, features, outputs});
    ap_drop_builder(builder);
    /* What the host refused explains more than what the plugin made of it. */
    if (ap_refusal.text != NULL) {
        ap_build_reply.text = ap_refusal.text;
        ap_build_reply.bytes = ap_refusal.bytes;
    } else if (why != NULL) {
        ap_build_reply.text = why;
        ap_build_reply.bytes = ap_length(why);
    }
    ap_build_reply.refused = ap_build_reply.text != NULL;
    return &ap_build_reply;
}

#endif
