"""A client that nobody here wrote: tritonclient over HTTP against a running appliance.

usage: triton_infer.py ADDRESS MODEL WINDOW FEATURES OUT.json
Writes what it got for the same windows as binary, as JSON, one by one, and explained.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton

address, model, window, features, out = sys.argv[1:6]
window, features = int(window), int(features)
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
metadata = client.get_server_metadata()
assert "binary_tensor_data" in metadata["extensions"], metadata
described = client.get_model_metadata(model)
assert described["inputs"][0]["shape"] == [-1, window, features], described
assert client.get_model_config(model)["max_batch_size"] >= 1000
assert any(m["name"] == model for m in client.get_model_repository_index())

windows = np.random.default_rng(1).normal(size=(1000, window, features)).astype(np.float32)


def infer(rows, binary, parameters=None, outputs=("prediction",)):
    tensor = triton.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    return client.infer(model, [tensor], outputs=asked, request_id="r", parameters=parameters)


whole = infer(windows, True)
assert whole.get_response()["id"] == "r", whole.get_response()
result = whole.as_numpy("prediction")
assert result.shape == (1000, 1), result.shape
text = infer(windows[:20], False).as_numpy("prediction")
alone = np.concatenate([infer(windows[i : i + 1], True).as_numpy("prediction") for i in range(20)])
names = ("prediction", "attributions", "completeness_residual", "baseline_prediction")
explained = infer(windows[:4], True, {"explain": "ig"}, names)
parts = {name: explained.as_numpy(name) for name in names}
assert parts["attributions"].shape == (4, window, features)
total = parts["attributions"].sum(axis=(1, 2)) + parts["baseline_prediction"][:, 0] + parts["completeness_residual"][:, 0]
stats = client.get_inference_statistics(model)["model_stats"][0]
assert stats["inference_count"] >= 1044, stats

try:
    infer(windows[:1, 1:], True)
    refused = ""
except triton.InferenceServerException as error:
    refused = error.message()

json.dump(
    {
        "same_as_text": bool((result[:20] == text).all()),
        "same_alone": bool((result[:20] == alone).all()),
        "incomplete": float(np.abs(total - parts["prediction"][:, 0]).max()),
        "residual": float(np.abs(parts["completeness_residual"]).max()),
        "spread": float(result.std()),
        "refused": refused,
    },
    open(out, "w"),
)
