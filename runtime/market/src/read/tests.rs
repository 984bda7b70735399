//! Policies row by row, and that nothing which a file can hold panics, hangs or takes more than its bounds.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::bar::{Symbol, Timeframe};
use crate::time::Timestamp;

fn options() -> ReadOptions {
    ReadOptions { symbol: Some(Symbol::new("X").expect("symbol")), ..ReadOptions::default() }
}

/// Reads `rows` under the header time,open,high,low,close,volume.
fn read(rows: &str, options: &ReadOptions) -> Result<BarsRead, ReadError> {
    read_bars_from("f", format!("time,open,high,low,close,volume\n{rows}").into_bytes(), options)
}

/// Closes by minute, then what was counted; or the error.
fn show(result: Result<BarsRead, ReadError>) -> String {
    let read = match result {
        Ok(read) => read,
        Err(error) => return error.to_string(),
    };
    let streams: Vec<String> = read
        .streams
        .iter()
        .map(|(key, bars)| {
            let bars: Vec<String> =
                bars.iter().map(|b| format!("{}={}", b.open_time.0 / 60_000_000_000, b.close)).collect();
            format!("{key}: {}", bars.join(" "))
        })
        .collect();
    let r = &read.report;
    let counts =
        [("bad", r.bad_rows()), ("repeats", r.duplicates), ("replaced", r.replaced), ("others", r.others)];
    let counts: Vec<String> =
        counts.iter().filter(|c| c.1 > 0).map(|(name, n)| format!(", {name} {n}")).collect();
    format!("{}{}", streams.join("; "), counts.concat())
}

const THREE: &str = "60,1,1,1,1,0\n120,2,2,2,2,0\n180,3,3,3,3,0\n";

#[test]
fn good_rows() {
    assert_eq!(show(read(THREE, &options())), "X 1m: 1=1 2=2 3=3");
    assert_eq!(show(read(&THREE.replace('\n', "\r\n"), &options())), "X 1m: 1=1 2=2 3=3");
    assert_eq!(show(read(&THREE.replace('\n', "\n\n  \n"), &options())), "X 1m: 1=1 2=2 3=3");
    assert_eq!(show(read(THREE.trim_end(), &options())), "X 1m: 1=1 2=2 3=3");
    assert_eq!(show(read(&THREE.replace('\n', ",, \n"), &options())), "X 1m: 1=1 2=2 3=3");
    let quoted = "60,\"1\",\"1\", 1 ,1,0\n120,2,2,2,2,0\n";
    assert_eq!(show(read(quoted, &options())), "X 1m: 1=1 2=2");
    let text = "\u{feff}close;low;high;open;time\n1;1;1;1;60\n2;2;2;2;120".as_bytes().to_vec();
    assert_eq!(show(read_bars_from("f", text, &options())), "X 1m: 1=1 2=2");
}

