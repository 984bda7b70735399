//! `POST /v1/predict` on a thread of its own, with its own plans and plugin instances, so that it never holds
//! up the data path.

use std::sync::mpsc::Receiver;

use crate::deployment::{Deployment, HIDDEN};
use crate::live::{Fed, Live};
use crate::queue::{PredictError, PredictJob, PredictWork, Predicted};
use crate::visible::matches_model;

/// Answers until every sender is gone.
pub fn run(mut deployments: Vec<Deployment>, work: &Receiver<PredictWork>) {
    for work in work {
        match work {
            PredictWork::Job(job) => {
                let answer = answer(&mut deployments, &job);
                let _ = job.reply.send(answer);
            }
            PredictWork::Change(change) => change(&mut deployments),
        }
    }
}

fn answer(deployments: &mut [Deployment], job: &PredictJob) -> Result<Predicted, PredictError> {
    let fits = |d: &&mut Deployment| {
        let named = |m: &String| matches_model(&d.about.model, m) || *d.seat.reference == **m;
        d.covers(&job.key)
            && job.model.as_ref().is_none_or(named)
            && job.model_type.as_ref().is_none_or(|t| *d.about.model_type == **t)
            && (job.model.is_some() || d.seat.rank(&job.key) < HIDDEN)
    };
    // The one that a poll would get.
    let found = deployments.iter_mut().filter(fits).min_by_key(|d| d.seat.rank(&job.key));
    let Some(deployment) = found else {
        return Err(PredictError::NoModel(format!("no such model is deployed for {}", job.key)));
    };
    let mut live = Live::new(deployment.empty_window.clone(), deployment.warmup(), 0);
    let fed = feed(deployment, &mut live, job);
    let fed = match fed {
        Ok(fed) => fed,
        Err(error) => {
            if !error.kind.lost_streams() {
                live.close(deployment.features.as_mut());
            } else if let Err(error) = deployment.rebuild() {
                tracing::error!(%error, "the plugin can't be rebuilt");
            }
            return Err(PredictError::Failed(error.to_string()));
        }
    };
    live.close(deployment.features.as_mut());
    if let Fed::Warming { have, need } = fed {
        return Err(PredictError::Warming { have, need });
    }
    let mut outputs = Vec::new();
    let window = live.window().unwrap_or_default();
    deployment.runner.run(window, &mut outputs).map_err(|e| PredictError::Failed(e.to_string()))?;
    let terms = &deployment.about.terms;
    let values = terms.reading.values(&outputs);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(PredictError::Failed("the model's output is not a finite number".into()));
    }
    // Bars that come with a request are no stream that intervals could have learnt from.
    let uncertainty = terms.calibration.as_ref().and_then(|c| terms.uncertainty(&values, c.quantile));
    Ok(Predicted {
        model: deployment.about.model.clone(),
        label: deployment.about.label.clone(),
        horizon_bars: deployment.about.horizon_bars,
        value: terms.reading.value(&values),
        values,
        meaning: deployment.about.meaning.clone(),
        uncertainty,
        device: deployment.runner.device.clone(),
    })
}

fn feed(deployment: &mut Deployment, live: &mut Live, job: &PredictJob) -> Result<Fed, market::FeatureError> {
    let Deployment { normaliser, features, .. } = deployment;
    live.open(features.as_mut())?;
    for bar in &job.bars {
        live.push(features.as_mut(), &|row: &mut [f32]| normaliser.apply(row), bar)?;
    }
    Ok(live.fed())
}
