//! ONNX files from elsewhere: how one takes windows and gives predictions, as our own graph where that holds it, and
//! a trial run of what tract is to run, in a process of its own that may not take more time or memory than it is given.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use graph::{Builder, CodecError, Dim, Executor, Foreign, Graph, Op, PrepareError, Shape, Value};
use onnx::Onnx;
use onnx::about::{About, Port};
use registry::Layout;
use serde::{Deserialize, Serialize};

use crate::precision;
use crate::runner::{Runner, RunnerError};

/// How a file is bound to the bar path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub input: String,
    pub layout: Layout,
    pub output: String,
    /// Among the file's outputs.
    pub output_index: usize,
    pub window: usize,
    pub features: usize,
}

impl Binding {
    /// Of one window at the file's input.
    pub fn dims(&self) -> Vec<usize> {
        match self.layout {
            Layout::Sequence => vec![self.window, self.features],
            Layout::Flat => vec![self.window * self.features],
        }
    }

    /// From what the file says of its input and outputs. `output`: which of several.
    pub fn find(about: &About, output: Option<&str>, window: usize, features: usize) -> Result<Self, String> {
        let [input] = about.inputs.as_slice() else {
            let names: Vec<&str> = about.inputs.iter().map(|port| port.name.as_str()).collect();
            return Err(format!("it has {} inputs {names:?}; a model takes one, the window", names.len()));
        };
        let layout = layout(input, window, features)?;
        let names: Vec<&str> = about.outputs.iter().map(|port| port.name.as_str()).collect();
        let output_index = match (output, names.as_slice()) {
            (Some(wanted), _) => names.iter().position(|name| *name == wanted),
            (None, [_]) => Some(0),
            (None, _) => return Err(format!("it has the outputs {names:?}: say which with --output")),
        };
        let output_index =
            output_index.ok_or_else(|| format!("--output is none of its outputs {names:?}"))?;
        let chosen = &about.outputs[output_index];
        match chosen.element.as_deref() {
            Some("float32") => {}
            Some(other) => {
                return Err(format!("its output {:?} holds {other} instead of float32", chosen.name));
            }
            None => return Err(format!("its output {:?} is not a tensor with a stated type", chosen.name)),
        }
        Ok(Binding {
            input: input.name.clone(),
            layout,
            output: chosen.name.clone(),
            output_index,
            window,
            features,
        })
    }

    /// The file as our graph `[B, window, features]` → `[B, outputs]`, the weights in it.
    pub fn graph(&self, bytes: &[u8]) -> Result<Graph, BindError> {
        let decoded = Onnx.decode_at(bytes, &self.input, &self.dims()).map_err(BindError::Codec)?;
        let bound = self.bind(&decoded).map_err(BindError::Shape)?;
        graph::rewrite::inference(&bound).map_err(|e| BindError::Shape(e.to_string()))
    }

    /// The decoded graph behind an input of ours, and before an output of ours.
    fn bind(&self, decoded: &Graph) -> Result<Graph, String> {
        let text = |e: graph::BuildError| e.to_string();
        let mut builder = Builder::new();
        let windows = Shape::batch(&[self.window, self.features]);
        let x = builder.input("features", windows).map_err(text)?;
        let x = match self.layout {
            Layout::Sequence => x,
            Layout::Flat => builder.reshape(x, Shape::batch(&[self.window * self.features])).map_err(text)?,
        };
        let mut map: Vec<Vec<Value>> = Vec::with_capacity(decoded.nodes.len());
        for node in &decoded.nodes {
            builder.scope(&node.scope);
            let values = match &node.op {
                Op::Input { .. } => vec![x],
                Op::State { name } => {
                    let state = decoded.state(name).ok_or_else(|| format!("state {name:?} has no value"))?;
                    let own = format!("file.{name}");
                    vec![
                        builder
                            .state(&own, node.shapes[0].clone(), state.initial.clone(), true)
                            .map_err(text)?,
                    ]
                }
                op => {
                    let inputs: Vec<Value> =
                        node.inputs.iter().map(|v| map[v.node.0 as usize][v.slot as usize]).collect();
                    builder.push(op.clone(), &inputs).map_err(text)?
                }
            };
            map.push(values);
        }
        builder.scope("");
        let output = decoded.output(&self.output).ok_or_else(|| format!("no output {:?}", self.output))?;
        let mut y = map[output.node.0 as usize][output.slot as usize];
        match builder.shape(y).dims() {
            [Dim::Batch(1)] => y = builder.reshape(y, Shape::batch(&[1])).map_err(text)?,
            [Dim::Batch(1), Dim::Fixed(_)] => {}
            _ => {
                return Err(format!(
                    "its output {:?} is {} instead of [B], [B, 1] or [B, outputs]",
                    self.output,
                    builder.shape(y)
                ));
            }
        }
        builder.output("prediction", y).map_err(text)?;
        builder.finish().map_err(|e| e.to_string())
    }
}

