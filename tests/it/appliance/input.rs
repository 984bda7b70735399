//! Bars over HTTP: each line stands alone, and each mistake has its answer.

use super::harness::{ModelSpec, bar, bar_with, setup, warm};

#[test]
fn good_lines_are_taken_and_bad_ones_named() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    let need = s.need_bars;

    let poll = c.get("/v1/predictions/A").unwrap();
    assert_eq!((poll.status, poll.json()["reason"].as_str()), (503, Some("warming")));
    warm(&mut c, "A", need - 1);
    let poll = c.get("/v1/predictions/A").unwrap();
    assert_eq!(poll.json()["have"], need as u64 - 1, "{}", poll.body);

    let n = need as u64;
    let good = bar("A", n - 1);
    let mut lines = vec![good.clone()];
    let wrong = [
        ("nonsense\n".to_string(), "not a bar"),
        (bar("A", n).replace("\"volume\":", "\"volume\":-"), "volume is -"),
        (bar("A", n).replace("\"open\":", "\"open\":NaN,\"x\":"), "not a bar"),
        (bar("A", n).replace("\"open\":", "\"open\":-"), "above zero"),
        (with(&bar("A", n), "high", 0.5), "high 0.5"),
        (bar("A", n).replace("\"1h\"", "\"5m\""), "no model is deployed"),
        (bar("A", n).replace("\"1h\"", "\"1x\""), "timeframe '1x'"),
        (bar("A", 3).replace("2001", "2000"), "time goes back"),
        (bar("A", n).replace("2001-", "2221-"), "in the future"),
        (
            bar_with("A", n - 100, ",\"revision\":1").replace("\"volume\":", "\"volume\":2"),
            "too old to be revised",
        ),
        (good.replace("\"volume\":", "\"volume\":1"), "higher revision"),
    ];
    lines.extend(wrong.iter().map(|w| w.0.clone()));
    lines.push(good.clone());
    let reply = c.post("/v1/bars", &lines.concat()).unwrap();
    let json = reply.json();
    assert_eq!(
        (reply.status, json["accepted"].as_u64(), json["duplicate"].as_u64()),
        (200, Some(1), Some(1)),
        "{json}"
    );
    let rejected = json["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), wrong.len(), "{json}");
    for (i, ((_, says), got)) in wrong.iter().zip(rejected).enumerate() {
        assert_eq!(got["line"], i as u64 + 2);
        assert!(got["error"].as_str().unwrap().contains(says), "{says}: {got}");
    }

    let poll = c.get("/v1/predictions/A").unwrap();
    let p = poll.json();
    assert_eq!((poll.status, p["seq"].as_u64()), (200, Some(1)), "{}", poll.body);
    let etag = poll.header("etag").unwrap().to_string();
    let same = c.request("GET", "/v1/predictions/A", &[("If-None-Match", &etag)], "").unwrap();
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert_eq!(p["durable_seq"], 1);

    for (query, found) in
        [("model=test", 1), ("timeframe=1h", 1), ("model=other", 0), ("timeframe=5m", 0), ("symbols=B", 0)]
    {
        let list = c.get(&format!("/v1/predictions?{query}")).unwrap().json();
        assert_eq!(list["predictions"].as_array().unwrap().len(), found, "{query}: {list}");
    }

    let none = c.post("/v1/bars", "nonsense\n").unwrap();
    assert_eq!(none.status, 422);
    assert!(none.json()["error"].as_str().unwrap().contains("not a bar"));
    assert_eq!(c.post("/v1/bars", "").unwrap().status, 400);
    assert_eq!(c.post("/v1/bars", "[1").unwrap().status, 400);
    assert_eq!(c.get("/v1/bars").unwrap().status, 405);
    assert_eq!(c.get("/v1/nothing").unwrap().status, 404);
    assert_eq!(c.get("/v1/predictions/A?wait=1").unwrap().status, 400);
    assert_eq!(c.get("/v1/predictions/a%20b").unwrap().status, 400);
    assert_eq!(c.request("GET", "/", &[("Host", "evil.example")], "").unwrap().status, 421);
    assert_eq!(c.request("GET", "/", &[("Origin", "http://evil.example")], "").unwrap().status, 403);
}

