use super::*;
use crate::random::Random;
use crate::testing::{HOUR_NS, autoregressive};

fn context(horizon_bars: u32, seed: u64) -> Context {
    Context {
        label: LabelKind::LogReturn,
        horizon_bars,
        naive_train_mae: 0.008,
        ridge_lambda: 0.1,
        bootstrap: BootstrapSettings { seed, ..Default::default() },
    }
}

/// Forecasts `phi_model · r[t]` of r[t+1] in a world of `phi`.
fn world(phi: f64, phi_model: f64, seed: u64) -> Forecasts {
    let returns = autoregressive(1500, phi, seed);
    let forecast = |phi: f64| returns[..1499].iter().map(|r| phi * r).collect::<Vec<_>>();
    Forecasts {
        times: (0..1499).map(|hour| Timestamp(hour * HOUR_NS)).collect(),
        labels: returns[1..].to_vec(),
        model: forecast(phi_model),
        naive: vec![0.0; 1499],
        ridge: forecast(phi_model / 2.0),
    }
}

#[test]
fn the_table_matches_direct_formulas() {
    let forecasts = world(0.3, 0.25, 1);
    let m = evaluate(&forecasts, &context(1, 1)).unwrap().metrics;
    let n = forecasts.labels.len() as f64;
    let mse = |forecast: &[f64]| {
        forecasts.labels.iter().zip(forecast).map(|(y, p)| (y - p).powi(2)).sum::<f64>() / n
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs().max(1e-3), "{a} {b}");
    close(m.model.rmse, mse(&forecasts.model).sqrt());
    close(m.naive.rmse, mse(&forecasts.naive).sqrt());
    close(m.model.skill.unwrap().value, 1.0 - mse(&forecasts.model) / mse(&forecasts.naive));
    close(m.model.skill_vs_ridge.unwrap().value, 1.0 - mse(&forecasts.model) / mse(&forecasts.ridge));
    let mae = forecasts.labels.iter().zip(&forecasts.model).map(|(y, p)| (y - p).abs()).sum::<f64>() / n;
    close(m.model.mae, mae);
    close(m.model.mase, mae / 0.008);
    let hits = forecasts.labels.iter().zip(&forecasts.model).filter(|(y, p)| *y * *p > 0.0).count() as f64;
    close(m.model.directional_accuracy.unwrap().value, hits / n);
    let (mp, my) = (forecasts.model.iter().sum::<f64>() / n, forecasts.labels.iter().sum::<f64>() / n);
    let product = |f: &dyn Fn(f64, f64) -> f64| {
        forecasts.model.iter().zip(&forecasts.labels).map(|(p, y)| f(p - mp, y - my)).sum::<f64>()
    };
    close(
        m.model.ic.unwrap().value,
        product(&|p, y| p * y) / (product(&|p, _| p * p) * product(&|_, y| y * y)).sqrt(),
    );
    let ups = forecasts.labels.iter().filter(|y| **y > 0.0).count() as f64 / n;
    close(m.majority_rate, ups.max(1.0 - ups));
    assert_eq!((m.naive.skill, m.naive.ic, m.ridge.skill_vs_ridge), (None, None, None));
}

#[test]
fn ranks_see_through_a_monotone_bend() {
    let mut forecasts = world(0.0, 1.0, 2);
    forecasts.model = forecasts.labels.iter().map(|y| (100.0 * y).exp()).collect();
    let m = evaluate(&forecasts, &context(1, 1)).unwrap().metrics;
    assert!((m.model.rank_ic.unwrap().value - 1.0).abs() < 1e-9);
    assert!(m.model.ic.unwrap().value < 0.99);
    assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
}

#[test]
fn a_true_signal_is_seen_and_its_absence_too() {
    for seed in 0..8 {
        let real = evaluate(&world(0.3, 0.3, 100 + seed), &context(1, seed)).unwrap();
        assert_eq!(real.verdict(), Verdict::Skill, "{real}");
        assert!(real.metrics.model.ic.unwrap().low > 0.0 && real.metrics.model.rank_ic.unwrap().low > 0.0);
        let noise = evaluate(&world(0.0, 0.3, 200 + seed), &context(1, seed)).unwrap();
        assert_ne!(noise.verdict(), Verdict::Skill, "{noise}");
    }
}

/// A forecast made of noise: the interval of its correlation holds the true 0 about as often as it says.
#[test]
fn the_interval_of_a_correlation_covers_the_truth() {
    let inside = (0..100u64).filter(|&seed| {
        let mut forecasts = world(0.0, 0.0, 300 + seed);
        let mut random = Random::new(seed);
        forecasts.model.iter_mut().for_each(|p| *p = random.normal());
        let ic = evaluate(&forecasts, &context(1, seed)).unwrap().metrics.model.ic.unwrap();
        ic.low <= 0.0 && 0.0 <= ic.high
    });
    let share = inside.count() as f64 / 100.0;
    assert!((0.87..=1.0).contains(&share), "{share}");
}

#[test]
fn streams_of_one_time_are_resampled_together() {
    let one = world(0.2, 0.2, 5);
    let twice = |v: &Vec<f64>| v.iter().flat_map(|&x| [x, x]).collect::<Vec<_>>();
    let both = Forecasts {
        times: one.times.iter().flat_map(|&t| [t, t]).collect(),
        labels: twice(&one.labels),
        model: twice(&one.model),
        naive: twice(&one.naive),
        ridge: twice(&one.ridge),
    };
    let alone = evaluate(&one, &context(1, 1)).unwrap().metrics.model.skill.unwrap();
    let together = evaluate(&both, &context(1, 1)).unwrap().metrics.model.skill.unwrap();
    // A second symbol that only repeats the first adds no evidence.
    assert!((alone.low - together.low).abs() < 1e-9 && (alone.high - together.high).abs() < 1e-9);
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let forecasts = world(0.0, 0.1, 1);
    let edited = |edit: &dyn Fn(&mut Forecasts)| {
        let mut forecasts = forecasts.clone();
        edit(&mut forecasts);
        evaluate(&forecasts, &context(1, 1)).unwrap_err()
    };
    assert!(matches!(edited(&|f| f.model[3] = f64::NAN), EvaluateError::NotFinite { name: "model", .. }));
    assert!(matches!(edited(&|f| f.ridge.truncate(5)), EvaluateError::Lengths { name: "ridge", .. }));
    assert_eq!(edited(&|f| f.times.swap(0, 9)), EvaluateError::Order);
    assert!(matches!(edited(&|f| *f = Forecasts::default()), EvaluateError::TooFew { steps: 0, .. }));
    let long = evaluate(&forecasts, &context(600, 1)).unwrap_err();
    assert_eq!(long, EvaluateError::TooFew { steps: 1499, needed: 1800 });
}

#[test]
fn the_text_says_what_was_shown_and_json_keeps_it() {
    let good = evaluate(&world(0.3, 0.3, 1), &context(1, 1)).unwrap();
    let text = good.to_string();
    for part in [
        "log_return over 1 bars",
        "skill vs naive",
        "ridge",
        "commoner direction",
        "95 % intervals",
        "above 0",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let bad = evaluate(&world(0.0, 0.02, 4), &context(1, 1)).unwrap();
    assert!(bad.to_string().contains("no skill shown: the interval includes 0"), "{bad}");
    let worse = evaluate(&world(0.0, 3.0, 4), &context(1, 1)).unwrap();
    assert!(worse.to_string().contains("worse than naive"), "{worse}");
    let json = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), good);
}
