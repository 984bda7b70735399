//! Tensors over the Open Inference Protocol: a client of others, explanations, the repository, and many models.

use std::fs;

use serde_json::{Value, json};

use super::harness::{ModelSpec, Setup, bar, counts, setup};
use crate::http::Reply;
use crate::python;
use crate::skip::skip;

const COLUMNS: usize = 28;

/// Rows like the ones that a feature plugin gives, always the same.
fn windows(rows: usize, window: usize) -> Vec<f32> {
    (0..rows * window * COLUMNS).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
}

fn request(rows: usize, window: usize, more: &[(&str, Value)]) -> String {
    let input = json!({
        "name": "features",
        "shape": [rows, window, COLUMNS],
        "datatype": "FP32",
        "data": windows(rows, window),
    });
    let mut body = json!({"id": "7", "inputs": [input]});
    more.iter().for_each(|(name, value)| body[*name] = value.clone());
    body.to_string()
}

fn output<'a>(reply: &'a Value, name: &str) -> &'a Value {
    let found = reply["outputs"].as_array().unwrap().iter().find(|o| o["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {reply}"))
}

fn numbers(output: &Value) -> Vec<f32> {
    output["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn ok(reply: Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

/// A second model beside the deployed one, and a token for what changes the repository.
fn with_another() -> Setup {
    let mut s = setup(&ModelSpec::default());
    let models = s.folder.path().join("models");
    let manifest = fs::read_to_string(models.join("test/1/manifest.toml")).unwrap();
    let other = models.join("other/1");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("manifest.toml"), manifest.replace("name = \"test\"", "name = \"other\"")).unwrap();
    fs::copy(models.join("test/1/model.onnx"), other.join("model.onnx")).unwrap();
    let token = s.folder.path().join("admin");
    fs::write(&token, "secret-of-the-operator").unwrap();
    s.set("server.tokens.admin_file", &format!("{:?}", token.display().to_string()));
    s
}

const ADMIN: (&str, &str) = ("Authorization", "Bearer secret-of-the-operator");

#[test]
fn a_client_of_others_gets_what_it_expects() {
    let test = "a client of others gets what it expects";
    let interpreter = match python::interpreter(&["tritonclient.http", "numpy"]) {
        Ok(interpreter) => interpreter,
        Err(reason) => return skip(test, &reason),
    };
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let out = s.folder.path().join("out.json");
    let script = crate::skip::root().join("tests/python/triton_infer.py");
    let run = std::process::Command::new(interpreter)
        .arg(script)
        .args([server.address.as_str(), "test", "8", "28"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let seen: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!((&seen["same_as_text"], &seen["same_alone"]), (&json!(true), &json!(true)), "{seen}");
    assert!(seen["spread"].as_f64().unwrap() > 1e-3, "{seen}");
    assert!(seen["incomplete"].as_f64().unwrap() < 1e-5, "{seen}");
    assert!(seen["residual"].as_f64().unwrap() < 0.05 * seen["spread"].as_f64().unwrap(), "{seen}");
    assert!(seen["refused"].as_str().unwrap().contains("takes [rows, 8, 28]"), "{seen}");
}

/// A row of a large batch, alone, and through `/v1/predict`, are the same number.
#[test]
fn every_row_is_answered_as_if_it_were_alone() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    let many = counts(1_000, 5_000);
    let all = ok(c.post("/v2/models/test/infer", &request(many, 8, &[])).unwrap());
    assert_eq!((&all["id"], &all["model_version"]), (&json!("7"), &json!("1")));
    assert_eq!(output(&all, "prediction")["shape"], json!([many, 1]));
    let all = numbers(output(&all, "prediction"));
    assert_eq!(all.len(), many);
    let few = ok(c.post("/v2/models/test/versions/1/infer", &request(3, 8, &[])).unwrap());
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&numbers(output(&few, "prediction"))), bits(&all[..3]));

    let too_many = c.post("/v2/models/test/infer", &request(20_000, 1, &[])).unwrap();
    assert_eq!(too_many.status, 400, "{}", too_many.body);
    let nobody = c.post("/v2/models/nobody/infer", &request(1, 8, &[])).unwrap();
    assert_eq!(nobody.status, 404, "{}", nobody.body);
    let version = c.post("/v2/models/test/versions/9/infer", &request(1, 8, &[])).unwrap();
    assert_eq!(version.status, 404, "{}", version.body);
    assert_eq!(c.get("/v2/models/test/infer").unwrap().status, 405);
}

