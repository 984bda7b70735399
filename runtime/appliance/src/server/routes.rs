//! One request in, one reply out: a match on method and path.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use market::{Bar, StreamKey, Symbol, Timeframe, Timestamp};
use percent_encoding::percent_decode_str;
use registry::{Reference, Which};
use serde::Deserialize;

use super::guard::{self, Right};
use super::models::{self, Asked};
use super::{Shared, Via, page, v2};
use crate::ingest::{self, BodyError};
use crate::metrics::POLL;
use crate::outcomes::{Line, summaries};
use crate::queue::{Outcome, PredictError, PredictJob, PredictWork, SendError};
use crate::render;
use crate::visible::{Answer, Filter, Slot};

pub type Reply = Response<Full<Bytes>>;

pub(super) const JSON: &str = "application/json";

pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn error(status: StatusCode, message: &str, members: &[(&str, String)]) -> Reply {
    reply(status, JSON, render::error(message, members))
}

/// The reply, and when it was ready.
pub async fn answer(shared: &Shared, via: Via, request: Request<Body>) -> (Reply, Instant) {
    let started = Instant::now();
    let (route, response) = dispatch(shared, via, request).await;
    let now = Instant::now();
    shared.metrics.request(route, response.status().as_u16(), (now - started).as_secs_f64());
    (response, now)
}

async fn dispatch(shared: &Shared, via: Via, request: Request<Body>) -> (&'static str, Reply) {
    let path = request.uri().path();
    let on = &shared.settings.raw.server.routes;
    let v2 = if path.starts_with("/v2") { v2::Route::of(path) } else { None };
    let asked = Asked::parse(path);
    let (route, enabled, method, right) = match path {
        "/v1/bars" => ("bars", on.ingest, Method::POST, Right::Ingest),
        "/v1/deployments" => ("deployments", on.models, Method::GET, Right::Poll),
        "/v1/explanations" => ("explanations", on.poll, Method::GET, Right::Poll),
        "/v1/outcomes" => ("outcomes", on.poll, Method::GET, Right::Poll),
        "/v1/predict" => ("predict", on.predict, Method::POST, Right::Poll),
        "/v1/predictions" => ("predictions", on.poll, Method::GET, Right::Poll),
        "/v2/health/live" => ("live", true, Method::GET, Right::Open),
        "/v2/health/ready" => ("ready", true, Method::GET, Right::Open),
        "/metrics" => ("metrics", on.metrics, Method::GET, Right::Poll),
        "/openapi.json" => ("openapi", on.status, Method::GET, Right::Open),
        "/" => ("status", on.status, Method::GET, Right::Poll),
        p if p.starts_with("/v1/predictions/") => (POLL, on.poll, Method::GET, Right::Poll),
        _ => match &v2 {
            Some(route) => {
                let (name, method, right) = route.kind();
                (name, on.infer, method, right)
            }
            None => match &asked {
                Some(asked) => ("models", on.models, asked.method(request.method()), asked.right()),
                None => ("unknown", false, Method::GET, Right::Open),
            },
        },
    };
    if let Err(refusal) = guard::check(&shared.settings, via, request.headers(), right) {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
        return (route, error(status, &refusal.message(), &[]));
    }
    if !enabled {
        let hint =
            if route == "unknown" { "see /openapi.json" } else { "it is switched off under server.routes" };
        return (route, error(StatusCode::NOT_FOUND, &format!("no {path} here: {hint}"), &[]));
    }
    if request.method() != method && !(method == Method::GET && request.method() == Method::HEAD) {
        let message = format!("{path} takes {method}, not {}", request.method());
        return (route, error(StatusCode::METHOD_NOT_ALLOWED, &message, &[]));
    }
    if let Some(asked) = v2 {
        return (route, v2::answer(shared, asked, request).await);
    }
    if let Some(asked) = asked {
        return (route, models(shared, asked, request).await);
    }
    let response = match route {
        "bars" => bars(shared, request).await,
        "predict" => predict(shared, request).await,
        "predictions" => predictions(shared, &request).await,
        "explanations" => super::explanations::answer(shared, request.uri().query()),
        "outcomes" => outcomes(shared, &request),
        "deployments" => reply(StatusCode::OK, JSON, shared.table.to_json()),
        POLL => prediction(shared, &request).await,
        "live" => reply(StatusCode::OK, JSON, "{\"live\":true}"),
        "ready" => ready(shared),
        "metrics" => {
            shared.metrics.queue_bars.set(shared.bars.waiting() as i64);
            reply(StatusCode::OK, "text/plain; version=0.0.4", shared.metrics.render())
        }
        "openapi" => reply(StatusCode::OK, JSON, page::OPENAPI),
        _ => reply(StatusCode::OK, "text/html; charset=utf-8", page::status(shared)),
    };
    (route, response)
}

