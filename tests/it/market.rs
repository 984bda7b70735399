//! The readers on real recorded bars: the sets of `DATA_DIR` (by default `../shared/data`), and the bundled cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use market::read::{
    BadReason, BarsRead, BookReport, Container, EventOptions, EventReport, Gaps, Label, Limits, OnBad,
    ReadError, ReadOptions, Style, TimeFormat, read_bars, read_bars_from, read_binance_feed,
    read_lean_trades, read_news, read_posts, write_csv,
};
use market::series::{Partial, resample};
use market::{Bar, Symbol, Timeframe, Timestamp};

use crate::skip::skip;

/// A path in the data folder, or None after saying that it is skipped.
fn data(test: &str, path: &str) -> Option<PathBuf> {
    let folder = std::env::var("DATA_DIR")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    skip(test, &format!("no {}; set DATA_DIR to the folder of the development data", found.display()));
    None
}

fn named(symbol: &str) -> ReadOptions {
    ReadOptions { symbol: Some(Symbol::new(symbol).expect("symbol")), ..ReadOptions::default() }
}

/// Reads a file of one stream, and prints the report so that a failing test shows it.
fn read_one(path: &Path, options: &ReadOptions) -> (Vec<Bar>, BarsRead) {
    let start = Instant::now();
    let mut read = read_bars(path, options).unwrap_or_else(|e| panic!("{e}"));
    println!("{}{:.0} rows/s", read.report, read.report.rows as f64 / start.elapsed().as_secs_f64());
    assert_eq!(read.streams.len(), 1);
    let (_, bars) = read.streams.remove(0);
    (bars, read)
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("time")
}

const HOUR_NS: i64 = 3_600_000_000_000;

fn timeframe(text: &str) -> Timeframe {
    Timeframe::parse(text).expect("timeframe")
}

fn ends(bars: &[Bar]) -> [String; 2] {
    [bars[0].open_time.to_string(), bars[bars.len() - 1].open_time.to_string()]
}

#[test]
fn bundled_hourly_bars() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bars/BTCUSDT-1h.csv.gz");
    let (bars, read) = read_one(&path, &named("BTCUSDT"));
    assert_eq!(bars.len(), 20_198);
    assert_eq!(ends(&bars), ["2022-01-01T00:00:00Z", "2024-04-21T14:00:00Z"]);
    assert_eq!(bars[0].key.timeframe, timeframe("1h"));
    assert_eq!(bars[0].close.to_bits(), 46656.13f64.to_bits());
    assert_eq!(bars[0].volume.to_bits(), 1503.33095f64.to_bits());
    let gaps = &read.report.streams[0].gaps;
    assert_eq!((gaps.count, gaps.missing, gaps.longest_after), (1, 1, Some(time("2023-03-24T12:00:00Z"))));
    let detected = &read.report.detected;
    assert_eq!(detected.container, Container::Text { delimiter: ',', gzip: true });
    assert_eq!((detected.style, detected.time_format), (Style::Header, TimeFormat::YearFirst));
    assert!(read.report.timeframe_inferred);
}

#[test]
fn binance_hourly_long_history() {
    let test = "binance_hourly_long_history";
    let Some(path) = data(test, "btc_1h_2017_2024/BTC_USDT-1h.csv.gz") else { return };
    let (bars, read) = read_one(&path, &named("BTCUSDT"));
    assert_eq!(bars.len(), 58_419);
    let Gaps { count, missing, longest_missing, overlapping, .. } = read.report.streams[0].gaps;
    assert_eq!((count, missing, longest_missing, overlapping), (28, 128, 33, 0));
    assert_eq!(bars.iter().filter(|b| b.volume == 0.0).count(), 4);

    // Written in the canonical columns and read back: the same bits.
    let mut text = Vec::new();
    write_csv(&bars, &mut text).expect("written");
    let again = read_bars_from("again", text, &ReadOptions::default()).expect("read back");
    assert_eq!(again.streams.len(), 1);
    assert!(
        again.streams[0].1.iter().zip(&bars).all(|(a, b)| a.same_content(b) && a.open_time == b.open_time)
    );
    assert_eq!(again.streams[0].1, bars);
}

