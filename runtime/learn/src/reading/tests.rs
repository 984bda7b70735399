use registry::GapPolicy;

use super::*;

const LEVEL: f64 = 0.9;

fn reading(kind: LabelKind, output: Output, dead_band: Option<f64>) -> Reading {
    let label = LabelRecipe { kind, horizon_bars: 12, gaps: GapPolicy::Drop, dead_band };
    Reading::new(label, output, LabelScale { mean: 0.02, scale: 0.01 }, LEVEL, 1.5)
}

fn quantiles() -> Output {
    Output::Quantiles { levels: vec![0.05, 0.25, 0.5, 0.75, 0.95] }
}

/// An interval holds exactly what has at most its score.
#[test]
fn intervals_hold_what_their_score_allows() {
    let values = [0.01f32, 0.015, 0.02, 0.03, 0.05];
    for kind in [LabelKind::LogReturn, LabelKind::RealisedVolatility] {
        for (output, values) in [(Output::Point, &values[2..3]), (quantiles(), &values[..])] {
            let reading = reading(kind, output, None);
            for y in [1e-9, 1e-4, 0.005, 0.01, 0.019, 0.02, 0.04, 0.06, 1.0] {
                let score = reading.score(values, y);
                for (allowed, inside) in [(score + 1e-9, true), (score - 1e-9, false)] {
                    let (low, high) = reading.interval(values, allowed);
                    assert!(low <= high);
                    // A score below the narrowest interval's gives that one point.
                    let collapsed = high - low < 1e-6;
                    assert!((low <= y && y <= high) == inside || collapsed, "{kind:?} {y}: {low} {high}");
                }
            }
        }
    }
}

#[test]
fn a_volatility_interval_never_goes_below_zero_and_reaches_it_at_the_floor() {
    let reading = reading(LabelKind::RealisedVolatility, Output::Point, None);
    let (low, high) = reading.interval(&[0.02], 2.0f64.ln());
    assert!((low - 0.01).abs() < 1e-9 && (high - 0.04).abs() < 1e-9, "{low} {high}");
    assert_eq!(reading.interval(&[0.02], 20.0).0, 0.0);
    let (low, high) = reading.interval(&[-0.5], 0.1);
    assert!(
        low == 0.0 && high > 0.0 && high < 0.001,
        "a negative forecast counts as the floor: {low} {high}"
    );
}

#[test]
fn a_class_interval_is_the_hull_of_the_classes_inside() {
    let two = reading(LabelKind::Direction, Output::Probabilities, None);
    assert_eq!(two.interval(&[0.3, 0.7], 0.35), (1.0, 1.0));
    assert_eq!(two.interval(&[0.3, 0.7], 0.75), (-1.0, 1.0));
    assert_eq!(two.interval(&[0.3, 0.7], 0.1), (1.0, 1.0), "never empty");
    let three = reading(LabelKind::Direction, Output::Probabilities, Some(0.001));
    assert_eq!(three.interval(&[0.1, 0.3, 0.6], 0.75), (0.0, 1.0));
    assert_eq!(three.score(&[0.25, 0.25, 0.5], 0.0), 0.75);
    assert_eq!(three.class(&[0.25, 0.5, 0.25]), Some(("flat", 0.5)));
}

#[test]
fn right_is_what_the_table_says() {
    let log_return = reading(LabelKind::LogReturn, Output::Point, None);
    assert!(log_return.is_right(&[0.1], 0.2) && log_return.is_right(&[-0.1], -0.2));
    assert!(!log_return.is_right(&[0.1], -0.2) && !log_return.is_right(&[0.1], 0.0));
    let volatility = reading(LabelKind::RealisedVolatility, Output::Point, None);
    assert!(volatility.is_right(&[0.02], 0.0299) && volatility.is_right(&[0.02], 0.0134));
    assert!(!volatility.is_right(&[0.02], 0.031) && !volatility.is_right(&[0.02], 0.013));
    let direction = reading(LabelKind::Direction, Output::Probabilities, None);
    assert!(direction.is_right(&[0.4, 0.6], 1.0) && !direction.is_right(&[0.4, 0.6], -1.0));
}

#[test]
fn sureness_grows_with_what_the_outputs_say() {
    let of = |kind, output| reading(kind, output, None);
    let point = of(LabelKind::LogReturn, Output::Point);
    assert!(point.sureness(&[-0.02]) > point.sureness(&[0.01]));
    let spread = of(LabelKind::LogReturn, quantiles());
    let sure = spread.sureness(&[0.01, 0.02, 0.03, 0.04, 0.05]);
    let unsure = spread.sureness(&[-0.05, -0.02, 0.001, 0.02, 0.05]);
    assert!(
        (sure - confidence::logit(0.95)).abs() < 1e-12 && unsure < 0.1 && unsure > 0.0,
        "{sure} {unsure}"
    );
    let negative = spread.sureness(&[-0.05, -0.04, -0.03, -0.02, -0.01]);
    assert!((negative - sure).abs() < 1e-12, "{negative}");
    let volatility = of(LabelKind::RealisedVolatility, quantiles());
    let (narrow, wide) = ([0.018, 0.019, 0.02, 0.021, 0.022], [0.001, 0.01, 0.02, 0.05, 0.2]);
    assert!(volatility.sureness(&narrow) > volatility.sureness(&wide));
    let direction = of(LabelKind::Direction, Output::Probabilities);
    assert!((direction.sureness(&[0.2, 0.8]) - confidence::logit(f64::from(0.8f32))).abs() < 1e-12);
}

#[test]
fn words_name_the_horizon_and_the_event() {
    let of = |kind, output| reading(kind, output, None).confidence_of();
    assert_eq!(
        of(LabelKind::RealisedVolatility, Output::Point),
        "the realised volatility of the next 12 bars is within a factor of 1.5 of value"
    );
    assert!(of(LabelKind::LogReturn, Output::Point).contains("sign of value"));
    assert!(
        reading(LabelKind::Direction, Output::Probabilities, Some(0.001)).confidence_of().contains("0.001")
    );
}