/// A body of bars.
async fn bars_body(shared: &Shared, request: Request<Body>) -> Result<Bytes, Reply> {
    let limit = shared.settings.raw.server.limits.body_bytes_max;
    body(shared, request, limit, "server.limits.body_bytes_max").await
}

/// The whole body within its limits of size, which the setting `key` holds, and time.
pub(super) async fn body(
    shared: &Shared,
    request: Request<Body>,
    limit: usize,
    key: &str,
) -> Result<Bytes, Reply> {
    let too_large = || {
        let message = format!("the body is over {key}, {limit} bytes: send less at once");
        let mut response = error(StatusCode::PAYLOAD_TOO_LARGE, &message, &[]);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    };
    let length = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    let collected = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(shared.settings.body_timeout(), collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(e)) => Err(error(StatusCode::BAD_REQUEST, &format!("the body broke off: {e}"), &[])),
        Err(_) => {
            let mut response = error(StatusCode::REQUEST_TIMEOUT, "the body took too long", &[]);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Err(response)
        }
    }
}

async fn bars(shared: &Shared, request: Request<Body>) -> Reply {
    let body = match bars_body(shared, request).await {
        Ok(b) => b,
        Err(response) => return response,
    };
    let parsed = match ingest::parse(&body, shared.settings.raw.server.limits.lines_max) {
        Ok(p) => p,
        Err(BodyError::TooMany { limit }) => {
            let message = format!("more than server.limits.lines_max, {limit} bars in one request");
            return error(StatusCode::PAYLOAD_TOO_LARGE, &message, &[]);
        }
        Err(BodyError::Malformed(message)) => return error(StatusCode::BAD_REQUEST, &message, &[]),
    };
    if parsed.is_empty() {
        return error(StatusCode::BAD_REQUEST, "the body is empty: send one bar as JSON, or one a line", &[]);
    }
    let mut numbers = Vec::with_capacity(parsed.len());
    let mut good = Vec::with_capacity(parsed.len());
    let mut rejected: Vec<(u64, String)> = Vec::new();
    for (number, result) in parsed {
        match result {
            Ok(incoming) => {
                numbers.push(number);
                good.push(incoming);
            }
            Err(message) => rejected.push((number, message)),
        }
    }
    let (mut accepted, mut duplicate) = (0u64, 0u64);
    if !good.is_empty() {
        let answer = match shared.bars.send(good) {
            Ok(answer) => answer,
            Err(SendError::Full { waiting }) => {
                let message = format!("{waiting} bars are waiting already: send again in a moment");
                let mut response = error(StatusCode::SERVICE_UNAVAILABLE, &message, &[]);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                return response;
            }
            Err(SendError::Stopped) => {
                return error(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping", &[]);
            }
        };
        let outcomes = match answer.await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(failed)) => return error(StatusCode::SERVICE_UNAVAILABLE, &failed.0, &[]),
            Err(_) => return error(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping", &[]),
        };
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Accepted => accepted += 1,
                Outcome::Duplicate => duplicate += 1,
                Outcome::Rejected(message) => rejected.push((number, message)),
            }
        }
    }
    rejected.sort_by_key(|r| r.0);
    shared.metrics.bar("accepted", accepted);
    shared.metrics.bar("duplicate", duplicate);
    shared.metrics.bar("rejected", rejected.len() as u64);
    let lines: Vec<String> = rejected
        .iter()
        .map(|(line, message)| format!("{{\"line\":{line},\"error\":{}}}", render::quoted(message)))
        .collect();
    let members =
        format!("\"accepted\":{accepted},\"duplicate\":{duplicate},\"rejected\":[{}]", lines.join(","));
    if accepted + duplicate == 0 {
        let first = rejected.first().map(|r| r.1.as_str()).unwrap_or("no bar");
        let body =
            format!("{{\"error\":{},{members}}}", render::quoted(&format!("no bar was good: {first}")));
        return reply(StatusCode::UNPROCESSABLE_ENTITY, JSON, body);
    }
    reply(StatusCode::OK, JSON, format!("{{{members}}}"))
}

