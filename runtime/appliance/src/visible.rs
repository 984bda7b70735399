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
use crate::deployment::{About, HIDDEN, Seat};
use crate::explanations::Explanations;
use crate::outcomes::Outcomes;
use crate::render::{self, Shown};
use crate::shared_memory;

/// A prediction as polls get it.
#[derive(Clone, Debug)]
pub struct Made {
    pub seq: u64,
    pub key: StreamKey,
    pub about: Arc<About>,
    /// As it was deployed; `None`: it serves no more.
    pub seat: Option<Arc<Seat>>,
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
    /// Made beside the one that polls get.
    pub shadow: bool,
    /// All but the closing `,"durable_seq":N}`.
    pub body: Arc<str>,
}

impl Made {
    pub fn new(shown: &Shown, about: Arc<About>, seat: Option<Arc<Seat>>) -> Self {
        Made {
            seq: shown.seq,
            key: shown.key.clone(),
            about,
            seat,
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
            shadow: shown.shadow,
            body: render::prediction(shown).into(),
        }
    }
}

/// The newest that is to say of one stream under one model.
#[derive(Clone, Debug)]
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

/// What polls of a stream and a model get from now on.
#[derive(Clone, Debug)]
pub struct Shows {
    pub key: StreamKey,
    pub about: Arc<About>,
    /// `None`: of a model that serves no more; it stands among the recent predictions alone.
    pub seat: Option<Arc<Seat>>,
    pub answer: Answer,
}

impl Shows {
    /// A prediction says whether it stands beside the one that polls get; one that changes its place says so anew.
    fn marked(self, shadow: bool) -> Shows {
        match &self.answer {
            Answer::Prediction(made) if made.shadow != shadow => {
                let body = made.body.strip_suffix(render::SHADOW).unwrap_or(&made.body);
                let body = if shadow { format!("{body}{}", render::SHADOW) } else { body.to_string() };
                let answer =
                    Answer::Prediction(Arc::new(Made { shadow, body: body.into(), ..(**made).clone() }));
                Shows { answer, ..self }
            }
            _ => self,
        }
    }
}

/// An answer and what it belongs to.
#[derive(Debug)]
pub struct Slot {
    pub key: StreamKey,
    pub about: Arc<About>,
    pub seat: Arc<Seat>,
    rank: u32,
    pub answer: Answer,
    /// Where it stands in shared memory.
    place: Option<shared::Slot>,
    /// Of a prediction: its `seq`, quoted.
    pub etag: Option<HeaderValue>,
    /// The whole reply as it was sent last, and the `durable_seq` in it.
    sent: Mutex<(u64, Bytes)>,
}

impl Slot {
    fn new(shows: Shows, seat: Arc<Seat>, place: Option<shared::Slot>) -> Self {
        let Shows { key, about, answer, .. } = shows;
        let etag = match &answer {
            Answer::Prediction(made) => HeaderValue::try_from(format!("\"{}\"", made.seq)).ok(),
            _ => None,
        };
        let rank = seat.rank(&key);
        Slot { key, about, seat, rank, answer, place, etag, sent: Mutex::default() }
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

/// Which predictions are asked for; empty is all that are no shadows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub symbols: HashSet<Symbol>,
    pub timeframe: Option<Timeframe>,
    /// "btc", "btc/3", or as it was deployed: "models:/btc@champion".
    pub model: Option<String>,
    /// Of the architecture: "lstm".
    pub model_type: Option<String>,
}

impl Filter {
    fn fits(&self, key: &StreamKey, about: &About, seat: Option<&Seat>) -> bool {
        let named = |wanted: &str| {
            matches_model(&about.model, wanted) || seat.is_some_and(|seat| *seat.reference == *wanted)
        };
        self.timeframe.is_none_or(|t| t == key.timeframe)
            && self.model.as_deref().is_none_or(named)
            && self.model_type.as_deref().is_none_or(|wanted| *about.model_type == *wanted)
    }
}

/// The answers of all streams.
#[derive(Default)]
struct Slots {
    /// Of each symbol, the shortest timeframe first, and of that the lowest rank.
    of: HashMap<Symbol, Vec<Arc<Slot>>>,
    /// Places in shared memory whose answers were taken back, by stream and what is deployed.
    spare: HashMap<(StreamKey, Arc<str>), shared::Slot>,
}

impl Slots {
    fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.of.values().flatten()
    }

    fn held(&self, key: &StreamKey, reference: &str) -> Option<&Arc<Slot>> {
        let same = |s: &&Arc<Slot>| s.key.timeframe == key.timeframe && *s.seat.reference == *reference;
        self.of.get(&key.symbol)?.iter().find(same)
    }

