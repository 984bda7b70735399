//! Must a promotion be taken back? A function of the evidence and nothing else, like the gate that let it in
//! ([`crate::assess::gate`]).
//!
//! Where the model before runs along on the same bars, only the comparison with it tells the model from the market: the
//! new one goes when its loss is found to be greater. Where it doesn't, the new model goes when its loss is found to be
//! greater than it promised, or when its CUSUM raises an alarm. In both cases it goes when its intervals are found to
//! cover less than they state. Each finding is of a test that may be read at any time, so this may be asked after every
//! outcome; the probability of ever taking back a model that keeps its promises is at most the sum of their levels
//! (with a CUSUM: its false alarms in that time).

use serde::{Deserialize, Serialize};

use super::cusum::{CusumReport, Side};
use super::sequential::{SequentialReport, SequentialSettings, Verdict};
pub use crate::assess::gate::Criterion;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DegradeRules {
    /// Intervals may cover so much less than they state.
    pub coverage_margin: f64,
    /// The loss may be so many times the promised one.
    pub loss_factor: f64,
}

impl Default for DegradeRules {
    fn default() -> Self {
        DegradeRules { coverage_margin: 0.05, loss_factor: 1.1 }
    }
}

impl DegradeRules {
    /// What one interval of this level counts as in the coverage test: above 0 on average where too few cover.
    pub fn miss(&self, level: f64, covered: bool) -> f64 {
        let missed = if covered { 0.0 } else { 1.0 };
        missed - (1.0 - level + self.coverage_margin)
    }

    /// The settings of the coverage test: intervals that never miss, or always, have no deviation of their own, so that
    /// of independent ones of the stated level is the least.
    pub fn coverage_settings(&self, level: f64, horizon_bars: u32) -> SequentialSettings {
        let settings = SequentialSettings::for_horizon(horizon_bars);
        let deviation_min = (level * (1.0 - level) / f64::from(settings.block_steps)).max(0.0).sqrt();
        SequentialSettings { deviation_min, ..settings }
    }

