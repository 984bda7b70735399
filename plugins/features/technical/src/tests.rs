//! The contract on random bars, values worked out by hand, and the bars on which indicators usually break.

use alphaplus_plugin::testing::{check, random_bars, rows};

use super::*;

const SCALE_1: &str = r#"{"scale": 1}"#;

fn column(name: &str, bars: &[Bar]) -> Vec<f32> {
    let at = Lengths { scale: 1 }
        .names()
        .iter()
        .position(|n| n == name)
        .unwrap_or_else(|| panic!("no column {name}"));
    rows::<Technical>(SCALE_1, bars).unwrap().iter().map(|row| row[at]).collect()
}

fn last(name: &str, bars: &[Bar]) -> f32 {
    *column(name, bars).last().unwrap()
}

fn near(x: f32, expect: f64) {
    assert!((f64::from(x) - expect).abs() <= 1e-6 * expect.abs().max(1e-3), "{x} is not {expect}");
}

/// Hourly from 1970-01-01, each flat at its close.
fn closes(closes: impl IntoIterator<Item = f64>) -> Vec<Bar> {
    let bar = |(i, x)| Bar {
        open_time_ns: i as i64 * 3_600_000_000_000,
        open: x,
        high: x,
        low: x,
        close: x,
        volume: 1.0,
    };
    closes.into_iter().enumerate().map(bar).collect()
}