#[test]
fn binance_five_minutes_and_their_hours() {
    let test = "binance_five_minutes_and_their_hours";
    for (symbol, rows, last) in [
        ("BTC", 71_769, "2024-09-06T04:40:00Z"),
        ("ETH", 0, ""),
        ("SOL", 0, ""),
        ("XRP", 0, ""),
        ("DOGE", 0, ""),
    ] {
        let Some(path) = data(test, &format!("crypto_5m_2024/{symbol}_USDT-5m.csv.gz")) else { return };
        let (bars, read) = read_one(&path, &named(&format!("{symbol}USDT")));
        assert!((71_769..=72_029).contains(&bars.len()), "{symbol}: {}", bars.len());
        assert_eq!(read.report.streams[0].gaps, Gaps::default(), "{symbol}");
        if rows > 0 {
            assert_eq!((bars.len(), ends(&bars)[1].as_str()), (rows, last));
            let Some(path) = data(test, "btc_1h_2017_2024/BTC_USDT-1h.csv.gz") else { return };
            let (hours, _) = read_one(&path, &named("BTCUSDT"));
            same_hours(&bars, &hours);
        }
    }
}

/// Prices to the bit; volumes are sums, so to rounding.
fn same_hours(short: &[Bar], hours: &[Bar]) {
    let resampled = resample(short, timeframe("1h"), Partial::Drop).expect("resampled");
    let from = hours.partition_point(|b| b.open_time < time("2024-01-01T00:00:00Z"));
    let hours = &hours[from..];
    assert_eq!(hours.len(), 111 * 24 + 15);
    for (a, b) in resampled.iter().zip(hours) {
        assert_eq!(a.open_time, b.open_time);
        assert_eq!([a.open, a.high, a.low, a.close], [b.open, b.high, b.low, b.close], "{}", a.open_time);
        // The last hour of the long history may be cut short.
        assert!(
            (a.volume - b.volume).abs() <= 1e-9 * b.volume.max(1.0),
            "{}: {} {}",
            a.open_time,
            a.volume,
            b.volume
        );
    }
}

