//! What is done next with a row of the deployment table: a function of what is known and of the rules, and nothing else.
//!
//! In this order: a champion that is found to do worse than it promised, or than the version before it, is taken back; a
//! challenger that the test finds better goes to the gate, and one that is found worse, or that the gate refused, leaves;
//! where no challenger waits for its judgement, one is trained when it is time or drift was found.

use learn::live::sequential::Verdict;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// Whether anything is done that nobody asked for.
    pub automatic: bool,
    /// From one training to the next; 0: not on a schedule.
    pub retrain_hours: f64,
    pub retrain_on_drift: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Situation {
    /// Where a rollback of the champion would lead.
    pub before: Option<u32>,
    /// The version in the challenger's place. That of `before` runs along for comparison, another is a candidate.
    pub challenger: Option<u32>,
    /// Of the candidate against the champion.
    pub test: Option<Verdict>,
    /// The gate refused the candidate.
    pub refused: bool,
    /// Reasons to take the champion back.
    pub take_back: Vec<String>,
    /// Drift that no training has answered yet.
    pub drift: Option<String>,
    pub trained_hours_ago: Option<f64>,
    /// Whether there is a place for what training makes.
    pub has_place: bool,
    /// Who asked for a training.
    pub asked: bool,
    /// A training or a judgement goes on.
    pub busy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    RollBack {
        why: String,
    },
    /// The candidate before the gate.
    Judge {
        why: String,
    },
    /// The candidate leaves its place.
    Dismiss {
        why: String,
    },
    Retrain {
        why: String,
    },
}

pub fn decide(known: &Situation, rules: &Rules) -> Action {
    if known.busy {
        return Action::Nothing;
    }
    if rules.automatic && !known.take_back.is_empty() && known.before.is_some() {
        return Action::RollBack { why: known.take_back.join("; ") };
    }
    let candidate = known.challenger.filter(|version| Some(*version) != known.before);
    if rules.automatic && candidate.is_some() {
        match known.test {
            _ if known.refused => return Action::Dismiss { why: "the gate refused it".into() },
            Some(Verdict::Worse) => {
                return Action::Dismiss { why: "it was found worse than the champion".into() };
            }
            Some(Verdict::Better) => {
                return Action::Judge { why: "it was found better than the champion".into() };
            }
            Some(Verdict::Undecided) | None => {}
        }
    }
    if !known.has_place {
        return Action::Nothing;
    }
    if known.asked {
        return Action::Retrain { why: "asked for".into() };
    }
    if !rules.automatic || candidate.is_some() {
        return Action::Nothing;
    }
    if let Some(drift) = known.drift.as_ref().filter(|_| rules.retrain_on_drift) {
        return Action::Retrain { why: drift.clone() };
    }
    match known.trained_hours_ago {
        Some(hours) if rules.retrain_hours > 0.0 && hours >= rules.retrain_hours => {
            Action::Retrain { why: format!("the last training was {hours:.1} hours ago") }
        }
        _ => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { automatic: true, retrain_hours: 24.0, retrain_on_drift: true };

    fn candidate(test: Verdict) -> Situation {
        Situation {
            before: Some(1),
            challenger: Some(3),
            test: Some(test),
            trained_hours_ago: Some(100.0),
            has_place: true,
            ..Situation::default()
        }
    }

    fn name(action: &Action) -> &'static str {
        match action {
            Action::Nothing => "nothing",
            Action::RollBack { .. } => "roll back",
            Action::Judge { .. } => "judge",
            Action::Dismiss { .. } => "dismiss",
            Action::Retrain { .. } => "retrain",
        }
    }

    fn check(expected: &str, situation: &Situation, rules: &Rules) {
        let found = decide(situation, rules);
        assert_eq!(name(&found), expected, "{situation:?}: {found:?}");
    }

    #[test]
    fn a_candidate_goes_where_its_test_sends_it() {
        check("nothing", &candidate(Verdict::Undecided), &RULES);
        check("judge", &candidate(Verdict::Better), &RULES);
        check("dismiss", &candidate(Verdict::Worse), &RULES);
        check("dismiss", &Situation { refused: true, ..candidate(Verdict::Better) }, &RULES);
        check("nothing", &Situation { busy: true, ..candidate(Verdict::Better) }, &RULES);
        for verdict in [Verdict::Undecided, Verdict::Better, Verdict::Worse] {
            check("nothing", &candidate(verdict), &Rules { automatic: false, ..RULES });
        }
    }

    #[test]
    fn a_champion_that_fails_is_taken_back_first_of_all() {
        let failing = Situation { take_back: vec!["coverage".into()], ..candidate(Verdict::Better) };
        check("roll back", &failing, &RULES);
        check("nothing", &failing, &Rules { automatic: false, ..RULES });
        check("nothing", &Situation { busy: true, ..failing.clone() }, &RULES);
        // There is nothing to go back to.
        check("judge", &Situation { before: None, ..failing }, &RULES);
    }

    #[test]
    fn training_waits_for_time_drift_or_a_request() {
        let calm = Situation {
            before: Some(1),
            challenger: Some(1),
            trained_hours_ago: Some(23.0),
            has_place: true,
            ..Situation::default()
        };
        check("nothing", &calm, &RULES);
        let late = Situation { trained_hours_ago: Some(24.0), ..calm.clone() };
        check("retrain", &late, &RULES);
        check("nothing", &late, &Rules { retrain_hours: 0.0, ..RULES });
        check("nothing", &late, &Rules { automatic: false, ..RULES });
        check("nothing", &Situation { challenger: Some(7), ..late.clone() }, &RULES);
        let drifted = Situation { drift: Some("larger losses".into()), ..calm.clone() };
        check("retrain", &drifted, &RULES);
        check("nothing", &drifted, &Rules { retrain_on_drift: false, ..RULES });
        let asked = Situation { asked: true, ..calm };
        check("retrain", &asked, &Rules::default());
        check("retrain", &Situation { challenger: Some(7), ..asked.clone() }, &Rules::default());
        check("nothing", &Situation { has_place: false, ..asked }, &RULES);
    }
}