#[test]
fn bad_rows_name_their_place_or_are_counted() {
    let skipping = ReadOptions { on_bad: OnBad::Skip, ..options() };
    for (row, expect) in [
        ("240,1,1,1", "column close: '': too few cells"),
        ("240,1,1,234.5,1,1,0", "column volume: '1': more cells than columns"),
        ("240,1,1,1,,0", "column close: '': empty cell"),
        ("240,1,abc,1,1,0", "column high: 'abc': not a number"),
        ("240,1,nan,1,1,0", "column high: 'NaN': price not finite and above zero"),
        ("240,1,1,-1,1,0", "column low: '-1': price not finite and above zero"),
        ("240,inf,1,1,1,0", "column open: 'inf': price not finite and above zero"),
        ("240,1,1,0,1,0", "column low: '0': price not finite and above zero"),
        ("240,1,1,1,1,-2", "column volume: '-2': volume negative or not finite"),
        (
            "240,1,0.5,0.5,1,0",
            "column high: 'open 1 high 0.5 low 0.5 close 1': high or low inside open and close",
        ),
        ("240,1,2,1.5,1,0", "column low: 'open 1 high 2 low 1.5 close 1': high or low inside open and close"),
        ("noon,1,1,1,1,0", "column time: 'noon': time not in the format of the file"),
        (
            "99999999999999999999,1,1,1,1,0",
            "column time: '99999999999999999999': time not in the format of the file",
        ),
    ] {
        let rows = format!("{THREE}{row}\n");
        let error = read(&rows, &options()).expect_err(row).to_string();
        assert_eq!(error, format!("f line 5, {expect}; correct the row, or read with bad rows skipped"));
        let read = read(&rows, &skipping);
        let shown = read.as_ref().map(|r| r.report.to_string()).unwrap_or_default();
        assert!(shown.contains("1 left out"), "{shown}");
        assert_eq!(show(read), "X 1m: 1=1 2=2 3=3, bad 1");
    }
    let mut text = b"time,open,high,low,close\n60,1,1,1,1\n120,\xff\xfe,1,1,1\n180,1,1,1,1".to_vec();
    assert_eq!(show(read_bars_from("f", text.clone(), &skipping)), "X 2m: 1=1 3=1, bad 1");
    text.truncate(24);
    assert_eq!(show(read_bars_from("f", text, &skipping)), "f holds no bars");
}

#[test]
fn repeats() {
    let same = format!("{THREE}120,2,2,2,2,0\n");
    assert_eq!(show(read(&same, &options())), "X 1m: 1=1 2=2 3=3, repeats 1");
    let other = format!("{THREE}120,9,9,9,9,0\n");
    assert_eq!(
        show(read(&other, &options())),
        "f lines 3 and 5: X 1m at 1970-01-01T00:02:00Z stands twice and differs; remove one, or read with the last kept"
    );
    let keep = ReadOptions { on_duplicate: OnDuplicate::KeepLast, ..options() };
    assert_eq!(show(read(&other, &keep)), "X 1m: 1=1 2=9 3=3, replaced 1");
    let revised =
        "time,open,high,low,close,revision\n60,1,1,1,1,0\n120,2,2,2,2,3\n120,5,5,5,5,1\n60,7,7,7,7,1\n";
    assert_eq!(show(read_bars_from("f", revised.into(), &options())), "X 1m: 1=7 2=2, replaced 2");
}

#[test]
fn disorder_is_sorted_or_refused() {
    let rows = "180,3,3,3,3,0\n120,2,2,2,2,0\n60,1,1,1,1,0\n";
    let sorted = read(rows, &options()).expect("read");
    assert_eq!(sorted.report.streams[0].out_of_order, 2);
    assert_eq!(show(Ok(sorted)), "X 1m: 1=1 2=2 3=3");
    let strict = ReadOptions { on_disorder: OnDisorder::Refuse, ..options() };
    assert_eq!(
        show(read(rows, &strict)),
        "f line 3: X at 1970-01-01T00:02:00Z comes after 1970-01-01T00:03:00Z; sort the file, or read with sorting"
    );
}

