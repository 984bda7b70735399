//! The verdict: may this model be promoted? A function of the evidence and nothing else.
//!
//! All of these must hold: the gain over naive lies above 0 with its whole interval; the Diebold–Mariano test finds the
//! model better than naive and than the best baseline, at a level divided by the number of trials (Bonferroni), since
//! the best of many is lucky; every probe ran and passed; and, where it is asked for, the deflated Sharpe ratio is high
//! enough. Where there is a champion, the test finds the model better than it too; where latency and the difference between
//! devices were measured, both are within their limits.

use registry::Interval;
use serde::{Deserialize, Serialize};

use crate::metrics::significance::DieboldMariano;
use crate::probes::Probe;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRules {
    /// Of each one-sided test, before it is divided by the trials.
    pub level: f64,
    /// Least lower end of the gain's interval.
    pub gain_min: f64,
    /// Least deflated Sharpe ratio; absent: it isn't asked for.
    pub deflated_sharpe_min: Option<f64>,
    /// Whether a verdict without probes can promote.
    pub needs_probes: bool,
}

impl Default for GateRules {
    fn default() -> Self {
        GateRules { level: 0.025, gain_min: 0.0, deflated_sharpe_min: None, needs_probes: true }
    }
}

/// The test of the model against one baseline; absent where losses don't differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versus {
    pub name: String,
    pub test: Option<DieboldMariano>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Over naive: in squared error for returns, in QLIKE for volatility.
    pub gain: Option<Interval>,
    pub naive: Versus,
    pub best: Versus,
    /// Models of other settings that were tried on the same data, this one included.
    pub trials: u32,
    pub probes: Vec<Probe>,
    pub deflated_sharpe: Option<f64>,
    /// Absent: there is no champion to beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<Versus>,
    /// The 99th percentile of one prediction on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Limited>,
    /// The largest difference from the f64 reference, in the label's normalised unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Limited>,
}

/// What was measured, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limited {
    pub found: f64,
    pub at_most: f64,
}

/// One condition, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    pub name: String,
    pub holds: bool,
    pub found: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateVerdict {
    pub promoted: bool,
    pub criteria: Vec<Criterion>,
}

/// Judges the evidence.
pub fn gate(evidence: &Evidence, rules: &GateRules) -> GateVerdict {
    let mut criteria = vec![
        gain(evidence, rules),
        beats(&evidence.naive, evidence.trials, rules),
        beats(&evidence.best, evidence.trials, rules),
        probes(evidence, rules),
    ];
    if evidence.best.name == evidence.naive.name {
        criteria.remove(2);
    }
    if let Some(champion) = evidence.champion.as_ref().filter(|c| c.name != evidence.best.name) {
        criteria.push(beats(champion, evidence.trials, rules));
    }
    let limits =
        [("p99 of a prediction in us", evidence.latency_us), ("difference from f64", evidence.tolerance)];
    criteria.extend(limits.into_iter().filter_map(|(name, limited)| Some(within(name, limited?))));
    if let Some(least) = rules.deflated_sharpe_min {
        criteria.push(Criterion {
            name: format!("deflated Sharpe ratio of at least {least}"),
            holds: evidence.deflated_sharpe.is_some_and(|found| found >= least),
            found: evidence.deflated_sharpe.map_or("the rule never trades".into(), |x| format!("{x:.3}")),
        });
    }
    GateVerdict { promoted: criteria.iter().all(|criterion| criterion.holds), criteria }
}

fn gain(evidence: &Evidence, rules: &GateRules) -> Criterion {
    Criterion {
        name: format!("gain over naive above {} with its interval", rules.gain_min),
        holds: evidence.gain.is_some_and(|gain| gain.low > rules.gain_min),
        found: evidence.gain.map_or("not defined".into(), |gain| {
            format!("{:.2} % [{:.2} %, {:.2} %]", 100.0 * gain.value, 100.0 * gain.low, 100.0 * gain.high)
        }),
    }
}

fn beats(versus: &Versus, trials: u32, rules: &GateRules) -> Criterion {
    let level = rules.level / f64::from(trials.max(1));
    Criterion {
        name: format!("better than {} (Diebold–Mariano, p below {level:.2e})", versus.name),
        holds: versus.test.is_some_and(|test| test.difference < 0.0 && test.p_value < level),
        found: versus.test.map_or("losses don't differ".into(), |test| {
            format!("p = {:.2e}, statistic {:.2}", test.p_value, test.statistic)
        }),
    }
}

fn within(name: &str, limited: Limited) -> Criterion {
    let Limited { found, at_most } = limited;
    Criterion {
        name: format!("{name} at most {}", short(at_most)),
        holds: found <= at_most,
        found: short(found),
    }
}

fn short(x: f64) -> String {
    if x != 0.0 && x.abs() < 0.01 { format!("{x:.2e}") } else { format!("{x:.2}") }
}

