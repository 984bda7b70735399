//! DLinear: a moving average and what is left of it, each through one linear layer (Zeng et al. 2023).
//!
//! trend = the mean over [`KERNEL`] steps around each step, the window's ends repeated; prediction = Σ trend · W + Σ
//! (window − trend) · U + b, with weights of its own for each column and step. All of it lies within the window, so the
//! mean around a step looks at no later bar than the newest. It is trained like any other model.

use graph::{BuildError, Builder, Graph, Initial, Shape, Tensor, VerifyError};

/// As in the paper's code.
pub const KERNEL: usize = 25;

/// `[B, window, columns]` → "prediction" `[B, outputs]`.
pub fn dlinear(window: usize, columns: usize, outputs: usize) -> Result<Graph, DlinearError> {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, columns]))?;
    let averages = Tensor::new(vec![window, window], averages(window))
        .map_err(|e| DlinearError::Tensor(e.to_string()))?;
    let averages = builder.constant(averages)?;
    // Columns first, so that the average goes along the last axis.
    let by_column = builder.transpose(x, &[0, 2, 1])?;
    let trend = builder.matmul(by_column, averages, false, false)?;
    let rest = builder.sub(by_column, trend)?;
    let size = window * columns;
    let mut sum = builder.state("bias", Shape::fixed(&[outputs]), Initial::Zeros, true)?;
    for (name, part) in [("trend.w", trend), ("rest.w", rest)] {
        let flat = builder.reshape(part, Shape::batch(&[size]))?;
        let w = builder.state(name, Shape::fixed(&[size, outputs]), Initial::Glorot, true)?;
        let y = builder.matmul(flat, w, false, false)?;
        sum = builder.add(y, sum)?;
    }
    builder.output("prediction", sum)?;
    Ok(builder.finish()?)
}

/// Column j of the matrix holds the weights of step j's average; each column sums to 1.
fn averages(window: usize) -> Vec<f32> {
    let half = (KERNEL / 2) as isize;
    let last = window as isize - 1;
    let mut matrix = vec![0.0f32; window * window];
    for step in 0..window as isize {
        for around in step - half..=step + half {
            let from = around.clamp(0, last) as usize;
            matrix[from * window + step as usize] += 1.0 / KERNEL as f32;
        }
    }
    matrix
}

#[derive(Clone, Debug, PartialEq)]
pub enum DlinearError {
    Tensor(String),
    Build(BuildError),
    Verify(VerifyError),
}

impl From<BuildError> for DlinearError {
    fn from(error: BuildError) -> Self {
        DlinearError::Build(error)
    }
}

impl From<VerifyError> for DlinearError {
    fn from(error: VerifyError) -> Self {
        DlinearError::Verify(error)
    }
}

impl std::fmt::Display for DlinearError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DlinearError::Tensor(e) => write!(f, "DLinear: {e}"),
            DlinearError::Build(e) => write!(f, "DLinear: {e}"),
            DlinearError::Verify(e) => write!(f, "DLinear: {e}; take a shorter window or fewer features"),
        }
    }
}

impl std::error::Error for DlinearError {}

#[cfg(test)]
mod tests {
    use graph::reference::Interpreter;
    use graph::{Executor, Tensor};

    use super::*;

    fn run(window: usize, columns: usize, x: &[f32], trend: &[f32], rest: &[f32]) -> f32 {
        let graph = dlinear(window, columns, 1).unwrap();
        let mut plan = Interpreter.prepare(&graph, &[1]).unwrap();
        let tensor = |dims: &[usize], data: &[f32]| Tensor::new(dims.to_vec(), data.to_vec()).unwrap();
        let size = window * columns;
        plan.load(&[
            ("trend.w".into(), tensor(&[size, 1], trend)),
            ("rest.w".into(), tensor(&[size, 1], rest)),
            ("bias".into(), tensor(&[1], &[0.5])),
        ])
        .unwrap();
        let mut outputs = vec![Vec::new()];
        plan.run(1, &[x], &mut outputs).unwrap();
        outputs[0][0]
    }

    /// By loops, with the ends repeated as the paper's code pads them.
    #[test]
    fn the_graph_is_the_papers_decomposition() {
        let (window, columns) = (30, 2);
        let x: Vec<f32> = (0..window * columns).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        let weights = |salt: usize| -> Vec<f32> {
            (0..window * columns).map(|i| ((i * 31 + salt) % 17) as f32 / 17.0 - 0.5).collect()
        };
        let (trend_w, rest_w) = (weights(3), weights(8));
        let mut expected = 0.5f64;
        for c in 0..columns {
            for t in 0..window as isize {
                let at = |t: isize| f64::from(x[t.clamp(0, window as isize - 1) as usize * columns + c]);
                let trend = (t - 12..=t + 12).map(at).sum::<f64>() / 25.0;
                let w = c * window + t as usize;
                expected += trend * f64::from(trend_w[w]) + (at(t) - trend) * f64::from(rest_w[w]);
            }
        }
        let found = run(window, columns, &x, &trend_w, &rest_w);
        assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
    }

    #[test]
    fn a_window_shorter_than_the_kernel_works() {
        let found = run(3, 1, &[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0], &[9.0, 9.0, 9.0]);
        assert!((found - 3.5).abs() < 1e-5, "{found}");
    }
}