    fn show(&mut self, memory: Option<&Writer>, shows: Shows) {
        let Some(seat) = shows.seat.clone() else { return };
        let rank = seat.rank(&shows.key);
        let shows = shows.marked(rank >= HIDDEN);
        let of_symbol = self.of.entry(shows.key.symbol.clone()).or_default();
        let same =
            |s: &Arc<Slot>| s.key.timeframe == shows.key.timeframe && s.seat.reference == seat.reference;
        let held = of_symbol.iter().position(same);
        let place = match held {
            Some(at) => of_symbol[at].place,
            None => self.spare.remove(&(shows.key.clone(), seat.reference.clone())).or_else(|| {
                memory.and_then(|memory| shared_memory::place(memory, &shows.key, &seat.reference))
            }),
        };
        if let (Some(memory), Some(place)) = (memory, place) {
            memory.write(place, &shared_memory::snapshot(&shows.answer, &shows.about));
        }
        let slot = Arc::new(Slot::new(shows, seat, place));
        match held {
            Some(at) if of_symbol[at].rank == slot.rank => of_symbol[at] = slot,
            _ => {
                held.map(|at| of_symbol.remove(at));
                let order = (slot.key.timeframe, slot.rank);
                let at = of_symbol.partition_point(|s| (s.key.timeframe, s.rank) <= order);
                of_symbol.insert(at, slot);
            }
        }
    }

    fn take_back(&mut self, memory: Option<&Writer>, key: &StreamKey, reference: &Arc<str>) {
        let Some(of_symbol) = self.of.get_mut(&key.symbol) else { return };
        let same = |s: &Arc<Slot>| s.key.timeframe == key.timeframe && s.seat.reference == *reference;
        let Some(at) = of_symbol.iter().position(same) else { return };
        if let Some(place) = of_symbol.remove(at).place {
            if let Some(memory) = memory {
                memory.write(place, &shared::Snapshot::default());
            }
            self.spare.insert((key.clone(), reference.clone()), place);
        }
    }
}

pub struct Visible {
    clock: Clock,
    slots: RwLock<Slots>,
    /// The same for processes that read memory.
    memory: Option<Arc<Writer>>,
    /// What became of predictions.
    pub outcomes: Outcomes,
    /// What made some of them.
    pub explanations: Explanations,
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
            explanations: Explanations::default(),
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
    pub fn publish(&self, answers: Vec<Shows>) {
        if answers.is_empty() {
            return;
        }
        {
            let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
            for shows in &answers {
                if let Answer::Prediction(made) = &shows.answer {
                    if recent.len() == self.recent_max
                        && let Some(gone) = recent.pop_front()
                    {
                        self.forgotten_to.fetch_max(gone.seq, Ordering::AcqRel);
                    }
                    recent.push_back(made.clone());
                }
            }
        }
        self.change(|slots, memory| answers.into_iter().for_each(|shows| slots.show(memory, shows)));
    }

    /// A change of what stands in the slots, seen by all that wait.
    fn change(&self, change: impl FnOnce(&mut Slots, Option<&Writer>)) {
        change(&mut self.slots.write().unwrap_or_else(PoisonError::into_inner), self.memory.as_deref());
        self.changes.send_modify(|n| *n += 1);
    }

    /// All slots of a model say the same: it is quarantined.
    pub fn quarantine(&self, model: &str, message: &Arc<str>) {
        self.change(|slots, memory| {
            let of_model: Vec<_> = slots.all().filter(|s| *s.about.model == *model).cloned().collect();
            for slot in of_model {
                let answer = Answer::Quarantined { message: message.clone() };
                let (key, about, seat) = (slot.key.clone(), slot.about.clone(), Some(slot.seat.clone()));
                slots.show(memory, Shows { key, about, seat, answer });
            }
        });
    }

    /// What was deployed there says nothing more.
    pub fn take_back(&self, seat: &Seat) {
        self.change(|slots, memory| {
            let of_seat =
                slots.all().filter(|s| s.seat.row == seat.row && s.seat.reference == seat.reference);
            let keys: Vec<_> = of_seat.map(|s| s.key.clone()).collect();
            keys.iter().for_each(|key| slots.take_back(memory, key, &seat.reference));
        });
    }

    /// Two models of a row change their seats: each answers where the other did.
    pub fn exchange(&self, one: &Arc<Seat>, other: &Arc<Seat>) {
        self.change(|slots, memory| {
            let of_row = slots.all().filter(|s| s.seat.row == one.row);
            let keys: HashSet<_> = of_row.map(|s| s.key.clone()).collect();
            for key in keys {
                let of = |seat: &Seat| slots.held(&key, &seat.reference).cloned();
                let (first, second) = (of(one), of(other));
                for (seat, from) in [(one, second), (other, first)] {
                    match from {
                        Some(from) => {
                            let (about, answer) = (from.about.clone(), from.answer.clone());
                            let seat = Some(seat.clone());
                            slots.show(memory, Shows { key: key.clone(), about, seat, answer });
                        }
                        None => slots.take_back(memory, &key, &seat.reference),
                    }
                }
            }
        });
    }

