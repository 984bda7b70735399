use graph::Tensor;
use graph::reference::Interpreter;

use super::*;
use crate::fit::judge;
use crate::testing::{Returns, autoregressive, bars_of, linear_model, recipe as small};
use crate::train::{TrainError, Trained, train, train_from, validation_loss};

const WINDOW: u32 = 3;

fn continued(replay_share: f64) -> Retraining {
    Retraining { weights: Weights::Continued, replay_share, validation_share: None, test_share: None }
}

fn scratch() -> Retraining {
    Retraining { weights: Weights::Scratch, ..continued(0.0) }
}

fn bars(count: usize) -> Vec<Bar> {
    bars_of("A", &autoregressive(count, 0.4, 5))
}

/// A model that was trained on so many bars.
fn parent(count: usize) -> (Manifest, Trained) {
    let (recipe, bars) = (small(WINDOW, &["A"]), bars(count));
    let prepared = fit::prepare(&recipe, &[&bars], &mut Returns::new(2)).unwrap();
    let model = linear_model(WINDOW as usize, 3, 0.0);
    let trained = train(&prepared.job(&model, &recipe.training), &Interpreter, &mut (), None).unwrap();
    let evaluation = judge(&recipe, &prepared, &trained.model, &Interpreter).unwrap();
    (recipe.manifest(&prepared, &trained, &evaluation, Timestamp(0)), trained)
}

fn made(parent: &Manifest, how: &Retraining, count: usize) -> Result<(Prepared, Mix), RetrainError> {
    let recipe = recipe(parent, how)?;
    prepare(&recipe, parent, how, &[&bars(count)], &mut Returns::new(2))
}

