//! Options and hyper-parameters: [`Schema`] declares them, [`Options`] reads the checked values.
//!
//! The host checks types, ranges and defaults against the schema before it calls, so a plugin only reads.

use std::ops::RangeInclusive;

use crate::json::{self, Value};

/// The JSON Schema extension that the host reads.
const LOG: &str = "\"x-scale\":\"log\"";

/// A JSON Schema under construction: one call for each option, each with its default.
#[derive(Default)]
pub struct Schema {
    properties: String,
}

impl Schema {
    pub fn new() -> Self {
        Schema::default()
    }

    pub fn integer(self, name: &str, range: RangeInclusive<i64>, default: i64, description: &str) -> Self {
        let (low, high) = range.into_inner();
        self.property(
            name,
            "integer",
            &format!("\"minimum\":{low},\"maximum\":{high},\"default\":{default}"),
            description,
        )
    }

    /// The numbers must be finite.
    pub fn number(self, name: &str, range: RangeInclusive<f64>, default: f64, description: &str) -> Self {
        let (low, high) = range.into_inner();
        let rest = format!("\"minimum\":{low:?},\"maximum\":{high:?},\"default\":{default:?}");
        self.property(name, "number", &rest, description)
    }

    /// An integer whose values differ by factors: the range begins above 0, and a search draws the logarithm
    /// evenly.
    pub fn integer_log(
        self,
        name: &str,
        range: RangeInclusive<i64>,
        default: i64,
        description: &str,
    ) -> Self {
        let (low, high) = range.into_inner();
        let rest = format!("\"minimum\":{low},\"maximum\":{high},\"default\":{default},{LOG}");
        self.property(name, "integer", &rest, description)
    }

    /// A number whose values differ by factors: the range begins above 0, and a search draws the logarithm evenly.
    pub fn number_log(self, name: &str, range: RangeInclusive<f64>, default: f64, description: &str) -> Self {
        let (low, high) = range.into_inner();
        let rest = format!("\"minimum\":{low:?},\"maximum\":{high:?},\"default\":{default:?},{LOG}");
        self.property(name, "number", &rest, description)
    }

    /// What the host trains with where its user says nothing: [`build`](crate::Architecture::build) needn't read
    /// it. From 1e-5 to 0.1.
    pub fn learning_rate(self, default: f64) -> Self {
        self.number_log("learning_rate", 1e-5..=0.1, default, "Of AdamW; read by the training.")
    }

    /// As [`learning_rate`](Self::learning_rate): AdamW's decoupled decay, from 1e-6 to 1.
    pub fn weight_decay(self, default: f64) -> Self {
        self.number_log("weight_decay", 1e-6..=1.0, default, "Of AdamW, on matrices; read by the training.")
    }

    /// As [`learning_rate`](Self::learning_rate): samples in a step, from 1 to 4096.
    pub fn batch(self, default: i64) -> Self {
        self.integer_log("batch", 1..=4096, default, "Samples in a training step; read by the training.")
    }

    pub fn boolean(self, name: &str, default: bool, description: &str) -> Self {
        self.property(name, "boolean", &format!("\"default\":{default}"), description)
    }

    pub fn choice(self, name: &str, values: &[&str], default: &str, description: &str) -> Self {
        let values: Vec<String> = values.iter().map(|value| json::quote(value)).collect();
        let rest = format!("\"enum\":[{}],\"default\":{}", values.join(","), json::quote(default));
        self.property(name, "string", &rest, description)
    }

    pub fn to_json(&self) -> String {
        format!(
            "{{\"type\":\"object\",\"properties\":{{{}}},\"additionalProperties\":false}}",
            self.properties
        )
    }

    fn property(mut self, name: &str, kind: &str, rest: &str, description: &str) -> Self {
        if !self.properties.is_empty() {
            self.properties.push(',');
        }
        let (name, description) = (json::quote(name), json::quote(description));
        self.properties
            .push_str(&format!("{name}:{{\"type\":\"{kind}\",{rest},\"description\":{description}}}"));
        self
    }
}

/// The values the host chose, one for each option of the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    values: Vec<(String, Value)>,
}

