//! The bounded queues between the HTTP side and the threads that own the models.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use market::{Bar, StreamKey};
use store::Uncertainty;
use tokio::sync::oneshot;

use crate::ingest::Incoming;
use crate::render::Meaning;

/// What became of one bar.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Accepted,
    Duplicate,
    Rejected(String),
}

/// The whole step failed, and with it every bar of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFailed(pub String);

pub struct Job {
    pub bars: Vec<Incoming>,
    pub arrived: Instant,
    /// Answered once the bars are durable.
    pub reply: oneshot::Sender<Result<Vec<Outcome>, StepFailed>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum SendError {
    /// So many bars are waiting already.
    Full { waiting: usize },
    /// The data path has stopped.
    Stopped,
}

/// Bars on their way to the data path.
#[derive(Clone)]
pub struct BarQueue {
    sender: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The data path's end.
pub struct BarReceiver {
    receiver: Receiver<Job>,
    waiting: Arc<AtomicUsize>,
}

pub fn bar_queue(limit: usize) -> (BarQueue, BarReceiver) {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (BarQueue { sender, waiting: waiting.clone(), limit }, BarReceiver { receiver, waiting })
}

impl BarQueue {
    pub fn send(
        &self,
        bars: Vec<Incoming>,
    ) -> Result<oneshot::Receiver<Result<Vec<Outcome>, StepFailed>>, SendError> {
        let count = bars.len();
        let waiting = self.waiting.fetch_add(count, Ordering::AcqRel);
        if waiting + count > self.limit {
            self.waiting.fetch_sub(count, Ordering::AcqRel);
            return Err(SendError::Full { waiting });
        }
        let (reply, answer) = oneshot::channel();
        match self.sender.send(Job { bars, arrived: Instant::now(), reply }) {
            Ok(()) => Ok(answer),
            Err(_) => Err(SendError::Stopped),
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

impl BarReceiver {
    /// Whether no bar waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits for a job, then takes what else is there, up to `bars_max` bars. `None`: every sender is gone.
    pub fn take(&self, bars_max: usize) -> Option<Vec<Job>> {
        let first = self.receiver.recv().ok()?;
        let mut bars = first.bars.len();
        let mut jobs = vec![first];
        while bars < bars_max {
            let Ok(job) = self.receiver.try_recv() else { break };
            bars += job.bars.len();
            jobs.push(job);
        }
        self.waiting.fetch_sub(bars, Ordering::AcqRel);
        Some(jobs)
    }
}

/// Raw bars through a model.
pub struct PredictJob {
    pub key: StreamKey,
    pub model: Option<String>,
    pub bars: Vec<Bar>,
    pub reply: oneshot::Sender<Result<Predicted, PredictError>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    pub model: Arc<str>,
    pub label: Arc<str>,
    pub horizon_bars: u32,
    pub value: f32,
    /// The same as in a poll, with the interval of the training time.
    pub values: Vec<f32>,
    pub meaning: Arc<Meaning>,
    pub uncertainty: Option<Uncertainty>,
    pub device: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PredictError {
    /// No deployment covers it.
    NoModel(String),
    /// Too few bars.
    Warming { have: u64, need: u64 },
    /// The plugin or the model refused.
    Failed(String),
}

#[derive(Clone)]
pub struct PredictQueue {
    pub sender: std::sync::mpsc::SyncSender<PredictJob>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_room_comes_back() {
        let (queue, receiver) = bar_queue(3);
        let bar = crate::ingest::parse(
            br#"{"symbol":"A","timeframe":"1h","open_time":0,"open":1,"high":1,"low":1,"close":1,"volume":0}"#,
            1,
        )
        .unwrap()
        .remove(0)
        .1
        .unwrap();
        let _first = queue.send(vec![bar.clone(); 2]).unwrap();
        assert_eq!(queue.send(vec![bar.clone(); 2]).err(), Some(SendError::Full { waiting: 2 }));
        let _second = queue.send(vec![bar.clone()]).unwrap();
        assert_eq!(receiver.take(100).unwrap().len(), 2);
        assert_eq!(queue.waiting(), 0);
        drop(receiver);
        assert_eq!(queue.send(vec![bar]).err(), Some(SendError::Stopped));
    }
}
