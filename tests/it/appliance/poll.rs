//! Polls: conditional and waiting ones, names with a slash, on TCP and on the Unix socket, sleeping or spinning.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::harness::{ModelSpec, bar, setup};
use crate::http::Client;

#[test]
fn polls_sleeping() {
    polls("0");
}

#[test]
fn polls_spinning() {
    polls("3000");
}

fn polls(spin_us: &str) {
    let mut s = setup(&ModelSpec::default());
    let socket = s.folder.path().join("socket");
    s.set("server.unix_socket", &format!("{:?}", socket.display().to_string()));
    s.set("server.threads", "1");
    s.set("server.spin_us", spin_us);
    let mut server = s.serve();
    let mut c = server.client();
    let need = s.need_bars as u64;
    for n in 0..need + 1 {
        for symbol in ["A", "BTC/USDT"] {
            assert_eq!(c.post("/v1/bars", &bar(symbol, n)).unwrap().status, 200);
        }
    }
    let reply = c.get("/v1/predictions/A").unwrap();
    let seq = reply.json()["seq"].as_u64().unwrap();
    let etag = format!("\"{seq}\"");
    assert_eq!((reply.status, reply.header("etag")), (200, Some(etag.as_str())));
    let until = Instant::now() + Duration::from_secs(5);
    while c.get("/v1/predictions/A").unwrap().json()["durable_seq"].as_u64() < Some(seq) {
        assert!(Instant::now() < until, "the same reply goes out after durable_seq moved");
    }
    let conditional = |c: &mut Client, etag: &str| {
        c.request("GET", "/v1/predictions/A", &[("If-None-Match", etag)], "").unwrap()
    };
    for known in [etag.clone(), format!("\"1\", W/{etag}")] {
        let reply = conditional(&mut c, &known);
        assert_eq!((reply.status, reply.header("etag")), (304, Some(etag.as_str())), "{known}");
    }
    assert_eq!(conditional(&mut c, "\"1\"").status, 200);
    let slash = c.get("/v1/predictions/BTC%2FUSDT?timeframe=1h&model=test").unwrap();
    assert_eq!((slash.status, slash.json()["symbol"].as_str()), (200, Some("BTC/USDT")));
    assert_eq!(c.get("/v1/predictions/BTC/USDT").unwrap().status, 200);

    // What is wrong is said at once, also by a poll that waits.
    for (path, status) in [
        ("/v1/predictions/A%20B?wait_ms=9000", 400),
        ("/v1/predictions/A?wait_ms=soon", 400),
        ("/v1/predictions/A%20B?what=1", 400),
        ("/v1/predictions/A?timeframe=1m", 404),
        ("/v1/predictions/B", 503),
    ] {
        assert_eq!(c.get(path).unwrap().status, status, "{path}");
    }

    let waiting = {
        let address = server.address.clone();
        let path = format!("/v1/predictions/A?wait_ms=20000&after_seq={seq}");
        std::thread::spawn(move || Client::connect(&address).unwrap().get(&path).unwrap())
    };
    std::thread::sleep(Duration::from_millis(50));
    let sent = Instant::now();
    c.post("/v1/bars", &bar("A", need + 1)).unwrap();
    let woken = waiting.join().unwrap();
    assert!(woken.status == 200 && woken.json()["seq"].as_u64() > Some(seq), "{}", woken.body);
    assert!(sent.elapsed() < Duration::from_secs(5));

    let mut unix = UnixStream::connect(&socket).unwrap();
    unix.write_all(b"GET /v1/predictions/A HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    unix.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with('}'), "{text}");
    let metrics = c.get("/metrics").unwrap().body;
    let count = metrics
        .lines()
        .find_map(|l| l.strip_prefix("alphaplus_http_requests_total{route=\"prediction\",status=\"304\"} "))
        .unwrap();
    assert_eq!(count, "2");
    // An idle connection and one in a long poll don't hold up the end.
    let idle = server.client();
    let long = {
        let address = server.address.clone();
        std::thread::spawn(move || Client::connect(&address).unwrap().get("/v1/predictions/B?wait_ms=1500"))
    };
    std::thread::sleep(Duration::from_millis(50));
    let stopping = Instant::now();
    assert!(server.stop());
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
    assert_eq!(long.join().unwrap().unwrap().status, 503, "an open request is answered");
    drop(idle);
}
