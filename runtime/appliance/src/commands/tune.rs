//! `alphaplus tune`: a study of trials on bars, and the best one registered.
//!
//! ```text
//! header: recipe, space, digest of the bars -> cut off the test part -> workers: ask, measure, train, tell
//! -> best trial -> trained as `train` does, judged on the test part once -> registered
//! ```

mod measure;
mod objective;
mod setup;
mod show;
mod watch;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use learn::tune::{Record, Study, Trial};
use market::{Bar, StreamKey};

use crate::cli::{Tune, TuneCommand};
use crate::commands::train::{self, Counting};
use crate::config::Settings;
use crate::load::Parts;

use objective::Objective;
use watch::{Display, stop_on_signals};
use work::Workers;

/// Threads that run trials.
const WORKERS_MAX: usize = 64;

pub fn run(settings: &Settings, args: &Tune) -> Result<(), String> {
    match &args.command {
        Some(TuneCommand::Show { study, svg, json }) => show::show(settings, study, svg.as_deref(), *json),
        Some(TuneCommand::Ls) => show::list(settings),
        Some(TuneCommand::Ledger) => show::ledger(settings),
        None => search(settings, args),
    }
}

/// Where studies lie.
fn folder(settings: &Settings) -> PathBuf {
    settings.raw.models.folder.join(".studies")
}

fn journal(settings: &Settings, study: &str) -> Result<PathBuf, String> {
    if !registry::name::is_model_name(study) {
        return Err(format!("'{study}' can't be a study's name: 1 to 64 of a-z 0-9 _ - go"));
    }
    Ok(folder(settings).join(format!("{study}.jsonl")))
}

fn search(settings: &Settings, args: &Tune) -> Result<(), String> {
    let name = args.study.as_deref().ok_or("name the study: --study NAME")?;
    let path = journal(settings, name)?;
    if !(1..=WORKERS_MAX).contains(&args.workers) {
        return Err(format!("--workers must lie between 1 and {WORKERS_MAX}"));
    }
    let timeout = args.timeout.as_deref().map(setup::duration).transpose()?;
    let parts = Parts::new(settings)?;
    let (mut study, streams) = setup::open(settings, &parts, name, &path, args)?;
    let objective: Objective = serde_json::from_value(study.header().objective.clone())
        .map_err(|e| format!("the study {}: {e}", path.display()))?;
    objective.check_bars(&streams)?;

    let interrupted = stop_on_signals()?;
    let before = study.trials().iter().filter(|trial| trial.outcome().is_some()).count();
    let display = Display::new(args.flags.train.trials, before);
    display.begin(&study, &objective);
    let workers = Workers {
        settings,
        parts: &parts,
        objective: &objective,
        streams: &streams,
        trials_max: args.flags.train.trials,
        deadline: timeout.and_then(|timeout: Duration| Instant::now().checked_add(timeout)),
        interrupted,
        display: &display,
    };
    let shared = Mutex::new(study);
    let worked = workers.run(&shared, args.workers);
    study = shared.into_inner().map_err(|_| "a worker panicked")?;
    drop(display);
    worked?;
    let go_on = format!("alphaplus tune --study {name}");
    if interrupted.load(Ordering::Acquire) {
        let ended = study.trials().iter().filter(|trial| trial.outcome().is_some()).count();
        return Err(format!(
            "stopped after {ended} of {} trials; all of them are kept. Go on with: {go_on}",
            args.flags.train.trials
        ));
    }
    finish(settings, &parts, &mut study, &objective, &streams, args)
}

/// Says what was found, and registers the best one unless that was done.
fn finish(
    settings: &Settings,
    parts: &Parts,
    study: &mut Study,
    objective: &Objective,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Tune,
) -> Result<(), String> {
    if !args.flags.train.json {
        show::summary(study.record());
    }
    let Some(best) = study.record().best().cloned() else {
        return Err(match study.trials().len() {
            0 => "no trial was begun: give --timeout more time, or --trials more than 0".into(),
            _ => "no trial was completed, so there is nothing to register: see alphaplus tune show".into(),
        });
    };
    if args.search_only {
        return Ok(());
    }
    if let Some((_, model)) = study.record().registered.iter().find(|(trial, _)| *trial == best.number) {
        match args.flags.train.json {
            true => println!("{}", serde_json::json!({ "model": model, "trial": best.number })),
            false => println!("trial {} was registered before, as {model}", best.number),
        }
        return Ok(());
    }
    let done = register(settings, parts, objective, &best, streams, args)?;
    study
        .registered(best.number, format!("{}/{}", done.name, done.published.version))
        .map_err(|e| e.to_string())?;
    if !args.flags.train.json {
        println!();
    }
    train::report(&done, args.flags.train.json);
    let again = done.trained.validation_curve.get(done.trained.best_epoch.saturating_sub(1) as usize);
    if objective.runs() == 1 && again.copied() != best.value() {
        eprintln!(
            "note: trained again, trial {} has the validation loss {} and had {}: with other numbers of threads sums are \
             made in another order",
            best.number,
            again.copied().unwrap_or(f64::NAN),
            best.value().unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

/// Trains the best trial as `train` does: on the same parts, and judged on the test part.
fn register(
    settings: &Settings,
    parts: &Parts,
    objective: &Objective,
    best: &Trial,
    streams: &[(StreamKey, Vec<Bar>)],
    args: &Tune,
) -> Result<train::Done, String> {
    let (architecture, features) = objective.plugins(settings, parts)?;
    let recipe = objective.recipe_of(&best.parameters)?;
    eprintln!("training trial {} again, to register it", best.number);
    train::fit(parts, &recipe, &architecture, features, streams, &args.flags.train, Counting::Already)
}

/// A study that is only looked at.
fn read(path: &Path, study: &str) -> Result<Record, String> {
    if !path.is_file() {
        return Err(format!("there is no study '{study}': see alphaplus tune ls"));
    }
    Record::read(path).map_err(|e| e.to_string())
}
