//! `alphaplus promote`: the gate between a challenger and the champion's place.

use std::time::Duration;

use cpu::Cpu;
use graph::{Executor, Graph};
use learn::assess::gate::{GateRules, Limited};
use learn::assess::pair::{self, CHAMPION, Contestant, Pair, PairReport, PairSettings};
use learn::metrics::Loss;
use learn::recipe::TrainingRecipe;
use market::{Bar, Features, Timestamp};
use registry::{Author, LoadError, ModelFolder, Reference, Which, history::WHY_BYTES_MAX};
use serde_json::{Value, json};

use super::bench::{Whole, p99_us};
use super::mixed_bars::gather;
use crate::cli::Promote;
use crate::config::Settings;
use crate::events::{Event, EventKind, Events};
use crate::load::Parts;
use crate::precision::made_up;

/// Latency is the least p99 of so many rounds: what else the machine does only ever adds.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(200);
/// Windows that are computed in f64 too.
const REFERENCE_WINDOWS: usize = 4;

pub fn run(settings: &Settings, args: &Promote) -> Result<(), String> {
    let parts = Parts::new(settings)?;
    let events = Events::open(&settings.raw.models.events).map_err(|e| e.to_string())?;
    let challenger = parts.model(&args.model)?;
    let name = challenger.manifest.name.clone();
    let place = Reference { name, which: Which::Alias(args.to.clone()) };
    let champion = holder(&parts, &place)?;
    if champion.as_ref().is_some_and(|c| c.manifest.version == challenger.manifest.version) {
        return Err(format!("{place} is {} already", called(&challenger)));
    }
    let standing = Standing { args, parts: &parts, events: &events, place, challenger, champion };
    match standing.judged(settings) {
        Ok(report) => standing.decide(&report),
        Err(reason) => {
            standing.note(EventKind::Refused, &reason, json!({ "alias": args.to }))?;
            if args.json {
                let model = called(&standing.challenger);
                println!("{}", json!({ "model": model, "promoted": false, "moved": false, "error": reason }));
            }
            Err(reason)
        }
    }
}

fn called(folder: &ModelFolder) -> String {
    format!("{}/{}", folder.manifest.name, folder.manifest.version)
}

