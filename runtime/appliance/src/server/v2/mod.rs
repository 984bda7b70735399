//! The Open Inference Protocol v2 for whoever sends tensors, with Triton's extensions that clients know: binary
//! tensors, the model repository, statistics; and explanations, an extension of ours.
//!
//! | route | what |
//! |---|---|
//! | `GET /v2` | the server |
//! | `GET /v2/models/{m}[/versions/{v}]`, `…/ready`, `…/config` | a model |
//! | `POST /v2/models/{m}[/versions/{v}]/infer` | windows in, predictions out |
//! | `GET /v2/models[/{m}[/versions/{v}]]/stats` | counts and times since a model was loaded |
//! | `POST /v2/repository/index`, `/v2/repository/models/{m}/load`, `…/unload` | the repository |

mod wire;

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use learn::explain::POINTS_DEFAULT;
use percent_encoding::percent_decode_str;
use registry::Version;
use serde_json::{Map, Value, json};

use super::Shared;
use super::guard::Right;
use super::routes::{self, Reply};
use crate::inference::InferError;
use crate::inference::loaded::{Loaded, ROWS_MAX, Wants};

/// The name of every model's input.
const INPUT: &str = plugin::architecture::INPUT;
const JSON_BYTES: &str = "inference-header-content-length";
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_repository", "statistics", "explain"];

/// What a path asks for.
#[derive(Debug, PartialEq)]
pub enum Route {
    Server,
    Model(Named),
    Ready(Named),
    Config(Named),
    Stats(Option<Named>),
    Infer(Named),
    Index,
    Load(String),
    Unload(String),
}

#[derive(Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub version: Version,
}

impl Route {
    /// `None`: there is no such path.
    pub fn of(path: &str) -> Option<Route> {
        let parts: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (named, rest) = match parts.as_slice() {
            ["v2"] => return Some(Route::Server),
            ["v2", "repository", "index"] => return Some(Route::Index),
            ["v2", "repository", "models", name, "load"] => return Some(Route::Load((*name).into())),
            ["v2", "repository", "models", name, "unload"] => return Some(Route::Unload((*name).into())),
            ["v2", "models", "stats"] => return Some(Route::Stats(None)),
            ["v2", "models", name, "versions", version, rest @ ..] => {
                (Named { name: (*name).into(), version: Version::parse(version)? }, rest)
            }
            ["v2", "models", name, rest @ ..] => {
                (Named { name: (*name).into(), version: Version::Latest }, rest)
            }
            _ => return None,
        };
        match rest {
            [] => Some(Route::Model(named)),
            ["ready"] => Some(Route::Ready(named)),
            ["config"] => Some(Route::Config(named)),
            ["stats"] => Some(Route::Stats(Some(named))),
            ["infer"] => Some(Route::Infer(named)),
            _ => None,
        }
    }

    /// Its name in the metrics, its method, and what it needs.
    pub fn kind(&self) -> (&'static str, Method, Right) {
        match self {
            Route::Infer(_) => ("infer", Method::POST, Right::Poll),
            Route::Index => ("repository", Method::POST, Right::Poll),
            Route::Load(_) | Route::Unload(_) => ("repository", Method::POST, Right::Admin),
            Route::Server | Route::Model(_) | Route::Ready(_) | Route::Config(_) | Route::Stats(_) => {
                ("models", Method::GET, Right::Poll)
            }
        }
    }
}

pub async fn answer(shared: &Shared, route: Route, request: Request<Body>) -> Reply {
    let answered = match route {
        Route::Server => Ok(json(&json!({
            "name": "alphaplus",
            "version": env!("CARGO_PKG_VERSION"),
            "extensions": EXTENSIONS,
        }))),
        Route::Model(named) => model(shared, named, metadata).await,
        Route::Config(named) => model(shared, named, config).await,
        Route::Ready(named) => ready(shared, &named),
        Route::Stats(named) => stats(shared, named),
        Route::Infer(named) => return infer(shared, named, request).await,
        Route::Index => index(shared),
        Route::Load(name) => {
            let inference = shared.inference.clone();
            blocking(move || inference.load(&name)).await.map(|()| json(&json!({})))
        }
        Route::Unload(name) => shared.inference.unload(&name).map(|()| json(&json!({}))),
    };
    answered.unwrap_or_else(|e| refused(&e))
}

fn json(value: &Value) -> Reply {
    routes::reply(StatusCode::OK, routes::JSON, value.to_string())
}

fn refused(error: &InferError) -> Reply {
    let status = match error {
        InferError::NotFound(_) => StatusCode::NOT_FOUND,
        InferError::Bad(_) => StatusCode::BAD_REQUEST,
        InferError::Unloaded(_) | InferError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        InferError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    routes::error(status, &error.to_string(), &[])
}

/// Loading takes milliseconds to seconds: not on the threads that answer polls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(InferError::Failed("the thread that loads models ended: see the log".into())),
    }
}

