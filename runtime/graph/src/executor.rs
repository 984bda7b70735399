//! What an executor is: it prepares a graph once, for stated batch sizes, and runs it many times.

use std::fmt;

use crate::graph::Graph;
use crate::tensor::Tensor;

pub use crate::recompute::Recompute;

/// A device that runs graphs.
pub trait Executor: Send + Sync {
    /// "cpu" or "cuda:0", as replies and metrics name it.
    fn name(&self) -> &str;

    /// Verifies the graph, lowers it, packs weights. States start as the graph's `initial` says
    /// (see [`crate::reference::initial_states`]) until `load` replaces them. `batches` are the batch sizes
    /// that `run` will be called with.
    fn prepare(&self, graph: &Graph, batches: &[usize]) -> Result<Box<dyn Plan>, PrepareError>;

    /// For a graph with one input `[B, window, features]`: one row at a time, per stream.
    fn prepare_sliding(
        &self,
        graph: &Graph,
        window: usize,
        streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError>;

    /// As `prepare_sliding`, but recurrent layers never start again: their state is carried from row to row, and
    /// predictions come from the `window`-th row on. Another function of the rows than the graph's own over a
    /// window, and far less work for each; who owns the model chooses.
    fn prepare_carried(
        &self,
        _graph: &Graph,
        _window: usize,
        _streams: usize,
    ) -> Result<Box<dyn SlidingPlan>, PrepareError> {
        let reason = format!("{} has no mode that carries a state on", self.name());
        Err(PrepareError::Unsupported { op: "carried".into(), reason })
    }

    /// For a file whose operators no graph holds. Its bytes were checked by whoever reads the format.
    fn prepare_foreign(&self, _model: &Foreign, _batches: &[usize]) -> Result<ForeignPlan, PrepareError> {
        let reason = format!("{} runs graphs alone", self.name());
        Err(PrepareError::Unsupported { op: "file".into(), reason })
    }
}

/// A model that no [`Graph`] holds: the bytes of a file, in a format that a library under the executor reads.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a> {
    pub bytes: &'a [u8],
    /// The file's input that takes the windows.
    pub input: &'a str,
    /// Which of the file's outputs, from 0.
    pub output: usize,
    /// Of one window at the input: `[window, features]`, or `[window · features]`.
    pub dims: &'a [usize],
}

/// A prepared [`Foreign`]. It runs as a graph with one input `[B, dims…]` and one output `[B, outputs]`; it has no
/// states.
pub struct ForeignPlan {
    pub plan: Box<dyn Plan>,
    /// Numbers for one window.
    pub outputs: usize,
    /// Those of the wanted batch sizes that the file takes. Batch 1 is always among them.
    pub batches: Vec<usize>,
}

/// A prepared graph. One thread at a time.
pub trait Plan: Send {
    /// Runs once. `inputs` are in the order of [`Graph::inputs`], each row-major and of the size that its
    /// shape has at `batch`; `outputs` are in the order of `Graph::outputs`, each replaced whole.
    /// Then the graph's updates are applied to the states.
    fn run(&mut self, batch: usize, inputs: &[&[f32]], outputs: &mut [Vec<f32>]) -> Result<(), RunError>;

    /// Replaces the named states; the others keep their values.
    fn load(&mut self, states: &[(String, Tensor)]) -> Result<(), RunError>;

    /// All states, in the order of `Graph::states`.
    fn save(&self) -> Vec<(String, Tensor)>;
}

/// Windows that slide by one row at a time: exact, equal to a run over the whole window from a zero state.
pub trait SlidingPlan: Send {
    /// Takes the newest row of the stream; once the window is full, writes the newest prediction and
    /// returns true. As little work as possible.
    fn push(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError>;

    /// The newest row again, with other numbers, as if it had been pushed so. Only while it isn't settled.
    fn replace(&mut self, stream: usize, row: &[f32], output: &mut Vec<f32>) -> Result<bool, RunError>;

    /// Everything that can be done before the next row of the stream arrives.
    fn settle(&mut self, stream: usize) -> Result<(), RunError>;

    /// Forgets the stream's rows.
    fn reset(&mut self, stream: usize);
}

#[derive(Clone, Debug, PartialEq)]
pub enum PrepareError {
    /// The graph failed its check.
    Invalid(crate::VerifyError),
    /// The executor can't run this op in this form.
    Unsupported { op: String, reason: String },
    /// The device or the library under it refused.
    Device(String),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepareError::Invalid(e) => write!(f, "the graph is not valid: {e}"),
            PrepareError::Unsupported { op, reason } => write!(f, "op {op} can't be run here: {reason}"),
            PrepareError::Device(e) => write!(f, "the device refused the graph: {e}"),
        }
    }
}

impl std::error::Error for PrepareError {}

#[derive(Clone, Debug, PartialEq)]
pub enum RunError {
    /// No plan was prepared for this batch size.
    Batch { batch: usize, prepared: Vec<usize> },
    /// The wrong number of inputs or outputs, or one of the wrong length.
    Argument(String),
    /// No such state, or of another shape.
    State(String),
    /// The device failed in mid-flight.
    Device(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Batch { batch, prepared } => {
                write!(f, "no plan for batch {batch}; prepared are {prepared:?}")
            }
            RunError::Argument(e) | RunError::State(e) => write!(f, "{e}"),
            RunError::Device(e) => write!(f, "the device failed: {e}"),
        }
    }
}

impl std::error::Error for RunError {}
