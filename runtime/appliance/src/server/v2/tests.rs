//! Paths, and requests as clients send them, well formed or not.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::inference::loaded::Output;

fn parse(text: &str) -> Result<wire::Parsed, String> {
    wire::parse(text.as_bytes(), None, INPUT)
}

fn named(name: &str, version: Version) -> Named {
    Named { name: name.into(), version }
}

#[test]
fn paths_are_read() {
    assert_eq!(Route::of("/v2"), Some(Route::Server));
    assert_eq!(Route::of("/v2/"), Some(Route::Server));
    let model = || named("m", Version::Latest);
    assert_eq!(Route::of("/v2/models/m"), Some(Route::Model(model())));
    assert_eq!(Route::of("/v2/models/m/ready"), Some(Route::Ready(model())));
    assert_eq!(Route::of("/v2/models/m/infer"), Some(Route::Infer(model())));
    assert_eq!(Route::of("/v2/models/m/stats"), Some(Route::Stats(Some(model()))));
    assert_eq!(Route::of("/v2/models/stats"), Some(Route::Stats(None)));
    let third = named("m%", Version::Number(3));
    assert_eq!(Route::of("/v2/models/m%25/versions/3/infer"), Some(Route::Infer(third)));
    assert_eq!(Route::of("/v2/repository/models/m/unload"), Some(Route::Unload("m".into())));
    for bad in ["/v2/models", "/v2/models/m/versions/x/infer", "/v2/models/m/versions/0", "/v2/nothing"] {
        assert_eq!(Route::of(bad), None, "{bad}");
    }
}

#[test]
fn data_is_flat_or_nested() {
    for data in ["[1, 2.5, -3, 4]", "[[1, 2.5], [-3, 4]]", "[[[1, 2.5]], [[-3, 4]]]"] {
        let text = format!(
            r#"{{"id":"7","inputs":[{{"name":"features","shape":[2,1,2],"datatype":"FP32","data":{data}}}]}}"#
        );
        let parsed = parse(&text).unwrap();
        assert_eq!((parsed.shape, parsed.data), (vec![2, 1, 2], vec![1.0, 2.5, -3.0, 4.0]));
        assert_eq!(parsed.id.as_deref(), Some("7"));
    }
}

fn binary(datatype: &str, bytes: &[u8]) -> Result<wire::Parsed, String> {
    let size = bytes.len();
    let text = format!(
        r#"{{"inputs":[{{"name":"features","shape":[1,1,2],"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
    );
    let body = [text.as_bytes(), bytes].concat();
    wire::parse(&body, Some(text.len()), INPUT)
}

#[test]
fn bytes_are_read_by_their_type() {
    let of = |datatype, bytes: Vec<u8>| binary(datatype, &bytes).unwrap().data;
    let concat = |a: &[u8], b: &[u8]| [a, b].concat();
    assert_eq!(of("FP32", concat(&1.5f32.to_le_bytes(), &(-2f32).to_le_bytes())), [1.5, -2.0]);
    assert_eq!(of("FP64", concat(&1.5f64.to_le_bytes(), &(-2f64).to_le_bytes())), [1.5, -2.0]);
    assert_eq!(of("INT32", concat(&3i32.to_le_bytes(), &(-2i32).to_le_bytes())), [3.0, -2.0]);
    assert_eq!(of("INT64", concat(&3i64.to_le_bytes(), &(-2i64).to_le_bytes())), [3.0, -2.0]);
    assert!(binary("FP32", &[0; 7]).unwrap_err().contains("whole elements"));
    assert!(binary("FP16", &[0; 4]).unwrap_err().contains("send FP32"));
    assert!(binary("FP32", &f32::NAN.to_le_bytes().repeat(2)).unwrap_err().contains("not a finite"));
}

