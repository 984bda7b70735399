//! The profile of the training rows, for [`super::shift`]: quantiles of each column, and how much its rows are worth.

use market::Timestamp;
use registry::profile::QUANTILES;
use registry::{ColumnProfile, Profile};

use super::blocking::Blocking;
use super::shift::{Ranks, effective_samples, sides};
use crate::dataset::Dataset;
use crate::normalise::training_rows;

/// Of more rows, every second time is left out, or every third and so on.
const ROWS_MAX: usize = 1 << 21;

/// Of the rows that the windows of the training samples hold, each once. The dataset is normalised.
pub fn profile(dataset: &Dataset, train: &[usize]) -> Profile {
    let places = training_rows(dataset, train);
    let time = |&(stream, bar): &(usize, usize)| dataset.streams[stream].open_times[bar];
    let mut rows: Vec<(Timestamp, &[f32])> =
        places.iter().map(|place| (time(place), dataset.row(place.0, place.1))).collect();
    rows.sort_by_key(|row| row.0);
    let mut streams: Vec<usize> = places.iter().map(|place| place.0).collect();
    streams.dedup();
    streams.sort_unstable();
    streams.dedup();
    of_rows(&rows, dataset.columns, streams.len())
}

/// Rows in order of time.
pub(super) fn of_rows(rows: &[(Timestamp, &[f32])], columns: usize, streams: usize) -> Profile {
    let steps: Vec<&[(Timestamp, &[f32])]> = rows.chunk_by(|a, b| a.0 == b.0).collect();
    let stride = rows.len().div_ceil(ROWS_MAX).max(1);
    let kept: Vec<&[(Timestamp, &[f32])]> = steps.iter().copied().step_by(stride).collect();
    Profile {
        streams: streams.max(1) as u32,
        steps: steps.len().max(1) as u64,
        columns: (0..columns).map(|column| of_column(&kept, column)).collect(),
    }
}

fn of_column(steps: &[&[(Timestamp, &[f32])]], column: usize) -> ColumnProfile {
    let mut values: Vec<f32> = steps.iter().flat_map(|step| step.iter().map(|row| row.1[column])).collect();
    values.sort_by(f32::total_cmp);
    let last = values.len().saturating_sub(1);
    let quantile = |i: usize| {
        let place = (i as f64 / (QUANTILES - 1) as f64 * last as f64).round() as usize;
        values.get(place).copied().unwrap_or(0.0)
    };
    let quantiles: Vec<f32> = (0..QUANTILES).map(quantile).collect();
    let ranks = Ranks::new(&quantiles);
    let mut slots = ranks.slots();
    let mut means: [_; 2] = Default::default();
    for step in steps {
        let mut sums = [0.0; 2];
        for row in *step {
            let (place, rank) = ranks.of(row.1[column]);
            slots.add(place, rank);
            sums.iter_mut().zip(sides(rank)).for_each(|(sum, x)| *sum += x);
        }
        means
            .iter_mut()
            .zip(sums)
            .for_each(|(means, sum): (&mut Blocking, f64)| means.push(sum / step.len() as f64));
    }
    ColumnProfile { effective_samples: effective_samples(&slots, &means), quantiles }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::autoregressive;

    fn fitted(values: &[f32], streams: usize) -> Profile {
        let rows: Vec<(Timestamp, &[f32])> =
            values.chunks(1).enumerate().map(|(i, row)| (Timestamp((i / streams) as i64), row)).collect();
        of_rows(&rows, 1, streams)
    }

    #[test]
    fn quantiles_are_values_at_equal_shares() {
        let values: Vec<f32> = (0..1001).map(|i| (i * 8 % 1001) as f32).collect();
        let profile = fitted(&values, 1);
        let quantiles = &profile.columns[0].quantiles;
        assert_eq!((quantiles[0], quantiles[50], quantiles[100]), (0.0, 500.0, 1000.0));
        assert_eq!((profile.steps, profile.streams, quantiles.len()), (1001, 1, QUANTILES));
    }

    /// Of an autoregression: n (1 − φ) / (1 + φ), for ranks a little more; never far above, and hardly half.
    #[test]
    fn effective_samples_count_what_rows_share() {
        for phi in [0.0, 0.9, 0.99] {
            let expected = 40_000.0 * (1.0 - phi) / (1.0 + phi);
            let mean = (0..10)
                .map(|seed| {
                    let values: Vec<f32> =
                        autoregressive(40_000, phi, seed).iter().map(|&x| x as f32).collect();
                    fitted(&values, 1).columns[0].effective_samples / expected / 10.0
                })
                .sum::<f64>();
            assert!((0.4..1.1).contains(&mean), "{phi}: {mean}");
        }
        // Two streams that are one and the same are worth one.
        let one: Vec<f32> = autoregressive(5000, 0.0, 3).iter().map(|&x| x as f32).collect();
        let twice: Vec<f32> = one.iter().flat_map(|&x| [x, x]).collect();
        let (alone, both) = (fitted(&one, 1), fitted(&twice, 2));
        let ratio = both.columns[0].effective_samples / alone.columns[0].effective_samples;
        assert!((0.99..1.01).contains(&ratio), "{ratio}");
    }
}
