use graph::reference::Interpreter;
use graph::{Builder, Graph, Initial, Shape, Tensor, UnaryOp};
use market::Timestamp;

use super::*;
use crate::evaluate::Evaluation;
use crate::fit::{self, Prepared};
use crate::random::Random;
use crate::testing::{Returns, autoregressive, bars_of, linear_model, recipe as small};
use crate::train::{Trained, train};

/// Of the tent map, which no line forecasts: x' = 1 − 1.9 |x| and a little noise, in percent.
fn tent(count: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut x: f64 = 0.3;
    (0..count)
        .map(|_| {
            x = 1.0 - 1.9 * x.abs() + 0.02 * random.normal();
            0.01 * x
        })
        .collect()
}

/// prediction = 1 − slope · |the newest return|.
fn knowing(window: usize, slope: f32) -> Graph {
    let mut builder = Builder::new();
    let x = builder.input("features", Shape::batch(&[window, 3])).unwrap();
    let newest = builder.slice(x, 1, window - 1, window).unwrap();
    let newest = builder.reshape(newest, Shape::batch(&[3])).unwrap();
    let size = builder.unary(UnaryOp::Abs, newest).unwrap();
    let given =
        |dims: &[usize], data: &[f32]| Initial::Given(Tensor::new(dims.to_vec(), data.to_vec()).unwrap());
    let w = given(&[3, 1], &[-slope, 0.0, 0.0]);
    let w = builder.state("w", Shape::fixed(&[3, 1]), w, true).unwrap();
    let b = builder.state("b", Shape::fixed(&[1]), given(&[1], &[1.0]), true).unwrap();
    let y = builder.matmul(size, w, false, false).unwrap();
    let y = builder.add(y, b).unwrap();
    builder.output("prediction", y).unwrap();
    builder.finish().unwrap()
}

fn fitted(window: u32, bars: &[Bar]) -> (Manifest, Trained) {
    let recipe = small(window, &["A"]);
    let prepared: Prepared = fit::prepare(&recipe, &[bars], &mut Returns::new(2)).unwrap();
    let model = linear_model(window as usize, 3, 0.0);
    let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    let evaluation: Evaluation = fit::judge(&recipe, &prepared, &trained.model, &Interpreter).unwrap();
    (recipe.manifest(&prepared, &trained, &evaluation, Timestamp(0)), trained)
}

/// Of a model in percent.
fn manifest(window: u32, version: u32, bars: &[Bar]) -> Manifest {
    let (mut manifest, _) = fitted(window, bars);
    manifest.version = version;
    manifest.normaliser = registry::Normaliser { clip: None, mean: vec![0.0; 3], scale: vec![1.0; 3] };
    (manifest.label.mean, manifest.label.scale) = (0.0, 0.01);
    manifest
}

fn settings() -> PairSettings {
    PairSettings {
        from: None,
        rules: GateRules::default(),
        fee_bps: 5.0,
        attempts: 1,
        latency_us: None,
        tolerance: None,
    }
}

fn judged(
    challenger: (&Manifest, &Graph),
    champion: Option<(&Manifest, &Graph)>,
    settings: &PairSettings,
    bars: &[Bar],
) -> Result<PairReport, PairError> {
    let contestant =
        |(manifest, graph)| Contestant { manifest, graph, executor: &Interpreter as &dyn Executor };
    let pair = Pair { challenger: contestant(challenger), champion: champion.map(contestant) };
    judge(&pair, settings, &[bars], &mut Returns::new(2))
}

fn failed(report: &PairReport) -> Vec<&str> {
    report.verdict.criteria.iter().filter(|c| !c.holds).map(|c| c.name.as_str()).collect()
}

