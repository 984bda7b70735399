"""One peer engine in a process of its own: `peers.py ENGINE THREADS CORES`.

Reads requests on stdin and answers on stdout, a line of JSON each (see engine.rs and worker.rs):
load a model, run it for a while, unload it; write the ONNX file of a convolutional net.
Calls are as lean as the engine's Python API lets them be: inputs and outputs are bound once, before the
timed loop.
"""

import gc
import json
import os
import sys
import time

ENGINE, THREADS = sys.argv[1], int(sys.argv[2])
# Before the engine starts its threads.
try:
    os.sched_setaffinity(0, {int(core) for core in sys.argv[3].split(",")})
    PINNED = True
except OSError:
    PINNED = False
# Libraries may print; replies have a channel of their own.
REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np


def tensor(described):
    return np.fromfile(described["file"], dtype=np.float32).reshape(described["dims"])


def weights(request):
    data = np.fromfile(request["weights"]["file"], dtype=np.float32)
    found, at = {}, 0
    for name, dims in request["weights"]["tensors"]:
        count = int(np.prod(dims))
        found[name] = data[at : at + count].reshape(dims)
        at += count
    return found


def layers(found, prefix):
    return sum(1 for name in found if name.startswith(prefix) and name.endswith(".w") and name.count(".") == 2)


def kernel(found, layer):
    """A convolution's weights as [outputs, inputs, taps]."""
    return np.ascontiguousarray(found[f"conv.{layer}.w"].transpose(2, 1, 0))


# -- onnxruntime --


class OnnxRuntime:
    def __init__(self):
        import onnxruntime

        self.library, self.version = onnxruntime, onnxruntime.__version__

    def load(self, request):
        if request["task"] != "window":
            raise ValueError("the Python package of onnxruntime only predicts")
        ort = self.library
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_free_dimension_override_by_name("batch", request["batch"])
        session = ort.InferenceSession(request["onnx"], options, providers=["CPUExecutionProvider"])
        x = ort.OrtValue.ortvalue_from_numpy(tensor(request["input"]))
        y = ort.OrtValue.ortvalue_from_numpy(np.zeros((request["batch"], 1), dtype=np.float32))
        binding = session.io_binding()
        binding.bind_ortvalue_input(session.get_inputs()[0].name, x)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, y)
        # The wrapper only passes on to these.
        run, bound = session._sess.run_with_iobinding, binding._iobinding
        self.keep = (session, binding, x, y)
        return lambda: run(bound, None), lambda: y.numpy(), x.update_inplace


# -- OpenVINO --


class OpenVino:
    def __init__(self):
        import openvino

        self.library, self.version = openvino, openvino.__version__

    def load(self, request):
        if request["task"] != "window":
            raise ValueError("OpenVINO only predicts")
        ov = self.library
        core = ov.Core()
        model = core.read_model(request["onnx"])
        model.reshape(request["input"]["dims"])
        settings = {
            "INFERENCE_NUM_THREADS": THREADS,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if request["precision"] == "bf16" else "f32",
        }
        compiled = core.compile_model(model, "CPU", settings)
        inference = compiled.create_infer_request()
        x = tensor(request["input"])
        inference.set_input_tensor(0, ov.Tensor(x, shared_memory=True))
        y = inference.get_output_tensor(0)
        # Below the wrapper, which sorts out inputs at each call.
        infer, nothing = type(inference).__mro__[1].infer, {}

        def run():
            infer(inference, nothing, share_outputs=True, decode_strings=False)

        def feed(window):
            x[...] = window

        self.keep = (compiled, inference, x)
        return run, lambda: np.array(y.data), feed


# -- PyTorch --


class PyTorch:
    def __init__(self):
        import torch

        torch.set_num_threads(THREADS)
        torch.set_num_interop_threads(1)
        self.library, self.version = torch, torch.__version__

    def load(self, request):
        torch = self.library
        kind = torch.bfloat16 if request["precision"] == "bf16" else torch.float32
        module = build(torch, request["torch"], weights(request)).to(kind)
        x = torch.from_numpy(tensor(request["input"])).to(kind)
        if request["task"] == "training":
            return self.training(request, module, x)
        module.eval()
        last = [None]

        def run():
            last[0] = module(x)

        return run, lambda: last[0].float().numpy(), lambda window: x.copy_(torch.from_numpy(window))

    def training(self, request, module, x):
        torch = self.library
        target = torch.from_numpy(tensor(request["target"])).to(x.dtype)
        matrices = [p for p in module.parameters() if p.dim() > 1]
        others = [p for p in module.parameters() if p.dim() < 2 and p.requires_grad]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=request["learning_rate"], fused=True)
        mean_squared = torch.nn.MSELoss()

        def run():
            optimiser.zero_grad(set_to_none=True)
            loss = mean_squared(module(x), target)
            loss.backward()
            optimiser.step()
            return loss

        losses = [float(run().detach()) for _ in range(request["checked_steps"])]
        return run, lambda: np.array(losses, dtype=np.float32), None


