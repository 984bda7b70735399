//! The bounded queues between the HTTP side and the threads that own the models.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use market::{Bar, StreamKey};
use store::Uncertainty;
use tokio::sync::oneshot;

use crate::deployment::Deployment;
use crate::ingest::Incoming;
use crate::pipeline::Pipeline;
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

/// Work on the data path itself, done between two of its steps: models changed, states copied.
pub type Order = Box<dyn FnOnce(&mut Pipeline) + Send>;

enum Message {
    Bars(Job),
    Order(Order),
}

/// What the data path does next.
pub enum Work {
    Bars(Vec<Job>),
    Order(Order),
}

/// Bars on their way to the data path.
#[derive(Clone)]
pub struct BarQueue {
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The data path's end.
pub struct BarReceiver {
    receiver: Receiver<Message>,
    /// Taken from the channel and not yet given out; so many bars.
    jobs: Vec<Job>,
    bars: usize,
    orders: VecDeque<Order>,
    /// Whose turn it is when both wait.
    order_next: bool,
    waiting: Arc<AtomicUsize>,
}

pub fn bar_queue(limit: usize) -> (BarQueue, BarReceiver) {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (jobs, orders) = (Vec::new(), VecDeque::new());
    let ours = BarReceiver { receiver, jobs, bars: 0, orders, order_next: false, waiting: waiting.clone() };
    (BarQueue { sender, waiting, limit }, ours)
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
        match self.sender.send(Message::Bars(Job { bars, arrived: Instant::now(), reply })) {
            Ok(()) => Ok(answer),
            Err(_) => Err(SendError::Stopped),
        }
    }

    /// What the data path answers to `question`, between two of its steps. Blocks; `None`: it has stopped.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Pipeline) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = channel();
        let order: Order = Box::new(move |pipeline| {
            let _ = reply.send(question(pipeline));
        });
        self.sender.send(Message::Order(order)).ok()?;
        answer.recv().ok()
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

    /// Waits for work. Bars are taken together, some `bars_max` at most; an order alone, and one at most between two
    /// lots of bars. `None`: every sender is gone.
    pub fn take(&mut self, bars_max: usize) -> Option<Work> {
        while self.bars < bars_max {
            let message = match self.receiver.try_recv() {
                Ok(message) => message,
                Err(_) if !self.jobs.is_empty() || !self.orders.is_empty() => break,
                Err(_) => self.receiver.recv().ok()?,
            };
            match message {
                Message::Bars(job) => {
                    self.bars += job.bars.len();
                    self.jobs.push(job);
                }
                Message::Order(order) => self.orders.push_back(order),
            }
        }
        if !self.jobs.is_empty() && (self.orders.is_empty() || !self.order_next) {
            self.order_next = true;
            self.waiting.fetch_sub(std::mem::take(&mut self.bars), Ordering::AcqRel);
            return Some(Work::Bars(std::mem::take(&mut self.jobs)));
        }
        self.order_next = false;
        self.orders.pop_front().map(Work::Order)
    }
}

/// Raw bars through a model.
pub struct PredictJob {
    pub key: StreamKey,
    /// "btc", "btc/3", or as it was deployed.
    pub model: Option<String>,
    pub model_type: Option<String>,
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
    pub sender: std::sync::mpsc::SyncSender<PredictWork>,
}

/// What the thread that answers predict requests does next.
pub enum PredictWork {
    Job(PredictJob),
    /// To the models that it has.
    Change(PredictChange),
}

pub type PredictChange = Box<dyn FnOnce(&mut Vec<Deployment>) + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_room_comes_back() {
        let (queue, mut receiver) = bar_queue(3);
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
        let Some(Work::Bars(jobs)) = receiver.take(100) else { panic!("bars wait") };
        assert_eq!(jobs.len(), 2);
        assert_eq!(queue.waiting(), 0);
        drop(receiver);
        assert_eq!(queue.send(vec![bar]).err(), Some(SendError::Stopped));
        assert_eq!(queue.ask(|_| ()), None);
    }

    #[test]
    fn bars_and_orders_take_turns() {
        let (queue, mut receiver) = bar_queue(100);
        let order = || queue.sender.send(Message::Order(Box::new(|_| ()))).unwrap();
        order();
        order();
        let _first = queue.send(Vec::new()).unwrap();
        let mut next = || matches!(receiver.take(100), Some(Work::Bars(_)));
        assert!(next(), "bars that wait go before the first order");
        let _second = queue.send(Vec::new()).unwrap();
        assert!(!next(), "then one order, though bars wait");
        assert!(next());
        assert!(!next());
    }
}