async fn models(shared: &Shared, asked: Asked, request: Request<Body>) -> Reply {
    let method = request.method().clone();
    let asked = match asked.with_query(request.uri().query()) {
        Ok(asked) => asked,
        Err(e) => return error(StatusCode::BAD_REQUEST, &e, &[]),
    };
    let body = match bars_body(shared, request).await {
        Ok(b) => b,
        Err(response) => return response,
    };
    let (status, json) = models::answer(shared.models.clone(), asked, method, body.to_vec()).await;
    reply(status, JSON, json)
}

/// A model as polls name it, "name", "name/version" or as it is deployed, from any way of naming it.
fn named(shared: &Shared, text: &str) -> Result<String, String> {
    let Ok(reference) = Reference::parse(text) else { return Ok(text.into()) };
    match &reference.which {
        Which::Latest => Ok(reference.name),
        Which::Number(number) => Ok(format!("{}/{number}", reference.name)),
        Which::Alias(_) => {
            let wanted = reference.to_string();
            let is_here = shared.table.is_deployed(&wanted);
            is_here.then_some(wanted).ok_or_else(|| format!("{reference} is not deployed here"))
        }
    }
}

/// The parameters of a poll.
#[derive(Debug, Default)]
struct Query {
    filter: Filter,
    wait_ms: u64,
    after_seq: u64,
    limit: usize,
}

fn query(shared: &Shared, text: Option<&str>) -> Result<Query, String> {
    let mut query = Query { limit: 1000, ..Query::default() };
    for pair in text.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        let number =
            || value.parse::<u64>().map_err(|_| format!("{name} must be a whole number, not '{value}'"));
        match name {
            "timeframe" => {
                query.filter.timeframe = Some(Timeframe::parse(&value).map_err(|e| e.to_string())?)
            }
            "model" => query.filter.model = Some(named(shared, &value)?),
            "model_type" => query.filter.model_type = Some(value.into_owned()),
            "wait_ms" => query.wait_ms = number()?.min(shared.settings.raw.server.limits.wait_ms_max),
            "after_seq" => query.after_seq = number()?,
            "limit" => query.limit = number()?.clamp(1, 10_000) as usize,
            "symbols" => {
                let parsed: Result<HashSet<_>, _> =
                    value.split(',').filter(|s| !s.is_empty()).map(Symbol::new).collect();
                query.filter.symbols = parsed.map_err(|e| e.to_string())?;
            }
            _ => {
                return Err(format!(
                    "unknown parameter '{name}': there are timeframe, model, model_type, wait_ms, after_seq, symbols and limit"
                ));
            }
        }
    }
    Ok(query)
}

