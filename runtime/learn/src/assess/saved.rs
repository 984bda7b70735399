//! Finished forecasts on disk: `<folder>/<fingerprint>/fold-1-seed-1.json`, each written beside its place and renamed.
//!
//! The fingerprint is of the bars, the recipe, the folds and the model's graph, so that an evaluation goes on only from
//! its own. Numbers come back to the bit.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use registry::Hasher;

use super::Subject;
use super::fold::{FoldData, FoldForecasts, Forecaster, Samples};

/// A larger file is refused unread.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Where forecasts are kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    pub folder: PathBuf,
    /// Also when the evaluation is done.
    pub when_done: bool,
}

pub struct Saved {
    folder: PathBuf,
    when_done: bool,
}

impl Saved {
    /// Makes the folder of this evaluation.
    pub fn open(keep: Keep, subject: &Subject<'_>, samples: &Samples) -> Result<Saved, SavedError> {
        let Keep { folder, when_done } = keep;
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|e| SavedError { path: folder.clone(), reason: e.to_string() })
        };
        let mut hasher = Hasher::new();
        hasher.update(samples.digest.as_bytes());
        hasher.update(json(serde_json::to_string(subject.recipe))?.as_bytes());
        hasher.update(json(serde_json::to_string(subject.walk))?.as_bytes());
        hasher.update(format!("{:?}", subject.model).as_bytes());
        let folder = folder.join(&hasher.finish()[..16]);
        fs::create_dir_all(&folder)
            .map_err(|e| SavedError { path: folder.clone(), reason: format!("it can't be made: {e}") })?;
        Ok(Saved { folder, when_done })
    }

    /// The evaluation is done: removes its folder, unless it is to be kept.
    pub fn done(self) -> Result<(), SavedError> {
        if self.when_done {
            return Ok(());
        }
        let failed = |e: io::Error| SavedError {
            path: self.folder.clone(),
            reason: format!("it can't be removed: {e}"),
        };
        fs::remove_dir_all(&self.folder).map_err(failed)
    }

    fn path(&self, fold: usize, forecaster: &Forecaster) -> PathBuf {
        self.folder.join(format!("fold-{}-{}.json", fold + 1, forecaster.slug()))
    }

    /// What an earlier run left, where it fits the fold.
    pub fn read(
        &self,
        fold: usize,
        forecaster: &Forecaster,
        data: &FoldData,
    ) -> Result<Option<Vec<FoldForecasts>>, SavedError> {
        let path = self.path(fold, forecaster);
        let failed = |reason: String| SavedError { path: path.clone(), reason };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(format!("it can't be read: {e}"))),
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|e| failed(format!("it can't be read: {e}; remove it")))?;
        let all: Vec<FoldForecasts> = serde_json::from_str(&text)
            .map_err(|e| failed(format!("it holds no forecasts ({e}); remove it")))?;
        let expected = data.split.test.len();
        match all.iter().find(|one| one.forecasts.len() != expected) {
            None => Ok(Some(all)),
            Some(one) => Err(failed(format!(
                "it holds {} forecasts of {expected} samples; remove it",
                one.forecasts.len()
            ))),
        }
    }

    pub fn write(
        &self,
        fold: usize,
        forecaster: &Forecaster,
        all: &[FoldForecasts],
    ) -> Result<(), SavedError> {
        let path = self.path(fold, forecaster);
        let failed = |reason: String| SavedError { path: path.clone(), reason };
        let text = serde_json::to_string(all).map_err(|e| failed(e.to_string()))?;
        let partial = path.with_extension("partial");
        let written = || -> io::Result<()> {
            let mut file = fs::File::create(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        written().map_err(|e| failed(format!("it can't be written: {e}; check space and permissions")))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedError {
    pub path: PathBuf,
    pub reason: String,
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "saved forecasts {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for SavedError {}
