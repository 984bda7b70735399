//! What polls see, for processes that read memory: the file of `server.shared_memory`, and answers as its slots.

use std::collections::HashMap;
use std::sync::Arc;

use market::{StreamKey, Timeframe};
use shared::{Cause, Label, Options, SLOTS_MAX, Snapshot, State, Uncertainty, Writer, flag};

use crate::config::{Clock, Settings};
use crate::deployment::About;
use crate::visible::Answer;

/// The file of the settings, if there is to be one.
pub fn create(settings: &Settings) -> Result<Option<Arc<Writer>>, String> {
    let Some(path) = &settings.shared_memory else { return Ok(None) };
    let options = Options {
        slots: slots(settings),
        mode: settings.shared_memory_mode,
        clock: match settings.raw.serving.clock {
            Clock::Wall => shared::Clock::Wall,
            Clock::Feed => shared::Clock::Feed,
        },
    };
    let writer = Writer::create(path, &options).map_err(|e| format!("server.shared_memory: {e}"))?;
    Ok(Some(Arc::new(writer)))
}

/// Each stream under each model that may answer for it, and as many again for restarts with other deployments.
fn slots(settings: &Settings) -> u32 {
    let mut of_timeframe: HashMap<Timeframe, usize> = HashMap::new();
    for deployment in &settings.deployments {
        *of_timeframe.entry(deployment.timeframe).or_default() += deployment.seats(0).len();
    }
    let models = of_timeframe.into_values().max().unwrap_or(1);
    let slots = settings.raw.serving.streams_max.saturating_mul(2 * models);
    u32::try_from(slots).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)
}

/// A slot for a new stream and what is deployed there, such as "models:/btc@champion"; one that gets none is told of and
/// left to polls.
pub fn place(memory: &Writer, key: &StreamKey, reference: &str) -> Option<shared::Slot> {
    let timeframe = key.timeframe.to_string();
    let model = reference.strip_prefix("models:/").unwrap_or(reference);
    match memory.add(key.symbol.as_str(), &timeframe, key.timeframe.seconds(), model) {
        Ok(slot) => Some(slot),
        Err(error) => {
            tracing::warn!(%key, model, %error, "not in shared memory");
            None
        }
    }
}

pub fn snapshot(answer: &Answer, about: &About) -> Snapshot {
    let version = about.name().version.parse().unwrap_or(0);
    let said = match answer {
        Answer::Prediction(made) => {
            let flags = [
                (made.provisional, flag::PROVISIONAL),
                (made.recovered, flag::RECOVERED),
                (made.revised, flag::REVISED),
                (made.shadow, flag::SHADOW),
            ];
            Snapshot {
                state: State::Prediction,
                seq: made.seq,
                value: f64::from(made.value),
                valid_until_ns: made.valid_until.0,
                made_at_ns: made.made_at.0,
                open_time_ns: made.open_time.0,
                close_time_ns: made.as_of.0,
                horizon_bars: u64::from(about.horizon_bars),
                revision: u64::from(made.revision),
                flags: flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit),
                // The labels that there are fit; an unknown longer one reads as none.
                label: Label::new(&about.label).unwrap_or_default(),
                uncertainty: made.uncertainty.map(|u| Uncertainty {
                    confidence: f64::from(u.confidence),
                    low: f64::from(u.low),
                    high: f64::from(u.high),
                    level: f64::from(u.level),
                }),
                ..Snapshot::default()
            }
        }
        Answer::Warming { have, need } => {
            Snapshot { state: State::Warming, have: *have, need: *need, ..Snapshot::default() }
        }
        Answer::Abstained { seq, reason, .. } => Snapshot {
            state: State::Abstained,
            seq: *seq,
            cause: if &**reason == "not_finite" { Cause::NotFinite } else { Cause::Plugin },
            ..Snapshot::default()
        },
        Answer::Quarantined { .. } => Snapshot { state: State::Quarantined, ..Snapshot::default() },
    };
    Snapshot { model_version: version, ..said }
}
