"""Writes ONNX files as other programs do, for `alphaplus models import`, and what onnxruntime gives for them.

    onnx_foreign.py FOLDER WINDOW FEATURES      writes FOLDER/<name>.onnx
    onnx_foreign.py FOLDER WINDOW FEATURES run  runs each <name>.onnx on FOLDER/windows (float32) into <name>.out
"""

import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

folder, window, features = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
flat = window * features
random = numpy.random.default_rng(11)
node = helper.make_node


def weight(name, *dims, scale=None):
    scale = scale or (1.0 / max(1, int(numpy.prod(dims[1:])))) ** 0.5
    return numpy_helper.from_array((random.standard_normal(dims) * scale).astype(numpy.float32), name)


def ints(name, *values):
    return numpy_helper.from_array(numpy.array(values, numpy.int64), name)


def save(name, nodes, initializers, x_dims, outputs, opset=17, producer=("pytorch", "2.9.0"), domains=(), kind=TensorProto.FLOAT):
    inputs = [helper.make_tensor_value_info("x", kind, x_dims)]
    outputs = [helper.make_tensor_value_info(n, t, d) for n, t, d in outputs]
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializers)
    sets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, v) for d, v in domains]
    model = helper.make_model(graph, opset_imports=sets, producer_name=producer[0], producer_version=producer[1], ir_version=8)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return model


FLOAT, SEQUENCE, FLAT = TensorProto.FLOAT, ["batch", window, features], ["batch", flat]


def y(*rest):
    return [("y", FLOAT, ["batch", *rest])]


def good():
    # A scikit-learn MLP as its converter writes it: rows end to end, one column out.
    mlp = [node("MatMul", ["x", "w0"], ["h0"]), node("Add", ["h0", "b0"], ["h1"]), node("Relu", ["h1"], ["h2"]),
           node("MatMul", ["h2", "w1"], ["h3"]), node("Add", ["h3", "b1"], ["y"])]
    save("mlp", mlp, [weight("w0", flat, 16, scale=0.05), weight("b0", 16), weight("w1", 16, 1), weight("b1", 1)],
         ["N", flat], y(1), producer=("skl2onnx", "1.19.1"))
    # A torch LSTM, time first inside, the last step through a Linear, squeezed to one number for each window.
    lstm = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "W", "R", "B"], ["Y", "h", "c"], hidden_size=8), node("Squeeze", ["h", "axis0"], ["last"]),
            node("Gemm", ["last", "fc.w", "fc.b"], ["column"], transB=1), node("Squeeze", ["column", "axis1"], ["y"])]
    save("lstm", lstm, [weight("W", 1, 32, features), weight("R", 1, 32, 8), weight("B", 1, 64), weight("fc.w", 1, 8),
                        weight("fc.b", 1), ints("axis0", 0), ints("axis1", 1)], SEQUENCE, y())
    # Instance norm and a floor: operators that tract has and a graph of trained layers does not need.
    norm = [node("Transpose", ["x"], ["c"], perm=[0, 2, 1]), node("InstanceNormalization", ["c", "g", "b"], ["n"]),
            node("Floor", ["n"], ["f"]), node("ReduceMean", ["f"], ["y"], axes=[2], keepdims=0)]
    save("norm", norm, [weight("g", features), weight("b", features)], SEQUENCE, y(features))
    # The same for one window alone, as an export without dynamic axes.
    save("norm_one", norm, [weight("g", features), weight("b", features)], [1, window, features], [("y", FLOAT, [1, features])])
    # A tree ensemble with two outputs, of which the second are probabilities.
    tree = node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", post_transform="NONE",
                nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.1, 0.0, 0.0],
                nodes_hitrates=[1.0, 1.0, 1.0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0],
                nodes_falsenodeids=[2, 0, 0], nodes_missing_value_tracks_true=[0, 0, 0],
                class_treeids=[0, 0, 0, 0], class_nodeids=[1, 1, 2, 2], class_ids=[0, 1, 0, 1], class_weights=[0.8, 0.2, 0.3, 0.7],
                classlabels_int64s=[0, 1])
    save("tree", [tree], [], FLAT, [("label", TensorProto.INT64, ["batch"]), ("p", FLOAT, ["batch", 2])], domains=[("ai.onnx.ml", 1)],
         producer=("skl2onnx", "1.19.1"))


