//! A prepared model: windows in, values out, in batches of the prepared sizes.

use std::sync::Arc;

use graph::{Executor, Foreign, Graph, Plan, PrepareError, RunError};

use crate::slide::Slides;

/// Batch sizes that every served model is prepared for, largest first.
pub const BATCHES: [usize; 4] = [256, 64, 8, 1];

pub struct Runner {
    plan: Box<dyn Plan>,
    batches: Vec<usize>,
    window_len: usize,
    outputs: usize,
    buffers: Vec<Vec<f32>>,
    /// For streams that are served row by row.
    pub slides: Option<Slides>,
    pub device: Arc<str>,
}

#[derive(Debug)]
pub enum RunnerError {
    Prepare(PrepareError),
    Run(RunError),
    /// The graph isn't `[B, window, features]` → `[B, outputs]`.
    Shape(String),
}

impl std::fmt::Display for RunnerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunnerError::Prepare(e) => write!(f, "{e}"),
            RunnerError::Run(e) => write!(f, "{e}"),
            RunnerError::Shape(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for RunnerError {}

impl Runner {
    /// Prepares the graph, runs one window through every batch size and keeps those that give the bits of
    /// batch 1: a prediction must not depend on what else was asked at the same time.
    pub fn new(
        executor: &dyn Executor,
        graph: &Graph,
        window: usize,
        features: usize,
    ) -> Result<Self, RunnerError> {
        let wanted = graph::Shape::batch(&[window, features]);
        let inputs: Vec<_> = graph.inputs().collect();
        let [(name, _, shape)] = inputs.as_slice() else {
            return Err(RunnerError::Shape(format!("the graph has {} inputs instead of one", inputs.len())));
        };
        if **shape != wanted {
            return Err(RunnerError::Shape(format!(
                "the graph's input {name} is {shape} instead of {wanted}"
            )));
        }
        let outputs = match graph.output("prediction").map(|v| graph.shape(v).dims().to_vec()).as_deref() {
            Some([graph::Dim::Batch(1), graph::Dim::Fixed(n)]) if *n > 0 => *n,
            _ => {
                return Err(RunnerError::Shape(
                    "the graph has no output \"prediction\" of shape [B, outputs]".into(),
                ));
            }
        };
        if graph.outputs.first().is_none_or(|(n, _)| n != "prediction") {
            return Err(RunnerError::Shape("\"prediction\" must be the graph's first output".into()));
        }
        let plan = executor.prepare(graph, &BATCHES).map_err(RunnerError::Prepare)?;
        let mut runner = Runner {
            plan,
            batches: vec![1],
            window_len: window * features,
            outputs,
            buffers: vec![Vec::new(); graph.outputs.len()],
            slides: None,
            device: executor.name().into(),
        };
        runner.batches = runner.invariant_batches(&BATCHES)?;
        Ok(runner)
    }

    /// Prepares a file that no graph holds, likewise. It is never served row by row.
    pub fn foreign(executor: &dyn Executor, model: &Foreign) -> Result<Self, RunnerError> {
        let prepared = executor.prepare_foreign(model, &BATCHES).map_err(RunnerError::Prepare)?;
        let mut runner = Runner {
            plan: prepared.plan,
            batches: vec![1],
            window_len: model.dims.iter().product(),
            outputs: prepared.outputs,
            buffers: vec![Vec::new()],
            slides: None,
            device: format!("{}:tract", executor.name()).into(),
        };
        let mut batches = prepared.batches;
        batches.sort_unstable_by(|a, b| b.cmp(a));
        runner.batches = runner.invariant_batches(&batches)?;
        Ok(runner)
    }

    /// Lets up to `places` streams slide, if the sliding plan gives the bits of the plan of whole windows.
    pub fn slide(
        &mut self,
        executor: &dyn Executor,
        graph: &Graph,
        window: usize,
        places: usize,
    ) -> Result<(), RunnerError> {
        if places == 0 {
            return Ok(());
        }
        let mut plan = executor.prepare_sliding(graph, window, places).map_err(RunnerError::Prepare)?;
        let rows: Vec<f32> = (0..2 * self.window_len).map(probe).collect();
        let width = self.window_len / window;
        let mut output = Vec::new();
        for (index, row) in rows.chunks(width).enumerate() {
            let full = plan.push(0, row, &mut output).map_err(RunnerError::Run)?;
            plan.settle(0).map_err(RunnerError::Run)?;
            if full {
                let mut expected = Vec::new();
                let from = (index + 1) * width - self.window_len;
                self.run_batch(1, &rows[from..from + self.window_len], &mut expected)?;
                if expected.iter().map(|x| x.to_bits()).ne(output.iter().map(|x| x.to_bits())) {
                    tracing::warn!("sliding windows give other bits than whole ones and are not used");
                    return Ok(());
                }
            }
        }
        self.slides = Some(Slides::new(plan, window, places));
        Ok(())
    }

    fn invariant_batches(&mut self, batches: &[usize]) -> Result<Vec<usize>, RunnerError> {
        let window: Vec<f32> = (0..self.window_len).map(probe).collect();
        let mut expected = Vec::new();
        self.run_batch(1, &window, &mut expected)?;
        let mut kept = Vec::new();
        for &batch in batches {
            let mut got = Vec::new();
            self.run_batch(batch, &window.repeat(batch), &mut got)?;
            let same = got
                .chunks(self.outputs)
                .all(|row| row.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
            if same {
                kept.push(batch);
            } else {
                tracing::warn!(batch, "this batch size gives other bits than batch 1 and is not used");
            }
        }
        Ok(kept)
    }

    fn run_batch(&mut self, batch: usize, windows: &[f32], values: &mut Vec<f32>) -> Result<(), RunnerError> {
        self.plan.run(batch, &[windows], &mut self.buffers).map_err(RunnerError::Run)?;
        values.extend_from_slice(&self.buffers[0]);
        Ok(())
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The batch sizes that are used, largest first.
    pub fn batches(&self) -> &[usize] {
        &self.batches
    }

    /// `windows`: any number of windows, one after another. Appends `outputs` values for each.
    pub fn run(&mut self, mut windows: &[f32], values: &mut Vec<f32>) -> Result<(), RunnerError> {
        while !windows.is_empty() {
            let left = windows.len() / self.window_len;
            let batch = self.batches.iter().copied().find(|&b| b <= left).unwrap_or(1);
            let (now, rest) = windows.split_at(batch * self.window_len);
            self.run_batch(batch, now, values)?;
            windows = rest;
        }
        Ok(())
    }
}

/// Number i of a made-up window.
fn probe(i: usize) -> f32 {
    ((i * 2_654_435_761) % 1009) as f32 / 504.5 - 1.0
}
