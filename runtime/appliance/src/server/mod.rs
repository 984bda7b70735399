//! The HTTP side. Routes:
//!
//! | route | group | what |
//! |---|---|---|
//! | `POST /v1/bars` | ingest | bars in |
//! | `GET /v1/predictions/{symbol}`, `GET /v1/predictions` | poll | the newest, or all since a `seq` |
//! | `GET /v1/explanations` | poll | what made some of the predictions: see [`explanations`] |
//! | `POST /v1/predict` | predict | raw bars through a model |
//! | `GET /v1/deployments` | models | the deployment table as it stands now |
//! | `GET /v1/events` | models | what was done with models and why |
//! | `/v1/models…` | models | the registry and its aliases: see [`models`] |
//! | `GET /v2/health/live`, `/v2/health/ready` | always | health |
//! | `GET /v2`, `/v2/models/…`, `POST /v2/models/{m}/infer`, `/v2/repository/…` | infer | Open Inference Protocol |
//! | `GET /metrics` | metrics | Prometheus |
//! | `GET /`, `GET /openapi.json` | status | the status page, the API's description |

mod connections;
mod explanations;
mod guard;
pub mod models;
mod page;
mod routes;
mod spin;
mod v2;

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::Settings;
use crate::inference::Inference;
use crate::manage::table::Table;
use crate::metrics::Metrics;
use crate::queue::{BarQueue, PredictQueue};
use crate::visible::Visible;
use connections::{Connections, Told};
use spin::Spin;

/// What every request may use.
pub struct Shared {
    pub settings: Arc<Settings>,
    pub visible: Arc<Visible>,
    pub metrics: Arc<Metrics>,
    pub bars: BarQueue,
    pub predict: PredictQueue,
    pub inference: Arc<Inference>,
    pub table: Arc<Table>,
    /// For requests about the registry.
    pub models: models::Means,
}

/// A connection from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Tcp,
    Unix,
}

/// What a connection is served with.
struct Peer {
    via: Via,
    spin: Option<Arc<Spin>>,
}

/// The bound sockets.
pub struct Listeners {
    pub tcp: TcpListener,
    pub unix: Option<UnixListener>,
}

impl Listeners {
    pub async fn bind(settings: &Settings) -> io::Result<Self> {
        let tcp = TcpListener::bind(settings.listen).await.map_err(|e| {
            io::Error::new(e.kind(), format!("server.listen: {} can't be bound: {e}", settings.listen))
        })?;
        let unix = match &settings.unix_socket {
            None => None,
            Some(path) => Some(bind_unix(path).map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("server.unix_socket: {} can't be bound: {e}", path.display()),
                )
            })?),
        };
        Ok(Listeners { tcp, unix })
    }
}

/// A socket left by a process that is gone is replaced; one that answers is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// Serves until `stop` turns true, then lets open requests finish for up to 5 seconds.
pub async fn serve(
    shared: Arc<Shared>,
    listeners: Listeners,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let connections =
        Arc::new(Connections::new(shared.settings.raw.server.limits.connections_max, shared.metrics.clone()));
    let spin = match shared.settings.raw.server.spin_us {
        0 => None,
        time => Some(Spin::start(Duration::from_micros(time))),
    };
    let of = |via| Peer { via, spin: spin.clone() };
    loop {
        tokio::select! {
            accepted = listeners.tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    match &tls {
                        None => spawn(&shared, &connections, stream, of(Via::Tcp)),
                        Some(acceptor) => spawn_tls(&shared, &connections, acceptor.clone(), stream, of(Via::Tcp)),
                    }
                }
                Err(e) => accept_failed(&e).await,
            },
            accepted = accept_unix(listeners.unix.as_ref()) => match accepted {
                Ok(stream) => spawn(&shared, &connections, stream, of(Via::Unix)),
                Err(e) => accept_failed(&e).await,
            },
            () = stopped(&mut stop) => break,
        }
    }
    drop(listeners);
    connections.finish();
    let _ = tokio::time::timeout(Duration::from_secs(5), connections.all_closed()).await;
}

/// Also when whoever could say so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<tokio::net::UnixStream> {
    match listener {
        Some(l) => l.accept().await.map(|(s, _)| s),
        None => std::future::pending().await,
    }
}

/// Out of file descriptors, most likely: wait for some to come back.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn spawn_tls(
    shared: &Arc<Shared>,
    connections: &Arc<Connections>,
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    peer: Peer,
) {
    let shared = shared.clone();
    let limit = shared.settings.header_timeout();
    let mut place = connections.open();
    tokio::spawn(async move {
        let handshake = tokio::time::timeout(limit, acceptor.accept(stream));
        let stream = tokio::select! {
            done = handshake => done,
            _ = place.told() => return,
        };
        match stream {
            Ok(Ok(stream)) => connection(shared, stream, peer, place).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    });
}

fn spawn<S>(shared: &Arc<Shared>, connections: &Arc<Connections>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(connection(shared.clone(), stream, peer, connections.open()));
}

async fn connection<S>(shared: Arc<Shared>, stream: S, peer: Peer, mut place: connections::Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = place.activity();
    let timeout = shared.settings.header_timeout();
    let (shared, activity, spin) = (&*shared, &*activity, peer.spin.as_deref());
    let service = hyper::service::service_fn(|request| async move {
        let busy = activity.busy();
        let (reply, now) = routes::answer(shared, peer.via, request).await;
        busy.until(now);
        if let Some(spin) = spin {
            spin.answered(now);
        }
        Ok::<_, std::convert::Infallible>(reply)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(64 << 10)
        // Replies are short: one buffer costs the kernel less than two.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = poll_fn(|context| match place.poll_told(context) {
        Poll::Ready(told) => Poll::Ready(Err(told)),
        Poll::Pending => served.as_mut().poll(context).map(Ok),
    });
    match ended.await {
        Ok(Ok(())) | Err(Told::Leave) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(Told::Finish) => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(5), served.as_mut()).await;
        }
    }
}
