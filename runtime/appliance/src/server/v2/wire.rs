//! Tensors of the Open Inference Protocol v2 in and out: JSON, and the binary extension, in which the JSON is
//! followed by the tensors' bytes, little-endian, and a header says where it ends.
//! (<https://github.com/kserve/open-inference-protocol>, Triton's "binary tensor data extension".)

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::inference::loaded::Output;

/// Outputs that one request may name.
pub const OUTPUTS_MAX: usize = 16;
/// Dimensions of a tensor.
const RANK_MAX: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub id: Option<String>,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    pub inputs: Vec<Input>,
    #[serde(default)]
    pub outputs: Vec<Asked>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub name: String,
    pub shape: Vec<i64>,
    pub datatype: String,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    data: Option<Flat>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub name: String,
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// Numbers, nested in lists or not, in row-major order.
#[derive(Debug, Default)]
struct Flat(Vec<f32>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut numbers = Vec::new();
        from.deserialize_seq(Numbers { to: &mut numbers, depth: 0 })?;
        Ok(Flat(numbers))
    }
}

/// One level of lists.
struct Numbers<'a> {
    to: &'a mut Vec<f32>,
    depth: usize,
}

impl<'de> serde::de::DeserializeSeed<'de> for Numbers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_f64<E>(self, x: f64) -> Result<(), E> {
        self.to.push(x as f32);
        Ok(())
    }

    fn visit_i64<E>(self, x: i64) -> Result<(), E> {
        self.to.push(x as f32);
        Ok(())
    }

    fn visit_u64<E>(self, x: u64) -> Result<(), E> {
        self.to.push(x as f32);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.depth == RANK_MAX {
            return Err(serde::de::Error::custom("the lists are nested too deep"));
        }
        while list.next_element_seed(Numbers { to: self.to, depth: self.depth + 1 })?.is_some() {}
        Ok(())
    }
}

/// A request with its one tensor's numbers.
#[derive(Debug)]
pub struct Parsed {
    pub id: Option<String>,
    pub parameters: Map<String, Value>,
    pub outputs: Vec<Asked>,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// `json_bytes`: what the header Inference-Header-Content-Length says, if it is there. `input`: the name that the
/// model's input has.
pub fn parse(body: &[u8], json_bytes: Option<usize>, input: &str) -> Result<Parsed, String> {
    let (text, binary) = match json_bytes {
        None => (body, &[][..]),
        Some(n) if n <= body.len() => body.split_at(n),
        Some(n) => {
            return Err(format!(
                "Inference-Header-Content-Length is {n} and the body has {} bytes",
                body.len()
            ));
        }
    };
    let request: Request =
        serde_json::from_slice(text).map_err(|e| format!("not an inference request: {e}"))?;
    if request.outputs.len() > OUTPUTS_MAX {
        return Err(format!("more than {OUTPUTS_MAX} outputs are named"));
    }
    let Request { id, parameters, inputs, outputs } = request;
    let Ok([tensor]) = <[Input; 1]>::try_from(inputs) else {
        return Err(format!("send exactly one input, named \"{input}\""));
    };
    if tensor.name != input {
        return Err(format!("there is no input '{}': it is named \"{input}\"", clip(&tensor.name)));
    }
    let shape = tensor.shape.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| "a dimension of the input is below 0".to_string())?;
    let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let elements = elements.filter(|_| shape.len() <= RANK_MAX).ok_or("the input's shape is too large")?;
    let data = match (tensor.parameters.get("binary_data_size"), tensor.data) {
        (Some(size), None) => {
            if size.as_u64() != Some(binary.len() as u64) {
                return Err(format!("binary_data_size is {size} and {} bytes follow the JSON", binary.len()));
            }
            numbers(&tensor.datatype, binary)?
        }
        (None, Some(Flat(data))) if binary.is_empty() => {
            width(&tensor.datatype)?;
            data
        }
        (None, Some(_)) => return Err("bytes follow the JSON, and the input has no binary_data_size".into()),
        _ => return Err("the input needs either data or parameters.binary_data_size".into()),
    };
    if data.len() != elements {
        return Err(format!("the input's shape {shape:?} has {elements} elements and {} came", data.len()));
    }
    if let Some(at) = data.iter().position(|x| !x.is_finite()) {
        return Err(format!("element {at} of the input is not a finite number"));
    }
    Ok(Parsed { id, parameters, outputs, shape, data })
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Bytes of an element.
fn width(datatype: &str) -> Result<usize, String> {
    match datatype {
        "FP32" | "INT32" => Ok(4),
        "FP64" | "INT64" => Ok(8),
        _ => Err(format!("datatype '{}' is not taken: send FP32, FP64, INT32 or INT64", clip(datatype))),
    }
}

fn numbers(datatype: &str, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let width = width(datatype)?;
    if !bytes.len().is_multiple_of(width) {
        return Err(format!("{} bytes are not whole elements of {datatype}", bytes.len()));
    }
    let four = || bytes.as_chunks::<4>().0.iter();
    let eight = || bytes.as_chunks::<8>().0.iter();
    Ok(match datatype {
        "FP32" => four().map(|b| f32::from_le_bytes(*b)).collect(),
        "INT32" => four().map(|b| i32::from_le_bytes(*b) as f32).collect(),
        "FP64" => eight().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        _ => eight().map(|b| i64::from_le_bytes(*b) as f32).collect(),
    })
}

/// A reply and, where a tensor goes as bytes, the length of its JSON.
pub struct Rendered {
    pub body: Vec<u8>,
    pub json_bytes: Option<usize>,
}

/// `head`: the members of the reply beside "outputs", at least one. `binary`: whether the output with this name goes as bytes.
pub fn render(head: Map<String, Value>, outputs: &[Output], binary: impl Fn(&str) -> bool) -> Rendered {
    let mut text = Value::Object(head).to_string();
    text.pop();
    text.push_str(",\"outputs\":[");
    let mut bytes = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let named = format!(
            "{separator}{{\"name\":\"{}\",\"datatype\":\"FP32\",\"shape\":{}",
            output.name,
            json!(output.shape)
        );
        text.push_str(&named);
        if binary(&output.name) {
            let size = 4 * output.data.len();
            text.push_str(&format!(",\"parameters\":{{\"binary_data_size\":{size}}}}}"));
            output.data.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        } else {
            text.push_str(",\"data\":");
            text.push_str(&serde_json::to_string(&output.data).unwrap_or_else(|_| "[]".into()));
            text.push('}');
        }
    }
    text.push_str("]}");
    let json_bytes = (!bytes.is_empty()).then_some(text.len());
    let mut body = text.into_bytes();
    body.extend_from_slice(&bytes);
    Rendered { body, json_bytes }
}