#[test]
fn many_symbols_in_parquet() {
    let test = "many_symbols_in_parquet";
    let Some(path) = data(test, "crypto_1h_many_2024/crypto_1h.parquet") else { return };
    let start = Instant::now();
    let read = read_bars(&path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    println!("{}{:.0} rows/s", read.report, read.report.rows as f64 / start.elapsed().as_secs_f64());
    assert_eq!((read.streams.len(), read.report.bars), (61, 365_506));
    assert_eq!(read.report.detected.container, Container::Parquet);
    assert!(
        read.report.streams.iter().all(|s| s.gaps == Gaps::default() && s.key.timeframe == timeframe("1h"))
    );
    assert!(read.streams.iter().all(|(key, bars)| bars.iter().all(|b| b.key == *key && b.check().is_ok())));

    // One symbol of them equals the hours made of its five minutes.
    let name =
        read.streams.iter().map(|(k, _)| k.symbol.to_string()).find(|s| s.starts_with("ETH")).expect("ETH");
    let (hours, one) = read_one(&path, &named(&name));
    assert_eq!(one.report.others + one.report.bars, 365_506);
    let Some(path) = data(test, "crypto_5m_2024/ETH_USDT-5m.csv.gz") else { return };
    let (short, _) = read_one(&path, &named(&name));
    let made = resample(&short, timeframe("1h"), Partial::Drop).expect("resampled");
    let mut compared = 0;
    for (a, b) in made.iter().zip(&hours) {
        assert_eq!(
            (a.open_time, a.open, a.high, a.low, a.close),
            (b.open_time, b.open, b.high, b.low, b.close)
        );
        compared += 1;
    }
    assert!(compared > 5_900, "{compared}");
}

#[test]
fn perpetual_minutes_are_labelled_with_their_close() {
    let test = "perpetual_minutes_are_labelled_with_their_close";
    let Some(path) = data(test, "btc_perp_1m_2022_01/BTC-PERP-1m.csv.gz") else { return };
    let options = ReadOptions { label: Some(Label::Close), ..named("BTC-PERP") };
    let (bars, read) = read_one(&path, &options);
    assert_eq!(bars.len(), 45_031);
    assert_eq!(ends(&bars), ["2021-12-31T23:00:00Z", "2022-02-01T05:30:00Z"]);
    assert_eq!(read.report.streams[0].gaps, Gaps::default());

    // Only so do its hours move with spot.
    let Some(spot) = data(test, "btc_1h_2017_2024/BTC_USDT-1h.csv.gz") else { return };
    let (spot, _) = read_one(&spot, &named("BTCUSDT"));
    let right = correlation(&resample(&bars, timeframe("1h"), Partial::Drop).expect("resampled"), &spot);
    let (as_open, _) = read_one(&path, &named("BTC-PERP"));
    let wrong = correlation(&resample(&as_open, timeframe("1h"), Partial::Drop).expect("resampled"), &spot);
    println!("correlation of hourly returns {right:.5}, labels taken as open {wrong:.5}");
    assert!(right > 0.9985 && wrong < right, "{right} {wrong}");
}

/// Of hourly log returns over the hours that both have.
fn correlation(a: &[Bar], b: &[Bar]) -> f64 {
    let returns = |bars: &[Bar]| -> BTreeMap<i64, f64> {
        bars.windows(2)
            .filter(|w| w[1].open_time.0 - w[0].open_time.0 == 3_600_000_000_000)
            .map(|w| (w[1].open_time.0, (w[1].close / w[0].close).ln()))
            .collect()
    };
    let (a, b) = (returns(a), returns(b));
    let pairs: Vec<(f64, f64)> = a.iter().filter_map(|(t, x)| b.get(t).map(|y| (*x, *y))).collect();
    let n = pairs.len() as f64;
    let (mx, my) = pairs.iter().fold((0.0, 0.0), |m, p| (m.0 + p.0 / n, m.1 + p.1 / n));
    let sum = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|p| f(p.0 - mx, p.1 - my)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn daily_members_with_bad_rows() {
    let test = "daily_members_with_bad_rows";
    let (mut rows, mut symbols, mut bars) = (0, 0, 0);
    let mut bad = BTreeMap::new();
    for part in ["a_j", "k_z"] {
        let Some(path) = data(test, &format!("sp500_daily_2013_2018/sp500_daily_{part}.csv.gz")) else {
            return;
        };
        let refused = read_bars(&path, &ReadOptions::default()).expect_err("holds bad rows");
        assert!(matches!(refused, ReadError::Bad { .. }), "{refused}");
        println!("{refused}");
        let options = ReadOptions { on_bad: OnBad::Skip, ..ReadOptions::default() };
        let start = Instant::now();
        let read = read_bars(&path, &options).unwrap_or_else(|e| panic!("{e}"));
        println!("{}{:.0} rows/s", read.report, read.report.rows as f64 / start.elapsed().as_secs_f64());
        assert!(read.report.streams.iter().all(|s| s.key.timeframe == timeframe("1d")));
        assert!(read.report.streams.iter().all(|s| s.out_of_order == 0 && s.gaps.over_weekend > 0));
        rows += read.report.rows;
        bars += read.report.bars;
        symbols += read.streams.len();
        for (reason, count) in read.report.bad {
            *bad.entry(reason).or_insert(0) += count.rows;
        }
    }
    assert_eq!((rows, symbols), (619_040, 505));
    // 11 empty opens, 8 of them in rows whose high and low are empty too; 12 with high or low inside.
    assert_eq!(bad.get(&BadReason::Empty), Some(&11));
    assert_eq!(bad.get(&BadReason::Inverted), Some(&12));
    assert_eq!(bars + bad.values().sum::<u64>(), rows);
}

#[test]
fn daily_prices_with_adjusted_close() {
    let test = "daily_prices_with_adjusted_close";
    let Some(path) = data(test, "stocknet_tweets_a/prices_daily.csv.gz") else { return };
    let read = read_bars(&path, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    println!("{}", read.report);
    assert_eq!((read.streams.len(), read.report.bars), (15, 18_870));
    assert_eq!(read.report.detected.ignored, ["Adj Close"]);
    let adjusted = read_bars(&path, &ReadOptions { adjusted: true, ..ReadOptions::default() }).expect("read");
    let (plain, scaled) = (&read.streams[0].1[0], &adjusted.streams[0].1[0]);
    assert_eq!(plain.close, 96.424286);
    assert!(
        (scaled.close - 87.121140).abs() < 1e-9
            && (scaled.open / scaled.close - plain.open / plain.close).abs() < 1e-12
    );
}

#[test]
fn lean_hourly_equities_in_new_york_time() {
    let test = "lean_hourly_equities_in_new_york_time";
    for (file, rows) in [("spy_1h", 40_832), ("aapl_1h", 40_831)] {
        let Some(path) = data(test, &format!("equity_fx_hourly_long/{file}.csv.gz")) else { return };
        let (bars, read) = read_one(&path, &named("X"));
        assert_eq!(bars.len(), rows);
        assert_eq!(ends(&bars), ["1998-01-02T14:00:00Z", "2021-03-31T19:00:00Z"]);
        assert_eq!(bars[0].key.timeframe, timeframe("1h"));
        assert_eq!(read.report.detected.style, Style::LeanEquity);
        assert_eq!(read.report.detected.zone, "America/New_York");
        // Each day's first bar is the half hour from 9:30, under the label of 9:00: 13:00 UTC in summer, 14:00 in winter.
        let days: Vec<&[Bar]> = bars.chunk_by(|a, b| b.open_time.0 - a.open_time.0 < 10 * HOUR_NS).collect();
        let first_hours: Vec<i64> = days.iter().map(|day| day[0].open_time.0 / HOUR_NS % 24).collect();
        assert_eq!(days.len(), 5_849);
        // But for 2002-09-11, when the market opened late.
        assert!(first_hours.iter().filter(|h| ![13, 14].contains(*h)).count() <= 1);
        assert!(days.iter().all(|day| day.len() <= 7));
    }
    let Some(path) = data(test, "equity_fx_hourly_long/aapl_1h.csv.gz") else { return };
    let (bars, _) = read_one(&path, &named("AAPL"));
    assert_eq!([bars[0].open, bars[0].close, bars[1].high], [13.63, 13.63, 14.81]);
    // The splits stand as jumps.
    let jumps: Vec<String> = bars
        .windows(2)
        .filter(|w| w[1].open / w[0].close < 0.6)
        .map(|w| w[1].open_time.to_string()[..10].to_owned())
        .collect();
    for split in ["2000-06-21", "2005-02-28", "2014-06-09", "2020-08-31"] {
        assert!(jumps.iter().any(|day| day == split), "{split} not in {jumps:?}");
    }
}

#[test]
fn lean_hourly_currency_as_the_mid() {
    let test = "lean_hourly_currency_as_the_mid";
    let Some(path) = data(test, "equity_fx_hourly_long/eurusd_1h_bidask.csv.gz") else { return };
    let (bars, read) = read_one(&path, &named("EURUSD"));
    assert_eq!(bars.len(), 74_439);
    assert_eq!(ends(&bars), ["2007-01-01T21:00:00Z", "2018-12-31T21:00:00Z"]);
    assert_eq!(read.report.detected.style, Style::LeanForex);
    assert_eq!(bars[0].open, (1.31927 + 1.32027) / 2.0);
    assert_eq!(bars[0].close, (1.31935 + 1.32035) / 2.0);
    assert!(read.report.detected.no_volume);
    assert!(read.report.streams[0].gaps.over_weekend > 500, "{}", read.report.streams[0].gaps);
}

#[test]
fn hourly_currency_with_day_first() {
    let test = "hourly_currency_with_day_first";
    let Some(path) = data(test, "eurusd_1h_ask_2017/FOREX_EURUSD_1H_ASK.csv.gz") else { return };
    let (bars, read) = read_one(&path, &named("EURUSD"));
    assert_eq!(bars.len(), 6_225);
    assert_eq!(ends(&bars), ["2017-01-01T22:00:00Z", "2017-12-29T21:00:00Z"]);
    assert_eq!(read.report.detected.time_format, TimeFormat::DayFirst);
    assert!((50..=53).contains(&read.report.streams[0].gaps.over_weekend), "{}", read.report.streams[0].gaps);
}

#[test]
fn files_that_hold_no_bars_are_refused() {
    let test = "files_that_hold_no_bars_are_refused";
    for file in [
        "lob_snapshots_1m_btc_2021/btc_lob_1m.csv.gz",
        "lob_binance_btc_2024_08/spot_btcusdt_20240808.txt.gz",
        "crypto_news_2021_2022/cryptonews.csv.gz",
        "stocknet_tweets_a/tweets/AAPL.jsonl.gz",
        "text/tfns_train.csv",
        "text/finentity.json",
        "README.md",
    ] {
        let Some(path) = data(test, file) else { return };
        let error = read_bars(&path, &named("X")).expect_err(file);
        println!("{error}");
        let refused = matches!(error, ReadError::Columns { .. } | ReadError::Limit { .. });
        assert!(refused, "{file}: {error:?}");
    }
    let Some(path) = data(test, "crypto_1h_many_2024/crypto_1h.parquet") else { return };
    let small = ReadOptions { limits: Limits { rows: 1_000, ..Limits::default() }, ..ReadOptions::default() };
    assert!(matches!(read_bars(&path, &small), Err(ReadError::Limit { what: "rows", .. })));
}

#[test]
fn feed_trades_add_up_to_bars_and_books_follow_the_ticker() {
    let test = "feed_trades_add_up_to_bars_and_books_follow_the_ticker";
    let [Some(one), Some(two), Some(bars)] = [
        data(test, "lob_binance_btc_2024_08/spot_btcusdt_20240808.txt.gz"),
        data(test, "lob_binance_btc_2024_08/spot_btcusdt_20240809.txt.gz"),
        data(test, "crypto_5m_2024/BTC_USDT-5m.csv.gz"),
    ] else {
        return;
    };
    let feed = read_binance_feed(&[&one, &two], &EventOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    println!("{}{}", feed.report, feed.book_report);
    assert_eq!(feed.report.rows, 41_249 + 58_325);
    let (bars, _) = read_one(&bars, &named("BTCUSDT"));
    for open in ["2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z"] {
        let bar = bars.iter().find(|b| b.open_time == time(open)).expect("bar");
        let inside = |t: Timestamp| bar.open_time <= t && t < bar.close_time();
        let trades: Vec<_> = feed.trades.iter().filter(|t| inside(t.time)).collect();
        let prices = || trades.iter().map(|t| t.price);
        let volume: f64 = trades.iter().map(|t| t.size).sum();
        assert_eq!((prices().next(), prices().next_back()), (Some(bar.open), Some(bar.close)), "{open}");
        assert_eq!(
            (prices().fold(0.0, f64::max), prices().fold(f64::MAX, f64::min)),
            (bar.high, bar.low),
            "{open}"
        );
        assert!((volume - bar.volume).abs() < 1e-9, "{open}: {volume} {}", bar.volume);
    }
    follows(&feed.book_report);
    assert!(
        feed.books
            .iter()
            .all(|b| b.bids.len() == 10 && b.asks.len() == 10 && b.bids[0].price < b.asks[0].price)
    );

    let Some(future) = data(test, "lob_binance_btc_2024_08/usdm_btcusdt_20240808.txt.gz") else { return };
    let feed = read_binance_feed(&[&future], &EventOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    println!("{}{}", feed.report, feed.book_report);
    assert_eq!(feed.report.rows, 93_954);
    follows(&feed.book_report);
}

/// One snapshot, no difference missing, and never against the ticker.
fn follows(book: &BookReport) {
    assert_eq!((book.snapshots, book.broken, book.contradicted), (1, 0, 0), "{book}");
    assert!(book.applied > 3_000 && book.confirmed > 100, "{book}");
}

#[test]
fn lean_trades() {
    let test = "lean_trades";
    let options =
        EventOptions { symbol: Some(Symbol::new("IBM").expect("symbol")), ..EventOptions::default() };
    let mut rows = 0;
    for day in 7..=11 {
        let Some(path) = data(test, &format!("equity_ticks_ibm_2013_10/201310{day:02}_trade.csv.gz")) else {
            return;
        };
        let (trades, report) = read_lean_trades(&path, &options).unwrap_or_else(|e| panic!("{e}"));
        print!("{report}");
        // Pre-market from 4:00, after hours until 20:00, in New York.
        let hours = |t: Timestamp| (t.0 - time(&format!("2013-10-{day:02}T04:00:00Z")).0) / HOUR_NS;
        assert!(
            trades.iter().all(|t| (4..=20).contains(&hours(t.time)) && (150.0..200.0).contains(&t.price))
        );
        rows += report.rows;
    }
    assert_eq!(rows, 126_395);
}

#[test]
fn texts() {
    let test = "texts";
    let Some(news) = data(test, "crypto_news_2021_2022/cryptonews.csv.gz") else { return };
    let about = |subject: &str, symbol: &str| (subject.to_owned(), Symbol::new(symbol).expect("symbol"));
    let subjects = BTreeMap::from([about("bitcoin", "BTCUSDT"), about("ethereum", "ETHUSDT")]);
    let (texts, report) =
        read_news(&news, &subjects, &EventOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    print!("{report}");
    let count = |name: &str| texts.iter().filter(|t| t.symbols.iter().any(|s| s.as_str() == name)).count();
    assert_eq!((texts.len(), count("BTCUSDT"), count("ETHUSDT")), (7_524, 3_035, 656));
    assert_eq!(days(&report), ["2021-10-12", "2022-07-05"]);
    assert!(texts.windows(2).all(|w| w[0].received_at <= w[1].received_at));

    let mut posts = 0;
    for name in "AAPL AMZN BA BAC C CSCO DIS GE GOOG INTC JPM KO MSFT T XOM".split(' ') {
        let Some(path) = data(test, &format!("stocknet_tweets_a/tweets/{name}.jsonl.gz")) else { return };
        let options =
            EventOptions { symbol: Some(Symbol::new(name).expect("symbol")), ..EventOptions::default() };
        let (texts, report) = read_posts(&path, &options).unwrap_or_else(|e| panic!("{e}"));
        assert!(texts.iter().all(|t| t.symbols[0].as_str() == name && !t.text.is_empty()));
        let [first, last] = days(&report);
        assert!(first.as_str() >= "2013-12-31" && last.as_str() <= "2015-12-31", "{report}");
        posts += texts.len();
    }
    assert_eq!(posts, 56_808);
}

fn days(report: &EventReport) -> [String; 2] {
    [report.first, report.last].map(|t| t.expect("texts").to_string()[..10].to_owned())
}
