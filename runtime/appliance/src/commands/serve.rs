//! `alphaplus serve`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use store::{OnFull, Spool, SpoolOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{DurabilityMode, Settings};
use crate::deployment::Deployment;
use crate::events::Events;
use crate::explain::{self, ExplainThread};
use crate::inference::Inference;
use crate::load::{self, Parts};
use crate::manage::manager::{Manager, Means};
use crate::manage::overseer::Overseer;
use crate::manage::table::Table;
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::queue::{PredictQueue, StepFailed, bar_queue};
use crate::server::{self, Listeners, Shared};
use crate::visible::Visible;
use crate::{predictor, recover, shared_memory, tls};

/// Predict requests that wait at once.
const PREDICT_QUEUE: usize = 64;

/// `origin`: the arguments that gave the settings, for the processes that are started from here.
pub fn run(settings: Settings, origin: Vec<String>) -> Result<(), String> {
    let started = Instant::now();
    let settings = Arc::new(settings);
    let parts = Arc::new(Parts::new(&settings)?);
    let acceptor = settings.tls.as_ref().map(|(c, k)| tls::acceptor(c, k)).transpose()?;
    let places = settings.raw.serving.sliding_streams_max;
    let deployments = load::deployments(&parts, &settings, places)?;
    if deployments.is_empty() {
        tracing::warn!("no deployments are configured: every bar will be refused");
    }
    deployments.iter().for_each(Deployment::warn_of_what_it_lacks);
    let names: Vec<_> =
        deployments.iter().map(|d| (d.about.model.clone(), d.features.spec().names.clone())).collect();
    let for_predict = load::deployments(&parts, &settings, 0)?;
    let inference = Arc::new(Inference::new(parts.clone(), &settings));

    let memory = shared_memory::create(&settings)?;
    let visible = Visible::new(settings.raw.serving.clock, settings.raw.serving.predictions_in_memory);
    let visible = Arc::new(visible.with_memory(memory.clone()));
    names.iter().for_each(|(model, names)| visible.explanations.name_columns(model, names));
    let metrics = Arc::new(Metrics::default());
    let mut pipeline = open(&settings, deployments, visible.clone(), metrics.clone())?;
    let report = recover::restart(&mut pipeline, &|name, digest| parts.about(name, digest))?;
    tracing::info!(
        bars = report.bars,
        predictions = report.predictions,
        streams = report.streams,
        recovered = report.recovered,
        resolved = report.resolved,
        next_seq = pipeline.next_seq,
        "the spool was read back"
    );

    let (bars, receiver) = bar_queue(settings.raw.server.limits.queue_bars_max);
    let explain = explain::start(&settings, bars.clone(), visible.clone(), metrics.clone())?;
    let explainer = explain.map(|(ours, thread)| {
        pipeline.explaining = Some(ours);
        thread
    });
    let (predict, predict_jobs) = sync_channel(PREDICT_QUEUE);
    let predict = PredictQueue { sender: predict };
    let follows = settings.raw.models.check_ms > 0;
    let (poke, woken) = channel();
    let table = Arc::new(Table::new(Vec::new(), follows, poke));
    let events = Events::open(&settings.raw.models.events)
        .inspect_err(|error| tracing::error!(%error, "models aren't managed until the event log is mended"))
        .ok();
    let overseer = Overseer::new(settings.clone(), parts.clone(), events.clone(), origin);
    let means = Means {
        visible: visible.clone(),
        overseer,
        settings: settings.clone(),
        parts: parts.clone(),
        bars: bars.clone(),
        predict: predict.clone(),
        inference: inference.clone(),
        metrics: metrics.clone(),
        table: table.clone(),
    };
    let manager = Manager::new(means, &pipeline.deployments);
    let stop_manager = Arc::new(AtomicBool::new(false));
    let predictor = spawn("predict", move || {
        predictor::run(for_predict, &predict_jobs);
        Ok(())
    })?;
    let (ended_sender, ended) = watch::channel(false);
    let data_path = spawn("data-path", move || {
        let result = pipeline.run(receiver);
        // The HTTP side stops when the data path does.
        let _ = ended_sender.send(true);
        result
    })?;
    let stop = stop_manager.clone();
    let manager = spawn("manager", move || {
        if follows {
            manager.run(&woken, &stop);
        }
        Ok(())
    })?;
    let shared = Arc::new(Shared {
        settings,
        visible,
        metrics,
        bars,
        predict,
        inference,
        table: table.clone(),
        models: server::models::Means { registry: parts.registry.clone(), table: table.clone(), events },
    });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(shared.settings.raw.server.threads)
        .enable_all()
        .build()
        .map_err(|e| format!("the HTTP side can't start: {e}"))?;
    let served = runtime.block_on(serve(shared, acceptor, ended, started));
    drop(runtime);
    explainer.map_or(Ok(()), ExplainThread::stop)?;
    stop_manager.store(true, Ordering::Release);
    table.look();
    // Dropping the last sender ends both threads, after what is queued.
    let managed = manager.join().map_err(|_| "the manager panicked: please report this".to_string());
    let done = data_path.join().map_err(|_| "the data path panicked: please report this".to_string());
    if let Some(memory) = memory {
        // Nothing more will be shown, however it ended.
        memory.close();
    }
    let done = done?;
    predictor
        .join()
        .map_err(|_| "the predict thread panicked: please report this".to_string())?
        .map_err(|e| e.0)?;
    managed?.map_err(|e| e.0)?;
    served?;
    done.map_err(|e| e.0)?;
    tracing::info!("stopped; everything is synced");
    Ok(())
}

