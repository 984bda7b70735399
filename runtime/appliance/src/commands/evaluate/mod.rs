//! `alphaplus evaluate`: a registered model on held-out bars, or a recipe on walk-forward folds.

mod registered;
mod walk_forward;

use crate::cli::Evaluate;
use crate::config::Settings;

pub fn run(settings: &Settings, args: &Evaluate) -> Result<(), String> {
    match &args.model {
        Some(_) if args.report.is_some() && !args.walk_forward => Err(
            "--report shows an evaluation on walk-forward folds: add --walk-forward, or leave the model out"
                .into(),
        ),
        Some(model) if !args.walk_forward => registered::run(settings, args, model),
        _ => walk_forward::run(settings, args),
    }
}