#[test]
fn a_forming_bar_is_revised_and_the_final_one_counts() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    let n = s.need_bars as u64;
    warm(&mut c, "A", s.need_bars);
    warm(&mut c, "B", s.need_bars);
    let mut value = |symbol: &str, lines: &[String]| {
        for line in lines {
            let reply = c.post("/v1/bars", line).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
        c.get(&format!("/v1/predictions/{symbol}")).unwrap().json()
    };
    let forming = |symbol: &str, revision: u32| {
        bar_with(symbol, n, &format!(",\"final\":false,\"revision\":{revision}"))
            .replace("\"volume\":", "\"volume\":1")
    };
    // The same numbers for both symbols: only the way there differs.
    let like_a = |line: String| line.replace("\"symbol\":\"A\"", "\"symbol\":\"B\"");
    let warm = value("A", &[]);
    assert!(warm["error"].as_str().unwrap().contains("waits for its next bar"), "{warm}");
    let first = value("A", &[forming("A", 0)]);
    assert_eq!(first["provisional"], true, "{first}");
    let a = value("A", &[forming("A", 1), bar_with("A", n, ",\"revision\":2"), bar("A", n + 1)]);
    // B's history differs from A's, so its own run without the forming bars is the comparison.
    let b = value("B", &[like_a(bar_with("A", n, ",\"revision\":2")), like_a(bar("A", n + 1))]);
    assert_eq!(a["open_time"], b["open_time"]);
    let body = |symbol: &str, last: &[String]| {
        let bars: Vec<String> =
            (0..n).map(|i| bar(symbol, i)).chain(last.iter().cloned()).map(|l| strip(&l)).collect();
        format!("{{\"symbol\":\"{symbol}\",\"timeframe\":\"1h\",\"bars\":[{}]}}", bars.join(","))
    };
    // Raw bars through the same features: bit-equal to live, revised or not.
    let mut c = server.client();
    let again = c.post("/v1/predict", &body("A", &[bar("A", n), bar("A", n + 1)])).unwrap();
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(again.json()["value"], a["value"]);
    let again = c.post("/v1/predict", &body("B", &[bar("A", n), bar("A", n + 1)])).unwrap();
    assert_eq!(again.json()["value"], b["value"]);

    // An older bar revised: the newest prediction is made again.
    let revised = bar_with("A", n - 3, ",\"revision\":1").replace("\"volume\":", "\"volume\":2");
    let after = {
        let reply = c.post("/v1/bars", &revised).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        c.get("/v1/predictions/A").unwrap().json()
    };
    assert_eq!((&after["revised"], &after["open_time"]), (&true.into(), &a["open_time"]));
    assert_ne!(after["value"], a["value"]);
    let bars: Vec<String> =
        (0..n + 2).map(|i| if i == n - 3 { strip(&revised) } else { strip(&bar("A", i)) }).collect();
    let again = c
        .post(
            "/v1/predict",
            &format!("{{\"symbol\":\"A\",\"timeframe\":\"1h\",\"bars\":[{}]}}", bars.join(",")),
        )
        .unwrap();
    assert_eq!(again.json()["value"], after["value"]);
}

/// The line with another number.
fn with(line: &str, key: &str, value: f64) -> String {
    let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
    json[key] = value.into();
    format!("{json}\n")
}

/// A line of `POST /v1/bars` as a bar of `POST /v1/predict`.
fn strip(line: &str) -> String {
    let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
    let o = json.as_object_mut().unwrap();
    for key in ["symbol", "timeframe", "revision", "final", "backfill"] {
        o.remove(key);
    }
    json.to_string()
}