fn spawn(
    name: &str,
    body: impl FnOnce() -> Result<(), StepFailed> + Send + 'static,
) -> Result<thread::JoinHandle<Result<(), StepFailed>>, String> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|e| format!("thread {name} can't start: {e}"))
}

/// The data path over its spool, before what the spool holds is read back.
pub fn open(
    settings: &Settings,
    deployments: Vec<Deployment>,
    visible: Arc<Visible>,
    metrics: Arc<Metrics>,
) -> Result<Pipeline, String> {
    let raw = &settings.raw;
    let options = SpoolOptions {
        segment_bytes: raw.store.segment_bytes,
        limit_bytes: raw.store.limit_bytes,
        on_full: OnFull::DropOldest,
        durability: match raw.store.durability {
            DurabilityMode::Written => store::DurabilityMode::Written,
            DurabilityMode::Synced => store::DurabilityMode::Synced,
        },
        sync_interval: Duration::from_millis(raw.store.sync_interval_ms),
        ..SpoolOptions::default()
    };
    let (spool, recovery) = Spool::open(&raw.store.folder, options).map_err(|e| e.to_string())?;
    if recovery.torn_bytes_cut > 0 {
        tracing::warn!(bytes = recovery.torn_bytes_cut, "a torn tail was cut off the spool");
    }
    for damaged in &recovery.quarantined {
        tracing::error!(?damaged, "a damaged part of the spool was kept aside");
    }
    Ok(Pipeline {
        deployments: deployments.into_iter().enumerate().collect(),
        known: Default::default(),
        streams: Default::default(),
        next_seq: recovery.last_prediction_seq + 1,
        spool,
        visible,
        metrics,
        unprepared: Default::default(),
        explaining: None,
        visible_at: None,
        options: PipelineOptions {
            durability: raw.store.durability,
            streams_max: raw.serving.streams_max,
            keep_bars: raw.serving.revision_depth_bars,
            stale_after_bars: raw.serving.stale_after_bars,
            predictions_in_memory: raw.serving.predictions_in_memory,
            history: Duration::from_secs(raw.store.history_hours * 3600),
        },
    })
}

async fn serve(
    shared: Arc<Shared>,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    mut ended: watch::Receiver<bool>,
    started: Instant,
) -> Result<(), String> {
    let listeners = Listeners::bind(&shared.settings).await.map_err(|e| e.to_string())?;
    let address = listeners.tcp.local_addr().map_err(|e| e.to_string())?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    tracing::info!(start_ms = started.elapsed().as_millis() as u64, "serving on {scheme}://{address}");
    // One line for people and scripts that wait for it.
    println!("serving on {scheme}://{address}");
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("interrupt: stopping"),
            _ = ended.wait_for(|e| *e) => tracing::error!("the data path ended: stopping"),
        }
        let _ = stop.send(true);
    });
    server::serve(shared, listeners, acceptor, stopped).await;
    Ok(())
}