#[test]
fn symbols_and_timeframes() {
    let long = "time,symbol,timeframe,open,high,low,close\n\
                60,A,1m,1,1,1,1\n60,B,1m,2,2,2,2\n120,A,1m,3,3,3,3\n300,A,5m,4,4,4,4\n";
    let read = |options: &ReadOptions| show(read_bars_from("f", long.into(), options));
    assert_eq!(read(&ReadOptions::default()), "A 1m: 1=1 2=3; A 5m: 5=4; B 1m: 1=2");
    let b = ReadOptions { symbol: Some(Symbol::new("B").expect("symbol")), ..ReadOptions::default() };
    assert_eq!(read(&b), "B 1m: 1=2, others 3");
    assert_eq!(read(&options()), "f has no bars of X");
    let five =
        ReadOptions { timeframe: Some(Timeframe::parse("5m").expect("timeframe")), ..ReadOptions::default() };
    assert_eq!(read(&five), "A 5m: 5=4, others 3");
    let bad = long.replace("B,1m", "B B,1m").replace("A,5m", "A,5x");
    let skipping = ReadOptions { on_bad: OnBad::Skip, ..ReadOptions::default() };
    assert_eq!(show(read_bars_from("f", bad.into(), &skipping)), "A 1m: 1=1 2=3, bad 2");

    let nameless = "time,open,high,low,close\n60,1,1,1,1\n";
    let default = ReadOptions::default();
    assert_eq!(
        show(read_bars_from("f", nameless.into(), &default)),
        "f has no symbol column; say which symbol it is"
    );
    let single = show(read_bars_from("f", nameless.into(), &options()));
    assert!(single.contains("too few bars to tell the timeframe"), "{single}");
    let given = ReadOptions { timeframe: five.timeframe, ..options() };
    assert_eq!(show(read_bars_from("f", nameless.into(), &given)), "X 5m: 1=1");
    let closer = show(super::tests::read(THREE, &given));
    assert!(closer.contains("mostly 60s apart, closer than the timeframe 5m"), "{closer}");
    // A symbol with one bar takes the spacing of the others.
    let pooled =
        "time,symbol,open,high,low,close\n60,A,1,1,1,1\n120,A,1,1,1,1\n180,A,1,1,1,1\n60,B,2,2,2,2\n";
    assert_eq!(show(read_bars_from("f", pooled.into(), &default)), "A 1m: 1=1 2=1 3=1; B 1m: 1=2");
}

#[test]
fn labels_zones_and_scales() {
    let close = ReadOptions { label: Some(Label::Close), ..options() };
    assert_eq!(show(read(THREE, &close)), "X 1m: 0=1 1=2 2=3");
    let binance = "close_time,open,high,low,close\n59999,1,1,1,1\n119999,2,2,2,2\n";
    let millis = ReadOptions { time_format: Some(TimeFormat::EpochMillis), ..options() };
    assert_eq!(show(read_bars_from("f", binance.into(), &millis)), "X 1m: 0=1 1=2");

    let fall = "2024-11-03 00:30,1,1,1,1,0\n2024-11-03 01:00,2,2,2,2,0\n2024-11-03 01:30,3,3,3,3,0\n\
                2024-11-03 01:00,4,4,4,4,0\n2024-11-03 01:30,5,5,5,5,0\n2024-11-03 02:00,6,6,6,6,0\n";
    let york = ReadOptions { zone: Some("America/New_York".to_owned()), ..options() };
    let bars = read(fall, &york).expect("read").streams.remove(0).1;
    let halves: Vec<i64> = bars.iter().map(|b| b.open_time.0 / 1_800_000_000_000).collect();
    assert_eq!(halves, [0, 1, 2, 3, 4, 5].map(|i| halves[0] + i));
    assert_eq!(bars[0].open_time, Timestamp::parse("2024-11-03T04:30:00Z").expect("time"));
    // The hour that comes twice, without anything between.
    let twice = "2024-11-03 00:00,1,1,1,1,0\n2024-11-03 01:00,2,2,2,2,0\n2024-11-03 01:00,3,3,3,3,0\n";
    let bars = read(twice, &york).expect("read").streams.remove(0).1;
    assert_eq!(bars.iter().map(|b| b.open_time.0 / 3_600_000_000_000 % 24).collect::<Vec<_>>(), [4, 5, 6]);
    let spring = "2024-03-10 01:00,1,1,1,1,0\n2024-03-10 02:00,1,1,1,1,0\n2024-03-10 03:00,1,1,1,1,0\n";
    let skipped = show(read(spring, &york));
    assert!(skipped.contains("'2024-03-10 02:00': local time skipped by the clock"), "{skipped}");
    let nowhere = ReadOptions { zone: Some("Nowhere".to_owned()), ..options() };
    assert!(show(read(THREE, &nowhere)).starts_with("no time zone 'Nowhere'"));

    let cents = ReadOptions { price_divisor: Some(100.0), ..options() };
    assert_eq!(show(read(THREE, &cents)), "X 1m: 1=0.01 2=0.02 3=0.03");
    let zero = ReadOptions { price_divisor: Some(0.0), ..options() };
    assert!(show(read(THREE, &zero)).starts_with("price divisor 0 must be"));
    assert!(
        show(read("03/04/2017,1,1,1,1,0\n", &options())).contains("can't tell how the time '03/04/2017'")
    );
    let american = ReadOptions { time_format: Some(TimeFormat::MonthFirst), ..options() };
    assert_eq!(show(read("01/01/1970,1,1,1,1,0\n1/2/1970,1,1,1,1,0", &american)), "X 1d: 0=1 1440=1");
}

