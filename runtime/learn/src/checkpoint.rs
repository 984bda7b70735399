//! A training run between two epochs, as one safetensors file that is replaced whole.
//!
//! Tensors: `state/NAME` for every state of the training graph (weights, optimiser moments, step), `best/NAME` for
//! the weights of the best epoch. The header's metadata holds [`Journal`] as JSON under "journal". The shuffles and
//! dropout seeds are functions of (seed, epoch) and (seed, step), so `epoch` and `step` are the whole position of
//! the random numbers. Each file is written beside its place, synced and renamed: a kill leaves the old or the new.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use graph::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

/// A larger file is refused unread.
pub const FILE_BYTES_MAX: u64 = 4 << 30;

const JOURNAL: &str = "journal";

/// Where the run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Of the settings, the graph and the data; a run resumes only its own checkpoint.
    pub fingerprint: String,
    /// Epochs done.
    pub epoch: u32,
    /// Steps done.
    pub step: u64,
    /// From 1; 0 before the first epoch.
    pub best_epoch: u32,
    pub train_curve: Vec<f64>,
    pub validation_curve: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub journal: Journal,
    pub states: Vec<(String, Tensor)>,
    pub best: Vec<(String, Tensor)>,
}

impl Checkpoint {
    /// Writes it durably in place of what is there.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let failed = |reason: String| CheckpointError { path: path.into(), reason };
        let bytes = self.encode().map_err(failed)?;
        replace(path, &bytes)
            .map_err(|e| failed(format!("it can't be written: {e}; check space and permissions")))
    }

    /// Reads it; `None` where there is no file.
    pub fn read(path: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
        let failed = |reason: String| CheckpointError { path: path.into(), reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(format!("it can't be read: {e}"))),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| failed(format!("it can't be read: {e}")))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let broken = |reason| failed(format!("it is not a checkpoint ({reason}); remove it to start over"));
        Checkpoint::decode(&bytes).map(Some).map_err(broken)
    }

    fn encode(&self) -> Result<Vec<u8>, String> {
        let journal = serde_json::to_string(&self.journal).map_err(|e| e.to_string())?;
        let prefixed = |prefix: &str, states: &[(String, Tensor)]| -> Vec<(String, Vec<usize>, Vec<u8>)> {
            let bytes = |tensor: &Tensor| tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            states.iter().map(|(name, t)| (format!("{prefix}/{name}"), t.dims().to_vec(), bytes(t))).collect()
        };
        let tensors = [prefixed("state", &self.states), prefixed("best", &self.best)].concat();
        let views = tensors
            .iter()
            .map(|(name, dims, bytes)| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(|e| e.to_string())?;
        let metadata = HashMap::from([(JOURNAL.to_string(), journal)]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
    }

    fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let text = header.metadata().as_ref().and_then(|m| m.get(JOURNAL)).ok_or("it has no journal")?;
        let journal: Journal = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if journal.train_curve.len() != journal.epoch as usize
            || journal.validation_curve.len() != journal.epoch as usize
        {
            return Err("its curves aren't of its epochs".into());
        }
        if journal.best_epoch > journal.epoch || (journal.best_epoch == 0) != (journal.epoch == 0) {
            return Err("its best epoch isn't one of its epochs".into());
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let (mut states, mut best) = (Vec::new(), Vec::new());
        for (name, view) in file.tensors() {
            let tensor = tensor_of(&view).map_err(|e| format!("tensor {name}: {e}"))?;
            match name.split_once('/') {
                Some(("state", name)) => states.push((name.to_string(), tensor)),
                Some(("best", name)) => best.push((name.to_string(), tensor)),
                _ => return Err(format!("tensor {name} is unknown")),
            }
        }
        states.sort_by(|a, b| a.0.cmp(&b.0));
        best.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { journal, states, best })
    }
}

