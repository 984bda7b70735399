use proptest::prelude::*;
use serde_json::json;

use super::*;

fn sample() -> Schema {
    let text = r#"{"type": "object", "properties": {
        "hidden": {"type": "integer", "minimum": 1, "maximum": 512, "default": 64, "description": "units"},
        "rate": {"type": "number", "minimum": 0, "maximum": 0.9, "default": 0.1},
        "bias": {"type": "boolean", "default": true},
        "cell": {"type": "string", "enum": ["lstm", "gru"], "default": "lstm"}}}"#;
    Schema::parse(text).expect("valid")
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[test]
fn defaults_fill_what_is_not_given() {
    let filled = sample().fill(&map(json!({"hidden": 8.0, "cell": "gru"}))).expect("fits");
    assert_eq!(Value::Object(filled), json!({"hidden": 8, "rate": 0.1, "bias": true, "cell": "gru"}));
    assert_eq!(sample().fill(&Map::new()), Ok(sample().defaults()));
}

#[test]
fn values_out_of_range_are_named_with_their_range() {
    let refused = |value: Value| sample().fill(&map(value)).expect_err("refused").to_string();
    assert_eq!(
        refused(json!({"hidden": 513})),
        "option \"hidden\" is 513; it must be a whole number from 1 to 512"
    );
    assert!(refused(json!({"hidden": 0})).contains("from 1 to 512"));
    assert!(refused(json!({"hidden": 1.5})).contains("whole number"));
    assert!(refused(json!({"hidden": "64"})).contains("whole number"));
    assert!(refused(json!({"hidden": 1e300})).contains("whole number"));
    assert!(refused(json!({"rate": 0.91})).contains("a number from 0 to 0.9"));
    assert!(refused(json!({"bias": 1})).contains("true or false"));
    assert!(refused(json!({"cell": "rnn"})).contains("one of lstm, gru"));
    assert_eq!(
        refused(json!({"hiden": 1})),
        "there is no option \"hiden\"; there are bias, cell, hidden, rate"
    );
}

#[test]
fn help_shows_default_range_and_description() {
    let text = sample().describe();
    assert!(text.contains("hidden = 64 (a whole number from 1 to 512): units\n"), "{text}");
    assert!(text.contains("cell = \"lstm\" (one of lstm, gru)\n"), "{text}");
}

#[test]
fn a_logarithmic_scale_is_kept_and_shown() {
    let schema = Schema::parse(
        r#"{"properties": {
            "rate": {"type": "number", "minimum": 1e-5, "maximum": 0.1, "default": 0.001, "x-scale": "log"},
            "units": {"type": "integer", "minimum": 1, "maximum": 512, "default": 64, "x-scale": "log"},
            "drop": {"type": "number", "minimum": 0, "maximum": 0.9, "default": 0, "x-scale": "linear"}}}"#,
    )
    .expect("a schema");
    let scale = |name: &str| schema.property(name).map(|p| p.log_scale);
    assert_eq!((scale("rate"), scale("units"), scale("drop")), (Some(true), Some(true), Some(false)));
    let text = schema.describe();
    assert!(text.contains("rate = 0.001 (a number from 0.00001 to 0.1, log scale)\n"), "{text}");
    assert!(text.contains("drop = 0.0 (a number from 0 to 0.9)\n"), "{text}");
}

#[test]
fn a_wrong_schema_names_the_property() {
    let one = |property: &str| {
        Schema::parse(&format!(r#"{{"properties": {{"x": {property}}}}}"#)).expect_err(property).to_string()
    };
    assert!(
        one(r#"{"type": "integer", "minimum": 1, "maximum": 2}"#).contains("\"x\" must have a \"default\"")
    );
    assert!(one(r#"{"type": "integer", "maximum": 2, "default": 1}"#).contains("must have a \"minimum\""));
    assert!(
        one(r#"{"type": "integer", "minimum": 1, "maximum": 2, "default": 3}"#)
            .contains("not within 1 and 2")
    );
    assert!(one(r#"{"type": "integer", "minimum": 2, "maximum": 1, "default": 1}"#).contains("not within"));
    assert!(
        one(r#"{"type": "number", "minimum": "a", "maximum": 1, "default": 1}"#)
            .contains("not a finite number")
    );
    assert!(one(r#"{"type": "boolean", "default": 1}"#).contains("not true or false"));
    assert!(one(r#"{"type": "string", "default": "a"}"#).contains("must have a \"enum\""));
    assert!(one(r#"{"type": "string", "enum": [], "default": "a"}"#).contains("0 choices"));
    assert!(one(r#"{"type": "string", "enum": ["b"], "default": "a"}"#).contains("not in its enum"));
    assert!(one(r#"{"type": "array"}"#).contains("must have the type"));
    assert!(one(r#"{"type": "boolean", "default": true, "pattern": "a"}"#).contains("\"pattern\""));
    assert!(one("7").contains("not an object"));
    let scaled = |minimum: &str, scale: &str| {
        one(&format!(
            r#"{{"type": "number", "minimum": {minimum}, "maximum": 1, "default": 1, "x-scale": {scale}}}"#
        ))
    };
    assert!(scaled("0", r#""log""#).contains("no minimum above 0"));
    assert!(scaled("0.1", r#""logit""#).contains("neither \"log\" nor \"linear\""));
    assert!(scaled("0.1", "10").contains("neither \"log\" nor \"linear\""));
    assert!(one(r#"{"type": "boolean", "default": true, "x-scale": "log"}"#).contains("\"x-scale\""));
}

#[test]
fn a_schema_has_limits() {
    let shape = |text: &str| Schema::parse(text).expect_err("refused");
    assert!(matches!(shape("{"), SchemaError::Shape(_)));
    assert!(matches!(shape("[]"), SchemaError::Shape(_)));
    assert!(matches!(shape("{}"), SchemaError::Shape(_)));
    assert!(matches!(shape(r#"{"properties": {}, "allOf": []}"#), SchemaError::Shape(_)));
    assert!(matches!(shape(&" ".repeat(70_000)), SchemaError::TooLong { bytes: 70_000 }));
    let many: Vec<String> =
        (0..200).map(|i| format!(r#""p{i}": {{"type": "boolean", "default": true}}"#)).collect();
    let many = format!(r#"{{"properties": {{{}}}}}"#, many.join(","));
    assert_eq!(shape(&many), SchemaError::TooManyProperties(200));
    let long = format!(r#"{{"properties": {{"{}": {{}}}}}}"#, "n".repeat(65));
    assert!(matches!(shape(&long), SchemaError::Property { .. }));
    assert!(matches!(shape(&"[".repeat(10_000)), SchemaError::Shape(_)));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = Schema::parse(&text);
    }

    #[test]
    fn any_integer_within_the_range_is_taken_and_no_other(n in any::<i64>()) {
        let taken = sample().fill(&map(json!({"hidden": n})));
        prop_assert_eq!(taken.is_ok(), (1..=512).contains(&n));
    }

    #[test]
    fn what_is_filled_fills_to_itself(hidden in 1i64..=512, rate in 0.0..=0.9f64, bias in any::<bool>()) {
        let filled = sample().fill(&map(json!({"hidden": hidden, "rate": rate, "bias": bias}))).expect("fits");
        prop_assert_eq!(sample().fill(&filled), Ok(filled.clone()));
    }
}