    /// Whether a prediction about the bar that opened then stands in one of the stream's slots.
    pub fn is_predicted(&self, key: &StreamKey, open_time: Timestamp) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let about_it = |s: &Arc<Slot>| {
            s.key.timeframe == key.timeframe
                && matches!(&s.answer, Answer::Prediction(made) if made.open_time == open_time)
        };
        slots.of.get(&key.symbol).is_some_and(|slots| slots.iter().any(about_it))
    }

    /// What is said of a symbol; of several answers that of the shortest timeframe and the first deployment. One that
    /// only shadows another has to be named.
    pub fn find(&self, symbol: &str, filter: &Filter) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |slot: &&Arc<Slot>| {
            filter.fits(&slot.key, &slot.about, Some(&slot.seat))
                && (slot.rank < HIDDEN || filter.model.is_some())
        };
        slots.of.get(symbol)?.iter().find(fits).cloned()
    }

    /// Predictions after `seq`, oldest first, and whether some were already forgotten.
    pub fn since(&self, seq: u64, filter: &Filter, limit: usize) -> (Vec<Arc<Made>>, bool) {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let from = recent.partition_point(|m| m.seq <= seq);
        let forgotten = seq < self.forgotten_to.load(Ordering::Acquire);
        let wanted = |m: &&Arc<Made>| {
            (filter.symbols.is_empty() || filter.symbols.contains(&m.key.symbol))
                && filter.fits(&m.key, &m.about, m.seat.as_deref())
                && (!m.shadow || filter.model.is_some())
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
        for slot in slots.all() {
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
        let mut all: Vec<_> = slots.all().cloned().collect();
        all.sort_by(|a, b| (&a.key, a.rank).cmp(&(&b.key, b.rank)));
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
    use crate::deployment::Split;
    use crate::render::Meaning;
    use crate::resolve::{Tally, Terms};
    use learn::label::LabelRecipe;
    use learn::normalise::LabelScale;
    use learn::reading::Reading;
    use registry::{GapPolicy, LabelKind, Output};
    use store::ModelName;

    fn key(symbol: &str, timeframe: &str) -> StreamKey {
        StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse(timeframe).unwrap() }
    }

    fn about(model: &str) -> Arc<About> {
        let label = LabelRecipe {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
        };
        let reading = Reading::new(label, Output::Point, LabelScale { mean: 0.0, scale: 1.0 }, 0.9, 1.5);
        let (name, version) = model.split_once('/').unwrap();
        let name = ModelName { name: name.into(), version: version.into() };
        let terms = Terms { model: name, digest: [0; 32], reading, calibration: None };
        Arc::new(About {
            model: model.into(),
            model_type: "lstm".into(),
            label: "log_return".into(),
            horizon_bars: 1,
            terms: terms.into(),
            meaning: Meaning::default().into(),
        })
    }

    fn seat(reference: &str, timeframe: Timeframe, challenger: Option<Split>) -> Arc<Seat> {
        Arc::new(Seat { challenger, ..Seat::alone(reference, timeframe) })
    }

    fn shows(key: &StreamKey, model: &str, answer: Answer) -> Shows {
        let seat = seat("models:/m", key.timeframe, None);
        Shows { key: key.clone(), about: about(model), seat: Some(seat), answer }
    }

    fn made(seq: u64, key: &StreamKey) -> Shows {
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
            shadow: seq >= 100,
        };
        let made = Made::new(&shown, about(model), None);
        shows(key, model, Answer::Prediction(Arc::new(made)))
    }

    #[test]
    fn finds_by_symbol_timeframe_and_model() {
        let visible = Visible::new(Clock::Wall, 3);
        let (hour, minute) = (key("A", "1h"), key("A", "5m"));
        visible.publish(vec![made(1, &hour), made(2, &minute)]);
        let found = |symbol: &str, timeframe, model: Option<&str>| {
            let filter = Filter { timeframe, model: model.map(str::to_string), ..Filter::default() };
            visible.find(symbol, &filter).map(|s| s.key.clone())
        };
        assert_eq!(found("A", None, None), Some(minute), "the shortest timeframe first");
        assert_eq!(found("A", Some(hour.timeframe), Some("m")), Some(hour.clone()));
        assert_eq!(found("A", Some(hour.timeframe), Some("m/1")), Some(hour));
        assert_eq!(found("A", None, Some("m/2")), None);
        assert_eq!(found("B", None, None), None);
        assert_eq!(visible.all(9).len(), 2);
    }

    #[test]
    fn a_shadow_answers_only_by_its_name_until_it_takes_the_seat() {
        let visible = Visible::new(Clock::Wall, 9);
        let a = key("A", "1h");
        let champion = seat("models:/m@champion", a.timeframe, None);
        let shadow = seat("models:/m@challenger", a.timeframe, Some(Split::default()));
        let at = |seat: &Arc<Seat>, seq, model| {
            let mut shows = made(seq, &a);
            (shows.seat, shows.about) = (Some(seat.clone()), about(model));
            shows
        };
        visible.publish(vec![at(&shadow, 101, "m/2"), at(&champion, 1, "m/1")]);
        let found = |model: Option<&str>| {
            let filter = Filter { model: model.map(str::to_string), ..Filter::default() };
            visible.find("A", &filter).map(|slot| slot.about.model.to_string())
        };
        assert_eq!(found(None).as_deref(), Some("m/1"));
        assert_eq!(found(Some("m")).as_deref(), Some("m/1"), "of the two the champion");
        assert_eq!(found(Some("models:/m@challenger")).as_deref(), Some("m/2"));
        assert_eq!(found(Some("m/2")).as_deref(), Some("m/2"));
        let type_of = |name: &str| Filter { model_type: Some(name.into()), ..Filter::default() };
        assert!(visible.find("A", &type_of("lstm")).is_some_and(|slot| &*slot.about.model == "m/1"));
        assert!(visible.find("A", &type_of("gru")).is_none());
        let seqs = |filter: &Filter| visible.since(0, filter, 9).0.iter().map(|m| m.seq).collect::<Vec<_>>();
        assert_eq!(seqs(&Filter::default()), [1]);
        assert_eq!(seqs(&Filter { model: Some("m".into()), ..Filter::default() }), [101, 1]);
        visible.exchange(&champion, &shadow);
        assert_eq!(found(None).as_deref(), Some("m/2"));
        assert_eq!(found(Some("models:/m@challenger")).as_deref(), Some("m/1"));
        visible.take_back(&shadow);
        assert_eq!(found(Some("models:/m@challenger")), None);
        // Of the symbols of its split it answers first.
        let split = Split { share: 0.0, symbols: vec![a.symbol.clone()] };
        visible.publish(vec![at(&seat("models:/m@challenger", a.timeframe, Some(split)), 3, "m/1")]);
        assert_eq!(found(None).as_deref(), Some("m/1"));
    }

    #[test]
    fn a_split_takes_its_share_of_the_symbols() {
        let split = Split { share: 0.25, symbols: Vec::new() };
        let has = |n: u32| split.has(&Symbol::new(&format!("S{n}")).unwrap());
        let count = (0..4000).filter(|&n| has(n)).count();
        assert!((900..1100).contains(&count), "{count} of 4000");
        let all = Split { share: 1.0, symbols: Vec::new() };
        assert!((0..1000).all(|n| all.has(&Symbol::new(&format!("S{n}")).unwrap())));
        assert!(!(0..1000).any(|n| Split::default().has(&Symbol::new(&format!("S{n}")).unwrap())));
    }

    #[test]
    fn a_reply_is_rendered_again_when_durable_seq_moves() {
        let visible = Visible::new(Clock::Wall, 3);
        visible.publish(vec![made(7, &key("A", "1h"))]);
        let slot = visible.find("A", &Filter::default()).unwrap();
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
        visible.publish(vec![shows(&a, "m/1", warming), made(1, &b)]);
        let slot = reader.find("A", "1h", "m").unwrap();
        let read = reader.read(slot).unwrap();
        assert_eq!((read.state, read.have, read.need), (shared::State::Warming, 3, 8));
        visible.set_durable_seq(1);
        visible.feed(Timestamp(9));
        visible.publish(vec![made(2, &a), made(3, &key("C", "1h"))]);
        let read = reader.read(slot).unwrap();
        assert_eq!((read.state, read.seq, read.durable_seq), (shared::State::Prediction, 2, 1));
        assert_eq!((read.value, read.label.as_str(), reader.is_stale(&read)), (0.5, "log_return", true));
        assert_eq!(read.model_version, 1);
        assert!(reader.find("C", "1h", "m").is_none() && reader.about().refused == 1, "the table is full");
        assert!(visible.find("C", &Filter::default()).is_some(), "polls have it");
        visible.quarantine("m/1", &"broken".into());
        for slot in reader.all() {
            assert_eq!(reader.read(slot).unwrap().state, shared::State::Quarantined);
        }
        let reason: Arc<str> = "not_finite".into();
        visible.publish(vec![shows(&b, "m/1", Answer::Abstained { seq: 4, reason, message: "".into() })]);
        let read = reader.read(reader.find("B", "1h", "m").unwrap()).unwrap();
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
