use super::*;
use crate::op::Keep;
use crate::reference;

/// prediction = x · w + b, with a state that nothing trains.
fn linear() -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[2])).unwrap();
    let w = b.state("w", Shape::fixed(&[2, 1]), Initial::Glorot, true).unwrap();
    let offset = b.state("offset", Shape::scalar(), Initial::Constant(0.25), false).unwrap();
    let bias = b.state("b", Shape::fixed(&[1]), Initial::Constant(0.5), true).unwrap();
    let y = b.matmul(x, w, false, false).unwrap();
    let y = b.add(y, bias).unwrap();
    let y = b.add(y, offset).unwrap();
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

fn names<'a>(all: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    all.into_iter().collect()
}

#[test]
fn the_step_has_the_named_inputs_outputs_and_states() {
    let mut b = Builder::from_graph(linear());
    let prediction = b.graph().output("prediction").unwrap();
    let dropped = b.dropout(prediction, 0.5).unwrap();
    let mut model = b.finish().unwrap();
    model.outputs[0].1 = dropped;
    let graph = training_graph(&model, &Loss::MeanSquared, &Optimiser::default()).unwrap();
    let inputs: Vec<(&str, String)> =
        graph.inputs().map(|(name, _, shape)| (name, shape.to_string())).collect();
    let expected =
        [("features", "[B, 2]"), ("dropout_seed", "[]"), ("target", "[B, 1]"), ("learning_rate", "[]")];
    assert_eq!(inputs, expected.map(|(name, shape)| (name, shape.to_string())));
    assert_eq!(names(graph.outputs.iter().map(|o| o.0.as_str())), ["loss", "gradient_norm"]);
    assert_eq!(
        names(graph.states.iter().map(|s| s.name.as_str())),
        ["w", "offset", "b", "adamw.m/w", "adamw.v/w", "adamw.m/b", "adamw.v/b", "adamw.step"]
    );
    assert_eq!(names(graph.states.iter().filter(|s| s.trainable).map(|s| s.name.as_str())), ["w", "b"]);
    let mut updated = names(graph.updates.iter().map(|u| u.state.as_str()));
    updated.sort_unstable();
    assert_eq!(updated, ["adamw.m/b", "adamw.m/w", "adamw.step", "adamw.v/b", "adamw.v/w", "b", "w"]);
}

/// Two steps of the linear model on one row, worked out by hand with the given clipping.
fn steps_by_hand(clip_norm: Option<f32>) {
    let optimiser = Optimiser { beta1: 0.5, beta2: 0.75, epsilon: 0.125, weight_decay: 0.25, clip_norm };
    let graph = training_graph(&linear(), &Loss::MeanSquared, &optimiser).unwrap();
    let mut states = reference::initial_states_f64(&graph, 0);
    let of =
        |states: &[(String, Vec<f64>)], name: &str| states.iter().find(|s| s.0 == name).unwrap().1.clone();
    let (mut w, mut bias) = (of(&states, "w"), 0.5);
    let (x, target, rate) = ([3.0, -2.0], 1.0, 0.125);
    let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
    for step in 1..=2 {
        let error = x[0] * w[0] + x[1] * w[1] + bias + 0.25 - target;
        let mut gradient = [2.0 * error * x[0], 2.0 * error * x[1], 2.0 * error];
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let scale = clip_norm.map_or(1.0, |clip| (f64::from(clip) / norm).min(1.0));
        gradient.iter_mut().for_each(|g| *g *= scale);
        let inputs = [x.to_vec(), vec![target], vec![rate]];
        let outputs = reference::run(&graph, 1, &inputs, &mut states).unwrap();
        assert!((outputs[0][0] - error * error).abs() < 1e-9);
        assert!((outputs[1][0] - norm).abs() < 1e-9);
        for i in 0..3 {
            m[i] = 0.5 * m[i] + 0.5 * gradient[i];
            v[i] = 0.75 * v[i] + 0.25 * gradient[i] * gradient[i];
            let (unbias1, unbias2) = (1.0 - 0.5f64.powi(step), 1.0 - 0.75f64.powi(step));
            let direction = (m[i] / unbias1) / ((v[i] / unbias2).sqrt() + 0.125);
            match i {
                2 => bias -= rate * direction,
                _ => w[i] -= rate * (direction + 0.25 * w[i]),
            }
        }
        let got =
            [of(&states, "w"), of(&states, "b"), of(&states, "adamw.m/w"), of(&states, "adamw.v/w")].concat();
        for (got, expected) in got.iter().zip([w[0], w[1], bias, m[0], m[1], v[0], v[1]]) {
            assert!((got - expected).abs() < 1e-9, "step {step}: {got} is not {expected}");
        }
        assert_eq!(of(&states, "adamw.step"), [f64::from(step)]);
        assert_eq!(of(&states, "offset"), [0.25]);
    }
}