def build(torch, described, found):
    """The module that a PyTorch user would write, with these weights."""
    nn = torch.nn
    copy = lambda array: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    def dense(name):
        w = found[f"{name}.w"]
        layer = nn.Linear(w.shape[0], w.shape[1])
        layer.weight.data, layer.bias.data = copy(w.T), copy(found[f"{name}.b"])
        return layer

    def norm(layer, name):
        layer.weight.data, layer.bias.data = copy(found[f"{name}.gain"]), copy(found[f"{name}.shift"])

    def recurrent(kind, module):
        first, hidden = found[f"{kind}.0.w"], found[f"{kind}.0.u"].shape[0]
        stack = module(first.shape[0], hidden, layers(found, f"{kind}."), batch_first=True)
        for i in range(stack.num_layers):
            get = lambda part: found.get(f"{kind}.{i}.{part}")
            getattr(stack, f"weight_ih_l{i}").data = copy(get("w").T)
            getattr(stack, f"weight_hh_l{i}").data = copy(get("u").T)
            getattr(stack, f"bias_ih_l{i}").data = copy(get("b"))
            second = getattr(stack, f"bias_hh_l{i}")
            if get("c") is None:
                # Our LSTM has one bias.
                second.data.zero_()
                second.requires_grad_(False)
            else:
                second.data = copy(get("c"))
        stack.flatten_parameters()
        return stack

    class Recurrent(nn.Module):
        def __init__(self, stack):
            super().__init__()
            self.stack, self.head = stack, dense("head")

        def forward(self, x):
            return self.head(self.stack(x)[0][:, -1])

    class Convolutions(nn.Module):
        def __init__(self, layers, pooled):
            super().__init__()
            parts = []
            for i, (_, taps, dilation) in enumerate(layers):
                w = kernel(found, i)
                layer = nn.Conv1d(w.shape[1], w.shape[0], taps, dilation=dilation)
                layer.weight.data, layer.bias.data = copy(w), copy(found[f"conv.{i}.b"])
                parts += [nn.ConstantPad1d(((taps - 1) * dilation, 0), 0.0), layer, nn.ReLU()]
            self.parts, self.head, self.pooled = nn.Sequential(*parts), dense("head"), pooled

        def forward(self, x):
            y = self.parts(x.transpose(1, 2))
            return self.head(y.mean(2) if self.pooled else y[:, :, -1])

    class Transformer(nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.embed, self.head = dense("embed"), dense("head")
            self.position = nn.Parameter(copy(found["position"]))
            width, inner = found["layer.0.inner.w"].shape
            one = nn.TransformerEncoderLayer(
                width, heads, inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            depth = sum(1 for name in found if name.endswith(".inner.w"))
            end = nn.LayerNorm(width)
            norm(end, "norm")
            # The nested tensors are for padded batches; norm_first has none anyway.
            self.encoder = nn.TransformerEncoder(one, depth, norm=end, enable_nested_tensor=False)
            for i, layer in enumerate(self.encoder.layers):
                attention = layer.self_attn
                attention.in_proj_weight.data = copy(found[f"layer.{i}.attention.in.w"].T)
                attention.in_proj_bias.data = copy(found[f"layer.{i}.attention.in.b"])
                attention.out_proj.weight.data = copy(found[f"layer.{i}.attention.out.w"].T)
                attention.out_proj.bias.data = copy(found[f"layer.{i}.attention.out.b"])
                layer.linear1, layer.linear2 = dense(f"layer.{i}.inner"), dense(f"layer.{i}.outer")
                norm(layer.norm1, f"layer.{i}.norm1")
                norm(layer.norm2, f"layer.{i}.norm2")

        def forward(self, x):
            return self.head(self.encoder(self.embed(x) + self.position).mean(1))

    kind = described["kind"]
    if kind in ("lstm", "gru"):
        return Recurrent(recurrent(kind, nn.LSTM if kind == "lstm" else nn.GRU))
    if kind == "cnn":
        return Convolutions(described["layers"], described["pooled"])
    if kind == "transformer":
        return Transformer(described["heads"])
    if kind == "dense":
        return nn.Sequential(nn.Flatten(), dense("head"))
    raise ValueError(f"no module for {kind}")


# -- an ONNX file with real convolutions --


def write_cnn(request):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    found, described = weights(request), request["torch"]
    steps, features = request["input"]["dims"][1:]
    initializers = []

    def initial(name, array):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    nodes = [helper.make_node("Transpose", ["features"], ["x"], perm=[0, 2, 1])]
    x = "x"
    for i, (_, taps, dilation) in enumerate(described["layers"]):
        arguments = [x, initial(f"w{i}", kernel(found, i)), initial(f"b{i}", found[f"conv.{i}.b"])]
        pads = [(taps - 1) * dilation, 0]
        nodes.append(helper.make_node("Conv", arguments, [f"c{i}"], dilations=[dilation], pads=pads, kernel_shape=[taps]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        x = f"r{i}"
    if described["pooled"]:
        initializers.append(helper.make_tensor("places", TensorProto.INT64, [1], [2]))
        nodes.append(helper.make_node("ReduceMean", [x, "places"], ["last"], keepdims=0))
    else:
        initializers.append(helper.make_tensor("newest", TensorProto.INT64, [], [steps - 1]))
        nodes.append(helper.make_node("Gather", [x, "newest"], ["last"], axis=2))
    head = ["last", initial("head.w", found["head.w"]), initial("head.b", found["head.b"])]
    nodes.append(helper.make_node("Gemm", head, ["prediction"]))
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", steps, features])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch", 1])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, request["to"])


# -- requests --


def measure(run, request):
    now = time.perf_counter_ns
    warm_until = now() + int(request["warm_s"] * 1e9)
    while True:
        run()
        if now() >= warm_until:
            break
    least, most = request["least"], request["most"]
    gc.collect()
    gc.disable()
    ns, until = [], now() + int(request["time_s"] * 1e9)
    while len(ns) < most:
        start = now()
        if start >= until and len(ns) >= least:
            break
        run()
        ns.append(now() - start)
    gc.enable()
    return sorted(ns)


def checked(run, outputs, feed, checks):
    """What windows other than the timed one give."""
    values = []
    for i in range(len(checks)):
        feed(checks[i : i + 1])
        run()
        values.append(np.array(outputs(), dtype=np.float32))
    feed(checks[:1])
    return np.concatenate(values)


def main():
    engine = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "pytorch": PyTorch}[ENGINE]()
    answer({"version": engine.version, "pinned": PINNED})
    loaded = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                loaded = None
                training = request["task"] == "training"
                # A window is never differentiated through; a training step is.
                with NoGradient(ENGINE == "pytorch" and not training):
                    loaded = engine.load(request)
                loaded += (training, None if training else tensor(request["checks"]))
                answer({})
            elif request["do"] == "run":
                run, outputs, feed, training, checks = loaded
                with NoGradient(ENGINE == "pytorch" and not training):
                    ns = measure(run, request)
                    values = np.asarray(outputs(), dtype=np.float32)
                    if not training and len(values) == 1:
                        values = checked(run, outputs, feed, checks)
                answer({"ns": ns, "outputs": {"values": values[: max(request["checked"], len(checks) if checks is not None else 0)].ravel().tolist()}})
            elif request["do"] == "unload":
                loaded = engine.keep = None
                gc.collect()
                answer({})
            elif request["do"] == "write_cnn":
                write_cnn(request)
                answer({})
            else:
                raise ValueError("not a request")
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {str(error)[:300]}"})


class NoGradient:
    """torch.inference_mode, where it is wanted."""

    def __init__(self, wanted):
        self.mode = None
        if wanted:
            import torch

            self.mode = torch.inference_mode()

    def __enter__(self):
        if self.mode:
            self.mode.__enter__()

    def __exit__(self, *error):
        if self.mode:
            self.mode.__exit__(*error)


def answer(value):
    REPLIES.write(json.dumps(value) + "\n")
    REPLIES.flush()


main()
