//! Made-up worlds: a random walk, in which nothing can be forecast, and two with a signal of known strength.
//!
//! Returns with a signal are autoregressive, r[t] = φ r[t−1] + e, of which φ² can be forecast. Volatility comes in
//! bursts, v[t+1] = (1 − a − b) v + a r[t]² + b v[t] (Bollerslev 1986): past returns tell v, and its expectation over the
//! horizon is all that can be known.

use market::{Bar, Features, StreamKey, Symbol, Timeframe, Timestamp};
use registry::{Interval, LabelKind};
use statrs::distribution::{ContinuousCDF, Normal};

use super::shuffle::short;
use super::{Probe, ProbeSettings};
use crate::assess::fold::{MODEL, Samples};
use crate::assess::gate::{GateRules, GateVerdict, gate};
use crate::assess::panel::Panel;
use crate::assess::table::{Table, Terms, table};
use crate::assess::{AssessError, Parts, Run, Settings, Subject, Watch, contestants, forecast};
use crate::bootstrap::{Resampled, block_steps};
use crate::evaluate::steps_of;
use crate::random::Random;
use crate::recipe::TrainingRecipe;
use crate::walk_forward::{TrainingWindow, WalkForward};

/// Deviation of a bar's return.
const VOLATILITY: f64 = 0.01;
/// Of GARCH: how much of a squared return goes on into the next variance, and how much of the variance itself.
const GARCH_SHOCK: f64 = 0.12;
const GARCH_MEMORY: f64 = 0.84;
/// Longer horizons leave too few labels of their own in a world.
const HORIZON_BARS_MAX: u32 = 24;
/// 2020-01-01T00:00:00Z: a multiple of every timeframe up to a day.
const START_S: i64 = 1_577_836_800;
/// The share of what can be known that must be found, beside an interval above 0.
const FOUND_MIN: f64 = 1.0 / 3.0;

/// Bars of one made-up symbol, and at each what can be known of the label that follows it.
pub struct World {
    pub bars: Vec<Bar>,
    pub oracle: Vec<f64>,
}

/// A world in which returns and their sizes are independent of the past.
pub fn walk(timeframe: Timeframe, count: usize, seed: u64) -> World {
    let mut random = Random::derived(seed, 10);
    let returns: Vec<f64> = (0..count).map(|_| VOLATILITY * random.normal()).collect();
    World { bars: bars_of(timeframe, &returns, &mut random), oracle: vec![0.0; count] }
}

/// A world in which `signal` (R²) of the next bar's return can be known.
pub fn autoregressive(timeframe: Timeframe, count: usize, signal: f64, seed: u64) -> World {
    let mut random = Random::derived(seed, 20);
    let phi = signal.clamp(0.0, 0.9).sqrt();
    let noise = VOLATILITY * (1.0 - phi * phi).sqrt();
    let mut last = 0.0;
    let returns: Vec<f64> = (0..count)
        .map(|_| {
            last = phi * last + noise * random.normal();
            last
        })
        .collect();
    World {
        oracle: returns.iter().map(|r| phi * r).collect(),
        bars: bars_of(timeframe, &returns, &mut random),
    }
}

/// A world whose volatility comes in bursts: GARCH(1, 1). The oracle is the root of the expected sum of `horizon` squares.
pub fn bursts(timeframe: Timeframe, count: usize, horizon: u32, seed: u64) -> World {
    let mut random = Random::derived(seed, 30);
    let usual = VOLATILITY * VOLATILITY;
    let persistence = GARCH_SHOCK + GARCH_MEMORY;
    let (mut variance, mut returns, mut oracle) = (usual, Vec::new(), Vec::new());
    for _ in 0..count {
        let r = variance.sqrt() * random.normal();
        variance = (1.0 - persistence) * usual + GARCH_SHOCK * r * r + GARCH_MEMORY * variance;
        returns.push(r);
        let expected = |k: u32| usual + persistence.powi(k as i32) * (variance - usual);
        oracle.push((0..horizon).map(expected).sum::<f64>().sqrt());
    }
    World { bars: bars_of(timeframe, &returns, &mut random), oracle }
}

/// Gapless bars of these log returns, each of four steps inside.
fn bars_of(timeframe: Timeframe, returns: &[f64], random: &mut Random) -> Vec<Bar> {
    let Ok(symbol) = Symbol::new("WORLD") else { return Vec::new() };
    let key = StreamKey { symbol, timeframe };
    let mut close = 100.0f64;
    let mut bars = Vec::with_capacity(returns.len());
    for (i, &r) in returns.iter().enumerate() {
        let open = close;
        close = open * r.exp();
        let reach = |random: &mut Random| (0.5 * r.abs().max(0.1 * VOLATILITY) * random.normal().abs()).exp();
        let (up, down) = (reach(random), reach(random));
        bars.push(Bar {
            key: key.clone(),
            open_time: Timestamp(START_S * 1_000_000_000 + i as i64 * timeframe.nanos()),
            open,
            high: open.max(close) * up,
            low: open.min(close) / down,
            close,
            volume: (5.0 + random.normal()).exp(),
            is_final: true,
            revision: 0,
        });
    }
    bars
}

/// Judges the recipe in a world without signal, as any other. The verdict should be no.
pub(crate) fn random_walk(
    subject: &Subject<'_>,
    settings: &Settings,
    probes: &ProbeSettings,
    features: &mut dyn Features,
    seed: u64,
    watch: &mut dyn Watch,
) -> Result<GateVerdict, AssessError> {
    let recipe = small(subject.recipe, probes);
    let world = walk(recipe.data.timeframe, bars_wanted(&recipe, probes, features), seed);
    let (_, table) = judge(&Subject { recipe: &recipe, ..*subject }, settings, &world, features, watch)?;
    let rules = GateRules { needs_probes: false, deflated_sharpe_min: None, ..settings.rules };
    Ok(gate(&table.evidence(1, &[]), &rules))
}