async fn prediction(shared: &Shared, request: &Request<Body>) -> Reply {
    let path = request.uri().path();
    let raw = path.strip_prefix("/v1/predictions/").unwrap_or(path);
    let symbol = percent_decode_str(raw).decode_utf8_lossy();
    let bad = |message: String| error(StatusCode::BAD_REQUEST, &message, &[]);
    let query = match query(shared, request.uri().query()) {
        Ok(query) => query,
        Err(e) => return bad(Symbol::new(&symbol).map_or_else(|s| s.to_string(), |_| e)),
    };
    let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let find = || shared.visible.find(&symbol, &query.filter);
    let respond = |slot: Option<&Slot>| match slot {
        Some(slot) => newest(shared, slot, known),
        None => match Symbol::new(&symbol) {
            Ok(symbol) => unknown(shared, &symbol, &query),
            Err(e) => bad(e.to_string()),
        },
    };
    if query.wait_ms == 0 {
        return respond(find().as_deref());
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms);
    let mut changes = shared.visible.subscribe();
    loop {
        changes.mark_unchanged();
        let found = find();
        let response = respond(found.as_deref());
        let known_seq =
            |slot: &Slot| matches!(&slot.answer, Answer::Prediction(m) if m.seq <= query.after_seq);
        let is_old = found.as_deref().is_some_and(known_seq);
        let waits =
            response.status() != StatusCode::BAD_REQUEST && (response.status() != StatusCode::OK || is_old);
        if !waits || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            return response;
        }
    }
}

/// No answer fits: for want of a bar, of a model in its place, or of such a model at all.
fn unknown(shared: &Shared, symbol: &Symbol, query: &Query) -> Reply {
    let covers = |d: &&crate::config::CheckedDeployment| {
        d.symbols.as_ref().is_none_or(|s| s.contains(symbol))
            && query.filter.timeframe.is_none_or(|t| t == d.timeframe)
    };
    if shared.settings.deployments.iter().find(covers).is_none() {
        let message = format!("no model is deployed for {symbol}: see deployments in config.toml");
        return error(StatusCode::NOT_FOUND, &message, &[]);
    }
    let Filter { model, model_type, .. } = &query.filter;
    if let Some(reference) = model.as_ref().filter(|m| shared.table.is_deployed(m))
        && shared.table.model(reference).is_none()
    {
        let message = format!("{reference} points at no version that serves: see /v1/deployments");
        return error(StatusCode::SERVICE_UNAVAILABLE, &message, &[("reason", "\"no_model\"".into())]);
    }
    let any = Filter { model: None, model_type: None, ..query.filter.clone() };
    if (model.is_some() || model_type.is_some()) && shared.visible.find(symbol.as_str(), &any).is_some() {
        let message = format!("no such model answers for {symbol}: see /v1/deployments");
        return error(StatusCode::NOT_FOUND, &message, &[]);
    }
    let members = [("reason", "\"warming\"".into()), ("have", "0".into())];
    error(StatusCode::SERVICE_UNAVAILABLE, &format!("no bar of {symbol} has come yet"), &members)
}

fn newest(shared: &Shared, slot: &Slot, known: Option<&str>) -> Reply {
    let key = &slot.key;
    let unavailable = |reason: &str, message: String, members: &[(&str, String)]| {
        let mut all = vec![("reason", render::quoted(reason)), ("model", render::quoted(&slot.about.model))];
        all.extend_from_slice(members);
        error(StatusCode::SERVICE_UNAVAILABLE, &message, &all)
    };
    match &slot.answer {
        Answer::Prediction(made) => {
            let now = shared.visible.now();
            if now > made.valid_until {
                let message = format!(
                    "the newest prediction of {key} was valid until {}; it is {now}",
                    made.valid_until
                );
                return unavailable("stale", message, &[("seq", made.seq.to_string())]);
            }
            let etag = slot.etag.as_ref();
            let is_etag = |k: &str| etag.is_some_and(|e| e == k.trim().trim_start_matches("W/"));
            let mut response = if known.is_some_and(|k| k.split(',').any(is_etag)) {
                reply(StatusCode::NOT_MODIFIED, JSON, Bytes::new())
            } else {
                reply(StatusCode::OK, JSON, slot.body(made, shared.visible.durable_seq()))
            };
            if let Some(etag) = etag {
                response.headers_mut().insert(ETAG, etag.clone());
            }
            response
        }
        Answer::Warming { have, need } => {
            let message = if have < need {
                format!("{key} is warming up: {have}/{need} bars")
            } else {
                format!("{key} is warm and waits for its next bar")
            };
            unavailable("warming", message, &[("have", have.to_string()), ("need", need.to_string())])
        }
        Answer::Abstained { seq, reason, message } => {
            let text = format!("no prediction for the newest bar of {key}: {message}");
            unavailable("abstained", text, &[("seq", seq.to_string()), ("cause", render::quoted(reason))])
        }
        Answer::Quarantined { message } => unavailable("quarantined", message.to_string(), &[]),
    }
}

