//! The ONNX codec against onnxruntime and ONNX's checker: our files there, and files of others here.

use std::path::Path;

use graph::conformance::{self, Tolerance};
use graph::{
    Builder, CodecError, Graph, GraphCodec, Initial, Keep, ReduceOp, Shape, UnaryOp, Value, reference,
};
use onnx::Onnx;
use serde_json::json;

use crate::python;

const MODULES: [&str; 3] = ["numpy", "onnx", "onnxruntime"];

/// A graph to run at a batch size, and how near onnxruntime must come to the reference.
struct Case {
    name: String,
    graph: Graph,
    batch: usize,
    inputs: Vec<Vec<f32>>,
    tolerance: Tolerance,
}

/// Writes the cases' files, has onnxruntime run them, and compares. The model of a case is `file`, where it
/// gives one, else what the codec writes.
fn check(test: &str, folder: &Path, cases: &[Case], file: impl Fn(&Case) -> Option<String>) {
    let mut listed = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let model = file(case).unwrap_or_else(|| {
            let name = format!("{i}.onnx");
            let bytes = Onnx.encode(&case.graph).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            std::fs::write(folder.join(&name), bytes).unwrap();
            name
        });
        std::fs::write(folder.join(format!("{i}.in")), bytes_of(&case.inputs)).unwrap();
        let dims = |shape: &Shape| shape.at(case.batch).unwrap();
        let inputs = case.graph.inputs().map(|(name, _, shape)| json!({"name": name, "dims": dims(shape)}));
        let outputs = case.graph.outputs.iter();
        let outputs = outputs.map(|(name, v)| json!({"name": name, "dims": dims(case.graph.shape(*v))}));
        listed.push(json!({
            "model": model,
            "inputs": inputs.collect::<Vec<_>>(),
            "data": format!("{i}.in"),
            "outputs": outputs.collect::<Vec<_>>(),
            "results": format!("{i}.out"),
        }));
    }
    std::fs::write(folder.join("cases.json"), serde_json::to_string(&listed).unwrap()).unwrap();
    if python::run(test, &MODULES, "onnx_run.py", &[folder]).is_none() {
        return;
    }
    let mut failures = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        if let Err(e) = compare(case, &std::fs::read(folder.join(format!("{i}.out"))).unwrap()) {
            failures.push(format!("{} at batch {}: {e}", case.name, case.batch));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn bytes_of(inputs: &[Vec<f32>]) -> Vec<u8> {
    inputs.iter().flatten().flat_map(|x| x.to_le_bytes()).collect()
}

fn compare(case: &Case, results: &[u8]) -> Result<(), String> {
    let mut results: Vec<f32> = results.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let expected = reference(case, |x| x);
    let magnitudes = reference(case, f64::abs);
    for ((name, _), (expected, magnitudes)) in case.graph.outputs.iter().zip(expected.iter().zip(&magnitudes))
    {
        let rest = results.split_off(expected.len());
        case.tolerance
            .compare(&results, expected, magnitudes)
            .map_err(|e| format!("output {name:?}: {e}"))?;
        results = rest;
    }
    Ok(())
}

/// The reference's outputs, where `change` is applied to each input and weight.
fn reference(case: &Case, change: impl Fn(f64) -> f64) -> Vec<Vec<f64>> {
    let widen = |data: &Vec<f32>| data.iter().map(|&x| change(f64::from(x))).collect();
    let inputs: Vec<Vec<f64>> = case.inputs.iter().map(widen).collect();
    let mut states = reference::initial_states_f64(&case.graph, 0);
    for (_, data) in &mut states {
        data.iter_mut().for_each(|x| *x = change(*x));
    }
    reference::run(&case.graph, case.batch, &inputs, &mut states)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// The graph with a value in every state, as after training.
fn trained(mut graph: Graph) -> Graph {
    let values = reference::initial_states(&graph, 11);
    for (state, (_, value)) in graph.states.iter_mut().zip(values) {
        state.initial = Initial::Given(value);
    }
    graph
}

/// Numbers within ±2, another for each place.
fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 4001) as f32 / 1000.0 - 2.0).collect()
}

fn case(name: &str, graph: Graph, batch: usize, tolerance: Tolerance) -> Case {
    let inputs = graph.inputs().map(|(_, _, shape)| noise(shape.elements(batch).unwrap())).collect();
    Case { name: name.into(), graph, batch, inputs, tolerance }
}

#[test]
fn conformance_rows_in_onnxruntime() {
    let mut cases = Vec::new();
    for row in conformance::rows() {
        let graph = trained(row.graph.clone());
        if matches!(Onnx.encode(&graph), Err(CodecError::Unsupported { .. })) {
            continue;
        }
        for &batch in &row.batches {
            let inputs = row.inputs(batch, 0);
            cases.push(Case {
                name: row.name.clone(),
                graph: graph.clone(),
                batch,
                inputs,
                tolerance: row.tolerance,
            });
        }
    }
    assert!(cases.len() > 400, "only {} cases can be written", cases.len());
    let folder = tempfile::tempdir().unwrap();
    check("conformance rows in onnxruntime", folder.path(), &cases, |_| None);
}

fn parameter(b: &mut Builder, name: &str, dims: &[usize]) -> Value {
    b.state(name, Shape::fixed(dims), Initial::Glorot, true).unwrap()
}

