//! What polls see: for each stream and model the newest answer, its bytes rendered when it was made, and the
//! recent predictions in the order of `seq`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use market::{StreamKey, Symbol, Timeframe, Timestamp};
use tokio::sync::watch;

use crate::config::Clock;

/// A prediction as polls get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub seq: u64,
    pub key: StreamKey,
    pub model: Arc<str>,
    pub valid_until: Timestamp,
    /// All but the closing `,"durable_seq":N}`.
    pub body: Arc<str>,
}

/// The newest that is to say of one stream under one model.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Prediction(Arc<Made>),
    /// `have` of `need` bars.
    Warming {
        have: u64,
        need: u64,
    },
    /// The newest bar got no prediction.
    Abstained {
        seq: u64,
        reason: Arc<str>,
        message: Arc<str>,
    },
    /// The plugin keeps failing and isn't called any more.
    Quarantined {
        message: Arc<str>,
    },
}

/// An answer and what it belongs to.
#[derive(Clone, Debug)]
pub struct Slot {
    pub model: Arc<str>,
    pub answer: Answer,
}

/// Which predictions are asked for; empty is all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub symbols: HashSet<Symbol>,
    pub timeframe: Option<Timeframe>,
    pub model: Option<String>,
}

pub struct Visible {
    clock: Clock,
    slots: RwLock<HashMap<StreamKey, Vec<Slot>>>,
    recent: RwLock<VecDeque<Arc<Made>>>,
    recent_max: usize,
    /// Predictions up to this `seq` may be missing from `recent`.
    forgotten_to: AtomicU64,
    /// The newest change: a `seq`, or a warm-up step; long polls wait on it.
    changes: watch::Sender<u64>,
    durable_seq: AtomicU64,
    feed_time: AtomicI64,
}

impl Visible {
    pub fn new(clock: Clock, recent_max: usize) -> Self {
        Visible {
            clock,
            slots: RwLock::default(),
            recent: RwLock::default(),
            recent_max,
            forgotten_to: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            durable_seq: AtomicU64::new(0),
            feed_time: AtomicI64::new(i64::MIN),
        }
    }

    /// Shows the answers of one step, all at once for each kind of reader.
    pub fn publish(&self, answers: Vec<(StreamKey, Arc<str>, Answer)>) {
        if answers.is_empty() {
            return;
        }
        {
            let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
            for (_, _, answer) in &answers {
                if let Answer::Prediction(made) = answer {
                    if recent.len() == self.recent_max
                        && let Some(gone) = recent.pop_front()
                    {
                        self.forgotten_to.fetch_max(gone.seq, Ordering::AcqRel);
                    }
                    recent.push_back(made.clone());
                }
            }
        }
        {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            for (key, model, answer) in answers {
                let of_key = slots.entry(key).or_default();
                match of_key.iter_mut().find(|s| s.model == model) {
                    Some(slot) => slot.answer = answer,
                    None => of_key.push(Slot { model, answer }),
                }
            }
        }
        self.changes.send_modify(|n| *n += 1);
    }

    /// All slots of a model say the same: it is quarantined.
    pub fn quarantine(&self, model: &str, message: &Arc<str>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values_mut().flatten().filter(|s| &*s.model == model) {
            slot.answer = Answer::Quarantined { message: message.clone() };
        }
        drop(slots);
        self.changes.send_modify(|n| *n += 1);
    }

    /// The slots of a symbol, by timeframe and model where they are given; the shortest timeframe first.
    pub fn find(
        &self,
        symbol: &Symbol,
        timeframe: Option<Timeframe>,
        model: Option<&str>,
    ) -> Vec<(StreamKey, Slot)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |slot: &&Slot| model.is_none_or(|m| matches_model(&slot.model, m));
        if let Some(timeframe) = timeframe {
            let key = StreamKey { symbol: symbol.clone(), timeframe };
            let of_key = slots.get(&key).into_iter().flatten();
            return of_key.filter(fits).map(|s| (key.clone(), s.clone())).collect();
        }
        let mut found: Vec<_> = slots
            .iter()
            .filter(|(key, _)| key.symbol == *symbol)
            .flat_map(|(key, of_key)| of_key.iter().filter(fits).map(|s| (key.clone(), s.clone())))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Predictions after `seq`, oldest first, and whether some were already forgotten.
    pub fn since(&self, seq: u64, filter: &Filter, limit: usize) -> (Vec<Arc<Made>>, bool) {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let from = recent.partition_point(|m| m.seq <= seq);
        let forgotten = seq < self.forgotten_to.load(Ordering::Acquire);
        let wanted = |m: &&Arc<Made>| {
            (filter.symbols.is_empty() || filter.symbols.contains(&m.key.symbol))
                && filter.timeframe.is_none_or(|t| t == m.key.timeframe)
                && filter.model.as_deref().is_none_or(|w| matches_model(&m.model, w))
        };
        (recent.iter().skip(from).filter(wanted).take(limit).cloned().collect(), forgotten)
    }

