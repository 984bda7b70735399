//! Leaks that are planted on purpose: a check that doesn't catch each of them is no check.

use market::{Bar, Book, FeatureError, FeatureSpec, Features, StreamId, Text, Trade};

use super::Probe;
use super::future::{altered, difference};
use crate::assess::AssessError;
use crate::dataset::Dataset;
use crate::recipe::TrainingRecipe;

/// Bars after warm-up, window and horizon that leaks are planted in.
const BARS: usize = 1_500;

/// A column that knows what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leak {
    /// The return of the next bar.
    NextReturn,
    /// A mean of closes with the bar in its middle, as smoothing filters give.
    CentredMean,
    /// The close normalised by the mean of all bars, later ones too.
    WholeMean,
    /// The highest close of the next bars, noise added so that it looks harmless.
    NoisyHigh,
}

pub const LEAKS: [Leak; 4] = [Leak::NextReturn, Leak::CentredMean, Leak::WholeMean, Leak::NoisyHigh];

impl Leak {
    fn column(self, bars: &[Bar], at: usize) -> f32 {
        let close = |i: usize| bars[i.min(bars.len() - 1)].close;
        let x = match self {
            Leak::NextReturn => (close(at + 1) / close(at)).ln(),
            Leak::CentredMean => {
                let from = at.saturating_sub(2);
                let mean = (from..=at + 2).map(close).sum::<f64>() / (at + 3 - from) as f64;
                mean / close(at) - 1.0
            }
            Leak::WholeMean => {
                close(at) / (bars.iter().map(|b| b.close).sum::<f64>() / bars.len() as f64) - 1.0
            }
            Leak::NoisyHigh => {
                let high = (at + 1..=at + 5).map(close).fold(0.0, f64::max);
                0.1 * (high / close(at)).ln() + 0.01 * ((at as f64 * 12.9898).sin() * 43_758.545).fract()
            }
        };
        x as f32
    }
}

/// A feature source with a leak as its last column, over bars that come in one call.
pub struct Leaky<'a> {
    inner: &'a mut dyn Features,
    spec: FeatureSpec,
    leak: Leak,
}

impl<'a> Leaky<'a> {
    pub fn new(inner: &'a mut dyn Features, leak: Leak) -> Leaky<'a> {
        let mut spec = inner.spec().clone();
        spec.names.push("leak".into());
        Leaky { inner, spec, leak }
    }
}

impl Features for Leaky<'_> {
    fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    fn open(&mut self) -> Result<StreamId, FeatureError> {
        self.inner.open()
    }

    fn restore(&mut self, state: &[u8]) -> Result<StreamId, FeatureError> {
        self.inner.restore(state)
    }

    fn snapshot(&mut self, stream: StreamId) -> Result<Vec<u8>, FeatureError> {
        self.inner.snapshot(stream)
    }

    fn close(&mut self, stream: StreamId) {
        self.inner.close(stream);
    }

    fn on_bar(&mut self, stream: StreamId, bar: &Bar, row: &mut Vec<f32>) -> Result<(), FeatureError> {
        self.inner.on_bar(stream, bar, row)?;
        row.push(self.leak.column(std::slice::from_ref(bar), 0));
        Ok(())
    }

    fn on_bars(&mut self, stream: StreamId, bars: &[Bar], rows: &mut Vec<f32>) -> Result<(), FeatureError> {
        let mut plain = Vec::new();
        self.inner.on_bars(stream, bars, &mut plain)?;
        let columns = self.spec.names.len() - 1;
        for (at, row) in plain.chunks(columns.max(1)).take(bars.len()).enumerate() {
            rows.extend_from_slice(row);
            rows.push(self.leak.column(bars, at));
        }
        Ok(())
    }

    fn on_trade(&mut self, stream: StreamId, trade: &Trade) -> Result<(), FeatureError> {
        self.inner.on_trade(stream, trade)
    }

    fn on_book(&mut self, stream: StreamId, book: &Book) -> Result<(), FeatureError> {
        self.inner.on_book(stream, book)
    }

    fn on_text(&mut self, stream: StreamId, text: &Text) -> Result<(), FeatureError> {
        self.inner.on_text(stream, text)
    }

    fn rebuild(&mut self) -> Result<(), FeatureError> {
        self.inner.rebuild()
    }
}

/// Plants each leak in the first stream and looks whether the comparison of bits catches it.
pub(crate) fn planted(
    bars: &[&[Bar]],
    features: &mut dyn Features,
    recipe: &TrainingRecipe,
    seed: u64,
) -> Result<Probe, AssessError> {
    let needed =
        features.spec().warmup + recipe.window as usize + 2 * recipe.label.horizon_bars as usize + BARS;
    let bars = &bars[0][..bars[0].len().min(needed)];
    // Not at the end of what a source gets in one call: there the next bar isn't known to it.
    let at = bars.len() - bars.len() / 4;
    let cut = bars[if at % 4096 == 4095 { at - 1 } else { at }.min(bars.len() - 1)].open_time;
    let changed = altered(&[bars], cut, seed);
    let mut missed = Vec::new();
    for leak in LEAKS {
        let mut leaky = Leaky::new(&mut *features, leak);
        let mut build =
            |bars: &[Bar]| Dataset::build(&[bars], &mut leaky, recipe.window as usize, &recipe.label);
        let (one, two) = (build(bars)?, build(&changed[0])?);
        if difference(&one, &two, cut).is_none() {
            missed.push(format!("{leak:?}"));
        }
    }
    let says = match missed.is_empty() {
        true => format!("{0} of {0} planted leaks caught", LEAKS.len()),
        false => format!("not caught: {}", missed.join(", ")),
    };
    Ok(Probe::new("planted leak", missed.is_empty(), says))
}