/// States alone as one safetensors file.
pub fn states_to_bytes(states: &[(String, Tensor)]) -> Result<Vec<u8>, String> {
    let bytes = |tensor: &Tensor| -> Vec<u8> { tensor.data().iter().flat_map(|x| x.to_le_bytes()).collect() };
    let tensors: Vec<_> = states.iter().map(|(name, t)| (name, t.dims().to_vec(), bytes(t))).collect();
    let views = tensors
        .iter()
        .map(|(name, dims, bytes)| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| e.to_string())?;
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// What [`states_to_bytes`] wrote, by name.
pub fn states_from_bytes(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut states = Vec::new();
    for (name, view) in file.tensors() {
        let tensor = tensor_of(&view).map_err(|e| format!("tensor {name}: {e}"))?;
        states.push((name.to_string(), tensor));
    }
    states.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(states)
}

fn tensor_of(view: &TensorView<'_>) -> Result<Tensor, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("it is {:?}, not F32", view.dtype()));
    }
    let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Tensor::new(view.shape().to_vec(), data).map_err(|e| e.to_string())
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The checkpoint can't be read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointError {
    pub path: PathBuf,
    pub reason: String,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for CheckpointError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Checkpoint {
        let tensor = |dims: &[usize], data: &[f32]| Tensor::new(dims.to_vec(), data.to_vec()).unwrap();
        Checkpoint {
            journal: Journal {
                fingerprint: "f".into(),
                epoch: 2,
                step: 10,
                best_epoch: 1,
                train_curve: vec![0.1 + 0.2, 1.0 / 3.0],
                validation_curve: vec![1e-300, 5.0],
            },
            states: vec![
                ("a/b".into(), tensor(&[2, 2], &[1.0, -0.0, f32::MIN_POSITIVE, f32::MAX])),
                ("step".into(), tensor(&[], &[3.0])),
            ],
            best: vec![("a/b".into(), tensor(&[2, 2], &[0.1, 0.2, 0.3, 0.4]))],
        }
    }

    #[test]
    fn comes_back_bit_for_bit_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.safetensors");
        assert_eq!(Checkpoint::read(&path).unwrap(), None);
        for step in [10, 11] {
            let mut checkpoint = sample();
            checkpoint.journal.step = step;
            checkpoint.write(&path).unwrap();
            let back = Checkpoint::read(&path).unwrap().unwrap();
            assert_eq!(back, checkpoint);
            let bits = |c: &Checkpoint| c.states[0].1.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(&checkpoint));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn states_alone_come_back_too() {
        let states = sample().states;
        let bytes = states_to_bytes(&states).unwrap();
        assert_eq!(states_from_bytes(&bytes).unwrap(), states);
        assert!(states_from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(states_from_bytes(b"no file").is_err());
    }

    #[test]
    fn a_half_written_successor_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.safetensors");
        sample().write(&path).unwrap();
        fs::write(dir.path().join("run.safetensors.partial"), b"half").unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), Some(sample()));
        sample().write(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_checkpoint_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.safetensors");
        for bytes in [&b""[..], b"hello, this is text", &[0xff; 64]] {
            fs::write(&path, bytes).unwrap();
            let message = Checkpoint::read(&path).unwrap_err().to_string();
            assert!(message.contains("remove it to start over"), "{message}");
        }
        let mut checkpoint = sample();
        checkpoint.journal.best_epoch = 3;
        checkpoint.write(&path).unwrap();
        assert!(Checkpoint::read(&path).unwrap_err().to_string().contains("best epoch"));
    }

    proptest! {
        #[test]
        fn mutated_bytes_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample().encode().unwrap();
            for (index, byte) in edits {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let cut = bytes.len() - cut.index(bytes.len()) / 8;
            if let Ok(checkpoint) = Checkpoint::decode(&bytes[..cut]) {
                prop_assert_eq!(checkpoint.journal.train_curve.len(), checkpoint.journal.epoch as usize);
            }
        }
    }
}
