"""Writes ONNX files in the styles of common exporters, with ONNX's own helper.

    onnx_write.py FOLDER

Each file has the input x [batch, 6, 4] and the output y.
"""

import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

STEPS, FEATURES, HIDDEN = 6, 4, 5
random = numpy.random.default_rng(7)


def weight(name, *dims):
    return numpy_helper.from_array(random.uniform(-0.5, 0.5, dims).astype(numpy.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(numpy.array(values, numpy.int64), name)


def scalar(name, value):
    return numpy_helper.from_array(numpy.array(value, numpy.int64), name)


def plain(name, *dims):
    """As float_data, not raw_data."""
    values = random.uniform(-0.5, 0.5, dims).astype(numpy.float32)
    return helper.make_tensor(name, TensorProto.FLOAT, dims, values.ravel().tolist())


def recurrent_weights(prefix, features, gates):
    gates *= HIDDEN
    return [weight(f"{prefix}.W", 1, gates, features), weight(f"{prefix}.R", 1, gates, HIDDEN), weight(f"{prefix}.B", 1, 2 * gates)]


def torch_lstm():
    """Two layers, time first, one zero state for both that is expanded to the batch and sliced for each layer."""
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["size"], axis=0),
        node("Unsqueeze", ["size", "axis0"], ["sizes"]),
        node("Concat", ["layers", "sizes", "hidden"], ["state_shape"], axis=0),
        node("Constant", [], ["nothing"], value=helper.make_tensor("v", TensorProto.FLOAT, [], [0.0])),
        node("Expand", ["nothing", "state_shape"], ["states"]),
        node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
    ]
    last = "steps"
    for layer in range(2):
        at = f"l{layer}"
        nodes += [
            node("Slice", ["states", f"from{layer}", f"from{layer + 1}", "axis0"], [f"{at}.h0"]),
            node("LSTM", [last, f"{at}.W", f"{at}.R", f"{at}.B", "", f"{at}.h0", f"{at}.h0"],
                 [f"{at}.Y", f"{at}.h", f"{at}.c"], hidden_size=HIDDEN),
            node("Squeeze", [f"{at}.Y", "axis1"], [f"{at}.sequence"]),
        ]
        last = f"{at}.sequence"
    nodes += [
        node("Transpose", [last], ["rows"], perm=[1, 0, 2]),
        node("Gather", ["rows", "end"], ["last"], axis=1),
        node("Gemm", ["last", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    constants = [scalar("zero", 0), scalar("end", -1), ints("axis0", 0), ints("axis1", 1), ints("layers", 2)]
    constants += [ints("hidden", HIDDEN)] + [ints(f"from{i}", i) for i in range(3)]
    weights = recurrent_weights("l0", FEATURES, 4) + recurrent_weights("l1", HIDDEN, 4) + [weight("fc.weight", 2, HIDDEN), weight("fc.bias", 2)]
    return nodes, constants + weights, ["batch", 2], 14


def torch_gru():
    """Two layers, batch first around time first, the initial state left out, the last state of the second."""
    node = helper.make_node
    nodes = [node("Transpose", ["x"], ["steps"], perm=[1, 0, 2])]
    last = "steps"
    for layer in range(2):
        at = f"l{layer}"
        nodes += [
            node("GRU", [last, f"{at}.W", f"{at}.R", f"{at}.B"], [f"{at}.Y", f"{at}.h"],
                 hidden_size=HIDDEN, linear_before_reset=1),
            node("Squeeze", [f"{at}.Y", "axis1"], [f"{at}.sequence"]),
        ]
        last = f"{at}.sequence"
    nodes += [
        node("Squeeze", ["l1.h", "axis0"], ["last"]),
        node("Gemm", ["last", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    weights = recurrent_weights("l0", FEATURES, 3) + recurrent_weights("l1", HIDDEN, 3)
    weights += [weight("fc.weight", 2, HIDDEN), weight("fc.bias", 2), ints("axis0", 0), ints("axis1", 1)]
    return nodes, weights, ["batch", 2], 17


def keras_dense():
    """Flatten, MatMul and BiasAdd, weights as float_data, dropout left in."""
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "flat"], ["rows"]),
        node("MatMul", ["rows", "d1/kernel"], ["d1"]),
        node("Add", ["d1", "d1/bias"], ["d1b"]),
        node("Relu", ["d1b"], ["d1r"]),
        node("Dropout", ["d1r"], ["kept"]),
        node("MatMul", ["kept", "d2/kernel"], ["d2"]),
        node("Softmax", ["d2"], ["y"], axis=-1),
    ]
    weights = [plain("d1/kernel", STEPS * FEATURES, 8), plain("d1/bias", 8), plain("d2/kernel", 8, 3)]
    return nodes, weights + [ints("flat", -1, STEPS * FEATURES)], ["batch", 3], 13


def attention():
    """One head with its scale and softmax, and layer norm as an operator with the default attributes."""
    node = helper.make_node
    nodes = []
    for part in "qkv":
        nodes.append(node("MatMul", ["x", f"{part}.weight"], [part]))
    nodes += [
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Constant", [], ["scale"], value_float=2.0),
        node("Div", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"]),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("Add", ["x", "mixed"], ["sum"]),
        node("LayerNormalization", ["sum", "norm.weight", "norm.bias"], ["normal"]),
        node("ReduceMean", ["normal"], ["y"], axes=[1], keepdims=0),
    ]
    weights = [weight(f"{part}.weight", FEATURES, FEATURES) for part in "qkv"]
    return nodes, weights + [weight("norm.weight", FEATURES), weight("norm.bias", FEATURES)], ["batch", FEATURES], 17


def main(folder):
    for build in [torch_lstm, torch_gru, keras_dense, attention]:
        name = build.__name__
        nodes, initializers, dims, opset = build()
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", STEPS, FEATURES])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)
        graph = helper.make_graph(nodes, name, [x], [y], initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, folder / f"{name}.onnx")


main(pathlib.Path(sys.argv[1]))
