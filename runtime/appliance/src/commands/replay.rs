//! `alphaplus replay <seq>`: a retained prediction, recomputed from the stored bars, the pinned plugin and the
//! weights, and compared bit for bit.

use store::{Entry, Outcome, Record};

use crate::config::Settings;
use crate::deployment::Seat;
use crate::history;
use crate::live::{Fed, Live};
use crate::load::Parts;
use crate::pipeline;
use crate::recover::Scanned;

pub fn run(settings: &Settings, seq: u64) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let entries = || store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string());
    let mut wanted = None;
    for entry in entries()? {
        let Entry { position, record } = entry.map_err(|e| e.to_string())?;
        match record {
            Record::Prediction(p) if p.seq == seq => {
                wanted = Some((position, p));
                break;
            }
            _ => {}
        }
    }
    let Some((until, wanted)) = wanted else {
        return Err(format!(
            "prediction {seq} is not in {}: it may be older than store.history_hours",
            settings.raw.store.folder.display()
        ));
    };
    let stored = match &wanted.outcome {
        Outcome::Values(values) => values.clone(),
        Outcome::Abstained { text, .. } => return Err(format!("{seq} is an abstention: {text}")),
    };
    let model = format!("{}/{}", wanted.model.name, wanted.model.version);
    let folder = parts.model(&model)?;
    let mut deployment = parts.serve(settings, &folder, Seat::alone(&model, wanted.key.timeframe), 0)?;
    if deployment.about.terms.digest != wanted.model_digest {
        return Err(format!("model {model} is not the one that made prediction {seq}: its digest differs"));
    }
    let keep = settings.raw.serving.revision_depth_bars;
    let capacity = history::capacity_bars(deployment.warmup(), deployment.window, keep);
    let mut scanned = Scanned::new(wanted.key.clone(), capacity);
    for entry in entries()? {
        let Entry { position, record } = entry.map_err(|e| e.to_string())?;
        if position >= until {
            break;
        }
        match record {
            Record::Bar(r) if r.bar.key == wanted.key => scanned.bar(position, r.bar, r.backfill),
            Record::Snapshot(r) if r.key == wanted.key && r.model == wanted.model => scanned.snapshot(r),
            _ => {}
        }
    }
    let mut live = Live::new(deployment.empty_window.clone(), deployment.warmup(), keep);
    let snapshots = scanned.models.remove(&wanted.model).unwrap_or_default().snapshots;
    if snapshots.is_empty() {
        return Err(format!(
            "the spool holds no snapshot of {} for {model}: it reaches back too little",
            wanted.key
        ));
    }
    snapshots.give(&mut live);
    let normaliser = deployment.normaliser.clone();
    let apply = |row: &mut [f32]| normaliser.apply(row);
    let count = scanned.history.count;
    let bars = scanned.history.series.as_slice();
    // A recovered prediction stands behind bars that came after the one it is about.
    let past = bars.iter().rev().take_while(|b| b.open_time > wanted.open_time).count();
    let (bars, count) = (&bars[..bars.len() - past], count - past as u64);
    let reached =
        live.reopen(deployment.features.as_mut(), &apply, bars, count).map_err(|e| e.to_string())?;
    if !reached || live.fed() != Fed::Ready {
        return Err(format!("the bars that led to prediction {seq} are no longer all in the spool"));
    }
    let mut outputs = Vec::new();
    deployment.runner.run(live.window().unwrap_or_default(), &mut outputs).map_err(|e| e.to_string())?;
    let again = match pipeline::read_finite(&deployment, Some(&outputs)) {
        Outcome::Values(values) => values,
        Outcome::Abstained { text, .. } => {
            return Err(format!("recomputed, prediction {seq} is an abstention: {text}"));
        }
    };
    println!("prediction {seq}: {} {} by {model} on {}", wanted.key, wanted.open_time, wanted.device);
    let shown =
        |v: &[f32]| v.iter().map(|x| format!("{x} ({:08x})", x.to_bits())).collect::<Vec<_>>().join(", ");
    println!("stored      {}", shown(&stored));
    println!("recomputed  {}", shown(&again));
    let same =
        stored.len() == again.len() && stored.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits());
    if same {
        println!("the bits are the same");
        Ok(())
    } else {
        Err(format!("prediction {seq} comes out differently here"))
    }
}
