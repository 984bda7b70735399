use market::Symbol;
use registry::{GapPolicy, LabelKind};

use super::*;
use crate::testing::{Returns, autoregressive, bars_at, bars_of};

const NEXT_RETURN: LabelRecipe =
    LabelRecipe { kind: LabelKind::LogReturn, horizon_bars: 1, gaps: GapPolicy::Drop, dead_band: None };

fn build(bars: &[&[Bar]], lags: usize, window: usize) -> Result<Dataset, DatasetError> {
    Dataset::build(bars, &mut Returns::new(lags), window, &NEXT_RETURN)
}

#[test]
fn windows_are_the_rows_up_to_the_end_and_labels_follow() {
    let returns = autoregressive(10_000, 0.0, 1);
    let bars = bars_of("A", &returns);
    let (lags, window) = (2, 3);
    let dataset = build(&[&bars], lags, window).unwrap();
    // The first window ends lags + window − 1 bars in; the last bar has no label.
    let ends: Vec<usize> = dataset.samples.iter().map(|s| s.end).collect();
    assert_eq!(ends, (lags + window - 1..bars.len() - 1).collect::<Vec<_>>());
    for sample in &dataset.samples {
        let rows: Vec<&[f32]> = dataset.window_of(sample).chunks(dataset.columns).collect();
        assert_eq!(rows.len(), window);
        for (back, row) in rows.iter().rev().enumerate() {
            let t = sample.end - back;
            for (lag, &x) in row[..lags].iter().enumerate() {
                assert!((f64::from(x) - 100.0 * returns[t - lag]).abs() < 1e-5);
            }
        }
        assert!((sample.label - returns[sample.end + 1]).abs() < 1e-12);
        assert_eq!(sample.time, bars[sample.end].open_time);
        assert_eq!(sample.label_until, bars[sample.end + 1].open_time);
    }
}

#[test]
fn streams_keep_apart_and_samples_are_in_order_of_time() {
    let a = bars_of("A", &autoregressive(50, 0.0, 1));
    let b = bars_of("B", &autoregressive(40, 0.0, 2));
    let both = build(&[&a, &b], 2, 3).unwrap();
    let alone = build(&[&b], 2, 3).unwrap();
    let order: Vec<_> = both.samples.iter().map(|s| (s.time, s.stream)).collect();
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    let of_b: Vec<_> = both.samples.iter().filter(|s| s.stream == 1).collect();
    assert_eq!(of_b.len(), alone.samples.len());
    for (one, other) in of_b.iter().zip(&alone.samples) {
        assert_eq!(both.window_of(one), alone.window_of(other));
        assert_eq!(one.label.to_bits(), other.label.to_bits());
    }
}

#[test]
fn naive_lookback_delays_the_first_sample() {
    let bars = bars_of("A", &autoregressive(60, 0.0, 1));
    let label = LabelRecipe {
        kind: LabelKind::RealisedVolatility,
        horizon_bars: 24,
        gaps: GapPolicy::Drop,
        dead_band: None,
    };
    let dataset = Dataset::build(&[&bars], &mut Returns::new(1), 2, &label).unwrap();
    assert_eq!(dataset.samples[0].end, 24);
    assert_eq!(dataset.samples[dataset.samples.len() - 1].end, 60 - 24 - 1);
}

#[test]
fn a_gap_drops_the_labels_across_it() {
    let hours = [0, 1, 2, 3, 4, 5, 9, 10, 11, 12];
    let bars = bars_at(&hours.map(|hour| (hour, 100.0 + hour as f64)));
    let ends: Vec<usize> = build(&[&bars], 1, 1).unwrap().samples.iter().map(|s| s.end).collect();
    assert_eq!(ends, [1, 2, 3, 4, 6, 7, 8]);
}

#[test]
fn bad_input_is_named() {
    let good = bars_of("A", &autoregressive(50, 0.0, 1));
    let check = |edit: &dyn Fn(&mut Vec<Bar>), part: &str| {
        let mut bars = good.clone();
        edit(&mut bars);
        let message = build(&[&bars], 2, 3).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    check(&|bars| bars.swap(3, 4), "isn't after the bar before");
    check(&|bars| bars[5].open_time = bars[4].open_time, "isn't after the bar before");
    check(&|bars| bars[5].close = f64::NAN, "close is NaN");
    check(&|bars| bars[5].is_final = false, "still forming");
    check(&|bars| bars[5].key.symbol = Symbol::new("B").unwrap(), "another symbol");
    check(&|bars| bars.truncate(4), "no sample");
    check(&|bars| bars.clear(), "no bars");
    let mut daily = good.clone();
    daily.iter_mut().for_each(|bar| bar.key.timeframe = Timeframe::parse("1d").unwrap());
    assert_eq!(
        build(&[&good, &daily], 2, 3).unwrap_err(),
        DatasetError::Timeframes { first: good[0].key.timeframe, other: daily[0].key.timeframe }
    );
    assert!(matches!(build(&[&good], 2, 0), Err(DatasetError::Size { .. })));
}

#[test]
fn a_number_that_is_not_finite_after_the_warm_up_names_feature_and_bar() {
    let bars = bars_of("A", &autoregressive(50, 0.0, 1));
    let mut features = Returns::new(2);
    features.poison_after = 20;
    let error = Dataset::build(&[&bars], &mut features, 3, &NEXT_RETURN).unwrap_err();
    let expected = DatasetError::NotFinite {
        key: bars[0].key.clone(),
        name: "return_1".into(),
        open_time: bars[20].open_time,
    };
    assert_eq!(error, expected);
}

#[test]
fn the_digest_sees_every_number() {
    let bars = bars_of("A", &autoregressive(20, 0.0, 1));
    let digest = bars_digest(&[&bars]);
    assert_eq!(digest, bars_digest(&[&bars.clone()]));
    let edits: [fn(&mut Bar); 6] = [
        |bar| bar.open_time.0 += 1,
        |bar| bar.open += 1e-9,
        |bar| bar.high += 1e-9,
        |bar| bar.low += 1e-9,
        |bar| bar.close += 1e-9,
        |bar| bar.volume += 1e-9,
    ];
    for edit in edits {
        let mut other = bars.clone();
        edit(&mut other[7]);
        assert_ne!(bars_digest(&[&other]), digest);
    }
    assert_ne!(bars_digest(&[&bars[..10], &bars[10..]]), digest);
    assert_ne!(bars_digest(&[&bars_of("B", &autoregressive(20, 0.0, 1))]), digest);
}
