use market::Bar;
use registry::{GapPolicy, LabelKind};

use super::*;
use crate::label::LabelRecipe;
use crate::split::{Cut, Split, SplitRecipe};
use crate::testing::{Returns, autoregressive, bars_of};

fn cut(bars: &[&[Bar]]) -> (Dataset, Split) {
    let label =
        LabelRecipe { kind: LabelKind::LogReturn, horizon_bars: 4, gaps: GapPolicy::Drop, dead_band: None };
    let dataset = Dataset::build(bars, &mut Returns::new(2), 5, &label).unwrap();
    let recipe = SplitRecipe { cut: Cut::Fractions { validation: 0.2, test: 0.2 }, embargo_bars: 2 };
    let split = recipe.split(&dataset.samples, dataset.timeframe).unwrap();
    (dataset, split)
}

#[test]
fn training_rows_get_mean_zero_and_scale_one() {
    let bars = bars_of("A", &autoregressive(300, 0.3, 1));
    let (mut dataset, split) = cut(&[&bars]);
    let normaliser = Normaliser::fit(&dataset, &split.train, None);
    dataset.normalise(&normaliser);
    let rows = training_rows(&dataset, &split.train);
    // Two rows of warm-up; the last training window ends at the last training sample.
    let last = dataset.samples[*split.train.last().unwrap()].end;
    assert_eq!(rows, (2..=last).map(|bar| (0, bar)).collect::<Vec<_>>());
    for column in 0..2 {
        let values = || rows.iter().map(|&(stream, bar)| f64::from(dataset.row(stream, bar)[column]));
        let mean = values().sum::<f64>() / rows.len() as f64;
        let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / rows.len() as f64;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
    }
    // The constant column becomes zero, not a blown-up rounding error.
    assert!(rows.iter().all(|&(stream, bar)| dataset.row(stream, bar)[2].abs() < 1e-6));
    assert_eq!(normaliser.scale[2], 1.0);
}

#[test]
fn later_bars_leave_every_constant_as_it_is() {
    let returns = autoregressive(300, 0.3, 1);
    let mut changed = returns.clone();
    let bars = [bars_of("A", &returns), bars_of("B", &autoregressive(250, 0.0, 2))];
    let (dataset, split) = cut(&[&bars[0], &bars[1]]);
    let first = split.times.validation;
    let from = bars[0].iter().position(|bar| bar.open_time >= first).unwrap();
    changed[from..].iter_mut().for_each(|r| *r = 5.0 * *r + 0.1);
    let (other, other_split) = cut(&[&bars_of("A", &changed), &bars[1]]);
    assert_eq!(split, other_split);
    assert_ne!(dataset.samples, other.samples, "the change must reach the later samples");

    let bits =
        |n: &Normaliser| [&n.mean, &n.scale].map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    let fit = |dataset, split: &Split| bits(&Normaliser::fit(dataset, &split.train, Some(10.0)));
    assert_eq!(fit(&dataset, &split), fit(&other, &other_split));
    let label = LabelScale::fit(&dataset.samples, &split.train);
    let other_label = LabelScale::fit(&other.samples, &other_split.train);
    assert_eq!(
        [label.mean, label.scale].map(f64::to_bits),
        [other_label.mean, other_label.scale].map(f64::to_bits)
    );
    // And an earlier bar does change them.
    let mut early = returns;
    early[from - 20] += 0.01;
    let (early, early_split) = cut(&[&bars_of("A", &early), &bars[1]]);
    assert_ne!(fit(&dataset, &split), fit(&early, &early_split));
}

#[test]
fn outliers_are_clipped_at_the_stated_deviation() {
    let normaliser = Normaliser { mean: vec![1.0, 0.0], scale: vec![2.0, 1.0], clip: Some(10.0) };
    let mut row = [1e9, -3.0];
    normaliser.apply(&mut row);
    assert_eq!(row, [10.0, -3.0]);
    let open = Normaliser { clip: None, ..normaliser.clone() };
    let mut row = [5.0, -1e9];
    open.apply(&mut row);
    assert_eq!(row, [2.0, -1e9]);
    assert_eq!(Normaliser::from_manifest(&normaliser.to_manifest()), normaliser);
}

#[test]
fn labels_go_there_and_back() {
    let scale = LabelScale { mean: 0.001, scale: 0.02 };
    assert!((scale.to_prediction(scale.to_output(0.5)) - 0.5).abs() < 1e-15);
    assert_eq!(deviation_or_one(0.0, 0.0), 1.0);
    assert_eq!(deviation_or_one(1e-20, 1e5), 1.0);
    assert_eq!(deviation_or_one(1e-8, 0.0), 1e-4);
}