    /// What one outcome counts as in the test of the promise: the loss less what was promised of it, which is a share
    /// of the naive forecast's loss on the same bar; so it asks for the promised gain and not for a quiet market.
    pub fn excess(&self, loss: f64, naive_loss: f64, promised_share: f64) -> f64 {
        loss - self.loss_factor * promised_share * naive_loss
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DegradeEvidence {
    /// Of the new model's loss less that of the one before; absent where that doesn't run along.
    pub before: Option<SequentialReport>,
    /// Of [`DegradeRules::miss`]; absent where there are no intervals.
    pub coverage: Option<SequentialReport>,
    /// Of [`DegradeRules::excess`]; absent where nothing was promised.
    pub promise: Option<SequentialReport>,
    /// Of the new model's loss, less the naive forecast's where there is one.
    pub cusum: Option<CusumReport>,
}

/// Whether to go back, and each condition with what was found. Those that don't hold and count are the reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DegradeVerdict {
    pub roll_back: bool,
    pub criteria: Vec<Criterion>,
    /// Looked at, but not a reason: the model before runs along and tells more.
    pub noted: Vec<Criterion>,
}

/// Judges the evidence.
pub fn degrade(evidence: &DegradeEvidence) -> DegradeVerdict {
    let mut criteria = Vec::new();
    let mut noted = Vec::new();
    let own = if evidence.before.is_some() { &mut noted } else { &mut criteria };
    own.extend(evidence.promise.as_ref().map(|r| not_above("loss no greater than promised", r)));
    own.extend(evidence.cusum.as_ref().map(no_alarm));
    criteria.extend(
        evidence.before.as_ref().map(|r| not_above("loss no greater than that of the model before", r)),
    );
    criteria.extend(evidence.coverage.as_ref().map(|r| not_above("intervals cover what they state", r)));
    DegradeVerdict { roll_back: criteria.iter().any(|criterion| !criterion.holds), criteria, noted }
}

/// Neither decided so once, nor shown by the interval as it stands now.
fn not_above(name: &str, report: &SequentialReport) -> Criterion {
    let shown = report.p_value < report.level && report.low.is_some_and(|low| low > 0.0);
    Criterion {
        name: name.into(),
        holds: report.verdict != Verdict::Worse && !shown,
        found: match (report.mean, report.low, report.high) {
            (Some(mean), Some(low), Some(high)) => format!(
                "excess {mean:.3e}, interval [{low:.3e}, {high:.3e}], p of none {:.2e}, {} blocks",
                report.p_value, report.blocks
            ),
            _ => format!("{} blocks: too few to say", report.blocks),
        },
    }
}

fn no_alarm(report: &CusumReport) -> Criterion {
    let is_up = report.alarm.is_some_and(|alarm| alarm.side == Side::Up);
    Criterion {
        name: "loss on the level of the first outcomes (CUSUM)".into(),
        holds: !is_up,
        found: match report.alarm {
            Some(alarm) => {
                let way = if is_up { "larger" } else { "smaller" };
                format!("{way} since block {}, found at block {}", alarm.since_blocks, alarm.blocks)
            }
            None => format!(
                "sum {:.2} of {:.2}, {} blocks of which {} are the reference",
                report.up, report.threshold, report.blocks, report.reference_blocks
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::cusum::{Cusum, CusumSettings};
    use crate::live::sequential::SequentialTest;
    use crate::random::Random;

    /// Normal losses with this mean.
    fn test(mean: f64) -> Option<SequentialReport> {
        let mut random = Random::new(7);
        let mut test = SequentialTest::new(SequentialSettings::for_horizon(1)).unwrap();
        (0..800).for_each(|_| _ = test.push(mean + random.normal(), 1));
        Some(test.report())
    }

    fn coverage(rules: &DegradeRules, level: f64, share: f64) -> Option<SequentialReport> {
        let mut random = Random::new(8);
        let mut test = SequentialTest::new(rules.coverage_settings(level, 1)).unwrap();
        (0..800).for_each(|_| _ = test.push(rules.miss(level, random.uniform() < share), 1));
        Some(test.report())
    }

    fn cusum(factor: f64) -> Option<CusumReport> {
        let mut random = Random::new(9);
        let mut cusum = Cusum::new(CusumSettings::for_horizon(1)).unwrap();
        for step in 0..800 {
            let factor = if step < 400 { 1.0 } else { factor };
            cusum.push(factor * random.normal().powi(2));
        }
        Some(cusum.report())
    }

    fn good() -> DegradeEvidence {
        let rules = DegradeRules::default();
        DegradeEvidence {
            before: test(-0.3),
            coverage: coverage(&rules, 0.9, 0.9),
            promise: test(-0.1),
            cusum: cusum(1.0),
        }
    }

    fn reasons(evidence: &DegradeEvidence) -> Vec<String> {
        let verdict = degrade(evidence);
        let failed: Vec<String> = verdict.criteria.into_iter().filter(|c| !c.holds).map(|c| c.name).collect();
        assert_eq!(verdict.roll_back, !failed.is_empty());
        failed
    }

    #[test]
    fn what_keeps_its_promises_stays() {
        assert_eq!(reasons(&good()), [""; 0]);
        assert_eq!(reasons(&DegradeEvidence { before: None, ..good() }), [""; 0]);
        let nothing = degrade(&DegradeEvidence::default());
        assert!(!nothing.roll_back && nothing.criteria.is_empty());
    }

    #[test]
    fn each_finding_alone_takes_it_back() {
        let rules = DegradeRules::default();
        let alone = DegradeEvidence { before: None, ..good() };
        for (evidence, blames) in [
            (DegradeEvidence { before: test(0.4), ..good() }, "model before"),
            (DegradeEvidence { coverage: coverage(&rules, 0.9, 0.7), ..good() }, "intervals"),
            (DegradeEvidence { coverage: coverage(&rules, 0.9, 0.0), ..good() }, "intervals"),
            (DegradeEvidence { promise: test(0.4), ..alone.clone() }, "promised"),
            (DegradeEvidence { cusum: cusum(4.0), ..alone.clone() }, "CUSUM"),
        ] {
            let found = reasons(&evidence);
            assert!(found.len() == 1 && found[0].contains(blames), "{blames}: {found:?}");
        }
        // A little less coverage than stated is within the margin, all of it is no fault, a smaller loss neither.
        assert_eq!(reasons(&DegradeEvidence { coverage: coverage(&rules, 0.9, 0.87), ..good() }), [""; 0]);
        assert_eq!(reasons(&DegradeEvidence { coverage: coverage(&rules, 0.9, 1.0), ..good() }), [""; 0]);
        assert_eq!(reasons(&DegradeEvidence { cusum: cusum(0.2), ..alone }), [""; 0]);
    }

    /// The market turned for both: no reason to go back to the other.
    #[test]
    fn what_the_model_before_suffers_too_is_noted_only() {
        let evidence = DegradeEvidence { cusum: cusum(4.0), promise: test(0.4), ..good() };
        assert_eq!(reasons(&evidence), [""; 0]);
        assert_eq!(degrade(&evidence).noted.iter().filter(|c| !c.holds).count(), 2);
    }

    #[test]
    fn a_promise_is_a_share_of_the_naive_loss() {
        let rules = DegradeRules { loss_factor: 1.5, ..DegradeRules::default() };
        assert!((rules.excess(2.0, 4.0, 0.25) - 0.5).abs() < 1e-15);
        assert!(
            (rules.miss(0.9, true) + 0.15).abs() < 1e-15 && (rules.miss(0.9, false) - 0.85).abs() < 1e-15
        );
    }
}
