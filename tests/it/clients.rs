//! The poll clients in Rust, Python and C against a server that plays a script: kept-open connections,
//! conditional requests, a lost connection, and errors.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::python;
use crate::skip::{root, skip};

/// How long a client may take for one script.
const CLIENT_MAX: Duration = Duration::from_secs(30);

/// What the server answers to one request.
#[derive(Clone, Copy)]
enum Answer {
    Prediction {
        seq: u64,
    },
    NotModified,
    Warming,
    Unknown,
    /// Closes the connection instead of answering.
    Close,
}

/// What the server saw of one request.
#[derive(Debug, PartialEq)]
struct Seen {
    connection: usize,
    line: String,
    condition: Option<String>,
}

fn prediction(seq: u64) -> String {
    format!(
        r#"{{"durable_seq":9{seq},"seq":{seq},"symbol":"BTCUSDT","timeframe":"1h","model":"lstm/1","value":-0.00{seq}2,"as_of":"2024-03-01T0{seq}:00:00Z","valid_until":"2024-03-01T09:00:00Z","device":"cpu","degraded":false}}"#
    )
}

/// Answers the requests by the script, over as many connections as the client opens.
fn serve(script: Vec<Answer>) -> (String, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut script = script.into_iter();
        let mut seen = Vec::new();
        let mut connection = 0;
        while script.len() > 0 {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(CLIENT_MAX)).unwrap();
            connection += 1;
            let mut reader = BufReader::new(stream);
            while let Some(request) = read(&mut reader, connection) {
                seen.push(request);
                match script.next() {
                    Some(Answer::Close) | None => break,
                    Some(answer) => write(reader.get_mut(), answer),
                }
            }
        }
        seen
    });
    (address, server)
}

/// One request; `None` when the client closed the connection.
fn read(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let mut lines = reader.lines().map_while(Result::ok);
    let line = lines.next()?;
    let mut condition = None;
    for header in lines.take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = header.split_once(": ")
            && name.eq_ignore_ascii_case("if-none-match")
        {
            condition = Some(value.to_string());
        }
    }
    Some(Seen { connection, line, condition })
}

/// The answer in two pieces, so that a client can't count on getting it whole.
fn write(stream: &mut TcpStream, answer: Answer) {
    let (status, etag, body) = match answer {
        Answer::Prediction { seq } => ("200 OK", format!("ETag: \"{seq}\"\r\n"), prediction(seq)),
        // As servers do, it names the length of the body that it leaves out.
        Answer::NotModified => ("304 Not Modified", "ETag: \"1\"\r\n".into(), prediction(1)),
        Answer::Warming => ("503 Service Unavailable", String::new(), r#"{"error":"warming: 3/60"}"#.into()),
        Answer::Unknown | Answer::Close => {
            ("404 Not Found", String::new(), r#"{"error": "no symbol \"BTCUSDT\"; see /v1/symbols"}"#.into())
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{etag}\r\n", body.len());
    let body = if status.starts_with("304") { String::new() } else { body };
    let text = head + &body;
    let (first, second) = text.split_at(text.len() - text.len() / 3);
    stream.write_all(first.as_bytes()).unwrap();
    stream.flush().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(second.as_bytes()).unwrap();
}

/// Runs the client to its end; one that hangs is killed and fails the test.
fn run(client: &[OsString], address: &str, count: &str) -> Output {
    let mut command = Command::new(&client[0]);
    command.args(&client[1..]).args([address, "BTCUSDT", count]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > CLIENT_MAX {
            child.kill().unwrap();
            panic!("the client hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn check(client: &[OsString]) {
    let script = vec![
        Answer::Warming,
        Answer::Prediction { seq: 1 },
        Answer::NotModified,
        Answer::Prediction { seq: 5 },
        Answer::Close,
        Answer::Prediction { seq: 5 },
        Answer::Prediction { seq: 6 },
    ];
    let (address, server) = serve(script);
    let output = run(client, &address, "3");
    let (printed, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{}: {errors}", output.status);
    let expected =
        "1 -0.0012 2024-03-01T01:00:00Z\n5 -0.0052 2024-03-01T05:00:00Z\n6 -0.0062 2024-03-01T06:00:00Z\n";
    assert_eq!(printed, expected);
    assert!(errors.contains("warming: 3/60"), "{errors}");
    let conditions =
        [(1, None), (1, None), (1, Some(1)), (1, Some(1)), (1, Some(5)), (2, Some(5)), (2, Some(5))];
    let expected = conditions.map(|(connection, etag)| Seen {
        connection,
        line: "GET /v1/predictions/BTCUSDT?wait_ms=1000 HTTP/1.1".into(),
        condition: etag.map(|seq| format!("\"{seq}\"")),
    });
    assert_eq!(server.join().unwrap(), expected);

    let (address, server) = serve(vec![Answer::Unknown]);
    let output = run(client, &address, "1");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.status.code().is_some(), "{}", output.status);
    assert!(errors.contains("no symbol \"BTCUSDT\"; see /v1/symbols") && errors.contains("404"), "{errors}");
    assert_eq!(server.join().unwrap().len(), 1);
}

fn source(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

/// Compiles a client; `None`, and said aloud, where there is no compiler.
pub fn compile(test: &str, compiler: &str, args: &[&str], folder: &Path, name: &str) -> Option<OsString> {
    let binary = folder.join("client");
    match Command::new(compiler).args(args).arg("-o").arg(&binary).arg(source(name)).output() {
        Ok(output) => {
            assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stderr));
            Some(binary.into())
        }
        Err(error) => {
            skip(test, &format!("{compiler} can't be run: {error}"));
            None
        }
    }
}

#[test]
fn poll_client_in_rust() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let args = ["--edition", "2024", "-D", "warnings"];
    if let Some(client) = compile("the poll client in Rust", &compiler, &args, folder.path(), "poll.rs") {
        check(&[client]);
    }
}

#[test]
fn poll_client_in_c() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"];
    if let Some(client) = compile("the poll client in C", "cc", &args, folder.path(), "poll.c") {
        check(&[client]);
    }
}

#[test]
fn poll_client_in_python() {
    match python::interpreter(&["http.client"]) {
        Ok(interpreter) => check(&[interpreter.into(), source("poll.py").into()]),
        Err(reason) => skip("the poll client in Python", &reason),
    }
}
