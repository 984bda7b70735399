//! Stored explanations from outside: made beside the data path, complete, kept over a kill, summed up from the spool.

use std::time::{Duration, Instant};

use super::harness::{ModelSpec, Server, bar, setup, warm};
use super::models::run;

/// All explanations, once there are so many.
fn wait_for(server: &Server, count: usize) -> serde_json::Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let body = server.client().get("/v1/explanations?limit=50&attributions=true").unwrap().json();
        let found = body["explanations"].as_array().unwrap().len();
        if found == count {
            return body;
        }
        assert!(found < count && Instant::now() < until, "{found} of {count}: {body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn predictions_are_explained_beside_the_data_path_and_kept() {
    let mut s = setup(&ModelSpec::default());
    s.set("serving.explain_every", "2");
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    let first = s.need_bars as u64;
    for n in first..first + 12 {
        assert_eq!(client.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
    }
    let body = wait_for(&server, 6);
    let made = client.get("/v1/predictions?after_seq=0").unwrap().json();
    let made = made["predictions"].as_array().unwrap();
    for one in body["explanations"].as_array().unwrap() {
        let number = |name: &str| one[name].as_f64().unwrap();
        let rows = one["attributions"].as_array().unwrap();
        let sum: f64 = rows.iter().flat_map(|r| r.as_array().unwrap()).map(|x| x.as_f64().unwrap()).sum();
        let left = number("prediction") - number("baseline_prediction") - sum;
        assert!((left - number("completeness_residual")).abs() < 1e-5, "{one}");
        let prediction = made.iter().find(|p| p["seq"] == one["seq"]).unwrap();
        assert_eq!(prediction["open_time"], one["open_time"]);
        assert!((prediction["value"].as_f64().unwrap() - number("prediction")).abs() < 1e-4, "{one}");
        let by_step = one["by_step"].as_array().unwrap();
        assert_eq!((by_step.len(), one["method"].as_str()), (rows.len(), Some("integrated_gradients")));
    }
    let model = &body["models"]["test/1"];
    assert_eq!(model["explained"], 6, "{model}");
    assert_eq!(model["features"].as_array().unwrap().len(), model["by_feature"].as_array().unwrap().len());
    let metrics = client.get("/metrics").unwrap().body;
    assert!(metrics.contains("alphaplus_explanations_total{outcome=\"made\"} 6"), "{metrics}");
    assert_eq!(client.get("/v1/explanations?limit=0").unwrap().status, 400);
    let none = client.get("/v1/explanations?model=other").unwrap().json();
    assert_eq!(none["explanations"].as_array().unwrap().len(), 0);

    server.kill();
    let mut server = s.serve();
    assert_eq!(wait_for(&server, 6), body, "what was written comes back to the bit");
    assert!(server.stop());
    let stored: serde_json::Value =
        serde_json::from_str(&run(&s, &["explain", "test", "--stored", "--json"]).unwrap()).unwrap();
    assert_eq!(stored["importance"]["windows"], 6);
    assert_eq!(stored["importance"]["by_feature"], model["by_feature"]);
    let last = run(&s, &["explain", "test", "--stored", "--last", "2"]).unwrap();
    assert!(last.contains("2 windows"), "{last}");
    let replayed = run(&s, &["replay", "5"]).unwrap();
    assert!(replayed.contains("the bits are the same"), "explanations stand between bars: {replayed}");
}

#[test]
fn without_the_setting_nothing_is_explained_and_it_is_said() {
    let s = setup(&ModelSpec::default());
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    assert_eq!(client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap().status, 200);
    let body = client.get("/v1/explanations").unwrap().json();
    assert_eq!(body, serde_json::json!({ "explanations": [], "models": {} }));
    assert!(server.stop());
    let error = run(&s, &["explain", "test", "--stored"]).unwrap_err();
    assert!(error.contains("serving.explain_every"), "{error}");
    let error = run(&s, &["explain", "test"]).unwrap_err();
    assert!(error.contains("--bars"), "{error}");
}