#[test]
fn what_does_not_fit_says_why() {
    let with = |input: &str| parse(&format!(r#"{{"inputs":[{input}]}}"#)).unwrap_err();
    let cases = [
        (r#"{"name":"x","shape":[1],"datatype":"FP32","data":[1]}"#, "it is named \"features\""),
        (r#"{"name":"features","shape":[2],"datatype":"FP32","data":[1]}"#, "has 2 elements and 1 came"),
        (r#"{"name":"features","shape":[-1],"datatype":"FP32","data":[1]}"#, "below 0"),
        (r#"{"name":"features","shape":[1],"datatype":"BYTES","data":[1]}"#, "send FP32"),
        (r#"{"name":"features","shape":[1],"datatype":"FP32"}"#, "needs either data"),
        (r#"{"name":"features","shape":[1],"datatype":"FP32","data":["1"]}"#, "a number or a list"),
        (r#"{"name":"features","shape":[1],"datatype":"FP32","data":[1e99]}"#, "not a finite"),
        (
            r#"{"name":"features","shape":[1],"datatype":"FP32","data":[[[[[[[[[[1]]]]]]]]]]}"#,
            "nested too deep",
        ),
        (
            r#"{"name":"features","shape":[4294967296,4294967296,4294967296],"datatype":"FP32","data":[]}"#,
            "too large",
        ),
    ];
    for (input, expected) in cases {
        let error = with(input);
        assert!(error.contains(expected), "{input}: {error}");
    }
    assert!(parse(r#"{"inputs":[]}"#).unwrap_err().contains("exactly one input"));
    let past = wire::parse(b"{}", Some(3), INPUT).unwrap_err();
    assert!(past.contains("the body has 2 bytes"), "{past}");
}

fn with_parameters(parameters: Value, outputs: Value) -> Result<Wants, String> {
    let input = json!({"name": INPUT, "shape": [1], "datatype": "FP32", "data": [1]});
    let text = json!({"inputs": [input], "parameters": parameters, "outputs": outputs}).to_string();
    wants(&parse(&text)?)
}

#[test]
fn parameters_are_read_or_refused() {
    let explain = with_parameters(json!({"explain": "ig", "explain_points": 8, "raw": true}), json!([]));
    assert_eq!(explain, Ok(Wants { raw: true, explain: Some((0, 8)), extra: Vec::new() }));
    let extra = with_parameters(json!({}), json!([{"name": "prediction"}, {"name": "attention"}]));
    assert_eq!(extra.map(|w| w.extra), Ok(vec!["attention".to_string()]));
    let error = |p, o| with_parameters(p, o).unwrap_err();
    assert!(error(json!({"explain": "shap"}), json!([])).contains("\"ig\""));
    assert!(error(json!({"explian": "ig"}), json!([])).contains("unknown parameter 'explian'"));
    assert!(error(json!({"raw": 1}), json!([])).contains("true or false"));
    assert!(error(json!({}), json!([{"name": "attributions"}])).contains("explain = \"ig\""));
}

#[test]
fn outputs_go_as_text_or_as_bytes() {
    let output =
        |name: &str, data: &[f32]| Output { name: name.into(), shape: vec![1, 2], data: data.into() };
    let head = || Map::from_iter([("model_name".to_string(), json!("m"))]);
    let outputs = [output("a", &[0.1, -2.0]), output("b", &[3.0, 4.0])];
    let rendered = wire::render(head(), &outputs, |name| name == "b");
    let at = rendered.json_bytes.unwrap();
    let text: Value = serde_json::from_slice(&rendered.body[..at]).unwrap();
    assert_eq!(text["outputs"][0]["data"], json!([0.1, -2.0]));
    assert_eq!(text["outputs"][1]["parameters"]["binary_data_size"], 8);
    assert_eq!(rendered.body[at..], [3f32.to_le_bytes(), 4f32.to_le_bytes()].concat());
    assert_eq!(wire::render(head(), &outputs, |_| false).json_bytes, None);
}

proptest! {
    #[test]
    fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200), at in prop::option::of(0usize..220)) {
        let _ = wire::parse(&body, at, INPUT);
    }

    #[test]
    fn no_changed_request_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut body = br#"{"id":"a","parameters":{"raw":true},"inputs":[{"name":"features","shape":[1,1,2],"datatype":"FP32","data":[[1,2]]}],"outputs":[{"name":"prediction"}]}"#.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let cut = cut.index(body.len());
        let _ = wire::parse(&body, Some(cut), INPUT);
        if let Ok(parsed) = wire::parse(&body, None, INPUT) {
            prop_assert_eq!(parsed.shape.iter().product::<usize>(), parsed.data.len());
            let _ = wants(&parsed);
        }
    }

    #[test]
    fn no_path_panics(path in "/v2/[a-z0-9/%]{0,40}") {
        let _ = Route::of(&path);
    }
}
