//! The hyper-parameters that are the host's: an architecture declares them, training reads them, `build` ignores
//! them.

use serde_json::{Map, Value};

use crate::schema::{Kind, Schema, SchemaError};

const LEARNING_RATE: &str = "learning_rate";
const WEIGHT_DECAY: &str = "weight_decay";
const BATCH: &str = "batch";

/// What an architecture, or its user, says of its training; absent: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainingHyper {
    pub learning_rate: Option<f64>,
    pub weight_decay: Option<f64>,
    /// Samples in a step.
    pub batch: Option<u32>,
}

impl TrainingHyper {
    /// Takes them out of hyper-parameters that are [filled in](Schema::fill), so that each stands in one place. The
    /// rest builds the same graph: what is missing gets its default again.
    pub fn take(hyper: &mut Map<String, Value>) -> Self {
        TrainingHyper {
            learning_rate: hyper.remove(LEARNING_RATE).and_then(|v| v.as_f64()),
            weight_decay: hyper.remove(WEIGHT_DECAY).and_then(|v| v.as_f64()),
            batch: hyper.remove(BATCH).and_then(|v| u32::try_from(v.as_u64()?).ok()),
        }
    }
}

/// That the properties of these names are what training can read.
pub(crate) fn check(schema: &Schema) -> Result<(), SchemaError> {
    for property in &schema.properties {
        let (fits, wanted) = match (property.name.as_str(), &property.kind) {
            (LEARNING_RATE, Kind::Number { minimum, .. }) => (*minimum > 0.0, "a number above 0"),
            (LEARNING_RATE, _) => (false, "a number above 0"),
            (WEIGHT_DECAY, Kind::Number { minimum, .. }) => (*minimum >= 0.0, "a number of at least 0"),
            (WEIGHT_DECAY, _) => (false, "a number of at least 0"),
            (BATCH, Kind::Integer { minimum, maximum, .. }) => {
                (*minimum >= 1 && *maximum <= i64::from(u32::MAX), "an integer from 1 to 4294967295")
            }
            (BATCH, _) => (false, "an integer from 1 to 4294967295"),
            _ => (true, ""),
        };
        if !fits {
            let message = format!("is read by the training and must be {wanted}, or have another name");
            return Err(SchemaError::Property { name: property.name.clone(), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(properties: Value) -> Schema {
        Schema::parse(&json!({ "properties": properties }).to_string()).expect("a schema")
    }

    #[test]
    fn they_are_taken_out_once_filled_in() {
        let schema = schema(json!({
            "hidden": {"type": "integer", "minimum": 1, "maximum": 9, "default": 2},
            "learning_rate": {"type": "number", "minimum": 1e-5, "maximum": 0.1, "default": 0.003},
            "weight_decay": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.0},
            "batch": {"type": "integer", "minimum": 1, "maximum": 512, "default": 32},
        }));
        assert_eq!(check(&schema), Ok(()));
        let given = json!({"batch": 16});
        let mut hyper = schema.fill(given.as_object().expect("an object")).expect("fits");
        let found = TrainingHyper::take(&mut hyper);
        let expected = TrainingHyper { learning_rate: Some(0.003), weight_decay: Some(0.0), batch: Some(16) };
        assert_eq!(found, expected);
        assert_eq!(Value::Object(hyper.clone()), json!({"hidden": 2}));
        assert_eq!(TrainingHyper::take(&mut hyper), TrainingHyper::default());
    }

    #[test]
    fn what_training_cannot_read_is_refused() {
        for (name, property, says) in [
            (
                "learning_rate",
                json!({"type": "number", "minimum": 0, "maximum": 1, "default": 0.1}),
                "above 0",
            ),
            ("learning_rate", json!({"type": "boolean", "default": true}), "a number above 0"),
            (
                "weight_decay",
                json!({"type": "number", "minimum": -1, "maximum": 1, "default": 0}),
                "at least 0",
            ),
            ("batch", json!({"type": "integer", "minimum": 0, "maximum": 9, "default": 1}), "from 1"),
            ("batch", json!({"type": "number", "minimum": 1, "maximum": 9, "default": 1}), "an integer"),
        ] {
            let error = check(&schema(json!({ name: property }))).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains(says), "{error}");
        }
    }
}
