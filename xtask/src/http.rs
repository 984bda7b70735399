//! As much HTTP/1.1 as the demo needs: one keep-alive connection on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Client {
    pub fn connect(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).map_err(|e| e.to_string())?;
        Ok(Client { stream: BufReader::new(stream), host: address.to_string() })
    }

    pub fn get(&mut self, path: &str) -> Result<Reply, String> {
        self.request("GET", path, "")
    }

    pub fn post(&mut self, path: &str, body: &str) -> Result<Reply, String> {
        self.request("POST", path, body)
    }

    fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Reply, String> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| -> Result<String, String> {
            line.clear();
            if stream.read_line(&mut line).map_err(|e| e.to_string())? == 0 {
                return Err("the appliance closed the connection".into());
            }
            Ok(line.trim_end().to_string())
        };
        let first = next(&mut self.stream)?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("not an HTTP reply")?;
        let mut length = 0usize;
        loop {
            let header = next(&mut self.stream)?;
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| "a bad content-length")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| e.to_string())?;
        Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}
