//! What the rows that a model was trained on look like, column by column: with it a feature that has changed in live use
//! is noticed.

use serde::{Deserialize, Serialize};

use crate::check::{Check, ensure, not_negative};

/// Of each column: the least, the greatest and what lies between at equal shares.
pub const QUANTILES: usize = 101;

/// Over the rows of the training windows, in the unit that the model sees: normalised and clipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Streams among them.
    pub streams: u32,
    /// Times with a row of any stream.
    pub steps: u64,
    /// In order of `features.names`.
    pub columns: Vec<ColumnProfile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnProfile {
    /// As many independent values would tell the mean rank as well as these rows do, which depend on each other.
    pub effective_samples: f64,
    /// [`QUANTILES`], at shares 0, 0.01 … 1.
    pub quantiles: Vec<f32>,
}

impl Profile {
    pub(crate) fn check(&self, columns: usize) -> Check {
        ensure(self.streams >= 1, "profile.streams", self.streams, "1 or more")?;
        ensure(self.steps >= 1, "profile.steps", self.steps, "1 or more")?;
        let found = format!("a list of {}", self.columns.len());
        ensure(self.columns.len() == columns, "profile.columns", found, "a list of input.features entries")?;
        self.columns.iter().try_for_each(ColumnProfile::check)
    }
}

impl ColumnProfile {
    fn check(&self) -> Check {
        not_negative("profile.columns.effective_samples", self.effective_samples)?;
        let rises = self.quantiles.windows(2).all(|pair| pair[0] <= pair[1]);
        let is_list = self.quantiles.len() == QUANTILES && self.quantiles.iter().all(|x| x.is_finite());
        let found = format!("a list of {}", self.quantiles.len());
        ensure(rises && is_list, "profile.columns.quantiles", found, "101 finite numbers that don't fall")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::manifest::tests::sample;

    fn profile() -> Profile {
        let column = |effective_samples: f64, scale: f32| ColumnProfile {
            effective_samples,
            quantiles: (0..QUANTILES).map(|i| scale * (i as f32 / 3.0 - 10.0)).collect(),
        };
        Profile { streams: 2, steps: 100, columns: vec![column(12.5, 0.1), column(0.0, 0.0)] }
    }

    #[test]
    fn a_profile_keeps_its_bits_and_an_older_manifest_has_none() {
        let manifest = Manifest { profile: Some(profile()), ..sample() };
        let text = manifest.to_text().unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest);
        let without = sample().to_text().unwrap();
        assert!(text.contains("[profile]") && !without.contains("profile"));
        assert_eq!(Manifest::parse(&without).unwrap().profile, None);
    }

    #[test]
    fn what_cannot_be_a_profile_is_refused() {
        let refused = |key: &str, edit: &dyn Fn(&mut Profile)| {
            let mut profile = profile();
            edit(&mut profile);
            let found = Manifest { profile: Some(profile), ..sample() }.check().unwrap_err().to_string();
            assert!(found.contains(key), "{found}");
        };
        refused("profile.streams", &|p| p.streams = 0);
        refused("profile.steps", &|p| p.steps = 0);
        refused("profile.columns", &|p| _ = p.columns.pop());
        refused("effective_samples", &|p| p.columns[0].effective_samples = f64::NAN);
        refused("quantiles", &|p| _ = p.columns[0].quantiles.pop());
        refused("quantiles", &|p| p.columns[0].quantiles[0] = f32::NAN);
        refused("quantiles", &|p| p.columns[0].quantiles.swap(3, 4));
    }
}
