//! What polls see: for each stream and model the newest answer, its bytes rendered when it was made, and the
//! recent predictions in the order of `seq`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use market::{StreamKey, Symbol, Timeframe, Timestamp};
use shared::Writer;
use store::Uncertainty;
use tokio::sync::watch;

use crate::config::Clock;
use crate::outcomes::Outcomes;
use crate::render::{self, Shown};
use crate::shared_memory;

/// A prediction as polls get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub seq: u64,
    pub key: StreamKey,
    pub model: Arc<str>,
    pub label: Arc<str>,
    pub horizon_bars: u32,
    pub value: f32,
    pub uncertainty: Option<Uncertainty>,
    pub open_time: Timestamp,
    pub as_of: Timestamp,
    pub made_at: Timestamp,
    pub valid_until: Timestamp,
    pub revision: u32,
    pub provisional: bool,
    pub recovered: bool,
    pub revised: bool,
    /// All but the closing `,"durable_seq":N}`.
    pub body: Arc<str>,
}

impl Made {
    pub fn new(shown: &Shown, model: Arc<str>, label: Arc<str>) -> Self {
        Made {
            seq: shown.seq,
            key: shown.key.clone(),
            model,
            label,
            horizon_bars: shown.horizon_bars,
            value: shown.value,
            uncertainty: shown.uncertainty,
            open_time: shown.open_time,
            as_of: shown.as_of,
            made_at: shown.made_at,
            valid_until: shown.valid_until,
            revision: shown.revision,
            provisional: shown.provisional,
            recovered: shown.recovered,
            revised: shown.revised,
            body: render::prediction(shown).into(),
        }
    }
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
#[derive(Debug)]
pub struct Slot {
    pub key: StreamKey,
    pub model: Arc<str>,
    pub answer: Answer,
    /// Where it stands in shared memory.
    place: Option<shared::Slot>,
    /// Of a prediction: its `seq`, quoted.
    pub etag: Option<HeaderValue>,
    /// The whole reply as it was sent last, and the `durable_seq` in it.
    sent: Mutex<(u64, Bytes)>,
}

impl Slot {
    fn new(key: StreamKey, model: Arc<str>, answer: Answer, place: Option<shared::Slot>) -> Self {
        let etag = match &answer {
            Answer::Prediction(made) => HeaderValue::try_from(format!("\"{}\"", made.seq)).ok(),
            _ => None,
        };
        Slot { key, model, answer, place, etag, sent: Mutex::default() }
    }

    /// The reply with this `durable_seq`, rendered when that is another than the last time.
    pub fn body(&self, made: &Made, durable_seq: u64) -> Bytes {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.0 != durable_seq || sent.1.is_empty() {
            *sent = (durable_seq, format!("{},\"durable_seq\":{durable_seq}}}", made.body).into());
        }
        sent.1.clone()
    }
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
    /// Of each symbol, the shortest timeframe first.
    slots: RwLock<HashMap<Symbol, Vec<Arc<Slot>>>>,
    /// The same for processes that read memory.
    memory: Option<Arc<Writer>>,
    /// What became of predictions.
    pub outcomes: Outcomes,
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
            memory: None,
            outcomes: Outcomes::new(recent_max),
            recent: RwLock::default(),
            recent_max,
            forgotten_to: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            durable_seq: AtomicU64::new(0),
            feed_time: AtomicI64::new(i64::MIN),
        }
    }

    /// Shows everything there as well.
    pub fn with_memory(self, memory: Option<Arc<Writer>>) -> Self {
        Visible { memory, ..self }
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
                self.show(&mut slots, key, model, answer);
            }
        }
        self.changes.send_modify(|n| *n += 1);
    }

    fn show(
        &self,
        slots: &mut HashMap<Symbol, Vec<Arc<Slot>>>,
        key: StreamKey,
        model: Arc<str>,
        answer: Answer,
    ) {
        let of_symbol = slots.entry(key.symbol.clone()).or_default();
        let held = of_symbol.iter_mut().find(|s| s.key.timeframe == key.timeframe && s.model == model);
        let memory = self.memory.as_deref();
        let place = match &held {
            Some(slot) => slot.place,
            None => memory.and_then(|memory| shared_memory::place(memory, &key, &model)),
        };
        if let (Some(memory), Some(place)) = (memory, place) {
            memory.write(place, &shared_memory::snapshot(&answer));
        }
        match held {
            Some(slot) => *slot = Arc::new(Slot::new(key, model, answer, place)),
            None => {
                let at = of_symbol.partition_point(|s| s.key.timeframe <= key.timeframe);
                of_symbol.insert(at, Arc::new(Slot::new(key, model, answer, place)));
            }
        }
    }

    /// All slots of a model say the same: it is quarantined.
    pub fn quarantine(&self, model: &str, message: &Arc<str>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let of_model: Vec<_> = slots.values().flatten().filter(|s| &*s.model == model).cloned().collect();
        for slot in of_model {
            let answer = Answer::Quarantined { message: message.clone() };
            self.show(&mut slots, slot.key.clone(), slot.model.clone(), answer);
        }
        drop(slots);
        self.changes.send_modify(|n| *n += 1);
    }

    /// What is said of a symbol, by timeframe and model where they are given; of several, the shortest timeframe.
    pub fn find(&self, symbol: &str, timeframe: Option<Timeframe>, model: Option<&str>) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |slot: &&Arc<Slot>| {
            timeframe.is_none_or(|t| t == slot.key.timeframe)
                && model.is_none_or(|m| matches_model(&slot.model, m))
        };
        slots.get(symbol)?.iter().find(fits).cloned()
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
        if let Some(memory) = &self.memory {
            memory.set_durable_seq(seq);
        }
    }

    /// A bar that closes at this time has come.
    pub fn feed(&self, close_time: Timestamp) {
        let before = self.feed_time.fetch_max(close_time.0, Ordering::AcqRel);
        if let Some(memory) = &self.memory {
            memory.set_feed_time(before.max(close_time.0));
        }
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
    pub fn all(&self, limit: usize) -> Vec<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = slots.values().flatten().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.truncate(limit);
        all
    }
}