async fn loaded(shared: &Shared, named: Named) -> Result<Arc<Loaded>, InferError> {
    let inference = shared.inference.clone();
    blocking(move || inference.get(&named.name, named.version)).await
}

async fn model(
    shared: &Shared,
    named: Named,
    show: fn(&Loaded, &[u32]) -> Value,
) -> Result<Reply, InferError> {
    let versions = shared.inference.versions(&named.name)?;
    Ok(json(&show(&*loaded(shared, named).await?, &versions)))
}

fn metadata(model: &Loaded, versions: &[u32]) -> Value {
    let input = model.manifest.input;
    let tensor = |name: &str, shape: Value| json!({"name": name, "datatype": "FP32", "shape": shape});
    let mut outputs = vec![tensor("prediction", json!([-1, input.outputs]))];
    outputs.extend(model.extra.iter().map(|(name, shape)| tensor(name, json!(shape))));
    json!({
        "name": model.manifest.name,
        "versions": versions.iter().map(u32::to_string).collect::<Vec<_>>(),
        "platform": "alphaplus",
        "inputs": [tensor(INPUT, json!([-1, input.window, input.features]))],
        "outputs": outputs,
        "parameters": {
            "version": model.manifest.version.to_string(),
            "label": model.manifest.label.kind.name(),
            "horizon_bars": model.manifest.label.horizon_bars,
            "timeframe": model.manifest.data.timeframe,
            "features": model.manifest.features.names,
            "device": &*model.device,
        },
    })
}

/// What clients that speak Triton's configuration extension look at.
fn config(model: &Loaded, _: &[u32]) -> Value {
    let input = model.manifest.input;
    json!({
        "name": model.manifest.name,
        "platform": "alphaplus",
        "backend": "alphaplus",
        "max_batch_size": ROWS_MAX,
        "input": [{"name": INPUT, "data_type": "TYPE_FP32", "dims": [input.window, input.features]}],
        "output": [{"name": "prediction", "data_type": "TYPE_FP32", "dims": [input.outputs]}],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
    })
}

/// Whether it is loaded; asking doesn't load it.
fn ready(shared: &Shared, named: &Named) -> Result<Reply, InferError> {
    let number = match named.version {
        Version::Number(n) => n,
        Version::Latest => shared.inference.newest(&named.name)?,
    };
    let rows = shared.inference.index()?;
    let Some(row) = rows.iter().find(|r| r.name == named.name && r.version == number) else {
        let message = format!("{} has no version {number}: see /v2/repository/index", named.name);
        return Err(InferError::NotFound(message));
    };
    // What is loaded when it is asked for is ready.
    let ready = row.reason != "unloaded";
    let body = json!({"name": named.name, "ready": ready, "loaded": row.loaded});
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(routes::reply(status, routes::JSON, body.to_string()))
}

fn stats(shared: &Shared, named: Option<Named>) -> Result<Reply, InferError> {
    if let Some(named) = &named {
        shared.inference.newest(&named.name)?;
    }
    let fits = |model: &&Arc<Loaded>| match &named {
        None => true,
        Some(Named { name, version }) => {
            let numbered = match version {
                Version::Latest => true,
                Version::Number(n) => model.manifest.version == *n,
            };
            model.manifest.name == *name && numbered
        }
    };
    let line = |model: &Arc<Loaded>| {
        let stats = model.stats();
        let span =
            |count: u64, time: std::time::Duration| json!({"count": count, "ns": time.as_nanos() as u64});
        json!({
            "name": model.manifest.name,
            "version": model.manifest.version.to_string(),
            "last_inference": stats.last.map_or(0, |t| t.0 / 1_000_000),
            "inference_count": stats.rows,
            "execution_count": stats.executions,
            "memory_bytes": model.bytes,
            "inference_stats": {
                "success": span(stats.requests, stats.queue + stats.compute),
                "fail": span(stats.failed, std::time::Duration::ZERO),
                "queue": span(stats.requests, stats.queue),
                "compute_infer": span(stats.executions, stats.compute),
            },
        })
    };
    let lines: Vec<Value> = shared.inference.loaded().iter().filter(fits).map(line).collect();
    Ok(json(&json!({"model_stats": lines})))
}

fn index(shared: &Shared) -> Result<Reply, InferError> {
    let line = |row: &crate::inference::IndexRow| {
        let state = if row.loaded { "READY" } else { "UNAVAILABLE" };
        json!({"name": row.name, "version": row.version.to_string(), "state": state, "reason": row.reason})
    };
    Ok(json(&Value::Array(shared.inference.index()?.iter().map(line).collect())))
}