#[test]
fn the_contract_holds_at_every_scale() {
    for scale in 1..=4 {
        let options = format!(r#"{{"scale": {scale}}}"#);
        let warmup = Lengths { scale }.warmup();
        check::<Technical>(&options, &random_bars(scale as u64, 2 * warmup)).unwrap();
    }
    assert_eq!(Lengths { scale: 1 }.names().len(), 28);
    assert_eq!(Lengths { scale: 1 }.warmup(), 252);
    assert!(Technical::open(&Options::parse(r#"{"scale": 5}"#).unwrap()).is_err());
}

#[test]
fn the_start_of_a_stream_is_forgotten_after_the_warmup() {
    let bars = random_bars(3, 700);
    let warmup = Lengths { scale: 1 }.warmup();
    let (long, short) =
        (rows::<Technical>(SCALE_1, &bars).unwrap(), rows::<Technical>(SCALE_1, &bars[300..]).unwrap());
    for (a, b) in long[300..].iter().zip(&short).skip(warmup) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 2.0 * f32::EPSILON * a.abs().max(1e-2), "{a} {b}");
        }
    }
}

#[test]
fn flat_prices_without_volume_give_exact_neutral_values() {
    let mut bars = closes([1.0 / 3.0; 400]);
    bars.iter_mut().for_each(|bar| bar.volume = 0.0);
    let row = rows::<Technical>(SCALE_1, &bars).unwrap().pop().unwrap();
    let names = Lengths { scale: 1 }.names();
    for (name, x) in names.iter().zip(row) {
        let expect = match name.as_str() {
            "rsi_14" | "stochastic_14" => 0.5,
            name if name.starts_with("day_") || name.starts_with("week_") => continue,
            _ => 0.0,
        };
        assert_eq!(x, expect, "{name}");
    }
}

#[test]
fn prices_that_turn_flat_stay_finite() {
    let bars = closes((0..300).map(|i| 100.0 + (f64::from(i)).sin()).chain([100.0; 20_000]));
    for row in &rows::<Technical>(SCALE_1, &bars).unwrap()[252..] {
        assert!(row.iter().all(|x| x.is_finite()), "{row:?}");
    }
    assert_eq!(last("bollinger_position_20", &bars), 0.0);
    assert_eq!(last("volatility_72", &bars), 0.0);
}

#[test]
fn sums_do_not_drift_after_a_shock() {
    let mut bars = closes((0..400).map(|i| if i == 100 { 1e12 } else { 100.0 + f64::from(i % 7) }));
    bars[100].volume = 1e15;
    let without: Vec<Bar> = bars[101..].to_vec();
    for name in
        ["bollinger_position_20", "bollinger_width_20", "volatility_72", "volume_zscore_24", "parkinson_24"]
    {
        assert_eq!(column(name, &bars)[300..], column(name, &without)[199..], "{name}");
    }
}

#[test]
fn values_by_hand() {
    let bars = closes((0..300).map(|i| 100.0 * 1.01f64.powi(i)));
    near(last("return_6", &bars), 6.0 * 1.01f64.ln());
    near(last("volatility_24", &bars), 24f64.sqrt() * 1.01f64.ln());
    near(last("rsi_14", &bars), 1.0);
    near(last("rsi_14", &closes((0..300).map(|i| 100.0 + f64::from(i % 2)))), 0.5 + 0.5 / 27.0);
    // True ranges grow by 1 % a bar, and so weigh (13/14 / 1.01)^k: a geometric series.
    near(last("atr_14", &bars), 0.01 / 1.01 / 14.0 / (1.0 - 13.0 / 14.0 / 1.01));
    // Closes 1 to 20: mean 10.5, variance of the population (20² − 1) / 12.
    let deviation = (399f64 / 12.0).sqrt();
    let bars = closes((1..=20).map(f64::from));
    near(last("bollinger_position_20", &bars), 9.5 / (2.0 * deviation));
    near(last("bollinger_width_20", &bars), 4.0 * deviation / 10.5);
}

#[test]
fn a_candle_by_hand() {
    let mut bars = closes([100.0; 40]);
    bars.iter_mut().for_each(|bar| bar.volume = 0.0);
    (bars[30].volume, bars[39].volume) = (1f64.exp_m1(), 2f64.exp_m1());
    let bar = bars.last_mut().unwrap();
    (bar.open, bar.high, bar.low, bar.close) = (102.0, 110.0, 100.0, 104.0);
    near(last("range", &bars), 10.0 / 104.0);
    near(last("gap", &bars), 1.02f64.ln());
    near(last("body", &bars), 0.2);
    near(last("upper_wick", &bars), 0.6);
    near(last("lower_wick", &bars), 0.2);
    near(last("stochastic_14", &bars), 0.4);
    near(last("parkinson_24", &bars), 1.1f64.ln() / (24.0 * 4.0 * 2f64.ln()).sqrt());
    // The logarithms are 1, 2 and 22 zeros.
    near(last("volume_zscore_24", &bars), (2.0 - 0.125) / (5f64 / 24.0 - 0.125 * 0.125).sqrt());
}

#[test]
fn phases_know_the_calendar() {
    let at = |ns: i64| {
        let mut bars = closes([1.0]);
        bars[0].open_time_ns = ns;
        ["day_sin", "day_cos", "week_sin", "week_cos"].map(|name| last(name, &bars))
    };
    let day = 86_400_000_000_000;
    // Monday 1970-01-05, its 06:00, and the Monday three weeks before.
    assert_eq!(at(4 * day), [0.0, 1.0, 0.0, 1.0]);
    near(at(4 * day + day / 4)[0], 1.0);
    assert_eq!(at(4 * day - 21 * day), [0.0, 1.0, 0.0, 1.0]);
    near(at(0)[2], (std::f64::consts::TAU * 3.0 / 7.0).sin());
    assert!(at(i64::MAX).iter().chain(&at(i64::MIN)).all(|x| x.abs() <= 1.0));
}

#[test]
fn a_gap_in_time_changes_the_phases_alone() {
    let bars = random_bars(5, 300);
    let mut moved = bars.clone();
    moved[200..].iter_mut().for_each(|bar| bar.open_time_ns += 1_234_567_000_000_000);
    let (a, b) = (rows::<Technical>(SCALE_1, &bars).unwrap(), rows::<Technical>(SCALE_1, &moved).unwrap());
    assert_eq!(a[260][..24], b[260][..24]);
    assert_ne!(a[260][24..], b[260][24..]);
}

#[test]
fn a_snapshot_of_another_scale_is_refused() {
    let mut large = Technical::open(&Options::parse(r#"{"scale": 2}"#).unwrap()).unwrap();
    let mut row = Vec::new();
    for bar in random_bars(1, 300) {
        large.on_bar(&bar, &mut row).unwrap();
    }
    let mut to = Writer::new();
    large.snapshot(&mut to);
    let bytes = to.into_bytes();
    let mut small = Technical::open(&Options::parse(SCALE_1).unwrap()).unwrap();
    assert!(small.restore(&mut Reader::new(&bytes)).unwrap_err().contains("a window of 40, not 20"));
}