#[test]
fn gaps_and_weekends() {
    // Friday 2024-01-05 22:00 to Sunday 22:00; then one hour is missing; then one too many.
    let rows = "2024-01-05 20:00,1,1,1,1,0\n2024-01-05 21:00,1,1,1,1,0\n2024-01-07 22:00,1,1,1,1,0\n\
                2024-01-08 00:00,1,1,1,1,0\n2024-01-08 00:30,1,1,1,1,0\n2024-01-08 01:00,1,1,1,1,0\n";
    let hour = ReadOptions { timeframe: Some(Timeframe::parse("1h").expect("timeframe")), ..options() };
    let read = read(rows, &hour).expect("read");
    let gaps = &read.report.streams[0].gaps;
    let expect = Gaps {
        count: 2,
        missing: 49,
        longest_missing: 48,
        longest_after: Some(Timestamp::parse("2024-01-05T21:00:00Z").expect("time")),
        over_weekend: 1,
        overlapping: 2,
    };
    assert_eq!(*gaps, expect);
    assert_eq!(
        gaps.to_string(),
        "2 gaps, 49 bars missing, at most 48 at once after 2024-01-05T21:00:00Z, \
         1 of them over a Saturday (as where the market closes), 2 bars closer than the timeframe"
    );
}

#[test]
fn says_how_it_understood_the_file() {
    let read = read(THREE, &options()).expect("read");
    assert_eq!(
        read.report.to_string(),
        "f: 3 rows, 3 bars of 1 streams\n  understood as text separated by ',' with named columns; times are counted \
         since 1970, unit by magnitude in UTC, of the bar's open; read time from time, open from open, high from high, \
         low from low, close from close, volume from volume\n  timeframe from the median spacing\n  X 1m: 3 bars, \
         1970-01-01T00:01:00Z to 1970-01-01T00:03:00Z, no gaps\n"
    );
}

#[test]
fn styles_without_a_header() {
    let lean = "19980102 09:00,136300,137500,135000,136300,540700\n19980102 10:00,136300,148100,135600,144400,1974100\n";
    let read = read_bars_from("f", lean.into(), &options()).expect("read");
    assert_eq!((read.report.rows, read.streams[0].1[0].close), (2, 13.63));
    assert_eq!(read.streams[0].1[0].open_time, Timestamp::parse("1998-01-02T14:00:00Z").expect("time"));
    let asked = ReadOptions { style: Style::Plain, ..options() };
    let plain = read_bars_from("f", lean.into(), &asked).expect("read");
    assert_eq!(plain.streams[0].1[0].close, 136_300.0);
    let few = ReadOptions { style: Style::LeanForex, ..options() };
    assert!(show(read_bars_from("f", lean.into(), &few)).contains("6 columns are too few for this style"));
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("compressed");
    encoder.finish().expect("compressed")
}

#[test]
fn gzip_members_and_broken_gzip() {
    let text = format!("time,open,high,low,close,volume\n{THREE}");
    let mut members = gzip(&text.as_bytes()[..40]);
    members.extend(gzip(&text.as_bytes()[40..]));
    assert_eq!(show(read_bars_from("f", members.clone(), &options())), "X 1m: 1=1 2=2 3=3");
    members.truncate(members.len() - 9);
    let cut = show(read_bars_from("f", members, &options()));
    assert!(cut.contains("can't be read after line") && cut.contains("fetch the file again"), "{cut}");
}

