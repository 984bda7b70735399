/* NLinear (Zeng, Chen, Zhang and Xu 2023), in C: each row less the last one, then one linear map, or one hidden layer
 * where `hidden` is above 0.
 *
 * [-1, window, features] -> x - last row -> flat [-1, window * features] -> (matmul, bias, GELU) -> matmul, bias ->
 * "prediction" [-1, outputs].
 */
#include "../../c/alphaplus_architecture.h"

const char *ap_schema(void) {
    return "{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {"
           "\"hidden\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1024, \"default\": 16,"
           " \"description\": \"Units of the hidden layer; 0: none, a linear model.\"},"
           "\"learning_rate\": {\"type\": \"number\", \"minimum\": 1e-5, \"maximum\": 0.1, \"default\": 0.001,"
           " \"x-scale\": \"log\", \"description\": \"Of AdamW; read by the training.\"}}}";
}

static ap_node dense(const char *weights, const char *biases, const char *initial, ap_node x, uint32_t from,
                     uint32_t to) {
    ap_node w = ap_parameter(weights, initial, 2, (uint32_t[]){from, to});
    ap_node b = ap_parameter(biases, "zeros", 1, &to);
    return ap_binary("add", ap_matmul(x, w, false, false), b);
}

const char *ap_build(ap_hyper hyper, ap_dimensions d) {
    uint32_t hidden, inputs;
    if (!ap_count(hyper, "hidden", &hidden)) return "option hidden is missing or not a whole number";
    if (__builtin_mul_overflow(d.window, d.features, &inputs)) return "the window is too large";
    ap_scope("difference");
    ap_node x = ap_input();
    ap_node last = ap_slice(x, 1, d.window - 1, d.window);
    ap_node flat = ap_reshape(ap_binary("sub", x, last), 2, (int64_t[]){-1, inputs});
    if (hidden > 0) {
        ap_scope("hidden");
        flat = ap_unary("gelu", dense("hidden.w", "hidden.b", "he", flat, inputs, hidden));
        inputs = hidden;
    }
    ap_scope("head");
    ap_output("prediction", dense("head.w", "head.b", "glorot", flat, inputs, d.outputs));
    return NULL;
}
