//! A plugin's options: a small part of JSON Schema, where every property has a type, a range and a default.

use std::fmt;

use serde_json::{Map, Value};

use crate::log::clean;

const SCHEMA_BYTES_MAX: usize = 64 << 10;
const PROPERTIES_MAX: usize = 128;
const CHOICES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 1 << 10;
/// Integers beyond it have no exact JSON number everywhere: 2⁵³.
const INTEGER_MAX: i64 = 1 << 53;

/// In the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    pub properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    pub name: String,
    pub kind: Kind,
    /// "x-scale": "log": values differ by factors, and a search draws the logarithm evenly. Only of integers and
    /// numbers whose minimum is above 0.
    pub log_scale: bool,
    pub description: String,
}

/// Bounds are inclusive.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Integer { minimum: i64, maximum: i64, default: i64 },
    Number { minimum: f64, maximum: f64, default: f64 },
    Boolean { default: bool },
    Choice { options: Vec<String>, default: String },
}

/// What the author must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaError {
    TooLong {
        bytes: usize,
    },
    /// Not a JSON object with "properties".
    Shape(String),
    TooManyProperties(usize),
    /// The property and what is wrong with it.
    Property {
        name: String,
        message: String,
    },
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaError::TooLong { bytes } => {
                write!(f, "it has {bytes} bytes; at most {SCHEMA_BYTES_MAX} go")
            }
            SchemaError::Shape(e) => write!(f, "it must be a JSON object {{\"properties\": {{…}}}}: {e}"),
            SchemaError::TooManyProperties(n) => {
                write!(f, "it has {n} properties; at most {PROPERTIES_MAX} go")
            }
            SchemaError::Property { name, message } => write!(f, "property \"{name}\" {message}"),
        }
    }
}

impl std::error::Error for SchemaError {}

/// What the user must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueError {
    Unknown {
        name: String,
        known: Vec<String>,
    },
    /// The property, what was given, and what it takes.
    Value {
        name: String,
        given: String,
        takes: String,
    },
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Unknown { name, known } if known.is_empty() => {
                write!(f, "there is no option \"{name}\": it takes none")
            }
            ValueError::Unknown { name, known } => {
                write!(f, "there is no option \"{name}\"; there are {}", known.join(", "))
            }
            ValueError::Value { name, given, takes } => {
                write!(f, "option \"{name}\" is {given}; it must be {takes}")
            }
        }
    }
}

impl std::error::Error for ValueError {}

impl Schema {
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong { bytes: text.len() });
        }
        let root: Value = serde_json::from_str(text).map_err(|e| SchemaError::Shape(e.to_string()))?;
        let root = root.as_object().ok_or_else(|| SchemaError::Shape("it is not an object".into()))?;
        for (key, value) in root {
            match key.as_str() {
                "properties" | "title" | "description" | "$schema" | "required" => {}
                "type" if value == "object" => {}
                "additionalProperties" if value == &Value::Bool(false) => {}
                _ => return Err(SchemaError::Shape(format!("\"{}\" is not supported", clean(key, 64)))),
            }
        }
        let properties = match root.get("properties") {
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(SchemaError::Shape("\"properties\" is not an object".into())),
            None => return Err(SchemaError::Shape("\"properties\" is missing".into())),
        };
        if properties.len() > PROPERTIES_MAX {
            return Err(SchemaError::TooManyProperties(properties.len()));
        }
        let properties = properties.iter().map(|(name, value)| Property::parse(name, value));
        Ok(Schema { properties: properties.collect::<Result<_, _>>()? })
    }

    pub fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|p| p.name == name)
    }

    /// Every property with the given value or its default.
    pub fn fill(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, ValueError> {
        if let Some(name) = given.keys().find(|name| self.property(name).is_none()) {
            let known = self.properties.iter().map(|p| p.name.clone()).collect();
            return Err(ValueError::Unknown { name: clean(name, NAME_BYTES_MAX), known });
        }
        let filled = self.properties.iter().map(|p| {
            let value = given.get(&p.name).map_or_else(|| Ok(p.kind.default_value()), |v| p.check(v))?;
            Ok((p.name.clone(), value))
        });
        filled.collect()
    }

    pub fn defaults(&self) -> Map<String, Value> {
        self.properties.iter().map(|p| (p.name.clone(), p.kind.default_value())).collect()
    }

    /// For help texts: one line a property, "hidden = 64 (a whole number from 1 to 512): units of the hidden layer";
    /// a property of logarithmic scale says so.
    pub fn describe(&self) -> String {
        let line = |p: &Property| {
            let text = if p.description.is_empty() { String::new() } else { format!(": {}", p.description) };
            let scale = if p.log_scale { ", log scale" } else { "" };
            format!("{} = {} ({}{scale}){text}\n", p.name, p.kind.default_value(), p.kind.takes())
        };
        self.properties.iter().map(line).collect()
    }
}

impl Kind {
    pub fn default_value(&self) -> Value {
        match self {
            Kind::Integer { default, .. } => Value::from(*default),
            Kind::Number { default, .. } => Value::from(*default),
            Kind::Boolean { default } => Value::from(*default),
            Kind::Choice { default, .. } => Value::from(default.as_str()),
        }
    }

    fn takes(&self) -> String {
        match self {
            Kind::Integer { minimum, maximum, .. } => format!("a whole number from {minimum} to {maximum}"),
            Kind::Number { minimum, maximum, .. } => format!("a number from {minimum} to {maximum}"),
            Kind::Boolean { .. } => "true or false".into(),
            Kind::Choice { options, .. } => format!("one of {}", options.join(", ")),
        }
    }
}

