//! Datasets, splits, training, evaluation.
