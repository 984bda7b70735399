//! The bytes of replies: rendered once, when a prediction is made.

use std::fmt::Write;

use learn::reading::Reading;
use market::{StreamKey, Timestamp};
use registry::Output;
use store::Uncertainty;

use crate::resolve::Tally;

/// What a model's predictions are, in JSON and made once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    /// `"unit":…,"output":…`, and `"confidence_of":…` where there is a confidence.
    members: String,
    /// Of each value the name that it is shown by: a level or a class. Empty for a point.
    names: Vec<String>,
    /// "quantiles" or "probabilities".
    list: &'static str,
    /// Of a direction.
    has_class: bool,
}

impl Meaning {
    pub fn of(reading: &Reading, is_calibrated: bool) -> Meaning {
        let mut members =
            format!("\"unit\":{},\"output\":\"{}\"", quoted(reading.unit()), reading.output.name());
        if is_calibrated {
            let _ = write!(members, ",\"confidence_of\":{}", quoted(&reading.confidence_of()));
        }
        let (list, names) = match &reading.output {
            Output::Point => ("", Vec::new()),
            Output::Quantiles { levels } => ("quantiles", levels.iter().map(f64::to_string).collect()),
            Output::Probabilities => {
                let classes = learn::output::classes(&reading.label).iter();
                ("probabilities", classes.map(|(name, _)| name.to_string()).collect())
            }
        };
        Meaning { members, names, list, has_class: reading.output == Output::Probabilities }
    }

    /// The members that say how `values` are meant, each behind a comma.
    pub fn write(&self, s: &mut String, values: &[f32]) {
        if !self.members.is_empty() {
            let _ = write!(s, ",{}", self.members);
        }
        if self.names.is_empty() {
            return;
        }
        if self.has_class
            && let Some(best) = (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b]))
            && let Some(name) = self.names.get(best)
        {
            let _ = write!(s, ",\"class\":\"{name}\"");
        }
        let _ = write!(s, ",\"{}\":{{", self.list);
        for (i, (name, value)) in self.names.iter().zip(values).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(s, "{comma}\"{name}\":{value}");
        }
        s.push('}');
    }
}

/// `,"confidence":…,"interval":{…}`; both null for a model without calibration. `tally`: how the intervals of the
/// stream did so far.
pub fn write_uncertainty(s: &mut String, uncertainty: Option<Uncertainty>, tally: Option<Tally>) {
    let Some(Uncertainty { confidence, low, high, level }) = uncertainty else {
        s.push_str(",\"confidence\":null,\"interval\":null");
        return;
    };
    let _ = write!(
        s,
        ",\"confidence\":{confidence},\"interval\":{{\"low\":{low},\"high\":{high},\"level\":{level}"
    );
    match tally {
        Some(Tally { resolved, covered }) => {
            let _ = write!(s, ",\"method\":\"adaptive\",\"resolved\":{resolved},\"covered\":{covered}}}");
        }
        None => s.push_str(",\"method\":\"split\"}"),
    }
}

/// The last member of the reply of a prediction that stands beside the one that polls get.
pub const SHADOW: &str = ",\"shadow\":true";

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
    pub meaning: &'a Meaning,
    pub values: &'a [f32],
    pub uncertainty: Option<Uncertainty>,
    pub tally: Tally,
    pub open_time: Timestamp,
    pub as_of: Timestamp,
    pub made_at: Timestamp,
    pub valid_until: Timestamp,
    pub device: &'a str,
    pub revision: u32,
    pub provisional: bool,
    pub recovered: bool,
    pub revised: bool,
    pub shadow: bool,
}

