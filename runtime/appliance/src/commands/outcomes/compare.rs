//! `alphaplus outcomes --compare CHAMPION CHALLENGER`: two models' outcomes on the same bars, by an always-valid test.

use std::collections::BTreeMap;

use registry::{Manifest, Reference, Registry};
use serde_json::json;
use store::{Entry, Outcome, RealisedRecord, Record};

use crate::cli::Outcomes;
use crate::config::Settings;
use crate::manage::chart;
use crate::manage::compare::{Comparison, ComparisonReport, Counts};

/// The manifest of a model of the registry.
pub(super) fn manifest(registry: &Registry, model: &str) -> Result<Manifest, String> {
    let reference = Reference::parse(model).map_err(|e| e.to_string())?;
    Ok(registry.load_reference(&reference).map_err(|e| e.to_string())?.manifest)
}

/// `found`: by due time, each in its newest revision.
pub(super) fn run(
    settings: &Settings,
    args: &Outcomes,
    models: &[String],
    found: &[RealisedRecord],
) -> Result<(), String> {
    let [champion, challenger] = models else { return Err("--compare wants two models".into()) };
    let registry = Registry::open(&settings.raw.models.folder).map_err(|e| e.to_string())?;
    let (champion, challenger) = (manifest(&registry, champion)?, manifest(&registry, challenger)?);
    let mut comparison = Comparison::new(&champion, &challenger, args.level)?;
    for record in found {
        comparison.observe(record);
    }
    comparison.finish();
    let report = comparison.report();
    let abstained = abstentions(settings)?;
    let abstained = |model: &str| abstained.get(model).copied().unwrap_or(0);
    let abstained = [abstained(&report.champion), abstained(&report.challenger)];
    if args.json {
        let body = json!({ "comparison": report, "champion_abstained": abstained[0], "challenger_abstained": abstained[1] });
        println!("{body}");
    } else {
        print(&report, abstained);
    }
    if let Some(path) = &args.svg {
        let text = chart::svg(&report)?;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// How often each model abstained, in all that the spool holds.
fn abstentions(settings: &Settings) -> Result<BTreeMap<String, u64>, String> {
    let mut counts = BTreeMap::new();
    for entry in store::read_folder(&settings.raw.store.folder).map_err(|e| e.to_string())? {
        let Entry { record, .. } = entry.map_err(|e| e.to_string())?;
        if let Record::Prediction(p) = record
            && matches!(p.outcome, Outcome::Abstained { .. })
        {
            *counts.entry(format!("{}/{}", p.model.name, p.model.version)).or_default() += 1;
        }
    }
    Ok(counts)
}

fn print(report: &ComparisonReport, abstained: [u64; 2]) {
    let ComparisonReport { champion, challenger, loss, test, counts, .. } = report;
    let number = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.4e}"));
    println!("{challenger} (challenger) against {champion} (champion), by {loss}");
    println!("  champion's loss      {}", number(report.champion_loss));
    println!("  challenger's loss    {}", number(report.challenger_loss));
    println!(
        "  difference           {} [{}, {}], below 0: challenger better; at level {} valid whenever it is read",
        number(test.mean),
        number(test.low),
        number(test.high),
        test.level
    );
    println!("  p-value              {:.3e}, valid whenever it is read", test.p_value);
    match test.decision {
        Some(decision) => println!(
            "  verdict              challenger {}, since block {} ({} steps)",
            decision.verdict.name(),
            decision.blocks,
            decision.steps
        ),
        None if test.blocks < u64::from(report.blocks_min) => println!(
            "  verdict              undecided: {} blocks of {} steps, and nothing is decided before {}",
            test.blocks, report.block_steps, report.blocks_min
        ),
        None => println!("  verdict              undecided"),
    }
    println!(
        "  evidence             {} blocks of {} steps; {} steps, {} pairs",
        test.blocks, report.block_steps, test.steps, test.pairs
    );
    let Counts { void, champion_only, challenger_only, .. } = counts;
    println!(
        "  left out             {void} without a value, {champion_only} of the champion alone, {challenger_only} of the challenger alone"
    );
    println!(
        "  abstentions          {} of the champion, {} of the challenger, in all",
        abstained[0], abstained[1]
    );
}
