//! Bars, a feature source, models and a recipe for tests.

use graph::{Builder, Graph, Initial, Keep, Shape};
use market::{
    Bar, Book, FeatureError, FeatureErrorKind, FeatureSpec, Features, StreamId, StreamKey, Symbol, Text,
    Timeframe, Timestamp, Trade,
};

use registry::{GapPolicy, LabelKind};

use crate::random::Random;
use crate::{
    BootstrapSettings, CalibrationCut, Cut, DataRecipe, LabelRecipe, OutputRecipe, PluginUse, SplitRecipe,
    TrainingRecipe, TrainingSettings,
};

pub const HOUR_NS: i64 = 3_600_000_000_000;

pub fn key(symbol: &str) -> StreamKey {
    StreamKey { symbol: Symbol::new(symbol).unwrap(), timeframe: Timeframe::parse("1h").unwrap() }
}

/// Hourly bars at (hour, close).
pub fn bars_at(closes: &[(i64, f64)]) -> Vec<Bar> {
    let bar = |&(hour, close): &(i64, f64)| Bar {
        key: key("TEST"),
        open_time: Timestamp(hour * HOUR_NS),
        open: close,
        high: close,
        low: close,
        close,
        volume: 1.0,
        is_final: true,
        revision: 0,
    };
    closes.iter().map(bar).collect()
}

/// Gapless hourly bars of these log returns.
pub fn bars_of(symbol: &str, returns: &[f64]) -> Vec<Bar> {
    let mut price = 100.0;
    let closes: Vec<(i64, f64)> = returns
        .iter()
        .enumerate()
        .map(|(hour, r)| {
            price *= f64::exp(*r);
            (hour as i64, price)
        })
        .collect();
    let mut bars = bars_at(&closes);
    bars.iter_mut().for_each(|bar| bar.key = key(symbol));
    bars
}

/// r\[t\] = phi · r\[t−1\] + noise of 1 %: phi 0 is a random walk.
pub fn autoregressive(count: usize, phi: f64, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut last = 0.0;
    (0..count)
        .map(|_| {
            last = phi * last + 0.01 * random.normal();
            last
        })
        .collect()
}

/// The newest log returns at lags 1 to `lags`, in percent, and a constant; the first `lags` rows are NaN.
pub struct Returns {
    spec: FeatureSpec,
    lags: usize,
    streams: Vec<Vec<f64>>,
    /// Rows of the stream after which `on_bar` gives NaN.
    pub poison_after: usize,
}

impl Returns {
    pub fn new(lags: usize) -> Self {
        let mut names: Vec<String> = (1..=lags).map(|lag| format!("return_{lag}")).collect();
        names.push("constant".into());
        let spec = FeatureSpec {
            plugin: "returns@0.1.0".into(),
            digest: registry::sha256_hex(b"returns"),
            names,
            warmup: lags,
            wants_bars: true,
            wants_trades: false,
            wants_books: false,
            wants_texts: false,
            peers: 0,
        };
        Returns { spec, lags, streams: Vec::new(), poison_after: usize::MAX }
    }

    fn refused(&self) -> FeatureError {
        FeatureError {
            kind: FeatureErrorKind::Refused,
            plugin: self.spec.plugin.clone(),
            place: None,
            message: "not in this test".into(),
        }
    }
}

impl Features for Returns {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.streams.push(Vec::new());
        Ok(StreamId(self.streams.len() - 1))
    }

    fn restore(&mut self, _state: &[u8]) -> Result<StreamId, FeatureError> {
        Err(self.refused())
    }

    fn snapshot(&mut self, _stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        Err(self.refused())
    }

    fn close(&mut self, _stream: StreamId) {}

    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        row.clear();
        let closes = &mut self.streams[stream.0];
        closes.push(bar.close);
        let count = closes.len();
        for lag in 1..=self.lags {
            let known = count > self.lags && count <= self.poison_after;
            row.push(if known {
                100.0 * (closes[count - lag] / closes[count - lag - 1]).ln() as f32
            } else {
                f32::NAN
            });
        }
        row.push(0.1);
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

    fn on_trade(&mut self, _stream: StreamId, _trade: &Trade) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn on_book(&mut self, _stream: StreamId, _book: &Book) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn on_text(&mut self, _stream: StreamId, _text: &Text) -> Result<(), FeatureError> {
        Err(self.refused())
    }

    fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.streams.clear();
        Ok(())
    }
}