/// Everything but the closing `,"durable_seq":N}`, which changes after the prediction is made.
pub fn prediction(shown: &Shown) -> String {
    let mut s = String::with_capacity(900);
    let Shown { seq, key, model, label, horizon_bars, value, .. } = shown;
    // Symbols, timeframes, models and labels need no escaping: their alphabets are checked.
    let _ = write!(
        s,
        "{{\"seq\":{seq},\"symbol\":\"{}\",\"timeframe\":\"{}\",\"model\":\"{model}\",\"label\":\"{label}\",\
         \"horizon_bars\":{horizon_bars},\"value\":{value}",
        key.symbol, key.timeframe,
    );
    shown.meaning.write(&mut s, shown.values);
    write_uncertainty(&mut s, shown.uncertainty, Some(shown.tally));
    let _ = write!(
        s,
        ",\"open_time\":\"{}\",\"as_of\":\"{}\",\"made_at\":\"{}\",\
         \"valid_until\":\"{}\",\"device\":\"{}\",\"degraded\":false,\"revision\":{}",
        shown.open_time, shown.as_of, shown.made_at, shown.valid_until, shown.device, shown.revision,
    );
    for (name, set) in
        [("provisional", shown.provisional), ("recovered", shown.recovered), ("revised", shown.revised)]
    {
        if set {
            let _ = write!(s, ",\"{name}\":true");
        }
    }
    if shown.shadow {
        s.push_str(SHADOW);
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
    use learn::label::LabelRecipe;
    use learn::normalise::LabelScale;
    use market::{Symbol, Timeframe};
    use registry::{GapPolicy, LabelKind};

    fn rendered(kind: LabelKind, output: Output, values: &[f32]) -> serde_json::Value {
        let label = LabelRecipe { kind, horizon_bars: 3, gaps: GapPolicy::Drop, dead_band: None };
        let scale = LabelScale { mean: 0.0, scale: 1.0 };
        let meaning = Meaning::of(&Reading::new(label, output, scale, 0.9, 1.5), true);
        let mut s = "{\"value\":0".to_string();
        meaning.write(&mut s, values);
        let sure = Uncertainty { confidence: 0.625, low: -1.5, high: 2.5, level: 0.9 };
        write_uncertainty(&mut s, Some(sure), Some(Tally { resolved: 4, covered: 3 }));
        s.push('}');
        serde_json::from_str(&s).unwrap()
    }

    #[test]
    fn outputs_and_uncertainty_say_what_they_mean() {
        let json = rendered(LabelKind::Direction, Output::Probabilities, &[0.25, 0.75]);
        assert_eq!((&json["class"], &json["probabilities"]["down"]), (&"up".into(), &0.25.into()), "{json}");
        assert_eq!(json["unit"], "1 up, 0 flat, -1 down");
        let levels = vec![0.05, 0.5, 0.95];
        let json = rendered(LabelKind::LogReturn, Output::Quantiles { levels }, &[-0.5, 0.25, 1.0]);
        assert_eq!((&json["quantiles"]["0.05"], json.get("class")), (&(-0.5).into(), None), "{json}");
        let json = rendered(LabelKind::RealisedVolatility, Output::Point, &[0.5]);
        assert_eq!((&json["confidence"], &json["output"]), (&0.625.into(), &"point".into()));
        assert!(json["confidence_of"].as_str().unwrap().contains("1.5"), "{json}");
        let interval = &json["interval"];
        assert_eq!(
            (&interval["low"], &interval["high"], &interval["level"]),
            (&(-1.5).into(), &2.5.into(), &0.9.into())
        );
        assert_eq!((&interval["resolved"], &interval["covered"]), (&4.into(), &3.into()));
        let mut s = String::new();
        write_uncertainty(&mut s, None, None);
        assert_eq!(s, ",\"confidence\":null,\"interval\":null");
    }

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
                meaning: &Meaning::default(),
                values: &[value],
                uncertainty: None,
                tally: Tally::default(),
                open_time: t,
                as_of: t,
                made_at: t,
                valid_until: t,
                device: "cpu",
                revision: 0,
                provisional: false,
                recovered: true,
                revised: false,
                shadow: false,
            });
            text.push('}');
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((json["value"].as_f64().unwrap() as f32).to_bits(), value.to_bits(), "{text}");
            assert_eq!(json["recovered"], true);
            assert_eq!(json.get("revised"), None);
        }
    }
}
