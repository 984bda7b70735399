//! What forecasts are judged by; every file names the source of its formulas.

pub mod distribution;
pub mod information;
pub mod loss;
pub mod sharpe;
pub mod significance;

pub use loss::Loss;