#[test]
fn the_better_of_two_is_promoted_and_the_other_is_not() {
    let bars = bars_of("A", &tent(2400, 1));
    let (one, two) = (manifest(3, 1, &bars[..1400]), manifest(5, 2, &bars[..1700]));
    let (weak, strong) = (knowing(3, 1.2), knowing(5, 1.9));
    let report = judged((&two, &strong), Some((&one, &weak)), &settings(), &bars).unwrap();
    assert!(report.verdict.promoted, "{:#?}", report.verdict);
    assert_eq!((report.challenger.as_str(), report.champion.as_deref()), ("small/2", Some("small/1")));
    assert_eq!(report.from.to_string(), two.data.test.from, "held out from both");
    let names: Vec<&str> = report.table.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["naive", "drift", "ridge", "trees", "dlinear", "champion", "model"]);
    assert!(report.verdict.criteria.iter().any(|c| c.name.contains("than champion")));
    assert!(report.evidence.probes.len() == 1 && report.evidence.probes[0].passed);
    assert!(serde_json::to_string(&report).is_ok());

    let report = judged((&two, &weak_of(5)), Some((&one, &knowing(3, 1.9))), &settings(), &bars).unwrap();
    assert!(failed(&report).iter().any(|name| name.contains("than champion")), "{:?}", report.verdict);
    // The same model again is no better.
    let report = judged((&two, &strong), Some((&one, &knowing(3, 1.9))), &settings(), &bars).unwrap();
    assert!(failed(&report).iter().any(|name| name.contains("than champion")), "{:?}", report.verdict);
    // Without a champion the baselines are to be beaten.
    let report = judged((&two, &strong), None, &settings(), &bars).unwrap();
    assert!(report.verdict.promoted && report.champion.is_none(), "{:?}", report.verdict);
    // What was measured counts.
    let slow = PairSettings { latency_us: Some(Limited { found: 2.0, at_most: 1.0 }), ..settings() };
    let report = judged((&two, &strong), Some((&one, &weak)), &slow, &bars).unwrap();
    assert!(matches!(failed(&report)[..], [name] if name.contains("p99")), "{:?}", report.verdict);
    let many = PairSettings { attempts: 7, ..settings() };
    assert_eq!(judged((&two, &strong), None, &many, &bars).unwrap().evidence.trials, 7);
}

fn weak_of(window: usize) -> Graph {
    knowing(window, 1.2)
}

#[test]
fn nothing_is_promoted_where_there_is_nothing_to_know() {
    for seed in 0..6 {
        let bars = bars_of("A", &autoregressive(1800, 0.0, 30 + seed));
        let ((mut one, first), (mut two, second)) = (fitted(3, &bars[..1000]), fitted(3, &bars[..1300]));
        (one.version, two.version) = (1, 2);
        let report = judged((&two, &second.model), Some((&one, &first.model)), &settings(), &bars).unwrap();
        assert!(!report.verdict.promoted, "seed {seed}: {:?}", report.verdict);
    }
}

#[test]
fn what_does_not_mean_the_same_is_refused() {
    let bars = bars_of("A", &tent(1400, 1));
    let champion = manifest(3, 1, &bars);
    let refused = |edit: fn(&mut Manifest), says: &str| {
        let mut other = champion.clone();
        edit(&mut other);
        match comparable(&other, &champion) {
            Err(PairError::Other { what, .. }) => assert_eq!(what, says),
            other => panic!("{says}: {other:?}"),
        }
    };
    refused(|m| m.label.kind = registry::LabelKind::RealisedVolatility, "label");
    refused(|m| m.label.horizon_bars = 2, "label");
    refused(|m| m.label.gaps = registry::GapPolicy::Keep, "label");
    refused(|m| m.label.dead_band = Some(0.1), "label");
    refused(|m| m.output = registry::Output::Quantiles { levels: vec![0.5] }, "output");
    refused(|m| m.data.timeframe = "5m".into(), "timeframe");
    refused(|m| m.features.digest = "ab".repeat(32), "feature source");
    refused(|m| m.features.options = "{\"a\":1}".into(), "feature source");
    refused(|m| m.features.names[0] = "other".into(), "columns");
    refused(|m| m.data.symbols.push("B".into()), "symbols");
    let mut other = champion.clone();
    (other.input.window, other.architecture.plugin) = (9, "gru@0.1.0".into());
    assert_eq!(comparable(&other, &champion), Ok(()));
}

#[test]
fn bars_that_one_has_seen_judge_nobody() {
    let bars = bars_of("A", &tent(2400, 1));
    let (one, two) = (manifest(3, 1, &bars[..1800]), manifest(3, 2, &bars[..1500]));
    let (weak, strong) = (knowing(3, 1.2), knowing(3, 1.9));
    let seen = Timestamp::parse(&one.data.test.from).unwrap();
    let report = judged((&two, &strong), Some((&one, &weak)), &settings(), &bars).unwrap();
    assert_eq!(report.from, seen, "the champion has seen more");
    let early = PairSettings { from: Some(Timestamp(seen.0 - 1)), ..settings() };
    let error = judged((&two, &strong), Some((&one, &weak)), &early, &bars).unwrap_err();
    assert!(matches!(error, PairError::Seen { .. }), "{error}");
    let error = judged((&two, &strong), Some((&one, &weak)), &settings(), &bars[..1200]).unwrap_err();
    assert!(matches!(error, PairError::NothingNew { .. }), "{error}");
    // Too few to judge by.
    let error = judged((&two, &strong), Some((&one, &weak)), &settings(), &bars[..1285]).unwrap_err();
    assert!(error.to_string().contains("too few"), "{error}");
    // Without the training part there is nothing to fit baselines on.
    let error = judged((&two, &strong), Some((&one, &weak)), &settings(), &bars[1250..]).unwrap_err();
    assert!(error.to_string().contains("give those bars too"), "{error}");
}