impl Options {
    /// Reads a flat JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        json::parse_object(text).map(|values| Options { values })
    }

    pub fn integer(&self, name: &str) -> Result<i64, String> {
        match self.get(name)? {
            // 2^53: beyond it a float no longer tells neighbouring integers apart.
            Value::Number(x) if x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0 => Ok(*x as i64),
            other => Err(format!("option {name} must be an integer, not {other}")),
        }
    }

    /// A count: an integer that is not negative and fits.
    pub fn count(&self, name: &str) -> Result<u32, String> {
        let value = self.integer(name)?;
        u32::try_from(value).map_err(|_| format!("option {name} must be from 0 to {}, not {value}", u32::MAX))
    }

    pub fn number(&self, name: &str) -> Result<f64, String> {
        match self.get(name)? {
            Value::Number(x) => Ok(*x),
            other => Err(format!("option {name} must be a number, not {other}")),
        }
    }

    pub fn boolean(&self, name: &str) -> Result<bool, String> {
        match self.get(name)? {
            Value::Boolean(x) => Ok(*x),
            other => Err(format!("option {name} must be true or false, not {other}")),
        }
    }

    pub fn text(&self, name: &str) -> Result<&str, String> {
        match self.get(name)? {
            Value::Text(x) => Ok(x),
            other => Err(format!("option {name} must be a string, not {other}")),
        }
    }

    fn get(&self, name: &str) -> Result<&Value, String> {
        let found = self.values.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("option {name} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_one_json_object() {
        let schema = Schema::new()
            .integer("hidden", 1..=1024, 64, "Units.")
            .number("rate", 0.0..=0.9, 0.0, "A \"rate\".")
            .boolean("bias", true, "")
            .choice("mode", &["a", "b"], "b", "Which.")
            .integer_log("units", 1..=512, 8, "")
            .number_log("step", 1e-5..=0.5, 1e-3, "");
        assert_eq!(
            schema.to_json(),
            concat!(
                r#"{"type":"object","properties":{"#,
                r#""hidden":{"type":"integer","minimum":1,"maximum":1024,"default":64,"description":"Units."},"#,
                r#""rate":{"type":"number","minimum":0.0,"maximum":0.9,"default":0.0,"description":"A \"rate\"."},"#,
                r#""bias":{"type":"boolean","default":true,"description":""},"#,
                r#""mode":{"type":"string","enum":["a","b"],"default":"b","description":"Which."},"#,
                r#""units":{"type":"integer","minimum":1,"maximum":512,"default":8,"x-scale":"log","description":""},"#,
                r#""step":{"type":"number","minimum":1e-5,"maximum":0.5,"default":0.001,"x-scale":"log","description":""}"#,
                r#"},"additionalProperties":false}"#
            )
        );
        assert_eq!(
            Schema::new().to_json(),
            r#"{"type":"object","properties":{},"additionalProperties":false}"#
        );
    }

    #[test]
    fn values_are_read_by_type() {
        let options = Options::parse(r#"{"n": 3, "x": -2.5e-1, "on": true, "mode": "b"}"#).unwrap();
        assert_eq!(options.integer("n"), Ok(3));
        assert_eq!(options.count("n"), Ok(3));
        assert_eq!(options.number("n"), Ok(3.0));
        assert_eq!(options.number("x"), Ok(-0.25));
        assert_eq!(options.boolean("on"), Ok(true));
        assert_eq!(options.text("mode"), Ok("b"));
    }

    #[test]
    fn an_error_names_the_option() {
        let options = Options::parse(r#"{"n": 3.5, "neg": -1, "big": 1e300, "none": null}"#).unwrap();
        assert_eq!(options.integer("n").unwrap_err(), "option n must be an integer, not 3.5");
        assert_eq!(options.count("neg").unwrap_err(), "option neg must be from 0 to 4294967295, not -1");
        assert!(options.integer("big").is_err());
        assert_eq!(options.text("none").unwrap_err(), "option none must be a string, not null");
        assert_eq!(options.boolean("gone").unwrap_err(), "option gone is missing");
    }
}
