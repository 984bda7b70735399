use proptest::prelude::*;

use super::*;
use crate::testing::HOUR_NS;

fn hourly() -> Timeframe {
    Timeframe::parse("1h").unwrap()
}

/// Samples at these hours whose labels see `horizon` hours more.
fn samples(hours: &[i64], horizon: i64) -> Vec<Sample> {
    let sample = |&hour: &i64| Sample {
        stream: 0,
        end: 0,
        time: Timestamp(hour * HOUR_NS),
        label_until: Timestamp((hour + horizon) * HOUR_NS),
        label: 0.0,
        naive: 0.0,
    };
    hours.iter().map(sample).collect()
}

fn fractions(validation: f64, test: f64, embargo_bars: u32) -> SplitRecipe {
    SplitRecipe { cut: Cut::Fractions { validation, test }, embargo_bars }
}

#[test]
fn purge_then_embargo() {
    let all = samples(&(0..100).collect::<Vec<_>>(), 3);
    let purged = fractions(0.2, 0.2, 0).split(&all, hourly()).unwrap();
    // Validation begins at hour 60; a label of hour 56 sees hour 59 last, that of hour 57 sees hour 60.
    assert_eq!(purged.train, (0..=56).collect::<Vec<_>>());
    assert_eq!(purged.validation, (60..=76).collect::<Vec<_>>());
    assert_eq!(purged.test, (80..100).collect::<Vec<_>>());
    let embargoed = fractions(0.2, 0.2, 5).split(&all, hourly()).unwrap();
    assert_eq!(embargoed.train, (0..=51).collect::<Vec<_>>());
    assert_eq!(embargoed.validation, (60..=71).collect::<Vec<_>>());
    assert_eq!(embargoed.test, purged.test);
}

#[test]
fn the_times_of_a_split_give_it_again() {
    let all = samples(&(0..100).collect::<Vec<_>>(), 2);
    let first = fractions(0.15, 0.15, 1).split(&all, hourly()).unwrap();
    let again = SplitRecipe { cut: Cut::Times(first.times), embargo_bars: 1 }.split(&all, hourly()).unwrap();
    assert_eq!(again, first);
    let more = samples(&(0..150).collect::<Vec<_>>(), 2);
    let later = SplitRecipe { cut: Cut::Times(first.times), embargo_bars: 1 }.split(&more, hourly()).unwrap();
    assert_eq!(later, first, "later bars change nothing");
}

#[test]
fn what_cannot_be_cut_is_an_error() {
    let all = samples(&(0..100).collect::<Vec<_>>(), 2);
    for (validation, test) in [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5), (f64::NAN, 0.1), (-0.1, 0.2)] {
        let error = fractions(validation, test, 0).split(&all, hourly()).unwrap_err();
        assert!(matches!(error, SplitError::Fractions { .. }), "{error}");
    }
    let error = fractions(0.1, 0.1, 50).split(&all, hourly()).unwrap_err();
    assert!(matches!(error, SplitError::Empty { part: "validation", .. }), "{error}");
    let error = fractions(0.2, 0.2, 0).split(&all[..2], hourly()).unwrap_err();
    assert_eq!(error, SplitError::TooFew { times: 2 });
    let t = Timestamp(0);
    let cut = Cut::Times(SplitTimes { train: t, validation: t, test: t, until: t });
    assert!(matches!(SplitRecipe { cut, embargo_bars: 0 }.split(&all, hourly()), Err(SplitError::Order(_))));
}

proptest! {
    #[test]
    fn no_label_interval_touches_a_later_part(
        gaps in prop::collection::vec(0i64..4, 40..200),
        horizon in 1i64..6,
        embargo_bars in 0u32..4,
        validation in 0.1f64..0.4,
        test in 0.1f64..0.4,
    ) {
        // A gap of 0 is another stream's sample at the same time.
        let mut hour = 0;
        let hours: Vec<i64> = gaps.iter().map(|gap| { hour += gap; hour }).collect();
        let all = samples(&hours, horizon);
        match fractions(validation, test, embargo_bars).split(&all, hourly()) {
            Ok(split) => {
                for (earlier, later) in [
                    (&split.train, &split.validation),
                    (&split.train, &split.test),
                    (&split.validation, &split.test),
                ] {
                    let reach = earlier.iter().map(|&i| all[i].label_until.0).max().unwrap();
                    let begin = later.iter().map(|&i| all[i].time.0).min().unwrap();
                    prop_assert!(reach + i64::from(embargo_bars) * HOUR_NS < begin);
                }
                let mut seen: Vec<usize> = [split.train, split.validation, split.test].concat();
                let count = seen.len();
                seen.dedup();
                prop_assert_eq!(seen.len(), count);
                prop_assert!(seen.is_sorted());
            }
            Err(e) => prop_assert!(matches!(e, SplitError::Empty { .. } | SplitError::TooFew { .. } | SplitError::Order(_)), "{}", e),
        }
    }
}