fn probes(evidence: &Evidence, rules: &GateRules) -> Criterion {
    let failed: Vec<&str> = evidence.probes.iter().filter(|p| !p.passed).map(|p| p.name.as_str()).collect();
    let missing = evidence.probes.is_empty() && rules.needs_probes;
    Criterion {
        name: "every leakage probe passed".into(),
        holds: failed.is_empty() && !missing,
        found: match (missing, failed.is_empty()) {
            (true, _) => "they didn't run".into(),
            (false, true) => format!("{} passed", evidence.probes.len()),
            (false, false) => format!("failed: {}", failed.join(", ")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(difference: f64, p_value: f64) -> Option<DieboldMariano> {
        Some(DieboldMariano { difference, statistic: -3.0, p_value, steps: 500, lags: 5 })
    }

    fn good() -> Evidence {
        Evidence {
            gain: Some(Interval { value: 0.1, low: 0.05, high: 0.15 }),
            naive: Versus { name: "naive".into(), test: test(-1.0, 1e-4) },
            best: Versus { name: "har".into(), test: test(-0.5, 1e-3) },
            trials: 1,
            probes: vec![Probe { name: "future".into(), passed: true, found: String::new() }],
            deflated_sharpe: None,
            champion: None,
            latency_us: None,
            tolerance: None,
        }
    }

    fn refused(edit: impl Fn(&mut Evidence, &mut GateRules), blames: &str) {
        let (mut evidence, mut rules) = (good(), GateRules::default());
        edit(&mut evidence, &mut rules);
        let verdict = gate(&evidence, &rules);
        assert!(!verdict.promoted, "{verdict:?}");
        let failed: Vec<&str> =
            verdict.criteria.iter().filter(|c| !c.holds).map(|c| c.name.as_str()).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].contains(blames), "{failed:?}");
    }

    #[test]
    fn good_evidence_promotes() {
        assert!(gate(&good(), &GateRules::default()).promoted);
        // Where naive is the best baseline it is asked about once.
        let mut evidence = good();
        evidence.best = evidence.naive.clone();
        let verdict = gate(&evidence, &GateRules::default());
        assert!(verdict.promoted && verdict.criteria.len() == 3);
    }

    #[test]
    fn each_condition_alone_refuses() {
        refused(|e, _| e.gain = Some(Interval { value: 0.1, low: -0.01, high: 0.2 }), "gain");
        refused(|e, _| e.gain = None, "gain");
        refused(|_, r| r.gain_min = 0.06, "gain");
        refused(|e, _| e.naive.test = test(-1.0, 0.03), "better than naive");
        refused(|e, _| e.best.test = test(-1.0, 0.03), "better than har");
        refused(|e, _| e.best.test = test(0.2, 1e-9), "better than har");
        refused(|e, _| e.best.test = test(f64::NAN, f64::NAN), "better than har");
        refused(|e, _| e.best.test = None, "better than har");
        refused(|e, _| e.probes[0].passed = false, "probe");
        refused(|e, _| e.probes.clear(), "probe");
        refused(|_, r| r.deflated_sharpe_min = Some(0.95), "Sharpe");
    }

    /// What only a registered pair has.
    #[test]
    fn a_champion_must_be_beaten_within_the_limits() {
        let limited = |found, at_most| Some(Limited { found, at_most });
        let with = |e: &mut Evidence| {
            e.champion = Some(Versus { name: "champion".into(), test: test(-0.1, 1e-3) });
            e.latency_us = limited(20.0, 100.0);
            e.tolerance = limited(1e-6, 1e-4);
        };
        let mut evidence = good();
        with(&mut evidence);
        let verdict = gate(&evidence, &GateRules::default());
        assert!(verdict.promoted && verdict.criteria.len() == 7, "{verdict:?}");
        let fails = |edit: fn(&mut Evidence), blames: &str| {
            refused(
                |e, _| {
                    with(e);
                    edit(e);
                },
                blames,
            );
        };
        fails(|e| e.champion.as_mut().unwrap().test = test(-0.1, 0.2), "better than champion");
        fails(|e| e.champion.as_mut().unwrap().test = test(0.1, 1e-9), "better than champion");
        fails(|e| e.champion.as_mut().unwrap().test = None, "better than champion");
        fails(|e| e.latency_us.as_mut().unwrap().found = 100.5, "p99");
        fails(|e| e.latency_us.as_mut().unwrap().found = f64::NAN, "p99");
        fails(|e| e.tolerance.as_mut().unwrap().found = f64::INFINITY, "f64");
        // The best of all may be the champion: then it is asked about once.
        evidence.best = evidence.champion.clone().unwrap();
        assert_eq!(gate(&evidence, &GateRules::default()).criteria.len(), 6);
    }

    /// p = 1e-3 is enough for one trial, and not for the best of 100.
    #[test]
    fn trials_raise_the_bar() {
        refused(|e, _| e.trials = 100, "better than har");
        let mut evidence = good();
        evidence.trials = 20;
        assert!(gate(&evidence, &GateRules::default()).promoted);
    }
}