impl Property {
    fn parse(name: &str, value: &Value) -> Result<Self, SchemaError> {
        let error = |message: String| SchemaError::Property { name: clean(name, NAME_BYTES_MAX), message };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(error(format!("must be named by 1 to {NAME_BYTES_MAX} of letters, digits, _ and -")));
        }
        let fields = value.as_object().ok_or_else(|| error("is not an object".into()))?;
        let kind = match fields.get("type").and_then(Value::as_str) {
            Some("integer") => parse_integer(fields),
            Some("number") => parse_number(fields),
            Some("boolean") => parse_boolean(fields),
            Some("string") => parse_choice(fields),
            _ => Err("must have the type integer, number, boolean or string".into()),
        };
        let description = match fields.get("description") {
            None => "",
            Some(Value::String(text)) => text.as_str(),
            Some(_) => return Err(error("has a description that is not a string".into())),
        };
        let description = clean(description, DESCRIPTION_BYTES_MAX).replace('\n', " ");
        let kind = kind.map_err(error)?;
        let log_scale = parse_scale(fields, &kind).map_err(error)?;
        Ok(Property { name: name.into(), kind, log_scale, description })
    }

    fn check(&self, value: &Value) -> Result<Value, ValueError> {
        let checked = match &self.kind {
            Kind::Integer { minimum, maximum, .. } => {
                integer(value).filter(|n| (minimum..=maximum).contains(&n)).map(Value::from)
            }
            Kind::Number { minimum, maximum, .. } => {
                value.as_f64().filter(|x| (minimum..=maximum).contains(&x)).map(Value::from)
            }
            Kind::Boolean { .. } => value.as_bool().map(Value::from),
            Kind::Choice { options, .. } => {
                value.as_str().filter(|s| options.iter().any(|o| o == s)).map(Value::from)
            }
        };
        checked.ok_or_else(|| ValueError::Value {
            name: self.name.clone(),
            given: clean(&value.to_string(), 128),
            takes: self.kind.takes(),
        })
    }
}

/// A whole number, also when it is written as 3.0.
fn integer(value: &Value) -> Option<i64> {
    let n = match value.as_i64() {
        Some(n) => n,
        None => value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() <= INTEGER_MAX as f64)? as i64,
    };
    (-INTEGER_MAX..=INTEGER_MAX).contains(&n).then_some(n)
}

fn known(fields: &Map<String, Value>, keys: &[&str]) -> Result<(), String> {
    let common = ["type", "default", "description", "title"];
    match fields.keys().find(|key| !common.contains(&key.as_str()) && !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("has \"{}\", which is not supported here", clean(key, 64))),
        None => Ok(()),
    }
}

fn field<T>(
    fields: &Map<String, Value>,
    key: &str,
    wanted: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, String> {
    let value = fields.get(key).ok_or_else(|| format!("must have a \"{key}\""))?;
    read(value)
        .ok_or_else(|| format!("has the {key} {}, which is not {wanted}", clean(&value.to_string(), 64)))
}

/// Of a property whose kind is read already.
fn parse_scale(fields: &Map<String, Value>, kind: &Kind) -> Result<bool, String> {
    let above_0 = match kind {
        Kind::Integer { minimum, .. } => *minimum > 0,
        Kind::Number { minimum, .. } => *minimum > 0.0,
        Kind::Boolean { .. } | Kind::Choice { .. } => false,
    };
    match fields.get("x-scale").map(Value::as_str) {
        None | Some(Some("linear")) => Ok(false),
        Some(Some("log")) if above_0 => Ok(true),
        Some(Some("log")) => Err("has the x-scale \"log\" and no minimum above 0".into()),
        Some(_) => Err("has an \"x-scale\" that is neither \"log\" nor \"linear\"".into()),
    }
}

fn parse_integer(fields: &Map<String, Value>) -> Result<Kind, String> {
    known(fields, &["minimum", "maximum", "x-scale"])?;
    let read = |key| field(fields, key, "a whole number within ±2^53", integer);
    let (minimum, maximum, default) = (read("minimum")?, read("maximum")?, read("default")?);
    if !(minimum <= default && default <= maximum) {
        return Err(format!("has the default {default}, which is not within {minimum} and {maximum}"));
    }
    Ok(Kind::Integer { minimum, maximum, default })
}

fn parse_number(fields: &Map<String, Value>) -> Result<Kind, String> {
    known(fields, &["minimum", "maximum", "x-scale"])?;
    let read = |key| field(fields, key, "a finite number", |v| v.as_f64().filter(|x| x.is_finite()));
    let (minimum, maximum, default) = (read("minimum")?, read("maximum")?, read("default")?);
    if !(minimum <= default && default <= maximum) {
        return Err(format!("has the default {default}, which is not within {minimum} and {maximum}"));
    }
    Ok(Kind::Number { minimum, maximum, default })
}

fn parse_boolean(fields: &Map<String, Value>) -> Result<Kind, String> {
    known(fields, &[])?;
    Ok(Kind::Boolean { default: field(fields, "default", "true or false", Value::as_bool)? })
}

fn parse_choice(fields: &Map<String, Value>) -> Result<Kind, String> {
    known(fields, &["enum"])?;
    let string = |v: &Value| Some(v.as_str()?.to_string());
    let options: Vec<String> =
        field(fields, "enum", "a list of strings", |v| v.as_array()?.iter().map(string).collect())?;
    if !(1..=CHOICES_MAX).contains(&options.len()) {
        return Err(format!("has {} choices; 1 to {CHOICES_MAX} go", options.len()));
    }
    let default = field(fields, "default", "a string", string)?;
    if !options.contains(&default) {
        return Err(format!("has the default \"{}\", which is not in its enum", clean(&default, 64)));
    }
    Ok(Kind::Choice { options, default })
}

#[cfg(test)]
mod tests;
