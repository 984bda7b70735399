"""Runs ONNX files with onnxruntime.

    onnx_run.py FOLDER

FOLDER/cases.json is a list of {"model", "inputs": [{"name", "dims"}], "data", "outputs": [{"name", "dims"}], "results"}.
The model passes ONNX's checker with shape inference; the inputs are read from the file "data", float32 in
little-endian order one after the other; the outputs must have the stated dims and are written to the file "results"
in the same form.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime


def main(folder):
    for case in json.loads((folder / "cases.json").read_text()):
        try:
            run(folder, case)
        except Exception as error:
            sys.exit(f"{case['model']}: {error}")


def run(folder, case):
    path = folder / case["model"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    data = numpy.fromfile(folder / case["data"], dtype="<f4")
    inputs = {}
    for item in case["inputs"]:
        count = int(numpy.prod(item["dims"], dtype=int))
        inputs[item["name"]], data = data[:count].reshape(item["dims"]), data[count:]
    if data.size:
        raise ValueError(f"{data.size} numbers are left over")
    results = session.run([item["name"] for item in case["outputs"]], inputs)
    for item, result in zip(case["outputs"], results, strict=True):
        if result.dtype != numpy.float32 or list(result.shape) != item["dims"]:
            raise ValueError(f"output {item['name']} is {result.dtype}{list(result.shape)}, not {item['dims']}")
    numpy.concatenate([result.ravel() for result in results]).astype("<f4").tofile(folder / case["results"])


main(pathlib.Path(sys.argv[1]))
