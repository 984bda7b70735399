//! What a narrower storage of the weights costs in exactness.

use cpu::{Cpu, Precision};
use graph::{Executor, Graph, PrepareError, RunError};

/// Made-up windows that a model is checked on.
pub const WINDOWS: usize = 16;

pub fn of(stored: registry::Precision) -> Precision {
    match stored {
        registry::Precision::F32 => Precision::F32,
        registry::Precision::Bf16 => Precision::Bf16,
        registry::Precision::Int8 => Precision::Int8,
    }
}

/// Windows of `len` numbers, end to end: normal, as normalised features about are, and always the same.
pub fn made_up(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // Twelve uniform numbers less their mean have a variance of 1.
    (0..WINDOWS * len).map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0).collect()
}

/// The largest difference of the graph's outputs from those in f32, over the windows, in the label's normalised
/// unit; infinite where one alone is a number.
pub fn error(cpu: &Cpu, narrow: &Cpu, graph: &Graph, windows: &[f32]) -> Result<f64, Failed> {
    let len = graph.inputs().next().and_then(|(_, _, shape)| shape.elements(1)).unwrap_or(1).max(1);
    let mut plans = [cpu.at(Precision::F32), narrow.clone()]
        .iter()
        .map(|cpu| cpu.prepare(graph, &[1]))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failed::Prepare)?;
    let mut worst = 0.0f64;
    for window in windows.chunks_exact(len) {
        let mut outputs = Vec::new();
        for plan in &mut plans {
            let mut found = vec![Vec::new(); graph.outputs.len()];
            plan.run(1, &[window], &mut found).map_err(Failed::Run)?;
            outputs.push(found.swap_remove(0));
        }
        for (wide, narrow) in outputs[0].iter().zip(&outputs[1]) {
            // What is the same is no difference, be it infinite or NaN.
            let same = wide.to_bits() == narrow.to_bits() || wide.is_nan() && narrow.is_nan();
            let difference = if same { 0.0 } else { f64::from((wide - narrow).abs()) };
            if difference.is_nan() {
                return Ok(f64::INFINITY);
            }
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}

#[derive(Debug)]
pub enum Failed {
    Prepare(PrepareError),
    Run(RunError),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Prepare(e) => write!(f, "{e}"),
            Failed::Run(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for Failed {}