#[test]
fn bombs_end_at_their_limits() {
    let limits = Limits { plain_bytes: 1 << 20, rows: 1_000, ..Limits::default() };
    let small = ReadOptions { limits, ..options() };
    let bomb = |bytes: &[u8]| show(read_bars_from("bomb", gzip(bytes), &small));
    assert!(bomb(&vec![b'x'; 8 << 20]).contains("more than 65536 bytes in one line"));
    assert!(bomb(&vec![b'\n'; 8 << 20]).contains("more than 1000 lines"));
    let long_rows =
        format!("time,open,high,low,close\n{}", format!("60,1,1,1,1{}\n", " ".repeat(10_000)).repeat(200));
    assert!(bomb(long_rows.as_bytes()).contains("more than 1048576 bytes of text"));
    assert!(bomb(&vec![b','; 60_000]).contains("more than 1024 columns"));
    let symbols: String = (0..50).map(|i| format!("60,1,1,1,1,S{i}\n")).collect();
    let few = ReadOptions { limits: Limits { symbols: 10, ..limits }, ..ReadOptions::default() };
    let many = show(read_bars_from("f", format!("time,open,high,low,close,symbol\n{symbols}").into(), &few));
    assert!(many.contains("f line 12: more than 10 symbols"), "{many}");
    // A reader that never ends.
    let mut gather = Gather::new("f", &small);
    let endless = text::read("f", Box::new(std::io::repeat(b'7')), false, &small, &mut gather);
    assert!(matches!(endless, Err(ReadError::Limit { what: "bytes in one line", .. })));
}

#[test]
fn files_that_are_not_there() {
    let missing = read_bars(Path::new("/nonexistent/x.csv"), &options()).expect_err("missing");
    assert!(missing.to_string().starts_with("can't open /nonexistent/x.csv: "), "{missing}");
    let folder = tempfile::tempdir().expect("folder");
    assert!(matches!(read_bars(folder.path(), &options()), Err(ReadError::Open { .. })));
    let path = folder.path().join("empty.csv");
    std::fs::write(&path, "").expect("written");
    assert!(matches!(read_bars(&path, &options()), Err(ReadError::Empty { .. })));
    std::fs::write(&path, format!("time,open,high,low,close,volume\n{THREE}")).expect("written");
    assert_eq!(show(read_bars(&path, &options())), "X 1m: 1=1 2=2 3=3");
}

fn price() -> impl Strategy<Value = f64> {
    prop_oneof![1e-300f64..1e-3, 0.1f64..1e6, 1e10f64..1e300, Just(f64::MIN_POSITIVE), Just(0.1 + 0.2)]
}

prop_compose! {
    fn bar_strategy()(
        symbol in prop::sample::select(vec!["A", "BTC/USDT:USDT", "x.y-z_9"]),
        timeframe in prop::sample::select(vec![1u32, 60, 90, 86_400]),
        ns in -4_000_000_000_000_000_000i64..4_000_000_000_000_000_000,
        mut prices in prop::array::uniform4(price()),
        volume in prop_oneof![Just(0.0), 0.0f64..1e12, 1e-300f64..1e-290],
        swap in any::<bool>(),
        revision in 0u32..3,
    ) -> Bar {
        prices.sort_by(f64::total_cmp);
        let [low, a, b, high] = prices;
        let (open, close) = if swap { (a, b) } else { (b, a) };
        let key = StreamKey {
            symbol: Symbol::new(symbol).expect("symbol"),
            timeframe: Timeframe::from_seconds(timeframe).expect("timeframe"),
        };
        Bar { key, open_time: Timestamp(ns), open, high, low, close, volume, is_final: true, revision }
    }
}