/// Looks whether the recipe finds a signal of known strength.
pub(crate) fn planted(
    subject: &Subject<'_>,
    settings: &Settings,
    probes: &ProbeSettings,
    features: &mut dyn Features,
    seed: u64,
    watch: &mut dyn Watch,
) -> Result<Probe, AssessError> {
    let mut recipe = small(subject.recipe, probes);
    let count = bars_wanted(&recipe, probes, features);
    let timeframe = recipe.data.timeframe;
    let world = match recipe.label.kind {
        LabelKind::RealisedVolatility => bursts(timeframe, count, recipe.label.horizon_bars, seed),
        _ => {
            recipe.label.horizon_bars = 1;
            autoregressive(timeframe, count, probes.signal, seed)
        }
    };
    let (run, _) = judge(&Subject { recipe: &recipe, ..*subject }, settings, &world, features, watch)?;
    let terms = Terms::of(&recipe, &walk_of(subject.walk), settings);
    let place = |time: &Timestamp| (time.0 - START_S * 1_000_000_000) / timeframe.nanos();
    let known = |time: &Timestamp| {
        let expected = world.oracle[place(time) as usize];
        match recipe.label.kind {
            LabelKind::Direction => chance_of_up(expected, probes.signal),
            LabelKind::LogReturn | LabelKind::RealisedVolatility => expected,
        }
    };
    let oracle: Vec<f64> = run.panel.times.iter().map(known).collect();
    let known = skill_over_mean(&run.panel, &oracle, &terms);
    let model =
        run.panel.of(MODEL).next().and_then(|column| skill_over_mean(&run.panel, &column.forecasts, &terms));
    let (Some(known), Some(model)) = (known, model) else {
        return Ok(Probe::new("planted signal", false, "labels don't vary in the made-up world".into()));
    };
    let passed = model.low > 0.0 && model.value >= FOUND_MIN * known.value;
    let percent = |x: f64| 100.0 * x;
    let says = format!(
        "{:.1} % [{:.1} %, {:.1} %] of {:.1} % of the variance that can be known",
        percent(model.value),
        percent(model.low),
        percent(model.high),
        percent(known.value)
    );
    Ok(Probe::new("planted signal", passed, says))
}

/// Of a return that is normal around what can be known of it.
fn chance_of_up(expected: f64, signal: f64) -> f64 {
    let noise = VOLATILITY * (1.0 - signal.clamp(0.0, 0.9)).sqrt();
    Normal::standard().cdf(expected / noise)
}

fn small(recipe: &TrainingRecipe, probes: &ProbeSettings) -> TrainingRecipe {
    let mut recipe = short(recipe, probes);
    recipe.label.horizon_bars = recipe.label.horizon_bars.min(HORIZON_BARS_MAX);
    recipe
}

fn bars_wanted(recipe: &TrainingRecipe, probes: &ProbeSettings, features: &dyn Features) -> usize {
    features.spec().warmup + recipe.window as usize + probes.world_bars as usize
}

/// One fold is enough for a world that doesn't change.
fn walk_of(walk: &WalkForward) -> WalkForward {
    WalkForward {
        folds: 1,
        window: TrainingWindow::Expanding,
        test_share: 0.4,
        validation_share: 0.2,
        embargo_bars: walk.embargo_bars.min(HORIZON_BARS_MAX),
        stride_bars: 1,
    }
}

fn judge(
    subject: &Subject<'_>,
    settings: &Settings,
    world: &World,
    features: &mut dyn Features,
    watch: &mut dyn Watch,
) -> Result<(Run, Table), AssessError> {
    let walk = walk_of(subject.walk);
    let subject = Subject { walk: &walk, ..*subject };
    let samples = Samples::build(subject.recipe, &walk, &[&world.bars], features)?;
    let contestants = contestants(&settings.seeds[..1], false);
    let run = forecast(&subject, &samples, &contestants, None, &Parts { total: 0 }, &mut Quiet(watch))?;
    let table = table(&run.panel, &Terms::of(subject.recipe, &walk, settings))?;
    Ok((run, table))
}

/// Passes on the batches of a world's training, but not its parts.
struct Quiet<'a>(&'a mut dyn Watch);

impl crate::progress::Progress for Quiet<'_> {
    fn start(&mut self, outline: &crate::progress::Outline) {
        self.0.start(outline);
    }

    fn batch(&mut self, report: &crate::progress::BatchReport) -> crate::progress::Flow {
        self.0.batch(report)
    }

    fn epoch(&mut self, report: &crate::progress::EpochReport) -> crate::progress::Flow {
        self.0.epoch(report)
    }
}

impl Watch for Quiet<'_> {}

/// 1 − MSE / MSE of each fold's mean training label, with its interval.
pub(super) fn skill_over_mean(panel: &Panel, forecasts: &[f64], terms: &Terms) -> Option<Interval> {
    let steps = steps_of(&panel.times);
    let sums = |step: &std::ops::Range<usize>| {
        let mut sums = [0.0; 2];
        for i in step.clone() {
            sums[0] += (panel.labels[i] - forecasts[i]).powi(2);
            sums[1] += (panel.labels[i] - panel.scales[panel.folds[i]].mean).powi(2);
        }
        sums
    };
    let sums: Vec<[f64; 2]> = steps.iter().map(sums).collect();
    let block = block_steps(steps.len(), terms.horizon_steps);
    Resampled::draw(&sums, block, &terms.bootstrap).interval(|s| (s[1] > 0.0).then(|| 1.0 - s[0] / s[1]))
}
