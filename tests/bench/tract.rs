//! Plain tract: the ONNX file as its users load it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TypedSimpleState;

use crate::expected::CHECKED_ROWS;
use crate::worker::Task;

pub fn version() -> String {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock.lines().skip_while(|l| *l != "name = \"tract-onnx\"");
    let version = lines.nth(1).and_then(|l| l.split('"').nth(1));
    version.unwrap_or("unknown").to_string()
}

struct Window {
    state: TypedSimpleState,
    input: TValue,
    result: Option<TVec<TValue>>,
    batch: usize,
    /// Windows that are compared with the reference, at batch 1.
    checks: Vec<TValue>,
}

pub fn load(request: &Value) -> Result<Box<dyn Task>, String> {
    if request["task"] != "window" {
        return Err("tract only predicts".into());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let dims: Vec<usize> = request["input"]["dims"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|d| Some(d.as_u64()? as usize))
        .collect();
    let read = |name: &str| -> Result<Vec<f32>, String> {
        let bytes = std::fs::read(text(&request[name]["file"])).map_err(|e| e.to_string())?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let (data, checks) = (read("input")?, read("checks")?);
    let make = || -> TractResult<Window> {
        let model = tract_onnx::onnx()
            .model_for_path(Path::new(&text(&request["onnx"])))?
            .with_input_fact(0, f32::fact(&dims).into())?
            .into_optimized()?
            .into_runnable()?;
        let input = Tensor::from_shape(&dims, &data)?.into_tvalue();
        let check =
            |window: &[f32]| -> TractResult<TValue> { Ok(Tensor::from_shape(&dims, window)?.into_tvalue()) };
        let checks = if dims[0] == 1 {
            checks.chunks_exact(data.len()).map(check).collect::<TractResult<_>>()?
        } else {
            Vec::new()
        };
        Ok(Window { state: model.spawn()?, input, result: None, batch: dims[0], checks })
    };
    make().map(|w| Box::new(w) as Box<dyn Task>).map_err(|e| format!("{e:#}"))
}

impl Task for Window {
    fn run(&mut self) -> Result<Duration, String> {
        let inputs = tvec!(self.input.clone());
        self.result = None;
        let start = Instant::now();
        let result = self.state.run(inputs);
        let took = start.elapsed();
        self.result = Some(result.map_err(|e| format!("{e:#}"))?);
        Ok(took)
    }

    fn outputs(&mut self) -> Result<Value, String> {
        if self.batch == 1 {
            let mut values = Vec::new();
            for window in self.checks.clone() {
                let result = self.state.run(tvec!(window)).map_err(|e| format!("{e:#}"))?;
                let first = result.first().ok_or("it has no output")?;
                let data = first.try_as_plain_ram().and_then(|t| t.as_slice::<f32>().map(<[f32]>::to_vec));
                values.extend(data.map_err(|e| format!("{e:#}"))?);
            }
            return Ok(json!({"values": values}));
        }
        let result = self.result.as_ref().and_then(|r| r.first()).ok_or("it hasn't run")?;
        let data =
            result.try_as_plain_ram().and_then(|t| t.as_slice::<f32>()).map_err(|e| format!("{e:#}"))?;
        let each = data.len() / self.batch;
        Ok(json!({"values": &data[..CHECKED_ROWS.min(self.batch) * each]}))
    }
}