def bad():
    dense = [node("MatMul", ["x", "w"], ["y"])]
    w = lambda: [weight("w", flat, 1)]
    save("wide", dense, [weight("w", flat + 1, 1)], ["batch", flat + 1], y(1))
    save("double", dense, w(), FLAT, y(1), kind=TensorProto.DOUBLE)
    save("sequence_out", [node("Relu", ["x"], ["y"])], [], SEQUENCE, y(window, features))
    save("two_outputs", dense + [node("Neg", ["y"], ["z"])], w(), FLAT, y(1) + [("z", FLOAT, ["batch", 1])])
    save("unknown", [node("Det", ["square"], ["d"]), node("Reshape", ["x", "to"], ["square"]), node("Unsqueeze", ["d", "one"], ["y"])][1::-1]
         + [node("Unsqueeze", ["d", "one"], ["y"])], [ints("to", -1, 1, 1), ints("one", 1)], FLAT, y(1))
    save("ensemble", [node("SVMRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_supports=0, coefficients=[0.5] * flat, rho=[0.1])],
         [], FLAT, y(1), domains=[("ai.onnx.ml", 1)])
    save("custom", [node("Magic", ["x"], ["y"], domain="com.example")], [], FLAT, y(1), domains=[("com.example", 1)])
    save("random", [node("RandomNormalLike", ["x"], ["r"]), node("MatMul", ["r", "w"], ["y"])], w(), FLAT, y(1))
    save("not_finite", [node("MatMul", ["x", "w"], ["h"]), node("Log", ["h"], ["y"])], w(), FLAT, y(1))
    body = helper.make_graph([node("Identity", ["on"], ["go"]), node("Identity", ["a"], ["b"])], "body",
                             [helper.make_tensor_value_info(n, t, s) for n, t, s in
                              [("i", TensorProto.INT64, []), ("on", TensorProto.BOOL, []), ("a", FLOAT, FLAT)]],
                             [helper.make_tensor_value_info(n, t, s) for n, t, s in [("go", TensorProto.BOOL, []), ("b", FLOAT, FLAT)]])
    save("loop", [node("Loop", ["n", "", "x"], ["h"], body=body), node("MatMul", ["h", "w"], ["y"])],
         w() + [numpy_helper.from_array(numpy.array(2**62, numpy.int64), "n")], FLAT, y(1))
    # Memory: a constant of 2^36 numbers, which only tract would make.
    save("bomb", [node("ConstantOfShape", ["dims"], ["huge"], value=helper.make_tensor("v", FLOAT, [1], [1.0])), node("Floor", ["huge"], ["fl"]),
                  node("ReduceSum", ["fl", "axes"], ["s"], keepdims=0), node("MatMul", ["x", "w"], ["h"]), node("Mul", ["h", "s"], ["y"])],
         w() + [ints("dims", 2**18, 2**18), ints("axes", 0, 1)], FLAT, y(1))
    outside = save("outside", dense, w(), FLAT, y(1))
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "/etc/passwd"), ("offset", "0")]:
        tensor.external_data.add(key=key, value=value)
    (folder / "outside.onnx").write_bytes(outside.SerializeToString())
    (folder / "text.onnx").write_text("this is no ONNX file\n" * 40)
    whole = (folder / "mlp.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.onnx").write_bytes(b"")


def run():
    import onnxruntime

    windows = numpy.frombuffer((folder / "windows").read_bytes(), numpy.float32).reshape(-1, window, features)
    for name in ["mlp", "lstm", "norm", "norm_one", "tree"]:
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        rank = len(session.get_inputs()[0].shape)
        output = "p" if name == "tree" else "y"
        rows = [session.run([output], {"x": w.reshape([1, flat] if rank == 2 else [1, window, features])})[0] for w in windows]
        (folder / f"{name}.out").write_bytes(numpy.stack(rows).astype(numpy.float32).tobytes())


if len(sys.argv) > 4:
    run()
else:
    good()
    bad()