/// Who has the place; nobody where the alias isn't there yet.
fn holder(parts: &Parts, place: &Reference) -> Result<Option<ModelFolder>, String> {
    match parts.registry.load_reference(place) {
        Ok(folder) => Ok(Some(folder)),
        Err(LoadError::NoAlias { .. }) => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

struct Standing<'a> {
    args: &'a Promote,
    parts: &'a Parts,
    events: &'a Events,
    /// The alias that is to move.
    place: Reference,
    challenger: ModelFolder,
    champion: Option<ModelFolder>,
}

impl Standing<'_> {
    /// Writes an event, unless nothing is to be written.
    fn note(&self, kind: EventKind, why: &str, detail: Value) -> Result<(), String> {
        if self.args.dry_run {
            return Ok(());
        }
        let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4000).collect();
        let event = Event::now(kind, &self.args.author.who, &called(&self.challenger), &line, detail);
        self.events.append(&event).map(|_| ()).map_err(|e| e.to_string())
    }

    fn judged(&self, settings: &Settings) -> Result<PairReport, String> {
        let Standing { args, parts, challenger, champion, .. } = self;
        if let Some(champion) = champion {
            pair::comparable(&challenger.manifest, &champion.manifest).map_err(|e| e.to_string())?;
        }
        let recipe = TrainingRecipe::from_manifest(&challenger.manifest).map_err(|e| e.to_string())?;
        let time = |t: &Option<String>| t.as_deref().map(Timestamp::parse).transpose();
        let (streams, _) = gather(settings, &args.bars, (None, time(&args.until)?), &recipe, !args.json)?;
        let bars: Vec<&[Bar]> = streams.iter().map(Vec::as_slice).collect();
        let mut features = parts.features(settings, &challenger.manifest)?;
        features.rebuild().map_err(|e| e.to_string())?;
        let one = |folder: &ModelFolder| -> Result<(Graph, Cpu), String> {
            let graph = parts.served_graph(folder)?;
            let cpu = parts.executor_of(&folder.manifest, &graph)?;
            Ok((graph, cpu))
        };
        let (graph, cpu) = one(challenger)?;
        let held = champion.as_ref().map(one).transpose()?;
        let input = challenger.manifest.input;
        let (window, columns) = (input.window as usize, input.features as usize);
        let rules = GateRules {
            level: args.level,
            deflated_sharpe_min: args.deflated_sharpe_min,
            ..GateRules::default()
        };
        let measured = PairSettings {
            from: time(&args.from)?,
            rules,
            fee_bps: args.fee_bps,
            attempts: self.attempts()?,
            latency_us: Some(Limited {
                found: latency_us(&graph, window, columns, &cpu, args.latency_us)?,
                at_most: args.latency_us,
            }),
            tolerance: Some(Limited {
                found: difference(&graph, window * columns, &cpu)?,
                at_most: challenger.manifest.serving.device_tolerance,
            }),
        };
        let pair = Pair {
            challenger: Contestant { manifest: &challenger.manifest, graph: &graph, executor: &cpu },
            champion: champion.as_ref().zip(held.as_ref()).map(|(folder, (graph, cpu))| Contestant {
                manifest: &folder.manifest,
                graph,
                executor: cpu,
            }),
        };
        pair::judge(&pair, &measured, &bars, &mut features).map_err(|e| e.to_string())
    }

    /// Challengers that were judged against this champion, this one included: the best of many is lucky.
    fn attempts(&self) -> Result<u32, String> {
        let champion = json!(self.champion.as_ref().map(called));
        let this = called(&self.challenger);
        let of_this_place = |model: &str| model.split('/').next() == Some(self.place.name.as_str());
        let events = self.events.read().map_err(|e| e.to_string())?;
        let mut judged: Vec<String> = events
            .into_iter()
            .map(|one| one.event)
            .filter(|event| event.kind == EventKind::GateVerdict && of_this_place(&event.model))
            .filter(|event| {
                event.detail["champion"] == champion && event.detail["alias"] == json!(self.args.to)
            })
            .map(|event| event.model)
            .chain([this])
            .collect();
        judged.sort_unstable();
        judged.dedup();
        Ok(u32::try_from(judged.len()).unwrap_or(u32::MAX))
    }

    fn decide(&self, report: &PairReport) -> Result<(), String> {
        let Standing { args, .. } = self;
        let verdict = &report.verdict;
        let failed: Vec<String> = verdict
            .criteria
            .iter()
            .filter(|c| !c.holds)
            .map(|c| format!("{} ({})", c.name, c.found))
            .collect();
        let summary = summary(report);
        let detail = json!({
            "alias": args.to,
            "champion": report.champion,
            "from": report.from,
            "until": report.until,
            "trials": report.evidence.trials,
            "samples": report.table.samples,
            "verdict": verdict,
        });
        self.note(EventKind::GateVerdict, &summary, detail)?;
        let moves = (verdict.promoted || args.force.is_some()) && !args.dry_run;
        if moves {
            let why = match &args.force {
                Some(reason) if !verdict.promoted => format!("forced: {reason}; {summary}"),
                _ => summary.clone(),
            };
            self.promote(report, &why)?;
        } else if !verdict.promoted {
            let detail = json!({ "alias": args.to, "champion": report.champion });
            self.note(EventKind::Refused, &format!("not promoted: {}", failed.join("; ")), detail)?;
        }
        self.tell(report, moves)?;
        if verdict.promoted || moves {
            return Ok(());
        }
        Err(format!("{} is not promoted: {}", report.challenger, failed.join("; ")))
    }

    /// Moves the alias, if it still points where the champion was judged.
    fn promote(&self, report: &PairReport, why: &str) -> Result<(), String> {
        let Standing { parts, place, champion, challenger, args, .. } = self;
        let now = holder(parts, place)?.map(|folder| folder.manifest.version);
        if now != champion.as_ref().map(|folder| folder.manifest.version) {
            return Err(format!("{place} was moved meanwhile: judge again"));
        }
        let mut short = String::new();
        for c in why.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if short.len() + c.len_utf8() > WHY_BYTES_MAX {
                break;
            }
            short.push(c);
        }
        let at = Timestamp::now().to_string();
        let author = Author { at: &at, who: &args.author.who, why: &short };
        let moved = parts.registry.set_alias(&place.name, &args.to, challenger.manifest.version, author);
        moved.map_err(|e| e.to_string())?;
        let detail = json!({ "alias": args.to, "champion": report.champion, "forced": args.force });
        self.note(EventKind::Promoted, why, detail)
    }

    fn tell(&self, report: &PairReport, moved: bool) -> Result<(), String> {
        let promoted = report.verdict.promoted;
        if self.args.json {
            let mut line = serde_json::to_value(report).map_err(|e| e.to_string())?;
            line["model"] = json!(report.challenger);
            line["alias"] = json!(self.args.to);
            line["promoted"] = json!(promoted);
            line["moved"] = json!(moved);
            line["forced"] = json!(self.args.force.is_some() && !promoted && moved);
            line["dry_run"] = json!(self.args.dry_run);
            println!("{line}");
            return Ok(());
        }
        print(report);
        match (moved, promoted) {
            (true, true) => println!("{} is {} now", self.place, report.challenger),
            (true, false) => println!("{} is {} now, by force", self.place, report.challenger),
            (false, true) => println!("{} may take the place of {}", report.challenger, self.place),
            (false, false) => println!("{} stays as it is", self.place),
        }
        Ok(())
    }
}

