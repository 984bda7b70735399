//! One line of the event log: its text, its chain, and what is wrong with one that doesn't hold.

use std::fmt;

use registry::sha256_hex;
use serde::{Deserialize, Serialize};

use super::Event;

const CHAIN: &str = ",\"chain\":\"";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// From 0.
    pub number: u64,
    #[serde(flatten)]
    pub event: Event,
    /// The chain of the line before.
    pub before: String,
}

pub(super) enum Problem {
    NoText,
    NoChain,
    Chain,
    Json(String),
    Order,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoText => f.write_str("it is not text"),
            Problem::NoChain => f.write_str("it has no chain at its end"),
            Problem::Chain => f.write_str("it was changed after it was written"),
            Problem::Json(reason) => f.write_str(reason),
            Problem::Order => f.write_str("it doesn't follow the line before it"),
        }
    }
}

impl Line {
    /// With its chain and line feed.
    pub fn text(&self) -> Result<String, String> {
        let text = serde_json::to_string(self).map_err(|e| e.to_string())?;
        let body = text.strip_suffix('}').ok_or("it is no object")?;
        Ok(format!("{body}{CHAIN}{}\"}}\n", sha256_hex(text.as_bytes())))
    }

    /// The line and its chain, which is checked.
    pub fn parse(bytes: &[u8]) -> Result<(Line, String), Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::NoText)?.trim_end_matches('\n');
        let at = text.rfind(CHAIN).ok_or(Problem::NoChain)?;
        let chain = text[at + CHAIN.len()..].strip_suffix("\"}").ok_or(Problem::NoChain)?;
        let body = format!("{}}}", &text[..at]);
        if sha256_hex(body.as_bytes()) != chain {
            return Err(Problem::Chain);
        }
        let line = serde_json::from_str(&body).map_err(|e| Problem::Json(e.to_string()))?;
        Ok((line, chain.to_string()))
    }
}
