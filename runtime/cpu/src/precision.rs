//! How a model's weights are stored while it runs.

use std::fmt;

/// The storage of recurrent layers' weights in a prepared plan. Sums are f32, or exact i32 for int8, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    #[default]
    F32,
    /// Weights and activations in bfloat16: half the memory, about 3 significant digits each.
    Bf16,
    /// Weights in 8 bits with a scale for each column, activations in 14 bits with a scale for each row.
    Int8,
}

impl Precision {
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// "f32", "bf16" or "int8".
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
