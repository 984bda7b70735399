//! Floods: large bodies, slow bodies, idle connections. Each gets a clear answer or a closed connection, and
//! predictions go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::harness::{ModelSpec, bar, setup, warm};

#[test]
fn a_body_of_100_megabytes() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    warm(&mut c, "A", s.need_bars);
    // Announced: refused before it is sent.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(b"POST /v1/bars HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n")
        .unwrap();
    let mut head = [0u8; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    // Not announced: cut off at the limit.
    let before = server.memory_bytes();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(b"POST /v1/bars HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    let sent = (0..100).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(sent < 100 || text.starts_with("HTTP/1.1 413"), "{sent} MB sent, answer {text:.60}");
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown}");
    assert_eq!(c.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap().status, 200);
    assert_eq!(c.get("/v1/predictions/A").unwrap().status, 200);
}

#[test]
fn a_slow_body_and_a_slow_header_are_given_up() {
    let mut s = setup(&ModelSpec::default());
    s.set("server.limits.body_timeout_ms", "500");
    s.set("server.limits.header_timeout_ms", "500");
    let server = s.serve();
    let start = Instant::now();
    let mut body = TcpStream::connect(&server.address).unwrap();
    body.write_all(b"POST /v1/bars HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{").unwrap();
    let mut header = TcpStream::connect(&server.address).unwrap();
    header.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    for stream in [&mut body, &mut header] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[test]
fn ten_thousand_idle_connections() {
    let s = setup(&ModelSpec::default());
    let server = s.serve();
    let mut c = server.client();
    warm(&mut c, "A", s.need_bars);
    let mut n = s.need_bars as u64;
    let mut idle = Vec::new();
    let mut slowest = Duration::ZERO;
    for i in 0..10_000 {
        // What the server has closed is let go, so that this process stays within its own limit of open files.
        if idle.len() >= 400 {
            idle.drain(..200);
        }
        idle.push(TcpStream::connect(&server.address).unwrap());
        if i % 500 == 0 {
            let start = Instant::now();
            assert_eq!(c.post("/v1/bars", &bar("A", n)).unwrap().status, 200);
            assert_eq!(c.get("/v1/predictions/A").unwrap().status, 200);
            slowest = slowest.max(start.elapsed());
            n += 1;
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // More open at once than the limit: the longest idle make room, the working one stays.
    let mut s = setup(&ModelSpec::default());
    s.set("server.limits.connections_max", "100");
    let server = s.serve();
    let mut c = server.client();
    let held: Vec<TcpStream> = (0..400)
        .map(|i| {
            if i % 50 == 0 {
                assert_eq!(c.get("/v2/health/live").unwrap().status, 200, "after {i}");
            }
            TcpStream::connect(&server.address).unwrap()
        })
        .collect();
    let mut fresh = server.client();
    assert_eq!(fresh.get("/v2/health/live").unwrap().status, 200);
    let metrics = fresh.get("/metrics").unwrap().body;
    let evicted =
        metrics.lines().find(|l| l.starts_with("alphaplus_http_connections_evicted_total")).unwrap();
    assert!(evicted.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 300, "{evicted}");
    drop(held);
}
