//! Polls AlphaPlus for a symbol's predictions: poll HOST:PORT SYMBOL COUNT
//!
//! Prints `seq value as_of` for each new prediction and ends after COUNT of them. One connection is kept
//! open, and each request waits on the server for up to a second. A 4xx ends it with the server's error.
//! SYMBOL is as it stands in a URL. Needs the standard library alone: `rustc -O poll.rs`.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

struct Reply {
    status: u16,
    etag: Option<String>,
    body: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, symbol, count] = arguments.as_slice() else {
        fail("usage: poll HOST:PORT SYMBOL COUNT")
    };
    let Ok(mut count) = count.parse::<u64>() else { fail("COUNT must be a number") };
    let (mut connection, mut etag, mut seq) = (None, None, 0);
    while count > 0 {
        let reply = match get(&mut connection, address, symbol, etag.as_deref()) {
            Ok(reply) => reply,
            Err(error) => {
                connection = None;
                wait(&error.to_string());
                continue;
            }
        };
        let field =
            |name| field(&reply.body, name).unwrap_or_else(|| fail(&format!("no {name} in {}", reply.body)));
        match reply.status {
            200 => {
                etag = reply.etag.clone();
                let newest: u64 = field("seq").parse().unwrap_or_else(|_| fail("seq isn't a number"));
                if newest > seq {
                    (seq, count) = (newest, count - 1);
                    println!("{seq} {} {}", field("value"), field("as_of"));
                }
            }
            304 => {}
            // Warming, stale, abstained or quarantined: there is no number to trade on.
            503 => wait(&field("error")),
            status => fail(&format!("{status}: {}", field("error"))),
        }
    }
}

/// One request over the connection, which is opened where there is none.
fn get(
    connection: &mut Option<BufReader<TcpStream>>,
    address: &str,
    symbol: &str,
    etag: Option<&str>,
) -> Result<Reply, Error> {
    if connection.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        *connection = Some(BufReader::new(stream));
    }
    let Some(stream) = connection else { return Err(ErrorKind::NotConnected.into()) };
    let condition = etag.map(|etag| format!("If-None-Match: {etag}\r\n")).unwrap_or_default();
    let request =
        format!("GET /v1/predictions/{symbol}?wait_ms=1000 HTTP/1.1\r\nHost: {address}\r\n{condition}\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    read(stream)
}

fn read(stream: &mut BufReader<TcpStream>) -> Result<Reply, Error> {
    let bad = || Error::new(ErrorKind::InvalidData, "the reply isn't HTTP");
    let mut reply = Reply { status: 0, etag: None, body: String::new() };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let line = line.trim_end();
        if reply.status == 0 {
            reply.status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(|_| bad())?,
                "etag" => reply.etag = Some(value.trim().to_string()),
                _ => {}
            }
        }
    }
    // A 304 names the length of the body that it leaves out.
    if reply.status != 304 {
        stream.take(length).read_to_string(&mut reply.body)?;
    }
    Ok(reply)
}

/// The text of a field of the JSON object, without its quotes: enough for numbers, times and messages.
fn field(json: &str, name: &str) -> Option<String> {
    let (_, after) = json.split_once(&format!("\"{name}\":"))?;
    let after = after.trim_start();
    let Some(text) = after.strip_prefix('"') else {
        let end = after.find([',', '}'])?;
        return Some(after[..end].trim().to_string());
    };
    let mut out = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some(out),
            '\\' => out.push(characters.next()?),
            other => out.push(other),
        }
    }
}

fn wait(reason: &str) {
    eprintln!("waiting: {reason}");
    std::thread::sleep(Duration::from_millis(100));
}

fn fail(reason: &str) -> ! {
    eprintln!("{reason}");
    std::process::exit(1);
}