/// prediction = dropout(newest row) · w + b.
pub fn linear_model(window: usize, columns: usize, dropout: f32) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, columns])).unwrap();
    let newest = builder.slice(x, 1, window - 1, window).unwrap();
    let newest = builder.reshape(newest, Shape::batch(&[columns])).unwrap();
    let kept = if dropout > 0.0 { builder.dropout(newest, dropout).unwrap() } else { newest };
    let w = builder.state("w", Shape::fixed(&[columns, 1]), Initial::Glorot, true).unwrap();
    let b = builder.state("b", Shape::fixed(&[1]), Initial::Zeros, true).unwrap();
    let y = builder.matmul(kept, w, false, false).unwrap();
    let y = builder.add(y, b).unwrap();
    builder.output("prediction", y).unwrap();
    builder.finish().unwrap()
}

/// prediction = newest row · w + b, of so many numbers.
pub fn linear_head(window: usize, columns: usize, outputs: usize) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, columns])).unwrap();
    let newest = builder.slice(x, 1, window - 1, window).unwrap();
    let newest = builder.reshape(newest, Shape::batch(&[columns])).unwrap();
    let w = builder.state("w", Shape::fixed(&[columns, outputs]), Initial::Glorot, true).unwrap();
    let b = builder.state("b", Shape::fixed(&[outputs]), Initial::Zeros, true).unwrap();
    let y = builder.matmul(newest, w, false, false).unwrap();
    let y = builder.add(y, b).unwrap();
    builder.output("prediction", y).unwrap();
    builder.finish().unwrap()
}

/// Whether many repetitions are asked for.
pub fn full_counts() -> bool {
    std::env::var("TEST_COUNTS").is_ok_and(|counts| counts == "full")
}

/// prediction = last state of an LSTM · w + b.
pub fn lstm_model(window: usize, columns: usize, hidden: usize, dropout: f32) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, columns])).unwrap();
    let wide = 4 * hidden;
    let w = builder.state("lstm.w", Shape::fixed(&[columns, wide]), Initial::Glorot, true).unwrap();
    let u = builder.state("lstm.u", Shape::fixed(&[hidden, wide]), Initial::Glorot, true).unwrap();
    let b = builder.state("lstm.b", Shape::fixed(&[wide]), Initial::LstmBias, true).unwrap();
    let h = builder.lstm(x, w, u, b, Keep::Last).unwrap();
    let h = if dropout > 0.0 { builder.dropout(h, dropout).unwrap() } else { h };
    let w = builder.state("head.w", Shape::fixed(&[hidden, 1]), Initial::Glorot, true).unwrap();
    let b = builder.state("head.b", Shape::fixed(&[1]), Initial::Zeros, true).unwrap();
    let y = builder.matmul(h, w, false, false).unwrap();
    let y = builder.add(y, b).unwrap();
    builder.output("prediction", y).unwrap();
    builder.finish().unwrap()
}

/// A small recipe for the features of [`Returns`].
pub fn recipe(window: u32, symbols: &[&str]) -> TrainingRecipe {
    let plugin = |name: &str, digest: &[u8]| PluginUse {
        plugin: format!("{name}@0.1.0"),
        digest: registry::sha256_hex(digest),
        options: "{}".into(),
    };
    TrainingRecipe {
        name: "small".into(),
        architecture: plugin("linear", b"linear"),
        features: plugin("returns", b"returns"),
        data: DataRecipe {
            description: "made up".into(),
            symbols: symbols.iter().map(|symbol| Symbol::new(symbol).unwrap()).collect(),
            timeframe: Timeframe::parse("1h").unwrap(),
            pinned: None,
        },
        window,
        label: LabelRecipe {
            kind: LabelKind::LogReturn,
            horizon_bars: 1,
            gaps: GapPolicy::Drop,
            dead_band: None,
        },
        output: OutputRecipe { calibration: CalibrationCut::None, ..OutputRecipe::default() },
        split: SplitRecipe { cut: Cut::Fractions { validation: 0.2, test: 0.3 }, embargo_bars: 2 },
        clip: Some(10.0),
        training: TrainingSettings {
            batch: 32,
            epochs_max: 10,
            patience: 10,
            learning_rate: 0.03,
            warmup_steps: 5,
            ..Default::default()
        },
        bootstrap: BootstrapSettings { resamples: 300, ..Default::default() },
        trials: 1,
        device_tolerance: 1e-4,
    }
}