async fn predictions(shared: &Shared, request: &Request<Body>) -> Reply {
    let query = match query(shared, request.uri().query()) {
        Ok(q) => q,
        Err(e) => return error(StatusCode::BAD_REQUEST, &e, &[]),
    };
    let deadline = tokio::time::Instant::now() + Duration::from_millis(query.wait_ms);
    let mut changes = shared.visible.subscribe();
    loop {
        changes.mark_unchanged();
        let (made, forgotten) = shared.visible.since(query.after_seq, &query.filter, query.limit);
        let waits = made.is_empty() && query.wait_ms > 0;
        if !waits || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            let durable = shared.visible.durable_seq();
            let list: Vec<String> = made.iter().map(|m| format!("{}}}", m.body)).collect();
            let last = made.last().map_or(query.after_seq, |m| m.seq);
            let body = format!(
                "{{\"predictions\":[{}],\"last_seq\":{last},\"durable_seq\":{durable},\"forgotten\":{forgotten}}}",
                list.join(",")
            );
            return reply(StatusCode::OK, JSON, body);
        }
    }
}

/// Outcomes that are summed up where the request names no number.
const OUTCOMES_LAST: usize = 1000;

fn outcomes(shared: &Shared, request: &Request<Body>) -> Reply {
    let query = match outcomes_query(request.uri().query()) {
        Ok(query) => query,
        Err(e) => return error(StatusCode::BAD_REQUEST, &e, &[]),
    };
    let mut filter = query.filter;
    if let Some(wanted) = &filter.model {
        // Outcomes are of versions: of an alias, those of the one that it points at.
        filter.model = match named(shared, wanted) {
            Ok(name) => Some(shared.table.model(&name).map_or(name, |model| model.to_string())),
            Err(e) => return error(StatusCode::NOT_FOUND, &e, &[]),
        };
    }
    let found = shared.visible.outcomes.select(&filter, query.last);
    let summaries = summaries(found.iter().map(|record| &**record));
    let listed = found.iter().skip(found.len().saturating_sub(query.list));
    let lines: Vec<Line> = listed.map(|record| Line::from(&**record)).collect();
    let body = serde_json::json!({ "summaries": summaries, "outcomes": lines });
    reply(StatusCode::OK, JSON, body.to_string())
}

struct OutcomesQuery {
    filter: Filter,
    last: usize,
    list: usize,
}