/// `[batch, window, features]` or `[batch, window · features]`, whatever of it is stated.
fn layout(input: &Port, window: usize, features: usize) -> Result<Layout, String> {
    if let Some(other) = input.element.as_deref().filter(|element| *element != "float32") {
        return Err(format!("its input {:?} takes {other} instead of float32", input.name));
    }
    let Some(dims) = &input.dims else {
        return Err(format!("the shape of its input {:?} isn't stated: export it with one", input.name));
    };
    let fits = |found: &Option<u64>, wanted: usize| found.is_none_or(|n| n == wanted as u64);
    let flat = window * features;
    match dims.as_slice() {
        [_, steps, width] if fits(steps, window) && fits(width, features) => Ok(Layout::Sequence),
        [_, width] if fits(width, flat) => Ok(Layout::Flat),
        _ => {
            let shown: Vec<String> = dims.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
            Err(format!(
                "its input {:?} is [{}], and a window is [batch, {window}, {features}] (--window, columns of the \
                 features) or [batch, {flat}]",
                input.name,
                shown.join(", ")
            ))
        }
    }
}

/// Why a file is not our graph.
#[derive(Clone, Debug, PartialEq)]
pub enum BindError {
    Codec(CodecError),
    /// Its shapes aren't those of a window and a prediction.
    Shape(String),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BindError::Codec(e) => write!(f, "{e}"),
            BindError::Shape(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for BindError {}

/// What a trial run found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub outputs: usize,
    /// Sizes whose windows get the bits that each gets alone, largest first.
    pub batches: Vec<usize>,
    /// SHA-256 of the file that was run.
    pub digest: String,
}

/// Runs made-up windows through a prepared model: every output must be finite.
pub fn try_out(runner: &mut Runner, window_len: usize, digest: String) -> Result<Trial, String> {
    let windows = precision::made_up(window_len);
    let mut values = Vec::new();
    runner.run(&windows, &mut values).map_err(|e| e.to_string())?;
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(format!(
            "for a made-up window of normal numbers its output is {}: is the normaliser the one that it was trained with?",
            values[at]
        )),
        None => Ok(Trial { outputs: runner.outputs(), batches: runner.batches().to_vec(), digest }),
    }
}

/// The trial run of a file that tract is to run, in this process.
pub fn try_file(executor: &dyn Executor, bytes: &[u8], binding: &Binding) -> Result<Trial, String> {
    let dims = binding.dims();
    let model = Foreign { bytes, input: &binding.input, output: binding.output_index, dims: &dims };
    let mut runner = Runner::foreign(executor, &model).map_err(|e| match e {
        RunnerError::Prepare(PrepareError::Unsupported { reason, .. }) => reason,
        other => other.to_string(),
    })?;
    try_out(&mut runner, dims.iter().product(), registry::sha256_hex(bytes))
}

/// What a trial run may take.
#[derive(Clone, Copy, Debug)]
pub struct TrialLimits {
    pub memory_bytes: u64,
    pub time: Duration,
}

/// [`try_file`] in a process of its own, ended when it goes over a limit: whatever the file makes tract do, this
/// process goes on.
pub fn try_file_apart(file: &Path, binding: &Binding, limits: TrialLimits) -> Result<Trial, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program can't be found: {e}"))?;
    let dims: Vec<String> = binding.dims().iter().map(usize::to_string).collect();
    let mut child = Command::new(program)
        .args(["models", "try-file", "--input", &binding.input, "--dims", &dims.join(",")])
        .args(["--output", &binding.output_index.to_string(), "--"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("the trial run can't start: {e}"))?;
    let started = Instant::now();
    let over = loop {
        match child.try_wait() {
            Ok(Some(_)) => break None,
            Ok(None) => {}
            Err(e) => break Some(format!("it can't be watched: {e}")),
        }
        if started.elapsed() > limits.time {
            break Some(format!("it took more than {} s", limits.time.as_secs()));
        }
        if memory_bytes(child.id()) > limits.memory_bytes {
            break Some(format!("it took more than {} MiB of memory", limits.memory_bytes >> 20));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if over.is_some() {
        let _ = child.kill();
    }
    let output = child.wait_with_output().map_err(|e| format!("the trial run can't be read: {e}"))?;
    if let Some(over) = over {
        return Err(format!("the trial run was ended: {over}; see --trial-seconds and --trial-memory-mb"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str::<Result<Trial, String>>(&text) {
        Ok(result) => result,
        Err(_) => Err(format!("the trial run broke down ({})", output.status)),
    }
}

/// Resident; 0 where it can't be told.
fn memory_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests;
