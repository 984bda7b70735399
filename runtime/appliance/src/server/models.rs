//! The registry over HTTP: what there is, and aliases moved with the admin token.
//!
//! | route | what |
//! |---|---|
//! | `GET /v1/models` | names, versions, aliases |
//! | `GET /v1/models/{name}` | one of them, and the history of its aliases |
//! | `PUT /v1/models/{name}/aliases/{alias}` | `{"version": 7, "who": …, "why": …}`: point it there |
//! | `DELETE /v1/models/{name}/aliases/{alias}` | point it nowhere |
//! | `POST /v1/models/{name}/aliases/{alias}/rollback` | point it where it pointed before |
//! | `GET /v1/events?model=&last=` | what was done with models and why |
//! | `POST /v1/models/{name}/retrain` | train a challenger on the bars that have come |

use std::sync::Arc;

use hyper::{Method, StatusCode};
use market::Timestamp;
use registry::{AliasError, Author, Change, History, LoadError, Reference, Registry, Which};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::guard::Right;
use crate::events::{Event, Events};
use crate::manage::table::Table;

/// Requests that look into the models directory at once; more wait.
static AT_WORK: Semaphore = Semaphore::const_new(2);

/// Events where the request names no number.
const EVENTS_LAST: usize = 100;

/// What requests of this group work with.
#[derive(Clone)]
pub struct Means {
    pub registry: Registry,
    pub table: Arc<Table>,
    /// `None`: the log can't be read.
    pub events: Option<Events>,
}

/// What a path of this group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    List,
    Model {
        name: String,
    },
    Alias {
        name: String,
        alias: String,
    },
    Rollback {
        name: String,
        alias: String,
    },
    Retrain {
        name: String,
    },
    /// Of this model, or all; the last so many.
    Events {
        model: Option<String>,
        last: usize,
    },
}

impl Asked {
    /// `None`: no path of this group.
    pub fn parse(path: &str) -> Option<Asked> {
        if path == "/v1/events" {
            return Some(Asked::Events { model: None, last: EVENTS_LAST });
        }
        let rest = path.strip_prefix("/v1/models").filter(|r| r.is_empty() || r.starts_with('/'))?;
        let parts: Vec<String> = rest.split('/').skip(1).map(str::to_string).collect();
        match (rest, parts.as_slice()) {
            ("", _) => Some(Asked::List),
            (_, [name]) => Some(Asked::Model { name: name.clone() }),
            (_, [name, retrain]) if retrain == "retrain" => Some(Asked::Retrain { name: name.clone() }),
            (_, [name, aliases, alias]) if aliases == "aliases" => {
                Some(Asked::Alias { name: name.clone(), alias: alias.clone() })
            }
            (_, [name, aliases, alias, rollback]) if aliases == "aliases" && rollback == "rollback" => {
                Some(Asked::Rollback { name: name.clone(), alias: alias.clone() })
            }
            _ => None,
        }
    }

    /// With the parameters of the request.
    pub fn with_query(mut self, query: Option<&str>) -> Result<Asked, String> {
        let Asked::Events { model, last } = &mut self else { return Ok(self) };
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("model", name) => *model = Some(name.into()),
                ("last", number) => {
                    let number: Result<usize, _> = number.parse();
                    *last =
                        number.map_err(|_| format!("last must be a whole number, not '{pair}'"))?.min(10_000);
                }
                (name, _) => return Err(format!("unknown parameter '{name}': there are model and last")),
            }
        }
        Ok(self)
    }

    /// The method that it takes; of two, the one that was used.
    pub fn method(&self, used: &Method) -> Method {
        match self {
            Asked::List | Asked::Model { .. } | Asked::Events { .. } => Method::GET,
            Asked::Alias { .. } if used == Method::DELETE => Method::DELETE,
            Asked::Alias { .. } => Method::PUT,
            Asked::Rollback { .. } | Asked::Retrain { .. } => Method::POST,
        }
    }

    pub fn right(&self) -> Right {
        match self {
            Asked::List | Asked::Model { .. } | Asked::Events { .. } => Right::Poll,
            Asked::Alias { .. } | Asked::Rollback { .. } | Asked::Retrain { .. } => Right::Admin,
        }
    }
}

