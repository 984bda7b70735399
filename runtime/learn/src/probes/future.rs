//! Whether anything at or before a time depends on bars after it.
//!
//! The comparison is of bits, so a dependence of any size shows. The features of every bar, the fold's constants, the
//! forecasts of the baselines (but the boosted trees, which get the ridge regression's inputs) and those of the model
//! are compared.

use market::{Bar, Features, Timestamp};

use super::Probe;
use crate::assess::fold::{FoldData, Samples, predict, simple};
use crate::assess::{AssessError, Run, Subject};
use crate::dataset::Dataset;
use crate::random::Random;

pub(crate) const NAME: &str = "future";
/// Forecasts of the model that are made twice.
const FORECASTS_MAX: usize = 512;

/// Cuts a third into the last fold's test part.
pub(crate) fn future(
    subject: &Subject<'_>,
    samples: &Samples,
    run: &Run,
    bars: &[&[Bar]],
    features: &mut dyn Features,
    seed: u64,
) -> Result<Probe, AssessError> {
    let last = &run.last;
    let test = &last.split.test;
    let cut = last.dataset.samples[test[test.len() / 3]].time;
    let changed = altered(bars, cut, seed);
    let changed: Vec<&[Bar]> = changed.iter().map(Vec::as_slice).collect();
    let other = Samples::build(subject.recipe, subject.walk, &changed, features)?;
    if let Some(place) = difference(&samples.dataset, &other.dataset, cut) {
        let name = &samples.feature_names[place.column];
        let says = format!("feature {name} of {} depends on later bars", place.time);
        return Ok(Probe::new(NAME, false, says));
    }
    let data = FoldData::of(&other, last.fold, subject.recipe);
    if data.normaliser != last.normaliser || data.label != last.label || data.floor != last.floor {
        return Ok(Probe::new(NAME, false, "the fold's constants depend on its test part".into()));
    }
    let known = test.iter().take_while(|&&i| last.dataset.samples[i].time <= cut).count();
    let before = simple(samples, last, false)?;
    let after = simple(&other, &data, false)?;
    let bits = |forecasts: &[f64]| forecasts.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (one, two) in before.iter().zip(&after) {
        if one.name != two.name || bits(&one.forecasts[..known]) != bits(&two.forecasts[..known]) {
            return Ok(Probe::new(NAME, false, format!("forecasts of {} depend on later bars", one.name)));
        }
    }
    let asked = &test[known.saturating_sub(FORECASTS_MAX)..known];
    let before = predict(&run.last_model, last, asked, subject.executor)?;
    let after = predict(&run.last_model, &data, asked, subject.executor)?;
    if bits(&before) != bits(&after) {
        return Ok(Probe::new(NAME, false, "forecasts of the model depend on later bars".into()));
    }
    let says = format!(
        "all bars after {cut} changed: {} forecasts and all features before keep their bits",
        asked.len()
    );
    Ok(Probe::new(NAME, true, says))
}

/// The bars with other prices and volumes after `cut`, at the same times.
pub(crate) fn altered(bars: &[&[Bar]], cut: Timestamp, seed: u64) -> Vec<Vec<Bar>> {
    let one = |(stream, bars): (usize, &&[Bar])| {
        let mut random = Random::derived(seed, stream as u64);
        let mut log_factor = 0.1;
        let change = |bar: &Bar| {
            if bar.open_time <= cut {
                return bar.clone();
            }
            log_factor = 0.999 * log_factor + 0.01 * random.normal();
            let factor = f64::exp(log_factor);
            Bar {
                open: bar.open * factor,
                high: bar.high * factor,
                low: bar.low * factor,
                close: bar.close * factor,
                volume: bar.volume * (0.5 + random.uniform()) + 1.0,
                ..bar.clone()
            }
        };
        bars.iter().map(change).collect()
    };
    bars.iter().enumerate().map(one).collect()
}

pub(crate) struct Place {
    pub time: Timestamp,
    pub column: usize,
}

/// The first feature up to `cut` that differs in its bits.
pub(crate) fn difference(one: &Dataset, two: &Dataset, cut: Timestamp) -> Option<Place> {
    for (stream, held) in one.streams.iter().enumerate() {
        for (bar, &time) in held.open_times.iter().enumerate().take_while(|(_, time)| **time <= cut) {
            let pairs = one.row(stream, bar).iter().zip(two.row(stream, bar));
            let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
            if let Some(column) = pairs.map(differs).position(|differs| differs) {
                return Some(Place { time, column });
            }
        }
    }
    None
}
