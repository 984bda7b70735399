//! The CPU executor, on tract.