#[test]
fn the_recipe_is_the_parents_but_for_the_bars() {
    let (manifest, _) = parent(1500);
    let found = recipe(&manifest, &continued(0.5)).unwrap();
    let Cut::Fractions { validation, test } = found.split.cut else { panic!("{:?}", found.split) };
    assert!((validation - 0.2).abs() < 0.01 && (test - 0.3).abs() < 0.01, "{validation} {test}");
    let was = small(WINDOW, &["A"]);
    assert_eq!((found.label, found.window), (was.label, was.window));
    // Lower where weights are gone on from, and not lower again each time.
    let (rate, anew) = (was.training.learning_rate, recipe(&manifest, &scratch()).unwrap());
    assert_eq!(anew.training, was.training);
    assert_eq!(
        found.training,
        crate::TrainingSettings { learning_rate: rate * CONTINUED_RATE, ..was.training }
    );
    let mut next = manifest.clone();
    next.training.learning_rate = rate * CONTINUED_RATE;
    next.parent = Some(registry::Parent {
        name: "small".into(),
        version: 1,
        digest: "ab".repeat(32),
        weights: Weights::Continued,
        fresh_from: manifest.data.validation.from.clone(),
        fresh_samples: 1,
        older_samples: 0,
        first_learning_rate: rate,
    });
    assert_eq!(recipe(&next, &continued(0.5)).unwrap().training.learning_rate, rate * CONTINUED_RATE);
    assert_eq!(recipe(&next, &scratch()).unwrap().training.learning_rate, rate);
    assert_eq!(found.data.pinned, None);
    for (how, name) in [
        (continued(1.0), "replay"),
        (continued(f64::NAN), "replay"),
        (Retraining { validation_share: Some(0.0), ..scratch() }, "validation"),
        (Retraining { test_share: Some(1.0), ..scratch() }, "test"),
    ] {
        let error = recipe(&manifest, &how).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn fresh_samples_train_beside_a_draw_of_older_ones() {
    let (manifest, _) = parent(1500);
    let (prepared, mix) = made(&manifest, &continued(0.25), 2600).unwrap();
    let time = |i: usize| prepared.dataset.samples[i].time;
    assert_eq!(mix.fresh_from.to_string(), manifest.data.validation.from);
    let (older, fresh): (Vec<usize>, Vec<usize>) =
        prepared.split.train.iter().partition(|&&i| time(i) < mix.fresh_from);
    assert_eq!((older.len() as u64, fresh.len() as u64), (mix.older, mix.fresh));
    assert_eq!(mix.older, (mix.fresh as f64 / 3.0).round() as u64);
    assert!(mix.older < mix.older_there && prepared.split.train.is_sorted());
    assert!(older[older.len() / 2] > 250 && older[older.len() / 2] < 650, "drawn from all of the past");
    assert!(prepared.split.times.test >= Timestamp::parse(&manifest.data.test.from).unwrap());
    // The weights go on in the parent's units.
    assert_eq!(prepared.normaliser.to_manifest(), manifest.normaliser);
    assert_eq!((prepared.label.mean, prepared.label.scale), (manifest.label.mean, manifest.label.scale));
    assert_eq!(made(&manifest, &continued(0.25), 2600).unwrap().0.split, prepared.split);
    assert_eq!(made(&manifest, &continued(0.0), 2600).unwrap().1.older, 0);
    let (_, all) = made(&manifest, &continued(0.99), 2600).unwrap();
    assert_eq!(all.older, all.older_there);

    let (prepared, mix) = made(&manifest, &scratch(), 2600).unwrap();
    assert_eq!(mix.older, mix.older_there);
    assert_ne!(prepared.normaliser.to_manifest(), manifest.normaliser, "refitted");
}

#[test]
fn too_little_that_is_new_is_refused_with_how_much_is_needed() {
    let (manifest, _) = parent(1500);
    for how in [continued(0.5), scratch()] {
        let Err(RetrainError::TooLittle { fresh, needed, more_bars, .. }) = made(&manifest, &how, 1520)
        else {
            panic!()
        };
        assert!(fresh < needed && needed == 320 && more_bars > 100, "{fresh} {needed} {more_bars}");
        let enough = 1520 + more_bars as usize;
        let (_, mix) = made(&manifest, &how, enough + enough / 50).unwrap();
        assert!(mix.fresh >= needed);
        assert!(made(&manifest, &how, enough - enough / 20).is_err(), "it doesn't ask for far too much");
    }
    let early = Retraining { test_share: Some(0.6), validation_share: Some(0.05), ..scratch() };
    let (manifest, _) = parent(1000);
    let found = made(&manifest, &early, 1900);
    assert!(matches!(found, Err(RetrainError::Seen { .. } | RetrainError::TooLittle { .. })), "{found:?}");
    let error = made(&manifest, &Retraining { test_share: Some(0.45), ..early }, 1200).unwrap_err();
    assert!(error.to_string().contains("smaller"), "{error}");
}

#[test]
fn training_goes_on_from_the_parents_weights() {
    let (manifest, trained) = parent(1500);
    let how = continued(0.5);
    let (prepared, _) = made(&manifest, &how, 2600).unwrap();
    // At the whole rate, so that both are as fast.
    let settings = small(WINDOW, &["A"]).training;
    let model = linear_model(WINDOW as usize, 3, 0.0);
    let job = prepared.job(&model, &settings);
    let before = validation_loss(&job, &Interpreter, &trained.states).unwrap();
    let begin = |start: &[(String, Tensor)]| train_from(&job, &Interpreter, &mut (), None, start);
    let (on, anew) = (begin(&trained.states).unwrap(), begin(&[]).unwrap());
    assert_eq!(anew, train(&job, &Interpreter, &mut (), None).unwrap());
    assert!(on.train_curve[0] < 0.9 * anew.train_curve[0], "{:?} {:?}", on.train_curve, anew.train_curve);
    assert!((on.validation_curve[0] - before).abs() < 0.05 * before);
    assert_eq!(begin(&trained.states).unwrap(), on, "the same bits");

    // The optimiser's moments are among the states, and change what comes.
    let weights: Vec<(String, Tensor)> =
        trained.states.iter().filter(|(name, _)| ["w", "b"].contains(&name.as_str())).cloned().collect();
    assert!(trained.states.len() == 3 * weights.len() + 1);
    assert_ne!(begin(&weights).unwrap().train_curve, on.train_curve);

    let refused = |start: &[(String, Tensor)], says: &str| match begin(start) {
        Err(e @ TrainError::Load(_)) => assert!(e.to_string().contains(says), "{e}"),
        other => panic!("{other:?}"),
    };
    refused(&weights[..1], "is missing");
    refused(&[weights.clone(), vec![("other".into(), Tensor::zeros(&[1]))]].concat(), "'other'");
    let wrong: Vec<_> = weights.iter().map(|(name, _)| (name.clone(), Tensor::zeros(&[7]))).collect();
    refused(&wrong, "[7]");
}

/// A run that goes on from weights is resumed from its checkpoint, and not from that of another beginning.
#[test]
fn a_checkpoint_belongs_to_where_the_run_began() {
    let (manifest, trained) = parent(1500);
    let how = continued(0.5);
    let (prepared, _) = made(&manifest, &how, 2600).unwrap();
    let settings = recipe(&manifest, &how).unwrap().training;
    let model = linear_model(WINDOW as usize, 3, 0.0);
    let job = prepared.job(&model, &settings);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    struct Stop;
    impl crate::Progress for Stop {
        fn epoch(&mut self, report: &crate::EpochReport) -> crate::Flow {
            if report.epoch == 3 { crate::Flow::Stop } else { crate::Flow::Continue }
        }
    }
    let stopped = train_from(&job, &Interpreter, &mut Stop, Some(&path), &trained.states);
    assert_eq!(stopped, Err(TrainError::Stopped { epochs: 3 }));
    assert_eq!(train(&job, &Interpreter, &mut (), Some(&path)), Err(TrainError::OtherRun));
    let resumed = train_from(&job, &Interpreter, &mut (), Some(&path), &trained.states).unwrap();
    let whole = train_from(&job, &Interpreter, &mut (), None, &trained.states).unwrap();
    assert_eq!(resumed.model, whole.model);
    assert_eq!(resumed.validation_curve, whole.validation_curve);
}
