use std::collections::BTreeMap;

use market::{Book, FeatureErrorKind, FeatureSpec, Text, Trade};

use super::*;

/// How a source breaks the rules.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Peeks,
    /// Scales by the batch's last close, as a normaliser fitted on the whole batch would.
    FitsOnBatch,
    SharesState,
    Forgets,
    SnapshotDisturbs,
    RebuildDiffers,
    BatchRounds,
    NotFinite,
    Fails,
}

struct Source {
    fault: Fault,
    spec: FeatureSpec,
    /// Bars seen and the mean of their closes.
    streams: BTreeMap<usize, (u32, f64)>,
    shared: f64,
    builds: u32,
    next: usize,
}

fn source(fault: Fault) -> Source {
    let spec = FeatureSpec {
        plugin: "native@1.0.0".into(),
        digest: String::new(),
        names: vec!["close".into(), "mean".into()],
        warmup: 2,
        wants_bars: true,
        wants_trades: false,
        wants_books: false,
        wants_texts: false,
        peers: 0,
    };
    Source { fault, spec, streams: BTreeMap::new(), shared: 0.0, builds: 0, next: 0 }
}

impl Source {
    fn row(&mut self, stream: StreamId, bar: &Bar, scale: f64) -> [f32; 2] {
        let (seen, mean) = self.streams.get_mut(&stream.0).expect("open");
        *seen += 1;
        let rate = if self.fault == Fault::RebuildDiffers && self.builds > 0 { 0.2 } else { 0.1 };
        *mean += rate * (bar.close - *mean);
        if self.fault == Fault::SharesState {
            self.shared += 0.1 * (bar.close - self.shared);
            *mean = self.shared;
        }
        let close = if *seen <= self.spec.warmup as u32 { f32::NAN } else { (bar.close * scale) as f32 };
        let late = self.fault == Fault::NotFinite && *seen == 3;
        [close, if late { f32::INFINITY } else { *mean as f32 }]
    }
}

impl Features for Source {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }
    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.next += 1;
        self.streams.insert(self.next, (0, 0.0));
        Ok(StreamId(self.next))
    }
    fn restore(&mut self, state: &[u8]) -> Result<StreamId, FeatureError> {
        let stream = self.open()?;
        let seen = u32::from_le_bytes(state[..4].try_into().expect("4 bytes"));
        let mean = f64::from_le_bytes(state[4..].try_into().expect("8 bytes"));
        let mean = if self.fault == Fault::Forgets { 0.0 } else { mean };
        self.streams.insert(stream.0, (seen, mean));
        Ok(stream)
    }
    fn snapshot(&mut self, stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        let (seen, mean) = self.streams.get_mut(&stream.0).expect("open");
        let state = seen.to_le_bytes().into_iter().chain(mean.to_le_bytes()).collect();
        if self.fault == Fault::SnapshotDisturbs {
            *mean += 1.0;
        }
        Ok(state)
    }
    fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream.0);
    }
    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        if self.fault == Fault::Fails {
            let message = "no".to_string();
            return Err(FeatureError {
                kind: FeatureErrorKind::Refused,
                plugin: "native".into(),
                place: None,
                message,
            });
        }
        *row = self.row(stream, bar, 1.0).to_vec();
        Ok(())
    }
    fn on_bars(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        for (i, bar) in bars.iter().enumerate() {
            let mut row = match self.fault {
                Fault::Peeks => self.row(stream, bars.get(i + 1).unwrap_or(bar), 1.0),
                Fault::FitsOnBatch => self.row(stream, bar, bars[bars.len() - 1].close),
                _ => self.row(stream, bar, 1.0),
            };
            if self.fault == Fault::BatchRounds {
                row[1] = f32::from_bits(row[1].to_bits() ^ 1);
            }
            rows.extend(row);
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
        self.builds += 1;
        Ok(())
    }
}

fn caught(fault: Fault) -> (Check, String) {
    match check_causality(&mut source(fault), &synthetic_bars(3, 200), 11, 5) {
        Err(CausalityError::Differs { check, column, .. }) => (check, column),
        other => panic!("not caught: {other:?}"),
    }
}

#[test]
fn an_honest_source_passes_and_leaves_no_stream_open() {
    for seed in 0..20 {
        let mut honest = source(Fault::None);
        check_causality(&mut honest, &synthetic_bars(seed, 150), seed, 3).expect("honest");
        assert!(honest.streams.is_empty());
    }
    check_synthetic(&mut source(Fault::None)).expect("honest");
}

#[test]
fn each_fault_is_caught_by_its_check() {
    assert_eq!(caught(Fault::Peeks).0, Check::LookAhead);
    assert_eq!(caught(Fault::FitsOnBatch), (Check::LookAhead, "close".into()));
    assert_eq!(caught(Fault::BatchRounds), (Check::Batch, "mean".into()));
    assert_eq!(caught(Fault::Forgets), (Check::Snapshot, "mean".into()));
    assert_eq!(caught(Fault::SnapshotDisturbs), (Check::Snapshot, "mean".into()));
    assert_eq!(caught(Fault::NotFinite), (Check::Finite, "mean".into()));
    assert_eq!(caught(Fault::RebuildDiffers), (Check::Rebuild, "mean".into()));
    assert_eq!(caught(Fault::SharesState).1, "mean");
}

#[test]
fn the_error_says_where_and_what() {
    let error = check_synthetic(&mut source(Fault::Peeks)).expect_err("peeks").to_string();
    assert!(
        error.starts_with("plugin native@1.0.0: it looks ahead: the row changes when only later bars do"),
        "{error}"
    );
    assert!(error.contains("(column close, bar ") || error.contains("(column mean, bar "), "{error}");
    assert!(error.contains("before, ") && error.contains("bits "), "{error}");
    let error = check_synthetic(&mut source(Fault::Fails)).expect_err("fails").to_string();
    assert_eq!(error, "plugin native: no (while checking: Plain)");
}

#[test]
fn it_needs_bars_beyond_the_warmup() {
    let error = check_causality(&mut source(Fault::None), &synthetic_bars(1, 33), 1, 1);
    assert_eq!(error, Err(CausalityError::TooFewBars { bars: 33, needed: 34 }));
}
