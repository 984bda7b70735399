//! The sliding plan of a graph that can't slide: it keeps each stream's rows and recomputes the whole window.

use std::collections::VecDeque;

use crate::executor::{Plan, PrepareError, RunError, SlidingPlan};
use crate::graph::Graph;

/// A ring of rows for each stream over a [`Plan`] prepared at batch 1.
pub struct Recompute {
    plan: Box<dyn Plan>,
    window: usize,
    features: usize,
    /// Each stream's newest rows, oldest first, end to end.
    streams: Vec<VecDeque<f32>>,
    /// Whether each stream's newest row is settled.
    settled: Vec<bool>,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    prediction: usize,
}

impl Recompute {
    /// `graph` has one input `[B, window, features]`, and `plan` is it, prepared at batch 1. The prediction is
    /// the output of that name, or the only one.
    pub fn new(
        graph: &Graph,
        plan: Box<dyn Plan>,
        window: usize,
        streams: usize,
    ) -> Result<Self, PrepareError> {
        let unsupported = |reason| PrepareError::Unsupported { op: "sliding".into(), reason };
        let inputs: Vec<_> = graph.inputs().collect();
        let [(_, _, shape)] = inputs.as_slice() else {
            return Err(unsupported(format!("the graph has {} inputs; a sliding one has one", inputs.len())));
        };
        let features = match shape.at(1).as_deref() {
            Some(&[1, steps, features]) if steps == window && shape.depends_on_batch() => features,
            _ => return Err(unsupported(format!("the input is {shape}, not [B, {window}, features]"))),
        };
        let prediction = match graph.outputs.iter().position(|(name, _)| name == "prediction") {
            Some(index) => index,
            None if graph.outputs.len() == 1 => 0,
            None => return Err(unsupported("the graph has no output named \"prediction\"".into())),
        };
        Ok(Recompute {
            plan,
            window,
            features,
            streams: vec![VecDeque::with_capacity(window * features); streams],
            settled: vec![true; streams],
            input: vec![0.0; window * features],
            outputs: vec![Vec::new(); graph.outputs.len()],
            prediction,
        })
    }

    fn stream(&mut self, stream: usize) -> Result<&mut VecDeque<f32>, RunError> {
        let count = self.streams.len();
        self.streams
            .get_mut(stream)
            .ok_or_else(|| RunError::Argument(format!("there is no stream {stream}; the plan has {count}")))
    }
}

impl SlidingPlan for Recompute {
    fn push(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        let (features, full) = (self.features, self.window * self.features);
        if row.len() != features {
            return Err(RunError::Argument(format!("a row has {features} numbers, not {}", row.len())));
        }
        let rows = self.stream(stream)?;
        if rows.len() == full {
            rows.drain(..features);
        }
        rows.extend(row);
        self.settled[stream] = false;
        self.predict(stream, output)
    }

    fn replace(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError> {
        let features = self.features;
        if row.len() != features {
            return Err(RunError::Argument(format!("a row has {features} numbers, not {}", row.len())));
        }
        let rows = self.stream(stream)?;
        if rows.len() < features || self.settled[stream] {
            return Err(RunError::Argument("the stream's newest row is settled".into()));
        }
        let rows = &mut self.streams[stream];
        rows.truncate(rows.len() - features);
        rows.extend(row);
        self.predict(stream, output)
    }

    fn settle(&mut self, stream: usize) -> Result<(), RunError> {
        self.stream(stream)?;
        self.settled[stream] = true;
        Ok(())
    }

    fn reset(&mut self, stream: usize) {
        if let Some(rows) = self.streams.get_mut(stream) {
            rows.clear();
            self.settled[stream] = true;
        }
    }
}

impl Recompute {
    /// The newest window's prediction, if it is full.
    fn predict(&mut self, stream: usize, output: &mut Vec<f32>) -> Result<bool, RunError> {
        if self.streams[stream].len() < self.window * self.features {
            return Ok(false);
        }
        for (slot, &x) in self.input.iter_mut().zip(&self.streams[stream]) {
            *slot = x;
        }
        self.plan.run(1, &[&self.input], &mut self.outputs)?;
        output.clone_from(&self.outputs[self.prediction]);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