/// LSTM layers over `[B, 30, 8]`, each of 16 units.
fn lstm(layers: usize, last: Keep) -> Graph {
    const FEATURES: usize = 8;
    const HIDDEN: usize = 16;
    let mut b = Builder::new();
    let mut x = b.input("features", Shape::batch(&[30, FEATURES])).unwrap();
    for layer in 0..layers {
        let scope = format!("lstm.{layer}");
        b.scope(&scope);
        let inputs = if layer == 0 { FEATURES } else { HIDDEN };
        let w = parameter(&mut b, &format!("{scope}.w"), &[inputs, 4 * HIDDEN]);
        let u = parameter(&mut b, &format!("{scope}.u"), &[HIDDEN, 4 * HIDDEN]);
        let bias =
            b.state(&format!("{scope}.b"), Shape::fixed(&[4 * HIDDEN]), Initial::UniformRoot { n: 16 }, true);
        let keep = if layer + 1 == layers { last } else { Keep::Sequence };
        x = b.lstm(x, w, u, bias.unwrap(), keep).unwrap();
    }
    b.output("hidden", x).unwrap();
    trained(b.finish().unwrap())
}

#[test]
fn lstm_layers_in_onnxruntime() {
    let mut cases = Vec::new();
    for layers in [1, 2] {
        for keep in [Keep::Last, Keep::Sequence] {
            for batch in [1, 7] {
                let name = format!("{layers} layers, {keep:?}");
                cases.push(case(&name, lstm(layers, keep), batch, Tolerance::scaled(64.0)));
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    check("LSTM layers in onnxruntime", folder.path(), &cases, |_| None);
}

/// GRU layers over `[B, 30, 8]`, each of 16 units.
fn gru(layers: usize, last: Keep) -> Graph {
    const FEATURES: usize = 8;
    const HIDDEN: usize = 16;
    let mut b = Builder::new();
    let mut x = b.input("features", Shape::batch(&[30, FEATURES])).unwrap();
    for layer in 0..layers {
        let scope = format!("gru.{layer}");
        b.scope(&scope);
        let inputs = if layer == 0 { FEATURES } else { HIDDEN };
        let w = parameter(&mut b, &format!("{scope}.w"), &[inputs, 3 * HIDDEN]);
        let u = parameter(&mut b, &format!("{scope}.u"), &[HIDDEN, 3 * HIDDEN]);
        let [bias, recurrent] = ["b", "c"].map(|name| {
            let initial = Initial::UniformRoot { n: 16 };
            b.state(&format!("{scope}.{name}"), Shape::fixed(&[3 * HIDDEN]), initial, true).unwrap()
        });
        let keep = if layer + 1 == layers { last } else { Keep::Sequence };
        x = b.gru(x, w, u, bias, recurrent, keep).unwrap();
    }
    b.output("hidden", x).unwrap();
    trained(b.finish().unwrap())
}

#[test]
fn gru_layers_in_onnxruntime() {
    let mut cases = Vec::new();
    for layers in [1, 2] {
        for keep in [Keep::Last, Keep::Sequence] {
            for batch in [1, 7] {
                let name = format!("{layers} layers, {keep:?}");
                cases.push(case(&name, gru(layers, keep), batch, Tolerance::scaled(64.0)));
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    check("GRU layers in onnxruntime", folder.path(), &cases, |_| None);
}

/// Every kind of layer that a forecaster has, with two outputs.
fn forecaster() -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[12, 6])).unwrap();
    b.scope("embed");
    let w = parameter(&mut b, "embed.w", &[6, 16]);
    let embedded = b.matmul(x, w, false, false).unwrap();
    b.scope("attention");
    let scores = b.matmul(embedded, embedded, false, true).unwrap();
    let quarter = b.scalar(0.25).unwrap();
    let scores = b.mul(scores, quarter).unwrap();
    let weights = b.softmax(scores, 2).unwrap();
    let mixed = b.matmul(weights, embedded, false, false).unwrap();
    let sum = b.add(embedded, mixed).unwrap();
    let gamma = b.state("norm.gamma", Shape::fixed(&[16]), Initial::Constant(1.0), true).unwrap();
    let beta = b.state("norm.beta", Shape::fixed(&[16]), Initial::UniformRoot { n: 4 }, true).unwrap();
    let normal = b.layer_norm(sum, gamma, beta, 1e-5).unwrap();
    b.scope("head");
    let flat = b.reshape(normal, Shape::batch(&[12 * 16])).unwrap();
    let head = parameter(&mut b, "head.w", &[12 * 16, 3]);
    let logits = b.matmul(flat, head, false, false).unwrap();
    let gelu = b.unary(UnaryOp::Gelu, logits).unwrap();
    let prediction = b.reduce(ReduceOp::Sum, gelu, &[1], true).unwrap();
    let classes = b.log_softmax(logits, 1).unwrap();
    b.output("prediction", prediction).unwrap();
    b.output("classes", classes).unwrap();
    trained(b.finish().unwrap())
}

#[test]
fn a_forecaster_in_onnxruntime() {
    let cases = [1, 7].map(|batch| case("forecaster", forecaster(), batch, Tolerance::scaled(256.0)));
    let folder = tempfile::tempdir().unwrap();
    check("a forecaster in onnxruntime", folder.path(), &cases, |_| None);
}

/// Files of other exporters' styles: onnxruntime and what we read of them agree, also once we wrote them again.
#[test]
fn files_of_other_exporters() {
    let test = "files of other exporters";
    let folder = tempfile::tempdir().unwrap();
    if python::run(test, &MODULES, "onnx_write.py", &[folder.path()]).is_none() {
        return;
    }
    let mut cases = Vec::new();
    for name in ["torch_lstm", "torch_gru", "keras_dense", "attention"] {
        let bytes = std::fs::read(folder.path().join(format!("{name}.onnx"))).unwrap();
        let graph = Onnx.decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        for batch in [1, 7] {
            cases.push(case(name, graph.clone(), batch, Tolerance::scaled(64.0)));
        }
    }
    check(test, folder.path(), &cases, |case| Some(format!("{}.onnx", case.name)));
    check(test, folder.path(), &cases, |_| None);
}
