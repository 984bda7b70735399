//! Who may ask: tokens, and the `Host` and `Origin` checks that keep web pages out (DNS rebinding,
//! cross-site requests).

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;

use super::Via;
use crate::config::Settings;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Anyone who gets through the Host check.
    Open,
    Poll,
    Ingest,
    /// Always with a token.
    Admin,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Host(String),
    Origin(String),
    Token,
    /// No admin token is configured.
    NoAdmin,
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Host(_) => 421,
            Refusal::Origin(_) => 403,
            Refusal::Token => 401,
            Refusal::NoAdmin => 403,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Refusal::Host(host) => format!("host '{host}' is not served here: add it to server.hosts"),
            Refusal::Origin(origin) => format!("requests from the web page {origin} are refused"),
            Refusal::Token => "a token is needed: send 'Authorization: Bearer …'".into(),
            Refusal::NoAdmin => {
                "this changes what is served: set server.tokens.admin_file and send that token".into()
            }
        }
    }
}

pub fn check(settings: &Settings, via: Via, headers: &HeaderMap, right: Right) -> Result<(), Refusal> {
    let host = headers.get(HOST).map(|h| String::from_utf8_lossy(h.as_bytes())).unwrap_or_default();
    if via == Via::Tcp && !host_fits(settings, &host) {
        return Err(Refusal::Host(host.chars().take(100).collect()));
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        let same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        if !same {
            return Err(Refusal::Origin(origin.chars().take(100).collect()));
        }
    }
    let token = match right {
        Right::Open => None,
        Right::Poll => settings.poll_token.as_ref(),
        Right::Ingest => settings.ingest_token.as_ref(),
        Right::Admin => match &settings.admin_token {
            Some(token) => Some(token),
            None => return Err(Refusal::NoAdmin),
        },
    };
    let Some(token) = token else { return Ok(()) };
    let sent =
        headers.get(AUTHORIZATION).and_then(|h| h.as_bytes().strip_prefix(b"Bearer ")).unwrap_or_default();
    let fits = |t: &str| same_bytes(sent, t.as_bytes());
    // The admin token opens every door.
    if fits(token) || settings.admin_token.as_deref().is_some_and(fits) {
        Ok(())
    } else {
        Err(Refusal::Token)
    }
}

/// "localhost" or "127.0.0.1", as most requests have it, with or without a port.
fn is_usual(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    matches!(name, "localhost" | "127.0.0.1")
        && (1..=5).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn host_fits(settings: &Settings, host: &str) -> bool {
    if is_usual(host) {
        return true;
    }
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    // A rebound name is never an address.
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
        || settings.raw.server.hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
}

/// In a time that depends on the lengths alone.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut s = crate::config::load(None, &[("server.hosts".into(), "[\"box.lan\"]".into())]).unwrap();
        s.poll_token = Some("poll-token-0123456789".into());
        s.admin_token = Some("admin-token-0123456789".into());
        s
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn hosts_origins_and_tokens() {
        let s = settings();
        let ok = |h: &[(&'static str, &str)], r| check(&s, Via::Tcp, &headers(h), r);
        for host in ["localhost:7787", "127.0.0.1", "[::1]:7787", "BOX.lan:1"] {
            assert_eq!(ok(&[("host", host)], Right::Open), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "localhost:80:evil"]
        {
            assert!(matches!(ok(&[("host", host)], Right::Open), Err(Refusal::Host(_))), "{host}");
        }
        let page = [("host", "localhost:7787"), ("origin", "http://evil.example")];
        assert!(matches!(ok(&page, Right::Open), Err(Refusal::Origin(_))));
        let own = [("host", "localhost:7787"), ("origin", "http://localhost:7787")];
        assert_eq!(ok(&own, Right::Open), Ok(()));
        assert_eq!(ok(&own, Right::Poll), Err(Refusal::Token));
        let with = |t| ok(&[("host", "localhost"), ("authorization", t)], Right::Poll);
        assert_eq!(with("Bearer poll-token-0123456789"), Ok(()));
        assert_eq!(with("Bearer admin-token-0123456789"), Ok(()));
        assert_eq!(with("Bearer poll-token-012345678"), Err(Refusal::Token));
        assert_eq!(with("poll-token-0123456789"), Err(Refusal::Token));
        assert_eq!(ok(&own, Right::Ingest), Ok(()), "no ingest token is set");
        let admin = |t| ok(&[("host", "localhost"), ("authorization", t)], Right::Admin);
        assert_eq!(admin("Bearer admin-token-0123456789"), Ok(()));
        assert_eq!(admin("Bearer poll-token-0123456789"), Err(Refusal::Token));
        assert_eq!(ok(&own, Right::Admin), Err(Refusal::Token));
        let open = crate::config::load(None, &[]).unwrap();
        let host = headers(&[("host", "localhost")]);
        assert_eq!(
            check(&open, Via::Tcp, &host, Right::Admin),
            Err(Refusal::NoAdmin),
            "never without a token"
        );
        assert_eq!(check(&s, Via::Unix, &headers(&[]), Right::Open), Ok(()));
    }
}
