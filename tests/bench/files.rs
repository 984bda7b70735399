//! A case's files and the request that names them: ONNX, weights, inputs.

use std::fs;
use std::path::Path;

use graph::{GraphCodec, reference};
use serde_json::{Value, json};

use crate::case::{Case, Kind};
use crate::engine::{Engine, Program};
use crate::expected::{CHECKED_STEPS, LEARNING_RATE, checked, targets};
use crate::model::rows;

/// Writes them into the folder; what the engines are told.
pub fn write(
    work: &Path,
    case: &Case,
    engines: &mut [Engine],
    notes: &mut Vec<String>,
) -> Result<Value, String> {
    let mut request = json!({"do": "load", "case": case.name, "precision": case.precision.name()});
    let (model, batch, task) = match case.kind {
        Kind::Window { model, batch } => (model(), batch, "window"),
        Kind::Training { model, batch } => (model(), batch, "training"),
        Kind::Sliding { .. } | Kind::Wire(_) => return Ok(request),
    };
    let path = |name: &str| work.join(format!("{}.{name}", case.name));
    let write = |name: &str, bytes: &[u8]| -> Result<String, String> {
        let path = path(name);
        fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path.display().to_string())
    };
    let weights = reference::initial_states(&model.graph, 0);
    let tensors: Vec<(&str, &[usize])> = weights.iter().map(|(n, t)| (n.as_str(), t.dims())).collect();
    let data: Vec<u8> = weights.iter().flat_map(|(_, t)| bytes(t.data())).collect();
    let onnx = onnx::Onnx.encode(&model.graph).map_err(|e| e.to_string())?;
    let more = json!({
        "task": task,
        "batch": batch,
        "onnx": write("onnx", &onnx)?,
        "input": {
            "dims": [batch, model.steps, model.features],
            "file": write("input", &bytes(&rows(0, batch * model.steps, model.features)))?,
        },
        "checks": {
            "dims": [checked(&model, batch), model.steps, model.features],
            "file": write("checks", &bytes(&rows(0, checked(&model, batch) * model.steps, model.features)))?,
        },
        "target": {"dims": [batch, 1], "file": write("target", &bytes(&targets(batch)))?},
        "learning_rate": LEARNING_RATE,
        "checked_steps": CHECKED_STEPS,
        "weights": {"file": write("weights", &data)?, "tensors": tensors},
        "torch": model.torch,
    });
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    if model.torch["kind"] == "cnn" {
        // Peers get real convolutions, as their users write them.
        let file = path("conv.onnx").display().to_string();
        let mut ask = request.clone();
        (ask["do"], ask["to"]) = (json!("write_cnn"), json!(file));
        let writer = engines.iter_mut().find(|e| matches!(e.program, Program::Python(_)));
        match writer.map(|engine| engine.call(&ask)) {
            Some(Ok(_)) => request["onnx"] = json!(file),
            Some(Err(e)) => notes.push(format!("{}: no file with convolutions: {e}", case.name)),
            None => {}
        }
    }
    Ok(request)
}

fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}
