use super::*;
use crate::testing::HOUR_NS;

fn hourly() -> Timeframe {
    Timeframe::parse("1h").unwrap()
}

/// Samples at each hour whose labels see `horizon` hours more.
fn samples(hours: i64, horizon: i64) -> Vec<Sample> {
    let sample = |hour: i64| Sample {
        stream: 0,
        end: 0,
        time: Timestamp(hour * HOUR_NS),
        label_until: Timestamp((hour + horizon) * HOUR_NS),
        label: 0.0,
        naive: 0.0,
    };
    (0..hours).map(sample).collect()
}

#[test]
fn test_parts_follow_one_another_and_training_lies_before_them() {
    let all = samples(1000, 5);
    for window in [TrainingWindow::Expanding, TrainingWindow::Sliding] {
        let walk = WalkForward { window, embargo_bars: 7, ..WalkForward::default() };
        let splits = walk.splits(&all, hourly()).unwrap();
        assert_eq!(splits.len(), 4);
        let tests: Vec<usize> = splits.iter().flat_map(|s| s.test.clone()).collect();
        assert_eq!(tests, (500..1000).collect::<Vec<_>>(), "each later sample is tested once");
        for split in &splits {
            let reach = |part: &[usize]| all[part[part.len() - 1]].label_until.0 / HOUR_NS;
            // The label ends, then the purge's own bar, then the embargo, then the next part.
            assert_eq!(reach(&split.train) + 7 + 1, split.validation[0] as i64);
            assert_eq!(reach(&split.validation) + 7 + 1, split.test[0] as i64);
        }
        let begins: Vec<usize> = splits.iter().map(|s| s.train[0]).collect();
        match window {
            TrainingWindow::Expanding => assert_eq!(begins, [0; 4]),
            TrainingWindow::Sliding => assert_eq!(begins, [0, 125, 250, 375]),
        }
    }
}

#[test]
fn a_longer_horizon_purges_more_and_the_embargo_adds_to_it() {
    let last = |horizon: i64, embargo_bars: u32| {
        let walk = WalkForward { folds: 1, embargo_bars, ..WalkForward::default() };
        walk.splits(&samples(1000, horizon), hourly()).unwrap()[0].train.last().copied().unwrap()
    };
    assert_eq!(last(1, 0) - last(11, 0), 10);
    assert_eq!(last(11, 0) - last(11, 30), 30, "not overlapped with the purge");
}

#[test]
fn a_stride_keeps_the_same_times_of_all_streams() {
    let mut all = samples(100, 1);
    let walk = WalkForward { stride_bars: 12, ..WalkForward::default() };
    walk.thin(&mut all, hourly());
    assert_eq!(
        all.iter().map(|s| s.time.0 / HOUR_NS).collect::<Vec<_>>(),
        [0, 12, 24, 36, 48, 60, 72, 84, 96]
    );
    // Days with a weekend: counted as they come.
    let mut days: Vec<Sample> =
        samples(14 * 24, 1).into_iter().filter(|s| s.time.0 % (24 * HOUR_NS) == 0).collect();
    days.retain(|s| (s.time.0 / (24 * HOUR_NS)) % 7 < 5);
    let walk = WalkForward { stride_bars: 5, ..WalkForward::default() };
    walk.thin(&mut days, Timeframe::parse("1d").unwrap());
    assert_eq!(days.iter().map(|s| s.time.0 / (24 * HOUR_NS)).collect::<Vec<_>>(), [0, 7]);
}

#[test]
fn what_cannot_be_cut_says_what_to_change() {
    let refused = |edit: fn(&mut WalkForward), samples: &[Sample]| {
        let mut walk = WalkForward::default();
        edit(&mut walk);
        walk.splits(samples, hourly()).unwrap_err().to_string()
    };
    let all = samples(200, 2);
    assert!(refused(|w| w.folds = 0, &all).contains("folds"));
    assert!(refused(|w| w.test_share = f64::NAN, &all).contains("test_share"));
    assert!(refused(|w| w.validation_share = 1.0, &all).contains("validation_share"));
    assert!(refused(|w| w.stride_bars = 0, &all).contains("stride_bars"));
    assert!(refused(|_| {}, &all[..5]).contains("give more bars"));
    assert!(refused(|w| w.embargo_bars = 500, &all).contains("fold 1"));
}
