//! A stream that is disturbed (forming bars, revisions, lost instances, restarts) is bit for bit one that wasn't.

use market::{
    Bar, FeatureError, FeatureErrorKind, FeatureSpec, Features, StreamId, StreamKey, Symbol, Timeframe,
    Timestamp,
};
use market::{Book, Text, Trade};
use proptest::prelude::*;

use super::*;
use crate::history::{self, Change, History};
use crate::recover::Scanned;

/// An average that never forgets, so that any difference in what it was fed shows for ever.
struct Averages {
    spec: FeatureSpec,
    streams: Vec<Option<(f32, u32)>>,
    /// The instance goes down at this many calls from now.
    fails_in: Option<u32>,
}

impl Averages {
    fn new() -> Self {
        let spec = FeatureSpec {
            plugin: "averages@1.0.0".into(),
            digest: String::new(),
            names: vec!["slow".into(), "fast".into()],
            warmup: 3,
            wants_bars: true,
            wants_trades: false,
            wants_books: false,
            wants_texts: false,
            peers: 0,
        };
        Averages { spec, streams: Vec::new(), fails_in: None }
    }

    fn error(&self, kind: FeatureErrorKind) -> FeatureError {
        FeatureError { kind, plugin: self.spec.plugin.clone(), place: None, message: "down".into() }
    }

