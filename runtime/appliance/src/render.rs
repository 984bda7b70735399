//! The bytes of replies: rendered once, when a prediction is made.

use std::fmt::Write;

use market::{StreamKey, Timestamp};

/// What a prediction's reply says.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'a> {
    pub seq: u64,
    pub key: &'a StreamKey,
    /// "btc-1h-lstm/1".
    pub model: &'a str,
    pub label: &'a str,
    pub horizon_bars: u32,
    pub value: f32,
    pub open_time: Timestamp,
    pub as_of: Timestamp,
    pub made_at: Timestamp,
    pub valid_until: Timestamp,
    pub device: &'a str,
    pub revision: u32,
    pub provisional: bool,
    pub recovered: bool,
    pub revised: bool,
}

/// Everything but the closing `,"durable_seq":N}`, which changes after the prediction is made.
pub fn prediction(shown: &Shown) -> String {
    let mut s = String::with_capacity(420);
    let Shown { seq, key, model, label, horizon_bars, value, .. } = shown;
    // Symbols, timeframes, models and labels need no escaping: their alphabets are checked.
    let _ = write!(
        s,
        "{{\"seq\":{seq},\"symbol\":\"{}\",\"timeframe\":\"{}\",\"model\":\"{model}\",\"label\":\"{label}\",\
         \"horizon_bars\":{horizon_bars},\"value\":{value},\"open_time\":\"{}\",\"as_of\":\"{}\",\"made_at\":\"{}\",\
         \"valid_until\":\"{}\",\"device\":\"{}\",\"degraded\":false,\"revision\":{}",
        key.symbol,
        key.timeframe,
        shown.open_time,
        shown.as_of,
        shown.made_at,
        shown.valid_until,
        shown.device,
        shown.revision,
    );
    for (name, set) in
        [("provisional", shown.provisional), ("recovered", shown.recovered), ("revised", shown.revised)]
    {
        if set {
            let _ = write!(s, ",\"{name}\":true");
        }
    }
    s
}

/// `{"error": message}` with more members, already JSON.
pub fn error(message: &str, members: &[(&str, String)]) -> String {
    let mut s = format!("{{\"error\":{}", quoted(message));
    for (name, json) in members {
        let _ = write!(s, ",\"{name}\":{json}");
    }
    s.push('}');
    s
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Symbol, Timeframe};

    #[test]
    fn a_prediction_is_json_with_the_exact_value() {
        let key = StreamKey {
            symbol: Symbol::new("BTC/USDT").unwrap(),
            timeframe: Timeframe::parse("1h").unwrap(),
        };
        for value in [0.001_234_567_9_f64 as f32, -0.0, f32::MIN_POSITIVE, f32::MAX, 1e-45] {
            let t = Timestamp::from_seconds(1_700_000_000);
            let mut text = prediction(&Shown {
                seq: 7,
                key: &key,
                model: "m/1",
                label: "log_return",
                horizon_bars: 1,
                value,
                open_time: t,
                as_of: t,
                made_at: t,
                valid_until: t,
                device: "cpu",
                revision: 0,
                provisional: false,
                recovered: true,
                revised: false,
            });
            text.push('}');
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((json["value"].as_f64().unwrap() as f32).to_bits(), value.to_bits(), "{text}");
            assert_eq!(json["recovered"], true);
            assert_eq!(json.get("revised"), None);
        }
    }
}