fn outcomes_query(text: Option<&str>) -> Result<OutcomesQuery, String> {
    let mut query = OutcomesQuery { filter: Filter::default(), last: OUTCOMES_LAST, list: 0 };
    for pair in text.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        let number = |max: usize| {
            let number = value.parse::<usize>();
            number.map(|n| n.min(max)).map_err(|_| format!("{name} must be a whole number, not '{value}'"))
        };
        match name {
            "model" => query.filter.model = Some(value.into_owned()),
            "symbols" => {
                let symbols = value.split(',').filter(|s| !s.is_empty()).map(Symbol::new);
                query.filter.symbols = symbols.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
            }
            "timeframe" => {
                query.filter.timeframe = Some(Timeframe::parse(&value).map_err(|e| e.to_string())?)
            }
            "last" => query.last = number(1_000_000)?,
            "list" => query.list = number(10_000)?,
            _ => {
                return Err(format!(
                    "unknown parameter '{name}': there are model, symbols, timeframe, last and list"
                ));
            }
        }
    }
    Ok(query)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictBody {
    symbol: Symbol,
    timeframe: Timeframe,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    model_type: Option<String>,
    bars: Vec<PredictBar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictBar {
    open_time: Timestamp,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
}

async fn predict(shared: &Shared, request: Request<Body>) -> Reply {
    let body = match bars_body(shared, request).await {
        Ok(b) => b,
        Err(response) => return response,
    };
    let asked: PredictBody = match serde_json::from_slice(&body) {
        Ok(a) => a,
        Err(e) => return error(StatusCode::BAD_REQUEST, &format!("not a predict request: {e}"), &[]),
    };
    if asked.bars.len() > shared.settings.raw.server.limits.lines_max {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "more bars than server.limits.lines_max", &[]);
    }
    let key = StreamKey { symbol: asked.symbol, timeframe: asked.timeframe };
    let mut bars: Vec<Bar> = Vec::with_capacity(asked.bars.len());
    for (i, b) in asked.bars.into_iter().enumerate() {
        let PredictBar { open_time, open, high, low, close, volume } = b;
        let bar =
            Bar { key: key.clone(), open_time, open, high, low, close, volume, is_final: true, revision: 0 };
        let ordered = bars.last().is_none_or(|last| last.open_time < open_time);
        let refused = bar.check().err().map(|e| e.to_string());
        if let Some(e) = refused.or((!ordered).then(|| "its open_time is not after the one before".into())) {
            return error(StatusCode::UNPROCESSABLE_ENTITY, &format!("bars[{i}]: {e}"), &[]);
        }
        bars.push(bar);
    }
    let (sender, answer) = tokio::sync::oneshot::channel();
    let model = match asked.model.map(|text| named(shared, &text)).transpose() {
        Ok(model) => model,
        Err(message) => return error(StatusCode::NOT_FOUND, &message, &[]),
    };
    let job = PredictJob { key, model, model_type: asked.model_type, bars, reply: sender };
    if shared.predict.sender.try_send(PredictWork::Job(job)).is_err() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many predict requests are waiting", &[]);
    }
    match answer.await {
        Ok(Ok(p)) => {
            let mut body = format!(
                "{{\"model\":\"{}\",\"label\":\"{}\",\"horizon_bars\":{},\"value\":{}",
                p.model, p.label, p.horizon_bars, p.value
            );
            p.meaning.write(&mut body, &p.values);
            render::write_uncertainty(&mut body, p.uncertainty, None);
            body += &format!(",\"device\":\"{}\"}}", p.device);
            reply(StatusCode::OK, JSON, body)
        }
        Ok(Err(PredictError::NoModel(message))) => error(StatusCode::NOT_FOUND, &message, &[]),
        Ok(Err(PredictError::Warming { have, need })) => {
            let message = format!("{have} bars are too few: this model needs {need}");
            error(StatusCode::UNPROCESSABLE_ENTITY, &message, &[("need", need.to_string())])
        }
        Ok(Err(PredictError::Failed(message))) => error(StatusCode::UNPROCESSABLE_ENTITY, &message, &[]),
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping", &[]),
    }
}

fn ready(shared: &Shared) -> Reply {
    let [predictions, warming, abstained, quarantined] = shared.visible.counts();
    let ready = quarantined == 0;
    let lines = shared.table.lines();
    let models: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let m = line.model.as_ref()?;
            let [model, reference, device] =
                [&*m.model, &*line.seat.reference, m.device.as_str()].map(render::quoted);
            Some(format!("{{\"model\":{model},\"deployed_as\":{reference},\"device\":{device}}}"))
        })
        .collect();
    let body = format!(
        "{{\"ready\":{ready},\"predictions\":{predictions},\"warming\":{warming},\"abstained\":{abstained},\
         \"quarantined\":{quarantined},\"durable_seq\":{},\"models\":[{}]}}",
        shared.visible.durable_seq(),
        models.join(",")
    );
    reply(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, JSON, body)
}