    fn call(&mut self) -> Result<(), FeatureError> {
        match self.fails_in.take() {
            Some(0) => {
                self.streams.iter_mut().for_each(|s| *s = None);
                Err(self.error(FeatureErrorKind::Trap))
            }
            Some(n) => {
                self.fails_in = Some(n - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Features for Averages {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.streams.push(Some((0.0, 0)));
        Ok(StreamId(self.streams.len() - 1))
    }

    fn restore(&mut self, state: &[u8]) -> Result<StreamId, FeatureError> {
        let (a, b) = state.split_at(4);
        let state = (f32::from_le_bytes(a.try_into().unwrap()), u32::from_le_bytes(b.try_into().unwrap()));
        self.streams.push(Some(state));
        Ok(StreamId(self.streams.len() - 1))
    }

    fn snapshot(&mut self, stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        let (a, n) = self.streams[stream.0].ok_or_else(|| self.error(FeatureErrorKind::NoStream))?;
        Ok([a.to_le_bytes(), n.to_le_bytes()].concat())
    }

    fn close(&mut self, stream: StreamId) {
        self.streams[stream.0] = None;
    }

    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        self.call()?;
        let no_stream = self.error(FeatureErrorKind::NoStream);
        let state = self.streams[stream.0].as_mut().ok_or(no_stream)?;
        state.0 = state.0 * 0.999 + bar.close as f32;
        state.1 += 1;
        *row = vec![state.0, bar.close as f32 * state.1 as f32];
        Ok(())
    }

    fn on_bars(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        let mut row = Vec::new();
        for bar in bars {
            self.on_bar(stream, bar, &mut row)?;
            rows.extend_from_slice(&row);
        }
        Ok(())
    }

    fn on_trade(&mut self, _: StreamId, _: &Trade) -> Result<(), FeatureError> {
        Ok(())
    }

    fn on_book(&mut self, _: StreamId, _: &Book) -> Result<(), FeatureError> {
        Ok(())
    }

    fn on_text(&mut self, _: StreamId, _: &Text) -> Result<(), FeatureError> {
        Ok(())
    }

    fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.streams.clear();
        Ok(())
    }
}

const WINDOW: usize = 5;
const KEEP: usize = 10;

fn key() -> StreamKey {
    StreamKey { symbol: Symbol::new("A").unwrap(), timeframe: Timeframe::parse("1h").unwrap() }
}

fn bar(n: u64, revision: u32, is_final: bool, price: f64) -> Bar {
    Bar {
        key: key(),
        open_time: Timestamp::from_seconds(n as i64 * 3600),
        open: price,
        high: price,
        low: price,
        close: price,
        volume: 1.0,
        is_final,
        revision,
    }
}

#[derive(Clone, Debug)]
enum Act {
    Next { price: u16 },
    Forming { price: u16 },
    Newest { price: u16 },
    Older { back: u8, price: u16 },
    LoseInstance,
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        12 => any::<u16>().prop_map(|price| Act::Next { price }),
        2 => any::<u16>().prop_map(|price| Act::Forming { price }),
        2 => any::<u16>().prop_map(|price| Act::Newest { price }),
        1 => (1..KEEP as u8, any::<u16>()).prop_map(|(back, price)| Act::Older { back, price }),
        1 => Just(Act::LoseInstance),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..260)
}

/// What the spool would hold.
#[derive(Clone)]
enum Stored {
    Bar(Bar),
    Snapshot(Snapshot),
}

fn identity(_: &mut [f32]) {}

fn empty_live() -> Live {
    Live::new(Window::new(WINDOW, 2).unwrap(), 3, KEEP)
}

/// All current bars through a fresh stream.
fn undisturbed(bars: &[Bar]) -> Option<Vec<f32>> {
    let mut features = Averages::new();
    let mut live = empty_live();
    live.open(&mut features).unwrap();
    for bar in bars {
        live.push(&mut features, &identity, bar).unwrap();
    }
    live.window().map(<[f32]>::to_vec)
}

fn restarted(stored: &[Stored], features: &mut Averages) -> (Live, History) {
    let capacity = history::capacity_bars(3, WINDOW, KEEP);
    let mut scanned = Scanned::new(key(), capacity);
    let model = store::ModelName { name: "m".into(), version: "1".into() };
    for (position, record) in stored.iter().enumerate() {
        match record {
            Stored::Bar(bar) => scanned.bar(position as u64, bar.clone(), false),
            Stored::Snapshot(s) => scanned.snapshot(store::SnapshotRecord {
                key: key(),
                model: model.clone(),
                features_digest: [0; 32],
                bar_position: 0,
                state: s.encode(),
            }),
        }
    }
    let mut live = empty_live();
    scanned.models.remove(&model).unwrap().snapshots.give(&mut live);
    let count = scanned.history.count;
    let reached = live.reopen(features, &identity, scanned.history.series.as_slice(), count).unwrap();
    assert!(reached, "a snapshot reaches back far enough");
    (live, scanned.history)
}

/// Twice a revision that replays past a stored snapshot, and at once another of the newest bar.
#[test]
fn revisions_before_a_snapshot_leave_one_for_the_restart() {
    let nexts = |n: usize| std::iter::repeat_n(Act::Next { price: 7 }, n);
    let revised = |back| [Act::Older { back, price: 9 }, Act::Newest { price: 3 }];
    let acts =
        nexts(67).chain(revised(3)).chain(nexts(62)).chain(revised(1)).chain(nexts(20)).chain([Act::Restart]);
    check_disturbed(acts.collect()).unwrap();
}

proptest! {
    #[test]
    fn a_disturbed_stream_equals_an_undisturbed_one(acts in acts()) {
        check_disturbed(acts)?;
    }
}

fn check_disturbed(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let mut features = Averages::new();
    let mut live = empty_live();
    let mut history = History::new(key(), history::capacity_bars(3, WINDOW, KEEP));
    let mut all: Vec<Bar> = Vec::new();
    let mut stored: Vec<Stored> = Vec::new();
    let start = live.skip(&mut features, 0).unwrap();
    let mut next = 0u64;
    let mut first_snapshot = Some(start);
    for act in acts {
        let price = |p: u16| 1.0 + f64::from(p);
        let changed = match act {
            Act::Next { price: p } => {
                next += 1;
                bar(next, 0, true, price(p))
            }
            Act::Forming { price: p } => {
                next += 1;
                bar(next, 0, false, price(p))
            }
            Act::Newest { price: p } => {
                let Some(b) = all.last() else { continue };
                bar(next, b.revision + 1, true, price(p))
            }
            Act::Older { back, price: p } => {
                let Some(i) = all.len().checked_sub(1 + usize::from(back)) else { continue };
                bar(i as u64 + 1, all[i].revision + 1, true, price(p))
            }
            Act::LoseInstance => {
                features.rebuild().unwrap();
                live.lost();
                let count = history.count;
                prop_assert!(
                    live.reopen(&mut features, &identity, history.series.as_slice(), count).unwrap()
                );
                prop_assert_eq!(live.window().map(<[f32]>::to_vec), undisturbed(&all));
                continue;
            }
            Act::Restart => {
                if stored.is_empty() {
                    continue;
                }
                features = Averages::new();
                (live, history) = restarted(&stored, &mut features);
                prop_assert_eq!(live.window().map(<[f32]>::to_vec), undisturbed(&all));
                continue;
            }
        };
        let change = history.accept(changed.clone()).unwrap();
        match change {
            Change::Next => all.push(changed.clone()),
            Change::Newest => *all.last_mut().unwrap() = changed.clone(),
            Change::Older(index) => all[index as usize] = changed.clone(),
            Change::Nothing => continue,
        }
        stored.push(Stored::Bar(changed));
        stored.extend(first_snapshot.take().map(Stored::Snapshot));
        let (_, snapshots) =
            history::feed(&mut live, &mut features, &identity, &mut history, change).unwrap();
        stored.extend(snapshots.into_iter().map(Stored::Snapshot));
        prop_assert_eq!(live.window().map(<[f32]>::to_vec), undisturbed(&all));
        prop_assert_eq!(live.count(), all.len() as u64);
    }
    Ok(())
}

#[test]
fn warming_is_counted_from_the_start() {
    let mut features = Averages::new();
    let mut live = empty_live();
    live.open(&mut features).unwrap();
    for n in 1..=8 {
        let (fed, _) = live.push(&mut features, &identity, &bar(n, 0, true, 2.0)).unwrap();
        if n < 8 {
            assert_eq!(fed, Fed::Warming { have: n, need: 8 });
        } else {
            assert_eq!(fed, Fed::Ready);
        }
    }
    features.fails_in = Some(0);
    assert!(live.push(&mut features, &identity, &bar(9, 0, true, 2.0)).is_err());
    live.lost();
    let start = live.skip(&mut features, 9).unwrap();
    assert!(start.is_start() && live.fed() == Fed::Warming { have: 0, need: 8 });
    assert_eq!(Snapshot::decode(&start.encode()), Some(start));
    assert_eq!(Snapshot::decode(&[0; 15]), None);
}
