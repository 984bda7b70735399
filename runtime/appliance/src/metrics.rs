//! The figures that `GET /metrics` shows, in the Prometheus text format; times in seconds.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Route {
    pub route: &'static str,
    pub status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Device {
    pub model: String,
    pub device: String,
    pub degraded: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Computed {
    window: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Failure {
    pub plugin: String,
    pub kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Resolved {
    pub model: String,
    pub result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Model {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Stage {
    pub stage: &'static str,
}

pub type Seconds = Family<Stage, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    // 1 µs to about 8 s.
    Histogram::new(exponential_buckets(1e-6, 2.0, 24))
}

/// Figures of `GET /v1/predictions/{symbol}`.
struct Poll {
    ok: Counter,
    not_modified: Counter,
    seconds: Histogram,
}

/// The name of its route.
pub const POLL: &str = "prediction";

pub struct Metrics {
    registry: Registry,
    pub bars: Family<Outcome, Counter>,
    pub requests: Family<Route, Counter>,
    swaps: Family<Outcome, Counter>,
    pub predictions: Family<Device, Counter>,
    /// Windows computed as one step of a sliding one, and whole.
    pub sliding: Counter,
    pub whole: Counter,
    pub abstained: Family<Failure, Counter>,
    /// First outcomes of predictions, by what they were.
    pub outcomes: Family<Resolved, Counter>,
    /// Predictions that were to be explained: made, failed, or dropped since too many waited.
    pub explanations: Family<Outcome, Counter>,
    /// Of outcomes with a value: right calls; those with an interval, and those in it.
    right: Family<Model, Counter>,
    intervals: Family<Model, Counter>,
    covered: Family<Model, Counter>,
    /// queue, features, compute, write, sync, visible (from the bar's arrival), outcomes, settle.
    pub stages: Seconds,
    pub request_seconds: Seconds,
    /// Of the route that is asked most, found once.
    poll: Poll,
    pub queue_bars: Gauge<i64, AtomicI64>,
    pub connections: Gauge<i64, AtomicI64>,
    pub connections_closed: Counter<u64, AtomicU64>,
    pub streams: Gauge<i64, AtomicI64>,
    pub quarantined: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("alphaplus");
        let r = &mut registry;
        let bars = Family::default();
        r.register("bars", "Bars received, by what became of them", bars.clone());
        let requests = Family::default();
        r.register("http_requests", "Requests answered", requests.clone());
        let swaps = Family::default();
        r.register(
            "model_swaps",
            "Models that came, went or changed places while the appliance ran",
            swaps.clone(),
        );
        let predictions = Family::default();
        r.register("predictions", "Predictions made", predictions.clone());
        let windows = Family::<Computed, Counter>::default();
        r.register("windows", "Windows computed, as one step of a sliding one or whole", windows.clone());
        let of_window = |window| windows.get_or_create_owned(&Computed { window });
        let (sliding, whole) = (of_window("sliding"), of_window("whole"));
        let abstained = Family::default();
        r.register("abstentions", "Bars without a prediction, by plugin and reason", abstained.clone());
        let outcomes = Family::default();
        r.register("outcomes", "Predictions that fell due, by what became of them", outcomes.clone());
        let explanations = Family::default();
        r.register("explanations", "Predictions to explain, by what became of it", explanations.clone());
        let right = Family::default();
        r.register("outcomes_right", "Those that came true as the confidence means it", right.clone());
        let intervals = Family::default();
        r.register(
            "intervals_resolved",
            "Intervals whose prediction fell due with a value",
            intervals.clone(),
        );
        let covered = Family::default();
        r.register("intervals_covered", "Those that held the realised value", covered.clone());
        let stages: Seconds = Family::new_with_constructor(seconds);
        r.register("stage_seconds", "Time in each stage of the data path", stages.clone());
        let request_seconds: Seconds = Family::new_with_constructor(seconds);
        r.register("http_request_seconds", "Time to answer a request", request_seconds.clone());
        let of = |status| requests.get_or_create_owned(&Route { route: POLL, status });
        let seconds = request_seconds.get_or_create_owned(&Stage { stage: POLL });
        let poll = Poll { ok: of(200), not_modified: of(304), seconds };
        let queue_bars = Gauge::default();
        r.register("queue_bars", "Bars waiting for the data path", queue_bars.clone());
        let connections = Gauge::default();
        r.register("http_connections", "Open connections", connections.clone());
        let connections_closed = Counter::default();
        r.register(
            "http_connections_evicted",
            "Idle connections closed to make room",
            connections_closed.clone(),
        );
        let streams = Gauge::default();
        r.register("streams", "Symbol and timeframe pairs held", streams.clone());
        let quarantined = Gauge::default();
        r.register("plugins_quarantined", "Deployments whose plugin is quarantined", quarantined.clone());
        Metrics {
            registry,
            bars,
            requests,
            swaps,
            poll,
            predictions,
            sliding,
            whole,
            abstained,
            outcomes,
            explanations,
            right,
            intervals,
            covered,
            stages,
            request_seconds,
            queue_bars,
            connections,
            connections_closed,
            streams,
            quarantined,
        }
    }
}

impl Metrics {
    pub fn stage(&self, stage: &'static str, seconds: f64) {
        self.stages.get_or_create(&Stage { stage }).observe(seconds);
    }

    /// An outcome with a value. `covered`: by the interval, if there was one.
    pub fn judged(&self, model: &str, covered: Option<bool>, right: bool) {
        let add = |family: &Family<Model, Counter>, by: bool| {
            family.get_or_create(&Model { model: model.into() }).inc_by(u64::from(by));
        };
        add(&self.right, right);
        if let Some(covered) = covered {
            add(&self.intervals, true);
            add(&self.covered, covered);
        }
    }

    /// A model that came, went or changed places while the appliance ran, or failed to.
    pub fn swapped(&self, outcome: &'static str) {
        self.swaps.get_or_create(&Outcome { outcome }).inc();
    }

    /// A request that was answered.
    pub fn request(&self, route: &'static str, status: u16, seconds: f64) {
        let count = match status {
            200 if route == POLL => Some(&self.poll.ok),
            304 if route == POLL => Some(&self.poll.not_modified),
            _ => None,
        };
        match count {
            Some(count) => {
                count.inc();
                self.poll.seconds.observe(seconds);
            }
            None => {
                self.requests.get_or_create(&Route { route, status }).inc();
                self.request_seconds.get_or_create(&Stage { stage: route }).observe(seconds);
            }
        }
    }

    pub fn bar(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.bars.get_or_create(&Outcome { outcome }).inc_by(count);
        }
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_units_and_totals() {
        let metrics = Metrics::default();
        metrics.stage("features", 0.001);
        metrics.bar("accepted", 3);
        metrics.request(POLL, 200, 1e-5);
        metrics.request(POLL, 503, 1e-5);
        metrics.judged("m/1", Some(false), true);
        metrics.judged("m/1", None, false);
        let text = metrics.render();
        assert!(text.contains("alphaplus_bars_total{outcome=\"accepted\"} 3"), "{text}");
        assert!(text.contains("alphaplus_stage_seconds_bucket{"), "{text}");
        for (name, count) in [("outcomes_right", 1), ("intervals_resolved", 1), ("intervals_covered", 0)] {
            let line = format!("alphaplus_{name}_total{{model=\"m/1\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        let requests = |status| {
            text.contains(&format!("http_requests_total{{route=\"prediction\",status=\"{status}\"}} 1\n"))
        };
        assert!(requests(200) && requests(503), "{text}");
        assert!(text.contains("http_request_seconds_count{stage=\"prediction\"} 2"), "{text}");
    }
}
