//! What a training run tells whoever watches it, and how they stop it.

/// Go on, or stop at the next chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Stop,
}

/// Before the first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    pub epochs_max: u32,
    pub batches: u32,
    /// Samples in one batch.
    pub batch: u32,
    pub train_samples: usize,
    pub validation_samples: usize,
    /// Trained numbers.
    pub parameters: usize,
    /// Epochs that a checkpoint already holds.
    pub resumed_epochs: u32,
}

/// After a batch; numbers count from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchReport {
    pub epoch: u32,
    pub batch: u32,
    pub loss: f64,
    /// Before clipping.
    pub gradient_norm: f64,
}

/// After an epoch; its checkpoint is on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochReport {
    pub epoch: u32,
    /// Mean over the epoch's batches, each before its step.
    pub train_loss: f64,
    pub validation_loss: f64,
    pub best_epoch: u32,
    pub best_validation_loss: f64,
}

/// Watches a training run. Each method may do nothing.
pub trait Progress {
    fn start(&mut self, _outline: &Outline) {}

    fn batch(&mut self, _report: &BatchReport) -> Flow {
        Flow::Continue
    }

    fn epoch(&mut self, _report: &EpochReport) -> Flow {
        Flow::Continue
    }
}

/// Nobody watches.
impl Progress for () {}