#[test]
fn a_step_is_adamw_without_clipping() {
    steps_by_hand(None);
}

#[test]
fn a_step_clips_by_the_joint_norm() {
    steps_by_hand(Some(0.5));
    // Large enough to change nothing.
    steps_by_hand(Some(1e6));
}

fn lstm_model(outputs: usize) -> Graph {
    let mut b = Builder::new();
    let x = b.input("features", Shape::batch(&[4, 2])).unwrap();
    let w = b.state("w", Shape::fixed(&[2, 12]), Initial::Glorot, true).unwrap();
    let u = b.state("u", Shape::fixed(&[3, 12]), Initial::UniformRoot { n: 3 }, true).unwrap();
    let bias = b.state("bias", Shape::fixed(&[12]), Initial::LstmBias, true).unwrap();
    let h = b.lstm(x, w, u, bias, Keep::Last).unwrap();
    let h = b.dropout(h, 0.1).unwrap();
    let head = b.state("head", Shape::fixed(&[3, outputs]), Initial::Glorot, true).unwrap();
    let y = b.matmul(h, head, false, false).unwrap();
    b.output("prediction", y).unwrap();
    b.finish().unwrap()
}

#[test]
fn every_loss_falls_when_trained() {
    let cases = [
        (Loss::MeanSquared, 2, 2),
        (Loss::Huber { delta: 0.25 }, 2, 2),
        (Loss::Pinball { quantiles: vec![0.25, 0.75] }, 2, 1),
        (Loss::CrossEntropy, 2, 2),
    ];
    const BATCH: usize = 6;
    for (loss, outputs, columns) in cases {
        let graph = training_graph(&lstm_model(outputs), &loss, &Optimiser::default()).unwrap();
        let mut states = reference::initial_states_f64(&graph, 1);
        let features: Vec<f64> = (0..BATCH * 8).map(|i| (i as f64 * 1.7).sin()).collect();
        let target =
            (0..BATCH * columns).map(|i| if (i / columns + i) % 2 == 0 { 0.9 } else { 0.1 }).collect();
        let mut inputs = vec![features, vec![0.0], target, vec![0.03]];
        let mut losses = Vec::new();
        for step in 0..60 {
            inputs[1] = vec![f64::from(step)];
            losses.push(reference::run(&graph, BATCH, &inputs, &mut states).unwrap()[0][0]);
        }
        let (first, last) = (losses[..5].iter().sum::<f64>(), losses[55..].iter().sum::<f64>());
        assert!(last < 0.8 * first, "{loss:?}: {first} became {last}");
    }
}

#[test]
fn what_can_not_be_trained_is_refused() {
    let train = |model: &Graph, loss: &Loss, optimiser: &Optimiser| {
        training_graph(model, loss, optimiser).unwrap_err().to_string()
    };
    let (loss, optimiser) = (Loss::MeanSquared, Optimiser::default());
    let changed = |change: fn(&mut Graph)| {
        let mut model = linear();
        change(&mut model);
        train(&model, &loss, &optimiser)
    };
    assert!(changed(|g| g.outputs[0].0 = "y".into()).contains("no output named \"prediction\""));
    assert!(
        changed(|g| g.states.iter_mut().for_each(|s| s.trainable = false)).contains("no trainable state")
    );
    assert!(
        changed(|g| g.outputs[0].1 = Value { node: crate::NodeId(1), slot: 0 }).contains("not [B, outputs]")
    );
    assert!(changed(|g| g.states.clear()).contains("not valid"));
    let mut b = Builder::from_graph(linear());
    let w = Value { node: crate::NodeId(1), slot: 0 };
    b.update(w, w).unwrap();
    assert!(train(&b.finish().unwrap(), &loss, &optimiser).contains("already updates its states"));
    let quantiles = Loss::Pinball { quantiles: vec![0.2, 0.4] };
    assert!(train(&linear(), &quantiles, &optimiser).contains("not a multiple of the quantiles"));
    for clip_norm in [0.0, -1.0, f32::NAN] {
        let optimiser = Optimiser { clip_norm: Some(clip_norm), ..Optimiser::default() };
        assert!(train(&linear(), &loss, &optimiser).contains("clip_norm is"));
    }
    let optimiser = Optimiser { beta1: 1.0, ..Optimiser::default() };
    assert!(train(&linear(), &loss, &optimiser).contains("beta1 is 1"));
}
