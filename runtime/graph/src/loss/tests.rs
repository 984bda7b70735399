use super::*;
use crate::reference;

/// The loss of rows of predictions against rows of targets, each `[B, columns]`.
fn loss(loss: Loss, prediction: &[&[f64]], target: &[&[f64]]) -> Result<f64, BuildError> {
    let mut b = Builder::new();
    let p = b.input("prediction", Shape::batch(&[prediction[0].len()])).unwrap();
    let t = b.input("target", Shape::batch(&[target[0].len()])).unwrap();
    let value = loss.build(&mut b, p, t)?;
    b.output("loss", value).unwrap();
    let graph = b.finish().unwrap();
    assert_eq!(graph.shape(value), &Shape::scalar());
    let inputs = [prediction.concat(), target.concat()];
    Ok(reference::run(&graph, prediction.len(), &inputs, &mut []).unwrap()[0][0])
}

fn near(got: Result<f64, BuildError>, expected: f64) {
    let got = got.unwrap();
    assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
}

#[test]
fn mean_squared_loss() {
    near(loss(Loss::MeanSquared, &[&[1.0, 2.0], &[3.0, -1.0]], &[&[0.0, 2.0], &[5.0, 2.0]]), 14.0 / 4.0);
}

#[test]
fn huber_loss_is_quadratic_then_linear() {
    // Errors 0.25, −3, 0.5, 0 at delta 0.5: 0.03125, 0.5 · 2.75, 0.125, 0.
    let expected = (0.03125 + 1.375 + 0.125) / 4.0;
    let delta = Loss::Huber { delta: 0.5 };
    near(loss(delta, &[&[0.25, 0.0], &[1.5, 7.0]], &[&[0.0, 3.0], &[1.0, 7.0]]), expected);
}

#[test]
fn pinball_loss_weighs_by_side() {
    // Target 1: above the prediction 0 by 1, below 3 by 2.
    let quantiles = || Loss::Pinball { quantiles: vec![0.1, 0.9] };
    near(loss(quantiles(), &[&[0.0, 3.0]], &[&[1.0]]), (0.1 * 1.0 + 0.1 * 2.0) / 2.0);
    // Two targets: the quantiles of the first come first.
    let two = loss(quantiles(), &[&[0.0, 0.0, 5.0, 5.0]], &[&[1.0, 4.0]]);
    near(two, (0.1 + 0.9 + 0.9 + 0.1) / 4.0);
}

#[test]
fn cross_entropy_loss_is_of_logits() {
    let expected = |logits: [f64; 2], target: [f64; 2]| {
        let log_sum = (logits[0].exp() + logits[1].exp()).ln();
        -(target[0] * (logits[0] - log_sum) + target[1] * (logits[1] - log_sum))
    };
    let rows = ([0.5, -1.0], [1.0, 0.0], [2.0, 3.0], [0.25, 0.75]);
    let mean = (expected(rows.0, rows.1) + expected(rows.2, rows.3)) / 2.0;
    near(loss(Loss::CrossEntropy, &[&rows.0, &rows.2], &[&rows.1, &rows.3]), mean);
    near(loss(Loss::CrossEntropy, &[&[1000.0, 0.0]], &[&[0.0, 1.0]]), 1000.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |kind: Loss, prediction: &[f64], target: &[f64]| {
        loss(kind, &[prediction], &[target]).unwrap_err().to_string()
    };
    for kind in [Loss::MeanSquared, Loss::Huber { delta: 1.0 }, Loss::CrossEntropy] {
        assert!(refused(kind, &[1.0, 2.0], &[1.0]).contains("differ in shape"));
    }
    for delta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(refused(Loss::Huber { delta }, &[1.0], &[1.0]).contains("not above 0"));
    }
    for quantiles in [vec![], vec![0.0], vec![0.5, 1.0], vec![f32::NAN]] {
        assert!(refused(Loss::Pinball { quantiles }, &[1.0], &[1.0]).contains("not quantiles"));
    }
    let three = Loss::Pinball { quantiles: vec![0.1, 0.5, 0.9] };
    assert_eq!((three.target_columns(6), three.target_columns(4)), (Some(2), None));
    assert!(refused(three, &[1.0, 2.0], &[1.0]).contains("[B, 3 · L] and [B, L]"));
}