/// One sentence for the history.
fn summary(report: &PairReport) -> String {
    let held = report.verdict.criteria.iter().filter(|c| c.holds).count();
    let against = match &report.evidence.champion {
        Some(versus) => versus.test.map_or("its losses are the champion's".into(), |test| {
            format!("against {} p = {:.1e}", report.champion.as_deref().unwrap_or(CHAMPION), test.p_value)
        }),
        None => "there was no champion".into(),
    };
    let gain = report.evidence.gain.map_or("gain over naive not defined".into(), |gain| {
        format!(
            "gain over naive {:.1} % [{:.1}, {:.1}]",
            100.0 * gain.value,
            100.0 * gain.low,
            100.0 * gain.high
        )
    });
    format!(
        "gate {}: {held} of {} criteria hold on {} samples from {} to {}; {against}; {gain}",
        if report.verdict.promoted { "passed" } else { "refused" },
        report.verdict.criteria.len(),
        report.table.samples,
        report.from,
        report.until
    )
}

fn print(report: &PairReport) {
    let table = &report.table;
    println!(
        "{} beside {}, {} samples from {} to {}, which neither was trained on",
        report.challenger,
        report.champion.as_deref().unwrap_or("no champion"),
        table.samples,
        report.from,
        report.until
    );
    println!("{:<12}{:>12}{:>12}{:>26}{:>14}", "", "RMSE", "QLIKE", "gain over naive", "p vs model");
    for row in &table.rows {
        let gain = match table.loss {
            Loss::Squared | Loss::Absolute => row.skill,
            Loss::Qlike | Loss::Log | Loss::Crps => table.gain_of(row),
        };
        let gain = gain.map_or("–".into(), |gain| {
            format!("{:.1} % [{:.1}, {:.1}]", 100.0 * gain.value, 100.0 * gain.low, 100.0 * gain.high)
        });
        let name = if row.name == learn::assess::fold::MODEL { "challenger" } else { row.name.as_str() };
        println!(
            "{name:<12}{:>12.3e}{:>12}{gain:>26}{:>14}",
            row.rmse.mean,
            row.qlike.map_or("–".into(), |q| format!("{:.4}", q.mean)),
            row.model_against.map_or("–".into(), |test| format!("{:.1e}", test.p_value))
        );
    }
    println!("p: Diebold–Mariano, one-sided, that the challenger is no better ({})\n", table.loss.name());
    for criterion in &report.verdict.criteria {
        let mark = if criterion.holds { "ok  " } else { "FAIL" };
        println!("{mark}  {}: {}", criterion.name, criterion.found);
    }
}

/// The 99th percentile of one row pushed into a stream's window, which is computed whole where the model doesn't slide.
fn latency_us(graph: &Graph, window: usize, columns: usize, cpu: &Cpu, enough: f64) -> Result<f64, String> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        least = least.min(p99_us(graph, window, columns, cpu, Whole::Push, ROUND)?);
        if least <= enough {
            break;
        }
    }
    Ok(least)
}

/// The largest difference of the outputs from the f64 reference, over made-up windows; infinite where one isn't a number.
fn difference(graph: &Graph, length: usize, cpu: &Cpu) -> Result<f64, String> {
    let windows = made_up(length);
    let mut plan = cpu.prepare(graph, &[1]).map_err(|e| e.to_string())?;
    let mut outputs = vec![Vec::new(); graph.outputs.len()];
    let mut states = graph::reference::initial_states_f64(graph, 1);
    let mut worst = 0.0f64;
    for window in windows.chunks_exact(length).take(REFERENCE_WINDOWS) {
        plan.run(1, &[window], &mut outputs).map_err(|e| e.to_string())?;
        let wide: Vec<f64> = window.iter().map(|&x| f64::from(x)).collect();
        let exact = graph::reference::run(graph, 1, &[wide], &mut states).map_err(|e| e.to_string())?;
        for (found, exact) in outputs[0].iter().zip(&exact[0]) {
            let apart = (f64::from(*found) - exact).abs();
            worst = if apart.is_nan() { f64::INFINITY } else { worst.max(apart) };
        }
    }
    Ok(worst)
}