/// The body of a change; empty is all defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Body {
    version: Option<u32>,
    who: Option<String>,
    why: String,
}

/// Status and JSON.
pub async fn answer(means: Means, asked: Asked, method: Method, body: Vec<u8>) -> (StatusCode, String) {
    let body = match body.as_slice() {
        [] => Ok(Body::default()),
        bytes => serde_json::from_slice::<Body>(bytes),
    };
    let body = match body {
        Ok(body) => body,
        Err(e) => {
            let message = format!("the body must be {{\"version\": 7, \"who\": …, \"why\": …}}: {e}");
            return failed(StatusCode::BAD_REQUEST, &message);
        }
    };
    let Ok(permit) = AT_WORK.acquire().await else {
        return failed(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping");
    };
    let work = move || {
        let reply = reply(&means, &asked, &method, &body);
        drop(permit);
        reply
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(reply) => reply,
        Err(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping"),
    }
}

fn failed(status: StatusCode, message: &str) -> (StatusCode, String) {
    (status, json!({ "error": message }).to_string())
}

fn reply(means: &Means, asked: &Asked, method: &Method, body: &Body) -> (StatusCode, String) {
    let Means { registry, table, .. } = means;
    let at = Timestamp::now().to_string();
    let who = body.who.as_deref().unwrap_or("admin token, over HTTP");
    let author = Author { at: &at, who, why: &body.why };
    match asked {
        Asked::List => list(registry),
        Asked::Events { model, last } => events(means, model.as_deref(), *last),
        Asked::Retrain { name } if table.ask_training(name) => {
            (StatusCode::ACCEPTED, json!({ "name": name, "asked": true }).to_string())
        }
        Asked::Retrain { name } => failed(
            StatusCode::NOT_FOUND,
            &format!(
                "{name} isn't deployed with a place for a challenger: see deployments.challenger in config.toml"
            ),
        ),
        Asked::Model { name } => model(registry, name),
        Asked::Alias { name, alias } if *method == Method::DELETE => {
            moved(means, name, alias, registry.remove_alias(name, alias, author))
        }
        Asked::Alias { name, alias } => match body.version {
            Some(version) => moved(means, name, alias, registry.set_alias(name, alias, version, author)),
            None => failed(StatusCode::BAD_REQUEST, "say where to: {\"version\": 7}"),
        },
        Asked::Rollback { name, alias } => {
            moved(means, name, alias, registry.roll_back(name, alias, author).map(Some))
        }
    }
}

fn events(means: &Means, model: Option<&str>, last: usize) -> (StatusCode, String) {
    let unreadable = |e: &str| failed(StatusCode::INTERNAL_SERVER_ERROR, e);
    let Some(log) = &means.events else {
        return unreadable("the event log can't be read: see alphaplus events");
    };
    let mut found = match log.read() {
        Ok(found) => found,
        Err(e) => return unreadable(&e.to_string()),
    };
    found.retain(|one| model.is_none_or(|name| one.event.model.split('/').next() == Some(name)));
    let found = found.split_off(found.len().saturating_sub(last));
    (StatusCode::OK, json!({ "events": found }).to_string())
}

fn list(registry: &Registry) -> (StatusCode, String) {
    let listing = match registry.list() {
        Ok(listing) => listing,
        Err(e) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    };
    let models = listing.models.iter().map(|model| {
        let mut one = json!({ "name": model.name, "versions": model.versions });
        match registry.history(&model.name) {
            Ok(history) => one["aliases"] = aliases(&history),
            Err(e) => one["error"] = e.to_string().into(),
        }
        one
    });
    (StatusCode::OK, json!({ "models": models.collect::<Vec<_>>() }).to_string())
}

fn aliases(history: &History) -> Value {
    let map: Map<String, Value> =
        history.aliases().map(|(a, version)| (a.to_string(), version.into())).collect();
    Value::Object(map)
}

fn model(registry: &Registry, name: &str) -> (StatusCode, String) {
    let reference = Reference { name: name.into(), which: Which::Latest };
    let found = registry.list().map(|l| l.models.into_iter().find(|m| m.name == name));
    match (found, registry.history(name)) {
        (Ok(Some(found)), Ok(history)) => {
            let body = json!({
                "name": name,
                "versions": found.versions,
                "aliases": aliases(&history),
                "history": history.changes,
            });
            (StatusCode::OK, body.to_string())
        }
        (Ok(Some(_)), Err(e)) => failed(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
        (Err(e), _) => failed(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
        (Ok(None), _) => match registry.load_reference(&reference) {
            Err(e) => failed(StatusCode::NOT_FOUND, &e.to_string()),
            // Published in between.
            Ok(_) => failed(StatusCode::SERVICE_UNAVAILABLE, "ask again"),
        },
    }
}

fn moved(
    means: &Means,
    name: &str,
    alias: &str,
    moved: Result<Option<Change>, AliasError>,
) -> (StatusCode, String) {
    let Means { table, events, .. } = means;
    let reference = Reference { name: name.into(), which: Which::Alias(alias.into()) }.to_string();
    if let (Ok(Some(change)), Some(events)) = (&moved, events)
        && let Err(error) = events.append(&Event::of_change(name, change))
    {
        tracing::error!(%error, name, alias, "an event was not written");
    }
    let takes_effect = match (table.is_deployed(&reference), table.follows) {
        (true, true) => "in a moment, without a restart: see /v1/deployments",
        (true, false) => "at the next start: models.check_ms is 0",
        (false, _) => "where it is deployed: it isn't here",
    };
    table.look();
    match moved {
        Ok(change) => {
            let body = json!({
                "name": name,
                "alias": alias,
                "moved": change.is_some(),
                "change": change,
                "takes_effect": takes_effect,
            });
            (StatusCode::OK, body.to_string())
        }
        Err(error) => failed(status(&error), &error.to_string()),
    }
}

fn status(error: &AliasError) -> StatusCode {
    match error {
        AliasError::Alias(_) | AliasError::Author(_) => StatusCode::BAD_REQUEST,
        AliasError::Version(LoadError::Name(_)) => StatusCode::BAD_REQUEST,
        AliasError::Version(LoadError::NoModel { .. } | LoadError::NoVersion { .. }) => StatusCode::NOT_FOUND,
        AliasError::NothingBefore { .. } | AliasError::TooMany => StatusCode::CONFLICT,
        AliasError::Version(_) | AliasError::History(_) | AliasError::Full | AliasError::Write(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_asked_and_with_which_right() {
        let check = |path: &str, method: Method, right: Right| {
            let asked = Asked::parse(path).unwrap();
            assert_eq!((asked.method(&method), asked.right()), (method, right), "{path}");
        };
        check("/v1/models", Method::GET, Right::Poll);
        check("/v1/models/btc", Method::GET, Right::Poll);
        check("/v1/models/btc/aliases/champion", Method::PUT, Right::Admin);
        check("/v1/models/btc/aliases/champion", Method::DELETE, Right::Admin);
        check("/v1/models/btc/aliases/champion/rollback", Method::POST, Right::Admin);
        for path in [
            "/v1/modelsx",
            "/v1/model",
            "/v1/models/btc/7",
            "/v1/models/a/aliases/b/c",
            "/v1/models/a/b/c/d/e",
        ] {
            assert_eq!(Asked::parse(path), None, "{path}");
        }
        let asked = Asked::parse("/v1/models/btc/aliases/champion").unwrap();
        assert_eq!(asked.method(&Method::POST), Method::PUT, "another method is told what it takes");
    }
}
