//! A model over many samples, in batches of one size; the last is filled up with repeats of its last sample.

use std::fmt;

use graph::builder::DROPOUT_SEED;
use graph::{Dim, Executor, Graph, Plan, PrepareError, RunError, Tensor, rewrite};

use crate::dataset::Dataset;

/// A prepared inference graph; of its outputs "prediction" alone is computed.
pub struct Predictor {
    plan: Box<dyn Plan>,
    batch: usize,
    width: usize,
    outputs: Vec<Vec<f32>>,
    windows: Vec<f32>,
}

impl Predictor {
    /// Prepares a graph in inference form, of which [`check_model`] holds.
    pub fn new(
        executor: &dyn Executor,
        graph: &Graph,
        dataset: &Dataset,
        batch: usize,
    ) -> Result<Self, PredictError> {
        let place = check_model(graph, dataset).map_err(PredictError::Model)?;
        let width = width_of(graph, place).map_err(PredictError::Model)?;
        let graph = rewrite::only(graph, "prediction").map_err(|e| PredictError::Model(e.to_string()))?;
        let plan = executor.prepare(&graph, &[batch]).map_err(PredictError::Prepare)?;
        let outputs = vec![Vec::new(); graph.outputs.len()];
        Ok(Predictor { plan, batch, width, outputs, windows: Vec::new() })
    }

    /// Replaces weights.
    pub fn load(&mut self, states: &[(String, Tensor)]) -> Result<(), PredictError> {
        self.plan.load(states).map_err(PredictError::Run)
    }

    /// Numbers of each sample.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The model's outputs for each of the samples, [`width`](Self::width) numbers each, as they come out of the graph:
    /// normalised labels or logits.
    pub fn outputs(&mut self, dataset: &Dataset, indices: &[usize]) -> Result<Vec<f64>, PredictError> {
        let mut all = Vec::with_capacity(indices.len() * self.width);
        for chunk in indices.chunks(self.batch) {
            let filled = chunk.iter().chain(std::iter::repeat(&chunk[chunk.len() - 1])).take(self.batch);
            self.windows.clear();
            for &index in filled {
                self.windows.extend_from_slice(dataset.window_of(&dataset.samples[index]));
            }
            self.plan.run(self.batch, &[&self.windows], &mut self.outputs).map_err(PredictError::Run)?;
            let predicted = &self.outputs[0];
            let expected = self.batch * self.width;
            if predicted.len() != expected {
                return Err(PredictError::Count { expected, found: predicted.len() });
            }
            all.extend(predicted[..chunk.len() * self.width].iter().map(|&x| f64::from(x)));
        }
        match all.iter().position(|x| !x.is_finite()) {
            None => Ok(all),
            Some(place) => Err(PredictError::NotFinite { sample: indices[place / self.width] }),
        }
    }
}

/// Checks that the model takes the dataset's windows and gives a row of numbers: `[B, window, columns]` → "prediction"
/// `[B, outputs]`, and beside the features at most a dropout seed. Gives the place of "prediction" among the outputs.
pub fn check_model(graph: &Graph, dataset: &Dataset) -> Result<usize, String> {
    let mut inputs = graph.inputs().filter(|(name, ..)| *name != DROPOUT_SEED);
    let expected = [Dim::Batch(1), Dim::Fixed(dataset.window), Dim::Fixed(dataset.columns)];
    match (inputs.next(), inputs.next()) {
        (Some((_, _, shape)), None) if shape.dims() == expected => {}
        (Some((name, _, shape)), None) => {
            let (window, columns) = (dataset.window, dataset.columns);
            return Err(format!(
                "the model's input '{name}' is {shape}; the data's windows are [B, {window}, {columns}]"
            ));
        }
        _ => return Err("the model must have exactly one input beside the dropout seed".into()),
    }
    let place = graph.outputs.iter().position(|(name, _)| name == "prediction");
    let place = place.ok_or("the model has no output named 'prediction'")?;
    width_of(graph, place).map(|_| place)
}

/// The numbers in a row of this output.
pub fn width_of(graph: &Graph, place: usize) -> Result<usize, String> {
    let shape = graph.shape(graph.outputs[place].1);
    match shape.dims() {
        [Dim::Batch(1), Dim::Fixed(width)] if *width > 0 => Ok(*width),
        _ => Err(format!("the model's prediction is {shape}; it must be [B, outputs]")),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum PredictError {
    /// The model doesn't fit the data.
    Model(String),
    Prepare(PrepareError),
    Run(RunError),
    Count {
        expected: usize,
        found: usize,
    },
    /// The model gave NaN or infinity for this sample.
    NotFinite {
        sample: usize,
    },
}

impl fmt::Display for PredictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PredictError::Model(e) => write!(f, "{e}"),
            PredictError::Prepare(e) => write!(f, "{e}"),
            PredictError::Run(e) => write!(f, "{e}"),
            PredictError::Count { expected, found } => {
                write!(f, "the device gave {found} predictions for {expected} windows")
            }
            PredictError::NotFinite { sample } => write!(f, "the prediction of sample {sample} isn't finite"),
        }
    }
}

impl std::error::Error for PredictError {}