#[test]
fn explanations_add_up() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    let asked = [("parameters", json!({"explain": "ig"}))];
    let reply = ok(c.post("/v2/models/test/infer", &request(2, 8, &asked)).unwrap());
    let attributions = output(&reply, "attributions");
    assert_eq!(attributions["shape"], json!([2, 8, COLUMNS]));
    let of = |name: &str| numbers(output(&reply, name));
    let (predictions, baselines) = (of("prediction"), of("baseline_prediction"));
    let residuals = of("completeness_residual");
    for (row, parts) in numbers(attributions).chunks(8 * COLUMNS).enumerate() {
        let sum: f64 = parts.iter().map(|&a| f64::from(a)).sum();
        let whole = f64::from(predictions[row] - baselines[row] - residuals[row]);
        assert!((sum - whole).abs() < 1e-6, "{sum} {whole}");
        assert!(f64::from(residuals[row]).abs() < 1e-3 * whole.abs().max(1e-3), "{}", residuals[row]);
    }
    let plain = ok(c.post("/v2/models/test/infer", &request(2, 8, &[])).unwrap());
    assert_eq!(plain["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(numbers(output(&plain, "prediction")), predictions);
    let bad = [("parameters", json!({"explain": "ig", "explain_points": 100_000}))];
    let refused = c.post("/v2/models/test/infer", &request(1, 8, &bad)).unwrap();
    assert!(refused.status == 400 && refused.body.contains("1 to 256"), "{}", refused.body);
}

#[test]
fn the_repository_lists_loads_and_unloads() {
    let s = with_another();
    let server = s.serve();
    let mut c = server.client();
    let index = ok(c.post("/v2/repository/index", "").unwrap());
    let names: Vec<&str> = index.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "test"]);
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    ok(c.post("/v2/models/other/infer", &request(1, 8, &[])).unwrap());
    assert_eq!(ok(c.post("/v2/repository/index", "").unwrap())[0]["state"], "READY");

    let unload = "/v2/repository/models/other/unload";
    assert_eq!(c.post(unload, "").unwrap().status, 401, "it takes the admin token");
    ok(c.request("POST", unload, &[ADMIN], "").unwrap());
    let gone = c.post("/v2/models/other/infer", &request(1, 8, &[])).unwrap();
    assert!(gone.status == 503 && gone.body.contains("other/load"), "{}", gone.body);
    assert_eq!(c.get("/v2/models/other/ready").unwrap().status, 503);
    ok(c.request("POST", "/v2/repository/models/other/load", &[ADMIN], "").unwrap());
    ok(c.get("/v2/models/other/ready").unwrap());
    let stats = ok(c.get("/v2/models/other/stats").unwrap());
    assert_eq!(stats["model_stats"][0]["inference_count"], 0, "{stats}");
    ok(c.post("/v2/models/other/infer", &request(2, 8, &[])).unwrap());
    let stats = ok(c.get("/v2/models/stats").unwrap());
    assert_eq!(stats["model_stats"][0]["inference_count"], 2, "{stats}");
    let unknown = c.request("POST", "/v2/repository/models/nobody/load", &[ADMIN], "").unwrap();
    assert_eq!(unknown.status, 404, "{}", unknown.body);
}

/// Models come and go within the budget while bars are served, and memory doesn't grow.
#[test]
fn models_share_a_budget() {
    let mut s = with_another();
    let models = s.folder.path().join("models");
    let manifest = fs::read_to_string(models.join("test/1/manifest.toml")).unwrap();
    for n in 0..10 {
        let other = models.join(format!("many-{n}/1"));
        fs::create_dir_all(&other).unwrap();
        let text = manifest.replace("name = \"test\"", &format!("name = \"many-{n}\""));
        fs::write(other.join("manifest.toml"), text).unwrap();
        fs::copy(models.join("test/1/model.onnx"), other.join("model.onnx")).unwrap();
    }
    // Room for a few of them.
    s.set("inference.memory_bytes_max", "4000000");
    let server = s.serve();
    let mut c = server.client();
    let body = request(1, 8, &[]);
    let first = ok(c.post("/v2/models/many-0/infer", &body).unwrap())["outputs"].clone();
    let round = |c: &mut crate::http::Client| {
        for n in 0..10 {
            let reply = ok(c.post(&format!("/v2/models/many-{n}/infer"), &body).unwrap());
            assert_eq!(reply["outputs"], first);
        }
    };
    round(&mut c);
    let loaded = |c: &mut crate::http::Client| {
        let stats = ok(c.get("/v2/models/stats").unwrap());
        stats["model_stats"].as_array().unwrap().len()
    };
    let held = loaded(&mut c);
    assert!((1..10).contains(&held), "{held}");
    for _ in 0..3 {
        round(&mut c);
    }
    let before = server.memory_bytes();
    for n in 0..counts(10, 100) as u64 {
        round(&mut c);
        assert_eq!(c.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
    }
    let after = server.memory_bytes();
    assert_eq!(loaded(&mut c), held);
    assert!(after < before + (24 << 20), "{before} {after}");
}