proptest! {
    #[test]
    fn written_bars_read_back_to_the_bit(bars in prop::collection::vec(bar_strategy(), 1..20), zipped in any::<bool>()) {
        let mut by_key = std::collections::BTreeMap::new();
        for bar in &bars {
            by_key.insert((bar.key.clone(), bar.open_time), bar.clone());
        }
        let expect: Vec<Bar> = by_key.into_values().collect();
        let mut text = Vec::new();
        write_csv(&expect, &mut text).expect("written");
        let content = if zipped { gzip(&text) } else { text };
        let read = read_bars_from("f", content, &ReadOptions::default()).expect("read");
        let got: Vec<Bar> = read.streams.into_iter().flat_map(|(_, bars)| bars).collect();
        prop_assert_eq!(got.len(), expect.len());
        prop_assert!(got.iter().zip(&expect).all(|(a, b)| a.key == b.key && a.open_time == b.open_time && a.same_content(b)));
    }

    #[test]
    fn random_bytes_are_refused_or_read(
        start in prop::sample::select(vec![&b""[..], b"PAR1", b"\x1f\x8b\x08\0", b"time,open,high,low,close,volume\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        zipped in any::<bool>(),
    ) {
        let content = [start, &bytes].concat();
        let content = if zipped { gzip(&content) } else { content };
        for on_bad in [OnBad::Refuse, OnBad::Skip] {
            survives(content.clone(), &ReadOptions { on_bad, ..options() })?;
        }
    }

    #[test]
    fn mutated_rows_are_refused_or_read(
        base in prop::sample::select(vec![
            "date,open,high,low,close,volume,Name\n2024-01-01,1,2,1,2,3,A\n2024-01-02,2,3,1,2,3,A\n2024-01-03,1,2,1,2,3,B\n",
            "19980102 09:00,136300,137500,135000,136300,540700\n19980102 10:00,136300,148100,135600,144400,1974100\n",
            "20070101 21:00,1.3,1.4,1.2,1.3,0,1.4,1.5,1.3,1.4,0\n20070101 22:00,1.3,1.4,1.2,1.3,0,1.4,1.5,1.3,1.4,0\n",
            "Time\tOpen\tHigh\tLow\tClose\n01.01.2017 22:00:00.000\t1\t1\t1\t1\n01.01.2017 23:00:00.000\t1\t1\t1\t1\n",
            "close_time,open,high,low,close\n1704067199999,1,1,1,1\n1704067259999,1,1,1,1\n",
        ]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0129,;\t\n\r.-+eE:TZ \"NaNinf\xff\0/".to_vec())), 0..6),
        inserted in any::<bool>(),
        zone in prop::sample::select(vec![None, Some("America/New_York".to_owned())]),
    ) {
        let mut bytes = base.as_bytes().to_vec();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            if inserted { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        for (on_bad, on_duplicate) in [(OnBad::Refuse, OnDuplicate::Refuse), (OnBad::Skip, OnDuplicate::KeepLast)] {
            survives(bytes.clone(), &ReadOptions { on_bad, on_duplicate, zone: zone.clone(), ..Default::default() })?;
            survives(bytes.clone(), &ReadOptions { on_bad, on_duplicate, zone: zone.clone(), ..options() })?;
        }
    }
}

/// An error with a message, or bars that hold what is promised of them.
pub(super) fn survives(content: Vec<u8>, options: &ReadOptions) -> Result<(), TestCaseError> {
    match read_bars_from("f", content, options) {
        Err(error) => {
            let message = error.to_string();
            prop_assert!(message.len() < 2_000 && !message.contains('\n'), "{}", message);
        }
        Ok(read) => {
            prop_assert!(read.report.to_string().len() < 20_000);
            let r = &read.report;
            prop_assert_eq!(r.rows, r.bars + r.bad_rows() + r.duplicates + r.replaced + r.others);
            for (key, bars) in &read.streams {
                prop_assert!(!bars.is_empty());
                prop_assert!(bars.iter().all(|b| b.key == *key && b.check().is_ok()));
                prop_assert!(bars.windows(2).all(|w| w[0].open_time < w[1].open_time));
            }
        }
    }
    Ok(())
}
