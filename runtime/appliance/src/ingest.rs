//! The body of `POST /v1/bars`: one bar as JSON, an array of bars, or one bar a line (NDJSON).
//! Each stands alone: a bad one is answered with its number and the reason, the good ones are taken.

use std::borrow::Cow;

use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A checked bar on its way to the data path.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    pub bar: Bar,
    /// Warms the window without a prediction.
    pub backfill: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    timeframe: Cow<'a, str>,
    open_time: Timestamp,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
    #[serde(default = "yes", rename = "final")]
    is_final: bool,
    #[serde(default)]
    revision: u32,
    #[serde(default)]
    backfill: bool,
}

fn yes() -> bool {
    true
}

/// One result for each bar in the body, in order; the number is its line, from 1.
pub type Parsed = Vec<(u64, Result<Incoming, String>)>;

/// Refused whole: too many bars, not UTF-8, or an array that isn't JSON.
#[derive(Debug, PartialEq)]
pub enum BodyError {
    TooMany { limit: usize },
    Malformed(String),
}

pub fn parse(body: &[u8], lines_max: usize) -> Result<Parsed, BodyError> {
    let text =
        std::str::from_utf8(body).map_err(|e| BodyError::Malformed(format!("the body is not UTF-8: {e}")))?;
    let trimmed = text.trim_start();
    let mut parsed = Parsed::new();
    if trimmed.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(trimmed)
            .map_err(|e| BodyError::Malformed(format!("the body is not a JSON array: {e}")))?;
        if items.len() > lines_max {
            return Err(BodyError::TooMany { limit: lines_max });
        }
        parsed.extend(items.iter().enumerate().map(|(i, item)| (i as u64 + 1, line(item.get()))));
    } else if let Some(one) = whole(trimmed) {
        parsed.push((1, one));
    } else {
        for (i, text) in text.lines().enumerate() {
            if text.trim().is_empty() {
                continue;
            }
            if parsed.len() == lines_max {
                return Err(BodyError::TooMany { limit: lines_max });
            }
            parsed.push((i as u64 + 1, line(text)));
        }
    }
    Ok(parsed)
}

/// A single object that may span lines.
fn whole(text: &str) -> Option<Result<Incoming, String>> {
    let first = text.lines().next()?.trim_end();
    // An object that ends on its first line is a line like others.
    if first.ends_with('}') || !first.starts_with('{') {
        return None;
    }
    serde_json::from_str::<&RawValue>(text).ok().map(|raw| line(raw.get()))
}

fn line(text: &str) -> Result<Incoming, String> {
    let line: Line = serde_json::from_str(text).map_err(|e| format!("not a bar: {e}"))?;
    let key = StreamKey {
        symbol: Symbol::new(&line.symbol).map_err(|e| e.to_string())?,
        timeframe: Timeframe::parse(&line.timeframe).map_err(|e| e.to_string())?,
    };
    let bar = Bar {
        key,
        open_time: line.open_time,
        open: line.open,
        high: line.high,
        low: line.low,
        close: line.close,
        volume: line.volume,
        is_final: line.is_final,
        revision: line.revision,
    };
    bar.check().map_err(|e| e.to_string())?;
    Ok(Incoming { bar, backfill: line.backfill })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"symbol":"BTCUSDT","timeframe":"1h","open_time":"2024-01-01T00:00:00Z","open":1,"high":2,"low":0.5,"close":1.5,"volume":3}"#;

    #[test]
    fn one_many_and_lines() {
        assert_eq!(parse(GOOD.as_bytes(), 9).unwrap().len(), 1);
        let pretty = GOOD.replace(',', ",\n");
        assert!(parse(pretty.as_bytes(), 9).unwrap()[0].1.is_ok());
        let array = format!("[{GOOD},\n{GOOD}]");
        assert_eq!(parse(array.as_bytes(), 9).unwrap().iter().filter(|(_, r)| r.is_ok()).count(), 2);
        let lines = format!("{GOOD}\n\nnonsense\n{GOOD}\r\n");
        let parsed = parse(lines.as_bytes(), 9).unwrap();
        let numbers: Vec<_> = parsed.iter().map(|(n, r)| (*n, r.is_ok())).collect();
        assert_eq!(numbers, [(1, true), (3, false), (4, true)]);
    }

    #[test]
    fn each_mistake_has_its_reason() {
        let cases = [
            (GOOD.replace(":1,", ":NaN,"), "not a bar"),
            (GOOD.replace(":1,", ":1e999,"), "out of range"),
            (GOOD.replace(":1,", ":-1,"), "open is -1"),
            (GOOD.replace(":2,", ":0.7,"), "high 0.7"),
            (GOOD.replace("BTCUSDT", ""), "symbol ''"),
            (GOOD.replace("BTCUSDT", "A B"), "symbol 'A B'"),
            (GOOD.replace("1h", "1x"), "timeframe '1x'"),
            (GOOD.replace("2024-01-01T00:00:00Z", "yesterday"), "'yesterday' is not a time"),
            (GOOD.replace("\"volume\":3", "\"volume\":-3"), "volume is -3"),
            (GOOD.replace("\"volume\":3", "\"volume\":\"3\""), "invalid type"),
            (GOOD.replace("volume", "vol"), "unknown field `vol`"),
            (GOOD.replace(",\"volume\":3", ""), "missing field `volume`"),
            (GOOD[..40].to_string(), "not a bar"),
        ];
        for (text, reason) in cases {
            let parsed = parse(text.as_bytes(), 9).unwrap();
            let error = parsed[0].1.as_ref().unwrap_err();
            assert!(error.contains(reason), "{text} gave {error}");
        }
    }

    #[test]
    fn limits() {
        let lines = format!("{GOOD}\n").repeat(4);
        assert_eq!(parse(lines.as_bytes(), 3), Err(BodyError::TooMany { limit: 3 }));
        assert!(matches!(parse(&[b'[', 0xff], 3), Err(BodyError::Malformed(_))));
        assert!(matches!(parse(b"[1,", 3), Err(BodyError::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse(&body, 10);
        }

        #[test]
        fn no_changed_bar_panics(at in 0usize..140, byte in proptest::prelude::any::<u8>()) {
            let mut body = GOOD.as_bytes().to_vec();
            let at = at % body.len();
            body[at] = byte;
            if let Ok(parsed) = parse(&body, 10) {
                for (_, result) in parsed {
                    if let Ok(incoming) = result {
                        proptest::prop_assert!(incoming.bar.check().is_ok());
                    }
                }
            }
        }
    }
}