/// "name" or "name/version".
pub fn matches_model(model: &str, wanted: &str) -> bool {
    model == wanted || model.split_once('/').is_some_and(|(name, _)| name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Meaning;
    use crate::resolve::Tally;

    fn key(symbol: &str, timeframe: &str) -> StreamKey {
        StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse(timeframe).unwrap() }
    }

    fn made(seq: u64, key: &StreamKey) -> (StreamKey, Arc<str>, Answer) {
        let (model, label) = ("m/1", "log_return");
        let t = Timestamp(0);
        let shown = Shown {
            seq,
            key,
            model,
            label,
            horizon_bars: 1,
            value: 0.5,
            meaning: &Meaning::default(),
            values: &[0.5],
            uncertainty: (seq == 3).then_some(Uncertainty {
                confidence: 0.6,
                low: -1.0,
                high: 2.0,
                level: 0.9,
            }),
            tally: Tally::default(),
            open_time: t,
            as_of: t,
            made_at: t,
            valid_until: t,
            device: "cpu",
            revision: 0,
            provisional: false,
            recovered: false,
            revised: false,
        };
        let made = Made::new(&shown, model.into(), label.into());
        (key.clone(), model.into(), Answer::Prediction(Arc::new(made)))
    }

    #[test]
    fn finds_by_symbol_timeframe_and_model() {
        let visible = Visible::new(Clock::Wall, 3);
        let (hour, minute) = (key("A", "1h"), key("A", "5m"));
        visible.publish(vec![made(1, &hour), made(2, &minute)]);
        let found =
            |symbol: &str, timeframe, model| visible.find(symbol, timeframe, model).map(|s| s.key.clone());
        assert_eq!(found("A", None, None), Some(minute), "the shortest timeframe first");
        assert_eq!(found("A", Some(hour.timeframe), Some("m")), Some(hour.clone()));
        assert_eq!(found("A", Some(hour.timeframe), Some("m/1")), Some(hour));
        assert_eq!(found("A", None, Some("m/2")), None);
        assert_eq!(found("B", None, None), None);
        assert_eq!(visible.all(9).len(), 2);
    }

    #[test]
    fn a_reply_is_rendered_again_when_durable_seq_moves() {
        let visible = Visible::new(Clock::Wall, 3);
        visible.publish(vec![made(7, &key("A", "1h"))]);
        let slot = visible.find("A", None, None).unwrap();
        let Answer::Prediction(made) = &slot.answer else { panic!("{slot:?}") };
        assert_eq!(slot.etag.as_ref().unwrap(), "\"7\"");
        let first = slot.body(made, 0);
        assert!(first.starts_with(b"{\"seq\":7,") && first.ends_with(b",\"durable_seq\":0}"), "{first:?}");
        assert_eq!(slot.body(made, 0).as_ptr(), first.as_ptr(), "the same bytes");
        assert!(slot.body(made, 7).ends_with(b",\"durable_seq\":7}"));
    }

    #[test]
    fn shared_memory_says_what_polls_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        let options = shared::Options { slots: 2, mode: 0o600, clock: shared::Clock::Feed };
        let writer = Arc::new(Writer::create(&path, &options).unwrap());
        let visible = Visible::new(Clock::Feed, 3).with_memory(Some(writer.clone()));
        let reader = shared::Reader::open(&path).unwrap();
        let (a, b) = (key("A", "1h"), key("B", "1h"));
        let warming = Answer::Warming { have: 3, need: 8 };
        visible.publish(vec![(a.clone(), "m/1".into(), warming), made(1, &b)]);
        let slot = reader.find("A", "1h", "m").unwrap();
        let read = reader.read(slot).unwrap();
        assert_eq!((read.state, read.have, read.need), (shared::State::Warming, 3, 8));
        visible.set_durable_seq(1);
        visible.feed(Timestamp(9));
        visible.publish(vec![made(2, &a), made(3, &key("C", "1h"))]);
        let read = reader.read(slot).unwrap();
        assert_eq!((read.state, read.seq, read.durable_seq), (shared::State::Prediction, 2, 1));
        assert_eq!((read.value, read.label.as_str(), reader.is_stale(&read)), (0.5, "log_return", true));
        assert!(reader.find("C", "1h", "m").is_none() && reader.about().refused == 1, "the table is full");
        assert!(visible.find("C", None, None).is_some(), "polls have it");
        visible.quarantine("m/1", &"broken".into());
        for slot in reader.all() {
            assert_eq!(reader.read(slot).unwrap().state, shared::State::Quarantined);
        }
        let reason: Arc<str> = "not_finite".into();
        visible.publish(vec![(b, "m/1".into(), Answer::Abstained { seq: 4, reason, message: "".into() })]);
        let read = reader.read(reader.find("B", "1h", "m/1").unwrap()).unwrap();
        assert_eq!(
            (read.state, read.cause, read.seq),
            (shared::State::Abstained, shared::Cause::NotFinite, 4)
        );
        writer.close();
        assert!(matches!(reader.read(slot), Err(shared::ReadError::Closed)));
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
