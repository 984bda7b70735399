//! One change of a stream through a model's features, with what is done when the plugin fails, and the newest row
//! through its sliding plan.

use market::{Bar, FeatureError};

use crate::deployment::Deployment;
use crate::history::{self, Change, History};
use crate::live::{Fed, Live, Snapshot};
use crate::slide::Place;

/// The newest row through the model's sliding plan. `None`: nothing yet, or the whole window has to be computed.
pub fn slide(deployment: &mut Deployment, place: &mut Option<Place>, live: &Live) -> Option<Vec<f32>> {
    let slides = deployment.runner.slides.as_mut()?;
    if place.is_none() {
        *place = slides.place();
    }
    match slides.newest(place.as_mut()?, live) {
        Ok(outputs) => outputs.map(<[f32]>::to_vec),
        Err(error) => {
            tracing::error!(model = %deployment.about.model, %error, "the sliding plan failed");
            None
        }
    }
}

/// The change through the plugin. A lost instance is replaced and the stream replayed; a bar that fails twice
/// is passed over, and the stream warms up again behind it. `None`: quarantined.
pub fn feed(
    deployment: &mut Deployment,
    epoch: &mut u64,
    live: &mut Live,
    history: &mut History,
    change: Change,
) -> (Result<Option<Fed>, FeatureError>, Vec<Snapshot>) {
    if deployment.health.quarantined().is_some() {
        live.lost();
        return (Ok(None), Vec::new());
    }
    let count = history.count;
    let Deployment { normaliser, features, epoch: current, .. } = deployment;
    let apply = |row: &mut [f32]| normaliser.apply(row);
    // Snapshots that the change made void go, and are replaced.
    let changed = match change {
        Change::Older(index) => index,
        Change::Newest => count.saturating_sub(1),
        Change::Next | Change::Nothing => u64::MAX,
    };
    live.forget_after(changed);
    let attempt = if *epoch != *current || !live.is_open() {
        reopen(live, features.as_mut(), &apply, history.series.as_slice(), count, changed)
    } else {
        history::feed(live, features.as_mut(), &apply, history, change)
    };
    *epoch = *current;
    let error = match attempt {
        Ok((fed, snapshots)) => return (Ok(Some(fed)), snapshots),
        Err(error) => error,
    };
    // Once more in a new instance, if the old one is gone: what fails twice is the bar's doing.
    let mut error = error;
    if error.kind.lost_streams() {
        live.lost();
        // Only what takes the instance down counts: a row that is refused is one stream's matter.
        deployment.health.failed(&error);
        let again = deployment.rebuild().and_then(|()| {
            *epoch = deployment.epoch;
            let Deployment { normaliser, features, .. } = &mut *deployment;
            let apply = |row: &mut [f32]| normaliser.apply(row);
            reopen(live, features.as_mut(), &apply, history.series.as_slice(), count, changed)
        });
        match again {
            Ok((fed, snapshots)) => {
                tracing::warn!(model = %deployment.about.model, %error, "the plugin was rebuilt and its window replayed");
                return (Ok(Some(fed)), snapshots);
            }
            Err(e) => error = e,
        }
        if error.kind.lost_streams() && deployment.rebuild().is_err() {
            live.lost();
            return (Err(error), Vec::new());
        }
        *epoch = deployment.epoch;
    }
    let start = live.skip(deployment.features.as_mut(), count);
    (Err(error), start.into_iter().collect())
}

/// From the newest usable snapshot, or anew with the bars at hand; and the snapshots to be stored, among them
/// those behind the bar at the index `changed`.
pub fn reopen(
    live: &mut Live,
    features: &mut dyn market::Features,
    apply: &dyn Fn(&mut [f32]),
    bars: &[Bar],
    count: u64,
    changed: u64,
) -> Result<(Fed, Vec<Snapshot>), FeatureError> {
    if live.reopen(features, apply, bars, count)? {
        return Ok((live.fed(), live.snapshots_after(changed)));
    }
    live.skip(features, count - bars.len() as u64)?;
    for bar in bars {
        live.push(features, apply, bar)?;
    }
    Ok((live.fed(), live.snapshots().cloned().collect()))
}