async fn infer(shared: &Shared, named: Named, request: Request<Body>) -> Reply {
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let json_bytes = match header(JSON_BYTES).map(str::parse::<usize>) {
        None => None,
        Some(Ok(n)) => Some(n),
        Some(Err(_)) => {
            let message = "Inference-Header-Content-Length must be a whole number";
            return routes::error(StatusCode::BAD_REQUEST, message, &[]);
        }
    };
    if header("content-encoding").is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
        let message = "compressed bodies are not taken: send it as it is";
        return routes::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message, &[]);
    }
    let limit = shared.settings.raw.server.limits.infer_bytes_max;
    let body = match routes::body(shared, request, limit, "server.limits.infer_bytes_max").await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    match inferred(shared, named, body, json_bytes).await {
        Ok(reply) => reply,
        Err(e) => refused(&e),
    }
}

async fn inferred(
    shared: &Shared,
    named: Named,
    body: Bytes,
    json_bytes: Option<usize>,
) -> Result<Reply, InferError> {
    let model = loaded(shared, named).await?;
    let parsed = wire::parse(&body, json_bytes, INPUT).map_err(InferError::Bad)?;
    drop(body);
    let input = model.manifest.input;
    let want = [input.window as usize, input.features as usize];
    let rows = match parsed.shape.as_slice() {
        [rows, rest @ ..] if *rest == want && *rows > 0 => *rows,
        shape => {
            let message = format!(
                "the input's shape is {shape:?}; {} takes [rows, {}, {}]",
                model.model, want[0], want[1]
            );
            return Err(InferError::Bad(message));
        }
    };
    if rows > ROWS_MAX {
        return Err(InferError::Bad(format!("{rows} rows in one request: send at most {ROWS_MAX}")));
    }
    let wants = wants(&parsed).map_err(InferError::Bad)?;
    let answer = model.infer(parsed.data, rows, wants).await?;
    let mut head = Map::new();
    head.insert("model_name".into(), model.manifest.name.clone().into());
    head.insert("model_version".into(), model.manifest.version.to_string().into());
    if let Some(id) = parsed.id {
        head.insert("id".into(), id.into());
    }
    let micros = |time: std::time::Duration| time.as_micros() as u64;
    head.insert(
        "parameters".into(),
        json!({
            "device": &*model.device,
            "degraded": false,
            "batch": answer.batch,
            "queue_us": micros(answer.times.queue),
            "compute_us": micros(answer.times.compute),
        }),
    );
    let all = parsed.parameters.get("binary_data_output").and_then(Value::as_bool).unwrap_or(false);
    let binary = |name: &str| {
        let asked = parsed.outputs.iter().find(|o| o.name == name);
        asked.and_then(|o| o.parameters.get("binary_data")).and_then(Value::as_bool).unwrap_or(all)
    };
    let shown: Vec<_> = answer
        .outputs
        .into_iter()
        .filter(|o| parsed.outputs.is_empty() || parsed.outputs.iter().any(|asked| asked.name == o.name))
        .collect();
    let rendered = wire::render(head, &shown, binary);
    let mut reply: Response<Full<Bytes>> = routes::reply(StatusCode::OK, routes::JSON, rendered.body);
    if let Some(bytes) = rendered.json_bytes {
        reply.headers_mut().insert(JSON_BYTES, HeaderValue::from(bytes));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(reply)
}

/// Names that explanations have in the reply.
const EXPLAINED: [&str; 3] = ["attributions", "completeness_residual", "baseline_prediction"];

fn wants(parsed: &wire::Parsed) -> Result<Wants, String> {
    let mut wants = Wants::default();
    let (mut asked, mut output, mut points) = (false, 0, POINTS_DEFAULT);
    for (name, value) in &parsed.parameters {
        let bad = |expected: &str| format!("parameter {name} is {value}: it must be {expected}");
        let count = || value.as_u64().and_then(|n| usize::try_from(n).ok());
        match name.as_str() {
            "raw" => wants.raw = value.as_bool().ok_or_else(|| bad("true or false"))?,
            "explain" => match value.as_str() {
                Some("ig") => asked = true,
                _ => return Err(bad("\"ig\", integrated gradients")),
            },
            "explain_output" => output = count().ok_or_else(|| bad("an output's number, from 0"))?,
            "explain_points" => points = count().ok_or_else(|| bad("a whole number"))?,
            "binary_data_output" => {
                value.as_bool().ok_or_else(|| bad("true or false"))?;
            }
            _ => {
                return Err(format!(
                    "unknown parameter '{name}': there are raw, explain, explain_output, explain_points and binary_data_output"
                ));
            }
        }
    }
    wants.explain = asked.then_some((output, points));
    let known = |name: &str| name == "prediction" || (asked && EXPLAINED.contains(&name));
    wants.extra = parsed.outputs.iter().map(|o| o.name.clone()).filter(|name| !known(name)).collect();
    if let Some(name) = wants.extra.iter().find(|name| EXPLAINED.contains(&name.as_str())) {
        return Err(format!("output {name} needs the parameter explain = \"ig\""));
    }
    Ok(wants)
}

#[cfg(test)]
mod tests;
