//! `GET /v1/explanations?symbol=&timeframe=&model=&limit=&attributions=`: the newest stored explanations.

use hyper::StatusCode;
use market::{Symbol, Timeframe};
use percent_encoding::percent_decode_str;

use super::Shared;
use super::routes::{JSON, Reply, error, reply};
use crate::explanations::body;
use crate::visible::Filter;

/// Explanations in one reply.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;
/// With every attribution they are long.
const WHOLE_MAX: usize = 50;

#[derive(Debug)]
struct Query {
    filter: Filter,
    limit: usize,
    whole: bool,
}

pub fn answer(shared: &Shared, query: Option<&str>) -> Reply {
    let Query { filter, limit, whole } = match parse(query.unwrap_or_default()) {
        Ok(query) => query,
        Err(e) => return error(StatusCode::BAD_REQUEST, &e, &[]),
    };
    let explanations = &shared.visible.explanations;
    let found = explanations.select(&filter, limit);
    reply(StatusCode::OK, JSON, body(explanations, &found, whole).to_string())
}

fn parse(text: &str) -> Result<Query, String> {
    let mut query = Query { filter: Filter::default(), limit: LIMIT_DEFAULT, whole: false };
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "model" => query.filter.model = Some(value.into_owned()),
            "symbol" => {
                query.filter.symbols.insert(Symbol::new(&value).map_err(|e| e.to_string())?);
            }
            "timeframe" => {
                query.filter.timeframe = Some(Timeframe::parse(&value).map_err(|e| e.to_string())?)
            }
            "limit" => {
                query.limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=LIMIT_MAX).contains(n))
                    .ok_or_else(|| format!("limit must be 1 to {LIMIT_MAX}, not '{value}'"))?;
            }
            "attributions" => {
                query.whole = match &*value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(format!("attributions must be true or false, not '{value}'")),
                }
            }
            _ => {
                return Err(format!(
                    "unknown parameter '{name}': there are symbol, timeframe, model, limit and attributions"
                ));
            }
        }
    }
    if query.whole && query.limit > WHOLE_MAX {
        return Err(format!("with attributions=true at most {WHOLE_MAX} are given at once: lower limit"));
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_mistakes_named() {
        let query = parse("symbol=A%2FB&timeframe=1h&model=m%2F1&limit=50&attributions=true").unwrap();
        assert!(
            query.whole && query.limit == 50 && query.filter.symbols.contains(&Symbol::new("A/B").unwrap())
        );
        assert_eq!(query.filter.model.as_deref(), Some("m/1"));
        for (text, says) in [
            ("limit=0", "1 to 1000"),
            ("limit=x", "'x'"),
            ("attributions=1", "true or false"),
            ("attributions=true&limit=51", "at most 50"),
            ("timeframe=7q", "7q"),
            ("last=3", "unknown parameter 'last'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