#[test]
fn staleness_long_polls_and_lists() {
    let mut s = setup(&ModelSpec::default());
    s.set("serving.clock", "\"wall\"");
    let server = s.serve();
    let mut c = server.client();
    warm(&mut c, "A", s.need_bars);
    let n = s.need_bars as u64;
    c.post("/v1/bars", &bar("A", n)).unwrap();
    let stale = c.get("/v1/predictions/A").unwrap();
    assert_eq!(
        (stale.status, stale.json()["reason"].as_str()),
        (503, Some("stale")),
        "bars of 2001: {}",
        stale.body
    );
    assert_eq!(stale.json().get("value"), None, "never an old number");

    let address = server.address.clone();
    let waiter = std::thread::spawn(move || {
        let mut c = crate::http::Client::connect(&address).unwrap();
        let start = std::time::Instant::now();
        let reply = c.get("/v1/predictions?after_seq=1&wait_ms=20000").unwrap();
        (reply.json(), start.elapsed())
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    c.post("/v1/bars", &(bar("A", n + 1) + &bar("A", n + 2))).unwrap();
    let (list, waited) = waiter.join().unwrap();
    assert!(waited.as_secs() < 10, "{waited:?}");
    assert_eq!(list["predictions"][0]["seq"], 2, "{list}");
    let all = c.get("/v1/predictions?after_seq=0&symbols=A").unwrap().json();
    let seqs: Vec<u64> =
        all["predictions"].as_array().unwrap().iter().map(|p| p["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3]);
    let start = std::time::Instant::now();
    let none = c.get("/v1/predictions?after_seq=3&wait_ms=200").unwrap().json();
    assert!(none["predictions"].as_array().unwrap().is_empty() && start.elapsed().as_millis() >= 190);
}

#[test]
fn tokens_a_unix_socket_and_pages() {
    let mut s = setup(&ModelSpec::default());
    for name in ["poll", "ingest", "admin"] {
        std::fs::write(s.folder.path().join(name), format!("{name}-0123456789abcdef\n")).unwrap();
        s.set(
            &format!("server.tokens.{name}_file"),
            &format!("{:?}", s.folder.path().join(name).display().to_string()),
        );
    }
    let socket = s.folder.path().join("socket");
    s.set("server.unix_socket", &format!("{:?}", socket.display().to_string()));
    let server = s.serve();
    let mut c = server.client();
    assert_eq!(c.post("/v1/bars", &bar("A", 0)).unwrap().status, 401);
    let with = |t: &str| format!("Bearer {t}-0123456789abcdef");
    let post = |c: &mut crate::http::Client, t: &str| {
        c.request("POST", "/v1/bars", &[("Authorization", &with(t))], &bar("A", 0)).unwrap().status
    };
    assert_eq!(post(&mut c, "poll"), 401, "another right's token");
    assert_eq!(post(&mut c, "ingest"), 200);
    assert_eq!(post(&mut c, "admin"), 200);
    assert_eq!(c.get("/v1/predictions/A").unwrap().status, 401);
    let poll = |c: &mut crate::http::Client, path: &str| {
        c.request("GET", path, &[("Authorization", &with("poll"))], "").unwrap()
    };
    assert_eq!(poll(&mut c, "/v1/predictions/A").status, 503);
    assert!(poll(&mut c, "/metrics").body.contains("alphaplus_bars_total"));
    assert!(poll(&mut c, "/").body.contains("<h1>AlphaPlus"));
    let api = poll(&mut c, "/openapi.json").json();
    assert_eq!(api["openapi"], "3.1.0");
    for path in [
        "/v1/bars",
        "/v1/predictions",
        "/v1/predictions/{symbol}",
        "/v1/predict",
        "/v2/models/{model}/infer",
        "/metrics",
    ] {
        assert!(api["paths"][path].is_object(), "{path} is not described");
    }
    assert_eq!(c.get("/v2/health/live").unwrap().status, 200);

    use std::io::{Read, Write};
    let mut unix = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    unix.write_all(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    unix.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