    /// Fires at each change from now on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Up to this `seq` the spool has let predictions go.
    pub fn forget_to(&self, seq: u64) {
        self.forgotten_to.fetch_max(seq, Ordering::AcqRel);
    }

    pub fn durable_seq(&self) -> u64 {
        self.durable_seq.load(Ordering::Acquire)
    }

    pub fn set_durable_seq(&self, seq: u64) {
        self.durable_seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// A bar that closes at this time has come.
    pub fn feed(&self, close_time: Timestamp) {
        self.feed_time.fetch_max(close_time.0, Ordering::AcqRel);
    }

    /// The time by which predictions go stale.
    pub fn now(&self) -> Timestamp {
        match self.clock {
            Clock::Wall => Timestamp::now(),
            Clock::Feed => Timestamp(self.feed_time.load(Ordering::Acquire)),
        }
    }

    /// How many slots hold each kind of answer: predictions, warming, abstained, quarantined.
    pub fn counts(&self) -> [usize; 4] {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = [0; 4];
        for slot in slots.values().flatten() {
            let kind = match slot.answer {
                Answer::Prediction(_) => 0,
                Answer::Warming { .. } => 1,
                Answer::Abstained { .. } => 2,
                Answer::Quarantined { .. } => 3,
            };
            counts[kind] += 1;
        }
        counts
    }

    /// Every slot, for the status page.
    pub fn all(&self, limit: usize) -> Vec<(StreamKey, Slot)> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            slots.iter().flat_map(|(k, of_key)| of_key.iter().map(|s| (k.clone(), s.clone()))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.truncate(limit);
        all
    }
}

/// "name" or "name/version".
fn matches_model(model: &str, wanted: &str) -> bool {
    model == wanted || model.split_once('/').is_some_and(|(name, _)| name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(symbol: &str, timeframe: &str) -> StreamKey {
        StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse(timeframe).unwrap() }
    }

    fn made(seq: u64, key: &StreamKey) -> (StreamKey, Arc<str>, Answer) {
        let made = Made {
            seq,
            key: key.clone(),
            model: "m/1".into(),
            valid_until: Timestamp(0),
            body: format!("{{\"seq\":{seq}").into(),
        };
        (key.clone(), "m/1".into(), Answer::Prediction(Arc::new(made)))
    }

    #[test]
    fn finds_by_symbol_timeframe_and_model() {
        let visible = Visible::new(Clock::Wall, 3);
        let (hour, minute) = (key("A", "1h"), key("A", "5m"));
        visible.publish(vec![made(1, &hour), made(2, &minute)]);
        let a = Symbol::new("A").unwrap();
        assert_eq!(visible.find(&a, None, None)[0].0, minute, "the shortest timeframe first");
        assert_eq!(visible.find(&a, Some(hour.timeframe), Some("m")).len(), 1);
        assert_eq!(visible.find(&a, Some(hour.timeframe), Some("m/1")).len(), 1);
        assert_eq!(visible.find(&a, None, Some("m/2")).len(), 0);
        assert_eq!(visible.find(&Symbol::new("B").unwrap(), None, None).len(), 0);
    }

    #[test]
    fn since_is_ordered_bounded_and_says_what_it_forgot() {
        let visible = Visible::new(Clock::Wall, 3);
        let a = key("A", "1h");
        for seq in 1..=5 {
            visible.publish(vec![made(seq, &a)]);
        }
        let seqs =
            |s: u64| visible.since(s, &Filter::default(), 10).0.iter().map(|m| m.seq).collect::<Vec<_>>();
        assert_eq!(seqs(0), [3, 4, 5]);
        assert!(visible.since(0, &Filter::default(), 10).1, "1 and 2 are forgotten");
        assert_eq!(seqs(3), [4, 5]);
        assert!(!visible.since(3, &Filter::default(), 10).1);
        assert_eq!(visible.since(0, &Filter::default(), 1).0.len(), 1);
        let of_b = Filter { symbols: [Symbol::new("B").unwrap()].into(), ..Filter::default() };
        assert_eq!(visible.since(0, &of_b, 10).0.len(), 0);
        let hours =
            Filter { timeframe: Timeframe::parse("1h").ok(), model: Some("m".into()), ..Filter::default() };
        assert_eq!(visible.since(0, &hours, 10).0.len(), 3);
        let other = Filter { model: Some("n".into()), ..Filter::default() };
        assert_eq!(visible.since(0, &other, 10).0.len(), 0);
    }

    #[test]
    fn the_feed_clock_follows_the_newest_bar() {
        let visible = Visible::new(Clock::Feed, 3);
        visible.feed(Timestamp(50));
        visible.feed(Timestamp(20));
        assert_eq!(visible.now(), Timestamp(50));
        visible.set_durable_seq(9);
        visible.set_durable_seq(4);
        assert_eq!(visible.durable_seq(), 9);
    }
}
