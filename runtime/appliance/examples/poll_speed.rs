//! How fast polls are: round trips of one kept-open connection, one after the other.
//!
//! ```text
//! poll_speed tcp 127.0.0.1:7787 /v1/predictions/BTCUSDT     # a running appliance
//! poll_speed unix alphaplus.sock /v1/predictions/BTCUSDT
//! poll_speed floor 127.0.0.1:7788 floor.sock                # serves a fixed reply with hyper alone, as a comparison
//! poll_speed echo 127.0.0.1:7789 echo.sock                  # the same bytes from a blocking thread: the kernel alone
//! ```
//!
//! `COUNT` in the environment says how many; with `SPIN` the client doesn't sleep while it waits. On a machine that does
//! other things too, the best of the rounds of 5,000 says what the path takes, and the whole what it was like.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// As long as a prediction.
const BODY: &str = "{\"seq\":484,\"symbol\":\"BTCUSDT\",\"timeframe\":\"1h\",\"model\":\"btc-1h-lstm/1\",\
    \"label\":\"realised_volatility\",\"horizon_bars\":12,\"value\":0.017863177,\"open_time\":\"2024-04-21T14:00:00Z\",\
    \"as_of\":\"2024-04-21T15:00:00Z\",\"made_at\":\"2026-11-24T12:37:29.372820374Z\",\
    \"valid_until\":\"2024-04-21T17:00:00Z\",\"device\":\"cpu\",\"degraded\":false,\"revision\":0,\"durable_seq\":484}";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["tcp", address, path] => {
            let stream = TcpStream::connect(address).expect("the appliance listens there");
            stream.set_nodelay(true).expect("a socket option");
            stream.set_nonblocking(spins()).expect("a socket option");
            measure(stream, path);
        }
        ["unix", socket, path] => {
            let stream = UnixStream::connect(socket).expect("the appliance listens there");
            stream.set_nonblocking(spins()).expect("a socket option");
            measure(stream, path);
        }
        ["floor", address, socket] => floor(address, socket),
        ["echo", address, socket] => echo(address, socket),
        _ => {
            eprintln!(
                "poll_speed tcp ADDRESS PATH | unix SOCKET PATH | floor ADDRESS SOCKET | echo ADDRESS SOCKET"
            )
        }
    }
}

fn spins() -> bool {
    std::env::var_os("SPIN").is_some()
}

fn measure(mut stream: impl Read + Write, path: &str) {
    let count = std::env::var("COUNT").ok().and_then(|c| c.parse().ok()).unwrap_or(200_000);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut times = Vec::with_capacity(count);
    let mut buffer = [0u8; 16 << 10];
    for i in 0..count + count / 10 {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).expect("the request goes out");
        let length = reply(&mut stream, &mut buffer);
        let took = started.elapsed();
        if i == 0 {
            println!("{}", String::from_utf8_lossy(&buffer[..length]));
        }
        if i >= count / 10 {
            times.push(took);
        }
    }
    let total: Duration = times.iter().sum();
    let mut rounds: Vec<Vec<Duration>> = times.chunks_exact(5_000).map(<[_]>::to_vec).collect();
    rounds.iter_mut().for_each(|r| r.sort());
    rounds.sort_by_key(|r| at(r, 0.99));
    times.sort();
    let us = |times: &[Duration], share| at(times, share).as_secs_f64() * 1e6;
    println!(
        "{count} polls: p50 {:.1} µs, p90 {:.1}, p99 {:.1}, p99.9 {:.1}; {:.0} a second",
        us(&times, 0.5),
        us(&times, 0.9),
        us(&times, 0.99),
        us(&times, 0.999),
        count as f64 / total.as_secs_f64()
    );
    if let Some(best) = rounds.first() {
        println!("best round of 5,000: p50 {:.1} µs, p99 {:.1}", us(best, 0.5), us(best, 0.99));
    }
}

/// Of sorted times.
fn at(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share) as usize]
}

/// The whole reply into the buffer; its length.
fn reply(stream: &mut impl Read, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    loop {
        let read = match stream.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            read => read.expect("a reply"),
        };
        assert!(read > 0, "the connection was closed");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).expect("a text head");
        let length = text.lines().filter_map(|l| l.split_once(':'));
        let length = length
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .find_map(|(_, v)| v.trim().parse::<usize>().ok());
        if filled >= head + 4 + length.unwrap_or(0) {
            return filled;
        }
    }
}

/// What hyper alone can do with the settings of the appliance and one thread.
fn floor(address: &str, socket: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let _ = std::fs::remove_file(socket);
    runtime.expect("a runtime").block_on(async {
        let tcp = tokio::net::TcpListener::bind(address).await.expect("a free address");
        let unix = tokio::net::UnixListener::bind(socket).expect("a free path");
        loop {
            tokio::select! {
                accepted = tcp.accept() => {
                    let stream = accepted.expect("a connection").0;
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(fixed(stream));
                }
                accepted = unix.accept() => { tokio::spawn(fixed(accepted.expect("a connection").0)); }
            }
        }
    });
}

async fn fixed(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = hyper::service::service_fn(|_| async {
        let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"484\""));
        Ok::<_, std::convert::Infallible>(response)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_buf_size(64 << 10)
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

/// A thread for each connection that answers whatever comes with the fixed reply.
fn echo(address: &str, socket: &str) {
    let _ = std::fs::remove_file(socket);
    let tcp = TcpListener::bind(address).expect("a free address");
    let unix = UnixListener::bind(socket).expect("a free path");
    std::thread::spawn(move || {
        for stream in unix.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    for stream in tcp.incoming().flatten() {
        let _ = stream.set_nodelay(true);
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: impl Read + Write) {
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut buffer = [0u8; 4096];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) && stream.write_all(reply.as_bytes()).is_ok() {}
}
