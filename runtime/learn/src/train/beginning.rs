//! Where a run begins: its first states, and the fingerprint of all that decides its bits.

use graph::reference::initial_states;
use graph::{Graph, RunError, Tensor};
use registry::Hasher;

use super::{Job, TrainError};

/// The graph's initial states, in the place of which those that are given stand.
pub fn first_states(
    graph: &Graph,
    inference: &Graph,
    seed: u64,
    start: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, TrainError> {
    let mut states = initial_states(graph, seed);
    if start.is_empty() {
        return Ok(states);
    }
    let refused = |reason: String| Err(TrainError::Load(RunError::State(reason)));
    check_names(inference, start)?;
    for (name, tensor) in start {
        let Some((_, state)) = states.iter_mut().find(|(other, _)| other == name) else {
            return refused(format!("the model has no '{name}'"));
        };
        if state.dims() != tensor.dims() {
            let (found, expected) = (tensor.dims(), state.dims());
            return refused(format!("'{name}' is {found:?}, and the model's is {expected:?}"));
        }
        if tensor.data().iter().any(|x| !x.is_finite()) {
            return refused(format!("'{name}' holds what isn't a number"));
        }
        *state = tensor.clone();
    }
    Ok(states)
}

/// That every state of the graph is there, so that none starts anew unnoticed.
pub fn check_names(graph: &Graph, states: &[(String, Tensor)]) -> Result<(), TrainError> {
    match graph.states.iter().find(|state| !states.iter().any(|(name, _)| *name == state.name)) {
        None => Ok(()),
        Some(state) => Err(TrainError::Load(RunError::State(format!("'{}' is missing", state.name)))),
    }
}

/// Of all that decides the bits of the run, but the executor.
pub fn fingerprint(job: &Job<'_>, start: &[(String, Tensor)]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(format!("{:?}\n{:?}\n{:?}\n", job.settings, job.label, job.target).as_bytes());
    hasher.update(format!("{:?}\n", job.model).as_bytes());
    for (name, tensor) in start {
        hasher.update(name.as_bytes());
        tensor.data().iter().for_each(|x| hasher.update(&x.to_bits().to_le_bytes()));
    }
    for part in [&job.split.train, &job.split.validation] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for sample in part.iter().map(|&i| &job.dataset.samples[i]) {
            hasher.update(&sample.label.to_bits().to_le_bytes());
            let newest = job.dataset.row(sample.stream, sample.end);
            newest.iter().for_each(|x| hasher.update(&x.to_bits().to_le_bytes()));
        }
    }
    hasher.finish()
}
